/** What happens when the clock is set, between two starts and while the engine runs. */
import { untilQuiet } from "../Quiet.ts"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { afterEach, vi } from "vitest"
import * as IdempotencySweep from "../../../src/Engine/Log/IdempotencySweep.ts"
import * as RunSweep from "../../../src/Engine/Runs/RunSweep.ts"
import * as Timers from "../../../src/Engine/Schedules/Timers.ts"
import { newFile, visit, withLog } from "./OnFile.ts"
import {
  complete,
  environment,
  handles,
  invoke,
  retryStep,
  type Shop,
  sleep,
  suspend,
  waitFor
} from "./suite/Shop.ts"
import * as ExtendLeases from "../../../src/Engine/Turns/ExtendLeases.ts"
import * as ProjectionOwnerRows from "../../../src/Engine/Projections/ProjectionOwnerRows.ts"
import * as RunAudit from "../../../src/Engine/Runs/RunAudit.ts"

const HOUR = 60 * 60 * 1000
const YEAR = 365 * 24 * HOUR

/** A clock that can be set. Its time passes as always. */
interface WallClock {
  set: (byMs: number) => void
}

/** Runs `body` with a clock that can be set. */
const withClock = <A, E, R>(body: (clock: WallClock) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const real = yield* Clock.Clock
    let skewMs = 0
    const now = () => real.currentTimeMillisUnsafe() + skewMs
    const shown: Clock.Clock = {
      ...real,
      currentTimeMillisUnsafe: now,
      currentTimeMillis: Effect.sync(now)
    }
    return yield* Effect.provideService(body({ set: (byMs) => void (skewMs += byMs) }), Clock.Clock, shown)
  })

const clockTest = (title: string, body: (clock: WallClock) => Effect.Effect<void, unknown, Scope.Scope>) =>
  it.effect(title, () => withLog(() => Effect.andThen(TestClock.setTime(3 * YEAR), withClock(body))))

/** Lets hours pass, and waits for the work of each hour. */
const hours = (count: number) =>
  Effect.repeat(Effect.andThen(TestClock.adjust("1 hour"), Effect.promise(untilQuiet)), {
    times: count - 1
  })

/** Starts the hourly deletion of old data. */
const sweep = ({ store }: Shop) => Effect.andThen(RunSweep.make(store), IdempotencySweep.make(store))

/** Gives a run to a worker outside the process, which then sends nothing more. */
const startAndLose = (shop: Shop) =>
  Effect.gen(function* () {
    yield* shop.register(handles("charge"))
    return yield* shop.start("order.placed", {}, { worker: "far", leaseMs: 30_000 })
  })

const claimRunIds = (shop: Shop) =>
  Effect.map(shop.claim({ functions: ["charge"], worker: "near", room: 10 }), (jobs) =>
    jobs.map(({ runId }) => runId)
  )

describe("a lease", () => {
  clockTest(
    "from an engine whose clock was ahead lasts no longer than its length after the next start",
    (clock) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        clock.set(HOUR)
        const job = yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            const job = yield* startAndLose(shop)
            // the worker extends the lease once
            yield* TestClock.adjust("5 minutes")
            yield* shop.store.write(ExtendLeases.extendLeases("default", [job.jobId], 30_000))
            return job
          })
        )
        clock.set(-HOUR)

        yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            yield* shop.pass(29_000)
            assert.deepStrictEqual(yield* claimRunIds(shop), [])
            yield* shop.pass(1000)
            assert.deepStrictEqual(yield* claimRunIds(shop), [job.runId])
          })
        )
      })
  )

  clockTest("of a projection whose owner's clock was ahead expires too", (clock) =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const claim = (shop: Shop, workerId: string) =>
        shop.store.write(
          ProjectionOwnerRows.claimProjection({
            environment,
            workerId,
            leaseMs: 30_000,
            registration: { name: "totals", mode: "external", events: ["order.placed"] }
          })
        )
      clock.set(HOUR)
      yield* visit(filename, (shop) => claim(shop, "far"))
      clock.set(-HOUR)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          assert.strictEqual((yield* claim(shop, "near"))._tag, "Busy")
          yield* shop.pass(30_000)
          assert.strictEqual((yield* claim(shop, "near"))._tag, "Granted")
        })
      )
    })
  )

  for (const [what, byMs] of [
    ["back", -HOUR],
    ["forward", YEAR]
  ] as const) {
    clockTest(`keeps its length when the clock is set ${what} while the engine runs`, (clock) =>
      Effect.gen(function* () {
        yield* visit(yield* newFile, (shop) =>
          Effect.gen(function* () {
            const job = yield* startAndLose(shop)
            yield* TestClock.adjust("10 seconds")
            clock.set(byMs)

            yield* shop.fire()
            assert.deepStrictEqual(yield* claimRunIds(shop), [])
            yield* shop.pass(19_000)
            assert.deepStrictEqual(yield* claimRunIds(shop), [])
            yield* shop.pass(1000)
            assert.deepStrictEqual(yield* claimRunIds(shop), [job.runId])
          })
        )
      })
    )
  }
})

describe("a clock that is set back", () => {
  const minute = 60_000
  const cases = {
    "a sleep": sleep("it:0", minute),
    "the timeout of a wait": waitFor("it:0", "order.paid", { timeoutMs: minute }),
    "the timeout of an invocation": invoke("it:0", "ship", { timeoutMs: minute }),
    "the delay before an attempt": retryStep("it:0", 1, minute)
  }
  for (const [what, op] of Object.entries(cases)) {
    for (const when of ["while the engine runs", "between two starts", "just before the engine stops"]) {
      const running = when === "while the engine runs"
      clockTest(`does not prolong ${what}: ${when}`, (clock) =>
        Effect.gen(function* () {
          const filename = yield* newFile
          const begin = (shop: Shop) =>
            Effect.gen(function* () {
              yield* shop.register(handles("charge"), handles("ship", { on: [] }))
              const job = yield* shop.start("order.placed", {}, { functions: ["charge"] })
              yield* shop.report(job, op, suspend("it:0"))
              yield* TestClock.adjust("30 seconds")
              if (when !== "between two starts") clock.set(-HOUR)
              return job.runId
            })
          const end = (shop: Shop, runId: string) =>
            Effect.gen(function* () {
              yield* shop.fire()
              assert.deepStrictEqual(yield* claimRunIds(shop), [])
              yield* shop.pass(30_000)
              assert.deepStrictEqual(yield* claimRunIds(shop), [runId])
            })
          if (running) {
            yield* visit(filename, (shop) => Effect.flatMap(begin(shop), (runId) => end(shop, runId)))
          } else {
            const runId = yield* visit(filename, begin)
            if (when === "between two starts") clock.set(-HOUR)
            yield* visit(filename, (shop) => end(shop, runId))
          }
        })
      )
    }
  }

  clockTest("delays a sleep until a fixed time", (clock) =>
    Effect.gen(function* () {
      yield* visit(yield* newFile, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          const job = yield* shop.start()
          const at = (yield* Clock.currentTimeMillis) + minute
          yield* shop.report(job, sleep("until:0", { at }), suspend("until:0"))
          clock.set(-HOUR)

          yield* shop.pass(2 * minute)
          assert.deepStrictEqual(yield* claimRunIds(shop), [])
          clock.set(HOUR)
          yield* shop.fire()
          assert.deepStrictEqual(yield* claimRunIds(shop), [job.runId])
        })
      )
    })
  )

  clockTest("does not hold up a schedule, even when it is set back by a year", (clock) =>
    Effect.gen(function* () {
      yield* visit(yield* newFile, (shop) =>
        Effect.gen(function* () {
          clock.set(YEAR)
          yield* shop.register(handles("report", { on: [], triggers: [{ cron: "0 * * * *" }] }))
          clock.set(-YEAR)
          yield* shop.fire()
          yield* shop.pass(2 * HOUR)

          assert.isNotEmpty(yield* shop.claim({ room: 10 }))
        })
      )
    })
  )
})

describe("data that is kept for a time", () => {
  /** Makes an ended run and a used idempotency key, and lets an hour pass. */
  const begin = (shop: Shop) =>
    Effect.gen(function* () {
      yield* shop.register(handles("charge", { recording: true }))
      const { eventId } = yield* shop.emit("order.placed", {}, { idempotencyKey: "k" })
      const job = yield* shop.claimOne()
      yield* shop.report(job, complete())
      // the newest run is never deleted
      yield* shop.emit("order.placed")
      yield* TestClock.adjust("1 hour")
      return { runId: job.runId, eventId }
    })
  const isAllThere = (shop: Shop, { eventId, runId }: { readonly eventId: string; readonly runId: string }) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* shop.status(runId), "completed")
      assert.isNotEmpty(
        (yield* shop.store.read(RunAudit.readAuditRecord(environment, runId, { after: 0 }))).events
      )
      assert.strictEqual(
        (yield* shop.emit("order.placed", {}, { idempotencyKey: "k" })).eventId,
        eventId,
        "the idempotency key is remembered"
      )
    })

  clockTest(
    "is not deleted at once when the clock goes forward while the engine runs, nor when it is corrected",
    (clock) =>
      Effect.gen(function* () {
        yield* visit(yield* newFile, (shop) =>
          Effect.gen(function* () {
            yield* sweep(shop)
            const begun = yield* begin(shop)
            clock.set(YEAR)
            yield* shop.fire()
            yield* hours(3)
            yield* isAllThere(shop, begun)
            clock.set(-YEAR)
            yield* shop.fire()
            yield* hours(3)
            yield* isAllThere(shop, begun)
          })
        )
      })
  )

  clockTest(
    "is not deleted at once when the clock goes forward between two starts, nor at the next start",
    (clock) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const begun = yield* visit(filename, begin)
        clock.set(YEAR)
        for (let start = 0; start < 2; start++) {
          yield* visit(filename, (shop) =>
            Effect.gen(function* () {
              yield* sweep(shop)
              yield* hours(3)
              yield* isAllThere(shop, begun)
            })
          )
        }
        clock.set(-YEAR)
        yield* visit(filename, (shop) => isAllThere(shop, begun))
      })
  )

  clockTest("is deleted when the clock has not been set for a day", (clock) =>
    Effect.gen(function* () {
      yield* visit(yield* newFile, (shop) =>
        Effect.gen(function* () {
          yield* sweep(shop)
          const { runId } = yield* begin(shop)
          clock.set(YEAR)
          yield* shop.fire()
          yield* hours(26)

          assert.strictEqual((yield* Effect.flip(shop.run(runId))).code, "RUN_NOT_FOUND")
          assert.isFalse((yield* shop.emit("order.placed", {}, { idempotencyKey: "k" })).duplicate)
        })
      )
    })
  )

  clockTest("is still deleted after runs that were created while the clock was ahead", (clock) =>
    Effect.gen(function* () {
      yield* visit(yield* newFile, (shop) =>
        Effect.gen(function* () {
          yield* sweep(shop)
          yield* shop.register(handles("charge"))
          clock.set(YEAR)
          yield* shop.emit("order.placed")
          clock.set(-YEAR)
          yield* shop.emit("order.placed")
          const jobs = yield* shop.claim({ room: 2 })
          for (const job of jobs) yield* shop.report(job, complete())
          yield* shop.emit("order.placed")
          yield* TestClock.adjust("31 days")
          yield* hours(26)

          assert.strictEqual((yield* Effect.flip(shop.run(jobs[1]!.runId))).code, "RUN_NOT_FOUND")
        })
      )
    })
  )
})

describe("an idle engine", () => {
  afterEach(() => void vi.useRealTimers())

  clockTest("notices that the clock was set", (clock) =>
    Effect.gen(function* () {
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] })
      yield* visit(yield* newFile, (shop) =>
        Effect.gen(function* () {
          const timers = yield* Timers.make(shop.store)
          timers.start()
          const job = yield* startAndLose(shop)
          timers.arm((yield* Clock.currentTimeMillis) + 30_000)
          clock.set(-HOUR)
          vi.advanceTimersByTime(10_000)
          yield* TestClock.adjust("30 seconds")

          assert.deepStrictEqual(yield* claimRunIds(shop), [job.runId])
        })
      )
    })
  )
})
