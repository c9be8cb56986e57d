/** The services of a client, against the engine in the same process. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { Client, type EffectKind } from "../Client/Client.ts"
import type { ClientServices } from "../Client/Services.ts"
import { type PushEndpointsApi, PushEndpoints } from "../Client/PushEndpoints.ts"
import type { EngineService } from "./Engine.ts"

/** The services for one environment. */
export const servicesIn = (engine: EngineService, environment: string): Context.Context<ClientServices> =>
  Context.make(Client, engine.client(environment)).pipe(
    Context.add(PushEndpoints, pushEndpointsIn(engine, environment))
  )

const pushEndpointsIn = ({ push }: EngineService, environment: string): PushEndpointsApi<EffectKind> => ({
  register: (url) =>
    Effect.map(push.register(environment, url), (functions) => functions.map(({ id }) => id)),
  list: () => Effect.sync(() => push.list(environment)),
  remove: (url) => push.remove(environment, url)
})
