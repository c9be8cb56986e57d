/**
 * The engine's side of a worker that speaks turns: the open poll, the last batch of reports, and whether the worker is
 * present. The rules are in `Protocol/Http/Turns.ts`.
 */
import type { Duplex } from "node:stream"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type ConnectionError, IronflowError } from "../../Errors.ts"
import { MAX_WAIT_MS, type PollRequest, type ReportsRequest, type Room } from "../../Protocol/Http/Turns.ts"
import type { RoomRequest } from "../../Protocol/TurnStream.ts"
import type { TurnAck } from "../../Protocol/Worker.ts"
import type { RemoteSession } from "../Dispatch.ts"
import type { Deliveries } from "./Deliveries.ts"

/** How long a lease holds without a sign of life. */
export const TURN_LEASE_MS = 30_000
/** How often the leases of a worker that shows life are extended. */
export const TICK_MS = TURN_LEASE_MS / 3
/** How long a worker whose connection is closed may be away before it counts as dead. */
export const PRESENCE_MS = 5000
/** How long a worker is told to keep a poll open. */
export const WAIT_MS = 20_000

interface Batch {
  readonly number: number
  readonly answer: Deferred.Deferred<ReadonlyArray<TurnAck>, ConnectionError>
  /** Nothing was stored: the same number may be tried again, in the next session too. */
  failed: boolean
}

interface Poll {
  readonly woken: Deferred.Deferred<void>
}

/** How a worker is reached that does not poll. */
export interface Push {
  /** There is something to deliver. */
  readonly wake: () => void
  /** The session is over. */
  readonly end: () => void
}

export interface TurnWorkerOptions {
  readonly workerId: string
  readonly environment: string
  readonly instance: string
  readonly session: string
  readonly engine: RemoteSession
  readonly deliveries: Deliveries
  readonly functionIds: ReadonlySet<string>
  /** The connection that it registered on. */
  readonly line: Duplex
  readonly push?: Push
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Ends the session of a worker that has been away for too long. */
  readonly onDead: (worker: TurnWorker) => Effect.Effect<void>
  /** A batch was refused, because a later one has come before. */
  readonly onStale: () => void
}

export class TurnWorker {
  readonly workerId: string
  readonly environment: string
  readonly instance: string
  readonly session: string
  readonly #options: TurnWorkerOptions
  readonly #engine: RemoteSession
  readonly #deliveries: Deliveries
  #asked = 0
  #withdrawn = 0
  #poll: Poll | undefined
  /** The connection that the worker was last seen on. */
  #line: Duplex
  readonly #watched = new WeakSet<Duplex>()
  /** Waits for a worker that is away. */
  #vigil: Fiber.Fiber<void> | undefined
  #heardSinceTick = true
  #silentTicks = 0
  #batch: Batch | undefined
  #answerScheduled = false
  #unreachable = false
  /** Whether a worker with a stream has been told that the server stops. */
  #farewell = false
  #closing = false
  #ended = false

  /** `earlier` is a session of the same instance that this one replaces. */
  constructor(options: TurnWorkerOptions, earlier?: TurnWorker) {
    this.workerId = options.workerId
    this.environment = options.environment
    this.instance = options.instance
    this.session = options.session
    this.#options = options
    this.#engine = options.engine
    this.#deliveries = options.deliveries
    this.#line = options.line
    if (earlier !== undefined) this.#batch = earlier.#batch
    options.deliveries.onMore(() => this.#answerSoon())
    this.#arrived(options.line)
  }

  /** Whether it has the function. */
  runs(functionId: string): boolean {
    return this.#options.functionIds.has(functionId)
  }

  /** Whether a poll is open now. */
  get polling(): boolean {
    return this.#poll !== undefined
  }

  /** Whether the process behind it may still be alive: the connection that it was last seen on is open. */
  get present(): boolean {
    return !this.#line.destroyed
  }

  /** Whether the session is over. */
  get ended(): boolean {
    return this.#ended
  }

  /** Whether there is something that was not delivered yet. */
  get hasMore(): boolean {
    return !this.#deliveries.isEmpty || (this.#closing && !this.#farewell)
  }

  /** The JSON of a `PollResponse` with what was not delivered yet: over a stream nothing gets lost. */
  takeNew(): string {
    if (this.#closing) this.#farewell = true
    return this.#answer(this.#deliveries.takeForGood())
  }

  /** The worker has said something over its stream. */
  heard(): void {
    this.#arrived(this.#line)
  }

  /** The worker has so much room. */
  makeRoom(request: RoomRequest): void {
    this.#makeRoom(request)
  }

  /** Answers with the JSON of a `PollResponse`. */
  poll(request: PollRequest, line: Duplex): Effect.Effect<string> {
    return Effect.suspend(() => {
      this.#arrived(line)
      this.#deliveries.received(request.seen)
      this.#makeRoom(request)
      this.#answerPoll()
      if (!this.#deliveries.isEmpty || this.#closing)
        return Effect.succeed(this.#answer(this.#deliveries.take()))
      const poll: Poll = { woken: Deferred.makeUnsafe<void>() }
      this.#poll = poll
      return Effect.ensuring(
        Effect.map(
          Effect.timeoutOption(
            Deferred.await(poll.woken),
            Math.min(Math.max(0, request.waitMs), MAX_WAIT_MS)
          ),
          // when a newer poll is open, what there is goes there
          () =>
            this.#poll === undefined || this.#poll === poll ? this.#answer(this.#deliveries.take()) : NOTHING
        ),
        Effect.sync(() => {
          if (this.#poll === poll) this.#poll = undefined
        })
      )
    })
  }

  /** Applies a batch of reports, or finds the answer that it was given before. */
  report(request: ReportsRequest): Effect.Effect<ReadonlyArray<TurnAck>, IronflowError> {
    return Effect.suspend(() => {
      this.#makeRoom(request)
      const last = this.#batch
      if (last !== undefined && request.batch === last.number && !last.failed) {
        return Deferred.await(last.answer)
      }
      if (last !== undefined && request.batch < last.number) {
        this.#options.onStale()
        return Effect.fail(
          new IronflowError(
            `Batch ${request.batch} of worker ${this.workerId} comes after batch ${last.number}: ` +
              "numbers grow, and one batch is sent at a time",
            { code: "STALE_BATCH" }
          )
        )
      }
      const batch: Batch = { number: request.batch, answer: Deferred.makeUnsafe(), failed: false }
      this.#batch = batch
      // on a fiber of its own: a worker that hangs up has not taken the batch back
      this.#options.fork(
        Effect.matchCauseEffect(this.#engine.report(request.reports), {
          onSuccess: (acks) => Effect.asVoid(Deferred.succeed(batch.answer, acks)),
          onFailure: (cause) => {
            batch.failed = true
            return Effect.asVoid(Deferred.failCause(batch.answer, cause))
          }
        })
      )
      return Deferred.await(batch.answer)
    })
  }

  late(late: {
    readonly runId: string
    readonly stepName: string
    readonly lingerMs: number
  }): Effect.Effect<void, ConnectionError> {
    return this.#engine.late(late)
  }

  /** Runs every {@link TICK_MS}: extends the leases of a worker that was heard of since the last time. */
  readonly tick: Effect.Effect<void> = Effect.suspend(() => {
    const alive = this.#poll !== undefined || this.#heardSinceTick
    this.#heardSinceTick = false
    this.#silentTicks = alive ? 0 : this.#silentTicks + 1
    if (this.#silentTicks * TICK_MS >= TURN_LEASE_MS) return this.#options.onDead(this)
    if (!alive) return Effect.void
    return Effect.catch(this.#engine.extend, (error) =>
      Effect.logError(`The leases of worker ${this.workerId} could not be extended`, error)
    )
  })

  /** The server is going to stop: lets the poll go. The leases stay. */
  goAway(): void {
    this.#closing = true
    this.#options.push?.wake()
    this.#answerPoll()
  }

  /** Ends the session; `lost` says that the worker died. What was never sent to it is not lost. */
  end(lost: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#ended) return Effect.void
      this.#stop()
      const unsent = this.#deliveries.unsent()
      const released =
        unsent.length === 0
          ? Effect.void
          : this.#engine.report(unsent.map((job) => ({ ...job, ops: [{ _tag: "Release" }] })))
      return Effect.catch(Effect.andThen(released, this.#engine.close(lost)), (error) =>
        Effect.logWarning(
          `The runs of worker ${this.workerId} could not be taken back; their leases run out by themselves`,
          error
        )
      )
    })
  }

  /** Ends the session in favour of a new one of the same instance. The leases stay. */
  replace(): void {
    this.#stop()
    this.#engine.detach()
  }

  #stop(): void {
    this.#ended = true
    this.#vigil?.interruptUnsafe()
    this.#answerPoll()
    this.#options.push?.end()
  }

  #makeRoom({ asked = 0, withdrawn = 0 }: Room): void {
    // totals only grow: a request that comes late says nothing new
    const change = Math.max(0, asked - this.#asked) - Math.max(0, withdrawn - this.#withdrawn)
    this.#asked = Math.max(this.#asked, asked)
    this.#withdrawn = Math.max(this.#withdrawn, withdrawn)
    if (change !== 0) this.#engine.credit(change)
  }

  /** What the same commit hands out travels together. */
  #answerSoon(): void {
    const { push } = this.#options
    if ((this.#poll === undefined && push === undefined) || this.#answerScheduled) return
    this.#answerScheduled = true
    queueMicrotask(() => {
      this.#answerScheduled = false
      push?.wake()
      this.#answerPoll()
    })
  }

  /** Lets the open poll be answered with what there is. */
  #answerPoll(): void {
    const poll = this.#poll
    if (poll === undefined) return
    this.#poll = undefined
    Deferred.doneUnsafe(poll.woken, Exit.void)
  }

  #answer(deliveries: ReadonlyArray<string>): string {
    return `{"deliveries":[${deliveries.join(",")}]${this.#closing ? ',"closing":true' : ""}}`
  }

  #arrived(line: Duplex): void {
    this.#vigil?.interruptUnsafe()
    this.#vigil = undefined
    this.#heardSinceTick = true
    if (line !== this.#line || this.#unreachable) {
      this.#line = line
      this.#unreachable = false
      this.#engine.setReachable(true)
    }
    if (this.#watched.has(line)) return
    this.#watched.add(line)
    line.once("close", () => this.#gone(line))
  }

  /** The connection that the worker was last seen on is closed: one that lives comes back on another. */
  #gone(line: Duplex): void {
    if (this.#ended || this.#line !== line) return
    this.#unreachable = true
    this.#engine.setReachable(false)
    this.#vigil = this.#options.fork(
      Effect.andThen(
        Effect.sleep(PRESENCE_MS),
        Effect.suspend(() => {
          this.#vigil = undefined
          return this.#options.onDead(this)
        })
      )
    )
  }
}

const NOTHING = '{"deliveries":[]}'
