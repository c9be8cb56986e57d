/** The handler that runs after a run has failed for good: once for each failure, over every transport, in both APIs. */
import { createFunction, type FailedRun, NonRetryableError, type RunnableFunction } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import { createTestClient } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import { describe, expect, it, vi } from "vitest"
import { ways } from "./Ways.ts"

const triggers = [{ event: "order.placed" }]
const retry = { maxAttempts: 2, initialDelayMs: 10 }

class Declined extends Error {
  override readonly name = "Declined"
  readonly code = "CARD_DECLINED"
}

const withPromises = createFunction(
  {
    id: "charge",
    triggers,
    retry,
    onFailure: {
      retry,
      handler: async ({ event, run, step }) => {
        await step.sleep("a moment", "10ms")
        return await step.run("tell", async ({ attempt }) => {
          if (attempt === 1) throw new Error("the mail server is away")
          return { told: event.data, event: event.name, source: event.source, by: run.functionId }
        })
      }
    }
  },
  async ({ step }) => {
    await step.run("reserve", async () => ({ reservation: "r-1" }))
    await step.run("pay", async () => {
      throw new Declined("card declined")
    })
  }
)

const withEffects = IronflowFunction.make(
  {
    id: "charge",
    triggers,
    retry,
    onFailure: {
      retry,
      handler: Effect.fnUntraced(function* ({ event, run }) {
        yield* Step.sleep("a moment", "10 millis")
        return yield* Step.run(
          "tell",
          Effect.gen(function* () {
            const { attempt } = yield* Step.StepAttempt
            if (attempt === 1) return yield* Effect.fail(new Error("the mail server is away"))
            return { told: event.data, event: event.name, source: event.source, by: run.functionId }
          })
        )
      })
    }
  },
  Effect.fnUntraced(function* () {
    yield* Step.run("reserve", Effect.succeed({ reservation: "r-1" }))
    yield* Step.run("pay", Effect.fail(new Declined("card declined")))
  })
)

const apis: ReadonlyArray<readonly [string, RunnableFunction]> = [
  ["a Promise handler", withPromises],
  ["an Effect handler", withEffects]
]

type Client = Awaited<ReturnType<typeof startEngine>>["client"]

/** The runs of a function, once `count` of them have ended. */
const endedOf = (client: Client, functionId: string, count = 1) =>
  vi.waitFor(
    async () => {
      const { runs } = await client.listRuns({ functionId })
      expect(runs.filter(({ endedAt }) => endedAt !== undefined)).toHaveLength(count)
      expect(runs).toHaveLength(count)
      return Promise.all(runs.map(({ id }) => client.getRun(id)))
    },
    { timeout: 20_000, interval: 20 }
  )

const failed = async (client: Client, data: object = { orderId: "o-1" }) => {
  const { runIds } = await client.emit("order.placed", data)
  const run = await client.waitForRun(runIds[0]!, { timeout: 20_000 })
  expect(run.status).toBe("failed")
  return run
}

const engineWith = (functions: ReadonlyArray<RunnableFunction>) =>
  startEngine({ filename: ":memory:", logger: false, functions })

describe.each(Object.entries(ways))("over %s", (_, start) => {
  it.each(apis)("the onFailure of %s runs once, with the facts about the run", async (_, fn) => {
    await using host = await start([fn])
    const { client } = host

    const run = await failed(client)
    const [handled] = await endedOf(client, "charge/on-failure")

    expect(handled).toMatchObject({ status: "completed" })
    expect(handled!.output).toMatchObject({
      event: `system.run.${run.id}.failed`,
      source: "system",
      by: "charge/on-failure"
    })
    const { told } = handled!.output as { readonly told: FailedRun }
    expect(told).toMatchObject({
      runId: run.id,
      functionId: "charge",
      event: { id: run.eventId, name: "order.placed", version: 1, data: { orderId: "o-1" } },
      createdAt: run.createdAt,
      failedAt: run.endedAt
    })
    expect(told.error).toEqual(run.error)
    expect(told.error.cause).toMatchObject({
      name: "Declined",
      message: "card declined",
      code: "CARD_DECLINED"
    })
    expect(told.error.stack).toContain("OnFailure.test.ts")
    expect(told.attempts).toBe(run.attempt)
    expect(told.steps).toMatchObject([
      { name: "reserve", kind: "run", status: "completed", attempt: 1, output: { reservation: "r-1" } },
      { name: "pay", kind: "run", status: "failed", attempt: 2, error: { code: "CARD_DECLINED" } }
    ])
  })
})

describe("onFailure", () => {
  it("is listed as a function of its own, and its runs are ordinary runs", async () => {
    await using engine = await engineWith([withPromises])

    const functions = await engine.client.listFunctions()

    expect(functions.map(({ id, name, triggers }) => ({ id, name, triggers }))).toEqual([
      { id: "charge", name: "charge", triggers: [{ event: "order.placed" }] },
      {
        id: "charge/on-failure",
        name: "charge (on failure)",
        triggers: [{ event: "system.run.*.failed", expression: 'event.data.functionId == "charge"' }]
      }
    ])
  })

  it("does not run after a run that completed, was cancelled or was retried", async () => {
    const handled = vi.fn()
    const fn = createFunction(
      { id: "charge", triggers, retry, onFailure: handled },
      async ({ event, step }) => {
        if (event.data.how === "completes") return
        if (event.data.how === "recovers") {
          return await step.run("pay", async ({ attempt }) => {
            if (attempt === 1) throw new Error("once")
          })
        }
        await step.sleep("long", "1h")
      }
    )
    await using engine = await engineWith([fn])
    const { client } = engine

    const runs: Array<string> = []
    for (const how of ["completes", "recovers", "waits"]) {
      const { runIds } = await client.emit("order.placed", { how })
      runs.push(...runIds)
    }
    await client.cancelRun(runs[2]!)
    const ended = await Promise.all(runs.map((id) => client.waitForRun(id, { timeout: 20_000 })))

    expect(ended.map(({ status }) => status)).toEqual(["completed", "completed", "cancelled"])
    expect((await client.listRuns({ functionId: "charge/on-failure" })).runs).toEqual([])
    expect(handled).not.toHaveBeenCalled()
  })

  it("runs again for a run that is retried and fails once more", async () => {
    const fn = createFunction({ id: "charge", triggers, onFailure: () => "seen" }, () => {
      throw new NonRetryableError("no")
    })
    await using engine = await engineWith([fn])
    const { client } = engine

    const run = await failed(client)
    await endedOf(client, "charge/on-failure")
    await client.retryRun(run.id)
    const handled = await endedOf(client, "charge/on-failure", 2)

    expect(handled.map(({ output }) => output)).toEqual(["seen", "seen"])
  })

  it("does not run for its own failures, and neither does a function whose trigger is every failure", async () => {
    const heard: Array<string> = []
    const alarm = createFunction(
      { id: "alarm", triggers: [{ event: "system.run.*.failed" }] },
      async ({ event, step }) => {
        if (heard.at(-1) !== event.data.runId) heard.push(event.data.runId)
        await step.invoke("mail", {})
      }
    )
    const fail = () => {
      throw new NonRetryableError("no")
    }
    const charge = createFunction({ id: "charge", triggers, onFailure: fail }, fail)
    const mail = createFunction({ id: "mail", triggers: [], onFailure: fail }, fail)
    await using engine = await engineWith([charge, alarm, mail])
    const { client } = engine

    const run = await failed(client)
    const [handled] = await endedOf(client, "charge/on-failure")
    const [alarmed] = await endedOf(client, "alarm")
    const [mailed] = await endedOf(client, "mail")

    expect([handled, alarmed, mailed].map((run) => run!.status)).toEqual(["failed", "failed", "failed"])
    expect(heard).toEqual([run.id])
    expect((await client.listRuns({ functionId: "mail/on-failure" })).runs).toEqual([])
  })

  it("runs for an invoked run, and for a run that fails after its compensations", async () => {
    const child = createFunction(
      { id: "child", triggers: [], onFailure: ({ event }) => event.data },
      async ({ step }) => {
        await step.run("book", async () => "b-1")
        step.compensate("book", async () => undefined)
        throw new NonRetryableError("full")
      }
    )
    const parent = createFunction({ id: "parent", triggers }, ({ step }) => step.invoke("child", { room: 7 }))
    await using engine = await engineWith([parent, child])
    const { client } = engine

    await failed(client)
    const [handled] = await endedOf(client, "child/on-failure")

    expect(handled!.output).toMatchObject({
      functionId: "child",
      error: { message: "full" },
      event: { name: "ironflow.invoke", data: { room: 7 } },
      steps: [
        { name: "book", output: "b-1" },
        { name: "compensate:book", status: "completed" }
      ]
    })
  })

  it("omits large data and outputs, and steps before the last 200", async () => {
    const fn = createFunction(
      { id: "charge", triggers, onFailure: ({ event }) => event.data },
      async ({ event, step }) => {
        for (let i = 1; i <= event.data.steps; i++) await step.run(`step ${i}`, async () => i)
        await step.run("large", async () => "x".repeat(20_000))
        throw new NonRetryableError("no")
      }
    )
    await using engine = await engineWith([fn])
    const { client } = engine

    await failed(client, { steps: 250, text: "y".repeat(300 * 1024) })
    const [handled] = await endedOf(client, "charge/on-failure")

    const told = handled!.output as FailedRun
    expect(told.event).toMatchObject({ name: "order.placed", data: null, dataOmitted: true })
    expect(told.steps).toHaveLength(200)
    expect(told.stepsOmitted).toBe(51)
    expect(told.steps[0]).toMatchObject({ name: "step 52", output: 52 })
    expect(told.steps.at(-1)).toMatchObject({ name: "large", outputOmitted: true })
    expect(told.steps.at(-1)).not.toHaveProperty("output")
  })

  it("is not started by an event that a user emits under its name", async () => {
    const handled = vi.fn()
    const fn = createFunction({ id: "charge", triggers, onFailure: handled }, async () => undefined)
    await using engine = await engineWith([fn])

    const { runIds } = await engine.client.emit("system.run.run_1.failed", { functionId: "charge" })

    expect(runIds).toEqual([])
    expect(handled).not.toHaveBeenCalled()
  })

  it.each([
    [
      "a string instead of a handler",
      { onFailure: "mail" },
      "`onFailure` must be a function, or an object such as { handler, retry }"
    ],
    [
      "an object without a handler",
      { onFailure: { retry } },
      "`onFailure` must be a function, or an object such as"
    ],
    [
      "an invalid retry policy",
      { onFailure: { handler: String, retry: { maxAttempts: 0 } } },
      "charge/on-failure"
    ],
    ["an id that is too long", { id: "x".repeat(250), onFailure: String }, "at most 245 characters"],
    ["a misspelled option", { onFailure: { handler: String, retrys: {} } }, "did you mean `retry`?"]
  ])("refuses %s", (_, given, message) => {
    const config = { id: "charge", triggers, ...given } as unknown as Parameters<typeof createFunction>[0]
    expect(() => createFunction(config, () => undefined)).toThrow(message)
    expect(() =>
      IronflowFunction.make(config as Parameters<typeof IronflowFunction.make>[0], () => Effect.void)
    ).toThrow(message)
  })

  it("refuses another function with its id", async () => {
    const other = createFunction({ id: "charge/on-failure", triggers: [] }, () => undefined)
    await expect(engineWith([withPromises, other])).rejects.toThrow(
      'a function has the id "charge/on-failure"'
    )
  })

  it("runs in the test client with mocks for its steps", async () => {
    for (const [, fn] of apis) {
      const t = createTestClient({ functions: [fn as typeof withPromises] })
      t.mockStep("reserve", () => ({ reservation: "r-1" }))
      t.mockStep("pay", () => {
        throw new Declined("card declined")
      })
      t.mockStep("tell", () => "told")

      const run = await t.emit("order.placed", { orderId: "o-1" })

      expect(run.status).toBe("failed")
      expect(run.onFailure).toMatchObject({ status: "completed", output: "told" })
      expect(run.onFailure!.steps.map(({ name }) => name)).toEqual(["a moment", "tell"])
    }
    const t = createTestClient({
      functions: [
        createFunction({ id: "charge", triggers, onFailure: ({ event }) => event.data }, () => {
          throw new NonRetryableError("no")
        })
      ]
    })

    const { onFailure } = await t.emit("order.placed", { orderId: "o-1" })

    expect(onFailure!.output).toMatchObject({
      functionId: "charge",
      attempts: 1,
      error: { name: "NonRetryableError", message: "no" },
      event: { name: "order.placed", data: { orderId: "o-1" } },
      steps: []
    })
  })
})
