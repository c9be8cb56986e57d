/** How a test kit looks into a turn, and stands between it and the code of its steps. */
import * as Context from "effect/Context"
import type { Attempt } from "./Attempt.ts"
import type { StepCall, StepCode } from "./StepCall.ts"

export interface TurnProbe {
  /** Called with every step call, before it is answered. */
  readonly asked?: (call: StepCall) => void
  /** Called before the handler is given an outcome. */
  readonly delivers?: () => void
  /** Called in place of beginning a step's code; it begins the code, or ends the attempt itself. */
  readonly begin?: (attempt: Attempt, code: StepCode) => void
}

/** The probe of all turns of the workers that are made with it; none by default. */
export const CurrentTurnProbe = Context.Reference<TurnProbe | undefined>("@ironflow/node/TurnProbe", {
  defaultValue: () => undefined
})
