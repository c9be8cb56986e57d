/**
 * Step ids: `<run id>:<step key>`, where a step key is unique within its run and the same in every turn.
 *
 * ```
 * step key      = <scope> <name> ":" <n>            charge:0, fetch-all:1:profile:0
 * branch scope  = <scope> <parallel name> ":" <i> ":"
 * verdict       = <scope> <parallel name> ":verdict"
 * compensation  = "compensate:" <name> ":" <n>      always in the root scope
 * ```
 *
 * `n` is how often the name was used before in the same scope. When an earlier parallel or map call in the same scope
 * has the same name, the name of the later call gets the suffix `~<n>`. In names, `\` is escaped as `\\` and `:` as
 * `\:`.
 */

/** Escapes a name for a step key. */
export const escapeName = (name: string): string => {
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i)
    if (code === colon || code === backslash) return name.replace(/[\\:]/g, "\\$&")
  }
  return name
}

const colon = ":".charCodeAt(0)
const backslash = "\\".charCodeAt(0)

/** The full id of a step. */
export const stepId = (runId: string, stepKey: string): string => `${runId}:${stepKey}`

/** The name of a publish step in step keys. */
export const publishName = (topic: string): string => `publish:${escapeName(topic)}`

/** The key of the n-th compensation (from 0) that is registered under this name. */
export const compensationKey = (name: string, n: number): string => `compensate:${escapeName(name)}:${n}`

/** The prefix of step keys in branch `index` of the parallel call with this prefix. */
export const branchScope = (parallelPrefix: string, index: number): string => `${parallelPrefix}:${index}:`

/** The key under which a fail-fast parallel call records its verdict. */
export const verdictKey = (parallelPrefix: string): string => `${parallelPrefix}:verdict`

/** Whether the step was called outside of branches. */
export const isAtRoot = (stepKey: string): boolean => /^(?:publish:)?(?:[^\\:]|\\.)+:\d+$/s.test(stepKey)

/** Assigns the step keys of one scope, in the order of the calls. */
export class StepKeys {
  /** The scope: `""` at the root, or else the prefix of the branch, such as `fetch-all:1:`. */
  readonly scope: string
  readonly #useCounts = new Map<string, number>()

  constructor(scope: string) {
    this.scope = scope
  }

  /** The key of the next step of this name. `name` is escaped already. */
  next(name: string): string {
    return `${this.scope}${name}:${this.#count(name)}`
  }

  /** The prefix of the next parallel call of this name. `name` is not escaped yet. */
  nextParallel(name: string): string {
    const escaped = escapeName(name)
    // the colon at the start separates these counts from the counts of steps: no escaped name starts with a colon
    const n = this.#count(`:${escaped}`)
    return `${this.scope}${n === 0 ? escaped : `${escaped}~${n}`}`
  }

  #count(name: string): number {
    const n = this.#useCounts.get(name) ?? 0
    this.#useCounts.set(name, n + 1)
    return n
  }
}
