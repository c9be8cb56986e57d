/**
 * The server-side client: emit events, look at runs, steer them.
 *
 * {@link ClientApi} is written once and read twice: as Effects by the {@link Client} service, as Promises by
 * `createClient()`. Where the calls go is a matter of the layer behind the service.
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
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Kinds.ts"
import { byId, call, type Methods } from "./Methods.ts"

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
} from "./Kinds.ts"

/** What may go wrong when a run is told what to do: there is none of this id, or its state does not allow that. */
export type RunControlError = RunNotFoundError | InvalidStateError | ClientError

/** What may go wrong in `emitSync`: the event starts no run, or one that fails, is cancelled, or takes too long. */
export type EmitSyncError =
  NoResultsError | RunNotFoundError | RunFailedError | RunCancelledError | ClientError

/** Options of `emit`. */
export interface EmitOptions {
  /** Schema version of the event; that of its definition by default, else 1. */
  readonly version?: number
  /** Emitting an event of this name again with the same key within 24 hours returns the first result and creates nothing. */
  readonly idempotencyKey?: string
  /** An object of JSON that is kept with the event, and that handlers see as `event.metadata`; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** One of several events to emit at once, by its name or by its definition. */
export type EmitManyEvent<E = string, Events extends object = AnyEvents> = EmitOptions & {
  /** The name of the event, or its definition. */
  readonly event: E extends EventRef<Events> ? E : EventRef<Events>
  /** The data of the event; `undefined` is `{}`. */
  readonly data: DataFor<E, Events>
}

/** @deprecated Another name of {@link EmitResult}. */
export type InvokeResult = EmitResult

/** @deprecated Another name of {@link EmitResult}. */
export type TriggerResult = EmitResult

/** Options of `emitSync`. */
export interface TriggerSyncOptions extends EmitOptions {
  /** How long to wait for the run, in milliseconds; 30000 by default. It goes on all the same. */
  readonly timeout?: number
}

/** The first run that an event started, which has completed. */
export interface TriggerSyncResult extends EmitResult {
  /** Id of the run. */
  readonly runId: string
  /** Id of the function that ran. */
  readonly functionId: string
  /** `completed`: every other end is an error. */
  readonly status: RunStatus
  /** What the function returned, as JSON gives it back. */
  readonly output?: unknown
  /** From the event to the end of the run. */
  readonly durationMs: number
}

/** Options of `publish`. */
export interface PublishOptions {
  /** Publishing to this topic again with the same key within 24 hours returns the first result. */
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

/** Options of `listRuns`: which runs, and how many on a page. */
export interface ListRunsOptions extends RunFilters {
  /** 50 by default, 1000 at most. */
  readonly limit?: number
  /** `nextCursor` of the previous page. */
  readonly cursor?: string
}

/** Options of `waitForRun`. */
export interface WaitForRunOptions {
  /** Give up after this many milliseconds with a `TimeoutError`; the run goes on. No limit by default. */
  readonly timeout?: number
}

/** Options of `forkRun`. */
export interface ForkRunOptions {
  /** The first step that runs again, by name or step id; of several with one name the first. Nothing is copied by default. */
  readonly from?: string
  /**
   * Results to go on with in place of those that were recorded, by name or step id. A step that is not copied does not run when its result
   * is given here. JSON.
   */
  readonly steps?: { readonly [step: string]: unknown }
  /** The data of the event, or of the invocation, in place of that of the other run. JSON. */
  readonly data?: unknown
}

/** Options of `moveRun`. */
export interface MoveRunOptions {
  /** A version that the function has, or had: the latest by default. */
  readonly version?: string
}

/** The methods that emit events, in the reading `F`, with the data of events whose names are in `Events`. */
export interface EmitApi<F extends HKT.TypeLambda, Events extends object = AnyEvents> {
  /**
   * Stores an event and starts one run for every function whose trigger matches; durable when it returns. A definition in place of
   * the name types the data, and its schema checks and encodes it: `SchemaValidationError` names what does not fit, and nothing is
   * sent.
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
   * Emits an event and waits for the first run that it starts. Fails with `RunFailedError` or `RunCancelledError` when that is
   * how the run ends, with `TimeoutError` when it takes longer than `timeout`, and with `NoResultsError` when no function
   * has a trigger that matches.
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
   * Emits 1 to 1000 events in their order, in one transaction: all or none. Returns a result for each. Legacy servers store
   * them one after the other.
   */
  emitMany<const L extends ReadonlyArray<unknown>>(
    events: { readonly [I in keyof L]: EmitManyEvent<L[I], Events> },
    ...options: CallArgs<F>
  ): Kind<F, Array<EmitResult>, ClientError>
}

/** The client's methods, in the reading `F`. `Events` has the data of events by their names. */
export interface ClientApi<F extends HKT.TypeLambda, Events extends object = AnyEvents>
  extends EmitApi<F, Events>, BulkApi<F>, FunctionsApi<F> {
  /**
   * Publishes a message to a topic. Starts no function.
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
  /** Topics that hold messages or have held some, by name. */
  listTopics(...options: CallArgs<F>): Kind<F, Array<TopicInfo>, ClientError>
  /** What a topic holds and how far its consumers are; zeros for a topic without messages. */
  getTopicStats(topic: string, ...options: CallArgs<F>): Kind<F, TopicStats, ClientError>
  /**
   * Lists events by what is known of them, newest first. A page stays what it is while others come. What the key may not see is left
   * out. The time is that of the engine's clock: where it was set back, events may be missing from a list that ends (`until`) within a
   * time that it has shown twice.
   */
  listEvents(options?: Options<F, ListEventsOptions>): Kind<F, ListEventsResult, ClientError>
  /** Fails with `EventNotFoundError` also for an event that the key may not see. */
  getEvent(eventId: string, ...options: CallArgs<F>): Kind<F, LoggedEvent, EventNotFoundError | ClientError>
  /**
   * Which functions an event has started, and why not the others: whether they listen to it, what their expressions say, and whether
   * they were there by then. Fails with `EventNotFoundError` also for an event that the key may not see.
   */
  explainEvent(
    eventId: string,
    ...options: CallArgs<F>
  ): Kind<F, EventExplanation, EventNotFoundError | ClientError>
  /** A run by its id, as it is now. */
  getRun(runId: string, ...options: CallArgs<F>): Kind<F, Run, RunNotFoundError | ClientError>
  /** Runs that fit all filters, newest first, a page at a time. */
  listRuns(options?: Options<F, ListRunsOptions>): Kind<F, ListRunsResult, ClientError>
  /**
   * Counts runs by what they have in common, such as `by: "event.data.customerId"`: those with most runs first. Looks from the newest on,
   * for at most 200 ms unless `timeLimit` says otherwise; `isExact` says whether it has looked at all.
   */
  countRuns(options: Options<F, CountRunsOptions>): Kind<F, RunCounts, ClientError>
  /** The steps of a run: finished ones in order, then waiting ones. */
  getRunSteps(runId: string, ...options: CallArgs<F>): Kind<F, Array<RunStep>, RunNotFoundError | ClientError>
  /**
   * What happened to a run, oldest first, if its function has `recording: true`; kept for its `recordingRetention`, also when
   * the run itself is deleted.
   */
  getRunAudit(
    runId: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<AuditEvent>, RunNotFoundError | ClientError>
  /**
   * What the code of a run has logged, oldest first: the last 1,000 lines of it at most, unless the engine keeps another number.
   * What a turn logs is there with its next report; a run of an earlier version has none.
   */
  getRunLogs(
    runId: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<RunLogLine>, RunNotFoundError | ClientError>
  /** Why a run is where it is. */
  explain(runId: string, ...options: CallArgs<F>): Kind<F, Explanation, RunNotFoundError | ClientError>
  /** Waits until a run has completed, failed or been cancelled, and returns it. */
  waitForRun(
    runId: string,
    options?: Options<F, WaitForRunOptions>
  ): Kind<F, Run, RunNotFoundError | ClientError>
  /**
   * Cancels a run and the children it waits for. A run that has ended already stays as it is and is returned; one that
   * is compensating refuses with `INVALID_STATE`.
   */
  cancelRun(runId: string, reason?: string, ...options: CallArgs<F>): Kind<F, Run, RunControlError>
  /**
   * Runs a failed or cancelled run again: completed steps keep their results, from `fromStep` (a name or step id) on
   * they run again.
   */
  retryRun(
    runId: string,
    fromStep?: string,
    ...options: CallArgs<F>
  ): Kind<F, Run, StepNotFoundError | RunControlError>
  /** Continues a paused run, or retries a failed one. */
  resumeRun(
    runId: string,
    fromStep?: string,
    ...options: CallArgs<F>
  ): Kind<F, Run, StepNotFoundError | RunControlError>
  /** Keeps a run from being dispatched until `resumeRun`; a turn in flight is called back. */
  pauseRun(runId: string, reason?: string, ...options: CallArgs<F>): Kind<F, Run, RunControlError>
  /**
   * Replaces the output of a step that has finished, or finishes one that has not.
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
   * Starts a new run from what another one, in whatever status, has recorded: the steps before `from`, in the order in which they were
   * recorded, with their results; the code is that of the function now. Without `from` nothing is copied, and all of it runs again. The
   * other run stays as it is.
   */
  forkRun(
    runId: string,
    options?: Options<F, ForkRunOptions>
  ): Kind<F, Run, FunctionNotFoundError | StepNotFoundError | RunControlError>
  /**
   * Moves an unfinished run that is pinned to a version of its function to the latest one, or to `version`: the next turn is run by a
   * worker of that. The code has to be able to go on from the steps that are recorded.
   */
  moveRun(runId: string, options?: Options<F, MoveRunOptions>): Kind<F, Run, RunControlError>
  /** The workers that are connected. */
  listWorkers(...options: CallArgs<F>): Kind<F, Array<WorkerInfo>, ClientError>
  /** What the server can do beyond what every Ironflow server can. */
  getCapabilities(...options: CallArgs<F>): Kind<F, ServerCapabilities, ClientError>
  /**
   * `"ok"` when the engine answers and its database is sound; `"degraded"` when something in the database is damaged or cannot be
   * written, and `"down"` when another engine has taken it over: the engine's log says what, and `GET /health` in short.
   */
  health(...options: CallArgs<F>): Kind<F, string, ClientError>
}

const emit = { ...call, version: true, idempotencyKey: true, metadata: true } as const
const ofRun = { RunNotFoundError: true } as const
const controlErrors = { ...ofRun, InvalidStateError: true } as const
const stepControlErrors = { ...controlErrors, StepNotFoundError: true } as const

/** What each method is called by, and takes. */
export const clientMethods: Methods<ClientApi<PromiseKind>, ClientApi<EffectKind>> = {
  ...functionsMethods,
  emit: [[null, null, emit]],
  trigger: [[null, null, emit]],
  emitSync: [
    [null, null, { ...emit, timeout: true }],
    { NoResultsError: true, RunNotFoundError: true, RunFailedError: true, RunCancelledError: true }
  ],
  emitMany: [[[{ event: true, data: true, version: true, idempotencyKey: true, metadata: true }], call]],
  publish: [[null, null, { ...call, idempotencyKey: true }]],
  listTopics: [[call]],
  getTopicStats: [byId],
  listEvents: [
    [
      {
        ...call,
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
  getEvent: [byId, { EventNotFoundError: true }],
  explainEvent: [byId, { EventNotFoundError: true }],
  getRun: [byId, ofRun],
  listRuns: [[{ ...call, ...filterNames, limit: true, cursor: true }]],
  countRuns: [[{ ...call, ...filterNames, by: true, limit: true, durations: true, timeLimit: true }]],
  getRunSteps: [byId, ofRun],
  getRunAudit: [byId, ofRun],
  getRunLogs: [byId, ofRun],
  explain: [byId, ofRun],
  waitForRun: [[null, { ...call, timeout: true }], ofRun],
  cancelRun: [[null, null, call], controlErrors],
  retryRun: [[null, null, call], stepControlErrors],
  resumeRun: [[null, null, call], stepControlErrors],
  pauseRun: [[null, null, call], controlErrors],
  ...bulkMethods,
  patchStep: [[null, null, null, call], stepControlErrors],
  forkRun: [
    [null, { ...call, from: true, steps: true, data: true }],
    { ...stepControlErrors, FunctionNotFoundError: true }
  ],
  moveRun: [[null, { ...call, version: true }], controlErrors],
  listWorkers: [[call]],
  getCapabilities: [[call]],
  health: [[call]]
}

/** The client as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class Client extends Context.Service<Client, ClientApi<EffectKind>>()("@ironflow/node/Client") {}

/**
 * The client, typed by a map of events for those who want to write names as strings:
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
  // the map is a matter of types alone
  Client as unknown as Effect.Effect<ClientApi<EffectKind, Events>, never, Client>
