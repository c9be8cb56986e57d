/** Stores in the database what the clock shows, and reads what it last showed. */
import { statement, type Program, get, write } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

const CLOCK = "clock"

const READ_CLOCK = statement("ClockRows.readClock", "SELECT value FROM meta WHERE name = ?")

/**
 * What was stored last: the time that the clock showed (`at`), and how far the clock had jumped forward (`aheadMs`, see
 * `ClockJumps`).
 */
export function* readClock(): Program<{ readonly at: number; readonly aheadMs: number } | undefined> {
  const stored = (yield* get(READ_CLOCK, CLOCK))?.value
  if (stored === undefined) return undefined
  // its format is known, because only `storeClock` writes this row of `meta`
  const [at = 0, aheadMs = 0] = String(stored).split(" ").map(Number)
  return { at, aheadMs }
}

const PUT_CLOCK = statement(
  "ClockRows.putClock",
  "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)

export function* storeClock(tx: Transaction): Program<void> {
  const now = tx.now()
  yield* write(PUT_CLOCK, CLOCK, `${now} ${now - tx.settledNow()}`)
}
