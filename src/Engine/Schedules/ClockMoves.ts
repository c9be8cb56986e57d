/**
 * Adjusts stored times after the clock of the machine was changed: leases keep their length. If the clock was set back, waits keep
 * their length too.
 */
import { all, statement, type Program, variant, write, acrossEnvironments } from "../Store/Program.ts"
import { nextFire, parseSchedule } from "../../Schedule.ts"
import { WINDOW_MS } from "../Log/Idempotency.ts"

import type { Transaction } from "../Store/Transaction.ts"
import { WaitKind } from "../Runs/WaitKinds.ts"

const MOVE_LEASES_OF_PROJECTIONS = statement(
  "ClockMoves.moveLeasesOfProjections",
  "UPDATE projections SET lease_until = lease_until + ? WHERE lease_until IS NOT NULL",
  { scans: "once when the clock was set" }
)

const MOVE_DELIVERIES = statement("ClockMoves.moveDeliveries", "UPDATE deliveries SET due_at = due_at + ?", {
  scans: "once when the clock was set"
})

/**
 * Adjusts times after the clock was changed by `ms` while the engine ran. Leases, and the due times of deliveries to consumer
 * groups, move with the clock in both directions. If the clock was set back, the timeouts of waits, the delays between attempts,
 * and sleeps for a duration move too. If the clock was set forward, they come due by the new clock, because it may be that the
 * machine was asleep: then this time has really passed.
 */
export function* moveWithClock(tx: Transaction, ms: number): Program<void> {
  const { damage } = tx
  yield* write(
    variant(
      "ClockMoves.moveWithClock",
      `UPDATE runs SET lease_until = lease_until + ? WHERE lease_until IS NOT NULL${damage.soundCondition("run", "key")}`
    ),
    ms
  )
  yield* write(MOVE_LEASES_OF_PROJECTIONS, ms)
  yield* write(MOVE_DELIVERIES, ms)
  if (ms < 0) yield* setBack(tx, -ms)
}

const SET_BACK_DELIVERIES = statement(
  "ClockMoves.setBackDeliveries",
  "UPDATE deliveries SET due_at = due_at - ?",
  { scans: "once when the clock was set back" }
)

/**
 * Adjusts times when the engine starts and the clock is behind the stored time by `ms`, because the clock was set back while the
 * engine was not running.
 */
export const setBackBetweenStarts = acrossEnvironments(
  "setBackBetweenStarts",
  function* (tx: Transaction, ms: number): Program<void> {
    yield* write(SET_BACK_DELIVERIES, ms)
    yield* setBack(tx, ms)
  },
  () => "adjust due times to the clock"
)

const setBackWaits = (
  max: string,
  min: string
): string => `UPDATE waits SET due_at = ${max}(?, ${min}(due_at - ?, CASE WHEN timeout_ms IS NULL THEN due_at ELSE ? + timeout_ms END))
     WHERE due_at > ? AND (kind <> ${WaitKind.sleep} OR timeout_ms IS NOT NULL) @sound(run, run)`

const SET_BACK = statement("ClockMoves.setBack", setBackWaits("max", "min"), {
  postgres: setBackWaits("greatest", "least")
})

const SHORTEN_IDEMPOTENCY_KEYS = statement(
  "ClockMoves.shortenIdempotencyKeys",
  "UPDATE idempotency SET expires_at = ? WHERE expires_at > ?"
)

const LIST_SCHEDULES = statement(
  "ClockMoves.listSchedules",
  "SELECT function, cron, timezone, next_at FROM schedules",
  { scans: "once when the clock was set back" }
)

const UPDATE_NEXT_FIRE = statement(
  "ClockMoves.updateNextFire",
  "UPDATE schedules SET next_at = ? WHERE function = ? AND cron = ? AND timezone = ?"
)

function* setBack(tx: Transaction, ms: number): Program<void> {
  const now = tx.now()
  // a sleep until a point in time has no `timeout_ms`: it stays due at that time
  yield* write(SET_BACK, now, ms, now, now)
  yield* write(SHORTEN_IDEMPOTENCY_KEYS, now + WINDOW_MS, now + WINDOW_MS)
  // if the clock was set back by a day at most, a schedule keeps its next time: it must not fire twice for the same time. After
  // a larger change, too much time would pass until the schedule fires again, so its next time is computed again
  if (ms <= 24 * 60 * 60 * 1000) return
  for (const row of yield* all(LIST_SCHEDULES)) {
    const next = nextFire(parseSchedule(String(row.cron), String(row.timezone)), now)
    if (next >= Number(row.next_at)) continue
    yield* write(UPDATE_NEXT_FIRE, next, row.function!, row.cron!, row.timezone!)
  }
}

/**
 * How long leases from earlier versions of the engine last at most, in milliseconds: those versions did not store the length.
 */
const LONGEST_LEASE_MS = 90_000

const SHORTEN_LEASES = statement(
  "ClockMoves.shortenLeases",
  `UPDATE runs SET lease_until = ? + coalesce(lease_ms, ${LONGEST_LEASE_MS})
     WHERE lease_until > ? + coalesce(lease_ms, ${LONGEST_LEASE_MS}) @sound(run, key)`,
  { scans: "the leased runs, once at the start" }
)

/**
 * Shortens leases that last too long, because they were given while the clock was ahead: they then last as if they were given
 * now. Called when the engine starts, and when another engine on the database is gone.
 */
export const shortenLeases = acrossEnvironments(
  "shortenLeases",
  function* (tx: Transaction): Program<void> {
    const now = tx.now()
    yield* write(SHORTEN_LEASES, now, now)
  },
  () => "shorten leases"
)
