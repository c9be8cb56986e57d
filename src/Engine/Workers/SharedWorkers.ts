/**
 * Which worker is connected to which engine, where several engines share the database. An engine claims the workers that connect
 * to it, tells the other engines of these workers, and follows what the other engines do. With a single engine there is nothing
 * to do.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { StaleRequestError, type StoreError, ValidationError } from "../../Errors.ts"
import type { TurnAck } from "../../Protocol/Worker.ts"
import * as EngineWorkers from "../Runs/EngineWorkers.ts"
import * as SharedCopy from "../Store/SharedCopy.ts"
import type { StoreService } from "../Store/Store.ts"
import { type ConnectedWorker, endsWithEngine, loseTurns } from "./ConnectedWorker.ts"
import type { DispatchService } from "./Dispatch.ts"
import { encodeWorker } from "./OtherEngineWorkers.ts"
import type { RemoteSession, RemoteWorkerOptions } from "./RemoteSession.ts"

/** How long the store may take to note that workers have left, in milliseconds. */
export const MAX_LEAVING_MS = 5000

/** How often to check whether another engine has released a worker id, in milliseconds. */
const FREE_CHECK_MS = 250

/** The result of {@link SharedWorkers.claimHere}. */
interface ClaimedWorker extends Pick<RemoteSession, "batchElsewhere"> {
  /** Whether the same process of the worker was connected to another engine before. */
  readonly hasMovedHere: boolean
}

export interface SharedWorkers {
  /** Reads the workers of other engines now: news of them may still be under way. */
  readonly readOtherEngineWorkers: Effect.Effect<void, StoreError>
  /** Waits until no other process uses this worker id at another engine; at most `waitMs` milliseconds. */
  readonly awaitFreeId: (
    workerId: string,
    instance: string | undefined,
    waitMs: number
  ) => Effect.Effect<void, StoreError>
  /**
   * Stores that a worker is connected to this engine, and so to no other. Fails with `ValidationError` when another process with
   * this id is connected to another engine, and with `StaleRequestError` when the worker's process has since registered at another
   * engine.
   */
  readonly claimHere: (
    worker: ConnectedWorker,
    options?: Pick<RemoteWorkerOptions, "instance" | "number">
  ) => Effect.Effect<ClaimedWorker, StoreError | ValidationError | StaleRequestError>
  /**
   * Stores what other engines need to know of a worker: its functions, and whether it can be reached. To be called when this has
   * changed.
   */
  readonly storeInfo: (worker: ConnectedWorker) => void
  /** Stores that a worker is not connected to this engine any more. Its leases stay as they are. */
  readonly releaseHere: (worker: ConnectedWorker) => void
  /** Ends a session in the store, and then tells the other engines to read the workers again. */
  readonly endAndCallOthers: <A, E>(ending: Effect.Effect<A, E>) => Effect.Effect<A, E>
}

/** Follows the other engines until the scope ends. Then stores that no worker is connected to this engine any more. */
export const makeSharedWorkers = (
  store: StoreService,
  dispatch: DispatchService
): Effect.Effect<SharedWorkers, never, Scope.Scope> =>
  store.node === undefined ? Effect.succeed(nothingShared) : makeAmongOthers(store, dispatch)

/** The service of an engine that is alone on its database: it shares nothing. */
const nothingShared: SharedWorkers = {
  readOtherEngineWorkers: Effect.void,
  awaitFreeId: () => Effect.void,
  claimHere: () => Effect.succeed({ hasMovedHere: false }),
  storeInfo: () => undefined,
  releaseHere: () => undefined,
  endAndCallOthers: (ending) => ending
}

const makeAmongOthers = (
  store: StoreService,
  dispatch: DispatchService
): Effect.Effect<SharedWorkers, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { connected } = dispatch
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const callOthers = (): void => store.markStale?.("workers")

    let reads = 0
    let newestRead = 0
    const readWorkers = Effect.suspend(() => {
      const number = ++reads
      return Effect.tap(store.read(EngineWorkers.readWorkers()), (workers) =>
        Effect.sync(() => {
          // a read that began later has ended already, and has newer rows
          if (number < newestRead) return
          newestRead = number
          dispatch.setOtherEngineWorkers(workers)
        })
      )
    })
    // each time the list was read, ends the sessions of workers that have moved to another engine
    const copy = yield* SharedCopy.make(
      "the list of workers",
      Effect.suspend(() => {
        const claimed = [...connected.all()].filter(({ isClaimed }) => isClaimed)
        return Effect.map(readWorkers, (workers) => ({ claimed, workers }))
      }),
      ({ claimed, workers }) => {
        const sessions = new Map(
          workers.filter(({ isHere }) => isHere).map(({ session, workerId }) => [workerId, session])
        )
        for (const worker of claimed) {
          const { workerId } = worker.registration
          if (connected.get(workerId) !== worker || sessions.get(workerId) === worker.session) continue
          worker.hasMovedAway = true
          // notices for the worker may have arrived here since it left: its new engine reads the notices of its turns again
          store.markStale?.("turns")
          worker.onMoved?.(workerId)
        }
      }
    )
    const stopLooking = store.onCommit(({ stale }) => {
      if (stale.has("workers")) copy.refresh()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stopLooking))
    copy.refresh()

    /**
     * The text about a worker that is to be stored for other engines. Also remembers the functions in this text as the stored ones:
     * the caller takes this back if the text cannot be stored.
     */
    const nextInfo = (worker: ConnectedWorker): string => {
      worker.storedFunctions = connected.functionsOf(worker)
      return encodeWorker(worker, worker.storedFunctions)
    }
    const storeInfo: SharedWorkers["storeInfo"] = (worker) => {
      const { registration, session } = worker
      const { workerId } = registration
      if (!worker.isClaimed) return
      const functionsBefore = worker.storedFunctions
      runFork(
        Effect.matchEffect(store.write(EngineWorkers.updateWorkerInfo(workerId, session, nextInfo(worker))), {
          onSuccess: () => Effect.sync(callOthers),
          onFailure: (error) => {
            worker.storedFunctions = functionsBefore
            return Effect.logWarning(
              `Other engines could not be told which runs worker ${workerId} can have: ${error.message}`
            )
          }
        })
      )
    }
    dispatch.onLimitsChange(storeInfo)

    const claimHere: SharedWorkers["claimHere"] = (worker, { instance, number } = {}) => {
      const { registration, session } = worker
      const { environment, workerId } = registration
      const workerHere = {
        workerId,
        environment,
        session,
        info: nextInfo(worker),
        ...(instance === undefined ? {} : { instance }),
        ...(number === undefined ? {} : { number })
      }
      return Effect.flatMap(
        store.write(EngineWorkers.connectWorker(workerHere)),
        (result): Effect.Effect<ClaimedWorker, ValidationError | StaleRequestError> => {
          if (result._tag === "Elsewhere") {
            return Effect.fail(
              new ValidationError(
                result.environment === environment
                  ? `A worker with id "${workerId}" is connected already, to another engine (${result.engine}), and no two workers may have the same id. ` +
                      "Give this one another id, or stop the other first"
                  : `Worker id "${workerId}" is in use in another environment: choose another one`
              )
            )
          }
          if (result._tag === "Stale") {
            return Effect.fail(
              new StaleRequestError(
                `Registration ${number} of worker "${workerId}" has no effect: the same process has registered again since, with number ${result.number}, at another engine or port. Nothing needs to be done`,
                { code: "STALE_REGISTRATION" }
              )
            )
          }
          worker.isClaimed = true
          callOthers()
          const { acks, batch, hasMovedHere } = result
          // the list here still has the worker at the other engine
          if (hasMovedHere) copy.refresh()
          return Effect.succeed({
            hasMovedHere,
            ...(acks === undefined || batch === undefined
              ? {}
              : // written by `noteBatch`
                { batchElsewhere: { batch, acks: JSON.parse(acks) as ReadonlyArray<TurnAck> } })
          })
        }
      )
    }

    // workers of other processes stay connected until this engine ends. Releasing them now lets other engines accept them at once
    const releaseAll = Effect.suspend(() =>
      [...connected.all()].some(({ isClaimed }) => isClaimed)
        ? Effect.ignore(
            Effect.timeout(
              Effect.interruptible(
                Effect.tap(store.write(EngineWorkers.disconnectAllWorkers()), () => Effect.sync(callOthers))
              ),
              MAX_LEAVING_MS
            )
          )
        : Effect.void
    )
    yield* Effect.addFinalizer(() => releaseAll)
    // other engines may have taken over this engine's leases: the workers in this process and the push endpoints lose their turns,
    // because they must not work on runs that others have
    const stopHearingOfTakeovers = store.onPossibleTakeover?.(() => {
      for (const worker of connected.all()) if (endsWithEngine(worker)) loseTurns(worker)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => stopHearingOfTakeovers?.()))

    return {
      readOtherEngineWorkers: Effect.asVoid(readWorkers),
      awaitFreeId: (workerId, instance, waitMs) =>
        Effect.asVoid(
          Effect.timeoutOption(
            Effect.repeat(store.read(EngineWorkers.findOtherEngine(workerId, instance)), {
              schedule: Schedule.spaced(FREE_CHECK_MS),
              until: (elsewhere) => elsewhere === undefined
            }),
            waitMs
          )
        ),
      claimHere,
      storeInfo,
      releaseHere: ({ registration: { workerId }, session }) => {
        runFork(
          Effect.matchEffect(store.write(EngineWorkers.disconnectWorker(workerId, session)), {
            onSuccess: (wasHere) => Effect.sync(() => void (wasHere && callOthers())),
            onFailure: (error) =>
              Effect.logWarning(
                `Other engines could not be told that worker ${workerId} has left this engine: ${error.message}. They refuse another process with this worker id until this engine stops`
              )
          })
        )
      },
      endAndCallOthers: (ending) => Effect.tap(ending, () => Effect.sync(callOthers))
    }
  })
