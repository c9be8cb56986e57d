/**
 * Cron triggers: when each is due next, and what a fire is.
 *
 * A fire is an event with source `cron` in the log. It starts the function whose trigger it is, and every function with an
 * event trigger for its name. Of the fires that fell due while the engine was down the last one is made up for.
 *
 * A schedule knows the run that it started last. With an `overlap` other than `"allow"` a fire that falls due before that run has ended
 * is left out, or waits for its end: then its event comes into the log when the run has ended.
 */
import { affected, all, among, apart, get, statement, type Program, variant, write } from "./Program.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import type { Overlap } from "../../Overlap.ts"
import { lastFire, nextFire, parseSchedule } from "../../Schedule.ts"
import { cronEventName } from "../../Trigger.ts"
import { appendEvent } from "./Events.ts"
import { parseStored } from "./StoredJson.ts"
import type { Row, Transaction } from "./Transaction.ts"

const UTC = "UTC"

const PUT_SCHEDULES = statement(
  "Schedules.putSchedules",
  `INSERT INTO schedules (function, cron, timezone, event, next_at, overlap) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET event = excluded.event, overlap = excluded.overlap`
)

const PUT_SCHEDULES_2 = statement(
  "Schedules.putSchedules.2",
  "SELECT cron, timezone, queue FROM schedules WHERE function = ?"
)

const PUT_SCHEDULES_3 = statement(
  "Schedules.putSchedules.3",
  "DELETE FROM schedules WHERE function = ? AND cron = ? AND timezone = ?"
)

/** Adds the schedules of a function that are new and drops those that it has no more; a schedule that stays keeps its time. */
export function* putSchedules(
  tx: Transaction,
  functionKey: number,
  registration: FunctionRegistration
): Program<void> {
  const now = tx.now()
  const kept = new Set<string>()
  for (const trigger of registration.triggers) {
    if (trigger.cron === undefined) continue
    const timezone = trigger.timezone ?? UTC
    const nextAt = nextFire(parseSchedule(trigger.cron, timezone), now)
    kept.add(JSON.stringify([trigger.cron, timezone]))
    yield* write(
      PUT_SCHEDULES,
      functionKey,
      trigger.cron,
      timezone,
      cronEventName(registration.id, trigger),
      nextAt,
      trigger.overlap === undefined || trigger.overlap === "allow" ? null : trigger.overlap
    )
    tx.markDue(nextAt)
  }
  for (const row of yield* all(PUT_SCHEDULES_2, functionKey)) {
    if (kept.has(JSON.stringify([row.cron, row.timezone]))) {
      // they may not have to wait any more
      if (row.queue !== null) tx.markDue(now)
      continue
    }
    yield* write(PUT_SCHEDULES_3, functionKey, row.cron!, row.timezone!)
  }
}

/** What the next fire of a schedule has to wait for, if it has: its last run, which has not ended. */
const HELD_BACK =
  "(overlap IS NOT NULL AND EXISTS (SELECT 1 FROM runs WHERE runs.id = schedules.run AND runs.ended_at IS NULL))"

/** The most fires of one schedule that wait for the end of a run. */
const LONGEST_QUEUE = 1000

const FIRE_SCHEDULES = statement(
  "Schedules.fireSchedules",
  "SELECT DISTINCT function AS key FROM schedules WHERE queue IS NOT NULL",
  { scans: "the schedules that have something queued" }
)

const FIRE_SCHEDULES_2 = statement(
  "Schedules.fireSchedules.2",
  "SELECT DISTINCT function AS key FROM schedules WHERE next_at <= ?",
  { scans: "schedules are as many as functions say; asked only when one of them is damaged" }
)

/** Fires what is due, at most `limit` schedules of it, after what has waited and need not wait any more; returns how many there were. */
export function* fireSchedules(tx: Transaction, limit: number): Program<number> {
  const now = tx.now()
  const but = tx.damage.except("schedule", "function")
  const freed = yield* among(
    tx,
    "schedule",
    [FIRE_SCHEDULES],
    variant(
      "Schedules.fireSchedules",
      `SELECT * FROM schedules WHERE queue IS NOT NULL AND NOT ${HELD_BACK}${but} LIMIT ?`
    ),
    limit
  )
  for (const row of freed) yield* apart(tx, "schedule", Number(row.function), fireQueue(tx, row))
  if (freed.length === limit) tx.markDue(now)
  const due = yield* among(
    tx,
    "schedule",
    [FIRE_SCHEDULES_2, now],
    variant(
      "Schedules.fireSchedules",
      `SELECT *, ${HELD_BACK} AS held_back FROM schedules WHERE next_at <= ?${but} ORDER BY next_at LIMIT ?`
    ),
    now,
    limit
  )
  for (const row of due) yield* apart(tx, "schedule", Number(row.function), fallDue(tx, row))
  return freed.length + due.length
}

function* update(row: Row, set: string, ...values: ReadonlyArray<string | number | null>) {
  return yield* affected(
    variant(
      "Schedules.update",
      `UPDATE schedules SET ${set} WHERE function = ? AND cron = ? AND timezone = ?`
    ),
    ...values,
    row.function!,
    row.cron!,
    row.timezone!
  )
}

function* fallDue(tx: Transaction, row: Row): Program<void> {
  const now = tx.now()
  const schedule = parseSchedule(String(row.cron), String(row.timezone))
  const dueAt = Number(row.next_at)
  const scheduledAt = lastFire(schedule, dueAt, now) ?? dueAt
  yield* update(row, "next_at = ?", nextFire(schedule, now))
  // none passes those that have waited
  if (Number(row.held_back) === 0 && row.queue === null) yield* fire(tx, row, scheduledAt)
  else yield* holdBack(tx, row, scheduledAt)
}

function* holdBack(tx: Transaction, row: Row, scheduledAt: number): Program<void> {
  const queue = readQueue(row)
  if (row.overlap !== "skip" && queue.length < LONGEST_QUEUE) {
    yield* update(row, "queue = ?", JSON.stringify([...queue, scheduledAt]))
    return
  }
  yield* update(row, "skipped = skipped + 1")
  if (row.overlap === "skip") return
  const fn = tx.registry.byKey(Number(row.function))
  tx.changes.warnings.push(
    `Cron trigger "${row.cron}" of function "${fn?.registration.id}": ${LONGEST_QUEUE} fires wait for the end of run ${row.run}, so the ` +
      `one of ${new Date(scheduledAt).toISOString()} is left out`
  )
}

/** Fires what has waited, oldest first, up to what has to wait for the run of one of them. */
function* fireQueue(tx: Transaction, row: Row): Program<void> {
  const queue = readQueue(row)
  const count = row.overlap === null ? queue.length : 1
  const rest = queue.slice(count)
  yield* update(row, "queue = ?", rest.length === 0 ? null : JSON.stringify(rest))
  for (const scheduledAt of queue.slice(0, count)) yield* fire(tx, row, scheduledAt)
}

const readQueue = ({ queue }: Row): ReadonlyArray<number> =>
  // written by `holdBack`
  queue == null ? [] : (parseStored(queue) as ReadonlyArray<number>)

function* fire(tx: Transaction, row: Row, scheduledAt: number): Program<void> {
  const fn = tx.registry.byKey(Number(row.function))
  if (fn === undefined) return
  const { eventId, runIds, warnings } = yield* appendEvent(
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
  yield* update(row, "run = ?, skipped = 0", runIds[0] ?? null)
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

const HELD_BACK_BY = statement(
  "Schedules.heldBackBy",
  "SELECT * FROM schedules WHERE function = ? AND run = ? AND overlap IS NOT NULL"
)

/** The schedule whose fires wait for the end of the run, or are left out until then. */
export function* heldBackBy(functionKey: number, runId: string): Program<HeldBack | undefined> {
  const row = yield* get(HELD_BACK_BY, functionKey, runId)
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
