/** Subscriptions over ConnectRPC, the default of legacy browser clients: with raw requests, and with Connect's client. */
import { createClient as createConnectClient } from "@connectrpc/connect"
import { createConnectTransport } from "@connectrpc/connect-node"
import { createFileRegistry, fromJson } from "@bufbuild/protobuf"
import { file_google_protobuf_struct, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt"
import { createSubscriptionClient } from "@ironflow/node"
import { once } from "node:events"
import http from "node:http"
import http2 from "node:http2"
import https from "node:https"
import type { Readable } from "node:stream"
import { afterEach, assert, beforeEach, describe, expect, it, vi } from "vitest"
import { makeCertificate } from "./Certificate.ts"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc } from "./RawClient.ts"
import { type EventsOptions, RawEvents, STREAM } from "./RawEvents.ts"
import { envelope } from "./RawStream.ts"

let server: Ironflow
let opened: Array<Disposable> = []
beforeEach(async () => {
  server = await start()
})
afterEach(async () => {
  for (const one of opened) one[Symbol.dispose]()
  opened = []
  await server.close()
})

const emit = (name: string, data: unknown, more: object = {}) =>
  rpc(server.url, "Trigger", { event: name, data, ...more })
const publish = (topic: string, data: unknown) => rpc(server.url, "Publish", { topic, data }, "PubSubService")
const append = (data: object, more: object = {}) =>
  rpc(
    server.url,
    "AppendEvent",
    { entityId: "o-1", entityType: "order", eventName: "order.placed", data, ...more },
    "EntityStreamService"
  )
const pubSub = (method: string, body: object) => rpc(server.url, method, body, "PubSubService")

const open = async (message: object, options?: EventsOptions): Promise<RawEvents> => {
  const events = await RawEvents.open(server.url, message, options)
  opened.push(events)
  return events
}

const consumers = async (topic: string): Promise<number> =>
  (await pubSub("GetTopicStats", { topic })).body.consumerCount

/** Waits until a topic has so many subscribers. The topic needs a message: `GetTopicStats` knows no topic without one. */
const subscribed = async (topic: string, count = 1): Promise<void> => {
  await vi.waitFor(async () => assert.strictEqual(await consumers(topic), count))
}

describe.each([
  ["HTTP/1.1", RawEvents.open],
  ["HTTP/2", RawEvents.openHttp2]
])("over %s", (_, openStream) => {
  it("events arrive as they happen, each in an envelope", async () => {
    using events = await openStream(server.url, {
      pattern: "events:order.*",
      options: { includeMetadata: true }
    })
    await emit("order.placed", { orderId: "o-1" }, { metadata: { by: "me" } })
    await emit("order.paid", { orderId: "o-1" })
    const [first, second] = await events.take(2)

    assert.deepStrictEqual([events.status, events.headers.get("content-type")], [200, STREAM])
    expect(first).toEqual({
      subscriptionId: expect.stringMatching(/^sub_/),
      eventId: expect.stringMatching(/^evt_/),
      topic: "order.placed",
      data: { orderId: "o-1" },
      metadata: {
        timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
        namespace: "default",
        custom: { by: "me" }
      },
      sequence: "1",
      deliveryAttempt: 1
    })
    assert.deepStrictEqual([second.topic, second.sequence], ["order.paid", "2"])
  })

  it("errors are in the last envelope, with status 200", async () => {
    using events = await openStream(server.url, { pattern: "events:a..b" })

    assert.strictEqual(await events.over(), "invalid_argument")
    assert.strictEqual(events.status, 200)
  })

  it("a client that closes the connection has no subscription any more", async () => {
    await publish("news", {})
    const events = await openStream(server.url, { pattern: "topic:news" })
    await subscribed("news")

    events[Symbol.dispose]()

    await subscribed("news", 0)
  })

  it("a stopping engine ends streams with the reason, and stops within about a second", async () => {
    using events = await openStream(server.url, { pattern: "events:>" })

    const begun = performance.now()
    await server.close()

    assert.isBelow(performance.now() - begun, 2500)
    assert.strictEqual(await events.over(), "unavailable")
    server = await start()
  })

  it("a client that stops reading misses nothing when it reads again, unless it subscribed with drop", async () => {
    const count = 200
    const isHttp2 = openStream === RawEvents.openHttp2
    using quick = await openStream(server.url, { pattern: "events:big" })
    using slow = await openStalled(isHttp2, { pattern: "events:big" })
    using dropping = await openStalled(isHttp2, { pattern: "events:big", options: { backpressure: "drop" } })
    for (let i = 0; i < count; i++) await emit("big", { i, text: "x".repeat(100_000) })
    await quick.take(count)

    const seen = (await slow.readUntil((events) => events.length === count)).map(({ data }) => data.i)
    assert.deepStrictEqual(
      seen,
      Array.from({ length: count }, (_, i) => i)
    )
    // the buffers between both ends were kept; then it continues with new events
    const rest = dropping.readUntil((events) => events.at(-1)?.topic === "big" && events.at(-1).data.last)
    await vi.waitFor(async () => {
      await emit("big", { last: true })
      await Promise.race([rest, new Promise((_, reject) => setImmediate(reject))])
    }, 10_000)
    assert.isBelow((await rest).length, count)
  }, 60_000)
})

it("the filters of all open streams of a connection have a common limit", async () => {
  const session = http2.connect(server.url).on("error", () => undefined)
  const subscribe = async (i: number) => {
    const filter = `event.data.i == ${i} && event.name != "${"x".repeat(4000)}"`
    const body = envelope(Buffer.from(JSON.stringify({ pattern: "events:a", options: { filter } })))
    const stream = session.request({
      ":method": "POST",
      ":path": "/ironflow.v1.PubSubService/Subscribe",
      "content-type": STREAM
    })
    stream.end(body)
    await once(stream, "response")
    return stream
  }
  const streams: Array<http2.ClientHttp2Stream> = []
  for (let i = 0; i < 16; i++) streams.push(await subscribe(i))
  const [refused] = await once(await subscribe(16), "data")
  const [first] = streams
  first!.close()
  await once(first!, "close")
  assert.match(String(refused), /The total length of the filters of one connection.*65536/)
  await vi.waitFor(async () => {
    const stream = await subscribe(0)
    await emit("a", { i: 0 })
    const [chunk] = await once(stream, "data")
    assert.include(String(chunk), '"topic":"a"')
  })
  session.destroy()
})

it("events arrive over TLS with both versions of HTTP", async () => {
  await using secure = await start({ tls: makeCertificate() })
  using one = await openStalled(false, { pattern: "events:order.*" }, secure.url)
  using other = await openStalled(true, { pattern: "events:order.*" }, secure.url)
  const trigger = https.request(`${secure.url}/ironflow.v1.IronflowService/Trigger`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    rejectUnauthorized: false
  })
  trigger.end(JSON.stringify({ event: "order.placed", data: { i: 1 } }))
  for (const stream of [one, other]) {
    const [{ data }] = await stream.readUntil((events) => events.length === 1)
    assert.deepStrictEqual(data, { i: 1 })
  }
})

/** A subscription whose client does not read until the test calls `readUntil`. */
const openStalled = async (isHttp2: boolean, message: object, url = server.url) => {
  const headers = { "content-type": STREAM }
  const path = "/ironflow.v1.PubSubService/Subscribe"
  const body = envelope(Buffer.from(JSON.stringify(message)))
  const session = isHttp2
    ? http2.connect(url, { rejectUnauthorized: false }).on("error", () => undefined)
    : undefined
  let answer: Readable
  if (session === undefined) {
    const { request: ask } = url.startsWith("https:") ? https : http
    const request = ask(url + path, { method: "POST", headers, rejectUnauthorized: false }).end(body)
    const [response] = await once(request, "response")
    answer = response
  } else {
    const stream = session.request({ ":method": "POST", ":path": path, ...headers })
    stream.end(body)
    await once(stream, "response")
    answer = stream
  }
  answer.on("error", () => undefined)
  return {
    // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine sends
    readUntil: async (isEnough: (events: ReadonlyArray<any>) => boolean) => {
      // oxlint-disable-next-line typescript/no-explicit-any -- the same
      const events: Array<any> = []
      let rest = Buffer.alloc(0)
      for await (const chunk of answer) {
        rest = Buffer.concat([rest, chunk])
        while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
          const length = rest.readUInt32BE(1)
          events.push(JSON.parse(rest.subarray(5, 5 + length).toString()))
          rest = rest.subarray(5 + length)
        }
        if (isEnough(events)) break
      }
      return events
    },
    [Symbol.dispose]: () => {
      answer.destroy()
      session?.destroy()
    }
  }
}

describe("a request", () => {
  it("can ask for past events and filter them, and gets no event twice", async () => {
    for (let i = 1; i <= 5; i++) await emit("order.placed", { i })
    const events = await open({
      pattern: "events:order.*",
      options: { replay: 2, filter: "event.data.i != 4", backpressure: "BACKPRESSURE_MODE_BLOCK" }
    })
    await events.take(2)
    await emit("order.placed", { i: 6 })

    assert.deepStrictEqual(
      (await events.take(3)).map(({ data }) => data.i),
      [3, 5, 6]
    )
    assert.notProperty(events.events[0], "metadata")
  })

  it("is read in snake case, with the numbers of enums and with zero values", async () => {
    const options = { include_metadata: true, ack_mode: 1, backpressure: 0, filter: "", consumer_group: "" }
    const events = await open({ pattern: "topic:news", options: { ...options, replay: "0", namespace: "" } })
    await publish("news", { title: "Hello" })

    expect((await events.take(1))[0]).toMatchObject({
      topic: "news",
      data: { title: "Hello" },
      metadata: { namespace: "default" }
    })
  })

  it("delivers a message that is not an object as the value of one", async () => {
    const events = await open({ pattern: "topic:news" })
    await publish("news", [1, 2])
    await publish("news", { value: 3 })

    assert.deepStrictEqual(
      (await events.take(2)).map(({ data }) => data),
      [{ value: [1, 2] }, { value: 3 }]
    )
  })

  it("delivers system events", async () => {
    const events = await open({ pattern: "system.function.>" })
    await rpc(server.url, "RegisterFunction", { id: "ship-order" })

    assert.strictEqual((await events.take(1))[0].topic, "system.function.ship-order.registered")
  })

  const wrong: ReadonlyArray<readonly [what: string, message: object, code: string, about: RegExp]> = [
    ["no pattern", {}, "invalid_argument", /pattern/],
    [
      "an unknown prefix",
      { pattern: "evnts:a" },
      "invalid_argument",
      /"evnts:", which is no known prefix: use .* or no prefix/
    ],
    ["manual acks", { pattern: "a", options: { ackMode: "ACK_MODE_MANUAL" } }, "invalid_argument", /\/ws/],
    ["an unknown ack mode", { pattern: "a", options: { ackMode: "never" } }, "invalid_argument", /ackMode/],
    [
      "an unknown backpressure",
      { pattern: "a", options: { backpressure: "explode" } },
      "invalid_argument",
      /backpressure/
    ],
    ["a bad filter", { pattern: "a", options: { filter: "event.(" } }, "invalid_argument", /event\.\(/],
    ["too much to replay", { pattern: "a", options: { replay: -1 } }, "invalid_argument", /replay/],
    ["a message that is too large", { pattern: "x".repeat(70_000) }, "invalid_argument", /too large/],
    [
      "a group of system events",
      { pattern: "system.run.>", options: { consumerGroup: "g" } },
      "invalid_argument",
      /stored/
    ]
  ]
  it.each(wrong)("with %s ends with an error that names the problem", async (_, message, code, about) => {
    const events = await open(message)

    assert.strictEqual(await events.over(), code)
    assert.match(events.end!.error!.message, about)
    assert.deepStrictEqual([events.status, events.events], [200, []])
  })

  const bodies: ReadonlyArray<readonly [string, Buffer]> = [
    ["nothing", Buffer.alloc(0)],
    ["half of an envelope", envelope(Buffer.from('{"pattern":"a"}')).subarray(0, 9)],
    ["two envelopes", Buffer.concat([envelope(Buffer.from("{}")), envelope(Buffer.from("{}"))])],
    ["JSON without an envelope", Buffer.from('{"pattern":"a"}')],
    ["an envelope that says that it is compressed", envelope(Buffer.from("xyz"), 1)],
    ["an envelope without JSON", envelope(Buffer.from("{pattern"))]
  ]
  it.each(bodies)("of %s ends with an error", async (_, body) => {
    const events = await open({}, { body })

    assert.strictEqual(await events.over(), "invalid_argument")
    assert.strictEqual(events.status, 200)
  })

  it.each(["application/connect+proto", "application/json", "application/grpc-web+proto", "text/plain"])(
    "as %s is refused with 415, and the error names the accepted type",
    async (type) => {
      const events = await open({}, { headers: { "content-type": type }, body: Buffer.from("{}") })
      await events.over()

      assert.strictEqual(events.status, 415)
      const { code, message } = JSON.parse(events.text)
      assert.deepStrictEqual([code, message.includes(STREAM)], ["invalid_argument", true])
    }
  )

  it("for a bidirectional stream is refused", async () => {
    const { body, status } = await pubSub("SubscribeBidirectional", {})

    assert.deepStrictEqual([status, body.code], [404, "unimplemented"])
  })

  it("may come from an allowed page, and not from another", async () => {
    const headers = { origin: "http://localhost:3000" }
    const events = await open({ pattern: "events:a" }, { headers })
    const foreign = await open({ pattern: "events:a" }, { headers: { origin: "https://example.com" } })
    const refused = await open({ pattern: "a..b" }, { headers })
    const preflight = await fetch(`${server.url}/ironflow.v1.PubSubService/Subscribe`, {
      method: "OPTIONS",
      headers: {
        ...headers,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,connect-protocol-version"
      }
    })

    assert.deepStrictEqual(
      [
        events.headers.get("access-control-allow-origin"),
        refused.headers.get("access-control-allow-origin"),
        foreign.status,
        foreign.headers.get("access-control-allow-origin"),
        preflight.status,
        preflight.headers.get("access-control-allow-origin")
      ],
      [headers.origin, headers.origin, 403, null, 204, headers.origin]
    )
  })
})

describe("a subscription to an entity", () => {
  const whole = {
    id: expect.stringMatching(/^evt_/),
    name: "order.placed",
    version: 2,
    data: { id: "o-1", total: 5 },
    metadata: { by: "me" },
    entity: { id: "o-1", type: "order", version: 1 },
    timestamp: expect.stringMatching(/^\d{4}-.*Z$/)
  }
  const place = () => append({ id: "o-1", total: 5 }, { version: 2, metadata: { by: "me" } })

  it("delivers the whole event as data, with the fields of its own data beside it", async () => {
    const events = await open({ pattern: "entity:order.o-1.>" })
    await place()
    const [event] = await events.take(1)

    expect(event.data).toEqual({ total: 5, ...whole })
    assert.deepStrictEqual([event.topic, event.eventId], ["order.placed", event.data.id])
  })

  it("delivers the same over /ws to a legacy client", async () => {
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/ws`)
    const frames: Array<any> = []
    socket.addEventListener("message", ({ data }) => frames.push(JSON.parse(String(data))))
    await once(socket, "open")
    socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "entity:order.>" } }))
    await vi.waitFor(() => assert.lengthOf(frames, 1))
    await place()
    await vi.waitFor(() => assert.lengthOf(frames, 2))
    socket.close()

    expect(frames[1]).toEqual({
      type: "event",
      subscriptionId: frames[0].results[0].subscriptionId,
      topic: "order.placed",
      data: { total: 5, ...whole },
      eventId: frames[1].data.id
    })
  })

  it("delivers the plain data to a client of this package, with the other members of the event beside it", async () => {
    await place()
    const client = createSubscriptionClient({ serverUrl: server.url })
    const stream = client.stream("entity:order.>", { replay: 1 })
    for await (const { data, entity, eventId, metadata, topic, version } of stream) {
      expect({ id: eventId, name: topic, version, data, metadata, entity, timestamp: "2026-01-01Z" }).toEqual(
        whole
      )
      break
    }
    client.close()
  })
})

describe("a member of a group", () => {
  const members = async (count: number): Promise<void> => {
    await vi.waitFor(async () => {
      const { body } = await pubSub("GetConsumerGroup", { name: "printers" })
      assert.strictEqual(body.memberCount ?? 0, count)
    })
  }

  it("shares events with others; each event is acked when it is sent", async () => {
    const request = { pattern: "events:order.*", options: { consumerGroup: "printers" } }
    const [one, other] = [await open(request), await open(request)]
    await members(2)
    for (let i = 0; i < 10; i++) await emit("order.placed", { i })
    await vi.waitFor(() => assert.strictEqual(one.events.length + other.events.length, 10))

    const seen = [...one.events, ...other.events].map(({ data }) => data.i)
    assert.sameMembers(
      seen,
      Array.from({ length: 10 }, (_, i) => i)
    )
    await vi.waitFor(async () => {
      const { body } = await pubSub("GetConsumerGroup", { name: "printers" })
      assert.deepStrictEqual([body.inFlight ?? 0, body.lag], [0, "0"])
    })
  })

  it("joins an existing group by name alone, and gets its events", async () => {
    await pubSub("CreateConsumerGroup", {
      name: "printers",
      pattern: "events:order.*",
      filterExpr: "event.data.i > 1",
      ackMode: "ACK_MODE_MANUAL"
    })
    const request = { groupName: "printers", consumerId: "c-1", clientId: "browser" }
    const events = await open(request, { method: "JoinConsumerGroup" })
    await members(1)
    await emit("order.placed", { i: 1 })
    await emit("order.placed", { i: 2 })

    expect((await events.take(1))[0]).toMatchObject({ topic: "order.placed", data: { i: 2 } })
  })

  it("of a missing group gets an error that says so", async () => {
    const events = await open({ groupName: "printers" }, { method: "JoinConsumerGroup" })

    assert.strictEqual(await events.over(), "not_found")
  })

  it("gets an error when its group is deleted, and the stream ends", async () => {
    await pubSub("CreateConsumerGroup", { name: "printers", pattern: "events:order.*" })
    const events = await open({ group_name: "printers" }, { method: "JoinConsumerGroup" })
    await members(1)

    await pubSub("DeleteConsumerGroup", { name: "printers" })

    assert.strictEqual(await events.over(), "not_found")
    assert.match(events.end!.error!.message, /was deleted/)
  })
})

describe.each(["1.1", "2"] as const)("the client of Connect over HTTP/%s", (httpVersion) => {
  const client = () => {
    const transport = createConnectTransport({ baseUrl: server.url, httpVersion, useBinaryFormat: false })
    return createConnectClient(pubSubService, transport) as unknown as {
      readonly subscribe: (
        request: object,
        options?: { readonly signal: AbortSignal }
        // oxlint-disable-next-line typescript/no-explicit-any -- its messages are described at run time
      ) => AsyncIterable<any>
    }
  }

  it("reads events until it closes the connection", async () => {
    await publish("news", { title: "first" })
    const seen: Array<unknown> = []
    const request = { pattern: "topic:news", options: { replay: 1, includeMetadata: true } }
    const abort = new AbortController()
    const events = client().subscribe(request, { signal: abort.signal })
    for await (const { data, deliveryAttempt, sequence, topic } of events) {
      seen.push([topic, data, sequence, deliveryAttempt])
      if (seen.length === 2) break
      await publish("news", { title: "second" })
    }

    assert.deepStrictEqual(seen, [
      ["news", { title: "first" }, 1n, 1],
      ["news", { title: "second" }, 2n, 1]
    ])
    abort.abort()
    await subscribed("news", 0)
  })

  it("throws the error, with its code", async () => {
    const refused = async (): Promise<unknown> => {
      try {
        for await (const event of client().subscribe({ pattern: "a..b" })) return event
      } catch (error) {
        return error
      }
    }

    expect(await refused()).toMatchObject({ code: 3, rawMessage: expect.stringContaining("a..b") })
  })
})

/** The streaming part of `PubSubService`, described by hand. */
const pubSubService = (() => {
  const field = (name: string, number: number, type: string, typeName?: string) => ({
    name,
    jsonName: name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
    number,
    type,
    label: "LABEL_OPTIONAL",
    ...(typeName === undefined ? {} : { typeName })
  })
  const struct = ".google.protobuf.Struct"
  const file = fromJson(FileDescriptorProtoSchema, {
    name: "pubsub.proto",
    package: "ironflow.v1",
    syntax: "proto3",
    dependency: ["google/protobuf/struct.proto"],
    messageType: [
      {
        name: "Options",
        field: [
          field("replay", 1, "TYPE_INT32"),
          field("include_metadata", 2, "TYPE_BOOL"),
          field("filter", 3, "TYPE_STRING")
        ]
      },
      {
        name: "SubscribeRequest",
        field: [
          field("pattern", 1, "TYPE_STRING"),
          field("options", 2, "TYPE_MESSAGE", ".ironflow.v1.Options")
        ]
      },
      {
        name: "Event",
        field: [
          field("subscription_id", 1, "TYPE_STRING"),
          field("event_id", 2, "TYPE_STRING"),
          field("topic", 3, "TYPE_STRING"),
          field("data", 4, "TYPE_MESSAGE", struct),
          field("sequence", 6, "TYPE_UINT64"),
          field("delivery_attempt", 7, "TYPE_INT32")
        ]
      }
    ],
    service: [
      {
        name: "PubSubService",
        method: [
          {
            name: "Subscribe",
            inputType: ".ironflow.v1.SubscribeRequest",
            outputType: ".ironflow.v1.Event",
            serverStreaming: true
          }
        ]
      }
    ]
  })
  const registry = createFileRegistry(file, (name) =>
    name === "google/protobuf/struct.proto" ? file_google_protobuf_struct : undefined
  )
  return registry.getService("ironflow.v1.PubSubService")!
})()
