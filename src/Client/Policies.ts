/** Managing policies: which actions on which resources are allowed or denied. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { InvalidStateError, OrgNotFoundError, PolicyNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"
import type { CreatePolicyInput, Policy, UpdatePolicyInput } from "../Protocol/Access.ts"

export type { CreatePolicyInput, Policy, UpdatePolicyInput } from "../Protocol/Access.ts"

export type { PolicyEffect } from "../Policy.ts"

/** Errors of a call about one policy: it does not exist, or it is built in or in use. */
export type PolicyError = PolicyNotFoundError | InvalidStateError | ClientError

/** The methods, for the API kind `F`. */
export interface PoliciesApi<F extends HKT.TypeLambda> {
  /** Creates a policy. It has an effect once it is assigned to a role. */
  create(input: CreatePolicyInput, ...options: CallArgs<F>): Kind<F, Policy, OrgNotFoundError | ClientError>
  /** Lists the policies of an organization, or all policies. */
  list(orgId?: string, ...options: CallArgs<F>): Kind<F, Array<Policy>, ClientError>
  /**
   * Returns one policy. Like `update` and `delete`, fails with `PolicyNotFoundError` when there is no such
   * policy.
   */
  get(id: string, ...options: CallArgs<F>): Kind<F, Policy, PolicyNotFoundError | ClientError>
  /** Changes a policy. The change is effective at once for all API keys whose roles have the policy. */
  update(id: string, input: UpdatePolicyInput, ...options: CallArgs<F>): Kind<F, Policy, PolicyError>
  /** Deletes a policy. Fails with `INVALID_STATE` while roles have it. */
  delete(id: string, ...options: CallArgs<F>): Kind<F, void, PolicyError>
}

const policyKeys = { name: true, effect: true, actions: true, resources: true, condition: true } as const
const policyErrors = { PolicyNotFoundError: true } as const
const changeErrors = { ...policyErrors, InvalidStateError: true } as const
/** Names, options and errors of the methods. */
export const policiesMethods: Methods<PoliciesApi<PromiseKind>, PoliciesApi<EffectKind>> = {
  create: [[{ ...policyKeys, org_id: true }, callKeys], { OrgNotFoundError: true }],
  list: [idArguments],
  get: [idArguments, policyErrors],
  update: [[null, policyKeys, callKeys], changeErrors],
  delete: [idArguments, changeErrors]
}

/** Creates, changes and deletes policies. */
export class Policies extends Context.Service<Policies, PoliciesApi<EffectKind>>()(
  "@ironflow/node/Policies"
) {}
