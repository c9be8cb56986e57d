/**
 * Rows of schedules, which change with their function. A row also has the fires that wait for the end of a run. These are times
 * at which the schedule was due, but started no run because of its `overlap`.
 */
import { statement, type Program, write, all, get } from "../Store/Program.ts"
import type { Transaction, Row } from "../Store/Transaction.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { nextFire, parseSchedule } from "../../Schedule.ts"
import { cronEventName } from "../../Trigger.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { Overlap } from "../../Overlap.ts"

const UTC = "UTC"

const PUT_SCHEDULE = statement(
  "FunctionSchedules.putSchedule",
  `INSERT INTO schedules (function, cron, timezone, event, next_at, overlap) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (function, cron, timezone) DO UPDATE SET event = excluded.event, overlap = excluded.overlap`
)

const LIST_SCHEDULES_OF_FUNCTION = statement(
  "FunctionSchedules.listSchedulesOfFunction",
  "SELECT cron, timezone, queue FROM schedules WHERE function = ?"
)

const DELETE_SCHEDULE = statement(
  "FunctionSchedules.deleteSchedule",
  "DELETE FROM schedules WHERE function = ? AND cron = ? AND timezone = ?"
)

/** Adds the new schedules of a function, and removes those that it no longer has. A schedule that stays keeps its next time. */
export function* putSchedules(
  tx: Transaction,
  functionKey: number,
  registration: FunctionRegistration
): Program<void> {
  const now = tx.now()
  const keptSchedules = new Set<string>()
  for (const trigger of registration.triggers) {
    if (trigger.cron === undefined) continue
    const timezone = trigger.timezone ?? UTC
    const nextAt = nextFire(parseSchedule(trigger.cron, timezone), now)
    keptSchedules.add(JSON.stringify([trigger.cron, timezone]))
    yield* write(
      PUT_SCHEDULE,
      functionKey,
      trigger.cron,
      timezone,
      cronEventName(registration.id, trigger),
      nextAt,
      trigger.overlap === undefined || trigger.overlap === "allow" ? null : trigger.overlap
    )
    tx.markDue(nextAt)
  }
  for (const row of yield* all(LIST_SCHEDULES_OF_FUNCTION, functionKey)) {
    if (keptSchedules.has(JSON.stringify([row.cron, row.timezone]))) {
      // with another `overlap`, the waiting fires may no longer have to wait
      if (row.queue !== null) tx.markDue(now)
      continue
    }
    yield* write(DELETE_SCHEDULE, functionKey, row.cron!, row.timezone!)
  }
}

export const readQueue = ({ queue }: Row): ReadonlyArray<number> =>
  // only `holdBack` and `fireQueue` of `FireSchedules.ts` write this column
  queue == null ? [] : (parseStored(queue) as ReadonlyArray<number>)

/**
 * A schedule with a run that has not ended, and the fires of the schedule since that run began. These fires wait for the end of
 * the run, or were skipped.
 */
export interface HeldBackSchedule {
  readonly cron: string
  readonly timezone: string
  readonly overlap: Exclude<Overlap, "allow">
  /** How many fires were skipped since the run began. */
  readonly skipped: number
  /** The times of the fires that wait for the end of the run, oldest first, in epoch milliseconds. */
  readonly queue: ReadonlyArray<number>
}

const LIST_SCHEDULES_OF_RUN = statement(
  "FunctionSchedules.listSchedulesOfRun",
  "SELECT * FROM schedules WHERE function = ? AND run = ? AND overlap IS NOT NULL"
)

/** The schedule whose fires wait for the end of this run, or are skipped until then; `undefined` when there is none. */
export function* heldBackBy(functionKey: number, runId: string): Program<HeldBackSchedule | undefined> {
  const row = yield* get(LIST_SCHEDULES_OF_RUN, functionKey, runId)
  if (row === undefined) return undefined
  return {
    cron: String(row.cron),
    timezone: String(row.timezone),
    // only `putSchedules` writes this column
    overlap: row.overlap as HeldBackSchedule["overlap"],
    skipped: Number(row.skipped),
    queue: readQueue(row)
  }
}
