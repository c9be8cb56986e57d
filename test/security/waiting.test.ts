/** Waiting calls and streams have a limit over all connections, but each connection always has some places. */
import http2 from "node:http2"
import { once } from "node:events"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { ALLOWED_WAITS, MAX_EXTRA_WAITS } from "../../src/Server/Http/WaitingCalls.ts"
import { MAX_EXTRA_STREAMS } from "../../src/Server/Http/Http2.ts"
import { Keys } from "./Keys.ts"

let keys: Keys
beforeEach(async () => {
  keys = await Keys.start()
})
afterEach(() => keys[Symbol.asyncDispose]())

const emit = () => keys.ok(keys.rpc("IronflowService/Trigger", { event: "order.placed", data: {} }))

describe("calls that wait", () => {
  it("are refused when there are too many, except those of a connection that has few", async () => {
    await keys.ok(
      keys.rpc("IronflowService/RegisterFunction", { id: "ship", triggers: [{ event: "order.placed" }] })
    )
    const [run] = (await emit()).runIds
    const { key } = await keys.makeKey()
    const each = MAX_EXTRA_WAITS / 2 + ALLOWED_WAITS + 5
    let refused = 0
    const channels = await Promise.all([1, 2].map(() => keys.socket("/api/v1/channel", key)))
    for (const { socket } of channels) {
      socket.on("message", (frame) => (refused += String(frame).match(/ 503 /g)?.length ?? 0))
      for (let i = 1; i <= each; i++) socket.send(`${i} GET /api/v1/runs/${run}/wait?timeout=60000 0\n`)
    }
    await vi.waitFor(() => assert.strictEqual(refused, 10), { timeout: 30_000 })

    const wait = (timeout: number) => keys.send("GET", `/api/v1/runs/${run}/wait?timeout=${timeout}`)
    assert.strictEqual((await wait(1)).status, 204)
    // a connection that ends makes room
    channels[0]!.socket.terminate()
    const again = () => channels[1]!.socket.send(`${each + 1} GET /api/v1/runs/run_none/wait 0\n`)
    await vi.waitFor(
      () => {
        again()
        assert.include(JSON.stringify(channels[1]!.frames), `${each + 1} 404`)
      },
      { timeout: 10_000 }
    )
  }, 60_000)
})

describe("HTTP/2 streams", () => {
  it("are refused when all connections have too many, except the first one of a connection", async () => {
    const sessions: Array<http2.ClientHttp2Session> = []
    const open = async (streams: number, onCode: (code: number) => void) => {
      const session = http2.connect(keys.server.url).on("error", () => undefined)
      sessions.push(session)
      await once(session, "remoteSettings")
      return Array.from({ length: streams }, () => {
        const stream = session.request({
          ":method": "POST",
          ":path": "/ironflow.v1.PubSubService/Subscribe",
          "content-type": "application/connect+json",
          authorization: `Bearer ${key}`
        })
        stream.on("error", () => undefined).once("close", () => onCode(stream.rstCode ?? 0))
        const message = Buffer.from(JSON.stringify({ pattern: "events:order.placed" }))
        stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]))
        return stream
      })
    }
    const { key } = await keys.makeKey()
    const codes: Array<number> = []
    try {
      for (let left = MAX_EXTRA_STREAMS; left > 0; left -= 127)
        await open(Math.min(128, left + 1), (code) => codes.push(code))
      await open(11, (code) => codes.push(code))
      await vi.waitFor(() => assert.lengthOf(codes, 10), { timeout: 20_000 })
      assert.deepStrictEqual(new Set(codes), new Set([http2.constants.NGHTTP2_REFUSED_STREAM]))

      const [first] = await open(1, () => undefined)
      await once(first!, "response")
      const frame = once(first!, "data")
      await emit()
      assert.include(String((await frame)[0]), "order.placed")
    } finally {
      for (const session of sessions) session.destroy()
    }
  }, 60_000)
})
