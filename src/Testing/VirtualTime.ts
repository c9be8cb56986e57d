/**
 * Time that passes when a test says so, for an engine and its workers in this process.
 *
 * Everything that happens by itself happens in real time, which is milliseconds; what waits for a time waits for the
 * test, which goes from one due time to the next so that nothing sleeps through the time that another thing needed.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { EngineService } from "../Engine/Engine.ts"
import type { StoreService } from "../Engine/Store/Store.ts"
import type { IronflowError, StoreError } from "../Errors.ts"

/** More rounds of the event loop than any turn takes between two commits. */
const quietRounds = 40
/** Real milliseconds that code at work is given for its next sign of life. */
const patienceMs = 250

/** One round of the event loop, promise continuations included. */
export const round: Effect.Effect<void> = Effect.callback((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/** Real time: what a step's code waits for outside of the engine does not follow the test's clock. */
const realMillisecond: Effect.Effect<void> = Effect.callback((resume) => {
  const timer = setTimeout(() => resume(Effect.void), 1)
  return Effect.sync(() => clearTimeout(timer))
})

/** A clock of a test that knows what sleeps on it. */
export interface ManualClock {
  readonly clock: Clock.Clock
  /** The same time for workers, whose sleepers are known apart: they sleep for code at work and for what they try again. */
  readonly workerClock: Clock.Clock
  readonly adjust: (duration: Duration.Input) => Effect.Effect<void>
  /** When the next sleeper wakes, epoch milliseconds; `Infinity` when nothing sleeps. */
  readonly nextWake: () => number
  /** The same of workers alone. */
  readonly nextWorkerWake: () => number
}

/** A clock that starts at `startAt` (epoch milliseconds). */
export const makeClock = (startAt: number): Effect.Effect<ManualClock, never, Scope.Scope> =>
  Effect.gen(function* () {
    // the warning about time that does not pass is about fibers of tests, not about an engine
    const inner = yield* TestClock.make({ warningDelay: "1 day" })
    yield* inner.setTime(startAt)
    const clockOver = (wakes: Map<object, number>): Clock.Clock => ({
      currentTimeMillisUnsafe: () => inner.currentTimeMillisUnsafe(),
      currentTimeNanosUnsafe: () => inner.currentTimeNanosUnsafe(),
      monotonicTimeNanosUnsafe: () => inner.monotonicTimeNanosUnsafe(),
      currentTimeMillis: inner.currentTimeMillis,
      currentTimeNanos: inner.currentTimeNanos,
      monotonicTimeNanos: inner.monotonicTimeNanos,
      sleep: (duration) =>
        Effect.suspend(() => {
          const sleeper = {}
          wakes.set(sleeper, inner.currentTimeMillisUnsafe() + Duration.toMillis(duration))
          return Effect.ensuring(
            inner.sleep(duration),
            Effect.sync(() => wakes.delete(sleeper))
          )
        })
    })
    const wakes = new Map<object, number>()
    const workerWakes = new Map<object, number>()
    const nextWorkerWake = () => Math.min(Number.POSITIVE_INFINITY, ...workerWakes.values())
    return {
      clock: clockOver(wakes),
      workerClock: clockOver(workerWakes),
      adjust: (duration) => inner.adjust(duration),
      nextWake: () => Math.min(nextWorkerWake(), ...wakes.values()),
      nextWorkerWake
    }
  })

export interface VirtualTime {
  /** The time, epoch milliseconds. */
  readonly now: Effect.Effect<number>
  /** Waits until nothing moves by itself any more, without letting time pass. */
  readonly settle: Effect.Effect<void, IronflowError>
  /** Lets time pass, from one due time to the next. */
  readonly advance: (ms: number) => Effect.Effect<void, IronflowError>
  /** Lets time pass until the next thing is due, at most until `latest`; `false` when nothing is due until then. */
  readonly advanceToNext: (latest: number) => Effect.Effect<boolean, IronflowError>
}

/** `isProjecting` says whether projections are at work, which the engine's metrics do not show. */
export const make = (
  manual: ManualClock,
  engine: EngineService,
  store: StoreService,
  isProjecting: Effect.Effect<boolean, IronflowError>
): VirtualTime => {
  const now = () => manual.clock.currentTimeMillisUnsafe()

  const settle: Effect.Effect<void, IronflowError> = Effect.gen(function* () {
    let commits = engine.metrics().commits
    for (
      let quiet = 0, waitedMs = 0;
      quiet < quietRounds || (waitedMs < patienceMs && (yield* isBusy));
      quiet++
    ) {
      if (quiet < quietRounds) yield* round
      else {
        yield* realMillisecond
        waitedMs++
      }
      const current = engine.metrics().commits
      if (current === commits) continue
      commits = current
      quiet = 0
      waitedMs = 0
    }
  })
  /** Whether code is at work that may yet go on by itself: a turn that only waits for time would have ended. */
  const isBusy = Effect.suspend(() => (engine.metrics().activeJobs > 0 ? Effect.succeed(true) : isProjecting))

  const nextDue: Effect.Effect<number, StoreError> = Effect.map(store.fireDue(), ({ nextDueAt }) =>
    // a time limit of code at work, or what it sleeps for itself
    Math.min(nextDueAt, engine.metrics().activeJobs > 0 ? manual.nextWake() : manual.nextWorkerWake())
  )

  const passTo = (time: number): Effect.Effect<void, IronflowError> =>
    Effect.andThen(manual.adjust(Math.max(0, time - now())), settle)

  const advanceToNext = (latest: number) =>
    Effect.gen(function* () {
      yield* settle
      const due = yield* nextDue
      if (due > latest) return false
      yield* passTo(due)
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
