/** Connections that a server has closed while this process was too busy to notice. */
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import { assert, describe, it } from "@effect/vitest"
import { createClient } from "../../src/Promise/Client.ts"

/** A server in another thread. It closes idle connections, and counts open ones. */
const SERVER = `
  const { workerData: shared, parentPort } = require("node:worker_threads")
  const sockets = new Set()
  const server = require("node:http").createServer((request, response) => {
    request.resume().on("end", () => {
      response.setHeader("content-type", "application/json")
      response.setHeader("connection", "keep-alive")
      response.setHeader("keep-alive", "timeout=60")
      response.end('{"status":"ok","eventId":"evt_1","runIds":[],"position":"1"}')
    })
  })
  server.keepAliveTimeout = 300
  server.keepAliveTimeoutBuffer = 0
  server.on("connection", (socket) => {
    Atomics.add(shared, 0, 1)
    socket.once("close", () => {
      Atomics.sub(shared, 0, 1)
      Atomics.notify(shared, 0)
    })
  })
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port))
`

describe("a client over HTTP", () => {
  it("sends nothing on connections that were closed while its process was busy", async () => {
    const shared = new Int32Array(new SharedArrayBuffer(4))
    const worker = new Worker(SERVER, { eval: true, workerData: shared })
    const [port] = await once(worker, "message")
    await using client = createClient({ serverUrl: `http://127.0.0.1:${port}`, retry: { maxAttempts: 1 } })
    const connections = 20
    await Promise.all(Array.from({ length: connections }, () => client.health()))

    // this blocks the process until the server has closed all connections, which may be more when this takes long
    for (let open = Atomics.load(shared, 0); open > 0; open = Atomics.load(shared, 0)) {
      Atomics.wait(shared, 0, open)
    }
    const outcomes = await Promise.allSettled(
      Array.from({ length: connections }, () => client.emit("order.placed", {}))
    )
    await worker.terminate()

    assert.deepStrictEqual(new Set(outcomes.map(({ status }) => status)), new Set(["fulfilled"]))
  })
})
