/** Watches with many frames to send leave time for other work. */
import { startEngine } from "@ironflow/node/engine"
import { afterEach, assert, it, vi } from "vitest"
import { WebSocket } from "ws"

afterEach(() => void vi.restoreAllMocks())

it("watches that begin at an old revision block the event loop only for a few frames, however many watches there are", async () => {
  await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  const kv = engine.client.kv()
  await kv.createBucket({ name: "b" })
  const bucket = kv.bucket("b")
  for (let at = 0; at < 500; at++) await bucket.put(`k${at}`, at)
  let sentInTurn = 0
  let mostInTurn = 0
  const real = WebSocket.prototype.send
  vi.spyOn(WebSocket.prototype, "send").mockImplementation(function (
    this: WebSocket,
    ...args: Array<unknown>
  ) {
    if (sentInTurn++ === 0) setImmediate(() => (sentInTurn = 0))
    mostInTurn = Math.max(mostInTurn, sentInTurn)
    return Reflect.apply(real, this, args)
  })

  const url = `${engine.url!.replace("http", "ws")}/api/v1/kv/buckets/b/watch?revision=0`
  const sockets = Array.from({ length: 5 }, () => new WebSocket(url))
  const frames = sockets.map((socket) => {
    const seen: Array<string> = []
    socket.on("message", (frame) => seen.push(String(frame)))
    return seen
  })

  // the first frame states where the watch begins
  await vi.waitFor(
    () =>
      assert.deepStrictEqual(
        frames.map((seen) => seen.length),
        Array(5).fill(501)
      ),
    20_000
  )
  for (const socket of sockets) socket.terminate()
  assert.isAbove(mostInTurn, 0)
  assert.isBelow(mostInTurn, 200)
})
