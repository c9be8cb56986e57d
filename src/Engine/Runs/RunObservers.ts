/**
 * Reports what happens in runs, as activities, to observers and to the audit record. When there are neither observers nor
 * audit records, no activity is built.
 */
import { registryOf } from "../Functions/Registry.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { RunActivity } from "../Store/RunActivity.ts"
import { record } from "./RunAudit.ts"

/** Whether anything observes steps, or any function has an audit record. */
export const hasStepObservers = (tx: Transaction): boolean => tx.interest.steps || registryOf(tx).hasRecorded

/** Whether anything observes the starts, pauses and ends of runs. */
export const hasRunObservers = (tx: Transaction): boolean => tx.interest.runs || hasStepObservers(tx)

/** Reports an activity within a run, such as the end of a step. */
export const notifyObservers = (tx: Transaction, makeActivity: () => RunActivity): void => {
  if (!hasStepObservers(tx)) return
  const activity = makeActivity()
  if (tx.interest.steps) tx.changes.activity.push(activity)
  if (registryOf(tx).hasRecorded) tx.runLater(record(tx, activity))
}

/** Reports an activity of a run as a whole, such as its end. */
export const notifyRunObservers = (tx: Transaction, makeActivity: () => RunActivity): void => {
  if (!tx.interest.runs || tx.interest.steps) return notifyObservers(tx, makeActivity)
  const activity = makeActivity()
  tx.changes.activity.push(activity)
  if (registryOf(tx).hasRecorded) tx.runLater(record(tx, activity))
}

/** The members of an activity that identify its run. `run` has the keys of the function and of the environment. */
export const runMembers = (
  tx: Transaction,
  run: {
    readonly id: string
    readonly function: number
    readonly environment: number
    readonly worker?: string
  }
) => ({
  runId: run.id,
  functionId: functionIdOf(tx, run.function),
  environment: tx.environmentName(run.environment),
  ...(run.worker === undefined ? {} : { worker: run.worker })
})

/** The id of the function with this key. */
export const functionIdOf = (tx: Transaction, key: number): string =>
  registryOf(tx).byKey(key)?.registration.id ?? String(key)
