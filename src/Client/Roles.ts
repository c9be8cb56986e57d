/** Managing roles: what keys have, and policies are assigned to. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type {
  InvalidStateError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError
} from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind } from "./Client.ts"

export interface Role {
  readonly id: string
  readonly org_id: string
  readonly name: string
  /** Whether it is built in, and cannot be changed. */
  readonly is_default: boolean
  /** Ids of the policies that are assigned to it; other servers leave them out. */
  readonly policy_ids?: Array<string>
  /** ISO string. */
  readonly created_at: string
}

export interface CreateRoleInput {
  readonly name: string
  /** The built-in organization by default. */
  readonly org_id?: string
}

export interface UpdateRoleInput {
  readonly name?: string
}

/** What may go wrong with one role: there is none of this id, or it is built in or in use and stays as it is. */
export type RoleError = RoleNotFoundError | InvalidStateError | ClientError

/** The methods, in the reading `F`. */
export interface RolesApi<F extends HKT.TypeLambda> {
  create(input: CreateRoleInput, ...options: CallArgs<F>): Kind<F, Role, OrgNotFoundError | ClientError>
  /** Those of the organization, all without one. */
  list(orgId?: string, ...options: CallArgs<F>): Kind<F, Array<Role>, ClientError>
  /** Fails with `RoleNotFoundError`, as do those below. */
  get(id: string, ...options: CallArgs<F>): Kind<F, Role, RoleNotFoundError | ClientError>
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

export const rolesMethods = [
  "create",
  "list",
  "get",
  "update",
  "delete",
  "assignPolicy",
  "removePolicy"
] as const satisfies ReadonlyArray<keyof RolesApi<EffectKind>>

export class Roles extends Context.Service<Roles, RolesApi<EffectKind>>()("@ironflow/node/Roles") {}
