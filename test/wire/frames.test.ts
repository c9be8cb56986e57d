/** Bad input on a socket of a running engine ends at most that connection, with a frame that names the problem. */
import { once } from "node:events"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { WebSocket } from "ws"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { envelope, head, message, RawStream, text } from "./RawStream.ts"
import { send } from "./RawClient.ts"

const terminal = new Terminal()
let url: string
let server: Running
beforeAll(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  server = terminal.start(["serve", "--port", String(port)])
  await server.until(`Ironflow listens at ${url}`)
}, 40_000)
afterAll(() => terminal[Symbol.asyncDispose]())

const deep = (levels: number): string => "[".repeat(levels) + "]".repeat(levels)

interface Received {
  readonly frames: ReadonlyArray<any>
  readonly code: number
}

const connect = async (path: string): Promise<WebSocket> => {
  const socket = new WebSocket(url.replace("http", "ws") + path)
  await once(socket, "open")
  return socket
}

/** Sends the frame, and collects the answers until the connection ends. */
const say = async (path: string, frame: string | Buffer): Promise<Received> => {
  const socket = await connect(path)
  const frames: Array<unknown> = []
  socket.on("message", (data) => frames.push(JSON.parse(String(data))))
  socket.send(frame)
  const [code] = await once(socket, "close")
  return { frames, code }
}

/** Sends the frame, and returns the first answer. */
const ask = async (path: string, frame: string): Promise<any> => {
  const socket = await connect(path)
  socket.send(frame)
  const [data] = await once(socket, "message")
  socket.close()
  return JSON.parse(String(data))
}

const engineIsWell = async (): Promise<void> => {
  assert.strictEqual((await send(url, "GET", "/health")).status, 200)
  assert.notInclude(server.output(), "because of a bug")
}

const subscribe = (options: string): string =>
  `{"type":"subscribe","subscription":{"pattern":"events:order.placed","options":${options}}}`

describe("/ws", () => {
  it.each([
    ["a filter that is no string", subscribe('{"filter":{"toString":1}}'), "must be a string"],
    ["a filter of nested arrays", subscribe(`{"filter":${deep(50)}}`), "must be a string"],
    ["a replay that is no number", subscribe('{"replay":{"toString":1}}'), '{"toString":1}'],
    ["an invalid buffer", subscribe('{"buffer":{"maxBytes":{"toString":1}}}'), '{"toString":1}'],
    ["an invalid ack mode", subscribe('{"ackMode":{"toJSON":1}}'), '{"toJSON":1}'],
    ["an invalid backpressure", subscribe(`{"backpressure":${deep(90)}}`), "[[[[...]]]]".slice(0, 4)],
    ["an invalid group", subscribe('{"consumerGroup":{"toString":1}}'), "must be a string"],
    ["an invalid namespace", subscribe('{"consumerGroup":"g","namespace":[]}'), "must be a string"],
    ["an invalid pattern", '{"type":"subscribe","subscription":{"pattern":{"toString":1}}}', "string"],
    ["an invalid subscription", '{"type":"subscribe","subscription":7}', "must be an object"],
    [
      "an invalid position",
      '{"type":"subscribe","subscription":{"pattern":"events:a","resume":{"after":"x.y"}}}',
      '"x.y"'
    ]
  ])("refuses %s, and continues", async (_what, frame, problem) => {
    const answer = await ask("/ws", frame)

    assert.strictEqual(answer.results[0].status, "error")
    assert.include(answer.results[0].message, problem)
    await engineIsWell()
  })

  it.each([
    ["an invalid type", '{"type":{"toString":1}}', '{"toString":1}'],
    ["no object", "[]", "must be a JSON object"],
    ["no JSON", "{", "must be a JSON object"],
    ["an unknown subscription", '{"type":"unsubscribe","subscriptionId":{"toString":1}}', '{"toString":1}'],
    ["an ack without an event", '{"type":"ack","eventId":{"toString":1},"ackType":"ack"}', "needs an eventId"]
  ])("complains about %s, and continues", async (_what, frame, problem) => {
    const answer = await ask("/ws", frame)

    assert.strictEqual(answer.type, "error")
    assert.include(answer.message, problem)
    await engineIsWell()
  })

  it.each([
    `{"type":${deep(10_000)}}`,
    subscribe(`{"filter":${deep(10_000)}}`),
    `{"type":"subscribe","subscription":${deep(10_000)}}`,
    `{"type":"ack","eventId":${deep(10_000)}}`,
    `{"type":"unsubscribe","subscriptionId":${deep(10_000)}}`
  ])("ends the connection for a frame with 10,000 levels", async (frame) => {
    const { code, frames } = await say("/ws", frame)

    assert.strictEqual(code, 1008)
    assert.deepInclude(frames[0], { type: "error", code: "LIMIT_EXCEEDED" })
    assert.match(frames[0].message, /Nesting of a frame .* more than 100 levels/)
    await engineIsWell()
  })
})

describe("/rpc/worker", () => {
  const request = (fields: object): string =>
    JSON.stringify({ _tag: "Request", id: "1", tag: "work", payload: {}, headers: [], ...fields })

  it.each([
    ["headers that are null", request({ headers: null }), "`headers`"],
    ["headers that are a number", request({ headers: 7 }), "`headers`"],
    ["headers that are an object", request({ headers: { a: "b" } }), "`headers`"],
    ["odd values in the headers", request({ headers: [null] }), "`headers`"],
    ["headers that are no strings", request({ headers: [["a", { toString: 1 }]] }), "`headers`"],
    ["an id that is an object", request({ id: { toString: 1 } }), "`id`"],
    ["an id that is very long", request({ id: "1".repeat(1000) }), "`id`"],
    ["an unknown call", request({ tag: "toString" }), "must name a call"],
    ["a call that is an object", request({ tag: { toString: 1 } }), "must name a call"],
    ["an unknown kind", '{"_tag":"Nothing"}', "`_tag`"],
    ["a kind that is an object", '{"_tag":{"toString":1}}', "`_tag`"],
    ["an ack without a request", '{"_tag":"Ack","requestId":{"toString":1}}', "`requestId`"],
    ["an interrupt without a request", '{"_tag":"Interrupt"}', "`requestId`"],
    ["a list", "[]", "a JSON object"],
    ["no JSON", "{", "a JSON object"],
    [
      "an id of nested arrays",
      `{"_tag":"Request","tag":"work","payload":{},"headers":[],"id":${deep(10_000)}}`,
      "levels"
    ],
    [
      "a call of nested arrays",
      `{"_tag":"Request","tag":${deep(10_000)},"payload":{},"headers":[],"id":"1"}`,
      "levels"
    ],
    [
      "a payload of nested arrays",
      `{"_tag":"Request","tag":"work","payload":${deep(10_000)},"headers":[],"id":"1"}`,
      "levels"
    ]
  ])("ends the connection for %s", async (_what, frame, problem) => {
    const { code, frames } = await say("/rpc/worker", frame)

    assert.strictEqual(code, 1008)
    assert.strictEqual(frames.at(-1).type, "error")
    assert.include(frames.at(-1).message, problem)
    await engineIsWell()
  })

  it("ends the connection for binary frames", async () => {
    const { code, frames } = await say("/rpc/worker", Buffer.from([1, 2, 3]))

    assert.strictEqual(code, 1008)
    assert.include(frames[0].message, "binary")
  })

  it.each(["work", "report", "room", "late", "leave"])("answers %s with odd payloads", async (tag) => {
    for (const payload of [null, 7, [], { registration: { toString: 1 } }, { session: { toString: 1 } }]) {
      const answer = await ask("/rpc/worker", request({ tag, payload }))

      assert.strictEqual(answer._tag, "Exit")
      assert.strictEqual(answer.exit._tag, "Failure")
      assert.notInclude(JSON.stringify(answer), "INTERNAL_ERROR")
    }
    await engineIsWell()
  })
})

describe("the channel", () => {
  const call = (path: string, body: string): string => `1 POST ${path} ${body.length}\n${body}`

  it("answers a body of 10,000 levels like any invalid one", async () => {
    const socket = await connect("/api/v1/channel")
    socket.send(call("/ironflow.v1.IronflowService/Trigger", `{"event":"a","data":${deep(10_000)}}`))
    const [data] = await once(socket, "message")

    assert.match(String(data), /^1 400 \d+\n/)
    assert.include(String(data), "more than 100 levels")
    socket.close()
    await engineIsWell()
  })

  it.each(["nonsense", "1 POST\n", "x POST / 0\n", "1 POST / 99\n{}", deep(10_000)])(
    "ends for a frame that cannot be read",
    async (frame) => {
      const { code } = await say("/api/v1/channel", frame)

      assert.strictEqual(code, 1002)
      await engineIsWell()
    }
  )
})

describe("a watch", () => {
  it("ignores input", async () => {
    await send(url, "POST", "/api/v1/kv/buckets", { name: "orders" })
    const socket = await connect("/api/v1/kv/buckets/orders/watch?revision=now")
    const keys: Array<unknown> = []
    socket.on("message", (data) => void keys.push(JSON.parse(String(data)).key))
    for (const frame of [deep(10_000), '{"toString":1}', "nonsense"]) socket.send(frame)
    await send(url, "PUT", "/api/v1/kv/buckets/orders/keys/a", { total: 1 })

    await vi.waitFor(() => assert.include(keys, "a"))
    socket.close()
    await engineIsWell()
  })
})

describe("a ConnectRPC stream", () => {
  const register = (turns: string): Buffer => message(1, text(1, "w-1"), text(2, "host"), text(100, turns))

  it.each([
    ["a registration of nested arrays", register(deep(10_000)), "levels"],
    ["a registration of odd values", register('{"registration":{"toString":1}}'), "Register"],
    ["a registration that is no JSON", register("{"), "Register"],
    ["bytes that are no message", Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "cannot be read"],
    ["another message before the registration", message(9, text(1, "job")), "first message"]
  ])("ends for %s", async (_what, payload, problem) => {
    await using stream = new RawStream(url)
    stream.send(payload)

    await stream.closed()

    assert.include(stream.end?.error?.message, problem)
    await engineIsWell()
  })

  it("ends for a struct of 10,000 levels", async () => {
    // each level ends with the next one, so the bytes before it are concatenated once
    const before: Array<Buffer> = []
    let length = 0
    for (let i = 0; i < 10_000; i++) {
      const key = text(1, "a")
      const struct = head(5, length)
      const value = head(2, struct.length + length)
      const entry = head(1, key.length + value.length + struct.length + length)
      before.push(Buffer.concat([entry, key, value, struct]))
      length += entry.length + key.length + value.length + struct.length
    }
    const struct = Buffer.concat(before.toReversed())
    await using stream = new RawStream(url)
    stream.register("w-2", ["ship"])
    stream.send(message(7, text(1, "job"), message(2, struct)))

    await stream.closed()

    assert.include(stream.end?.error?.message, "100 levels deep")
    await engineIsWell()
  })

  it("ends for an envelope that is too large, or has unknown flags", async () => {
    for (const bytes of [envelope(Buffer.alloc(0), 7), Buffer.from([0, 0xff, 0xff, 0xff, 0xff])]) {
      await using stream = new RawStream(url)
      stream.stream.write(bytes)
      await stream.closed()
      assert.isString(stream.end?.error?.message)
    }
    await engineIsWell()
  })
})
