/**
 * Hands ready runs to workers with room. Nothing polls: a claim is made when an event comes in, when a worker has room
 * again, or when a commit says that something is ready; the claim shares the commit of what caused it.
 */
import * as Effect from "effect/Effect"
import type { WorkerInfo } from "../Client/Client.ts"
import { ConnectionError, type StoreError } from "../Errors.ts"
import {
  endsLease,
  endsTurn,
  type Job,
  type Notice,
  type TurnAck,
  type TurnReport,
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession
} from "../Protocol/Worker.ts"
import type { WorkerLimits } from "./Access/WorkerAccess.ts"
import type { LiveWorker } from "./Explain.ts"
import type { Secrets } from "./Secrets/Secrets.ts"
import type { Adoption, Claim, Demand, StoreService } from "./Store/Store.ts"
import type { Holder } from "./Store/Stuck.ts"
import { RETRY_MS, StoreOutage } from "./StoreOutage.ts"
import { queueMicrotask } from "../RealTimers.ts"

/** How often it is looked whose the database is while turns of this process run, milliseconds. */
export const OWNER_LOOK_MS = 500

/** A connected worker. */
interface Connected {
  readonly registration: WorkerRegistration
  readonly functions: ReadonlyMap<string, string>
  readonly functionIds: ReadonlySet<string>
  readonly handlers: WorkerHandlers
  readonly transport: string
  readonly connectedAt: number
  readonly leaseMs: number | undefined
  /** Absent for one that may run whatever it has. */
  readonly limits: WorkerLimits | undefined
  /** How long it lets one turn of each function take, milliseconds; absent when it has no such limit. */
  readonly turnLimits: ReadonlyMap<string, number> | undefined
  /** Of its registration, see {@link registrationLength}. */
  readonly length: number
  readonly active: Set<string>
  /** Jobs of another worker that had its id before, and may be at them. */
  left: ReadonlySet<string>
  credit: number
  reachable: boolean
  /** Why it cannot be reached. */
  problem: string | undefined
}

/** Characters of what a worker has registered. */
export const registrationLength = ({ functions, hostname, labels }: WorkerRegistration): number =>
  JSON.stringify([functions, hostname, labels]).length

/** How a worker outside this process is connected. */
export interface RemoteWorkerOptions {
  readonly transport: string
  /** How long a lease holds without a sign of life, milliseconds. */
  readonly leaseMs: number
  /** Whether it ends its turns itself when their time is up: what speaks turns does, and of others it is not known. */
  readonly endsTurns?: boolean
  /** Absent for one that may run whatever it has. */
  readonly limits?: WorkerLimits
}

/** A session with a worker outside this process, whose leases hold for a limited time. */
export interface RemoteSession extends WorkerSession {
  /** Whether the worker's credit counts: nothing is handed out while it cannot be reached. It can, at first. */
  readonly setReachable: (reachable: boolean, problem?: string) => void
  /** Claims at most `n` runs now, whatever the credit. */
  readonly take: (n: number) => Effect.Effect<ReadonlyArray<Job>, StoreError>
  /**
   * The leases of these jobs start anew, or all that the worker has, except for turns that it should have ended long since.
   * Returns those of `jobIds` that it does not have.
   */
  readonly extend: (jobIds?: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Keeps turns of an earlier session: see `StoreService.adoptLeases`. */
  readonly adopt: (
    jobIds: ReadonlyArray<string>,
    since?: string
  ) => Effect.Effect<Omit<Adoption, "notices">, StoreError>
  /** The worker is done with these jobs, which it was told to drop. */
  readonly dropped: (jobIds: ReadonlyArray<string>) => Effect.Effect<void, StoreError>
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
  /** Notices about what may be jobs of the claim that is on its way, and about jobs whose secrets are being opened. */
  #early = new Map<string, { readonly workerId: string; readonly notices: Array<Notice> }>()
  readonly #opening = new Map<string, Array<Notice>>()
  #claiming = false
  #again = false
  /** Whether it is looked all the time whose the database is. */
  #looking = false

  /** `run` runs an effect that cannot fail, in the background. */
  constructor(store: StoreService, secrets: Secrets, run: (effect: Effect.Effect<void>) => void) {
    this.#store = store
    this.#secrets = secrets
    this.#run = run
    store.onLost((error) => this.#abandon(error))
  }

  /** Connects a worker of this process. */
  connect(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: { readonly transport: string; readonly connectedAt: number }
  ): WorkerSession {
    return this.#session(this.#connected(registration, handlers, { ...options, endsTurns: true }))
  }

  /** Connects a worker outside this process; `leaseMs` is how long a lease holds without a sign of life. */
  connectRemote(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: RemoteWorkerOptions & { readonly connectedAt: number }
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
        Effect.flatMap(this.#store.claimRuns([this.#demandOf(worker, n)]), (claims) =>
          Effect.map(
            Effect.forEach(claims, ({ job }) => this.#withSecrets(job, worker)),
            (jobs) =>
              jobs
                .filter((job) => job !== undefined)
                .map((job) => {
                  worker.active.add(job.jobId)
                  return job
                })
          )
        ),
      extend: (jobIds) =>
        Effect.suspend(() => {
          const named = jobIds ?? [...worker.active]
          const held = named.filter((jobId) => worker.active.has(jobId))
          const unknown = named.filter((jobId) => !worker.active.has(jobId))
          if (held.length === 0) return Effect.succeed(unknown)
          return Effect.map(this.#store.extendLeases(held, leaseMs, holderOf(worker)), (gone) => {
            for (const jobId of gone) worker.active.delete(jobId)
            return [...unknown, ...gone]
          })
        }),
      adopt: (jobIds, since) =>
        Effect.map(
          this.#store.adoptLeases(workerId, jobIds, leaseMs, worker.functionIds, since),
          ({ notices, ...adoption }) => {
            const { left, lost } = adoption
            worker.left = new Set(left)
            for (const jobId of jobIds) worker.active.add(jobId)
            for (const jobId of lost) worker.active.delete(jobId)
            for (const notice of notices) tell(worker, notice)
            return adoption
          }
        ),
      dropped: (jobIds) => this.#store.endRevoked(jobIds),
      close: (lost) => Effect.suspend(() => (isCurrent() ? this.disconnect(workerId, lost) : Effect.void)),
      detach: () => {
        if (isCurrent()) this.#workers.delete(workerId)
      }
    }
  }

  #connected(
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: Partial<RemoteWorkerOptions> & { readonly transport: string; readonly connectedAt: number }
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
      limits: options.limits,
      turnLimits:
        options.endsTurns === true
          ? new Map(registration.functions.map((fn) => [fn.id, fn.timeoutMs]))
          : undefined,
      length: registrationLength(registration),
      active: new Set(),
      left: new Set(),
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
        Effect.mapBoth(this.#apply(reports, environment, worker.registration.pauses !== true), {
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

  /**
   * Applies reports, whichever worker they come from; those of runs of another environment are refused, if one is given.
   * `callsBack`: see `StoreService.applyReports`.
   */
  applyReports(
    reports: ReadonlyArray<TurnReport>,
    environment?: string,
    options: { readonly callsBack?: boolean } = {}
  ): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> {
    return Effect.map(this.#apply(reports, environment, options.callsBack), (acks) => {
      for (const worker of this.#workers.values()) {
        // a refusal says nothing of a lease in another one
        if (environment === undefined || worker.registration.environment === environment)
          forgetEnded(worker, reports, acks)
      }
      return acks
    })
  }

  /** Applies reports and hands out what they make ready in the same commit. */
  #apply(
    reports: ReadonlyArray<TurnReport>,
    environment?: string,
    callsBack = false
  ): Effect.Effect<ReadonlyArray<TurnAck>, StoreError> {
    return Effect.suspend(() => {
      this.#pokeSoon()
      return this.#store.applyReports(reports, environment, { callsBack })
    })
  }

  /** Disconnects a worker; `lost` says that it died, which counts as a loss of its runs. */
  disconnect(workerId: string, lost: boolean): Effect.Effect<void, StoreError> {
    return Effect.suspend(() => {
      const left = this.#workers.get(workerId)?.left
      this.#workers.delete(workerId)
      return Effect.asVoid(this.#store.releaseWorker(workerId, lost, left))
    })
  }

  has(workerId: string): boolean {
    return this.#workers.has(workerId)
  }

  /** What is known of a worker that is connected. */
  holder(workerId: string): Holder | undefined {
    const worker = this.#workers.get(workerId)
    return worker === undefined ? undefined : holderOf(worker)
  }

  /** Delivers a notice to the worker that holds the lease, if it is connected; not before the job that it is about. */
  notify(workerId: string, notice: Notice): void {
    const worker = this.#workers.get(workerId)
    if (worker === undefined) return
    const { jobId } = notice
    // about a turn of another worker that had its id
    if (worker.left.has(jobId)) return
    const early = this.#opening.get(jobId) ?? this.#early.get(jobId)?.notices
    if (early !== undefined) early.push(notice)
    else if (this.#claiming && !worker.active.has(jobId))
      this.#early.set(jobId, { workerId, notices: [notice] })
    else tell(worker, notice)
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
            this.#claimed(claims)
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
                    this.#claimed([])
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
      .map((worker) => ({ worker, ...worker }))
      .map(({ registration, functionIds, active, leaseMs, limits, problem, turnLimits, worker }) => ({
        id: registration.workerId,
        functionIds:
          limits?.isLimited() === true
            ? new Set([...functionIds].filter((id) => this.#mayRun(worker, id)))
            : functionIds,
        turnLimitMs: (functionId: string) => turnLimits?.get(functionId),
        ...(leaseMs === undefined ? {} : { leaseMs }),
        ...(problem === undefined ? {} : { problem }),
        labels: registration.labels,
        maxConcurrentJobs: registration.maxConcurrentJobs,
        activeJobs: active.size
      }))
  }

  /** Characters of what all workers have registered. */
  get registeredLength(): number {
    let length = 0
    for (const worker of this.#workers.values()) length += worker.length
    return length
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
      if (worker.credit > 0 && worker.reachable) demands.push(this.#demandOf(worker, worker.credit))
    }
    return demands
  }

  #demandOf(worker: Connected, credit: number): Demand {
    const { leaseMs, limits, registration } = worker
    return {
      workerId: registration.workerId,
      environment: registration.environment,
      functions:
        limits?.isLimited() === true
          ? new Map([...worker.functions].filter(([id]) => this.#mayRun(worker, id)))
          : worker.functions,
      labels: registration.labels,
      credit,
      capacity: registration.maxConcurrentJobs,
      ...(leaseMs === undefined ? {} : { leaseMs })
    }
  }

  /** Whether the worker may have what runs of the function bring, as it is registered now. */
  #mayRun({ limits, registration: { environment } }: Connected, functionId: string): boolean {
    if (limits?.isLimited() !== true) return true
    const fn = this.#store.findFunction(environment, functionId)
    return fn === undefined || limits.mayRun(fn)
  }

  #claimed(claims: ReadonlyArray<Claim>): void {
    this.#claiming = false
    const early = this.#early
    if (early.size > 0) this.#early = new Map()
    for (const { workerId, job } of claims) {
      const told = early.get(job.jobId)?.notices ?? []
      early.delete(job.jobId)
      this.#handOut(workerId, job, told)
    }
    // those were about other jobs
    for (const { notices, workerId } of early.values()) {
      for (const notice of notices) this.notify(workerId, notice)
    }
  }

  /** `told` are notices that came before the job. */
  #handOut(workerId: string, job: Job, told: Array<Notice>): void {
    const worker = this.#workers.get(workerId)
    // it left while the claim was on its way: `releaseWorker` may have run before the claim, so give the run back here
    if (worker === undefined) return this.#giveBack(job)
    worker.credit--
    worker.active.add(job.jobId)
    if (worker.leaseMs === undefined) this.#lookForOwner()
    if (!this.#asksForSecrets(job) && this.#mayRun(worker, job.functionId)) {
      return this.#deliver(worker, job, told)
    }
    this.#opening.set(job.jobId, told)
    this.#run(
      Effect.map(
        Effect.catch(this.#withSecrets(job, worker), (error) =>
          Effect.as(Effect.logError(`Run ${job.runId} cannot be paused`, error), undefined)
        ),
        (ready) => {
          this.#opening.delete(job.jobId)
          if (ready !== undefined) return this.#deliver(worker, ready, told)
          this.#keep(worker, job)
        }
      )
    )
  }

  /** Hands a job to its worker, unless its run has ended, or is to be paused, since it was claimed. */
  #deliver(worker: Connected, job: Job, told: ReadonlyArray<Notice>): void {
    if (told.some(endsLease)) {
      this.#neverBegan(job)
      return this.#keep(worker, job)
    }
    if (told.findLast(({ _tag }) => _tag !== "Fired")?._tag === "Paused") {
      this.#giveBack(job)
      return this.#keep(worker, job)
    }
    worker.handlers.onJob(job)
    for (const notice of told) tell(worker, notice)
  }

  /** Another engine has the database, and runs what runs here: every turn is told that its lease is lost. */
  #abandon(error: StoreError): void {
    let turns = 0
    for (const worker of this.#workers.values()) {
      for (const jobId of Array.from(worker.active)) {
        tell(worker, { _tag: "LeaseLost", jobId, reason: error.message })
        turns++
      }
      worker.handlers.onConnected?.(false)
    }
    if (turns === 0) return
    const what = turns === 1 ? "1 turn that was" : `${turns} turns that were`
    this.#run(Effect.logError(`${what} given out by this engine are aborted: the other engine runs them`))
  }

  /**
   * A worker in this process renews nothing. So nothing may be written for as long as a step takes, and nobody would notice that
   * another engine has the database: it is looked for, as long as there are such turns.
   */
  #lookForOwner(): void {
    const { checkOwner } = this.#store
    if (this.#looking || checkOwner === undefined) return
    this.#looking = true
    const look: Effect.Effect<void> = Effect.andThen(
      Effect.sleep(OWNER_LOOK_MS),
      Effect.suspend(() => {
        const isNeeded = [...this.#workers.values()].some(
          ({ active, leaseMs }) => leaseMs === undefined && active.size > 0
        )
        if (!isNeeded) {
          this.#looking = false
          return Effect.void
        }
        return Effect.matchEffect(checkOwner, {
          onSuccess: () => look,
          // one that cannot be read now is looked at again; when another engine has it, all has been done
          onFailure: ({ code }) => (code === "STORE_LOCKED" ? Effect.void : look)
        })
      })
    )
    this.#run(look)
  }

  /** The worker does not get the job that it had room for. */
  #keep(worker: Connected, { jobId }: Job): void {
    worker.active.delete(jobId)
    worker.credit++
    if (this.#store.mayHaveReady()) this.#pokeSoon()
  }

  /** Nobody is at a job that was taken back before it was delivered. */
  #neverBegan({ jobId, runId }: Job): void {
    this.#run(
      Effect.catch(this.#store.endRevoked([jobId]), (error) =>
        Effect.logError(`Run ${runId} waits for the end of its lease`, error)
      )
    )
  }

  #giveBack({ jobId, runId }: Job): void {
    this.#run(
      Effect.catch(
        Effect.asVoid(this.#store.applyReports([{ jobId, runId, ops: [{ _tag: "Release" }] }])),
        (error) => Effect.logError(`Run ${runId} cannot be given back`, error)
      )
    )
  }

  #asksForSecrets(job: Job): boolean {
    return (this.#store.findFunction(job.environment, job.functionId)?.secrets.length ?? 0) > 0
  }

  /**
   * The job with the secrets that its function asks for. A run whose secrets cannot be opened is paused; one that the worker
   * may not have any more is given back.
   */
  #withSecrets(job: Job, worker: Connected): Effect.Effect<Job | undefined, StoreError> {
    if (!this.#mayRun(worker, job.functionId)) {
      return Effect.as(
        this.#store.applyReports([{ jobId: job.jobId, runId: job.runId, ops: [{ _tag: "Release" }] }]),
        undefined
      )
    }
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

const holderOf = ({ turnLimits }: Connected): Holder => ({
  turnLimitMs: (functionId) => turnLimits?.get(functionId)
})

/** Tells a worker what it understands. */
const tell = (worker: Connected, notice: Notice): void => {
  if (endsLease(notice)) worker.active.delete(notice.jobId)
  else if (notice._tag !== "Fired" && worker.registration.pauses !== true) return
  worker.handlers.onNotice(notice)
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
