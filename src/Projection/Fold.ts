/** Folds the events of a managed projection into its states, which the engine keeps. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  type NewDeadLetter,
  PARTITION_FUNCTION,
  type ProjectionFeed,
  type ProjectionLease,
  type ProjectionLogEvent
} from "../Protocol/ProjectionOwners.ts"
import { EventFailure, type ProjectionHandler } from "./ProjectionHandler.ts"
import { GLOBAL_PARTITION } from "./Partition.ts"
import { eventTracing } from "./EventTracing.ts"
import type { Interruption, Progress, RunnerError } from "./Progress.ts"
import type { ProjectionEvent } from "./Projection.ts"
import type { States } from "./States.ts"

/** Maximum number of states that are read or saved at once. */
export const MAX_STATES = 1000

/** Maximum size of the states in one save, in bytes. The state after a single event is saved even if it is larger. */
const SAVE_BYTES = 4 * 1024 * 1024

/** How long a slice of a fold may block the event loop, in milliseconds. */
const SLICE_MS = 1

/** How many events are handled for each reading of the clock. */
const EVENTS_PER_CLOCK_READ = 8

/** Tells a fold when its slice is over and it must yield: folding is synchronous, and would block other fibers. */
const makeSlice = (clock: Clock.Clock) => {
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let startedAt = now()
  let count = 0
  return {
    isOver: () => ++count % EVENTS_PER_CLOCK_READ === 0 && now() - startedAt >= SLICE_MS,
    next: Effect.tap(Effect.yieldNow, () => Effect.sync(() => (startedAt = now())))
  }
}

interface FoldOptions {
  readonly feed: ProjectionFeed
  readonly projectionHandler: ProjectionHandler
  readonly lease: ProjectionLease
  readonly states: States
  readonly recordAnswer: <A, E>(request: Effect.Effect<A, E>) => Effect.Effect<A, E>
}

export class Fold {
  readonly #options: FoldOptions
  readonly #progress: Progress

  constructor(options: FoldOptions, progress: Progress) {
    this.#options = options
    this.#progress = progress
  }

  /**
   * Folds and saves a batch that reaches up to position `end`. Everything in the batch is saved when this returns
   * `undefined`.
   */
  foldAll(
    batch: ReadonlyArray<ProjectionLogEvent>,
    end: number
  ): Effect.Effect<Interruption | undefined, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const states = this.#options.states
      // after a failure in the middle of the batch, the events before it are saved, and are not folded again
      const events = batch.filter(({ position }) => position > this.#progress.position)
      const decodedEvents: Array<ProjectionEvent | undefined> = []
      const partitions: Array<string | EventFailure> = []
      const clock = yield* Clock.Clock
      const slice = makeSlice(clock)
      const traceHandling = eventTracing(
        yield* Effect.context<never>(),
        clock,
        this.#options.projectionHandler.registration.name
      )
      for (let i = 0; i < events.length; i++) {
        partitions.push(this.partitionOf(events[i]!, (event) => (decodedEvents[i] = event)))
        if (slice.isOver()) yield* slice.next
      }
      if (!(yield* this.readStates(partitions))) return "lost"

      let deadLetters: Array<NewDeadLetter> = []
      for (let i = 0; i < events.length;) {
        if (slice.isOver()) yield* slice.next
        const event = events[i]!
        const partition = partitions[i]!
        if (typeof partition === "string" && states.has(partition, event)) {
          i++
          continue
        }
        const attempt = this.#progress.attemptFor(event)
        const folded =
          typeof partition === "string"
            ? traceHandling(event, attempt, () => states.fold(partition, event, attempt, decodedEvents[i]))
            : partition
        const failure = Effect.isEffect(folded) ? yield* folded : folded
        // the next attempt decodes the event again, since the handler may have changed the decoded one
        decodedEvents[i] = undefined
        if (failure === undefined) {
          i++
          continue
        }
        const deadLetter = this.#progress.deadLetterOf(event, attempt, failure.error)
        if (deadLetter !== undefined) {
          deadLetters.push(deadLetter)
          if (typeof partition === "string") states.skip(partition, event)
          i++
          continue
        }
        const changedStates = yield* this.changedStates()
        if (changedStates === undefined) return yield* this.#foldCarefully(events, end)
        const interruption = yield* this.#progress.tryLater(
          event,
          attempt,
          failure.error,
          changedStates.states,
          deadLetters,
          events[i - 1]?.position
        )
        if (interruption !== undefined) return interruption
        deadLetters = []
      }

      const changedStates = yield* this.changedStates()
      if (changedStates === undefined) return yield* this.#foldCarefully(events, end)
      const unsaved = events.filter(({ position }) => position > this.#progress.position)
      if (
        (changedStates.bytes > SAVE_BYTES || changedStates.states.length > MAX_STATES) &&
        unsaved.length > 1
      ) {
        states.reset()
        const half = Math.ceil(unsaved.length / 2)
        const interruption = yield* this.foldAll(unsaved.slice(0, half), unsaved[half - 1]!.position)
        return interruption ?? (yield* this.foldAll(unsaved.slice(half), end))
      }
      return yield* this.#progress.save({ to: end, states: changedStates.states, deadLetters, resolved: [] })
    })
  }

  /** Folds again the part of the batch that is not saved yet, with a JSON round trip of the state after each event. */
  #foldCarefully(
    events: ReadonlyArray<ProjectionLogEvent>,
    end: number
  ): Effect.Effect<Interruption | undefined, RunnerError> {
    return Effect.suspend(() => {
      const states = this.#options.states
      states.reset()
      states.checksEveryState = true
      return Effect.ensuring(
        this.foldAll(events, end),
        Effect.sync(() => (states.checksEveryState = false))
      )
    })
  }

  /**
   * The partition of an event. If the event had to be decoded for this, the decoded event is passed to `handOver`,
   * unless `partitionKey` is a function: that function may have changed the decoded event.
   */
  partitionOf(
    event: ProjectionLogEvent,
    handOver?: (decoded: ProjectionEvent) => void
  ): string | EventFailure {
    const { projectionHandler } = this.#options
    const { partitionKey } = projectionHandler.registration
    if (partitionKey === undefined) return GLOBAL_PARTITION
    try {
      const decoded = projectionHandler.decode(event)
      if (partitionKey !== PARTITION_FUNCTION) handOver?.(decoded)
      return projectionHandler.partition(decoded)
    } catch (error) {
      return new EventFailure(error)
    }
  }

  /**
   * Reads the states of those partitions that are not in memory. Returns whether the projection still belongs to this
   * worker.
   */
  readStates(partitions: ReadonlyArray<string | EventFailure>): Effect.Effect<boolean, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const partitionsToRead = this.#options.states.partitionsToRead(
        partitions.filter((partition) => typeof partition === "string")
      )
      for (let i = 0; i < partitionsToRead.length; i += MAX_STATES) {
        const states = yield* this.#options.recordAnswer(
          this.#options.feed.states(this.#options.lease, partitionsToRead.slice(i, i + MAX_STATES))
        )
        if (states === undefined) return false
        this.#options.states.remember(states)
        if (i > 0) yield* Effect.yieldNow
      }
      return true
    })
  }

  /**
   * The states to save; `undefined` when the batch must be folded again with JSON round trips. Dies when the handler
   * now fails for an event that it has folded before: then there is no state to save.
   */
  changedStates() {
    return Effect.flatMap(this.#options.states.prepare, (failure) =>
      failure === undefined
        ? Effect.sync(() => this.#options.states.changedStates())
        : Effect.die(failure.error)
    )
  }
}
