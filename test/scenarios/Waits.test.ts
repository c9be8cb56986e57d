import * as Effect from "effect/Effect"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { type FunctionContext, WaitTimeoutError } from "../../src/index.ts"
import { scenario } from "./Story.ts"

describe("waitForEvent", () => {
  const approval = { event: "order.approved", match: "data.orderId", timeout: "2d" }
  const waitsForApproval = {
    promise:
      () =>
      async ({ step }: FunctionContext) => {
        const { data, name } = await step.waitForEvent("approval", approval)
        return { by: data.by, name }
      },
    effect: () => () =>
      Effect.map(Step.waitForEvent("approval", approval), ({ data, name }) => ({ by: data.by, name }))
  }

  scenario(
    "a wait takes the event whose value equals that of the trigger, and no other",
    waitsForApproval,
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place({ orderId: "o-1" })
        const { details } = yield* world.reaches(runId, "WAITING_FOR_EVENT")
        assert.deepInclude(details, { event: "order.approved", match: "data.orderId" })
        yield* client.emit("order.approved", { orderId: "o-2", by: "eve" })
        yield* client.emit("order.rejected", { orderId: "o-1", by: "mallory" })
        yield* client.emit("order.approved", { by: "trent" })
        yield* world.settle
        assert.strictEqual((yield* client.getRun(runId)).status, "waiting")
        yield* client.emit("order.approved", { orderId: "o-1", by: "ada" })

        assert.deepStrictEqual(yield* world.completes(runId), { by: "ada", name: "order.approved" })
        assert.deepStrictEqual(yield* world.steps(runId), ["approval completed"])
      })
  )

  scenario(
    "match may be an expression over the awaited and the triggering event",
    {
      promise:
        () =>
        async ({ step }) =>
          (
            await step.waitForEvent("payment", {
              event: "payment.received",
              match: "event.data.amount >= trigger.data.amount"
            })
          ).data.amount,
      effect: () => () =>
        Effect.map(
          Step.waitForEvent("payment", {
            event: "payment.received",
            match: "event.data.amount >= trigger.data.amount"
          }),
          ({ data }) => data.amount
        )
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place({ amount: 10 })
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("payment.received", { amount: 9 })
        yield* client.emit("payment.received", { nothing: true })
        yield* world.settle
        yield* client.emit("payment.received", { amount: 10 })

        assert.strictEqual(yield* world.completes(runId), 10)
      })
  )

  scenario(
    "a wait looks back to the run's trigger, not further",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("slow", () => stage.hold("slow"))
          return (await step.waitForEvent("approval", { event: "order.approved" })).data.by
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Step.run(
            "slow",
            Effect.promise(() => stage.hold("slow"))
          )
          return (yield* Step.waitForEvent("approval", { event: "order.approved" })).data.by
        })
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        yield* client.emit("order.approved", { by: "before" })
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("order.approved", { by: "meanwhile" })
        stage.release("slow")

        assert.strictEqual(yield* world.completes(runId), "meanwhile")
      })
  )

  scenario(
    "a wait without an event in time fails with WaitTimeoutError, which a handler may catch",
    {
      promise:
        () =>
        async ({ step }) => {
          try {
            await step.waitForEvent("approval", { event: "order.approved", timeout: "48h" })
          } catch (error) {
            if (!(error instanceof WaitTimeoutError)) throw error
            return step.run("give up", () => `${error.stepName} ${error.timeoutMs}`)
          }
          return "approved"
        },
      effect: () => () =>
        Step.waitForEvent("approval", { event: "order.approved", timeout: "48h" }).pipe(
          Effect.as("approved"),
          Effect.catchTag("TimeoutError", (error) =>
            Step.run("give up", Effect.succeed(`${error.stepName} ${error.timeoutMs}`))
          )
        )
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* world.advance("47 hours")
        assert.strictEqual((yield* client.getRun(runId)).status, "waiting")
        yield* world.advance("1 hour")

        assert.strictEqual(yield* world.completes(runId), `approval ${48 * 3_600_000}`)
        assert.deepStrictEqual(yield* world.steps(runId), ["approval failed", "give up completed"])
        yield* client.emit("order.approved", {})
        assert.deepStrictEqual(yield* world.steps(runId), ["approval failed", "give up completed"])
      })
  )

  scenario(
    "a wait that nobody catches fails the run at its timeout, without another attempt",
    waitsForApproval,
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* world.advance("2 days")
        const run = yield* world.ends(runId)

        assert.strictEqual(run.status, "failed")
        assert.strictEqual(run.error?.code, "WAIT_TIMEOUT")
        assert.strictEqual(run.attempt, 1)
      })
  )

  scenario(
    "a wait for a pattern takes any event that the pattern matches",
    {
      promise:
        () =>
        async ({ step }) => {
          const one = await step.waitForEvent("one level", { event: "payment.*" })
          const many = await step.waitForEvent("any level", { event: "parcel.>" })
          return [one.name, many.name]
        },
      effect: () => () =>
        Effect.gen(function* () {
          const one = yield* Step.waitForEvent("one level", { event: "payment.*" })
          const many = yield* Step.waitForEvent("any level", { event: "parcel.>" })
          return [one.name, many.name]
        })
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("payment.card.declined", {})
        yield* client.emit("payment", {})
        yield* client.emit("payment.received", {})
        yield* world.settle
        yield* client.emit("parcel", {})
        yield* client.emit("parcel.customs.cleared", {})

        assert.deepStrictEqual(yield* world.completes(runId), ["payment.received", "parcel.customs.cleared"])
      })
  )

  scenario(
    "two consecutive waits for the same event get two different events, also when both came earlier",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("slow", () => stage.hold("slow"))
          const first = await step.waitForEvent("first", { event: "item.added" })
          const second = await step.waitForEvent("second", { event: "item.added" })
          return [first.data.n, second.data.n]
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Step.run(
            "slow",
            Effect.promise(() => stage.hold("slow"))
          )
          const first = yield* Step.waitForEvent("first", { event: "item.added" })
          const second = yield* Step.waitForEvent("second", { event: "item.added" })
          return [first.data.n, second.data.n]
        })
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const early = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* client.emit("item.added", { n: 1 })
        yield* client.emit("item.added", { n: 2 })
        stage.release("slow")
        assert.deepStrictEqual(yield* world.completes(early), [1, 2])

        const late = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        stage.release("slow")
        yield* world.reaches(late, "WAITING_FOR_EVENT")
        yield* client.emit("item.added", { n: 3 })
        yield* world.settle
        assert.deepStrictEqual(yield* world.steps(late), [
          "slow completed",
          "first completed",
          "second waiting"
        ])
        yield* client.emit("item.added", { n: 4 })
        assert.deepStrictEqual(yield* world.completes(late), [3, 4])
      })
  )

  scenario(
    "two waits that are open at the same time share one event",
    {
      promise:
        () =>
        async ({ step }) => {
          const [a, b] = await Promise.all([
            step.waitForEvent("a", { event: "item.added" }),
            step.waitForEvent("b", { event: "item.added" })
          ])
          return [a.data.n, b.data.n]
        },
      effect: () => () =>
        Effect.map(
          Effect.all(
            [
              Step.waitForEvent("a", { event: "item.added" }),
              Step.waitForEvent("b", { event: "item.added" })
            ],
            { concurrency: "unbounded" }
          ),
          ([a, b]) => [a.data.n, b.data.n]
        )
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("item.added", { n: 1 })

        assert.deepStrictEqual(yield* world.completes(runId), [1, 1])
      })
  )

  scenario(
    "each of two branches with consecutive waits for the same event gets all events in order",
    {
      promise:
        () =>
        async ({ step }) =>
          step.map("lanes", ["a", "b"], async (lane, branch) => {
            const first = await branch.waitForEvent("first", { event: "item.added" })
            const second = await branch.waitForEvent("second", { event: "item.added" })
            return [lane, first.data.n, second.data.n]
          }),
      effect: () => () =>
        Step.map(
          "lanes",
          ["a", "b"],
          Effect.fnUntraced(function* (lane) {
            const first = yield* Step.waitForEvent("first", { event: "item.added" })
            const second = yield* Step.waitForEvent("second", { event: "item.added" })
            return [lane, first.data.n, second.data.n]
          })
        )
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* client.emit("item.added", { n: 1 })
        yield* world.settle
        yield* client.emit("item.added", { n: 2 })

        assert.deepStrictEqual(yield* world.completes(runId), [
          ["a", 1, 2],
          ["b", 1, 2]
        ])
      })
  )

  scenario(
    "an event that comes while no worker runs satisfies the wait at the next start",
    { ...waitsForApproval, world: { onDisk: true } },
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place({ orderId: "o-1" })
        yield* world.reaches(runId, "WAITING_FOR_EVENT")
        yield* world.close
        yield* world.startAlone
        yield* world.client.emit("order.approved", { orderId: "o-1", by: "ada" })
        assert.strictEqual((yield* world.client.explain(runId)).code, "NO_WORKER")
        yield* world.close
        yield* world.start()

        assert.deepStrictEqual(yield* world.completes(runId), { by: "ada", name: "order.approved" })
      })
  )

  scenario(
    "two consecutive waits beside a running step get two different events, too",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          const [, numbers] = await Promise.all([
            step.run("slow", () => stage.hold("slow")),
            (async () => {
              const first = await step.waitForEvent("first", { event: "item.added" })
              const second = await step.waitForEvent("second", { event: "item.added" })
              return [first.data.n, second.data.n]
            })()
          ])
          return numbers
        },
      effect: (stage) => () =>
        Effect.map(
          Effect.all(
            [
              Step.run(
                "slow",
                Effect.promise(() => stage.hold("slow"))
              ),
              Effect.gen(function* () {
                const first = yield* Step.waitForEvent("first", { event: "item.added" })
                const second = yield* Step.waitForEvent("second", { event: "item.added" })
                return [first.data.n, second.data.n]
              })
            ],
            { concurrency: "unbounded" }
          ),
          ([, numbers]) => numbers
        )
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the step runs", () => stage.isHeld("slow"))
        yield* world.settle
        yield* client.emit("item.added", { n: 1 })
        yield* client.emit("item.added", { n: 2 })
        yield* world.settle
        stage.release("slow")

        assert.deepStrictEqual(yield* world.completes(runId), [1, 2])
        assert.deepStrictEqual(yield* world.steps(runId), [
          "first completed",
          "second completed",
          "slow completed"
        ])
      })
  )
})
