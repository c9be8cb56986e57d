/** Managing organizations. Roles and policies belong to them. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { InvalidStateError, OrgNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"
import type { CreateOrgInput, Organization, UpdateOrgInput } from "../Protocol/Access.ts"

export type { CreateOrgInput, Organization, UpdateOrgInput } from "../Protocol/Access.ts"

/** Errors of a call about one organization: it does not exist, or it is built in or in use. */
export type OrgError = OrgNotFoundError | InvalidStateError | ClientError

/** The methods, for the API kind `F`. */
export interface OrgsApi<F extends HKT.TypeLambda> {
  /** Creates an organization. */
  create(input: CreateOrgInput, ...options: CallArgs<F>): Kind<F, Organization, ClientError>
  /** Lists all organizations. */
  list(...options: CallArgs<F>): Kind<F, Array<Organization>, ClientError>
  /**
   * Returns one organization. Like `update` and `delete`, fails with `OrgNotFoundError` when there is no such
   * organization.
   */
  get(id: string, ...options: CallArgs<F>): Kind<F, Organization, OrgNotFoundError | ClientError>
  /** Changes an organization; absent members keep their values. */
  update(id: string, input: UpdateOrgInput, ...options: CallArgs<F>): Kind<F, Organization, OrgError>
  /** Deletes an organization. Fails with `INVALID_STATE` while it has roles or policies. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, OrgError>
}

const orgErrors = { OrgNotFoundError: true } as const
const changeErrors = { ...orgErrors, InvalidStateError: true } as const
/** Names, options and errors of the methods. */
export const orgsMethods: Methods<OrgsApi<PromiseKind>, OrgsApi<EffectKind>> = {
  create: [[{ name: true }, callKeys]],
  list: [[callKeys]],
  get: [idArguments, orgErrors],
  update: [[null, { name: true }, callKeys], changeErrors],
  delete: [idArguments, changeErrors]
}

/** Creates, changes and deletes organizations. */
export class Orgs extends Context.Service<Orgs, OrgsApi<EffectKind>>()("@ironflow/node/Orgs") {}
