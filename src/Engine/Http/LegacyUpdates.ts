/** Applies what existing workers report of their jobs, whatever it came by. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { ConnectionError, type IronflowError, LimitExceededError } from "../../Errors.ts"
import type { JobUpdate } from "../../Protocol/Http/Schemas.ts"
import type { Job, TurnAck } from "../../Protocol/Worker.ts"
import type { Caller } from "../Access/Access.ts"
import { permitted } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import { type Attempts, failTooLarge, needsAttempts, readUpdate } from "./LegacyJobs.ts"
import { LEGACY_LEASE_MS } from "./LegacyWorker.ts"
import { checked } from "./Route.ts"

/**
 * Fails with `ValidationError` when the update cannot be read. `boundTo` is the environment that the caller's key decides, if
 * it does: jobs of others are refused.
 */
export const applyUpdate = (
  engine: EngineService,
  environment: string,
  job: Pick<Job, "jobId" | "runId">,
  update: typeof JobUpdate.Type,
  boundTo?: string,
  caller?: Caller
): Effect.Effect<TurnAck, IronflowError> =>
  Effect.gen(function* () {
    const attempts = needsAttempts(update) ? yield* attemptsOf(engine, environment, job.runId) : undefined
    const now = yield* Clock.currentTimeMillis
    const ops = yield* Effect.catchIf(
      checked(() => readUpdate(job.runId, update, attempts, now)),
      (error) => error instanceof LimitExceededError,
      // the worker is done with the job whatever it is told: what cannot be stored ends the run
      (error) => Effect.succeed(failTooLarge(error))
    )
    const { answered, reports } = permitted(caller, environment, [{ ...job, ops }])
    const [ack] = answered(yield* engine.applyReports(reports, boundTo))
    // a report that changed nothing says nothing of who holds the job
    if (update.status === "progress" && ack?._tag === "Accepted") {
      yield* engine.extendLeases([job.jobId], LEGACY_LEASE_MS, boundTo)
    }
    return ack ?? (yield* new ConnectionError("The engine did not answer the update"))
  })

const attemptsOf = (
  engine: EngineService,
  environment: string,
  runId: string
): Effect.Effect<Attempts | undefined, IronflowError> =>
  Effect.map(engine.client(environment).getRun(runId), (run) => {
    const retry = engine.findFunction(environment, run.functionId)?.retry
    return retry === undefined ? undefined : { attempt: run.attempt, retry }
  })
