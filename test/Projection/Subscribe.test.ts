/** Following the states of projections, in the engine's process and over HTTP. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, assert, describe, expect, it, vi } from "vitest"
import {
  createClient,
  createNoopLogger,
  createProjection,
  type IronflowClient,
  ProjectionNotFoundError,
  type ProjectionStateResult
} from "@ironflow/node"
import { createDeferred } from "@ironflow/node/core"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"

interface Total {
  readonly total: number
}

const totals = createProjection({
  name: "totals",
  events: ["order.placed"],
  initialState: (): Total => ({ total: 0 }),
  handler: (state, event) => ({ total: state.total + event.data.amount })
})

const spending = createProjection({
  name: "spending",
  events: ["order.placed"],
  partitionKey: "$.data.customer",
  initialState: (): Total => ({ total: 0 }),
  handler: (state, event) => ({ total: state.total + event.data.amount })
})

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const open = async (transport: "memory" | "http", filename = ":memory:", port = 0) => {
  const engine = await startEngine({
    filename,
    projections: [totals, spending],
    logger: false,
    ...(transport === "http" ? { listen: { port } } : {})
  })
  cleanups.push(() => engine.close())
  const client = engine.url === undefined ? engine.client : createClient({ serverUrl: engine.url })
  if (engine.url !== undefined) cleanups.push(() => client.close())
  return { engine, client }
}

/** Emits an event, and waits until the projections have it. */
const place = async ({ client }: IronflowEngine, amount: number, customer = "ada"): Promise<number> => {
  const { position = 0 } = await client.emit("order.placed", { amount, customer })
  for (const name of ["totals", "spending"])
    await client.projections.waitForCatchup(name, { after: position })
  return position
}

const follow = async (client: IronflowClient, name: string, options = {}) => {
  const seen: Array<ProjectionStateResult<Total>> = []
  const errors: Array<Error> = []
  const subscription = client.projections.subscribe<Total>(
    name,
    { onUpdate: (update) => void seen.push(update), onError: (error) => void errors.push(error) },
    options
  )
  cleanups.push(() => subscription.stop())
  await subscription.ready
  return { seen, errors, subscription }
}

const rejection = async (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    () => assert.fail("expected a rejection"),
    (error: unknown) => error
  )

describe.for(["memory", "http"] as const)("a subscription to a projection over %s", (transport) => {
  it("delivers what get() returns, once for each change", async () => {
    const { client, engine } = await open(transport)
    await place(engine, 1)
    const { seen } = await follow(client, "totals")

    const position = await place(engine, 2)
    await vi.waitFor(() => assert.lengthOf(seen, 1))

    assert.deepStrictEqual(seen[0], await client.projections.get("totals"))
    assert.deepStrictEqual([seen[0]?.state, seen[0]?.lastEventSeq], [{ total: 3 }, position])
  })

  it("delivers every partition, or one", async () => {
    const { client, engine } = await open(transport)
    await place(engine, 1, "ada")
    const all = await follow(client, "spending", { includeCurrent: true })
    const one = await follow(client, "spending", { partition: "b.*.c" })
    await place(engine, 2, "ada")
    await place(engine, 3, "b.*.c")
    await place(engine, 4, "b.x.c")

    await vi.waitFor(() => {
      assert.includeMembers(
        all.seen.map(({ partition, state }) => `${partition} ${state.total}`),
        ["ada 1", "ada 3", "b.*.c 3", "b.x.c 4"]
      )
    })
    assert.deepStrictEqual(
      one.seen.map(({ partition, state }) => [partition, state.total]),
      [["b.*.c", 3]]
    )
  })

  it("can be iterated over, and ends with the loop", async () => {
    const { client, engine } = await open(transport)
    await place(engine, 1)
    const subscription = client.projections.subscribe<Total>("totals", { includeCurrent: true })
    const seen: Array<number> = []
    for await (const { state } of subscription) {
      seen.push(state.total)
      if (seen.length === 2) break
      await place(engine, 1)
    }

    assert.deepStrictEqual(seen, [1, 2])
  })

  it("skips old states for slow consumers, and never goes back", async () => {
    const { client, engine } = await open(transport)
    const seen = new Map<string, Array<number>>()
    const gate = createDeferred<void>()
    const subscription = client.projections.subscribe<Total>("spending", {
      onUpdate: async ({ partition, state }) => {
        seen.set(partition, [...(seen.get(partition) ?? []), state.total])
        await gate.promise
      }
    })
    cleanups.push(() => subscription.stop())
    await subscription.ready
    await place(engine, 1, "c-0")
    await vi.waitFor(() => assert.isTrue(seen.has("c-0")))

    // more partitions than are buffered, each changed many times
    for (let round = 0; round < 10; round++) {
      await Promise.all(
        Array.from({ length: 150 }, (_, i) =>
          engine.client.emit("order.placed", { amount: 1, customer: `c-${i}` })
        )
      )
    }
    await place(engine, 0, "last")
    gate.resolve()
    await vi.waitFor(
      () => {
        assert.strictEqual(seen.size, 151)
        assert.isTrue([...seen].every(([partition, values]) => partition === "last" || values.at(-1)! >= 10))
      },
      { timeout: 5000 }
    )

    for (const [partition, values] of seen) {
      expect(values, partition).toEqual(values.toSorted((a, b) => a - b))
      assert.isAtMost(values.length, 4, partition)
    }
    assert.strictEqual(seen.get("c-0")?.at(-1), 11)
  })

  it("delivers every state again after a rebuild, and none during it", async () => {
    const { client, engine } = await open(transport)
    for (const customer of ["ada", "bob"]) await place(engine, 1, customer)
    const total = await follow(client, "totals")
    const all = await follow(client, "spending")
    const one = await follow(client, "spending", { partition: "bob" })

    for (const name of ["totals", "spending"]) await client.projections.rebuild(name)

    await vi.waitFor(() => {
      assert.deepStrictEqual(new Set(total.seen.map(({ state }) => state.total)), new Set([2]))
      assert.deepStrictEqual(new Set(all.seen.map(({ partition }) => partition)), new Set(["ada", "bob"]))
      assert.deepStrictEqual(new Set(one.seen.map(({ partition }) => partition)), new Set(["bob"]))
    })
    assert.isTrue(total.seen.every(({ status }) => status === "active"))
  })

  it("continues after the projection was deleted and created again", async () => {
    const { client, engine } = await open(transport)
    for (let i = 0; i < 3; i++) await place(engine, 1)
    const { seen } = await follow(client, "totals")

    await client.projections.delete("totals")
    await vi.waitFor(() => client.projections.get("totals"), { timeout: 5000 })
    await place(engine, 1)

    await vi.waitFor(() => assert.strictEqual(seen.at(-1)?.state.total, 4))
  })

  it("is refused for a missing projection, and for one without state", async () => {
    const { client, engine } = await open(transport)
    const mails = createProjection({
      name: "mails",
      events: ["order.placed"],
      handler: async () => undefined
    })
    const worker = engine.createWorker({ functions: [], projections: [mails], logger: createNoopLogger() })
    const working = worker.start()
    cleanups.push(async () => {
      await worker.stop()
      await working
    })
    await worker.ready()

    const missing = await rejection(client.projections.subscribe("nothing").ready)
    const external = await rejection(client.projections.subscribe("mails").ready)
    const invalid = await rejection(client.projections.subscribe("a b").ready)

    assert.instanceOf(missing, ProjectionNotFoundError)
    assert.strictEqual(external.code, "INVALID_STATE")
    assert.match(external.message, /"mails" is external: it has no state/)
    assert.strictEqual(invalid.code, "VALIDATION_ERROR")
  })
})

it("a subscription delivers changes that were made while its server was away", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ironflow-"))
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  const filename = join(folder, "ironflow.db")
  const first = await open("http", filename)
  for (const customer of ["ada", "bob"]) await place(first.engine, 1, customer)
  const { client } = first
  const all = await follow(client, "spending")
  const unchanged = await follow(client, "spending", { partition: "ada" })
  const total = await follow(client, "totals", { partition: "__global__" })
  const port = Number(new URL(first.engine.url!).port)
  await first.engine.close()

  const offline = await startEngine({ filename, projections: [totals, spending], logger: false })
  await place(offline, 5, "bob")
  await offline.close()
  const second = await open("http", filename, port)
  await vi.waitFor(
    () => {
      assert.deepStrictEqual(
        all.seen.map(({ partition, state }) => [partition, state.total]),
        [["bob", 6]]
      )
      assert.deepStrictEqual(
        total.seen.map(({ state }) => state.total),
        [7]
      )
    },
    { timeout: 8000 }
  )
  await place(second.engine, 1, "ada")

  await vi.waitFor(() =>
    assert.deepStrictEqual(
      unchanged.seen.map(({ state }) => state.total),
      [2]
    )
  )
  assert.deepStrictEqual([...all.errors, ...unchanged.errors, ...total.errors], [])
}, 15_000)
