/**
 * The engine's side of a worker that speaks turns: what is waiting to be delivered, the open poll, the last batch of
 * reports, and whether the worker is present. The rules are in `Protocol/Http/Turns.ts`.
 */
import type { Socket } from "node:net"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { IronflowError, type ConnectionError } from "../../Errors.ts"
import { MAX_WAIT_MS, type PollRequest, type ReportsRequest, type Room } from "../../Protocol/Http/Turns.ts"
import type { Job, Notice, TurnAck, WorkerHandlers } from "../../Protocol/Worker.ts"
import type { RemoteSession } from "../Dispatch.ts"

/** How long a lease holds without a sign of life. */
export const TURN_LEASE_MS = 30_000
/** How long a worker may be away before it counts as dead. */
export const PRESENCE_MS = 5000
/** How long the worker is told to keep a poll open. */
export const WAIT_MS = 20_000
/** The most that one answer delivers; what is left is in the next one. */
const MAX_DELIVERIES = 512
const MAX_DELIVERY_CHARACTERS = 8 * 1024 * 1024

/** Something on its way to the worker, encoded once however often it is sent. */
interface Waiting {
  readonly seq: number
  readonly text: string
  readonly jobId: string
  readonly isJob: boolean
  sent: boolean
}

interface Batch {
  readonly number: number
  readonly answer: Deferred.Deferred<ReadonlyArray<TurnAck>, ConnectionError>
}

interface Poll {
  readonly woken: Deferred.Deferred<void>
  readonly socket: Socket
}

export interface TurnWorkerOptions {
  readonly workerId: string
  readonly instance: string
  readonly session: string
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Called when the worker has been away for too long. */
  readonly onDead: () => Effect.Effect<void>
}

export class TurnWorker {
  readonly #options: TurnWorkerOptions
  readonly instance: string
  readonly session: string
  /** Set once the engine has connected it, before anything can be asked of it. */
  engine!: RemoteSession
  #waiting: Array<Waiting> = []
  #seq = 0
  #asked = 0
  #withdrawn = 0
  #poll: Poll | undefined
  /** The connection that the last poll came on. */
  #socket: Socket | undefined
  #watched = new WeakSet<Socket>()
  #away: Fiber.Fiber<void> | undefined
  #polledSinceTick = true
  #silentTicks = 0
  #batch: Batch | undefined
  #wakeScheduled = false
  #closing = false
  #ended = false

  constructor(options: TurnWorkerOptions) {
    this.#options = options
    this.instance = options.instance
    this.session = options.session
  }

  readonly handlers: WorkerHandlers = {
    onJob: (job) => this.#push(job.jobId, true, (seq) => `{"seq":${seq},"job":${JSON.stringify(job)}}`),
    onNotice: (notice) =>
      this.#push(notice.jobId, false, (seq) => `{"seq":${seq},"notice":${JSON.stringify(notice)}}`)
  }

  /** Whether the process behind it may still be alive: its last poll is open, or the connection of that poll is. */
  get present(): boolean {
    return this.#poll !== undefined || (this.#socket !== undefined && !this.#socket.destroyed)
  }

  /** Takes what an earlier session of the same instance has not told the worker, and what it remembers of batches. */
  inherit(earlier: TurnWorker, jobIds: ReadonlySet<string>): void {
    this.#batch = earlier.#batch
    for (const { isJob, jobId, text } of earlier.#waiting) {
      if (isJob || !jobIds.has(jobId)) continue
      this.#push(jobId, false, (seq) => text.replace(/^\{"seq":\d+/, `{"seq":${seq}`))
    }
  }

  /** Answers with the JSON of a `PollResponse`. */
  poll(request: PollRequest, socket: Socket): Effect.Effect<string> {
    return Effect.suspend(() => {
      this.#arrive(socket)
      this.#received(request.seen)
      this.makeRoom(request)
      this.#wake()
      if (this.#waiting.length > 0 || this.#closing) return Effect.succeed(this.#answer())
      const poll: Poll = { woken: Deferred.makeUnsafe<void>(), socket }
      this.#poll = poll
      const waitMs = Math.min(Math.max(0, request.waitMs), MAX_WAIT_MS)
      return Effect.ensuring(
        Effect.map(Effect.timeoutOption(Deferred.await(poll.woken), waitMs), () =>
          this.#poll === poll || this.#poll === undefined ? this.#answer() : NOTHING
        ),
        Effect.sync(() => {
          if (this.#poll === poll) this.#poll = undefined
          if (socket.destroyed) this.#gone(socket)
        })
      )
    })
  }

  /** Applies a batch of reports, or finds the answer that it was given before. */
  report(request: ReportsRequest): Effect.Effect<ReadonlyArray<TurnAck>, IronflowError> {
    return Effect.suspend(() => {
      this.makeRoom(request)
      const last = this.#batch
      if (last !== undefined && request.batch <= last.number) {
        return request.batch === last.number
          ? Deferred.await(last.answer)
          : Effect.fail(
              new IronflowError(
                `Batch ${request.batch} of worker ${this.#options.workerId} comes after batch ${last.number}: ` +
                  "numbers grow, and one batch is sent at a time",
                { code: "STALE_BATCH" }
              )
            )
      }
      const batch: Batch = { number: request.batch, answer: Deferred.makeUnsafe() }
      this.#batch = batch
      // on its own fiber: a worker that hangs up has not taken the batch back
      this.#options.fork(
        Effect.matchCauseEffect(this.engine.report(request.reports), {
          onSuccess: (acks) => Deferred.succeed(batch.answer, acks),
          onFailure: (cause) => {
            // nothing was stored: the same number may be tried again
            if (this.#batch === batch) this.#batch = last
            return Deferred.failCause(batch.answer, cause)
          }
        })
      )
      return Deferred.await(batch.answer)
    })
  }

  /** Totals only grow: a request that comes late says nothing new. */
  makeRoom({ asked = 0, withdrawn = 0 }: Room): void {
    const more = Math.max(0, asked - this.#asked) - Math.max(0, withdrawn - this.#withdrawn)
    this.#asked = Math.max(this.#asked, asked)
    this.#withdrawn = Math.max(this.#withdrawn, withdrawn)
    if (more !== 0) this.engine.credit(more)
  }

  /** Called every third of the lease: keeps the leases of a worker that has polled since the last time. */
  readonly tick: Effect.Effect<void> = Effect.suspend(() => {
    const alive = this.#poll !== undefined || this.#polledSinceTick
    this.#polledSinceTick = false
    this.#silentTicks = alive ? 0 : this.#silentTicks + 1
    if (this.#silentTicks >= 3) return this.#options.onDead()
    if (!alive) return Effect.void
    return Effect.catch(this.engine.extend, (error) =>
      Effect.logError(`The leases of worker ${this.#options.workerId} could not be extended`, error)
    )
  })

  /** The engine is going to stop: lets the poll go. The leases stay. */
  goAway(): void {
    this.#closing = true
    this.#answerPoll()
  }

  /** Ends the session; gives back what was never sent, so that it does not count as lost. */
  end(lost: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#ended) return Effect.void
      this.#ended = true
      this.#away?.interruptUnsafe()
      this.#answerPoll()
      const unsent = this.#waiting.filter(({ isJob, sent }) => isJob && !sent)
      return Effect.catch(
        Effect.andThen(
          this.engine.report(
            unsent.map(({ jobId, text }) => ({ jobId, runId: runIdOf(text), ops: [{ _tag: "Release" }] }))
          ),
          this.engine.close(lost)
        ),
        (error) =>
          Effect.logWarning(
            `The runs of worker ${this.#options.workerId} could not be taken back; their leases run out`,
            error
          )
      )
    })
  }

  /** Ends the session in favour of another of the same worker. */
  replace(): void {
    this.#ended = true
    this.#away?.interruptUnsafe()
    this.#answerPoll()
    this.engine.detach()
  }

  #push(jobId: string, isJob: boolean, encode: (seq: number) => string): void {
    if (this.#ended) return
    const seq = ++this.#seq
    this.#waiting.push({ seq, text: encode(seq), jobId, isJob, sent: false })
    if (this.#poll === undefined || this.#wakeScheduled) return
    // what the same commit hands out travels together
    this.#wakeScheduled = true
    queueMicrotask(() => {
      this.#wakeScheduled = false
      this.#answerPoll()
    })
  }

  #received(seen: number): void {
    const first = this.#waiting.findIndex(({ seq }) => seq > seen)
    this.#waiting = first === -1 ? [] : first === 0 ? this.#waiting : this.#waiting.slice(first)
  }

  /** Lets the poll that is open be answered: there is something, or a newer poll has come. */
  #answerPoll(): void {
    const poll = this.#poll
    if (poll === undefined) return
    this.#poll = undefined
    Deferred.doneUnsafe(poll.woken, Exit.void)
  }

  #wake(): void {
    this.#answerPoll()
  }

  #answer(): string {
    let characters = 0
    const texts: Array<string> = []
    for (const waiting of this.#waiting) {
      characters += waiting.text.length
      if (texts.length >= MAX_DELIVERIES || (texts.length > 0 && characters > MAX_DELIVERY_CHARACTERS)) break
      waiting.sent = true
      texts.push(waiting.text)
    }
    return `{"deliveries":[${texts.join(",")}]${this.#closing ? ',"closing":true' : ""}}`
  }

  #arrive(socket: Socket): void {
    this.#away?.interruptUnsafe()
    this.#away = undefined
    this.#socket = socket
    this.#polledSinceTick = true
    this.engine.setReachable(true)
    if (this.#watched.has(socket)) return
    this.#watched.add(socket)
    socket.once("close", () => this.#gone(socket))
  }

  /** The connection of the last poll is closed: a live worker polls on another one. */
  #gone(socket: Socket): void {
    if (this.#ended || this.#socket !== socket || this.#away !== undefined) return
    if (this.#poll !== undefined && this.#poll.socket !== socket) return
    this.engine.setReachable(false)
    this.#away = this.#options.fork(
      Effect.andThen(
        Effect.sleep(PRESENCE_MS),
        Effect.suspend(() => {
          this.#away = undefined
          return this.#options.onDead()
        })
      )
    )
  }
}

const NOTHING = '{"deliveries":[]}'

/** Reads the run of a job that was encoded here. */
const runIdOf = (text: string): string => (JSON.parse(text) as { readonly job: Job }).job.runId

/** The JSON of a `ReportsResponse`. */
export const encodeAcks = (acks: ReadonlyArray<TurnAck>): string => JSON.stringify({ acks })

export type { Notice }
