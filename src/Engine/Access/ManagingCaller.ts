/** The caller of access management, and what it may do. */
import { UnauthorizedError } from "../../Errors.ts"
import type { Action, PolicyRule, ResourceKind } from "../../Policy.ts"
import type { PolicyRecord, RoleRecord } from "./AccessRecords.ts"
import type { StoreService } from "../Store/Store.ts"
import type { AccessService, Caller } from "./Access.ts"
import { everything } from "./BuiltIn.ts"
import { Comparison, excess } from "./PrivilegeEscalation.ts"

export type ManagingCaller = ReturnType<typeof makeManagingCaller>

/** The permissions for calls of `caller` in the environment, or for the engine's own process when there is no caller. */
export const makeManagingCaller = (
  { store, access }: { readonly store: StoreService; readonly access: AccessService },
  environment: string,
  caller?: Caller
) => {
  const by = caller?.key?.id ?? "local"
  const boundTo = caller?.key?.environment

  /** A filter for lists: whether the caller may read the item. */
  const maySee =
    (action: Action, kind: ResourceKind) =>
    ({ id }: { readonly id: string }): boolean =>
      caller?.may(action, `${kind}:${id}`, environment) ?? true

  /** Throws `UnauthorizedError` when `rules` allow more than the caller has. */
  const checkGiving = (
    what: string,
    rules: ReadonlyArray<PolicyRule>,
    comparison = new Comparison()
  ): void => {
    if (caller?.key === undefined) return
    const { name } = caller.key
    const why = excess(caller.rules, rules, comparison, `"${name}"`)
    if (why === undefined) return
    throw new UnauthorizedError(`The API key "${name}" may not ${what}: ${why}`)
  }

  /** Whether the caller may do everything, everywhere and for ever. If so, it can give any permission. */
  const mayEverything = (): boolean =>
    caller?.key === undefined ||
    (boundTo === undefined && caller.endsAt === undefined && excess(caller.rules, everything) === undefined)

  /**
   * Throws `UnauthorizedError` when a change of policies gives a role more than the caller has. `changed` returns the rules to
   * check for a role; `undefined` when the change does not affect the role.
   */
  const checkRoles = (
    what: string,
    changed: (role: RoleRecord) => ReadonlyArray<PolicyRule> | undefined
  ): void => {
    const comparison = new Comparison()
    for (const role of access.roles.values()) {
      const rules = changed(role)
      if (rules !== undefined) checkGiving(what, rules, comparison)
    }
  }

  const policiesOf = ({ policyIds }: RoleRecord): ReadonlyArray<PolicyRecord> =>
    policyIds.flatMap((id) => access.policies.get(id) ?? [])

  /** Throws `UnauthorizedError` when the caller's key is bound to an environment, because `what` is for all environments. */
  const checkSpanning = (what: string): void => {
    if (boundTo === undefined) return
    throw new UnauthorizedError(
      `${what} is for all environments, and the API key "${caller?.key?.name}" is bound to environment "${boundTo}": use a key for all environments`
    )
  }

  return {
    store,
    access,
    environment,
    caller,
    by,
    boundTo,
    maySee,
    checkGiving,
    checkRoles,
    mayEverything,
    policiesOf,
    checkSpanning
  }
}
