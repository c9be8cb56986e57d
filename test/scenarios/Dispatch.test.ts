import * as Effect from "effect/Effect"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import type { FunctionConfig } from "../../src/index.ts"
import { bodyOf, type Part, scenario } from "./Story.ts"

/** A function with a step that is held under the order's id, which it returns. */
const packing = (config: Partial<FunctionConfig> = {}): Part => ({
  config,
  promise:
    (stage) =>
    async ({ event, step }) => {
      await step.run("pack", () => stage.hold(event.data.orderId))
      return event.data.orderId
    },
  effect:
    (stage) =>
    ({ event }) =>
      Effect.as(
        Step.run(
          "pack",
          bodyOf(() => stage.hold(event.data.orderId))
        ),
        event.data.orderId
      )
})

describe("concurrency", () => {
  scenario(
    "at most as many runs of a key as the limit are in a turn at once; explain names the limit and the runs that hold it",
    packing({ concurrency: { limit: 1, key: "event.data.customer" } }),
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const first = yield* world.place({ orderId: "o-1", customer: "ada" })
        const second = yield* world.place({ orderId: "o-2", customer: "ada" })
        const other = yield* world.place({ orderId: "o-3", customer: "bob" })
        yield* world.until("two run", () => stage.isHeld("o-1") && stage.isHeld("o-3"))
        yield* world.settle
        assert.sameMembers(log, ["o-1", "o-3"])
        const { details } = yield* world.reaches(second, "CONCURRENCY_LIMIT")
        assert.deepInclude(details, { limit: 1, held: 1, holders: [first] })
        stage.release("o-1")
        yield* world.until("the second runs", () => stage.isHeld("o-2"))
        stage.release("o-2")
        stage.release("o-3")

        assert.strictEqual(yield* world.completes(second), "o-2")
        assert.strictEqual(yield* world.completes(other), "o-3")
      })
  )

  scenario(
    "a suspended run does not count against the limit",
    {
      config: { concurrency: { limit: 1 } },
      promise:
        () =>
        async ({ event, step }) => {
          await step.sleep("nap", event.data.nap)
          return event.data.nap
        },
      effect:
        () =>
        ({ event }) =>
          Effect.as(Step.sleep("nap", event.data.nap), event.data.nap)
    },
    ({ world }) =>
      Effect.gen(function* () {
        const long = yield* world.place({ nap: "2h" })
        yield* world.reaches(long, "SLEEPING")
        const short = yield* world.place({ nap: "1h" })
        yield* world.reaches(short, "SLEEPING")
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(short), "1h")
        assert.strictEqual((yield* world.client.explain(long)).code, "SLEEPING")
      })
  )

  scenario(
    "a worker takes no more turns than its capacity; explain says NO_CAPACITY",
    { ...packing(), world: { worker: { maxConcurrentJobs: 2 } } },
    ({ client, log, stage, world }) =>
      Effect.gen(function* () {
        const runs = yield* Effect.forEach(["o-1", "o-2", "o-3"], (orderId) => world.place({ orderId }))
        yield* world.until("two run", () => log.length === 2)
        yield* world.reaches(runs[2]!, "NO_CAPACITY")
        assert.deepInclude((yield* client.listWorkers())[0], { activeJobs: 2, maxConcurrentJobs: 2 })
        stage.release("o-2")
        yield* world.until("the third runs", () => stage.isHeld("o-3"))

        assert.deepStrictEqual(log, ["o-1", "o-2", "o-3"])
      })
  )
})

describe("many runs", () => {
  scenario(
    "three hundred runs that sleep complete when they are due, and run each step once",
    {
      promise:
        (stage) =>
        async ({ event, step }) => {
          await step.run("pick", () => stage.does(`pick ${event.data.n}`, 1))
          await step.sleep("nap", "1h")
          return step.run("pack", () => stage.does(`pack ${event.data.n}`, event.data.n))
        },
      effect:
        (stage) =>
        ({ event }) =>
          Effect.gen(function* () {
            yield* Step.run(
              "pick",
              bodyOf(() => stage.does(`pick ${event.data.n}`, 1))
            )
            yield* Step.sleep("nap", "1h")
            return yield* Step.run(
              "pack",
              bodyOf(() => stage.does(`pack ${event.data.n}`, event.data.n))
            )
          })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const numbers = Array.from({ length: 300 }, (_, n) => n)
        const runIds = yield* Effect.forEach(numbers, (n) => world.place({ n }), { concurrency: "unbounded" })
        yield* world.settle
        assert.strictEqual((yield* client.listRuns({ status: "waiting" })).totalCount, 300)
        assert.strictEqual(yield* world.stuckRuns, 0)
        yield* world.advance("1 hour")
        const outputs = yield* Effect.forEach(runIds, (runId) => world.completes(runId))

        assert.deepStrictEqual(outputs, numbers)
        assert.strictEqual(new Set(log).size, 600)
        assert.lengthOf(log, 600)
      })
  )
})

describe("two versions of the code", () => {
  scenario(
    "runs go to the worker with the code that was registered last, and to the other one when it is gone",
    packing(),
    ({ toFunction, client, stage, world }) =>
      Effect.gen(function* () {
        const workerOf = (orderId: string) =>
          Effect.gen(function* () {
            const runId = yield* world.place({ orderId })
            yield* world.until("it runs", () => stage.isHeld(orderId))
            return (yield* client.getRun(runId)).workerId
          })
        const changed: Part = {
          promise:
            (stage) =>
            async ({ event, step }) =>
              step.run("pack better", () => stage.hold(event.data.orderId)),
          effect:
            (stage) =>
            ({ event }) =>
              Step.run(
                "pack better",
                bodyOf(() => stage.hold(event.data.orderId))
              )
        }
        const fresh = yield* world.startWorker({
          workerId: "fresh",
          functions: [toFunction(changed)],
          maxConcurrentJobs: 5
        })
        assert.strictEqual(yield* workerOf("o-1"), "fresh")
        assert.strictEqual(yield* workerOf("o-2"), "fresh")
        yield* fresh.shutDown
        assert.notStrictEqual(yield* workerOf("o-3"), "fresh")
      })
  )
})

describe("actors and labels", () => {
  scenario(
    "runs of one actor go to the same worker while it lives, and to another one afterwards",
    packing({ actorKey: "event.data.customer" }),
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const workerOf = (orderId: string, customer: string) =>
          Effect.gen(function* () {
            const runId = yield* world.place({ orderId, customer })
            yield* world.until("it runs", () => stage.isHeld(orderId))
            const { actorId, workerId } = yield* client.getRun(runId)
            assert.strictEqual(actorId, customer)
            return workerId
          })
        const second = yield* world.startWorker({ workerId: "second", maxConcurrentJobs: 50 })
        const home = yield* workerOf("o-1", "ada")
        assert.strictEqual(home, "second")
        for (const orderId of ["o-2", "o-3", "o-4"]) assert.strictEqual(yield* workerOf(orderId, "ada"), home)
        yield* second.shutDown
        assert.notStrictEqual(yield* workerOf("o-5", "ada"), home)
      })
  )

  scenario(
    "an actor whose worker is full waits for it; explain says ACTOR_BUSY",
    { ...packing({ actorKey: "event.data.customer" }), world: { worker: { maxConcurrentJobs: 1 } } },
    ({ stage, world }) =>
      Effect.gen(function* () {
        yield* world.place({ orderId: "o-1", customer: "ada" })
        yield* world.until("it runs", () => stage.isHeld("o-1"))
        yield* world.startWorker({ maxConcurrentJobs: 5 })
        const runId = yield* world.place({ orderId: "o-2", customer: "ada" })
        yield* world.settle
        assert.isFalse(stage.isHeld("o-2"))
        yield* world.reaches(runId, "ACTOR_BUSY")
        stage.release("o-1")
        yield* world.until("it runs", () => stage.isHeld("o-2"))
        stage.release("o-2")

        assert.strictEqual(yield* world.completes(runId), "o-2")
      })
  )

  scenario(
    "a function that requires labels runs only on a worker that has them",
    packing({ metadata: { requires: { gpu: "yes" } } }),
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.settle
        const { details, message } = yield* world.reaches(runId, "NO_WORKER")
        assert.include(message, "labels")
        assert.deepStrictEqual(details.requires, { gpu: "yes" })
        yield* world.startWorker({ labels: { gpu: "no" } })
        yield* world.settle
        assert.isFalse(stage.isHeld("o-1"))
        yield* world.startWorker({ labels: { gpu: "yes", zone: "a" }, workerId: "gpu-1" })
        yield* world.until("it runs", () => stage.isHeld("o-1"))

        assert.strictEqual((yield* world.client.getRun(runId)).workerId, "gpu-1")
      })
  )
})

describe("losses", () => {
  scenario(
    "a worker that is stopped in the middle of a step gives the run back, which costs no attempt, however often",
    packing({ retry: { maxAttempts: 1 } }),
    ({ client, log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        for (let i = 1; i <= 12; i++) {
          yield* world.until("the step runs", () => stage.count("o-1") === i)
          yield* world.shutDownWorkers
          yield* world.reaches(runId, "NO_WORKER")
          yield* world.startWorker()
        }
        yield* world.until("the step runs", () => stage.count("o-1") === 13)
        stage.release("o-1")

        assert.strictEqual(yield* world.completes(runId), "o-1")
        assert.strictEqual((yield* client.getRunSteps(runId))[0]?.attempt, 1)
        assert.strictEqual((yield* client.getRun(runId)).attempt, 1)
        assert.lengthOf(log, 13)
      })
  )

  scenario(
    "a process that dies in a step costs no attempt; the run waits longer after each loss, and is paused after ten without progress",
    { ...packing({ retry: { maxAttempts: 1 } }), world: { onDisk: true } },
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const delays: Array<number> = []
        for (let loss = 1; loss < 10; loss++) {
          yield* world.until("the step runs", () => stage.count("o-1") === loss)
          yield* world.restart()
          const { code, details } = yield* world.client.explain(runId)
          if (code !== "WAITING_FOR_RETRY") continue
          delays.push(Number(details.dueInMs))
          yield* world.advance(Number(details.dueInMs))
        }
        assert.deepStrictEqual(delays, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
        yield* world.until("the step runs", () => stage.count("o-1") === 10)
        yield* world.restart()
        const { details } = yield* world.reaches(runId, "PAUSED")
        assert.strictEqual(details.code, "LOST_REPEATEDLY")
        assert.include((yield* world.client.getRun(runId)).pauseReason, "10 times")
        yield* world.client.resumeRun(runId)
        yield* world.until("the step runs", () => stage.count("o-1") === 11)
        stage.release("o-1")

        assert.strictEqual(yield* world.completes(runId), "o-1")
        assert.strictEqual((yield* world.client.getRunSteps(runId))[0]?.attempt, 1)
      })
  )

  scenario(
    "a step that completes between two losses resets their count",
    {
      world: { onDisk: true },
      promise:
        (stage) =>
        async ({ step }) => {
          for (let i = 0; i < 12; i++) await step.run(`step ${i}`, () => stage.hold(`step ${i}`))
          return "done"
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          for (let i = 0; i < 12; i++)
            yield* Step.run(
              `step ${i}`,
              bodyOf(() => stage.hold(`step ${i}`))
            )
          return "done"
        })
    },
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        for (let i = 0; i < 12; i++) {
          // every step but the first has begun in the process before
          yield* world.until("it runs", () => stage.count(`step ${i}`) === (i === 0 ? 1 : 2))
          stage.release(`step ${i}`)
          yield* world.settle
          yield* world.restart()
        }

        assert.strictEqual(yield* world.completes(runId), "done")
      })
  )
})

describe("triggers", () => {
  const returnsItsId: Part = {
    promise:
      () =>
      async ({ run }) =>
        run.functionId,
    effect:
      () =>
      ({ run }) =>
        Effect.succeed(run.functionId)
  }

  scenario(
    "an event starts one run of every function that has a matching trigger, however many of its triggers match",
    {
      ...returnsItsId,
      also: {
        exact: {
          ...returnsItsId,
          config: { triggers: [{ event: "order.item.added" }, { event: "order.>" }] }
        },
        pattern: { ...returnsItsId, config: { triggers: [{ event: "order.*.added" }] } },
        tooShort: { ...returnsItsId, config: { triggers: [{ event: "order.*" }] } },
        large: {
          ...returnsItsId,
          config: { triggers: [{ event: "order.item.added", expression: "event.data.amount > 10" }] }
        },
        small: {
          ...returnsItsId,
          config: { triggers: [{ event: "order.item.added", expression: "event.data.amount < 10" }] }
        }
      }
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const { runIds } = yield* client.emit("order.item.added", { amount: 11 })
        const functionIds = yield* Effect.forEach(runIds, (runId) => world.completes(runId))

        assert.sameMembers(functionIds, ["exact", "pattern", "large"])
      })
  )

  scenario(
    "an event that was accepted before the process died has its run afterwards",
    { ...returnsItsId, world: { onDisk: true } },
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.restart()

        assert.strictEqual(yield* world.completes(runId), "order")
      })
  )

  scenario(
    "a step that has completed never runs again; one that was running when the process died does, with the same key",
    {
      world: { onDisk: true },
      promise:
        (stage) =>
        async ({ step }) => {
          const a = await step.run("a", () => stage.does("a", "a"))
          return step.run("b", ({ attempt, idempotencyKey }) => {
            stage.log.push(`${attempt} ${idempotencyKey.slice(-3)}`)
            return stage.count("1 b:0") === 1 ? stage.hold("b") : `${a}b`
          })
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const a = yield* Step.run(
            "a",
            bodyOf(() => stage.does("a", "a"))
          )
          return yield* Step.run(
            "b",
            bodyOf(({ attempt, idempotencyKey }) => {
              stage.log.push(`${attempt} ${idempotencyKey.slice(-3)}`)
              return stage.count("1 b:0") === 1 ? stage.hold<string>("b") : `${a}b`
            })
          )
        })
    },
    ({ log, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the second step runs", () => stage.isHeld("b"))
        yield* world.restart()

        assert.strictEqual(yield* world.completes(runId), "ab")
        assert.deepStrictEqual(log, ["a", "1 b:0", "b", "1 b:0"])
      })
  )
})

describe("idempotency", () => {
  scenario(
    "emitting again with the same key returns the first result for 24 hours and creates nothing; afterwards it creates an event",
    packing(),
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const options = { idempotencyKey: "order o-1" }
        const first = yield* client.emit("order.placed", { orderId: "o-1" }, options)
        const again = yield* client.emit("order.placed", { orderId: "o-1" }, options)
        const other = yield* client.emit("order.placed", { orderId: "changed" }, options)
        assert.deepStrictEqual([again, other], [first, first])
        yield* world.until("it runs", () => stage.isHeld("o-1"))
        stage.release("o-1")
        yield* world.completes(first.runIds[0]!)
        yield* world.advance("24 hours")
        yield* world.advance("1 second")
        const later = yield* client.emit("order.placed", { orderId: "o-1" }, options)

        assert.notDeepEqual(later, first)
        assert.strictEqual((yield* client.listRuns()).totalCount, 2)
      })
  )

  scenario("a key counts for emit and publish separately", packing(), ({ client }) =>
    Effect.gen(function* () {
      const options = { idempotencyKey: "k" }
      const event = yield* client.emit("order.placed", { orderId: "o-1" }, options)
      const message = yield* client.publish("shipments", { n: 1 }, options)
      const again = yield* client.publish("shipments", { n: 1 }, options)

      assert.notStrictEqual(message.eventId, event.eventId)
      assert.deepStrictEqual(again, message)
    })
  )
})
