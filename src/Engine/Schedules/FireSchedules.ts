/**
 * Cron triggers: when each trigger is due next, and what happens when it fires.
 *
 * A fire appends an event with source `cron` to the log. The event starts the function that has the trigger, and every function
 * with an event trigger for the event's name. Of the fires that fell due while the engine was down, only the last one is made up
 * for.
 *
 * Each trigger has a row in `schedules`, its schedule. The row names the last run that the trigger started. With an `overlap` other than `"allow"`, a fire that falls due before that run
 * has ended is skipped, or waits until the run has ended and then appends its event. A fire that falls due while the function is
 * paused is skipped.
 */
import { registryOf } from "../Functions/Registry.ts"
import {
  affected,
  allIsolatingDamage,
  isolateRow,
  statement,
  type Program,
  variant
} from "../Store/Program.ts"
import { lastFire, nextFire, parseSchedule } from "../../Schedule.ts"
import { appendEvent } from "../Events/Append.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { readQueue } from "../Functions/FunctionSchedules.ts"

/** SQL condition: the next fire of a schedule has to wait, because its last run has not ended. */
const HELD_BACK =
  "(overlap IS NOT NULL AND EXISTS (SELECT 1 FROM runs WHERE runs.id = schedules.run AND runs.ended_at IS NULL))"

/** Maximum number of fires of one schedule that wait for the end of a run. */
const LONGEST_QUEUE = 1000

const LIST_FUNCTIONS_WITH_QUEUE = statement(
  "FireSchedules.listFunctionsWithQueue",
  "SELECT DISTINCT function AS key FROM schedules WHERE queue IS NOT NULL",
  { scans: "the schedules with waiting fires" }
)

const LIST_FUNCTIONS_WITH_DUE_SCHEDULES = statement(
  "FireSchedules.listFunctionsWithDueSchedules",
  "SELECT DISTINCT function AS key FROM schedules WHERE next_at <= ?",
  { scans: "the due schedules: only when one of them is damaged" }
)

/** SQL: schedules whose waiting fires no longer have to wait. */
const SELECT_FREED = `SELECT * FROM schedules WHERE queue IS NOT NULL AND NOT ${HELD_BACK} @sound(schedule, function) LIMIT ?`

const DUE = `SELECT *, ${HELD_BACK} AS held_back FROM schedules WHERE next_at <= ? @sound(schedule, function) ORDER BY next_at LIMIT ?`

const ENVIRONMENT = "(SELECT environment FROM functions WHERE functions.key = function)"

const LIST_FREED_SCHEDULES = statement(
  "FireSchedules.listFreedSchedules",
  `SELECT * FROM (${SELECT_FREED}) AS freed WHERE ${ENVIRONMENT} = ?`,
  { scans: "the schedules with waiting fires" }
)

const LIST_DUE_SCHEDULES = statement(
  "FireSchedules.listDueSchedules",
  `SELECT * FROM (${DUE}) AS due WHERE ${ENVIRONMENT} = ?`,
  {
    scans: "a batch of due schedules"
  }
)

const LIST_ENVIRONMENTS_OF_FREED = statement(
  "FireSchedules.listEnvironmentsOfFreed",
  `SELECT DISTINCT ${ENVIRONMENT} AS environment FROM (${SELECT_FREED}) AS freed`,
  { scans: "the schedules with waiting fires" }
)

const LIST_ENVIRONMENTS_OF_DUE = statement(
  "FireSchedules.listEnvironmentsOfDue",
  `SELECT DISTINCT ${ENVIRONMENT} AS environment FROM (${DUE}) AS due`,
  { scans: "a batch of due schedules" }
)

/**
 * The environments of the first `limit` due schedules, and of the first `limit` schedules whose waiting fires no longer have to
 * wait.
 */
export function* environmentsOfSchedules(tx: Transaction, limit: number): Program<ReadonlyArray<Row>> {
  const now = tx.now()
  return [
    ...(yield* allIsolatingDamage(
      tx,
      "schedule",
      [LIST_FUNCTIONS_WITH_QUEUE],
      LIST_ENVIRONMENTS_OF_FREED,
      limit
    )),
    ...(yield* allIsolatingDamage(
      tx,
      "schedule",
      [LIST_FUNCTIONS_WITH_DUE_SCHEDULES, now],
      LIST_ENVIRONMENTS_OF_DUE,
      now,
      limit
    ))
  ]
}

/**
 * Fires schedules: first the waiting fires that no longer have to wait, then the due schedules. Of each kind, looks at the first
 * `limit` schedules across all environments, and fires those of them that belong to `environment`. Returns how many these were. That
 * includes due schedules whose fire was skipped or has to wait.
 */
export function* fireSchedules(tx: Transaction, environment: number, limit: number): Program<number> {
  const now = tx.now()
  const freed = yield* allIsolatingDamage(
    tx,
    "schedule",
    [LIST_FUNCTIONS_WITH_QUEUE],
    LIST_FREED_SCHEDULES,
    limit,
    environment
  )
  for (const row of freed) yield* isolateRow(tx, "schedule", Number(row.function), fireQueue(tx, row))
  // there may be more schedules whose waiting fires no longer have to wait
  if (freed.length > 0) tx.markDue(now)
  const dueSchedules = yield* allIsolatingDamage(
    tx,
    "schedule",
    [LIST_FUNCTIONS_WITH_DUE_SCHEDULES, now],
    LIST_DUE_SCHEDULES,
    now,
    limit,
    environment
  )
  for (const row of dueSchedules) yield* isolateRow(tx, "schedule", Number(row.function), fireDue(tx, row))
  return freed.length + dueSchedules.length
}

function* update(row: Row, set: string, ...values: ReadonlyArray<string | number | null>) {
  return yield* affected(
    variant(
      "FireSchedules.update",
      `UPDATE schedules SET ${set} WHERE function = ? AND cron = ? AND timezone = ?`
    ),
    ...values,
    row.function!,
    row.cron!,
    row.timezone!
  )
}

function* fireDue(tx: Transaction, row: Row): Program<void> {
  const now = tx.now()
  const schedule = parseSchedule(String(row.cron), String(row.timezone))
  const dueAt = Number(row.next_at)
  const scheduledAt = lastFire(schedule, dueAt, now) ?? dueAt
  yield* update(row, "next_at = ?", nextFire(schedule, now))
  // fires during a pause are not made up for
  if (registryOf(tx).byKey(Number(row.function))?.paused !== undefined) {
    yield* update(row, "skipped = skipped + 1")
    return
  }
  // a fire must not overtake waiting fires
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
  const fn = registryOf(tx).byKey(Number(row.function))
  tx.changes.warnings.push(
    `Cron trigger "${row.cron}" of function "${fn?.registration.id}": ${LONGEST_QUEUE} fires wait for the end of run ${row.run}, so the ` +
      `fire of ${new Date(scheduledAt).toISOString()} is left out`
  )
}

/**
 * Fires what waits in the queue of a schedule, oldest first. With an `overlap` other than `"allow"`, fires only the first one: the
 * next one has to wait for the run that the first one starts.
 */
function* fireQueue(tx: Transaction, row: Row): Program<void> {
  const queue = readQueue(row)
  const count = row.overlap === null ? queue.length : 1
  const rest = queue.slice(count)
  yield* update(row, "queue = ?", rest.length === 0 ? null : JSON.stringify(rest))
  for (const scheduledAt of queue.slice(0, count)) yield* fire(tx, row, scheduledAt)
}

function* fire(tx: Transaction, row: Row, scheduledAt: number): Program<void> {
  const fn = registryOf(tx).byKey(Number(row.function))
  if (fn === undefined) return
  const { eventId, runIds, warnings } = yield* appendEvent.in(
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
  // the first id is that of the run of the function that has the trigger
  yield* update(row, "run = ?, skipped = 0", runIds[0] ?? null)
}
