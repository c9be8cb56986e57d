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
  LimitExceededError,
  ReportError,
  serializeError,
  WorkerUnknownError
} from "../Errors.ts"
import { byteLength, isObject } from "../Json.ts"
import * as Turns from "../Protocol/Http/Turns.ts"
import {
  endsLease,
  endsTurn,
  type Job,
  type Notice,
  type Outcome,
  type Touch,
  type TurnAck,
  type TurnOp,
  type TurnReport,
  type WorkerSession
} from "../Protocol/Worker.ts"
import type { ProjectionFeed } from "../Protocol/Projections.ts"
import type { Registered } from "./PollingRegistration.ts"
import { makeFeed } from "./ProjectionFeedHttp.ts"
import { asConnectionError, isAccessError, monotonicMs, type ServerLink } from "./ServerLink.ts"

/** How long a worker that leaves waits for the server to hear of it, milliseconds. */
export const farewellTimeoutMs = 2000

/**
 * A key that the engine took so short a time ago may have been damaged on its way when it is refused, milliseconds: it is tried once
 * more, and not again for as long.
 */
const keyWorkedMs = 60_000

/** What a request holds beside its reports. */
const envelopeBytes = 1024

/** A batch of reports under its number. */
export interface Batch {
  readonly number: number
  readonly reports: ReadonlyArray<TurnReport>
  /** The reports as JSON. */
  readonly text: string
}

/** Reports and how they travel. */
interface Shipment {
  readonly batches: ReadonlyArray<Batch>
  /** Runs with an op that is too large for any request, and why. */
  readonly tooLarge: ReadonlyMap<string, string>
}

export abstract class TurnSession implements WorkerSession {
  readonly projections: ProjectionFeed
  protected readonly link: ServerLink
  protected readonly instance: string
  protected terms: Turns.RegisterTurnsResponse
  /** Of the first registration: see `RegisterTurnsRequest`. */
  protected readonly since: string | undefined
  /** Absent while the worker is being registered again. */
  protected session: string | undefined
  /** Number of the last delivery received. */
  protected seen = 0
  protected isRefused = false
  #connected: Deferred.Deferred<void> | undefined
  /** When the engine last took the key of the worker, and when it was tried once more after it did not. */
  #admittedAt: number
  #doubtedAt = Number.NEGATIVE_INFINITY

  #asked = 0
  #withdrawn = 0
  #delivered = 0
  /** Jobs asked for in the room of turns whose end is being reported, before the worker has asked for them. */
  #anticipated = 0
  #anticipates = true
  #toldAsked = -1
  #toldWithdrawn = -1
  #telling = false

  #batch = 0
  /** Jobs in batches that have not been answered: what became of them is in the answer. */
  readonly #reporting = new Set<string>()
  /** Turns whose lease this worker holds. */
  readonly #active = new Set<string>()
  /** When the last renewal was sent that was answered. */
  #heldSince: number
  /** When a renewal was last sent. */
  #renewedAt: number
  /** Somebody waits to hear that it has dropped a job. */
  #hasDropped = false
  /** Those who wait for an answer to a renewal. */
  #awaitingTouch: Array<() => void> = []
  /** Deliveries that are looked at when what came with them was read. */
  #unread: Array<Turns.Delivery> | undefined

  constructor(link: ServerLink, instance: string, terms: Turns.RegisterTurnsResponse, sentAt: number) {
    this.link = link
    this.projections = makeFeed(link.connection, link.registration.workerId, link.options.logger)
    this.instance = instance
    this.terms = terms
    this.since = terms.since
    this.session = terms.session
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
    this.#admittedAt = sentAt
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

  /** The turns that it works on. A job that nobody works on is forgotten, and its lease is let go. */
  get #held(): ReadonlyArray<string> {
    const { holds } = this.link.handlers
    if (holds === undefined) return [...this.#active]
    for (const jobId of this.#active) {
      if (!holds(jobId) && !this.#reporting.has(jobId)) this.#active.delete(jobId)
    }
    return [...this.#active]
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Room
  // -------------------------------------------------------------------------------------------------------------------

  readonly credit = (n: number): void => {
    if (n > 0) {
      const covered = Math.min(n, this.#anticipated)
      this.#anticipated -= covered
      this.#asked += n - covered
    } else {
      // a worker that takes room back makes none any more
      this.#withdrawn += Math.min(this.#outstanding, this.#anticipated - n)
      this.#anticipated = 0
      this.#anticipates = false
    }
    this.tell()
  }

  get #outstanding(): number {
    return this.#asked - this.#withdrawn - this.#delivered
  }

  /** The end of a turn makes room in the request that reports it, so that the next job may come with the answer. */
  #anticipate(reports: ReadonlyArray<TurnReport>): void {
    if (!this.#anticipates) return
    for (const { ops } of reports) {
      const last = ops.at(-1)
      if (last === undefined || !endsTurn(last) || last._tag === "Release") continue
      this.#anticipated++
      this.#asked++
    }
  }

  /** The fields of a request that say how much room there is. */
  protected room(): string {
    this.#toldAsked = this.#asked
    this.#toldWithdrawn = this.#withdrawn
    return `"asked":${this.#asked},"withdrawn":${this.#withdrawn}`
  }

  /** Whether the engine has to hear of something: of room, or that a job was dropped. */
  protected get hasNews(): boolean {
    return this.#hasDropped || this.#toldAsked !== this.#asked || this.#toldWithdrawn !== this.#withdrawn
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
    const now = monotonicMs(this.link.clock)
    if (this.terms.capabilities.renewals !== true) return ""
    const isDue = this.#hasDropped || this.awaitsTouch || now - this.#renewedAt >= this.terms.leaseMs / 10
    this.#hasDropped = false
    if (!isDue) return ""
    this.#renewedAt = now
    return `,"holding":${JSON.stringify(this.#held)}`
  }

  /** A request that was sent then with this {@link renewal} has been answered: the leases hold from then on. */
  protected held(sentAt: number, renewal: string): void {
    if (renewal === "" && this.terms.capabilities.renewals === true) return
    this.#heldSince = Math.max(this.#heldSince, sentAt)
    this.#touched()
  }

  /**
   * A quarter of the term, and half of it in the code of a step, leave enough of it to renew once more. Renewals go out so often
   * that the first is nearly always there.
   */
  readonly touch: Touch = {
    isRecent: () => this.#isRecent(this.#heldSince),
    renew: (then) => {
      this.#awaitingTouch.push(then)
      if (this.#awaitingTouch.length === 1) this.renewNow()
    }
  }

  /** Whether somebody waits for an answer to a renewal. */
  protected get awaitsTouch(): boolean {
    return this.#awaitingTouch.length > 0
  }

  #isRecent(at: number): boolean {
    return monotonicMs(this.link.clock) - at < this.terms.leaseMs / 4
  }

  #touched(): void {
    if (!this.awaitsTouch) return
    if (!this.touch.isRecent()) {
      // the answer is that of a renewal from before the process was busy
      if (!this.#isRecent(this.#renewedAt)) this.renewNow()
      return
    }
    const waiting = this.#awaitingTouch
    this.#awaitingTouch = []
    for (const then of waiting) then()
  }

  /** How often a request that may renew the leases has to go out: what is lost once is made up for in time. */
  protected get beatMs(): number {
    return this.terms.leaseMs / (this.#active.size > 0 ? 8 : 5)
  }

  /** How long an answer is waited for before the connection counts as lost. */
  protected get patienceMs(): number {
    return this.terms.leaseMs / 3
  }

  /** Takes deliveries in the order of their numbers, each once. */
  protected deliver(deliveries: Turns.PollResponse["deliveries"]): void {
    if (deliveries.length === 0) return
    if (this.#unread === undefined && this.#safeLeftMs > 0) return this.#takeAll(deliveries)
    // what has come while the process was frozen, or too busy to look, may belong to somebody else: what comes behind it may tell
    if (this.#unread === undefined) {
      this.#unread = []
      const { session } = this
      setImmediate(() => {
        const unread = this.#unread ?? []
        this.#unread = undefined
        if (session === this.session && this.checkLeases()) this.#takeAll(unread)
      })
    }
    this.#unread.push(...deliveries)
  }

  #takeAll(deliveries: Turns.PollResponse["deliveries"]): void {
    const fresh = deliveries.filter(({ seq }) => seq > this.seen)
    // what was taken back, or is to be paused, by the time that it arrives is not begun
    const over = new Set<string>()
    const paused = new Map<string, boolean>()
    for (const delivery of fresh) {
      if ("job" in delivery) continue
      const { notice } = delivery
      if (endsLease(notice)) over.add(notice.jobId)
      else if (notice._tag !== "Fired") paused.set(notice.jobId, notice._tag === "Paused")
    }
    for (const delivery of fresh) {
      if (delivery.seq <= this.seen) continue
      this.seen = delivery.seq
      if ("notice" in delivery) this.#hear(delivery.notice)
      else if (over.has(delivery.job.jobId)) this.#pass()
      else this.#take(delivery.job, paused.get(delivery.job.jobId) === true)
    }
  }

  /** The engine cannot be reached. Returns the milliseconds to wait before it is tried again. */
  protected failed(error: Error): number {
    this.link.handlers.onConnected?.(false)
    const delayMs = this.link.outage.failed(error)
    // turns that wait for their engine are not to wait longer than their leases hold
    return this.#active.size > 0 ? Math.min(delayMs, this.terms.leaseMs / 10) : delayMs
  }

  /** The engine has answered. */
  protected answered(): void {
    this.#admittedAt = monotonicMs(this.link.clock)
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
    this.#delivered++
    this.#active.add(job.jobId)
    this.link.handlers.onJob(job, isPaused)
  }

  /** Room is there for another job in place of one that is over. */
  #pass(): void {
    this.#delivered++
    this.#asked++
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
    this.#active.delete(jobId)
    this.#hasDropped = true
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
        shipment = this.#ship(reports)
        this.#anticipate(reports)
      }
      const { batches, tooLarge } = shipment
      const next = (): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
        const batch = batches[acks.length]
        if (batch === undefined) return Effect.sync(() => this.#combine(reports, batches, acks, tooLarge))
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
      this.#active.delete(jobId)
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
      if (last !== undefined && endsTurn(last)) this.#active.delete(jobId)
      else if (acks[i]?._tag === "Refused") this.#drop(jobId)
    }
    return Effect.succeed(acks)
  }

  /** As few batches as the size of a request allows; nearly always one. */
  #ship(reports: ReadonlyArray<TurnReport>): Shipment {
    const text = JSON.stringify(reports)
    const maxBytes = this.terms.maxBodyBytes - envelopeBytes
    const tooLarge = new Map<string, string>()
    if (!(maxBytes > 0) || text.length * 3 <= maxBytes || byteLength(text) <= maxBytes) {
      return { batches: [{ number: ++this.#batch, reports, text }], tooLarge }
    }
    const parts: Array<Array<{ jobId: string; runId: string; ops: Array<TurnOp> }>> = [[]]
    let bytes = 0
    const add = ({ jobId, runId }: TurnReport, op: TurnOp, size: number): void => {
      if (bytes > 0 && bytes + size > maxBytes) {
        parts.push([])
        bytes = 0
      }
      bytes += size
      const part = parts.at(-1)!
      const last = part.at(-1)
      if (last?.jobId === jobId) last.ops.push(op)
      else part.push({ jobId, runId, ops: [op] })
    }
    for (const report of reports) {
      for (const op of report.ops) {
        // with the ids and brackets around it, if it is the first of its report
        const size = byteLength(JSON.stringify(op)) + envelopeBytes
        if (size <= maxBytes) {
          add(report, op, size)
          continue
        }
        const error = new LimitExceededError(
          `A report about run ${report.runId}`,
          size,
          this.terms.maxBodyBytes,
          "bytes"
        )
        add(report, { _tag: "Fail", error: serializeError(error) }, envelopeBytes)
        tooLarge.set(report.jobId, error.message)
        break
      }
    }
    return {
      batches: parts.map((part) => ({
        number: ++this.#batch,
        reports: part,
        text: JSON.stringify(part)
      })),
      tooLarge
    }
  }

  /** One answer for every report, though its ops may have travelled in several batches. */
  #combine(
    reports: ReadonlyArray<TurnReport>,
    batches: ReadonlyArray<Batch>,
    acks: ReadonlyArray<ReadonlyArray<TurnAck>>,
    tooLarge: ReadonlyMap<string, string>
  ): ReadonlyArray<TurnAck> {
    if (batches.length === 1 && tooLarge.size === 0) return acks[0]!
    const outcomes = new Map<string, Array<Outcome | undefined>>()
    const refusals = new Map<string, TurnAck>()
    const paused = new Set<string>()
    for (const [jobId, message] of tooLarge)
      refusals.set(jobId, { _tag: "Refused", reason: "LIMIT", message })
    for (const [i, batch] of batches.entries()) {
      for (const [j, { jobId }] of batch.reports.entries()) {
        const ack = acks[i]![j]!
        if (ack._tag === "Refused") refusals.set(jobId, refusals.get(jobId) ?? ack)
        else {
          outcomes.set(jobId, [...(outcomes.get(jobId) ?? []), ...ack.outcomes])
          if (ack.paused === true) paused.add(jobId)
        }
      }
    }
    return reports.map(
      ({ jobId }) =>
        refusals.get(jobId) ?? {
          _tag: "Accepted",
          outcomes: outcomes.get(jobId) ?? [],
          ...(paused.has(jobId) ? { paused: true } : {})
        }
    )
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
    if (this.#isDoubtful()) this.registerAgain(session, asConnectionError(error))
    // what is sent again waits for ever, like everything of a worker that is refused
    else this.refuse(error)
    return true
  }

  /** Whether a refusal of the key, or of what it may do, is to be heard twice. */
  #isDoubtful(): boolean {
    const now = monotonicMs(this.link.clock)
    if (now - this.#admittedAt > keyWorkedMs || now - this.#doubtedAt <= keyWorkedMs) return false
    this.#doubtedAt = now
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
      const jobs = this.#held
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
          isAccessError(error) && !this.#isDoubtful()
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
    this.#heldSince = sentAt
    this.#renewedAt = sentAt
    this.#asked = this.#outstanding
    this.#withdrawn = 0
    this.#delivered = 0
    this.seen = 0
    for (const jobId of terms.lost) {
      if (!this.#reporting.has(jobId)) this.#lose(jobId, "the server does not have it any more")
      this.#hasDropped = true
    }
    this.session = terms.session
    this.link.handlers.onConnected?.(true)
    const connected = this.#connected
    this.#connected = undefined
    if (connected !== undefined) Deferred.doneUnsafe(connected, Effect.void)
    this.resumed()
    this.tell()
    this.#touched()
    // dropped while the registration that kept it was on its way
    if (jobs.some((jobId) => !terms.lost.includes(jobId) && !this.#active.has(jobId))) {
      this.registerAgain(terms.session)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Leases
  // -------------------------------------------------------------------------------------------------------------------

  /** Drops turns while their leases still hold: afterwards somebody else may run them. */
  readonly #watchLeases: Effect.Effect<void> = Effect.suspend(() => {
    const leftMs = this.#safeLeftMs
    if (leftMs > 0) return Effect.andThen(Effect.sleep(leftMs), this.#watchLeases)
    // what says that they hold may have come in while the process was too busy to look
    return Effect.andThen(
      lookAgain,
      Effect.suspend(() => {
        if (this.#safeLeftMs > 0) return this.#watchLeases
        if (this.#active.size > 0) this.#loseAll()
        return Effect.andThen(Effect.sleep(this.#safeMs / 4), this.#watchLeases)
      })
    )
  })

  readonly checkLeases = (): boolean => {
    if (this.#safeLeftMs > 0) return true
    this.#loseAll()
    return false
  }

  /** The server may still keep what is dropped here for this worker: it is told what the worker has when it answers again. */
  #loseAll(): void {
    const reason = `the server at ${this.link.options.server.url} could not be asked to extend it`
    for (const jobId of this.#active) this.#lose(jobId, reason)
    if (this.session !== undefined) this.registerAgain(this.session)
  }

  /** Engines that extend leases by themselves promise two thirds from the arrival of a request on. */
  get #safeMs(): number {
    const { capabilities, leaseMs } = this.terms
    return capabilities.renewals === true ? Turns.safeTermMs(leaseMs) : leaseMs * 0.6
  }

  /** How long the leases are sure to hold from now on. */
  get #safeLeftMs(): number {
    return this.#heldSince + this.#safeMs - monotonicMs(this.link.clock)
  }

  #lose(jobId: string, reason: string): void {
    if (this.#active.delete(jobId)) this.link.handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
  }
}

/** The session that a request belonged to does not exist any more. */
export const sessionOver = (message: string, cause?: unknown): IronflowError =>
  new WorkerUnknownError(message, { cause })
