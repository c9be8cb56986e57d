/** The action of a bulk operation on one run, and the reasons why a run is skipped. */
import type { BulkAction } from "../../Protocol/Bulk.ts"
import { knownCodeVersions } from "../Functions/FunctionHistory.ts"
import { NO_PIN } from "../Functions/Pins.ts"
import { registryOf } from "../Functions/Registry.ts"
import { forkRun, inputOfRepeat, moveRun } from "../Runs/Forking.ts"
import { isCompensating } from "../Runs/PauseRun.ts"
import { holdingJob } from "../Runs/RevokedLeases.ts"
import { erasedAt } from "../Runs/RunEvent.ts"
import { deleteRun, hasOpenParent } from "../Runs/RunRetention.ts"
import { createRun } from "../Runs/RunRows.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { cancelRun, findStep, pauseRun, resumeRun, retryRun } from "../Runs/RunControl.ts"
import { nextStatus } from "../Runs/Transitions.ts"
import { StepNotFoundError } from "../../Errors.ts"
import { codeVersionOf } from "../../Versioning.ts"
import { attempt, get, type Program, statement } from "../Store/Program.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import type { BulkRequest } from "./BulkRecords.ts"

const FIND_NEWEST_RUN = statement("ActOnRun.findNewestRun", "SELECT max(key) AS key FROM runs")

/** The actions that are impossible once the data of the run is erased. */
const needsData: ReadonlySet<BulkAction> = new Set(["retry", "resume", "rerun", "fork"])

const NO_STEP = "no such step"

/**
 * Why the action is not possible for the run in a row of `runs`; `undefined` when it is possible. A dry run only calls this
 * function and changes nothing.
 */
export function* refusalReason(
  tx: Transaction,
  action: BulkAction,
  row: Row,
  { fromStep, version }: Pick<BulkRequest, "fromStep" | "version">
): Program<string | undefined> {
  const status = statusIn(row)!
  const hasEnded = row.ended_at !== null
  if (needsData.has(action) && erasedAt(row) !== undefined) return "erased"
  switch (action) {
    case "cancel":
      return hasEnded ? status : isCompensating(row) ? "compensating" : undefined
    case "pause":
      return hasEnded ? status : row.pause !== null ? "paused" : undefined
    case "retry":
      return nextStatus(status, "retried") === undefined ? status : yield* reasonWithoutStep(row, fromStep)
    case "resume": {
      const isPaused = status === "paused" || (row.pause !== null && holdingJob(row) !== undefined)
      if (nextStatus(status, "retried") !== undefined) return yield* reasonWithoutStep(row, fromStep)
      if (!isPaused) return status
      if (fromStep !== undefined && isCompensating(row)) return "compensating"
      return yield* reasonWithoutStep(row, fromStep)
    }
    case "rerun": {
      if (!hasEnded) return status
      // the run that invoked this one would not wait for the new run
      if (row.parent !== null) return "invoked"
      return lacksFunction(tx, row)
    }
    case "fork":
      return lacksFunction(tx, row) ?? (yield* reasonWithoutStep(row, fromStep))
    case "move": {
      if (hasEnded) return status
      const fn = registryOf(tx).byKey(Number(row.function))
      if (fn === undefined) return "function unknown"
      if (row.pin === null || row.pin === NO_PIN) return "not pinned"
      const targetVersion = version ?? codeVersionOf(fn.registration)
      if (row.pin === targetVersion) return "there already"
      return version === undefined || (yield* knownCodeVersions(fn.key)).includes(version)
        ? undefined
        : "no such version"
    }
    case "delete":
      if (!hasEnded) return status
      // the worker has not finished with the run
      if (row.lease !== null) return "held"
      if (yield* hasOpenParent(row)) return "parent unfinished"
      // the newest run is kept, so that its key is not assigned again
      return Number((yield* get(FIND_NEWEST_RUN))?.key) === Number(row.key) ? "newest" : undefined
  }
}

/**
 * Carries out the action on a run for which {@link refusalReason} has found no reason to refuse. Returns the reason if the action
 * is refused all the same.
 */
export function* actOnRun(
  tx: Transaction,
  environment: string,
  row: Row,
  request: {
    readonly action: BulkAction
    readonly reason: string
    readonly fromStep?: string
    readonly version?: string
  }
): Program<string | undefined> {
  const { action, fromStep, reason, version } = request
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
        ...(yield* inputOfRepeat(tx, row))
      })
      return undefined
    }
    case "fork":
      return refusalOf(
        yield* attempt(forkRun.in(tx, environment, runId, fromStep === undefined ? {} : { from: fromStep }))
      )
    case "move":
      return refusalOf(yield* attempt(moveRun.in(tx, environment, runId, version)))
    case "delete":
      yield* deleteRun(Number(row.key))
      return undefined
  }
}

const lacksFunction = (tx: Transaction, row: Row): string | undefined => {
  const fn = registryOf(tx).byKey(Number(row.function))
  // a function with a damaged row is unknown until a worker registers it again
  if (fn === undefined) return "function unknown"
  return fn.deleted === true ? "function deleted" : undefined
}

function* reasonWithoutStep(row: Row, fromStep: string | undefined): Program<string | undefined> {
  if (fromStep === undefined) return undefined
  return (yield* attempt(findStep(row, fromStep))) instanceof StepNotFoundError ? NO_STEP : undefined
}

const refusalOf = (result: object): string | undefined =>
  result instanceof StepNotFoundError ? NO_STEP : result instanceof Error ? "refused" : undefined
