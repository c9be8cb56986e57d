/**
 * Permissions of API keys: actions on resources, and policies that allow or deny them.
 *
 * An action is `<area>:<verb>`, and a resource `<kind>:<name>`. A policy lists actions and resources as patterns
 * separated by commas, in which `*` matches any characters: `emit:*, run:cancel` on `event:order.*`. What
 * no policy allows is denied. A policy that denies takes precedence over all that allow.
 */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { compileExpression, type Expression } from "./Expression.ts"
import { TurnBudget } from "./ExpressionBudget.ts"
import { declaredListLength, nameLength } from "./Limits.ts"
import { setImmediate } from "./RealTimers.ts"
import { show } from "./Show.ts"

/** All actions. */
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

/** The kinds of resources on which actions are carried out. */
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

/** Whether a policy allows or denies. A policy that denies takes precedence. */
export type PolicyEffect = "allow" | "deny"

export interface PolicyRule {
  readonly name: string
  readonly effect: PolicyEffect
  /** Patterns of actions, separated by commas. */
  readonly actions: string
  /** Patterns of resources, separated by commas. */
  readonly resources: string
  /** CEL expression over `request`. The policy only applies when the expression is true. */
  readonly condition?: string
}

/** What a condition sees besides the action and the resource: the environment, the API key and the time. */
export interface PolicyContext {
  readonly environment: string
  readonly key: { readonly id: string; readonly name: string }
  /** Epoch milliseconds. */
  readonly now: () => number
}

/** Maximum length of a list of patterns, in characters. */
const PATTERNS_LENGTH = 4096

const actionPattern = /^[a-z*][a-z*:]*$/

/** Returns the actions of a policy, if they are valid. Throws `ValidationError` or `LimitExceededError`. */
export const checkActions = (text: unknown): string => {
  for (const pattern of readPatterns(text, "actions", '"emit:*, run:cancel"')) {
    if (!actionPattern.test(pattern) || !actions.some(matcher(pattern))) {
      throw new ValidationError(
        `The action "${pattern.slice(0, 64)}" of the policy matches no action: use ${actions.join(", ")}, or * for any characters`
      )
    }
  }
  return text as string // `readPatterns` has refused everything else
}

/** Returns the resources of a policy, if they are valid. Throws `ValidationError` or `LimitExceededError`. */
export const checkResources = (text: unknown): string => {
  for (const pattern of readPatterns(text, "resources", '"*" or "event:order.*, secret:STRIPE_KEY"')) {
    const colon = pattern.indexOf(":")
    const kind = colon === -1 ? pattern : pattern.slice(0, colon)
    const isValid =
      colon === -1 ? /^\*+$/.test(pattern) : colon < pattern.length - 1 && resourceKinds.some(matcher(kind))
    if (!isValid) {
      throw new ValidationError(
        `The resource "${pattern.slice(0, 64)}" of the policy is not valid: write * for all, or <kind>:<name> with a kind of ${resourceKinds.join(", ")}`
      )
    }
  }
  return text as string // `readPatterns` has refused everything else
}

/**
 * Returns the condition, if it is a valid expression over `request`. Throws `ValidationError` or
 * `LimitExceededError`.
 */
export const checkCondition = (text: string): string => compileExpression(text, ["request"]).text

const readPatterns = (text: unknown, what: string, example: string): ReadonlyArray<string> => {
  if (typeof text !== "string" || text.trim() === "") {
    throw new ValidationError(
      `The ${what} of a policy must be a string of patterns with commas between them, such as ${example}, got ${show(text)}`
    )
  }
  if (text.length > PATTERNS_LENGTH) {
    throw new LimitExceededError(`The ${what} of the policy`, text.length, PATTERNS_LENGTH, "characters")
  }
  const patterns = splitPatterns(text)
  if (patterns.length > declaredListLength) {
    throw new LimitExceededError(
      `The list of ${what} of the policy`,
      patterns.length,
      declaredListLength,
      "patterns"
    )
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

/** Splits a list of patterns, which is stored as one text. */
export const splitPatterns = (text: string): ReadonlyArray<string> =>
  text.split(",").map((pattern) => pattern.trim())

/**
 * Whether a text matches a pattern in which `*` matches any characters, or none. Each part between two stars
 * is searched for after the part before it, without ever going back. So the time is about linear for every pattern.
 */
export const matchesGlob = (pattern: string, text: string): boolean => {
  const first = pattern.indexOf("*")
  if (first === -1) return pattern === text
  const last = pattern.lastIndexOf("*")
  const end = text.length - (pattern.length - last - 1)
  if (end < first || !text.startsWith(pattern.slice(0, first)) || !text.endsWith(pattern.slice(last + 1))) {
    return false
  }
  let textIndex = first
  for (let star = first; star !== last;) {
    const next = pattern.indexOf("*", star + 1)
    const part = pattern.slice(star + 1, next)
    const found = text.indexOf(part, textIndex)
    if (found === -1 || found + part.length > end) return false
    textIndex = found + part.length
    star = next
  }
  return true
}

/** Whether there is a text that matches both patterns. */
export const overlapsGlob = (one: string, other: string): boolean => {
  // for each position in `other`: whether some text matches both the part of `one` that was read so far and the part of
  // `other` before the position
  let ends = Array.from({ length: other.length + 1 }, (_, i) => /^\**$/.test(other.slice(0, i)))
  for (const character of one) {
    const next = [character === "*" && ends[0] === true]
    for (let i = 1; i <= other.length; i++) {
      const otherCharacter = other[i - 1]
      next[i] =
        character === "*" || otherCharacter === "*"
          ? ends[i] === true || next[i - 1] === true
          : character === otherCharacter && ends[i - 1] === true
    }
    ends = next
  }
  return ends[other.length] === true
}

const matcher =
  (pattern: string) =>
  (text: string): boolean =>
    matchesGlob(pattern, text)

const matchesAny = (patterns: ReadonlyArray<string>, text: string): boolean =>
  patterns.some((pattern) => matchesGlob(pattern, text))

interface CompiledPolicy extends PolicyRule {
  readonly actionPatterns: ReadonlyArray<string>
  /** The patterns of resources; `undefined` when they match all resources. */
  readonly resourcePatterns: ReadonlyArray<string> | undefined
  /**
   * The condition; `undefined` when the policy has none. A condition that does not compile has no `compiled`, and fails
   * each time it is evaluated.
   */
  readonly expression: { readonly compiled: Expression | undefined } | undefined
}

/** The policies for one action. */
interface ActionPolicies {
  readonly policies: ReadonlyArray<CompiledPolicy>
  /** Whether one of the policies allows all resources, and none denies something or has a condition. */
  readonly allowsAll: boolean
  /** Whether a policy denies something. */
  readonly denies: boolean
}

/** The longest resource that is compared with patterns, in characters. Valid resources are shorter. */
const RESOURCE_LENGTH = 4096

/** Why an action is denied. */
export interface Denial {
  readonly policy?: string
  readonly reason: "nothing allows it" | "a policy denies it" | "a condition failed"
  readonly error?: string
}

/**
 * The policies of an API key. The policies are compiled when they are first needed. The policies for an action are
 * found when the action is first checked.
 */
export class Permissions {
  readonly #rules: ReadonlyArray<PolicyRule>
  #compiledPolicies: ReadonlyArray<CompiledPolicy> | undefined
  readonly #byAction = new Map<Action, ActionPolicies>()
  /** The budget of all conditions that are evaluated in a turn of the event loop: a list may check each of its items. */
  readonly #budget = new TurnBudget((f) => void setImmediate(f))

  constructor(rules: ReadonlyArray<PolicyRule>) {
    this.#rules = rules
  }

  /** Whether the action may be allowed for some resource. For checks before the resource is known. */
  mayEver(action: Action): boolean {
    return this.#about(action).policies.some(({ effect }) => effect === "allow")
  }

  /**
   * Whether the action may be allowed for some resource of this kind. For lists, whose items are checked one
   * by one.
   */
  mayAny(action: Action, kind: ResourceKind): boolean {
    const { policies, allowsAll } = this.#about(action)
    if (allowsAll) return true
    const all = `${kind}:*`
    // a pattern that matches this text matches any name
    const isAllDenied = policies.some(
      ({ effect, expression, resourcePatterns }) =>
        effect === "deny" &&
        expression === undefined &&
        (resourcePatterns === undefined || matchesAny(resourcePatterns, all))
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

  /** Whether the action is allowed for every resource, without a condition. */
  mayAll(action: Action): boolean {
    return this.#about(action).allowsAll
  }

  /** Whether a policy denies the action for some resource, perhaps under a condition. */
  isDenied(action: Action): boolean {
    return this.#about(action).denies
  }

  /**
   * Why an action is denied; `undefined` when it is allowed. A call may also affect other resources. It then passes
   * `reach`, which returns whether a pattern matches any of them: a policy that denies the action on any of them denies
   * the call.
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
   * Why a policy denies an action; `undefined` when no policy denies it, even if no policy allows it. For a second
   * action that an allowed action includes.
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
    const { policies, allowsAll, denies } = this.#about(action)
    if (allowsAll || (isAllowed && !denies)) return undefined
    // no valid resource is that long, and comparing such a text with patterns would take long
    if (resource.length > RESOURCE_LENGTH) return { reason: "nothing allows it" }
    let allowed = isAllowed
    for (const policy of policies) {
      if (isAllowed && policy.effect === "allow") continue
      if (
        policy.resourcePatterns !== undefined &&
        !matchesAny(policy.resourcePatterns, resource) &&
        !(policy.effect === "deny" && reach !== undefined && policy.resourcePatterns.some(reach))
      )
        continue
      if (policy.effect === "allow" && allowed && policy.expression === undefined) continue
      if (policy.expression !== undefined) {
        const { compiled } = policy.expression
        const { matched, error } =
          compiled === undefined
            ? { matched: false, error: "it is not a valid expression" }
            : this.#budget.evaluate(() =>
                compiled.evaluate({ request: requestOf(action, resource, context) })
              )
        // a policy whose condition cannot be evaluated denies the action
        if (error !== undefined) return { policy: policy.name, reason: "a condition failed", error }
        if (!matched) continue
      }
      if (policy.effect === "deny") return { policy: policy.name, reason: "a policy denies it" }
      allowed = true
    }
    return allowed ? undefined : { reason: "nothing allows it" }
  }

  #about(action: Action): ActionPolicies {
    const found = this.#byAction.get(action)
    if (found !== undefined) return found
    const compiled = (this.#compiledPolicies ??= this.#rules.map(compile))
    const policies = compiled.filter(({ actionPatterns }) => matchesAny(actionPatterns, action))
    const about = {
      policies,
      denies: policies.some(({ effect }) => effect === "deny"),
      allowsAll:
        policies.some(
          ({ effect, resourcePatterns }) => effect === "allow" && resourcePatterns === undefined
        ) && policies.every(({ effect, expression }) => effect === "allow" && expression === undefined)
    }
    this.#byAction.set(action, about)
    return about
  }
}

const compile = (rule: PolicyRule): CompiledPolicy => {
  const resourcePatterns = splitPatterns(rule.resources)
  return {
    ...rule,
    actionPatterns: splitPatterns(rule.actions),
    resourcePatterns: resourcePatterns.includes("*") ? undefined : resourcePatterns,
    expression: rule.condition === undefined ? undefined : { compiled: compileCondition(rule.condition) }
  }
}

const compileCondition = (condition: string): Expression | undefined => {
  try {
    return compileExpression(condition, ["request"])
  } catch {
    // the condition was checked when it was stored; if this version cannot compile it, it fails each time it
    // is evaluated
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
