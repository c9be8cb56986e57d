/** How far a projection is, in the time in which it is this worker's: what is saved, and what is still to be done about an event that failed. */
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

/** The delay before an event is tried again, and its longest, milliseconds. */
const RETRY_MS = 1000
const LONGEST_RETRY_MS = 60_000

/** The delay before the next attempt while the engine cannot be reached. */
export const RECONNECT_MS = 100
export const LONGEST_RECONNECT_MS = 5000

/** What keeps a runner from going on. */
export type Trouble = ConnectionError | ValidationError | AccessError

/** Why a runner leaves what it is doing. */
export type Interruption = "stop" | "lost"

/** What is still to be done about an event that has failed. */
interface Failing {
  readonly position: number
  readonly failures: number
}

interface ProgressOptions {
  /** Of the projection. */
  readonly name: string
  readonly feed: ProjectionFeed
  readonly lease: ProjectionLease
  readonly logger: Logger
  readonly maxRetries: number
  readonly states: States
  /** Has seen that a request was answered: the engine has had a sign of life. */
  readonly seen: <A, E>(request: Effect.Effect<A, E>) => Effect.Effect<A, E>
  readonly unlessStopped: <A, E>(self: Effect.Effect<A, E>) => Effect.Effect<A | "stop", E>
}

export class Progress {
  readonly #options: ProgressOptions
  readonly #name: string
  /** Everything up to here is saved. */
  position: number
  #failing: Failing | undefined
  #saves = 0
  /** States in the last save. */
  savedStates = 0

  constructor(options: ProgressOptions) {
    this.#options = options
    this.#name = options.name
    this.position = options.lease.position
    this.#failing = options.lease.failing
  }

  /** Which attempt at an event the next one is. */
  attemptFor({ position }: ProjectionLogEvent): number {
    return this.#failing?.position === position ? this.#failing.failures + 1 : 1
  }

  /** A dead letter, unless the event is to be tried again. */
  giveUp(event: ProjectionLogEvent, attempt: number, error: unknown): NewDeadLetter | undefined {
    const { logger, maxRetries } = this.#options
    if (isRetryable(error) && attempt <= maxRetries) return undefined
    logger.error(
      `Projection "${this.#name}" gives up event "${event.name}" ${event.id} at position ${event.position} after ${attempt} ` +
        `${attempt === 1 ? "attempt" : "attempts"}: ${toError(error).message}. It is a dead letter now; the projection goes on`
    )
    return { position: event.position, error: serializeError(error), attempts: attempt }
  }

  /** Saves what is before the event, with the failure, and waits. */
  tryLater(
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
          `${toError(error).message}. Trying again in ${showMs(delayMs)}`
      )
      const left = yield* this.save({
        to: Math.max(this.position, before ?? 0),
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

  save(outcome: Omit<ProjectionSave, "from" | "number">): Effect.Effect<Interruption | undefined, Trouble> {
    return Effect.gen({ self: this }, function* () {
      const { logger } = this.#options
      const save = { number: ++this.#saves, from: this.position, ...outcome }
      const saved = yield* this.#send(save, 1)
      if (saved._tag === "Refused") {
        logger.warn(`Projection "${this.#name}": what was folded is not saved, because ${saved.reason}`)
        return "lost"
      }
      this.position = save.to
      this.savedStates = save.states.length
      if (save.failing === undefined) this.#failing = undefined
      this.#options.states.saved(save.states)
      return undefined
    })
  }

  /** Until the engine answers; the claim ends first when it does not. */
  #send(save: ProjectionSave, attempt: number): Effect.Effect<ProjectionSaved, Trouble> {
    return Effect.catch(this.#options.seen(this.#options.feed.save(this.#options.lease, save)), (error) =>
      error instanceof ConnectionError
        ? Effect.andThen(
            Effect.sleep(calculateBackoff(attempt, RECONNECT_MS, LONGEST_RECONNECT_MS)),
            Effect.suspend(() => this.#send(save, attempt + 1))
          )
        : Effect.fail(error)
    )
  }
}
