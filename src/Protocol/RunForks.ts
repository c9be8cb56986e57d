/** New runs from recorded ones, and runs that go on with another version of their function: the calls about them. */
import { InvalidStateError, RunNotFoundError } from "../Errors.ts"
import { json, object, optional, struct, text } from "./Codec.ts"
import { operation, row } from "./Row.ts"
import { RunAnswer } from "./Runs.ts"

const Fork = struct({ from: optional(text), steps: optional(object), data: optional(json) })
const Move = struct({ version: optional(text) })

export const forkRun = operation("POST /api/v1/runs/:id/fork", {
  answer: RunAnswer,
  missing: RunNotFoundError,
  ours: true
})
export const moveRun = operation("POST /api/v1/runs/:id/move", {
  answer: RunAnswer,
  missing: RunNotFoundError,
  ours: true
})

const notNow = { 409: InvalidStateError } as const

export const rows = {
  /** Starts a new run with the steps that another one has recorded up to a step; its key needs `run:read` of that one too. */
  forkRun: row(forkRun, "run:fork", { body: Fork, errors: notNow }),
  /** Moves a run that is pinned to a version of its function to the latest one, or to another. */
  moveRun: row(moveRun, "run:move", { body: Move, errors: notNow })
}
