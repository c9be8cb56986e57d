/** What a traced turn calls, so that the handler and the code of steps run within spans. */
import type { Attempt } from "./Attempt.ts"

export interface StepTracing {
  /** Called when the code of a step begins. Sets `attempt.span`. */
  readonly began: (attempt: Attempt) => void
  /** Calls the handler `f` within the turn's span. */
  readonly within: <A>(f: () => A) => A
}
