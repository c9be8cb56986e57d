/** The caller of access management, and what it may do. */
import { UnauthorizedError } from "../../Errors.ts"
import type { Action, PolicyRule, ResourceKind } from "../../Policy.ts"
import type { PolicyRecord, RoleRecord } from "../Records/AccessRecords.ts"
import type { StoreService } from "../Store/Store.ts"
import type { AccessService, Caller } from "./Access.ts"
import { allowEverything } from "./BuiltIn.ts"
import { Comparison, givingProblem } from "./PrivilegeEscalation.ts"

export type ManagingCaller = ReturnType<typeof makeManagingCaller>

/** The permissions of `caller` in the environment, or of the engine's own process when there is no caller. */
export const makeManagingCaller = (
  { store, access }: { readonly store: StoreService; readonly access: AccessService },
  environment: string,
  caller?: Caller
) => {
  const by = caller?.key?.id ?? "local"
  const boundEnvironment = caller?.key?.environment

  /** Makes a filter for a list: it accepts the items that the caller may read. */
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
    const problem = givingProblem(caller.rules, rules, comparison, `"${name}"`)
    if (problem === undefined) return
    throw new UnauthorizedError(`The API key "${name}" may not ${what}: ${problem}`)
  }

  /** Whether the caller may do everything, everywhere and for ever. If so, it can give any permission. */
  const mayDoEverything = (): boolean =>
    caller?.key === undefined ||
    (boundEnvironment === undefined &&
      caller.endsAt === undefined &&
      givingProblem(caller.rules, allowEverything) === undefined)

  /**
   * Throws `UnauthorizedError` when a change of policies would let a role allow more than the caller may do. `rulesAfter` returns
   * the rules that a role has after the change; `undefined` when the change does not affect the role.
   */
  const checkRoles = (
    what: string,
    rulesAfter: (role: RoleRecord) => ReadonlyArray<PolicyRule> | undefined
  ): void => {
    const comparison = new Comparison()
    for (const role of access.roles.values()) {
      const rules = rulesAfter(role)
      if (rules !== undefined) checkGiving(what, rules, comparison)
    }
  }

  const policiesOf = ({ policyIds }: RoleRecord): ReadonlyArray<PolicyRecord> =>
    policyIds.flatMap((id) => access.policies.get(id) ?? [])

  /** Throws `UnauthorizedError` when the caller's key is bound to an environment, because `what` is for all environments. */
  const checkNotBound = (what: string): void => {
    if (boundEnvironment === undefined) return
    throw new UnauthorizedError(
      `${what} is for all environments, and the API key "${caller?.key?.name}" is bound to environment "${boundEnvironment}": use a key for all environments`
    )
  }

  return {
    store,
    access,
    environment,
    caller,
    by,
    boundEnvironment,
    maySee,
    checkGiving,
    checkRoles,
    mayDoEverything,
    policiesOf,
    checkNotBound
  }
}
