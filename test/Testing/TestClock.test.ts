/** The time of `Testing.layer` is Effect's `TestClock`, and handlers have the services of the layer. */
import { assert, describe, it, layer } from "@effect/vitest"
import {
  Client,
  IronflowFunction,
  Kv,
  Projection,
  Step,
  Streams,
  Subscriptions,
  Testing
} from "@ironflow/node/effect"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"

const placed = { id: "order", triggers: [{ event: "order.placed" }] }
const start = Date.UTC(2030, 0, 1)
const day = 86_400_000

const place = Effect.gen(function* () {
  const client = yield* Client.Client
  const { runIds } = yield* client.emit("order.placed", {})
  return runIds[0] ?? ""
})

const runOf = (runId: string) => Effect.flatMap(Client.Client, (client) => client.getRun(runId))

const yearly = IronflowFunction.make(
  placed,
  Effect.fnUntraced(function* () {
    yield* Step.sleep("year", "365 days")
    return yield* Step.run("remind", Effect.succeed("reminded"))
  })
)

describe("one adjust of the clock fires everything that is due meanwhile:", () => {
  it.effect("a sleep of a year", () =>
    Effect.gen(function* () {
      const runId = yield* place
      yield* TestClock.adjust("364 days")
      assert.strictEqual((yield* runOf(runId)).status, "waiting")
      yield* TestClock.adjust("1 day")

      const run = yield* runOf(runId)
      assert.strictEqual(run.output, "reminded")
      assert.strictEqual(run.endedAt, new Date(start + 365 * day).toISOString())
      assert.strictEqual(yield* Clock.currentTimeMillis, start + 365 * day)
    }).pipe(Effect.provide(Testing.layer({ functions: [yearly] })))
  )

  it.effect("sleeps in a loop, retries with delays, a wait that times out, a branch, a child", () => {
    const child = IronflowFunction.make({ id: "child", triggers: [{ event: "child.wanted" }] }, () =>
      Effect.as(Step.sleep("work", "2 days"), "grown")
    )
    const chain = IronflowFunction.make(
      { ...placed, retry: { maxAttempts: 4, initialDelayMs: day, backoffFactor: 1, maxDelayMs: day } },
      Effect.fnUntraced(function* () {
        for (let i = 0; i < 30; i++) yield* Step.sleep("pause", "1 day")
        let attempts = 0
        yield* Step.run(
          "flaky",
          Effect.suspend(() => (++attempts < 4 ? Effect.fail(new Error("down")) : Effect.void))
        ).pipe(Effect.ignore)
        const approval = yield* Step.waitForEvent("approval", {
          event: "order.approved",
          timeout: "10 days"
        }).pipe(Effect.catchTag("TimeoutError", () => Effect.succeed("nobody")))
        yield* Step.map("branches", [1, 2, 3], (n) => Step.sleep("pause", `${n} days`))
        return { approval, child: yield* Step.invoke(child, {}, { timeout: "9 days" }) }
      })
    )
    return Effect.gen(function* () {
      const runId = yield* place
      yield* TestClock.adjust("365 days")

      const { endedAt, output } = yield* runOf(runId)
      assert.deepStrictEqual(output, { approval: "nobody", child: "grown" })
      // thirty sleeps, three delays, the wait, the longest branch and the child
      assert.isAtMost(Date.parse(endedAt ?? ""), start + 49 * day)
    }).pipe(Effect.provide(Testing.layer({ functions: [chain, child] })))
  })

  it.effect("cron, and a projection that retries", () => {
    let nights = 0
    let tries = 0
    const nightly = IronflowFunction.make({ id: "nightly", triggers: [{ cron: "0 3 * * *" }] }, () =>
      Effect.sync(() => void nights++)
    )
    const mails = Projection.make({
      name: "mails",
      events: ["order.placed"],
      maxRetries: 2,
      handler: () => Effect.suspend(() => (++tries < 3 ? Effect.fail(new Error("down")) : Effect.void))
    })
    return Effect.gen(function* () {
      yield* place
      yield* TestClock.adjust("30 days")
      assert.deepStrictEqual({ nights, tries }, { nights: 30, tries: 3 })
    }).pipe(Effect.provide(Testing.layer({ functions: [nightly], projections: [mails] })))
  })

  it.effect("sleeps of the test itself, which end when they are due", () => {
    const approved = IronflowFunction.make(placed, () =>
      Step.waitForEvent("approval", { event: "order.approved", timeout: "3 days" }).pipe(
        Effect.map(({ timestamp }) => timestamp.getTime()),
        Effect.tap(Step.sleep("cool off", "3 days"))
      )
    )
    return Effect.gen(function* () {
      const client = yield* Client.Client
      const runId = yield* place
      const clerk = yield* Effect.forkChild(
        Effect.gen(function* () {
          yield* Effect.sleep("1 day")
          yield* Effect.sleep("1 day")
          yield* client.emit("order.approved", {})
          return yield* Clock.currentTimeMillis
        })
      )
      yield* TestClock.adjust("10 days")

      assert.strictEqual(yield* Fiber.join(clerk), start + 2 * day)
      assert.strictEqual((yield* runOf(runId)).output, start + 2 * day)
    }).pipe(Effect.provide(Testing.layer({ functions: [approved] })))
  })

  it.live("without a TestClock in context, and up to a time", () =>
    Effect.gen(function* () {
      const runId = yield* place
      yield* TestClock.setTime(start + 400 * day)
      assert.strictEqual((yield* runOf(runId)).output, "reminded")
      const engine = yield* Testing.TestEngine
      assert.deepStrictEqual(yield* engine.now, new Date(start + 400 * day))
      yield* engine.advance("1d")
      assert.strictEqual(yield* Clock.currentTimeMillis, start + 401 * day)
      // the real clock can still be used
      yield* TestClock.withLive(Effect.sleep("1 millis"))
    }).pipe(Effect.provide(Testing.layer({ functions: [yearly] })))
  )

  layer(Testing.layer({ functions: [yearly] }))("in a layer of a suite", (it) => {
    it.effect("that @effect/vitest builds", () =>
      Effect.gen(function* () {
        const runId = yield* place
        yield* TestClock.adjust("365 days")
        assert.strictEqual((yield* runOf(runId)).output, "reminded")
      })
    )
  })

  it.effect("but a past or infinite time is refused, and the clock stays", () =>
    Effect.gen(function* () {
      for (const [refused, message] of [
        [
          TestClock.setTime(0),
          "TestClock.setTime() cannot go back: the time is 2030-01-01T00:00:00.000Z, and the given time is 1970-01-01T00:00:00.000Z"
        ],
        [
          TestClock.setTime(Number.POSITIVE_INFINITY),
          "TestClock.setTime() needs a time in milliseconds, got Infinity"
        ],
        [
          TestClock.adjust("Infinity"),
          'TestClock.adjust() needs a duration that is not negative and not infinite, got "Infinity"'
        ],
        [
          TestClock.adjust(-1000),
          "TestClock.adjust() needs a duration that is not negative and not infinite, got -1000"
        ]
      ] as const) {
        const exit = yield* Effect.exit(refused)
        const error = Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? Cause.squash(exit.cause) : undefined
        assert.strictEqual(error instanceof Error ? error.message : undefined, message)
      }
      assert.strictEqual(yield* Clock.currentTimeMillis, start)
    }).pipe(Effect.provide(Testing.layer()))
  )
})

it.effect("a difference that a replay finds is a defect of the adjust that caused it", () => {
  let passes = 0
  const guilty = IronflowFunction.make(placed, () =>
    Effect.suspend(() => Step.run(passes++ === 0 ? "first" : "again", Effect.succeed(1)))
  )
  return Effect.gen(function* () {
    yield* place
    const exit = yield* Effect.exit(TestClock.adjust("1 day"))
    assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "diverges at step first:0")
  }).pipe(Effect.provide(Testing.layer({ functions: [guilty], replayEveryStep: true })))
})

it.effect("handlers and projections use the services that the layer provides", () => {
  const counting = IronflowFunction.make(
    placed,
    Effect.fnUntraced(function* () {
      const kv = yield* Kv.Kv
      const streams = yield* Streams.Streams
      return yield* Step.run(
        "count",
        Effect.gen(function* () {
          yield* kv.bucket("counts").put("orders", 1)
          yield* streams.append("o-1", { name: "order.counted", entityType: "order" })
          return (yield* kv.bucket("counts").get("orders")).value
        })
      )
    })
  )
  const counted = Projection.make({
    name: "counted",
    events: ["order.counted"],
    handler: () => Effect.flatMap(Kv.Kv, (kv) => kv.bucket("counts").put("counted", true)).pipe(Effect.asVoid)
  })
  return Effect.gen(function* () {
    const kv = yield* Kv.Kv
    yield* kv.createBucket({ name: "counts" })
    const runId = yield* place
    yield* TestClock.adjust("1 minute")

    assert.strictEqual((yield* runOf(runId)).output, 1)
    assert.strictEqual((yield* kv.bucket("counts").get("counted")).value, true)
    // a worker that is started later has them too
    const engine = yield* Testing.TestEngine
    const later = IronflowFunction.make({ id: "later", triggers: [{ event: "order.later" }] }, () =>
      Effect.as(Subscriptions.Subscriptions, "there")
    )
    yield* engine.startWorker({ functions: [later] })
    const client = yield* Client.Client
    const { runIds } = yield* client.emit("order.later", {})
    assert.strictEqual((yield* engine.runToEnd(runIds[0] ?? "")).output, "there")
  }).pipe(Effect.provide(Testing.layer({ functions: [counting], projections: [counted] })))
})
