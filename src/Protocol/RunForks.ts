/** Forking runs and moving them to another version of their function: the calls. */
import { InvalidStateError, RunNotFoundError } from "../Errors.ts"
import { json, object, optional, struct, text } from "./Codec.ts"
import { operation, callSpec } from "./CallSpec.ts"
import { RunAnswer } from "./Runs.ts"

const Fork = struct({ from: optional(text), steps: optional(object), data: optional(json) })
const Move = struct({ version: optional(text) })

export const forkRun = operation("POST /api/v1/runs/:id/fork", {
  answer: RunAnswer,
  missing: RunNotFoundError,
  onlyOurEngine: true
})
export const moveRun = operation("POST /api/v1/runs/:id/move", {
  answer: RunAnswer,
  missing: RunNotFoundError,
  onlyOurEngine: true
})

const notNow = { 409: InvalidStateError } as const

export const callSpecs = {
  /** Starts a new run with the recorded steps of another run up to a step. The key needs `run:read` on that run too. */
  forkRun: callSpec(forkRun, "run:fork", { body: Fork, errors: notNow }),
  /** Moves a pinned run to the latest version of its function, or to another one. */
  moveRun: callSpec(moveRun, "run:move", { body: Move, errors: notNow })
}
