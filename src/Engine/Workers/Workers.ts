/** Registers workers with their functions. They get runs while they are connected. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { WorkerInfo } from "../../Client/Client.ts"
import { validated } from "../../CheckAsEffect.ts"
import {
  ConnectionError,
  LimitExceededError,
  type StaleRequestError,
  type StoreError,
  ValidationError
} from "../../Errors.ts"
import * as Limits from "../../Limits.ts"
import type { WorkerHandlers, WorkerRegistration, WorkerSession } from "../../Protocol/Worker.ts"
import { Functions } from "../Functions/Functions.ts"
import { Projections } from "../Projections/Projections.ts"
import { failWhenLost } from "../Store/FailWhenLost.ts"
import { Store } from "../Store/Store.ts"
import { SystemEvents } from "../SystemEvents/SystemEvents.ts"
import { Turns } from "../Turns/Turns.ts"
import { logOutdatedFunctions, logTakenOver, makeAnnouncements } from "./AnnounceWorkers.ts"
import { type ConnectedWorker, registrationLength } from "./ConnectedWorker.ts"
import type { ConnectedWorkers } from "./ConnectedWorkers.ts"
import { Dispatch } from "./Dispatch.ts"
import { RemoteWorkers } from "./RemoteWorkers.ts"
import type { RemoteSession, RemoteWorkerOptions } from "./RemoteSession.ts"
import type { Left } from "./LiveRegistrations.ts"
import { makeRestoredRegistrations } from "./RestoredRegistrations.ts"
import { Sessions } from "./Sessions.ts"
import { makeSharedWorkers, MAX_LEAVING_MS } from "./SharedWorkers.ts"

export interface WorkersService {
  /**
   * Registers a worker of this process and its functions; the worker gets runs until the scope ends. Fails with `ValidationError`
   * when a worker with this id is connected already or a trigger is invalid.
   */
  readonly connect: (
    registration: WorkerRegistration,
    handlers: WorkerHandlers
  ) => Effect.Effect<WorkerSession, ConnectionError | ValidationError, Scope.Scope>
  /**
   * Registers a worker outside this process and its functions. The caller ends the session. Fails with `ValidationError` when a
   * worker with this id is connected already or a trigger is invalid, and with code `STALE_REGISTRATION` when the same process has
   * registered at another engine since.
   */
  readonly connectRemote: (
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: RemoteWorkerOptions
  ) => Effect.Effect<RemoteSession, ValidationError | StoreError | StaleRequestError>
  /**
   * {@link connectRemote} for a push endpoint, which numbers no registrations. Does not run the followers of the registered
   * functions (`FunctionsService.runFollowers`), since push itself is such a follower.
   */
  readonly connectEndpoint: (
    ...args: Parameters<WorkersService["connectRemote"]>
  ) => Effect.Effect<RemoteSession, ValidationError | StoreError>
  /**
   * The workers that connect to one port of a server, until the scope ends. A worker with the turn protocol may be silent for `leaseMs` before its runs go
   * to other workers.
   */
  readonly atPort: (leaseMs: number) => Effect.Effect<RemoteWorkers, never, Scope.Scope>
  /** The workers of an environment, as shown in lists. */
  readonly list: (environment: string) => Effect.Effect<ReadonlyArray<WorkerInfo>, StoreError>
  /** Workers and turns of all environments. */
  readonly load: () => { readonly workers: number; readonly activeJobs: number; readonly credit: number }
}

export class Workers extends Context.Service<Workers, WorkersService>()("@ironflow/node/Engine/Workers") {}

export const layer: Layer.Layer<
  Workers,
  never,
  Store | Functions | Dispatch | Turns | Projections | SystemEvents
> = Layer.effect(
  Workers,
  Effect.gen(function* () {
    const store = yield* Store
    const functions = yield* Functions
    const projections = yield* Projections
    const system = yield* SystemEvents
    const turns = yield* Turns
    const dispatch = yield* Dispatch
    const clock = yield* Clock.Clock
    const { connected } = dispatch
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const shared = yield* makeSharedWorkers(store, dispatch)
    const sessions = new Sessions(store, dispatch, shared.storeInfo)
    const stop = turns.onReported((...reported) => sessions.noteReports(...reported))
    yield* Effect.addFinalizer(() => Effect.sync(stop))

    const { announce, announceAtPort } = makeAnnouncements(system, clock)
    const check = (registration: WorkerRegistration): Effect.Effect<void, ValidationError> =>
      validated(() => {
        checkId(registration.workerId, connected)
        functions.check(registration.environment, registration.functions)
        checkRoom(registration, connected)
      })
    // another worker may have connected while the functions were stored
    const checkAgain = ({ workerId }: WorkerRegistration) => validated(() => checkId(workerId, connected))
    /** Stores the functions of a worker. Returns the ids of the functions of which another version stays the latest. */
    const storeFunctions = ({ environment, functions: all, startedAt, workerId }: WorkerRegistration) =>
      Effect.suspend(() => {
        const pushed = all.flatMap(({ endpointUrl, id }) => {
          const url = endpointUrl === undefined ? functions.find(environment, id)?.endpointUrl : undefined
          return url === undefined ? [] : [{ id, url }]
        })
        const pinning = all.flatMap(({ id, versioning }) => (versioning === "pin" ? [id] : []))
        const storing =
          pinning.length === 0
            ? functions.put(environment, all, startedAt)
            : Effect.flatMap(shared.readOtherEngineWorkers, () =>
                functions.put(
                  environment,
                  all,
                  startedAt,
                  connected.liveVersions(environment, pinning, workerId)
                )
              )
        if (pushed.length === 0) return storing
        return Effect.tap(storing, (keptNewer) =>
          logTakenOver(
            workerId,
            pushed.filter(({ id }) => !keptNewer.includes(id))
          )
        )
      })

    const registrations = yield* makeRestoredRegistrations({
      connected,
      functions,
      readElsewhere: shared.readOtherEngineWorkers
    })
    dispatch.onGoneElsewhere(registrations.mayHaveLeft)
    const leftOf = ({ functions: codeVersions, registration: { environment } }: ConnectedWorker): Left => ({
      environment,
      codeVersions
    })

    let connections = 0
    const newSession = (): string => `${store.node ?? 0}.${++connections}`

    const connect: WorkersService["connect"] = (registration, handlers) =>
      Effect.gen(function* () {
        yield* check(registration)
        const notStored = (error: StoreError | ValidationError | StaleRequestError) =>
          error instanceof ValidationError
            ? error
            : new ConnectionError(`The engine could not store the functions: ${error.message}`, {
                cause: error
              })
        // if a killed process had a worker with this id, that worker is forgotten within FREE_WAIT_MS
        yield* Effect.mapError(shared.awaitFreeId(registration.workerId, undefined, FREE_WAIT_MS), notStored)
        const keptNewer = yield* Effect.mapError(storeFunctions(registration), notStored)
        yield* logOutdatedFunctions(registration.workerId, keptNewer)
        registrations.keptOut(registration.environment, keptNewer)
        yield* Effect.mapError(
          functions.runFollowers,
          (error) => new ConnectionError(error.message, { cause: error })
        )
        const { session } = yield* Effect.acquireRelease(
          Effect.andThen(
            checkAgain(registration),
            Effect.suspend(() => {
              const worker = connected.add(registration, handlers, {
                transport: "memory",
                connectedAt: clock.currentTimeMillisUnsafe(),
                session: newSession(),
                endsTurns: true
              })
              return Effect.as(
                Effect.tapError(shared.claimHere(worker), () =>
                  Effect.sync(() => connected.remove(registration.workerId))
                ),
                { session: sessions.sessionOf(worker), worker }
              )
            }).pipe(
              Effect.mapError(notStored),
              Effect.tap(() => announce(registration, "connected", "in this process"))
            )
          ),
          ({ worker }) =>
            releaseRuns(
              registration.workerId,
              shared.endAndCallOthers(sessions.disconnect(registration.workerId, false))
            ).pipe(
              Effect.andThen(announce(registration, "disconnected", "in this process")),
              Effect.andThen(registrations.left(leftOf(worker)))
            )
        )
        return {
          makeRoom: (n) => session.makeRoom(n),
          report: (reports) => session.report(reports),
          late: (late) => session.late(late),
          ...(store.leaseFreshness === undefined ? {} : { leaseFreshness: store.leaseFreshness }),
          projections: projections.feed(registration.environment, registration.workerId)
        }
      })

    const connectOutside = (
      registration: WorkerRegistration,
      handlers: WorkerHandlers,
      options: RemoteWorkerOptions,
      runFollowers: Effect.Effect<void, ValidationError | StoreError>
    ) =>
      Effect.gen(function* () {
        yield* check(registration)
        const keptNewer = yield* storeFunctions(registration)
        registrations.keptOut(registration.environment, keptNewer)
        // the functions may have been those of a push endpoint, which gives them up now
        yield* runFollowers
        yield* checkAgain(registration)
        const worker = connected.add(registration, handlers, {
          ...options,
          session: newSession(),
          connectedAt: clock.currentTimeMillisUnsafe()
        })
        const { batchElsewhere, hasMovedHere } = yield* Effect.tapError(
          shared.claimHere(worker, options),
          () => Effect.sync(() => connected.remove(registration.workerId))
        )
        const session = sessions.remoteSessionOf(worker, options.leaseMs)
        yield* announceAtPort(registration, keptNewer, { hasMovedHere, instance: options.instance })
        return {
          ...session,
          ...(batchElsewhere === undefined ? {} : { batchElsewhere }),
          detach: () => {
            session.detach()
            shared.releaseHere(worker)
            registrations.mayHaveLeft(leftOf(worker))
          },
          close: (lost: boolean) =>
            shared
              .endAndCallOthers(session.close(lost))
              .pipe(
                Effect.andThen(announce(registration, "disconnected", lost ? "lost" : "at the port")),
                Effect.andThen(registrations.left(leftOf(worker)))
              )
        }
      })
    const connectRemote: WorkersService["connectRemote"] = (...args) =>
      connectOutside(...args, functions.runFollowers)

    return Workers.of({
      connect,
      connectRemote,
      connectEndpoint: (...args) =>
        Effect.catchTag(connectOutside(...args, Effect.void), "StaleRequestError", Effect.die),
      atPort: (leaseMs) =>
        Effect.gen(function* () {
          const scope = yield* Scope.Scope
          const remote = new RemoteWorkers({
            connect: connectRemote,
            awaitFreeId: (workerId, instance) =>
              // if the id is still taken after that time, the connection is refused
              Effect.ignore(shared.awaitFreeId(workerId, instance, Math.max(leaseMs + 1000, FREE_WAIT_MS))),
            onStale: () => turns.countStale("staleReports"),
            clock: yield* Clock.Clock,
            leaseMs,
            fork: (effect) => Fiber.runIn(runFork(effect), scope)
          })
          yield* Effect.forkScoped(
            Effect.catch(failWhenLost(store), () => Effect.sync(() => remote.abandon()))
          )
          return remote
        }),
      list: (environment) => Effect.map(shared.readOtherEngineWorkers, () => connected.list(environment)),
      load: () => connected.load
    })
  })
)

/** How long to wait for another engine to release a worker id, in milliseconds. */
const FREE_WAIT_MS = 20_000

/**
 * Disconnects a worker, and logs when that fails. A failure loses nothing: the leases are taken back when the database is opened
 * again, or by another engine.
 */
const releaseRuns = (
  workerId: string,
  disconnecting: Effect.Effect<void, StoreError>
): Effect.Effect<void> => {
  const cannot = `The runs of worker ${workerId} could not be released, and continue when the database is opened again, or at another engine`
  return Effect.matchEffect(Effect.timeoutOption(Effect.interruptible(disconnecting), MAX_LEAVING_MS), {
    onSuccess: (result) =>
      Option.isSome(result)
        ? Effect.void
        : Effect.logWarning(`${cannot}: the database has not answered for ${MAX_LEAVING_MS / 1000} s`),
    onFailure: (error) => Effect.logWarning(cannot, error)
  })
}

const checkId = (workerId: string, connected: ConnectedWorkers): void => {
  if (!connected.has(workerId)) return
  throw new ValidationError(
    `A worker with id "${workerId}" is connected already, and no two workers may have the same id. ` +
      "Give this one another id, or stop the other first"
  )
}

/** Limits what workers register, because all of that is kept in memory while the workers are connected. */
const checkRoom = (registration: WorkerRegistration, connected: ConnectedWorkers): void => {
  const { hostname, labels, version, workerId } = registration
  const whose = `of worker "${workerId}"`
  Limits.checkLength(`The hostname ${whose}`, hostname, Limits.nameLength)
  Limits.checkLength(`The version ${whose}`, `${version.sdk} ${version.runtime}`, Limits.expressionLength)
  Limits.checkEntries(`The list of labels ${whose}`, labels)
  Limits.checkSize(`The labels ${whose}`, JSON.stringify(labels), Limits.metadataBytes)
  const all = connected.registeredLength + registrationLength(registration)
  if (all > Limits.connectedBytes) {
    throw new LimitExceededError(
      "What all connected workers have registered together",
      all,
      Limits.connectedBytes,
      "characters",
      { advice: "Stop some of them, or give each fewer functions" }
    )
  }
}
