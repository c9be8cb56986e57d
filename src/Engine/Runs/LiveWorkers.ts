/** The connected workers, as runs need them: which worker may take which run. */
import * as Context from "effect/Context"
import type { LiveWorker } from "./Explain.ts"
import type { RunningAt } from "./RunningNow.ts"
import type { FindHolder } from "./Stuck.ts"

export interface LiveWorkersService {
  /** The workers of one environment. */
  readonly workers: (environment: string) => ReadonlyArray<LiveWorker>
  /** The turns of a run with the steps whose code runs now, as reported by the workers of its environment. */
  readonly running: (environment: string, runId: string) => ReadonlyArray<RunningAt>
  /** Finds the connected worker with an id, as leases need it; `undefined` when it is not connected. */
  readonly findHolder: FindHolder
}

export class LiveWorkers extends Context.Service<LiveWorkers, LiveWorkersService>()(
  "@ironflow/node/Engine/LiveWorkers"
) {}
