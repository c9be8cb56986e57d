/**
 * Cron triggers: when each is due next, and what a fire is.
 *
 * A fire is an event with source `cron` in the log. It starts the function whose trigger it is, and every function with an
 * event trigger for its name. Of the fires that fell due while the engine was down the last one is made up for.
 */
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { lastFire, nextFire, parseSchedule } from "../../Schedule.ts"
import { cronEventName } from "../../Trigger.ts"
import { appendEvent } from "./Events.ts"
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
      `INSERT INTO schedules (function, cron, timezone, event, next_at) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET event = excluded.event`,
      functionKey,
      trigger.cron,
      timezone,
      cronEventName(registration.id, trigger),
      nextAt
    )
    tx.markDue(nextAt)
  }
  for (const row of tx.all("SELECT cron, timezone FROM schedules WHERE function = ?", functionKey)) {
    if (kept.has(JSON.stringify([row.cron, row.timezone]))) continue
    tx.run(
      "DELETE FROM schedules WHERE function = ? AND cron = ? AND timezone = ?",
      functionKey,
      row.cron!,
      row.timezone!
    )
  }
}

/** Fires the schedules that are due, at most `limit` of them; returns how many. */
export const fireSchedules = (tx: Transaction, limit: number): number => {
  const now = tx.now()
  const rows = tx.among(
    "schedule",
    ["SELECT DISTINCT function AS key FROM schedules WHERE next_at <= ?", now],
    `SELECT * FROM schedules WHERE next_at <= ?${tx.damage.except("schedule", "function")} ORDER BY next_at LIMIT ?`,
    now,
    limit
  )
  for (const row of rows) tx.apart("schedule", Number(row.function), () => fireSchedule(tx, row))
  return rows.length
}

const fireSchedule = (tx: Transaction, row: Row): void => {
  const now = tx.now()
  const schedule = parseSchedule(String(row.cron), String(row.timezone))
  const dueAt = Number(row.next_at)
  const scheduledAt = lastFire(schedule, dueAt, now) ?? dueAt
  tx.run(
    "UPDATE schedules SET next_at = ? WHERE function = ? AND cron = ? AND timezone = ?",
    nextFire(schedule, now),
    row.function!,
    row.cron!,
    row.timezone!
  )
  const fn = tx.registry.byKey(Number(row.function))
  if (fn === undefined) return
  appendEvent(
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
}
