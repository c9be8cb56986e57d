/** The service that tells what the connected workers can do, and which steps they run now. */
import * as Context from "effect/Context"
import type { LiveWorker } from "./Explain.ts"
import type { RunningAt } from "./RunningNow.ts"
import type { FindHolder } from "./Stuck.ts"

export interface LiveWorkersService {
  /** The workers of one environment. */
  readonly workers: (environment: string) => ReadonlyArray<LiveWorker>
  /** Those steps of a run whose code runs now, as the workers of the environment report them. */
  readonly running: (environment: string, runId: string) => ReadonlyArray<RunningAt>
  /** Finds the connected worker with an id, to judge whether its leases are stuck; `undefined` when it is not connected. */
  readonly findHolder: FindHolder
}

export class LiveWorkers extends Context.Service<LiveWorkers, LiveWorkersService>()(
  "@ironflow/node/Engine/LiveWorkers"
) {}
