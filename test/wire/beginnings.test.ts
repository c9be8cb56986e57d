/** The beginnings of connections: in pieces of any size, for HTTP/1.1 and HTTP/2 on one port, or not at all. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { makeCertificate } from "./Certificate.ts"
import { start } from "./Ironflow.ts"
import { RawSocket } from "./RawSocket.ts"
import { send } from "./RawClient.ts"

const frame = (type: number, flags: number, payload = Buffer.alloc(0)): Buffer =>
  Buffer.concat([Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, 0]), payload])

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
/** The preface, settings, and a ping, whose answer shows that the session works. */
const asHttp2 = Buffer.concat([PREFACE, frame(4, 0), frame(6, 0, Buffer.from("is it on"))])
const pong = frame(6, 1, Buffer.from("is it on")).toString("latin1")

const asHttp1 = (method: string, path = "/health"): Buffer =>
  Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}`)

/** Requests with the beginning of their answers: methods that HTTP knows reach the routes. */
const answers: ReadonlyArray<readonly [string, Buffer, string]> = [
  ["HTTP/2", asHttp2, pong],
  ["GET", asHttp1("GET"), "HTTP/1.1 200 "],
  ["POST", asHttp1("POST"), "HTTP/1.1 404 "],
  ["PUT", asHttp1("PUT"), "HTTP/1.1 404 "],
  ["PROPFIND", asHttp1("PROPFIND"), "HTTP/1.1 404 "],
  ["PROPPATCH", asHttp1("PROPPATCH"), "HTTP/1.1 404 "],
  ["PRI", asHttp1("PRI"), "HTTP/1.1 400 "],
  ["PRINT", asHttp1("PRINT"), "HTTP/1.1 400 "]
]

const literally = (text: string): RegExp => new RegExp(text.replace(/[^\w ]/g, (c) => `\\x${hex(c)}`))
const hex = (character: string): string => character.charCodeAt(0).toString(16).padStart(2, "0")

/** Sends the bytes in pieces; after each piece the server has to answer another client. */
const sendInPieces = async (
  url: string,
  sockets: ReadonlyArray<{ readonly socket: RawSocket; readonly pieces: ReadonlyArray<Buffer> }>
): Promise<void> => {
  const rounds = Math.max(...sockets.map(({ pieces }) => pieces.length))
  for (let round = 0; round < rounds; round++) {
    await Promise.all(
      sockets.map(({ pieces, socket }) => (round < pieces.length ? socket.send(pieces[round]!) : undefined))
    )
    assert.strictEqual((await send(url, "GET", "/health")).status, 200)
  }
}

const splitAt = (bytes: Buffer, at: number): ReadonlyArray<Buffer> => [
  bytes.subarray(0, at),
  bytes.subarray(at)
]
const oneByOne = (bytes: Buffer): ReadonlyArray<Buffer> => [...bytes].map((byte) => Buffer.from([byte]))

describe("a connection to `ironflow serve`", () => {
  const terminal = new Terminal()
  let port: number
  let url: string
  let server: Running
  beforeAll(async () => {
    port = await freePort()
    url = `http://127.0.0.1:${port}`
    server = terminal.start(["serve", "--port", String(port)])
    await server.until(`Ironflow listens at ${url}`)
  }, 40_000)
  afterAll(() => terminal[Symbol.asyncDispose]())

  it.each(answers)(
    "is answered wherever its beginning is split in two: %s",
    async (_name, bytes, expected) => {
      const cuts = await Promise.all(
        Array.from({ length: bytes.length - 1 }, async (_, i) => ({
          socket: await RawSocket.open(port),
          pieces: splitAt(bytes, i + 1)
        }))
      )

      await sendInPieces(url, cuts)

      await Promise.all(cuts.map(({ socket }) => socket.until(literally(expected))))
      for (const { socket } of cuts) socket[Symbol.dispose]()
    }
  )

  it.each(answers)("is answered when it comes byte by byte: %s", async (_name, bytes, expected) => {
    using socket = await RawSocket.open(port)

    await sendInPieces(url, [{ socket, pieces: oneByOne(bytes) }])

    await socket.until(literally(expected))
  })

  it("may pipeline requests", async () => {
    using socket = await RawSocket.open(port)

    const emit = asHttp1("POST", "/ironflow.v1.IronflowService/Trigger")
    await socket.send("P")
    await socket.send(Buffer.concat([emit.subarray(1), asHttp1("GET")]))

    await socket.until(/HTTP\/1\.1 400 [^]*HTTP\/1\.1 200 /)
  })

  it.each(["P", "PR", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"])(
    "that ends after %j gets an error, since this is no request",
    async (beginning) => {
      using socket = await RawSocket.open(port)
      await socket.send(beginning)

      socket.socket.end()

      assert.match(await socket.all(), /^HTTP\/1\.1 400 /)
    }
  )

  it.each(["", "P", "PRI * HTTP/2.0"])("that is reset after %j does not affect others", async (beginning) => {
    const socket = await RawSocket.open(port)
    await socket.send(beginning)
    socket.socket.resetAndDestroy()

    assert.strictEqual((await send(url, "GET", "/health")).status, 200)
  })

  it("that has only begun does not prevent the server from stopping", async () => {
    const other = await freePort()
    const stopping = terminal.start(["serve", "--port", String(other), "--data", "other.db"])
    await stopping.until(`Ironflow listens at`)
    const sockets = await Promise.all(["P", "PR", "PRI * HTTP/2.0"].map((text) => begin(other, text)))

    stopping.signal("SIGTERM")

    assert.strictEqual((await stopping.ended).code, 0)
    for (const socket of sockets) await socket.all()
  })

  it("is closed on both sides when its client is gone", async () => {
    using socket = await RawSocket.open(port)
    await socket.send(asHttp2)
    await socket.until(literally(pong))

    // as the kernel does for a process that dies: no frame of HTTP/2
    socket.socket.end()

    await new Promise((resolve) => socket.socket.once("close", resolve))
  })
})

const begin = async (port: number, text: string): Promise<RawSocket> => {
  const socket = await RawSocket.open(port)
  await socket.send(text)
  return socket
}

describe("a connection over TLS", () => {
  const tls = makeCertificate()

  it.each([
    ["HTTP/2 by ALPN", ["h2"], asHttp2, pong],
    ["HTTP/1.1 by ALPN", ["http/1.1"], asHttp1("POST"), "HTTP/1.1 404 "],
    ["HTTP/1.1 without ALPN", [], asHttp1("POST"), "HTTP/1.1 404 "],
    ["PROPFIND", [], asHttp1("PROPFIND"), "HTTP/1.1 404 "],
    ["PRI", ["http/1.1"], asHttp1("PRI"), "HTTP/1.1 400 "]
  ])("is answered wherever its beginning is split: %s", async (_name, alpn, bytes, expected) => {
    await using ironflow = await start({ tls })
    const whole = [...Array(Math.min(bytes.length - 1, 40)).keys()].map((i) => splitAt(bytes, i + 1))
    const cuts = await Promise.all(
      [...whole, oneByOne(bytes)].map(async (pieces) => ({
        socket: await RawSocket.open(ironflow.port, { alpn }),
        pieces
      }))
    )

    for (const { pieces, socket } of cuts) for (const piece of pieces) await socket.send(piece)

    await Promise.all(cuts.map(({ socket }) => socket.until(literally(expected))))
    for (const { socket } of cuts) socket[Symbol.dispose]()
  })

  it.each(["P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"])(
    "that begins without TLS, with %j, is ended, and the next is answered",
    async (text) => {
      await using ironflow = await start({ tls, bodyTimeoutMs: 200 })
      using socket = await RawSocket.open(ironflow.port)
      await socket.send(text)

      await socket.all()

      using next = await RawSocket.open(ironflow.port, { alpn: ["http/1.1"] })
      await next.send(asHttp1("GET"))
      await next.until("HTTP/1.1 200 ")
    }
  )

  it("of HTTP/2 is closed on both sides when its client is gone", async () => {
    await using ironflow = await start({ tls })
    using socket = await RawSocket.open(ironflow.port, { alpn: ["h2"] })
    await socket.send(asHttp2)
    await socket.until(literally(pong))

    socket.socket.end()

    await new Promise((resolve) => socket.socket.once("close", resolve))
  })
})

describe("a slow connection", () => {
  it.each(["", "P", "PR", "PRI * HTTP/2.0"])("is ended when it has sent only %j", async (text) => {
    await using ironflow = await start({ bodyTimeoutMs: 100 })
    using socket = await RawSocket.open(ironflow.port)
    if (text !== "") await socket.send(text)

    const answer = await socket.all()

    assert.match(answer, text === "" ? /^$/ : /^HTTP\/1\.1 408 /)
  })

  it("is ended when it sends no request over HTTP/2, whatever else it sends", async () => {
    await using ironflow = await start({ bodyTimeoutMs: 300 })
    using socket = await RawSocket.open(ironflow.port)
    const answer = socket.all()
    await socket.send(asHttp2)
    const pings = setInterval(() => socket.socket.write(frame(6, 0, Buffer.from("is it on"))), 50)

    assert.include(await answer, pong)
    clearInterval(pings)
  })

  it("is ended even if it sends a byte from time to time", async () => {
    await using ironflow = await start({ bodyTimeoutMs: 300 })
    using socket = await RawSocket.open(ironflow.port)
    const answer = socket.all()
    const bytes = [...PREFACE]
    const slowBytes = setInterval(() => void socket.send(Buffer.from(bytes.splice(0, 1))), 50)

    assert.match(await answer, /^HTTP\/1\.1 408 /)
    clearInterval(slowBytes)
    assert.isAbove(bytes.length, 0)
  })
})
