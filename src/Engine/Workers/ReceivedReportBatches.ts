/**
 * The reports of a worker with the turn protocol, in numbered batches. Each batch takes effect once, however often it arrives.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { type ConnectionError, type IronflowError, StaleRequestError } from "../../Errors.ts"
import type { ReportsRequest } from "../../Protocol/Http/Turns.ts"
import type { TurnAck } from "../../Protocol/Worker.ts"
import type { RemoteSession } from "./RemoteSession.ts"

/** The last batch, and its answer. */
interface LastBatch {
  readonly number: number
  readonly answer: Deferred.Deferred<ReadonlyArray<TurnAck>, ConnectionError>
  /** Whether nothing of the batch was stored. Then the worker may send the same number again, even in its next session. */
  failed: boolean
}

export interface ReportBatchesOptions {
  readonly workerId: string
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Called when a batch of reports is refused because a batch with a higher number has arrived already. */
  readonly onStale: () => void
}

export class ReceivedReportBatches {
  readonly #options: ReportBatchesOptions
  #last: LastBatch | undefined

  /**
   * `earlier` has the batches of the worker's previous session. `batchElsewhere` is the worker's last batch that another engine
   * has stored.
   */
  constructor(
    options: ReportBatchesOptions,
    earlier?: ReceivedReportBatches,
    batchElsewhere?: RemoteSession["batchElsewhere"]
  ) {
    this.#options = options
    const last = earlier === undefined ? undefined : earlier.#last
    // the batch with the higher number is the last one
    if (batchElsewhere === undefined || (last !== undefined && last.number >= batchElsewhere.batch))
      this.#last = last
    else {
      const answer = Deferred.makeUnsafe<ReadonlyArray<TurnAck>, ConnectionError>()
      Deferred.doneUnsafe(answer, Effect.succeed(batchElsewhere.acks))
      this.#last = { number: batchElsewhere.batch, answer, failed: false }
    }
  }

  /** Applies a batch, or returns the answer that was given to it before. */
  take(
    { batch: number, reports }: Pick<ReportsRequest, "batch" | "reports">,
    session: Pick<RemoteSession, "report">
  ): Effect.Effect<ReadonlyArray<TurnAck>, IronflowError> {
    const last = this.#last
    if (last !== undefined && number === last.number && !last.failed) return Deferred.await(last.answer)
    if (last !== undefined && number < last.number) {
      this.#options.onStale()
      return Effect.fail(
        new StaleRequestError(
          `Batch ${number} of worker ${this.#options.workerId} arrived after batch ${last.number}: ` +
            "send one batch at a time, with growing numbers",
          { code: "STALE_BATCH" }
        )
      )
    }
    const batch: LastBatch = { number, answer: Deferred.makeUnsafe(), failed: false }
    this.#last = batch
    // runs in a separate fiber: a worker that hangs up has not withdrawn the batch
    this.#options.fork(
      Effect.matchCauseEffect(session.report(reports, number), {
        onSuccess: (acks) => Effect.asVoid(Deferred.succeed(batch.answer, acks)),
        onFailure: (cause) => {
          batch.failed = true
          return Effect.asVoid(Deferred.failCause(batch.answer, cause))
        }
      })
    )
    return Deferred.await(batch.answer)
  }
}
