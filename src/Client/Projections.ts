/**
 * Projections: read their states, wait until they have caught up, monitor and control them.
 *
 * {@link ProjectionsApi} is declared once, for two kinds: the {@link Projections} service returns Effects,
 * and `client.projections` returns Promises.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import { type InvalidStateError, type ProjectionNotFoundError, ValidationError } from "../Errors.ts"
import { show } from "../Show.ts"
import type {
  DeadLetter,
  PauseProjectionOptions,
  ProjectionMode,
  ProjectionStateResult,
  ProjectionStatusInfo
} from "../Protocol/Projections.ts"
import type { SubscribeError } from "./Subscriptions.ts"
import type { CallArgs, CallOptions, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods, type StreamMethods } from "./Methods.ts"

export type {
  DeadLetter,
  PauseProjectionOptions,
  ProjectionStateResult,
  ProjectionStatusInfo
} from "../Protocol/Projections.ts"

/** Options of a call that waits until a projection has caught up. */
export interface CatchupOptions {
  /**
   * A position in the log: `position` in the result of `emit`, or `sequence` of a message. The call waits until everything up to
   * this position is projected.
   */
  readonly after?: number | undefined
  /** Timeout of the wait, in milliseconds; 30000 by default. The call then fails with `ProjectionBehindError`. */
  readonly timeout?: number
}

/** Options of `get`. */
// oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
export interface GetProjectionOptions<S = any> extends CatchupOptions {
  /** The partition; by default the only one of a projection without partitions. */
  readonly partition?: string
  /**
   * Makes the state of a partition in which nothing was projected yet; `() => ({})` by default. The engine does not know
   * the `initialState` of the projection, which is code of the worker: give the same function here.
   */
  readonly initialState?: () => S
}

/** The state of a partition in which nothing was projected yet. An external projection has no states. */
export const stateOfNothing = (
  mode: ProjectionMode,
  { initialState }: Pick<GetProjectionOptions, "initialState">
): unknown => (mode === "managed" && initialState !== undefined ? initialState() : {})

/** Options of `subscribe`. */
export interface ProjectionSubscribeOptions {
  /** The partition; all by default. */
  readonly partition?: string
  /** Whether to begin with the current states. By default the stream begins with the first change. */
  readonly includeCurrent?: boolean
  /** Called when the subscription is active and misses no later change; called again after each reconnection. */
  readonly onOpen?: () => void
}

/** Options of `rebuild`. */
export type RebuildProjectionOptions = CallOptions

/** Options of `deadLetters`. */
export interface ListDeadLettersOptions {
  /** Dead letters per call; 100 by default, 1000 at most. */
  readonly limit?: number
  /** Lists only dead letters after this position. For the next page, give the position of the last dead letter. */
  readonly after?: number
}

/** Where a projection is in the log. */
export interface Catchup {
  /** Position in the log up to which everything is projected. */
  readonly lastEventSeq: number
}

/** Errors of a call about one projection: no worker has registered it. */
export type ProjectionError = ProjectionNotFoundError | ClientError

/** The methods of projections, for the API kind `F`. */
export interface ProjectionsApi<F extends HKT.TypeLambda> {
  /**
   * Returns the state of a partition. With `after`, first waits until everything up to that position is projected. A
   * partition in which nothing was projected yet has the state `{}`, or that of the option `initialState`.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
  get<S = any>(
    name: string,
    options?: Options<F, GetProjectionOptions<S>>
  ): Kind<F, ProjectionStateResult<S>, ProjectionError>
  /** Returns the status of all projections of the environment. */
  list(...options: CallArgs<F>): Kind<F, Array<ProjectionStatusInfo>, ClientError>
  /** Returns the status of a projection. */
  status(name: string, ...options: CallArgs<F>): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** Waits until everything up to `after` is projected. */
  waitForCatchup(
    name: string,
    options: Options<F, CatchupOptions & { readonly after: number | undefined }>
  ): Kind<F, Catchup, ProjectionError>
  /**
   * Rebuilds a projection from the beginning of the log: resets its position and deletes its dead letters,
   * while the worker keeps running. Until the projection has caught up, `get` returns the old state, or waits if it is
   * called with `after`. An external projection is called again for every event.
   */
  rebuild(name: string, ...options: CallArgs<F>): Kind<F, ProjectionStatusInfo, ProjectionError>
  /**
   * Pauses a projection: it gets no more events, but the worker may still save its current batch. If the
   * projection is paused already, a new reason replaces the old one.
   */
  pause(
    name: string,
    options?: Options<F, PauseProjectionOptions>
  ): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** Resumes a paused projection. Does nothing if it is not paused. */
  resume(name: string, ...options: CallArgs<F>): Kind<F, ProjectionStatusInfo, ProjectionError>
  /** Deletes the projection and its states. A worker that still runs it begins again with the first event. */
  delete(name: string, ...options: CallArgs<F>): Kind<F, void, ProjectionError>
  /** Lists the dead letters, oldest first. */
  deadLetters(
    name: string,
    options?: Options<F, ListDeadLettersOptions>
  ): Kind<F, Array<DeadLetter>, ProjectionError>
  /**
   * Retries a dead letter once. A managed projection applies the event to its current state, and so out of
   * order; use `rebuild` if the order matters. Fails with `INVALID_STATE` when there is no such dead letter.
   */
  retryDeadLetter(
    name: string,
    position: number,
    ...options: CallArgs<F>
  ): Kind<F, void, InvalidStateError | ProjectionError>
  /** Retries all dead letters of a projection, each of them once. Returns how many there were. */
  retryDeadLetters(name: string, ...options: CallArgs<F>): Kind<F, number, ProjectionError>
}

const catchupKeys = { ...callKeys, after: true, timeout: true } as const
const projectionErrors = { ProjectionNotFoundError: true } as const

/** Names, options and errors of the methods. */
export const projectionsMethods: Methods<ProjectionsApi<PromiseKind>, ProjectionsApi<EffectKind>> = {
  get: [[null, { ...catchupKeys, partition: true, initialState: true }], projectionErrors],
  list: [[callKeys]],
  status: [idArguments, projectionErrors],
  waitForCatchup: [[null, catchupKeys], projectionErrors],
  rebuild: [idArguments, projectionErrors],
  pause: [[null, { ...callKeys, by: true, reason: true }], projectionErrors],
  resume: [idArguments, projectionErrors],
  delete: [idArguments, projectionErrors],
  deadLetters: [[null, { ...callKeys, limit: true, after: true }], projectionErrors],
  retryDeadLetter: [[null, null, callKeys], { ...projectionErrors, InvalidStateError: true }],
  retryDeadLetters: [idArguments, projectionErrors]
}

/** The projections of an environment, as Effects. */
export interface ProjectionsService extends ProjectionsApi<EffectKind> {
  /**
   * Streams the states of a managed projection when they change, each in the form in which `get` returns it.
   * A consumer that is slower than the projection gets the newest state of each partition, and misses states in
   * between. Over HTTP the stream continues after a reconnection, with the states that have changed meanwhile.
   * Fails with `INVALID_STATE` for an external projection.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
  subscribe<S = any>(
    name: string,
    options?: ProjectionSubscribeOptions
  ): Stream.Stream<ProjectionStateResult<S>, InvalidStateError | SubscribeError | ProjectionError>
}

/** Name, options and errors of `subscribe`. */
export const projectionsUpdates: StreamMethods<Pick<ProjectionsService, "subscribe">> = {
  subscribe: [
    [null, { partition: true, includeCurrent: true, onOpen: true }],
    { ...projectionErrors, InvalidStateError: true, SubscriptionError: true, ClosedError: true }
  ]
}

/** Projections as an Effect service. `Engine.layerClient` provides it inside the engine's process. */
export class Projections extends Context.Service<Projections, ProjectionsService>()(
  "@ironflow/node/Projections"
) {}

/** The timeout of a wait for a projection when none is given, in milliseconds. */
const CATCHUP_TIMEOUT_MS = 30_000

/** Checks the options of a call that waits, and fills in defaults. Throws `ValidationError`. */
export const checkCatchup = (
  call: "get" | "waitForCatchup",
  { after, timeout = CATCHUP_TIMEOUT_MS }: CatchupOptions = {}
): {
  readonly after?: number
  readonly timeout: number
} => {
  if (after === undefined) return { timeout }
  if (!Number.isSafeInteger(after) || after < 0) {
    throw new ValidationError(
      `\`after\` must be a position in the log: an integer, at least 0, such as \`position\` in the result of emit(). Got ${show(after)}`
    )
  }
  if (!(timeout >= 0 && Number.isFinite(timeout))) {
    throw new ValidationError(
      `The timeout of projections.${call} must be a finite number of milliseconds, at least 0, got ${show(timeout)}`
    )
  }
  return { after, timeout }
}
