/** Reads the notices that a worker should have got for the runs that it executes: notices from other engines may be lost. */
import type { Notice } from "../../Protocol/Worker.ts"
import { isRevoked, jobOf } from "../Runs/RevokedLeases.ts"
import { statusIn } from "../Runs/StatusRows.ts"
import { WaitKind } from "../Runs/WaitKinds.ts"
import { outcomeIn } from "../Runs/Waits.ts"
import { all, allIsolatingDamage, get, inEnvironment, type Program, statement } from "../Store/Program.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

const LIST_KEYS_OF_WORKER = statement(
  "PendingNotices.listKeysOfWorker",
  "SELECT key FROM runs WHERE worker = ? AND lease IS NOT NULL"
)

const LIST_RUNS_OF_WORKER = statement(
  "PendingNotices.listRunsOfWorker",
  `SELECT key, status, lease, pause, error FROM runs WHERE worker = ? AND environment = ? AND lease IS NOT NULL @sound(run, key)`
)

const LIST_FIRED_WAITS = statement(
  "PendingNotices.listFiredWaits",
  `SELECT step_key, kind, failures, failed, value, event_position FROM waits WHERE run = ? AND fired IS NOT NULL ORDER BY fired`
)

function* noticesOf(
  tx: Transaction,
  environment: string,
  workerId: string,
  jobIds: ReadonlyArray<string>
): Program<ReadonlyArray<Notice>> {
  const environmentKey = tx.findEnvironment(environment)
  if (environmentKey === undefined) return []
  const notices: Array<Notice> = []
  const unseen = new Set(jobIds)
  for (const row of yield* allIsolatingDamage(
    tx,
    "run",
    [LIST_KEYS_OF_WORKER, workerId],
    LIST_RUNS_OF_WORKER,
    workerId,
    environmentKey
  )) {
    const jobId = jobOf(row)
    if (!unseen.delete(jobId)) continue
    if (isRevoked(row)) {
      notices.push(noticeOfRevocation(row, jobId))
      continue
    }
    if (row.pause !== null) notices.push({ _tag: "Paused", jobId })
    for (const wait of yield* all(LIST_FIRED_WAITS, row.key!)) {
      notices.push({
        _tag: "Fired",
        jobId,
        stepKey: String(wait.step_key),
        ...(Number(wait.kind) === WaitKind.retry
          ? { failures: Number(wait.failures) }
          : { outcome: yield* outcomeIn(tx, wait, wait.event_position) })
      })
    }
  }
  for (const jobId of unseen) {
    notices.push({ _tag: "LeaseLost", jobId, reason: "its lease has run out, or the run has ended" })
  }
  return notices
}

/** The notices for these jobs of a worker. For a job that the worker no longer holds, the notice is that its lease is lost. */
export const pendingNotices = inEnvironment(
  "pendingNotices",
  noticesOf,
  (_, workerId) => `read the pending messages for the turns of worker ${workerId}`
)

const FIND_WORKER_OF_LEASE = statement(
  "PendingNotices.findWorkerOfLease",
  "SELECT worker FROM runs WHERE lease = ? AND environment = ? AND lease_until IS NOT NULL"
)

/** {@link pendingNotices} for a caller that knows only the job; `undefined` when no worker holds the job. */
export const pendingNoticesOfJob = inEnvironment(
  "pendingNoticesOfJob",
  function* (
    tx: Transaction,
    environment: string,
    jobId: string
  ): Program<ReadonlyArray<Notice> | undefined> {
    const environmentKey = tx.findEnvironment(environment)
    const row =
      environmentKey === undefined ? undefined : yield* get(FIND_WORKER_OF_LEASE, jobId, environmentKey)
    return row === undefined ? undefined : yield* noticesOf(tx, environment, String(row.worker), [jobId])
  },
  (_, jobId) => `send job ${jobId} its pending messages again`
)

const noticeOfRevocation = (row: Row, jobId: string): Notice => {
  if (statusIn(row) !== "cancelled") {
    return { _tag: "LeaseLost", jobId, reason: "the run was taken back" }
  }
  // the error of a cancelled run has the reason: only `endRun` sets this status, and it stores the reason as an error
  const error = parseStored(String(row.error)) as { readonly message?: string } | null
  return { _tag: "Cancelled", jobId, reason: error?.message ?? "" }
}
