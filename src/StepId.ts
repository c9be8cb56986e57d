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
 * `n` counts earlier uses of the name in the same scope. A parallel or map name that was used in its scope before gets
 * `~<n>`. In names, `\` becomes `\\` and `:` becomes `\:`.
 */

/** A name as it stands inside a step key. */
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

/** What a publish step is called in step keys. */
export const publishName = (topic: string): string => `publish:${escapeName(topic)}`

/** Key of the compensation that is the n-th one (from 0) registered under this name. */
export const compensationKey = (name: string, n: number): string => `compensate:${escapeName(name)}:${n}`

/** Prefix of the steps of branch `index` of the parallel call with this prefix. */
export const branchScope = (parallelPrefix: string, index: number): string => `${parallelPrefix}:${index}:`

/** Key under which a parallel call that failed fast records its verdict. */
export const verdictKey = (parallelPrefix: string): string => `${parallelPrefix}:verdict`

/** Whether the step of this key was called outside of branches. */
export const isAtRoot = (stepKey: string): boolean => /^(?:publish:)?(?:[^\\:]|\\.)+:\d+$/s.test(stepKey)

/** Gives out the step keys of one scope, in the order of the calls. */
export class StepKeys {
  /** `""` at the root, else the branch with its colon: `fetch-all:1:`. */
  readonly scope: string
  readonly #used = new Map<string, number>()

  constructor(scope: string) {
    this.scope = scope
  }

  /** The key of the next step of this name, which is already escaped. */
  next(name: string): string {
    return `${this.scope}${name}:${this.#count(name)}`
  }

  /** The prefix of the next parallel call of this name, unescaped. */
  nextParallel(name: string): string {
    const escaped = escapeName(name)
    // A colon in front keeps these counts apart from those of steps: no escaped name starts with one.
    const n = this.#count(`:${escaped}`)
    return `${this.scope}${n === 0 ? escaped : `${escaped}~${n}`}`
  }

  #count(name: string): number {
    const n = this.#used.get(name) ?? 0
    this.#used.set(name, n + 1)
    return n
  }
}
