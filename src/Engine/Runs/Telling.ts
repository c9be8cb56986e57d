/** What happens in runs, for those who look on and for the audit record; nothing is put together while nobody does. */
import { registryOf } from "../Functions/Registry.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { RunActivity } from "../Store/Activity.ts"
import { record } from "./Recording.ts"

/** Whether anything is to be told of steps. */
export const isToldOfSteps = (tx: Transaction): boolean => tx.interest.steps || registryOf(tx).hasRecorded

/** Whether anything is to be told of runs as a whole. */
export const isToldOfRuns = (tx: Transaction): boolean => tx.interest.runs || isToldOfSteps(tx)

/** Something happened in a run. */
export const tell = (tx: Transaction, activity: () => RunActivity): void => {
  if (!isToldOfSteps(tx)) return
  const told = activity()
  if (tx.interest.steps) tx.changes.activity.push(told)
  if (registryOf(tx).hasRecorded) tx.later(record(tx, told))
}

/** Something happened to a run as a whole. */
export const tellOfRun = (tx: Transaction, activity: () => RunActivity): void => {
  if (!tx.interest.runs || tx.interest.steps) return tell(tx, activity)
  const told = activity()
  tx.changes.activity.push(told)
  if (registryOf(tx).hasRecorded) tx.later(record(tx, told))
}

/** What is told of a run, by the keys that stand for its function and environment. */
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
