/**
 * Finds stuck runs: unfinished runs that cannot continue by themselves, of which there should be none (guarantee G2). The gauge
 * `ironflow_runs_stuck` counts them, and `explain` tells why a leased run is stuck.
 *
 * A renewed lease proves that its worker lives, not that the turn makes progress. A step may take hours, so a long silence proves
 * nothing. But a turn has a time limit, the `timeout` of its function, at which its worker ends the turn.
 */
import { yieldToEventLoop } from "../Yielding.ts"
import type { StoreError } from "../../Errors.ts"
import * as Effect from "effect/Effect"
import type { StoreService } from "../Store/Store.ts"
import { all, get, statement, type Program, acrossEnvironments } from "../Store/Program.ts"
import { formatDuration } from "../../Duration.ts"
import { functionIdOf } from "./RunObservers.ts"
import { isRevoked } from "./RevokedLeases.ts"
import { Status, statusIn } from "./StatusRows.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** What an engine knows of a connected worker that may hold leases. */
export interface LeaseHolder {
  /** How long one turn of each function may take on the worker, in milliseconds; absent when there are no limits. */
  readonly turnLimits?: ReadonlyMap<string, number> | undefined
}

/** Finds the connected worker with an id; `undefined` when it is not connected. */
export type FindHolder = (workerId: string) => LeaseHolder | undefined

/** The lease of a run, and who holds it. Times are epoch milliseconds. */
export interface Lease {
  readonly workerId: string
  readonly functionId: string
  /** The lease has been held at least since this time. */
  readonly since: number
  /** When the lease expires. `undefined` for a worker in the process of the engine, whose lease ends with the worker. */
  readonly until: number | undefined
  /** Whether the turn is a rollback, which has no time limit. */
  readonly isRollback: boolean
  /** The lease was revoked, and the worker may still be executing the run: see `RevokedLeases.ts`. */
  readonly isRevoked?: true
}

/**
 * By how many milliseconds a turn or a lease may exceed its limit: this leaves time for steps that are
 * aborted, for reports in flight, and for late timers.
 */
const GRACE_MS = 60_000

/**
 * Why a run with this lease is stuck, as the end of a sentence; `undefined` when the run is not stuck. Without `findHolder`, only
 * the lease is judged and not its worker.
 */
export const whyStuck = (
  lease: Lease,
  findHolder: FindHolder | undefined,
  now: number
): string | undefined => {
  const { functionId, isRollback, since, until, workerId } = lease
  const latest = now - GRACE_MS
  if (until !== undefined && until <= latest)
    return `the lease ended at ${iso(until)}, and nothing has taken the run back`
  if (findHolder === undefined || lease.isRevoked === true) return undefined
  const holder = findHolder(workerId)
  // the worker is not connected: a lease that expires ends by itself, a lease without an expiry does not
  if (holder === undefined)
    return until === undefined && since <= latest ? "that worker is not connected any more" : undefined
  const limit = isRollback ? undefined : holder.turnLimits?.get(functionId)
  return limit !== undefined && since + limit <= latest
    ? `its turn should have ended ${formatDuration(limit)} after ${iso(since)}, and the worker keeps the lease without reporting an end`
    : undefined
}

/** How many runs one slice reads, which takes a few milliseconds. */
const SLICE = 5000

const FIND_END_OF_SLICE = statement(
  "Stuck.findEndOfSlice",
  `SELECT key FROM runs WHERE ended_at IS NULL AND key >= ? ORDER BY key LIMIT 1 OFFSET ${SLICE}`
)

const COUNT_STUCK_RUNS = statement(
  "Stuck.countStuckRuns",
  `SELECT count(*) AS stuck FROM runs r WHERE r.ended_at IS NULL AND r.key >= ? AND r.key < ?
     AND r.lease IS NULL AND r.ready_at IS NULL AND r.status <> ${Status.paused}
     AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.key AND w.fired IS NULL AND w.due_at IS NOT NULL)`
)

const LIST_LEASED_RUNS = statement(
  "Stuck.listLeasedRuns",
  `SELECT function, status, worker, lease, lease_until, updated_at FROM runs
       WHERE ended_at IS NULL AND key >= ? AND key < ? AND lease IS NOT NULL`
)

/** The unfinished runs in one slice that begins at a key, as they were when the slice was read. */
interface Slice {
  /** How many runs without a lease are stuck. */
  readonly abandoned: number
  /** The leases of the runs that have one. */
  readonly leases: ReadonlyArray<Lease>
  /** When the slice was read, in epoch milliseconds. */
  readonly at: number
  /** The key at which the next slice begins; absent after the last slice. */
  readonly next?: number
}

const readUnfinished = acrossEnvironments(
  "readUnfinished",
  function* (tx: Transaction, from: number): Program<Slice> {
    const next = (yield* get(FIND_END_OF_SLICE, from))?.key
    const end = next ?? Number.MAX_SAFE_INTEGER
    const unleased = yield* get(COUNT_STUCK_RUNS, from, end)
    return {
      abandoned: Number(unleased?.stuck),
      leases: (yield* all(LIST_LEASED_RUNS, from, end)).map((row) => readLease(tx, row)),
      at: tx.now(),
      ...(next === undefined ? {} : { next: Number(next) })
    }
  },
  () => "count stuck runs"
)

/** The lease in a row of `runs`, which must have one. */
export const readLease = (tx: Transaction, row: Row): Lease => ({
  workerId: String(row.worker),
  functionId: functionIdOf(tx, Number(row.function)),
  // `updated_at` was written with the lease; if the row was changed since, the lease seems younger, never older
  since: Number(row.updated_at),
  until: row.lease_until === null ? undefined : Number(row.lease_until),
  isRollback: statusIn(row) === "compensating",
  ...(isRevoked(row) ? { isRevoked: true } : {})
})

const iso = (at: number): string => new Date(at).toISOString()

/**
 * Counts the stuck runs: runs without a lease that are neither ready nor paused and have no wait that will be due, and runs that
 * are stuck with their lease ({@link whyStuck}). Reads every unfinished run, so it is not for code that runs often.
 */
export const countStuckRuns = (
  store: StoreService,
  findHolder?: FindHolder
): Effect.Effect<number, StoreError> =>
  Effect.gen(function* () {
    let firstKey: number | undefined = 0
    let stuck = 0
    while (firstKey !== undefined) {
      const { abandoned, at, leases, next }: Slice = yield* store.read(readUnfinished(firstKey))
      stuck += abandoned + leases.filter((lease) => whyStuck(lease, findHolder, at) !== undefined).length
      firstKey = next
      if (firstKey !== undefined) yield* yieldToEventLoop
    }
    return stuck
  })
