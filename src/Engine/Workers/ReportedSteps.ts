/** The steps that run at a worker outside this process, by its last report. */
import { readRunningTurns, type RunningTurn } from "../../Protocol/RunningSteps.ts"

export class ReportedSteps {
  #turns: ReadonlyArray<RunningTurn> = []
  #at = 0

  /**
   * Takes the worker's report: `running` is `undefined` when nothing runs. `now` is the time of any monotonic
   * clock.
   */
  update(running: unknown, now: number): void {
    this.#turns = running === undefined ? [] : readRunningTurns(running)
    this.#at = now
  }

  /** The last report, with durations up to `now`. Some of its steps may have ended since. */
  turnsAt(now: number): ReadonlyArray<RunningTurn> {
    const sinceMs = Math.max(0, Math.round(now - this.#at))
    return this.#turns.map((turn) => ({
      ...turn,
      steps: turn.steps.map((step) => ({ ...step, forMs: step.forMs + sinceMs }))
    }))
  }
}
