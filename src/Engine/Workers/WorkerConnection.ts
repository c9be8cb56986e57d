/**
 * The engine's side of the connection to a worker that speaks the turn protocol, by polling or over a stream. The connection
 * knows what waits to be delivered, and whether the worker is present. The rules are in `Protocol/Http/Turns.ts`.
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
  type Room,
  MAX_WAIT_MS,
  type PollRequest,
  type Renewal,
  type ReportsRequest
} from "../../Protocol/Http/Turns.ts"
import type { RoomRequest } from "../../Protocol/TurnStream.ts"
import type { TurnAck } from "../../Protocol/Worker.ts"
import type { Adoption } from "../Turns/TurnRecords.ts"
import { hasEnded } from "../../Worker/ProcessIdentity.ts"
import type { WorkerConnectionOptions } from "./WorkerConnectionOptions.ts"
import type { RemoteSession } from "./RemoteSession.ts"
import type { Deliveries } from "./Deliveries.ts"
import type { WatchedConnection } from "./WatchedConnection.ts"
import { ReceivedReportBatches } from "./ReceivedReportBatches.ts"
import { ReportedSteps } from "./ReportedSteps.ts"
import { LateJobs } from "./LateJobs.ts"

/** The delays between checks whether the process behind a closed connection has ended: from 100 ms, doubling up to a second. */
const PROCESS_CHECKS = Schedule.min([Schedule.exponential(100), Schedule.spaced(1000)])

interface Poll {
  readonly woken: Deferred.Deferred<void>
}

/** What a worker gets now. */
export interface DeliveredBatch {
  /** Encoded as in `Deliveries`. */
  readonly deliveries: ReadonlyArray<string>
  /** Whether the engine is about to stop. */
  readonly isClosing: boolean
}

export class WorkerConnection {
  readonly workerId: string
  readonly environment: string
  readonly instance: string
  readonly session: string
  readonly #options: WorkerConnectionOptions<WorkerConnection>
  readonly #engine: RemoteSession
  readonly #deliveries: Deliveries
  readonly #lateJobs: LateJobs
  #since: string | undefined
  /** How many jobs the worker has asked for in total. */
  #totalAsked = 0
  /** For how many of these jobs the worker has withdrawn its request, in total. */
  #totalWithdrawn = 0
  #poll: Poll | undefined
  /** The connection on which the worker was last seen. */
  #connection: WatchedConnection
  /** Cancels the close listener of each connection on which the worker was seen. */
  readonly #watched = new Map<WatchedConnection, () => void>()
  /** The fiber that waits for an absent worker. */
  #absenceFiber: Fiber.Fiber<void> | undefined
  /** The jobs that the worker last named as active. */
  #activeJobIds: ReadonlySet<string>
  readonly #reportedSteps = new ReportedSteps()
  #heardAt = 0
  #heardSinceCheck = true
  /** Completes with the next message of the worker; `undefined` while nothing waits for one. */
  #nextMessage: Deferred.Deferred<void> | undefined
  readonly #batches: ReceivedReportBatches
  #answerScheduled = false
  #unreachable = false
  /** Whether a worker with a stream was told that the engine stops. */
  #wasToldOfStop = false
  #closing = false
  #abandoned = false
  #ended = false

  /** `earlier` is the session of the same instance that this one replaces. */
  constructor(options: WorkerConnectionOptions<WorkerConnection>, earlier?: WorkerConnection) {
    this.workerId = options.workerId
    this.environment = options.environment
    this.instance = options.instance
    this.session = options.session
    this.#options = options
    this.#engine = options.engine
    this.#deliveries = options.deliveries
    this.#connection = options.connection
    this.#activeJobIds = new Set(options.jobs)
    this.#batches = new ReceivedReportBatches(
      options,
      earlier === undefined ? undefined : earlier.#batches,
      options.engine.batchElsewhere
    )
    options.deliveries.now = options.now
    this.#lateJobs = new LateJobs({
      ...options,
      extend: (jobIds) => this.#extend(jobIds),
      onChecked: () => {
        if (!this.#ended) options.stream?.wake()
      }
    })
    options.deliveries.running = () => this.#reportedSteps.turnsAt(options.now())
    options.deliveries.onMore(() => this.#answerSoon())
    this.#arrived(options.connection)
  }

  /** An id after which the ids of all jobs of this instance sort; `undefined` before the registration is complete. */
  get since(): string | undefined {
    return this.#since
  }

  /** Whether the worker has the function. */
  hasFunction(functionId: string): boolean {
    return this.#options.functionIds.has(functionId)
  }

  /** Whether a poll is open now. */
  get isPolling(): boolean {
    return this.#poll !== undefined
  }

  /** Whether the connection on which the worker was last seen is open. */
  get isPresent(): boolean {
    return this.#connection.isOpen
  }

  /**
   * Whether the worker's process is known to have ended. `false` also where the end of a process cannot be detected.
   */
  get processEnded(): boolean {
    const { process } = this.#options
    return process !== undefined && hasEnded(process)
  }

  /**
   * Completes with the next message of the worker, or when its connection closes or its session ends. The poll of a polling
   * worker is answered, so that the worker sends a message soon.
   */
  readonly awaitMessage: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#ended) return Effect.void
    const message = (this.#nextMessage ??= Deferred.makeUnsafe<void>())
    this.#answerPoll()
    return Deferred.await(message)
  })

  /** When the worker counts as dead unless it sends something, by the monotonic clock of the options. */
  get deadline(): number {
    const { leaseMs, now, renews } = this.#options
    // a worker that does not name the jobs it renews is alive as long as its poll is open
    return (this.#poll === undefined || renews ? this.#heardAt : now()) + leaseMs
  }

  /** Whether messages from and to the worker have a checksum: see `Protocol/Seal.ts`. */
  get seals(): boolean {
    return this.#options.seals
  }

  /** Whether the worker has connected to another engine. */
  get hasMovedAway(): boolean {
    return this.#engine.hasMovedAway()
  }

  /** Whether the session is over. */
  get hasEnded(): boolean {
    return this.#ended
  }

  /** Whether there is something to send on the stream: deliveries that may go out now, or the news that the engine stops. */
  get hasMore(): boolean {
    if (this.#deliveries.isEmpty) return this.#closing && !this.#wasToldOfStop
    return this.#lateJobs.mayGo()
  }

  /** The new deliveries of a stream. A stream loses nothing, so they are not kept. */
  takeNew(): DeliveredBatch {
    if (this.#closing) this.#wasToldOfStop = true
    return this.#answer(this.#deliveries.takeWithoutKeeping())
  }

  /** Notes a message of the worker on its stream. */
  noteMessage(): void {
    this.#arrived(this.#connection)
  }

  /** Takes the worker's free room and active jobs. Completes when the leases of these jobs are extended. */
  takeRoom(request: RoomRequest): Effect.Effect<void, IronflowError> {
    return Effect.suspend((): Effect.Effect<void, IronflowError> => {
      if (this.#abandoned) return this.#notHere
      this.#makeRoom(request)
      return this.#renew(request)
    })
  }

  /** Waits until there is something to deliver, at most for as long as the worker asks. */
  poll(request: PollRequest, connection: WatchedConnection): Effect.Effect<DeliveredBatch, IronflowError> {
    return Effect.suspend((): Effect.Effect<DeliveredBatch, IronflowError> => {
      this.#arrived(connection)
      this.#deliveries.confirm(request.seen)
      if (this.#abandoned) return this.#deliveries.isEmpty ? this.#notHere : this.#wait(request)
      this.#makeRoom(request)
      return Effect.andThen(this.#renew(request), Effect.andThen(this.#lateJobs.check, this.#wait(request)))
    })
  }

  #wait(request: PollRequest): Effect.Effect<DeliveredBatch, StoreError> {
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
            this.#checkLate
          ),
          // if a newer poll is open, that poll gets the deliveries
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

  /** Applies a batch of reports, or returns the answer that was given to it before. */
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

  /**
   * Ends the session if the worker is dead. Otherwise renews the leases of a worker that was heard since the last check, unless
   * the worker names the jobs to renew itself. Must run at least three times during a lease.
   */
  readonly checkAlive: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#options.now() >= this.deadline) return this.#options.onDead(this)
    const heard = this.#poll !== undefined || this.#heardSinceCheck
    this.#heardSinceCheck = false
    // the process is checked too: a proxy in between may keep the connection of a dead worker open
    if (!heard) return this.processEnded ? this.#endAsDead : Effect.void
    if (this.#options.renews) return Effect.void
    return Effect.catch(Effect.asVoid(this.#engine.extend()), (error) =>
      Effect.logError(
        `The leases of worker ${this.workerId} could not be extended: this is tried again, but if they expire, its runs go to other workers`,
        error
      )
    )
  })

  /**
   * Completes a registration. The answer to the registration tells the worker to drop the active jobs `lost`, which are noted here.
   * Jobs that the worker was told to drop in its earlier session, and that it no longer names, count as dropped. The effect ends
   * when that is stored.
   */
  completeRegistration(
    { leftAlone, lost, since }: Omit<Adoption, "notices">,
    earlier: WorkerConnection | undefined
  ): Effect.Effect<void, StoreError> {
    this.#since = since
    const { droppingJobs } = this.#deliveries
    // the worker need not drop jobs of an earlier worker with its id
    for (const jobId of leftAlone) droppingJobs.delete(jobId)
    for (const jobId of lost) droppingJobs.set(jobId, 0)
    const earlierDropping = earlier === undefined ? [] : [...earlier.#deliveries.droppingJobs.keys()]
    return this.#dropped(earlierDropping.filter((jobId) => !this.#activeJobIds.has(jobId)))
  }

  /** Checks late jobs. A worker that is no longer known here gets what is left to deliver without a check. */
  readonly #checkLate = Effect.suspend(() => (this.#abandoned ? Effect.void : this.#lateJobs.check))

  /** Takes the worker's active jobs: renews the leases of these jobs, and tells the worker which leases it has lost. */
  #renew({ holding, running, seen }: Renewal): Effect.Effect<void, StoreError> {
    if (holding === undefined) return Effect.void
    this.#reportedSteps.update(running, this.#options.now())
    const dropped = this.#newlyDropped(holding, seen)
    const extended = holding.length === 0 ? Effect.void : this.#extend(holding)
    return Effect.andThen(this.#dropped(dropped), extended)
  }

  /** Renews the leases of these jobs, and tells the worker which leases it has lost. */
  #extend(jobIds: ReadonlyArray<string>): Effect.Effect<void, StoreError> {
    return Effect.map(this.#engine.extend(jobIds), (gone) => {
      for (const jobId of gone) {
        const reason = "its lease has run out, or the run has ended"
        this.#deliveries.handlers.onNotice({ _tag: "LeaseLost", jobId, reason })
      }
    })
  }

  /**
   * The jobs that the worker was told to drop, and has dropped. A job counts as dropped if the worker does not name it now, and has
   * seen the notice or has named the job before. Any other job may still be in transit, and may yet begin.
   */
  #newlyDropped(holding: ReadonlyArray<string>, seen: number | undefined): ReadonlyArray<string> {
    const { droppingJobs } = this.#deliveries
    const activeBefore = this.#activeJobIds
    this.#activeJobIds = new Set(holding)
    const dropped = [...droppingJobs]
      .filter(
        ([jobId, seq]) => !this.#activeJobIds.has(jobId) && ((seen ?? -1) >= seq || activeBefore.has(jobId))
      )
      .map(([jobId]) => jobId)
    for (const jobId of dropped) droppingJobs.delete(jobId)
    return dropped
  }

  #dropped(jobIds: ReadonlyArray<string>): Effect.Effect<void, StoreError> {
    if (jobIds.length === 0) return Effect.void
    return Effect.tapError(this.#engine.noteDropped(jobIds), () =>
      // the engine is told of these jobs again with the next renewal
      Effect.sync(() => jobIds.forEach((jobId) => this.#deliveries.droppingJobs.set(jobId, 0)))
    )
  }

  /** Answers the poll, because the engine is about to stop. The leases stay. */
  goAway(): void {
    this.#closing = true
    this.#options.stream?.wake()
    this.#answerPoll()
  }

  /** Delivers what is left, and then tells the worker that it is unknown here, because another engine has the database. */
  abandon(): void {
    this.#abandoned = true
    this.goAway()
  }

  get #notHere(): Effect.Effect<never, IronflowError> {
    const text = `Worker "${this.workerId}" is not known here: another engine has taken over the database of this one`
    return Effect.fail(new WorkerUnknownError(text))
  }

  /** Ends the session. `hasDied` means that the worker has died. Jobs that were never sent to it do not count as lost. */
  end(hasDied: boolean): Effect.Effect<void> {
    return this.#end(Effect.suspend(() => this.#engine.close(hasDied)))
  }

  /**
   * Ends the session of a worker that has moved to another engine. The worker keeps its turns there, except for those that this
   * engine never sent.
   */
  endMoved(): Effect.Effect<void> {
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
          `The runs of worker ${this.workerId} could not be released: no other worker gets them until their leases expire`,
          error
        )
      ).pipe(Effect.ensuring(Effect.sync(() => this.#endWaitForMessage())))
    })
  }

  /** Ends the session because a new one of the same instance replaces it. The leases stay. */
  replace(): void {
    this.#stop()
    this.#engine.detach()
    this.#endWaitForMessage()
  }

  #stop(): void {
    this.#ended = true
    this.#absenceFiber?.interruptUnsafe()
    // the listeners are removed, because a connection outlives many sessions
    for (const stop of this.#watched.values()) stop()
    this.#watched.clear()
    this.#answerPoll()
    this.#options.stream?.end()
  }

  #makeRoom({ asked = 0, withdrawn = 0 }: Room): void {
    // the numbers of a request are totals, which only grow, so a request that arrives late has no effect
    const change = Math.max(0, asked - this.#totalAsked) - Math.max(0, withdrawn - this.#totalWithdrawn)
    this.#totalAsked = Math.max(this.#totalAsked, asked)
    this.#totalWithdrawn = Math.max(this.#totalWithdrawn, withdrawn)
    if (change !== 0) this.#engine.makeRoom(change)
  }

  /** Answers at the end of this microtask, so that all dispatches of one commit go out together. */
  #answerSoon(): void {
    const { stream } = this.#options
    if ((this.#poll === undefined && stream === undefined) || this.#answerScheduled) return
    this.#answerScheduled = true
    queueMicrotask(() => {
      this.#answerScheduled = false
      stream?.wake()
      this.#answerPoll()
    })
  }

  /** Answers the open poll with what there is. */
  #answerPoll(): void {
    const poll = this.#poll
    if (poll === undefined) return
    this.#poll = undefined
    // the open poll has shown until now that the worker is present
    if (!this.#options.renews) this.#heardAt = this.#options.now()
    Deferred.doneUnsafe(poll.woken, Exit.void)
  }

  #answer(deliveries: ReadonlyArray<string>): DeliveredBatch {
    return { deliveries, isClosing: this.#closing }
  }

  #arrived(connection: WatchedConnection): void {
    this.#absenceFiber?.interruptUnsafe()
    this.#absenceFiber = undefined
    this.#heardAt = this.#options.now()
    this.#heardSinceCheck = true
    this.#endWaitForMessage()
    if (connection !== this.#connection || this.#unreachable) {
      this.#connection = connection
      this.#unreachable = false
      this.#engine.setReachable(true)
    }
    if (this.#watched.has(connection)) return
    // the connection may have closed during the registration
    if (!connection.isOpen) return this.#connectionClosed(connection)
    const stop = connection.onClose(() => {
      this.#watched.delete(connection)
      this.#connectionClosed(connection)
    })
    this.#watched.set(connection, stop)
  }

  #endWaitForMessage(): void {
    if (this.#nextMessage === undefined) return
    Deferred.doneUnsafe(this.#nextMessage, Exit.void)
    this.#nextMessage = undefined
  }

  /**
   * Notes that the connection on which the worker was last seen has closed. A live worker comes back on another connection: it
   * has until its leases end. If its process has ended, the session ends.
   */
  #connectionClosed(connection: WatchedConnection): void {
    if (this.#ended || this.#connection !== connection) return
    this.#endWaitForMessage()
    this.#unreachable = true
    this.#engine.setReachable(false)
    if (this.#options.process === undefined) return
    this.#absenceFiber = this.#options.fork(
      Effect.suspend(() => (this.processEnded ? this.#endAsDead : Effect.void)).pipe(
        Effect.repeat({ schedule: PROCESS_CHECKS, until: () => this.#ended }),
        Effect.asVoid
      )
    )
  }

  readonly #endAsDead: Effect.Effect<void> = Effect.suspend(() => {
    // the end of the session interrupts this fiber, which must not interrupt itself
    this.#absenceFiber = undefined
    return this.#options.onDead(this)
  })
}

const NOTHING: DeliveredBatch = { deliveries: [], isClosing: false }
