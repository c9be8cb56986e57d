import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { effectOf, scenario } from "./Story.ts"

const added = { event: "item.added", timeout: "30d" }

describe("a wait that has lost a race", () => {
  scenario(
    "leaves the event to a later wait for the same event, which looks back to it",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const winner = await Promise.race([
            step.waitForEvent("soon", added),
            step.sleep("patience", "1h").then(() => "nothing came")
          ])
          await step.run("slow", () => stage.hold("slow"))
          return [winner, (await step.waitForEvent("late", added)).data.n]
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const winner = yield* Effect.race(
            Step.waitForEvent("soon", added),
            Effect.as(Step.sleep("patience", "1h"), "nothing came")
          )
          yield* Step.run(
            "slow",
            effectOf(() => stage.hold("slow"))
          )
          return [winner, (yield* Step.waitForEvent("late", added)).data.n]
        })
    },
    ({ client, stage, style, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("item.added", { n: 1 })
        yield* world.settle
        stage.release("slow")

        assert.deepStrictEqual(yield* world.completes(runId), ["nothing came", 1])
        assert.deepStrictEqual(yield* world.steps(runId), [
          "patience completed",
          ...(style === "promise" ? ["soon completed"] : []),
          "slow completed",
          "late completed"
        ])
      })
  )

  scenario(
    "leaves the event to a later wait across a restart too, however often the handler is replayed",
    {
      world: { onDisk: true },
      promise:
        () =>
        async ({ step }) => {
          const seen = []
          for (let day = 0; day < 3; day++) {
            const winner = await Promise.race([
              (async () => (await step.waitForEvent("today", added)).data.n)(),
              step.sleep("patience", "1h")
            ])
            seen.push(winner ?? "none")
            await step.sleep("until tomorrow", "23h")
          }
          return seen
        },
      effect: () => () =>
        Effect.gen(function* () {
          const seen: Array<unknown> = []
          for (let day = 0; day < 3; day++) {
            const winner = yield* Effect.race(
              Effect.map(Step.waitForEvent("today", added), ({ data }) => data.n),
              Effect.as(Step.sleep("patience", "1h"), "none")
            )
            seen.push(winner)
            yield* Step.sleep("until tomorrow", "23h")
          }
          return seen
        })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.reaches(runId, "SLEEPING")
        yield* client.emit("item.added", { n: 1 })
        yield* client.emit("item.added", { n: 2 })
        yield* world.settle
        yield* world.crash
        yield* world.start()
        for (let day = 0; day < 3; day++) {
          yield* world.settle
          // the sleep of an hour wakes the run too, although it has lost its race
          yield* world.advance("1 hour")
          yield* world.settle
          yield* world.advance("22 hours")
        }

        assert.deepStrictEqual(yield* world.completes(runId), ["none", 1, 2])
      })
  )

  scenario(
    "leaves the event to a later wait when the end of the race and the event both came without a worker",
    {
      promise:
        () =>
        async ({ step }) => {
          await Promise.race([step.waitForEvent("soon", added), step.sleep("patience", "1h")])
          return (await step.waitForEvent("late", added)).data.n
        },
      effect: () => () =>
        Effect.andThen(
          Effect.race(Step.waitForEvent("soon", added), Step.sleep("patience", "1h")),
          Effect.map(Step.waitForEvent("late", added), ({ data }) => data.n)
        )
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.shutDownWorkers
        yield* world.advance("1 hour")
        yield* world.settle
        yield* client.emit("item.added", { n: 1 })
        yield* world.startWorker()

        assert.strictEqual(yield* world.completes(runId), 1)
      })
  )

  scenario(
    "shares an event with the next open wait, and the wait after that gets another event",
    {
      promise:
        () =>
        async ({ step }) => {
          await Promise.race([step.waitForEvent("lost", added), step.sleep("patience", "1h")])
          const first = await step.waitForEvent("first", added)
          const second = await step.waitForEvent("second", added)
          return [first.data.n, second.data.n]
        },
      effect: () => () =>
        Effect.gen(function* () {
          yield* Effect.race(Step.waitForEvent("lost", added), Step.sleep("patience", "1h"))
          const first = yield* Step.waitForEvent("first", added)
          const second = yield* Step.waitForEvent("second", added)
          return [first.data.n, second.data.n]
        })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.settle
        yield* client.emit("item.added", { n: 1 })
        yield* world.settle
        yield* client.emit("item.added", { n: 2 })

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2])
      })
  )

  scenario(
    "leaves the event to waits with another match or in another branch, which look back to it",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await Promise.race([step.waitForEvent("lost", added), step.sleep("patience", "1h")])
          await step.run("slow", () => stage.hold("slow"))
          const [inBranch] = await step.parallel("branches", [
            async (branch) => (await branch.waitForEvent("own", added)).data.n
          ])
          const { data } = await step.waitForEvent("other", { ...added, match: "data.orderId" })
          return [inBranch, data.n, (await step.waitForEvent("same", added)).data.n]
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Effect.race(Step.waitForEvent("lost", added), Step.sleep("patience", "1h"))
          yield* Step.run(
            "slow",
            effectOf(() => stage.hold("slow"))
          )
          const [inBranch] = yield* Step.parallel("branches", [
            Effect.map(Step.waitForEvent("own", added), ({ data }) => data.n)
          ])
          const { data } = yield* Step.waitForEvent("other", { ...added, match: "data.orderId" })
          return [inBranch, data.n, (yield* Step.waitForEvent("same", added)).data.n]
        })
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place({ orderId: "o-1" })
        yield* world.reaches(runId, "SLEEPING")
        yield* world.advance("1 hour")
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("item.added", { n: 1 })
        yield* client.emit("item.added", { n: 2, orderId: "o-1" })
        yield* world.settle
        stage.release("slow")

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2, 1])
      })
  )
})

describe("a wait beside other work", () => {
  scenario(
    "that is awaited later has taken its event, so that the next wait gets another",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const early = step.waitForEvent("early", added)
          await step.run("one", () => 1)
          await step.run("slow", () => stage.hold("slow"))
          const first = await early
          return [first.data.n, (await step.waitForEvent("late", added)).data.n]
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const early = yield* Effect.forkChild(Step.waitForEvent("early", added))
          yield* Step.run("one", Effect.succeed(1))
          yield* Step.run(
            "slow",
            effectOf(() => stage.hold("slow"))
          )
          const first = yield* Fiber.join(early)
          return [first.data.n, (yield* Step.waitForEvent("late", added)).data.n]
        })
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("item.added", { n: 1 })
        yield* world.settle
        stage.release("slow")
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("item.added", { n: 2 })

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2])
      })
  )

  scenario(
    "that is awaited together with a step has taken its event, so that the next wait gets another",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const [first] = await Promise.all([
            step.waitForEvent("early", added),
            step.run("slow", () => stage.hold("slow"))
          ])
          return [first.data.n, (await step.waitForEvent("late", added)).data.n]
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          const [first] = yield* Effect.all(
            [
              Step.waitForEvent("early", added),
              Step.run(
                "slow",
                effectOf(() => stage.hold("slow"))
              )
            ],
            { concurrency: "unbounded" }
          )
          return [first.data.n, (yield* Step.waitForEvent("late", added)).data.n]
        })
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("item.added", { n: 1 })
        yield* world.settle
        stage.release("slow")
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("item.added", { n: 2 })

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2])
      })
  )

  scenario(
    "in code that continues at once has taken its event, though other code of the handler has continued without it",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const [numbers] = await Promise.all([
            (async () => {
              const first = await step.waitForEvent("first", added)
              const second = await step.waitForEvent("second", added)
              return [first.data.n, second.data.n]
            })(),
            (async () => {
              await step.run("one", () => 1)
              await step.run("slow", () => stage.hold("slow"))
            })()
          ])
          return numbers
        },
      effect: (stage) => () =>
        Effect.map(
          Effect.all(
            [
              Effect.gen(function* () {
                const first = yield* Step.waitForEvent("first", added)
                const second = yield* Step.waitForEvent("second", added)
                return [first.data.n, second.data.n]
              }),
              Effect.andThen(
                Step.run("one", Effect.succeed(1)),
                Step.run(
                  "slow",
                  effectOf(() => stage.hold("slow"))
                )
              )
            ],
            { concurrency: "unbounded" }
          ),
          ([numbers]) => numbers
        )
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("item.added", { n: 1 })
        yield* world.settle
        yield* client.emit("item.added", { n: 2 })
        yield* world.settle
        stage.release("slow")

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2])
      })
  )
})
