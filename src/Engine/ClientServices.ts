/** The services of a client, against the engine in the same process. */
import * as Context from "effect/Context"
import { ApiKeys } from "../Client/ApiKeys.ts"
import { Client } from "../Client/Client.ts"
import { Orgs } from "../Client/Orgs.ts"
import { Policies } from "../Client/Policies.ts"
import { Roles } from "../Client/Roles.ts"
import { Secrets } from "../Client/Secrets.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { EngineService } from "./Engine.ts"
import * as SecretsClient from "./SecretsClient.ts"

/** The services for one environment. */
export const servicesIn = (engine: EngineService, environment: string): Context.Context<ClientServices> => {
  const { apiKeys, orgs, policies, roles } = engine.manageAccess(environment)
  return Context.make(Client, engine.client(environment)).pipe(
    Context.add(ApiKeys, apiKeys),
    Context.add(Orgs, orgs),
    Context.add(Policies, policies),
    Context.add(Roles, roles),
    Context.add(Secrets, SecretsClient.make(engine.secrets(environment)))
  )
}
