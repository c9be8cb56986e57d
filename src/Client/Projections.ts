/**
 * Projections as their users and operators see them: read a state, wait until it is far enough, see how it does, steer it.
 *
 * {@link ProjectionsApi} is written once and read twice: as Effects by the {@link Projections} service, as Promises by
 * `client.projections`.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import type { InvalidStateError, ProjectionNotFoundError } from "../Errors.ts"
import type { ProjectionMode } from "../Projection/Projection.ts"
import type { SubscribeError } from "./Subscriptions.ts"
import type { CallArgs, CallOptions, ClientError, EffectKind, Kind, Options, RunError } from "./Client.ts"
import type { ProjectionStatus } from "../Protocol/Projections.ts"

export interface CatchupOptions {
  /**
   * A position in the log: `position` of what `emit` returned, `sequence` of a message. The call waits until everything up
   * to there is projected.
   */
  readonly after?: number | undefined
  /** Give up waiting after this many milliseconds with a `ProjectionBehindError`; 30000 by default. */
  readonly timeout?: number
}

export interface GetProjectionOptions extends CatchupOptions {
  /** The partition; that of a projection without partitions by default. */
  readonly partition?: string
}

/** The state of one partition. Times are ISO strings. */
// oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
export interface ProjectionStateResult<S = any> {
  readonly name: string
  readonly partition: string
  /** `{}` when nothing was projected yet, and for an external projection. */
  readonly state: S
  /** The last event in the state; absent when there is none. */
  readonly lastEventId?: string
  readonly lastEventTime?: string
  /** Position of that event; 0 when there is none. For an external projection, everything up to here is done. */
  readonly lastEventSeq: number
  /** How often the state was saved. */
  readonly version: number
  readonly mode: ProjectionMode
  readonly status: ProjectionStatus
  readonly errorMessage?: string
  readonly updatedAt: string
}

export interface ProjectionSubscribeOptions {
  /** The partition whose states to get; those of all by default. */
  readonly partition?: string
  /** Begin with the states that there are; by default with the first that changes. */
  readonly includeCurrent?: boolean
  /** Called when the subscription stands, so that it brings every change after that; again after each reconnection. */
  readonly onOpen?: () => void
}

/** How a projection does: one sentence, and the facts behind it. Times are ISO strings. */
export interface ProjectionStatusInfo {
  readonly name: string
  readonly mode: ProjectionMode
  readonly status: ProjectionStatus
  /** A sentence for a person. */
  readonly message: string
  readonly events: ReadonlyArray<string>
  readonly partitionKey?: string
  /** Everything up to here is projected. */
  readonly lastEventSeq: number
  /** Events in the log that wait to be projected. */
  readonly lag: number
  /** The worker that it belongs to; absent while there is none. */
  readonly owner?: string
  /** One more with every owner and every rebuild. */
  readonly generation: number
  readonly pausedBy?: string
  readonly pausedAt?: string
  readonly pauseReason?: string
  /** Where a rebuild will be done. */
  readonly rebuildTo?: number
  /** The last thing that went wrong, also when it has been got over. */
  readonly errorMessage?: string
  readonly lastError?: RunError & { readonly position: number; readonly at: string }
  /** The event that is tried again, and how often it has failed. */
  readonly failing?: { readonly position: number; readonly failures: number }
  readonly deadLetters: number
  /** Saves that were refused because their worker was not the owner any more. */
  readonly refusedSaves: number
  readonly createdAt: string
  readonly updatedAt: string
}

/** Of a rebuild: nothing but the options of every call on the Promise face. */
export type RebuildProjectionOptions = CallOptions

export interface PauseProjectionOptions {
  /** Who pauses it, for those who see it paused; "a client" by default. */
  readonly by?: string
  readonly reason?: string
}

/** An event that a projection has given up. */
export interface DeadLetter {
  /** Position of the event in the log; what `retryDeadLetter` takes. */
  readonly position: number
  readonly event: {
    readonly id: string
    readonly name: string
    readonly version: number
    readonly data: unknown
    readonly timestamp: string
  }
  readonly error: RunError
  readonly attempts: number
  /** ISO string. */
  readonly failedAt: string
  /** It was asked to be tried again, and waits for the worker. */
  readonly retrying: boolean
}

export interface ListDeadLettersOptions {
  /** 100 by default, 1000 at most. */
  readonly limit?: number
  /** Position after which to begin: that of the last one of the page before. */
  readonly after?: number
}

/** Where a projection is in the log. */
export interface Catchup {
  readonly lastEventSeq: number
}

/** What may go wrong with one projection: no worker has registered it. */
export type ProjectionError = ProjectionNotFoundError | ClientError

/** The methods about projections, in the reading `F`. */
export interface ProjectionsApi<F extends HKT.TypeLambda> {
  /** The state of a partition; with `after`, once it is as far as that. */
  // oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
  get<S = any>(
    name: string,
    options?: Options<F, GetProjectionOptions>
  ): Kind<F, ProjectionStateResult<S>, ProjectionError>
  list(...options: CallArgs<F>): Kind<F, Array<ProjectionStatusInfo>, ClientError>
  status(name: string, ...options: CallArgs<F>): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** Waits until everything up to `after` is projected. */
  waitForCatchup(
    name: string,
    options: Options<F, CatchupOptions & { readonly after: number | undefined }>
  ): Kind<F, Catchup, ProjectionError>
  /**
   * Forgets position and dead letters, and projects everything again from the beginning of the log, while the worker goes on.
   * Until that is done, `get` returns the state from before; with `after`, it waits. An external projection is called again
   * for every event.
   */
  rebuild(name: string, ...options: CallArgs<F>): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** No more events are handed out; what the worker has in hand is still saved. */
  pause(
    name: string,
    options?: Options<F, PauseProjectionOptions>
  ): Kind<F, ProjectionStatusInfo, ProjectionError>
  resume(name: string, ...options: CallArgs<F>): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** Deletes the projection and its states. A worker that still runs it begins anew. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, ProjectionError>
  /** Oldest first. */
  deadLetters(
    name: string,
    options?: Options<F, ListDeadLettersOptions>
  ): Kind<F, Array<DeadLetter>, ProjectionError>
  /**
   * Has a dead letter tried once more. A managed projection folds its event into the state as it is then, as if it had come
   * just now; where the order matters, `rebuild` instead. `INVALID_STATE` when there is no such dead letter.
   */
  retryDeadLetter(
    name: string,
    position: number,
    ...options: CallArgs<F>
  ): Kind<F, void, InvalidStateError | ProjectionError>
  /** The same for all of them; returns how many there are. */
  retryDeadLetters(name: string, ...options: CallArgs<F>): Kind<F, number, ProjectionError>
}

/** Every method of {@link ProjectionsApi} by name; what the Promise face is derived from. */
export const projectionsMethods = [
  "get",
  "list",
  "status",
  "waitForCatchup",
  "rebuild",
  "pause",
  "resume",
  "delete",
  "deadLetters",
  "retryDeadLetter",
  "retryDeadLetters"
] as const satisfies ReadonlyArray<keyof ProjectionsApi<EffectKind>>

export interface ProjectionsService extends ProjectionsApi<EffectKind> {
  /**
   * The states of a managed projection as they change, each as `get` returns it. Whoever is slower than the projection gets the
   * newest state of each partition and not those in between. Over HTTP it goes on after a lost connection, with what has
   * changed meanwhile. `INVALID_STATE` for an external projection.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
  subscribe<S = any>(
    name: string,
    options?: ProjectionSubscribeOptions
  ): Stream.Stream<ProjectionStateResult<S>, InvalidStateError | SubscribeError | ProjectionError>
}

/** Projections as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class Projections extends Context.Service<Projections, ProjectionsService>()(
  "@ironflow/node/Projections"
) {}

/** How long a call waits for a projection unless it says otherwise, milliseconds. */
export const CATCHUP_TIMEOUT_MS = 30_000
