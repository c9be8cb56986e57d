/**
 * Projections as their users and operators see them: read a state, wait until it is far enough, see how it does, steer it.
 *
 * {@link ProjectionsApi} is written once and read twice: as Effects by the {@link Projections} service, as Promises by
 * `client.projections`.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import { type InvalidStateError, type ProjectionNotFoundError, ValidationError } from "../Errors.ts"
import { show } from "../Show.ts"
import type {
  DeadLetter,
  PauseProjectionOptions,
  ProjectionStateResult,
  ProjectionStatusInfo
} from "../Protocol/Projections.ts"
import type { SubscribeError } from "./Subscriptions.ts"
import type { CallArgs, CallOptions, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { byId, call, type Methods, type StreamMethods } from "./Methods.ts"

export type {
  DeadLetter,
  PauseProjectionOptions,
  ProjectionStateResult,
  ProjectionStatusInfo
} from "../Protocol/Projections.ts"

/** How long a read waits for a projection. */
export interface CatchupOptions {
  /**
   * A position in the log: `position` of what `emit` returned, `sequence` of a message. The call waits until everything up
   * to there is projected.
   */
  readonly after?: number | undefined
  /** Give up waiting after this many milliseconds with a `ProjectionBehindError`; 30000 by default. */
  readonly timeout?: number
}

/** Options of `get`. */
export interface GetProjectionOptions extends CatchupOptions {
  /** The partition; that of a projection without partitions by default. */
  readonly partition?: string
}

/** Options of `subscribe`. */
export interface ProjectionSubscribeOptions {
  /** The partition whose states to get; those of all by default. */
  readonly partition?: string
  /** Begin with the states that there are; by default with the first that changes. */
  readonly includeCurrent?: boolean
  /** Called when the subscription stands, so that it brings every change after that; again after each reconnection. */
  readonly onOpen?: () => void
}

/** Of a rebuild: nothing but the options of every call on the Promise face. */
export type RebuildProjectionOptions = CallOptions

/** Options of `listDeadLetters`. */
export interface ListDeadLettersOptions {
  /** 100 by default, 1000 at most. */
  readonly limit?: number
  /** Position after which to begin: that of the last one of the page before. */
  readonly after?: number
}

/** Where a projection is in the log. */
export interface Catchup {
  /** Position in the log up to which everything is projected. */
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
  /** How all projections of the environment do. */
  list(...options: CallArgs<F>): Kind<F, Array<ProjectionStatusInfo>, ClientError>
  /** How a projection does. */
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
  /** No more events are handed out; what the worker has in hand is still saved. One that is paused already has the newer reason, if one is given. */
  pause(
    name: string,
    options?: Options<F, PauseProjectionOptions>
  ): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** Lets a projection go on that was paused. One that is not paused stays as it is. */
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

const catchup = { ...call, after: true, timeout: true } as const
const ofProjection = { ProjectionNotFoundError: true } as const

/** What each method is called by, and takes. */
export const projectionsMethods: Methods<ProjectionsApi<PromiseKind>, ProjectionsApi<EffectKind>> = {
  get: [[null, { ...catchup, partition: true }], ofProjection],
  list: [[call]],
  status: [byId, ofProjection],
  waitForCatchup: [[null, catchup], ofProjection],
  rebuild: [byId, ofProjection],
  pause: [[null, { ...call, by: true, reason: true }], ofProjection],
  resume: [byId, ofProjection],
  delete: [byId, ofProjection],
  deadLetters: [[null, { ...call, limit: true, after: true }], ofProjection],
  retryDeadLetter: [[null, null, call], { ...ofProjection, InvalidStateError: true }],
  retryDeadLetters: [byId, ofProjection]
}

/** The projections of an environment, as Effects. */
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

/** How a subscription is called. */
export const projectionsUpdates: StreamMethods<Pick<ProjectionsService, "subscribe">> = {
  subscribe: [
    [null, { partition: true, includeCurrent: true, onOpen: true }],
    { ...ofProjection, InvalidStateError: true, SubscriptionError: true, ClosedError: true }
  ]
}

/** Projections as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class Projections extends Context.Service<Projections, ProjectionsService>()(
  "@ironflow/node/Projections"
) {}

/** How long a call waits for a projection unless it says otherwise, milliseconds. */
const CATCHUP_TIMEOUT_MS = 30_000

/** The options of a wait. Throws `ValidationError`. */
export const checkCatchup = ({ after, timeout = CATCHUP_TIMEOUT_MS }: CatchupOptions = {}): {
  readonly after?: number
  readonly timeout: number
} => {
  if (after === undefined) return { timeout }
  if (!Number.isSafeInteger(after) || after < 0) {
    throw new ValidationError(
      `\`after\` must be a position in the log, such as \`position\` of what emit() returned; got ${show(after)}`
    )
  }
  if (!(timeout >= 0 && Number.isFinite(timeout))) {
    throw new ValidationError(`\`timeout\` must be a number of milliseconds, got ${show(timeout)}`)
  }
  return { after, timeout }
}
