/**
 * Before a job goes out to a worker, checks the lease of the job if the job was in transit for so long that another worker may
 * have it.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { StoreError } from "../../Errors.ts"
import { RETRY_MS } from "../Store/StoreOutage.ts"
import { maxTransitMs } from "./ConnectedWorker.ts"
import type { Deliveries } from "./Deliveries.ts"

/** Maximum number of checks in a row, when each check takes so long that the jobs are late again. */
const MAX_CHECKS = 3

export interface LateJobsOptions {
  readonly workerId: string
  readonly deliveries: Deliveries
  /** How long the leases of the worker last, in milliseconds. */
  readonly leaseMs: number
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number
  /** Renews the leases of jobs. Queues a notice for each lost lease, which reaches the worker after the job. */
  readonly extend: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Called when waiting jobs may go out. */
  readonly onChecked: () => void
}

export class LateJobs {
  readonly #options: LateJobsOptions
  #isChecking = false

  constructor(options: LateJobsOptions) {
    this.#options = options
  }

  get #lateIds(): ReadonlyArray<string> {
    const { deliveries, leaseMs } = this.#options
    return deliveries.lateJobs(maxTransitMs(leaseMs))
  }

  /**
   * Checks the late jobs. After that, the worker has the lease of a late job for another term, or the job is followed by a notice
   * that its lease is lost.
   */
  readonly check: Effect.Effect<void, StoreError> = Effect.suspend(() => {
    const { deliveries, extend, now } = this.#options
    const lateIds = this.#lateIds
    if (lateIds.length === 0) return Effect.void
    const askedAt = now()
    // lost jobs are noted too, so that they are not checked again
    return Effect.map(extend(lateIds), () => deliveries.noteLeased(lateIds, askedAt))
  }).pipe(Effect.repeat({ times: MAX_CHECKS - 1, while: () => this.#lateIds.length > 0 }), Effect.asVoid)

  /** Whether waiting jobs may go out now. If they may not, starts a check, which calls `onChecked` at its end. */
  mayGo(): boolean {
    if (this.#isChecking) return false
    if (this.#lateIds.length === 0) return true
    this.#isChecking = true
    const { fork, onChecked, workerId } = this.#options
    fork(
      Effect.catch(this.check, (error) =>
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
            this.#isChecking = false
            onChecked()
          })
        )
      )
    )
    return false
  }
}
