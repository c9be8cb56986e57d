/**
 * The subscription client over sockets: states of the connection, reconnecting without a gap, and errors that affect only
 * their own subscription.
 */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import {
  createClient,
  createEventDefinitionRegistry,
  createSubscriptionClient,
  defineEvent,
  type SubscriptionErrorInfo
} from "@ironflow/node"
import { expect, test, vi } from "vitest"
import { EngineServer } from "../Client/EngineServer.ts"
import { nodeArguments } from "../Built.ts"

const quick = { reconnectDelay: 10, maxReconnectDelay: 50 } as const

test("no event arrives before subscribe() returns, and a handler that throws affects no other", async () => {
  await using server = await EngineServer.start()
  await using client = createClient({ serverUrl: server.url })
  using sub = createSubscriptionClient({ serverUrl: server.url })
  await sub.connect()
  for (let i = 0; i < 3; i++) await client.emit("order.placed", { i })
  const errors: Array<SubscriptionErrorInfo> = []
  const seen: Array<number> = []

  const subscription = await sub.subscribe("events:order.*", {
    replay: 3,
    onEvent: ({ data }) => {
      seen.push(data.i)
      expect(subscription.id).toMatch(/^sub_/)
      if (data.i === 1) throw new Error("cannot handle 1")
      if (data.i === 2) return Promise.reject(new Error("cannot handle 2"))
      return undefined
    },
    onError: (error) => errors.push(error)
  })

  expect(seen).toEqual([])
  await vi.waitFor(() => expect(errors).toHaveLength(2))
  expect(seen).toEqual([0, 1, 2])
  expect(errors.map(({ code, message }) => [code, message])).toEqual([
    ["HANDLER_ERROR", "cannot handle 1"],
    ["HANDLER_ERROR", "cannot handle 2"]
  ])
})

test("a client reconnects to a restarted engine, and misses nothing", async () => {
  await using server = await EngineServer.start()
  using sub = createSubscriptionClient({ serverUrl: server.url, ...quick })
  const states: Array<string> = []
  sub.onConnectionChange((state) => states.push(state))
  await sub.connect()
  const seen: Array<number> = []
  const delivered = new Set<number>()
  const acked = new Set<number>()
  const again: Array<number> = []
  const { id } = await sub.subscribe("events:order.*", { onEvent: ({ data }) => seen.push(data.i) })
  const group = await sub.subscribe("events:>", {
    consumerGroup: "packers",
    ackMode: "manual",
    onEvent: async ({ data, eventId }) => {
      if (acked.has(data.i)) again.push(data.i)
      delivered.add(data.i)
      // an ack that is lost with the connection may have been stored, and then the event does not come again
      await group.ack(eventId!)
      acked.add(data.i)
    },
    onError: () => undefined
  })

  for (let round = 0; round < 3; round++) {
    await using client = createClient({ serverUrl: server.url })
    for (let i = 0; i < 20; i++) await client.emit("order.placed", { i: round * 20 + i })
    await server.stop()
    await server.start()
  }

  const all = Array.from({ length: 60 }, (_, i) => i)
  await vi.waitFor(() => expect(seen).toEqual(all), 10_000)
  await vi.waitFor(() => expect([...delivered].toSorted((a, b) => a - b)).toEqual(all), 10_000)
  expect(again).toEqual([])
  expect(group.pattern).toBe("events:>")
  expect(id).toMatch(/^sub_/)
  expect(states.slice(0, 6)).toEqual([
    "connecting",
    "connected",
    "disconnected",
    "reconnecting",
    "connecting",
    expect.anything()
  ])
})

test("connecting without a server fails, and continues in the background", async () => {
  const server = await EngineServer.start()
  await server.stop()
  using sub = createSubscriptionClient({ serverUrl: server.url, ...quick })

  await expect(sub.connect()).rejects.toMatchObject({ code: "CONNECTION_LOST" })
  await expect(sub.subscribe("events:>")).rejects.toMatchObject({ code: "NOT_CONNECTED" })
  await server.start()
  await vi.waitFor(() => expect(sub.isConnected).toBe(true), 5000)

  await sub.subscribe("events:>")
  await expect(sub.subscribe("events:>")).rejects.toMatchObject({ code: "ALREADY_SUBSCRIBED" })
  sub.close()
  await expect(sub.connect()).rejects.toMatchObject({ code: "CLOSED" })
  await server[Symbol.asyncDispose]()
})

test("a stream ends its subscription when the loop is left", async () => {
  await using server = await EngineServer.start()
  await using client = createClient({ serverUrl: server.url })
  using sub = createSubscriptionClient({ serverUrl: server.url })
  for (let i = 0; i < 3; i++) await client.publish("news", { i })
  const seen: Array<number> = []

  for await (const { data } of sub.stream("topic:news", { replay: 3 })) {
    seen.push(data.i)
    if (data.i === 1) break
  }

  expect(seen).toEqual([0, 1])
  await vi.waitFor(async () => expect((await client.getTopicStats("news")).consumerCount).toBe(0))
})

test("events of older versions are upcast, and an event that cannot be upcast affects no other", async () => {
  await using server = await EngineServer.start()
  await using client = createClient({ serverUrl: server.url })
  const eventDefinitions = createEventDefinitionRegistry()
  eventDefinitions.register(defineEvent({ name: "order.placed", version: 1 }))
  eventDefinitions.register(
    defineEvent({
      name: "order.placed",
      version: 2,
      upcast: (data: any) => {
        if (data.amount === 13) throw new Error("thirteen")
        return { cents: data.amount * 100 }
      }
    })
  )
  using sub = createSubscriptionClient({ serverUrl: server.url, eventDefinitions })
  await sub.connect()
  const seen: Array<unknown> = []
  const errors: Array<SubscriptionErrorInfo> = []
  await sub.subscribe(">", { onEvent: ({ data }) => seen.push(data), onError: (error) => errors.push(error) })

  await client.emit("order.placed", { amount: 5 }, { version: 1 })
  await client.emit("order.placed", { amount: 13 }, { version: 1 })
  await client.emit("order.placed", { cents: 700 }, { version: 2 })
  // messages have no versions, so they are not upcast
  await client.publish("order.placed", { amount: 9 })

  await vi.waitFor(() => expect(seen).toEqual([{ cents: 500 }, { cents: 700 }, { amount: 9 }]))
  expect(errors.map(({ code, message }) => [code, message])).toEqual([["HANDLER_ERROR", "thirteen"]])
})

test("a process whose clients are closed ends, and does not wait for their timers", async () => {
  const program = `
    import { createSubscriptionClient } from "@ironflow/node"
    import { startEngine } from "@ironflow/node/engine"
    const engine = await startEngine({ filename: ":memory:", logger: false })
    const sub = createSubscriptionClient({ engine })
    await sub.connect()
    sub.close()
    await engine.close()
    console.log(Date.now())`
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...nodeArguments(),
    "--input-type=module",
    "--eval",
    program
  ])

  // the client would have waited ten seconds for its connection
  expect(Date.now() - Number(stdout)).toBeLessThan(5000)
})
