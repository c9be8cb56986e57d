/** Counts the unfinished runs, and their waits by kind. Each turn of the event loop counts one slice of the runs. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { registryOf } from "../Functions/Registry.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import { acrossEnvironments, all, get, type Program, statement } from "../Store/Program.ts"
import type { StoreService } from "../Store/Store.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"
import { Status } from "./StatusRows.ts"
import { WaitKind, waitKinds } from "./WaitKinds.ts"

/** The runs of a function that workers can claim now. */
interface ReadyRuns {
  readonly environment: string
  readonly functionId: string
  readonly count: number
  /** When the oldest ready run became ready, in epoch milliseconds. */
  readonly oldestAt: number
}

export interface Backlog {
  readonly ready: ReadonlyArray<ReadyRuns>
  readonly leased: number
  readonly paused: number
  readonly waiting: Readonly<Record<(typeof waitKinds)[number], number>>
}

interface Slice extends Backlog {
  /** The key at which the next slice begins; absent after the last slice. */
  readonly next?: number
}

/** How many runs one slice counts, which takes a few milliseconds. */
const RUNS_PER_SLICE = 5000

const FIND_END_OF_SLICE = statement(
  "Backlog.findEndOfSlice",
  `SELECT key FROM runs WHERE ended_at IS NULL AND key >= ? ORDER BY key LIMIT 1 OFFSET ${RUNS_PER_SLICE}`
)

const COUNT_READY_RUNS = statement(
  "Backlog.countReadyRuns",
  `SELECT function, count(*) AS n, min(ready_at) AS oldest, count(started_at) AS begun,
       min(CASE WHEN started_at IS NULL THEN NULL ELSE ready_at END) AS oldest_begun FROM runs
     WHERE ended_at IS NULL AND key >= ? AND key < ? AND +ready_at IS NOT NULL GROUP BY function`
)

const COUNT_HELD_RUNS = statement(
  "Backlog.countHeldRuns",
  `SELECT sum(CASE WHEN lease IS NULL THEN 0 ELSE 1 END) AS leased, sum(CASE status WHEN ${Status.paused} THEN 1 ELSE 0 END) AS paused FROM runs
     WHERE ended_at IS NULL AND key >= ? AND key < ?`
)

const COUNT_WAITS_BY_KIND = statement(
  "Backlog.countWaitsByKind",
  "SELECT kind, count(*) AS n FROM waits WHERE run >= ? AND run < ? AND fired IS NULL GROUP BY kind"
)

const readBacklogSlice = acrossEnvironments(
  "readBacklogSlice",
  function* (tx: Transaction, from: number): Program<Slice> {
    const next = (yield* get(FIND_END_OF_SLICE, from))?.key
    const end = next ?? Number.MAX_SAFE_INTEGER
    const ready = (yield* all(COUNT_READY_RUNS, from, end)).flatMap((row) => readyOf(tx, row))
    const heldCounts = yield* get(COUNT_HELD_RUNS, from, end)
    const waits = new Map(
      (yield* all(COUNT_WAITS_BY_KIND, from, end)).map(({ kind, n }) => [Number(kind), Number(n)])
    )
    return {
      ready,
      leased: Number(heldCounts?.leased ?? 0),
      paused: Number(heldCounts?.paused ?? 0),
      waiting: {
        sleep: waits.get(WaitKind.sleep) ?? 0,
        event: waits.get(WaitKind.event) ?? 0,
        child: waits.get(WaitKind.child) ?? 0,
        retry: waits.get(WaitKind.retry) ?? 0,
        "run-retry": waits.get(WaitKind.runRetry) ?? 0
      },
      ...(next === undefined ? {} : { next: Number(next) })
    }
  },
  () => "count unfinished runs"
)

const readyOf = (tx: Transaction, row: Row): ReadonlyArray<ReadyRuns> => {
  const fn = registryOf(tx).byKey(Number(row.function))
  // new runs of a paused function wait for the function to be resumed, not for a worker
  const [count, oldest] = fn?.paused === undefined ? [row.n, row.oldest] : [row.begun, row.oldest_begun]
  return fn === undefined || Number(count) === 0
    ? []
    : [
        {
          environment: fn.environment,
          functionId: fn.registration.id,
          count: Number(count),
          oldestAt: Number(oldest)
        }
      ]
}

/** Counts all unfinished runs. With many runs this takes long, so it is not for code that runs often. */
export const countBacklog = (store: StoreService): Effect.Effect<Backlog, StoreError> =>
  Effect.gen(function* () {
    const ready = new Map<string, ReadyRuns>()
    const waiting = { sleep: 0, event: 0, child: 0, retry: 0, "run-retry": 0 }
    let leased = 0
    let paused = 0
    let firstKey: number | undefined = 0
    while (firstKey !== undefined) {
      const slice: Slice = yield* store.read(readBacklogSlice(firstKey))
      leased += slice.leased
      paused += slice.paused
      for (const kind of waitKinds) waiting[kind] += slice.waiting[kind]
      for (const part of slice.ready) {
        const name = `${part.environment}\n${part.functionId}`
        const known = ready.get(name)
        ready.set(name, {
          ...part,
          count: part.count + (known?.count ?? 0),
          oldestAt: Math.min(part.oldestAt, known?.oldestAt ?? Number.POSITIVE_INFINITY)
        })
      }
      firstKey = slice.next
      if (firstKey !== undefined) yield* yieldToEventLoop
    }
    return { ready: [...ready.values()], leased, paused, waiting }
  })
