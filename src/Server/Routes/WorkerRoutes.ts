/** Calls of workers over HTTP: turns for workers of this package, and jobs for legacy ones. */
import * as Effect from "effect/Effect"
import { InvalidStateError, type IronflowError, StaleRequestError, ValidationError } from "../../Errors.ts"
import { checkMaxConcurrentJobs, checkName } from "../../Limits.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/Endpoints.ts"
import { TURNS_VERSION } from "../../Protocol/Http/Turns.ts"
import { decoder, encoder } from "../../Protocol/Requests.ts"
import type { Row } from "../../Protocol/Row.ts"
import { isSealed } from "../../Protocol/Seal.ts"
import type { Job, TurnAck, WorkerRegistration } from "../../Protocol/Worker.ts"
import { RegisteredForJobs, type RegisterRequest, rows } from "../../Protocol/Workers.ts"
import { checkWorker, limitsOf, permitted } from "../../Engine/Access/WorkerAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { encodeJob, readJobId } from "../../Protocol/LegacyJobs.ts"
import { applyUpdate } from "../Workers/LegacyUpdates.ts"
import { LEGACY_LEASE_MS } from "../../Engine/Workers/LegacyWorker.ts"
import {
  boundTo,
  type Call,
  checkIn,
  environmentOfRun,
  json,
  noContent,
  type Reply,
  type Route,
  variable
} from "../Http/Route.ts"
import { checked } from "../../Checked.ts"
import { registerTurns } from "../Workers/TurnRegistration.ts"
import { readReports } from "../../Protocol/TurnReports.ts"
import { type RemoteWorkers, unknownWorker } from "../../Engine/Workers/RemoteWorkers.ts"
import type { WorkerConnection } from "../../Engine/Workers/WorkerConnection.ts"
import type { JsonText } from "../../Json.ts"
import { answering, reading, replying, withBody } from "./RowRoute.ts"
import { watchedConnection } from "../Workers/WatchedConnections.ts"
import { functionsOf } from "../Workers/LegacyFunctions.ts"
import { checkSeal, encodeDelivered, sealed } from "../Workers/TurnMessages.ts"

/** The most jobs in one response to a legacy worker. */
const MAX_JOBS = 100

const readPoll = decoder(rows.pollTurns.body!, "Poll")
const readLate = decoder(rows.lateTurn.body!, "Late")
const readJobUpdate = decoder(rows.updateJob.body!, "Update")
const encodeRegistered = encoder(RegisteredForJobs)

/** The routes of workers. `maxBodyBytes` is the largest body of their requests. */
export const workerRoutes = (
  engine: EngineService,
  workers: RemoteWorkers,
  maxBodyBytes: number
): ReadonlyArray<Route> => {
  const register = (request: RegisterRequest, call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const workerId = yield* checked(() => checkName("worker id", variable(call, "id")))
      return (request.capabilities?.turns ?? 0) >= TURNS_VERSION
        ? yield* Effect.map(
            registerTurns(workers, request, {
              environment: environmentIn(call),
              workerId,
              isSealed: isSealed(call.body),
              connection: call.request.socket,
              transport: "polling",
              maxBodyBytes,
              caller: call.caller
            }),
            ({ response, worker }): Reply => ({ status: 200, text: sealed(worker, JSON.stringify(response)) })
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
        functions: functionsOf(engine.functions, call.environment, request.functionIds ?? []),
        // legacy workers send 0 for an unset number
        maxConcurrentJobs: yield* checked(() => checkMaxConcurrentJobs(request.maxConcurrentJobs || 10)),
        labels: request.labels ?? {},
        version: { sdk: "unknown", runtime: "unknown" }
      }
      yield* checked(() => call.caller && checkWorker(call.caller, registration))
      yield* workers.enlist(
        registration,
        undefined,
        call.caller === undefined ? undefined : limitsOf(call.caller, call.environment)
      )
      return json(encodeRegistered({ workerId, status: "registered" }))
    })

  /** The legacy worker of the call; `undefined` when it is not known in an environment of the caller. */
  const legacyWorker = (call: Call) =>
    checked(() => {
      const worker = workers.legacyWorker(variable(call, "id"), boundTo(call))
      if (worker !== undefined) checkIn(call, worker.environment, worker.workerId)
      return worker
    })

  /**
   * A route for workers that exchange turns: `answer` receives the worker, and returns the JSON of the response if
   * there is one.
   */
  const turning = <A extends { readonly session: string }>(
    row: Row,
    read: (body: unknown) => A,
    answer: (
      worker: WorkerConnection,
      request: A,
      call: Call
    ) => Effect.Effect<JsonText | void, IronflowError>
  ): Route =>
    replying(row, (call) =>
      Effect.gen(function* () {
        const request = yield* checked(() => read(call.body))
        const worker = yield* workers.turnWorker(variable(call, "id"), request.session, boundTo(call))
        yield* checked(() => {
          checkIn(call, worker.environment, worker.workerId)
          checkSeal(worker, isSealed(call.body))
        })
        const text = yield* answer(worker, request, call)
        return typeof text === "string" ? { status: 200, text: sealed(worker, text) } : noContent
      })
    )

  const takeJobs = (call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const worker = yield* legacyWorker(call)
      if (worker === undefined) return yield* unknownWorker(variable(call, "id"))
      worker.seen()
      const available = yield* checked(() => readAvailable(call.query.get("available")))
      const wanted = available ?? 1
      if (wanted === 0) return noContent
      // a worker that hangs up now would not receive the claimed jobs
      const jobs = yield* Effect.uninterruptible(
        Effect.tap(worker.take(wanted), (jobs) =>
          call.request.socket.destroyed ? worker.giveBack(jobs) : Effect.void
        )
      )
      if (jobs.length === 0) return noContent
      const texts = jobs.map(encodeJob)
      return { status: 200, text: available === undefined ? texts[0]! : `{"jobs":[${texts.join(",")}]}` }
    })

  /** The job of a call; an unknown job counts as one that is gone. */
  const readJob = (call: Call, what: "staleReports" | "staleRenewals") =>
    Effect.tapError(
      checked(() => jobOf(call)),
      () => Effect.sync(() => engine.turns.countStale(what))
    )

  const updateJob = (call: Call): Effect.Effect<object, IronflowError> =>
    Effect.gen(function* () {
      const worker = yield* legacyWorker(call)
      worker?.seen()
      const job = yield* readJob(call, "staleReports")
      const update = yield* checked(() => readJobUpdate(call.body))
      const environment = yield* environmentOfRun(engine.runs, call, job.runId, variable(call, "id"))
      return yield* answerAck(
        yield* applyUpdate(engine, environment, job, update, boundTo(call), call.caller)
      )
    })

  const ackJob = (call: Call): Effect.Effect<object, IronflowError> =>
    Effect.gen(function* () {
      const job = yield* readJob(call, "staleRenewals")
      const environment = yield* environmentOfRun(engine.runs, call, job.runId, variable(call, "id"))
      const gone = yield* engine.turns.extend([job.jobId], LEGACY_LEASE_MS, leasesIn(call, environment))
      if (gone.length === 0) return {}
      engine.turns.countStale("staleRenewals")
      return yield* stale(job.jobId)
    })

  const deregister = (call: Call): Effect.Effect<void, IronflowError> =>
    Effect.gen(function* () {
      const id = variable(call, "id")
      yield* checked(() => {
        const environment = workers.environmentOf(id, boundTo(call))
        if (environment !== undefined) checkIn(call, environment, id)
      })
      yield* workers.dismiss(id, call.query.get("session"), boundTo(call))
    })

  return [
    turning(rows.pollTurns, readPoll, (worker, request, call) =>
      Effect.map(worker.poll(request, watchedConnection(call.request.socket)), encodeDelivered)
    ),
    turning(rows.reportTurns, readReports, (worker, request, call) => {
      const { answered, reports } = permitted(call.caller, worker.environment, request.reports)
      return Effect.map(worker.report({ ...request, reports }), (acks) =>
        JSON.stringify({ acks: answered(acks) })
      )
    }),
    turning(rows.lateTurn, readLate, (worker, request) => worker.late(request)),
    answering(rows.deregisterWorker, (call) => Effect.as(deregister(call), undefined)),
    replying(rows.registerWorker, withBody(rows.registerWorker, "Register", register)),
    replying(rows.takeJobs, takeJobs),
    answering(rows.updateJob, updateJob),
    answering(rows.ackJob, ackJob),
    reading(rows.heartbeat, "Heartbeat", ({ jobs = [] }, call) =>
      Effect.gen(function* () {
        const worker = yield* legacyWorker(call)
        worker?.seen()
        const jobIds = jobs.flatMap(({ jobId }) => readJobId(jobId)?.jobId ?? [])
        // also those of a worker that has yet to register again after a restart of the engine
        if (jobIds.length > 0) {
          const environment = worker?.environment ?? leasesIn(call, call.environment)
          yield* engine.turns.extend(jobIds, LEGACY_LEASE_MS, environment)
        }
        return worker === undefined ? yield* unknownWorker(variable(call, "id")) : {}
      })
    )
  ]
}

/**
 * The environment of the leases that the call extends: the one that its key was checked for. Without a key the call
 * may extend leases in any environment.
 */
const leasesIn = (call: Call, environment: string): string | undefined =>
  call.caller?.key === undefined ? undefined : environment

/** The environment that the request names or its key is bound to, if there is one. */
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

const stale = (jobId: string): Effect.Effect<never, IronflowError> =>
  Effect.fail(
    new StaleRequestError(`Job ${jobId} is not leased any more: drop it`, { code: "STALE_EXECUTION" })
  )
