/**
 * Turns for push handlers of other packages, which know completed steps and one yield a segment. What they cannot express
 * is decided as it is for existing workers, see `Http/LegacyWorker.ts`.
 */
import { isObject } from "../../Json.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import { JobUpdate } from "../../Protocol/Http/Schemas.ts"
import type { Job, TurnOp } from "../../Protocol/Worker.ts"
import { type Attempts, encodeCompletedSteps, encodeEvent, readUpdate } from "../Http/LegacyJobs.ts"

/** The JSON of a push request. Values go out as the text that they are stored as. */
export const encodePushRequest = (job: Job, nowMs: number): string =>
  `{"run_id":${JSON.stringify(job.runId)},"function_id":${JSON.stringify(job.functionId)}` +
  `,"attempt":${job.attempt},"event":${encodeEvent(job.event)},"sent_at":${nowMs}` +
  `,"steps":[${encodeCompletedSteps(job, "id", ',"status":"completed"').join(",")}]` +
  `${job.secrets === undefined ? "" : `,"secrets":${JSON.stringify(job.secrets)}`}}`

const update = lenient(JobUpdate, "The answer")

/** The ops of a push response. Throws `ValidationError` when it is none. */
export const readPushResponse = (
  runId: string,
  response: unknown,
  attempts: Attempts | undefined,
  nowMs: number
): ReadonlyArray<TurnOp> => {
  const { result, ...body } = isObject(response) ? response : {}
  return readUpdate(
    runId,
    update({ ...body, ...(result === undefined ? {} : { output: result }) }),
    attempts,
    nowMs
  )
}
