/** Managing policies: which actions on which resources are allowed or denied. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { PolicyEffect } from "../Policy.ts"
import type { InvalidStateError, OrgNotFoundError, PolicyNotFoundError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind } from "./Client.ts"

export type { PolicyEffect } from "../Policy.ts"

/** Times are ISO strings. */
export interface Policy {
  readonly id: string
  readonly org_id: string
  readonly name: string
  readonly effect: PolicyEffect
  /** Patterns separated by commas, `*` for any characters: `emit:*, run:cancel`. */
  readonly actions: string
  /** Patterns over `<kind>:<name>`: `event:order.*`; `*` for all. */
  readonly resources: string
  /** A CEL expression over `request`; the policy applies where it is true. */
  readonly condition?: string
  readonly created_at: string
  readonly updated_at: string
}

export interface CreatePolicyInput {
  readonly name: string
  readonly effect: PolicyEffect
  readonly actions: string
  readonly resources: string
  readonly condition?: string
  /** The built-in organization by default. */
  readonly org_id?: string
}

export interface UpdatePolicyInput {
  readonly name?: string
  readonly effect?: PolicyEffect
  readonly actions?: string
  readonly resources?: string
  /** An empty one takes the condition away. */
  readonly condition?: string
}

/** What may go wrong with one policy: there is none of this id, or it is built in or in use and stays as it is. */
export type PolicyError = PolicyNotFoundError | InvalidStateError | ClientError

/** The methods, in the reading `F`. */
export interface PoliciesApi<F extends HKT.TypeLambda> {
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

export const policiesMethods = ["create", "list", "get", "update", "delete"] as const satisfies ReadonlyArray<
  keyof PoliciesApi<EffectKind>
>

export class Policies extends Context.Service<Policies, PoliciesApi<EffectKind>>()(
  "@ironflow/node/Policies"
) {}
