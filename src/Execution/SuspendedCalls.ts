/** The calls of a turn that the engine will resume: sleeps, waits, child runs, and steps between two attempts. */
import type { Outcomes } from "./Outcomes.ts"
import { type BranchGroup, isWithin } from "./StepScope.ts"
import type { StepCall } from "./StepCall.ts"

export class SuspendedCalls {
  readonly #outcomes: Pick<Outcomes, "report">
  readonly #calls = new Map<string, StepCall>()

  constructor(outcomes: Pick<Outcomes, "report">) {
    this.#outcomes = outcomes
  }

  get size(): number {
    return this.#calls.size
  }

  /** The step keys of the suspended calls. */
  get keys(): ReadonlyArray<string> {
    return [...this.#calls.keys()]
  }

  add(call: StepCall): void {
    this.#calls.set(call.key, call)
  }

  get(key: string): StepCall | undefined {
    return this.#calls.get(key)
  }

  /** Removes a call. Returns whether it was suspended. */
  delete(key: string): boolean {
    return this.#calls.delete(key)
  }

  /** Removes a call, and tells the engine that it need not resume the step. */
  closeInEngine(call: StepCall): void {
    this.#calls.delete(call.key)
    this.#outcomes.report({ _tag: "Withdraw", stepKey: call.key })
  }

  closeWithin(group: BranchGroup): void {
    for (const call of this.#calls.values()) if (isWithin(call.scope, group)) this.closeInEngine(call)
  }

  closeAll(): void {
    for (const call of this.#calls.values()) this.closeInEngine(call)
  }

  clear(): void {
    this.#calls.clear()
  }
}
