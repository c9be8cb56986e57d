/**
 * Manages API keys, organizations, roles and policies, and reads the access log. Each method checks its input, and then runs one
 * program of the store.
 *
 * A caller with a key is limited by that key. With a key that is bound to an environment, the caller sees and creates only keys of
 * that environment, and cannot change organizations, roles and policies, which all environments share. A caller can give nobody
 * more permissions than its own. The engine's own process may do everything, and so may any caller as long as there are no keys.
 */
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import type { ApiKeysApi } from "../../Client/ApiKeys.ts"
import type { EffectKind } from "../../Client/Client.ts"
import type { OrgsApi } from "../../Client/Orgs.ts"
import type { PoliciesApi } from "../../Client/Policies.ts"
import type { RolesApi } from "../../Client/Roles.ts"
import type { EngineError, StoreError, ValidationError } from "../../Errors.ts"
import type { AccessLogEntry } from "../Records/AccessRecords.ts"
import { BootstrapKey, bootstrapKeyIn, putBootstrapKey } from "./BootstrapKey.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { Access, type AccessService, type Caller } from "./Access.ts"
import { providedOr } from "../../ConfigProviderVariables.ts"
import * as AccessLog from "./AccessLog.ts"

import * as KeyManagement from "./KeyManagement.ts"
import { makeManagingCaller } from "./ManagingCaller.ts"
import * as OrgManagement from "./OrgManagement.ts"
import * as PolicyManagement from "./PolicyManagement.ts"
import * as RoleManagement from "./RoleManagement.ts"
import type { Unchecked } from "./AccessInput.ts"
/** Management of access. */
export interface ManagementService {
  /** The management for `caller`, or for the engine's own process when there is no caller. */
  readonly in: (environment: string, caller?: Caller) => ManagementOfEnvironment
  /** Stores the key in `IRONFLOW_BOOTSTRAP_KEY`, if it is set. */
  readonly putBootstrapKey: Effect.Effect<void, ValidationError | StoreError>
}

export class Management extends Context.Service<Management, ManagementService>()(
  "@ironflow/node/Engine/Management"
) {}

export const layer: Layer.Layer<Management, ValidationError, Store | Access> = Layer.effect(
  Management,
  Effect.gen(function* () {
    const store = yield* Store
    const access = yield* Access
    return {
      in: (environment, caller) => make({ store, access }, environment, caller),
      putBootstrapKey: putBootstrapKey(store, yield* providedOr(BootstrapKey, bootstrapKeyIn))
    }
  })
)

export interface ManagementOfEnvironment {
  readonly apiKeys: Unchecked<ApiKeysApi<EffectKind>>
  readonly orgs: Unchecked<OrgsApi<EffectKind>>
  readonly roles: Unchecked<RolesApi<EffectKind>>
  readonly policies: Unchecked<PoliciesApi<EffectKind>>
  /** The entries of the access log, newest first. Leaves out entries whose subject a policy denies the caller to read. */
  readonly log: (limit: number) => Effect.Effect<ReadonlyArray<AccessLogEntry>, EngineError>
}

/** The kinds of subjects in the access log. */
const loggedKinds = ["apikey", "org", "role", "policy", "function", "run"] as const

/** The management for calls of `caller` in the environment, or for the engine's own process when there is no caller. */
export const make = (
  engine: { readonly store: StoreService; readonly access: AccessService },
  environment: string,
  caller?: Caller
): ManagementOfEnvironment => {
  const manager = makeManagingCaller(engine, environment, caller)
  const { store } = engine
  const { checkNotBound } = manager
  return {
    apiKeys: KeyManagement.make(manager),
    orgs: OrgManagement.make(manager),
    roles: RoleManagement.make(manager),
    policies: PolicyManagement.make(manager),
    log: (limit) =>
      Effect.flatMap(
        checked(() => checkNotBound("The access log")),
        () =>
          Effect.map(store.read(AccessLog.readAccessLog(limit)), (entries) =>
            entries.filter(({ action, subject }) => {
              const kind = loggedKinds.find((kind) => action.startsWith(`${kind}:`))
              return (
                kind === undefined ||
                (caller?.isNotDenied(`${kind}:read`, `${kind}:${subject}`, environment) ?? true)
              )
            })
          )
      )
  }
}
