/**
 * The session of a worker with an engine, whatever the transport: the requested jobs, the held leases, the batch of
 * reports in flight, and the registration after the session is lost.
 *
 * `Protocol/Http/Turns.ts` describes the requests. The subclasses send them.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { invalidResponseError } from "../Client/HttpFailures.ts"
import { readPendingInput } from "../Client/PatientTimeout.ts"
import {
  type AccessError,
  ConnectionError,
  type IronflowError,
  ReportError,
  WorkerUnknownError
} from "../Errors.ts"
import { isObject } from "../Json.ts"
import * as Turns from "../Protocol/Http/Turns.ts"
import type { ProjectionFeed } from "../Protocol/ProjectionOwners.ts"
import {
  endsLease,
  endsTurn,
  type Job,
  type LeaseFreshness,
  type Notice,
  type TurnAck,
  type TurnReport,
  type WorkerSession
} from "../Protocol/Worker.ts"
import { ReceivedDeliveries } from "./ReceivedDeliveries.ts"
import { LeaseRenewal } from "./LeaseRenewal.ts"
import { KeyRefusals } from "./KeyRefusals.ts"
import type { RegistrationAnswer } from "./PollingRegistration.ts"
import { makeFeed } from "./ProjectionFeedHttp.ts"
import { type Batch, combineAnswers, splitIntoBatches, type SplitReports } from "./ReportBatches.ts"
import { RoomCounts } from "./RoomCounts.ts"
import { isAccessError } from "./AccessErrors.ts"
import { toConnectionError, monotonicMs, type ServerLink } from "./ServerLink.ts"

/** How long a stopping worker tries to deregister, in milliseconds. */
export const deregisterTimeoutMs = 2000

export abstract class TurnSession implements WorkerSession {
  readonly projections: ProjectionFeed
  readonly leaseFreshness: LeaseFreshness
  protected readonly link: ServerLink
  protected readonly instance: string
  protected terms: Turns.RegisterTurnsResponse
  /** `since` in the answer to the first registration. All later registrations repeat it. */
  protected readonly since: string | undefined
  /** The id of the session; `undefined` while the worker registers again. */
  protected session: string | undefined
  protected isRefused = false
  #whenSession: Deferred.Deferred<void> | undefined
  readonly #keyRefusals: KeyRefusals

  readonly #roomCounts = new RoomCounts()
  #isTellScheduled = false

  #lastBatch = 0
  readonly #nextBatchNumber = (): number => ++this.#lastBatch
  /** Jobs in batches that have no answer yet. The answer says what became of these jobs. */
  readonly #reportedJobs = new Set<string>()
  readonly #leases: LeaseRenewal
  readonly #deliveries = new ReceivedDeliveries({
    isSafe: () => this.#leases.safeLeftMs > 0,
    checkLeases: () => this.checkLeases(),
    session: () => this.session,
    onJob: (job, isPaused) => this.#onJob(job, isPaused),
    onRevokedJob: () => this.#onRevokedJob(),
    onNotice: (notice) => this.#onNotice(notice)
  })

  constructor(link: ServerLink, instance: string, terms: Turns.RegisterTurnsResponse, sentAt: number) {
    this.link = link
    this.projections = makeFeed(link.connection, link.registration.workerId, link.options.logger)
    this.instance = instance
    this.terms = terms
    this.since = terms.since
    this.session = terms.session
    this.#leases = new LeaseRenewal(sentAt, {
      clock: link.clock,
      terms: () => this.terms,
      holds: (jobId) => this.#reportedJobs.has(jobId) || link.handlers.holds?.(jobId) !== false,
      runningTurns: (atLeastMs) => link.handlers.running?.(atLeastMs) ?? [],
      renewNow: () => this.renewNow()
    })
    this.leaseFreshness = this.#leases.freshness
    this.#keyRefusals = new KeyRefusals(link.clock, sentAt)
  }

  /** Whether the engine seals its messages. */
  protected get seals(): boolean {
    return this.terms.capabilities.seals === true
  }

  /** Registers the worker once more, with the jobs that it wants to keep. Fails after `timeoutMs`. */
  protected abstract register(
    jobs: ReadonlyArray<string>,
    timeoutMs: number
  ): Effect.Effect<RegistrationAnswer, IronflowError>
  /** Sends a batch once. Fails with code `WORKER_UNKNOWN` when the session has ended. */
  protected abstract sendBatch(session: string, batch: Batch): Effect.Effect<unknown, IronflowError>
  /**
   * Reports once that a handler has gone on with a step after its turn was suspended. Fails with code `WORKER_UNKNOWN`
   * when the session has ended.
   */
  protected abstract sendLateStep(request: Turns.LateRequest): Effect.Effect<void, IronflowError>
  /** Tells the engine the counts of requested jobs and, if a job was dropped, which jobs the worker holds. */
  protected abstract tellCounts(): void
  /** Sends a renewal that the engine answers at once. */
  protected abstract renewNow(): void
  /**
   * Called when the worker has registered again. The engine does not know yet how many jobs the worker has room for.
   */
  protected onRegisteredAgain(): void {}
  /** Deregisters the worker, so that the engine takes back its jobs. */
  abstract readonly deregister: Effect.Effect<void>

  start(): void {
    this.link.handlers.onConnected?.(true)
    this.tellChanges()
    this.link.fork(this.#watchLeases)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Room for jobs
  // -------------------------------------------------------------------------------------------------------------------

  readonly makeRoom = (n: number): void => {
    this.#roomCounts.makeRoom(n)
    this.tellChanges()
  }

  /** The fields of a request that tell the engine for how many jobs the worker has room. */
  protected roomFields(): string {
    return this.#roomCounts.writeCounts()
  }

  /** Whether the engine must be told something: changed counts, or a dropped job. */
  protected get hasUnsentChanges(): boolean {
    return this.#leases.hasDropped || this.#roomCounts.hasUnsentCounts
  }

  /**
   * Soon tells the engine about the unsent changes, all of them at once. A report that is sent until then may carry
   * the changes instead.
   */
  protected tellChanges(): void {
    if (this.#isTellScheduled) return
    this.#isTellScheduled = true
    setImmediate(() => {
      this.#isTellScheduled = false
      if (this.hasUnsentChanges && !this.isRefused) this.tellCounts()
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Deliveries
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * The fields of a request that renew the leases. Empty when no renewal is needed now, or when the engine extends the
   * leases itself.
   */
  protected renewalFields(): string {
    return this.#leases.renewalFields()
  }

  /**
   * Notes that a request with {@link renewalFields}, sent at `sentAt`, was answered: the leases hold from that time on.
   */
  protected noteRenewal(sentAt: number, renewal: string): void {
    this.#leases.noteRenewal(sentAt, renewal)
  }

  /** Whether a callback waits until the leases are recent. */
  protected get awaitsRenewal(): boolean {
    return this.#leases.awaitsRenewal
  }

  /**
   * The interval between requests that may renew the leases, in milliseconds. It is so short that one such request may
   * be lost.
   */
  protected get renewalIntervalMs(): number {
    return this.terms.leaseMs / (this.#leases.activeJobs.size > 0 ? 8 : 5)
  }

  /** How long to wait for an answer before the connection counts as lost, in milliseconds. */
  protected get answerTimeoutMs(): number {
    return this.terms.leaseMs / 3
  }

  /** Takes deliveries in the order of their numbers, and each delivery once. */
  protected takeDeliveries(deliveries: Turns.PollResponse["deliveries"]): void {
    this.#deliveries.take(deliveries)
  }

  /** Number of the last delivery that was taken. */
  protected get seen(): number {
    return this.#deliveries.seen
  }

  /** Records that the engine cannot be reached. Returns the delay before the next attempt, in milliseconds. */
  protected noteFailure(error: Error): number {
    this.link.handlers.onConnected?.(false)
    const delayMs = this.link.outage.attemptFailed(error)
    // while there are turns, the next attempt must come before their leases end
    return this.#leases.activeJobs.size > 0 ? Math.min(delayMs, this.terms.leaseMs / 10) : delayMs
  }

  /** Records that the engine has answered. */
  protected noteAnswer(): void {
    this.#keyRefusals.noteAcceptance()
    this.link.outage.attemptSucceeded()
    this.link.handlers.onConnected?.(true)
  }

  /** The error for a server that is about to stop. */
  protected get closingError(): ConnectionError {
    const { connection, registration } = this.link
    return new ConnectionError(
      `The Ironflow server at ${connection.server.url} is about to stop; worker ${registration.workerId} keeps its turns`
    )
  }

  #onJob(job: Job, isPaused: boolean): void {
    this.#roomCounts.countReceived()
    this.#leases.activeJobs.add(job.jobId)
    this.link.handlers.onJob(job, isPaused)
  }

  /** Requests another job in place of one that was revoked before it started. */
  #onRevokedJob(): void {
    this.#roomCounts.countSkipped()
    this.tellChanges()
  }

  #onNotice(notice: Notice): void {
    // a report of this job is in flight: its answer will say what became of the job
    if (notice._tag === "LeaseLost" && this.#reportedJobs.has(notice.jobId)) return
    if (endsLease(notice)) this.#drop(notice.jobId)
    this.link.handlers.onNotice(notice)
  }

  /**
   * Drops a job that the engine has revoked. The engine gives the run to a worker again once it knows that this worker
   * has dropped the job.
   */
  #drop(jobId: string): void {
    this.#leases.activeJobs.delete(jobId)
    this.#leases.hasDropped = true
    this.tellChanges()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Reports
  // -------------------------------------------------------------------------------------------------------------------

  readonly report = (
    reports: ReadonlyArray<TurnReport>
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
    // the reports are split only once, even if the effect runs several times: a batch that is sent again keeps its
    // number
    let split: SplitReports | undefined
    const acks: Array<ReadonlyArray<TurnAck>> = []
    return Effect.suspend(() => {
      if (split === undefined) {
        split = splitIntoBatches(reports, this.terms.maxBodyBytes, this.#nextBatchNumber)
        this.#roomCounts.anticipate(reports)
      }
      const batches = split
      const sendNext = (): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
        const batch = batches.batches[acks.length]
        if (batch === undefined) return Effect.sync(() => combineAnswers(reports, batches, acks))
        return Effect.flatMap(this.#send(batch), (answers) => {
          acks.push(answers)
          return sendNext()
        })
      }
      return sendNext()
    })
  }

  #send(batch: Batch): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> {
    for (const { jobId } of batch.reports) this.#reportedJobs.add(jobId)
    return Effect.flatMap(this.whenConnected(), (session) =>
      Effect.matchEffect(this.#sendSafely(session, batch), {
        onSuccess: (body) => this.#readAcks(batch, body),
        onFailure: (error): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
          if (this.handleFailure(session, error)) return this.#send(batch)
          if (error.retryable || error instanceof ConnectionError)
            return Effect.fail(toConnectionError(error))
          this.#giveUp(batch)
          return Effect.die(error)
        }
      })
    )
  }

  /**
   * Sends a batch. A defect becomes an error that ends the turns of the batch, like a refusal that would be the same
   * every time.
   */
  #sendSafely(session: string, batch: Batch): Effect.Effect<unknown, IronflowError> {
    return Effect.catchDefect(this.sendBatch(session, batch), (defect) =>
      Effect.fail(
        new ReportError(
          `${this.reportName} could not be sent: ${defect instanceof Error ? defect.message : "a bug"}`,
          {
            code: "REPORT_FAILED",
            cause: defect
          }
        )
      )
    )
  }

  /**
   * Gives up a batch that the server would refuse every time. Lets the leases of its turns run out: another worker that
   * got these runs at once might fail in the same way.
   */
  #giveUp(batch: Batch): void {
    for (const { jobId } of batch.reports) {
      this.#leases.activeJobs.delete(jobId)
      this.#reportedJobs.delete(jobId)
    }
    const registerWithoutBatch = Effect.suspend(() => {
      if (this.session !== undefined) this.registerAgain(this.session)
      return Effect.void
    })
    this.link.fork(Effect.andThen(Effect.sleep(this.terms.leaseMs), registerWithoutBatch))
  }

  #readAcks(batch: Batch, body: unknown): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> {
    if (!isObject(body) || !Array.isArray(body.acks) || body.acks.length !== batch.reports.length) {
      const { url } = this.link.connection.server
      const text = JSON.stringify(body) ?? ""
      return Effect.fail(
        toConnectionError(invalidResponseError(url, this.reportName, "it does not answer every report", text))
      )
    }
    const acks = (body.acks as Turns.ReportsResponse["acks"]).map(Turns.readAck)
    for (const [i, { jobId, ops }] of batch.reports.entries()) {
      this.#reportedJobs.delete(jobId)
      const last = ops.at(-1)
      if (last !== undefined && endsTurn(last)) this.#leases.activeJobs.delete(jobId)
      else if (acks[i]?._tag === "Refused") this.#drop(jobId)
    }
    return Effect.succeed(acks)
  }

  readonly late: WorkerSession["late"] = (late) =>
    Effect.flatMap(this.whenConnected(), (session) =>
      Effect.catch(this.sendLateStep({ session, ...late }), (error) => {
        this.handleFailure(session, error)
        return Effect.fail(toConnectionError(error))
      })
    )

  /** The name of a report in messages. */
  protected get reportName(): string {
    return `The report of worker ${this.link.registration.workerId}`
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Registration
  // -------------------------------------------------------------------------------------------------------------------

  /** Waits until the worker is registered. Returns the id of the session. */
  protected whenConnected(): Effect.Effect<string> {
    return Effect.suspend(() => {
      if (this.isRefused) return Effect.never
      if (this.session !== undefined) return Effect.succeed(this.session)
      this.#whenSession ??= Deferred.makeUnsafe<void>()
      return Effect.andThen(
        Deferred.await(this.#whenSession),
        Effect.suspend(() => this.whenConnected())
      )
    })
  }

  /** Handles the failure of a request of the session. Returns whether the request should be sent again. */
  protected handleFailure(session: string, error: IronflowError): boolean {
    if (error.code === Turns.WORKER_UNKNOWN) {
      this.registerAgain(session)
      return true
    }
    if (!isAccessError(error)) return false
    if (this.#keyRefusals.doubt()) this.registerAgain(session, toConnectionError(error))
    // the caller repeats the request, and then waits for a session that never comes, since the worker is refused
    else this.refuse(error)
    return true
  }

  protected refuse(error: AccessError): void {
    if (this.isRefused) return
    this.isRefused = true
    const { handlers, options, registration } = this.link
    options.logger.error(`Worker ${registration.workerId} stops: ${error.message}`)
    handlers.onConnected?.(false)
    handlers.onRefused?.(error)
  }

  /**
   * Registers again, if `session` is still the current session. `reason` is an error that a request or the stream has
   * met: after it, the first attempt waits a while.
   */
  protected registerAgain(session: string, reason?: ConnectionError): void {
    if (this.session !== session || this.isRefused) return
    this.session = undefined
    const { clock, fork, handlers, options, registration } = this.link
    handlers.onConnected?.(false)
    if (reason === undefined) {
      options.logger.info(`Worker ${registration.workerId} registers again at ${options.server.url}`)
    }
    // the first attempts have short timeouts, so that several of them fit into the term of the leases
    let timeoutMs = this.answerTimeoutMs / 2
    const attempt: Effect.Effect<void> = Effect.suspend(() => {
      const sentAt = monotonicMs(clock)
      const jobs = this.#leases.heldJobs()
      timeoutMs = Math.min(timeoutMs * 2, options.server.timeoutMs)
      return Effect.matchEffect(this.#registerSafely(jobs, timeoutMs), {
        onSuccess: (terms) => {
          if (terms !== undefined) return Effect.sync(() => this.#resume(terms, sentAt, jobs))
          const error = new ConnectionError(
            `The server at ${options.server.url} has been replaced by a legacy server, which does not exchange turns; ` +
              `restart worker ${registration.workerId} to work for it`
          )
          return Effect.andThen(Effect.sleep(this.noteFailure(error)), attempt)
        },
        onFailure: (error) =>
          isAccessError(error) && !this.#keyRefusals.doubt()
            ? Effect.sync(() => this.refuse(error))
            : Effect.andThen(Effect.sleep(this.noteFailure(error)), attempt)
      })
    })
    fork(reason === undefined ? attempt : Effect.andThen(Effect.sleep(this.noteFailure(reason)), attempt))
  }

  /**
   * Registers. A defect is retried like a lost connection, so that the worker does not stay without a
   * session.
   */
  #registerSafely(
    jobs: ReadonlyArray<string>,
    timeoutMs: number
  ): Effect.Effect<RegistrationAnswer, IronflowError> {
    return Effect.catchDefect(this.register(jobs, timeoutMs), (defect) =>
      Effect.fail(
        new ConnectionError(
          `Worker ${this.link.registration.workerId} could not register, because of a bug in this package, and tries again ` +
            `(${defect instanceof Error ? defect.message : String(defect)}). Please report this`,
          { cause: defect }
        )
      )
    )
  }

  #resume(terms: Turns.RegisterTurnsResponse, sentAt: number, jobs: ReadonlyArray<string>): void {
    this.link.outage.attemptSucceeded()
    this.terms = terms
    this.#leases.noteRegistration(sentAt)
    this.#roomCounts.startOver()
    this.#deliveries.startOver()
    for (const jobId of terms.lost) {
      if (!this.#reportedJobs.has(jobId)) this.#tellLeaseLost(jobId, "the server no longer has this lease")
      this.#leases.hasDropped = true
    }
    this.session = terms.session
    this.link.handlers.onConnected?.(true)
    const connected = this.#whenSession
    this.#whenSession = undefined
    if (connected !== undefined) Deferred.doneUnsafe(connected, Effect.void)
    this.onRegisteredAgain()
    this.tellChanges()
    this.#leases.notifyRenewed()
    // a job was dropped while the registration that named the job was in transit
    if (jobs.some((jobId) => !terms.lost.includes(jobId) && !this.#leases.activeJobs.has(jobId))) {
      this.registerAgain(terms.session)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Leases
  // -------------------------------------------------------------------------------------------------------------------

  /** Drops turns before their leases end, since other workers may run them afterwards. */
  readonly #watchLeases: Effect.Effect<void> = Effect.suspend(() => {
    const leftMs = this.#leases.safeLeftMs
    if (leftMs > 0) return Effect.andThen(Effect.sleep(leftMs), this.#watchLeases)
    // the answer that renews the leases may have arrived while the process was too busy to read it
    return Effect.andThen(
      readPendingInput,
      Effect.suspend(() => {
        if (this.#leases.safeLeftMs > 0) return this.#watchLeases
        if (this.#leases.activeJobs.size > 0) this.#loseAllLeases()
        return Effect.andThen(Effect.sleep(this.#leases.safeMs / 4), this.#watchLeases)
      })
    )
  })

  readonly checkLeases = (): boolean => {
    if (this.#leases.safeLeftMs > 0) return true
    this.#loseAllLeases()
    return false
  }

  /**
   * Drops all turns. The server may still keep their jobs for this worker. When the server answers again, the worker's
   * new registration tells the server which jobs the worker has.
   */
  #loseAllLeases(): void {
    const reason = `the server at ${this.link.options.server.url} could not be reached in time to extend the lease`
    for (const jobId of this.#leases.activeJobs) this.#tellLeaseLost(jobId, reason)
    if (this.session !== undefined) this.registerAgain(this.session)
  }

  #tellLeaseLost(jobId: string, reason: string): void {
    if (this.#leases.activeJobs.delete(jobId))
      this.link.handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
  }
}

/** The error for a request whose session has ended. */
export const sessionOverError = (message: string, cause?: unknown): IronflowError =>
  new WorkerUnknownError(message, { cause })
