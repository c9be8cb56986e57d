/**
 * How far a projection has come while it belongs to this worker: the saved position, and the retries of an
 * event that has failed.
 */
import * as Effect from "effect/Effect"
import { calculateBackoff } from "../Backoff.ts"
import {
  type AccessError,
  ConnectionError,
  isRetryable,
  serializeError,
  toError,
  type ValidationError
} from "../Errors.ts"
import type { Logger } from "../Logger.ts"
import type {
  NewDeadLetter,
  NewPartitionState,
  ProjectionFeed,
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionSave,
  ProjectionSaved
} from "../Protocol/ProjectionOwners.ts"
import { showMs } from "../Show.ts"
import type { States } from "./States.ts"

/** The delay before the first retry of an event, in milliseconds. */
const RETRY_MS = 1000
/** The longest delay before a retry of an event, in milliseconds. */
const LONGEST_RETRY_MS = 60_000

/** The delay before the first retry of a request while the engine cannot be reached, in milliseconds. */
export const RECONNECT_MS = 100
/** The longest delay before a retry of a request while the engine cannot be reached, in milliseconds. */
export const LONGEST_RECONNECT_MS = 5000

/** Errors that stop a runner. */
export type RunnerError = ConnectionError | ValidationError | AccessError

/** Why a runner processes no more events: it was stopped (`stop`), or another worker owns the projection (`lost`). */
export type Interruption = "stop" | "lost"

/** An event that has failed, and how often. */
interface FailedEvent {
  readonly position: number
  readonly failures: number
}

interface ProgressOptions {
  /** Name of the projection. */
  readonly name: string
  readonly feed: ProjectionFeed
  readonly lease: ProjectionLease
  readonly logger: Logger
  readonly maxRetries: number
  readonly states: States
  /** Runs a request. When the engine has answered, records that the lease is renewed. */
  readonly recordAnswer: <A, E>(request: Effect.Effect<A, E>) => Effect.Effect<A, E>
  readonly unlessStopped: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A | "stop", E>
}

export class Progress {
  readonly #options: ProgressOptions
  readonly #name: string
  /** All events up to this position are saved. */
  position: number
  #failedEvent: FailedEvent | undefined
  #lastSave = 0
  /** How many states the last save had. */
  savedStates = 0

  constructor(options: ProgressOptions) {
    this.#options = options
    this.#name = options.name
    this.position = options.lease.position
    this.#failedEvent = options.lease.failing
  }

  /** The number of the next attempt at an event, from 1. */
  attemptFor({ position }: ProjectionLogEvent): number {
    return this.#failedEvent?.position === position ? this.#failedEvent.failures + 1 : 1
  }

  /** Makes a dead letter of an event that has failed, unless the event is to be retried: then returns `undefined`. */
  deadLetterOf(event: ProjectionLogEvent, attempt: number, error: unknown): NewDeadLetter | undefined {
    const { logger, maxRetries } = this.#options
    if (isRetryable(error) && attempt <= maxRetries) return undefined
    logger.error(
      `Projection "${this.#name}" gives up on event "${event.name}" ${event.id} at position ${event.position} after ${attempt} ` +
        `${attempt === 1 ? "attempt" : "attempts"}: ${toError(error).message}. The event is now a dead letter; the projection continues`
    )
    return { position: event.position, error: serializeError(error), attempts: attempt }
  }

  /**
   * Saves everything before an event that has failed, together with the failure, and waits until the retry is
   * due. Returns why the runner must not go on; `undefined` when it may. `previousPosition` is the position of the
   * event before this one in the batch.
   */
  tryLater(
    event: ProjectionLogEvent,
    attempt: number,
    error: unknown,
    states: ReadonlyArray<NewPartitionState>,
    deadLetters: ReadonlyArray<NewDeadLetter>,
    previousPosition: number | undefined
  ): Effect.Effect<Interruption | undefined, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const { logger, unlessStopped } = this.#options
      const failedEvent = { position: event.position, failures: attempt }
      const delayMs = calculateBackoff(attempt, RETRY_MS, LONGEST_RETRY_MS)
      logger.warn(
        `Projection "${this.#name}" failed for event "${event.name}" ${event.id} at position ${event.position}: ` +
          `${toError(error).message}. Trying again in ${showMs(delayMs)}`
      )
      const interruption = yield* this.save({
        to: Math.max(this.position, previousPosition ?? 0),
        states,
        deadLetters,
        resolved: [],
        failing: { ...failedEvent, error: serializeError(error) }
      })
      if (interruption !== undefined) return interruption
      this.#failedEvent = failedEvent
      return (yield* unlessStopped(Effect.sleep(delayMs))) === "stop" ? "stop" : undefined
    })
  }

  /** Saves what was processed. Returns why the runner must not go on; `undefined` when it may. */
  save(
    outcome: Omit<ProjectionSave, "from" | "number">
  ): Effect.Effect<Interruption | undefined, RunnerError> {
    return Effect.gen({ self: this }, function* () {
      const { logger } = this.#options
      const save = { number: ++this.#lastSave, from: this.position, ...outcome }
      const saved = yield* this.#send(save, 1)
      if (saved._tag === "Refused") {
        logger.warn(
          `The progress of projection "${this.#name}" was not saved, because ${saved.reason}. The next worker that owns the projection handles these events`
        )
        return "lost"
      }
      this.position = save.to
      this.savedStates = save.states.length
      if (save.failing === undefined) this.#failedEvent = undefined
      this.#options.states.markSaved(save.states)
      return undefined
    })
  }

  /** Sends the save again and again until the engine answers. The lease may end before that. */
  #send(save: ProjectionSave, attempt: number): Effect.Effect<ProjectionSaved, RunnerError> {
    return Effect.catch(
      this.#options.recordAnswer(this.#options.feed.save(this.#options.lease, save)),
      (error) =>
        error instanceof ConnectionError
          ? Effect.andThen(
              Effect.sleep(calculateBackoff(attempt, RECONNECT_MS, LONGEST_RECONNECT_MS)),
              Effect.suspend(() => this.#send(save, attempt + 1))
            )
          : Effect.fail(error)
    )
  }
}
