import {
  createClient,
  createFunction,
  createProjection,
  createSubscriptionClient,
  createWorker
} from "@ironflow/node"
import { Client, Kv, Projections, Streams, Testing } from "@ironflow/node/effect"
import { createTestEngine } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { describe, expect, test, vi } from "vitest"

const totals = () =>
  createProjection({
    name: "totals",
    events: ["order.placed"],
    initialState: () => ({ count: 0 }),
    handler: ({ count }) => ({ count: count + 1 })
  })

describe("the client of a test engine has", () => {
  test("streams, which step.tx writes to", async () => {
    await using engine = await createTestEngine({
      functions: [
        createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
          await step.tx("note", (tx) =>
            tx.streams.append("o-1", { name: "order.noted", entityType: "order" })
          )
        })
      ]
    })
    await engine.client.streams.append("o-1", { name: "order.opened", entityType: "order" })
    await engine.client.emit("order.placed", {})
    await engine.advance("1h")
    await engine.runUntilIdle()

    const names: Array<string> = []
    for await (const { name } of engine.client.streams.events("o-1")) names.push(name)
    expect(names).toEqual(["order.opened", "order.noted"])
  })

  test("kv, whose entries expire with virtual time, and config", async () => {
    await using engine = await createTestEngine()
    const kv = engine.client.kv()
    await kv.createBucket({ name: "sessions", ttlSeconds: 3600 })
    const bucket = kv.bucket("sessions")
    await bucket.put("ada", { name: "Ada" })
    expect((await bucket.get("ada")).value).toEqual({ name: "Ada" })
    expect((await bucket.get("ada")).created_at).toMatch(/^2030-01-01T00:00:00/)
    await engine.advance("2h")
    await expect(bucket.get("ada")).rejects.toMatchObject({ code: "KEY_NOT_FOUND" })

    await engine.client.config().set("limits", { most: 3 })
    expect((await engine.client.config().get("limits")).data).toEqual({ most: 3 })
    expect(await engine.client.pushEndpoints.list()).toEqual([])
  })

  test("projections, which are up to date when the engine has settled", async () => {
    await using engine = await createTestEngine({ projections: [totals()] })
    for (let i = 0; i < 3; i++) await engine.client.emit("order.placed", {})
    await engine.settle()

    expect(await engine.client.projections.get("totals")).toMatchObject({ state: { count: 3 } })
  })

  test("a projection whose handler fails is retried as virtual time passes", async () => {
    const at: Array<Date> = []
    await using engine = await createTestEngine()
    await engine.startWorker({
      functions: [],
      projections: [
        createProjection({
          name: "mails",
          events: ["order.placed"],
          mode: "external",
          maxRetries: 2,
          handler: async () => {
            // this wait takes real time, and settling waits for it
            await new Promise((resolve) => setTimeout(resolve, 5))
            at.push(await engine.now())
            if (at.length < 3) throw new Error("the mail server is down")
          }
        })
      ]
    })
    await engine.client.emit("order.placed", {})
    await engine.settle()
    expect(at).toHaveLength(1)
    expect(await engine.client.projections.status("mails")).toMatchObject({ status: "error" })
    await engine.advance("10m")

    expect(at).toHaveLength(3)
    const [first = new Date(), second = new Date(), third = new Date()] = at
    expect(second.getTime() - first.getTime()).toBeGreaterThanOrEqual(1000)
    expect(third.getTime() - first.getTime()).toBeLessThan(600_000)
    expect(await engine.client.projections.status("mails")).toMatchObject({ status: "active", lag: 0 })
  })

  test("subscriptions, other clients and other workers", async () => {
    await using engine = await createTestEngine()
    const subscriptions = createSubscriptionClient({ engine })
    await subscriptions.connect()
    const seen: Array<string> = []
    await subscriptions.subscribe("events:order.*", { onEvent: (event) => void seen.push(event.topic) })
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.sleep("week", "7d")
      return "done"
    })
    const worker = createWorker({ engine, functions: [order], logger: false })
    const stopped = worker.start()
    await worker.ready()
    await using client = createClient({ engine })
    const { runIds } = await client.emit("order.placed", {})

    expect(await engine.runToEnd(runIds[0] ?? "")).toMatchObject({ output: "done" })
    await vi.waitFor(() => expect(seen).toHaveLength(1))
    await engine.close()
    await stopped
    await expect(client.listRuns()).rejects.toMatchObject({ code: "CLOSED" })
  })

  test("closing does not wait for a step that never ends, no matter how its worker was started", async () => {
    const engine = await createTestEngine()
    let begun = 0
    const stuck = (id: string) =>
      createFunction({ id, triggers: [{ event: "order.placed" }] }, ({ step }) =>
        step.run("never", () => (begun++, new Promise(() => undefined)))
      )
    await engine.startWorker({ functions: [stuck("a")] })
    const worker = createWorker({ engine, functions: [stuck("b")], logger: false })
    const stopped = worker.start()
    await worker.ready()
    await engine.client.emit("order.placed", {})
    await vi.waitFor(() => expect(begun).toBe(2))
    await engine.close()
    await stopped
    await engine.close()
  })
})

test("the Effect layers have the same services, with projections, on virtual time", async () => {
  const program = Effect.gen(function* () {
    const client = yield* Client.Client
    const streams = yield* Streams.Streams
    const kv = yield* Kv.Kv
    const projections = yield* Projections.Projections
    const engine = yield* Testing.TestEngine
    yield* client.emit("order.placed", {})
    yield* streams.append("o-1", { name: "order.opened", entityType: "order" })
    yield* kv.createBucket({ name: "sessions", ttlSeconds: 60 })
    yield* kv.bucket("sessions").put("ada", 1)
    yield* engine.advance("1d")
    return {
      events: yield* Stream.runCollect(streams.events("o-1")),
      keys: yield* kv.bucket("sessions").listKeys(),
      state: (yield* projections.get("totals", { timeout: 60_000 })).state
    }
  })
  const { events, keys, state } = await Effect.runPromise(
    Effect.provide(program, Testing.layer({ projections: [totals()] }))
  )

  expect(events.map(({ name, timestamp }) => [name, new Date(timestamp).getUTCFullYear()])).toEqual([
    ["order.opened", 2030]
  ])
  expect(keys).toEqual([])
  expect(state).toEqual({ count: 1 })
})
