/** Everything that a client offers, one service for each area: what each layer behind a client provides. */
import type { Client } from "./Client.ts"
import type { Config } from "./Config.ts"
import type { Kv } from "./Kv.ts"
import type { Projections } from "./Projections.ts"
import type { PushEndpoints } from "./PushEndpoints.ts"
import type { Streams } from "./Streams.ts"
import type { Subscriptions } from "./Subscriptions.ts"

export type ClientServices = Client | Streams | Projections | Subscriptions | PushEndpoints | Kv | Config
