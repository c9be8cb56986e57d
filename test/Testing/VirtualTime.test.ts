import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { expect, test } from "vitest"
import { makeClocks } from "../../src/Testing/VirtualTime.ts"

const hour = 3_600_000

test("sleepers wake in the order of their times, and see the current time", async () => {
  const { clock, nextWake, passTo } = makeClocks(1000)
  const woken: Array<[string, number]> = []
  const sleeper = (name: string, ms: number) =>
    Effect.runFork(
      Effect.andThen(
        clock.sleep(Duration.millis(ms)),
        Effect.sync(() => woken.push([name, clock.currentTimeMillisUnsafe()]))
      )
    )
  const fibers = [sleeper("late", 300), sleeper("early", 100), sleeper("beyond", 5000), sleeper("now", 0)]
  expect(nextWake()).toBe(1100)
  await Effect.runPromise(passTo(1300))
  for (const [i, fiber] of fibers.entries()) if (i !== 2) await Effect.runPromise(Fiber.join(fiber))

  expect(woken).toEqual([
    ["now", 1000],
    ["early", 1300],
    ["late", 1300]
  ])
  expect(nextWake()).toBe(6000)
  await Effect.runPromise(Fiber.interrupt(fibers[2]!))
  expect(nextWake()).toBe(Number.POSITIVE_INFINITY)
})

test("an hourly check runs once when a week passes at once", async () => {
  const { clock, passTo, nextWake } = makeClocks(0)
  let looks = 0
  const looking = Effect.runFork(
    Effect.forever(
      Effect.andThen(
        clock.sleep(Duration.hours(1)),
        Effect.sync(() => looks++)
      )
    )
  )
  await Effect.runPromise(passTo(168 * hour))
  await expect.poll(() => nextWake()).toBe(169 * hour)
  expect(looks).toBe(1)
  await Effect.runPromise(Fiber.interrupt(looking))
})

test("workers share the time, and have different ids", async () => {
  const { clock, nextWake, nextWorkerWake, passTo, workerClock } = makeClocks(0)
  const engine = Effect.runFork(clock.sleep(Duration.millis(50)))
  const worker = Effect.runFork(Effect.provideService(Effect.sleep(100), Clock.Clock, workerClock))
  expect([nextWake(), nextWorkerWake()]).toEqual([50, 100])
  await Effect.runPromise(passTo(100))
  await Effect.runPromise(Effect.andThen(Fiber.join(engine), Fiber.join(worker)))

  expect(workerClock.currentTimeMillisUnsafe()).toBe(100)
  expect(nextWake()).toBe(Number.POSITIVE_INFINITY)
  // virtual time never goes back
  await Effect.runPromise(passTo(10))
  expect(clock.currentTimeMillisUnsafe()).toBe(100)
})
