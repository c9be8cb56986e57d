/** The history of a key and the record of a run are read in pages of bounded size, however large they are. */
import { createClient, createFunction } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { send } from "../wire/RawClient.ts"

const noise = createFunction(
  { id: "noise", recording: true, triggers: [{ event: "order.placed" }] },
  async ({ step }) => {
    for (let i = 0; i < 10; i++) await step.run(`look-${i}`, () => String(i).repeat(2_000_000))
  }
)

let engine: IronflowEngine
let url: string
beforeEach(async () => {
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [noise]
  })
  url = engine.url ?? ""
})
afterEach(() => engine.close())

interface Read {
  /** The lengths of the pages as text. */
  readonly lengths: ReadonlyArray<number>
  // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine sends
  readonly items: ReadonlyArray<any>
}

/** Reads all pages of a list. */
const pages = async (path: string, list: string): Promise<Read> => {
  const lengths: Array<number> = []
  const items: Array<unknown> = []
  for (let cursor: string | undefined = ""; cursor !== undefined;) {
    const { body, status, text } = await send(url, "GET", `${path}?limit=1000&cursor=${cursor}`)
    assert.strictEqual(status, 200, text)
    lengths.push(text.length)
    items.push(...body[list])
    cursor = body.nextCursor
  }
  return { lengths, items }
}

describe("the history of a key with large values", () => {
  const path = "/api/v1/kv/buckets/carts/history/c-1"
  const value = (i: number) => String(i % 10).repeat(900_000)

  beforeEach(async () => {
    await engine.client.kv().createBucket({ name: "carts", history: 20 })
    const carts = engine.client.kv().bucket("carts")
    for (let i = 0; i < 22; i++) await carts.put("c-1", value(i))
  })

  it("comes in pages over HTTP, oldest first, and is refused as one answer", async () => {
    const { items, lengths } = await pages(path, "entries")

    assert.deepStrictEqual(
      items.map(({ revision }) => revision),
      Array.from({ length: 20 }, (_, i) => i + 3)
    )
    assert.isAtLeast(lengths.length, 10)
    assert.isBelow(Math.max(...lengths), 2.5 * 1024 * 1024)
    const all = await send(url, "GET", path)
    assert.strictEqual(all.status, 400)
    assert.match(
      all.text,
      /list of all revisions of key \\"c-1\\" is too large: more than 16777216 characters\. Ask for it in pages/
    )
    assert.strictEqual((await send(url, "GET", `${path}?limit=5&cursor=x`)).status, 400)
  })

  it("is collected from its pages by clients, embedded and over HTTP", async () => {
    await using remote = createClient({ serverUrl: url })
    for (const client of [engine.client, remote]) {
      const entries = await client.kv().bucket("carts").history("c-1")
      assert.deepStrictEqual(
        entries.map(({ revision, value }) => [revision, String(value).slice(0, 1)]),
        Array.from({ length: 20 }, (_, i) => [i + 3, String((i + 2) % 10)])
      )
    }
  })

  it("comes as one answer when it is small, with its deletion", async () => {
    const carts = engine.client.kv().bucket("carts")
    for (const n of [1, 2]) await carts.put("c-2", { n })
    await carts.delete("c-2")

    const { body } = await send(url, "GET", "/api/v1/kv/buckets/carts/history/c-2")

    assert.deepStrictEqual(
      body.entries.map(({ operation }: { readonly operation: string }) => operation),
      ["put", "put", "delete"]
    )
    assert.isUndefined(body.nextCursor)
  })
})

describe("the record of a run with large results", () => {
  it("comes in pages over HTTP, and is collected by clients", { timeout: 30_000 }, async () => {
    const { runIds } = await engine.client.emit("order.placed", {})
    const runId = runIds[0] ?? ""
    assert.strictEqual((await engine.client.waitForRun(runId, { timeout: 20_000 })).status, "completed")
    const types = ["run.started", ...Array<string>(10).fill("step.completed"), "run.completed"]
    const path = `/api/v1/runs/${runId}/audit`

    const { items, lengths } = await pages(path, "events")

    assert.deepStrictEqual(
      items.map(({ type }) => type),
      types
    )
    assert.isBelow(Math.max(...lengths), 3.5 * 1024 * 1024)
    const all = await send(url, "GET", path)
    assert.strictEqual(all.status, 400)
    assert.match(all.text, /list of all events of run .* Ask for it in pages/)
    await using remote = createClient({ serverUrl: url })
    for (const client of [engine.client, remote]) {
      assert.deepStrictEqual(
        (await client.getRunAudit(runId)).map(({ type }) => type),
        types
      )
    }
    assert.strictEqual((await send(url, "GET", "/api/v1/runs/run_none/audit?limit=5")).status, 404)
  })
})
