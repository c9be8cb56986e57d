/** The channel of a client, against a real engine and against servers that misbehave. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as http from "node:http"
import type { AddressInfo } from "node:net"
import path from "node:path"
import { afterEach, assert, describe, it, vi } from "vitest"
import { WebSocket, WebSocketServer } from "ws"
import { createClient, type IronflowClient } from "../../src/Promise/Client.ts"
import { start as startEngine } from "../wire/Ironflow.ts"
import { EngineServer } from "./EngineServer.ts"
import { nodeArguments } from "../Built.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** A server that offers a channel, counts HTTP requests, and leaves the channel to the test. */
const scripted = async (onSocket: (socket: WebSocket) => void) => {
  let requests = 0
  const server = http.createServer((request, response) => {
    requests++
    request.resume()
    response.setHeader("content-type", "application/json")
    response.setHeader("x-ironflow-channel", "/api/v1/channel")
    response.end('{"status":"ok"}')
  })
  const sockets = new WebSocketServer({ server, path: "/api/v1/channel" })
  sockets.on("connection", onSocket)
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  cleanups.push(() => {
    for (const socket of sockets.clients) socket.terminate()
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const client = createClient({ serverUrl: `http://127.0.0.1:${port}`, timeout: 2000 })
  cleanups.push(() => client.close())
  return { client, sockets, requests: () => requests }
}

/** Makes enough calls over HTTP for the client to open its channel, and waits for the channel. */
const untilOpen = async (client: IronflowClient, sockets: WebSocketServer): Promise<void> => {
  for (let i = 0; i < 4; i++) await client.health()
  await vi.waitFor(() => assert.strictEqual(sockets.clients.size, 1), { timeout: 5000 })
}

const answerAll = (socket: WebSocket): void => {
  socket.on("message", (data) => {
    for (const [, id] of String(data).matchAll(/(\d+) POST \S+ 2\n/g))
      socket.send(`${id} 200 15\n{"status":"ok"}`)
  })
}

describe("a client's channel", () => {
  it("is not used where the runtime hides its socket: calls go by HTTP", async () => {
    const emit = WebSocket.prototype.emit
    // Bun's replacement of `ws` behaves like this
    const emitted = vi.spyOn(WebSocket.prototype, "emit").mockImplementation(function (
      this: WebSocket,
      name: string | symbol,
      ...args: Array<unknown>
    ) {
      return emit.apply(this, name === "upgrade" ? [name, { socket: null }] : [name, ...args])
    })
    cleanups.push(() => emitted.mockRestore())
    const { client, requests, sockets } = await scripted(answerAll)

    for (let i = 0; i < 4; i++) await client.health()
    await vi.waitFor(() => assert.isTrue(emitted.mock.calls.some(([name]) => name === "close")), {
      timeout: 5000
    })
    for (let i = 0; i < 4; i++) await client.health()

    assert.strictEqual(requests(), 8)
    assert.strictEqual(sockets.clients.size, 0)
  })

  it("takes over from HTTP after some calls", async () => {
    const { client, requests, sockets } = await scripted(answerAll)
    await untilOpen(client, sockets)
    await client.health()
    const before = requests()

    const answers = await Promise.all(Array.from({ length: 100 }, () => client.health()))

    assert.deepStrictEqual(new Set(answers), new Set(["ok"]))
    assert.isAtMost(requests() - before, 1)
  })

  it("fails pending calls when it breaks, and later ones go by HTTP", async () => {
    const { client, sockets } = await scripted((socket) => {
      socket.on("message", () => socket.terminate())
    })
    await untilOpen(client, sockets)

    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => client.health()))
    const broken = outcomes.filter(({ status }) => status === "rejected")

    for (const outcome of broken) {
      assert.match(
        String(Object(outcome).reason),
        /ConnectionError: health\(\) failed: .* closed the connection/
      )
    }
    assert.isAbove(broken.length, 0)
    assert.strictEqual(await client.health(), "ok")
  })

  it("lets the client repeat calls that may be repeated", async () => {
    let broken = 0
    const { client, sockets } = await scripted((socket) => {
      socket.on("message", () => {
        broken++
        socket.terminate()
      })
    })
    await untilOpen(client, sockets)

    await client.listFunctions()

    assert.strictEqual(broken, 1)
  })

  it("is given up when nothing arrives on it within the timeout of a call", async () => {
    const { client, requests, sockets } = await scripted(() => undefined)
    await untilOpen(client, sockets)
    const before = requests()

    // one call uses the channel and gets no answer for 2 seconds, so the client returns to HTTP
    await Promise.allSettled([client.health(), client.health()])

    await vi.waitFor(() => assert.strictEqual(sockets.clients.size, 0), { timeout: 4000 })
    assert.strictEqual(await client.health(), "ok")
    assert.isAbove(requests(), before)
  })

  it("drops calls that the user aborts", async () => {
    const messages: Array<string> = []
    const { client, sockets } = await scripted((socket) => {
      socket.on("message", (data) => void messages.push(String(data)))
    })
    await untilOpen(client, sockets)
    const controller = new AbortController()

    const call = client.getRun("run_1", { signal: controller.signal })
    await vi.waitFor(() => assert.match(messages.join(""), /GetRun/))
    controller.abort(new Error("enough"))

    assert.match(String(await call.catch((error: unknown) => error)), /enough/)
    await vi.waitFor(() => assert.match(messages.join(""), /\d+ CANCEL - 0\n/))
  })

  it("is not used where it cannot be opened", async () => {
    const { client, requests, sockets } = await scripted((socket) => socket.terminate())
    sockets.shouldHandle = () => false

    for (let i = 0; i < 20; i++) assert.strictEqual(await client.health(), "ok")

    assert.strictEqual(requests(), 20)
  })

  it("is not opened unless the server offers it", async () => {
    let upgrades = 0
    const server = http.createServer((request, response) => {
      request.resume()
      response.setHeader("content-type", "application/json")
      response.end('{"status":"ok"}')
    })
    server.on("upgrade", (_, socket) => {
      upgrades++
      socket.destroy()
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    cleanups.push(() => server.close())
    await using client = createClient({
      serverUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    })

    for (let i = 0; i < 20; i++) await client.health()

    assert.strictEqual(upgrades, 0)
  })

  it("is opened again after a restart of the engine", async () => {
    const server = await EngineServer.start()
    cleanups.push(() => server[Symbol.asyncDispose]())
    await using client = createClient({ serverUrl: server.url, retry: { connectionDelayMs: 20 } })
    for (let i = 0; i < 20; i++) await client.emit("order.placed", { i })

    await server.stop()
    const refused = await client.emit("order.placed", {}).catch((error: unknown) => error)
    await server.start()
    const { eventId } = await client.emit("order.placed", {})

    assert.match(String(refused), /ConnectionError/)
    assert.match(eventId, /^evt_/)
  })

  it("lets the client repeat, once, the calls that the engine had not accepted when it stopped", async () => {
    const server = await EngineServer.start()
    cleanups.push(() => server[Symbol.asyncDispose]())
    await using client = createClient({
      serverUrl: server.url,
      retry: { connectionDelayMs: 20, maxAttempts: 1000 }
    })
    for (let i = 0; i < 20; i++) await client.emit("order.placed", {})

    let running = true
    const stopped = server.stop().then(() => (running = false))
    const emits: Array<Promise<unknown>> = []
    while (running) {
      emits.push(client.streams.append("order-1", { name: "order.paid", data: {}, entityType: "order" }))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await stopped
    await server.start()
    await Promise.all(emits)

    const { version } = await client.streams.getInfo("order-1")
    assert.strictEqual(version, emits.length)
  })

  it("carries small calls, and large calls use HTTP", async () => {
    await using engine = await startEngine({ maxBodyBytes: 8 * 1024 * 1024 })
    await using client = createClient({ serverUrl: engine.url })
    for (let i = 0; i < 20; i++) await client.health()

    const error = await client
      .emit("order.placed", { note: "x".repeat(1_100_000) })
      .catch((error: unknown) => error)

    assert.match(String(error), /LimitExceededError|limit/)
    assert.strictEqual(await client.health(), "ok")
  })

  it("does not keep a process alive that has nothing else to do", async () => {
    await using engine = await startEngine()
    const program = `
      const { createClient } = await import("@ironflow/node")
      const client = createClient({ serverUrl: ${JSON.stringify(engine.url)} })
      for (let i = 0; i < 50; i++) await Promise.all([client.emit("order.placed", { i }), client.health()])
      console.log("done")
    `
    const child = spawn(process.execPath, [...nodeArguments(), "--input-type=module", "-e", program], {
      cwd: path.join(import.meta.dirname, "../.."),
      stdio: ["ignore", "pipe", "inherit"]
    })
    cleanups.push(() => child.kill("SIGKILL"))

    const [code] = await once(child, "exit")

    assert.strictEqual(code, 0)
  })
})
