/** Makes the sessions of connected workers, which take the workers' free room and the reports of their turns. */
import * as Effect from "effect/Effect"
import type { ConnectionError, StoreError } from "../../Errors.ts"
import type { TurnAck, TurnReport, WorkerSession } from "../../Protocol/Worker.ts"
import type { Batch } from "../Runs/EngineWorkers.ts"
import type { StoreService } from "../Store/Store.ts"
import * as ExtendLeases from "../Turns/ExtendLeases.ts"
import * as LostLeases from "../Turns/LostLeases.ts"
import * as Reports from "../Turns/Reports.ts"
import { type ConnectedWorker, forgetEnded, holderOf, notStoredError, sendNotice } from "./ConnectedWorker.ts"
import type { DispatchService } from "./Dispatch.ts"
import type { RemoteSession } from "./RemoteSession.ts"

export class Sessions {
  readonly #store: StoreService
  readonly #dispatch: DispatchService
  readonly #onProblem: (worker: ConnectedWorker) => void

  /** `onProblem` is called when a worker, or one of its functions, cannot be reached for a known reason, or can be reached again. */
  constructor(store: StoreService, dispatch: DispatchService, onProblem: (worker: ConnectedWorker) => void) {
    this.#store = store
    this.#dispatch = dispatch
    this.#onProblem = onProblem
  }

  /** The session of a worker in this process. */
  sessionOf(worker: ConnectedWorker): WorkerSession {
    const { environment } = worker.registration
    return {
      makeRoom: (n) => {
        worker.room += n
        this.#dispatch.pokeIfReady()
      },
      report: (reports) => this.#report(worker, reports),
      late: ({ runId, lingerMs }) =>
        Effect.mapError(
          this.#store.write(Reports.noteHandlerWentOn(environment, runId, lingerMs)),
          notStoredError
        )
    }
  }

  #report(
    worker: ConnectedWorker,
    reports: ReadonlyArray<TurnReport>,
    batch?: Batch
  ): Effect.Effect<ReadonlyArray<TurnAck>, ConnectionError> {
    return Effect.mapBoth(this.#apply(worker, reports, batch), {
      onSuccess: (acks) => {
        forgetEnded(worker, reports, acks)
        return acks
      },
      onFailure: notStoredError
    })
  }

  /** The session of a worker outside this process. `leaseMs` is how long a lease lasts without a heartbeat. */
  remoteSessionOf(worker: ConnectedWorker, leaseMs: number): RemoteSession {
    const { connected } = this.#dispatch
    const { environment, workerId } = worker.registration
    const isCurrent = () => connected.get(workerId) === worker
    return {
      ...this.sessionOf(worker),
      setReachable: (reachable, problem) => {
        const problemBefore = worker.problem
        worker.reachable = reachable
        worker.problem = reachable ? undefined : problem
        const hasChanged = (problemBefore === undefined) !== (worker.problem === undefined)
        if (hasChanged) this.#onProblem(worker)
        // pinned runs that wait for the worker's version may go to other workers now
        if (hasChanged || (reachable && worker.room > 0)) this.#dispatch.pokeIfReady()
      },
      setFunctionProblem: (functionId, problem) => {
        const { functionProblems } = worker
        if (functionProblems.get(functionId) === problem) return
        if (problem === undefined) functionProblems.delete(functionId)
        else functionProblems.set(functionId, problem)
        this.#onProblem(worker)
        this.#dispatch.pokeIfReady()
      },
      take: (n) => this.#dispatch.take(worker, n),
      extend: (jobIds) =>
        Effect.suspend(() => {
          const requested = jobIds ?? [...worker.activeJobIds]
          const heldIds = requested.filter((jobId) => worker.activeJobIds.has(jobId))
          const unknownIds = requested.filter((jobId) => !worker.activeJobIds.has(jobId))
          if (heldIds.length === 0) return Effect.succeed(unknownIds)
          return Effect.map(
            this.#store.write(ExtendLeases.extendLeases(environment, heldIds, leaseMs, holderOf(worker))),
            (lostIds) => {
              for (const jobId of lostIds) worker.activeJobIds.delete(jobId)
              return [...unknownIds, ...lostIds]
            }
          )
        }),
      adopt: (jobIds, since) =>
        Effect.map(
          this.#store.write(
            ExtendLeases.adoptLeases(environment, workerId, jobIds, leaseMs, worker.functionIds, since)
          ),
          ({ notices, ...adoption }) => {
            const { leftAlone, lost } = adoption
            worker.earlierJobs = new Set(leftAlone)
            for (const jobId of jobIds) worker.activeJobIds.add(jobId)
            for (const jobId of lost) worker.activeJobIds.delete(jobId)
            for (const notice of notices) sendNotice(worker, notice)
            return adoption
          }
        ),
      forget: (jobId) => void worker.activeJobIds.delete(jobId),
      noteDropped: (jobIds) => this.#store.write(LostLeases.endRevokedLeases(environment, jobIds)),
      close: (hasDied) =>
        Effect.suspend(() => (isCurrent() ? this.disconnect(workerId, hasDied) : Effect.void)),
      hasMovedAway: () => worker.hasMovedAway,
      report: (reports, batch) =>
        this.#report(
          worker,
          reports,
          batch === undefined || !worker.isClaimed
            ? undefined
            : { workerId, session: worker.session, number: batch }
        ),
      detach: () => {
        if (!isCurrent()) return
        connected.remove(workerId)
        this.#dispatch.pokeIfReady()
      }
    }
  }

  /** Disconnects a worker. `hasDied` means that the worker has died, which counts as a loss of its runs. */
  disconnect(workerId: string, hasDied: boolean): Effect.Effect<void, StoreError> {
    return Effect.suspend(() => {
      const { connected } = this.#dispatch
      const worker = connected.get(workerId)
      if (worker === undefined) return Effect.void
      connected.remove(workerId)
      const { environment } = worker.registration
      return Effect.map(
        this.#store.write(
          LostLeases.releaseWorker(
            environment,
            workerId,
            hasDied,
            worker.earlierJobs,
            worker.isClaimed ? worker.session : undefined
          )
        ),
        // pinned runs that waited for the worker's version may go to other workers now
        () => this.#dispatch.pokeIfReady()
      )
    })
  }

  /**
   * Notes reports that came without the session of their worker. A turn that a report has ended, or that has lost its lease, is no
   * longer active at any worker. `environment` is the environment of the reports, if it is known.
   */
  noteReports(
    reports: ReadonlyArray<TurnReport>,
    acks: ReadonlyArray<TurnAck>,
    environment: string | undefined
  ): void {
    this.#dispatch.pokeIfReady()
    for (const worker of this.#dispatch.connected.all()) {
      // a refusal in one environment says nothing about a lease in another
      if (environment === undefined || worker.registration.environment === environment)
        forgetEnded(worker, reports, acks)
    }
  }

  #apply(
    { registration: { environment, pauses } }: ConnectedWorker,
    reports: ReadonlyArray<TurnReport>,
    batch: Batch | undefined
  ): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> {
    const options = { revokesOnPause: pauses !== true, ...(batch === undefined ? {} : { batch }) }
    return Effect.tap(Reports.applyReports(this.#store, environment, reports, options), () =>
      // a worker that has ended a turn may have room for a run that was held back, so it gets runs now
      Effect.sync(() => this.#dispatch.pokeIfReady())
    )
  }
}
