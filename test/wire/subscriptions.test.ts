/** `/ws` as a legacy client uses it: a raw socket, frames as text. It shares no code with the package. */
import { once } from "node:events"
import http from "node:http"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest"
import { WebSocket as SlowSocket } from "ws"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc, send } from "./RawClient.ts"

// oxlint-disable-next-line typescript/no-explicit-any -- the tests check the frames
type Frame = any

class RawSubscriber {
  readonly frames: Array<Frame> = []
  readonly socket: WebSocket
  closeCode: number | undefined

  private constructor(url: string) {
    this.socket = new WebSocket(`${url.replace("http", "ws")}/ws?env=default`)
    this.socket.addEventListener("message", ({ data }) => this.frames.push(JSON.parse(String(data))))
    this.socket.addEventListener("close", ({ code }) => (this.closeCode = code))
  }

  static async open(url: string): Promise<RawSubscriber> {
    const subscriber = new RawSubscriber(url)
    await new Promise((resolve, reject) => {
      subscriber.socket.addEventListener("open", resolve)
      subscriber.socket.addEventListener("error", reject)
    })
    return subscriber
  }

  send(frame: unknown): void {
    this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame))
  }

  of(type: string): Array<Frame> {
    return this.frames.filter((frame) => frame.type === type)
  }

  async subscribe(pattern: string, options?: object): Promise<Frame> {
    const before = this.of("subscription_result").length
    this.send({ type: "subscribe", subscription: { pattern, ...(options === undefined ? {} : { options }) } })
    await vi.waitFor(() => expect(this.of("subscription_result")).toHaveLength(before + 1))
    return this.of("subscription_result").at(-1).results[0]
  }
}

let server: Ironflow
beforeEach(async () => {
  server = await start()
})
afterEach(() => server.close())

const emit = (name: string, data: object) => rpc(server.url, "Trigger", { event: name, data })

describe("a legacy client", () => {
  test("gets a result by pattern and events without fields that it does not know", async () => {
    const subscriber = await RawSubscriber.open(server.url)
    const result = await subscriber.subscribe("events:order.*", { includeMetadata: true })
    await emit("order.placed", { orderId: "o-1" })

    await vi.waitFor(() => expect(subscriber.of("event")).toHaveLength(1))

    expect(result).toEqual({ pattern: "events:order.*", status: "ok", subscriptionId: expect.any(String) })
    expect(subscriber.of("event")[0]).toEqual({
      type: "event",
      subscriptionId: result.subscriptionId,
      topic: "order.placed",
      data: { orderId: "o-1" },
      meta: { timestamp: expect.any(String), sequence: 1 },
      eventId: expect.stringMatching(/^evt_/)
    })
  })

  test("gets the same subscription id for the same pattern on every connection", async () => {
    const one = await RawSubscriber.open(server.url)
    const other = await RawSubscriber.open(server.url)

    expect((await one.subscribe("topic:news")).subscriptionId).toBe(
      (await other.subscribe("topic:news")).subscriptionId
    )
  })

  test("gets the states of projections and the data of configurations as they change", async () => {
    const call = (method: string, body: object) => rpc(server.url, method, body, "ProjectionService")
    await call("RegisterProjection", { name: "totals", events: ["order.*"], mode: "managed" })
    const subscriber = await RawSubscriber.open(server.url)
    const states = await subscriber.subscribe("system.projection.totals.>")
    const configs = await subscriber.subscribe("system.config.limits.*")
    await emit("order.placed", { amount: 5 })
    const { body } = await call("PollProjectionEvents", { name: "totals" })
    const [{ id, seq }] = body.events
    await call("SaveProjectionState", {
      name: "totals",
      state: { total: 5 },
      lastEventId: id,
      lastEventSeq: seq
    })
    const config = (method: string, data?: object) => send(server.url, method, "/api/v1/config/limits", data)
    await config("POST", { max: 1 })
    await config("PATCH", { min: 0 })
    await config("DELETE")
    await config("DELETE")

    await vi.waitFor(() => expect(subscriber.of("event")).toHaveLength(4))
    const [first, ...rest] = subscriber.of("event")
    const time = expect.stringMatching(/^\d{4}-.*Z$/)

    expect(first).toMatchObject({
      subscriptionId: states.subscriptionId,
      topic: "system.projection.totals.__global__.updated",
      data: {
        name: "totals",
        partition: "__global__",
        state: { total: 5 },
        last_event_id: id,
        last_event_name: "order.placed",
        last_event_seq: Number(seq),
        last_event_time: time,
        version: 1,
        mode: "managed",
        status: "active",
        cursor: expect.any(String),
        updated_at: time
      }
    })
    expect(rest.map(({ data, subscriptionId, topic }) => [subscriptionId, topic, data])).toEqual(
      [
        ["updated", { name: "limits", data: { max: 1 }, revision: 1, updatedAt: time }],
        ["updated", { name: "limits", data: { max: 1, min: 0 }, revision: 2, updatedAt: time }],
        ["deleted", { name: "limits", revision: 3, updatedAt: time }]
      ].map(([what, data]) => [configs.subscriptionId, `system.config.limits.${what}`, data])
    )
  })

  test("that resumes a subscription to states gets a notice that some may be missing", async () => {
    await rpc(
      server.url,
      "RegisterProjection",
      { name: "totals", events: ["order.*"], mode: "managed" },
      "ProjectionService"
    )
    const pattern = "system.projection.totals.>"
    const first = await RawSubscriber.open(server.url)
    first.send({ type: "subscribe", subscription: { pattern, resume: {} } })
    await vi.waitFor(() => expect(first.of("subscription_result")).toHaveLength(1))
    const { position } = first.of("subscription_result")[0].results[0]
    first.socket.close(1000)
    await vi.waitFor(() => expect(first.closeCode).toBe(1000))

    const second = await RawSubscriber.open(server.url)
    second.send({ type: "subscribe", subscription: { pattern, resume: { after: position } } })

    await vi.waitFor(() => expect(second.of("subscription_error")).toHaveLength(1))
    expect(second.of("subscription_error")[0]).toMatchObject({ code: "EVENTS_DROPPED", retrying: true })
  })

  test("shares a group, and an event that it naks or still holds when it leaves is delivered again", async () => {
    const one = await RawSubscriber.open(server.url)
    const options = { consumerGroup: "packers", ackMode: "manual" }
    await one.subscribe("events:order.*", options)
    await emit("order.placed", { i: 1 })
    await vi.waitFor(() => expect(one.of("event")).toHaveLength(1))
    const { eventId } = one.of("event")[0]
    one.send({ type: "ack", eventId, ackType: "nak", redeliverDelay: 0 })
    await vi.waitFor(() => expect(one.of("event")).toHaveLength(2))

    const other = await RawSubscriber.open(server.url)
    await other.subscribe("events:order.*", options)
    one.socket.close(1000)
    await vi.waitFor(() => expect(other.of("event")).toHaveLength(1))
    other.send({ type: "ack", eventId, ackType: "ack" })
    other.send({ type: "ack", eventId, ackType: "ack" })

    await vi.waitFor(() => expect(other.of("error").map(({ code }) => code)).toEqual(["NOT_HELD"]))
  })

  test("gets an error for a bad frame, and continues", async () => {
    const subscriber = await RawSubscriber.open(server.url)
    const wrong: Array<[unknown, string]> = [
      ["{", "INVALID_MESSAGE"],
      ["[]", "INVALID_MESSAGE"],
      [{ type: "nonsense" }, "INVALID_MESSAGE"],
      ["x".repeat(70_000), "LIMIT_EXCEEDED"],
      [{ type: "unsubscribe", subscriptionId: "sub_foreign" }, "UNKNOWN_SUBSCRIPTION"],
      [{ type: "ack", eventId: "evt_foreign", ackType: "ack" }, "NOT_HELD"],
      [{ type: "ack", eventId: 5 }, "INVALID_MESSAGE"]
    ]
    for (const [frame] of wrong) subscriber.send(frame)

    await vi.waitFor(() =>
      expect(subscriber.of("error").map(({ code }) => code)).toEqual(wrong.map(([, code]) => code))
    )
    expect(await subscriber.subscribe("events:a..b")).toMatchObject({
      status: "error",
      code: "INVALID_PATTERN"
    })
    expect(await subscriber.subscribe("events:a", { filter: "event.(" })).toMatchObject({
      status: "error",
      code: "VALIDATION_ERROR"
    })
    // the word in what a client sent says nothing about the pattern
    for (const options of [{ filter: "event.data.pattern ==" }, { ackMode: "pattern" }]) {
      expect(await subscriber.subscribe("events:a", options)).toMatchObject({
        status: "error",
        code: "VALIDATION_ERROR"
      })
    }
    expect(await subscriber.subscribe("events:a")).toMatchObject({ status: "ok" })
    expect(await subscriber.subscribe("events:a")).toMatchObject({
      status: "error",
      code: "ALREADY_SUBSCRIBED"
    })
  })

  test("may have 1000 subscriptions, and no more", async () => {
    const subscriber = await RawSubscriber.open(server.url)
    for (let i = 0; i <= 1000; i++)
      subscriber.send({ type: "subscribe", subscription: { pattern: `topic:t${i}` } })
    await vi.waitFor(() => expect(subscriber.of("subscription_result")).toHaveLength(1001), 10_000)

    const refused = subscriber
      .of("subscription_result")
      .flatMap(({ results }) => results.filter((r: Frame) => r.status !== "ok"))
    expect(refused).toEqual([expect.objectContaining({ pattern: "topic:t1000", code: "LIMIT_EXCEEDED" })])
  })

  test("gets topics with their numbers as strings", async () => {
    const subscriber = await RawSubscriber.open(server.url)
    await subscriber.subscribe("topic:news")
    await rpc(server.url, "Publish", { topic: "news", data: {} }, "PubSubService")

    expect((await rpc(server.url, "ListTopics", {}, "PubSubService")).body).toEqual({
      topics: [
        {
          name: "news",
          messageCount: "1",
          consumerCount: 1,
          firstMessageAt: expect.any(String),
          lastMessageAt: expect.any(String)
        }
      ]
    })
    expect((await rpc(server.url, "GetTopicStats", { topic: "news" }, "PubSubService")).body).toEqual({
      name: "news",
      messageCount: "1",
      consumerCount: 1,
      lag: "0",
      firstSeq: "1",
      lastSeq: "1"
    })
  })

  test("cannot be a page of another site", async () => {
    const requestUpgrade = (origin: string) =>
      new Promise<number | undefined>((resolve, reject) => {
        const request = http.request(`${server.url}/ws`, {
          headers: {
            connection: "Upgrade",
            upgrade: "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": Buffer.alloc(16).toString("base64"),
            origin
          }
        })
        request.on("upgrade", ({ statusCode }, socket) => {
          socket.destroy()
          resolve(statusCode)
        })
        request.on("response", (response) => resolve(response.resume().statusCode))
        request.on("error", reject)
        request.end()
      })

    for (const origin of ["https://example.com", "https://localhost.example.com", "null"]) {
      expect(await requestUpgrade(origin)).toBe(403)
    }
    expect(await requestUpgrade("http://localhost:3000")).toBe(101)
  })

  test("that stops reading gets a notice when it reads again, and misses no event", async () => {
    const subscriber = await RawSubscriber.open(server.url)
    const slow = new SlowSocket(`${server.url.replace("http", "ws")}/ws`)
    const frames: Array<Frame> = []
    slow.on("message", (data) => frames.push(JSON.parse(String(data))))
    await once(slow, "open")
    slow.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "events:big" } }))
    await once(slow, "message")
    slow.pause()
    await subscriber.subscribe("events:big")
    // more than the buffers at both ends of a connection can take
    const count = 200
    for (let i = 0; i < count; i++) await emit("big", { i, text: "x".repeat(100_000) })
    await vi.waitFor(() => expect(subscriber.of("event")).toHaveLength(count), 30_000)
    slow.resume()

    await vi.waitFor(() => expect(frames.filter(({ type }) => type === "event")).toHaveLength(count), 30_000)
    expect(frames.flatMap(({ data, type }) => (type === "event" ? [data.i] : []))).toEqual(
      Array.from({ length: count }, (_, i) => i)
    )
    expect(frames.filter(({ type }) => type === "subscription_error")[0]).toMatchObject({
      code: "SLOW_CONSUMER",
      retrying: true
    })
    slow.terminate()
  }, 60_000)
})

describe("a connection with a small buffer", () => {
  const messages = 200
  let engine: IronflowEngine
  beforeEach(async () => {
    engine = await startEngine({ filename: ":memory:", listen: { port: 0 }, logger: false })
  })
  afterEach(() => engine.close())

  const subscribe = async (options: object): Promise<RawSubscriber> => {
    const subscriber = await RawSubscriber.open(engine.url!)
    expect(await subscriber.subscribe("topic:news", options)).toMatchObject({ status: "ok" })
    return subscriber
  }
  /** Publishes in one commit, so that all messages are stored before the client can read the first. */
  const publishAll = (bytes: number) =>
    Promise.all(
      Array.from({ length: messages }, (_, i) =>
        engine.client.publish("news", { i, text: "x".repeat(bytes) })
      )
    )
  const numbers = (subscriber: RawSubscriber): ReadonlySet<number> =>
    new Set(subscriber.of("event").map(({ data }) => data.i))
  const dropped = (subscriber: RawSubscriber): number =>
    subscriber
      .of("subscription_error")
      .filter(({ code }) => code === "EVENTS_DROPPED")
      .reduce((sum, { message }) => sum + Number.parseInt(message), 0)

  test("that drops events reports every dropped one", async () => {
    const subscriber = await subscribe({ backpressure: "drop", buffer: { maxBytes: 1024 } })
    await publishAll(20_000)

    await vi.waitFor(() => expect(numbers(subscriber).size + dropped(subscriber)).toBe(messages), 5000)
  })

  test("that drops events before an ack reports that before the next event", async () => {
    const subscriber = await subscribe({ backpressure: "drop", ackMode: "manual" })
    await publishAll(10)
    await vi.waitFor(() => expect(numbers(subscriber).size).toBe(100))

    const [first] = subscriber.of("event")
    subscriber.send({ type: "ack", ackType: "ack", eventId: first.eventId })

    await vi.waitFor(() => expect(dropped(subscriber)).toBe(messages - 100))
  })

  test.each(["block", "buffer"])("with backpressure %s delivers everything", async (backpressure) => {
    const subscriber = await subscribe({ backpressure, buffer: { maxBytes: 1024 } })
    await publishAll(20_000)

    await vi.waitFor(() => expect(numbers(subscriber).size).toBe(messages), 5000)
  })

  test("of a group's member delivers everything", async () => {
    const subscriber = await subscribe({ consumerGroup: "readers", buffer: { maxBytes: 1024 } })
    await publishAll(20_000)

    await vi.waitFor(() => expect(numbers(subscriber).size).toBe(messages), 5000)
  })
})
