/** Managing roles: what keys have, and policies are assigned to. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type {
  InvalidStateError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError
} from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, call, type Methods } from "./Methods.ts"
import type { CreateRoleInput, Role, UpdateRoleInput } from "../Protocol/Access.ts"

export type { CreateRoleInput, Role, UpdateRoleInput } from "../Protocol/Access.ts"

/** What may go wrong with one role: there is none of this id, or it is built in or in use and stays as it is. */
export type RoleError = RoleNotFoundError | InvalidStateError | ClientError

/** The methods, in the reading `F`. */
export interface RolesApi<F extends HKT.TypeLambda> {
  /** Creates a role without policies. */
  create(input: CreateRoleInput, ...options: CallArgs<F>): Kind<F, Role, OrgNotFoundError | ClientError>
  /** Those of the organization, all without one. */
  list(orgId?: string, ...options: CallArgs<F>): Kind<F, Array<Role>, ClientError>
  /** Fails with `RoleNotFoundError`, as do those below. */
  get(id: string, ...options: CallArgs<F>): Kind<F, Role, RoleNotFoundError | ClientError>
  /** Changes a role: members that are left out stay as they are. */
  update(id: string, input: UpdateRoleInput, ...options: CallArgs<F>): Kind<F, Role, RoleError>
  /** Fails with `INVALID_STATE` while keys have it. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, RoleError>
  /** Takes effect at once for all keys that have the role. */
  assignPolicy(
    roleId: string,
    policyId: string,
    ...options: CallArgs<F>
  ): Kind<F, void, RoleError | PolicyNotFoundError>
  /** One that is not assigned is no failure. */
  removePolicy(roleId: string, policyId: string, ...options: CallArgs<F>): Kind<F, void, RoleError>
}

const ofRole = { RoleNotFoundError: true } as const
const changed = { ...ofRole, InvalidStateError: true } as const
/** What each method is called by, and takes. */
export const rolesMethods: Methods<RolesApi<PromiseKind>, RolesApi<EffectKind>> = {
  create: [[{ name: true, org_id: true }, call], { OrgNotFoundError: true }],
  list: [byId],
  get: [byId, ofRole],
  update: [[null, { name: true }, call], changed],
  delete: [byId, changed],
  assignPolicy: [[null, null, call], { ...changed, PolicyNotFoundError: true }],
  removePolicy: [[null, null, call], changed]
}

/** Creates, changes and deletes roles, and gives them policies. */
export class Roles extends Context.Service<Roles, RolesApi<EffectKind>>()("@ironflow/node/Roles") {}
