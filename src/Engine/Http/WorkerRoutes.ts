/** What workers ask over HTTP: the turns of ours, and the jobs of existing ones. */
import * as Effect from "effect/Effect"
import { InvalidStateError, type IronflowError, StaleRequestError, ValidationError } from "../../Errors.ts"
import { checkName } from "../../Limits.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/Endpoints.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { TURNS_VERSION } from "../../Protocol/Http/Turns.ts"
import { isSealed } from "../../Protocol/Seal.ts"
import type { Job, TurnAck, WorkerRegistration } from "../../Protocol/Worker.ts"
import { checkWorker, limitsOf, permitted } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import { encodeJob, readJobId } from "./LegacyJobs.ts"
import { applyUpdate } from "./LegacyUpdates.ts"
import { LEGACY_LEASE_MS } from "./LegacyWorker.ts"
import {
  boundTo,
  type Call,
  checked,
  checkIn,
  environmentOfRun,
  json,
  noContent,
  type Reply,
  type Route,
  route,
  variable
} from "./Route.ts"
import { type RegisterRequest, registerTurns } from "./TurnRegistration.ts"
import { readReports } from "./TurnReports.ts"
import { functionsOf, unknownWorker, type Workers } from "./Workers.ts"

/** Most jobs in one answer to an existing worker. */
const MAX_JOBS = 100

/** The routes of workers. `maxBodyBytes` is what their requests may have. */
export const workerRoutes = (
  engine: EngineService,
  workers: Workers,
  maxBodyBytes: number
): ReadonlyArray<Route> => {
  const forWorkers = { fromWorker: true } as const
  const registerRequest = lenient(Schemas.RegisterWorkerRequest, "Register")
  const heartbeatRequest = lenient(Schemas.HeartbeatRequest, "Heartbeat")
  const jobUpdate = lenient(Schemas.JobUpdate, "Update")
  const lateRequest = lenient(Schemas.LateRequest, "Late")
  const pollRequest = lenient(Schemas.PollRequest, "Poll")

  const register = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const { request, workerId } = yield* checked(() => ({
        request: registerRequest(call.body),
        workerId: checkName("worker id", variable(call, "id"))
      }))
      return (request.capabilities?.turns ?? 0) >= TURNS_VERSION
        ? yield* Effect.map(
            registerTurns(workers, request, {
              environment: environmentIn(call),
              workerId,
              isSealed: isSealed(call.body),
              line: call.request.socket,
              transport: "polling",
              maxBodyBytes,
              caller: call.caller
            }),
            ({ response, worker }): Reply => ({ status: 200, text: worker.sealed(JSON.stringify(response)) })
          )
        : yield* registerLegacy(call, workerId, request)
    })

  const registerLegacy = (
    call: Call,
    workerId: string,
    request: RegisterRequest
  ): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const registration: WorkerRegistration = {
        workerId,
        environment: call.environment,
        hostname: request.hostname ?? "unknown",
        functions: functionsOf(engine, call.environment, request.functionIds ?? []),
        maxConcurrentJobs: request.maxConcurrentJobs || 10,
        labels: request.labels ?? {},
        version: { sdk: "unknown", runtime: "unknown" }
      }
      yield* checked(() => call.caller && checkWorker(call.caller, registration))
      yield* workers.enlist(
        registration,
        undefined,
        call.caller === undefined ? undefined : limitsOf(call.caller, call.environment)
      )
      return json({ worker_id: workerId, status: "registered" })
    })

  /** The existing worker that the call is about; `undefined` when it is not known in an environment of the caller. */
  const legacyWorker = (call: Call) =>
    checked(() => {
      const worker = workers.legacyWorker(variable(call, "id"), boundTo(call))
      if (worker !== undefined) checkIn(call, worker.environment, worker.workerId)
      return worker
    })

  /** The worker that the call is about, which speaks turns. */
  const turnWorker = (call: Call, session: string) =>
    Effect.tap(workers.turnWorker(variable(call, "id"), session, boundTo(call)), (worker) =>
      checked(() => checkIn(call, worker.environment, worker.workerId))
    )

  const takeJobs = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const worker = yield* legacyWorker(call)
      if (worker === undefined) return yield* unknownWorker(variable(call, "id"))
      worker.seen()
      const available = yield* checked(() => readAvailable(call.query.get("available")))
      const wanted = available ?? 1
      if (wanted === 0) return noContent
      // a worker that hangs up now would not get what is claimed
      const jobs = yield* Effect.uninterruptible(
        Effect.tap(worker.take(wanted), (jobs) =>
          call.request.socket.destroyed ? worker.giveBack(jobs) : Effect.void
        )
      )
      if (jobs.length === 0) return noContent
      const texts = jobs.map(encodeJob)
      return { status: 200, text: available === undefined ? texts[0]! : `{"jobs":[${texts.join(",")}]}` }
    })

  /** The job that a call is about; one that is none of ours is as one that is gone. */
  const readJob = (call: Call, what: "staleReports" | "staleRenewals") =>
    Effect.tapError(
      checked(() => jobOf(call)),
      () => Effect.sync(() => engine.countStale(what))
    )

  const updateJob = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const worker = yield* legacyWorker(call)
      worker?.seen()
      const job = yield* readJob(call, "staleReports")
      const update = yield* checked(() => jobUpdate(call.body))
      const environment = yield* environmentOfRun(engine, call, job.runId, variable(call, "id"))
      return yield* answerAck(
        yield* applyUpdate(engine, environment, job, update, boundTo(call), call.caller)
      )
    })

  const ackJob = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const job = yield* readJob(call, "staleRenewals")
      const environment = yield* environmentOfRun(engine, call, job.runId, variable(call, "id"))
      const gone = yield* engine.extendLeases([job.jobId], LEGACY_LEASE_MS, leasesIn(call, environment))
      if (gone.length === 0) return json({})
      engine.countStale("staleRenewals")
      return yield* stale(job.jobId)
    })

  const heartbeat = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const request = yield* checked(() => heartbeatRequest(call.body))
      const worker = yield* legacyWorker(call)
      worker?.seen()
      const jobIds = (request.jobs ?? []).flatMap(({ jobId }) => readJobId(jobId)?.jobId ?? [])
      // also those of a worker that has yet to register with an engine that was restarted
      if (jobIds.length > 0) {
        const environment = worker?.environment ?? leasesIn(call, call.environment)
        yield* engine.extendLeases(jobIds, LEGACY_LEASE_MS, environment)
      }
      return worker === undefined ? yield* unknownWorker(variable(call, "id")) : json({})
    })

  return [
    route(
      "pollTurns",
      (call) =>
        Effect.gen(function* () {
          const request = yield* checked(() => pollRequest(call.body))
          const worker = yield* turnWorker(call, request.session)
          yield* checked(() => worker.checkSeal(isSealed(call.body)))
          return { status: 200, text: worker.sealed(yield* worker.poll(request, call.request.socket)) }
        }),
      forWorkers
    ),
    route(
      "reportTurns",
      (call) =>
        Effect.gen(function* () {
          const request = yield* checked(() => readReports(call.body))
          const worker = yield* turnWorker(call, request.session)
          yield* checked(() => worker.checkSeal(isSealed(call.body)))
          const { answered, reports } = permitted(call.caller, worker.environment, request.reports)
          const acks = answered(yield* worker.report({ ...request, reports }))
          return { status: 200, text: worker.sealed(JSON.stringify({ acks })) }
        }),
      forWorkers
    ),
    route(
      "lateTurn",
      (call) =>
        Effect.gen(function* () {
          const request = yield* checked(() => lateRequest(call.body))
          const worker = yield* turnWorker(call, request.session)
          yield* checked(() => worker.checkSeal(isSealed(call.body)))
          yield* worker.late(request)
          return noContent
        }),
      forWorkers
    ),
    route("deregisterWorker", (call) =>
      Effect.gen(function* () {
        const id = variable(call, "id")
        yield* checked(() => {
          const environment = workers.environmentOf(id, boundTo(call))
          if (environment !== undefined) checkIn(call, environment, id)
        })
        return yield* Effect.as(workers.dismiss(id, call.query.get("session"), boundTo(call)), noContent)
      })
    ),
    route("registerWorker", register, forWorkers),
    route("takeJobs", takeJobs),
    route("updateJob", updateJob, forWorkers),
    route("ackJob", ackJob),
    route("heartbeat", heartbeat)
  ]
}

/**
 * Where the leases may be that the call extends: in the environment that its key was asked about. Without a key the call may not say
 * which it means.
 */
const leasesIn = (call: Call, environment: string): string | undefined =>
  call.caller?.key === undefined ? undefined : environment

/** The environment that the request names or its key decides, if either does. */
const environmentIn = (call: Call): string | undefined =>
  call.request.headers[ENVIRONMENT_HEADER] === undefined && boundTo(call) === undefined
    ? undefined
    : call.environment

const readAvailable = (text: string | null): number | undefined => {
  if (text === null) return undefined
  const available = Number(text)
  if (text.trim() !== "" && Number.isInteger(available) && available >= 0)
    return Math.min(available, MAX_JOBS)
  throw new ValidationError(`\`available\` must be an integer from 0 up, got "${text.slice(0, 64)}"`)
}

const jobOf = (call: Call): Pick<Job, "jobId" | "runId"> => {
  const id = variable(call, "jobId")
  const job = readJobId(id)
  if (job !== undefined) return job
  throw new StaleRequestError(`Job "${id.slice(0, 128)}" was not handed out by this engine`, {
    code: "STALE_EXECUTION"
  })
}

const answerAck = (ack: TurnAck): Effect.Effect<Reply, IronflowError> => {
  if (ack._tag === "Accepted") return Effect.succeed(json({}))
  switch (ack.reason) {
    case "LEASE_LOST":
      return Effect.fail(new StaleRequestError(ack.message, { code: "STALE_EXECUTION" }))
    case "CANCELLED":
      return Effect.fail(new StaleRequestError(ack.message, { code: "RUN_NOT_RUNNING" }))
    case "LIMIT":
      return Effect.fail(new InvalidStateError(ack.message))
  }
}

const stale = (jobId: string): Effect.Effect<never, IronflowError> =>
  Effect.fail(
    new StaleRequestError(`Job ${jobId} is not leased any more: drop it`, { code: "STALE_EXECUTION" })
  )
