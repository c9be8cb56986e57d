/** Runs the code of a traced turn within its spans. */
import type { Attempt } from "./Attempt.ts"

export interface StepTracing {
  /** Called when the code of a step begins; sets `attempt.span`. */
  readonly began: (attempt: Attempt) => void
  /** Calls the handler of the turn within the turn's span. */
  readonly within: <A>(f: () => A) => A
}
