/**
 * What a worker keeps of its session with an engine, however the two are connected: the room that it has, the turns whose
 * leases it holds, the batch of reports in flight, and how the session goes on after it was lost.
 *
 * The rules are in `Protocol/Http/Turns.ts`. How requests travel is for the classes that extend this one.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { invalidResponse } from "../Client/HttpFailures.ts"
import { lookAgain } from "../Client/InTime.ts"
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
  type Notice,
  type Touch,
  type TurnAck,
  type TurnReport,
  type WorkerSession
} from "../Protocol/Worker.ts"
import { Deliveries } from "./Deliveries.ts"
import { LeaseRenewal } from "./LeaseRenewal.ts"
import { KeyDoubt } from "./KeyDoubt.ts"
import type { Registered } from "./PollingRegistration.ts"
import { makeFeed } from "./ProjectionFeedHttp.ts"
import { type Batch, combine, ship, type Shipment } from "./ReportBatches.ts"
import { Room } from "./Room.ts"
import { asConnectionError, isAccessError, monotonicMs, type ServerLink } from "./ServerLink.ts"

/** How long a worker that leaves waits for the server to hear of it, milliseconds. */
export const farewellTimeoutMs = 2000

export abstract class TurnSession implements WorkerSession {
  readonly projections: ProjectionFeed
  readonly touch: Touch
  protected readonly link: ServerLink
  protected readonly instance: string
  protected terms: Turns.RegisterTurnsResponse
  /** Of the first registration: see `RegisterTurnsRequest`. */
  protected readonly since: string | undefined
  /** Absent while the worker is being registered again. */
  protected session: string | undefined
  protected isRefused = false
  #connected: Deferred.Deferred<void> | undefined
  readonly #doubt: KeyDoubt

  readonly #room = new Room()
  #telling = false

  #batch = 0
  readonly #nextNumber = (): number => ++this.#batch
  /** Jobs in batches that have not been answered: what became of them is in the answer. */
  readonly #reporting = new Set<string>()
  readonly #leases: LeaseRenewal
  readonly #deliveries = new Deliveries({
    isSafe: () => this.#leases.safeLeftMs > 0,
    checkLeases: () => this.checkLeases(),
    session: () => this.session,
    take: (job, isPaused) => this.#take(job, isPaused),
    pass: () => this.#pass(),
    hear: (notice) => this.#hear(notice)
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
      holds: (jobId) => this.#reporting.has(jobId) || link.handlers.holds?.(jobId) !== false,
      running: (atLeastMs) => link.handlers.running?.(atLeastMs) ?? [],
      renewNow: () => this.renewNow()
    })
    this.touch = this.#leases.touch
    this.#doubt = new KeyDoubt(link.clock, sentAt)
  }

  /** Whether what the engine says is sealed. */
  protected get seals(): boolean {
    return this.terms.capabilities.seals === true
  }

  /** Registers the worker anew, with the turns that it wants to keep; fails when that takes longer than `timeoutMs`. */
  protected abstract register(
    jobs: ReadonlyArray<string>,
    timeoutMs: number
  ): Effect.Effect<Registered, IronflowError>
  /** Sends a batch once. Fails with code `WORKER_UNKNOWN` when the session is over. */
  protected abstract sendBatch(session: string, batch: Batch): Effect.Effect<unknown, IronflowError>
  /** Sends word of a late step once. Fails with code `WORKER_UNKNOWN` when the session is over. */
  protected abstract sendLate(request: Turns.LateRequest): Effect.Effect<void, IronflowError>
  /** The engine does not know yet how much room there is, or what was dropped. */
  protected abstract tellRoom(): void
  /** Sends a renewal that is answered at once. */
  protected abstract renewNow(): void
  /** The worker has been registered again: the engine knows nothing of its room. */
  protected resumed(): void {}
  /** Says farewell, so that the engine takes back what the worker holds. */
  abstract readonly deregister: Effect.Effect<void>

  start(): void {
    this.link.handlers.onConnected?.(true)
    this.tell()
    this.link.fork(this.#watchLeases)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Room
  // -------------------------------------------------------------------------------------------------------------------

  readonly credit = (n: number): void => {
    this.#room.credit(n)
    this.tell()
  }

  /** The fields of a request that say how much room there is. */
  protected room(): string {
    return this.#room.told()
  }

  /** Whether the engine has to hear of something: of room, or that a job was dropped. */
  protected get hasNews(): boolean {
    return this.#leases.hasDropped || this.#room.hasNews
  }

  /** Lets the server know of what is new, at the end of this turn of the event loop: a report may do it first. */
  protected tell(): void {
    if (this.#telling) return
    this.#telling = true
    setImmediate(() => {
      this.#telling = false
      if (this.hasNews && !this.isRefused) this.tellRoom()
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Deliveries
  // -------------------------------------------------------------------------------------------------------------------

  /** The field of a request that renews the leases, if it is time to do so, or somebody waits for what it says. */
  protected renewal(): string {
    return this.#leases.renewal()
  }

  /** A request that was sent then with this {@link renewal} has been answered: the leases hold from then on. */
  protected held(sentAt: number, renewal: string): void {
    this.#leases.held(sentAt, renewal)
  }

  /** Whether somebody waits for an answer to a renewal. */
  protected get awaitsTouch(): boolean {
    return this.#leases.awaitsTouch
  }

  /** How often a request that may renew the leases has to go out: what is lost once is made up for in time. */
  protected get beatMs(): number {
    return this.terms.leaseMs / (this.#leases.active.size > 0 ? 8 : 5)
  }

  /** How long an answer is waited for before the connection counts as lost. */
  protected get patienceMs(): number {
    return this.terms.leaseMs / 3
  }

  /** Takes deliveries in the order of their numbers, each once. */
  protected deliver(deliveries: Turns.PollResponse["deliveries"]): void {
    this.#deliveries.deliver(deliveries)
  }

  /** Number of the last delivery received. */
  protected get seen(): number {
    return this.#deliveries.seen
  }

  /** The engine cannot be reached. Returns the milliseconds to wait before it is tried again. */
  protected failed(error: Error): number {
    this.link.handlers.onConnected?.(false)
    const delayMs = this.link.outage.failed(error)
    // turns that wait for their engine are not to wait longer than their leases hold
    return this.#leases.active.size > 0 ? Math.min(delayMs, this.terms.leaseMs / 10) : delayMs
  }

  /** The engine has answered. */
  protected answered(): void {
    this.#doubt.admitted()
    this.link.outage.over()
    this.link.handlers.onConnected?.(true)
  }

  /** What a server says that is going to stop. */
  protected get closing(): ConnectionError {
    const { connection, registration } = this.link
    return new ConnectionError(
      `The Ironflow server at ${connection.server.url} is about to stop; worker ${registration.workerId} keeps its turns`
    )
  }

  #take(job: Job, isPaused: boolean): void {
    this.#room.take()
    this.#leases.active.add(job.jobId)
    this.link.handlers.onJob(job, isPaused)
  }

  /** Room is there for another job in place of one that is over. */
  #pass(): void {
    this.#room.pass()
    this.tell()
  }

  #hear(notice: Notice): void {
    // what became of a job whose report is on its way is in the answer to that
    if (notice._tag === "LeaseLost" && this.#reporting.has(notice.jobId)) return
    if (endsLease(notice)) this.#drop(notice.jobId)
    this.link.handlers.onNotice(notice)
  }

  /** The engine has taken a job back, and hands the run out when it hears that it is not worked on any more. */
  #drop(jobId: string): void {
    this.#leases.active.delete(jobId)
    this.#leases.hasDropped = true
    this.tell()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Reports
  // -------------------------------------------------------------------------------------------------------------------

  readonly report = (
    reports: ReadonlyArray<TurnReport>
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
    // made once, however often the effect runs: a report that is sent again has its number
    let shipment: Shipment | undefined
    const acks: Array<ReadonlyArray<TurnAck>> = []
    return Effect.suspend(() => {
      if (shipment === undefined) {
        shipment = ship(reports, this.terms.maxBodyBytes, this.#nextNumber)
        this.#room.anticipate(reports)
      }
      const sent = shipment
      const next = (): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
        const batch = sent.batches[acks.length]
        if (batch === undefined) return Effect.sync(() => combine(reports, sent, acks))
        return Effect.flatMap(this.#send(batch), (answers) => {
          acks.push(answers)
          return next()
        })
      }
      return next()
    })
  }

  #send(batch: Batch): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> {
    for (const { jobId } of batch.reports) this.#reporting.add(jobId)
    return Effect.flatMap(this.whenConnected(), (session) =>
      Effect.matchEffect(this.#sendSafely(session, batch), {
        onSuccess: (body) => this.#readAcks(batch, body),
        onFailure: (error): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
          if (this.rejected(session, error)) return this.#send(batch)
          if (error.retryable || error instanceof ConnectionError)
            return Effect.fail(asConnectionError(error))
          this.#giveUp(batch)
          return Effect.die(error)
        }
      })
    )
  }

  /** A bug below ends the turns of the batch, like an answer that would be the same however often it is asked for. */
  #sendSafely(session: string, batch: Batch): Effect.Effect<unknown, IronflowError> {
    return Effect.catchDefect(this.sendBatch(session, batch), (defect) =>
      Effect.fail(
        new ReportError(
          `${this.reportOf} could not be sent: ${defect instanceof Error ? defect.message : "a bug"}`,
          {
            code: "REPORT_FAILED",
            cause: defect
          }
        )
      )
    )
  }

  /**
   * The server would refuse the batch however often it is sent. The leases of its turns are let go, not before they would
   * have ended: whoever runs them next might come to the same end.
   */
  #giveUp(batch: Batch): void {
    for (const { jobId } of batch.reports) {
      this.#leases.active.delete(jobId)
      this.#reporting.delete(jobId)
    }
    const letGo = Effect.suspend(() => {
      if (this.session !== undefined) this.registerAgain(this.session)
      return Effect.void
    })
    this.link.fork(Effect.andThen(Effect.sleep(this.terms.leaseMs), letGo))
  }

  #readAcks(batch: Batch, body: unknown): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> {
    if (!isObject(body) || !Array.isArray(body.acks) || body.acks.length !== batch.reports.length) {
      const { url } = this.link.connection.server
      const text = JSON.stringify(body) ?? ""
      return Effect.fail(
        asConnectionError(invalidResponse(url, this.reportOf, "it does not answer every report", text))
      )
    }
    const acks = (body.acks as Turns.ReportsResponse["acks"]).map(Turns.readAck)
    for (const [i, { jobId, ops }] of batch.reports.entries()) {
      this.#reporting.delete(jobId)
      const last = ops.at(-1)
      if (last !== undefined && endsTurn(last)) this.#leases.active.delete(jobId)
      else if (acks[i]?._tag === "Refused") this.#drop(jobId)
    }
    return Effect.succeed(acks)
  }

  readonly late: WorkerSession["late"] = (late) =>
    Effect.flatMap(this.whenConnected(), (session) =>
      Effect.catch(this.sendLate({ session, ...late }), (error) => {
        this.rejected(session, error)
        return Effect.fail(asConnectionError(error))
      })
    )

  /** What a report is called in messages. */
  protected get reportOf(): string {
    return `The report of worker ${this.link.registration.workerId}`
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Registration
  // -------------------------------------------------------------------------------------------------------------------

  /** Waits until the worker is registered, if it is being registered again. */
  protected whenConnected(): Effect.Effect<string> {
    return Effect.suspend(() => {
      if (this.isRefused) return Effect.never
      if (this.session !== undefined) return Effect.succeed(this.session)
      this.#connected ??= Deferred.makeUnsafe<void>()
      return Effect.andThen(
        Deferred.await(this.#connected),
        Effect.suspend(() => this.whenConnected())
      )
    })
  }

  /** What a request that has failed means for the session. Returns whether it makes sense to send it again. */
  protected rejected(session: string, error: IronflowError): boolean {
    if (error.code === Turns.WORKER_UNKNOWN) {
      this.registerAgain(session)
      return true
    }
    if (!isAccessError(error)) return false
    if (this.#doubt.isDoubtful()) this.registerAgain(session, asConnectionError(error))
    // what is sent again waits for ever, like everything of a worker that is refused
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

  /** The session is over: the server was restarted, or has given the worker up, or the stream was lost for `reason`. */
  protected registerAgain(session: string, reason?: ConnectionError): void {
    if (this.session !== session || this.isRefused) return
    this.session = undefined
    const { clock, fork, handlers, options, registration } = this.link
    handlers.onConnected?.(false)
    if (reason === undefined) {
      options.logger.info(`Worker ${registration.workerId} registers again at ${options.server.url}`)
    }
    // short at first, so that several attempts fit into the time that the leases hold
    let timeoutMs = this.patienceMs / 2
    const attempt: Effect.Effect<void> = Effect.suspend(() => {
      const sentAt = monotonicMs(clock)
      const jobs = this.#leases.list()
      timeoutMs = Math.min(timeoutMs * 2, options.server.timeoutMs)
      return Effect.matchEffect(this.#registerSafely(jobs, timeoutMs), {
        onSuccess: (terms) => {
          if (terms !== undefined) return Effect.sync(() => this.#resume(terms, sentAt, jobs))
          const error = new ConnectionError(
            `The server at ${options.server.url} is another one than before, which does not exchange turns; ` +
              `restart worker ${registration.workerId} to work for it`
          )
          return Effect.andThen(Effect.sleep(this.failed(error)), attempt)
        },
        onFailure: (error) =>
          isAccessError(error) && !this.#doubt.isDoubtful()
            ? Effect.sync(() => this.refuse(error))
            : Effect.andThen(Effect.sleep(this.failed(error)), attempt)
      })
    })
    fork(reason === undefined ? attempt : Effect.andThen(Effect.sleep(this.failed(reason)), attempt))
  }

  /** A bug below must not leave the worker without a session for ever: it is tried again like a lost connection. */
  #registerSafely(jobs: ReadonlyArray<string>, timeoutMs: number): Effect.Effect<Registered, IronflowError> {
    return Effect.catchDefect(this.register(jobs, timeoutMs), (defect) =>
      Effect.fail(
        new ConnectionError(
          `Worker ${this.link.registration.workerId} could not register because of a bug: ` +
            (defect instanceof Error ? defect.message : "it has no message"),
          { cause: defect }
        )
      )
    )
  }

  #resume(terms: Turns.RegisterTurnsResponse, sentAt: number, jobs: ReadonlyArray<string>): void {
    this.link.outage.over()
    this.terms = terms
    this.#leases.registered(sentAt)
    this.#room.startOver()
    this.#deliveries.startOver()
    for (const jobId of terms.lost) {
      if (!this.#reporting.has(jobId)) this.#lose(jobId, "the server does not have it any more")
      this.#leases.hasDropped = true
    }
    this.session = terms.session
    this.link.handlers.onConnected?.(true)
    const connected = this.#connected
    this.#connected = undefined
    if (connected !== undefined) Deferred.doneUnsafe(connected, Effect.void)
    this.resumed()
    this.tell()
    this.#leases.touched()
    // dropped while the registration that kept it was on its way
    if (jobs.some((jobId) => !terms.lost.includes(jobId) && !this.#leases.active.has(jobId))) {
      this.registerAgain(terms.session)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Leases
  // -------------------------------------------------------------------------------------------------------------------

  /** Drops turns while their leases still hold: afterwards somebody else may run them. */
  readonly #watchLeases: Effect.Effect<void> = Effect.suspend(() => {
    const leftMs = this.#leases.safeLeftMs
    if (leftMs > 0) return Effect.andThen(Effect.sleep(leftMs), this.#watchLeases)
    // what says that they hold may have come in while the process was too busy to look
    return Effect.andThen(
      lookAgain,
      Effect.suspend(() => {
        if (this.#leases.safeLeftMs > 0) return this.#watchLeases
        if (this.#leases.active.size > 0) this.#loseAll()
        return Effect.andThen(Effect.sleep(this.#leases.safeMs / 4), this.#watchLeases)
      })
    )
  })

  readonly checkLeases = (): boolean => {
    if (this.#leases.safeLeftMs > 0) return true
    this.#loseAll()
    return false
  }

  /** The server may still keep what is dropped here for this worker: it is told what the worker has when it answers again. */
  #loseAll(): void {
    const reason = `the server at ${this.link.options.server.url} could not be asked to extend it`
    for (const jobId of this.#leases.active) this.#lose(jobId, reason)
    if (this.session !== undefined) this.registerAgain(this.session)
  }

  #lose(jobId: string, reason: string): void {
    if (this.#leases.active.delete(jobId)) this.link.handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
  }
}

/** The session that a request belonged to does not exist any more. */
export const sessionOver = (message: string, cause?: unknown): IronflowError =>
  new WorkerUnknownError(message, { cause })
