/**
 * Checks, while the engine works, whether the rows keep the guarantees. The check works in small slices, after everything
 * else, and in less than a hundredth of the time. It checks recent rows. It checks rows again that it has seen, because ended
 * runs must not change. Each violation is logged once and counted.
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
  ends,
  type CheckedRun,
  type Keyed,
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

/** How many of the newest runs, and of the newest events, are checked. */
const RECENT = 2000
/** How many rows one slice checks: that takes a few milliseconds. */
const SLICE = 20
/** How many of the newest idempotency keys are checked. */
const KEYS = 100
/** How long an idempotency key stands for its first event, milliseconds. */
const KEY_MS = 24 * 60 * 60 * 1000
/** The shortest pause between two slices, milliseconds. */
const PAUSE_MS = 1000
/** The shortest pause, as a multiple of the time that the last slice took. */
const IDLE_FACTOR = 200
/** Maximum number of violations that are kept in memory, so that each is reported once. */
const MAX_REMEMBERED_VIOLATIONS = 10_000

/** The digests of each recent run and of its first steps, by run key. */
export type CheckedRuns = Map<number, CheckedRun>
/** Of how many steps of a run the digests are kept. */
const STEPS_KNOWN = 32

/** The changes in a run that must not happen, each as the end of a sentence. */
const changesIn = (before: CheckedRun, now: CheckedRun): ReadonlyArray<string> => {
  const changes: Array<string> = []
  if (before.touched === now.touched) {
    for (const [key, hash] of before.steps) {
      const is = now.steps.get(key)
      if (is !== hash)
        changes.push(`what was recorded of step ${key} ${is === undefined ? "is gone" : "has changed"}`)
    }
  }
  const isSame = before.end === undefined || before.end.at !== now.end?.at || before.end.hash === now.end.hash
  if (!isSame && changes.length === 0) changes.push("it had ended, and has changed since")
  return changes
}

interface CheckOptions {
  readonly store: Pick<StoreService, "read">
  /** How long ended runs are kept unless their function says otherwise, milliseconds. */
  readonly keepMs: number
  readonly known: CheckedRuns
  /** Runs a slice when it is time for one, and waits after it. */
  readonly pace: <A>(slice: Effect.Effect<A, StoreError>) => Effect.Effect<A, StoreError>
  readonly tell: (found: Violation) => void
}

/** When an event starts two runs of a function by mistake, it does so within this time, milliseconds. */
const TWICE_MS = 600_000

/**
 * Whether a run may be a rerun of an earlier one: a rerun is not marked as such. Only ended runs are rerun, but the earlier run
 * may have been retried since.
 */
const mayBeRerun = (run: CheckedRun, earlier: CheckedRun): boolean =>
  (earlier.endedAt !== undefined && run.createdAt >= earlier.endedAt) ||
  run.createdAt - earlier.createdAt > TWICE_MS

/** Checks everything recent, slice by slice. */
export const checkGuarantees = ({
  keepMs,
  known,
  pace,
  store,
  tell
}: CheckOptions): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const last = yield* pace(store.read(ends()))
    let after: number | undefined = Math.max(0, last.runs - RECENT)
    for (const run of known.keys()) if (run <= after) known.delete(run)
    const seen = new Set<number>()
    const causes = new Map<string, CheckedRun>()
    while (after !== undefined) {
      const from: number = after
      const slice = yield* pace(store.read(checkRuns({ after: from, limit: SLICE, keepMs })))
      slice.violations.forEach(tell)
      for (const now of slice.checkedRuns ?? []) {
        const twin = now.cause === undefined ? undefined : causes.get(now.cause)
        if (now.cause !== undefined) causes.set(now.cause, now)
        if (twin !== undefined && !mayBeRerun(now, twin)) {
          const message = `run ${now.id}: run ${twin.id} is of the same function and event`
          tell({ guarantee: "G1", message, key: `twins ${now.cause}` })
        }
        const before = known.get(now.run)
        for (const change of before === undefined ? [] : changesIn(before, now)) {
          tell({ guarantee: "G3", message: `run ${now.id}: ${change}`, key: `${now.run} ${change}` })
        }
        seen.add(now.run)
        known.set(now.run, { ...now, steps: new Map([...now.steps].slice(0, STEPS_KNOWN)) })
      }
      after = slice.next
    }
    for (const run of known.keys()) if (!seen.has(run)) known.delete(run)
    const keyed = new Map<string, Keyed>()
    after = Math.max(0, last.events - RECENT)
    while (after !== undefined) {
      const from: number = after
      const slice = yield* pace(store.read(checkLog({ after: from, limit: SLICE })))
      slice.violations.forEach(tell)
      for (const event of slice.keyed ?? []) {
        const same = `${event.environment} ${event.name} ${event.key}`
        const before = keyed.get(same)
        keyed.set(same, event)
        if (before === undefined || event.timestamp - before.timestamp >= KEY_MS) continue
        const found = yield* pace(store.read(checkDuplicateKeys([before, event])))
        found.forEach(tell)
      }
      after = slice.next
    }
    const keys = yield* pace(store.read(checkKeys({ limit: KEYS, keepMs })))
    keys.violations.forEach(tell)
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

    const told = new Set<string>()
    const tell = ({ guarantee, key, message }: Violation): void => {
      if (told.has(key)) return
      if (told.size === MAX_REMEMBERED_VIOLATIONS) told.clear()
      told.add(key)
      violations++
      runFork(
        Effect.logError(
          `The database violates a guarantee (${guarantee}): ${message}. Keep a copy of the database, and report this`
        )
      )
    }

    let changed = Deferred.makeUnsafe<void>()
    const stop = store.onCommit(({ counts, elsewhere, ended }) => {
      // other commits change nothing that is checked here, or one of these follows; each engine checks after its own commits
      if (!elsewhere && (counts.events > 0 || ended.length > 0)) Deferred.doneUnsafe(changed, Effect.void)
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
      const waits = Deferred.await(changed)
      return Effect.andThen(
        waits,
        Effect.suspend(() => {
          changed = Deferred.makeUnsafe<void>()
          return checkGuarantees({ store, keepMs, known, pace, tell })
        })
      )
    })
    // other readers report damage; the next commit starts another check
    const rounds = Effect.forever(
      Effect.catchCause(round, (cause) => Effect.logDebug("The guarantees could not be checked", cause))
    )
    yield* Effect.forkScoped(Effect.andThen(Effect.sleep(PAUSE_MS), rounds))
    return service
  })
)
