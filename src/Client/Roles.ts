/** Managing roles. API keys have roles, and roles have policies. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type {
  InvalidStateError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError
} from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"
import type { CreateRoleInput, Role, UpdateRoleInput } from "../Protocol/Access.ts"

export type { CreateRoleInput, Role, UpdateRoleInput } from "../Protocol/Access.ts"

/** Errors of a call about one role: it does not exist, or it is built in or in use. */
export type RoleError = RoleNotFoundError | InvalidStateError | ClientError

/** The methods, for the API kind `F`. */
export interface RolesApi<F extends HKT.TypeLambda> {
  /** Creates a role without policies. */
  create(input: CreateRoleInput, ...options: CallArgs<F>): Kind<F, Role, OrgNotFoundError | ClientError>
  /** Lists the roles of an organization, or all roles. */
  list(orgId?: string, ...options: CallArgs<F>): Kind<F, Array<Role>, ClientError>
  /** Returns one role. Like the methods below, fails with `RoleNotFoundError` when there is no such role. */
  get(id: string, ...options: CallArgs<F>): Kind<F, Role, RoleNotFoundError | ClientError>
  /** Changes a role; absent members keep their values. */
  update(id: string, input: UpdateRoleInput, ...options: CallArgs<F>): Kind<F, Role, RoleError>
  /** Deletes a role. Fails with `INVALID_STATE` while keys have it. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, RoleError>
  /** Assigns a policy to a role. This is effective at once for all API keys that have the role. */
  assignPolicy(
    roleId: string,
    policyId: string,
    ...options: CallArgs<F>
  ): Kind<F, void, RoleError | PolicyNotFoundError>
  /** Removes a policy from a role. Does nothing if the role does not have the policy. */
  removePolicy(roleId: string, policyId: string, ...options: CallArgs<F>): Kind<F, void, RoleError>
}

const roleErrors = { RoleNotFoundError: true } as const
const changeErrors = { ...roleErrors, InvalidStateError: true } as const
/** Names, options and errors of the methods. */
export const rolesMethods: Methods<RolesApi<PromiseKind>, RolesApi<EffectKind>> = {
  create: [[{ name: true, org_id: true }, callKeys], { OrgNotFoundError: true }],
  list: [idArguments],
  get: [idArguments, roleErrors],
  update: [[null, { name: true }, callKeys], changeErrors],
  delete: [idArguments, changeErrors],
  assignPolicy: [[null, null, callKeys], { ...changeErrors, PolicyNotFoundError: true }],
  removePolicy: [[null, null, callKeys], changeErrors]
}

/** Creates, changes and deletes roles, and assigns policies to them. */
export class Roles extends Context.Service<Roles, RolesApi<EffectKind>>()("@ironflow/node/Roles") {}
