/** Ends a run: fires the wait of the parent run, and starts the functions that handle failures or listen for them. */
import type { TransitionName } from "./Transitions.ts"
import { moves, mustMove } from "./StatusRows.ts"
import type { JsonText } from "../../Json.ts"
import { type SerializedError, invokeFailure } from "../../Errors.ts"
import {
  statement,
  type Program,
  affectedAssumingOne,
  get,
  variant,
  write,
  isolateRow
} from "../Store/Program.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { countForFailureRate } from "./FailureRates.ts"
import { callHooks } from "./HookCalls.ts"
import { forgetLease } from "./LeaseCache.ts"
import { MAX_KEPT_CHARS, type FirstTurnFacts } from "../Store/EndedRunRecord.ts"
import { suspectsOf } from "./Suspects.ts"
import { startAfterFailure } from "./SystemRuns.ts"
import { runMembers, hasRunObservers, notifyRunObservers, functionIdOf } from "./RunObservers.ts"
import { markCapacity, markRunEnded } from "../Functions/ReadyFunctions.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { countRunEvent } from "./RunStats.ts"
import { fireWait } from "./Waits.ts"

const statusOf = { Completed: "completed", Failed: "failed", Cancelled: "cancelled" } as const

const endStatement = (transition: TransitionName): string =>
  `UPDATE runs SET ${moves[transition].set}, output = ?, error = ?, lease = NULL, lease_until = NULL, ready_at = NULL,
     pause = NULL, ended_at = ?, updated_at = ? WHERE key = ? AND ${moves[transition].where}`

/** SQL: the statements that end a run, by transition. */
export const ENDS = {
  completed: endStatement("completed"),
  failed: endStatement("failed"),
  cancelled: endStatement("cancelled"),
  /** The run fails because its journal has become too large. */
  outgrown: endStatement("outgrown")
}

/** How a run ends. */
export type Ending =
  | { readonly _tag: "Completed"; readonly output: JsonText | undefined }
  | { readonly _tag: "Failed"; readonly error: SerializedError }
  | { readonly _tag: "Cancelled"; readonly error: SerializedError }

const DELETE_WAITS_OF_RUN = statement("EndRun.deleteWaitsOfRun", "DELETE FROM waits WHERE run = ?")

/**
 * Ends a run: releases its lease, deletes its waits, and fires the wait of the parent run. After a failure, also calls hooks, and
 * starts the failure handler and the functions that listen for failures.
 */
export function* endRun(
  tx: Transaction,
  run: {
    readonly key: number
    /** The job that holds the lease; absent without a lease. */
    readonly jobId?: string
    readonly id: string
    readonly environment: number
    readonly function: number
    readonly parent: number | null
    readonly mayHaveWaits?: boolean
    readonly createdAt?: number
    readonly worker?: string
    /** See `LeasedRun` in `LeaseCache.ts`. */
    readonly firstTurn?: FirstTurnFacts
  },
  ending: Ending,
  transition: keyof typeof ENDS = statusOf[ending._tag]
): Program<void> {
  const now = tx.now()
  forgetLease(tx, run.key, run.jobId)
  suspectsOf(tx).release(run.key)
  const output = ending._tag === "Completed" ? (ending.output ?? null) : null
  const error = ending._tag === "Completed" ? null : JSON.stringify(ending.error)
  const changed = yield* affectedAssumingOne(
    variant("EndRun.endRun", ENDS[transition]),
    output,
    error,
    now,
    now,
    run.key
  )
  yield* mustMove(run.key, transition, changed)
  if (run.mayHaveWaits !== false) yield* write(DELETE_WAITS_OF_RUN, run.key)
  tx.changes.counts[statusOf[ending._tag]]++
  countRunEvent(tx, statusOf[ending._tag], run.function)
  if (run.createdAt !== undefined) countRunEvent(tx, "run", run.function, now - run.createdAt)
  tx.markEnded(run.id)
  if (ending._tag !== "Cancelled") countForFailureRate(tx, run.function, ending._tag === "Failed")
  if (ending._tag !== "Completed") {
    const _tag = ending._tag === "Failed" ? "RunFailed" : "RunCancelled"
    tx.changes.runFailures.push({ ...runMembers(tx, run), _tag, error: ending.error })
  }
  const { createdAt, firstTurn } = run
  if (firstTurn !== undefined && createdAt !== undefined && (output?.length ?? 0) <= MAX_KEPT_CHARS) {
    tx.changes.endings.set(run.id, {
      ...firstTurn,
      id: run.id,
      function: run.function,
      status: statusOf[ending._tag],
      output,
      error,
      createdAt,
      endedAt: now
    })
  }
  if (hasRunObservers(tx)) yield* notifyOfEnd(tx, run, ending, now)
  markCapacity(tx, run.function)
  markRunEnded(tx, run.function)
  if (run.parent !== null) yield* endWaitOfParent(tx, run, ending)
  if (ending._tag !== "Failed") return
  const { environment, functionId, runId } = runMembers(tx, run)
  const { code, message, name } = ending.error
  const shortError = {
    name,
    message: message.slice(0, MAX_MESSAGE_CHARS),
    ...(code === undefined ? {} : { code })
  }
  yield* callHooks(tx, "run.failed", environment, { functionId, runId, error: shortError }, now)
  yield* startAfterFailure(tx, run, ending.error, now)
}

/** Maximum number of characters of the error message in hook calls. The run keeps the full message. */
const MAX_MESSAGE_CHARS = 2000

const FIND_CREATION_TIME = statement("EndRun.findCreationTime", "SELECT created_at FROM runs WHERE key = ?")

function* notifyOfEnd(
  tx: Transaction,
  run: {
    readonly key: number
    readonly id: string
    readonly environment: number
    readonly function: number
    readonly createdAt?: number
  },
  ending: Ending,
  endedAt: number
): Program<void> {
  const createdAt = run.createdAt ?? Number((yield* get(FIND_CREATION_TIME, run.key))?.created_at ?? endedAt)
  notifyRunObservers(tx, () => ({
    _tag: "RunEnded",
    runId: run.id,
    functionId: functionIdOf(tx, run.function),
    environment: tx.environmentName(run.environment),
    status: statusOf[ending._tag],
    outcome:
      ending._tag === "Completed"
        ? { _tag: "Success", value: ending.output }
        : { _tag: "Failure", error: ending.error },
    createdAt,
    endedAt
  }))
}

const FIND_WAIT_FOR_CHILD = statement(
  "EndRun.findWaitForChild",
  "SELECT run, step_key FROM waits WHERE child = ? AND fired IS NULL"
)

function* endWaitOfParent(
  tx: Transaction,
  run: { readonly key: number; readonly id: string; readonly function: number },
  ending: Ending
): Program<void> {
  const wait = yield* get(FIND_WAIT_FOR_CHILD, run.key)
  if (wait === undefined) return
  const parent = Number(wait.run)
  // the wait of a damaged parent cannot be fired, and must not keep the child from ending
  if (tx.damage.reasonOf("run", parent) !== undefined) return
  const functionId = functionIdOf(tx, run.function)
  const outcome: Outcome =
    ending._tag === "Completed"
      ? { _tag: "Success", value: ending.output }
      : {
          _tag: "Failure",
          error: invokeFailure(functionId, run.id, ending.error)
        }
  yield* isolateRow(tx, "run", parent, fireWait(tx, parent, String(wait.step_key), outcome))
}
