/** Everything that a client offers, one service for each area: what each layer behind a client provides. */
import type { Client } from "./Client.ts"
import type { PushEndpoints } from "./PushEndpoints.ts"

export type ClientServices = Client | PushEndpoints
