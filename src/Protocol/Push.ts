/**
 * What an engine and a push handler say to each other, independent of who carries the requests.
 *
 * The engine of this package first asks what an endpoint is (`describe`). One of this package it then sends whole turns:
 * a {@link TurnRequest} carries a job, and the answer the ops that the engine does not have yet. While such a turn lives,
 * its handler may report ops to the engine, and ask it for notices, with requests of its own ({@link TurnUpdate}): what
 * was reported is not lost with the response.
 *
 * Legacy handlers and engines exchange a {@link PushRequest} and a {@link PushResponse}.
 *
 * `sent_at` is signed with the rest of the body. A handler refuses what was sent too long ago, and a turn that it has
 * had before: a request that somebody has recorded is worth nothing.
 */
import { EndpointNotFoundError, EndpointUnavailableError } from "../Errors.ts"
import { fields, flag, json, list, number, object, optional, orElse, some, struct, text } from "./Codec.ts"
import { Trigger } from "./Functions.ts"
import type { RunningStep } from "./RunningSteps.ts"
import type { WireTurnAck } from "./Http/Turns.ts"
import { all, each, operation, row, waiting } from "./Row.ts"
import type { FunctionRegistration, Job, Notice, TurnLogs, TurnOp } from "./Worker.ts"

/** The version of {@link TurnRequest} that a handler names in its description. */
export const PUSH_TURNS_VERSION = 1

export interface DescribeRequest {
  readonly type: "describe"
  /** Epoch milliseconds. */
  readonly sent_at: number
}

export const describeRequest = (nowMs: number): DescribeRequest => ({ type: "describe", sent_at: nowMs })

export interface Description {
  readonly type: "description"
  readonly capabilities: { readonly turns: number }
  readonly environment: string
  readonly functions: ReadonlyArray<FunctionRegistration>
}

export interface TurnRequest {
  readonly type: "turn"
  /** Epoch milliseconds. */
  readonly sent_at: number
  readonly job: Job
}

export const turnRequest = (job: Job, nowMs: number): TurnRequest => ({ type: "turn", sent_at: nowMs, job })

export interface TurnResponse {
  readonly type: "turn"
  /** In order; the last one ends the turn, unless the engine has that one already. */
  readonly ops: ReadonlyArray<TurnOp>
  readonly logs?: TurnLogs
}

/** `POST /api/v1/push/turns/:jobId`: from the handler of a turn that lives, to {@link TurnUpdated}. */
export interface TurnUpdate {
  readonly runId: string
  readonly ops: ReadonlyArray<TurnOp>
  /** Comes with ops alone. */
  readonly logs?: TurnLogs
  /** Waits this long for a notice, milliseconds, when there is none. */
  readonly waitMs?: number
  /** The steps whose code runs, when the handler asks for notices. */
  readonly running?: ReadonlyArray<RunningStep>
  /** The handler knows the notices `Paused` and `Resumed`, and `paused` in an answer. */
  readonly pauses?: boolean
  /** A step was called after the turn had ended; see `WorkerSession.late`. */
  readonly late?: { readonly stepName: string; readonly lingerMs: number }
}

export interface TurnUpdated {
  readonly ack: WireTurnAck
  readonly notices: ReadonlyArray<Notice>
}

// ---------------------------------------------------------------------------------------------------------------------
// Legacy handlers and engines
// ---------------------------------------------------------------------------------------------------------------------

/** A request to run one segment of a function. */
export interface PushRequest {
  /** Id of the run. */
  readonly run_id: string
  /** Id of its function. */
  readonly function_id: string
  /** Attempts of the function, this one included. */
  readonly attempt: number
  /** The event that started the run. */
  readonly event: {
    readonly id: string
    readonly name: string
    /** 1 by default. */
    readonly version?: number
    readonly data: unknown
    /** RFC 3339. */
    readonly timestamp: string
    readonly idempotency_key?: string
    readonly source?: string
    readonly metadata?: Record<string, unknown>
  }
  /** Steps that earlier segments have finished. */
  readonly steps?: ReadonlyArray<CompletedStep>
  /** Why this segment begins. */
  readonly resume?: ResumeContext
  /** Values of the secrets that the function names. */
  readonly secrets?: Record<string, string>
}

export const completedStatuses = ["completed", "failed", "timed_out"] as const

/** A step that an earlier segment has finished. */
export interface CompletedStep {
  /** Id of the step. */
  readonly id: string
  /** Name of the step. */
  readonly name: string
  /** How it ended. */
  readonly status: (typeof completedStatuses)[number]
  /** What it returned. */
  readonly output?: unknown
  /** A structured error is JSON text. */
  readonly error?: string
}

export const resumeTypes = ["sleep", "wait_for_event", "invoke_function", "invoke_function_async"] as const

/** What the run has waited for, and what came of it. */
export interface ResumeContext {
  /** Id of the step that waited. */
  readonly step_id: string
  /** What kind of step it is. */
  readonly type: (typeof resumeTypes)[number]
  /** The event that came, or what the other function returned. */
  readonly data?: unknown
}

/** A step that was executed in this segment. */
export interface StepResult {
  /** Id of the step. */
  readonly id: string
  /** Name of the step. */
  readonly name: string
  /** Whether it is a step or a compensation. */
  readonly type: "invoke" | "compensate"
  /** How it ended. */
  readonly status: "completed" | "failed"
  /** RFC 3339. */
  readonly started_at: string
  /** RFC 3339. */
  readonly ended_at: string
  /** How long it took, in milliseconds. */
  readonly duration_ms: number
  /** What it returned. */
  readonly output?: unknown
  /** What it failed with. */
  readonly error?: { readonly message: string; readonly retryable: boolean; readonly stack?: string }
  /** Name of the step that a compensation undoes. */
  readonly compensation_for?: string
}

/** The run waits for a time. */
export interface SleepYield {
  /** What kind of wait it is. */
  readonly type: "sleep"
  /** Id of the step that waits. */
  readonly step_id: string
  /** RFC 3339. */
  readonly until: string
}

/** The run waits for an event. */
export interface WaitEventYield {
  /** What kind of wait it is. */
  readonly type: "wait_for_event"
  /** Id of the step that waits. */
  readonly step_id: string
  /** Which event, and how long: a duration such as `"48h"`. */
  readonly event_filter: { readonly event: string; readonly match?: string; readonly timeout: string }
}

/** The run waits for the run of another function. */
export interface InvokeFunctionYield {
  /** What kind of wait it is. */
  readonly type: "invoke_function"
  /** Id of the step that waits. */
  readonly step_id: string
  /** Id of the function to run. */
  readonly function_id: string
  /** The data of its event. */
  readonly input?: unknown
  /** How long to wait, in milliseconds. */
  readonly invoke_timeout_ms: number
}

/** The run goes on as soon as the run of another function is there. */
export interface InvokeFunctionAsyncYield {
  /** What kind of wait it is. */
  readonly type: "invoke_function_async"
  /** Id of the step that waits. */
  readonly step_id: string
  /** Id of the function to run. */
  readonly function_id: string
  /** The data of its event. */
  readonly input?: unknown
}

/** What the run waits for before its next segment. */
export type YieldInfo = SleepYield | WaitEventYield | InvokeFunctionYield | InvokeFunctionAsyncYield

/** What came of a segment; the status of the response is 200 whichever. */
export type PushResponse =
  | {
      /** How the segment ended. */ readonly status: "completed"
      /** Steps that were executed in it. */ readonly steps: ReadonlyArray<StepResult>
      /** What the function returned. */ readonly result?: unknown
    }
  | {
      /** How the segment ended. */ readonly status: "yielded"
      /** Steps that were executed in it. */ readonly steps: ReadonlyArray<StepResult>
      /** What the run waits for. */ readonly yield: YieldInfo
    }
  | {
      /** How the segment ended. */
      readonly status: "failed"
      /** Steps that were executed in it. */
      readonly steps: ReadonlyArray<StepResult>
      /** What the function failed with. */
      readonly error: {
        readonly message: string
        readonly code: string
        readonly retryable: boolean
        readonly step_id?: string
        readonly stack?: string
      }
    }

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

/** A handler that a server calls for the turns of its functions. */
export interface PushEndpoint {
  /** Where it is called. */
  readonly url: string
  /** Ids of the functions that it has. */
  readonly functionIds: ReadonlyArray<string>
  /** Whether it answered the last time. */
  readonly available: boolean
  /** Why it is not available. */
  readonly problem?: string
}

const Endpoint = fields<PushEndpoint>({
  url: text,
  functionIds: orElse(some(text), []),
  available: orElse(flag, false),
  problem: optional(text)
})
const Endpoints = struct({ endpoints: some(Endpoint), nextCursor: optional(text) })
const Registered = struct({
  url: text,
  functions: some(struct({ id: text, name: text, triggers: list(Trigger) }))
})
// read by `TurnReports.ts`
const Update = struct({
  runId: text,
  ops: list(object),
  waitMs: optional(number),
  running: optional(json),
  pauses: optional(flag),
  late: optional(struct({ stepName: text, lingerMs: number }))
})
const Updated = struct({ ack: object, notices: list(object) })

/** What a push handler reports while its turn lives. */
export const pushTurn = operation("POST /api/v1/push/turns/:jobId", { answer: Updated, repeats: true })
export const listPushEndpoints = operation("GET /api/v1/push/endpoints", {
  answer: Endpoints,
  page: "endpoints"
})
export const registerPushEndpoint = operation("POST /api/v1/push/endpoints", { answer: Registered })
export const removePushEndpoint = operation("DELETE /api/v1/push/endpoints", { repeats: true })

export const rows = {
  /** What has happened in a turn that a handler is at, and what it has to know of it. */
  pushTurn: row(pushTurn, waiting(all("worker:run", "worker")), { fromWorker: true, body: Update }),
  /** The endpoints that are called for turns. */
  listPushEndpoints: row(listPushEndpoints, each("function:read", "function")),
  /** Asks the handler at a URL for its functions, and registers them. */
  registerPushEndpoint: row(registerPushEndpoint, waiting(all("function:register", "function")), {
    body: struct({ url: text }),
    errors: { 502: EndpointUnavailableError }
  }),
  /** Calls the endpoint at `url` no more. */
  removePushEndpoint: row(removePushEndpoint, all("function:register", "function"), {
    query: ["url"],
    errors: { 404: EndpointNotFoundError }
  })
}
