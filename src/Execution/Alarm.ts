/**
 * Calls functions at their deadlines. One sleeping fiber serves all deadlines, since most are cancelled long before they
 * are due. Without deadlines no fiber sleeps, since a sleeping fiber would keep the process alive.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { Heap, type Ranked } from "./Heap.ts"
import { setImmediate } from "../RealTimers.ts"

export interface Alarm {
  /**
   * Calls `fn` once, when the clock shows `epochMs` or later. Returns a function that cancels the call. `fn` must not
   * throw.
   */
  readonly at: (epochMs: number, fn: () => void) => () => void
}

/** A deadline; its rank is the time at which it is due. */
interface Entry extends Ranked {
  readonly fn: () => void
}

/** The longest sleep of the fiber: the clock may jump during a sleep, and timers have an upper bound. */
const LONGEST_SLEEP_MS = 3_600_000

/**
 * Calls `fn` once, after `ms` milliseconds, independent of changes of the wall clock. Returns a function that cancels
 * the call.
 */
export type ScheduleTimeout = (ms: number, fn: () => void) => () => void

/** Makes an alarm on the clock in context. After the scope has closed, it makes no more calls. */
export const make: Effect.Effect<Alarm, never, Scope.Scope> = Effect.clockWith((clock) =>
  makeAlarmOn(clock, () => clock.currentTimeMillisUnsafe())
)

/** Makes the function that schedules timeouts. It works as an alarm does, but on the monotonic clock. */
export const makeScheduleTimeout: Effect.Effect<ScheduleTimeout, never, Scope.Scope> = Effect.clockWith(
  (clock) => {
    const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    return Effect.map(
      makeAlarmOn(clock, nowMs),
      ({ at }): ScheduleTimeout =>
        (ms, fn) =>
          at(nowMs() + ms, fn)
    )
  }
)

const makeAlarmOn = Effect.fnUntraced(function* (clock: Clock.Clock, nowMs: () => number) {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const entries = new Heap<Entry>()
  let sleeper: Fiber.Fiber<void> | undefined
  let wakesAt = Number.POSITIVE_INFINITY
  let isClosed = false

  const ring = (): void => {
    sleeper = undefined
    wakesAt = Number.POSITIVE_INFINITY
    const now = nowMs()
    for (let first = entries.peek(); first !== undefined && first.rank <= now; first = entries.peek()) {
      entries.remove(first)
      first.fn()
    }
    arm()
  }

  const arm = (): void => {
    const first = entries.peek()
    // The current sleep may end too early, for a deadline that was cancelled. To wake once for nothing costs less than
    // to begin a new sleep for each cancelled deadline.
    if (isClosed || first === undefined || wakesAt <= first.rank) return
    sleeper?.interruptUnsafe()
    const now = nowMs()
    const ms = Math.min(Math.max(first.rank - now, 0), LONGEST_SLEEP_MS)
    wakesAt = now + ms
    sleeper = runFork(Effect.andThen(clock.sleep(Duration.millis(ms)), Effect.sync(ring)))
  }

  let willEndSleep = false
  /**
   * Ends the sleep a moment later, if no deadline is left then. The step whose deadline was just cancelled may be
   * followed by another step with a deadline.
   */
  const endSleepSoon = (): void => {
    if (willEndSleep || isClosed || sleeper === undefined) return
    willEndSleep = true
    setImmediate(() => {
      willEndSleep = false
      if (entries.size > 0) return
      sleeper?.interruptUnsafe()
      sleeper = undefined
      wakesAt = Number.POSITIVE_INFINITY
    })
  }

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      entries.clear()
      sleeper?.interruptUnsafe()
    })
  )

  const at: Alarm["at"] = (deadline, fn) => {
    const entry: Entry = { rank: deadline, position: -1, fn }
    if (!isClosed) {
      entries.add(entry)
      arm()
    }
    return () => {
      entries.remove(entry)
      if (entries.size === 0) endSleepSoon()
    }
  }
  return { at }
})
