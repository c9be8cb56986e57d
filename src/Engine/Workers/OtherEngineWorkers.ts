/** The workers that are connected to other engines on the same database, as those engines have stored them. */
import type { WorkerInfo } from "../../Client/Client.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import type { LiveWorker } from "../Runs/Explain.ts"
import type { WorkerOfEngine } from "../Runs/EngineWorkers.ts"
import type { Demand } from "../Turns/TurnRecords.ts"
import { registrationHash } from "../Functions/FunctionRows.ts"
import { type ConnectedWorker, infoOf, startedAtOf } from "./ConnectedWorker.ts"
import type { Left, LiveRegistration } from "./LiveRegistrations.ts"

interface StoredWorker {
  readonly environment: string
  readonly text: string
  readonly pins: boolean
  readonly info: WorkerInfo
  readonly liveWorker: LiveWorker
  /** When the worker's program started, and the hash of each registration; absent if an engine of an earlier version stored it. */
  readonly startedAt?: number
  readonly hashes?: ReadonlyMap<string, string>
}

/** Maximum number of characters of a worker's connection problem. */
const MAX_PROBLEM_LENGTH = 1000

/**
 * The stored text that tells other engines of a worker. `functions` are the functions that the worker may run now, with their code
 * versions.
 */
export const encodeWorker = (worker: ConnectedWorker, functions: ReadonlyMap<string, string>): string =>
  JSON.stringify({
    ...infoOf(worker),
    codeVersions: [...functions],
    startedAt: startedAtOf(worker),
    registrations: [...functions.keys()].flatMap((id) => {
      const registration = worker.registrations.get(id)
      return registration === undefined ? [] : [[id, registrationHash(registration)]]
    }),
    pins: worker.pinsRuns,
    ...(worker.leaseMs === undefined ? {} : { leaseMs: worker.leaseMs }),
    ...(worker.turnLimits === undefined ? {} : { turnLimits: [...worker.turnLimits] }),
    ...(worker.problem === undefined ? {} : { problem: worker.problem.slice(0, MAX_PROBLEM_LENGTH) }),
    ...(worker.functionProblems.size === 0
      ? {}
      : {
          functionProblems: [...worker.functionProblems].map(([id, problem]) => [
            id,
            problem.slice(0, MAX_PROBLEM_LENGTH)
          ])
        })
  })

export class OtherEngineWorkers {
  #workers: ReadonlyMap<string, StoredWorker> = new Map()
  #pinning: ReadonlyArray<Demand> = []

  /** Replaces the workers. Returns those that have gone, and whether any has come, gone or changed. */
  set(workers: ReadonlyArray<WorkerOfEngine>): {
    readonly hasChanged: boolean
    readonly gone: ReadonlyArray<Left>
  } {
    const workersBefore = this.#workers
    this.#workers = new Map(
      workers.flatMap((worker) => {
        const storedWorker = readWorker(worker)
        return storedWorker === undefined ? [] : [[worker.workerId, storedWorker]]
      })
    )
    this.#pinning = [...this.#workers.values()].flatMap(demandOf)
    return {
      hasChanged:
        workersBefore.size !== this.#workers.size ||
        [...this.#workers].some(([id, { text }]) => workersBefore.get(id)?.text !== text),
      gone: [...workersBefore].flatMap(([id, { environment, liveWorker }]) =>
        this.#workers.has(id) ? [] : [{ environment, codeVersions: liveWorker.codeVersions }]
      )
    }
  }

  /**
   * The demands of the reachable workers whose functions pin runs. These demands have no room, because the workers get their runs
   * from their own engine.
   */
  get pinningDemands(): ReadonlyArray<Demand> {
    return this.#pinning
  }

  /** The workers of an environment, in the form that decides which runs each worker may get. */
  live(environment: string): ReadonlyArray<LiveWorker> {
    return this.#inEnvironment(environment).map(({ liveWorker }) => liveWorker)
  }

  /** The workers of an environment, as shown in lists. */
  list(environment: string): ReadonlyArray<WorkerInfo> {
    return this.#inEnvironment(environment).map(({ info }) => info)
  }

  /** For each worker of an environment, its registration of a function. */
  registrations(environment: string): ReadonlyArray<(functionId: string) => LiveRegistration | undefined> {
    return this.#inEnvironment(environment).map(({ hashes, liveWorker, startedAt }) => (functionId) => {
      const codeVersion = liveWorker.codeVersions.get(functionId)
      const registration = hashes?.get(functionId)
      return codeVersion === undefined
        ? undefined
        : {
            codeVersion,
            ...(registration === undefined || startedAt === undefined ? {} : { registration, startedAt })
          }
    })
  }

  get(workerId: string): LiveWorker | undefined {
    return this.#workers.get(workerId)?.liveWorker
  }

  #inEnvironment(environment: string): ReadonlyArray<StoredWorker> {
    return [...this.#workers.values()].filter((worker) => worker.environment === environment)
  }
}

const demandOf = ({ environment, liveWorker, pins }: StoredWorker): ReadonlyArray<Demand> =>
  pins && liveWorker.problem === undefined
    ? [
        {
          workerId: liveWorker.id,
          environment,
          functions: liveWorker.codeVersions,
          labels: liveWorker.labels,
          room: 0,
          isElsewhere: true
        }
      ]
    : []

/** Reads a stored worker; `undefined` when an engine of a version with another format has stored it. */
const readWorker = ({
  environment,
  info: text,
  jobs,
  workerId
}: WorkerOfEngine): StoredWorker | undefined => {
  const stored = safeJsonParse(text)
  if (!isObject(stored) || !Array.isArray(stored.functionIds) || !isObject(stored.labels)) return undefined
  const functionIds = stored.functionIds.map(String)
  const labels = Object.fromEntries(
    Object.entries(stored.labels).map(([name, value]) => [name, String(value)])
  )
  const maxConcurrentJobs = Number(stored.maxConcurrentJobs)
  return {
    environment,
    text,
    // engines of earlier versions do not store `pins`
    pins: stored.pins !== false,
    ...(typeof stored.startedAt === "number" ? { startedAt: stored.startedAt } : {}),
    ...(Array.isArray(stored.registrations)
      ? { hashes: new Map(stored.registrations.map((one) => [String(one[0]), String(one[1])])) }
      : {}),
    info: {
      id: workerId,
      hostname: String(stored.hostname),
      functionIds,
      maxConcurrentJobs,
      activeJobs: jobs,
      labels,
      transport: String(stored.transport),
      registeredAt: String(stored.registeredAt)
    },
    liveWorker: {
      id: workerId,
      functionIds: new Set(functionIds),
      codeVersions: Array.isArray(stored.codeVersions)
        ? new Map(stored.codeVersions.map((one) => [String(one[0]), String(one[1])]))
        : new Map(),
      turnLimits: Array.isArray(stored.turnLimits)
        ? new Map(stored.turnLimits.map((limit) => [String(limit[0]), Number(limit[1])]))
        : undefined,
      ...(typeof stored.leaseMs === "number" ? { leaseMs: stored.leaseMs } : {}),
      ...(typeof stored.problem === "string" ? { problem: stored.problem } : {}),
      ...(Array.isArray(stored.functionProblems)
        ? {
            functionProblems: new Map(stored.functionProblems.map((one) => [String(one[0]), String(one[1])]))
          }
        : {}),
      labels,
      maxConcurrentJobs,
      activeJobs: jobs
    }
  }
}
