import * as Effect from "effect/Effect"
import { assert, describe } from "vitest"
import { Step } from "../../src/effect.ts"
import { type FunctionContext, InvokeError, InvokeTimeoutError, NonRetryableError } from "../../src/index.ts"
import { bodyOf, type Part, scenario } from "./Story.ts"

const describeError = (error: unknown) =>
  error instanceof InvokeTimeoutError
    ? `${error.name}: ${error.functionId} after ${error.timeoutMs}`
    : error instanceof InvokeError
      ? `${error.name}: ${error.functionId}: ${error.errorCause}`
      : `${String(error)}`

/** A function that invokes `invoice`, and returns its result or a description of the failure. */
const ordering = (timeout?: string): Part => {
  const options = timeout === undefined ? {} : { timeout }
  return {
    promise:
      () =>
      async ({ event, step }) => {
        try {
          return await step.invoke("invoice", { order: event.data.orderId }, options)
        } catch (error) {
          return describeError(error)
        }
      },
    effect:
      () =>
      ({ event }) =>
        Step.invoke("invoice", { order: event.data.orderId }, options).pipe(
          Effect.catch((error) => Effect.succeed<unknown>(describeError(error)))
        )
  }
}

/** A function whose step is held. */
const invoicing: Part = {
  promise:
    (stage) =>
    async ({ event, step }) => {
      await step.run("print", () => stage.hold("print"))
      return `invoice for ${event.data.order}`
    },
  effect:
    (stage) =>
    ({ event }) =>
      Effect.as(
        Step.run(
          "print",
          bodyOf(() => stage.hold("print"))
        ),
        `invoice for ${event.data.order}`
      )
}

describe("invoke", () => {
  scenario(
    "a parent waits for its child and gets the child's result",
    { ...ordering(), also: { invoice: invoicing } },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the child runs", () => stage.isHeld("print"))
        const { details } = yield* world.reaches(runId, "WAITING_FOR_CHILD")
        const child = yield* client.getRun(String(details.childRunId))
        assert.deepInclude(child, { functionId: "invoice", parentRunId: runId, input: { order: "o-1" } })
        stage.release("print")

        assert.strictEqual(yield* world.completes(runId), "invoice for o-1")
        assert.strictEqual((yield* client.getRun(child.id)).output, "invoice for o-1")
      })
  )

  scenario(
    "a child that fails rejects with InvokeError, which a handler may catch",
    { ...ordering(), also: { invoice: invoicing } },
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the child runs", () => stage.isHeld("print"))
        stage.fail("print", new NonRetryableError("no paper"))

        assert.strictEqual(yield* world.completes(runId), "InvokeError: invoice: no paper")
      })
  )

  scenario(
    "a child that is cancelled rejects with InvokeError",
    { ...ordering(), also: { invoice: invoicing } },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the child runs", () => stage.isHeld("print"))
        const { details } = yield* world.reaches(runId, "WAITING_FOR_CHILD")
        yield* client.cancelRun(String(details.childRunId), "printer on fire")

        assert.strictEqual(yield* world.completes(runId), "InvokeError: invoice: printer on fire")
      })
  )

  scenario(
    "a child that takes too long rejects with InvokeTimeoutError and continues by itself",
    { ...ordering("1m"), also: { invoice: invoicing } },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the child runs", () => stage.isHeld("print"))
        const { details } = yield* world.reaches(runId, "WAITING_FOR_CHILD")
        yield* world.advance("1 minute")

        assert.strictEqual(yield* world.completes(runId), "InvokeTimeoutError: invoice after 60000")
        const childId = String(details.childRunId)
        assert.strictEqual((yield* client.getRun(childId)).status, "running")
        stage.release("print")
        assert.strictEqual(yield* world.completes(childId), "invoice for o-1")
        assert.deepStrictEqual(yield* world.steps(runId), ["invoice failed"])
      })
  )

  scenario(
    "an invocation times out after 30 seconds by default",
    { ...ordering(), also: { invoice: invoicing } },
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the child runs", () => stage.isHeld("print"))
        yield* world.advance("29 seconds")
        assert.strictEqual((yield* world.client.getRun(runId)).status, "waiting")
        yield* world.advance("1 second")

        assert.strictEqual(yield* world.completes(runId), "InvokeTimeoutError: invoice after 30000")
      })
  )

  scenario(
    "invoking a function that is not registered fails with an error that says so",
    ordering(),
    ({ world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()

        assert.include(String(yield* world.completes(runId)), "Function not found: invoice")
      })
  )

  const nested = {
    ...ordering(),
    also: {
      invoice: {
        promise:
          () =>
          async ({ event, step }: FunctionContext) =>
            `<${await step.invoke("number", event.data, { timeout: "1h" })}>`,
        effect:
          () =>
          ({ event }: { readonly event: { readonly data: unknown } }) =>
            Effect.map(
              Step.invoke("number", event.data, { timeout: "1h" }),
              (number) => `<${String(number)}>`
            )
      },
      number: invoicing
    }
  }

  scenario("a child may invoke another child", nested, ({ stage, world }) =>
    Effect.gen(function* () {
      const runId = yield* world.place()
      yield* world.until("the grandchild runs", () => stage.isHeld("print"))
      stage.release("print")

      assert.strictEqual(yield* world.completes(runId), "<invoice for o-1>")
    })
  )

  scenario(
    "cancelling a run cancels the children that it waits for, and their children",
    nested,
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the grandchild runs", () => stage.isHeld("print"))
        yield* world.reaches(runId, "WAITING_FOR_CHILD")
        yield* client.cancelRun(runId, "changed their mind")

        const { runs } = yield* client.listRuns()
        assert.deepStrictEqual(
          runs.map(({ functionId, status }) => [functionId, status]),
          [
            ["number", "cancelled"],
            ["invoice", "cancelled"],
            ["order", "cancelled"]
          ]
        )
      })
  )

  scenario(
    "invokeAsync starts a run and continues; cancelling the parent does not cancel that run",
    {
      promise:
        () =>
        async ({ step }) => {
          const { runId } = await step.invokeAsync("invoice", { order: "o-1" })
          await step.run("note", () => runId)
          await step.sleep("nap", "1h")
        },
      effect: () => () =>
        Effect.gen(function* () {
          const { runId } = yield* Step.invokeAsync("invoice", { order: "o-1" })
          yield* Step.run("note", Effect.succeed(runId))
          yield* Step.sleep("nap", "1h")
        }),
      also: { invoice: invoicing }
    },
    ({ client, stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.reaches(runId, "SLEEPING")
        const childId = String((yield* client.getRunSteps(runId)).find(({ name }) => name === "note")?.output)
        const child = yield* client.getRun(childId)
        assert.notProperty(child, "parentRunId")
        assert.strictEqual(child.invokedBy, runId)
        yield* client.cancelRun(runId)
        yield* world.until("the child runs", () => stage.isHeld("print"))
        stage.release("print")

        assert.strictEqual(yield* world.completes(childId), "invoice for o-1")
        assert.strictEqual((yield* client.listRuns({ functionId: "invoice" })).totalCount, 1)
      })
  )

  scenario(
    "a parent gets the result of its child after a restart, and starts no second child",
    { ...ordering("2h"), also: { invoice: invoicing }, world: { onDisk: true } },
    ({ stage, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        yield* world.until("the child runs", () => stage.isHeld("print"))
        yield* world.reaches(runId, "WAITING_FOR_CHILD")
        yield* world.restart()
        yield* world.until("the child runs again", () => stage.count("print") === 2)
        stage.release("print")

        assert.strictEqual(yield* world.completes(runId), "invoice for o-1")
        assert.strictEqual((yield* world.client.listRuns()).totalCount, 2)
      })
  )
})

describe("publish", () => {
  scenario(
    "a message is published once, whatever happens to the turn afterwards",
    {
      config: { retry: { maxAttempts: 3, initialDelayMs: 1000 } },
      world: { onDisk: true },
      promise:
        (stage) =>
        async ({ run, step }) => {
          const { sequence } = await step.publish("shipments", { order: "o-1" })
          stage.log.push(`published as ${sequence}`)
          if (run.attempt === 1) throw new Error("after the publish")
          await step.sleep("nap", "1h")
          return sequence
        },
      effect:
        (stage) =>
        ({ run }) =>
          Effect.gen(function* () {
            const { sequence } = yield* Step.publish("shipments", { order: "o-1" })
            stage.log.push(`published as ${sequence}`)
            if (run.attempt === 1) return yield* Effect.fail(new Error("after the publish"))
            yield* Step.sleep("nap", "1h")
            return sequence
          })
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const before = yield* client.publish("shipments", {})
        const runId = yield* world.place()
        yield* world.reaches(runId, "WAITING_FOR_RETRY")
        yield* world.advance("1 second")
        yield* world.reaches(runId, "SLEEPING")
        yield* world.restart()
        yield* world.advance("1 hour")
        const sequence = Number(yield* world.completes(runId))
        const after = yield* world.client.publish("shipments", {})

        // the order, the message of the run, and nothing else
        assert.deepStrictEqual([sequence, after.sequence], [before.sequence + 2, before.sequence + 3])
        assert.deepStrictEqual(log, Array(3).fill(`published as ${sequence}`))
        assert.deepStrictEqual(yield* world.steps(runId), ["publish:shipments completed", "nap completed"])
      })
  )
})
