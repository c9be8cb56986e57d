/** Calls on one connection, by a client that knows only the format of the frames. */
import { once } from "node:events"
import net from "node:net"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { WebSocket } from "ws"
import { type Ironflow, start } from "./Ironflow.ts"

let ironflow: Ironflow
const sockets: Array<WebSocket> = []
beforeEach(async () => {
  ironflow = await start()
})
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.terminate()
  await ironflow.close()
})

interface Answer {
  readonly status: number
  readonly body: any
}

/** A channel that records the answers by id. */
const open = async (headers: Record<string, string> = {}) => {
  const socket = new WebSocket(`ws://127.0.0.1:${ironflow.port}/api/v1/channel`, { headers })
  sockets.push(socket)
  const answers = new Map<string, Answer>()
  let waiting: { readonly ids: ReadonlyArray<string>; readonly resolve: () => void } | undefined
  const check = () => {
    if (waiting?.ids.every((id) => answers.has(id)) === true) waiting.resolve()
  }
  socket.on("message", (data) => {
    for (let rest = String(data); rest !== "";) {
      const end = rest.indexOf("\n")
      const [id = "", status, length] = rest.slice(0, end).split(" ")
      const text = rest.slice(end + 1, end + 1 + Number(length))
      answers.set(id, { status: Number(status), body: text === "" ? undefined : JSON.parse(text) })
      rest = rest.slice(end + 1 + Number(length))
    }
    check()
  })
  await once(socket, "open")
  return {
    socket,
    answers,
    message: (id: number, method: string, path: string, body?: unknown): string => {
      const text = body === undefined ? "" : JSON.stringify(body)
      return `${id} ${method} ${path} ${text.length}\n${text}`
    },
    until: (...ids: ReadonlyArray<number>) =>
      new Promise<ReadonlyArray<Answer>>((resolve) => {
        const keys = ids.map(String)
        waiting = { ids: keys, resolve: () => resolve(keys.map((id) => answers.get(id)!)) }
        check()
      })
  }
}

const emit = "/ironflow.v1.IronflowService/Trigger"
const register = "/ironflow.v1.IronflowService/RegisterFunction"

/** A run without a worker. */
const startRun = async (): Promise<string> => {
  const { message, socket, until } = await open()
  socket.send(message(1, "POST", register, { id: "ship", triggers: [{ event: "order.placed" }] }))
  await until(1)
  socket.send(message(2, "POST", emit, { event: "order.placed", data: {} }))
  return (await until(2))[0]?.body.runIds[0]
}

describe("a channel", () => {
  it("is named in every answer over HTTP", async () => {
    const response = await fetch(`${ironflow.url}/health`)

    assert.strictEqual(response.headers.get("x-ironflow-channel"), "/api/v1/channel")
  })

  it("answers every call of a frame, in any order, with the status of HTTP", async () => {
    const { message, socket, until } = await open()

    socket.send(
      message(7, "POST", emit, { event: "order.placed", data: { note: "zwei\nZeilen, 日本" } }) +
        message(8, "GET", "/health") +
        message(9, "POST", emit, { event: "" }) +
        message(10, "GET", "/api/v1/runs/run_none/explain") +
        message(11, "GET", "/nowhere?at=all")
    )
    const [emitted, health, invalid, unknown, nowhere] = await until(7, 8, 9, 10, 11)

    assert.strictEqual(emitted?.status, 200)
    assert.match(emitted?.body.eventId, /^evt_/)
    assert.strictEqual(health?.body.status, "ok")
    assert.deepStrictEqual([invalid?.status, invalid?.body.code], [400, "invalid_argument"])
    assert.deepStrictEqual([unknown?.status, unknown?.body.code], [404, "RUN_NOT_FOUND"])
    assert.deepStrictEqual([nowhere?.status, nowhere?.body.code], [404, "ROUTE_NOT_FOUND"])
  })

  it("works in the environment of the request that opened it", async () => {
    const staging = await open({ "x-ironflow-environment": "staging" })
    staging.socket.send(
      staging.message(1, "POST", register, { id: "ship", triggers: [{ event: "order.placed" }] })
    )
    await staging.until(1)
    const elsewhere = await open()

    staging.socket.send(staging.message(2, "POST", emit, { event: "order.placed", data: {} }))
    elsewhere.socket.send(elsewhere.message(1, "POST", emit, { event: "order.placed", data: {} }))

    assert.strictEqual((await staging.until(2))[0]?.body.runIds.length, 1)
    assert.deepStrictEqual((await elsewhere.until(1))[0]?.body.runIds ?? [], [])
  })

  it("does not answer a cancelled call", async () => {
    const { answers, message, socket, until } = await open()
    const runId = await startRun()
    socket.send(message(3, "GET", `/api/v1/runs/${runId}/wait?timeout=30000`))

    socket.send(message(3, "CANCEL", "-"))
    // the id is free again, since the call has ended
    socket.send(message(3, "GET", "/health"))
    const [again] = await until(3)

    assert.strictEqual(again?.body.status, "ok")
    assert.strictEqual(answers.size, 1)
  })

  it.each([
    ["no line", "1 GET /health"],
    ["a text that ends too early", "1 POST /health 10\n{}"],
    ["an invalid length", "1 GET /health x\n"],
    ["an invalid id", "x GET /health 0\n"],
    ["missing words", "1 0\n"],
    ["a frame of bytes", Buffer.from("1 GET /health 0\n")]
  ])("is closed by %s", async (_, frame) => {
    const { socket } = await open()

    socket.send(frame)
    const [code] = await once(socket, "close")

    assert.strictEqual(code, 1002)
    assert.strictEqual((await fetch(`${ironflow.url}/health`)).status, 200)
  })

  it("is closed at once by a malformed message behind calls that take more than one turn", async () => {
    const { message, socket } = await open()

    // after 16 reads the server reads nothing more from the client until it has taken the rest
    const reads = Array.from({ length: 17 }, (_, i) => message(i, "GET", "/health"))
    socket.send(`${reads.join("")}no line`)

    // a server that does not go on reading would not see the answer to its close, and wait for it for 30 s
    assert.strictEqual((await once(socket, "close"))[0], 1002)
  }, 15_000)

  it("is closed by an id that is in use", async () => {
    const { message, socket } = await open()
    const runId = await startRun()

    // this call still waits when the server comes to the next one
    socket.send(message(1, "GET", `/api/v1/runs/${runId}/wait?timeout=30000`) + message(1, "GET", "/health"))

    assert.strictEqual((await once(socket, "close"))[0], 1002)
  })

  it("is closed by a frame that is too large", async () => {
    const { socket } = await open()

    socket.send("x".repeat(5 * 1024 * 1024))

    assert.strictEqual((await once(socket, "close"))[0], 1009)
  })

  it("answers 429 to calls beyond its limit, and continues", async () => {
    const { message, socket, until } = await open()
    const runId = await startRun()
    const waits = Array.from({ length: 10_001 }, (_, i) =>
      message(100 + i, "GET", `/api/v1/runs/${runId}/wait?timeout=30000`)
    )

    socket.send(waits.join(""))
    const [refused] = await until(100 + 10_000)

    assert.deepStrictEqual([refused?.status, refused?.body.code], [429, "TOO_MANY_CALLS"])
    socket.send(message(100, "CANCEL", "-") + message(3, "GET", "/health"))
    assert.strictEqual((await until(3))[0]?.status, 200)
  })

  it("is not cut with the idle connections when the server stops", async () => {
    const upgraded = net.connect(ironflow.port, "127.0.0.1")
    upgraded.write(
      "GET /api/v1/channel HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n" +
        "sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nsec-websocket-version: 13\r\n\r\n"
    )
    await once(upgraded, "data")
    let hasEnded = false
    upgraded.on("end", () => (hasEnded = true)).on("error", () => undefined)
    const closeFrame = once(upgraded, "data")
    const idle = net.connect(ironflow.port, "127.0.0.1")
    await once(idle, "connect")
    idle.resume()

    const closed = ironflow.close()
    await once(idle, "end")
    await new Promise(setImmediate)

    assert.strictEqual(hasEnded, false)
    assert.strictEqual((await closeFrame)[0][0], 0x88)
    // the answer to the close frame: an empty one, with a mask of zeros
    upgraded.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0]))
    await once(upgraded, "close")
    await closed
  })

  it("lets calls end before a stopping server closes it", async () => {
    const { answers, message, socket, until } = await open()
    const runId = await startRun()
    socket.send(message(3, "GET", `/api/v1/runs/${runId}/wait?timeout=30000`) + message(4, "GET", "/health"))
    await until(4)

    const closed = once(socket, "close")
    await ironflow.close()

    assert.strictEqual((await closed)[0], 1001)
    assert.strictEqual(answers.get("3")?.status, 204)
  })
})
