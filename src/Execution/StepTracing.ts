/** What a traced turn calls, so that the handler and the code of steps run within spans. */
import type { Attempt } from "./Attempt.ts"

export interface StepTracing {
  /** Called when an attempt begins to run the code of a step. Sets `attempt.span`. */
  readonly attemptBegan: (attempt: Attempt) => void
  /** Calls the handler `f` within the turn's span. */
  readonly within: <A>(f: () => A) => A
}
