import { createFunction, StepError, VersionConflictError } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { createTestClient } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import { expect, test } from "vitest"
import { TestStreams } from "../../src/Testing/TestStreams.ts"

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

test("the body of a tx runs without a stand-in, and the test sees what it wrote and what came of it", async () => {
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

test("a conflict is a failed attempt that writes nothing, and the run sees what production does", async () => {
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
  expect((await t.emit("transfer.requested", {})).stepOutput("move").writes).toMatchObject([
    { entityId: "fresh", entityVersion: 1 },
    { entityId: "used", entityVersion: 4 }
  ])
  // versions go on from one run to the next
  expect((await t.emit("transfer.requested", {})).error?.cause).toMatchObject({ actualVersion: 4 })
})

test("a stream keeps its type", async () => {
  const t = createTestClient({ functions: [transfer] })
  t.setStream("b", { entityType: "customer", version: 1 })
  const run = await t.emit("transfer.requested", { from: "a", to: "b", amount: 5 })

  expect(run.error?.message).toContain('of type "customer"')
})

test("mockTx replaces the body, and mockStep says that it cannot", async () => {
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

test("a stream that cannot be is refused at once", () => {
  const t = createTestClient({ functions: [] })
  expect(() => t.setStream("a", { entityType: account, version: 0 })).toThrow("from 1 up, got 0")
  expect(() => t.setStream("", { entityType: account, version: 1 })).toThrow("entity id")
})

test("a tx of an Effect handler is the same", async () => {
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

test("a kind of write that is not known is said to be so, and nothing is written", () => {
  const streams = new TestStreams(() => "id")
  const append = {
    _tag: "append",
    entityId: "a",
    entityType: account,
    events: [{ name: "a.b", data: "{}", version: 1 }]
  } as const
  // what a later version of `step.tx` may collect
  const unknown: Parameters<TestStreams["transact"]>[0] = [append, JSON.parse('{"_tag":"put","key":"k"}')]

  expect(() => streams.transact(unknown)).toThrow('writes of kind "put"')
  expect(streams.transact([append])).toMatchObject([{ entityVersion: 1, position: 1 }])
})
