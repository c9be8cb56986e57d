/** All services of a client, one for each area. Every client layer provides them. */
import type { ApiKeys } from "./ApiKeys.ts"
import type { Client } from "./Client.ts"
import type { Config } from "./Config.ts"
import type { ConsumerGroups } from "./ConsumerGroups.ts"
import type { Kv } from "./Kv.ts"
import type { Orgs } from "./Orgs.ts"
import type { Policies } from "./Policies.ts"
import type { Projections } from "./Projections.ts"
import type { PushEndpoints } from "./PushEndpoints.ts"
import type { Roles } from "./Roles.ts"
import type { Secrets } from "./Secrets.ts"
import type { Streams } from "./Streams.ts"
import type { Subscriptions } from "./Subscriptions.ts"

/** All services of a client: what `Engine.layerClient` and `Client.layerHttp` provide. */
export type ClientServices =
  | Client
  | Streams
  | Projections
  | Subscriptions
  | ConsumerGroups
  | PushEndpoints
  | Kv
  | Config
  | ApiKeys
  | Orgs
  | Policies
  | Roles
  | Secrets
