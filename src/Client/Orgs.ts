/** Managing organizations: what roles and policies belong to. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { InvalidStateError, OrgNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, call, type Methods } from "./Methods.ts"
import type { CreateOrgInput, Organization, UpdateOrgInput } from "../Protocol/Access.ts"

export type { CreateOrgInput, Organization, UpdateOrgInput } from "../Protocol/Access.ts"

/** What may go wrong with one organization: there is none of this id, or it is built in or in use and stays as it is. */
export type OrgError = OrgNotFoundError | InvalidStateError | ClientError

/** The methods, in the reading `F`. */
export interface OrgsApi<F extends HKT.TypeLambda> {
  /** Creates an organization. */
  create(input: CreateOrgInput, ...options: CallArgs<F>): Kind<F, Organization, ClientError>
  /** All organizations. */
  list(...options: CallArgs<F>): Kind<F, Array<Organization>, ClientError>
  /** Fails with `OrgNotFoundError`, as do those below. */
  get(id: string, ...options: CallArgs<F>): Kind<F, Organization, OrgNotFoundError | ClientError>
  /** Changes an organization: members that are left out stay as they are. */
  update(id: string, input: UpdateOrgInput, ...options: CallArgs<F>): Kind<F, Organization, OrgError>
  /** Fails with `INVALID_STATE` while it has roles or policies. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, OrgError>
}

const ofOrg = { OrgNotFoundError: true } as const
const changed = { ...ofOrg, InvalidStateError: true } as const
/** What each method is called by, and takes. */
export const orgsMethods: Methods<OrgsApi<PromiseKind>, OrgsApi<EffectKind>> = {
  create: [[{ name: true }, call]],
  list: [[call]],
  get: [byId, ofOrg],
  update: [[null, { name: true }, call], changed],
  delete: [byId, changed]
}

/** Creates, changes and deletes organizations. */
export class Orgs extends Context.Service<Orgs, OrgsApi<EffectKind>>()("@ironflow/node/Orgs") {}
