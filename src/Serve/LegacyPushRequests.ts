/** Reads the request of a legacy server, and makes the response from the end of a turn. */
import { InvokeError, serializeError, TimeoutError, ValidationError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import {
  type CompletedStep,
  completedStatuses,
  type PushRequest,
  type PushResponse,
  type ResumeContext,
  resumeTypes
} from "../Protocol/Push.ts"
import { failedId, type LegacyJob, readJob } from "../Worker/LegacyJob.ts"
import { type LegacyEnd, outputField } from "../Worker/LegacyOps.ts"
import type { LegacyTurn } from "../Worker/LegacyTurn.ts"
import {
  check,
  number,
  object,
  oneOf,
  optional,
  type Problems,
  throwIfInvalid,
  present,
  text,
  texts,
  version
} from "./FieldRules.ts"

const requestRules = {
  run_id: text,
  function_id: text,
  attempt: number,
  resume: optional(object),
  secrets: optional(texts)
}
const eventRules = {
  id: text,
  name: text,
  data: present,
  timestamp: text,
  version: optional(version),
  idempotency_key: optional(text),
  source: optional(text),
  metadata: optional(object)
}
const stepRules = {
  id: text,
  name: text,
  status: oneOf(...completedStatuses),
  error: optional(text)
}
const resumeRules = {
  step_id: text,
  type: oneOf(...resumeTypes)
}

/** Checks the request, and returns it. Throws a `ValidationError` that names every invalid field. */
export const readPushRequest = (body: unknown): PushRequest => {
  const problems: Problems = []
  check("", body, requestRules, problems)
  if (isObject(body)) {
    check("event", body.event, eventRules, problems)
    const { resume, steps } = body
    if (isObject(resume)) check("resume", resume, resumeRules, problems)
    if (Array.isArray(steps)) steps.forEach((step, i) => check(`steps.${i}`, step, stepRules, problems))
    else if (steps !== undefined && steps !== null) problems.push("steps: must be an array")
  }
  throwIfInvalid("push request", problems)
  // every field that is read was checked above
  return body as PushRequest
}

/** Makes a job of the request. `jobId` must be different for each request. Throws `ValidationError` for an invalid job. */
export const jobOf = (request: PushRequest, jobId: string, environment: string, nowMs: number): LegacyJob => {
  const steps = request.steps ?? []
  const job = readJob(
    {
      job_id: jobId,
      run_id: request.run_id,
      function_id: request.function_id,
      attempt: request.attempt,
      event: request.event,
      completed_steps: [...steps.flatMap(resultsOfStep), ...resultsOfResume(request.resume, steps)],
      context: { secrets: request.secrets ?? {} }
    },
    environment,
    nowMs
  )
  if (typeof job === "string") throw new ValidationError(`The push request is not valid: ${job}`)
  return job
}

/** The result of a step for the next turn: the output of a completed step, or the error of what the step waited for. */
const resultsOfStep = ({ error = "", id, name, output, status }: CompletedStep): ReadonlyArray<unknown> => {
  if (status === "completed") return [{ step_id: id, name, output }]
  const details = safeJsonParse(error)
  const failed = (reason: Error) => [
    { step_id: failedId(id), name, output: { error: serializeError(reason, { stack: false }) } }
  ]
  if (isObject(details) && typeof details.function_id === "string") {
    const { cause, child_run_id, function_id, message } = details
    const why =
      typeof cause === "string" ? cause : typeof message === "string" ? message : "it gave no reason"
    return failed(
      new InvokeError(function_id, typeof child_run_id === "string" ? child_run_id : undefined, why)
    )
  }
  if (status === "timed_out") {
    return failed(
      new TimeoutError(`Step "${name}" timed out: ${error || "what it waited for did not come"}`, 0, {
        retryable: false
      })
    )
  }
  // a step whose code has failed runs again
  return []
}

const resultsOfResume = (
  resume: ResumeContext | undefined,
  steps: ReadonlyArray<CompletedStep>
): ReadonlyArray<unknown> => {
  if (resume === undefined || steps.some(({ id, status }) => id === resume.step_id && status === "completed"))
    return []
  switch (resume.type) {
    case "sleep":
      return [{ step_id: resume.step_id, name: resume.step_id, output: null }]
    case "wait_for_event":
      return isObject(resume.data)
        ? [{ step_id: resume.step_id, name: resume.step_id, output: resume.data }]
        : []
    default:
      return []
  }
}

/** Makes the response from the end of the turn. */
export const responseOf = ({ steps }: LegacyTurn, end: LegacyEnd): PushResponse => {
  switch (end.status) {
    case "completed":
      return { status: "completed", steps, ...outputField("result", end.output) }
    case "yielded":
      return { status: "yielded", steps, yield: end.yield }
    case "failed": {
      const { code = "ERROR", data, message, stack } = end.error
      const stepId = isObject(data?.details) ? data.details.stepId : data?.stepId
      return {
        status: "failed",
        steps,
        error: {
          message,
          code,
          retryable: end.retryable,
          ...(typeof stepId === "string" ? { step_id: stepId } : {}),
          ...(stack === undefined ? {} : { stack })
        }
      }
    }
  }
}
