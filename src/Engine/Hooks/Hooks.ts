/**
 * What an engine does by itself when something is wrong: it calls hooks, and starts functions that listen for system events. When
 * a run fails or is paused, the calls are stored in the same transaction, and are sent from here. The searches for stuck runs and
 * failing functions also start from here. An engine without hooks and without such functions does none of this.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { StoreError, ValidationError } from "../../Errors.ts"
import * as Alarm from "../../Execution/Alarm.ts"
import { checkHooks, type HookEvent } from "../../Hook.ts"
import { providedOr } from "../../ConfigProviderVariables.ts"
import { InputBudget } from "../InputBudget.ts"
import { makeSettings, PushSettings } from "../Push/PushSettings.ts"
import { type FunctionInEnvironment, hasListeners, noteFailing, noteStuck } from "../Runs/LastingProblems.ts"
import { watchRates } from "../Runs/FailureRates.ts"
import { countCalls, forgetHook, MAX_CALLS, setHooks, takeDropped } from "../Runs/HookCalls.ts"
import { Runs } from "../Runs/Runs.ts"
import { Store } from "../Store/Store.ts"
import { type HookCounts, makeHookDelivery } from "./HookDelivery.ts"
import { refuseHooks, warnAboutHook } from "./HookChecks.ts"
import { EngineHooks, Failing, resolveFailing } from "./HookSettings.ts"

export interface HooksService {
  /** The metric that counts the calls of hooks. */
  readonly family: () => CallsFamily
}

/** Samples of the counter of calls. */
interface CallsFamily {
  readonly name: string
  readonly kind: "counter"
  readonly help: string
  readonly samples: ReadonlyArray<{ readonly labels: { readonly what: string }; readonly value: number }>
}

const familyOf = ({ abandoned, delivered, dropped, retried }: HookCounts): CallsFamily => ({
  name: "ironflow_hook_calls_total",
  kind: "counter",
  help: "Calls of hooks: delivered; attempts that are tried again (retried); given up after all attempts (abandoned); dropped, for lack of room or because the engine does not have the hook.",
  samples: Object.entries({ delivered, retried, abandoned, dropped }).map(([what, value]) => ({
    labels: { what },
    value
  }))
})

export class Hooks extends Context.Service<Hooks, HooksService>()("@ironflow/node/Engine/Hooks") {}

/**
 * The time between two searches for stuck runs, in milliseconds. The engine begins to search when a hook or a function listens for
 * stuck runs.
 */
export const StuckEvery = Context.Reference<number>("@ironflow/node/StuckEvery", {
  defaultValue: () => 60_000
})
/** The delay, in milliseconds, after which the engine searches for failing functions, once a run has failed. */
const FAILING_AFTER_MS = 1000
/** The time between two searches for failing functions, in milliseconds, while any run of the last minutes has failed. */
const FAILING_EVERY_MS = 15_000
/** The delay, in milliseconds, after which the engine checks whether calls were dropped, once a run has failed or was paused. */
const DROPPED_AFTER_MS = 10_000

export const layer: Layer.Layer<Hooks, ValidationError | StoreError, Store | Runs> = Layer.effect(
  Hooks,
  Effect.gen(function* () {
    const store = yield* Store
    const runs = yield* Runs
    const hookOptions = yield* EngineHooks
    const failingOptions = yield* Failing
    const stuckEveryMs = yield* StuckEvery
    const { failingIf, hooks } = yield* Effect.try({
      try: () => ({ hooks: checkHooks(hookOptions), failingIf: resolveFailing(failingOptions) }),
      // only a `ValidationError` is thrown
      catch: (error) => error as ValidationError
    })
    const { allowPrivateNetworks } = yield* providedOr(PushSettings, (variables) =>
      makeSettings({}, variables)
    )
    yield* Effect.try({
      try: () => refuseHooks(hooks, allowPrivateNetworks),
      // only a `ValidationError` is thrown
      catch: (error) => error as ValidationError
    })
    const scope = yield* Scope.Scope
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const fork = (effect: Effect.Effect<void>): void => void Fiber.runIn(run(effect), scope)
    const counts: HookCounts = { delivered: 0, retried: 0, abandoned: 0, dropped: 0 }

    if (hooks.length > 0) {
      const listening = hooks.map(({ environment, functionId, key, on }) => ({
        environment,
        functionId,
        key,
        on
      }))
      yield* store.write(setHooks(listening))
    }
    for (const { calls, hook } of yield* store.read(countCalls())) {
      if (hooks.some(({ key }) => key === hook)) continue
      yield* store.write(forgetHook(hook, calls))
      counts.dropped += calls
      yield* Effect.logWarning(
        `${calls} stored ${calls === 1 ? "call of a hook was" : "calls of a hook were"} dropped: this engine does not have that hook`
      )
    }
    for (const hook of hooks) fork(warnAboutHook(hook, allowPrivateNetworks))
    const inputBudget = new InputBudget(yield* Clock.Clock, yield* Alarm.makeScheduleTimeout)
    const deliveries = hooks.map((hook) =>
      makeHookDelivery({ hook, store, inputBudget, allowPrivateNetworks, counts })
    )
    const wake = (): void => {
      for (const delivery of deliveries) delivery.wake()
    }
    for (const delivery of deliveries) fork(delivery.run)

    const isHooked = (event: HookEvent): boolean => hooks.some(({ on }) => on.includes(event))
    let hasListening = yield* store.read(hasListeners())
    const isReported = (event: HookEvent): boolean => hasListening || isHooked(event)

    // errors are only logged: what cannot be read or written now is tried again later
    const quietly = <A>(effect: Effect.Effect<A, StoreError>, fallback: A): Effect.Effect<A> =>
      Effect.catch(effect, (error) =>
        Effect.as(Effect.logDebug("The conditions that hooks report could not be checked", error), fallback)
      )

    let failing: ReadonlyArray<FunctionInEnvironment> = []
    let isCheckingFailing = false
    const lookForFailing = Effect.gen(function* () {
      yield* Effect.sleep(FAILING_AFTER_MS)
      while (true) {
        const found = yield* quietly(store.write(noteFailing(failingIf, failing)), {
          failing,
          isQuiet: false
        })
        failing = found.failing
        wake()
        if (found.isQuiet) return
        yield* Effect.sleep(FAILING_EVERY_MS)
      }
    }).pipe(Effect.ensuring(Effect.sync(() => (isCheckingFailing = false))))

    const reportedRuns = new Set<number>()
    const lookForStuck = Effect.gen(function* () {
      if ((yield* runs.countStuck) === 0) return reportedRuns.clear()
      const stuck = yield* runs.findStuck
      for (const key of reportedRuns) if (!stuck.some((one) => one.key === key)) reportedRuns.delete(key)
      const unreported = stuck.filter(({ key }) => !reportedRuns.has(key))
      if (unreported.length === 0) return
      yield* store.write(noteStuck(unreported))
      for (const { key } of unreported) reportedRuns.add(key)
      wake()
    })
    let watchesStuck = false
    const watchStuck = (): void => {
      if (watchesStuck || !isReported("run.stuck")) return
      watchesStuck = true
      fork(
        Effect.forever(
          Effect.andThen(Effect.sleep(stuckEveryMs), quietly(Effect.asVoid(lookForStuck), undefined))
        )
      )
    }
    const watchFailing = Effect.suspend(() =>
      isReported("function.failing") ? store.write(watchRates(failingIf.minutes)) : Effect.void
    )
    watchStuck()
    yield* watchFailing

    let isCheckingDropped = false
    const logDropped = Effect.gen(function* () {
      yield* Effect.sleep(DROPPED_AFTER_MS)
      const dropped = yield* quietly(store.write(takeDropped()), 0)
      counts.dropped += dropped
      if (dropped === 0) return
      yield* Effect.logError(
        `${dropped} ${dropped === 1 ? "call of a hook was" : "calls of hooks were"} dropped: ${MAX_CALLS} other calls wait already, because hooks do not accept them`
      )
    }).pipe(Effect.ensuring(Effect.sync(() => (isCheckingDropped = false))))

    const stop = store.onCommit(({ functions, runFailures }) => {
      if (functions.length > 0) {
        fork(
          Effect.flatMap(quietly(store.read(hasListeners()), hasListening), (hasListeningNow) => {
            if (hasListeningNow === hasListening) return Effect.void
            hasListening = hasListeningNow
            watchStuck()
            return quietly(watchFailing, undefined)
          })
        )
      }
      const hasFailed = runFailures.some(({ _tag }) => _tag === "RunFailed")
      if (!hasFailed && !runFailures.some(({ _tag }) => _tag === "RunPaused")) return
      wake()
      if (hooks.length > 0 && !isCheckingDropped) {
        isCheckingDropped = true
        fork(logDropped)
      }
      if (!hasFailed || isCheckingFailing || !isReported("function.failing")) return
      isCheckingFailing = true
      fork(lookForFailing)
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return Hooks.of({ family: () => familyOf(counts) })
  })
)
