/** Forking runs and moving them to another version of their function: the calls. */
import { InvalidStateError, RunNotFoundError } from "../Errors.ts"
import { json, object, optional, struct, text } from "./Codec.ts"
import { operation, callSpec } from "./CallSpec.ts"
import { RunAnswer } from "./Runs.ts"

const Fork = struct({ from: optional(text), steps: optional(object), data: optional(json) })
const Move = struct({ version: optional(text) })

export const forkRun = operation("POST /api/v1/runs/:id/fork", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError,
  onlyOurEngine: true
})
export const moveRun = operation("POST /api/v1/runs/:id/move", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError,
  onlyOurEngine: true
})

const invalidState = { 409: InvalidStateError } as const

export const callSpecs = {
  /** Starts a new run that copies the results of another run's steps before the step `from`; none without `from`. The key also needs `run:read` on the other run. */
  forkRun: callSpec(forkRun, "run:fork", { body: Fork, errors: invalidState }),
  /** Moves a pinned run to the latest version of its function, or to `version`. */
  moveRun: callSpec(moveRun, "run:move", { body: Move, errors: invalidState })
}
