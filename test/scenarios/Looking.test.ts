import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { bodyOf, scenario } from "./Story.ts"

describe("looking at runs", () => {
  scenario(
    "explain describes a run in each of its states",
    {
      config: { retry: { initialDelayMs: 5000 } },
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("charge", ({ attempt }) => {
            if (attempt === 1) throw new Error("the bank is busy")
            return stage.hold("charge")
          })
          await step.sleep("settle", "1h")
          await step.waitForEvent("approval", { event: "order.approved", match: "data.orderId" })
          await step.invoke("invoice", {}, { timeout: "1h" })
        },
      effect: (stage) => () =>
        Effect.gen(function* () {
          yield* Step.run(
            "charge",
            bodyOf(({ attempt }) => {
              if (attempt === 1) throw new Error("the bank is busy")
              return stage.hold("charge")
            })
          )
          yield* Step.sleep("settle", "1h")
          yield* Step.waitForEvent("approval", { event: "order.approved", match: "data.orderId" })
          yield* Step.invoke("invoice", {}, { timeout: "1h" })
        }),
      also: {
        invoice: {
          promise:
            (stage) =>
            async ({ step }) =>
              step.run("print", () => stage.hold("print")),
          effect: (stage) => () =>
            Step.run(
              "print",
              bodyOf(() => stage.hold("print"))
            )
        }
      }
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        yield* world.shutDownWorkers
        const runId = yield* world.place({ orderId: "o-1" })
        const noWorker = yield* world.reaches(runId, "NO_WORKER")
        assert.include(noWorker.message, '"order"')
        const { workerId } = yield* world.startWorker()
        const retry = yield* world.reaches(runId, "WAITING_FOR_RETRY")
        assert.include(retry.message, "the bank is busy")
        assert.deepInclude(retry.details, { failures: 1, dueInMs: 5000 })
        yield* world.advance("5 seconds")
        yield* world.until("it charges", () => stage.isHeld("charge"))
        const running = yield* world.reaches(runId, "RUNNING")
        assert.strictEqual(running.details.workerId, workerId)
        stage.release("charge")
        const sleeping = yield* world.reaches(runId, "SLEEPING")
        assert.deepInclude(sleeping.details, { stepId: `${runId}:settle:0`, dueInMs: 3_600_000 })
        yield* world.advance("1 hour")
        const waiting = yield* world.reaches(runId, "WAITING_FOR_EVENT")
        assert.deepInclude(waiting.details, { event: "order.approved", match: "data.orderId" })
        assert.include(waiting.message, "o-1")
        yield* client.emit("order.approved", { orderId: "o-1" })
        yield* world.until("the child runs", () => stage.isHeld("print"))
        const child = yield* world.reaches(runId, "WAITING_FOR_CHILD")
        yield* world.reaches(String(child.details.childRunId), "RUNNING")
        stage.release("print")
        yield* world.completes(runId)
        assert.strictEqual((yield* client.explain(runId)).code, "COMPLETED")
        assert.strictEqual(yield* world.stuckRuns, 0)
      })
  )

  scenario(
    "getRunSteps lists finished steps in the order in which they ended, then waiting ones",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await Promise.all([
            step.sleep("nap", "1h"),
            step.run("slow", () => stage.hold("slow")),
            step.run("fast", () => "fast"),
            step.waitForEvent("approval", { event: "order.approved" })
          ])
        },
      effect: (stage) => () =>
        Effect.all(
          [
            Step.sleep("nap", "1h"),
            Step.run(
              "slow",
              bodyOf(() => stage.hold("slow"))
            ),
            Step.run("fast", Effect.succeed("fast")),
            Step.waitForEvent("approval", { event: "order.approved" })
          ],
          { concurrency: "unbounded", discard: true }
        )
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("it runs", () => stage.isHeld("slow"))
        yield* world.settle
        assert.sameMembers(yield* world.steps(runId), ["fast completed", "nap waiting", "approval waiting"])
        stage.release("slow", 5)
        yield* world.reaches(runId, "SLEEPING")
        const [first, second, ...waiting] = yield* client.getRunSteps(runId)
        assert.deepInclude(first, { name: "fast", kind: "run", status: "completed", output: "fast" })
        assert.deepInclude(second, { name: "slow", kind: "run", status: "completed", output: 5 })
        assert.sameDeepMembers(
          waiting.map(({ dueAt, kind, name, status }) => [name, kind, status, dueAt]),
          [
            ["nap", "sleep", "waiting", "1970-01-01T01:00:00.000Z"],
            ["approval", "waitForEvent", "waiting", "1970-01-08T00:00:00.000Z"]
          ]
        )
        yield* client.emit("order.approved", {})
        yield* world.settle
        yield* world.advance("1 hour")
        yield* world.completes(runId)

        assert.deepStrictEqual(yield* world.steps(runId), [
          "fast completed",
          "slow completed",
          "approval completed",
          "nap completed"
        ])
      })
  )

  scenario(
    "listRuns filters by function and status and goes through pages, newest first",
    {
      promise:
        () =>
        async ({ event, step }) => {
          if (event.data.n % 2 === 0) await step.sleep("nap", "1h")
          else await step.invoke("invoice", event.data)
        },
      effect:
        () =>
        ({ event }) =>
          event.data.n % 2 === 0
            ? Step.sleep("nap", "1h")
            : Effect.asVoid(Step.invoke("invoice", event.data)),
      also: { invoice: { promise: () => async () => 1, effect: () => () => Effect.succeed(1) } }
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const placed = yield* Effect.forEach([0, 1, 2, 3, 4], (n) => world.place({ n }))
        for (const n of [1, 3]) yield* world.completes(placed[n]!)
        for (const n of [0, 2, 4]) yield* world.reaches(placed[n]!, "SLEEPING")
        const ids = (options: Parameters<typeof client.listRuns>[0]) =>
          Effect.map(client.listRuns(options), ({ runs, totalCount }) => [
            totalCount,
            ...runs.map(({ id }) => id)
          ])

        assert.deepStrictEqual(yield* ids({ functionId: "order", status: "waiting" }), [
          3,
          placed[4],
          placed[2],
          placed[0]
        ])
        assert.deepStrictEqual(yield* ids({ functionId: "order", status: "completed" }), [
          2,
          placed[3],
          placed[1]
        ])
        assert.strictEqual((yield* client.listRuns({ status: "completed" })).totalCount, 4)
        assert.deepStrictEqual(yield* ids({ functionId: "unknown" }), [0])
        assert.deepStrictEqual(yield* ids({ status: "failed" }), [0])
        const first = yield* client.listRuns({ functionId: "order", limit: 3 })
        const second = yield* client.listRuns({ functionId: "order", limit: 3, cursor: first.nextCursor! })
        assert.deepStrictEqual(
          [...first.runs, ...second.runs].map(({ id }) => id),
          placed.toReversed()
        )
        assert.notProperty(second, "nextCursor")
        for (const options of [
          { limit: 0 },
          { limit: 1001 },
          { status: "gone" as "failed" },
          { cursor: "?" }
        ]) {
          assert.deepInclude(yield* Effect.flip(client.listRuns(options)), { code: "VALIDATION_ERROR" })
        }
      })
  )

  scenario(
    "waitForRun gives up after its timeout and says why the run has not ended; the run continues",
    {
      promise:
        () =>
        async ({ step }) => {
          await step.sleep("nap", "1h")
          return "up"
        },
      effect: () => () => Effect.as(Step.sleep("nap", "1h"), "up")
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        const waiting = yield* Effect.forkChild(Effect.flip(client.waitForRun(runId, { timeout: 60_000 })), {
          startImmediately: true
        })
        yield* world.advance("1 minute")
        const error = yield* Fiber.join(waiting)
        assert.deepInclude(error, { code: "TIMEOUT", timeoutMs: 60_000 })
        assert.include(error.message, 'Step "nap" sleeps until')
        yield* world.advance("59 minutes")

        assert.strictEqual(yield* world.completes(runId), "up")
      })
  )
})
