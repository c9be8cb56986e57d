/**
 * Runs one projection for as long as it is let: claims it, reads what comes next, folds it or calls the handler, saves.
 *
 * The rule for failures: an event whose handler fails is tried again `maxRetries` times, with a delay that doubles, while
 * the projection waits; an error that says that trying again cannot help is not. Then the event becomes a dead letter, and
 * the projection goes on after it.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { calculateBackoff } from "../Backoff.ts"
import type { AccessError } from "../Errors.ts"
import {
  ConnectionError,
  isRetryable,
  serializeError,
  toError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError
} from "../Errors.ts"
import type { Logger } from "../Logger.ts"
import type {
  NewDeadLetter,
  NewPartitionState,
  ProjectionBatch,
  ProjectionFeed,
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionSave,
  ProjectionSaved
} from "../Protocol/Projections.ts"
import { PARTITION_FUNCTION } from "../Protocol/Projections.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { Failed, type Handling, makeHandling } from "./Handling.ts"
import { GLOBAL_PARTITION } from "./Partition.ts"
import { type AnyProjection, maxBatchSize, maxReadEvents, type ProjectionEvent } from "./Projection.ts"
import { encodeState, States } from "./States.ts"

export interface RunnerOptions {
  readonly projection: AnyProjection
  readonly feed: ProjectionFeed
  readonly eventDefinitions: EventDefinitionRegistry | undefined
  readonly logger: Logger
}

export interface Runner {
  /** Runs until it is asked to stop, or the engine refuses the projection, which is logged. */
  readonly run: Effect.Effect<void>
  /** Waits until the engine knows the projection, or has refused it. */
  readonly registered: Effect.Effect<void>
  /** Asks to stop: the batch in hand is finished and saved, unless it fails. */
  readonly stop: Effect.Effect<void>
}

/** The delay before an event is tried again, and its longest, milliseconds. */
const RETRY_MS = 1000
const LONGEST_RETRY_MS = 60_000

/** The same while the engine cannot be reached. */
const RECONNECT_MS = 100
const LONGEST_RECONNECT_MS = 5000

/** Batches that a managed projection folds before it saves, at most, while it is far behind. */
const BATCHES = 50

/** So long such a fold should take, milliseconds: what it has folded is not seen before it is saved. */
const FOLD_MS = 200

/** States that are read or saved at once, at most. */
const STATES = 1000

/** Bytes of the states that one save carries, unless it is a single one. */
const SAVE_BYTES = 4 * 1024 * 1024

/** Why a runner leaves what it is doing. */
type Interruption = "stop" | "lost"

type Trouble = ConnectionError | ValidationError | AccessError

/** What is still to be done about an event that has failed. */
interface Failing {
  readonly position: number
  readonly failures: number
}

export const makeRunner = (options: RunnerOptions): Effect.Effect<Runner> =>
  Effect.gen(function* () {
    const stopping = yield* Deferred.make<void>()
    const stopped = Effect.as(Deferred.await(stopping), "stop" as const)
    const registered = yield* Deferred.make<void>()
    const { feed, logger } = options
    const handling = makeHandling(options)
    const { name } = handling.registration

    /** Waits for `self`, but not when the runner is to stop. */
    const unlessStopped = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A | "stop", E> =>
      Effect.raceFirst(self, stopped)

    let outages = 0
    const onWell = (): void => {
      if (outages > 0) logger.info(`Projection "${name}" goes on: the engine answers again`)
      outages = 0
    }

    const claimAndOwn = Effect.gen(function* () {
      // one that another worker has is registered too, and that is said at once only when asked so
      const waitMs = Deferred.isDoneUnsafe(registered) ? undefined : 0
      const claim = yield* unlessStopped(feed.claim(handling.registration, waitMs))
      if (claim === "stop") return
      Deferred.doneUnsafe(registered, Exit.void)
      if (claim._tag === "Busy") return
      const ownership = new Ownership({ ...options, handling, lease: claim.lease, unlessStopped, onWell })
      logger.debug(`Projection "${name}" is this worker's, from position ${claim.lease.position} on`)
      yield* Effect.ensuring(
        ownership.run,
        Effect.andThen(Effect.sync(ownership.end), feed.release(claim.lease))
      )
    })

    const refuse = (why: Error, ...more: ReadonlyArray<unknown>): void => {
      logger.error(`Projection "${name}" does not run: ${why.message}`, ...more)
      Deferred.doneUnsafe(registered, Exit.void)
    }

    const run = Effect.gen(function* () {
      checkInitialState(handling)
      while (!Deferred.isDoneUnsafe(stopping)) {
        const trouble = yield* claimAndOwn.pipe(
          Effect.as(undefined),
          // what a handler must not do, such as failing for events that it has folded before
          Effect.catchDefect((defect) => Effect.fail(toError(defect))),
          Effect.catch(Effect.succeed)
        )
        if (trouble === undefined) {
          onWell()
          continue
        }
        if (isAccessError(trouble) || trouble instanceof ValidationError) {
          return refuse(trouble)
        }
        if (++outages === 1) logger.warn(`Projection "${name}" waits: ${trouble.message}. Trying again`)
        yield* unlessStopped(Effect.sleep(calculateBackoff(outages, RECONNECT_MS, LONGEST_RECONNECT_MS)))
      }
    }).pipe(
      // a first state that is impossible: this projection ends, everything else goes on
      Effect.catchDefect((defect) => Effect.sync(() => refuse(toError(defect), defect)))
    )
    return {
      run,
      registered: Deferred.await(registered),
      stop: Effect.asVoid(Deferred.succeed(stopping, undefined))
    }
  })

const isAccessError = (error: Error): error is AccessError =>
  error instanceof UnauthenticatedError || error instanceof UnauthorizedError

/** Throws what makes the projection impossible: a first state that cannot be made or stored. */
const checkInitialState = ({ initialState, registration }: Handling): void => {
  if (registration.mode === "managed") encodeState(registration.name, initialState())
}

/** How long a fold keeps the event loop to itself, milliseconds. */
const TURN_MS = 1

/** Events between two looks at the clock. */
const LOOKS = 8

/** A fold is synchronous, and others want to go on too. */
const makeTurn = (clock: Clock.Clock) => {
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let since = now()
  let count = 0
  return {
    isOver: () => ++count % LOOKS === 0 && now() - since >= TURN_MS,
    next: Effect.tap(Effect.yieldNow, () => Effect.sync(() => (since = now())))
  }
}

interface OwnershipOptions extends RunnerOptions {
  readonly handling: Handling
  readonly lease: ProjectionLease
  readonly unlessStopped: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A | "stop", E>
  /** Hears when a batch is done. */
  readonly onWell: () => void
}

/** The time in which a projection is this worker's. */
class Ownership {
  readonly #options: OwnershipOptions
  readonly #lease: ProjectionLease
  readonly #name: string
  readonly #aborted = new AbortController()
  readonly #states: States
  #position: number
  #failing: Failing | undefined
  #saves = 0
  /** States in the last save. */
  #savedStates = 0
  /** When the last request was sent that has shown the engine a sign of life, by a monotonic clock. */
  #heldSince = 0

  constructor(options: OwnershipOptions) {
    this.#options = options
    this.#lease = options.lease
    this.#name = options.handling.registration.name
    this.#position = options.lease.position
    this.#failing = options.lease.failing
    this.#states = new States(options.handling, this.#aborted.signal)
  }

  /** Handlers in flight are told. */
  readonly end = (): void =>
    this.#aborted.abort(new Error(`Projection "${this.#name}" is not this worker's any more`))

  /** Ends when the runner is to stop or the projection is another one's. */
  readonly run: Effect.Effect<void, Trouble> = Effect.suspend(() =>
    Effect.raceFirst(this.#work, this.#holdOn)
  )

  get #work(): Effect.Effect<void, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const { feed, projection, unlessStopped } = this.#options
      const { batchSize, mode } = projection.config
      const clock = yield* Clock.Clock
      const most = Math.min(batchSize * BATCHES, maxReadEvents)
      let limit = batchSize
      while (true) {
        const batch = yield* unlessStopped(this.#seen(feed.read(this.#lease, limit)))
        if (batch === "stop" || batch === undefined) return
        // a fold that is far behind need not save after every batch: that is what takes the time
        const isFull = mode === "managed" && batch.events.length >= Math.min(limit, maxBatchSize)
        const startedAt = clock.currentTimeMillisUnsafe()
        const left = yield* this.#process(batch)
        if (left !== undefined) return
        this.#options.onWell()
        const tookMs = clock.currentTimeMillisUnsafe() - startedAt
        if (!isFull || this.#savedStates > STATES / 4) limit = batchSize
        else if (tookMs < FOLD_MS / 4) limit = Math.min(limit * 4, most)
        else if (tookMs > FOLD_MS) limit = Math.max(Math.floor(limit / 4), batchSize)
      }
    })
  }

  /** Shows signs of life while a batch takes long. Ends when the projection may be another one's. */
  get #holdOn(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      const { feed, logger } = this.#options
      const { leaseMs } = this.#lease
      const now = Effect.map(Clock.Clock, (clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
      this.#heldSince = yield* now
      // a worker of the engine's process, or one of a server without leases
      if (!Number.isFinite(leaseMs)) return yield* Effect.never
      while (true) {
        yield* Effect.sleep(leaseMs / 6)
        if ((yield* now) - this.#heldSince < leaseMs / 3) continue
        const held = yield* Effect.match(this.#seen(feed.renew(this.#lease)), {
          onSuccess: (held) => held,
          // an engine that cannot be reached says nothing about whose it is
          onFailure: () => true
        })
        if (!held) return
        if ((yield* now) - this.#heldSince > (leaseMs * 5) / 6) {
          return logger.warn(
            `Projection "${this.#name}" is given up: the engine could not be reached for as long as the claim holds`
          )
        }
      }
    })
  }

  #seen<A, E>(request: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.flatMap(Clock.Clock, (clock) => {
      const sentAt = Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      return Effect.tap(request, () =>
        Effect.sync(() => (this.#heldSince = Math.max(this.#heldSince, sentAt)))
      )
    })
  }

  /** Everything in the batch is saved when it returns `undefined`. */
  #process(batch: ProjectionBatch): Effect.Effect<Interruption | undefined, Trouble> {
    if (batch.retries.length > 0) return this.#retry(batch.retries)
    if (batch.position <= this.#position) return Effect.succeed(undefined)
    return this.#options.handling.registration.mode === "external"
      ? this.#callAll(batch.events, batch.position)
      : this.#foldAll(batch.events, batch.position)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // External
  // -------------------------------------------------------------------------------------------------------------------

  #callAll(
    events: ReadonlyArray<ProjectionLogEvent>,
    end: number
  ): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const { handling } = this.#options
      let deadLetters: Array<NewDeadLetter> = []
      for (let i = 0; i < events.length;) {
        const event = events[i]!
        const attempt = this.#attemptFor(event)
        const failed = yield* handling.call(event, { attempt, signal: this.#aborted.signal })
        if (failed === undefined) {
          i++
          continue
        }
        const letter = this.#giveUp(event, attempt, failed.error)
        if (letter !== undefined) {
          deadLetters.push(letter)
          i++
          continue
        }
        const left = yield* this.#tryLater(
          event,
          attempt,
          failed.error,
          [],
          deadLetters,
          events[i - 1]?.position
        )
        if (left !== undefined) return left
        deadLetters = []
      }
      return yield* this.#save({ to: end, states: [], deadLetters, resolved: [] })
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Managed
  // -------------------------------------------------------------------------------------------------------------------

  #foldAll(
    batch: ReadonlyArray<ProjectionLogEvent>,
    end: number
  ): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const states = this.#states
      // what a failure in the middle has saved already is not folded again
      const events = batch.filter(({ position }) => position > this.#position)
      const decoded: Array<ProjectionEvent | undefined> = []
      const partitions: Array<string | Failed> = []
      const turn = makeTurn(yield* Clock.Clock)
      for (let i = 0; i < events.length; i++) {
        partitions.push(this.#partitionOf(events[i]!, (its) => (decoded[i] = its)))
        if (turn.isOver()) yield* turn.next
      }
      if (!(yield* this.#readStates(partitions))) return "lost"

      let deadLetters: Array<NewDeadLetter> = []
      for (let i = 0; i < events.length;) {
        if (turn.isOver()) yield* turn.next
        const event = events[i]!
        const partition = partitions[i]!
        if (typeof partition === "string" && states.has(partition, event)) {
          i++
          continue
        }
        const attempt = this.#attemptFor(event)
        const folded =
          typeof partition === "string" ? states.fold(partition, event, attempt, decoded[i]) : partition
        const failed = Effect.isEffect(folded) ? yield* folded : folded
        // a handler may have changed it, so the next try gets it anew
        decoded[i] = undefined
        if (failed === undefined) {
          i++
          continue
        }
        const letter = this.#giveUp(event, attempt, failed.error)
        if (letter !== undefined) {
          deadLetters.push(letter)
          if (typeof partition === "string") states.skip(partition, event)
          i++
          continue
        }
        const before = yield* this.#changed()
        if (before === undefined) return yield* this.#foldCarefully(events, end)
        const left = yield* this.#tryLater(
          event,
          attempt,
          failed.error,
          before.states,
          deadLetters,
          events[i - 1]?.position
        )
        if (left !== undefined) return left
        deadLetters = []
      }

      const changed = yield* this.#changed()
      if (changed === undefined) return yield* this.#foldCarefully(events, end)
      const rest = events.filter(({ position }) => position > this.#position)
      if ((changed.bytes > SAVE_BYTES || changed.states.length > STATES) && rest.length > 1) {
        states.reset()
        const half = Math.ceil(rest.length / 2)
        const left = yield* this.#foldAll(rest.slice(0, half), rest[half - 1]!.position)
        return left ?? (yield* this.#foldAll(rest.slice(half), end))
      }
      return yield* this.#save({ to: end, states: changed.states, deadLetters, resolved: [] })
    })
  }

  /** Folds what is not saved of the batch again, each state as JSON gives it back. */
  #foldCarefully(
    events: ReadonlyArray<ProjectionLogEvent>,
    end: number
  ): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.suspend(() => {
      const states = this.#states
      states.reset()
      states.careful = true
      return Effect.ensuring(
        this.#foldAll(events, end),
        Effect.sync(() => (states.careful = false))
      )
    })
  }

  /** Hands over the event if it had to be decoded, unless a function of the program has seen it. */
  #partitionOf(event: ProjectionLogEvent, handOver?: (decoded: ProjectionEvent) => void): string | Failed {
    const { handling } = this.#options
    const { partitionKey } = handling.registration
    if (partitionKey === undefined) return GLOBAL_PARTITION
    try {
      const its = handling.decode(event)
      if (partitionKey !== PARTITION_FUNCTION) handOver?.(its)
      return handling.partition(its)
    } catch (error) {
      return new Failed(error)
    }
  }

  /** Whether the projection is still this worker's. */
  #readStates(partitions: ReadonlyArray<string | Failed>): Effect.Effect<boolean, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const missing = this.#states.missing(partitions.filter((partition) => typeof partition === "string"))
      for (let i = 0; i < missing.length; i += STATES) {
        const read = yield* this.#seen(this.#options.feed.states(this.#lease, missing.slice(i, i + STATES)))
        if (read === undefined) return false
        this.#states.remember(read)
        if (i > 0) yield* Effect.yieldNow
      }
      return true
    })
  }

  /** A reducer that fails where it did not fail before is a defect: there is no state to save. */
  #changed() {
    return Effect.flatMap(this.#states.prepare, (failed) =>
      failed === undefined ? Effect.sync(() => this.#states.changed()) : Effect.die(failed.error)
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Failures
  // -------------------------------------------------------------------------------------------------------------------

  #attemptFor({ position }: ProjectionLogEvent): number {
    return this.#failing?.position === position ? this.#failing.failures + 1 : 1
  }

  /** A dead letter, unless the event is to be tried again. */
  #giveUp(event: ProjectionLogEvent, attempt: number, error: unknown): NewDeadLetter | undefined {
    const { logger, projection } = this.#options
    if (isRetryable(error) && attempt <= projection.config.maxRetries) return undefined
    logger.error(
      `Projection "${this.#name}" gives up event "${event.name}" ${event.id} at position ${event.position} after ${attempt} ` +
        `${attempt === 1 ? "attempt" : "attempts"}: ${toError(error).message}. It is a dead letter now; the projection goes on`
    )
    return { position: event.position, error: serializeError(error), attempts: attempt }
  }

  /** Saves what is before the event, with the failure, and waits. */
  #tryLater(
    event: ProjectionLogEvent,
    attempt: number,
    error: unknown,
    states: ReadonlyArray<NewPartitionState>,
    deadLetters: ReadonlyArray<NewDeadLetter>,
    before: number | undefined
  ): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const { logger, unlessStopped } = this.#options
      const failing = { position: event.position, failures: attempt }
      const delayMs = calculateBackoff(attempt, RETRY_MS, LONGEST_RETRY_MS)
      logger.warn(
        `Projection "${this.#name}" failed for event "${event.name}" ${event.id} at position ${event.position}: ` +
          `${toError(error).message}. Trying again in ${delayMs}ms`
      )
      const left = yield* this.#save({
        to: Math.max(this.#position, before ?? 0),
        states,
        deadLetters,
        resolved: [],
        failing: { ...failing, error: serializeError(error) }
      })
      if (left !== undefined) return left
      this.#failing = failing
      return (yield* unlessStopped(Effect.sleep(delayMs))) === "stop" ? "stop" : undefined
    })
  }

  /** Dead letters that somebody wants to be tried again: each once, on the state of now. */
  #retry(events: ReadonlyArray<ProjectionLogEvent>): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const { handling, logger } = this.#options
      const isManaged = handling.registration.mode === "managed"
      const states = this.#states
      states.careful = true
      for (const event of events) {
        let failed: Failed | undefined
        if (isManaged) {
          const partition = this.#partitionOf(event)
          if (!(yield* this.#readStates([partition]))) return "lost"
          const folded = typeof partition === "string" ? states.fold(partition, event, 1) : partition
          failed = Effect.isEffect(folded) ? yield* folded : folded
        } else {
          failed = yield* handling.call(event, { attempt: 1, signal: this.#aborted.signal })
        }
        if (failed !== undefined) {
          logger.error(
            `Projection "${this.#name}" failed again for the dead letter at position ${event.position}: ${toError(failed.error).message}`
          )
        }
        const changed = isManaged && failed === undefined ? yield* this.#changed() : undefined
        const left = yield* this.#save({
          to: this.#position,
          states: changed?.states ?? [],
          deadLetters:
            failed === undefined
              ? []
              : [{ position: event.position, error: serializeError(failed.error), attempts: 1 }],
          resolved: failed === undefined ? [event.position] : []
        })
        if (left !== undefined) return left
      }
      states.careful = false
      return undefined
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Saving
  // -------------------------------------------------------------------------------------------------------------------

  #save(outcome: Omit<ProjectionSave, "from" | "number">): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const { logger } = this.#options
      const save = { number: ++this.#saves, from: this.#position, ...outcome }
      const saved = yield* this.#send(save, 1)
      if (saved._tag === "Refused") {
        logger.warn(`Projection "${this.#name}": what was folded is not saved, because ${saved.reason}`)
        return "lost"
      }
      this.#position = save.to
      this.#savedStates = save.states.length
      if (save.failing === undefined) this.#failing = undefined
      this.#states.saved(save.states)
      return undefined
    })
  }

  /** Until the engine answers; the claim ends first when it does not. */
  #send(save: ProjectionSave, attempt: number): Effect.Effect<ProjectionSaved, Trouble> {
    return Effect.catch(this.#seen(this.#options.feed.save(this.#lease, save)), (error) =>
      error instanceof ConnectionError
        ? Effect.andThen(
            Effect.sleep(calculateBackoff(attempt, RECONNECT_MS, LONGEST_RECONNECT_MS)),
            Effect.suspend(() => this.#send(save, attempt + 1))
          )
        : Effect.fail(error)
    )
  }
}
