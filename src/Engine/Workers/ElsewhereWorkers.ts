/** The workers that are connected to other engines on the same database, as those engines have stored them. */
import type { WorkerInfo } from "../../Client/Client.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import type { LiveWorker } from "../Runs/Explain.ts"
import type { NodeWorker } from "../Runs/NodeWorkers.ts"
import { type Connected, infoOf } from "./ConnectedWorker.ts"

interface Elsewhere {
  readonly environment: string
  readonly info: WorkerInfo
  readonly live: LiveWorker
}

/** Most characters of a worker's connection problem. */
const MOST_PROBLEM = 1000

/** What other engines are told of a worker. */
export const textOf = (worker: Connected): string =>
  JSON.stringify({
    ...infoOf(worker),
    codeVersions: [...worker.functions],
    ...(worker.leaseMs === undefined ? {} : { leaseMs: worker.leaseMs }),
    ...(worker.turnLimits === undefined ? {} : { turnLimits: [...worker.turnLimits] }),
    ...(worker.problem === undefined ? {} : { problem: worker.problem.slice(0, MOST_PROBLEM) })
  })

export class ElsewhereWorkers {
  #workers: ReadonlyMap<string, Elsewhere> = new Map()

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

  #of(environment: string): ReadonlyArray<Elsewhere> {
    return [...this.#workers.values()].filter((worker) => worker.environment === environment)
  }
}

/** `undefined` for a worker stored by a version with another format. */
const readWorker = ({ environment, info: text, jobs, workerId }: NodeWorker): Elsewhere | undefined => {
  const said = safeJsonParse(text)
  if (!isObject(said) || !Array.isArray(said.functionIds) || !isObject(said.labels)) return undefined
  const functionIds = said.functionIds.map(String)
  const labels = Object.fromEntries(Object.entries(said.labels).map(([name, value]) => [name, String(value)]))
  const maxConcurrentJobs = Number(said.maxConcurrentJobs)
  return {
    environment,
    info: {
      id: workerId,
      hostname: String(said.hostname),
      functionIds,
      maxConcurrentJobs,
      activeJobs: jobs,
      labels,
      transport: String(said.transport),
      registeredAt: String(said.registeredAt)
    },
    live: {
      id: workerId,
      functionIds: new Set(functionIds),
      codeVersions: Array.isArray(said.codeVersions)
        ? new Map(said.codeVersions.map((one) => [String(one[0]), String(one[1])]))
        : new Map(),
      turnLimits: Array.isArray(said.turnLimits)
        ? new Map(said.turnLimits.map((limit) => [String(limit[0]), Number(limit[1])]))
        : undefined,
      ...(typeof said.leaseMs === "number" ? { leaseMs: said.leaseMs } : {}),
      ...(typeof said.problem === "string" ? { problem: said.problem } : {}),
      labels,
      maxConcurrentJobs,
      activeJobs: jobs
    }
  }
}
