/** Workers: the calls with which they register, receive work and report, and the list of connected workers. */
import { StaleRequestError, WorkerUnknownError } from "../Errors.ts"
import {
  anyOf,
  camelOrSnake,
  entries,
  fields,
  flag,
  integer,
  json,
  lenientList,
  list,
  nonZero,
  number,
  object,
  oneOf,
  optional,
  orElse,
  struct,
  text,
  type TypeOf,
  withLegacyNames,
  withWireName
} from "./Codec.ts"
import { Concurrency, KeptRunsCodec, Trigger } from "./Functions.ts"
import { JobUpdate } from "./LegacyJobs.ts"
import { versionings } from "../Versioning.ts"
import { inBody, inPath, operation, callSpec, waiting } from "./CallSpec.ts"

/** A connected worker. */
export interface WorkerInfo {
  /** Id of the worker. */
  readonly id: string
  /** Hostname of its machine. */
  readonly hostname: string
  /** Ids of its functions. */
  readonly functionIds: ReadonlyArray<string>
  /** Maximum number of concurrent turns. */
  readonly maxConcurrentJobs: number
  /** Number of current turns. */
  readonly activeJobs: number
  /** Its labels, by name. */
  readonly labels: { readonly [key: string]: string }
  /** Transport of the connection. */
  readonly transport: string
  /** When it registered, as an ISO string. */
  readonly registeredAt: string
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

const textOrEmpty = orElse(text, "")
const labels = entries(text)
const strings = list(text)

const Worker = fields<WorkerInfo>({
  id: text,
  hostname: textOrEmpty,
  functionIds: withWireName("function_ids", orElse(lenientList(text), [])),
  maxConcurrentJobs: withLegacyNames(
    withWireName("max_concurrent", orElse(nonZero, 0)),
    "max_concurrent_jobs"
  ),
  labels: orElse(labels, {}),
  activeJobs: withWireName("active_jobs", orElse(integer, 0)),
  registeredAt: withWireName("registered_at", textOrEmpty),
  transport: textOrEmpty
})
const Workers = camelOrSnake(
  struct({
    workers: orElse(lenientList(Worker), []),
    nextCursor: optional(text)
  })
)

/** A function that a worker registers. A worker cannot set the push endpoint of a function. */
const FunctionOfWorker = struct({
  id: text,
  name: text,
  triggers: list(Trigger),
  retry: struct({
    maxAttempts: integer,
    initialDelayMs: number,
    backoffFactor: number,
    maxDelayMs: number,
    jitter: optional(number)
  }),
  timeoutMs: number,
  concurrency: optional(Concurrency),
  mode: oneOf("push", "pull"),
  actorKey: optional(text),
  searchBy: optional(list(text)),
  secrets: strings,
  recording: optional(flag),
  recordingRetention: optional(text),
  metadata: optional(object),
  codeHash: text,
  version: optional(text),
  versioning: optional(oneOf(...versionings)),
  keepRuns: optional(KeptRunsCodec)
})

/** The registration of a worker. Only workers that exchange turns (`Http/Turns.ts`) send the fields from `capabilities` on. */
export const Register = struct({
  workerId: optional(text),
  hostname: optional(text),
  functionIds: optional(strings),
  maxConcurrentJobs: optional(integer),
  labels: optional(labels),
  version: optional(json),
  capabilities: optional(
    struct({ turns: optional(integer), renewals: optional(flag), seals: optional(flag) })
  ),
  registration: optional(
    struct({
      workerId: text,
      environment: text,
      hostname: text,
      functions: list(FunctionOfWorker),
      maxConcurrentJobs: integer,
      labels,
      version: struct({ sdk: text, runtime: text }),
      startedAt: optional(integer),
      pauses: optional(flag)
    })
  ),
  process: optional(struct({ host: text, pid: integer, startedAt: text })),
  instance: optional(text),
  jobs: optional(strings),
  number: optional(integer),
  since: optional(text)
})
export type RegisterRequest = TypeOf<typeof Register>

/** The answer to the registration of a legacy worker, which takes jobs and does not exchange turns. */
export const RegisteredForJobs = struct({ workerId: withWireName("worker_id", text), status: text })
const RegisteredForTurns = struct({
  capabilities: struct({
    turns: integer,
    renewals: optional(flag),
    seals: optional(flag)
  }),
  session: text,
  leaseMs: integer,
  presenceMs: integer,
  waitMs: integer,
  maxBodyBytes: integer,
  lost: strings,
  since: optional(text)
})

const Heartbeat = struct({
  workerId: optional(text),
  activeJobs: optional(integer),
  jobs: optional(list(struct({ jobId: text, startedAt: optional(text) })))
})

const session = text
const total = optional(integer)
const holding = optional(strings)
// `readRunningTurns` reads this list, and ignores invalid parts of it
const running = optional(json)

const Poll = struct({
  session,
  asked: total,
  withdrawn: total,
  seen: integer,
  waitMs: number,
  holding,
  running
})
/** The `room` call over a stream (`TurnStream.ts`). */
export const Room = struct({ session, asked: total, withdrawn: total, seen: total, holding, running })
export const LateTurnBody = struct({ session, runId: text, stepName: text, lingerMs: number })
export const DeregisterBody = struct({ session })

// `Worker.ts` describes deliveries, reports and ops. `TurnReports.ts` checks reports and their ops
const Delivered = struct({
  deliveries: list(object),
  closing: optional(flag)
})
const Reports = struct({
  session,
  batch: integer,
  asked: total,
  withdrawn: total,
  reports: list(struct({ jobId: text, runId: text, ops: list(object) }))
})
const Acks = struct({ acks: list(object) })

const Nothing = fields<object>({})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const restWorkers = operation("GET /api/v1/workers", { answer: Workers, page: "workers" })
export const registerWorker = operation("POST /api/v1/workers/:id/register", {
  answer: anyOf(RegisteredForTurns, RegisteredForJobs)
})
export const heartbeat = operation("POST /api/v1/workers/:id/heartbeat", { answer: Nothing, repeats: true })
export const takeJobs = operation("GET /api/v1/workers/:id/jobs", { answer: json, repeats: false })
export const updateJob = operation("PUT /api/v1/workers/:id/jobs/:jobId", { answer: Nothing, repeats: true })
export const ackJob = operation("PUT /api/v1/workers/:id/jobs/:jobId/ack", { answer: Nothing, repeats: true })
export const pollTurns = operation("POST /api/v1/workers/:id/turns/poll", {
  answer: Delivered,
  repeats: true
})
export const reportTurns = operation("POST /api/v1/workers/:id/turns/reports", {
  answer: Acks,
  repeats: true
})
export const lateTurn = operation("POST /api/v1/workers/:id/turns/late")
export const deregisterWorker = operation("DELETE /api/v1/workers/:id", { repeats: true })

const workerUnknown = { 404: WorkerUnknownError } as const
const staleRequest = { 409: StaleRequestError } as const

export const callSpecs = {
  /** Lists the connected workers. */
  restWorkers: callSpec(restWorkers, "worker:read"),
  /** Registers a worker. A worker that exchanges turns also sends its functions and the turns that it holds. */
  registerWorker: callSpec(registerWorker, "worker:run", {
    fromWorker: true,
    body: Register,
    errors: staleRequest
  }),
  /** Renews the presence of a worker that takes jobs, and the leases of its jobs. */
  heartbeat: callSpec(heartbeat, "worker:run", { body: Heartbeat, errors: workerUnknown }),
  /** Takes a job; with `available`, up to that many jobs. */
  takeJobs: callSpec(takeJobs, "worker:run", {
    query: ["available"],
    mayBeNothing: true,
    errors: workerUnknown
  }),
  /** Updates a job: its progress, its end, or what it waits for. */
  updateJob: callSpec(updateJob, "worker:run", { fromWorker: true, body: JobUpdate, errors: staleRequest }),
  /** Asks for permission to start a job. */
  ackJob: callSpec(ackJob, "worker:run", { body: json, errors: staleRequest }),
  /** Waits for jobs and notices, and extends the leases of the jobs in `holding`. */
  pollTurns: callSpec(pollTurns, waiting(inPath("worker:run", "worker", "id")), {
    fromWorker: true,
    body: Poll,
    errors: workerUnknown
  }),
  /** Reports the ops of turns; a batch is applied once. */
  reportTurns: callSpec(reportTurns, "worker:run", {
    fromWorker: true,
    body: Reports,
    errors: { 404: WorkerUnknownError, 409: StaleRequestError }
  }),
  /** Reports that a handler has gone on after its turn was suspended: the run is dispatched again. */
  lateTurn: callSpec(lateTurn, "worker:run", { fromWorker: true, body: LateTurnBody, errors: workerUnknown }),
  /** Deregisters a worker, and returns its leases. */
  deregisterWorker: callSpec(deregisterWorker, "worker:run", { query: ["session"] })
}

export const workerRpc = operation("GET /rpc/worker", { onlyOurEngine: true })
export const workerStream = operation("WorkerService/Connect", { streams: true })

/** Who may open the stream. The identity and the permissions of the worker are checked when it registers. */
const worker = inBody("worker:run", "worker", "workerId")

export const sockets = {
  /** Turns over effect/rpc; `src/Protocol/WorkerRpc.ts` describes it. */
  workers: callSpec(workerRpc, worker)
}

export const streams = {
  /** Jobs or turns over a bidirectional stream of the messages in `src/Protocol/Connect/worker.proto`; over HTTP/2 only. */
  workerStream: callSpec(workerStream, worker, { type: "application/connect+proto" })
}
