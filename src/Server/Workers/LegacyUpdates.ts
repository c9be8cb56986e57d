/** Applies the reports of legacy workers, whatever their transport. */
import * as Effect from "effect/Effect"
import { ConnectionError, type IronflowError, LimitExceededError } from "../../Errors.ts"
import type { Job, TurnAck } from "../../Protocol/Worker.ts"
import type { Caller } from "../../Engine/Access/Access.ts"
import { permittedReports } from "../../Engine/Access/WorkerAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import {
  type Attempts,
  failTooLargeOps,
  needsAttempts,
  readUpdate,
  type Update
} from "../../Protocol/LegacyJobs.ts"
import { LEGACY_LEASE_MS } from "../../Engine/Workers/LegacyWorker.ts"
import { checked } from "../../CheckAsEffect.ts"

/**
 * Applies an update of a job. Fails with `ValidationError` when the update cannot be read. With `keyEnvironment`, jobs
 * of other environments are refused.
 */
export const applyUpdate = (
  engine: EngineService,
  environment: string,
  job: Pick<Job, "jobId" | "runId">,
  update: Update,
  keyEnvironment?: string,
  caller?: Caller
): Effect.Effect<TurnAck, IronflowError> =>
  Effect.gen(function* () {
    const attempts = needsAttempts(update) ? yield* attemptsOf(engine, environment, job.runId) : undefined
    const now = yield* engine.time
    const ops = yield* Effect.catchIf(
      checked(() => readUpdate(job.runId, update, attempts, now)),
      (error) => error instanceof LimitExceededError,
      // the worker drops the job, whatever the answer is: so the run ends if its result cannot be stored
      (error) => Effect.succeed(failTooLargeOps(error))
    )
    const { toAnswers, reports } = permittedReports(caller, environment, [{ ...job, ops }])
    const [ack] = toAnswers(yield* engine.turns.report(reports, keyEnvironment))
    // only an update that has changed something proves that its sender has the job; so no other update extends the
    // lease
    if (update.status === "progress" && ack?._tag === "Accepted") {
      yield* engine.turns.extend([job.jobId], LEGACY_LEASE_MS, keyEnvironment)
    }
    return ack ?? (yield* new ConnectionError("The engine did not answer the update"))
  })

const attemptsOf = (
  engine: EngineService,
  environment: string,
  runId: string
): Effect.Effect<Attempts | undefined, IronflowError> =>
  Effect.map(engine.runs.in(environment).getRun(runId), (run) => {
    const retry = engine.functions.find(environment, run.functionId)?.retry
    return retry === undefined ? undefined : { attempt: run.attempt, retry }
  })
