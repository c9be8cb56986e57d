/** What a bulk operation does to one run, and why it does not. */
import type { BulkAction } from "../../Protocol/Bulk.ts"
import { registryOf } from "../Functions/Registry.ts"
import { isCompensating } from "../Runs/PauseRun.ts"
import { holdingJob } from "../Runs/RevokedLeases.ts"
import { erasedAt, triggerView } from "../Runs/RunEvent.ts"
import { deleteRun, hasOpenParent } from "../Runs/RunRetention.ts"
import { createRun } from "../Runs/RunRows.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { cancelRun, findStep, pauseRun, resumeRun, retryRun } from "../Runs/Steering.ts"
import { nextStatus } from "../Runs/Transitions.ts"
import { StepNotFoundError } from "../../Errors.ts"
import { attempt, get, type Program, statement } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

const NEWEST = statement("SteerOne.newest", "SELECT max(key) AS key FROM runs")

const NO_STEP = "no such step"

/** Why the action cannot be done to the run in a row of `runs`; `undefined` when it can. A dry run goes by this alone. */
export function* whyNot(
  tx: Transaction,
  action: BulkAction,
  row: Row,
  fromStep?: string
): Program<string | undefined> {
  const status = statusIn(row)!
  const hasEnded = row.ended_at !== null
  if ((action === "retry" || action === "resume" || action === "rerun") && erasedAt(row) !== undefined)
    return "erased"
  switch (action) {
    case "cancel":
      return hasEnded ? status : isCompensating(row) ? "compensating" : undefined
    case "pause":
      return hasEnded ? status : row.pause !== null ? "paused" : undefined
    case "retry":
      return nextStatus(status, "retried") === undefined ? status : yield* lacksStep(row, fromStep)
    case "resume": {
      const isPaused = status === "paused" || (row.pause !== null && holdingJob(row) !== undefined)
      if (nextStatus(status, "retried") !== undefined) return yield* lacksStep(row, fromStep)
      if (!isPaused) return status
      if (fromStep !== undefined && isCompensating(row)) return "compensating"
      return yield* lacksStep(row, fromStep)
    }
    case "rerun": {
      if (!hasEnded) return status
      if (row.input !== null) return "invoked"
      const fn = registryOf(tx).byKey(Number(row.function))
      // one that is damaged will be known when a worker registers it again
      if (fn === undefined) return "function unknown"
      return fn.deleted === true ? "function deleted" : undefined
    }
    case "delete":
      if (!hasEnded) return status
      // its worker is still to be heard of
      if (row.lease !== null) return "held"
      if (yield* hasOpenParent(row)) return "parent unfinished"
      return Number((yield* get(NEWEST))?.key) === Number(row.key) ? "newest" : undefined
  }
}

/** Does it to a run to which it can be done; returns why not, where that is known only now. */
export function* steerOne(
  tx: Transaction,
  environment: string,
  row: Row,
  how: {
    readonly action: BulkAction
    readonly reason: string
    readonly fromStep?: string
  }
): Program<string | undefined> {
  const { action, fromStep, reason } = how
  const runId = String(row.id)
  switch (action) {
    case "cancel":
      return refusalOf(yield* attempt(cancelRun.in(tx, environment, runId, reason)))
    case "pause":
      return refusalOf(yield* attempt(pauseRun.in(tx, environment, runId, reason)))
    case "retry":
      return refusalOf(yield* attempt(retryRun.in(tx, environment, runId, fromStep)))
    case "resume":
      return refusalOf(yield* attempt(resumeRun.in(tx, environment, runId, fromStep)))
    case "rerun": {
      const fn = registryOf(tx).byKey(Number(row.function))
      if (fn === undefined) return "function unknown"
      yield* createRun(tx, {
        environment: Number(row.environment),
        fn,
        event: Number(row.event),
        view: yield* triggerView(Number(row.key))
      })
      return undefined
    }
    case "delete":
      yield* deleteRun(Number(row.key))
      return undefined
  }
}

function* lacksStep(row: Row, fromStep: string | undefined): Program<string | undefined> {
  if (fromStep === undefined) return undefined
  return (yield* attempt(findStep(row, fromStep))) instanceof StepNotFoundError ? NO_STEP : undefined
}

const refusalOf = (result: object): string | undefined =>
  result instanceof StepNotFoundError ? NO_STEP : result instanceof Error ? "refused" : undefined
