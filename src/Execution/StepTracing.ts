/** What the code of a traced turn runs in. */
import type { Attempt } from "./Attempt.ts"

export interface StepTracing {
  /** The code of a step begins: `attempt.span` is there from now on. */
  readonly began: (attempt: Attempt) => void
  /** Calls the handler of the turn. */
  readonly within: <A>(f: () => A) => A
}
