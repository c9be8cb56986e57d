/**
 * Runs one projection until it is stopped. It claims the projection, reads batches, folds them or calls the
 * handler, and saves.
 *
 * An event whose handler fails is retried up to `maxRetries` times, with a delay that doubles each time, up to a
 * minute; the projection waits meanwhile. An error that is not retryable is not retried. When no retry is left, the event
 * becomes a dead letter, and the projection continues after it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { calculateBackoff } from "../Backoff.ts"
import {
  type AccessError,
  toError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError
} from "../Errors.ts"
import type { Logger } from "../Logger.ts"
import type { ProjectionFeed } from "../Protocol/ProjectionOwners.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { type ProjectionHandler, makeProjectionHandler } from "./ProjectionHandler.ts"
import { OwnedProjection } from "./OwnedProjection.ts"
import { LONGEST_RECONNECT_MS, RECONNECT_MS } from "./Progress.ts"
import type { AnyProjection } from "./Projection.ts"
import { encodeState } from "./States.ts"

export interface RunnerOptions {
  readonly projection: AnyProjection
  readonly feed: ProjectionFeed
  readonly eventDefinitions: EventDefinitionRegistry | undefined
  readonly logger: Logger
}

export interface Runner {
  /**
   * Runs the projection until `stop` is called, or until the projection is refused: by the engine, or because its
   * initial state cannot be made or stored. A refusal is logged.
   */
  readonly run: Effect.Effect<void>
  /** Waits until the engine has registered or refused the projection. */
  readonly registered: Effect.Effect<void>
  /** Asks the runner to stop. It finishes and saves the current batch first, unless an event of the batch fails. */
  readonly stop: Effect.Effect<void>
}

export const makeRunner = (options: RunnerOptions): Effect.Effect<Runner> =>
  Effect.gen(function* () {
    const stopRequest = yield* Deferred.make<void>()
    const whenStopped = Effect.as(Deferred.await(stopRequest), "stop" as const)
    const registered = yield* Deferred.make<void>()
    const { feed, logger } = options
    const projectionHandler = makeProjectionHandler(options)
    const { name } = projectionHandler.registration

    /** Waits for `self`, or until the runner is stopped. */
    const unlessStopped = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A | "stop", E> =>
      Effect.raceFirst(self, whenStopped)

    let outages = 0
    const onAnswered = (): void => {
      if (outages > 0) logger.info(`Projection "${name}" continues: the engine answers again`)
      outages = 0
    }

    const claimAndOwn = Effect.gen(function* () {
      // The first claim does not wait, so the engine answers at once, also when another worker owns the projection.
      // After either answer the projection is registered.
      const waitMs = Deferred.isDoneUnsafe(registered) ? undefined : 0
      const claim = yield* unlessStopped(feed.claim(projectionHandler.registration, waitMs))
      if (claim === "stop") return
      Deferred.doneUnsafe(registered, Exit.void)
      if (claim._tag === "Busy") return
      const ownership = new OwnedProjection({
        ...options,
        projectionHandler,
        lease: claim.lease,
        unlessStopped,
        onAnswered
      })
      logger.debug(`Projection "${name}" is run by this worker from position ${claim.lease.position} on`)
      yield* Effect.ensuring(
        ownership.run,
        Effect.andThen(Effect.sync(ownership.end), feed.release(claim.lease))
      )
    })

    const refuse = (why: Error, ...details: ReadonlyArray<unknown>): void => {
      logger.error(`Projection "${name}" does not run: ${why.message}`, ...details)
      Deferred.doneUnsafe(registered, Exit.void)
    }

    const run = Effect.gen(function* () {
      checkInitialState(projectionHandler)
      while (!Deferred.isDoneUnsafe(stopRequest)) {
        const failure = yield* claimAndOwn.pipe(
          Effect.as(undefined),
          // a defect means that a handler broke a rule: for example, it failed for an event that it had folded before
          Effect.catchDefect((defect) => Effect.fail(toError(defect))),
          Effect.catch(Effect.succeed)
        )
        if (failure === undefined) {
          onAnswered()
          continue
        }
        if (isAccessError(failure) || failure instanceof ValidationError) {
          return refuse(failure)
        }
        if (++outages === 1) logger.warn(`Projection "${name}" waits: ${failure.message}. Trying again`)
        yield* unlessStopped(Effect.sleep(calculateBackoff(outages, RECONNECT_MS, LONGEST_RECONNECT_MS)))
      }
    }).pipe(
      // a defect, such as an initial state that cannot be stored, ends this projection only
      Effect.catchDefect((defect) => Effect.sync(() => refuse(toError(defect), defect)))
    )
    return {
      run,
      registered: Deferred.await(registered),
      stop: Effect.asVoid(Deferred.succeed(stopRequest, undefined))
    }
  })

const isAccessError = (error: Error): error is AccessError =>
  error instanceof UnauthenticatedError || error instanceof UnauthorizedError

/** Throws when the initial state cannot be made or stored. */
const checkInitialState = ({ initialState, registration }: ProjectionHandler): void => {
  if (registration.mode === "managed") encodeState(registration.name, initialState())
}
