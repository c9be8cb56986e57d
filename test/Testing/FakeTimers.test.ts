/** The test kits beside fake timers of a test: only the waits of the test's own code are held back. */
import { createClient, createFunction, createSubscriptionClient, createWorker } from "@ironflow/node"
import { Client, IronflowFunction, Step, Testing } from "@ironflow/node/effect"
import { createTestClient, createTestEngine, verify } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest"

const placed = { id: "order", triggers: [{ event: "order.placed" }] }

const order = createFunction(placed, async ({ step }) => {
  await step.sleep("cool-off", "7d")
  const parts = await step.map("parts", [1, 2], (n, step) => step.run("part", () => n))
  const receipt = await step.run(
    "charge",
    ({ attempt }) => {
      if (attempt === 1) throw new Error("the bank is closed")
      return "R-1"
    },
    { timeout: "5m" }
  )
  return { parts, receipt }
})

const effectful = IronflowFunction.make(
  placed,
  Effect.fnUntraced(function* () {
    yield* Step.sleep("cool off", "7 days")
    return yield* Step.parallel("parts", [
      Step.run("a", Effect.andThen(Effect.yieldNow, Effect.succeed("a"))),
      Effect.timeoutOption(Step.run("b", Effect.never), "1 minute")
    ])
  })
)

const everything = [
  "setTimeout",
  "clearTimeout",
  "setInterval",
  "clearInterval",
  "setImmediate",
  "clearImmediate",
  "Date",
  "performance",
  "queueMicrotask",
  "nextTick"
] as const

for (const [which, toFake] of [
  ["the timers that vitest fakes by default", undefined],
  // vitest cannot fake nextTick in its processes
  ["all timers that vitest can fake", everything.filter((name) => name !== "nextTick")]
] as const) {
  describe(which, () => {
    beforeEach(() => void vi.useFakeTimers(toFake === undefined ? {} : { toFake: [...toFake] }))
    afterEach(() => void vi.useRealTimers())

    test("a function alone", async () => {
      const t = createTestClient({ functions: [order] })
      t.mockStep("charge", () => "R-2")
      t.mockStep("part", () => 0)
      expect((await t.emit("order.placed", {})).output).toEqual({ parts: [0, 0], receipt: "R-2" })
    })

    test("a mock that waits for the fake timers", async () => {
      const slow = createFunction(placed, ({ step }) => step.run("charge", () => 1))
      const t = createTestClient({ functions: [slow] })
      t.mockStep("charge", () => new Promise((resolve) => setTimeout(() => resolve("late"), 60_000)))
      const running = t.emit("order.placed", {})
      await vi.waitFor(() => expect(vi.getTimerCount()).toBeGreaterThan(0))
      await vi.advanceTimersByTimeAsync(60_000)
      expect((await running).output).toBe("late")
    })

    for (const replayEveryStep of [false, true]) {
      test(`the engine on virtual time${replayEveryStep ? ", replaying every step" : ""}`, async () => {
        for (const fn of [order, effectful]) {
          await using engine = await createTestEngine({ functions: [fn], replayEveryStep })
          const { runIds } = await engine.client.emit("order.placed", {})
          const [runId = ""] = runIds
          await engine.advance("6d")
          expect(await engine.client.explain(runId)).toMatchObject({ code: "SLEEPING" })
          const { status } = await engine.runToEnd(runId)
          expect(status).toBe("completed")
          expect(await verify(await engine.history(runId), [fn])).toBeUndefined()
        }
      })
    }

    test("other clients, workers and subscriptions of the engine", async () => {
      await using engine = await createTestEngine()
      const subscriptions = createSubscriptionClient({ engine })
      await subscriptions.connect()
      const seen: Array<string> = []
      await subscriptions.subscribe("events:order.*", { onEvent: ({ topic }) => void seen.push(topic) })
      const worker = createWorker({ engine, functions: [order], logger: false })
      const stopped = worker.start()
      await worker.ready()
      await using client = createClient({ engine })
      await client.kv().createBucket({ name: "sessions" })
      const { runIds } = await client.emit("order.placed", {})

      expect(await engine.runToEnd(runIds[0] ?? "")).toMatchObject({ status: "completed" })
      await vi.waitFor(() => expect(seen).toHaveLength(1))
      await subscriptions.close()
      await engine.close()
      await stopped
    })

    test("Testing.layer", async () => {
      const program = Effect.gen(function* () {
        const client = yield* Client.Client
        const { runIds } = yield* client.emit("order.placed", {})
        yield* Effect.forkChild(Effect.yieldNow)
        yield* TestClock.adjust("30 days")
        return yield* client.getRun(runIds[0] ?? "")
      })
      const run = await Effect.runPromise(Effect.provide(program, Testing.layer({ functions: [effectful] })))
      expect(run.status).toBe("completed")
    })
  })
}
