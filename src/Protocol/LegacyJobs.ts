/**
 * Converts jobs for legacy polling workers, and the updates that these workers send. Such a worker receives only
 * completed steps, and ends a turn with at most one wait (a "yield"). What an update leaves out, such as the kind of a
 * step, is derived here.
 *
 * A job id contains the lease and the run, so that an engine that was started after the dispatch can apply an update.
 * The id is unique for each dispatch, so that an update of an earlier dispatch is refused. Newer legacy servers
 * also send a lease token, which makes the worker call `/ack` before every job. This engine sends no such token: the
 * worker would learn nothing from `/ack` that it does not learn from the answer to its first update.
 */
import { type RetryPolicy, retryDelayMs } from "../Backoff.ts"
import { parseDuration } from "../Duration.ts"
import { type SerializedError, serializeError, ValidationError } from "../Errors.ts"
import { type JsonText, encodeJson } from "../Json.ts"
import { hasErrors, plainResult } from "../ResultEncoding.ts"
import { checkSize, stepResultBytes } from "../Limits.ts"
import { anyOf, flag, json, list, number, optional, struct, text, type TypeOf } from "./Codec.ts"
import type { Job, TurnOp } from "./Worker.ts"
import type { StepKind } from "../StepKind.ts"

const error = optional(
  struct({
    message: optional(text),
    code: optional(text),
    retryable: optional(flag),
    stack: optional(text)
  })
)
const StepResult = struct({
  id: text,
  name: optional(text),
  type: optional(text),
  status: text,
  startedAt: optional(text),
  endedAt: optional(text),
  output: optional(json),
  error
})
const Yield = struct({
  type: text,
  stepId: text,
  until: optional(text),
  eventFilter: optional(
    struct({ event: text, match: optional(text), timeout: optional(anyOf(text, number)) })
  ),
  functionId: optional(text),
  input: optional(json),
  invokeTimeoutMs: optional(number)
})
/** An update of a job. */
export const JobUpdate = struct({
  status: text,
  output: optional(json),
  error,
  steps: optional(list(StepResult)),
  yield: optional(Yield)
})

export type Update = TypeOf<typeof JobUpdate>
type Step = TypeOf<typeof StepResult>
type YieldUpdate = TypeOf<typeof Yield>

// ---------------------------------------------------------------------------------------------------------------------
// Ids
// ---------------------------------------------------------------------------------------------------------------------

/** Makes the id of a job for legacy workers. */
export const legacyJobId = (job: Pick<Job, "jobId" | "runId">): string => `${job.jobId}~${job.runId}`

/** The lease and the run in the id of a job; `undefined` when the id does not have the form of {@link legacyJobId}. */
export const readJobId = (id: string): Pick<Job, "jobId" | "runId"> | undefined => {
  const at = id.indexOf("~")
  return at <= 0 || at === id.length - 1 ? undefined : { jobId: id.slice(0, at), runId: id.slice(at + 1) }
}

const readStepKey = (runId: string, stepId: string): string => {
  const prefix = `${runId}:`
  if (stepId.startsWith(prefix) && stepId.length > prefix.length) return stepId.slice(prefix.length)
  throw new ValidationError(
    `Step id "${stepId.slice(0, 256)}" must be the run id, a colon and the key of the step, as in "${prefix}charge:0"`
  )
}

/** Splits a step key: `fetch-all:1:profile:0` has the scope `fetch-all:1:` (the branch) and the name `profile`. */
const splitStepKey = (stepKey: string): { readonly scope: string; readonly name: string } => {
  const parts = stepKey.match(/(?:[^\\:]|\\.)+/gs) ?? [stepKey]
  const name = parts.at(-2) ?? stepKey
  const scope = parts
    .slice(0, -2)
    .map((part) => `${part}:`)
    .join("")
  return { scope, name: name.replace(/\\(.)/gs, "$1") }
}

// ---------------------------------------------------------------------------------------------------------------------
// To the worker
// ---------------------------------------------------------------------------------------------------------------------

/** The JSON of a job. Values are embedded in their stored form. */
export const encodeJob = (job: Job): string => {
  const steps = encodeCompletedSteps(job, "step_id")
  return (
    `{"job_id":${JSON.stringify(legacyJobId(job))},"run_id":${JSON.stringify(job.runId)}` +
    `,"function_id":${JSON.stringify(job.functionId)},"attempt":${job.attempt}` +
    `,"event":${encodeEvent(job.event)}` +
    `,"completed_steps":[${steps.join(",")}]` +
    `${job.secrets === undefined ? "" : `,"context":${JSON.stringify({ secrets: job.secrets })}`}}`
  )
}

/** The event of a job as JSON. */
export const encodeEvent = (event: Job["event"]): string =>
  `{"id":${JSON.stringify(event.id)},"name":${JSON.stringify(event.name)},"version":${event.version}` +
  `,"data":${event.data},"timestamp":"${new Date(event.timestamp).toISOString()}"` +
  `${event.metadata === undefined ? "" : `,"metadata":${event.metadata}`}}`

/**
 * The successful steps as JSON, without those of kind `parallel`. The id of a step is the member `idField`; `more` is the JSON
 * of further members.
 */
export const encodeCompletedSteps = (
  { journal, runId }: Job,
  idField: "id" | "step_id",
  more = ""
): ReadonlyArray<string> =>
  journal.flatMap(({ kind, name, outcome, stepKey }) =>
    outcome._tag === "Success" && kind !== "parallel"
      ? [
          `{"${idField}":${JSON.stringify(`${runId}:${stepKey}`)},"name":${JSON.stringify(name)}${more}` +
            `,"output":${encodeOutput(kind, outcome.value)}}`
        ]
      : []
  )

export const encodeOutput = (kind: StepKind, value: JsonText | undefined): JsonText => {
  if (kind !== "invokeAsync" || value === undefined) {
    return hasErrors(value) ? JSON.stringify(plainResult(value)) : (value ?? "null")
  }
  // the store writes the result of this kind of step as {"runId"}
  const { runId } = JSON.parse(value) as { readonly runId: string }
  return JSON.stringify({ run_id: runId })
}

// ---------------------------------------------------------------------------------------------------------------------
// From the worker
// ---------------------------------------------------------------------------------------------------------------------

/** The attempts and the retry policy of an update's run. They are loaded only if {@link needsAttempts} says so. */
export interface Attempts {
  /** Number of attempts of the run, the current one included. */
  readonly attempt: number
  readonly retry: RetryPolicy
}

/** Whether reading the update requires the attempts of its run. */
export const needsAttempts = (update: Update): boolean => update.status === "failed"

/**
 * The ops of an update. Throws `ValidationError` for an unknown status, an invalid yield, or a step of another run. `now` is in
 * epoch milliseconds.
 */
export const readUpdate = (
  runId: string,
  update: Update,
  attempts: Attempts | undefined,
  now: number
): ReadonlyArray<TurnOp> => {
  const steps = update.steps ?? []
  switch (update.status) {
    case "progress":
      return completedStepOps(runId, steps, now)
    case "completed":
      return [...stepOps(runId, steps, now), { _tag: "Complete", output: outputOf(update) }]
    case "failed":
      return readFailed(runId, update, attempts, now)
    case "yielded":
      if (update.yield === undefined)
        throw new ValidationError('An update with status "yielded" needs `yield`')
      return [...completedStepOps(runId, steps, now), ...readYield(runId, update.yield, now)]
    default:
      throw new ValidationError(
        `"${update.status.slice(0, 64)}" is not a status of a job: use progress, completed, failed or yielded`
      )
  }
}

const outputOf = (update: Update): JsonText | undefined =>
  "output" in update ? encodeValue(update.output, "Output of the run") : undefined

const encodeValue = (value: unknown, what: string): JsonText =>
  checkSize(what, encodeJson(value, what) ?? "null", stepResultBytes)

const readFailed = (
  runId: string,
  update: Update,
  attempts: Attempts | undefined,
  now: number
): ReadonlyArray<TurnOp> => {
  const steps = update.steps ?? []
  const error = readError(update.error, "The handler failed and did not say why")
  if (attempts !== undefined && error.retryable === true && attempts.attempt < attempts.retry.maxAttempts) {
    const afterMs = retryDelayMs(attempts.retry, attempts.attempt)
    // failed steps are not recorded, so that they run again
    return [...completedStepOps(runId, steps, now), { _tag: "RetryRun", error, due: { afterMs } }]
  }
  return [...stepOps(runId, steps, now), { _tag: "Fail", error }]
}

const readError = (error: Update["error"], defaultMessage: string): SerializedError => ({
  name: "Error",
  message: error?.message ?? defaultMessage,
  code: error?.code ?? "ERROR",
  retryable: error?.retryable ?? false,
  ...(error?.stack === undefined ? {} : { stack: error.stack })
})

const completedStepOps = (runId: string, steps: ReadonlyArray<Step>, now: number): ReadonlyArray<TurnOp> =>
  stepOps(
    runId,
    steps.filter(({ status }) => status === "completed"),
    now
  )

const stepOps = (runId: string, steps: ReadonlyArray<Step>, now: number): ReadonlyArray<TurnOp> =>
  steps.map((step) => {
    const stepKey = readStepKey(runId, step.id)
    const name = step.name ?? splitStepKey(stepKey).name
    return {
      _tag: "StepDone",
      stepKey,
      name,
      kind: kindOf(step, name),
      outcome:
        step.status === "completed"
          ? {
              _tag: "Success",
              value: "output" in step ? encodeValue(step.output, `Output of step "${name}"`) : undefined
            }
          : { _tag: "Failure", error: readError(step.error, `Step "${name}" failed and did not say why`) },
      attempt: 1,
      startedAt: readTime(step.startedAt, now),
      endedAt: readTime(step.endedAt, now)
    }
  })

/** The kind of a step. Legacy workers record a publish as an ordinary step, whose name begins with `publish:`. */
const kindOf = (step: Step, name: string): StepKind => {
  if (step.type === "compensate") return "compensate"
  return name.startsWith("publish:") ? "publish" : "run"
}

const readTime = (text: string | undefined, defaultTime: number): number => {
  const time = text === undefined ? Number.NaN : Date.parse(text)
  return Number.isNaN(time) ? defaultTime : time
}

const readYield = (runId: string, yielded: YieldUpdate, now: number): ReadonlyArray<TurnOp> => {
  const stepKey = readStepKey(runId, yielded.stepId)
  const { name, scope } = splitStepKey(stepKey)
  const suspend: TurnOp = { _tag: "Suspend", open: [stepKey] }
  switch (yielded.type) {
    case "sleep": {
      const at = readTime(yielded.until, Number.NaN)
      if (Number.isNaN(at)) {
        throw new ValidationError(
          `The sleep "${name}" needs \`until\`, a time such as "${new Date(now).toISOString()}"`
        )
      }
      return [{ _tag: "Sleep", stepKey, name, due: { at } }, suspend]
    }
    case "wait_for_event": {
      const filter = yielded.eventFilter
      if (filter === undefined || filter.event.trim() === "") {
        throw new ValidationError(`The wait "${name}" needs \`event_filter\` with the name of an event`)
      }
      const timeoutMs = parseDuration(filter.timeout || "7d")
      return [
        {
          _tag: "WaitForEvent",
          stepKey,
          name,
          scope,
          event: filter.event.trim(),
          timeout: { afterMs: timeoutMs },
          timeoutMs,
          ...(filter.match ? { match: filter.match } : {})
        },
        suspend
      ]
    }
    case "invoke_function":
    case "invoke_function_async": {
      const { functionId } = yielded
      if (!functionId) throw new ValidationError(`The invoke "${name}" needs \`function_id\``)
      const input =
        "input" in yielded ? encodeValue(yielded.input, `Input for function "${functionId}"`) : undefined
      return yielded.type === "invoke_function"
        ? [
            {
              _tag: "Invoke",
              stepKey,
              name,
              functionId,
              input,
              timeoutMs: yielded.invokeTimeoutMs || DEFAULT_INVOKE_TIMEOUT_MS
            },
            suspend
          ]
        : // the run has nothing to wait for: it continues with the id of its child
          [
            { _tag: "InvokeAsync", stepKey, name, functionId, input },
            { _tag: "Suspend", open: [] }
          ]
    }
    default:
      throw new ValidationError(
        `"${yielded.type.slice(0, 64)}" is not a yield: use sleep, wait_for_event, invoke_function or invoke_function_async`
      )
  }
}

const DEFAULT_INVOKE_TIMEOUT_MS = 30_000

/** The ops that fail a run whose update is too large to store. */
export const failTooLargeOps = (error: ValidationError): ReadonlyArray<TurnOp> => [
  { _tag: "Fail", error: serializeError(error, { stack: false }) }
]
