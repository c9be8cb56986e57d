/** Pauses a run that no worker holds, and finds out whether a run is rolling back. */
import type { Row, Transaction } from "../Store/Transaction.ts"
import { statusIn, moves, mustMove } from "./StatusRows.ts"
import { statement, type Program, get, affected, variant } from "../Store/Program.ts"
import { callHooks } from "./HookCalls.ts"
import { type Pause, readPause } from "./Pause.ts"
import { startAfterPause } from "./SystemRuns.ts"
import { runMembers, notifyRunObservers } from "./RunObservers.ts"

/** Whether the run is rolling back, or was rolling back when it was paused. Such a run must not be cancelled halfway. */
export const isCompensating = (row: Row): boolean =>
  statusIn(row) === "compensating" || (statusIn(row) === "paused" && readPause(row).wasCompensating === true)

const PAUSE = `UPDATE runs SET ${moves.paused.set}, pause = ?, ready_at = NULL, updated_at = ?
   WHERE key = ? AND ${moves.paused.where}`

const FIND_RUN = statement(
  "PauseRun.findRun",
  "SELECT id, function, environment, status, pause FROM runs WHERE key = ?"
)

/** Pauses a run that no worker holds. */
export function* pauseRow(tx: Transaction, run: number, pause: Pause): Program<void> {
  const row = yield* get(FIND_RUN, run)
  // `mustMove` throws, since no row was changed
  if (row === undefined) return yield* mustMove(run, "paused", 0)
  const found = { id: String(row.id), function: Number(row.function), environment: Number(row.environment) }
  const wasCompensating = isCompensating(row)
  const members = runMembers(tx, found)
  tx.changes.runFailures.push({ ...members, _tag: "RunPaused", code: pause.code, message: pause.message })
  notifyRunObservers(tx, () => ({ ...members, _tag: "RunPaused", message: pause.message }))
  const changed = yield* affected(
    variant("PauseRun.pauseRow", PAUSE),
    JSON.stringify({ ...pause, ...(wasCompensating ? { wasCompensating } : {}) }),
    tx.now(),
    run
  )
  yield* mustMove(run, "paused", changed)
  const { environment, functionId, runId } = members
  const { code, message } = pause
  yield* callHooks(tx, "run.paused", environment, { functionId, runId, reason: { code, message } })
  yield* startAfterPause(tx, { key: run, ...found }, { code, message })
}
