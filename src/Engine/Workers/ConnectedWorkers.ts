/** The connected workers, in this process and outside it, by id. */
import type { WorkerInfo } from "../../Client/Client.ts"
import { failingFunctionId } from "../../OnFailure.ts"
import type { WorkerHandlers, WorkerRegistration } from "../../Protocol/Worker.ts"
import type * as FunctionRows from "../Functions/FunctionRows.ts"
import type { FunctionsService } from "../Functions/Functions.ts"
import type { LiveWorker } from "../Runs/Explain.ts"
import type { LiveWorkersService } from "../Runs/LiveWorkers.ts"
import type { RunningAt } from "../Runs/RunningNow.ts"
import { ShortLivedSet } from "../../ShortLivedMap.ts"
import type { LeaseHolder } from "../Runs/Stuck.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { type ConnectedWorker, holderOf, infoOf, registrationLength, startedAtOf } from "./ConnectedWorker.ts"
import { OtherEngineWorkers } from "./OtherEngineWorkers.ts"
import type { RemoteWorkerOptions } from "./RemoteSession.ts"
import type { LiveRegistration } from "./LiveRegistrations.ts"

/** How a worker is connected. */
export interface ConnectOptions extends Partial<RemoteWorkerOptions> {
  readonly transport: string
  readonly connectedAt: number
  readonly session: string
}

export class ConnectedWorkers implements LiveWorkersService {
  readonly #functions: Pick<FunctionsService, "find">
  readonly #workers = new Map<string, ConnectedWorker>()
  /** The workers of other engines on the same database. */
  readonly otherEngineWorkers = new OtherEngineWorkers()

  constructor(functions: Pick<FunctionsService, "find">) {
    this.#functions = functions
  }

  /** Adds a worker. It replaces a worker with the same id. */
  add(registration: WorkerRegistration, handlers: WorkerHandlers, options: ConnectOptions): ConnectedWorker {
    const functions = new Map(registration.functions.map((fn) => [fn.id, codeVersionOf(fn)]))
    const worker: ConnectedWorker = {
      registration,
      session: options.session,
      onMoved: options.onMoved,
      functions,
      functionIds: new Set(functions.keys()),
      registrations: new Map(registration.functions.map((fn) => [fn.id, fn])),
      pinsRuns: registration.functions.some(({ versioning }) => versioning === "pin"),
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
      activeJobIds: new ShortLivedSet(),
      earlierJobs: new Set(),
      isClaimed: false,
      storedFunctions: functions,
      hasMovedAway: false,
      room: 0,
      reachable: true,
      problem: undefined,
      functionProblems: new Map()
    }
    this.#workers.set(registration.workerId, worker)
    return worker
  }

  remove(workerId: string): void {
    this.#workers.delete(workerId)
  }

  get(workerId: string): ConnectedWorker | undefined {
    return this.#workers.get(workerId)
  }

  has(workerId: string): boolean {
    return this.#workers.has(workerId)
  }

  /** All workers, in order of connection. */
  all(): Iterable<ConnectedWorker> {
    return this.#workers.values()
  }

  findHolder(workerId: string): LeaseHolder | undefined {
    const worker = this.#workers.get(workerId)
    return worker === undefined ? this.otherEngineWorkers.get(workerId) : holderOf(worker)
  }

  workers(environment: string): ReadonlyArray<LiveWorker> {
    const ownWorkers = this.#inEnvironment(environment).map((worker) => ({
      id: worker.registration.workerId,
      functionIds:
        worker.limits?.isLimited() === true
          ? new Set([...worker.functionIds].filter((id) => this.mayRun(worker, id)))
          : worker.functionIds,
      codeVersions: worker.functions,
      turnLimits: worker.turnLimits,
      ...(worker.leaseMs === undefined ? {} : { leaseMs: worker.leaseMs }),
      ...(worker.problem === undefined ? {} : { problem: worker.problem }),
      ...(worker.functionProblems.size === 0 ? {} : { functionProblems: worker.functionProblems }),
      labels: worker.registration.labels,
      maxConcurrentJobs: worker.registration.maxConcurrentJobs,
      activeJobs: worker.activeJobIds.size
    }))
    return [...ownWorkers, ...this.otherEngineWorkers.live(environment)]
  }

  running(environment: string, runId: string): ReadonlyArray<RunningAt> {
    return this.#inEnvironment(environment).flatMap(({ handlers, registration: { workerId } }) =>
      (handlers.running?.(0) ?? [])
        .filter((turn) => turn.runId === runId)
        .map((turn) => ({ ...turn, workerId }))
    )
  }

  /** The code versions that workers other than `except` have of these functions. */
  liveVersions(
    environment: string,
    functionIds: ReadonlyArray<string>,
    except: string
  ): FunctionRows.LiveCodeVersions {
    const ownWorkers = this.#inEnvironment(environment).map(({ functions, registration }) => ({
      id: registration.workerId,
      codeVersions: functions
    }))
    return [...ownWorkers, ...this.otherEngineWorkers.live(environment)]
      .filter(({ id }) => id !== except)
      .flatMap(({ codeVersions }) =>
        functionIds.flatMap((id) => {
          const version = codeVersions.get(id)
          return version === undefined ? [] : [[id, version] as const]
        })
      )
  }

  /** The registrations that live workers of an environment have of a function. */
  liveRegistrations(environment: string): (functionId: string) => ReadonlyArray<LiveRegistration> {
    const ownWorkers = this.#inEnvironment(environment)
    const elsewhere = this.otherEngineWorkers.registrations(environment)
    return (functionId) => [
      ...ownWorkers.flatMap((worker) => {
        const registration = worker.registrations.get(functionId)
        return registration === undefined
          ? []
          : [{ registration, codeVersion: codeVersionOf(registration), startedAt: startedAtOf(worker) }]
      }),
      ...elsewhere.flatMap((of) => of(functionId) ?? [])
    ]
  }

  /** The workers of an environment, as shown in lists. */
  list(environment: string): ReadonlyArray<WorkerInfo> {
    return [...this.#inEnvironment(environment).map(infoOf), ...this.otherEngineWorkers.list(environment)]
  }

  #inEnvironment(environment: string): ReadonlyArray<ConnectedWorker> {
    return [...this.#workers.values()].filter((worker) => worker.registration.environment === environment)
  }

  /** Characters of all registrations. */
  get registeredLength(): number {
    let length = 0
    for (const worker of this.#workers.values()) length += worker.length
    return length
  }

  /** Workers and turns of all environments. */
  get load(): { readonly workers: number; readonly activeJobs: number; readonly credit: number } {
    let activeJobs = 0
    let credit = 0
    for (const worker of this.#workers.values()) {
      activeJobs += worker.activeJobIds.size
      credit += worker.room
    }
    return { workers: this.#workers.size, activeJobs, credit }
  }

  /** The functions whose runs a worker may get now, by function id, with their code versions. */
  functionsOf(worker: ConnectedWorker): ReadonlyMap<string, string> {
    const { functionProblems, functions, limits } = worker
    return limits?.isLimited() === true || functionProblems.size > 0
      ? new Map([...functions].filter(([id]) => this.mayRun(worker, id) && !functionProblems.has(id)))
      : functions
  }

  /** Whether the worker may get the events and secrets of the function's runs, by the function's current registration. */
  mayRun(worker: ConnectedWorker, functionId: string): boolean {
    const { environment } = worker.registration
    const { limits } = worker
    if (limits?.isLimited() !== true) return true
    const fn = this.#functions.find(environment, functionId)
    if (fn === undefined) return true
    // a failure handler also gets the event of the failed run, so the worker must be allowed to run that run's function too
    const failing = failingFunctionId(fn)
    return limits.mayRun(fn) && (failing === undefined || this.mayRun(worker, failing))
  }
}
