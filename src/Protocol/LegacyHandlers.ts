/**
 * Converts turns for legacy push handlers (the handlers of other packages), and converts the responses of these
 * handlers. Such a handler knows only completed steps and failed invocations, and ends its part of a turn with at most
 * one wait (a "yield"). Everything else is handled as for legacy workers, see `Engine/Workers/LegacyWorker.ts`.
 */
import { isObject, textOf } from "../Json.ts"
import { decoder } from "./ServerCodec.ts"
import type { Job, TurnOp } from "./Worker.ts"
import type { StepKind } from "../StepKind.ts"
import { type Attempts, encodeCompletedSteps, encodeEvent, JobUpdate, readUpdate } from "./LegacyJobs.ts"

/**
 * Kinds of steps whose failures cannot be sent to a legacy handler: it would wait again for an event whose wait has
 * timed out. When such a step has failed, the run fails instead.
 */
export const unsentFailureKinds: ReadonlySet<StepKind> = new Set(["waitForEvent"])

/** The JSON of a push request. Values are embedded in their stored form. */
export const encodePushRequest = (job: Job, nowMs: number): string =>
  `{"run_id":${JSON.stringify(job.runId)},"function_id":${JSON.stringify(job.functionId)}` +
  `,"attempt":${job.attempt},"event":${encodeEvent(job.event)},"sent_at":${nowMs}` +
  `,"steps":[${[...encodeCompletedSteps(job, "id", ',"status":"completed"'), ...encodeFailedInvocations(job)].join(",")}]` +
  `${job.secrets === undefined ? "" : `,"secrets":${JSON.stringify(job.secrets)}`}}`

/** Failed invocations as JSON. The error is a string of JSON, since legacy handlers expect such a string. */
const encodeFailedInvocations = ({ journal, runId }: Job): ReadonlyArray<string> =>
  journal.flatMap(({ kind, name, outcome, stepKey }) => {
    if (outcome._tag !== "Failure" || (kind !== "invoke" && kind !== "invokeAsync")) return []
    const { data = {}, message } = outcome.error
    const error = {
      function_id: textOf(data.functionId) || name,
      child_run_id: textOf(data.childRunId) || undefined,
      cause: textOf(data.errorCause) || message
    }
    return [
      JSON.stringify({ id: `${runId}:${stepKey}`, name, status: "failed", error: JSON.stringify(error) })
    ]
  })

const update = decoder(JobUpdate, "The answer")

/** The ops of a push response. Throws `ValidationError` when the response is invalid. */
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
