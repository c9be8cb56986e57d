/** Workers: how they register, take work and report, and what is told of them. */
import { StaleRequestError, WorkerUnknownError } from "../Errors.ts"
import {
  also,
  anyOf,
  as,
  eitherCase,
  entries,
  fields,
  flag,
  integer,
  json,
  list,
  nonZero,
  number,
  object,
  oneOf,
  optional,
  orElse,
  some,
  struct,
  text,
  type TypeOf
} from "./Codec.ts"
import { Concurrency, Kept, Trigger } from "./Functions.ts"
import { JobUpdate } from "./LegacyJobs.ts"
import { versionings } from "../Versioning.ts"
import { inBody, inPath, operation, row, waiting } from "./Row.ts"

/** A worker that is connected. */
export interface WorkerInfo {
  /** How the worker is known. */
  readonly id: string
  /** The machine that it runs on. */
  readonly hostname: string
  /** Ids of the functions that it has. */
  readonly functionIds: ReadonlyArray<string>
  /** Turns that it takes at once. */
  readonly maxConcurrentJobs: number
  /** Turns that it has now. */
  readonly activeJobs: number
  /** Its labels, by name. */
  readonly labels: { readonly [key: string]: string }
  /** How it is connected. */
  readonly transport: string
  /** When it came. ISO string. */
  readonly registeredAt: string
}

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

const said = orElse(text, "")
const labels = entries(text)
const texts = list(text)

const Worker = fields<WorkerInfo>({
  id: text,
  hostname: said,
  functionIds: as("function_ids", orElse(some(text), [])),
  maxConcurrentJobs: also(as("max_concurrent", orElse(nonZero, 0)), "max_concurrent_jobs"),
  labels: orElse(labels, {}),
  activeJobs: as("active_jobs", orElse(integer, 0)),
  registeredAt: as("registered_at", said),
  transport: said
})
const Workers = eitherCase(
  struct({
    workers: orElse(some(Worker), []),
    nextCursor: optional(text)
  })
)

/** Where a function is called for its turns is not for a worker to say. */
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
  secrets: texts,
  recording: optional(flag),
  recordingRetention: optional(text),
  metadata: optional(object),
  codeHash: text,
  version: optional(text),
  versioning: optional(oneOf(...versionings)),
  keepRuns: optional(Kept)
})

/** What every worker says of itself; from `capabilities` on, what those say that speak turns (`Http/Turns.ts`). */
export const Register = struct({
  workerId: optional(text),
  hostname: optional(text),
  functionIds: optional(texts),
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
  jobs: optional(texts),
  number: optional(integer),
  since: optional(text)
})
export type RegisterRequest = TypeOf<typeof Register>

/** The answer to workers that take jobs. */
export const RegisteredForJobs = struct({ workerId: as("worker_id", text), status: text })
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
  lost: texts,
  since: optional(text)
})

const Heartbeat = struct({
  workerId: optional(text),
  activeJobs: optional(integer),
  jobs: optional(list(struct({ jobId: text, startedAt: optional(text) })))
})

const session = text
const total = optional(integer)
const holding = optional(texts)
// read by `readRunning`, which leaves out what it does not understand
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
/** What a worker says over a stream (`TurnStream.ts`). */
export const Room = struct({ session, asked: total, withdrawn: total, seen: total, holding, running })
export const Late = struct({ session, runId: text, stepName: text, lingerMs: number })
export const Leave = struct({ session })

// what deliveries, reports and their ops are is said in `Worker.ts`: they are read by `TurnReports.ts`, and go out as text
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

const unknown = { 404: WorkerUnknownError } as const
const stale = { 409: StaleRequestError } as const

export const rows = {
  /** The workers that are connected. */
  restWorkers: row(restWorkers, "worker:read"),
  /** Registers a worker: one that speaks turns with its functions and the turns that it holds. */
  registerWorker: row(registerWorker, "worker:run", { fromWorker: true, body: Register, errors: stale }),
  /** A worker that takes jobs is there, and at these. */
  heartbeat: row(heartbeat, "worker:run", { body: Heartbeat, errors: unknown }),
  /** A job, or with `available` up to so many. */
  takeJobs: row(takeJobs, "worker:run", { query: ["available"], mayBeNothing: true, errors: unknown }),
  /** What has become of a job: progress, its end, or what it waits for. */
  updateJob: row(updateJob, "worker:run", { fromWorker: true, body: JobUpdate, errors: stale }),
  /** Asks for leave to begin a job. */
  ackJob: row(ackJob, "worker:run", { body: json, errors: stale }),
  /** Waits for turns and notices, and keeps the leases that it names. */
  pollTurns: row(pollTurns, waiting(inPath("worker:run", "worker", "id")), {
    fromWorker: true,
    body: Poll,
    errors: unknown
  }),
  /** Reports what has happened in turns: a batch is applied once. */
  reportTurns: row(reportTurns, "worker:run", {
    fromWorker: true,
    body: Reports,
    errors: { 404: WorkerUnknownError, 409: StaleRequestError }
  }),
  /** A step was called after its turn had ended: the run is handed out again. */
  lateTurn: row(lateTurn, "worker:run", { fromWorker: true, body: Late, errors: unknown }),
  /** The worker goes, and gives its leases back. */
  deregisterWorker: row(deregisterWorker, "worker:run", { query: ["session"] })
}

export const workerRpc = operation("GET /rpc/worker", { ours: true })
export const workerStream = operation("WorkerService/Connect", { streams: true })

/** Who a worker is, and what it may do, is asked when it registers. */
const worker = inBody("worker:run", "worker", "workerId")

export const sockets = {
  /** Turns over effect/rpc; `src/Protocol/WorkerRpc.ts` says how. */
  workers: row(workerRpc, worker)
}

export const streams = {
  /** Jobs, or turns, over a stream both ways of the messages in `src/Protocol/Connect/worker.proto`; over HTTP/2 alone. */
  workerStream: row(workerStream, worker, { type: "application/connect+proto" })
}
