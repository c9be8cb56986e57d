/** Lets a test kit observe a turn, and start the code of its steps itself. */
import * as Context from "effect/Context"
import type { Attempt } from "./Attempt.ts"
import type { StepCall, StepCode } from "./StepCall.ts"

export interface TurnProbe {
  /** Called for every step call, before the call is answered. */
  readonly called?: (call: StepCall) => void
  /** Called before an outcome is delivered to the handler. */
  readonly delivers?: () => void
  /** Called in place of `code.begin`. It starts the code, or ends the attempt itself. */
  readonly begin?: (attempt: Attempt, code: StepCode) => void
}

/** The probe for all turns of the workers that are made in this context; none by default. */
export const CurrentTurnProbe = Context.Reference<TurnProbe | undefined>("@ironflow/node/TurnProbe", {
  defaultValue: () => undefined
})
