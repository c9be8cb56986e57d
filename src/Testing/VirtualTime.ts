/**
 * Virtual time of an engine and its workers in this process. It passes only when a test says so.
 *
 * Code runs in real time, within milliseconds. Code that sleeps waits until the test advances the virtual time. The
 * time then goes from one due time to the next, so that everything happens at the time at which it is due.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { EngineService } from "../Engine/Engine.ts"
import { QUIET_TURNS } from "../Engine/EventLoop.ts"
import type { StoreService } from "../Engine/Store/Store.ts"
import type { StoreError } from "../Errors.ts"
import type { TestError } from "./TestError.ts"
import * as RealTime from "./RealTime.ts"
import * as FireDue from "../Engine/Schedules/FireDue.ts"

/** How long code that still runs may show no activity before it counts as waiting, in real milliseconds. */
const PATIENCE_MS = 250

/** The clocks of a test. They share one time, and know who sleeps on them. */
export interface ManualClocks {
  /** The clock of the engine and its clients. */
  readonly clock: Clock.Clock
  /** The clock of the workers. The code of handlers and steps sleeps on it, and so do retries of workers. */
  readonly workerClock: Clock.Clock
  /** The clock of the test itself. Advancing stops at each time when a sleeper of the test wakes. */
  readonly testsClock: Clock.Clock
  /**
   * Sets the time, in epoch milliseconds, and wakes the sleepers that are due, the earliest first. When a sleeper
   * sleeps again, its sleep starts at the new time. So code that sleeps for an hour again and again wakes only once,
   * however much time passes.
   */
  readonly passTo: (time: number) => Effect.Effect<void>
  /** When the next sleeper wakes, in epoch milliseconds; `Infinity` without sleepers. */
  readonly nextWake: () => number
  /** When the next sleeper on the clock of the workers wakes; `Infinity` without such sleepers. */
  readonly nextWorkerWake: () => number
  /** When the next sleeper on the clock of the test wakes; `Infinity` without such sleepers. */
  readonly nextTestWake: () => number
}

interface Sleeper {
  readonly wakesAt: number
  readonly wake: () => void
}

/** Makes the clocks, with the time `startAt` (epoch milliseconds). */
export const makeClocks = (startAt: number): ManualClocks => {
  let now = startAt
  const nanos = () => BigInt(now) * 1_000_000n
  const clockOver = (sleepers: Set<Sleeper>): Clock.Clock => ({
    currentTimeMillisUnsafe: () => now,
    currentTimeNanosUnsafe: nanos,
    monotonicTimeNanosUnsafe: nanos,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) =>
      Effect.callback((resume) => {
        const wakesAt = now + Math.ceil(Duration.toMillis(duration))
        if (wakesAt <= now) return resume(Effect.void)
        const sleeper = { wakesAt, wake: () => resume(Effect.void) }
        sleepers.add(sleeper)
        return Effect.sync(() => void sleepers.delete(sleeper))
      })
  })
  const engineSleepers = new Set<Sleeper>()
  const workerSleepers = new Set<Sleeper>()
  const testSleepers = new Set<Sleeper>()
  const allSleepers = [engineSleepers, workerSleepers, testSleepers]
  const nextWakeOf = (sleepers: Set<Sleeper>): number =>
    Array.from(sleepers).reduce((first, { wakesAt }) => Math.min(first, wakesAt), Number.POSITIVE_INFINITY)
  return {
    clock: clockOver(engineSleepers),
    workerClock: clockOver(workerSleepers),
    testsClock: clockOver(testSleepers),
    passTo: (time) =>
      Effect.sync(() => {
        now = Math.max(now, Math.ceil(time))
        const dueSleepers = allSleepers
          .flatMap((sleepers) => Array.from(sleepers))
          .filter(({ wakesAt }) => wakesAt <= now)
          .sort((a, b) => a.wakesAt - b.wakesAt)
        for (const sleeper of dueSleepers) {
          for (const sleepers of allSleepers) sleepers.delete(sleeper)
          sleeper.wake()
        }
      }),
    nextWake: () => Math.min(...allSleepers.map(nextWakeOf)),
    nextWorkerWake: () => nextWakeOf(workerSleepers),
    nextTestWake: () => nextWakeOf(testSleepers)
  }
}

export interface VirtualTime {
  /** The virtual time, in epoch milliseconds. */
  readonly now: Effect.Effect<number>
  /** Waits until everything has come to rest, without advancing time. */
  readonly settle: Effect.Effect<void, TestError>
  /** Advances time, from one due time to the next. */
  readonly advance: (ms: number) => Effect.Effect<void, TestError>
  /**
   * Advances time to the next due time. When nothing is due until `latest`, it returns `false` and advances nothing.
   */
  readonly advanceToNext: (latest: number) => Effect.Effect<boolean, TestError>
}

/**
 * Makes the virtual time of an engine. `isProjecting` says whether projections are active, which the engine's
 * metrics do not show; `isReplaying` says whether a replay is running.
 */
export const make = (
  clocks: ManualClocks,
  engine: EngineService,
  store: StoreService,
  isProjecting: Effect.Effect<boolean, TestError>,
  isReplaying: () => boolean
): VirtualTime => {
  const now = () => clocks.clock.currentTimeMillisUnsafe()

  const settle: Effect.Effect<void, TestError> = Effect.gen(function* () {
    let commits = engine.metrics().commits
    for (
      let quietRounds = 0, waitedMs = 0;
      quietRounds < QUIET_TURNS || isReplaying() || (waitedMs < PATIENCE_MS && (yield* isBusy));
      quietRounds++
    ) {
      if (quietRounds < QUIET_TURNS) yield* RealTime.round
      else {
        yield* RealTime.millisecond
        waitedMs++
      }
      const newCommits = engine.metrics().commits
      if (newCommits === commits) continue
      commits = newCommits
      quietRounds = 0
      waitedMs = 0
    }
  })
  /**
   * Whether code may still continue by itself, in a turn or in a projection. When a handler only waits for virtual
   * time, its turn ends.
   */
  const isBusy = Effect.suspend(() => (engine.metrics().activeJobs > 0 ? Effect.succeed(true) : isProjecting))

  const nextDue: Effect.Effect<number, StoreError> = Effect.map(FireDue.fireDue(store), ({ nextDueAt }) =>
    // sleepers on the clock of the engine and its clients count only while a turn is active, whose code may wait for them
    Math.min(
      nextDueAt,
      engine.metrics().activeJobs > 0
        ? clocks.nextWake()
        : Math.min(clocks.nextWorkerWake(), clocks.nextTestWake())
    )
  )

  const passTo = (time: number): Effect.Effect<void, TestError> => Effect.andThen(clocks.passTo(time), settle)

  const advanceToNext = (latest: number) =>
    Effect.gen(function* () {
      yield* settle
      const dueTime = yield* nextDue
      if (dueTime > latest) return false
      yield* passTo(dueTime)
      return true
    })

  return {
    now: Effect.sync(now),
    settle,
    advanceToNext,
    advance: (ms) =>
      Effect.gen(function* () {
        const target = now() + ms
        while (yield* advanceToNext(target));
        yield* passTo(target)
      })
  }
}
