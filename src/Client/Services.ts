/** Everything that a client offers, one service for each area: what each layer behind a client provides. */
import type { Client } from "./Client.ts"
import type { Subscriptions } from "./Subscriptions.ts"

export type ClientServices = Client | Subscriptions
