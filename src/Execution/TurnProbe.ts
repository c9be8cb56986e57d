/** Lets a test kit observe a turn, and replace the start of its steps' code. */
import * as Context from "effect/Context"
import type { Attempt } from "./Attempt.ts"
import type { StepCall, StepCode } from "./StepCall.ts"

export interface TurnProbe {
  /** Called with every step call, before it is answered. */
  readonly called?: (call: StepCall) => void
  /** Called before an outcome is delivered to the handler. */
  readonly delivers?: () => void
  /** Called instead of starting a step's code; it starts the code, or ends the attempt itself. */
  readonly begin?: (attempt: Attempt, code: StepCode) => void
}

/** The probe for all turns of the workers made in this context; none by default. */
export const CurrentTurnProbe = Context.Reference<TurnProbe | undefined>("@ironflow/node/TurnProbe", {
  defaultValue: () => undefined
})
