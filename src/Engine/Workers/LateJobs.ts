/** Jobs that were on their way to a worker for so long that they may be another's: they are looked at again before they go out. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { StoreError } from "../../Errors.ts"
import { RETRY_MS } from "../Store/StoreOutage.ts"
import { lateMs } from "./ConnectedWorker.ts"
import type { Deliveries } from "./Deliveries.ts"

/** How often jobs are looked at again, should each look take so long that they are late again. */
const MOST_LOOKS = 3

export interface LateJobsOptions {
  readonly workerId: string
  readonly deliveries: Deliveries
  /** How long the leases of the worker hold. */
  readonly leaseMs: number
  /** A clock that only goes on, milliseconds. */
  readonly now: () => number
  /** Has the leases of jobs start anew, and tells the worker of those that it does not have any more, behind the jobs. */
  readonly extend: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** What waited may go out. */
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

  /** Jobs that are late are the worker's for another term afterwards, or are followed by the news that they are not. */
  readonly look: Effect.Effect<void, StoreError> = Effect.suspend(() => {
    const { deliveries, extend, now } = this.#options
    const late = this.#late
    if (late.length === 0) return Effect.void
    const askedAt = now()
    // those that are gone are not asked for again
    return Effect.map(extend(late), () => deliveries.held(late, askedAt))
  }).pipe(Effect.repeat({ times: MOST_LOOKS - 1, while: () => this.#late.length > 0 }), Effect.asVoid)

  /** Whether what waits may go out now; if not, it is looked at, and told. */
  mayGo(): boolean {
    if (this.#isLooking) return false
    if (this.#late.length === 0) return true
    this.#isLooking = true
    const { fork, onLooked, workerId } = this.#options
    fork(
      Effect.catch(this.look, (error) =>
        Effect.andThen(
          Effect.logWarning(`Jobs on their way to worker ${workerId} cannot be looked at`, error),
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
