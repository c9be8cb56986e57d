/** Jobs that were in transit for so long that another worker may have them: their leases are checked before they go out. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { StoreError } from "../../Errors.ts"
import { RETRY_MS } from "../Store/StoreOutage.ts"
import { lateMs } from "./ConnectedWorker.ts"
import type { Deliveries } from "./Deliveries.ts"

/** How often jobs are checked again when each check itself takes too long. */
const MOST_LOOKS = 3

export interface LateJobsOptions {
  readonly workerId: string
  readonly deliveries: Deliveries
  /** How long the leases of the worker last, milliseconds. */
  readonly leaseMs: number
  /** A monotonic clock, milliseconds. */
  readonly now: () => number
  /** Renews the leases of jobs, and tells the worker, after the jobs, which leases it has lost. */
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

  /** After this, late jobs belong to the worker for another term, or are followed by the notice that they do not. */
  readonly look: Effect.Effect<void, StoreError> = Effect.suspend(() => {
    const { deliveries, extend, now } = this.#options
    const late = this.#late
    if (late.length === 0) return Effect.void
    const askedAt = now()
    // lost jobs are not checked again
    return Effect.map(extend(late), () => deliveries.held(late, askedAt))
  }).pipe(Effect.repeat({ times: MOST_LOOKS - 1, while: () => this.#late.length > 0 }), Effect.asVoid)

  /** Whether waiting jobs may go out now. If not, starts a check, which calls `onLooked`. */
  mayGo(): boolean {
    if (this.#isLooking) return false
    if (this.#late.length === 0) return true
    this.#isLooking = true
    const { fork, onLooked, workerId } = this.#options
    fork(
      Effect.catch(this.look, (error) =>
        Effect.andThen(
          Effect.logWarning(`Jobs on their way to worker ${workerId} cannot be checked`, error),
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
