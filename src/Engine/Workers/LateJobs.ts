/**
 * Checks the leases of jobs that were in transit for so long that another worker may have them. It does so before they go out.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { StoreError } from "../../Errors.ts"
import { RETRY_MS } from "../Store/StoreOutage.ts"
import { lateMs } from "./ConnectedWorker.ts"
import type { Deliveries } from "./Deliveries.ts"

/** How often jobs are checked at most, when each check takes so long that they are late again. */
const MOST_LOOKS = 3

export interface LateJobsOptions {
  readonly workerId: string
  readonly deliveries: Deliveries
  /** How long the leases of the worker last, milliseconds. */
  readonly leaseMs: number
  /** A monotonic clock, milliseconds. */
  readonly now: () => number
  /** Renews the leases of jobs. Queues a notice for each lost lease, which reaches the worker after the job. */
  readonly extend: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Called when waiting jobs may go out. */
  readonly onLooked: () => void
}

export class LateJobs {
  readonly #options: LateJobsOptions
  #isLooking = false

  constructor(options: LateJobsOptions) {
    this.#options = options
  }

  get #late(): ReadonlyArray<string> {
    const { deliveries, leaseMs } = this.#options
    return deliveries.late(lateMs(leaseMs))
  }

  /**
   * Checks the late jobs. After that, the worker has the lease of a late job for another term, or the job is followed by a notice
   * that its lease is lost.
   */
  readonly look: Effect.Effect<void, StoreError> = Effect.suspend(() => {
    const { deliveries, extend, now } = this.#options
    const late = this.#late
    if (late.length === 0) return Effect.void
    const askedAt = now()
    // lost jobs count as held too, so that they are not checked again
    return Effect.map(extend(late), () => deliveries.held(late, askedAt))
  }).pipe(Effect.repeat({ times: MOST_LOOKS - 1, while: () => this.#late.length > 0 }), Effect.asVoid)

  /** Whether waiting jobs may go out now. If they may not, starts a check, which calls `onLooked` at its end. */
  mayGo(): boolean {
    if (this.#isLooking) return false
    if (this.#late.length === 0) return true
    this.#isLooking = true
    const { fork, onLooked, workerId } = this.#options
    fork(
      Effect.catch(this.look, (error) =>
        Effect.andThen(
          Effect.logWarning(
            `The leases of jobs on their way to worker ${workerId} cannot be checked: the jobs wait, and are checked again in a second`,
            error
          ),
          Effect.sleep(RETRY_MS)
        )
      ).pipe(
        Effect.andThen(
          Effect.sync(() => {
            this.#isLooking = false
            onLooked()
          })
        )
      )
    )
    return false
  }
}
