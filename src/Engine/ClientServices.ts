/** The services of a client, against the engine in the same process. */
import * as Context from "effect/Context"
import { Client } from "../Client/Client.ts"
import { Config } from "../Client/Config.ts"
import { Kv } from "../Client/Kv.ts"
import { Projections } from "../Client/Projections.ts"
import type { ClientServices } from "../Client/Services.ts"
import { type ReadingOptions, Streams } from "../Client/Streams.ts"
import type { EngineService } from "./Engine.ts"

/** The services for one environment. */
export const servicesIn = (
  engine: EngineService,
  environment: string,
  options: ReadingOptions = {}
): Context.Context<ClientServices> =>
  Context.make(Client, engine.client(environment)).pipe(
    Context.add(Streams, engine.streams(environment, options)),
    Context.add(Kv, engine.kv(environment)),
    Context.add(Config, engine.config(environment)),
    Context.add(Projections, engine.projections.client(environment))
  )
