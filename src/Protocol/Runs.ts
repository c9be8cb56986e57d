/** Runs, their steps, audit records and logs: messages and calls. */
import { InvalidStateError, RunNotFoundError, StepNotFoundError } from "../Errors.ts"
import { type LineLevel, lineLevels } from "../LogFields.ts"
import type { RunError } from "../RunError.ts"
import { isRunStatus, type RunStatus } from "../RunStatus.ts"
import { type StepStatus, stepStatuses } from "../StepStatus.ts"
import {
  camelOrSnake,
  fields,
  nonEmptyText,
  flag,
  integer,
  json,
  lenientList,
  list,
  number,
  object,
  omittedWhen,
  oneOf,
  optional,
  orElse,
  plainWord,
  struct,
  text,
  withLegacyNames
} from "./Codec.ts"
import type { Action } from "../Policy.ts"
import { listFilters, ListRunsRequest } from "./RunLists.ts"
import type { StepProgress } from "./RunningSteps.ts"
import { each, inBody, inPath, operation, callSpec, type Rule, waiting } from "./CallSpec.ts"

/** One durable execution of a function for one event. Times are ISO strings. */
export interface Run {
  /** Id of the run, `run_...`. */
  readonly id: string
  /** Id of the function of the run. */
  readonly functionId: string
  /** Id of the event that started the run. */
  readonly eventId: string
  /** Status of the run. */
  readonly status: RunStatus
  /** Number of attempts of the function, the current one included. */
  readonly attempt: number
  /** Maximum number of attempts. */
  readonly maxAttempts: number
  /** Data of the event that started the run. */
  readonly input?: unknown
  /** The function's result, once it has completed. */
  readonly output?: unknown
  /** The error with which the run failed. */
  readonly error?: RunError
  /** Id of the worker that executes the run's current turn. */
  readonly workerId?: string
  /** The value at the function's `actorKey`. */
  readonly actorId?: string
  /** Id of the run that invoked this run and waits for it. */
  readonly parentRunId?: string
  /** Id of the run that invoked this run with `invokeAsync`, without waiting; the invoking run may be deleted. */
  readonly invokedBy?: string
  /** Id of the run from which this run was forked; the original run may be deleted. */
  readonly forkedFrom?: string
  /** The version of the function's code to which the run is pinned. */
  readonly codeVersion?: string
  /** The W3C trace id of the event that started the run, or of the step that invoked the run: 32 hexadecimal digits. */
  readonly traceId?: string
  /** Why it is paused. */
  readonly pauseReason?: string
  /** When its data was erased and replaced with the mark that `isErased` recognizes. */
  readonly erasedAt?: string
  /** When it was created. */
  readonly createdAt: string
  /** When any of this last changed. */
  readonly updatedAt: string
  /** When its first turn began. */
  readonly startedAt?: string
  /** When it ended. */
  readonly endedAt?: string
}

/** A run that cannot be read because its row in the database is damaged. */
export interface DamagedRun {
  /** Id of the run. */
  readonly id: string
  /** What is damaged. */
  readonly message: string
}

/** A page of runs, newest first. */
export interface ListRunsResult {
  /** The runs. The page is shorter than `limit` when they have more than 16 MiB of data. */
  readonly runs: Array<Run>
  /** Runs of the page that are damaged in the database; absent when there are none. */
  readonly damaged?: Array<DamagedRun>
  /**
   * Number of runs on all pages. If an exact count would be too expensive, this is a lower bound, and `isTotalExact` is `false`.
   * When the only filters are one function, one status or both, the lower bound is the number of matches among the newest 5,000
   * runs that may match, or the number of runs on the pages so far. With other filters it is the number of runs on the pages so
   * far.
   */
  readonly totalCount: number
  /** Whether `totalCount` is exact. When the only filters are one function, one status or both, `true` is left out. */
  readonly isTotalExact?: boolean
  /**
   * Cursor of the next page; absent on the last page. It is valid only with the same filters. Runs that are created meanwhile do
   * not move the pages.
   */
  readonly nextCursor?: string
  /** Set when the time for the page was up: the next page continues with runs created before this time. ISO string. */
  readonly lookedBackTo?: string
  /**
   * Only if a filter uses an attribute whose index is still being built: the index has the runs that were created since
   * this time. ISO string.
   */
  readonly filledBackTo?: string
}

/** A step of a run. Steps are listed in journal order, followed by waiting and running ones. */
export interface RunStep {
  /** The step id, `<run id>:<name>:<n>`; what `patchStep` takes. */
  readonly id: string
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: string
  /** Status of the step. */
  readonly status: StepStatus
  /** Number of attempts, the current or last one included. */
  readonly attempt: number
  /** The step's result. */
  readonly output?: unknown
  /** The error of the last failed attempt. */
  readonly error?: RunError
  /** When the last attempt began, as an ISO string. */
  readonly startedAt?: string
  /** When the last attempt ended, as an ISO string. */
  readonly endedAt?: string
  /** When a waiting step is due, if it waits for a time or has a timeout. ISO string. */
  readonly dueAt?: string
  /** Id of the worker of a running step. */
  readonly workerId?: string
  /**
   * Id of the run that the step started with `invoke` or `invokeAsync`, even after that run has ended; absent once it is deleted.
   */
  readonly childRunId?: string
  /** Progress of a running step, if its code reports any. */
  readonly progress?: StepProgress
}

/**
 * An entry in the audit record of a run, for functions with `recording: true`.
 *
 * `type` is one of `run.started`, `run.retrying`, `run.paused`, `run.resumed`, `run.retried`, `run.completed`, `run.failed`,
 * `run.cancelled`, `step.completed`, `step.failed`, `step.retrying`, `step.patched`.
 */
export interface AuditEvent {
  /** When it happened, as an ISO string. */
  readonly at: string
  /** One of the types above. */
  readonly type: string
  /** Name of the step; absent when the entry is about the run. */
  readonly stepName?: string
  /** Details, which depend on `type`. */
  readonly details: { readonly [key: string]: unknown }
}

/** A log line of a run, written with the logger of its handler or with Effect's logger. */
export interface RunLogLine {
  /** Number of the line in the run, from 1. If the first line has a higher number, earlier lines are no longer kept. */
  readonly number: number
  /** ISO string, by the worker's clock. */
  readonly at: string
  /** Level of the line. */
  readonly level: LineLevel
  /** The message. */
  readonly message: string
  /** The data logged with the message. */
  readonly data?: unknown
  /** Name of the step that logged it; absent outside steps. */
  readonly step?: string
  /** Attempt of the step that logged the line; outside steps, attempt of the run. */
  readonly attempt?: number
  /** Id of the worker; absent for push handlers. */
  readonly worker?: string
}

/**
 * Why a run is in its current state: one reason, with the facts behind it.
 *
 * `code` is one of `COMPLETED`, `FAILED`, `CANCELLED`, `PAUSED`, `RUNNING`, `STUCK`, `WORKER_STOPPING`, `SLEEPING`,
 * `WAITING_FOR_EVENT`, `WAITING_FOR_CHILD`, `WAITING_FOR_RETRY`, `READY`, `NO_WORKER`, `NO_CAPACITY`, `CONCURRENCY_LIMIT`,
 * `ACTOR_BUSY`, `FUNCTION_PAUSED`, `NO_WORKER_OF_VERSION`, `ENDPOINT_UNAVAILABLE`, `DAMAGED`; `docs/reasons.md` says what to do
 * about each.
 */
export interface Explanation {
  /** Id of the run. */
  readonly runId: string
  /** Status of the run. */
  readonly status: RunStatus
  /** The reason: one of the codes above. */
  readonly code: string
  /** The reason as a sentence. */
  readonly message: string
  /** The facts behind the sentence, such as a limit and the runs that use it up, the awaited event, a due time, or a worker. */
  readonly details: { readonly [key: string]: unknown }
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A run on the wire. */
export interface WireRun extends Omit<Run, "status" | "error"> {
  /** A status that every client knows. For a compensating run it is `RUN_STATUS_RUNNING`. */
  readonly status: string
  /** The exact status. Legacy servers do not send it. */
  readonly state?: string
  readonly outputHasErrors?: boolean
  readonly error?: unknown
  readonly executionMode?: string
}

const wireNames: { readonly [S in RunStatus]: string } = {
  pending: "RUN_STATUS_PENDING",
  running: "RUN_STATUS_RUNNING",
  waiting: "RUN_STATUS_WAITING",
  compensating: "RUN_STATUS_RUNNING",
  paused: "RUN_STATUS_PAUSED",
  completed: "RUN_STATUS_COMPLETED",
  failed: "RUN_STATUS_FAILED",
  cancelled: "RUN_STATUS_CANCELLED"
}

/** A status in its two forms on the wire: a name that every client knows, and the exact status. */
export const encodeStatus = (status: RunStatus): { readonly status: string; readonly state: RunStatus } => ({
  status: wireNames[status],
  state: status
})

/** Converts a run to its form on the wire. */
export const encodeRun = (run: Run): WireRun => ({
  ...run,
  ...encodeStatus(run.status),
  executionMode: "EXECUTION_MODE_PULL"
})

/** Reads a status in any spelling: `failed`, `FAILED`, `RUN_STATUS_FAILED`. `undefined` for an unknown status. */
export const decodeRunStatus = (text: string): RunStatus | undefined => {
  const word = text.toLowerCase().replace(/^run_status_/, "")
  // a status of some servers: the run is ready, but no worker has room
  if (word === "waiting_for_capacity") return "pending"
  return isRunStatus(word) ? word : undefined
}

const textOrEmpty = orElse(text, "")
const integerOrZero = orElse(integer, 0)

export const RunAnswer = camelOrSnake(
  fields<WireRun>({
    id: text,
    functionId: textOrEmpty,
    eventId: textOrEmpty,
    status: textOrEmpty,
    attempt: integerOrZero,
    maxAttempts: integerOrZero,
    input: optional(json),
    output: optional(json),
    // true when the output contains errors, as objects with the member `ironflow:error` (name, message, code, cause and stack)
    outputHasErrors: optional(flag),
    error: optional(json),
    workerId: optional(nonEmptyText),
    actorId: optional(nonEmptyText),
    parentRunId: optional(nonEmptyText),
    invokedBy: optional(nonEmptyText),
    forkedFrom: optional(nonEmptyText),
    codeVersion: optional(nonEmptyText),
    traceId: optional(nonEmptyText),
    pauseReason: optional(nonEmptyText),
    erasedAt: optional(nonEmptyText),
    startedAt: optional(nonEmptyText),
    endedAt: optional(nonEmptyText),
    createdAt: textOrEmpty,
    updatedAt: textOrEmpty,
    state: optional(nonEmptyText),
    executionMode: optional(text)
  })
)

const Damaged = fields<DamagedRun>({ id: text, message: textOrEmpty })
export const RunPageAnswer = camelOrSnake(
  struct({
    runs: omittedWhen([], lenientList(RunAnswer)),
    damaged: optional(lenientList(Damaged)),
    nextCursor: optional(nonEmptyText),
    totalCount: omittedWhen(0, integer),
    isTotalExact: optional(flag),
    lookedBackTo: optional(nonEmptyText),
    filledBackTo: optional(nonEmptyText)
  })
)
/** A page of runs over REST. Here an empty list is sent; over ConnectRPC it is left out. */
const RestRunPage = struct({
  runs: list(RunAnswer),
  damaged: optional(list(Damaged)),
  nextCursor: optional(text),
  totalCount: omittedWhen(0, integer),
  isTotalExact: optional(flag),
  lookedBackTo: optional(text),
  filledBackTo: optional(text)
})

/** A step on the wire. */
export interface WireStep extends Omit<RunStep, "error"> {
  readonly outputHasErrors?: boolean
  readonly error?: unknown
}
const StepAnswer = camelOrSnake(
  fields<WireStep>({
    id: withLegacyNames(text, "stepId"),
    name: textOrEmpty,
    kind: withLegacyNames(orElse(nonEmptyText, "run"), "type", "stepType"),
    status: orElse(plainWord("STEP_STATUS", stepStatuses), "waiting"),
    attempt: integerOrZero,
    output: optional(json),
    outputHasErrors: optional(flag),
    error: optional(json),
    startedAt: optional(nonEmptyText),
    endedAt: withLegacyNames(optional(nonEmptyText), "completedAt"),
    dueAt: optional(nonEmptyText),
    workerId: optional(nonEmptyText),
    childRunId: optional(nonEmptyText),
    progress: optional(fields<StepProgress>({ fraction: optional(number), text: optional(text) }))
  })
)
export const Steps = camelOrSnake(
  struct({ steps: omittedWhen([], lenientList(StepAnswer)), nextCursor: optional(text) })
)

export const Audit = camelOrSnake(
  struct({
    events: omittedWhen(
      [],
      lenientList(
        fields<AuditEvent>({
          at: text,
          type: text,
          stepName: optional(nonEmptyText),
          details: orElse(object, {})
        })
      )
    ),
    nextCursor: optional(text)
  })
)

export const Logs = camelOrSnake(
  fields<{ lines: Array<RunLogLine>; nextCursor?: string }>({
    lines: omittedWhen(
      [],
      lenientList(
        fields<RunLogLine>({
          number: integerOrZero,
          at: text,
          level: orElse(oneOf(...lineLevels), "info"),
          message: textOrEmpty,
          data: optional(json),
          step: optional(nonEmptyText),
          attempt: optional(integer),
          worker: optional(nonEmptyText)
        })
      )
    ),
    nextCursor: optional(text)
  })
)

export const ExplanationCodec = camelOrSnake(
  struct({
    runId: textOrEmpty,
    status: textOrEmpty,
    state: optional(nonEmptyText),
    code: text,
    message: textOrEmpty,
    details: orElse(object, {})
  })
)

/** The answer to `pauseRun`. Only the engine of this package sends `run`. */
export const Paused = camelOrSnake(
  struct({
    status: optional(oneOf("pause_requested", "paused")),
    run: optional(RunAnswer)
  })
)

/** The id of a run: `id`, or `runId` from clients of some other versions. */
export interface RunId {
  readonly id?: string
  readonly runId?: string
}
const RunIdRequest = fields<RunId>({ id: optional(text), runId: optional(text) })
const WithReason = fields<RunId & { reason?: string }>({
  id: optional(text),
  runId: optional(text),
  reason: optional(text)
})
const FromStep = fields<RunId & { fromStep?: string }>({
  id: optional(text),
  runId: optional(text),
  fromStep: optional(text)
})
/** The new result of a step; an absent `output` is null. */
const PatchStep = struct({
  stepId: text,
  output: optional(json),
  reason: optional(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

/* @__NO_SIDE_EFFECTS__ */
function runInBody(action: Action): Rule {
  return inBody(action, "run", "id", "runId", "run_id")
}

export const getRun = operation("IronflowService/GetRun", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError,
  repeats: true
})
export const listRuns = operation("IronflowService/ListRuns", { answer: RunPageAnswer, repeats: true })
export const getRunSteps = operation("IronflowService/GetRunSteps", {
  answer: Steps,
  page: "steps",
  notFoundError: RunNotFoundError,
  repeats: true
})
export const cancelRun = operation("IronflowService/CancelRun", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError
})
export const retryRun = operation("IronflowService/RetryRun", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError
})
export const pauseRun = operation("IronflowService/PauseRun", {
  answer: Paused,
  notFoundError: RunNotFoundError
})
export const restResumeRun = operation("POST /api/v1/runs/resume", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError
})
export const restRunSteps = operation("GET /api/v1/runs/:id/steps", {
  answer: Steps,
  page: "steps",
  notFoundError: RunNotFoundError
})
export const restPatchStep = operation("POST /api/v1/steps/patch", { answer: StepAnswer })
export const explainRun = operation("GET /api/v1/runs/:id/explain", {
  answer: ExplanationCodec,
  notFoundError: RunNotFoundError,
  onlyOurEngine: true
})
export const waitForRun = operation("GET /api/v1/runs/:id/wait", {
  answer: RunAnswer,
  notFoundError: RunNotFoundError,
  onlyOurEngine: true
})
export const runAudit = operation("GET /api/v1/runs/:id/audit", {
  answer: Audit,
  page: "events",
  notFoundError: RunNotFoundError,
  onlyOurEngine: true
})
export const runLogs = operation("GET /api/v1/runs/:id/logs", {
  answer: Logs,
  page: "lines",
  notFoundError: RunNotFoundError,
  onlyOurEngine: true
})

const invalidState = { 409: InvalidStateError } as const
const stepErrors = { 404: StepNotFoundError, 409: InvalidStateError } as const

export const callSpecs = {
  /** Returns a run. */
  getRun: callSpec(getRun, runInBody("run:read"), { body: RunIdRequest }),
  /** Lists the runs that match the filters, newest first, in pages. */
  listRuns: callSpec(listRuns, each("run:read", "run"), { body: ListRunsRequest }),
  /** Lists the runs that match the filters of the query, newest first, in pages. */
  restRuns: callSpec("GET /api/v1/runs", each("run:read", "run"), {
    query: ["function_id", "status", "limit", "cursor", ...listFilters],
    answer: RestRunPage
  }),
  /** Lists the steps of a run: finished steps in order, then waiting and running ones. */
  getRunSteps: callSpec(getRunSteps, runInBody("run:read"), { body: RunIdRequest }),
  /** Lists the steps of the run in the path: finished steps in order, then waiting and running ones. */
  restRunSteps: callSpec(restRunSteps, "run:read"),
  /** Returns the audit record of a run, if its function records it. */
  runAudit: callSpec(runAudit, "run:read"),
  /** Returns the log lines of a run, oldest first. */
  runLogs: callSpec(runLogs, "run:read"),
  /** Explains why a run is in its current state. */
  explainRun: callSpec(explainRun, "run:read"),
  /** Answers when the run has ended; with 204 when it has not ended after `timeout` milliseconds, at most 30 s. */
  waitForRun: callSpec(waitForRun, waiting(inPath("run:read", "run", "id")), {
    query: ["timeout"],
    mayBeNothing: true
  }),
  /** Cancels a run; a run that has ended is returned unchanged. */
  cancelRun: callSpec(cancelRun, runInBody("run:cancel"), { body: WithReason }),
  /** Retries a failed or cancelled run, from the step `fromStep` or from where it ended. */
  retryRun: callSpec(retryRun, runInBody("run:retry"), {
    body: FromStep,
    errors: invalidState
  }),
  /** Resumes a paused run, or retries a failed or cancelled run. */
  resumeRun: callSpec("IronflowService/ResumeRun", runInBody("run:resume"), {
    body: FromStep,
    answer: RunAnswer,
    notFoundError: RunNotFoundError,
    errors: invalidState
  }),
  /** Does what `ResumeRun` does. */
  restResumeRun: callSpec(restResumeRun, runInBody("run:resume"), {
    body: FromStep,
    errors: invalidState
  }),
  /** Pauses a run: running steps are finished, and no other step begins. */
  pauseRun: callSpec(pauseRun, runInBody("run:pause"), {
    body: WithReason,
    errors: invalidState
  }),
  // the resource is the step id, which begins with the id of the run: so a policy for `run:run_1*` covers runs and their steps
  /** Replaces the result of a finished step, or completes an unfinished step. */
  patchStep: callSpec("IronflowService/PatchStep", inBody("run:patch", "run", "stepId", "step_id"), {
    body: PatchStep,
    answer: StepAnswer,
    errors: stepErrors
  }),
  /** Does what `PatchStep` does. */
  restPatchStep: callSpec(restPatchStep, inBody("run:patch", "run", "stepId", "step_id"), {
    body: PatchStep,
    errors: stepErrors
  })
}
