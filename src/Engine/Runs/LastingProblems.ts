/**
 * Finds stuck runs and failing functions, calls hooks for them, and starts the functions that listen to system events. The caller
 * ensures that each problem is reported once.
 */
import { registryOf } from "../Functions/Registry.ts"
import { acrossEnvironments, all, type Program, statement } from "../Store/Program.ts"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { readRates } from "./FailureRates.ts"
import { callHooks } from "./HookCalls.ts"
import { Status } from "./StatusRows.ts"
import { type FindHolder, readLease, whyStuck } from "./Stuck.ts"
import { startRunListeners, startListeners } from "./SystemRuns.ts"
import { functionIdOf } from "./RunObservers.ts"

/** Whether any functions have a trigger for system events. */
export const hasListeners = acrossEnvironments(
  "hasListeners",
  function* (tx: Transaction): Program<boolean> {
    return tx.environmentNames.some((environment) => registryOf(tx).hasSystemListeners(environment))
  },
  () => "check whether functions listen to system events"
)

export interface FunctionInEnvironment {
  readonly environment: string
  readonly functionId: string
}

/** When a function counts as failing. */
export interface FailingThreshold {
  /** The window in minutes. The same number was given to `watchRates`, which counts the runs. */
  readonly minutes: number
  /** Minimum number of runs that must have ended in the window. */
  readonly runs: number
  /** Minimum share of failed runs among the runs that ended in the window, from 0 to 1. */
  readonly rate: number
}

/**
 * Finds the functions that are failing now. For each function that is not in `failingBefore`, calls hooks and starts the
 * listening functions. Returns the failing functions; `isQuiet` tells whether no run at all has failed in the window.
 */
export const noteFailing = acrossEnvironments(
  "noteFailing",
  function* (
    tx: Transaction,
    { minutes, rate, runs }: FailingThreshold,
    failingBefore: ReadonlyArray<FunctionInEnvironment>
  ): Program<{ readonly failing: ReadonlyArray<FunctionInEnvironment>; readonly isQuiet: boolean }> {
    const rates = yield* readRates(tx)
    const failing = rates.filter(
      ({ completed, failed }) => completed + failed >= runs && failed / (completed + failed) >= rate
    )
    for (const { completed, environment, failed, functionId } of failing) {
      if (failingBefore.some((one) => one.environment === environment && one.functionId === functionId))
        continue
      const figures = { ended: completed + failed, failed, windowMs: minutes * 60_000 }
      yield* callHooks(tx, "function.failing", environment, { functionId, ...figures })
      const at = new Date(tx.now()).toISOString()
      yield* startListeners(tx, tx.environment(environment), `system.function.${functionId}.failing`, {
        functionId,
        ...figures,
        at
      })
    }
    return {
      failing: failing.map(({ environment, functionId }) => ({ environment, functionId })),
      isQuiet: rates.length === 0
    }
  },
  () => "note which functions are failing"
)

/** Maximum number of stuck runs that are found at a time. */
const MAX_STUCK = 100

const SCANS_UNFINISHED =
  "the unfinished runs, but only when the number of stuck runs is not 0, which is a rare case"

const LIST_ABANDONED_RUNS = statement(
  "LastingProblems.listAbandonedRuns",
  `SELECT r.key, r.id, r.environment, r.function FROM runs r WHERE r.ended_at IS NULL
     AND r.lease IS NULL AND r.ready_at IS NULL AND r.status <> ${Status.paused}
     AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.key AND w.fired IS NULL AND w.due_at IS NOT NULL)
     ORDER BY r.key LIMIT ${MAX_STUCK}`,
  { scans: SCANS_UNFINISHED }
)

const LIST_LEASED_RUNS = statement(
  "LastingProblems.listLeasedRuns",
  `SELECT key, id, environment, function, status, worker, lease, lease_until, updated_at FROM runs
     WHERE ended_at IS NULL AND lease IS NOT NULL ORDER BY key`,
  { scans: SCANS_UNFINISHED }
)

interface RunKeys {
  readonly key: number
  readonly id: string
  readonly environment: number
  readonly function: number
}

const keysOf = (row: Row): RunKeys => ({
  key: Number(row.key),
  id: String(row.id),
  environment: Number(row.environment),
  function: Number(row.function)
})

const readStuckCandidates = acrossEnvironments(
  "readStuckCandidates",
  function* (tx: Transaction) {
    const abandoned = (yield* all(LIST_ABANDONED_RUNS)).map(keysOf)
    const leased = (yield* all(LIST_LEASED_RUNS)).map((row) => ({
      ...keysOf(row),
      lease: readLease(tx, row)
    }))
    return { abandoned, leased, at: tx.now() }
  },
  () => "find stuck runs"
)

/** The stuck runs, which cannot continue by themselves: 100 at most. */
export const findStuck = (
  store: StoreService,
  findHolder: FindHolder
): Effect.Effect<ReadonlyArray<RunKeys>, StoreError> =>
  Effect.map(store.read(readStuckCandidates()), ({ abandoned, at, leased }) =>
    [
      ...abandoned,
      ...leased
        .filter(({ lease }) => whyStuck(lease, findHolder, at) !== undefined)
        .map(({ lease: _, ...run }) => run)
    ].slice(0, MAX_STUCK)
  )

/** Calls hooks and starts the listening functions for stuck runs. */
export const noteStuck = acrossEnvironments(
  "noteStuck",
  function* (tx: Transaction, runs: ReadonlyArray<RunKeys>): Program<void> {
    for (const run of runs) {
      const functionId = functionIdOf(tx, run.function)
      yield* callHooks(tx, "run.stuck", tx.environmentName(run.environment), { functionId, runId: run.id })
      yield* startRunListeners(tx, run, "stuck", {})
    }
  },
  () => "note which runs are stuck"
)
