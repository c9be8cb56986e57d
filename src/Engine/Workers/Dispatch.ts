/**
 * Dispatches ready runs to workers with room for more jobs. Nothing polls: a claim is made when an event arrives, when a worker
 * has room again, or when a commit makes something ready. If a commit is the cause, the claim shares that commit.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreError } from "../../Errors.ts"
import { endsLease, type Job, type Notice } from "../../Protocol/Worker.ts"
import { Functions, type FunctionsService } from "../Functions/Functions.ts"
import { LiveWorkers } from "../Runs/LiveWorkers.ts"
import type { WorkerOfEngine } from "../Runs/EngineWorkers.ts"
import { Secrets, type SecretsService } from "../Secrets/Secrets.ts"
import type { Changes, ChangeKind } from "../Store/Changes.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import { RETRY_MS, StoreOutage } from "../Store/StoreOutage.ts"
import * as Claims from "../Turns/Claims.ts"
import * as LostLeases from "../Turns/LostLeases.ts"
import * as Reports from "../Turns/Reports.ts"
import * as PendingNotices from "../Turns/PendingNotices.ts"
import type { Claim, Demand } from "../Turns/TurnRecords.ts"
import { type ConnectedWorker, maxTransitMs, sendNotice } from "./ConnectedWorker.ts"
import { ConnectedWorkers } from "./ConnectedWorkers.ts"
import { JobSecrets } from "./JobSecrets.ts"
import type { Left } from "./LiveRegistrations.ts"
import { TakeoverWatch } from "./TakeoverWatch.ts"

/**
 * How long other engines wait, after they last heard of an engine, before they take over the turns of the workers in its process,
 * in milliseconds.
 */
const NODE_LEASE_MS = 15_000

export class DispatchService {
  /** The workers that get runs. */
  readonly connected: ConnectedWorkers
  readonly #store: StoreService
  readonly #jobSecrets: JobSecrets
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #monotonicMs: () => number
  readonly #takeoverWatch: TakeoverWatch
  readonly #outage = new StoreOutage("Runs cannot be handed out", "Runs can be handed out again")
  /** Notices that may be about jobs of the claim in progress, by job id. */
  #earlyNotices = new Map<string, { readonly workerId: string; readonly notices: Array<Notice> }>()
  /** Notices about jobs whose secrets are being decrypted, by job id. */
  readonly #noticesWhileDecrypting = new Map<string, Array<Notice>>()
  #onLimitsChange: (worker: ConnectedWorker) => void = () => undefined
  #onGoneElsewhere: (worker: Left) => void = () => undefined
  #claiming = false
  #claimedAt = 0
  #wasPokedMeanwhile = false
  #isResending = false
  #mustResendAgain = false
  #ended = false
  /** Whether a run may be ready after the last commit. True before the first commit. */
  #mayHaveReady = true

  /** `run` runs an effect that cannot fail, in the background. */
  constructor(
    store: StoreService,
    functions: FunctionsService,
    secrets: SecretsService,
    run: (effect: Effect.Effect<void>) => void,
    monotonicMs: () => number
  ) {
    this.#monotonicMs = monotonicMs
    this.connected = new ConnectedWorkers(functions)
    this.#store = store
    this.#jobSecrets = new JobSecrets(store, functions, secrets)
    this.#run = run
    this.#takeoverWatch = new TakeoverWatch(
      store,
      run,
      () =>
        !this.#ended &&
        [...this.connected.all()].some(
          ({ activeJobIds, leaseMs }) => leaseMs === undefined && activeJobIds.size > 0
        )
    )
  }

  /** Claims at most `n` runs for a worker now, whatever its room. */
  take(worker: ConnectedWorker, n: number): Effect.Effect<ReadonlyArray<Job>, StoreError> {
    return Effect.suspend(() => {
      const claimedAt = this.#monotonicMs()
      return Effect.flatMap(
        this.#store.write(
          Claims.claimRuns(worker.registration.environment, [
            this.#demandOf(worker, n),
            // other workers are listed as present, because runs may be pinned to their versions, but they get nothing here
            ...[...this.connected.all()]
              .filter((other) => other.pinsRuns && other !== worker && isBeside(other, worker))
              .map((other) => this.#demandOf(other, 0)),
            ...this.connected.otherEngineWorkers.pinningDemands.filter(
              ({ environment }) => environment === worker.registration.environment
            )
          ])
        ),
        (claims) =>
          Effect.map(
            Effect.forEach(claims, ({ job }) =>
              this.#jobSecrets.addTo(job, this.connected.mayRun(worker, job.functionId))
            ),
            (jobs) =>
              jobs.flatMap((job) => {
                if (job === undefined) return []
                if (this.#isLate(worker, claimedAt)) {
                  this.#release(job)
                  return []
                }
                worker.activeJobIds.add(job.jobId)
                return [job]
              })
          )
      )
    })
  }

  /**
   * Sets the listener, which is called when the functions that a worker may run are no longer those that other engines were told
   * of.
   */
  onLimitsChange(changed: (worker: ConnectedWorker) => void): void {
    this.#onLimitsChange = changed
  }

  /** Notes the workers of other engines. `workers` are all workers in the database, as they were just read. */
  setOtherEngineWorkers(workers: ReadonlyArray<WorkerOfEngine>): void {
    const { gone, hasChanged } = this.connected.otherEngineWorkers.set(
      workers.filter(({ isHere }) => !isHere)
    )
    // when workers of other engines have gone, their runs may go to workers here
    if (hasChanged) this.pokeIfReady()
    for (const worker of gone) this.#onGoneElsewhere(worker)
  }

  /** Sets what is called when a worker of another engine has gone, or has come to this engine. */
  onGoneElsewhere(gone: (worker: Left) => void): void {
    this.#onGoneElsewhere = gone
  }

  /** Delivers a notice to the connected worker that holds the lease of the job, but never before the job itself. */
  notify(workerId: string, notice: Notice): void {
    const worker = this.connected.get(workerId)
    if (worker === undefined) return
    const { jobId } = notice
    // the notice is about a turn of an earlier worker with the same id
    if (worker.earlierJobs.has(jobId)) return
    const waitingNotices = this.#noticesWhileDecrypting.get(jobId) ?? this.#earlyNotices.get(jobId)?.notices
    if (waitingNotices !== undefined) waitingNotices.push(notice)
    else if (this.#claiming && !worker.activeJobIds.has(jobId))
      this.#earlyNotices.set(jobId, { workerId, notices: [notice] })
    else {
      sendNotice(worker, notice)
      if (endsLease(notice)) this.#endRevokedInProcess(worker, jobId)
    }
  }

  /**
   * Called when a worker has been told that the lease of a turn has ended. A worker in this process ends the turn at once, so the
   * revoked lease of the turn is ended too: another engine may wait for that.
   */
  #endRevokedInProcess({ leaseMs, registration }: ConnectedWorker, jobId: string): void {
    if (leaseMs !== undefined || this.#store.node === undefined) return
    this.#endRevoked(registration.environment, jobId)
  }

  /** Tells workers what a commit means for their turns, and dispatches the runs that it left ready. */
  committed({ access, isFromOtherEngine, stale, mayHaveReady, notices, ready }: Changes): void {
    if (isFromOtherEngine) this.#mayHaveReady ||= mayHaveReady
    else this.#mayHaveReady = mayHaveReady
    for (const { workerId, notice } of notices) this.notify(workerId, notice)
    if (stale.has("turns")) this.#resendNotices()
    // after a change of access, workers may get runs that they could not get before
    if (ready || access.length > 0 || DISPATCHING_CHANGES.some((one) => stale.has(one))) this.poke()
  }

  /** Reads the notices of all active turns again, because notices that came from another engine may be lost. */
  #resendNotices(): void {
    this.#mustResendAgain = true
    if (this.#isResending) return
    this.#isResending = true
    const resendToAll: Effect.Effect<void> = Effect.suspend(() => {
      this.#mustResendAgain = false
      return Effect.andThen(
        Effect.forEach([...this.connected.all()], (worker) => this.#resendTo(worker), {
          discard: true
        }),
        Effect.suspend(() => {
          if (this.#mustResendAgain && !this.#ended) return resendToAll
          this.#isResending = false
          return Effect.void
        })
      )
    })
    this.#run(resendToAll)
  }

  #resendTo(worker: ConnectedWorker): Effect.Effect<void> {
    const { environment, workerId } = worker.registration
    const jobIds = [...worker.activeJobIds]
    if (jobIds.length === 0) return Effect.void
    return Effect.matchEffect(
      this.#store.read(PendingNotices.pendingNotices(environment, workerId, jobIds)),
      {
        onSuccess: (notices) =>
          Effect.sync(() => {
            if (this.connected.get(workerId) !== worker) return
            // an ended turn needs no notice
            for (const notice of notices)
              if (worker.activeJobIds.has(notice.jobId)) this.notify(workerId, notice)
          }),
        onFailure: (error) => {
          if (error.code === "STORE_LOCKED") return Effect.void
          this.#mustResendAgain = true
          return Effect.andThen(
            Effect.logWarning(
              `The notices to worker ${workerId} about its turns cannot be read; trying again in a second`,
              error
            ),
            Effect.sleep(RETRY_MS)
          )
        }
      }
    )
  }

  /** Dispatches the runs that may be ready. */
  poke(): void {
    if (this.#ended) return
    if (this.#claiming) {
      this.#wasPokedMeanwhile = true
      return
    }
    const demands = this.#demands()
    if (demands.length === 0) return
    this.#claiming = true
    this.#claimedAt = this.#monotonicMs()
    this.#run(
      Effect.flatMap(this.#claim(demands), ({ claims, failed }) => {
        if (failed === undefined) {
          return Effect.sync(() => {
            if (this.#outage.isOn) this.#run(this.#outage.succeeded())
            this.#handOutClaims(claims)
            if (this.#wasPokedMeanwhile) {
              this.#wasPokedMeanwhile = false
              this.poke()
            }
          })
        }
        // the runs that were claimed in other environments are dispatched; nothing else is claimed until the next try
        this.#handOutClaims(claims)
        this.#claiming = true
        return Effect.andThen(
          this.#outage.failed(failed),
          // another engine has the database, and dispatches its runs
          failed.code === "STORE_LOCKED"
            ? Effect.void
            : Effect.andThen(
                Effect.sleep(RETRY_MS),
                Effect.sync(() => {
                  this.#handOutClaims([])
                  this.poke()
                })
              )
        )
      })
    )
  }

  /** Claims runs for workers, environment by environment, in one commit. */
  #claim(demands: ReadonlyArray<Demand>): Effect.Effect<ClaimResult> {
    const environments = new Set(demands.map(({ environment }) => environment))
    const claims = [...environments].map((name) => {
      const some = demands.filter(({ environment }) => environment === name)
      return Effect.match(this.#store.write(Claims.claimRuns(name, some)), {
        onSuccess: (claims): ClaimResult => ({ claims }),
        onFailure: (failed): ClaimResult => ({ claims: [], failed })
      })
    })
    const [only] = claims
    if (claims.length === 1 && only !== undefined) return only
    return Effect.map(Effect.all(claims, { concurrency: "unbounded" }), (all) => {
      const failed = all.find((one) => one.failed !== undefined)?.failed
      return { claims: all.flatMap(({ claims }) => claims), ...(failed === undefined ? {} : { failed }) }
    })
  }

  /** Dispatches runs if the last commit may have left runs ready. Called when a worker may have got room. */
  pokeIfReady(): void {
    if (this.#mayHaveReady) this.poke()
  }

  #demands(): ReadonlyArray<Demand> {
    const demands: Array<Demand> = []
    for (const worker of this.connected.all()) {
      if (worker.room > 0 && worker.reachable) demands.push(this.#demandOf(worker, worker.room))
    }
    if (demands.length === 0) return demands
    // which worker gets a pinned run depends also on the workers without room, and on those of other engines
    for (const worker of this.connected.all()) {
      if (worker.pinsRuns && worker.room <= 0 && worker.reachable) demands.push(this.#demandOf(worker, 0))
    }
    const { pinningDemands } = this.connected.otherEngineWorkers
    if (pinningDemands.length > 0) {
      const environments = new Set(demands.map(({ environment }) => environment))
      demands.push(...pinningDemands.filter(({ environment }) => environments.has(environment)))
    }
    return demands
  }

  #demandOf(worker: ConnectedWorker, room: number): Demand {
    const { leaseMs, registration } = worker
    const functions = this.connected.functionsOf(worker)
    if (worker.isClaimed && !hasSameKeys(functions, worker.storedFunctions)) this.#onLimitsChange(worker)
    return {
      workerId: registration.workerId,
      environment: registration.environment,
      functions,
      labels: registration.labels,
      room,
      capacity: registration.maxConcurrentJobs,
      ...(leaseMs === undefined ? {} : { leaseMs })
    }
  }

  #handOutClaims(claims: ReadonlyArray<Claim>): void {
    this.#claiming = false
    const claimedAt = this.#claimedAt
    const noticesByJob = this.#earlyNotices
    if (noticesByJob.size > 0) this.#earlyNotices = new Map()
    for (const { workerId, job } of claims) {
      const earlyNotices = noticesByJob.get(job.jobId)?.notices ?? []
      noticesByJob.delete(job.jobId)
      this.#handOut({ workerId, job, claimedAt, earlyNotices })
    }
    // the rest of the notices are about other jobs
    for (const { notices, workerId } of noticesByJob.values()) {
      for (const notice of notices) this.notify(workerId, notice)
    }
  }

  #handOut({ workerId, ...claimed }: JobInTransit): void {
    const { job, earlyNotices } = claimed
    const worker = this.connected.get(workerId)
    // the worker left during the claim; `releaseWorker` may have run before the claim, so the run is given back here
    if (worker === undefined) return this.#release(job)
    worker.room--
    worker.activeJobIds.add(job.jobId)
    if (worker.leaseMs === undefined) this.#takeoverWatch.begin()
    const mayRun = this.connected.mayRun(worker, job.functionId)
    if (mayRun && !this.#jobSecrets.areNeededBy(job)) return this.#deliver(worker, claimed)
    this.#noticesWhileDecrypting.set(job.jobId, earlyNotices)
    this.#run(
      Effect.map(
        Effect.catch(this.#jobSecrets.addTo(job, mayRun), (error) =>
          Effect.as(
            Effect.logError(
              `Run ${job.runId} could not be given to worker ${workerId}, nor could it be paused or released: the run waits until its lease expires`,
              error
            ),
            undefined
          )
        ),
        (jobWithSecrets) => {
          this.#noticesWhileDecrypting.delete(job.jobId)
          if (jobWithSecrets !== undefined) return this.#deliver(worker, { ...claimed, job: jobWithSecrets })
          this.#giveRoomBack(worker, job)
        }
      )
    )
  }

  /**
   * Whether the claim was so long ago that another engine may have the run by now. That happens when this process stood still.
   */
  #isLate({ leaseMs = NODE_LEASE_MS }: ConnectedWorker, claimedAt: number): boolean {
    return this.#store.node !== undefined && this.#monotonicMs() - claimedAt > maxTransitMs(leaseMs)
  }

  /** Delivers a job to its worker, unless another engine may have the run by now, or the run has ended or is to be paused. */
  #deliver(worker: ConnectedWorker, { claimedAt, job, earlyNotices }: Omit<JobInTransit, "workerId">): void {
    if (this.#isLate(worker, claimedAt)) {
      this.#release(job)
      return this.#giveRoomBack(worker, job)
    }
    if (earlyNotices.some(endsLease)) {
      this.#endUndelivered(job)
      return this.#giveRoomBack(worker, job)
    }
    if (earlyNotices.findLast(({ _tag }) => _tag !== "Fired")?._tag === "Paused") {
      this.#release(job)
      return this.#giveRoomBack(worker, job)
    }
    worker.handlers.onJob(job)
    for (const notice of earlyNotices) sendNotice(worker, notice)
  }

  /** Stops dispatching runs, because the engine stops. */
  end(): void {
    this.#ended = true
  }

  /** Tells every turn that its lease is lost, because another engine has the database and its runs. */
  abandon(error: StoreError): void {
    let turns = 0
    for (const worker of this.connected.all()) {
      for (const jobId of Array.from(worker.activeJobIds)) {
        sendNotice(worker, { _tag: "LeaseLost", jobId, reason: error.message })
        turns++
      }
      worker.handlers.onConnected?.(false)
    }
    if (turns === 0) return
    const what =
      turns === 1 ? "1 turn of this engine is aborted" : `${turns} turns of this engine are aborted`
    this.#run(Effect.logError(`${what}: another engine has taken over its runs`))
  }

  /** Gives a worker back the room for a job that it does not get. */
  #giveRoomBack(worker: ConnectedWorker, { jobId }: Job): void {
    worker.activeJobIds.delete(jobId)
    worker.room++
    this.pokeIfReady()
  }

  /** Ends the revoked lease of a job that was taken back before delivery: no worker has begun it. */
  #endUndelivered({ environment, jobId }: Job): void {
    this.#endRevoked(environment, jobId)
  }

  #endRevoked(environment: string, jobId: string): void {
    this.#run(
      Effect.catch(this.#store.write(LostLeases.endRevokedLeases(environment, [jobId])), (error) =>
        Effect.logError(
          `The lease of job ${jobId} could not be ended: no other worker gets its run until the lease expires`,
          error
        )
      )
    )
  }

  #release({ environment, jobId, runId }: Job): void {
    this.#run(
      Effect.catch(
        Effect.asVoid(
          Reports.applyReports(this.#store, environment, [{ jobId, runId, ops: [{ _tag: "Release" }] }])
        ),
        ({ message }) =>
          Effect.logWarning(
            `Run ${runId} could not be released (${message}): no other worker gets it until its lease expires`
          )
      )
    )
  }
}

const hasSameKeys = (one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): boolean =>
  one === other || (one.size === other.size && [...one.keys()].every((key) => other.has(key)))

const isBeside = (one: ConnectedWorker, other: ConnectedWorker): boolean =>
  one.reachable && one.registration.environment === other.registration.environment

/** The kinds of changes by other engines after which runs are dispatched. */
const DISPATCHING_CHANGES: ReadonlyArray<ChangeKind> = ["ready", "access", "functions"]

/** A job in transit to a worker. */
interface JobInTransit {
  readonly workerId: string
  readonly job: Job
  /** When the claim began, by a monotonic clock, in milliseconds. */
  readonly claimedAt: number
  /** Notices that arrived before the job. */
  readonly earlyNotices: Array<Notice>
}

/** The claimed runs, and the error when the claim failed in an environment. */
interface ClaimResult {
  readonly claims: ReadonlyArray<Claim>
  readonly failed?: StoreError
}

export class Dispatch extends Context.Service<Dispatch, DispatchService>()(
  "@ironflow/node/Engine/Dispatch"
) {}

export const layer: Layer.Layer<Dispatch | LiveWorkers, never, Store | Functions | Secrets> =
  Layer.effectContext(
    Effect.gen(function* () {
      const store = yield* Store
      const runFork = Effect.runForkWith(yield* Effect.context<never>())
      const clock = yield* Clock.Clock
      const dispatch = new DispatchService(
        store,
        yield* Functions,
        yield* Secrets,
        runFork,
        () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      )
      const stops = [
        // dispatches within the commit, so that the claim shares the commit that made the runs ready
        store.onReady(() => dispatch.poke()),
        store.onLost((error) => dispatch.abandon(error)),
        store.onCommit((changes) => dispatch.committed(changes), {
          isConnectedHere: (workerId) => dispatch.connected.has(workerId)
        })
      ]
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const stop of stops) stop()
          dispatch.end()
        })
      )
      return Context.make(Dispatch, dispatch).pipe(Context.add(LiveWorkers, dispatch.connected))
    })
  )
