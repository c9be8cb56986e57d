/** The workers that are connected to other engines on the same database, as those engines have stored them. */
import type { WorkerInfo } from "../../Client/Client.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import type { LiveWorker } from "../Runs/Explain.ts"
import type { NodeWorker } from "../Runs/NodeWorkers.ts"
import { type ConnectedWorker, infoOf } from "./ConnectedWorker.ts"

interface StoredWorker {
  readonly environment: string
  readonly info: WorkerInfo
  readonly live: LiveWorker
}

/** Most characters of a worker's connection problem. */
const MOST_PROBLEM = 1000

/** What other engines are told of a worker. */
export const textOf = (worker: ConnectedWorker): string =>
  JSON.stringify({
    ...infoOf(worker),
    codeVersions: [...worker.functions],
    ...(worker.leaseMs === undefined ? {} : { leaseMs: worker.leaseMs }),
    ...(worker.turnLimits === undefined ? {} : { turnLimits: [...worker.turnLimits] }),
    ...(worker.problem === undefined ? {} : { problem: worker.problem.slice(0, MOST_PROBLEM) })
  })

export class OtherEngineWorkers {
  #workers: ReadonlyMap<string, StoredWorker> = new Map()

  /** Replaces the workers. */
  set(workers: ReadonlyArray<NodeWorker>): void {
    this.#workers = new Map(
      workers.flatMap((worker) => {
        const read = readWorker(worker)
        return read === undefined ? [] : [[worker.workerId, read]]
      })
    )
  }

  /** The workers of an environment, as runs need them. */
  live(environment: string): ReadonlyArray<LiveWorker> {
    return this.#of(environment).map(({ live }) => live)
  }

  /** The same, as shown in lists. */
  list(environment: string): ReadonlyArray<WorkerInfo> {
    return this.#of(environment).map(({ info }) => info)
  }

  get(workerId: string): LiveWorker | undefined {
    return this.#workers.get(workerId)?.live
  }

  #of(environment: string): ReadonlyArray<StoredWorker> {
    return [...this.#workers.values()].filter((worker) => worker.environment === environment)
  }
}

/** `undefined` for a worker stored by a version with another format. */
const readWorker = ({ environment, info: text, jobs, workerId }: NodeWorker): StoredWorker | undefined => {
  const stored = safeJsonParse(text)
  if (!isObject(stored) || !Array.isArray(stored.functionIds) || !isObject(stored.labels)) return undefined
  const functionIds = stored.functionIds.map(String)
  const labels = Object.fromEntries(
    Object.entries(stored.labels).map(([name, value]) => [name, String(value)])
  )
  const maxConcurrentJobs = Number(stored.maxConcurrentJobs)
  return {
    environment,
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
    live: {
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
      labels,
      maxConcurrentJobs,
      activeJobs: jobs
    }
  }
}
