/**
 * HTTP/2 frames by the ten thousand, on many connections at once. Whatever they start or end, the server processes a few at a
 * time, and answers other clients meanwhile. Another process watches a real server, and works as its client.
 */
import { once } from "node:events"
import http2 from "node:http2"
import { setImmediate as turn } from "node:timers/promises"
import { afterEach, assert, describe, it } from "vitest"
import { send } from "../wire/RawClient.ts"
import { BEGIN, http2Frame, http2Request, http2Reset } from "./Http2Frames.ts"
import { Pressed } from "./Pressed.ts"

const TRIGGER = "/ironflow.v1.IronflowService/Trigger"

/** So many frames, each for its own stream. */
const frames = (count: number, make: (stream: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(2 * i + 1)))

/** Each of the connections sends all of the bytes. */
const flood = async (pressed: Pressed, connections: number, bytes: Buffer): Promise<void> => {
  const all = Buffer.concat([BEGIN, bytes])
  for (const socket of await pressed.many(connections)) socket.socket.write(all)
}

/** Starts a run that no worker takes. */
const startRun = async ({ url }: Pressed): Promise<string> => {
  const register = { id: "ship", triggers: [{ event: "order.placed" }] }
  await send(url, "POST", "/ironflow.v1.IronflowService/RegisterFunction", register)
  const { body } = await send(url, "POST", TRIGGER, { event: "order.placed", data: {} })
  return body.runIds[0]
}

/** A header of 3900 bytes that is repeated 12,000 times, with one byte each. */
const headerBomb = (stream: number): Buffer => {
  const name = Buffer.from([0x40, 1, 120, 127, ((3900 - 127) % 128) | 128, Math.floor((3900 - 127) / 128)])
  const header = Buffer.concat([name, Buffer.alloc(3900, 121)])
  return http2Frame(
    1,
    5,
    stream,
    Buffer.concat([Buffer.from([0x82, 0x84, 0x86]), header, Buffer.alloc(12_000, 0xbe)])
  )
}

const press = Pressed.shared()

describe("many connections", () => {
  it.each([
    [
      "requests that are reset at once",
      60,
      frames(8000, (stream) => Buffer.concat([http2Request(stream, "/health"), http2Reset(stream)]))
    ],
    [
      "requests that are reset by the hundred",
      40,
      Buffer.concat(
        Array.from({ length: 80 }, (_, n) =>
          Buffer.concat([
            frames(100, (stream) => http2Request(200 * n + stream, "/health")),
            frames(100, (stream) => http2Reset(200 * n + stream))
          ])
        )
      )
    ],
    ["incomplete requests", 200, frames(128, (stream) => http2Request(stream, TRIGGER, "POST"))],
    [
      "bodies byte by byte",
      40,
      Buffer.concat([
        http2Request(1, TRIGGER, "POST"),
        frames(60_000, () => http2Frame(0, 0, 1, Buffer.from(" ")))
      ])
    ],
    ["headers that are small on the wire and large when decoded", 60, frames(60, headerBomb)]
  ])(
    "that send %s delay no other client",
    async (_what, connections, bytes) => {
      await using pressed = await press()
      await flood(pressed, connections, bytes)

      await pressed.awaitChecks()
      await pressed.assertWithstood()
    },
    60_000
  )

  it("with thousands of requests that wait for one run are answered in small batches", async () => {
    await using pressed = await press()
    const run = await startRun(pressed)
    const waits = frames(60, (stream) => http2Request(stream, `/api/v1/runs/${run}/wait?timeout=60000`))
    await flood(pressed, 500, waits)
    await pressed.awaitChecks()

    const cancel = await send(pressed.url, "POST", "/ironflow.v1.IronflowService/CancelRun", { id: run })
    assert.strictEqual(cancel.status, 200, cancel.text)
    await pressed.awaitChecks()
    const again = await startRun(pressed)
    const sockets = await pressed.many(400)
    const requests = frames(60, (stream) => http2Request(stream, `/api/v1/runs/${again}/wait?timeout=60000`))
    for (const { socket } of sockets) socket.write(Buffer.concat([BEGIN, requests]))
    await pressed.awaitChecks()
    for (const { socket } of sockets) socket.resetAndDestroy()

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 90_000)
})

describe("a well-behaved HTTP/2 client", () => {
  const sessions: Array<http2.ClientHttp2Session> = []
  afterEach(() => {
    for (const session of sessions.splice(0)) session.destroy()
  })

  const connect = async ({ url }: Pressed): Promise<http2.ClientHttp2Session> => {
    const session = http2.connect(url)
    // the server may end it at the end of a test; requests before that fail by themselves
    session.on("error", () => undefined)
    sessions.push(session)
    await once(session, "remoteSettings")
    return session
  }

  const ask = (session: http2.ClientHttp2Session, path: string, body?: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const stream = session.request(
        body === undefined
          ? { ":path": path }
          : { ":method": "POST", ":path": path, "content-type": "application/json" }
      )
      let status = 0
      let text = ""
      stream.on("response", (headers) => (status = Number(headers[":status"])))
      stream.on("data", (chunk) => (text += chunk))
      stream.on("end", () => (status === 200 ? resolve(text) : reject(new Error(`${status} ${text}`))))
      stream.on("error", reject)
      stream.on("close", () => reject(new Error(`closed with ${stream.rstCode}`)))
      stream.end(body)
    })

  it("gets all answers, however many calls it makes at once", async () => {
    await using pressed = await press()
    const session = await connect(pressed)
    const event = JSON.stringify({ event: "order.placed", data: {} })
    for (let i = 0; i < 5; i++) {
      const answers = await Promise.allSettled(
        Array.from({ length: 600 }, (_, n) =>
          n % 3 === 0 ? ask(session, TRIGGER, event) : ask(session, "/health")
        )
      )
      assert.deepStrictEqual(
        answers.filter(({ status }) => status === "rejected"),
        []
      )
    }
    await pressed.assertWithstood()
  }, 60_000)

  it("gets complete large answers while it sends large bodies", async () => {
    await using pressed = await press()
    const session = await connect(pressed)
    const event = JSON.stringify({ event: "order.placed", data: { note: "x".repeat(900_000) } })
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, n) =>
        n % 2 === 0
          ? (await ask(session, TRIGGER, event)).length > 0
          : JSON.parse(await ask(session, "/openapi.json"))
      )
    )

    assert.lengthOf(answers, 20)
    await pressed.assertWithstood()
  }, 60_000)

  it("may cancel many calls at once, again and again", async () => {
    await using pressed = await press()
    const run = await startRun(pressed)
    const session = await connect(pressed)
    for (let i = 0; i < 10; i++) {
      const waits = Array.from({ length: 50 }, () =>
        session.request({ ":path": `/api/v1/runs/${run}/wait?timeout=60000` }).on("error", () => undefined)
      )
      await ask(session, "/health")
      for (const stream of waits) stream.close(http2.constants.NGHTTP2_CANCEL)
    }

    assert.include(await ask(session, "/health"), "ok")
    assert.isFalse(session.closed)
    await pressed.assertWithstood()
  }, 60_000)

  it("gets its answers however its frames are split", async () => {
    await using pressed = await press()
    const socket = await pressed.connect()
    const body = Buffer.from(JSON.stringify({ event: "order.placed", data: { note: "x".repeat(300) } }))
    const bytes = Buffer.concat([
      BEGIN,
      frames(20, (stream) =>
        Buffer.concat([http2Request(stream, TRIGGER, "POST"), http2Frame(0, 1, stream, body)])
      )
    ])
    for (let at = 0, length = 1; at < bytes.length; at += length, length = (length % 23) + 1) {
      await socket.send(bytes.subarray(at, at + length))
      await turn()
    }

    await socket.until(/("eventId"[^]*){20}/)
    await pressed.assertWithstood()
  }, 60_000)
})
