/**
 * Limits what one key may give to another: never more than it has itself, by any combination of roles, policies and conditions.
 * If it cannot be decided whether a key has a permission, the key may not give that permission.
 */
import {
  type Action,
  actions,
  matchesGlob,
  overlapsGlob,
  type PolicyRule,
  splitPatterns
} from "../../Policy.ts"

/**
 * Says, as the end of a message, why a key that has the rules `ownPolicyRules` may not give the rules `givenPolicyRules`, and what
 * to do; `undefined` when it may give them. `owner` is the name of the key in the message. If several checks get the same
 * `comparison`, its limit is for all these checks together.
 */
export const givingProblem = (
  ownPolicyRules: ReadonlyArray<PolicyRule>,
  givenPolicyRules: ReadonlyArray<PolicyRule>,
  comparison: Comparison = new Comparison(),
  owner = "this key"
): string | undefined => {
  try {
    const ownRules = ownPolicyRules.map((rule) => readRule(rule, comparison))
    const denies = ownRules.filter(({ effect }) => effect === "deny")
    if (denies.length === 0 && ownRules.some(allowsEverything)) return undefined
    const givenRules = givenPolicyRules.map((rule) => readRule(rule, comparison))
    return compare(ownRules, givenRules, denies, comparison, owner)
  } catch (error) {
    if (error instanceof TooManyRules)
      return (
        `the policies have too many rules to compare, so it cannot be checked whether ${owner} has all the rights that this would give. ` +
        "Use a key that may do everything, or fewer rules"
      )
    throw error
  }
}

/** Maximum number of characters of patterns that one {@link Comparison} reads: that takes about a tenth of a second. */
const MAX_COMPARED_CHARS = 10_000_000

/** What it costs to compare one pattern with all actions, in characters: about 8 for each action. */
const ALL_ACTIONS_COST = 8 * actions.length

class TooManyRules extends Error {}

/** Compares patterns, of which there may be thousands. Throws {@link TooManyRules} when that takes too long. */
export class Comparison {
  #charsLeft = MAX_COMPARED_CHARS

  /** Whether the rule is about the action. */
  isAbout(rule: Rule, action: Action): boolean {
    this.#spend(rule.actions.length + 1)
    return rule.actions.includes(action)
  }

  /** The actions that match one of the patterns. */
  actionsOf(patterns: ReadonlyArray<string>): ReadonlyArray<Action> {
    this.#spend(ALL_ACTIONS_COST * patterns.length)
    return actions.filter((action) => patterns.some((pattern) => matchesGlob(pattern, action)))
  }

  /** Whether the first pattern matches everything that the second one matches. */
  covers(wider: string, pattern: string): boolean {
    this.#spend(wider.length + pattern.length)
    return matchesGlob(wider, pattern)
  }

  overlaps(one: string, other: string): boolean {
    this.#spend(one.length * other.length)
    return overlapsGlob(one, other)
  }

  #spend(characters: number): void {
    if ((this.#charsLeft -= characters) < 0) throw new TooManyRules()
  }
}

const compare = (
  ownRules: ReadonlyArray<Rule>,
  givenRules: ReadonlyArray<Rule>,
  denies: ReadonlyArray<Rule>,
  comparison: Comparison,
  owner: string
): string | undefined => {
  const allows = givenRules.filter(({ effect }) => effect === "allow")
  for (const rule of allows) {
    for (const action of rule.actions) {
      for (const pattern of rule.resources) {
        const has = ownRules.some(
          (allow) =>
            allow.effect === "allow" &&
            comparison.isAbout(allow, action) &&
            allow.resources.some((wider) => comparison.covers(wider, pattern)) &&
            appliesWherever(allow, rule)
        )
        if (!has)
          return (
            `that would give rights that ${owner} does not have itself: policy "${rule.name}" allows ${action} on ${pattern}` +
            `${conditionNote(rule, owner)}. Use a key that has all these rights`
          )
      }
    }
  }
  for (const deny of denies) {
    for (const action of deny.actions) {
      for (const pattern of deny.resources) {
        const isRelevant = allows.some(
          (allow) =>
            comparison.isAbout(allow, action) &&
            allow.resources.some((other) => comparison.overlaps(other, pattern))
        )
        const stillApplies =
          !isRelevant ||
          givenRules.some(
            (other) =>
              other.effect === "deny" &&
              comparison.isAbout(other, action) &&
              other.resources.some((wider) => comparison.covers(wider, pattern)) &&
              appliesWherever(other, deny)
          )
        if (!stillApplies)
          return (
            `that would give rights that policy "${deny.name}" denies ${owner}: ${action} on ${pattern}. ` +
            "Use a key that has all these rights"
          )
      }
    }
  }
  return undefined
}

interface Rule extends Pick<PolicyRule, "name" | "effect" | "condition"> {
  /** Whether the result of the condition may depend on the key. */
  readonly dependsOnKey: boolean
  readonly actions: ReadonlyArray<Action>
  readonly resources: ReadonlyArray<string>
}

const readRule = (rule: PolicyRule, comparison: Comparison): Rule => {
  return {
    name: rule.name,
    effect: rule.effect,
    ...(rule.condition === undefined ? {} : { condition: rule.condition }),
    dependsOnKey: rule.condition !== undefined && mayDependOnKey(rule.condition),
    actions: comparison.actionsOf(splitPatterns(rule.actions)),
    resources: splitPatterns(rule.resources)
  }
}

const allowsEverything = ({ actions: allowed, condition, effect, resources }: Rule): boolean =>
  effect === "allow" &&
  condition === undefined &&
  allowed.length === actions.length &&
  resources.some((pattern) => /^\*+$/.test(pattern))

/** Whether the first rule applies whenever the second one does, as far as their conditions tell. */
const appliesWherever = ({ condition, dependsOnKey }: Rule, other: Rule): boolean =>
  condition === undefined || (!dependsOnKey && condition === other.condition)

/**
 * Whether the result of a condition may depend on the key. It does not if the condition uses only those members of `request` that
 * this regular expression lists.
 */
const mayDependOnKey = (condition: string): boolean =>
  condition.replace(/\brequest\s*\.\s*(?:action|resource|name|environment|time)\b/g, "").includes("request")

const conditionNote = ({ condition, dependsOnKey }: Rule, owner: string): string =>
  condition === undefined
    ? ""
    : dependsOnKey
      ? " under a condition about the key"
      : ` under a condition that ${owner} does not have`
