/** Calls of legacy workers over HTTP. These workers take jobs, and do not exchange turns. */
import * as Effect from "effect/Effect"
import { checked } from "../../CheckAsEffect.ts"
import { checkWorker, limitsOf } from "../../Engine/Access/WorkerAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { LEGACY_LEASE_MS } from "../../Engine/Workers/LegacyWorker.ts"
import { type RemoteWorkers, unknownWorker } from "../../Engine/Workers/RemoteWorkers.ts"
import { InvalidStateError, type IronflowError, StaleRequestError, ValidationError } from "../../Errors.ts"
import { checkMaxConcurrentJobs } from "../../Limits.ts"
import { encodeJob, readJobId } from "../../Protocol/LegacyJobs.ts"
import { decoder, encoder } from "../../Protocol/ServerCodec.ts"
import type { Job, TurnAck, WorkerRegistration } from "../../Protocol/Worker.ts"
import { RegisteredForJobs, type RegisterRequest, callSpecs } from "../../Protocol/Workers.ts"
import {
  keyEnvironment,
  type Call,
  checkWorkerEnvironment,
  environmentOfRun,
  json,
  noContent,
  type Reply,
  type Route,
  variable
} from "../Http/Route.ts"
import { findFunctions } from "../Workers/LegacyFunctions.ts"
import { applyUpdate } from "../Workers/LegacyUpdates.ts"
import { answerRoute, bodyRoute, replyRoute } from "./CallRoute.ts"

/** Maximum number of jobs in one response to a legacy worker. */
const MAX_JOBS = 100

const readJobUpdate = decoder(callSpecs.updateJob.body!, "Update")
const encodeRegistered = encoder(RegisteredForJobs)

/** Registers a legacy worker. */
export const registerLegacy = (
  engine: EngineService,
  workers: RemoteWorkers,
  call: Call,
  workerId: string,
  request: RegisterRequest
): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const registration: WorkerRegistration = {
      workerId,
      environment: call.environment,
      hostname: request.hostname ?? "unknown",
      functions: findFunctions(engine.functions, call.environment, request.functionIds ?? []),
      // legacy workers send 0 for a number that is not set
      maxConcurrentJobs: yield* checked(() => checkMaxConcurrentJobs(request.maxConcurrentJobs || 10)),
      labels: request.labels ?? {},
      version: { sdk: "unknown", runtime: "unknown" }
    }
    yield* checked(() => call.caller && checkWorker(call.caller, registration))
    yield* workers.registerLegacyWorker(
      registration,
      undefined,
      call.caller === undefined ? undefined : limitsOf(call.caller, call.environment)
    )
    return json(encodeRegistered({ workerId, status: "registered" }))
  })

export const legacyJobRoutes = (engine: EngineService, workers: RemoteWorkers): ReadonlyArray<Route> => {
  /** The legacy worker of the call; `undefined` when no environment of the caller has this worker. */
  const legacyWorker = (call: Call) =>
    checked(() => {
      const worker = workers.legacyWorker(variable(call, "id"), keyEnvironment(call))
      if (worker !== undefined) checkWorkerEnvironment(call, worker.environment, worker.workerId)
      return worker
    })

  const takeJobs = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const worker = yield* legacyWorker(call)
      if (worker === undefined) return yield* unknownWorker(variable(call, "id"))
      worker.noteMessage()
      const available = yield* checked(() => readAvailable(call.query.get("available")))
      const jobCount = available ?? 1
      if (jobCount === 0) return noContent
      // uninterruptible: if the worker hangs up now, the jobs that were claimed for it must be given back
      const jobs = yield* Effect.uninterruptible(
        Effect.tap(worker.take(jobCount), (jobs) =>
          call.request.socket.destroyed ? worker.giveBack(jobs) : Effect.void
        )
      )
      if (jobs.length === 0) return noContent
      const texts = jobs.map(encodeJob)
      return { status: 200, text: available === undefined ? texts[0]! : `{"jobs":[${texts.join(",")}]}` }
    })

  /** The job that a call names. An id that is not from this engine fails with the same code as a job whose lease is lost. */
  const readJob = (call: Call, what: "staleReports" | "staleRenewals") =>
    Effect.tapError(
      checked(() => jobOf(call)),
      () => Effect.sync(() => engine.turns.countStale(what))
    )

  const updateJob = (call: Call): Effect.Effect<object, IronflowError> =>
    Effect.gen(function* () {
      const worker = yield* legacyWorker(call)
      worker?.noteMessage()
      const job = yield* readJob(call, "staleReports")
      const update = yield* checked(() => readJobUpdate(call.body))
      const environment = yield* environmentOfRun(engine.runs, call, job.runId, variable(call, "id"))
      return yield* answerAck(
        yield* applyUpdate(engine, environment, job, update, keyEnvironment(call), call.caller)
      )
    })

  /** Extends the lease of the job. */
  const ackJob = (call: Call): Effect.Effect<object, IronflowError> =>
    Effect.gen(function* () {
      const job = yield* readJob(call, "staleRenewals")
      const environment = yield* environmentOfRun(engine.runs, call, job.runId, variable(call, "id"))
      const lostIds = yield* engine.turns.extend(
        [job.jobId],
        LEGACY_LEASE_MS,
        leaseEnvironment(call, environment)
      )
      if (lostIds.length === 0) return {}
      engine.turns.countStale("staleRenewals")
      return yield* staleJob(job.jobId)
    })

  return [
    replyRoute(callSpecs.takeJobs, takeJobs),
    answerRoute(callSpecs.updateJob, updateJob),
    answerRoute(callSpecs.ackJob, ackJob),
    bodyRoute(callSpecs.heartbeat, "Heartbeat", ({ jobs = [] }, call) =>
      Effect.gen(function* () {
        const worker = yield* legacyWorker(call)
        worker?.noteMessage()
        const jobIds = jobs.flatMap(({ jobId }) => readJobId(jobId)?.jobId ?? [])
        // includes jobs of a worker that has not registered again since the engine was restarted
        if (jobIds.length > 0) {
          const environment = worker?.environment ?? leaseEnvironment(call, call.environment)
          yield* engine.turns.extend(jobIds, LEGACY_LEASE_MS, environment)
        }
        return worker === undefined ? yield* unknownWorker(variable(call, "id")) : {}
      })
    )
  ]
}

/**
 * The environment in which the call may extend leases: the one for which the permissions of its key were checked.
 * `undefined` without a key: then the call may extend leases in any environment.
 */
const leaseEnvironment = (call: Call, environment: string): string | undefined =>
  call.caller?.key === undefined ? undefined : environment

const readAvailable = (text: string | null): number | undefined => {
  if (text === null) return undefined
  const available = Number(text)
  if (text.trim() !== "" && Number.isInteger(available) && available >= 0)
    return Math.min(available, MAX_JOBS)
  throw new ValidationError(`\`available\` must be an integer, at least 0, got "${text.slice(0, 64)}"`)
}

const jobOf = (call: Call): Pick<Job, "jobId" | "runId"> => {
  const id = variable(call, "jobId")
  const job = readJobId(id)
  if (job !== undefined) return job
  throw new StaleRequestError(
    `"${id.slice(0, 128)}" is not a job id of this engine: stop working on that job, and report nothing more about it`,
    { code: "STALE_EXECUTION" }
  )
}

const answerAck = (ack: TurnAck): Effect.Effect<object, IronflowError> => {
  if (ack._tag === "Accepted") return Effect.succeed({})
  switch (ack.reason) {
    case "LEASE_LOST":
      return Effect.fail(new StaleRequestError(ack.message, { code: "STALE_EXECUTION" }))
    case "CANCELLED":
      return Effect.fail(new StaleRequestError(ack.message, { code: "RUN_NOT_RUNNING" }))
    case "LIMIT":
      return Effect.fail(new InvalidStateError(ack.message))
  }
}

const staleJob = (jobId: string): Effect.Effect<never, IronflowError> =>
  Effect.fail(
    new StaleRequestError(`The lease on job ${jobId} has ended: stop working on that job`, {
      code: "STALE_EXECUTION"
    })
  )
