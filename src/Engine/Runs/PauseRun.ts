/** Pauses a run. */
import type { Row, Transaction } from "../Store/Transaction.ts"
import { statusIn, moves, mustMove } from "./StatusRows.ts"
import { parseStored } from "../Store/StoredJson.ts"
import { statement, type Program, get, affected, variant } from "../Store/Program.ts"

import { callHooks } from "./HookCalls.ts"
import { startAfterPause } from "./SystemRuns.ts"
import { aboutRun, notifyRunObservers } from "./RunObservers.ts"

/** Why a run is paused, and the status that it returns to. */
export interface Pause {
  readonly code: string
  readonly message: string
  readonly details?: unknown
  readonly wasCompensating?: boolean
}

/** Whether the run is rolling back, or was when it was paused. If so, it must not be cancelled halfway. */
export const isCompensating = (row: Row): boolean =>
  statusIn(row) === "compensating" ||
  // only `pauseRow` sets this status, and it stores a `Pause` with it
  (statusIn(row) === "paused" && (parseStored(String(row.pause)) as Pause).wasCompensating === true)

const PAUSE = `UPDATE runs SET ${moves.paused.set}, pause = ?, ready_at = NULL, updated_at = ?
   WHERE key = ? AND ${moves.paused.where}`

const FIND_PAUSE = statement("PauseRun.findPause", "SELECT status, pause FROM runs WHERE key = ?")

const FIND_RUN = statement("PauseRun.findRun", "SELECT id, function, environment FROM runs WHERE key = ?")

export function* pauseRow(tx: Transaction, run: number, pause: Pause): Program<void> {
  const row = yield* get(FIND_PAUSE, run)
  const wasCompensating = row !== undefined && isCompensating(row)
  const paused = yield* get(FIND_RUN, run)
  const about = aboutRun(tx, {
    id: String(paused?.id),
    function: Number(paused?.function),
    environment: Number(paused?.environment)
  })
  tx.changes.troubles.push({ ...about, _tag: "RunPaused", code: pause.code, message: pause.message })
  notifyRunObservers(tx, () => ({ ...about, _tag: "RunPaused", message: pause.message }))
  const changed = yield* affected(
    variant("PauseRun.pauseRow", PAUSE),
    JSON.stringify({ ...pause, ...(wasCompensating ? { wasCompensating } : {}) }),
    tx.now(),
    run
  )
  yield* mustMove(run, "paused", changed)
  if (paused === undefined) return
  const { environment, functionId, runId } = about
  const { code, message } = pause
  yield* callHooks(tx, "run.paused", environment, { functionId, runId, reason: { code, message } })
  yield* startAfterPause(
    tx,
    {
      key: run,
      id: String(paused.id),
      function: Number(paused.function),
      environment: Number(paused.environment)
    },
    { code, message }
  )
}
