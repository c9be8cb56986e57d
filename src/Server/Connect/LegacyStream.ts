/**
 * The engine's side of the stream of a legacy worker. The worker receives jobs as long as it has room for them, reports
 * its steps and the ends of its jobs, and names its jobs in heartbeats. The engine tells the worker of cancellations.
 *
 * The engine itself counts how much room the worker has: such a worker says once how many jobs it takes, and drops
 * further jobs without saying so. After the worker has dropped a job, or ended it without a report, its heartbeats no
 * longer name the job.
 */
import * as Effect from "effect/Effect"
import { type IronflowError, ValidationError } from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import { checkMaxConcurrentJobs, checkName, declaredListLength } from "../../Limits.ts"
import type { Data } from "../../Protocol/Connect/Wire.ts"
import type { Job, TurnOp, WorkerRegistration } from "../../Protocol/Worker.ts"
import type { Caller } from "../../Engine/Access/Access.ts"
import { checkWorker, limitsOf } from "../../Engine/Access/WorkerAccess.ts"
import type { RemoteSession } from "../../Engine/Workers/RemoteSession.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { encodeOutput, legacyJobId, readJobId, type Update } from "../../Protocol/LegacyJobs.ts"
import { applyUpdate } from "../Workers/LegacyUpdates.ts"
import { LEGACY_LEASE_MS, type LegacyWorker, opForUnusable } from "../../Engine/Workers/LegacyWorker.ts"
import { checked } from "../../CheckAsEffect.ts"
import type { RemoteWorkers } from "../../Engine/Workers/RemoteWorkers.ts"
import { findFunctions } from "../Workers/LegacyFunctions.ts"

/** A job that the worker has. */
interface HeldJob {
  readonly job: Job
  /** Whether the worker has acknowledged the job. */
  isAcked: boolean
  /** How many heartbeats have not named the job, while the worker has not acknowledged it. */
  missedBeats: number
}

export interface LegacyStreamOptions {
  readonly engine: EngineService
  readonly workers: RemoteWorkers
  readonly environment: string
  readonly caller: Caller
  /** Sends a message, unless the stream has ended. */
  readonly send: (message: Data) => void
  /** Ends the stream. */
  readonly end: () => void
  /** Runs an effect in the background, for the lifetime of the server. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

const RELEASE: TurnOp = { _tag: "Release" }

/** How often workers are asked to send a heartbeat, in milliseconds. */
const HEARTBEAT_MS = LEGACY_LEASE_MS / 3

export class LegacyStream {
  readonly #options: LegacyStreamOptions
  #worker: LegacyWorker | undefined
  #session: RemoteSession | undefined
  #registration: WorkerRegistration | undefined
  /** How many jobs the worker takes at once. */
  #maxJobs = 0
  /** How many jobs were requested for the worker and have not arrived. */
  #requested = 0
  readonly #heldJobs = new Map<string, HeldJob>()
  #workerId = ""
  #isClosed = false

  constructor(options: LegacyStreamOptions) {
    this.#options = options
  }

  register(register: Data): Effect.Effect<void, IronflowError> {
    const { caller, engine, environment, send, workers } = this.#options
    return Effect.gen({ self: this }, function* () {
      const registration = yield* checked(() => {
        const registration = readRegistration(engine, environment, register)
        checkWorker(caller, registration)
        return registration
      })
      this.#workerId = registration.workerId
      const { engine: session, worker } = yield* workers.registerLegacyWorker(
        registration,
        {
          transport: "connect",
          onJob: (job) => this.#deliver(job),
          onNotice: (notice) => {
            if (notice._tag === "Cancelled" || notice._tag === "LeaseLost")
              this.#tellCancelled(notice.jobId, notice.reason)
          },
          onEnd: () => {
            this.#session = undefined
            this.#options.end()
          }
        },
        limitsOf(caller, environment)
      )
      this.#registration = registration
      this.#worker = worker
      this.#session = session
      this.#maxJobs = registration.maxConcurrentJobs
      send({ registered: { workerId: registration.workerId, heartbeatIntervalMs: HEARTBEAT_MS } })
      this.#requestJobs()
    })
  }

  /** Throws an `IronflowError` when the worker may no longer use the stream. */
  check(): void {
    if (this.#registration !== undefined) checkWorker(this.#options.caller, this.#registration)
  }

  /**
   * Notes that the stream has ended. The worker gets no jobs until it reconnects, and keeps its leases until they run
   * out.
   */
  onClosed(): void {
    this.#isClosed = true
    this.#session?.setReachable(false)
  }

  /** Handles a message of the worker. Fails when the stream cannot continue. */
  onMessage(message: Data): Effect.Effect<void, IronflowError> {
    return Effect.suspend(() => {
      this.#worker?.noteMessage()
      if (isObject(message.heartbeat)) return this.#handleHeartbeat(message.heartbeat)
      if (isObject(message.jobAck)) return this.#acknowledge(String(message.jobAck.jobId ?? ""))
      if (isObject(message.stepStarted)) return this.#answerStep(message.stepStarted, Effect.void)
      // a failed step changes nothing yet: the worker's report about the whole job decides
      if (isObject(message.stepFailed)) return this.#answerStep(message.stepFailed, Effect.void)
      if (isObject(message.stepCompleted)) {
        const step = message.stepCompleted
        return this.#answerStep(step, this.#apply(step, progressOf(step)))
      }
      if (isObject(message.stepYielded)) {
        const step = message.stepYielded
        return this.#answerStep(
          step,
          Effect.flatMap(this.#options.engine.time, (now) =>
            Effect.flatMap(
              checked(() => yieldOf(step, now)),
              (update) => this.#apply(step, update, true)
            )
          )
        )
      }
      if (isObject(message.jobCompleted)) {
        return this.#endJob(message.jobCompleted, completionOf(message.jobCompleted))
      }
      if (isObject(message.jobFailed)) return this.#endJob(message.jobFailed, failureOf(message.jobFailed))
      return Effect.void
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Jobs
  // -------------------------------------------------------------------------------------------------------------------

  /** Requests as many jobs from the engine as the worker has room for. */
  #requestJobs(): void {
    // negative when the worker now takes fewer jobs: then requests are withdrawn
    const newRoom = this.#maxJobs - this.#heldJobs.size - this.#requested
    if (newRoom === 0 || this.#session === undefined) return
    this.#requested += newRoom
    this.#session.makeRoom(newRoom)
  }

  #deliver(job: Job): void {
    const { send, workers } = this.#options
    this.#requested--
    const op =
      (this.#isClosed ? RELEASE : undefined) ??
      opForUnusable(job, (functionId) => workers.runsTurns(job.environment, functionId)) ??
      opForUnsupported(job, workers.runsTurns(job.environment, job.functionId))
    if (op !== undefined) {
      this.#settle(job, op)
      return this.#requestJobs()
    }
    this.#heldJobs.set(job.jobId, { job, isAcked: false, missedBeats: 0 })
    send({ job: encodeJob(job) })
  }

  #forget(jobId: string): void {
    if (this.#heldJobs.delete(jobId)) this.#requestJobs()
  }

  #tellCancelled(jobId: string, reason: string): void {
    const heldJob = this.#heldJobs.get(jobId)
    if (heldJob === undefined) return
    this.#options.send({ cancel: { jobId: legacyJobId(heldJob.job), reason } })
    this.#forget(jobId)
  }

  /** Reports an op that the worker itself does not report. */
  #settle({ jobId, runId }: Pick<Job, "jobId" | "runId">, op: TurnOp): void {
    this.#options.fork(
      Effect.catch(
        Effect.asVoid(
          this.#options.engine.turns.report([{ jobId, runId, ops: [op] }], this.#options.environment)
        ),
        (error) =>
          Effect.logWarning(
            `Run ${runId} could not be taken back from worker ${this.#workerId}: the run goes on when the lease of that worker ends`,
            error
          )
      )
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Messages
  // -------------------------------------------------------------------------------------------------------------------

  #acknowledge(id: string): Effect.Effect<void, IronflowError> {
    const jobId = readJobId(id)?.jobId
    if (jobId === undefined) return Effect.void
    const heldJob = this.#heldJobs.get(jobId)
    if (heldJob !== undefined) heldJob.isAcked = true
    return this.#extend([jobId])
  }

  #handleHeartbeat({ jobs }: Data): Effect.Effect<void, IronflowError> {
    const namedIds = new Set(
      (Array.isArray(jobs) ? jobs : []).flatMap(
        (job) => readJobId(String(Object(job).jobId ?? ""))?.jobId ?? []
      )
    )
    for (const [jobId, heldJob] of this.#heldJobs) {
      if (namedIds.has(jobId)) {
        heldJob.isAcked = true
        continue
      }
      // a job that was given a moment ago may have been in transit when the heartbeat was sent
      if (!heldJob.isAcked && heldJob.missedBeats++ === 0) continue
      this.#settle(heldJob.job, heldJob.isAcked ? this.#pauseOp() : RELEASE)
      this.#forget(jobId)
    }
    return namedIds.size === 0 ? Effect.void : this.#extend([...namedIds])
  }

  #pauseOp(): TurnOp {
    return {
      _tag: "Pause",
      code: "ENDED_SILENTLY",
      message:
        `Worker ${this.#workerId} returned the run without a result, as older SDKs do over a stream when a function sleeps, waits ` +
        "or invokes. Run the function on a worker of @ironflow/node, or on a legacy worker that polls, and resume the run."
    }
  }

  #extend(jobIds: ReadonlyArray<string>): Effect.Effect<void, IronflowError> {
    const { engine, environment } = this.#options
    return Effect.map(engine.turns.extend(jobIds, LEGACY_LEASE_MS, environment), (lostJobIds) => {
      for (const jobId of lostJobIds)
        this.#tellCancelled(jobId, "another worker has the run, or the run has ended")
    })
  }

  #answerStep(step: Data, update: Effect.Effect<void, IronflowError>): Effect.Effect<void> {
    const { send } = this.#options
    const stepId = String(step.stepId ?? "")
    return Effect.matchEffect(update, {
      onSuccess: () => Effect.sync(() => send({ stepAck: { stepId, accepted: true } })),
      onFailure: (error) =>
        Effect.sync(() => send({ stepAck: { stepId, accepted: false, error: error.message } }))
    })
  }

  #endJob(message: Data, update: Update): Effect.Effect<void> {
    return Effect.catch(this.#apply(message, update, true), (error) =>
      Effect.logWarning(
        `Worker ${this.#workerId} reported the end of job ${String(message.jobId)}, and the engine did not accept the report`,
        error
      )
    )
  }

  /** Applies an update. Fails when the update changed nothing. */
  #apply(message: Data, update: Update, endsJob = false): Effect.Effect<void, IronflowError> {
    const { engine, environment } = this.#options
    const id = String(message.jobId ?? "")
    const ids = readJobId(id)
    if (ids === undefined) {
      return Effect.fail(
        new ValidationError(
          `"${id.slice(0, 128)}" is not a job id of this engine: stop working on that job, and report nothing more about it`
        )
      )
    }
    const report = Effect.flatMap(
      applyUpdate(engine, environment, ids, update, environment, this.#options.caller),
      (ack) =>
        ack._tag === "Accepted"
          ? Effect.void
          : Effect.fail(
              new ValidationError(`The update changed nothing: ${ack.message}`, { code: "STALE_EXECUTION" })
            )
    )
    return endsJob
      ? Effect.ensuring(
          report,
          Effect.sync(() => this.#forget(ids.jobId))
        )
      : report
  }
}

const readRegistration = (
  engine: EngineService,
  environment: string,
  { functionIds, hostname, labels, maxConcurrentJobs, workerId }: Data
): WorkerRegistration => {
  const ids = Array.isArray(functionIds) ? functionIds.map(String) : []
  const pairs = Object.entries(Object(labels)).map(([name, value]) => [name, String(value)] as const)
  if (pairs.length > declaredListLength)
    throw new ValidationError(`A worker can have at most ${declaredListLength} labels, got ${pairs.length}`)
  return {
    workerId: checkName("worker id", String(workerId ?? "")),
    environment,
    hostname: String(hostname ?? "unknown"),
    functions: findFunctions(engine.functions, environment, ids),
    // legacy workers send 0 for a number that is not set
    maxConcurrentJobs: checkMaxConcurrentJobs(Number(maxConcurrentJobs) || 10),
    labels: Object.fromEntries(pairs),
    version: { sdk: "unknown", runtime: "unknown" }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// To the worker
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The op for a run that this stream cannot carry, since the run has a value that is not an object: the protocol encodes
 * values as a `Struct`, which is always an object. The run is released when another worker can take it, and paused
 * when none can. `undefined` for other runs.
 */
const opForUnsupported = (job: Job, hasOtherWorker: boolean): TurnOp | undefined => {
  const unsupportedValue =
    job.event.data !== "null" && !isJsonObject(job.event.data)
      ? "the data of its event"
      : job.journal.find(({ kind, outcome }) => {
          const value = outcome._tag === "Success" ? encodeOutput(kind, outcome.value) : "null"
          return value !== "null" && !isJsonObject(value)
        })?.name
  if (unsupportedValue === undefined) return undefined
  if (hasOtherWorker) return RELEASE
  return {
    _tag: "Pause",
    code: "NEEDS_TURNS",
    message:
      `The run has a value that is not an object (${unsupportedValue}), which the stream of the connected legacy workers cannot carry: ` +
      "start a worker of @ironflow/node, or a legacy worker that polls, then resume the run."
  }
}

const isJsonObject = (text: string): boolean => text.startsWith("{")

const structOf = (text: string | undefined): unknown => {
  const value = text === undefined ? undefined : safeJsonParse(text)
  return isObject(value) ? value : undefined
}

const encodeJob = (job: Job): Data => {
  const { event } = job
  return {
    jobId: legacyJobId(job),
    runId: job.runId,
    functionId: job.functionId,
    attempt: job.attempt,
    event: {
      id: event.id,
      name: event.name,
      version: event.version,
      data: structOf(event.data),
      metadata: structOf(event.metadata),
      source: event.source,
      idempotencyKey: event.idempotencyKey,
      timestamp: event.timestamp
    },
    completedSteps: job.journal.flatMap(({ kind, name, outcome, stepKey }) =>
      outcome._tag === "Success" && kind !== "parallel"
        ? [{ stepId: `${job.runId}:${stepKey}`, name, output: structOf(encodeOutput(kind, outcome.value)) }]
        : []
    ),
    ...(job.secrets === undefined ? {} : { context: { secrets: job.secrets } })
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// From the worker
// ---------------------------------------------------------------------------------------------------------------------

const progressOf = (step: Data): Update => ({
  status: "progress",
  steps: [{ id: String(step.stepId ?? ""), status: "completed", ...outputOf(step) }]
})

const outputOf = ({ output }: Data): { readonly output?: unknown } => (output === undefined ? {} : { output })

const completionOf = (message: Data): Update => ({ status: "completed", ...outputOf(message) })

const failureOf = ({ error, steps }: Data): Update => ({
  status: "failed",
  error: errorOf(error),
  steps: (Array.isArray(steps) ? steps.filter(isObject) : []).map((step) => ({
    id: String(step.id ?? ""),
    ...(typeof step.name === "string" ? { name: step.name } : {}),
    ...(typeof step.type === "string" ? { type: step.type } : {}),
    status: String(step.status ?? ""),
    ...outputOf(step),
    ...(step.error === undefined ? {} : { error: errorOf(step.error) })
  }))
})

const errorOf = (error: unknown): NonNullable<Update["error"]> => {
  const { code, message, retryable, stack } = Object(error)
  return {
    ...(typeof message === "string" ? { message } : {}),
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof stack === "string" ? { stack } : {}),
    retryable: retryable === true
  }
}

const yieldOf = (step: Data, now: number): Update => {
  const stepId = String(step.stepId ?? "")
  if (isObject(step.sleep)) {
    const until = isoOf(step.sleep.until)
    return { status: "yielded", yield: { type: "sleep", stepId, ...(until === undefined ? {} : { until }) } }
  }
  if (isObject(step.waitEvent)) {
    const { eventName, timeout } = step.waitEvent
    const match = matchOf(step.waitEvent)
    return {
      status: "yielded",
      yield: {
        type: "wait_for_event",
        stepId,
        eventFilter: {
          event: String(eventName ?? ""),
          ...(match === undefined ? {} : { match }),
          ...(typeof timeout === "number" ? { timeout: Math.max(1, timeout - now) } : {})
        }
      }
    }
  }
  if (isObject(step.invoke)) {
    const { async, functionId, input, timeoutMs } = step.invoke
    return {
      status: "yielded",
      yield: {
        type: async === true ? "invoke_function_async" : "invoke_function",
        stepId,
        functionId: String(functionId ?? ""),
        ...(input === undefined ? {} : { input }),
        ...(typeof timeoutMs === "number" ? { invokeTimeoutMs: timeoutMs } : {})
      }
    }
  }
  throw new ValidationError(
    `The yield of step "${stepId.slice(0, 256)}" does not say what the step waits for`
  )
}

const isoOf = (epochMs: unknown): string | undefined => {
  const date = new Date(Number(epochMs))
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString()
}

/**
 * The `match` of a wait. With a path alone, the awaited event must have the same value at this path as the event of the
 * run. With a path and a value, the awaited event must have this value at the path.
 */
const matchOf = ({ matchExpression, matchValue }: Data): string | undefined => {
  if (typeof matchExpression !== "string" || matchExpression === "") return undefined
  return typeof matchValue === "string" && matchValue !== ""
    ? `event.${matchExpression.replace(/^event\./, "")} == ${JSON.stringify(matchValue)}`
    : matchExpression
}
