/** Makes `emitSync` from the calls `emit` and `waitForRun`, so that `emitSync` works on every server. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { DEFAULT_TIMEOUTS } from "../Constants.ts"
import { NoResultsError, RunCancelledError, RunFailedError, ValidationError } from "../Errors.ts"
import { eventNameOf } from "../Event.ts"
import { show } from "../Show.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { ClientApi, EffectKind, Run, TriggerSyncOptions, TriggerSyncResult } from "./Client.ts"

export const makeEmitSync =
  <E>({
    emit,
    waitForRun
  }: Pick<Raw<ClientApi<EffectKind>, E>, "emit" | "waitForRun">): Raw<
    ClientApi<EffectKind>,
    E | NoResultsError | RunFailedError | RunCancelledError | ValidationError
  >["emitSync"] =>
  (event, data, options = {}) =>
    Effect.gen(function* () {
      const { timeout = DEFAULT_TIMEOUTS.TRIGGER_SYNC, ...emitOptions } = options satisfies TriggerSyncOptions
      if (typeof timeout !== "number" || !Number.isFinite(timeout) || timeout < 0) {
        return yield* new ValidationError(
          `The timeout of emitSync must be a number of milliseconds, at least 0, got ${show(timeout)}`
        )
      }
      const startedAt = yield* Clock.currentTimeMillis
      const { eventId, runIds } = yield* emit(event, data, emitOptions)
      const [runId] = runIds
      if (runId === undefined) {
        return yield* new NoResultsError(eventNameOf(event), eventId)
      }
      const elapsedMs = (yield* Clock.currentTimeMillis) - startedAt
      const run = yield* waitForRun(runId, { timeout: Math.max(0, timeout - elapsedMs) })
      return yield* resultOf(run, eventId, runIds)
    })

const resultOf = (
  run: Run,
  eventId: string,
  runIds: Array<string>
): Effect.Effect<TriggerSyncResult, RunFailedError | RunCancelledError> => {
  if (run.status === "cancelled") return Effect.fail(new RunCancelledError(run.id))
  if (run.status === "failed") {
    return Effect.fail(
      new RunFailedError(
        run.id,
        run.output,
        `Run failed: ${run.id} of function "${run.functionId}": ${run.error?.message ?? "without an error"}`
      )
    )
  }
  return Effect.succeed({
    eventId,
    runIds,
    runId: run.id,
    functionId: run.functionId,
    status: run.status,
    output: run.output,
    ...("outputHasErrors" in run ? { outputHasErrors: run.outputHasErrors } : {}),
    durationMs: Date.parse(run.endedAt ?? run.updatedAt) - Date.parse(run.createdAt)
  })
}
