/**
 * The engine's side of a legacy worker, which does not speak the turn protocol of current workers. A legacy worker asks for jobs
 * every second, or gets them on a stream, and keeps its leases by heartbeats that name the jobs. A legacy worker that polls gets
 * no notices.
 */
import * as Effect from "effect/Effect"
import type { ConnectionError, SerializedError, StoreError } from "../../Errors.ts"
import type { Job, TurnOp } from "../../Protocol/Worker.ts"
import type { StepKind } from "../../StepKind.ts"
import type { RemoteSession } from "./RemoteSession.ts"

/** How long a lease lasts without a heartbeat or an update, in milliseconds: three of the usual heartbeat intervals. */
export const LEGACY_LEASE_MS = 90_000

/** Maximum number of claims for one poll. A further claim is made when the worker can continue none of the claimed jobs. */
const MAX_CLAIMS = 5

export interface LegacyWorkerOptions {
  readonly workerId: string
  readonly environment: string
  readonly engine: RemoteSession
  /** Whether another worker has the function and speaks the turn protocol. */
  readonly hasTurnWorker: (functionId: string) => boolean
  readonly now: () => number
  /** Called when the session is over. Only for a worker with a stream. */
  readonly onEnd?: () => void
}

export class LegacyWorker {
  readonly workerId: string
  readonly environment: string
  readonly #options: LegacyWorkerOptions
  readonly #engine: RemoteSession
  #seenAt: number

  constructor(options: LegacyWorkerOptions) {
    this.workerId = options.workerId
    this.environment = options.environment
    this.#options = options
    this.#engine = options.engine
    this.#seenAt = options.now()
  }

  /** Notes that the worker has sent something. */
  noteMessage(): void {
    this.#seenAt = this.#options.now()
  }

  /** Whether the worker has sent nothing for the length of a lease. */
  get isSilent(): boolean {
    return this.#options.now() - this.#seenAt >= LEGACY_LEASE_MS
  }

  /** Whether the worker has connected to another engine. */
  get hasMovedAway(): boolean {
    return this.#engine.hasMovedAway()
  }

  /** Claims at most `n` ready jobs that a legacy worker can continue. */
  take(n: number): Effect.Effect<ReadonlyArray<Job>, StoreError | ConnectionError> {
    const session = this.#engine
    const options = this.#options
    return Effect.gen(function* () {
      for (let round = 0; round < MAX_CLAIMS; round++) {
        const jobs = yield* session.take(n)
        const usable: Array<Job> = []
        const jobsToEnd: Array<{ readonly job: Job; readonly op: TurnOp }> = []
        for (const job of jobs) {
          const op = opForUnusable(job, options.hasTurnWorker)
          if (op === undefined) usable.push(job)
          else jobsToEnd.push({ job, op })
        }
        if (jobsToEnd.length > 0) {
          yield* session.report(
            jobsToEnd.map(({ job, op }) => ({ jobId: job.jobId, runId: job.runId, ops: [op] }))
          )
        }
        if (usable.length > 0 || jobs.length === 0) return usable
      }
      return []
    })
  }

  /** Gives back jobs that could not be delivered. */
  giveBack(jobs: ReadonlyArray<Job>): Effect.Effect<void> {
    if (jobs.length === 0) return Effect.void
    return Effect.catch(
      Effect.asVoid(
        this.#engine.report(jobs.map(({ jobId, runId }) => ({ jobId, runId, ops: [{ _tag: "Release" }] })))
      ),
      (error) =>
        Effect.logWarning(
          `Jobs of worker ${this.workerId} could not be released: no other worker gets their runs until their leases expire`,
          error
        )
    )
  }

  /** Ends the session. `hasDied` means that the worker has died. */
  end(hasDied: boolean): Effect.Effect<void> {
    this.#options.onEnd?.()
    return Effect.catch(this.#engine.close(hasDied), (error) =>
      Effect.logWarning(
        `The runs of worker ${this.workerId} could not be released: no other worker gets them until their leases expire`,
        error
      )
    )
  }

  /** Ends the session because a new one replaces it. The leases stay. */
  replace(): void {
    this.#options.onEnd?.()
    this.#engine.detach()
  }
}

/** The kinds of steps whose failure cannot be told to a legacy worker, which knows such steps only as completed. */
const unsupportedKinds: ReadonlySet<StepKind> = new Set(["waitForEvent", "invoke", "invokeAsync"])

/**
 * The error of the first failed step of one of the kinds `unsupported`; `undefined` without such a step. Failures of these kinds
 * cannot be told to the worker.
 */
const unsupportedFailure = (job: Job, unsupported: ReadonlySet<StepKind>): SerializedError | undefined => {
  for (const { kind, outcome } of job.journal) {
    if (outcome._tag === "Failure" && unsupported.has(kind)) return outcome.error
  }
  return undefined
}

/**
 * The op that ends the turn of a job which a legacy worker cannot continue; `undefined` if the worker can. `unsupported` are the
 * kinds of steps whose failures cannot be told to the worker.
 */
export const opForUnusable = (
  job: Job,
  hasTurnWorker: (functionId: string) => boolean,
  unsupported: ReadonlySet<StepKind> = unsupportedKinds
): TurnOp | undefined => {
  const error = unsupportedFailure(job, unsupported)
  if (error !== undefined) return { _tag: "Fail", error }
  if (job.compensating === undefined) return undefined
  if (hasTurnWorker(job.functionId)) return { _tag: "Release" }
  return {
    _tag: "Pause",
    code: "NEEDS_TURNS",
    message:
      "The run is rolling back, and the connected workers are legacy ones, which cannot compensate steps: " +
      "start a worker of this SDK for the function, then resume the run."
  }
}
