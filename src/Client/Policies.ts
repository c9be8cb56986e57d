/** Managing policies: which actions on which resources are allowed or denied. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { InvalidStateError, OrgNotFoundError, PolicyNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, call, type Methods } from "./Methods.ts"
import type { CreatePolicyInput, Policy, UpdatePolicyInput } from "../Protocol/Access.ts"

export type { CreatePolicyInput, Policy, UpdatePolicyInput } from "../Protocol/Access.ts"

export type { PolicyEffect } from "../Policy.ts"

/** What may go wrong with one policy: there is none of this id, or it is built in or in use and stays as it is. */
export type PolicyError = PolicyNotFoundError | InvalidStateError | ClientError

/** The methods, in the reading `F`. */
export interface PoliciesApi<F extends HKT.TypeLambda> {
  /** Creates a policy, which applies as soon as a role has it. */
  create(input: CreatePolicyInput, ...options: CallArgs<F>): Kind<F, Policy, OrgNotFoundError | ClientError>
  /** Those of the organization, all without one. */
  list(orgId?: string, ...options: CallArgs<F>): Kind<F, Array<Policy>, ClientError>
  /** Fails with `PolicyNotFoundError`, as do those below. */
  get(id: string, ...options: CallArgs<F>): Kind<F, Policy, PolicyNotFoundError | ClientError>
  /** Takes effect at once for all keys that it is about. */
  update(id: string, input: UpdatePolicyInput, ...options: CallArgs<F>): Kind<F, Policy, PolicyError>
  /** Fails with `INVALID_STATE` while roles have it. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, PolicyError>
}

const policy = { name: true, effect: true, actions: true, resources: true, condition: true } as const
const ofPolicy = { PolicyNotFoundError: true } as const
const changed = { ...ofPolicy, InvalidStateError: true } as const
/** What each method is called by, and takes. */
export const policiesMethods: Methods<PoliciesApi<PromiseKind>, PoliciesApi<EffectKind>> = {
  create: [[{ ...policy, org_id: true }, call], { OrgNotFoundError: true }],
  list: [byId],
  get: [byId, ofPolicy],
  update: [[null, policy, call], changed],
  delete: [byId, changed]
}

/** Creates, changes and deletes policies. */
export class Policies extends Context.Service<Policies, PoliciesApi<EffectKind>>()(
  "@ironflow/node/Policies"
) {}
