/** The connected workers, as runs need them: which worker may take which run. */
import * as Context from "effect/Context"
import type { LiveWorker } from "./Explain.ts"
import type { RunningAt } from "./RunningNow.ts"
import type { Holders } from "./Stuck.ts"

export interface LiveWorkersService {
  /** The workers of one environment. */
  readonly workers: (environment: string) => ReadonlyArray<LiveWorker>
  /** The steps of a run whose code runs now, as reported by the workers of its environment. */
  readonly running: (environment: string, runId: string) => ReadonlyArray<RunningAt>
  /** What is known of the worker with an id. */
  readonly holder: Holders
}

export class LiveWorkers extends Context.Service<LiveWorkers, LiveWorkersService>()(
  "@ironflow/node/Engine/LiveWorkers"
) {}
