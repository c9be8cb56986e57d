/** What happens in the database when the clock was set: what holds for a length of time keeps that length. */
import { all, get, statement, type Program, variant, write } from "./Program.ts"
import { nextFire, parseSchedule } from "../../Schedule.ts"
import { WINDOW_MS } from "./Idempotency.ts"
import { LONGEST_LEASE_MS } from "./Leases.ts"
import { type Transaction, WaitKind } from "./Transaction.ts"

const CLOCK = "clock"

const READ_CLOCK = statement("ClockRows.readClock", "SELECT value FROM meta WHERE name = ?")

/** What the clock showed when it was last stored. */
export function* readClock(): Program<{ readonly at: number; readonly aheadMs: number } | undefined> {
  const stored = (yield* get(READ_CLOCK, CLOCK))?.value
  if (stored === undefined) return undefined
  // written by `storeClock`
  const [at = 0, aheadMs = 0] = String(stored).split(" ").map(Number)
  return { at, aheadMs }
}

const STORE_CLOCK = statement(
  "ClockRows.storeClock",
  "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
)

export function* storeClock(tx: Transaction): Program<void> {
  const now = tx.now()
  yield* write(STORE_CLOCK, CLOCK, `${now} ${now - tx.settledNow()}`)
}

const MOVE_WITH_CLOCK = statement(
  "ClockRows.moveWithClock",
  "UPDATE projections SET lease_until = lease_until + ? WHERE lease_until IS NOT NULL",
  { scans: "once when the clock was set" }
)

const MOVE_WITH_CLOCK_2 = statement(
  "ClockRows.moveWithClock.2",
  "UPDATE deliveries SET due_at = due_at + ?",
  { scans: "once when the clock was set" }
)

/**
 * The clock was set by `ms` while the engine ran. Leases move with it in both directions. When it was set back, so do the
 * timeouts of waits, delays between attempts, and sleeps for a length of time; when it was set forward these come due by the clock,
 * since that is also what it looks like when a machine was asleep.
 */
export function* moveWithClock(tx: Transaction, ms: number): Program<void> {
  const { damage } = tx
  yield* write(
    variant(
      "ClockRows.moveWithClock",
      `UPDATE runs SET lease_until = lease_until + ? WHERE lease_until IS NOT NULL${damage.except("run", "key")}`
    ),
    ms
  )
  yield* write(MOVE_WITH_CLOCK, ms)
  yield* write(MOVE_WITH_CLOCK_2, ms)
  if (ms < 0) yield* setBack(tx, -ms)
}

const SET_BACK_BETWEEN_STARTS = statement(
  "ClockRows.setBackBetweenStarts",
  "UPDATE deliveries SET due_at = due_at - ?",
  { scans: "once when the clock was set back" }
)

/** The clock shows less than when it was last stored, by `ms`: the engine was not running when it was set. */
export function* setBackBetweenStarts(tx: Transaction, ms: number): Program<void> {
  yield* write(SET_BACK_BETWEEN_STARTS, ms)
  yield* setBack(tx, ms)
}

const SET_BACK = statement(
  "ClockRows.setBack",
  `UPDATE waits SET due_at = max(?, min(due_at - ?, iif(timeout_ms IS NULL, due_at, ? + timeout_ms)))
     WHERE due_at > ? AND (kind <> ${WaitKind.sleep} OR timeout_ms IS NOT NULL) @sound(run, run)`
)

const SET_BACK_2 = statement(
  "ClockRows.setBack.2",
  "UPDATE idempotency SET expires_at = ? WHERE expires_at > ?"
)

const SET_BACK_3 = statement(
  "ClockRows.setBack.3",
  "SELECT function, cron, timezone, next_at FROM schedules",
  { scans: "once when the clock was set back" }
)

const SET_BACK_4 = statement(
  "ClockRows.setBack.4",
  "UPDATE schedules SET next_at = ? WHERE function = ? AND cron = ? AND timezone = ?"
)

function* setBack(tx: Transaction, ms: number): Program<void> {
  const now = tx.now()
  // a sleep until a point in time has no timeout_ms: it is due at that time
  yield* write(SET_BACK, now, ms, now, now)
  yield* write(SET_BACK_2, now + WINDOW_MS, now + WINDOW_MS)
  // within a day a schedule keeps its time, so that it does not fire twice for one; beyond that it would stand still
  if (ms <= 24 * 60 * 60 * 1000) return
  for (const row of yield* all(SET_BACK_3)) {
    const next = nextFire(parseSchedule(String(row.cron), String(row.timezone)), now)
    if (next >= Number(row.next_at)) continue
    yield* write(SET_BACK_4, next, row.function!, row.cron!, row.timezone!)
  }
}

const SHORTEN_LEASES = statement(
  "ClockRows.shortenLeases",
  `UPDATE runs SET lease_until = ? + coalesce(lease_ms, ${LONGEST_LEASE_MS})
     WHERE lease_until > ? + coalesce(lease_ms, ${LONGEST_LEASE_MS}) @sound(run, key)`,
  { scans: "the runs that are leased, once at the start" }
)

/** A lease that was given before this start ends no later than one that is given now. */
export function* shortenLeases(tx: Transaction): Program<void> {
  const now = tx.now()
  yield* write(SHORTEN_LEASES, now, now)
}
