/**
 * Hands ready runs to workers with room. Nothing polls: a claim is made when an event comes in, when a worker has room
 * again, or when a commit says that something is ready; the claim shares the commit of what caused it.
 */
import * as Effect from "effect/Effect"
import type { WorkerInfo } from "../Client/Client.ts"
import { ConnectionError, type StoreError } from "../Errors.ts"
import {
  endsTurn,
  type Job,
  type Notice,
  type TurnAck,
  type TurnReport,
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession
} from "../Protocol/Worker.ts"
import type { LiveWorker } from "./Explain.ts"
import type { Secrets } from "./Secrets.ts"
import type { Demand, StoreService } from "./Store/Store.ts"
import { RETRY_MS, StoreOutage } from "./StoreOutage.ts"

/** A connected worker. */
interface Connected {
  readonly registration: WorkerRegistration
  readonly functions: ReadonlyMap<string, string>
  readonly functionIds: ReadonlySet<string>
  readonly handlers: WorkerHandlers
  readonly transport: string
  readonly connectedAt: number
  readonly leaseMs: number | undefined
  readonly active: Set<string>
  credit: number
  reachable: boolean
  /** Why it cannot be reached. */
  problem: string | undefined
}

/** A session with a worker outside this process, whose leases hold for a limited time. */
export interface RemoteSession extends WorkerSession {
  /** Whether the worker's credit counts: nothing is handed out while it cannot be reached. It can, at first. */
  readonly setReachable: (reachable: boolean, problem?: string) => void
  /** Claims at most `n` runs now, whatever the credit. */
  readonly take: (n: number) => Effect.Effect<ReadonlyArray<Job>, StoreError>
  /** The worker gives a sign of life: its leases start anew. */
  readonly extend: Effect.Effect<void, StoreError>
  /** Keeps turns of an earlier session; returns those of `jobIds` that the worker does not hold any more. */
  readonly adopt: (jobIds: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Ends the session; `lost` says that the worker died, which counts as a loss of its runs. */
  readonly close: (lost: boolean) => Effect.Effect<void, StoreError>
  /** Ends the session and leaves the leases as they are. */
  readonly detach: () => void
}

export class Dispatch {
  readonly #store: StoreService
  readonly #secrets: Secrets
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #workers = new Map<string, Connected>()
  readonly #outage = new StoreOutage("Runs cannot be handed out", "Runs are handed out again")
  #claiming = false
  #again = false

  /** `run` runs an effect that cannot fail, in the background. */
  constructor(store: StoreService, secrets: Secrets, run: (effect: Effect.Effect<void>) => void) {
    this.#store = store
    this.#secrets = secrets
    this.#run = run
  }

  /** Connects a worker of this process. */
  connect(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: { readonly transport: string; readonly connectedAt: number }
  ): WorkerSession {
    return this.#session(this.#connected(registration, handlers, options))
  }

  /** Connects a worker outside this process; `leaseMs` is how long a lease holds without a sign of life. */
  connectRemote(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: { readonly transport: string; readonly connectedAt: number; readonly leaseMs: number }
  ): RemoteSession {
    const { leaseMs } = options
    const { workerId } = registration
    const worker = this.#connected(registration, handlers, options)
    const isCurrent = () => this.#workers.get(workerId) === worker
    return {
      ...this.#session(worker),
      setReachable: (reachable, problem) => {
        worker.reachable = reachable
        worker.problem = reachable ? undefined : problem
        if (reachable && worker.credit > 0 && this.#store.mayHaveReady()) this.poke()
      },
      take: (n) =>
        Effect.flatMap(this.#store.claimRuns([demandOf(worker, n)]), (claims) =>
          Effect.map(
            Effect.forEach(claims, ({ job }) => this.#withSecrets(job)),
            (jobs) =>
              jobs
                .filter((job) => job !== undefined)
                .map((job) => {
                  worker.active.add(job.jobId)
                  return job
                })
          )
        ),
      extend: Effect.suspend(() =>
        worker.active.size === 0
          ? Effect.void
          : Effect.map(this.#store.extendLeases([...worker.active], leaseMs), (gone) => {
              for (const jobId of gone) worker.active.delete(jobId)
            })
      ),
      adopt: (jobIds) =>
        Effect.map(
          this.#store.adoptLeases(workerId, jobIds, leaseMs, worker.functionIds),
          ({ lost, notices }) => {
            for (const jobId of jobIds) worker.active.add(jobId)
            for (const jobId of lost) worker.active.delete(jobId)
            for (const notice of notices) handlers.onNotice(notice)
            return lost
          }
        ),
      close: (lost) => Effect.suspend(() => (isCurrent() ? this.disconnect(workerId, lost) : Effect.void)),
      detach: () => {
        if (isCurrent()) this.#workers.delete(workerId)
      }
    }
  }

  #connected(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: { readonly transport: string; readonly connectedAt: number; readonly leaseMs?: number }
  ): Connected {
    const functions = new Map(registration.functions.map((fn) => [fn.id, fn.codeHash]))
    const worker: Connected = {
      registration,
      functions,
      functionIds: new Set(functions.keys()),
      handlers,
      transport: options.transport,
      connectedAt: options.connectedAt,
      leaseMs: options.leaseMs,
      active: new Set(),
      credit: 0,
      reachable: true,
      problem: undefined
    }
    this.#workers.set(registration.workerId, worker)
    return worker
  }

  #session(worker: Connected): WorkerSession {
    const { environment } = worker.registration
    return {
      credit: (n) => {
        worker.credit += n
        if (this.#store.mayHaveReady()) this.poke()
      },
      report: (reports) =>
        Effect.mapBoth(this.#apply(reports, environment), {
          onSuccess: (acks) => {
            forgetEnded(worker, reports, acks)
            return acks
          },
          onFailure: notStored
        }),
      late: ({ runId, lingerMs }) =>
        Effect.mapError(this.#store.markLate(runId, lingerMs, environment), notStored)
    }
  }

  /** Applies reports, whichever worker they come from; those of runs of another environment are refused, if one is given. */
  applyReports(
    reports: ReadonlyArray<TurnReport>,
    environment?: string
  ): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> {
    return Effect.map(this.#apply(reports, environment), (acks) => {
      for (const worker of this.#workers.values()) forgetEnded(worker, reports, acks)
      return acks
    })
  }

  /** Applies reports and hands out what they make ready in the same commit. */
  #apply(
    reports: ReadonlyArray<TurnReport>,
    environment?: string
  ): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> {
    return Effect.suspend(() => {
      this.#pokeSoon()
      return this.#store.applyReports(reports, environment)
    })
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
            if (this.#outage.isOn) this.#run(this.#outage.succeeded())
            this.#claiming = false
            for (const { workerId, job } of claims) this.#handOut(workerId, job)
            if (this.#again) {
              this.#again = false
              this.poke()
            }
          }),
        onFailure: (error) =>
          Effect.andThen(
            this.#outage.failed(error),
            // another engine has the database: it hands them out
            error.code === "STORE_LOCKED"
              ? Effect.void
              : Effect.andThen(
                  Effect.sleep(RETRY_MS),
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
      .map(({ registration, functionIds, active, problem }) => ({
        id: registration.workerId,
        functionIds,
        ...(problem === undefined ? {} : { problem }),
        labels: registration.labels,
        maxConcurrentJobs: registration.maxConcurrentJobs,
        activeJobs: active.size
      }))
  }

  /** Workers and turns of all environments. */
  get load(): { readonly workers: number; readonly activeJobs: number } {
    let activeJobs = 0
    for (const { active } of this.#workers.values()) activeJobs += active.size
    return { workers: this.#workers.size, activeJobs }
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
    for (const worker of this.#workers.values()) {
      if (worker.credit > 0 && worker.reachable) demands.push(demandOf(worker, worker.credit))
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
    if (!this.#asksForSecrets(job)) return worker.handlers.onJob(job)
    this.#run(
      Effect.map(
        Effect.catch(this.#withSecrets(job), (error) =>
          Effect.as(Effect.logError(`Run ${job.runId} cannot be paused`, error), undefined)
        ),
        (ready) => {
          if (ready !== undefined) return worker.handlers.onJob(ready)
          worker.active.delete(job.jobId)
          worker.credit++
        }
      )
    )
  }

  #asksForSecrets(job: Job): boolean {
    return (this.#store.findFunction(job.environment, job.functionId)?.secrets.length ?? 0) > 0
  }

  /** The job with the secrets that its function asks for. A run whose secrets cannot be opened is paused. */
  #withSecrets(job: Job): Effect.Effect<Job | undefined, StoreError> {
    const names = this.#store.findFunction(job.environment, job.functionId)?.secrets ?? []
    if (names.length === 0) return Effect.succeed(job)
    return Effect.matchEffect(this.#secrets.open(job.environment, names), {
      onSuccess: (secrets) => Effect.succeed({ ...job, secrets }),
      onFailure: (error) =>
        Effect.as(
          this.#store.applyReports([
            {
              jobId: job.jobId,
              runId: job.runId,
              ops: [{ _tag: "Pause", code: error.code, message: error.message }]
            }
          ]),
          undefined
        )
    })
  }
}

const demandOf = ({ registration, functions, leaseMs }: Connected, credit: number): Demand => ({
  workerId: registration.workerId,
  environment: registration.environment,
  functions,
  labels: registration.labels,
  credit,
  ...(leaseMs === undefined ? {} : { leaseMs })
})

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
