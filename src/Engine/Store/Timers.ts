/** What is due: sleeps, retries, timeouts of waits, expired leases, expired keys. */
import { among, apart, get, statement, type Program, variant, write } from "./Program.ts"
import { InvokeTimeoutError, serializeError, WaitTimeoutError } from "../../Errors.ts"
import type { Outcome } from "../../Protocol/Worker.ts"
import { nextSweepAt, sweep } from "./KvSweep.ts"
import { expireLeases } from "./Leases.ts"
import { fireSchedules } from "./Schedules.ts"
import { type Row, RUN_ITSELF, type Transaction, WaitKind } from "./Transaction.ts"
import { fireWait, makeReady } from "./Waits.ts"

/** Most timers and leases in one transaction. */
const BATCH = 512

/** What falls due; each is a command of its own, so that what is wrong with one does not hold up the others. */
export const upkeep = ["waits", "leases", "schedules", "keys"] as const

type Upkeep = (typeof upkeep)[number]

/** Fires what is due of one kind; returns how many. */
export function* fireDue(tx: Transaction, what: Upkeep): Program<number> {
  switch (what) {
    case "waits":
      return yield* fireWaits(tx)
    case "leases":
      // others may join a suspect whose time alone is over
      if (tx.suspects.hasOver(tx.now())) tx.changes.ready = true
      return yield* expireLeases(tx, BATCH)
    case "schedules":
      return yield* fireSchedules(tx, BATCH)
    case "keys":
      return yield* sweep(tx, BATCH)
  }
}

const FIRE_WAITS = statement("Timers.fireWaits", "SELECT DISTINCT run AS key FROM waits WHERE due_at <= ?", {
  scans: "asked only when one of the rows that are due is damaged"
})

const FIRE_WAITS_2 = statement(
  "Timers.fireWaits.2",
  `SELECT * FROM waits WHERE due_at <= ? @sound(run, run) ORDER BY due_at LIMIT ?`
)

function* fireWaits(tx: Transaction): Program<number> {
  const now = tx.now()
  const rows = yield* among(tx, "run", [FIRE_WAITS, now], FIRE_WAITS_2, now, BATCH)
  for (const row of rows) yield* apart(tx, "run", Number(row.run), fire(tx, row))
  return rows.length
}

/** When something is due next, epoch milliseconds. What is left alone would be due for ever. */
export function* nextDueAt(tx: Transaction): Program<number> {
  const { damage } = tx
  const row = yield* get(
    variant(
      "Timers.nextDueAt",
      `SELECT (SELECT due_at FROM waits WHERE due_at IS NOT NULL${damage.except("run", "run")} ORDER BY due_at LIMIT 1) AS wait,
       (SELECT lease_until FROM runs WHERE lease_until IS NOT NULL${damage.except("run", "key")} ORDER BY lease_until LIMIT 1) AS lease,
       (SELECT next_at FROM schedules WHERE next_at IS NOT NULL${damage.except("schedule", "function")} ORDER BY next_at LIMIT 1) AS schedule`
    )
  )
  return Math.min(
    yield* nextSweepAt(tx),
    tx.suspects.nextOverAt(tx.now()),
    row?.schedule == null ? Number.POSITIVE_INFINITY : Number(row.schedule),
    row?.wait == null ? Number.POSITIVE_INFINITY : Number(row.wait),
    row?.lease == null ? Number.POSITIVE_INFINITY : Number(row.lease)
  )
}

const FIRE = statement("Timers.fire", "SELECT id FROM runs WHERE key = ?")

const FIRE_2 = statement("Timers.fire.2", "DELETE FROM waits WHERE run = ? AND step_key = ?")

function* fire(tx: Transaction, row: Row): Program<void> {
  const run = Number(row.run)
  const stepKey = String(row.step_key)
  switch (Number(row.kind)) {
    case WaitKind.sleep:
      return yield* fireWait(tx, run, stepKey, { _tag: "Success", value: undefined })
    case WaitKind.retry:
      return yield* fireWait(tx, run, stepKey, undefined)
    case WaitKind.event:
      return yield* fireWait(
        tx,
        run,
        stepKey,
        failure(
          new WaitTimeoutError(String(row.name), String(row.pattern ?? row.event), Number(row.timeout_ms))
        )
      )
    case WaitKind.child: {
      const child = yield* get(FIRE, row.child!)
      return yield* fireWait(
        tx,
        run,
        stepKey,
        failure(new InvokeTimeoutError(String(row.event), String(child?.id ?? ""), Number(row.timeout_ms)))
      )
    }
    case WaitKind.runRetry:
      yield* write(FIRE_2, run, RUN_ITSELF)
      return yield* makeReady(tx, run)
  }
}

const failure = (error: Error): Outcome => ({ _tag: "Failure", error: serializeError(error) })
