/** Everything that a client offers, one service for each area: what each layer behind a client provides. */
import type { ApiKeys } from "./ApiKeys.ts"
import type { Client } from "./Client.ts"
import type { Orgs } from "./Orgs.ts"
import type { Policies } from "./Policies.ts"
import type { Roles } from "./Roles.ts"
import type { Secrets } from "./Secrets.ts"

export type ClientServices = Client | ApiKeys | Orgs | Policies | Roles | Secrets
