/** Real time for the test kits, also in tests with fake timers. */
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"
import { randomBytes } from "node:crypto"
import { TimersFakedError } from "../Errors.ts"
import {
  clearImmediate,
  clearTimeout,
  nextTick,
  queueMicrotask,
  setImmediate,
  setTimeout
} from "../RealTimers.ts"

/** Schedules fibers on the real event loop. */
export const scheduler: Scheduler.Scheduler = new Scheduler.MixedScheduler("async", (run) => {
  const immediate = setImmediate(run)
  return () => clearImmediate(immediate)
})

/** Waits for one round of the event loop, promise continuations included. */
export const round: Effect.Effect<void> = Effect.callback((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/**
 * Waits one real millisecond. The code of a step may wait for something that happens outside of the engine, in real
 * time and not on the test's clock.
 */
export const millisecond: Effect.Effect<void> = Effect.callback((resume) => {
  const timer = setTimeout(() => resume(Effect.void), 1)
  return Effect.sync(() => clearTimeout(timer))
})

/** Timers that have not called back after this many rounds of the event loop, a millisecond each, count as fake. */
const PATIENCE_ROUNDS = 100

let timersAreReal = false

/**
 * Fails with code `TIMERS_FAKED` when the timers were already fake when the test kits were loaded: the kits
 * would wait forever.
 */
export const ensureReal = (who: string): Effect.Effect<void, TimersFakedError> =>
  Effect.suspend(() => (timersAreReal ? Effect.void : check(who)))

const check = (who: string): Effect.Effect<void, TimersFakedError> =>
  Effect.callback((resume) => {
    const silent = new Set(["setImmediate", "setTimeout", "queueMicrotask", "process.nextTick"])
    setImmediate(() => silent.delete("setImmediate"))
    setTimeout(() => silent.delete("setTimeout"), 1)
    queueMicrotask(() => silent.delete("queueMicrotask"))
    nextTick(() => silent.delete("process.nextTick"))
    const neverChanged = new Int32Array(new SharedArrayBuffer(4))
    // the result of another thread arrives through the event loop, which is never fake
    const checkTimers = (rounds: number): void =>
      randomBytes(1, () => {
        if (silent.size === 0) {
          timersAreReal = true
          return resume(Effect.void)
        }
        if (rounds > PATIENCE_ROUNDS) return resume(Effect.fail(timersFakedError(who, [...silent])))
        Atomics.wait(neverChanged, 0, 0, 1)
        checkTimers(rounds + 1)
      })
    checkTimers(0)
  })

const timersFakedError = (who: string, silent: ReadonlyArray<string>): TimersFakedError =>
  new TimersFakedError(
    `${who} would wait for ever: fake timers had replaced ${silent.join(", ")} before @ironflow/node was loaded. ` +
      "Load @ironflow/node/test before the timers are replaced, or leave these timers real: with `toFake` of vi.useFakeTimers(), " +
      "`doNotFake` of jest.useFakeTimers(), `apis` of mock.timers.enable()",
    { details: { faked: silent } }
  )
