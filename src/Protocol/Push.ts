/**
 * The protocol between engines and push handlers, independent of the transport.
 *
 * The engine of this package first asks an endpoint to `describe` itself. To an endpoint of this package it then sends
 * whole turns (see `Worker.ts`): a {@link TurnRequest} contains a job, and the answer contains the ops that the engine
 * does not have yet. During a turn the handler may send requests of its own ({@link TurnUpdate}) to report ops to the
 * engine and to ask for notices. Ops that the handler has reported are kept even if the
 * answer to the turn is lost.
 *
 * With legacy handlers the engine exchanges a {@link PushRequest} and a {@link PushResponse}, as legacy engines do with
 * handlers of this package. Such a request runs one segment: the code of a function from one wait to the next.
 *
 * `sent_at` is signed with the rest of the body. A handler refuses requests that are too old, and turns that it has
 * already received, which prevents replay attacks.
 */
import { EndpointNotFoundError, EndpointUnavailableError } from "../Errors.ts"
import {
  fields,
  flag,
  json,
  lenientList,
  list,
  number,
  object,
  optional,
  orElse,
  struct,
  text
} from "./Codec.ts"
import { Trigger } from "./Functions.ts"
import type { RunningStep } from "./RunningSteps.ts"
import type { WireTurnAck } from "./Http/Turns.ts"
import { all, each, operation, callSpec, waiting } from "./CallSpec.ts"
import type { FunctionRegistration, Job, Notice, TurnLogs, TurnOp } from "./Worker.ts"

/** The version of {@link TurnRequest} that handlers report in their description. */
export const PUSH_TURNS_VERSION = 1

export interface DescribeRequest {
  readonly type: "describe"
  /** In epoch milliseconds. */
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
  /** In epoch milliseconds. */
  readonly sent_at: number
  readonly job: Job
}

export const turnRequest = (job: Job, nowMs: number): TurnRequest => ({ type: "turn", sent_at: nowMs, job })

export interface TurnResponse {
  readonly type: "turn"
  /**
   * The ops that the engine does not have yet, in order. The last one ends the turn, unless the op that ends it was already
   * reported.
   */
  readonly ops: ReadonlyArray<TurnOp>
  readonly logs?: TurnLogs
}

/** `POST /api/v1/push/turns/:jobId`: sent by the handler during a turn, answered with {@link TurnUpdated}. */
export interface TurnUpdate {
  readonly runId: string
  readonly ops: ReadonlyArray<TurnOp>
  /** Log lines; only along with ops. */
  readonly logs?: TurnLogs
  /** How long to wait for a notice, in milliseconds. */
  readonly waitMs?: number
  /** The steps that run now, when the handler asks for notices. The engine leaves out what is invalid. */
  readonly running?: ReadonlyArray<RunningStep>
  /** Whether the handler supports the notices `Paused` and `Resumed`, and `paused` in an answer. */
  readonly pauses?: boolean
  /** The handler has gone on after its turn was suspended; see `WorkerSession.late`. */
  readonly late?: { readonly stepName: string; readonly lingerMs: number }
}

export interface TurnUpdated {
  readonly ack: WireTurnAck
  readonly notices: ReadonlyArray<Notice>
  /**
   * Set when this engine has no such run in the environment of the caller: then another engine has sent the turn. Older engines
   * do not set it.
   */
  readonly unknownRun?: true
}

// ---------------------------------------------------------------------------------------------------------------------
// Legacy handlers and engines
// ---------------------------------------------------------------------------------------------------------------------

/** A request to run one segment of a function: its code up to the next wait. */
export interface PushRequest {
  /** Id of the run. */
  readonly run_id: string
  /** Id of the function of the run. */
  readonly function_id: string
  /** Number of attempts of the function, this one included. */
  readonly attempt: number
  /** The event that started the run. */
  readonly event: {
    readonly id: string
    readonly name: string
    /** Schema version of the data; 1 by default. */
    readonly version?: number
    readonly data: unknown
    /** RFC 3339. */
    readonly timestamp: string
    readonly idempotency_key?: string
    readonly source?: string
    readonly metadata?: Record<string, unknown>
  }
  /** Steps that have ended in earlier segments. */
  readonly steps?: ReadonlyArray<CompletedStep>
  /** Why this segment starts. */
  readonly resume?: ResumeContext
  /** Values of the secrets that the function names. */
  readonly secrets?: Record<string, string>
}

export const completedStatuses = ["completed", "failed", "timed_out"] as const

/** A step that has ended in an earlier segment. */
export interface CompletedStep {
  /** Id of the step. */
  readonly id: string
  /** Name of the step. */
  readonly name: string
  /** How it ended. */
  readonly status: (typeof completedStatuses)[number]
  /** The step's result. */
  readonly output?: unknown
  /** The error; a structured error is JSON. */
  readonly error?: string
}

export const resumeTypes = ["sleep", "wait_for_event", "invoke_function", "invoke_function_async"] as const

/** What the run waited for, and the result. */
export interface ResumeContext {
  /** Id of the step that waited. */
  readonly step_id: string
  /** What kind of step it is. */
  readonly type: (typeof resumeTypes)[number]
  /** The awaited event, or the result of the invoked function. */
  readonly data?: unknown
}

/** A step that was executed in this segment. */
export interface StepResult {
  /** Id of the step. */
  readonly id: string
  /** Name of the step. */
  readonly name: string
  /** `invoke` for a step, `compensate` for a compensation. */
  readonly type: "invoke" | "compensate"
  /** How it ended. */
  readonly status: "completed" | "failed"
  /** RFC 3339. */
  readonly started_at: string
  /** RFC 3339. */
  readonly ended_at: string
  /** How long it took, in milliseconds. */
  readonly duration_ms: number
  /** The step's result. */
  readonly output?: unknown
  /** The step's error. */
  readonly error?: { readonly message: string; readonly retryable: boolean; readonly stack?: string }
  /** Name of the step that is compensated. */
  readonly compensation_for?: string
}

/** The run waits until a time. */
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
  /** Which event, and for how long: a duration such as `"48h"`. */
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
  /** The data of the event that starts the other run. */
  readonly input?: unknown
  /** How long to wait, in milliseconds. */
  readonly invoke_timeout_ms: number
}

/** The run continues as soon as the run of another function has been created. */
export interface InvokeFunctionAsyncYield {
  /** What kind of wait it is. */
  readonly type: "invoke_function_async"
  /** Id of the step that waits. */
  readonly step_id: string
  /** Id of the function to run. */
  readonly function_id: string
  /** The data of the event that starts the other run. */
  readonly input?: unknown
}

/** What the run waits for before its next segment. */
export type YieldInfo = SleepYield | WaitEventYield | InvokeFunctionYield | InvokeFunctionAsyncYield

/** The outcome of a segment; the HTTP status of the response is always 200. */
export type PushResponse =
  | {
      /** How the segment ended. */ readonly status: "completed"
      /** Steps that were executed in the segment. */ readonly steps: ReadonlyArray<StepResult>
      /** The function's result. */ readonly result?: unknown
    }
  | {
      /** How the segment ended. */ readonly status: "yielded"
      /** Steps that were executed in the segment. */ readonly steps: ReadonlyArray<StepResult>
      /** What the run waits for. */ readonly yield: YieldInfo
    }
  | {
      /** How the segment ended. */
      readonly status: "failed"
      /** Steps that were executed in the segment. */
      readonly steps: ReadonlyArray<StepResult>
      /** The function's error. */
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

/** An HTTP handler that the engine calls to run the functions of the handler. */
export interface PushEndpoint {
  /** URL of the handler. */
  readonly url: string
  /** Ids of the functions of the handler. */
  readonly functionIds: ReadonlyArray<string>
  /** Whether the handler answered the last request. */
  readonly available: boolean
  /** Why the handler is not available, or which of its functions it no longer has. */
  readonly problem?: string
}

const Endpoint = fields<PushEndpoint>({
  url: text,
  functionIds: orElse(lenientList(text), []),
  available: orElse(flag, false),
  problem: optional(text)
})
const Endpoints = struct({ endpoints: lenientList(Endpoint), nextCursor: optional(text) })
const Registered = struct({
  url: text,
  functions: lenientList(struct({ id: text, name: text, triggers: list(Trigger) })),
  // ids of functions that stay registered for the URL, and that the handler does not have; absent when there are none
  missing: optional(lenientList(text))
})
// the ops of this body are checked in `TurnReports.ts`
const Update = struct({
  runId: text,
  ops: list(object),
  waitMs: optional(number),
  running: optional(json),
  pauses: optional(flag),
  late: optional(struct({ stepName: text, lingerMs: number }))
})
const Updated = struct({ ack: object, notices: list(object), unknownRun: optional(flag) })

export const pushTurn = operation("POST /api/v1/push/turns/:jobId", { answer: Updated, repeats: true })
export const listPushEndpoints = operation("GET /api/v1/push/endpoints", {
  answer: Endpoints,
  page: "endpoints"
})
export const registerPushEndpoint = operation("POST /api/v1/push/endpoints", { answer: Registered })
export const removePushEndpoint = operation("DELETE /api/v1/push/endpoints", { repeats: true })

export const callSpecs = {
  /** Takes the ops that a push handler reports during a turn; answers with the notices for this turn. */
  pushTurn: callSpec(pushTurn, waiting(all("worker:run", "worker")), { fromWorker: true, body: Update }),
  /** Lists the push endpoints. */
  listPushEndpoints: callSpec(listPushEndpoints, each("function:read", "function")),
  /** Asks the handler at `url` which functions it has, and registers these functions. */
  registerPushEndpoint: callSpec(registerPushEndpoint, waiting(all("function:register", "function")), {
    body: struct({ url: text }),
    errors: { 502: EndpointUnavailableError }
  }),
  /** Removes the endpoint at `url`: the engine no longer calls it. */
  removePushEndpoint: callSpec(removePushEndpoint, all("function:register", "function"), {
    query: ["url"],
    errors: { 404: EndpointNotFoundError }
  })
}
