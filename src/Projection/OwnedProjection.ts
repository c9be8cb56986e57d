/**
 * What a worker does while a projection belongs to it: it reads and processes batches of events, and renews its lease
 * on the projection while a batch takes long.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { serializeError, toError } from "../Errors.ts"
import type { Logger } from "../Logger.ts"
import type {
  NewDeadLetter,
  ProjectionBatch,
  ProjectionFeed,
  ProjectionLease,
  ProjectionLogEvent
} from "../Protocol/ProjectionOwners.ts"
import { Fold, MAX_STATES } from "./Fold.ts"
import type { EventFailure, ProjectionHandler } from "./ProjectionHandler.ts"
import { eventTracing } from "./EventTracing.ts"
import { type Interruption, Progress, type RunnerError } from "./Progress.ts"
import { type AnyProjection, maxBatchSize, maxReadEvents } from "./Projection.ts"
import { States } from "./States.ts"

/** How many batches a managed projection that is far behind may fold before it saves. */
const MAX_UNSAVED_BATCHES = 50

/**
 * How long a fold of several batches should take, in milliseconds. Clients do not see the states of a fold before the
 * fold has ended and saved them.
 */
const FOLD_MS = 200

interface OwnershipOptions {
  readonly projection: AnyProjection
  readonly feed: ProjectionFeed
  readonly logger: Logger
  readonly projectionHandler: ProjectionHandler
  readonly lease: ProjectionLease
  readonly unlessStopped: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A | "stop", E>
  /** Called when a batch was processed and saved: then the engine has answered. */
  readonly onAnswered: () => void
}

/** A projection, while it belongs to this worker. */
export class OwnedProjection {
  readonly #options: OwnershipOptions
  readonly #lease: ProjectionLease
  readonly #name: string
  readonly #aborted = new AbortController()
  readonly #states: States
  readonly #progress: Progress
  readonly #fold: Fold
  /** When the last request that renewed the lease was sent, in milliseconds of a monotonic clock. */
  #heldSince = 0

  constructor(options: OwnershipOptions) {
    this.#options = options
    this.#lease = options.lease
    this.#name = options.projectionHandler.registration.name
    this.#states = new States(options.projectionHandler, this.#aborted.signal)
    const { feed, projectionHandler, lease, logger, projection, unlessStopped } = options
    const recordAnswer = <A, E>(request: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      this.#recordAnswer(request)
    const states = this.#states
    const { maxRetries } = projection.config
    this.#progress = new Progress({
      name: this.#name,
      feed,
      lease,
      logger,
      maxRetries,
      states,
      recordAnswer,
      unlessStopped
    })
    this.#fold = new Fold({ feed, projectionHandler, lease, states, recordAnswer }, this.#progress)
  }

  /** Aborts the signal of the handlers in flight. */
  readonly end = (): void =>
    this.#aborted.abort(new Error(`Projection "${this.#name}" no longer belongs to this worker`))

  /** Processes batches. Ends when the runner is stopped, or the projection belongs to another worker. */
  readonly run: Effect.Effect<void, RunnerError> = Effect.suspend(() =>
    Effect.raceFirst(this.#work, this.#keepLease)
  )

  get #work(): Effect.Effect<void, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const { feed, projection, unlessStopped } = this.#options
      const { batchSize, mode } = projection.config
      const clock = yield* Clock.Clock
      const maxLimit = Math.min(batchSize * MAX_UNSAVED_BATCHES, maxReadEvents)
      let limit = batchSize
      while (true) {
        const batch = yield* unlessStopped(this.#recordAnswer(feed.read(this.#lease, limit)))
        if (batch === "stop" || batch === undefined) return
        // a managed projection that is far behind folds several batches before it saves: saving takes most of the
        // time
        const isFull = mode === "managed" && batch.events.length >= Math.min(limit, maxBatchSize)
        const startedAt = clock.currentTimeMillisUnsafe()
        const interruption = yield* this.#process(batch)
        if (interruption !== undefined) return
        this.#options.onAnswered()
        const tookMs = clock.currentTimeMillisUnsafe() - startedAt
        if (!isFull || this.#progress.savedStates > MAX_STATES / 4) limit = batchSize
        else if (tookMs < FOLD_MS / 4) limit = Math.min(limit * 4, maxLimit)
        else if (tookMs > FOLD_MS) limit = Math.max(Math.floor(limit / 4), batchSize)
      }
    })
  }

  /**
   * Renews the lease while a batch takes long. Ends when the projection may belong to another worker by now.
   */
  get #keepLease(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      const { feed, logger } = this.#options
      const { leaseMs } = this.#lease
      const now = Effect.map(Clock.Clock, (clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
      this.#heldSince = yield* now
      // a lease without an end: the worker is in the engine's process, or works for a server without leases of
      // projections
      if (!Number.isFinite(leaseMs)) return yield* Effect.never
      while (true) {
        yield* Effect.sleep(leaseMs / 6)
        if ((yield* now) - this.#heldSince < leaseMs / 3) continue
        const isOwner = yield* Effect.match(this.#recordAnswer(feed.renew(this.#lease)), {
          onSuccess: (isHeld) => isHeld,
          // without an answer, this worker may still own the projection: the renewal is tried again
          onFailure: () => true
        })
        if (!isOwner) return
        if ((yield* now) - this.#heldSince > (leaseMs * 5) / 6) {
          return logger.warn(
            `This worker no longer runs projection "${this.#name}": the engine could not be reached before the lease on the projection ended. The worker claims the projection again when the engine answers`
          )
        }
      }
    })
  }

  #recordAnswer<A, E>(request: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.flatMap(Clock.Clock, (clock) => {
      const sentAt = Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      return Effect.tap(request, () =>
        Effect.sync(() => (this.#heldSince = Math.max(this.#heldSince, sentAt)))
      )
    })
  }

  /** Processes a batch. Everything in the batch is saved when this returns `undefined`. */
  #process(batch: ProjectionBatch): Effect.Effect<Interruption | undefined, RunnerError> {
    if (batch.retries.length > 0) return this.#retry(batch.retries)
    if (batch.position <= this.#progress.position) return Effect.succeed(undefined)
    return this.#options.projectionHandler.registration.mode === "external"
      ? this.#callAll(batch.events, batch.position)
      : this.#fold.foldAll(batch.events, batch.position)
  }

  #callAll(
    events: ReadonlyArray<ProjectionLogEvent>,
    end: number
  ): Effect.Effect<Interruption | undefined, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const { projectionHandler } = this.#options
      const traceHandling = eventTracing(
        yield* Effect.context<never>(),
        yield* Clock.Clock,
        projectionHandler.registration.name
      )
      let deadLetters: Array<NewDeadLetter> = []
      for (let i = 0; i < events.length;) {
        const event = events[i]!
        const attempt = this.#progress.attemptFor(event)
        const called = traceHandling(event, attempt, () =>
          projectionHandler.call(event, { attempt, signal: this.#aborted.signal })
        )
        const failure = Effect.isEffect(called) ? yield* called : called
        if (failure === undefined) {
          i++
          continue
        }
        const letter = this.#progress.deadLetterOf(event, attempt, failure.error)
        if (letter !== undefined) {
          deadLetters.push(letter)
          i++
          continue
        }
        const interruption = yield* this.#progress.tryLater(
          event,
          attempt,
          failure.error,
          [],
          deadLetters,
          events[i - 1]?.position
        )
        if (interruption !== undefined) return interruption
        deadLetters = []
      }
      return yield* this.#progress.save({ to: end, states: [], deadLetters, resolved: [] })
    })
  }

  /** Retries the dead letters that a user has asked to retry: each dead letter once, on the current state. */
  #retry(events: ReadonlyArray<ProjectionLogEvent>): Effect.Effect<Interruption | undefined, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const { projectionHandler, logger } = this.#options
      const isManaged = projectionHandler.registration.mode === "managed"
      const states = this.#states
      states.checksEveryState = true
      for (const event of events) {
        let failure: EventFailure | undefined
        if (isManaged) {
          const partition = this.#fold.partitionOf(event)
          if (!(yield* this.#fold.readStates([partition]))) return "lost"
          const folded = typeof partition === "string" ? states.fold(partition, event, 1) : partition
          failure = Effect.isEffect(folded) ? yield* folded : folded
        } else {
          failure = yield* projectionHandler.call(event, { attempt: 1, signal: this.#aborted.signal })
        }
        if (failure !== undefined) {
          logger.error(
            `Projection "${this.#name}" failed again for the dead letter at position ${event.position}: ${toError(failure.error).message}`
          )
        }
        const changedStates =
          isManaged && failure === undefined ? yield* this.#fold.changedStates() : undefined
        const interruption = yield* this.#progress.save({
          to: this.#progress.position,
          states: changedStates?.states ?? [],
          deadLetters:
            failure === undefined
              ? []
              : [{ position: event.position, error: serializeError(failure.error), attempts: 1 }],
          resolved: failure === undefined ? [event.position] : []
        })
        if (interruption !== undefined) return interruption
      }
      states.checksEveryState = false
      return undefined
    })
  }
}
