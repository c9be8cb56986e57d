/**
 * Checks, while the engine works, whether the rows of the database keep the guarantees (`docs/guarantees.md`). The check reads
 * the recent rows in small slices, after all other work. The check takes less than a hundredth of the time. The check also
 * compares runs with what the previous check has read of these runs, because ended runs must not change. Each violation is logged
 * once and counted.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreError } from "../../Errors.ts"
import { yieldFirst } from "../Yielding.ts"
import { RunRetention } from "../Runs/RunSweep.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import {
  checkKeys,
  checkLog,
  checkRuns,
  checkDuplicateKeys,
  findNewest,
  type CheckedRun,
  type KeyedEvent,
  type Violation
} from "./GuaranteeRows.ts"

/** Whether an engine checks the guarantees; `true` by default. The option `audit` sets it. */
export const ChecksGuarantees = Context.Reference<boolean>("@ironflow/node/ChecksGuarantees", {
  defaultValue: () => true
})

export interface GuaranteeCheckService {
  /** How many different violations were found since the engine started. */
  readonly violations: () => number
}

export class GuaranteeCheck extends Context.Service<GuaranteeCheck, GuaranteeCheckService>()(
  "@ironflow/node/Engine/GuaranteeCheck"
) {}

/** How many of the newest runs are checked, and how many of the newest events and messages. */
const RECENT_ROWS = 2000
/** How many rows one slice checks. A slice takes a few milliseconds. */
const SLICE_ROWS = 20
/** How many of the newest idempotency keys are checked. */
const RECENT_KEYS = 100
/** After an event with an idempotency key, no second event with the same name and key may be stored for this long. */
const KEY_MS = 24 * 60 * 60 * 1000
/** The shortest pause between two slices. */
const PAUSE_MS = 1000
/** The pause also takes at least this many times as long as the last slice took. */
const IDLE_FACTOR = 200
/** Maximum number of violations that are kept in memory, so that each is reported once. */
const MAX_REMEMBERED_VIOLATIONS = 10_000

/** The digests of each recent run and of its first steps, by run key. */
export type CheckedRuns = Map<number, CheckedRun>
/** Maximum number of steps of a run whose digests are kept until the next check. */
const MAX_KNOWN_STEPS = 32

/** The forbidden changes of a run between two checks, each as the end of a sentence. */
const changesIn = (before: CheckedRun, now: CheckedRun): ReadonlyArray<string> => {
  const changes: Array<string> = []
  if (before.permittedChanges === now.permittedChanges) {
    for (const [key, hash] of before.steps) {
      const hashNow = now.steps.get(key)
      if (hashNow !== hash)
        changes.push(`what was recorded of step ${key} ${hashNow === undefined ? "is gone" : "has changed"}`)
    }
  }
  const isEndPermitted =
    before.end === undefined || before.end.at !== now.end?.at || before.end.hash === now.end.hash
  if (!isEndPermitted && changes.length === 0) changes.push("it had ended, and has changed since")
  return changes
}

interface CheckOptions {
  readonly store: Pick<StoreService, "read">
  /** How long ended runs are kept unless their function says otherwise. */
  readonly keepMs: number
  /** What the previous check has read of the recent runs. This check updates it. */
  readonly known: CheckedRuns
  /** Runs a slice in the next turn of the event loop, and then pauses. */
  readonly pace: <A>(slice: Effect.Effect<A, StoreError>) => Effect.Effect<A, StoreError>
  readonly report: (violation: Violation) => void
}

/** When an event starts two runs of a function by mistake, the runs are created within this time. */
const MAX_TWIN_AGE_MS = 600_000

/**
 * Whether a run may be a rerun of an earlier run, which is permitted. No row says that a run is a rerun, so the times decide: a
 * rerun is created after the earlier run has ended. If the end is missing, because the earlier run was retried since, a run that
 * was created much later may be a rerun too.
 */
const mayBeRerun = (run: CheckedRun, earlier: CheckedRun): boolean =>
  (earlier.endedAt !== undefined && run.createdAt >= earlier.endedAt) ||
  run.createdAt - earlier.createdAt > MAX_TWIN_AGE_MS

/** Checks the recent rows, slice by slice. */
export const checkGuarantees = ({
  keepMs,
  known,
  pace,
  report,
  store
}: CheckOptions): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const newest = yield* pace(store.read(findNewest()))
    let after: number | undefined = Math.max(0, newest.runs - RECENT_ROWS)
    for (const run of known.keys()) if (run <= after) known.delete(run)
    const checkedKeys = new Set<number>()
    const runOfCause = new Map<string, CheckedRun>()
    while (after !== undefined) {
      const from: number = after
      const slice = yield* pace(store.read(checkRuns({ after: from, limit: SLICE_ROWS, keepMs })))
      slice.violations.forEach(report)
      for (const now of slice.checkedRuns ?? []) {
        const twin = now.cause === undefined ? undefined : runOfCause.get(now.cause)
        if (now.cause !== undefined) runOfCause.set(now.cause, now)
        if (twin !== undefined && !mayBeRerun(now, twin)) {
          const message = `run ${now.id}: run ${twin.id} is of the same function and event`
          report({ guarantee: "G1", message, key: `twins ${now.cause}` })
        }
        const before = known.get(now.run)
        for (const change of before === undefined ? [] : changesIn(before, now)) {
          report({ guarantee: "G3", message: `run ${now.id}: ${change}`, key: `${now.run} ${change}` })
        }
        checkedKeys.add(now.run)
        known.set(now.run, { ...now, steps: new Map([...now.steps].slice(0, MAX_KNOWN_STEPS)) })
      }
      after = slice.next
    }
    for (const run of known.keys()) if (!checkedKeys.has(run)) known.delete(run)
    const eventOfKey = new Map<string, KeyedEvent>()
    after = Math.max(0, newest.events - RECENT_ROWS)
    while (after !== undefined) {
      const from: number = after
      const slice = yield* pace(store.read(checkLog({ after: from, limit: SLICE_ROWS })))
      slice.violations.forEach(report)
      for (const event of slice.keyedEvents ?? []) {
        const key = `${event.environment} ${event.name} ${event.key}`
        const before = eventOfKey.get(key)
        eventOfKey.set(key, event)
        if (before === undefined || event.timestamp - before.timestamp >= KEY_MS) continue
        const violations = yield* pace(store.read(checkDuplicateKeys([before, event])))
        violations.forEach(report)
      }
      after = slice.next
    }
    const keys = yield* pace(store.read(checkKeys({ limit: RECENT_KEYS, keepMs })))
    keys.violations.forEach(report)
  })

export const layer: Layer.Layer<GuaranteeCheck, never, Store> = Layer.effect(
  GuaranteeCheck,
  Effect.gen(function* () {
    let violations = 0
    const service = { violations: () => violations }
    if (!(yield* ChecksGuarantees)) return service
    const store = yield* Store
    const keepMs = Duration.toMillis(yield* RunRetention)
    const known: CheckedRuns = new Map()
    const runFork = Effect.runForkWith(yield* Effect.context<never>())

    const reportedKeys = new Set<string>()
    const report = ({ guarantee, key, message }: Violation): void => {
      if (reportedKeys.has(key)) return
      if (reportedKeys.size === MAX_REMEMBERED_VIOLATIONS) reportedKeys.clear()
      reportedKeys.add(key)
      violations++
      runFork(
        Effect.logError(
          `The database violates a guarantee (${guarantee}): ${message}. Keep a copy of the database, and report this`
        )
      )
    }

    let changed = Deferred.makeUnsafe<void>()
    const stop = store.onCommit(({ counts, isFromOtherEngine, ended }) => {
      // a commit without new events or ended runs either changes no row that is checked, or is followed by a commit with them;
      // each engine checks only after its own commits
      if (!isFromOtherEngine && (counts.events > 0 || ended.length > 0))
        Deferred.doneUnsafe(changed, Effect.void)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))

    const pace = <A>(slice: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
      Effect.gen(function* () {
        const clock = yield* Clock.Clock
        let tookMs = 0
        const found = yield* yieldFirst(
          Effect.suspend(() => {
            const from = clock.monotonicTimeNanosUnsafe()
            return Effect.tap(slice, () =>
              Effect.sync(() => (tookMs = Number(clock.monotonicTimeNanosUnsafe() - from) / 1e6))
            )
          })
        )
        yield* Effect.sleep(Math.max(PAUSE_MS, IDLE_FACTOR * tookMs))
        return found
      })
    const round = Effect.suspend(() => {
      return Effect.andThen(
        Deferred.await(changed),
        Effect.suspend(() => {
          changed = Deferred.makeUnsafe<void>()
          return checkGuarantees({ store, keepMs, known, pace, report })
        })
      )
    })
    // logged only for debugging: other readers of damaged rows report the damage, and the next commit starts another check
    const rounds = Effect.forever(
      Effect.catchCause(round, (cause) => Effect.logDebug("The guarantees could not be checked", cause))
    )
    yield* Effect.forkScoped(Effect.andThen(Effect.sleep(PAUSE_MS), rounds))
    return service
  })
)
