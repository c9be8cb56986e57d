/** HTTP/2 requests that end before they are processed. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { workerStream } from "../../src/Protocol/Workers.ts"
import { send } from "../wire/RawClient.ts"
import { RawSocket } from "../wire/RawSocket.ts"
import { hpack, http2Frame, PREFACE } from "./Http2Frames.ts"

const terminal = new Terminal()
let port: number
let server: Running
beforeAll(async () => {
  port = await freePort()
  server = terminal.start(["serve", "--port", String(port)])
  await server.until(`Ironflow listens at http://127.0.0.1:${port}`)
}, 40_000)
afterAll(() => terminal[Symbol.asyncDispose]())

const request = (path: string, stream: number): Buffer =>
  http2Frame(
    1,
    4,
    stream,
    hpack([
      [":method", "POST"],
      [":path", path],
      [":scheme", "http"],
      [":authority", "127.0.0.1"],
      ["content-type", path === workerStream.path ? "application/connect+proto" : "application/json"]
    ])
  )
const cancel = (stream: number): Buffer => http2Frame(3, 0, stream, Buffer.from([0, 0, 0, 8]))
const ping = http2Frame(6, 0, 0, Buffer.from("is it on"))

describe("an HTTP/2 stream", () => {
  it.each([
    ["of a worker", workerStream.path],
    ["of a call", "/ironflow.v1.IronflowService/Trigger"]
  ])("%s that ends as soon as it begins is not reported as a bug", async (_whose, path) => {
    using socket = await RawSocket.open(port)
    const before = server.output().length
    const streams = Array.from({ length: 20 }, (_, i) => 2 * i + 1)
    await socket.send(
      Buffer.concat([
        PREFACE,
        http2Frame(4, 0, 0, Buffer.alloc(0)),
        ...streams.flatMap((stream) => [request(path, stream), cancel(stream)]),
        ping
      ])
    )

    await socket.until("is it on")
    assert.strictEqual((await send(`http://127.0.0.1:${port}`, "GET", "/health")).status, 200)
    assert.notInclude(server.output().slice(before), "because of a bug")
  })

  it("that arrives with the end of its connection is not reported as a bug", async () => {
    using socket = await RawSocket.open(port)
    const before = server.output().length
    const unexpected = http2Frame(8, 0, 0, Buffer.alloc(4))
    await socket.send(
      Buffer.concat([
        PREFACE,
        http2Frame(4, 0, 0, Buffer.alloc(0)),
        request(workerStream.path, 1),
        unexpected
      ])
    )

    await socket.all()
    assert.strictEqual((await send(`http://127.0.0.1:${port}`, "GET", "/health")).status, 200)
    assert.notInclude(server.output().slice(before), "because of a bug")
  })
})
