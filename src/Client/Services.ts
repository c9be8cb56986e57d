/** Everything that a client offers, one service for each area: what each layer behind a client provides. */
import type { Client } from "./Client.ts"
import type { Config } from "./Config.ts"
import type { Kv } from "./Kv.ts"
import type { Projections } from "./Projections.ts"
import type { Streams } from "./Streams.ts"

export type ClientServices = Client | Streams | Projections | Kv | Config
