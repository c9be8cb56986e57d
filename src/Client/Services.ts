/** Everything that a client offers, one service for each area: what each layer behind a client provides. */
import type { Client } from "./Client.ts"
import type { Config } from "./Config.ts"
import type { Kv } from "./Kv.ts"

export type ClientServices = Client | Kv | Config
