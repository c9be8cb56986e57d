/** The services of a client, against the engine in the same process. */
import * as Context from "effect/Context"
import { Client } from "../Client/Client.ts"
import { Config } from "../Client/Config.ts"
import { Kv } from "../Client/Kv.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { EngineService } from "./Engine.ts"

/** The services for one environment. */
export const servicesIn = (engine: EngineService, environment: string): Context.Context<ClientServices> =>
  Context.make(Client, engine.client(environment)).pipe(
    Context.add(Kv, engine.kv(environment)),
    Context.add(Config, engine.config(environment))
  )
