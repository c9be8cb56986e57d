/** What has to be undone, should the run fail for good, and in which order it was registered. */
import type { StepCode } from "./StepCall.ts"
import { compensationKey } from "../StepId.ts"

export interface Compensation {
  /** Name of the step that it undoes. */
  readonly name: string
  readonly key: string
  /** Missing when this turn did not come to where it is registered. */
  readonly code: StepCode | undefined
}

export class Compensations {
  readonly #registered: Array<Compensation> = []
  readonly #counts = new Map<string, number>()

  get size(): number {
    return this.#registered.length
  }

  /** In the order of registration. */
  get names(): ReadonlyArray<string> {
    return this.#registered.map(({ name }) => name)
  }

  register(name: string, code: StepCode): void {
    const n = this.#counts.get(name) ?? 0
    this.#counts.set(name, n + 1)
    this.#registered.push({ name, key: compensationKey(name, n), code })
  }

  /** All of them in the order in which they run: last registered, first run. */
  inReverse(): ReadonlyArray<Compensation> {
    return this.#registered.toReversed()
  }

  /**
   * The compensations of an earlier turn, given by the step names in the order of registration, in the order in which
   * they run; with code where this turn has registered them again.
   */
  rebuilt(names: ReadonlyArray<string>): ReadonlyArray<Compensation> {
    const code = new Map(this.#registered.map((compensation) => [compensation.key, compensation.code]))
    const counts = new Map<string, number>()
    const planned = names.map((name): Compensation => {
      const n = counts.get(name) ?? 0
      counts.set(name, n + 1)
      const key = compensationKey(name, n)
      return { name, key, code: code.get(key) }
    })
    return planned.reverse()
  }
}
