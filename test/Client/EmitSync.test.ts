/** Emitting an event and waiting for its runs in one call, in the process and over HTTP. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import {
  createClient,
  createFunction,
  type IronflowClient,
  IronflowError,
  NonRetryableError,
  RunCancelledError,
  RunFailedError,
  TimeoutError,
  ValidationError
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"

const charge = createFunction(
  { id: "charge", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => ({
    receipt: await step.run("charge", async () => `r-${event.data.orderId}`)
  })
)
const decline = createFunction({ id: "decline", triggers: [{ event: "order.doubtful" }] }, async () => {
  throw new NonRetryableError("card declined")
})
const hold = createFunction({ id: "hold", triggers: [{ event: "order.held" }] }, async ({ step }) => {
  await step.sleep("until released", "1h")
})

let engine: IronflowEngine
let remote: IronflowClient
beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    functions: [charge, decline, hold],
    listen: { port: 0 },
    logger: false
  })
  remote = createClient({ serverUrl: engine.url! })
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

const failureOf = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

describe.each<[string, () => IronflowClient]>([
  ["in process", () => engine.client],
  ["over HTTP", () => remote]
])("emitSync %s", (_, client) => {
  it("resolves to the output of the run", async () => {
    const result = await client().emitSync("order.placed", { orderId: "o-1" })

    assert.deepStrictEqual(result.output, { receipt: "r-o-1" })
    assert.deepStrictEqual([result.functionId, result.status], ["charge", "completed"])
    assert.deepStrictEqual(result.runIds, [result.runId])
    assert.isAtLeast(result.durationMs, 0)
  })

  it("returns the first result again for the same idempotency key", async () => {
    const options = { idempotencyKey: `key-${_}` }

    const first = await client().emitSync("order.placed", { orderId: "o-1" }, options)

    assert.deepStrictEqual(await client().emitSync("order.placed", { orderId: "o-1" }, options), first)
  })

  it("rejects with the error of the run", async () => {
    const error = await failureOf(client().emitSync("order.doubtful", {}))

    assert.instanceOf(error, RunFailedError)
    assert.match(String(error), /Run failed: run_\S+ of function "decline": card declined/)
  })

  it("rejects when the run is cancelled", async () => {
    const orderId = `cancelled ${_}`
    const waiting = failureOf(client().emitSync("order.held", { orderId }))
    let held: string | undefined
    while (held === undefined) {
      const { runs } = await client().listRuns({ functionId: "hold", status: "waiting" })
      held = runs.find(({ input }) => (input as { orderId?: unknown }).orderId === orderId)?.id
    }
    await client().cancelRun(held)

    assert.instanceOf(await waiting, RunCancelledError)
  })

  it("gives up at its timeout and says that only the wait is over", async () => {
    const error = await failureOf(client().emitSync("order.held", {}, { timeout: 50 }))

    assert.instanceOf(error, TimeoutError)
    assert.match(String(error), /Only the wait is over/)
  })

  it("reports an event that started no run", async () => {
    const error = await failureOf(client().emitSync("order.unknown", {}))

    assert.instanceOf(error, IronflowError)
    assert.strictEqual(Object(error).code, "NO_RESULTS")
  })

  it("refuses an invalid timeout, and emits nothing", async () => {
    const before = (await client().listRuns()).totalCount

    assert.instanceOf(
      await failureOf(client().emitSync("order.placed", {}, { timeout: -1 })),
      ValidationError
    )
    assert.strictEqual((await client().listRuns()).totalCount, before)
  })

  it("getCapabilities says what the engine can do", async () => {
    const { features, transports, version } = await client().getCapabilities()

    assert.include(features, "turns")
    assert.include(transports, "channel")
    assert.match(version, /^\d+\.\d+\.\d+/)
  })
})
