/** Keys in `step.tx`: with both APIs, in the engine's process and in a worker over HTTP. */
import * as Effect from "effect/Effect"
import { afterEach, assert, describe, it } from "vitest"
import { z } from "zod"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { type IronflowEngine, startEngine } from "../../src/engine.ts"
import type { RunnableFunction } from "../../src/Promise/Worker.ts"
import { createClient, createFunction, createWorker, type IronflowClient } from "../../src/index.ts"

const retry = { maxAttempts: 3, initialDelayMs: 5 }
const Stock = z.object({ left: z.number() })
const triggers = [{ event: "sale.wanted" }]
const sold = (left: number) => ({ name: "item.sold", data: { left }, entityType: "item" })

/** Sells an item of the stock. The first `mistakes` attempts expect a wrong revision. */
const apis: Readonly<Record<string, (clientOf: () => IronflowClient) => RunnableFunction>> = {
  Promise: (clientOf) =>
    createFunction({ id: "sell", triggers }, ({ event, step }) =>
      step.tx(
        "sell",
        async (tx, { attempt }) => {
          const { item, mistakes, bucket = "stock" } = event.data
          const entry = await clientOf().kv().bucket("stock", { schema: Stock }).get(item)
          const left = entry.value.left - 1
          tx.kv(bucket, { schema: Stock }).update(
            item,
            { left },
            entry.revision + (attempt <= mistakes ? 1 : 0)
          )
          tx.kv("receipts").create(`${item}.json`, { left })
          tx.kv("receipts").put(`${item}.bytes`, Uint8Array.of(0, 255, left))
          tx.kv("receipts").put(`${item}.text`, "sold")
          tx.kv("receipts").delete("draft")
          tx.streams.append(item, sold(left))
          return attempt
        },
        { retry }
      )
    ),
  Effect: (clientOf) =>
    IronflowFunction.make({ id: "sell", triggers }, ({ event }) =>
      Step.tx(
        "sell",
        Effect.fnUntraced(function* (tx) {
          const { item, mistakes, bucket = "stock" } = event.data
          const { attempt } = yield* Step.StepAttempt
          const entry = yield* Effect.promise(() =>
            clientOf().kv().bucket("stock", { schema: Stock }).get(item)
          )
          const left = entry.value.left - 1
          yield* tx
            .kv(bucket, { schema: Stock })
            .update(item, { left }, entry.revision + (attempt <= mistakes ? 1 : 0))
          yield* tx.kv("receipts").create(`${item}.json`, { left })
          yield* tx.kv("receipts").put(`${item}.bytes`, Uint8Array.of(0, 255, left))
          yield* tx.kv("receipts").put(`${item}.text`, "sold")
          yield* tx.kv("receipts").delete("draft")
          yield* tx.streams.append(item, sold(left))
          return attempt
        }),
        { retry }
      )
    )
}

describe.each(Object.keys(apis))("step.tx with keys, written with the %s API", (api) => {
  describe.each(["in the engine's process", "in a worker over HTTP"] as const)("%s", (where) => {
    const open: Array<() => Promise<unknown>> = []
    afterEach(async () => {
      for (const close of open.splice(0).toReversed()) await close()
    })

    const start = async (): Promise<IronflowClient> => {
      let client: IronflowClient | undefined
      const fn = apis[api]!(() => client!)
      const engine: IronflowEngine = await startEngine({
        filename: ":memory:",
        logger: false,
        ...(where === "in the engine's process" ? { functions: [fn] } : { listen: { port: 0 } })
      })
      open.push(() => engine.close())
      client = engine.client
      if (engine.url !== undefined && where !== "in the engine's process") {
        const worker = createWorker({ serverUrl: engine.url, functions: [fn], logger: false })
        const stopped = worker.start()
        open.push(async () => {
          await worker.stop()
          await stopped
        })
        await worker.ready()
        const overHttp = (client = createClient({ serverUrl: engine.url }))
        open.push(() => overHttp.close())
      }
      await client.kv().createBucket({ name: "stock" })
      await client.kv().createBucket({ name: "receipts" })
      await client.kv().bucket("stock").put("pen", { left: 3 })
      await client.kv().bucket("receipts").put("draft", "some")
      return client
    }
    const sell = async (client: IronflowClient, data: object) => {
      const { runIds } = await client.emit("sale.wanted", { item: "pen", mistakes: 0, ...data })
      return client.waitForRun(runIds[0] ?? "", { timeout: 10_000 })
    }

    it("writes several buckets and a stream in one transaction, once the revision matches", async () => {
      const client = await start()

      const run = await sell(client, { mistakes: 2 })

      assert.strictEqual(run.status, "completed", run.error?.message ?? "")
      const { value, writes } = run.output as { value: number; writes: ReadonlyArray<object> }
      assert.strictEqual(value, 3, "two attempts conflict, and the third succeeds")
      const stock = await client.kv().bucket("stock").get("pen")
      const receipts = client.kv().bucket("receipts")
      assert.deepStrictEqual(stock.value, { left: 2 })
      assert.deepStrictEqual((await receipts.get("pen.json")).value, { left: 2 })
      assert.deepStrictEqual((await receipts.get("pen.bytes")).value, Uint8Array.of(0, 255, 2))
      assert.strictEqual((await receipts.get("pen.text")).value, "sold")
      assert.deepStrictEqual(await receipts.listKeys(), ["pen.bytes", "pen.json", "pen.text"])
      assert.deepStrictEqual(writes.slice(0, 2), [
        { _tag: "kv", bucket: "stock", key: "pen", revision: stock.revision },
        {
          _tag: "kv",
          bucket: "receipts",
          key: "pen.json",
          revision: (await receipts.get("pen.json")).revision
        }
      ])
      assert.deepInclude(writes[5], { _tag: "append", entityId: "pen", entityVersion: 1 })
    })

    it("writes nothing when a revision never matches, and fails", async () => {
      const client = await start()

      const run = await sell(client, { mistakes: 9 })

      assert.strictEqual(run.status, "failed")
      assert.deepInclude(run.error, { name: "StepError", code: "STEP_FAILED" })
      assert.deepInclude(run.error?.cause, { name: "RevisionConflictError", code: "REVISION_CONFLICT" })
      assert.deepStrictEqual((await client.kv().bucket("stock").get("pen")).value, { left: 3 })
      assert.deepStrictEqual(await client.kv().bucket("receipts").listKeys(), ["draft"])
      assert.strictEqual((await client.streams.read("pen")).totalCount, 0)
    })

    it("writes nothing when a bucket is missing, and does not try again", async () => {
      const client = await start()

      const run = await sell(client, { bucket: "nowhere" })

      assert.deepInclude(run.error?.cause, { name: "BucketNotFoundError" })
      assert.deepStrictEqual(await client.kv().bucket("receipts").listKeys(), ["draft"])
      assert.strictEqual((await client.streams.read("pen")).totalCount, 0)
    })
  })
})
