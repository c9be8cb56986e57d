/** The steps that run at a worker elsewhere, as it has said it last. */
import { readRunning, type RunningTurn } from "../../Protocol/RunningSteps.ts"

export class ToldRunning {
  #turns: ReadonlyArray<RunningTurn> = []
  #at = 0

  /** The worker says what runs; `undefined` when nothing does that is worth a word. `now` is by any clock that goes on evenly. */
  hear(running: unknown, now: number): void {
    this.#turns = running === undefined ? [] : readRunning(running)
    this.#at = now
  }

  /** What it has said, as it is by now unless it has ended. */
  now(now: number): ReadonlyArray<RunningTurn> {
    const sinceMs = Math.max(0, Math.round(now - this.#at))
    return this.#turns.map((turn) => ({
      ...turn,
      steps: turn.steps.map((step) => ({ ...step, forMs: step.forMs + sinceMs }))
    }))
  }
}
