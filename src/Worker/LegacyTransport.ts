/**
 * Connects a worker to a legacy server. The worker polls the server for jobs, sends the updates about a turn one
 * after another, and can report only one wait, at the end of the turn.
 *
 * Such a server gives weaker guarantees than an engine of this package:
 *
 * - A turn that ends with several suspended steps waits for one of them at a time. Nothing fires while a turn runs.
 * - The worker does not notice that a run was cancelled before it sends the next report about the run, which the
 *   server refuses.
 * - A server that does not store results before the end of a turn (it refuses `progress`) may run the steps of a
 *   turn again when the worker is lost in the middle of the turn.
 * - `step.invokeAsync` ends the turn: steps that run beside it are aborted and start again.
 * - A run that would have to be paused (nondeterminism, a damaged record) fails instead, and a released run waits
 *   until its lease has ended.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { CODE_HASH_KEY, registerFunction } from "../Protocol/Functions.ts"
import type { Answer } from "../Client/HttpExchange.ts"
import { isFromServer, isUnknownPath, serverFailureOf } from "../Client/HttpFailures.ts"
import { DEFAULT_WORKER, TIMING } from "../Constants.ts"
import { type AccessError, type ConnectionError, type IronflowError, ValidationError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import * as operations from "../Protocol/Workers.ts"
import type { FunctionRegistration, Outcome, TurnAck, TurnReport, WorkerSession } from "../Protocol/Worker.ts"
import { legacyRegistration } from "../Protocol/Registration.ts"
import type { ProjectionFeed } from "../Protocol/ProjectionOwners.ts"
import { makeFeed } from "./LegacyProjections.ts"
import { readJob } from "./LegacyJob.ts"
import {
  applyOps,
  type LegacyEnd,
  type LegacySink,
  type ReportInProgress,
  beginReport,
  outputField
} from "./LegacyOps.ts"
import { publishMessage } from "./LegacyPublish.ts"
import { LegacyTurn } from "./LegacyTurn.ts"
import { isAccessError } from "./AccessErrors.ts"
import { toConnectionError, isSuccess, monotonicMs, type ServerLink } from "./ServerLink.ts"

/**
 * Opens a session, and retries until the server can be reached. Fails when the server refuses the functions or the
 * API key.
 */
export const open = (
  link: ServerLink
): Effect.Effect<WorkerSession, ValidationError | AccessError, Scope.Scope> =>
  Effect.gen(function* () {
    const session = new LegacySession(link)
    yield* session.register(
      (error): error is ValidationError | AccessError =>
        error instanceof ValidationError || isAccessError(error)
    )
    session.start()
    return session
  })

/**
 * The shortest term of the leases of legacy servers, in milliseconds. The term is three heartbeat intervals if these
 * are longer.
 */
const SHORTEST_LEASE_MS = 90_000

/** Maximum number of updates in flight at once, each about a different run. */
const MAX_UPDATES_IN_FLIGHT = 8

/** A report that is being sent, and the answer to it once the answer has arrived. */
interface PendingReport extends ReportInProgress {
  ack: TurnAck | undefined
}

class LegacySession implements WorkerSession {
  readonly #link: ServerLink
  readonly projections: ProjectionFeed
  readonly #turns = new Map<string, LegacyTurn>()
  #room = 0
  #wake: (() => void) | undefined
  #isRefused = false
  /** Whether the server stores results while a turn runs. */
  #storesProgress = true

  constructor(link: ServerLink) {
    this.#link = link
    this.projections = makeFeed(link.connection)
  }

  start(): void {
    const { fork } = this.#link
    fork(this.#poll)
    fork(this.#heartbeat)
    fork(this.#watchLeases)
  }

  readonly makeRoom = (n: number): void => {
    this.#room += n
    if (this.#room > 0) this.#wake?.()
  }

  readonly late = (): Effect.Effect<void> => {
    // not reported: a legacy server starts the next turn only when the wait of the run is over
    return Effect.void
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Registration
  // -------------------------------------------------------------------------------------------------------------------

  /** Registers, and retries until the registration succeeds, or fails with an error for which `isFinal` holds. */
  register<E extends IronflowError>(isFinal: (error: IronflowError) => error is E): Effect.Effect<void, E> {
    const { outage } = this.#link
    return Effect.matchEffect(this.#registerOnce, {
      onSuccess: () => Effect.sync(() => outage.attemptSucceeded()),
      onFailure: (error) =>
        isFinal(error)
          ? Effect.fail(error)
          : Effect.flatMap(Effect.sleep(outage.attemptFailed(error)), () => this.register(isFinal))
    })
  }

  readonly #registerOnce: Effect.Effect<void, IronflowError> = Effect.suspend(() => {
    const { registration } = this.#link
    const registerFunctions = Effect.forEach(
      registration.functions,
      (fn) =>
        this.#sendOrFail({
          path: registerFunction.path,
          body: registerFunctionBody(fn),
          what: `The registration of function "${fn.id}"`
        }),
      { discard: true }
    )
    const registerWorker = this.#sendOrFail({
      path: pathOf(operations.registerWorker, { id: registration.workerId }),
      body: legacyRegistration(registration),
      what: `The registration of worker ${registration.workerId}`
    })
    return Effect.andThen(registerFunctions, registerWorker)
  })

  /** Sends a request. Fails unless the status of the answer is 2xx. */
  #sendOrFail(request: { path: string; body: unknown; what: string }): Effect.Effect<void, IronflowError> {
    return Effect.flatMap(
      this.#link.connection.send({ ...request, method: "POST", body: JSON.stringify(request.body) }),
      (answer) => (isSuccess(answer) ? Effect.void : Effect.fail(serverFailureOf(answer, request.what)))
    )
  }

  /** Stops the worker, since the server refuses its API key. */
  #stopRefused(error: AccessError): void {
    if (this.#isRefused) return
    this.#isRefused = true
    const { handlers, options, registration } = this.#link
    options.logger.error(`Worker ${registration.workerId} stops: ${error.message}`)
    handlers.onRefused?.(error)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Jobs
  // -------------------------------------------------------------------------------------------------------------------

  readonly #awaitRoom: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#room > 0) return resume(Effect.void)
    this.#wake = () => {
      this.#wake = undefined
      resume(Effect.void)
    }
  })

  readonly #poll: Effect.Effect<void> = Effect.suspend(() => {
    const { connection, options, registration } = this.#link
    const what = `The poll of worker ${registration.workerId}`
    const pollOnce = Effect.flatMap(
      Effect.suspend(() =>
        connection.send({
          method: "GET",
          path: `${pathOf(operations.takeJobs, { id: registration.workerId })}?available=${this.#room}`,
          what
        })
      ),
      (answer) => this.#takeJobs(answer, what)
    )
    return this.#awaitRoom.pipe(
      Effect.andThen(pollOnce),
      Effect.catch((error) => {
        if (isAccessError(error)) {
          this.#stopRefused(error)
          return Effect.never
        }
        this.#link.outage.attemptFailed(error)
        return Effect.sleep(Math.min(TIMING.ERROR_RETRY_DELAY_MS, options.reconnectMs))
      }),
      Effect.andThen(Effect.suspend(() => this.#poll))
    )
  })

  /**
   * Takes the jobs in the answer to a poll. If there are none, waits before the next poll, as the protocol requires.
   */
  #takeJobs(answer: Answer, what: string): Effect.Effect<void, IronflowError> {
    const { options, outage, registration } = this.#link
    const { status, text } = answer
    if (status === 404) {
      options.logger.info(`The server does not know worker ${registration.workerId}: registering again`)
      return this.register(isAccessError)
    }
    if (!isSuccess(answer)) return Effect.fail(serverFailureOf(answer, what))
    outage.attemptSucceeded()
    if (status === 204 || text === "") return Effect.sleep(TIMING.POLL_INTERVAL_MS)
    const body = safeJsonParse(text)
    const assignments = isObject(body) && Array.isArray(body.jobs) ? body.jobs : [body]
    return Effect.flatMap(
      Effect.forEach(assignments, (assignment) => this.#accept(assignment)),
      (accepted) => (accepted.includes(true) ? Effect.void : Effect.sleep(TIMING.POLL_INTERVAL_MS))
    )
  }

  /**
   * Starts a job. If the server requires a confirmation, first confirms the job. Returns whether the job was started.
   */
  #accept(assignment: unknown): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      const { clock, handlers, options, registration } = this.#link
      const nowMs = clock.currentTimeMillisUnsafe()
      const legacyJob = readJob(assignment, registration.environment, nowMs)
      if (typeof legacyJob === "string") {
        options.logger.error(`A job from ${options.server.url} was dropped: ${legacyJob}`)
        return Effect.succeed(false)
      }
      const heldSince = monotonicMs(clock)
      return Effect.map(this.#confirm(legacyJob), (confirmed) => {
        if (!confirmed) return false
        this.#room--
        this.#turns.set(legacyJob.job.jobId, new LegacyTurn(legacyJob, nowMs, heldSince))
        handlers.onJob(legacyJob.job)
        return true
      })
    })
  }

  #confirm({ fence, job }: Exclude<ReturnType<typeof readJob>, string>): Effect.Effect<boolean> {
    if (fence === undefined) return Effect.succeed(true)
    const { connection, options, registration } = this.#link
    return Effect.match(
      connection.send({
        method: "PUT",
        path: pathOf(operations.ackJob, { id: registration.workerId, jobId: job.jobId }),
        body: JSON.stringify({ run_id: job.runId, ...fence }),
        what: `The confirmation of job ${job.jobId}`
      }),
      {
        onSuccess: isSuccess,
        onFailure: (error) => {
          // a job that is not confirmed is not lost: the server gives the run to a worker again, with a newer fencing
          // token
          options.logger.debug(`${error.message}. The job is dropped`)
          return false
        }
      }
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Signs of life
  // -------------------------------------------------------------------------------------------------------------------

  readonly #heartbeat: Effect.Effect<void> = Effect.suspend(() => {
    const { clock, connection, options, registration } = this.#link
    const sendHeartbeat = Effect.suspend(() => {
      const sentAt = monotonicMs(clock)
      const reportedTurns = [...this.#turns.values()]
      const jobs = reportedTurns.map(({ job, startedAt }) => ({ job_id: job.jobId, started_at: startedAt }))
      return Effect.match(
        connection.send({
          method: "POST",
          path: pathOf(operations.heartbeat, { id: registration.workerId }),
          body: JSON.stringify({ worker_id: registration.workerId, active_jobs: jobs.length, jobs }),
          what: `The heartbeat of worker ${registration.workerId}`
        }),
        {
          onSuccess: (answer) => {
            if (isSuccess(answer)) for (const turn of reportedTurns) turn.heldSince = sentAt
          },
          onFailure: (error) => options.logger.debug(error.message)
        }
      )
    })
    return Effect.sleep(options.heartbeatMs).pipe(
      Effect.andThen(sendHeartbeat),
      Effect.andThen(Effect.suspend(() => this.#heartbeat))
    )
  })

  /** Drops turns before their leases end, since other workers may run them afterwards. */
  readonly #watchLeases: Effect.Effect<void> = Effect.suspend(() => {
    const { clock, handlers, options } = this.#link
    const safeMs = (Math.max(SHORTEST_LEASE_MS, 3 * options.heartbeatMs) * 5) / 6
    const nowMs = monotonicMs(clock)
    for (const [jobId, turn] of this.#turns) {
      if (nowMs - turn.heldSince < safeMs) continue
      this.#turns.delete(jobId)
      const reason = `the server at ${options.server.url} could not be reached in time to extend the lease`
      handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
    }
    return Effect.andThen(
      Effect.sleep(safeMs / 15),
      Effect.suspend(() => this.#watchLeases)
    )
  })

  // -------------------------------------------------------------------------------------------------------------------
  // Reports
  // -------------------------------------------------------------------------------------------------------------------

  readonly report = (
    reports: ReadonlyArray<TurnReport>
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
    const pendingReports = reports.map((report): PendingReport => ({
      ...beginReport(report),
      ack: undefined
    }))
    return Effect.forEach(pendingReports, (pending) => this.#send(pending), {
      concurrency: MAX_UPDATES_IN_FLIGHT
    })
  }

  #send(pending: PendingReport): Effect.Effect<TurnAck, ConnectionError> {
    return Effect.suspend(() => {
      if (pending.ack !== undefined) return Effect.succeed(pending.ack)
      const { jobId, runId } = pending.report
      const turn = this.#turns.get(jobId)
      const sending =
        turn === undefined
          ? Effect.succeed(leaseLostAck(`the job ${jobId} of run ${runId} no longer belongs to this worker`))
          : this.#apply(turn, pending)
      return Effect.map(sending, (ack) => (pending.ack = ack))
    })
  }

  #apply(turn: LegacyTurn, pending: PendingReport): Effect.Effect<TurnAck, ConnectionError> {
    return Effect.gen({ self: this }, function* () {
      const endAnswer = yield* applyOps(this.#sink, turn, pending, this.#link.clock)
      if (endAnswer !== undefined) return endAnswer
      const refusal = yield* this.#store(turn)
      return refusal ?? { _tag: "Accepted", outcomes: pending.outcomes }
    })
  }

  /** Makes the server store the results so far, since later steps may depend on them. */
  #store(turn: LegacyTurn): Effect.Effect<TurnAck | undefined, ConnectionError> {
    return Effect.suspend(() => {
      if (turn.steps.length === 0 || !this.#storesProgress) return Effect.succeed(undefined)
      const steps = turn.steps.slice(0, DEFAULT_WORKER.MAX_CHECKPOINT_STEPS)
      const body = { status: "progress", steps, step_offset: turn.stepOffset }
      return Effect.flatMap(
        this.#update(turn, body),
        (answer): Effect.Effect<TurnAck | undefined, ConnectionError> => {
          if (isSuccess(answer)) {
            turn.markStored(steps.length)
            return this.#store(turn)
          }
          if (isStale(answer)) return Effect.succeed(this.#dropTurn(turn, answer))
          this.#storesProgress = false
          this.#link.options.logger.warn(
            `The server at ${this.#link.options.server.url} does not store results of steps while a turn runs ` +
              `(it answers ${answer.status}): when this worker is lost, the steps of its turns may run again`
          )
          return Effect.succeed(undefined)
        }
      )
    })
  }

  /** Reports the end of a turn. Before a wait is reported, the results of the turn are stored. */
  #end(
    turn: LegacyTurn,
    end: LegacyEnd,
    outcomes: ReadonlyArray<Outcome | undefined>
  ): Effect.Effect<TurnAck, ConnectionError> {
    const send = Effect.suspend(() =>
      Effect.map(this.#update(turn, { ...fieldsOf(end), ...stepFields(turn, end) }), (answer) => {
        if (!isSuccess(answer)) return this.#dropTurn(turn, answer)
        this.#turns.delete(turn.job.jobId)
        return acceptedAck(outcomes)
      })
    )
    if (end.status !== "yielded") return send
    return Effect.flatMap(this.#store(turn), (refusal) =>
      refusal === undefined ? send : Effect.succeed(refusal)
    )
  }

  readonly #sink: LegacySink = {
    end: (turn, end, outcomes) => this.#end(turn, end, outcomes),
    publish: (turn, op, nowMs) =>
      publishMessage(turn, op, nowMs, this.#link.connection, (answer, what) =>
        this.#failIfTransient(answer, what)
      ),
    invokeAsync: (turn, op, outcomes) =>
      Effect.map(this.#end(turn, { status: "yielded", yield: turn.asyncInvokeOf(op) }, outcomes), (ack) =>
        ack._tag === "Refused"
          ? ack
          : leaseLostAck(
              "the turn ends so that the invoked function can start; the run continues in another turn"
            )
      ),
    // a legacy server has no call that releases a run: the results are stored, and the lease ends by itself
    release: (turn, outcomes) =>
      Effect.map(this.#store(turn), (refusal) => {
        this.#turns.delete(turn.job.jobId)
        return refusal ?? acceptedAck(outcomes)
      })
  }

  /** Sends an update about a turn. Fails if the same update may get another answer later. */
  #update(
    turn: LegacyTurn,
    body: { readonly [field: string]: unknown }
  ): Effect.Effect<Answer, ConnectionError> {
    const { clock, connection, registration } = this.#link
    const { jobId, runId } = turn.job
    const what = `The report about run ${runId}`
    return Effect.suspend(() => {
      const sentAt = monotonicMs(clock)
      return connection
        .send({
          method: "PUT",
          path: pathOf(operations.updateJob, { id: registration.workerId, jobId }),
          body: JSON.stringify({ ...body, ...turn.fence }),
          what
        })
        .pipe(
          Effect.mapError(toConnectionError),
          Effect.flatMap((answer) => {
            if (isSuccess(answer)) turn.heldSince = Math.max(turn.heldSince, sentAt)
            return this.#failIfTransient(answer, what)
          })
        )
    })
  }

  /**
   * Returns an answer, but fails if the same request may get another answer later. Stops the worker if the server
   * refuses its API key.
   */
  #failIfTransient(answer: Answer, what: string): Effect.Effect<Answer, ConnectionError> {
    if (isSuccess(answer)) return Effect.succeed(answer)
    const error = serverFailureOf(answer, what)
    if (isAccessError(error)) {
      this.#stopRefused(error)
      return Effect.never
    }
    const isFromElsewhere = !isFromServer(answer) && !isUnknownPath(answer)
    return isFromElsewhere || answer.status >= 500 || answer.status === 429 || answer.status === 408
      ? Effect.fail(toConnectionError(error))
      : Effect.succeed(answer)
  }

  /**
   * Drops a turn whose report the server has refused, usually since another worker has the run or the run has ended.
   * Returns the answer to the report.
   */
  #dropTurn(turn: LegacyTurn, answer: Answer): TurnAck {
    this.#turns.delete(turn.job.jobId)
    const error = serverFailureOf(answer, `The report about run ${turn.job.runId}`)
    return leaseLostAck(`the server refuses the report: ${error.message} (${answer.status})`)
  }
}

/** Whether another worker has the run, the run has ended, or the server does not know the run. */
const isStale = ({ status }: Answer): boolean => status === 409 || status === 404

const fieldsOf = (end: LegacyEnd): { readonly [field: string]: unknown } => {
  switch (end.status) {
    case "completed":
      return { status: end.status, ...outputField("output", end.output) }
    case "yielded":
      return end
    case "failed": {
      const { code = "ERROR", message } = end.error
      return { status: end.status, error: { message, code, retryable: end.retryable } }
    }
  }
}

const stepFields = ({ stepOffset, steps }: LegacyTurn, { status }: LegacyEnd) =>
  steps.length === 0 && status !== "completed" ? {} : { steps, step_offset: stepOffset }

const acceptedAck = (outcomes: ReadonlyArray<Outcome | undefined>): TurnAck => ({
  _tag: "Accepted",
  outcomes: [...outcomes, undefined]
})

const leaseLostAck = (message: string): TurnAck => ({ _tag: "Refused", reason: "LEASE_LOST", message })

const registerFunctionBody = (fn: FunctionRegistration): { readonly [field: string]: unknown } => ({
  id: fn.id,
  name: fn.name,
  triggers: fn.triggers,
  retry: fn.retry,
  timeoutMs: fn.timeoutMs,
  ...(fn.concurrency === undefined ? {} : { concurrency: fn.concurrency }),
  preferredMode: "EXECUTION_MODE_PULL",
  ...(fn.actorKey === undefined ? {} : { actorKey: fn.actorKey }),
  ...(fn.searchBy === undefined ? {} : { searchBy: fn.searchBy }),
  ...(fn.secrets.length === 0 ? {} : { secrets: fn.secrets }),
  ...(fn.recording === undefined ? {} : { recording: fn.recording }),
  ...(fn.recordingRetention === undefined ? {} : { recordingRetention: fn.recordingRetention }),
  ...(fn.version === undefined ? {} : { version: fn.version }),
  ...(fn.versioning === undefined ? {} : { versioning: fn.versioning }),
  ...(fn.keepRuns === undefined ? {} : { keepRuns: fn.keepRuns }),
  metadata: { ...fn.metadata, [CODE_HASH_KEY]: fn.codeHash }
})
