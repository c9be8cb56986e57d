/** Tells observers and the audit record what happens in runs. Without observers and records, nothing is built. */
import { registryOf } from "../Functions/Registry.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { RunActivity } from "../Store/RunActivity.ts"
import { record } from "./RunAudit.ts"

/** Whether anything observes steps, or records them. */
export const hasStepObservers = (tx: Transaction): boolean => tx.interest.steps || registryOf(tx).hasRecorded

/** Whether anything observes runs as a whole. */
export const hasRunObservers = (tx: Transaction): boolean => tx.interest.runs || hasStepObservers(tx)

/** Tells of something that happened in a run. */
export const notifyObservers = (tx: Transaction, activity: () => RunActivity): void => {
  if (!hasStepObservers(tx)) return
  const told = activity()
  if (tx.interest.steps) tx.changes.activity.push(told)
  if (registryOf(tx).hasRecorded) tx.later(record(tx, told))
}

/** Tells of something that happened to a run as a whole. */
export const notifyRunObservers = (tx: Transaction, activity: () => RunActivity): void => {
  if (!tx.interest.runs || tx.interest.steps) return notifyObservers(tx, activity)
  const told = activity()
  tx.changes.activity.push(told)
  if (registryOf(tx).hasRecorded) tx.later(record(tx, told))
}

/** What observers are told of a run, from its keys of function and environment. */
export const aboutRun = (
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
