/**
 * The worker's side of `Protocol/Http/Turns.ts`: one poll open, one batch of reports in flight, and the turns that it
 * holds.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Answer } from "../Client/HttpConnection.ts"
import { failureOf, invalidResponse } from "../Client/HttpFailures.ts"
import { ConnectionError, type IronflowError, LimitExceededError, serializeError } from "../Errors.ts"
import { byteLength, isObject, safeJsonParse } from "../Json.ts"
import * as Turns from "../Protocol/Http/Turns.ts"
import {
  type AccessError,
  endsTurn,
  type Outcome,
  type TurnAck,
  type TurnOp,
  type TurnReport,
  type WorkerSession
} from "../Protocol/Worker.ts"
import type { ProjectionFeed } from "../Protocol/Projections.ts"
import { register } from "./PollingRegistration.ts"
import { makeFeed } from "./ProjectionFeedHttp.ts"
import { asConnectionError, isAccessError, isSuccess, monotonicMs, type ServerLink } from "./ServerLink.ts"

/** How much longer than the server keeps a poll open its answer is waited for. */
const pollGraceMs = 10_000

/** How long a worker that leaves waits for the server to hear of it. */
const deregisterTimeoutMs = 2000

/** What a request holds beside its reports. */
const envelopeBytes = 1024

/** A batch of reports under its number. */
interface Batch {
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

export class PollingSession implements WorkerSession {
  readonly projections: ProjectionFeed
  readonly #link: ServerLink
  readonly #instance: string
  #terms: Turns.RegisterTurnsResponse
  /** Absent while the worker is being registered again. */
  #session: string | undefined
  #connected: Deferred.Deferred<void> | undefined
  #refused = false

  #seen = 0
  #asked = 0
  #withdrawn = 0
  #delivered = 0
  /** Jobs asked for in the room of turns whose end is being reported, before the worker has asked for them. */
  #anticipated = 0
  #anticipates = true
  #toldAsked = 0
  #toldWithdrawn = 0
  #telling = false

  /** Number of the newest poll; older ones end by themselves. */
  #newestPoll = 0
  #openPolls = 0
  #batch = 0
  /** Turns whose lease this worker holds. */
  readonly #active = new Set<string>()
  /** When the last request was sent of which it is known that it has extended the leases. */
  #heldSince: number

  constructor(link: ServerLink, instance: string, terms: Turns.RegisterTurnsResponse, sentAt: number) {
    this.#link = link
    this.projections = makeFeed(link.connection, link.registration.workerId, link.options.logger)
    this.#instance = instance
    this.#terms = terms
    this.#session = terms.session
    this.#heldSince = sentAt
  }

  start(): void {
    this.#tell()
    this.#link.fork(this.#watchLeases)
  }

  readonly deregister: Effect.Effect<void> = Effect.suspend(() => {
    const { connection, options, registration } = this.#link
    if (this.#session === undefined || this.#refused) return Effect.void
    const request = connection.send({
      method: "DELETE",
      path: Turns.deregisterPath(registration.workerId, this.#session),
      what: `The farewell of worker ${registration.workerId}`,
      timeoutMs: deregisterTimeoutMs
    })
    return Effect.catch(Effect.asVoid(request), (error) =>
      Effect.sync(() =>
        options.logger.debug(`${error.message}. The server finds out by itself that the worker is gone`)
      )
    )
  })

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
    this.#tell()
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

  #room(): string {
    this.#toldAsked = this.#asked
    this.#toldWithdrawn = this.#withdrawn
    return `"asked":${this.#asked},"withdrawn":${this.#withdrawn}`
  }

  /** Lets the server know of more or less room, at the end of this turn of the event loop: a report may do it first. */
  #tell(): void {
    if (this.#telling) return
    this.#telling = true
    setImmediate(() => {
      this.#telling = false
      const isKnown =
        this.#newestPoll > 0 && this.#toldAsked === this.#asked && this.#toldWithdrawn === this.#withdrawn
      // a newer poll makes the server answer the older one; two of them say that it is not answering
      if (!isKnown && this.#openPolls < 2 && !this.#refused) this.#link.fork(this.#keepPolling)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Polls
  // -------------------------------------------------------------------------------------------------------------------

  readonly #keepPolling: Effect.Effect<void> = Effect.suspend(() => {
    let number = ++this.#newestPoll
    const next = (): Effect.Effect<void> =>
      Effect.flatMap(
        Effect.catch(this.#poll, (error) => Effect.sleep(this.#failed(error))),
        () => {
          if (number !== this.#newestPoll) {
            this.#tell()
            return Effect.void
          }
          number = ++this.#newestPoll
          return next()
        }
      )
    return next()
  })

  #failed(error: Error): number {
    return this.#link.outage.failed(error)
  }

  readonly #poll: Effect.Effect<void, IronflowError> = Effect.suspend(() => this.#whenConnected()).pipe(
    Effect.flatMap((session) => {
      const { clock, connection, registration } = this.#link
      const sentAt = monotonicMs(clock)
      const waitMs = this.#waitMs
      const what = `The poll of worker ${registration.workerId}`
      this.#openPolls++
      const sent = connection.send({
        method: "POST",
        path: Turns.pollPath(registration.workerId),
        body: `{"session":${JSON.stringify(session)},"seen":${this.#seen},"waitMs":${waitMs},${this.#room()}}`,
        what,
        timeoutMs: waitMs + pollGraceMs
      })
      return Effect.flatMap(
        Effect.ensuring(
          sent,
          Effect.sync(() => this.#openPolls--)
        ),
        (answer): Effect.Effect<void, IronflowError> => {
          // what an earlier session had to say does not count in this one
          if (session !== this.#session) return Effect.void
          if (!isSuccess(answer)) return this.#rejected(session, answer, what)
          return this.#received(answer.text, sentAt, what)
        }
      )
    })
  )

  /** Polls often enough that one that is answered follows another well before the leases end. */
  get #waitMs(): number {
    const { leaseMs, waitMs } = this.#terms
    return Math.max(1, Math.floor(Math.min(waitMs, leaseMs / 4, this.#link.options.heartbeatMs)))
  }

  #received(text: string, sentAt: number, what: string): Effect.Effect<void, IronflowError> {
    const { connection, outage, registration } = this.#link
    const response = safeJsonParse<Turns.PollResponse>(text)
    if (!isObject(response) || !Array.isArray(response.deliveries)) {
      return Effect.fail(invalidResponse(connection.server.url, what, "it has no deliveries", text))
    }
    this.#heldSince = Math.max(this.#heldSince, sentAt)
    for (const delivery of response.deliveries as Turns.PollResponse["deliveries"]) {
      if (delivery.seq <= this.#seen) continue
      this.#seen = delivery.seq
      this.#deliver(delivery)
    }
    if (response.closing === true) {
      return Effect.fail(
        new ConnectionError(
          `The Ironflow server at ${connection.server.url} is about to stop; worker ${registration.workerId} keeps its turns`
        )
      )
    }
    outage.over()
    return Effect.void
  }

  #deliver(delivery: Turns.Delivery): void {
    const { handlers } = this.#link
    if ("job" in delivery) {
      this.#delivered++
      this.#active.add(delivery.job.jobId)
      handlers.onJob(delivery.job)
      return
    }
    const { notice } = delivery
    if (notice._tag !== "Fired") this.#active.delete(notice.jobId)
    handlers.onNotice(notice)
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
    return Effect.flatMap(this.#whenConnected(), (session) => {
      const { connection, registration } = this.#link
      const what = `The report of worker ${registration.workerId}`
      return connection
        .send({
          method: "POST",
          path: Turns.reportsPath(registration.workerId),
          body: `{"session":${JSON.stringify(session)},"batch":${batch.number},${this.#room()},"reports":${batch.text}}`,
          what
        })
        .pipe(
          Effect.catchTag("TimeoutError", (error) => Effect.fail(asConnectionError(error))),
          Effect.flatMap((answer): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> => {
            if (isSuccess(answer)) return this.#readAcks(batch, answer.text, what)
            return Effect.andThen(
              Effect.catch(this.#rejected(session, answer, what), (error) =>
                error.retryable || error instanceof ConnectionError
                  ? Effect.fail(asConnectionError(error))
                  : Effect.andThen(
                      Effect.sync(() => this.#giveUp(batch)),
                      Effect.die(error)
                    )
              ),
              Effect.suspend(() => this.#send(batch))
            )
          })
        )
    })
  }

  /**
   * The server would refuse the batch however often it is sent. The leases of its turns are let go, not before they would
   * have ended: whoever runs them next might come to the same end.
   */
  #giveUp(batch: Batch): void {
    for (const { jobId } of batch.reports) this.#active.delete(jobId)
    const letGo = Effect.suspend(() => {
      if (this.#session !== undefined) this.#registerAgain(this.#session)
      return Effect.void
    })
    this.#link.fork(Effect.andThen(Effect.sleep(this.#terms.leaseMs), letGo))
  }

  #readAcks(
    batch: Batch,
    text: string,
    what: string
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> {
    const body = safeJsonParse<Turns.ReportsResponse>(text)
    if (!isObject(body) || !Array.isArray(body.acks) || body.acks.length !== batch.reports.length) {
      const { url } = this.#link.connection.server
      return Effect.fail(
        asConnectionError(invalidResponse(url, what, "it does not answer every report", text))
      )
    }
    const acks = (body.acks as Turns.ReportsResponse["acks"]).map(Turns.readAck)
    for (const [i, { jobId, ops }] of batch.reports.entries()) {
      const last = ops.at(-1)
      if (acks[i]?._tag === "Refused" || (last !== undefined && endsTurn(last))) this.#active.delete(jobId)
    }
    return Effect.succeed(acks)
  }

  /** As few batches as the size of a request allows; nearly always one. */
  #ship(reports: ReadonlyArray<TurnReport>): Shipment {
    const text = JSON.stringify(reports)
    const maxBytes = this.#terms.maxBodyBytes - envelopeBytes
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
          this.#terms.maxBodyBytes,
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
    for (const [jobId, message] of tooLarge)
      refusals.set(jobId, { _tag: "Refused", reason: "LIMIT", message })
    for (const [i, batch] of batches.entries()) {
      for (const [j, { jobId }] of batch.reports.entries()) {
        const ack = acks[i]![j]!
        if (ack._tag === "Refused") refusals.set(jobId, refusals.get(jobId) ?? ack)
        else outcomes.set(jobId, [...(outcomes.get(jobId) ?? []), ...ack.outcomes])
      }
    }
    return reports.map(
      ({ jobId }) => refusals.get(jobId) ?? { _tag: "Accepted", outcomes: outcomes.get(jobId) ?? [] }
    )
  }

  readonly late: WorkerSession["late"] = (late) => {
    return Effect.flatMap(this.#whenConnected(), (session) => {
      const { connection, registration } = this.#link
      const what = `Word of a late step of run ${late.runId}`
      const request: Turns.LateRequest = { session, ...late }
      return connection
        .send({
          method: "POST",
          path: Turns.latePath(registration.workerId),
          body: JSON.stringify(request),
          what
        })
        .pipe(
          Effect.flatMap((answer) =>
            isSuccess(answer)
              ? Effect.void
              : Effect.andThen(
                  this.#rejected(session, answer, what),
                  Effect.fail(new ConnectionError(`${what} found the worker unknown`))
                )
          ),
          Effect.mapError(asConnectionError)
        )
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Registration
  // -------------------------------------------------------------------------------------------------------------------

  /** Waits until the worker is registered, if it is being registered again. */
  #whenConnected(): Effect.Effect<string> {
    return Effect.suspend(() => {
      if (this.#refused) return Effect.never
      if (this.#session !== undefined) return Effect.succeed(this.#session)
      this.#connected ??= Deferred.makeUnsafe<void>()
      return Effect.andThen(
        Deferred.await(this.#connected),
        Effect.suspend(() => this.#whenConnected())
      )
    })
  }

  /** An answer that is not 2xx. Succeeds when it makes sense to send the request again at once. */
  #rejected(session: string, answer: Answer, what: string): Effect.Effect<void, IronflowError> {
    if (answer.status === 404) {
      this.#registerAgain(session)
      return Effect.void
    }
    const error = failureOf(answer, what)
    if (!isAccessError(error)) return Effect.fail(error)
    this.#refuse(error)
    return Effect.never
  }

  #refuse(error: AccessError): void {
    if (this.#refused) return
    this.#refused = true
    const { handlers, options, registration } = this.#link
    options.logger.error(`Worker ${registration.workerId} stops: ${error.message}`)
    handlers.onRefused?.(error)
  }

  /** The session is over: the server was restarted, or has given the worker up. */
  #registerAgain(session: string): void {
    if (this.#session !== session || this.#refused) return
    this.#session = undefined
    const { clock, fork, options, outage, registration } = this.#link
    options.logger.info(`Worker ${registration.workerId} registers again at ${options.server.url}`)
    const attempt: Effect.Effect<void> = Effect.suspend(() => {
      const sentAt = monotonicMs(clock)
      return Effect.matchEffect(register(this.#link, this.#instance, [...this.#active]), {
        onSuccess: (terms) => {
          if (terms !== undefined) return Effect.sync(() => this.#resume(terms, sentAt))
          const error = new ConnectionError(
            `The server at ${options.server.url} is another one than before, which does not exchange turns; ` +
              `restart worker ${registration.workerId} to work for it`
          )
          return Effect.andThen(Effect.sleep(outage.failed(error)), attempt)
        },
        onFailure: (error) =>
          isAccessError(error)
            ? Effect.sync(() => this.#refuse(error))
            : Effect.andThen(Effect.sleep(outage.failed(error)), attempt)
      })
    })
    fork(attempt)
  }

  #resume(terms: Turns.RegisterTurnsResponse, sentAt: number): void {
    this.#link.outage.over()
    this.#terms = terms
    this.#heldSince = sentAt
    this.#asked = this.#outstanding
    this.#withdrawn = 0
    this.#delivered = 0
    this.#seen = 0
    for (const jobId of terms.lost) this.#lose(jobId, "the server does not have it any more")
    this.#session = terms.session
    const connected = this.#connected
    this.#connected = undefined
    if (connected !== undefined) Deferred.doneUnsafe(connected, Effect.void)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Leases
  // -------------------------------------------------------------------------------------------------------------------

  /** Drops turns while their leases still hold: afterwards somebody else may run them. */
  readonly #watchLeases: Effect.Effect<void> = Effect.suspend(() => {
    // two thirds are promised from the arrival of a poll on; the rest is for dropping them
    const safeMs = this.#terms.leaseMs * 0.6
    const leftMs = this.#heldSince + safeMs - monotonicMs(this.#link.clock)
    if (leftMs <= 0) {
      const reason = `the server at ${this.#link.options.server.url} could not be asked to extend it`
      for (const jobId of this.#active) this.#lose(jobId, reason)
    }
    return Effect.andThen(Effect.sleep(leftMs > 0 ? leftMs : safeMs / 4), this.#watchLeases)
  })

  #lose(jobId: string, reason: string): void {
    if (this.#active.delete(jobId)) this.#link.handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
  }
}
