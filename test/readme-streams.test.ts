/** The documented examples of entity streams, unchanged: they do over HTTP what the text promises. */
import { afterAll, describe, expect, test, vi } from "vitest"
import type { AppendResult, StreamInfo } from "@ironflow/node"
import { texts, useDocumented } from "./Documented.ts"
import { makeExamples } from "./Examples.ts"

describe("the documented examples of entity streams", () => {
  const examples = makeExamples(texts)
  afterAll(() => examples[Symbol.dispose]())

  test("compile", { timeout: 120_000 }, async () => {
    const complaints = (await examples.typeCheck()).split("\n")

    expect(Object.keys(texts).filter((file) => file.startsWith("entity-streams."))).toHaveLength(4)
    expect(complaints.filter((line) => line.startsWith("entity-streams."))).toEqual([])
  })
})

describe("entity streams", () => {
  const documented = useDocumented()
  const { load } = documented

  const appended = async () => {
    // the example uses `createClient` without an import
    const { createClient } = await import("@ironflow/node")
    vi.stubGlobal("createClient", createClient)
    return load<{ result: AppendResult }>("entity-streams.01", ["result"])
  }

  test("append", async () => {
    const { result } = await appended()

    expect(result).toMatchObject({ entityVersion: 1, eventId: expect.stringMatching(/^evt_/) })
    expect(console.log).toHaveBeenCalledWith(1)
    expect(console.log).toHaveBeenCalledWith(result.eventId)
    const { events } = await documented.client.streams.read("order-123")
    expect(events).toMatchObject([{ name: "item.added", data: { sku: "ABC", qty: 2 }, version: 1 }])
  })

  test("optimistic concurrency: the second of two writers that saw the same version gets an error", async () => {
    vi.spyOn(console, "error").mockImplementation(() => undefined)
    await appended()
    await load("entity-streams.02", [])
    expect(console.error).not.toHaveBeenCalled()

    // another writer appends between the two calls of the example
    const { streams } = documented.client
    documented.given({
      client: {
        streams: {
          getInfo: async (entityId: string) => {
            const info = await streams.getInfo(entityId)
            await streams.append(entityId, { name: "item.added", data: {}, entityType: "order" })
            return info
          },
          append: streams.append
        }
      }
    })
    await load("entity-streams.02", [])

    expect(console.error).toHaveBeenCalledExactlyOnceWith("Concurrent modification detected")
    expect((await streams.read("order-123")).events.map(({ name }) => name)).toEqual([
      "item.added",
      "item.removed",
      "item.added"
    ])
  })

  test("the options of append", async () => {
    const { streams } = documented.client
    const event = { name: "item.added", data: {}, entityType: "order" }

    const first = await streams.append("order-9", event, {
      expectedVersion: 0,
      idempotencyKey: "k",
      version: 3
    })
    const again = await streams.append("order-9", event, { idempotencyKey: "k" })

    expect(again).toEqual(first)
    expect((await streams.read("order-9")).events).toMatchObject([{ entityVersion: 1, version: 3 }])
  })

  test("read", async () => {
    await appended()
    vi.mocked(console.log).mockClear()

    const { totalCount } = await load<{ totalCount: number }>("entity-streams.03", ["totalCount"])

    expect(totalCount).toBe(1)
    expect(console.log).toHaveBeenCalledExactlyOnceWith("item.added", { sku: "ABC", qty: 2 }, 1)
  })

  test("getInfo", async () => {
    await appended()

    const { info } = await load<{ info: StreamInfo }>("entity-streams.04", ["info"])

    expect(info).toEqual({
      entityId: "order-123",
      entityType: "order",
      version: 1,
      eventCount: 1,
      createdAt: expect.stringMatching(/Z$/),
      updatedAt: expect.stringMatching(/Z$/)
    })
    expect(new Date(info.createdAt).toISOString()).toBe(info.createdAt)
  })
})
