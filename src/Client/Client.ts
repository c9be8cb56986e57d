/**
 * The client of a server: emits events, and reads and controls runs.
 *
 * {@link ClientApi} is declared once, for two kinds: the {@link Client} service returns Effects, and
 * `createClient()` returns Promises. The layer of the service decides where calls go.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as HKT from "effect/HKT"
import type {
  EventNotFoundError,
  FunctionNotFoundError,
  InvalidStateError,
  NoResultsError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  StepNotFoundError
} from "../Errors.ts"
import { type BulkApi, bulkMethods } from "./Bulk.ts"
import type { ServerCapabilities } from "../Protocol/Server.ts"
import type { AnyEvents, DataFor, EventRef } from "../Event.ts"
import type {
  EmitResult,
  EventExplanation,
  ListEventsOptions,
  ListEventsResult,
  LoggedEvent
} from "../Protocol/Events.ts"
import type { AuditEvent, Explanation, ListRunsResult, Run, RunLogLine, RunStep } from "../Protocol/Runs.ts"
import type { CountRunsOptions, RunCounts } from "../Protocol/RunCounts.ts"
import type { PublishResult, TopicInfo, TopicStats } from "../Protocol/Topics.ts"
import type { WorkerInfo } from "../Protocol/Workers.ts"
import { filterNames, type RunFilters } from "../RunFilters.ts"
import type { RunStatus } from "../RunStatus.ts"
import { type FunctionsApi, functionsMethods } from "./Functions.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./ApiKinds.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"

export type {
  FunctionInfo,
  FunctionPause,
  FunctionVersion,
  LiveVersion,
  RegisteredAs
} from "../Protocol/Functions.ts"
export type { PauseFunctionOptions, RunFunctionOptions } from "./Functions.ts"
export type { BulkOptions, BulkRuns, EraseOptions, WaitForBulkOptions } from "./Bulk.ts"
export type { EraseEvents, EraseKeys, EraseTarget } from "../Protocol/Erase.ts"
export type { BulkAction, BulkExample, BulkOperation, BulkStatus } from "../Protocol/Bulk.ts"
export type { Moment, RunFilters } from "../RunFilters.ts"
export type {
  CountRunsBy,
  CountRunsOptions,
  RunCount,
  RunCounts,
  RunDurations,
  RunGroup
} from "../Protocol/RunCounts.ts"
export type { ServerCapabilities } from "../Protocol/Server.ts"

export type {
  CallRefusedError,
  AnswerError,
  CallArgs,
  CallOptions,
  ClientError,
  EffectKind,
  Kind,
  Options,
  PromiseKind,
  UnreachableError
} from "./ApiKinds.ts"

/** Errors of run control: the run does not exist, or its state does not allow the operation. */
export type RunControlError = RunNotFoundError | InvalidStateError | ClientError

/** Errors of `emitSync`: the event starts no run, or the run fails, is cancelled, or takes too long. */
export type EmitSyncError =
  NoResultsError | RunNotFoundError | RunFailedError | RunCancelledError | ClientError

/** Options of `emit`. */
export interface EmitOptions {
  /** Schema version of the event. By default the version of the event's definition, or 1 without a definition. */
  readonly version?: number
  /** Emitting an event of the same name with the same key within 24 hours returns the first result and stores nothing. */
  readonly idempotencyKey?: string
  /** A JSON object that is stored with the event; handlers read it as `event.metadata`. None by default. */
  readonly metadata?: Record<string, unknown>
}

/** One of several events to emit at once, by name or by definition. */
export type EmitManyEvent<E = string, Events extends object = AnyEvents> = EmitOptions & {
  /** Name of the event, or its definition. */
  readonly event: E extends EventRef<Events> ? E : EventRef<Events>
  /** Data of the event; `undefined` is stored as `{}`. */
  readonly data: DataFor<E, Events>
}

/** @deprecated Another name of {@link EmitResult}. */
export type InvokeResult = EmitResult

/** @deprecated Another name of {@link EmitResult}. */
export type TriggerResult = EmitResult

/** Options of `emitSync`. */
export interface TriggerSyncOptions extends EmitOptions {
  /** How long to wait for the run, in milliseconds; 30000 by default. The run continues after a timeout. */
  readonly timeout?: number
}

/** Result of `emitSync`: the first run that the event started, once this run has completed. */
export interface TriggerSyncResult extends EmitResult {
  /** Id of the run. */
  readonly runId: string
  /** Id of the function that ran. */
  readonly functionId: string
  /** Always `completed`: any other end is an error. */
  readonly status: RunStatus
  /** What the function returned, after a round trip through JSON. */
  readonly output?: unknown
  /** Milliseconds from the event to the end of the run. */
  readonly durationMs: number
}

/** Options of `publish`. */
export interface PublishOptions {
  /** Publishing to the same topic with the same key within 24 hours returns the first result. */
  readonly idempotencyKey?: string
}

export type {
  EmitResult,
  EventExplanation,
  EventVerdict,
  ListEventsOptions,
  ListEventsResult,
  LoggedEvent
} from "../Protocol/Events.ts"
export type {
  AuditEvent,
  DamagedRun,
  Explanation,
  ListRunsResult,
  Run,
  RunLogLine,
  RunStep
} from "../Protocol/Runs.ts"
export type { PublishResult, TopicInfo, TopicStats } from "../Protocol/Topics.ts"
export type { WorkerInfo } from "../Protocol/Workers.ts"

/** Options of `listRuns`: filters and paging. */
export interface ListRunsOptions extends RunFilters {
  /** Runs per page; 50 by default, 1000 at most. */
  readonly limit?: number
  /** `nextCursor` of the previous page. */
  readonly cursor?: string
}

/** Options of `waitForRun`. */
export interface WaitForRunOptions {
  /** Timeout in milliseconds. The call then fails with `TimeoutError`; the run continues. No limit by default. */
  readonly timeout?: number
}

/** Options of `forkRun`. */
export interface ForkRunOptions {
  /**
   * The first step to run again, by name or step id: the results of the steps before it are copied. A name that several steps
   * have means the first of these steps. By default all steps run again.
   */
  readonly from?: string
  /**
   * JSON results, by step name or step id. They replace the recorded results. A step whose result is given here does not run
   * again, even if it comes after `from`.
   */
  readonly steps?: { readonly [step: string]: unknown }
  /** JSON data that replaces the data of the original event or invocation. */
  readonly data?: unknown
}

/** Options of `moveRun`. */
export interface MoveRunOptions {
  /** A current or former version of the function; the latest by default. */
  readonly version?: string
}

/** The methods that emit events, for the API kind `F`. `Events` maps event names to their data. */
export interface EmitApi<F extends HKT.TypeLambda, Events extends object = AnyEvents> {
  /**
   * Stores an event and starts one run of every function with a matching trigger. The event and its runs are durable when the
   * call returns. With a definition in place of the name, the data is typed, checked and encoded. If the data does
   * not match the definition, the call fails with `SchemaValidationError`, and nothing is sent.
   *
   * ```ts
   * const { runIds } = await client.emit("order.placed", { orderId: "o-1" }, { idempotencyKey: "o-1" })
   * ```
   */
  emit<const E extends EventRef<Events>>(
    event: E,
    data: DataFor<E, Events>,
    options?: Options<F, EmitOptions>
  ): Kind<F, EmitResult, ClientError>
  /** @deprecated Use `emit`. */
  trigger<const E extends EventRef<Events>>(
    event: E,
    data: DataFor<E, Events>,
    options?: Options<F, EmitOptions>
  ): Kind<F, EmitResult, ClientError>
  /**
   * Emits an event and waits for the first run that it starts. Fails with `RunFailedError` when the run fails, with
   * `RunCancelledError` when the run is cancelled, with `TimeoutError` after `timeout`, and with `NoResultsError` when no function has a matching trigger.
   *
   * ```ts
   * const { output } = await client.emitSync("order.placed", { orderId: "o-1" }, { timeout: 10_000 })
   * ```
   */
  emitSync<const E extends EventRef<Events>>(
    event: E,
    data: DataFor<E, Events>,
    options?: Options<F, TriggerSyncOptions>
  ): Kind<F, TriggerSyncResult, EmitSyncError>
  /**
   * Emits 1 to 1000 events in order, in one transaction: all of them, or none. Returns one result for each event.
   * Legacy servers store the events one by one.
   */
  emitMany<const L extends ReadonlyArray<unknown>>(
    events: { readonly [I in keyof L]: EmitManyEvent<L[I], Events> },
    ...options: CallArgs<F>
  ): Kind<F, Array<EmitResult>, ClientError>
}

/** The client's methods, for the API kind `F`. `Events` maps event names to their data. */
export interface ClientApi<F extends HKT.TypeLambda, Events extends object = AnyEvents>
  extends EmitApi<F, Events>, BulkApi<F>, FunctionsApi<F> {
  /**
   * Publishes a message to a topic. A message starts no functions.
   *
   * ```ts
   * await client.publish("shipments", { orderId: "o-1" }, { idempotencyKey: "o-1 shipped" })
   * ```
   */
  publish(
    topic: string,
    data: unknown,
    options?: Options<F, PublishOptions>
  ): Kind<F, PublishResult, ClientError>
  /** Lists the topics that have or had messages, sorted by name. */
  listTopics(...options: CallArgs<F>): Kind<F, Array<TopicInfo>, ClientError>
  /**
   * Returns the size of a topic, and the progress of its consumers. All numbers are 0 for a topic without
   * messages.
   */
  getTopicStats(topic: string, ...options: CallArgs<F>): Kind<F, TopicStats, ClientError>
  /**
   * Lists events that match the filters, newest first, a page at a time. New events do not shift the pages.
   * Events that the API key may not see are left out. Times are those of the engine's clock: if this clock was
   * set back, a list with `until` may miss events of the period that the clock has passed twice.
   */
  listEvents(options?: Options<F, ListEventsOptions>): Kind<F, ListEventsResult, ClientError>
  /** Returns one event. Fails with `EventNotFoundError` when it does not exist, or the API key may not see it. */
  getEvent(eventId: string, ...options: CallArgs<F>): Kind<F, LoggedEvent, EventNotFoundError | ClientError>
  /**
   * Explains which functions an event has started, and why others were not started: no trigger matches, an
   * expression is false, or the function was registered after the event. Fails with `EventNotFoundError` when
   * the event does not exist, or the API key may not see it.
   */
  explainEvent(
    eventId: string,
    ...options: CallArgs<F>
  ): Kind<F, EventExplanation, EventNotFoundError | ClientError>
  /** Returns the current state of a run. */
  getRun(runId: string, ...options: CallArgs<F>): Kind<F, Run, RunNotFoundError | ClientError>
  /** Lists runs that match all filters, newest first, a page at a time. */
  listRuns(options?: Options<F, ListRunsOptions>): Kind<F, ListRunsResult, ClientError>
  /**
   * Counts runs grouped by a value, such as `by: "event.data.customerId"`; the largest groups come first. The engine scans
   * from the newest run back, for at most `timeLimit` (200 ms by default). `isExact` says whether the scan was complete.
   */
  countRuns(options: Options<F, CountRunsOptions>): Kind<F, RunCounts, ClientError>
  /** Returns the steps of a run: first the finished steps in recorded order, then those that run or wait. */
  getRunSteps(runId: string, ...options: CallArgs<F>): Kind<F, Array<RunStep>, RunNotFoundError | ClientError>
  /**
   * Returns the audit record of a run, oldest entry first, if its function has `recording: true`. The record
   * is kept for `recordingRetention`, even after the run is deleted.
   */
  getRunAudit(
    runId: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<AuditEvent>, RunNotFoundError | ClientError>
  /**
   * Returns the log lines of a run, oldest first: at most the last 1,000, unless the engine is configured
   * otherwise. New lines appear when the worker next reports to the engine. Runs from a time when the engine did
   * not store log lines have none.
   */
  getRunLogs(
    runId: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<RunLogLine>, RunNotFoundError | ClientError>
  /** Explains why a run is in its current state. */
  explain(runId: string, ...options: CallArgs<F>): Kind<F, Explanation, RunNotFoundError | ClientError>
  /** Waits until a run has completed, failed or been cancelled, and returns it. */
  waitForRun(
    runId: string,
    options?: Options<F, WaitForRunOptions>
  ): Kind<F, Run, RunNotFoundError | ClientError>
  /**
   * Cancels a run, and the child runs that it waits for. A run that has already ended is returned unchanged.
   * Fails with `INVALID_STATE` for a run that is compensating.
   */
  cancelRun(runId: string, reason?: string, ...options: CallArgs<F>): Kind<F, Run, RunControlError>
  /**
   * Retries a failed or cancelled run. Completed steps keep their results. With `fromStep` (name or step id), that step and all
   * later ones run again.
   */
  retryRun(
    runId: string,
    fromStep?: string,
    ...options: CallArgs<F>
  ): Kind<F, Run, StepNotFoundError | RunControlError>
  /**
   * Resumes a paused run, or retries a failed or cancelled one. With `fromStep` (name or step id), that step and all
   * later ones run again. If a pause was requested and has not taken effect yet, because a worker still runs the run,
   * the request is withdrawn.
   */
  resumeRun(
    runId: string,
    fromStep?: string,
    ...options: CallArgs<F>
  ): Kind<F, Run, StepNotFoundError | RunControlError>
  /**
   * Pauses a run: no worker takes it before `resumeRun`. If a worker is running it at the moment, the steps that
   * have begun are finished, and then the run is paused; the call returns before that.
   */
  pauseRun(runId: string, reason?: string, ...options: CallArgs<F>): Kind<F, Run, RunControlError>
  /**
   * Replaces the output of a finished step, or completes an unfinished step with an output.
   *
   * ```ts
   * const [step] = await client.getRunSteps(runId)
   * if (step !== undefined) await client.patchStep(step.id, { receipt: "by hand" }, "charged by phone")
   * ```
   */
  patchStep(
    stepId: string,
    output: unknown,
    reason?: string,
    ...options: CallArgs<F>
  ): Kind<F, void, StepNotFoundError | RunControlError>
  /**
   * Starts a new run from the history of another run of any status. The new run copies the recorded
   * results of the steps before `from`, in recorded order, and runs the current code of the function. Without
   * `from` it copies nothing, and runs everything again. The original run does not change.
   */
  forkRun(
    runId: string,
    options?: Options<F, ForkRunOptions>
  ): Kind<F, Run, FunctionNotFoundError | StepNotFoundError | RunControlError>
  /**
   * Moves an unfinished run of a function with `versioning: "pin"` to `version` of the function, or to its latest
   * version. Workers of that version continue the run, so the code of that version must be able to continue from
   * the recorded steps.
   */
  moveRun(runId: string, options?: Options<F, MoveRunOptions>): Kind<F, Run, RunControlError>
  /** Lists the connected workers. */
  listWorkers(...options: CallArgs<F>): Kind<F, Array<WorkerInfo>, ClientError>
  /** Returns the optional features that the server has. */
  getCapabilities(...options: CallArgs<F>): Kind<F, ServerCapabilities, ClientError>
  /**
   * Returns the health of the engine: `"ok"` when it answers and its database is sound, `"degraded"` when
   * part of the database is damaged, or the database cannot be reached or written, and `"down"` when the engine
   * has stopped, for example because another engine has taken over the database. The log of the engine has the
   * details, and `GET /health` a summary.
   */
  health(...options: CallArgs<F>): Kind<F, string, ClientError>
}

const emitKeys = { ...callKeys, version: true, idempotencyKey: true, metadata: true } as const
const runErrors = { RunNotFoundError: true } as const
const controlErrors = { ...runErrors, InvalidStateError: true } as const
const stepControlErrors = { ...controlErrors, StepNotFoundError: true } as const

/** Names, options and errors of the methods. */
export const clientMethods: Methods<ClientApi<PromiseKind>, ClientApi<EffectKind>> = {
  ...functionsMethods,
  emit: [[null, null, emitKeys]],
  trigger: [[null, null, emitKeys]],
  emitSync: [
    [null, null, { ...emitKeys, timeout: true }],
    { NoResultsError: true, RunNotFoundError: true, RunFailedError: true, RunCancelledError: true }
  ],
  emitMany: [[[{ event: true, data: true, version: true, idempotencyKey: true, metadata: true }], callKeys]],
  publish: [[null, null, { ...callKeys, idempotencyKey: true }]],
  listTopics: [[callKeys]],
  getTopicStats: [idArguments],
  listEvents: [
    [
      {
        ...callKeys,
        name: true,
        entityType: true,
        entityId: true,
        idempotencyKey: true,
        since: true,
        until: true,
        after: true,
        order: true,
        limit: true,
        cursor: true
      }
    ]
  ],
  getEvent: [idArguments, { EventNotFoundError: true }],
  explainEvent: [idArguments, { EventNotFoundError: true }],
  getRun: [idArguments, runErrors],
  listRuns: [[{ ...callKeys, ...filterNames, limit: true, cursor: true }]],
  countRuns: [[{ ...callKeys, ...filterNames, by: true, limit: true, durations: true, timeLimit: true }]],
  getRunSteps: [idArguments, runErrors],
  getRunAudit: [idArguments, runErrors],
  getRunLogs: [idArguments, runErrors],
  explain: [idArguments, runErrors],
  waitForRun: [[null, { ...callKeys, timeout: true }], runErrors],
  cancelRun: [[null, null, callKeys], controlErrors],
  retryRun: [[null, null, callKeys], stepControlErrors],
  resumeRun: [[null, null, callKeys], stepControlErrors],
  pauseRun: [[null, null, callKeys], controlErrors],
  ...bulkMethods,
  patchStep: [[null, null, null, callKeys], stepControlErrors],
  forkRun: [
    [null, { ...callKeys, from: true, steps: true, data: true }],
    { ...stepControlErrors, FunctionNotFoundError: true }
  ],
  moveRun: [[null, { ...callKeys, version: true }], controlErrors],
  listWorkers: [[callKeys]],
  getCapabilities: [[callKeys]],
  health: [[callKeys]]
}

/** The client as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class Client extends Context.Service<Client, ClientApi<EffectKind>>()("@ironflow/node/Client") {}

/**
 * The client with events typed by a map, for code that uses event names as strings:
 *
 * ```ts
 * const client = yield* Client.withEvents<{ "order.placed": { readonly orderId: string } }>()
 * yield* client.emit("order.placed", { orderId: "o-1" })
 * ```
 */
export const withEvents = <Events extends object>(): Effect.Effect<
  ClientApi<EffectKind, Events>,
  never,
  Client
> =>
  // the map only exists in types, so this is the same service
  Client as unknown as Effect.Effect<ClientApi<EffectKind, Events>, never, Client>
