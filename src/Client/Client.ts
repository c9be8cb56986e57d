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
  ConnectionError,
  EnterpriseRequiredError,
  FunctionNotFoundError,
  InvalidResponseError,
  InvalidStateError,
  NoResultsError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  ServerError,
  StepNotFoundError,
  StoreError,
  TimeoutError,
  UnauthenticatedError,
  UnauthorizedError,
  UnavailableError,
  UnsupportedError,
  ValidationError
} from "../Errors.ts"
import type { AnyEvents, DataFor, EventRef } from "../Event.ts"
import type { Overlap } from "../Overlap.ts"
import type { RunStatus } from "../RunStatus.ts"
import type { StepStatus } from "../StepStatus.ts"

/** The Effect reading of an API: failures are in the type. */
export interface EffectKind extends HKT.TypeLambda {
  readonly type: Effect.Effect<this["Target"], this["Out1"]>
}

/** The Promise reading of an API: failures reject with the same error instances. */
export interface PromiseKind extends HKT.TypeLambda {
  readonly type: Promise<this["Target"]>
}

/** A result of type `A` that may fail with `E`, in the reading `F`. */
export type Kind<F extends HKT.TypeLambda, A, E> = HKT.Kind<F, never, never, E, A>

/** The server does not do this for this key: it wants another one, or none that it knows, or a licence. */
export type AccessError = UnauthenticatedError | UnauthorizedError | EnterpriseRequiredError

/** The server cannot be asked now, or takes too long. What has this error may be asked again, and may have been done. */
export type UnreachableError = ConnectionError | TimeoutError | UnavailableError

/**
 * What the server answers is about itself: its database cannot be read or written (`StoreError`), it cannot do what was asked
 * (`UnsupportedError`), it is no Ironflow server (`InvalidResponseError`), or it has failed or says something that this version does
 * not know (`ServerError`).
 */
export type AnswerError = StoreError | UnsupportedError | InvalidResponseError | ServerError

/**
 * What may go wrong in any call, besides what the call itself names. `ValidationError` is what the call was given: an argument, or an
 * option that there is not.
 */
export type ClientError = ValidationError | AccessError | UnreachableError | AnswerError

/** What may go wrong when a run is told what to do: there is none of this id, or its state does not allow that. */
export type SteerError = RunNotFoundError | InvalidStateError | ClientError

/** What may go wrong in `emitSync`: the event starts no run, or one that fails, is cancelled, or takes too long. */
export type EmitSyncError =
  NoResultsError | RunNotFoundError | RunFailedError | RunCancelledError | ClientError

/** Options of every call on the Promise face. An Effect has none: interrupting it ends the call. */
export interface CallOptions {
  /** Aborts the call; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

/** The last arguments of a call without options of its own. */
export type CallArgs<F extends HKT.TypeLambda> = F extends PromiseKind ? [options?: CallOptions] : []

/** Options of a call: its own, and on the Promise face those of every call. */
export type Options<F extends HKT.TypeLambda, Own> = F extends PromiseKind ? Own & CallOptions : Own

export interface EmitOptions {
  /** Schema version of the event; that of its definition by default, else 1. */
  readonly version?: number
  /** Emitting an event of this name again with the same key within 24 hours returns the first result and creates nothing. */
  readonly idempotencyKey?: string
  readonly metadata?: Record<string, unknown>
}

export interface EmitResult {
  /** One run for every function whose trigger matched; empty when none did. */
  readonly runIds: Array<string>
  readonly eventId: string
  /** Position of the event in the log, for reads that wait until it is projected; absent on servers that do not say. */
  readonly position?: number
}

/** One of several events to emit at once, by its name or by its definition. */
export type EmitManyEvent<E = string, Events extends object = AnyEvents> = EmitOptions & {
  readonly event: E extends EventRef<Events> ? E : EventRef<Events>
  readonly data: DataFor<E, Events>
}

/** @deprecated Another name of {@link EmitResult}. */
export type InvokeResult = EmitResult

/** @deprecated Another name of {@link EmitResult}. */
export type TriggerResult = EmitResult

export interface TriggerSyncOptions extends EmitOptions {
  /** How long to wait for the run, in milliseconds; 30000 by default. It goes on all the same. */
  readonly timeout?: number
}

/** The first run that an event started, which has completed. */
export interface TriggerSyncResult extends EmitResult {
  readonly runId: string
  readonly functionId: string
  readonly status: RunStatus
  readonly output?: unknown
  /** From the event to the end of the run. */
  readonly durationMs: number
}

/** What a server can do. */
export interface ServerCapabilities {
  readonly transports: ReadonlyArray<string>
  readonly features: ReadonlyArray<string>
  readonly version: string
}

export interface PublishOptions {
  /** Publishing to this topic again with the same key within 24 hours returns the first result. */
  readonly idempotencyKey?: string
}

export interface PublishResult {
  readonly eventId: string
  /** Position of the message in the log of its environment. */
  readonly sequence: number
}

/** A topic that holds messages or has subscribers. Times are ISO strings. */
export interface TopicInfo {
  readonly name: string
  readonly messageCount: number
  /** Subscriptions that get its messages now. */
  readonly consumerCount: number
  readonly firstMessageAt?: string
  readonly lastMessageAt?: string
}

export interface TopicStats {
  readonly name: string
  /** Messages that are kept. */
  readonly messageCount: number
  /** Subscriptions that get its messages now. */
  readonly consumerCount: number
  /** Messages that the consumer group furthest behind has not finished; 0 without groups. */
  readonly lag: number
  /** Position of the oldest message that is kept; 0 when there is none. */
  readonly firstSeq: number
  /** Position of the newest message; 0 when there has been none. */
  readonly lastSeq: number
}

export interface RunError {
  readonly message: string
  readonly code: string
  readonly name?: string
  readonly stack?: string
  readonly retryable?: boolean
  readonly details?: unknown
  /** What it came from: for a `StepError` what the step threw. */
  readonly cause?: RunError
}

/** One durable execution of a function for one event. Times are ISO strings. */
export interface Run {
  readonly id: string
  readonly functionId: string
  readonly eventId: string
  readonly status: RunStatus
  readonly attempt: number
  readonly maxAttempts: number
  /** Data of the triggering event. */
  readonly input?: unknown
  readonly output?: unknown
  readonly error?: RunError
  readonly workerId?: string
  readonly actorId?: string
  readonly parentRunId?: string
  readonly pauseReason?: string
  readonly createdAt: string
  readonly updatedAt: string
  readonly startedAt?: string
  readonly endedAt?: string
}

export interface ListRunsOptions {
  readonly functionId?: string
  readonly status?: RunStatus
  /** 50 by default, 1000 at most. */
  readonly limit?: number
  /** `nextCursor` of the previous page. */
  readonly cursor?: string
}

/** A run that cannot be read, since its row in the database is damaged. */
export interface DamagedRun {
  readonly id: string
  readonly message: string
}

/** Newest first. */
export interface ListRunsResult {
  /** As many as were asked for, fewer when they have more than 16 MiB of data. */
  readonly runs: Array<Run>
  /** Runs of the page that are damaged in the database; absent when there are none. */
  readonly damaged?: Array<DamagedRun>
  /** Runs on all pages. */
  readonly totalCount: number
  /** Absent on the last page. */
  readonly nextCursor?: string
}

/** A step of a run, in the order in which the handler saw the results; waiting ones come last. */
export interface RunStep {
  /** The step id, `<run id>:<name>:<n>`; what `patchStep` takes. */
  readonly id: string
  readonly name: string
  readonly kind: string
  readonly status: StepStatus
  readonly attempt: number
  readonly output?: unknown
  readonly error?: RunError
  readonly startedAt?: string
  readonly endedAt?: string
  /** When a waiting step is due, if it waits for a time or has a timeout. */
  readonly dueAt?: string
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
  readonly type: string
  readonly stepName?: string
  readonly details: { readonly [key: string]: unknown }
}

/**
 * Why a run is where it is: one current reason, in words and in numbers.
 *
 * `code` is one of `COMPLETED`, `FAILED`, `CANCELLED`, `PAUSED`, `RUNNING`, `STUCK`,
 * `WORKER_STOPPING`, `SLEEPING`, `WAITING_FOR_EVENT`, `WAITING_FOR_CHILD`, `WAITING_FOR_RETRY`, `READY`, `NO_WORKER`, `NO_CAPACITY`,
 * `CONCURRENCY_LIMIT`, `ACTOR_BUSY`, `DAMAGED`.
 */
export interface Explanation {
  readonly runId: string
  readonly status: RunStatus
  readonly code: string
  /** A sentence for a person. */
  readonly message: string
  /** The facts behind the sentence: limit and holders, event and match value, due time, worker. */
  readonly details: { readonly [key: string]: unknown }
}

export interface WaitForRunOptions {
  /** Give up after this many milliseconds with a `TimeoutError`; the run goes on. No limit by default. */
  readonly timeout?: number
}

export interface FunctionInfo {
  readonly id: string
  readonly name: string
  readonly triggers: ReadonlyArray<{
    readonly event?: string
    readonly expression?: string
    readonly cron?: string
    readonly timezone?: string
    readonly overlap?: Overlap
  }>
  /** One more with every change of configuration or code. */
  readonly version: number
  readonly codeHash: string
  readonly createdAt: string
  readonly updatedAt: string
}

export interface WorkerInfo {
  readonly id: string
  readonly hostname: string
  readonly functionIds: ReadonlyArray<string>
  readonly maxConcurrentJobs: number
  readonly activeJobs: number
  readonly labels: { readonly [key: string]: string }
  readonly transport: string
  readonly registeredAt: string
}

/** The methods that emit events, in the reading `F`, with the data of events whose names are in `Events`. */
export interface EmitApi<F extends HKT.TypeLambda, Events extends object = AnyEvents> {
  /**
   * Stores an event and starts one run for every function whose trigger matches; durable when it returns. A definition in place of
   * the name types the data, and its schema checks and encodes it: `SchemaValidationError` names what does not fit, and nothing is
   * sent.
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
   */
  emitSync<const E extends EventRef<Events>>(
    event: E,
    data: DataFor<E, Events>,
    options?: Options<F, TriggerSyncOptions>
  ): Kind<F, TriggerSyncResult, EmitSyncError>
  /**
   * Emits 1 to 1000 events in their order, in one transaction: all or none. Returns a result for each. Other Ironflow servers store
   * them one after the other.
   */
  emitMany<const L extends ReadonlyArray<unknown>>(
    events: { readonly [I in keyof L]: EmitManyEvent<L[I], Events> },
    ...options: CallArgs<F>
  ): Kind<F, Array<EmitResult>, ClientError>
}

/** The client's methods, in the reading `F`. `Events` has the data of events by their names. */
export interface ClientApi<F extends HKT.TypeLambda, Events extends object = AnyEvents> extends EmitApi<
  F,
  Events
> {
  /** Publishes a message to a topic. Starts no function. */
  publish(
    topic: string,
    data: unknown,
    options?: Options<F, PublishOptions>
  ): Kind<F, PublishResult, ClientError>
  /** Topics that hold messages or have held some, by name. */
  listTopics(...options: CallArgs<F>): Kind<F, Array<TopicInfo>, ClientError>
  /** What a topic holds and how far its consumers are; zeros for a topic without messages. */
  getTopicStats(topic: string, ...options: CallArgs<F>): Kind<F, TopicStats, ClientError>
  getRun(runId: string, ...options: CallArgs<F>): Kind<F, Run, RunNotFoundError | ClientError>
  listRuns(options?: Options<F, ListRunsOptions>): Kind<F, ListRunsResult, ClientError>
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
  cancelRun(runId: string, reason?: string, ...options: CallArgs<F>): Kind<F, Run, SteerError>
  /**
   * Runs a failed or cancelled run again: completed steps keep their results, from `fromStep` (a name or step id) on
   * they run again.
   */
  retryRun(
    runId: string,
    fromStep?: string,
    ...options: CallArgs<F>
  ): Kind<F, Run, StepNotFoundError | SteerError>
  /** Continues a paused run, or retries a failed one. */
  resumeRun(
    runId: string,
    fromStep?: string,
    ...options: CallArgs<F>
  ): Kind<F, Run, StepNotFoundError | SteerError>
  /** Keeps a run from being dispatched until `resumeRun`; a turn in flight is called back. */
  pauseRun(runId: string, reason?: string, ...options: CallArgs<F>): Kind<F, Run, SteerError>
  /** Replaces the output of a step that has finished, or finishes one that has not. */
  patchStep(
    stepId: string,
    output: unknown,
    reason?: string,
    ...options: CallArgs<F>
  ): Kind<F, void, StepNotFoundError | SteerError>
  listFunctions(...options: CallArgs<F>): Kind<F, Array<FunctionInfo>, ClientError>
  /**
   * Forgets a function that is no longer in anybody's code: no event, schedule or invocation starts it any more. Its runs
   * stay; cancel those that have not ended. A worker that registers it brings it back, so that this fails with
   * `InvalidStateError` while a live worker has it.
   */
  deleteFunction(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, void, FunctionNotFoundError | InvalidStateError | ClientError>
  listWorkers(...options: CallArgs<F>): Kind<F, Array<WorkerInfo>, ClientError>
  /** What the server can do beyond what every Ironflow server can. */
  getCapabilities(...options: CallArgs<F>): Kind<F, ServerCapabilities, ClientError>
  /**
   * `"ok"` when the engine answers and its database is sound; `"degraded"` when something in the database is damaged or cannot be
   * written, and `"down"` when another engine has taken it over: the engine's log says what, and `GET /health` in short.
   */
  health(...options: CallArgs<F>): Kind<F, string, ClientError>
}

/** Every method of {@link ClientApi} by name; what the Promise face is derived from. */
export const clientMethods = [
  "emit",
  "trigger",
  "emitSync",
  "emitMany",
  "publish",
  "listTopics",
  "getTopicStats",
  "getRun",
  "listRuns",
  "getRunSteps",
  "getRunAudit",
  "explain",
  "waitForRun",
  "cancelRun",
  "retryRun",
  "resumeRun",
  "pauseRun",
  "patchStep",
  "listFunctions",
  "deleteFunction",
  "listWorkers",
  "getCapabilities",
  "health"
] as const satisfies ReadonlyArray<keyof ClientApi<EffectKind>>

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
