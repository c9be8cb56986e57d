/**
 * What API keys may do, in words: actions on resources, and policies that allow or deny them.
 *
 * An action is `<area>:<verb>`, a resource `<kind>:<name>`. Policies name both by patterns in which `*` stands for any
 * characters, several separated by commas: `emit:*, run:cancel` on `event:order.*`. What no policy allows is denied, and a
 * policy that denies wins over all that allow.
 */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { compileExpression, type Expression } from "./Expression.ts"
import { TurnBudget } from "./ExpressionBudget.ts"
import { listLength, nameLength } from "./Limits.ts"
import { setImmediate } from "./RealTimers.ts"

/** Everything that a key can be allowed to do. */
export const actions = [
  "emit:event",
  "emit:sync",
  "publish:message",
  "run:read",
  "run:cancel",
  "run:retry",
  "run:resume",
  "run:pause",
  "run:patch",
  "run:fork",
  "run:move",
  "run:delete",
  "function:read",
  "function:register",
  "function:delete",
  "function:pause",
  "function:resume",
  "function:run",
  "worker:read",
  "worker:run",
  "secret:read",
  "secret:write",
  "secret:delete",
  "kv:read",
  "kv:write",
  "kv:delete",
  "config:read",
  "config:write",
  "config:delete",
  "stream:read",
  "stream:append",
  "projection:read",
  "projection:run",
  "projection:manage",
  "topic:read",
  "subscription:read",
  "subscription:manage",
  "apikey:read",
  "apikey:create",
  "apikey:rotate",
  "apikey:delete",
  "org:read",
  "org:create",
  "org:update",
  "org:delete",
  "role:read",
  "role:create",
  "role:update",
  "role:delete",
  "role:assign",
  "policy:read",
  "policy:create",
  "policy:update",
  "policy:delete",
  "audit:read",
  "engine:read",
  "engine:backup",
  "data:erase"
] as const

export type Action = (typeof actions)[number]

/** What actions are done to. */
const resourceKinds = [
  "event",
  "topic",
  "run",
  "function",
  "worker",
  "secret",
  "bucket",
  "config",
  "stream",
  "projection",
  "subscription",
  "group",
  "apikey",
  "org",
  "role",
  "policy",
  "engine"
] as const

export type ResourceKind = (typeof resourceKinds)[number]

/** Whether a policy allows or denies. What one policy denies, no other allows. */
export type PolicyEffect = "allow" | "deny"

export interface PolicyRule {
  readonly name: string
  readonly effect: PolicyEffect
  /** Patterns, separated by commas. */
  readonly actions: string
  readonly resources: string
  /** A CEL expression over `request`; the policy applies where it is true. */
  readonly condition?: string
}

/** Who does it, where, and when: what a condition sees besides action and resource. */
export interface PolicyContext {
  readonly environment: string
  readonly key: { readonly id: string; readonly name: string }
  /** Epoch milliseconds. */
  readonly now: () => number
}

/** Characters of a list of patterns. */
const patternsLength = 4096

const actionPattern = /^[a-z*][a-z*:]*$/

/** Returns the actions of a policy as they were written. Throws `ValidationError` or `LimitExceededError`. */
export const checkActions = (text: unknown): string => {
  for (const pattern of readPatterns(text, "actions", '"emit:*, run:cancel"')) {
    if (!actionPattern.test(pattern) || !actions.some(matcher(pattern))) {
      throw new ValidationError(
        `The action "${pattern.slice(0, 64)}" of the policy fits nothing that can be done: use ${actions.join(", ")}, or * for any characters`
      )
    }
  }
  return text as string // `readPatterns` has refused everything else
}

/** Returns the resources of a policy as they were written. Throws `ValidationError` or `LimitExceededError`. */
export const checkResources = (text: unknown): string => {
  for (const pattern of readPatterns(text, "resources", '"*" or "event:order.*, secret:STRIPE_KEY"')) {
    const colon = pattern.indexOf(":")
    const kind = colon === -1 ? pattern : pattern.slice(0, colon)
    const known =
      colon === -1 ? /^\*+$/.test(pattern) : colon < pattern.length - 1 && resourceKinds.some(matcher(kind))
    if (!known) {
      throw new ValidationError(
        `The resource "${pattern.slice(0, 64)}" of the policy is not one: write * for all, or <kind>:<name> with a kind of ${resourceKinds.join(", ")}`
      )
    }
  }
  return text as string // `readPatterns` has refused everything else
}

/** Throws `ValidationError` or `LimitExceededError` when the text is no expression over `request`. */
export const checkCondition = (text: string): string => compileExpression(text, ["request"]).text

const readPatterns = (text: unknown, what: string, example: string): ReadonlyArray<string> => {
  if (typeof text !== "string" || text.trim() === "") {
    throw new ValidationError(`The ${what} of a policy must be a text of patterns, such as ${example}`)
  }
  if (text.length > patternsLength) {
    throw new LimitExceededError(`The ${what} of the policy`, text.length, patternsLength, "characters")
  }
  const patterns = split(text)
  if (patterns.length > listLength) {
    throw new LimitExceededError(`The list of ${what} of the policy`, patterns.length, listLength, "patterns")
  }
  for (const pattern of patterns) {
    if (pattern === "" || pattern.length > 2 * nameLength || /[\s\p{Cc}]/u.test(pattern)) {
      throw new ValidationError(
        `"${pattern.slice(0, 64)}" among the ${what} of the policy is not a pattern: write them like ${example}`
      )
    }
  }
  return patterns
}

/** The patterns of a list that was checked when it was stored. */
export const split = (text: string): ReadonlyArray<string> => text.split(",").map((pattern) => pattern.trim())

/**
 * Whether a text fits a pattern in which `*` stands for any characters, none included. Each part between two stars is looked for after
 * the one before it: that takes about as long as the text, whatever is in the pattern.
 */
export const matchesGlob = (pattern: string, text: string): boolean => {
  const first = pattern.indexOf("*")
  if (first === -1) return pattern === text
  const last = pattern.lastIndexOf("*")
  const end = text.length - (pattern.length - last - 1)
  if (end < first || !text.startsWith(pattern.slice(0, first)) || !text.endsWith(pattern.slice(last + 1))) {
    return false
  }
  let inText = first
  for (let star = first; star !== last;) {
    const next = pattern.indexOf("*", star + 1)
    const part = pattern.slice(star + 1, next)
    const found = text.indexOf(part, inText)
    if (found === -1 || found + part.length > end) return false
    inText = found + part.length
    star = next
  }
  return true
}

/** Whether there is a text that fits both patterns. */
export const overlapsGlob = (one: string, other: string): boolean => {
  // by places in `other`: whether the part of `one` that was read so far can end there
  let ends = Array.from({ length: other.length + 1 }, (_, i) => /^\**$/.test(other.slice(0, i)))
  for (const character of one) {
    const next = [character === "*" && ends[0] === true]
    for (let i = 1; i <= other.length; i++) {
      const inOther = other[i - 1]
      next[i] =
        character === "*" || inOther === "*"
          ? ends[i] === true || next[i - 1] === true
          : character === inOther && ends[i - 1] === true
    }
    ends = next
  }
  return ends[other.length] === true
}

const matcher =
  (pattern: string) =>
  (text: string): boolean =>
    matchesGlob(pattern, text)

const fitsOne = (patterns: ReadonlyArray<string>, text: string): boolean =>
  patterns.some((pattern) => matchesGlob(pattern, text))

interface CompiledPolicy extends PolicyRule {
  readonly actionPatterns: ReadonlyArray<string>
  /** `undefined` for all. */
  readonly resourcePatterns: ReadonlyArray<string> | undefined
  /** `undefined` for a condition that does not compile: it fails whenever it is asked. */
  readonly expression: { readonly compiled: Expression | undefined } | undefined
}

/** The policies that are about one action. */
interface Relevant {
  readonly policies: ReadonlyArray<CompiledPolicy>
  /** One allows everything, and none denies or has a condition. */
  readonly always: boolean
  /** One denies something. */
  readonly denies: boolean
}

/** Characters of a resource that is compared with patterns: more than the longest names with all that stands before them. */
const resourceLength = 4096

/** Why something is denied. */
export interface Denial {
  readonly policy?: string
  readonly reason: "nothing allows it" | "a policy denies it" | "a condition failed"
  readonly error?: string
}

/** The policies of one key, compiled; what they say about an action is worked out when it is first asked. */
export class Permissions {
  readonly #rules: ReadonlyArray<PolicyRule>
  #compiled: ReadonlyArray<CompiledPolicy> | undefined
  readonly #byAction = new Map<Action, Relevant>()
  /** A list, or a batch, asks about each of its items at once. */
  readonly #budget = new TurnBudget((f) => void setImmediate(f))

  constructor(rules: ReadonlyArray<PolicyRule>) {
    this.#rules = rules
  }

  /** Whether the action may be allowed on some resource: what can be said before the resource is known. */
  mayEver(action: Action): boolean {
    return this.#about(action).policies.some(({ effect }) => effect === "allow")
  }

  /** The same for the resources of one kind, such as those in a list. */
  mayAny(action: Action, kind: ResourceKind): boolean {
    const { policies, always } = this.#about(action)
    if (always) return true
    const all = `${kind}:*`
    // a pattern that fits this text fits every name
    const isAllDenied = policies.some(
      ({ effect, expression, resourcePatterns }) =>
        effect === "deny" &&
        expression === undefined &&
        (resourcePatterns === undefined || fitsOne(resourcePatterns, all))
    )
    return (
      !isAllDenied &&
      policies.some(
        ({ effect, resourcePatterns }) =>
          effect === "allow" &&
          (resourcePatterns === undefined || resourcePatterns.some((pattern) => overlapsGlob(pattern, all)))
      )
    )
  }

  /** Whether the action is allowed on everything, always. */
  mayAll(action: Action): boolean {
    return this.#about(action).always
  }

  /** Whether a policy denies the action on something. */
  isDenied(action: Action): boolean {
    return this.#about(action).denies
  }

  /**
   * `undefined` when it is allowed. What brings more than the resource says gives `reach`, whether a resource pattern is about
   * some of that: a policy that denies any of it applies.
   */
  denial(
    action: Action,
    resource: string,
    context: PolicyContext,
    reach?: (resources: string) => boolean
  ): Denial | undefined {
    return this.#judge(action, resource, context, reach, false)
  }

  /**
   * `undefined` unless a policy denies it, whether or not one allows it: for what another action, which is allowed, has as its
   * effect too.
   */
  prohibition(
    action: Action,
    resource: string,
    context: PolicyContext,
    reach?: (resources: string) => boolean
  ): Denial | undefined {
    return this.#judge(action, resource, context, reach, true)
  }

  #judge(
    action: Action,
    resource: string,
    context: PolicyContext,
    reach: ((resources: string) => boolean) | undefined,
    isAllowed: boolean
  ): Denial | undefined {
    const { policies, always, denies } = this.#about(action)
    if (always || (isAllowed && !denies)) return undefined
    // nothing has such a name, and to compare it with patterns takes long
    if (resource.length > resourceLength) return { reason: "nothing allows it" }
    let allowed = isAllowed
    for (const policy of policies) {
      if (isAllowed && policy.effect === "allow") continue
      if (
        policy.resourcePatterns !== undefined &&
        !fitsOne(policy.resourcePatterns, resource) &&
        !(policy.effect === "deny" && reach !== undefined && policy.resourcePatterns.some(reach))
      )
        continue
      if (policy.effect === "allow" && allowed && policy.expression === undefined) continue
      if (policy.expression !== undefined) {
        const { compiled } = policy.expression
        const { matched, error } =
          compiled === undefined
            ? { matched: false, error: "it is not an expression" }
            : this.#budget.evaluate(() =>
                compiled.evaluate({ request: requestOf(action, resource, context) })
              )
        // what was to be allowed or denied cannot be told: the safe answer is no
        if (error !== undefined) return { policy: policy.name, reason: "a condition failed", error }
        if (!matched) continue
      }
      if (policy.effect === "deny") return { policy: policy.name, reason: "a policy denies it" }
      allowed = true
    }
    return allowed ? undefined : { reason: "nothing allows it" }
  }

  #about(action: Action): Relevant {
    const known = this.#byAction.get(action)
    if (known !== undefined) return known
    const compiled = (this.#compiled ??= this.#rules.map(compile))
    const policies = compiled.filter(({ actionPatterns }) => fitsOne(actionPatterns, action))
    const relevant = {
      policies,
      denies: policies.some(({ effect }) => effect === "deny"),
      always:
        policies.some(
          ({ effect, resourcePatterns }) => effect === "allow" && resourcePatterns === undefined
        ) && policies.every(({ effect, expression }) => effect === "allow" && expression === undefined)
    }
    this.#byAction.set(action, relevant)
    return relevant
  }
}

const compile = (rule: PolicyRule): CompiledPolicy => {
  const resourcePatterns = split(rule.resources)
  return {
    ...rule,
    actionPatterns: split(rule.actions),
    resourcePatterns: resourcePatterns.includes("*") ? undefined : resourcePatterns,
    expression: rule.condition === undefined ? undefined : { compiled: compileCondition(rule.condition) }
  }
}

const compileCondition = (condition: string): Expression | undefined => {
  try {
    return compileExpression(condition, ["request"])
  } catch {
    // it was checked when it was stored; one that a later version does not understand fails when it is asked
    return undefined
  }
}

const requestOf = (action: Action, resource: string, { environment, key, now }: PolicyContext) => ({
  action,
  resource,
  name: resource.slice(resource.indexOf(":") + 1),
  environment,
  key,
  time: new Date(now()).toISOString()
})
