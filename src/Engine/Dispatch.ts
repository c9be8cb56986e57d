/**
 * Hands ready runs to workers with room. Nothing polls: a claim is made when an event comes in, when a worker has room
 * again, or when a commit says that something is ready; the claim shares the commit of what caused it.
 */
import * as Effect from "effect/Effect"
import type { WorkerInfo } from "../Client/Client.ts"
import { ConnectionError, type StoreError } from "../Errors.ts"
import {
  endsTurn,
  type Notice,
  type TurnAck,
  type TurnReport,
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession
} from "../Protocol/Worker.ts"
import type { LiveWorker } from "./Explain.ts"
import type { Demand, StoreService } from "./Store/Store.ts"

/** A connected worker. */
interface Connected {
  readonly registration: WorkerRegistration
  readonly functions: ReadonlyMap<string, string>
  readonly functionIds: ReadonlySet<string>
  readonly handlers: WorkerHandlers
  readonly transport: string
  readonly connectedAt: number
  readonly active: Set<string>
  credit: number
}

export class Dispatch {
  readonly #store: StoreService
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #workers = new Map<string, Connected>()
  #claiming = false
  #again = false

  /** `run` runs an effect that cannot fail, in the background. */
  constructor(store: StoreService, run: (effect: Effect.Effect<void>) => void) {
    this.#store = store
    this.#run = run
  }

  /** Connects a worker; `leaseMs` as in {@link Demand}. */
  connect(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: { readonly transport: string; readonly connectedAt: number }
  ): WorkerSession {
    const functions = new Map(registration.functions.map((fn) => [fn.id, fn.codeHash]))
    const worker: Connected = {
      registration,
      functions,
      functionIds: new Set(functions.keys()),
      handlers,
      active: new Set(),
      credit: 0,
      ...options
    }
    this.#workers.set(registration.workerId, worker)
    return {
      credit: (n) => {
        worker.credit += n
        if (this.#store.mayHaveReady()) this.poke()
      },
      report: (reports) => {
        this.#pokeSoon()
        return Effect.mapBoth(this.#store.applyReports(reports), {
          onSuccess: (acks) => {
            forgetEnded(worker, reports, acks)
            return acks
          },
          onFailure: notStored
        })
      },
      late: ({ runId, lingerMs }) => Effect.mapError(this.#store.markLate(runId, lingerMs), notStored)
    }
  }

  /** Disconnects a worker; `lost` says that it died, which counts as a loss of its runs. */
  disconnect(workerId: string, lost: boolean): Effect.Effect<void, StoreError> {
    return Effect.suspend(() => {
      this.#workers.delete(workerId)
      return Effect.asVoid(this.#store.releaseWorker(workerId, lost))
    })
  }

  has(workerId: string): boolean {
    return this.#workers.has(workerId)
  }

  /** Delivers a notice to the worker that holds the lease, if it is connected. */
  notify(workerId: string, notice: Notice): void {
    const worker = this.#workers.get(workerId)
    if (worker === undefined) return
    if (notice._tag !== "Fired") worker.active.delete(notice.jobId)
    worker.handlers.onNotice(notice)
  }

  /** Something may be ready: hand it out in the commit that is being gathered. */
  pokeSoon(): void {
    this.#pokeSoon()
  }

  /** Something may be ready: hand it out. */
  poke(): void {
    if (this.#claiming) {
      this.#again = true
      return
    }
    const demands = this.#demands()
    if (demands.length === 0) return
    this.#claiming = true
    this.#run(
      Effect.matchEffect(this.#store.claimRuns(demands), {
        onSuccess: (claims) =>
          Effect.sync(() => {
            this.#claiming = false
            for (const { workerId, job } of claims) this.#handOut(workerId, job)
            if (this.#again) {
              this.#again = false
              this.poke()
            }
          }),
        onFailure: (error) =>
          Effect.andThen(
            Effect.logError("Runs cannot be handed out; trying again in a second", error),
            Effect.andThen(
              Effect.sleep(1000),
              Effect.sync(() => {
                this.#claiming = false
                this.poke()
              })
            )
          )
      })
    )
  }

  workers(environment: string): ReadonlyArray<LiveWorker> {
    return [...this.#workers.values()]
      .filter((worker) => worker.registration.environment === environment)
      .map(({ registration, functionIds, active }) => ({
        id: registration.workerId,
        functionIds,
        labels: registration.labels,
        maxConcurrentJobs: registration.maxConcurrentJobs,
        activeJobs: active.size
      }))
  }

  list(environment: string): Array<WorkerInfo> {
    return [...this.#workers.values()]
      .filter((worker) => worker.registration.environment === environment)
      .map(({ registration, functionIds, active, transport, connectedAt }) => ({
        id: registration.workerId,
        hostname: registration.hostname,
        functionIds: [...functionIds],
        maxConcurrentJobs: registration.maxConcurrentJobs,
        activeJobs: active.size,
        labels: registration.labels,
        transport,
        registeredAt: new Date(connectedAt).toISOString()
      }))
  }

  /** The command that is being submitted goes first, so that the claim finds what it makes ready. */
  #pokeSoon(): void {
    queueMicrotask(() => this.poke())
  }

  #demands(): ReadonlyArray<Demand> {
    const demands: Array<Demand> = []
    for (const { registration, functions, credit } of this.#workers.values()) {
      if (credit <= 0) continue
      const { workerId, environment, labels } = registration
      demands.push({ workerId, environment, functions, labels, credit })
    }
    return demands
  }

  #handOut(workerId: string, job: Parameters<WorkerHandlers["onJob"]>[0]): void {
    const worker = this.#workers.get(workerId)
    if (worker === undefined) {
      // it left while the claim was on its way: `releaseWorker` may have run before the claim, so give the run back here
      return this.#run(
        Effect.catch(
          Effect.asVoid(
            this.#store.applyReports([{ jobId: job.jobId, runId: job.runId, ops: [{ _tag: "Release" }] }])
          ),
          (error) => Effect.logError(`Run ${job.runId} cannot be given back`, error)
        )
      )
    }
    worker.credit--
    worker.active.add(job.jobId)
    worker.handlers.onJob(job)
  }
}

const forgetEnded = (
  worker: Connected,
  reports: ReadonlyArray<TurnReport>,
  acks: ReadonlyArray<TurnAck>
): void => {
  for (let i = 0; i < reports.length; i++) {
    const report = reports[i]!
    const last = report.ops.at(-1)
    if (acks[i]?._tag === "Refused" || (last !== undefined && endsTurn(last)))
      worker.active.delete(report.jobId)
  }
}

const notStored = (error: StoreError): ConnectionError =>
  new ConnectionError(`The engine could not store the report: ${error.message}`, { cause: error })
