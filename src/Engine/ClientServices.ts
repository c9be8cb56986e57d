/** The services of a client, against the engine in the same process. */
import * as Context from "effect/Context"
import { Client } from "../Client/Client.ts"
import { Projections } from "../Client/Projections.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { EngineService } from "./Engine.ts"

/** The services for one environment. */
export const servicesIn = (engine: EngineService, environment: string): Context.Context<ClientServices> =>
  Context.make(Client, engine.client(environment)).pipe(
    Context.add(Projections, engine.projections.client(environment))
  )
