/** The reports of a worker that speaks turns, in numbered batches: each has its effect once, however often it comes. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { type ConnectionError, type IronflowError, StaleRequestError } from "../../Errors.ts"
import type { ReportsRequest } from "../../Protocol/Http/Turns.ts"
import type { TurnAck } from "../../Protocol/Worker.ts"
import type { RemoteSession } from "./RemoteSession.ts"

/** The batch that came last, and what it was answered. */
interface LastBatch {
  readonly number: number
  readonly answer: Deferred.Deferred<ReadonlyArray<TurnAck>, ConnectionError>
  /** Nothing was stored: the same number may be tried again, in the next session too. */
  failed: boolean
}

export interface ReportBatchesOptions {
  readonly workerId: string
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** A batch was refused, because a later one has come before. */
  readonly onStale: () => void
}

export class ReportBatches {
  readonly #options: ReportBatchesOptions
  #last: LastBatch | undefined

  /** `earlier` are those of the session that this one replaces, `before` is the last one that another engine has stored. */
  constructor(options: ReportBatchesOptions, earlier?: ReportBatches, before?: RemoteSession["before"]) {
    this.#options = options
    const last = earlier === undefined ? undefined : earlier.#last
    // what was sent again to the other engine came later
    if (before === undefined || (last !== undefined && last.number >= before.batch)) this.#last = last
    else {
      const answer = Deferred.makeUnsafe<ReadonlyArray<TurnAck>, ConnectionError>()
      Deferred.doneUnsafe(answer, Effect.succeed(before.acks))
      this.#last = { number: before.batch, answer, failed: false }
    }
  }

  /** Applies a batch, or finds the answer that it was given before. */
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
          `Batch ${number} of worker ${this.#options.workerId} comes after batch ${last.number}: ` +
            "numbers grow, and one batch is sent at a time",
          { code: "STALE_BATCH" }
        )
      )
    }
    const batch: LastBatch = { number, answer: Deferred.makeUnsafe(), failed: false }
    this.#last = batch
    // on a fiber of its own: a worker that hangs up has not taken the batch back
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
