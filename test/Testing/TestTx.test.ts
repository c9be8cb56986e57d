import { createFunction, RevisionConflictError, StepError, VersionConflictError } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { createTestClient, createTestEngine } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import { StepTxMemory } from "../../src/Testing/StepTxMemory.ts"

const trigger = { id: "transfer", triggers: [{ event: "transfer.requested" }] }
const account = "account"

const transfer = createFunction(trigger, async ({ event, step }) => {
  const { from, to, amount } = event.data
  const moved = (sign: number) => ({
    name: "money.moved",
    data: { amount: sign * amount },
    entityType: account
  })
  return await step.tx("move", (tx) => {
    tx.streams.append(from, moved(-1), { expectedVersion: 0 })
    tx.streams.append(to, moved(1), { metadata: { by: "test" } })
    tx.streams.appendAll(to, { entityType: account, events: [{ name: "a.b" }, { name: "c.d" }] })
    tx.emit("transfer.done", { amount })
    return "moved"
  })
})

test("the body of a tx runs without a mock, and the test can read its writes and their results", async () => {
  const run = await createTestClient({ functions: [transfer] }).emit("transfer.requested", {
    from: "a",
    to: "b",
    amount: 5
  })

  expect(run.error).toBeUndefined()
  expect(run.output).toEqual(run.stepOutput("move"))
  expect(run.output).toMatchObject({
    value: "moved",
    writes: [
      { _tag: "append", entityId: "a", entityVersion: 1, position: 1, events: [{ entityVersion: 1 }] },
      { _tag: "append", entityId: "b", entityVersion: 1, position: 2 },
      { entityVersion: 3, position: 4, events: [{ entityVersion: 2 }, { entityVersion: 3 }] },
      { _tag: "emit", position: 5, runIds: [] }
    ]
  })
  expect(run.steps).toMatchObject([{ name: "move", type: "tx" }])
  expect(run.steps[0]?.writes).toEqual([
    {
      _tag: "append",
      entityId: "a",
      entityType: account,
      expectedVersion: 0,
      events: [{ name: "money.moved", data: { amount: -5 }, version: 1 }]
    },
    {
      _tag: "append",
      entityId: "b",
      entityType: account,
      events: [{ name: "money.moved", data: { amount: 5 }, version: 1, metadata: { by: "test" } }]
    },
    {
      _tag: "append",
      entityId: "b",
      entityType: account,
      events: [
        { name: "a.b", data: {}, version: 1 },
        { name: "c.d", data: {}, version: 1 }
      ]
    },
    { _tag: "emit", name: "transfer.done", data: { amount: 5 }, version: 1 }
  ])
})

test("a conflict is a failed attempt that writes nothing, as in production", async () => {
  let bodies = 0
  const fn = createFunction({ ...trigger, retry: { maxAttempts: 2 } }, async ({ step }) => {
    await step.tx("move", (tx) => {
      bodies++
      tx.streams.append("fresh", { name: "a.b", entityType: account })
      tx.streams.append("used", { name: "a.b", entityType: account }, { expectedVersion: 3 })
    })
  })
  const t = createTestClient({ functions: [fn] })
  t.setStream("used", { entityType: account, version: 4 })
  const failed = await t.emit("transfer.requested", {})

  expect(bodies).toBe(2)
  expect(failed).toMatchObject({ status: "failed", steps: [{ name: "move", type: "tx" }] })
  expect(failed.steps[0]?.writes).toBeUndefined()
  expect(failed.error).toBeInstanceOf(StepError)
  expect(failed.error?.cause).toBeInstanceOf(VersionConflictError)

  t.setStream("used", { entityType: account, version: 3 })
  expect((await t.emit("transfer.requested", {})).stepOutput("move")).toMatchObject({
    writes: [
      { entityId: "fresh", entityVersion: 1 },
      { entityId: "used", entityVersion: 4 }
    ]
  })
  // the versions of a stream continue in the next run
  expect((await t.emit("transfer.requested", {})).error?.cause).toMatchObject({ actualVersion: 4 })
})

test("a stream keeps its type", async () => {
  const t = createTestClient({ functions: [transfer] })
  t.setStream("b", { entityType: "customer", version: 1 })
  const run = await t.emit("transfer.requested", { from: "a", to: "b", amount: 5 })

  expect(run.error?.message).toContain('of type "customer"')
})

test("mockTx replaces the body, and mockStep refuses to", async () => {
  const t = createTestClient({ functions: [transfer] })
  t.mockTx("move", async (tx) => {
    tx.emit("transfer.refused", {})
    return "refused"
  })
  const run = await t.emit("transfer.requested", {})
  expect(run.output).toMatchObject({ value: "refused", writes: [{ _tag: "emit" }] })
  expect(run.steps[0]?.writes).toMatchObject([{ name: "transfer.refused" }])

  const wrong = createTestClient({ functions: [transfer] })
  wrong.mockStep("move", () => "moved")
  expect((await wrong.emit("transfer.requested", {})).error?.message).toContain('t.mockTx("move"')
})

test("an invalid stream or key is refused at once", () => {
  const t = createTestClient({ functions: [] })
  expect(() => t.setStream("a", { entityType: account, version: 0 })).toThrow("an integer, at least 1, got 0")
  expect(() => t.setKey("stock", "apple", 0)).toThrow("revision")
  expect(() => t.setKey("a/b", "apple", 1)).toThrow("bucket")
  expect(() => t.setStream("", { entityType: account, version: 1 })).toThrow("entity id")
})

test("keys have the revisions of their bucket, and the test can read what was written", async () => {
  const fn = createFunction(trigger, async ({ step }) => {
    const { writes } = await step.tx("sell", (tx) => {
      const stock = tx.kv("stock")
      stock.update("apple", { left: 2 }, 7)
      stock.create("pear", "fresh")
      stock.put("raw", new Uint8Array([1, 2]))
      stock.delete("plum")
      tx.kv("receipts").put("r-1", null)
      tx.streams.append("apple", { name: "item.sold", entityType: "item" })
    })
    return writes
  })
  const t = createTestClient({ functions: [fn] })
  t.setKey("stock", "apple", 7)
  const run = await t.emit("transfer.requested", {})

  expect(run.error).toBeUndefined()
  expect(run.output).toMatchObject([
    { _tag: "kv", bucket: "stock", key: "apple", revision: 8 },
    { key: "pear", revision: 9 },
    { key: "raw", revision: 10 },
    { key: "plum", revision: 0 },
    { bucket: "receipts", revision: 1 },
    { _tag: "append", entityVersion: 1 }
  ])
  expect(run.steps[0]?.writes?.slice(0, 5)).toEqual([
    { _tag: "kv", bucket: "stock", key: "apple", value: { left: 2 }, expected: 7 },
    { _tag: "kv", bucket: "stock", key: "pear", value: "fresh", expected: 0 },
    { _tag: "kv", bucket: "stock", key: "raw", value: new Uint8Array([1, 2]) },
    { _tag: "kv", bucket: "stock", key: "plum" },
    { _tag: "kv", bucket: "receipts", key: "r-1", value: null }
  ])

  const again = await t.emit("transfer.requested", {})
  expect(again.error?.cause).toBeInstanceOf(RevisionConflictError)
  expect(again.error?.cause).toMatchObject({ key: "apple", expected: 7, actual: 8 })
})

test("keys in a test client have the revisions that they have in the engine", async () => {
  const fn = createFunction(trigger, async ({ event, step }) => {
    const { writes } = await step.tx("write", (tx) => {
      const stock = tx.kv("stock")
      if (event.data.deletes) stock.delete("apple")
      else stock.create("apple", 1)
      stock.put("pear", 1)
      stock.delete("never")
    })
    return writes
  })
  const deletes = [false, true, true, false, false]
  const t = createTestClient({ functions: [fn] })
  await using engine = await createTestEngine({ functions: [fn] })
  await engine.client.kv().createBucket({ name: "stock" })
  for (const data of deletes.map((deletes) => ({ deletes }))) {
    const alone = await t.emit("transfer.requested", data)
    const { runIds } = await engine.client.emit("transfer.requested", data)
    const real = await engine.runToEnd(runIds[0] ?? "")

    expect(alone).toMatchObject({ status: real.status, output: real.output })
    expect(alone.error?.message).toEqual(real.error?.message)
  }
})

test("a tx of an Effect handler works the same way", async () => {
  const fn = IronflowFunction.make(
    trigger,
    Effect.fnUntraced(function* () {
      const { value } = yield* Step.tx("move", (tx) =>
        Effect.as(tx.streams.append("a", { name: "a.b", entityType: account }), 1)
      )
      return value
    })
  )
  const run = await createTestClient({ functions: [fn] }).emit("transfer.requested", {})

  expect(run.output).toBe(1)
  expect(run.steps[0]?.writes).toMatchObject([{ entityId: "a" }])
})

test("an unknown kind of write is refused, and nothing is written", () => {
  const memory = new StepTxMemory(() => "id")
  const append = {
    _tag: "append",
    entityId: "a",
    entityType: account,
    events: [{ name: "a.b", data: "{}", version: 1 }]
  } as const
  // a later version of `step.tx` may have such a write
  const unknown: Parameters<StepTxMemory["transact"]>[0] = [append, JSON.parse('{"_tag":"later","key":"k"}')]

  expect(() => memory.transact(unknown)).toThrow('writes of kind "later"')
  expect(memory.transact([append])).toMatchObject([{ entityVersion: 1, position: 1 }])
})
