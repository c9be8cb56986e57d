/**
 * The audit record of functions with `recording: true`: every activity of their runs, in order. The record is kept for the
 * function's `recordingRetention`, even if the run is deleted earlier.
 */
import { registryOf } from "../Functions/Registry.ts"
import {
  affected,
  get,
  statement,
  type Program,
  visit,
  write,
  inEnvironment,
  acrossEnvironments,
  refuse
} from "../Store/Program.ts"
import type { AuditEvent } from "../../Client/Client.ts"
import { RunNotFoundError, type SerializedError } from "../../Errors.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { eventTextIfKept } from "../Log/EventViews.ts"
import type { RunActivity } from "../Store/RunActivity.ts"
import type { AuditPage } from "./RunRecords.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { parseStored, storedPlain } from "../Store/StoredJson.ts"

const day = 24 * 60 * 60 * 1000

/** The values of `recordingRetention`, in milliseconds. The default is 30 days. */
const retentionMs: { readonly [word: string]: number | undefined } = {
  "7d": 7 * day,
  "30d": 30 * day,
  "90d": 90 * day,
  forever: undefined
}

const FIND_FUNCTION_OF_RUN = statement(
  "RunAudit.findFunctionOfRun",
  "SELECT environment, function FROM runs WHERE id = ?"
)

const INSERT_RECORD = statement(
  "RunAudit.insertRecord",
  "INSERT INTO recordings (run_id, seq, environment, at, activity, expires_at) VALUES (?, ?, ?, ?, ?, ?)"
)

/** Records the activity if the function of the run has `recording: true`. */
export function* record(tx: Transaction, activity: RunActivity): Program<void> {
  const run = yield* get(FIND_FUNCTION_OF_RUN, activity.runId)
  const registration = registryOf(tx).byKey(Number(run?.function))?.registration
  if (run === undefined || registration?.recording !== true) return
  const now = tx.now()
  const keepMs = retentionMs[registration.recordingRetention ?? "30d"]
  yield* write(
    INSERT_RECORD,
    activity.runId,
    tx.nextSeq(),
    run.environment!,
    now,
    JSON.stringify(isReceived(activity) ? { ...activity, outcome: RECEIVED } : activity),
    keepMs === undefined ? null : now + keepMs
  )
}

/** Recorded in place of the data of a received event, because very many runs may receive the same event. */
const RECEIVED: Outcome = { _tag: "Success", value: undefined }

const isReceived = (
  activity: RunActivity
): activity is Extract<RunActivity, { readonly _tag: "StepEnded" }> & {
  readonly received: number
} => activity._tag === "StepEnded" && activity.received !== undefined

const LIST_RECORDS = statement(
  "RunAudit.listRecords",
  "SELECT seq, at, activity FROM recordings WHERE run_id = ? AND seq > ? AND environment = ? ORDER BY seq LIMIT ?"
)

/** The length of a page in characters. A page ends with the recorded event that reaches this length. */
const PAGE_LENGTH = 1024 * 1024
/** Maximum number of recorded events on a page. */
const PAGE_EVENTS = 1000

/**
 * The recorded events of a run after the event with the number `after`, oldest first. Empty for a run that is not recorded. Fails
 * with `RunNotFoundError` when there is neither a record nor a run.
 */
export const readAuditRecord = inEnvironment(
  "readAuditRecord",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    { after, limit = PAGE_EVENTS }: { readonly after: number; readonly limit?: number }
  ): Program<AuditPage, RunNotFoundError> {
    const key = tx.findEnvironment(environment)
    const events: Array<AuditEvent> = []
    const rows: Array<readonly [seq: number, at: number, activity: string]> = []
    let length = 0
    let last = after
    const maxEvents = Math.min(limit, PAGE_EVENTS)
    if (key !== undefined) {
      yield* visit(LIST_RECORDS, [runId, after, key, maxEvents], ([seq, at, activity]) => {
        rows.push([Number(seq), Number(at), String(activity)])
        length += String(activity).length
        return length < PAGE_LENGTH
      })
    }
    length = 0
    for (const [seq, at, text] of rows) {
      // only `record` writes this column
      const activity = parseStored(text) as RunActivity
      if (isReceived(activity)) {
        // the record may be kept longer than the event that the run received
        const value = yield* eventTextIfKept(tx, activity.received)
        events.push(auditEvent(at, { ...activity, outcome: { _tag: "Success", value } }))
        length += value?.length ?? 0
      } else events.push(auditEvent(at, activity))
      last = seq
      length += text.length
      if (length >= PAGE_LENGTH) break
    }
    // a deleted run may still have a record, so the run is only looked up when no record is found
    if (events.length === 0 && (key === undefined || !(yield* exists(key, runId))) && after === 0)
      return yield* refuse(new RunNotFoundError(runId))
    return {
      events,
      ...(length < PAGE_LENGTH && events.length < maxEvents ? {} : { next: last })
    }
  },
  (_, runId) => `read the audit record of run ${runId}`
)

const FIND_RUN = statement("RunAudit.findRun", "SELECT 1 FROM runs WHERE id = ? AND environment = ?")

function* exists(environment: number, runId: string): Program<boolean> {
  return (yield* get(FIND_RUN, runId, environment)) !== undefined
}

const DELETE_EXPIRED_RECORDS = statement(
  "RunAudit.deleteExpiredRecords",
  `DELETE FROM recordings WHERE (run_id, seq) IN
     (SELECT run_id, seq FROM recordings WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`
)

/** Deletes at most `limit` expired records. Returns how many. */
export const deleteExpiredRecords = acrossEnvironments(
  "deleteExpiredRecords",
  function* (tx: Transaction, limit: number): Program<number> {
    return yield* affected(DELETE_EXPIRED_RECORDS, tx.settledNow(), limit)
  },
  () => "delete old audit records"
)

const auditEvent = (at: number, activity: RunActivity): AuditEvent => {
  const event = (type: string, details: { readonly [key: string]: unknown } = {}): AuditEvent => ({
    at: iso(at),
    type,
    ...("name" in activity ? { stepName: activity.name } : {}),
    details
  })
  switch (activity._tag) {
    case "RunStarted":
      return event(
        "run.started",
        activity.forkedFrom === undefined ? {} : { forkedFrom: activity.forkedFrom }
      )
    case "StepEnded": {
      const { attempt, kind, outcome } = activity
      return event(outcome._tag === "Success" ? "step.completed" : "step.failed", {
        kind,
        attempt,
        startedAt: iso(activity.startedAt),
        endedAt: iso(activity.endedAt),
        ...result(outcome)
      })
    }
    case "StepFailed":
      return event("step.retrying", {
        failures: activity.failures,
        dueAt: iso(activity.dueAt),
        error: shortError(activity.error)
      })
    case "RunFailed":
      return event("run.retrying", {
        dueAt: iso(activity.dueAt),
        error: shortError(activity.error)
      })
    case "RunPaused":
      return event("run.paused", { reason: activity.message })
    case "RunResumed":
      return event("run.resumed", activity.fromStep === undefined ? {} : { fromStep: activity.fromStep })
    case "RunRetried":
      return event("run.retried", activity.fromStep === undefined ? {} : { fromStep: activity.fromStep })
    case "StepPatched":
      return event("step.patched", { reason: activity.reason })
    case "RunEnded":
      return event(`run.${activity.status}`, result(activity.outcome))
  }
}

const result = (outcome: Outcome): { readonly [key: string]: unknown } =>
  outcome._tag === "Success"
    ? outcome.value === undefined
      ? {}
      : { output: storedPlain(outcome.value) }
    : { error: shortError(outcome.error) }

const shortError = ({ code, message, name }: SerializedError) => ({
  name,
  message,
  ...(code === undefined ? {} : { code })
})

const iso = (at: number): string => new Date(at).toISOString()
