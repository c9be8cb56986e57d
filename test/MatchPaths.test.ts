/** Paths of options: from the event, or from `event`. A path that cannot be meant is refused or explained. */
import { assert, expect, it, vi } from "vitest"
import { startEngine } from "../src/engine.ts"
import { ValidationError } from "../src/Errors.ts"
import { createFunction } from "../src/Function.ts"

it.each(["data.orderId", "event.data.orderId", "$.event.data.orderId"])(
  "a wait matches by %s",
  async (match) => {
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      const paid = await step.waitForEvent("payment", { event: "order.paid", match, timeout: "1m" })
      return paid.data
    })
    await using engine = await startEngine({ filename: ":memory:", functions: [order], logger: false })
    const [runId] = (await engine.client.emit("order.placed", { orderId: "o-1" })).runIds
    await engine.client.emit("order.paid", { orderId: "o-2" })
    await engine.client.emit("order.paid", { orderId: "o-1", by: "ada" })

    const run = await engine.client.waitForRun(runId!)

    assert.deepStrictEqual(run.output, { orderId: "o-1", by: "ada" })
  }
)

it("explain says when no event can match, since the run's own event has no value at the path", async () => {
  const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
    await step.waitForEvent("payment", { event: "order.paid", match: "data.orderID" })
  })
  await using engine = await startEngine({ filename: ":memory:", functions: [order], logger: false })
  const [runId] = (await engine.client.emit("order.placed", { orderId: "o-1" })).runIds
  await vi.waitFor(async () =>
    assert.strictEqual((await engine.client.explain(runId!)).code, "WAITING_FOR_EVENT")
  )

  const { message } = await engine.client.explain(runId!)

  assert.include(message, "no event can match: correct `match` in the code")
})

it.each([{ concurrency: { limit: 1, key: "data.customerId" } }, { actorKey: "customerId" }])(
  "a key that is no path from `event` is refused: %j",
  (options) => {
    expect(() => createFunction({ id: "order", triggers: [], ...options }, () => 1)).toThrow(ValidationError)
    expect(() => createFunction({ id: "order", triggers: [], ...options }, () => 1)).toThrow(
      "must be a dotted path from `event`, such as"
    )
  }
)
