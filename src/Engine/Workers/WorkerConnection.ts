/**
 * The engine's side of the connection of a worker that speaks turns, by polls or by a stream: what waits to be delivered, and whether the worker is
 * present. The rules are in `Protocol/Http/Turns.ts`.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import {
  type ConnectionError,
  type IronflowError,
  type StoreError,
  WorkerUnknownError
} from "../../Errors.ts"
import {
  MAX_WAIT_MS,
  type PollRequest,
  type ProcessIdentity,
  type Renewal,
  type ReportsRequest,
  type Room
} from "../../Protocol/Http/Turns.ts"
import type { RoomRequest } from "../../Protocol/TurnStream.ts"
import type { TurnAck } from "../../Protocol/Worker.ts"
import type { Adoption } from "../Turns/TurnRecords.ts"
import { hasEnded } from "../../Worker/ProcessIdentity.ts"
import type { RemoteSession } from "./RemoteSession.ts"
import type { Deliveries } from "./Deliveries.ts"
import type { Line } from "./Line.ts"
import { ReportBatches } from "./ReportBatches.ts"
import { ToldRunning } from "./ToldRunning.ts"
import { lateMs } from "./ConnectedWorker.ts"
import { RETRY_MS } from "../Store/StoreOutage.ts"

/** The waits between looks whether the process behind a closed connection has ended: 100 ms, doubling to a second. */
const LOOKS = Schedule.min([Schedule.exponential(100), Schedule.spaced(1000)])

/** How often jobs are looked at again, should each look take so long that they are late again. */
const MOST_LOOKS = 3

interface Poll {
  readonly woken: Deferred.Deferred<void>
}

/** What a worker is to get now. */
export interface Delivered {
  /** Encoded, see `Deliveries`. */
  readonly deliveries: ReadonlyArray<string>
  /** Whether the engine is about to stop. */
  readonly isClosing: boolean
}

/** How a worker is reached that does not poll. */
export interface Push {
  /** There is something to deliver. */
  readonly wake: () => void
  /** The session is over. */
  readonly end: () => void
}

export interface WorkerConnectionOptions {
  readonly workerId: string
  readonly environment: string
  readonly instance: string
  readonly session: string
  readonly engine: RemoteSession
  readonly deliveries: Deliveries
  /** The turns that it said it was at when it registered. */
  readonly jobs: ReadonlyArray<string>
  readonly functionIds: ReadonlySet<string>
  /** How long its leases hold. */
  readonly leaseMs: number
  /** Whether it names the jobs whose leases it renews. */
  readonly renews: boolean
  /** Whether it seals everything that it sends. */
  readonly seals: boolean
  /** Absent where the end of its process cannot be seen. */
  readonly process: ProcessIdentity | undefined
  /** A clock that nobody sets back or forward, milliseconds. */
  readonly now: () => number
  /** The connection that it registered on. */
  readonly line: Line
  readonly push?: Push
  /** Runs an effect in the background, as long as the server lives. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Ends the session of a worker that has been away for too long. */
  readonly onDead: (worker: WorkerConnection) => Effect.Effect<void>
  /** A batch was refused, because a later one has come before. */
  readonly onStale: () => void
}

export class WorkerConnection {
  readonly workerId: string
  readonly environment: string
  readonly instance: string
  readonly session: string
  readonly #options: WorkerConnectionOptions
  readonly #engine: RemoteSession
  readonly #deliveries: Deliveries
  #since: string | undefined
  #asked = 0
  #withdrawn = 0
  #poll: Poll | undefined
  /** The connection that the worker was last seen on. */
  #line: Line
  /** What stops listening for the end of each connection that it was seen on. */
  readonly #watched = new Map<Line, () => void>()
  /** Waits for a worker that is away. */
  #vigil: Fiber.Fiber<void> | undefined
  /** What it said last that it is at. */
  #holding: ReadonlySet<string>
  readonly #told = new ToldRunning()
  #heardAt = 0
  #heardSinceTick = true
  /** Somebody waits to hear of it. */
  #word: Deferred.Deferred<void> | undefined
  readonly #batches: ReportBatches
  #answerScheduled = false
  #isLooking = false
  #unreachable = false
  /** Whether a worker with a stream has been told that the server stops. */
  #farewell = false
  #closing = false
  #abandoned = false
  #ended = false

  /** `earlier` is a session of the same instance that this one replaces. */
  constructor(options: WorkerConnectionOptions, earlier?: WorkerConnection) {
    this.workerId = options.workerId
    this.environment = options.environment
    this.instance = options.instance
    this.session = options.session
    this.#options = options
    this.#engine = options.engine
    this.#deliveries = options.deliveries
    this.#line = options.line
    this.#holding = new Set(options.jobs)
    this.#batches = new ReportBatches(
      options,
      earlier === undefined ? undefined : earlier.#batches,
      options.engine.before
    )
    options.deliveries.now = options.now
    options.deliveries.running = () => this.#told.now(options.now())
    options.deliveries.onMore(() => this.#answerSoon())
    this.#arrived(options.line)
  }

  /** The ids of the jobs of this instance sort after this. Absent before they are known. */
  get since(): string | undefined {
    return this.#since
  }

  /** Whether it has the function. */
  runs(functionId: string): boolean {
    return this.#options.functionIds.has(functionId)
  }

  /** Whether a poll is open now. */
  get polling(): boolean {
    return this.#poll !== undefined
  }

  /** Whether the connection that it was last seen on is open. */
  get present(): boolean {
    return this.#line.isOpen
  }

  /** Whether its process is seen to have ended: where that cannot be seen, it may still be at its turns. */
  get processEnded(): boolean {
    const { process } = this.#options
    return process !== undefined && hasEnded(process)
  }

  /** Ends when something is heard of it, or its connection closes, or its session is over. One that polls is asked for it. */
  readonly awaitWord: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#ended) return Effect.void
    const word = (this.#word ??= Deferred.makeUnsafe<void>())
    this.#answerPoll()
    return Deferred.await(word)
  })

  /** When it counts as dead unless something is heard of it, by its clock. */
  get deadline(): number {
    const { leaseMs, now, renews } = this.#options
    // one that does not renew by name is there as long as its poll is open
    return (this.#poll === undefined || renews ? this.#heardAt : now()) + leaseMs
  }

  /** Whether messages between it and the engine are sealed. */
  get seals(): boolean {
    return this.#options.seals
  }

  /** Whether it has connected to another engine. */
  get hasMoved(): boolean {
    return this.#engine.hasMoved()
  }

  /** Whether the session is over. */
  get ended(): boolean {
    return this.#ended
  }

  /** Whether there is something that was not delivered yet, and may be now. */
  get hasMore(): boolean {
    if (this.#deliveries.isEmpty) return this.#closing && !this.#farewell
    if (!this.#isLooking && this.#late.length === 0) return true
    if (!this.#isLooking) {
      this.#isLooking = true
      this.#options.fork(
        Effect.catch(this.#lookAgain, (error) =>
          Effect.andThen(
            Effect.logWarning(`Jobs on their way to worker ${this.workerId} cannot be looked at`, error),
            Effect.sleep(RETRY_MS)
          )
        ).pipe(
          Effect.andThen(
            Effect.sync(() => {
              this.#isLooking = false
              if (!this.#ended) this.#options.push?.wake()
            })
          )
        )
      )
    }
    return false
  }

  /** Jobs that were on their way for so long that they are looked at again. */
  get #late(): ReadonlyArray<string> {
    return this.#abandoned ? [] : this.#deliveries.late(lateMs(this.#options.leaseMs))
  }

  /** Jobs that are about to be delivered late are the worker's for another term, or are followed by the news that they are not. */
  readonly #lookAgain: Effect.Effect<void, StoreError> = Effect.suspend(() => {
    const late = this.#late
    if (late.length === 0) return Effect.void
    const askedAt = this.#options.now()
    // those that are gone are not asked for again
    return Effect.map(this.#extend(late), () => this.#deliveries.held(late, askedAt))
  }).pipe(Effect.repeat({ times: MOST_LOOKS - 1, while: () => this.#late.length > 0 }), Effect.asVoid)

  /** What was not delivered yet: over a stream nothing gets lost. */
  takeNew(): Delivered {
    if (this.#closing) this.#farewell = true
    return this.#answer(this.#deliveries.takeForGood())
  }

  /** The worker has said something over its stream. */
  heard(): void {
    this.#arrived(this.#line)
  }

  /** The worker says how much room it has, and what it is at. Ends when its leases are extended. */
  room(request: RoomRequest): Effect.Effect<void, IronflowError> {
    return Effect.suspend((): Effect.Effect<void, IronflowError> => {
      if (this.#abandoned) return this.#notHere
      this.#makeRoom(request)
      return this.#renew(request)
    })
  }

  /** Waits until there is something to deliver, for as long as the worker says. */
  poll(request: PollRequest, line: Line): Effect.Effect<Delivered, IronflowError> {
    return Effect.suspend((): Effect.Effect<Delivered, IronflowError> => {
      this.#arrived(line)
      this.#deliveries.received(request.seen)
      if (this.#abandoned) return this.#deliveries.isEmpty ? this.#notHere : this.#wait(request)
      this.#makeRoom(request)
      return Effect.andThen(this.#renew(request), Effect.andThen(this.#lookAgain, this.#wait(request)))
    })
  }

  #wait(request: PollRequest): Effect.Effect<Delivered, StoreError> {
    return Effect.suspend(() => {
      this.#answerPoll()
      if (!this.#deliveries.isEmpty || this.#closing)
        return Effect.succeed(this.#answer(this.#deliveries.take()))
      const poll: Poll = { woken: Deferred.makeUnsafe<void>() }
      this.#poll = poll
      return Effect.ensuring(
        Effect.map(
          Effect.andThen(
            Effect.timeoutOption(
              Deferred.await(poll.woken),
              Math.min(Math.max(0, request.waitMs), MAX_WAIT_MS)
            ),
            this.#lookAgain
          ),
          // when a newer poll is open, what there is goes there
          () => {
            if (!this.#options.renews) this.#heardAt = this.#options.now()
            return this.#poll === undefined || this.#poll === poll
              ? this.#answer(this.#deliveries.take())
              : NOTHING
          }
        ),
        Effect.sync(() => {
          if (this.#poll === poll) this.#poll = undefined
        })
      )
    })
  }

  /** Applies a batch of reports, or finds the answer that it was given before. */
  report(request: ReportsRequest): Effect.Effect<ReadonlyArray<TurnAck>, IronflowError> {
    return Effect.suspend((): Effect.Effect<ReadonlyArray<TurnAck>, IronflowError> => {
      this.#makeRoom(request)
      return this.#batches.take(request, this.#engine)
    })
  }

  late(late: {
    readonly runId: string
    readonly stepName: string
    readonly lingerMs: number
  }): Effect.Effect<void, ConnectionError> {
    return this.#engine.late(late)
  }

  /** Runs at least three times a lease: ends the session of a worker that is dead. */
  readonly tick: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#options.now() >= this.deadline) return this.#options.onDead(this)
    const heard = this.#poll !== undefined || this.#heardSinceTick
    this.#heardSinceTick = false
    // whatever is between it and here may keep its connection open
    if (!heard) return this.processEnded ? this.#dead : Effect.void
    if (this.#options.renews) return Effect.void
    return Effect.catch(Effect.asVoid(this.#engine.extend()), (error) =>
      Effect.logError(`The leases of worker ${this.workerId} could not be extended`, error)
    )
  })

  /**
   * The worker is registered: it is told to drop what it is at and does not hold any more, and is done with what it was to drop
   * and is not at. Ends when the engine knows.
   */
  adopted(
    { left, lost, since }: Omit<Adoption, "notices">,
    earlier: WorkerConnection | undefined
  ): Effect.Effect<void, StoreError> {
    this.#since = since
    const { dropping } = this.#deliveries
    // what it was told of another worker's job says nothing of that worker
    for (const jobId of left) dropping.delete(jobId)
    for (const jobId of lost) dropping.set(jobId, 0)
    const before = earlier === undefined ? [] : [...earlier.#deliveries.dropping.keys()]
    return this.#dropped(before.filter((jobId) => !this.#holding.has(jobId)))
  }

  /** Extends the leases of the jobs that the worker is at; it is told of those that it does not have any more. */
  #renew({ holding, running, seen }: Renewal): Effect.Effect<void, StoreError> {
    if (holding === undefined) return Effect.void
    this.#told.hear(running, this.#options.now())
    const dropped = this.#noLongerIn(holding, seen)
    const extended = holding.length === 0 ? Effect.void : this.#extend(holding)
    return Effect.andThen(this.#dropped(dropped), extended)
  }

  /** The leases of these jobs start anew; the worker is told of those that it does not have any more. */
  #extend(jobIds: ReadonlyArray<string>): Effect.Effect<void, StoreError> {
    return Effect.map(this.#engine.extend(jobIds), (gone) => {
      for (const jobId of gone) {
        const reason = "its lease has run out, or the run has ended"
        this.#deliveries.handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
      }
    })
  }

  /**
   * The jobs that the worker has dropped because it was told to. It had heard of a job, and so of what was said of it, when it has
   * seen the notice, or was at the job before: what is still on its way to it, it may yet begin.
   */
  #noLongerIn(holding: ReadonlyArray<string>, seen: number | undefined): ReadonlyArray<string> {
    const { dropping } = this.#deliveries
    const before = this.#holding
    this.#holding = new Set(holding)
    const dropped = [...dropping]
      .filter(([jobId, seq]) => !this.#holding.has(jobId) && ((seen ?? -1) >= seq || before.has(jobId)))
      .map(([jobId]) => jobId)
    for (const jobId of dropped) dropping.delete(jobId)
    return dropped
  }

  #dropped(jobIds: ReadonlyArray<string>): Effect.Effect<void, StoreError> {
    if (jobIds.length === 0) return Effect.void
    return Effect.tapError(this.#engine.dropped(jobIds), () =>
      // with the next renewal
      Effect.sync(() => jobIds.forEach((jobId) => this.#deliveries.dropping.set(jobId, 0)))
    )
  }

  /** The server is going to stop: lets the poll go. The leases stay. */
  goAway(): void {
    this.#closing = true
    this.#options.push?.wake()
    this.#answerPoll()
  }

  /** Another engine has the database: what there is to tell is told, and then that the worker is not known here. */
  abandon(): void {
    this.#abandoned = true
    this.goAway()
  }

  get #notHere(): Effect.Effect<never, IronflowError> {
    const text = `Worker "${this.workerId}" is not known here: another engine has taken over the database of this one`
    return Effect.fail(new WorkerUnknownError(text))
  }

  /** Ends the session; `lost` says that the worker died. What was never sent to it is not lost. */
  end(lost: boolean): Effect.Effect<void> {
    return this.#end(Effect.suspend(() => this.#engine.close(lost)))
  }

  /** Ends the session of a worker that has connected to another engine, with its turns: all but what was never sent to it. */
  moved(): Effect.Effect<void> {
    return this.#end(Effect.sync(() => this.#engine.detach()))
  }

  #end(ending: Effect.Effect<void, StoreError>): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#ended) return Effect.void
      this.#stop()
      const unsent = this.#deliveries.unsent()
      const released =
        unsent.length === 0
          ? Effect.void
          : this.#engine.report(unsent.map((job) => ({ ...job, ops: [{ _tag: "Release" }] })))
      return Effect.catch(Effect.andThen(released, ending), (error) =>
        Effect.logWarning(
          `The runs of worker ${this.workerId} could not be taken back; their leases run out by themselves`,
          error
        )
      ).pipe(Effect.ensuring(Effect.sync(() => this.#saidSomething())))
    })
  }

  /** Ends the session in favour of a new one of the same instance. The leases stay. */
  replace(): void {
    this.#stop()
    this.#engine.detach()
    this.#saidSomething()
  }

  #stop(): void {
    this.#ended = true
    this.#vigil?.interruptUnsafe()
    // a connection outlives many sessions
    for (const stop of this.#watched.values()) stop()
    this.#watched.clear()
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
    // it was there until now
    if (!this.#options.renews) this.#heardAt = this.#options.now()
    Deferred.doneUnsafe(poll.woken, Exit.void)
  }

  #answer(deliveries: ReadonlyArray<string>): Delivered {
    return { deliveries, isClosing: this.#closing }
  }

  #arrived(line: Line): void {
    this.#vigil?.interruptUnsafe()
    this.#vigil = undefined
    this.#heardAt = this.#options.now()
    this.#heardSinceTick = true
    this.#saidSomething()
    if (line !== this.#line || this.#unreachable) {
      this.#line = line
      this.#unreachable = false
      this.#engine.setReachable(true)
    }
    if (this.#watched.has(line)) return
    // it may have closed while the worker was being registered
    if (!line.isOpen) return this.#gone(line)
    const stop = line.onClose(() => {
      this.#watched.delete(line)
      this.#gone(line)
    })
    this.#watched.set(line, stop)
  }

  #saidSomething(): void {
    if (this.#word === undefined) return
    Deferred.doneUnsafe(this.#word, Exit.void)
    this.#word = undefined
  }

  /**
   * The connection that the worker was last seen on is closed: one that lives comes back on another, and has until its
   * leases end. One whose process has ended does not.
   */
  #gone(line: Line): void {
    if (this.#ended || this.#line !== line) return
    this.#saidSomething()
    this.#unreachable = true
    this.#engine.setReachable(false)
    if (this.#options.process === undefined) return
    this.#vigil = this.#options.fork(
      Effect.suspend(() => (this.processEnded ? this.#dead : Effect.void)).pipe(
        Effect.repeat({ schedule: LOOKS, until: () => this.#ended }),
        Effect.asVoid
      )
    )
  }

  readonly #dead: Effect.Effect<void> = Effect.suspend(() => {
    // not to be interrupted by its own end
    this.#vigil = undefined
    return this.#options.onDead(this)
  })
}

const NOTHING: Delivered = { deliveries: [], isClosing: false }
