/** What happens in the database when the clock was set: what holds for a length of time keeps that length. */
import { nextFire, parseSchedule } from "../../Schedule.ts"
import { WINDOW_MS } from "./Idempotency.ts"
import { LONGEST_LEASE_MS } from "./Leases.ts"
import { type Transaction, WaitKind } from "./Transaction.ts"

const CLOCK = "clock"

/** What the clock showed when it was last stored. */
export const readClock = (tx: Transaction): { readonly at: number; readonly aheadMs: number } | undefined => {
  const stored = tx.get("SELECT value FROM meta WHERE name = ?", CLOCK)?.value
  if (stored === undefined) return undefined
  // written by `storeClock`
  const [at = 0, aheadMs = 0] = String(stored).split(" ").map(Number)
  return { at, aheadMs }
}

export const storeClock = (tx: Transaction): void => {
  const now = tx.now()
  tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", CLOCK, `${now} ${now - tx.settledNow()}`)
}

/**
 * The clock was set by `ms` while the engine ran. Leases move with it in both directions. When it was set back, so do the
 * timeouts of waits, delays between attempts, and sleeps for a length of time; when it was set forward these come due by the clock,
 * since that is also what it looks like when a machine was asleep.
 */
export const moveWithClock = (tx: Transaction, ms: number): void => {
  const { damage } = tx
  tx.run(
    `UPDATE runs SET lease_until = lease_until + ? WHERE lease_until IS NOT NULL${damage.except("run", "key")}`,
    ms
  )
  tx.run("UPDATE projections SET lease_until = lease_until + ? WHERE lease_until IS NOT NULL", ms)
  tx.run("UPDATE deliveries SET due_at = due_at + ?", ms)
  if (ms < 0) setBack(tx, -ms)
}

/** The clock shows less than when it was last stored, by `ms`: the engine was not running when it was set. */
export const setBackBetweenStarts = (tx: Transaction, ms: number): void => {
  tx.run("UPDATE deliveries SET due_at = due_at - ?", ms)
  setBack(tx, ms)
}

const setBack = (tx: Transaction, ms: number): void => {
  const now = tx.now()
  // a sleep until a point in time has no timeout_ms: it is due at that time
  tx.run(
    `UPDATE waits SET due_at = max(?, min(due_at - ?, iif(timeout_ms IS NULL, due_at, ? + timeout_ms)))
     WHERE due_at > ? AND (kind <> ${WaitKind.sleep} OR timeout_ms IS NOT NULL)${tx.damage.except("run", "run")}`,
    now,
    ms,
    now,
    now
  )
  tx.run("UPDATE idempotency SET expires_at = ? WHERE expires_at > ?", now + WINDOW_MS, now + WINDOW_MS)
  // within a day a schedule keeps its time, so that it does not fire twice for one; beyond that it would stand still
  if (ms <= 24 * 60 * 60 * 1000) return
  for (const row of tx.all("SELECT function, cron, timezone, next_at FROM schedules")) {
    const next = nextFire(parseSchedule(String(row.cron), String(row.timezone)), now)
    if (next >= Number(row.next_at)) continue
    tx.run(
      "UPDATE schedules SET next_at = ? WHERE function = ? AND cron = ? AND timezone = ?",
      next,
      row.function!,
      row.cron!,
      row.timezone!
    )
  }
}

/** A lease that was given before this start ends no later than one that is given now. */
export const shortenLeases = (tx: Transaction): void => {
  const now = tx.now()
  tx.run(
    `UPDATE runs SET lease_until = ? + coalesce(lease_ms, ${LONGEST_LEASE_MS})
     WHERE lease_until > ? + coalesce(lease_ms, ${LONGEST_LEASE_MS})${tx.damage.except("run", "key")}`,
    now,
    now
  )
}
