/** Registers the workers outside this process that use one port of the engine, watches whether they are alive, and removes them. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import {
  type IronflowError,
  StaleRequestError,
  type StoreError,
  ValidationError,
  WorkerUnknownError
} from "../../Errors.ts"
import type { Delivery, ProcessIdentity } from "../../Protocol/Http/Turns.ts"
import type { WorkerHandlers, WorkerRegistration } from "../../Protocol/Worker.ts"
import type { WorkerLimits } from "../Access/WorkerAccess.ts"
import { Deliveries } from "./Deliveries.ts"
import { LEGACY_LEASE_MS, LegacyWorker } from "./LegacyWorker.ts"
import type { WatchedConnection } from "./WatchedConnection.ts"
import type { RemoteSession, RemoteWorkerOptions } from "./RemoteSession.ts"
import type { StreamSignals } from "./WorkerConnectionOptions.ts"
import { WorkerConnection } from "./WorkerConnection.ts"

/** The registration of a worker with the turn protocol. */
export interface TurnWorkerRegistration {
  readonly registration: WorkerRegistration
  readonly instance: string
  /** Job ids of the active turns that the worker wants to keep. */
  readonly jobs: ReadonlyArray<string>
  /** Whether the worker names the jobs whose leases it renews. */
  readonly renews: boolean
  /** Whether all messages from and to the worker have a checksum: see `Protocol/Seal.ts`. */
  readonly seals: boolean
  readonly process: ProcessIdentity | undefined
  /** The number of this registration of the instance; absent for workers that do not count them. */
  readonly number?: number
  /** The `since` of the answer to the worker's first registration: see `RegisterTurnsRequest`. */
  readonly since?: string
  /** The worker counts as present while this connection is open. */
  readonly connection: WatchedConnection
  readonly transport: string
  /** Encodes a delivery in the format of this worker. */
  readonly encode: (delivery: Delivery) => string
  /** How to reach the worker; absent for a worker that polls. */
  readonly stream?: StreamSignals
  /** Which functions the worker may run; absent for a worker that may run any of its functions. */
  readonly limits?: WorkerLimits
}

/** The last registration of an instance that took effect. */
interface Registration {
  readonly number: number
  readonly session: string
  readonly lost: ReadonlyArray<string>
}

/** The instance of all legacy workers, which do not name their process. They may use any engine at any time. */
export const LEGACY_INSTANCE = "legacy"

/**
 * Maximum number of instances whose last registration is kept. The limit does no harm, since a registration is repeated soon or
 * never.
 */
const MAX_REGISTRATIONS = 10_000

/** The handlers of a legacy worker with a stream. */
export interface LegacyStreamHandlers extends WorkerHandlers {
  readonly transport: string
  readonly onEnd: () => void
}

/**
 * In milliseconds: if a check of this engine is late by more than this, the engine itself stood still, and has not yet read what
 * arrived meanwhile.
 */
const LATE_MS = 1000

export interface RemoteWorkersOptions {
  /** Registers a worker and its functions. The caller ends the session. */
  readonly connect: (
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: RemoteWorkerOptions
  ) => Effect.Effect<RemoteSession, ValidationError | StoreError | StaleRequestError>
  /** Waits until no other engine has a worker with this id and another instance, but only for a limited time. */
  readonly awaitFreeId: (workerId: string, instance: string) => Effect.Effect<void>
  /** Called when a report is refused before it reaches the store. */
  readonly onStale: () => void
  readonly clock: Clock.Clock
  /** How long a worker with the turn protocol may be silent before its runs go to other workers, in milliseconds. */
  readonly leaseMs: number
  /** Runs an effect in the background, as long as the port is open. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
}

export class RemoteWorkers {
  readonly leaseMs: number
  readonly #options: RemoteWorkersOptions
  readonly #workers = new Map<string, WorkerConnection | LegacyWorker>()
  /** The last registration of each instance that numbers its registrations, even after the instance has left. */
  readonly #registrations = new Map<string, Registration>()
  /** Lets registrations run one by one: a worker that repeats a registration must find the result of the first. */
  readonly #registering = Semaphore.makeUnsafe(1)

  constructor(options: RemoteWorkersOptions) {
    this.#options = options
    this.leaseMs = options.leaseMs
  }

  readonly #now = (): number => Number(this.#options.clock.monotonicTimeNanosUnsafe()) / 1e6

  // Closures that a worker keeps for life are created here, not in `registerTurnWorker` or `registerLegacyWorker`. A closure
  // created there would keep its whole scope alive. That scope has the earlier worker with the same id, whose closures would keep
  // the one before it, and so on.
  readonly #onDead = (dead: WorkerConnection): Effect.Effect<void> => this.#endDead(dead)
  readonly #onMoved = (workerId: string): void => void this.#options.fork(this.#endMoved(workerId))
  readonly #wallClock = (): number => this.#options.clock.currentTimeMillisUnsafe()
  readonly #runsTurnsIn =
    (environment: string) =>
    (functionId: string): boolean =>
      this.runsTurns(environment, functionId)

  /**
   * The worker with this session. Fails for an unknown worker, which has to register again. `environment` is the environment of the
   * API key with which the call was made, if the key belongs to one. Workers of other environments are then unknown.
   */
  turnWorker(
    workerId: string,
    session: string,
    environment?: string
  ): Effect.Effect<WorkerConnection, IronflowError> {
    return Effect.suspend(() => {
      const worker = this.#workers.get(workerId)
      return worker instanceof WorkerConnection &&
        worker.session === session &&
        (environment === undefined || worker.environment === environment)
        ? Effect.succeed(worker)
        : Effect.fail(unknownWorker(workerId))
    })
  }

  /** The legacy worker with this id. `environment` as for {@link turnWorker}. */
  legacyWorker(workerId: string, environment?: string): LegacyWorker | undefined {
    const worker = this.#workers.get(workerId)
    if (!(worker instanceof LegacyWorker)) return undefined
    return environment === undefined || worker.environment === environment ? worker : undefined
  }

  /** The environment of a known worker. `environment` as for {@link turnWorker}. */
  environmentOf(workerId: string, environment?: string): string | undefined {
    const workerEnvironment = this.#workers.get(workerId)?.environment
    return environment === undefined || workerEnvironment === environment ? workerEnvironment : undefined
  }

  /**
   * Registers a worker with the turn protocol, for the first time or again. Returns the worker's connection, and the jobs that the
   * worker no longer holds.
   */
  registerTurnWorker(
    turnRegistration: TurnWorkerRegistration
  ): Effect.Effect<
    { readonly worker: WorkerConnection; readonly lost: ReadonlyArray<string> },
    ValidationError | StoreError | IronflowError
  > {
    const {
      registration,
      encode,
      instance,
      jobs,
      limits,
      connection,
      number,
      process,
      renews,
      seals,
      since,
      stream,
      transport
    } = turnRegistration
    const { workerId } = registration
    const registering = this.#oneByOne(
      Effect.gen({ self: this }, function* () {
        const registrationKey = JSON.stringify([workerId, instance])
        const last = number === undefined ? undefined : this.#registrations.get(registrationKey)
        if (last !== undefined && number !== undefined && number <= last.number) {
          // the session of a stream ends with that stream, so it is never returned again
          const current = this.#workers.get(workerId)
          const isCurrent = current instanceof WorkerConnection && current.session === last.session
          if (number === last.number && isCurrent && stream === undefined)
            return { worker: current, lost: last.lost }
          return yield* new StaleRequestError(
            number === last.number
              ? `Registration ${number} of worker "${workerId}" has arrived before: the repetition has no effect, and nothing needs to be done`
              : `Registration ${number} of worker "${workerId}" has no effect: the same process has registered again since, with number ${last.number}. Nothing needs to be done`,
            { code: "STALE_REGISTRATION" }
          )
        }
        const earlier = this.#workers.get(workerId)
        yield* checkEnvironment(workerId, earlier, registration.environment)
        const earlierSession =
          earlier instanceof WorkerConnection && earlier.instance === instance ? earlier : undefined
        if (earlierSession !== undefined) earlierSession.replace()
        else if (earlier !== undefined) yield* this.#replaceEarlier(earlier)
        // the session of the earlier worker has ended, whether or not the new registration succeeds
        this.#workers.delete(workerId)
        const deliveries = new Deliveries(encode)
        const engine = yield* this.#options.connect(registration, deliveries.handlers, {
          transport,
          leaseMs: this.leaseMs,
          endsTurns: true,
          instance,
          onMoved: this.#onMoved,
          ...(number === undefined ? {} : { number }),
          ...(limits === undefined ? {} : { limits })
        })
        const session = `ses_${(yield* Random.nextIntBetween(0, 2 ** 48)).toString(36)}`
        const worker = new WorkerConnection(
          {
            workerId,
            environment: registration.environment,
            instance,
            session,
            engine,
            deliveries,
            jobs,
            functionIds: new Set(registration.functions.map(({ id }) => id)),
            leaseMs: this.leaseMs,
            renews,
            seals,
            process,
            now: this.#now,
            connection,
            ...(stream === undefined ? {} : { stream }),
            fork: this.#options.fork,
            onDead: this.#onDead,
            onStale: this.#options.onStale
          },
          earlierSession
        )
        this.#workers.set(workerId, worker)
        const { lost } = yield* Effect.tapError(
          Effect.tap(engine.adopt(jobs, earlierSession?.since ?? since), (adoption) =>
            worker.completeRegistration(adoption, earlierSession)
          ),
          // the worker's turns are left as they are: it may still work on them, and register again
          () => Effect.sync(() => this.#forget(worker))
        )
        if (number !== undefined) this.#remember(registrationKey, { number, session, lost })
        return { worker, lost }
      })
    )
    return Effect.andThen(
      this.#awaitEarlier(workerId, instance),
      Effect.andThen(this.#options.awaitFreeId(workerId, instance), registering)
    )
  }

  /**
   * Registers a legacy worker, for the first time or again. A worker that registers again keeps its leases. `stream` is for a
   * worker that does not poll.
   */
  registerLegacyWorker(
    registration: WorkerRegistration,
    stream?: LegacyStreamHandlers,
    limits?: WorkerLimits
  ): Effect.Effect<
    { readonly worker: LegacyWorker; readonly engine: RemoteSession },
    ValidationError | StoreError | StaleRequestError
  > {
    const { workerId } = registration
    const registering = this.#oneByOne(
      Effect.gen({ self: this }, function* () {
        const earlier = this.#workers.get(workerId)
        yield* checkEnvironment(workerId, earlier, registration.environment)
        const isSame = earlier instanceof LegacyWorker
        if (isSame) earlier.replace()
        else if (earlier !== undefined) yield* this.#replaceEarlier(earlier)
        this.#workers.delete(workerId)
        const engine = yield* this.#options.connect(registration, stream ?? noHandlers, {
          transport: stream?.transport ?? "polling",
          leaseMs: LEGACY_LEASE_MS,
          instance: LEGACY_INSTANCE,
          onMoved: this.#onMoved,
          ...(limits === undefined ? {} : { limits })
        })
        // leases under this id may belong to another worker, so the new worker does not get them
        if (!isSame) yield* Effect.tapError(engine.adopt([]), () => Effect.sync(engine.detach))
        const worker = new LegacyWorker({
          workerId,
          environment: registration.environment,
          engine,
          hasTurnWorker: this.#runsTurnsIn(registration.environment),
          now: this.#wallClock,
          ...(stream === undefined ? {} : { onEnd: stream.onEnd })
        })
        this.#workers.set(workerId, worker)
        return { worker, engine }
      })
    )
    return Effect.andThen(
      this.#awaitEarlier(workerId),
      Effect.andThen(this.#options.awaitFreeId(workerId, LEGACY_INSTANCE), registering)
    )
  }

  /** Ends the session of a worker that leaves, and gives its leases back. */
  dismiss(workerId: string, session: string | null, environment?: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const worker = this.#workers.get(workerId)
      if (worker === undefined) return Effect.void
      if (environment !== undefined && worker.environment !== environment) return Effect.void
      if (worker instanceof WorkerConnection && worker.session !== session) return Effect.void
      return this.#end(worker, false)
    })
  }

  /** How many polls are open now. */
  get openPollCount(): number {
    let count = 0
    for (const worker of this.#workers.values())
      if (worker instanceof WorkerConnection && worker.isPolling) count++
    return count
  }

  /** Answers every open poll, because the server is about to stop. */
  goAway(): void {
    for (const worker of this.#workers.values()) if (worker instanceof WorkerConnection) worker.goAway()
  }

  /** Disconnects all workers, because another engine has the database. The workers learn of it with their next call. */
  abandon(): void {
    for (const worker of this.#workers.values()) {
      if (worker instanceof WorkerConnection) worker.abandon()
      else {
        this.#workers.delete(worker.workerId)
        worker.replace()
      }
    }
  }

  /** Ends the sessions of dead workers, and renews the leases of live ones that do not do so themselves, until the scope ends. */
  readonly watch: Effect.Effect<void, never, Scope.Scope> = Effect.suspend(() => {
    const dueAt = this.#nextCheckAt
    return Effect.andThen(
      Effect.sleep(dueAt - this.#now()),
      // an engine that was frozen itself first waits for calls: the workers that look dead may have called meanwhile
      Effect.suspend(() => (this.#now() - dueAt > LATE_MS ? Effect.sleep(LATE_MS) : this.#checkAll))
    )
  }).pipe(Effect.forever, Effect.forkScoped, Effect.asVoid)

  readonly #checkAll: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(
      [...this.#workers.values()],
      (worker) => {
        if (worker instanceof WorkerConnection) return worker.checkAlive
        return worker.isSilent ? this.#end(worker, true) : Effect.void
      },
      { discard: true }
    )
  )

  /** When to check the workers: when the first one may be dead, and in time for the workers whose leases the engine renews. */
  get #nextCheckAt(): number {
    let next = this.#now() + this.leaseMs / 3
    for (const worker of this.#workers.values()) {
      if (worker instanceof WorkerConnection) next = Math.min(next, worker.deadline)
    }
    return next
  }

  #remember(registrationKey: string, registration: Registration): void {
    this.#registrations.delete(registrationKey)
    this.#registrations.set(registrationKey, registration)
    if (this.#registrations.size <= MAX_REGISTRATIONS) return
    for (const oldest of this.#registrations.keys()) {
      this.#registrations.delete(oldest)
      return
    }
  }

  /**
   * Registers a worker, or ends a session, while no other such effect runs. The effect is completed even if the worker hangs up:
   * when the worker registers again, it finds the result.
   */
  #oneByOne<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.uninterruptible(this.#registering.withPermits(1)(effect))
  }

  /**
   * Waits when another instance registers with the id of a connected worker. The other instance may be the same worker, restarted
   * after its machine was cut off. The connected instance has until its deadline to show that it is alive.
   */
  #awaitEarlier(workerId: string, instance?: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const earlier = this.#workers.get(workerId)
      if (!(earlier instanceof WorkerConnection) || earlier.instance === instance) return Effect.void
      if (!earlier.isPresent || earlier.processEnded) return Effect.void
      // a timer may be early by a fraction of a millisecond
      const leftMs = Math.max(0, Math.ceil(earlier.deadline - this.#now())) + 1
      return Effect.asVoid(Effect.timeoutOption(earlier.awaitMessage, leftMs))
    })
  }

  /** Handles the registration of a worker with the id of an earlier one. Fails when the earlier worker is still connected. */
  #replaceEarlier(earlier: WorkerConnection | LegacyWorker): Effect.Effect<void, ValidationError> {
    const isDead =
      earlier instanceof WorkerConnection
        ? earlier.processEnded || this.#now() >= earlier.deadline
        : earlier.isSilent
    if (isDead) return this.#end(earlier, true)
    if (earlier instanceof WorkerConnection && !earlier.isPresent) {
      return Effect.andThen(
        Effect.logWarning(
          `A second worker "${earlier.workerId}" has connected while the first one is disconnected: the runs of the first one ` +
            "go to other workers only when their leases expire, because it may still be running them"
        ),
        Effect.sync(() => this.#forget(earlier))
      )
    }
    return Effect.fail(
      new ValidationError(
        `A worker with id "${earlier.workerId}" is connected already, and no two workers may have the same id. ` +
          "Give this one another id, or stop the other first"
      )
    )
  }

  /** Ends the session of a worker that has connected to another engine on the same database. */
  #endMoved(workerId: string): Effect.Effect<void> {
    return this.#oneByOne(
      Effect.suspend(() => {
        const worker = this.#workers.get(workerId)
        // the worker may have come back
        if (worker?.hasMovedAway !== true) return Effect.void
        this.#workers.delete(workerId)
        if (worker instanceof WorkerConnection) return worker.endMoved()
        worker.replace()
        return Effect.void
      })
    )
  }

  /** Ends the session of a dead worker. Waits for a registration in progress first: it may be that of the worker's replacement. */
  #endDead(dead: WorkerConnection): Effect.Effect<void> {
    return this.#oneByOne(Effect.suspend(() => (dead.hasEnded ? Effect.void : this.#end(dead, true))))
  }

  /** Ends the session of a worker that may go on with its turns. Its leases stay. */
  #forget(worker: WorkerConnection): void {
    worker.replace()
    if (this.#workers.get(worker.workerId) === worker) this.#workers.delete(worker.workerId)
  }

  #end(worker: WorkerConnection | LegacyWorker, hasDied: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#workers.get(worker.workerId) === worker) this.#workers.delete(worker.workerId)
      return Effect.andThen(
        hasDied
          ? Effect.logWarning(
              `Worker ${worker.workerId} counts as dead (${causeOfDeath(worker)}): its runs continue on any worker that has their functions`
            )
          : Effect.void,
        worker.end(hasDied)
      )
    })
  }

  /** Whether a worker with the turn protocol has the function. */
  runsTurns(environment: string, functionId: string): boolean {
    for (const worker of this.#workers.values()) {
      if (
        worker instanceof WorkerConnection &&
        worker.environment === environment &&
        worker.hasFunction(functionId)
      )
        return true
    }
    return false
  }
}

const causeOfDeath = (worker: WorkerConnection | LegacyWorker): string =>
  worker instanceof WorkerConnection && worker.processEnded
    ? "its process has ended"
    : "it has sent nothing for too long"

/** Fails when a worker would replace one in another environment. */
const checkEnvironment = (
  workerId: string,
  earlier: { readonly environment: string } | undefined,
  environment: string
): Effect.Effect<void, ValidationError> =>
  earlier === undefined || earlier.environment === environment
    ? Effect.void
    : Effect.fail(
        new ValidationError(`Worker id "${workerId}" is in use in another environment: choose another one`)
      )

/** Legacy workers that poll get no notices: they learn of an ended turn when an update is refused. */
const noHandlers = { onJob: () => undefined, onNotice: () => undefined }

export const unknownWorker = (workerId: string): IronflowError =>
  new WorkerUnknownError(
    `Worker "${workerId}" is not known here, because the engine was restarted or the worker was away for too long: register again`
  )
