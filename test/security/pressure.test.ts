/**
 * A client that sends more than the server can process, or that reads none of its answers, costs the server bounded time and
 * memory. Another process watches a real server meanwhile, and works as its client.
 */
import { once } from "node:events"
import http2 from "node:http2"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { listen } from "../Serve/Hosts.ts"
import { send } from "../wire/RawClient.ts"
import type { RawSocket } from "../wire/RawSocket.ts"
import { either } from "../Long.ts"
import { BEGIN, hpack, http2Frame, http2Request, http2Reset, PREFACE } from "./Http2Frames.ts"
import { Pressed, type Seen } from "./Pressed.ts"

const MB = 1024 * 1024

/** Sends the bytes without waiting until the server has taken them. */
const push = (socket: RawSocket, bytes: Uint8Array | string): void => void socket.socket.write(bytes)

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`

const half = (length: number): string =>
  "POST /ironflow.v1.IronflowService/Trigger HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" +
  `Content-Length: ${length}\r\n\r\n`

const press = Pressed.shared()

/** A connection that is not read since the start of this file, so that most of its time limit is over when its test runs. */
let unread: { readonly pressed: Pressed; readonly socket: RawSocket; readonly seen: Seen }
beforeAll(async () => {
  const pressed = await Pressed.start()
  const socket = await pressed.connectUnread()
  push(socket, get("/openapi.json").repeat(1000))
  await pressed.awaitChecks()
  assert.isTrue(pressed.serverHas(socket))
  unread = { pressed, socket, seen: await pressed.endChecks() }
})
afterAll(() => unread.pressed[Symbol.asyncDispose]())

describe("pipelined requests", () => {
  it("whose large answers are not read delay no other client", async () => {
    await using pressed = await press()
    const socket = await pressed.connectUnread()
    push(socket, get("/openapi.json").repeat(1000))

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)

  it("by the thousand on each of 20 connections are processed a few at a time", async () => {
    await using pressed = await press()
    for (const socket of await pressed.many(20, () => pressed.connectUnread()))
      push(socket, get("/health").repeat(5000))

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)

  it("on each of 500 connections are started in small batches", async () => {
    await using pressed = await press()
    for (const socket of await pressed.many(500)) push(socket, get("/health").repeat(500))

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)

  it("are all answered, in order, when the client reads", async () => {
    await using pressed = await press()
    const socket = await pressed.connect()
    const bodies = Array.from({ length: 200 }, (_, i) => JSON.stringify({ event: `order.n${i}`, data: {} }))
    push(socket, bodies.map((body, i) => half(body.length) + body + get(`/nothing/${i}`)).join(""))
    push(socket, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")

    const text = await socket.all()
    assert.lengthOf(text.match(/HTTP\/1\.1 200 OK/g) ?? [], 201)
    assert.deepStrictEqual(
      [...text.matchAll(/"error":"There is nothing at GET \/nothing\/(\d+)"/g)].map(([, i]) => Number(i)),
      bodies.map((_, i) => i)
    )
    await pressed.assertWithstood()
  }, 60_000)
})

describe("incomplete bodies", () => {
  it("share one memory limit", async () => {
    await using pressed = await Pressed.start()
    const body = Buffer.alloc(4 * MB - 1000, 32)
    for (const socket of await pressed.many(100)) {
      push(socket, half(4 * MB))
      push(socket, body)
    }

    await pressed.awaitChecks(150)
    await pressed.assertWithstood()
  }, 60_000)

  it("over HTTP/2 take no more memory", async () => {
    await using pressed = await Pressed.start()
    const sessions = Array.from({ length: 4 }, () => http2.connect(pressed.url))
    const body = Buffer.alloc(4 * MB - 1000, 32)
    for (const session of sessions) {
      session.on("error", () => undefined)
      for (let i = 0; i < 100; i++) {
        const stream = session.request({
          ":method": "POST",
          ":path": "/ironflow.v1.IronflowService/Trigger",
          "content-type": "application/json"
        })
        stream.on("error", () => undefined)
        stream.write(body)
      }
    }

    await pressed.awaitChecks(150)
    for (const session of sessions) session.destroy()
    await pressed.assertWithstood()
  }, 60_000)

  it("in chunks of one byte take no more memory than their bytes", async () => {
    await using pressed = await Pressed.start()
    const chunks = "1\r\n \r\n".repeat(300_000)
    for (const socket of await pressed.many(5)) {
      push(
        socket,
        "POST /ironflow.v1.IronflowService/Trigger HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" +
          "Transfer-Encoding: chunked\r\n\r\n"
      )
      for (let i = 0; i < 10; i++) push(socket, chunks)
    }

    await pressed.awaitChecks(20)
    await pressed.assertWithstood()
  }, 60_000)
})

describe("bodies of the smallest chunks", () => {
  it("that many connections send are read in small batches", async () => {
    await using pressed = await press()
    const chunks = "1\r\n \r\n".repeat(300_000)
    for (const socket of await pressed.many(60)) {
      push(
        socket,
        "POST /ironflow.v1.IronflowService/Trigger HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" +
          "Transfer-Encoding: chunked\r\n\r\n"
      )
      push(socket, chunks)
    }

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)
})

describe("complete bodies", () => {
  it("that come at the same time are processed within the memory limit", async () => {
    await using pressed = await Pressed.start()
    const text = JSON.stringify({ event: "order.placed", data: { note: "x".repeat(MB - 5000) } })
    const tries = await Promise.all(
      Array.from({ length: 100 }, async () => {
        for (let times = 1; times < 20; times++) {
          const { status, body } = await send(
            pressed.url,
            "POST",
            "/ironflow.v1.IronflowService/Trigger",
            text
          )
          if (status === 200) return times
          // on a busy machine, all of them together take longer than one request may wait
          assert.strictEqual(body?.details?.[0]?.debug?.code, "SERVER_BUSY", JSON.stringify(body))
        }
        return Number.POSITIVE_INFINITY
      })
    )

    assert.isBelow(Math.max(...tries), 20)
    await pressed.assertWithstood()
  }, 60_000)
})

describe("HTTP/2", () => {
  /** Gives each stream a window of zero bytes. */
  const closed = Buffer.concat([PREFACE, http2Frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]))])

  it("ends a connection that resets requests by the thousand", async () => {
    await using pressed = await press()
    const sockets = await pressed.many(10)
    for (const socket of sockets) {
      push(socket, BEGIN)
      const frames = Array.from({ length: either(5000, 20_000) }, (_, i) =>
        Buffer.concat([http2Request(2 * i + 1, "/health"), http2Reset(2 * i + 1)])
      )
      push(socket, Buffer.concat(frames))
    }

    await Promise.all(sockets.map((socket) => socket.all()))
    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)

  it("keeps few answers for a client with a window of zero", async () => {
    await using pressed = await Pressed.start()
    for (const socket of await pressed.many(10)) {
      push(socket, closed)
      push(
        socket,
        Buffer.concat(Array.from({ length: 100 }, (_, i) => http2Request(2 * i + 1, "/openapi.json")))
      )
    }

    await pressed.awaitChecks(100)
    await pressed.assertWithstood()
  }, 60_000)

  it.each([
    ["pings", http2Frame(6, 0, 0, Buffer.alloc(8))],
    ["settings", http2Frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 255, 255]))],
    ["priorities", http2Frame(2, 0, 1, Buffer.from([0, 0, 0, 3, 1]))],
    ["empty continuations", Buffer.concat([http2Frame(9, 0, 1, Buffer.alloc(0))])]
  ])(
    "withstands a flood of %s",
    async (kind, frame) => {
      await using pressed = await press()
      for (const socket of await pressed.many(10)) {
        push(socket, BEGIN)
        if (kind === "empty continuations") push(socket, http2Frame(1, 0, 1, hpack([[":method", "GET"]])))
        push(socket, Buffer.concat(Array.from({ length: 100_000 }, () => frame)))
      }

      await pressed.awaitChecks()
      await pressed.assertWithstood()
    },
    60_000
  )
})

describe("a WebSocket", () => {
  const upgrade = (path: string): string =>
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
  /** A frame of a client, masked with zeros. */
  const frame = (opcode: number, payload: Buffer, length = payload.length): Buffer => {
    const size = Buffer.alloc(length < 126 ? 1 : length < 65_536 ? 3 : 9)
    size[0] = 128 + (length < 126 ? length : length < 65_536 ? 126 : 127)
    if (size.length === 3) size.writeUInt16BE(length, 1)
    if (size.length === 9) size.writeBigUInt64BE(BigInt(length), 1)
    return Buffer.concat([Buffer.from([128 + opcode]), size, Buffer.alloc(4), payload])
  }
  const text = (message: string): Buffer => frame(1, Buffer.from(message))

  it.each([
    ["/ws", "pings", frame(9, Buffer.alloc(100, 65))],
    ["/ws", "frames that are refused", text('{"type":"unsubscribe","subscriptionId":"none"}')],
    ["/ws", "subscriptions", text('{"type":"subscribe","subscription":{"pattern":"events:a"}}')],
    ["/api/v1/channel", "pings", frame(9, Buffer.alloc(100, 65))],
    ["/api/v1/channel", "calls in frames", text("1 GET /health 0\n")]
  ])(
    "at %s with a flood of %s whose answers are not read delays no other client",
    async (path, _what, one) => {
      await using pressed = await press()
      const flood = Buffer.concat(Array.from({ length: 50_000 }, () => one))
      for (const socket of await pressed.many(10, () => pressed.connectUnread())) {
        push(socket, upgrade(path))
        push(socket, flood)
      }

      await pressed.awaitChecks()
      await pressed.assertWithstood()
    },
    60_000
  )

  it("that sends thousands of small frames delays no other client, also if 60 do so", async () => {
    await using pressed = await press()
    const flood = Buffer.concat(Array.from({ length: 10_000 }, () => text("")))
    for (const socket of await pressed.many(60)) {
      push(socket, upgrade("/ws"))
      push(socket, flood)
    }

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)

  it("with few calls does not wait for all frames of 120 busy ones", async () => {
    await using pressed = await press()
    const flood = Buffer.concat(Array.from({ length: 20_000 }, () => text("")))
    for (const socket of await pressed.many(120)) {
      push(socket, upgrade("/ws"))
      push(socket, flood)
    }
    const socket = await pressed.connect()
    push(socket, upgrade("/api/v1/channel"))
    await pressed.awaitChecks(20)
    const worked = pressed.worked()
    for (let i = 0; i < 5; i++) {
      push(socket, text(`${i} GET /health 0\n`))
      await socket.until(`${i} 200 `)
    }

    // every other connection has one turn of 5 ms before any of them has a second one
    assert.isBelow(pressed.worked() - worked, 1000)
    await pressed.assertWithstood()
  }, 60_000)

  it("processes the calls of one large frame in small batches, as their answers are read", async () => {
    await using pressed = await press()
    const calls = Array.from({ length: 20_000 }, (_, i) => `${i} GET /openapi.json 0\n`).join("")
    for (const socket of await pressed.many(10, () => pressed.connectUnread())) {
      push(socket, upgrade("/api/v1/channel"))
      push(socket, text(calls))
    }

    await pressed.awaitChecks()
    await pressed.assertWithstood()
  }, 60_000)

  it("with an incomplete large frame counts towards the common memory limit", async () => {
    await using pressed = await Pressed.start()
    const part = Buffer.alloc(12 * MB, 32)
    for (const socket of await pressed.many(40)) {
      push(socket, upgrade("/rpc/worker"))
      push(socket, frame(1, part, 14 * MB))
    }

    await pressed.awaitChecks(150)
    await pressed.assertWithstood()
  }, 60_000)

  it("of a subscriber or a watcher that reads nothing costs no more than the documented memory", async () => {
    await using pressed = await Pressed.start()
    const { url } = pressed
    await send(url, "POST", "/api/v1/kv/buckets", { name: "carts" })
    for (const socket of await pressed.many(10, () => pressed.connectUnread())) {
      push(socket, upgrade("/ws"))
      push(socket, text('{"type":"subscribe","subscription":{"pattern":"events:order.*"}}'))
    }
    for (const socket of await pressed.many(10, () => pressed.connectUnread())) {
      push(socket, upgrade("/api/v1/kv/buckets/carts/watch"))
    }
    const note = "x".repeat(MB - 5000)
    for (let i = 0; i < 30; i++) {
      const put = await send(url, "PUT", `/api/v1/kv/buckets/carts/keys/${i}`, JSON.stringify(note))
      assert.strictEqual(put.status, 200, put.text)
      const body = { event: "order.placed", data: { note } }
      await send(url, "POST", "/ironflow.v1.IronflowService/Trigger", body)
    }

    await pressed.assertWithstood()
  }, 60_000)
})

describe("long lists", () => {
  it("that many clients request at once are built one after the other", async () => {
    await using pressed = await Pressed.start()
    const data = { note: "\u20ac".repeat(300_000) }
    for (let i = 0; i < 40; i++) {
      await send(pressed.url, "POST", "/ironflow.v1.IronflowService/Trigger", { event: "order.noted", data })
    }
    const session = http2.connect(pressed.url).on("error", () => undefined)
    for (let i = 0; i < 64; i++) {
      // the client does not read the answers either
      session.request({ ":path": "/api/v1/events?limit=1000" }).on("error", () => undefined)
    }

    await pressed.awaitChecks(20)
    session.destroy()
    await pressed.assertWithstood()
  }, 90_000)
})

describe("answers of push endpoints", () => {
  it("share one memory limit", async () => {
    await using pressed = await Pressed.start("--allow-private-endpoints")
    const piece = Buffer.alloc(MB, 32)
    // the answer never ends
    const app = await listen((request, response) => {
      request.resume()
      response.on("error", () => undefined)
      for (let i = 0; i < 15; i++) response.write(piece)
    })
    const register = { id: "ship", triggers: [{ event: "order.placed" }], preferredMode: "push" }
    for (let i = 0; i < 4; i++) {
      const endpoint = { ...register, id: `ship-${i}`, endpointUrl: `${app.url}/${i}` }
      await send(pressed.url, "POST", "/ironflow.v1.IronflowService/RegisterFunction", endpoint)
    }
    const session = http2.connect(pressed.url).on("error", () => undefined)
    const requests = Array.from({ length: 100 }, (_, i) =>
      session
        .request({ ":method": "POST", ":path": "/api/v1/push/endpoints", "content-type": "application/json" })
        .on("error", () => undefined)
        .resume()
        .end(JSON.stringify({ url: `${app.url}/asked-${i}` }))
    )
    for (let i = 0; i < 20; i++) {
      await send(pressed.url, "POST", "/ironflow.v1.IronflowService/Trigger", {
        event: "order.placed",
        data: {}
      })
    }

    await Promise.race(requests.map((stream) => once(stream, "close")))
    await pressed.awaitChecks(20)
    session.destroy()
    await app.close()
    await pressed.assertWithstood()
  }, 90_000)
})

describe("answers that are not read", () => {
  it("end with the connection after half a minute", async () => {
    const { pressed, seen, socket } = unread

    await vi.waitFor(() => assert.isFalse(pressed.serverHas(socket)), { interval: 500, timeout: 60_000 })
    await pressed.assertWithstood(seen)
  }, 90_000)
})
