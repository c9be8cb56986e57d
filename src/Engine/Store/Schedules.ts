/**
 * Cron triggers: when each is due next, and what a fire is.
 *
 * A fire is an event with source `cron` in the log. It starts the function whose trigger it is, and every function with an
 * event trigger for its name. Of the fires that fell due while the engine was down the last one is made up for.
 *
 * A schedule knows the run that it started last. With an `overlap` other than `"allow"` a fire that falls due before that run has ended
 * is left out, or waits for its end: then its event comes into the log when the run has ended.
 */
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import type { Overlap } from "../../Overlap.ts"
import { lastFire, nextFire, parseSchedule } from "../../Schedule.ts"
import { cronEventName } from "../../Trigger.ts"
import { appendEvent } from "./Events.ts"
import { parseStored } from "./StoredJson.ts"
import type { Row, Transaction } from "./Transaction.ts"

const UTC = "UTC"

/** Adds the schedules of a function that are new and drops those that it has no more; a schedule that stays keeps its time. */
export const putSchedules = (
  tx: Transaction,
  functionKey: number,
  registration: FunctionRegistration
): void => {
  const now = tx.now()
  const kept = new Set<string>()
  for (const trigger of registration.triggers) {
    if (trigger.cron === undefined) continue
    const timezone = trigger.timezone ?? UTC
    const nextAt = nextFire(parseSchedule(trigger.cron, timezone), now)
    kept.add(JSON.stringify([trigger.cron, timezone]))
    tx.run(
      `INSERT INTO schedules (function, cron, timezone, event, next_at, overlap) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET event = excluded.event, overlap = excluded.overlap`,
      functionKey,
      trigger.cron,
      timezone,
      cronEventName(registration.id, trigger),
      nextAt,
      trigger.overlap === undefined || trigger.overlap === "allow" ? null : trigger.overlap
    )
    tx.markDue(nextAt)
  }
  for (const row of tx.all("SELECT cron, timezone, queue FROM schedules WHERE function = ?", functionKey)) {
    if (kept.has(JSON.stringify([row.cron, row.timezone]))) {
      // they may not have to wait any more
      if (row.queue !== null) tx.markDue(now)
      continue
    }
    tx.run(
      "DELETE FROM schedules WHERE function = ? AND cron = ? AND timezone = ?",
      functionKey,
      row.cron!,
      row.timezone!
    )
  }
}

/** What the next fire of a schedule has to wait for, if it has: its last run, which has not ended. */
const HELD_BACK =
  "(overlap IS NOT NULL AND EXISTS (SELECT 1 FROM runs WHERE runs.id = schedules.run AND runs.ended_at IS NULL))"

/** The most fires of one schedule that wait for the end of a run. */
const LONGEST_QUEUE = 1000

/** Fires what is due, at most `limit` schedules of it, after what has waited and need not wait any more; returns how many there were. */
export const fireSchedules = (tx: Transaction, limit: number): number => {
  const now = tx.now()
  const but = tx.damage.except("schedule", "function")
  const freed = tx.among(
    "schedule",
    ["SELECT DISTINCT function AS key FROM schedules WHERE queue IS NOT NULL"],
    `SELECT * FROM schedules WHERE queue IS NOT NULL AND NOT ${HELD_BACK}${but} LIMIT ?`,
    limit
  )
  for (const row of freed) tx.apart("schedule", Number(row.function), () => fireQueue(tx, row))
  if (freed.length === limit) tx.markDue(now)
  const due = tx.among(
    "schedule",
    ["SELECT DISTINCT function AS key FROM schedules WHERE next_at <= ?", now],
    `SELECT *, ${HELD_BACK} AS held_back FROM schedules WHERE next_at <= ?${but} ORDER BY next_at LIMIT ?`,
    now,
    limit
  )
  for (const row of due) tx.apart("schedule", Number(row.function), () => fallDue(tx, row))
  return freed.length + due.length
}

const update = (tx: Transaction, row: Row, set: string, ...values: ReadonlyArray<string | number | null>) =>
  tx.run(
    `UPDATE schedules SET ${set} WHERE function = ? AND cron = ? AND timezone = ?`,
    ...values,
    row.function!,
    row.cron!,
    row.timezone!
  )

const fallDue = (tx: Transaction, row: Row): void => {
  const now = tx.now()
  const schedule = parseSchedule(String(row.cron), String(row.timezone))
  const dueAt = Number(row.next_at)
  const scheduledAt = lastFire(schedule, dueAt, now) ?? dueAt
  update(tx, row, "next_at = ?", nextFire(schedule, now))
  // none passes those that have waited
  if (Number(row.held_back) === 0 && row.queue === null) fire(tx, row, scheduledAt)
  else holdBack(tx, row, scheduledAt)
}

const holdBack = (tx: Transaction, row: Row, scheduledAt: number): void => {
  const queue = readQueue(row)
  if (row.overlap !== "skip" && queue.length < LONGEST_QUEUE) {
    update(tx, row, "queue = ?", JSON.stringify([...queue, scheduledAt]))
    return
  }
  update(tx, row, "skipped = skipped + 1")
  if (row.overlap === "skip") return
  const fn = tx.registry.byKey(Number(row.function))
  tx.changes.warnings.push(
    `Cron trigger "${row.cron}" of function "${fn?.registration.id}": ${LONGEST_QUEUE} fires wait for the end of run ${row.run}, so the ` +
      `one of ${new Date(scheduledAt).toISOString()} is left out`
  )
}

/** Fires what has waited, oldest first, up to what has to wait for the run of one of them. */
const fireQueue = (tx: Transaction, row: Row): void => {
  const queue = readQueue(row)
  const count = row.overlap === null ? queue.length : 1
  const rest = queue.slice(count)
  update(tx, row, "queue = ?", rest.length === 0 ? null : JSON.stringify(rest))
  for (const scheduledAt of queue.slice(0, count)) fire(tx, row, scheduledAt)
}

const readQueue = ({ queue }: Row): ReadonlyArray<number> =>
  // written by `holdBack`
  queue == null ? [] : (parseStored(queue) as ReadonlyArray<number>)

const fire = (tx: Transaction, row: Row, scheduledAt: number): void => {
  const fn = tx.registry.byKey(Number(row.function))
  if (fn === undefined) return
  const { eventId, runIds, warnings } = appendEvent(
    tx,
    {
      environment: fn.environment,
      name: String(row.event),
      version: 1,
      data: JSON.stringify({
        cron: row.cron,
        timezone: row.timezone,
        scheduledAt: new Date(scheduledAt).toISOString()
      }),
      source: "cron"
    },
    fn
  )
  for (const warning of warnings) {
    tx.changes.warnings.push(`Event "${row.event}" ${eventId}: ${warning}`)
  }
  // the function whose trigger it is comes first
  update(tx, row, "run = ?, skipped = 0", runIds[0] ?? null)
}

/** What a run holds back of the schedule that has started it. */
export interface HeldBack {
  readonly cron: string
  readonly timezone: string
  readonly overlap: Exclude<Overlap, "allow">
  /** Fires that were left out since the run began. */
  readonly skipped: number
  /** When the fires are from that wait for its end, oldest first, in epoch milliseconds. */
  readonly queue: ReadonlyArray<number>
}

/** The schedule whose fires wait for the end of the run, or are left out until then. */
export const heldBackBy = (tx: Transaction, functionKey: number, runId: string): HeldBack | undefined => {
  const row = tx.get(
    "SELECT * FROM schedules WHERE function = ? AND run = ? AND overlap IS NOT NULL",
    functionKey,
    runId
  )
  if (row === undefined) return undefined
  return {
    cron: String(row.cron),
    timezone: String(row.timezone),
    // written by `putSchedules`
    overlap: row.overlap as HeldBack["overlap"],
    skipped: Number(row.skipped),
    queue: readQueue(row)
  }
}
