/** Pausing again with another reason: in the process and over HTTP. */
import { createClient, createFunction, createProjection, type IronflowClient } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"

let finishWork = () => {}
const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
  await step.waitForEvent("paid", { event: "order.paid", timeout: "1d" })
})
const slow = createFunction({ id: "slow", triggers: [{ event: "slow.asked" }] }, async ({ step }) => {
  await step.run("work", () => new Promise<void>((resolve) => (finishWork = resolve)))
  await step.run("end", () => {})
})

const totals = createProjection({
  name: "totals",
  events: ["order.placed"],
  initialState: () => ({ count: 0 }),
  handler: ({ count }) => ({ count: count + 1 })
})

let engine: IronflowEngine
let remote: IronflowClient
beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [order, slow],
    projections: [totals]
  })
  remote = createClient({ serverUrl: engine.url ?? "" })
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

const connections: ReadonlyArray<readonly [string, () => IronflowClient]> = [
  ["embedded", () => engine.client],
  ["over HTTP", () => remote]
]
for (const [via, clientOf] of connections) {
  describe(via, () => {
    it("a waiting run gets the newer reason", async () => {
      const client = clientOf()
      const runId = (await client.emit("order.placed", {})).runIds[0]!
      await vi.waitUntil(async () => (await client.getRun(runId)).status === "waiting", 20_000)
      assert.strictEqual((await client.pauseRun(runId, "the bank is down")).pauseReason, "the bank is down")
      const again = await client.pauseRun(runId, "the till is on fire")
      assert.strictEqual(again.pauseReason, "the till is on fire")
      assert.strictEqual(again.status, "paused")
      // without a reason the earlier one stays
      assert.strictEqual((await client.pauseRun(runId)).pauseReason, "the till is on fire")
      assert.include((await client.explain(runId)).message, "the till is on fire")
      await client.resumeRun(runId)
      await vi.waitUntil(async () => (await client.getRun(runId)).status === "waiting", 20_000)
      assert.isUndefined((await client.getRun(runId)).pauseReason)
    })

    it("a run whose turn continues gets the newer reason when it is paused", async () => {
      const client = clientOf()
      finishWork = () => {}
      const idle = finishWork
      const runId = (await client.emit("slow.asked", {})).runIds[0]!
      await vi.waitUntil(() => finishWork !== idle, 20_000)
      await client.pauseRun(runId, "first")
      await client.pauseRun(runId, "second")
      finishWork()
      await vi.waitUntil(async () => (await client.getRun(runId)).status === "paused", 20_000)
      assert.strictEqual((await client.getRun(runId)).pauseReason, "second")
      await client.cancelRun(runId)
    })

    it("a function gets the newer reason, and keeps the time since when it is paused", async () => {
      const client = clientOf()
      const first = await client.pauseFunction("order", { reason: "the bank is down", by: "ada" })
      const second = await client.pauseFunction("order", { reason: "the till is on fire", by: "bob" })
      assert.deepStrictEqual(second.paused, {
        at: first.paused!.at,
        by: "bob",
        reason: "the till is on fire"
      })
      assert.deepStrictEqual((await client.pauseFunction("order", { by: "eve" })).paused, second.paused)
      assert.isUndefined((await client.resumeFunction("order")).paused)
    })

    it("a projection gets the newer reason, and keeps the time since when it is paused", async () => {
      const { projections } = clientOf()
      await vi.waitUntil(async () => (await projections.list()).length === 1, 20_000)
      const first = await projections.pause("totals", { reason: "the bank is down", by: "ada" })
      const second = await projections.pause("totals", { reason: "the till is on fire", by: "bob" })
      assert.include(second, {
        pausedAt: first.pausedAt!,
        pausedBy: "bob",
        pauseReason: "the till is on fire"
      })
      const { pausedAt, pauseReason, pausedBy } = await projections.pause("totals", { by: "eve" })
      assert.include(second, { pausedAt: pausedAt!, pausedBy: pausedBy!, pauseReason: pauseReason! })
      assert.isUndefined((await projections.resume("totals")).pauseReason)
    })

    it("a consumer group gets the newer reason, and keeps the time since when it is paused", async () => {
      const { consumerGroups } = clientOf()
      await consumerGroups.create({
        name: `audit ${via}`.replaceAll(" ", "-"),
        pattern: "events:order.placed"
      })
      const name = `audit ${via}`.replaceAll(" ", "-")
      const first = await consumerGroups.pause(name, { reason: "the bank is down", by: "ada" })
      const second = await consumerGroups.pause(name, { reason: "the till is on fire", by: "bob" })
      assert.include(second, {
        pausedAt: first.pausedAt!,
        pausedBy: "bob",
        pauseReason: "the till is on fire"
      })
      const { pausedAt, pauseReason, pausedBy } = await consumerGroups.pause(name, { by: "eve" })
      assert.include(second, { pausedAt: pausedAt!, pausedBy: pausedBy!, pauseReason: pauseReason! })
      assert.isUndefined((await consumerGroups.resume(name)).pauseReason)
    })
  })
}
