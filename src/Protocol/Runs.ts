/** Runs, their steps and what happened to them: how they travel, and the calls about them. */
import { InvalidStateError, RunNotFoundError, StepNotFoundError } from "../Errors.ts"
import { type LineLevel, lineLevels } from "../LogFields.ts"
import type { RunError } from "../RunError.ts"
import { isRunStatus, type RunStatus } from "../RunStatus.ts"
import { type StepStatus, stepStatuses } from "../StepStatus.ts"
import {
  also,
  eitherCase,
  fields,
  filled,
  flag,
  integer,
  json,
  list,
  number,
  object,
  oneOf,
  optional,
  orElse,
  plainWord,
  some,
  struct,
  text,
  unless
} from "./Codec.ts"
import type { Action } from "../Policy.ts"
import { listFilters, ListRunsRequest } from "./RunLists.ts"
import type { StepProgress } from "./RunningSteps.ts"
import { each, inBody, inPath, operation, row, type Rule, waiting } from "./Row.ts"

/** One durable execution of a function for one event. Times are ISO strings. */
export interface Run {
  /** Id of the run, `run_...`. */
  readonly id: string
  /** Id of its function. */
  readonly functionId: string
  /** Id of the event that started it. */
  readonly eventId: string
  /** Whether it runs, waits or has ended. */
  readonly status: RunStatus
  /** Attempts of the function, the present one included. */
  readonly attempt: number
  /** How many there may be. */
  readonly maxAttempts: number
  /** Data of the triggering event. */
  readonly input?: unknown
  /** What the function returned, once it has completed. */
  readonly output?: unknown
  /** What it failed with. */
  readonly error?: RunError
  /** The worker that has it in a turn. */
  readonly workerId?: string
  /** The value at the function's `actorKey`. */
  readonly actorId?: string
  /** The run that has invoked it, and waits for it. */
  readonly parentRunId?: string
  /** The run that has invoked it by `invokeAsync`, and does not wait for it: it may be gone. */
  readonly invokedBy?: string
  /** The run that it was forked from, which may be gone. */
  readonly forkedFrom?: string
  /** The version of the function's code that it is pinned to. */
  readonly codeVersion?: string
  /** That of the W3C trace which its event, or the step that has invoked it, was part of: 32 hexadecimal digits. */
  readonly traceId?: string
  /** Why it is paused. */
  readonly pauseReason?: string
  /** When its data was erased: what was data is a mark since, which `isErased` knows. */
  readonly erasedAt?: string
  /** When it was created. */
  readonly createdAt: string
  /** When anything of this changed last. */
  readonly updatedAt: string
  /** When its first turn began. */
  readonly startedAt?: string
  /** When it ended. */
  readonly endedAt?: string
}

/** A run that cannot be read, since its row in the database is damaged. */
export interface DamagedRun {
  /** Id of the run. */
  readonly id: string
  /** What is damaged. */
  readonly message: string
}

/** Newest first. */
export interface ListRunsResult {
  /** As many as were asked for, fewer when they have more than 16 MiB of data. */
  readonly runs: Array<Run>
  /** Runs of the page that are damaged in the database; absent when there are none. */
  readonly damaged?: Array<DamagedRun>
  /**
   * Runs on all pages. Where that would be to count very many, there are at least so many, and `isTotalExact` is `false`: without
   * filters besides one function and one status those among the newest 5,000 that may fit, with others those on this page and the
   * pages before.
   */
  readonly totalCount: number
  /** Whether `totalCount` is all; absent where it is, without filters besides one function and one status. */
  readonly isTotalExact?: boolean
  /** Absent on the last page. Goes on in the same list, with the same filters, while runs come and end. */
  readonly nextCursor?: string
  /** ISO string: the page ended because its time was up, and what was created before that is for the next one. */
  readonly lookedBackTo?: string
  /** ISO string: a function names one of the attributes only lately, and earlier runs are still being filled in. */
  readonly filledBackTo?: string
}

/** A step of a run, in the order in which the handler saw the results; then those that wait, and those that run now. */
export interface RunStep {
  /** The step id, `<run id>:<name>:<n>`; what `patchStep` takes. */
  readonly id: string
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: string
  /** Whether it runs, waits or has ended, and how. */
  readonly status: StepStatus
  /** Executions, the present or last one included. */
  readonly attempt: number
  /** What it returned. */
  readonly output?: unknown
  /** What it failed with, the last time. */
  readonly error?: RunError
  /** When the last execution began. ISO string. */
  readonly startedAt?: string
  /** When it ended. ISO string. */
  readonly endedAt?: string
  /** When a waiting step is due, if it waits for a time or has a timeout. */
  readonly dueAt?: string
  /** The worker at which a running step runs. */
  readonly workerId?: string
  /** The run that the step has invoked, by `invoke` or `invokeAsync`, also when that has ended; absent when it is gone. */
  readonly childRunId?: string
  /** How far a running step says that it has come, when it does. */
  readonly progress?: StepProgress
}

/**
 * Something that happened to a run of a function with `recording: true`.
 *
 * `type` is one of `run.started`, `run.retrying`, `run.paused`, `run.resumed`, `run.retried`, `run.completed`, `run.failed`,
 * `run.cancelled`, `step.completed`, `step.failed`, `step.retrying`, `step.patched`.
 */
export interface AuditEvent {
  /** ISO string. */
  readonly at: string
  /** What happened, as above. */
  readonly type: string
  /** Name of the step that it is about; absent when it is about the run. */
  readonly stepName?: string
  /** The facts, which depend on `type`. */
  readonly details: { readonly [key: string]: unknown }
}

/** A line that the code of a run has logged: by the logger of its handler, or by Effect's. */
export interface RunLogLine {
  /** Lines of a run count from 1; numbers that are missing in front of the first are those of lines that are not kept any more. */
  readonly number: number
  /** ISO string, by the worker's clock. */
  readonly at: string
  /** How important it is. */
  readonly level: LineLevel
  /** What was logged. */
  readonly message: string
  /** The data that was logged with it. */
  readonly data?: unknown
  /** The step in whose code it was logged; absent outside of steps. */
  readonly step?: string
  /** Of the step if there is one, else of the run. */
  readonly attempt?: number
  /** Absent for lines of push handlers. */
  readonly worker?: string
}

/**
 * Why a run is where it is: one current reason, in words and in numbers.
 *
 * `code` is one of `COMPLETED`, `FAILED`, `CANCELLED`, `PAUSED`, `RUNNING`, `STUCK`,
 * `WORKER_STOPPING`, `SLEEPING`, `WAITING_FOR_EVENT`, `WAITING_FOR_CHILD`, `WAITING_FOR_RETRY`, `READY`, `NO_WORKER`, `NO_CAPACITY`,
 * `CONCURRENCY_LIMIT`, `ACTOR_BUSY`, `FUNCTION_PAUSED`, `NO_WORKER_OF_VERSION`, `ENDPOINT_UNAVAILABLE`, `DAMAGED`; `docs/reasons.md` says
 * what to do about each.
 */
export interface Explanation {
  /** Id of the run. */
  readonly runId: string
  /** Whether it runs, waits or has ended. */
  readonly status: RunStatus
  /** The reason, in a word, as above. */
  readonly code: string
  /** A sentence for a person. */
  readonly message: string
  /** The facts behind the sentence: limit and holders, event and match value, due time, worker. */
  readonly details: { readonly [key: string]: unknown }
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A run on the wire. */
export interface WireRun extends Omit<Run, "status" | "error"> {
  /** One of the names that every client knows: a run that is compensating is `RUN_STATUS_RUNNING`. */
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

/** A status as it is sent: under a name that every client knows, and exactly. */
export const encodeStatus = (status: RunStatus): { readonly status: string; readonly state: RunStatus } => ({
  status: wireNames[status],
  state: status
})

/** The run as it is sent. */
export const encodeRun = (run: Run): WireRun => ({
  ...run,
  ...encodeStatus(run.status),
  executionMode: "EXECUTION_MODE_PULL"
})

/** A status in any spelling: `failed`, `FAILED`, `RUN_STATUS_FAILED`. `undefined` when it is none. */
export const decodeRunStatus = (text: string): RunStatus | undefined => {
  const word = text.toLowerCase().replace(/^run_status_/, "")
  // servers with a state for it: the run could be claimed, and no worker has room
  if (word === "waiting_for_capacity") return "pending"
  return isRunStatus(word) ? word : undefined
}

const none = orElse(text, "")
const zero = orElse(integer, 0)

export const RunAnswer = eitherCase(
  fields<WireRun>({
    id: text,
    functionId: none,
    eventId: none,
    status: none,
    attempt: zero,
    maxAttempts: zero,
    input: optional(json),
    output: optional(json),
    // set when the output has errors in it: the members `ironflow:error`, each with name, message, code, cause and stack
    outputHasErrors: optional(flag),
    error: optional(json),
    workerId: optional(filled),
    actorId: optional(filled),
    parentRunId: optional(filled),
    invokedBy: optional(filled),
    forkedFrom: optional(filled),
    codeVersion: optional(filled),
    traceId: optional(filled),
    pauseReason: optional(filled),
    erasedAt: optional(filled),
    startedAt: optional(filled),
    endedAt: optional(filled),
    createdAt: none,
    updatedAt: none,
    state: optional(filled),
    executionMode: optional(text)
  })
)

const Damaged = fields<DamagedRun>({ id: text, message: none })
export const RunPageAnswer = eitherCase(
  struct({
    runs: unless([], some(RunAnswer)),
    damaged: optional(some(Damaged)),
    nextCursor: optional(filled),
    totalCount: unless(0, integer),
    isTotalExact: optional(flag),
    lookedBackTo: optional(filled),
    filledBackTo: optional(filled)
  })
)
/** The same with an empty list where there are none. */
const RestRunPage = struct({
  runs: list(RunAnswer),
  damaged: optional(list(Damaged)),
  nextCursor: optional(text),
  totalCount: unless(0, integer),
  isTotalExact: optional(flag),
  lookedBackTo: optional(text),
  filledBackTo: optional(text)
})

/** A step on the wire. */
export interface WireStep extends Omit<RunStep, "error"> {
  readonly outputHasErrors?: boolean
  readonly error?: unknown
}
const StepAnswer = eitherCase(
  fields<WireStep>({
    id: also(text, "stepId"),
    name: none,
    kind: also(orElse(filled, "run"), "type", "stepType"),
    status: orElse(plainWord("STEP_STATUS", stepStatuses), "waiting"),
    attempt: zero,
    output: optional(json),
    outputHasErrors: optional(flag),
    error: optional(json),
    startedAt: optional(filled),
    endedAt: also(optional(filled), "completedAt"),
    dueAt: optional(filled),
    workerId: optional(filled),
    childRunId: optional(filled),
    progress: optional(fields<StepProgress>({ fraction: optional(number), text: optional(text) }))
  })
)
export const Steps = eitherCase(struct({ steps: unless([], some(StepAnswer)), nextCursor: optional(text) }))

export const Audit = eitherCase(
  struct({
    events: unless(
      [],
      some(
        fields<AuditEvent>({
          at: text,
          type: text,
          stepName: optional(filled),
          details: orElse(object, {})
        })
      )
    ),
    nextCursor: optional(text)
  })
)

export const Logs = eitherCase(
  fields<{ lines: Array<RunLogLine>; nextCursor?: string }>({
    lines: unless(
      [],
      some(
        fields<RunLogLine>({
          number: zero,
          at: text,
          level: orElse(oneOf(...lineLevels), "info"),
          message: none,
          data: optional(json),
          step: optional(filled),
          attempt: optional(integer),
          worker: optional(filled)
        })
      )
    ),
    nextCursor: optional(text)
  })
)

export const Why = eitherCase(
  struct({
    runId: none,
    status: none,
    state: optional(filled),
    code: text,
    message: none,
    details: orElse(object, {})
  })
)

/** `run` is what our engine adds. */
export const Paused = eitherCase(
  struct({
    status: optional(oneOf("pause_requested", "paused")),
    run: optional(RunAnswer)
  })
)

/** The run's id is `id`; some methods of other revisions call it `runId`. */
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
/** An absent `output` is null. */
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
  missing: RunNotFoundError,
  repeats: true
})
export const listRuns = operation("IronflowService/ListRuns", { answer: RunPageAnswer, repeats: true })
export const getRunSteps = operation("IronflowService/GetRunSteps", {
  answer: Steps,
  page: "steps",
  missing: RunNotFoundError,
  repeats: true
})
export const cancelRun = operation("IronflowService/CancelRun", {
  answer: RunAnswer,
  missing: RunNotFoundError
})
export const retryRun = operation("IronflowService/RetryRun", {
  answer: RunAnswer,
  missing: RunNotFoundError
})
export const pauseRun = operation("IronflowService/PauseRun", { answer: Paused, missing: RunNotFoundError })
export const restResumeRun = operation("POST /api/v1/runs/resume", {
  answer: RunAnswer,
  missing: RunNotFoundError
})
export const restRunSteps = operation("GET /api/v1/runs/:id/steps", {
  answer: Steps,
  page: "steps",
  missing: RunNotFoundError
})
export const restPatchStep = operation("POST /api/v1/steps/patch", { answer: StepAnswer })
export const explainRun = operation("GET /api/v1/runs/:id/explain", {
  answer: Why,
  missing: RunNotFoundError,
  ours: true
})
export const waitForRun = operation("GET /api/v1/runs/:id/wait", {
  answer: RunAnswer,
  missing: RunNotFoundError,
  ours: true
})
export const runAudit = operation("GET /api/v1/runs/:id/audit", {
  answer: Audit,
  page: "events",
  missing: RunNotFoundError,
  ours: true
})
export const runLogs = operation("GET /api/v1/runs/:id/logs", {
  answer: Logs,
  page: "lines",
  missing: RunNotFoundError,
  ours: true
})

const notNow = { 409: InvalidStateError } as const
const noStep = { 404: StepNotFoundError, 409: InvalidStateError } as const

export const rows = {
  /** One run. */
  getRun: row(getRun, runInBody("run:read"), { body: RunIdRequest }),
  /** Runs, newest first, in pages: those that fit the filters. */
  listRuns: row(listRuns, each("run:read", "run"), { body: ListRunsRequest }),
  /** The same. */
  restRuns: row("GET /api/v1/runs", each("run:read", "run"), {
    query: ["function_id", "status", "limit", "cursor", ...listFilters],
    answer: RestRunPage
  }),
  /** The steps of a run: finished ones in order, then those that wait and those that run. */
  getRunSteps: row(getRunSteps, runInBody("run:read"), { body: RunIdRequest }),
  /** The same. */
  restRunSteps: row(restRunSteps, "run:read"),
  /** What happened to a run of a function that records it. */
  runAudit: row(runAudit, "run:read"),
  /** What the code of a run has logged, oldest first. */
  runLogs: row(runLogs, "run:read"),
  /** Why a run is where it is. */
  explainRun: row(explainRun, "run:read"),
  /** Answers when the run has ended, or after `timeout` milliseconds, 30 s at most. */
  waitForRun: row(waitForRun, waiting(inPath("run:read", "run", "id")), {
    query: ["timeout"],
    mayBeNothing: true
  }),
  /** Ends a run; one that has ended stays as it is. */
  cancelRun: row(cancelRun, runInBody("run:cancel"), { body: WithReason }),
  /** Has a failed run tried again, from a step or from where it failed. */
  retryRun: row(retryRun, runInBody("run:retry"), {
    body: FromStep,
    errors: notNow
  }),
  /** Lets a paused run go on; a failed one is retried. */
  resumeRun: row("IronflowService/ResumeRun", runInBody("run:resume"), {
    body: FromStep,
    answer: RunAnswer,
    missing: RunNotFoundError,
    errors: notNow
  }),
  /** The same. */
  restResumeRun: row(restResumeRun, runInBody("run:resume"), {
    body: FromStep,
    errors: notNow
  }),
  /** Stops a run before its next step. */
  pauseRun: row(pauseRun, runInBody("run:pause"), {
    body: WithReason,
    errors: notNow
  }),
  // a step id begins with the id of its run: `run:run_1*` covers both
  /** Gives a step another result. */
  patchStep: row("IronflowService/PatchStep", inBody("run:patch", "run", "stepId", "step_id"), {
    body: PatchStep,
    answer: StepAnswer,
    errors: noStep
  }),
  /** The same. */
  restPatchStep: row(restPatchStep, inBody("run:patch", "run", "stepId", "step_id"), {
    body: PatchStep,
    errors: noStep
  })
}
