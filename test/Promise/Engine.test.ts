import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { afterAll, assert, describe, expect, it, vi } from "vitest"
import {
  createClient,
  createDeferred,
  createFunction,
  createWorker,
  StoreError,
  ValidationError
} from "../../src/index.ts"
import { startEngine } from "../../src/engine.ts"
import { Event, IronflowFunction, Step } from "../../src/effect.ts"

const folder = mkdtempSync(join(tmpdir(), "ironflow-engine-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const shipOrder = createFunction(
  { id: "ship-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const receipt = await step.run("charge", async () => `receipt-${event.data.orderId}`)
    await step.sleep("settle", 10)
    return { receipt }
  }
)

const OrderPlaced = Event.define("order.placed", { data: Schema.Struct({ orderId: Schema.String }) })
const shipOrderEffect = IronflowFunction.make(
  { id: "ship-order", triggers: [OrderPlaced] },
  Effect.fnUntraced(function* ({ event }) {
    const receipt = yield* Step.run("charge", Effect.succeed(`receipt-${event.data.orderId}`))
    yield* Step.sleep("settle", "300 millis")
    return { receipt }
  })
)

const rejection = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

describe("startEngine", () => {
  for (const [style, fn] of [
    ["an async handler", shipOrder],
    ["an Effect handler", shipOrderEffect]
  ] as const) {
    it(`runs a function with ${style} for an event until its end`, async () => {
      await using engine = await startEngine({ filename: ":memory:", functions: [fn], logger: false })

      const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
      const run = await engine.client.waitForRun(runIds[0]!, { timeout: 10_000 })

      assert.strictEqual(run.status, "completed", run.error?.message ?? "")
      assert.deepStrictEqual(run.output, { receipt: "receipt-o-1" })
      const steps = await engine.client.getRunSteps(run.id)
      assert.deepStrictEqual(
        steps.map((step) => [step.name, step.status]),
        [
          ["charge", "completed"],
          ["settle", "completed"]
        ]
      )
    })
  }

  it("keeps dates, bytes and large integers of schemas in results, failures and events", async () => {
    const Shown = Schema.Struct({
      at: Schema.Date,
      bytes: Schema.Uint8Array,
      cents: Schema.BigInt,
      limit: Schema.Number,
      note: Schema.optional(Schema.String)
    })
    const shown = {
      at: new Date(0),
      bytes: new Uint8Array([1, 2]),
      cents: 5n,
      limit: Number.POSITIVE_INFINITY
    }
    class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { at: Schema.Date }) {}
    const seen: Array<unknown> = []
    const fn = IronflowFunction.make(
      { id: "dates", triggers: [Event.define("order.placed", { data: Shown })], retry: { maxAttempts: 1 } },
      Effect.fnUntraced(function* ({ event }) {
        const result = yield* Step.run("show", Effect.succeed(shown), { success: Shown })
        const failure = yield* Effect.flip(
          Step.run("charge", Effect.fail(new CardDeclined({ at: new Date(7) })), { error: CardDeclined })
        )
        seen.push([event.data, result, failure._tag === "CardDeclined" && failure.at])
        yield* Step.sleep("settle", "10 millis")
      })
    )
    const engine = await startEngine({ filename: ":memory:", functions: [fn], logger: false })

    const { runIds } = await engine.client.emit("order.placed", {
      at: shown.at,
      bytes: "AQI=",
      cents: "5",
      limit: "Infinity"
    })
    const run = await engine.client.waitForRun(runIds[0]!)
    await engine.close()

    assert.strictEqual(run.status, "completed", run.error?.message)
    assert.lengthOf(seen, 2, "one turn before the sleep and one after it")
    for (const one of seen) assert.deepStrictEqual(one, [shown, shown, new Date(7)])
  })

  it("describes a tagged error without a message by its tag and its fields", async () => {
    class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { limit: Schema.Number }) {}
    const triggers = [{ event: "order.placed" }]
    const retry = { maxAttempts: 1 }
    const charge = Effect.fail(new CardDeclined({ limit: 50 }))
    const fails = IronflowFunction.make({ id: "fails", triggers, retry }, () => Step.run("charge", charge))
    const failsTyped = IronflowFunction.make({ id: "fails-typed", triggers, retry }, () =>
      Step.run("charge", charge, { error: CardDeclined })
    )
    const invokes = createFunction({ id: "invokes", triggers }, async ({ step }) => step.invoke("fails"))
    const engine = await startEngine({
      filename: ":memory:",
      functions: [fails, failsTyped, invokes],
      logger: false
    })

    const { runIds } = await engine.client.emit("order.placed", {})
    const messages: Record<string, unknown> = {}
    for (const runId of runIds) {
      const run = await engine.client.waitForRun(runId)
      const [step] = await engine.client.getRunSteps(runId)
      messages[run.functionId] = [run.error?.message, step?.error?.message, step?.error?.details]
    }
    await engine.close()

    const carried = { _tag: "CardDeclined", limit: 50 }
    const declined = 'CardDeclined {"limit":50}'
    assert.deepStrictEqual(messages.fails, [declined, declined, carried])
    assert.deepStrictEqual(messages["fails-typed"], [declined, declined, carried])
    expect((messages.invokes as Array<string>)[0]).toMatch(
      /^Invoked function 'fails' .* failed: CardDeclined/
    )
  })

  it("finds everything in its file after a restart", async () => {
    const filename = join(folder, "orders.db")
    let runId: string
    {
      await using engine = await startEngine({ filename, functions: [shipOrder], logger: false })
      const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
      runId = runIds[0]!
      await engine.client.waitForRun(runId, { timeout: 10_000 })
    }

    await using engine = await startEngine({ filename, logger: false })
    const run = await engine.client.getRun(runId)

    assert.strictEqual(run.status, "completed")
    assert.deepStrictEqual(run.output, { receipt: "receipt-o-1" })
  })

  it("makes an engine that clients and workers of the main entry point can use", async () => {
    await using engine = await startEngine({ filename: ":memory:", logger: false })
    const worker = createWorker({ engine, functions: [shipOrder], logger: false })
    const working = worker.start()
    await worker.ready()
    await using client = createClient({ engine })

    const { runIds } = await client.emit("order.placed", { orderId: "o-1" })
    const run = await client.waitForRun(runIds[0]!, { timeout: 10_000 })
    await worker.drain()
    await working

    assert.strictEqual(run.status, "completed")
    assert.deepStrictEqual(await client.listWorkers(), [])
  })

  it("waits on close for turns in flight, whose handlers may use the client, and then rejects calls with CLOSED", async () => {
    const filename = join(folder, "closing.db")
    const started = createDeferred()
    const finish = createDeferred()
    const fn = createFunction(
      { id: "audit", triggers: [{ event: "order.placed" }] },
      async ({ run, step }) => {
        await step.run("look", async () => {
          started.resolve()
          await finish.promise
          return (await engine.client.getRun(run.id)).status
        })
      }
    )
    const engine = await startEngine({ filename, functions: [fn], logger: false })
    const { runIds } = await engine.client.emit("order.placed", {})
    await started.promise

    const closing = engine.close()
    finish.resolve()
    await closing
    await engine.close()

    assert.strictEqual((await rejection(engine.client.health())).code, "CLOSED")
    await using next = await startEngine({ filename, logger: false })
    assert.strictEqual((await next.client.getRun(runIds[0]!)).status, "completed")
  })

  it("refuses a second engine on one file with a StoreError that names the process of the first", async () => {
    const filename = join(folder, "locked.db")
    await using _engine = await startEngine({ filename, logger: false })

    const error = await rejection(startEngine({ filename, logger: false }))

    assert.instanceOf(error, StoreError)
    assert.strictEqual(error.code, "STORE_LOCKED")
    assert.include(error.message, String(process.pid))
  })

  it("rejects invalid options, and leaves no engine behind", async () => {
    const filename = join(folder, "twice.db")

    const error = await rejection(startEngine({ filename, functions: [shipOrder, shipOrder], logger: false }))

    assert.instanceOf(error, ValidationError)
    assert.include(error.message, '"ship-order"')
    assert.instanceOf(
      await rejection(startEngine({ filename, maxConcurrentJobs: 0, logger: false })),
      ValidationError
    )
    assert.isFalse(existsSync(filename))
    await using engine = await startEngine({ filename, logger: false })
    assert.strictEqual(await engine.client.health(), "ok")
  })

  it("uses one environment, and a client of another one sees nothing of it", async () => {
    await using engine = await startEngine({
      filename: ":memory:",
      functions: [shipOrder],
      environment: "staging",
      logger: false
    })
    await using elsewhere = createClient({ engine, environment: "production" })

    const here = await engine.client.emit("order.placed", { orderId: "o-1" })
    const there = await elsewhere.emit("order.placed", { orderId: "o-2" })

    assert.strictEqual(here.runIds.length, 1)
    assert.deepStrictEqual(there.runIds, [])
    assert.deepStrictEqual(await elsewhere.listFunctions(), [])
  })

  it("makes the engine log to its configured logger", async () => {
    const lines: Array<string> = []
    const line = (message: string) => void lines.push(message)
    const logger = { debug: line, info: line, warn: line, error: line }
    await using engine = await startEngine({ filename: ":memory:", logger })

    await engine.client.emit("order.placed", { a: 1 }, { idempotencyKey: "k" })
    await engine.client.emit("order.placed", { a: 2 }, { idempotencyKey: "k" })

    assert.strictEqual(lines.length, 1)
    assert.include(lines[0], 'Idempotency key "k" was used before with other data')
  })
})

describe("an engine that listens", () => {
  it("serves clients and workers of other processes", async () => {
    await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    const serverUrl = engine.url!
    const greet = createFunction(
      { id: "greet", triggers: [{ event: "guest.came" }] },
      async ({ event, step }) => step.run("greet", () => `hello ${event.data.name}`)
    )
    const worker = createWorker({ serverUrl, functions: [greet], logger: false })
    const stopped = worker.start()
    await worker.ready()
    await using client = createClient({ serverUrl })

    const { runIds } = await client.emit("guest.came", { name: "Ada" })
    const run = await client.waitForRun(runIds[0]!)

    expect(run).toMatchObject({ status: "completed", output: "hello Ada" })
    await worker.drain()
    await stopped
  })

  it("names the port in use", async () => {
    await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    const port = Number(new URL(engine.url!).port)

    await expect(
      startEngine({ filename: ":memory:", logger: false, listen: { port } })
    ).rejects.toMatchObject({
      code: "PORT_IN_USE",
      message: expect.stringContaining(String(port))
    })
  })

  it("has no URL when it does not listen", async () => {
    await using engine = await startEngine({ filename: ":memory:", logger: false })
    expect(engine.url).toBe(undefined)
  })
})

it("a worker warns of a step that was renamed while its run slept", async () => {
  const filename = join(folder, "renamed.db")
  const deploy = async (name: string, naps: number, warnings: Array<string> = []) => {
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.run(name, () => 1)
      for (let i = 0; i < naps; i++) await step.sleep(`nap ${i}`, i === 0 ? "3s" : "1d")
    })
    const silent = () => undefined
    const logger = { debug: silent, info: silent, error: silent, warn: (text: string) => warnings.push(text) }
    return startEngine({ filename, functions: [order], logger })
  }
  const first = await deploy("charge", 1)
  const { runIds } = await first.client.emit("order.placed", {})
  await vi.waitFor(
    async () => assert.strictEqual((await first.client.explain(runIds[0]!)).code, "SLEEPING"),
    { timeout: 2500 }
  )
  await first.close()

  const warnings: Array<string> = []
  const second = await deploy("pay", 2, warnings)
  await vi.waitFor(() => assert.isNotEmpty(warnings), { timeout: 20_000 })
  assert.match(warnings.join("\n"), /waits without having called recorded steps: "charge"/)
  await second.close()
})
