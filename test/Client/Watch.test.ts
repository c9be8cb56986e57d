/** Watches with scripted servers: legacy servers, servers that vanish, and servers that send nothing more. */
import { createClient, type IronflowClient, type KVWatchEvent } from "@ironflow/node"
import type { AddressInfo } from "node:net"
import { afterEach, beforeEach, expect, it } from "vitest"
import { type WebSocket, WebSocketServer } from "ws"

/** What the scripted server does with each connection, and the URL of each. */
let onConnection: (socket: WebSocket, connection: number) => void
let asked: Array<string>
let server: WebSocketServer
let client: IronflowClient
beforeEach(async () => {
  asked = []
  server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
  server.on("connection", (socket, request) => {
    asked.push(request.url ?? "")
    onConnection(socket, asked.length)
  })
  await new Promise((resolve) => server.once("listening", resolve))
  client = createClient({ serverUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
})
afterEach(async () => {
  await client.close()
  for (const socket of server.clients) socket.terminate()
  await new Promise((resolve) => server.close(resolve))
})

const update = (socket: WebSocket, revision: number, more: object = {}): void =>
  socket.send(JSON.stringify({ type: "kv_update", key: "k", value: "NQ==", revision, ...more }))

const take = async (watcher: AsyncIterable<KVWatchEvent>, count: number): Promise<Array<KVWatchEvent>> => {
  const seen: Array<KVWatchEvent> = []
  for await (const event of watcher) if (seen.push(event) === count) break
  return seen
}

it("minimal frames of a server are understood, and unknown ones are skipped", async () => {
  onConnection = (socket) => {
    socket.send("no JSON")
    socket.send(JSON.stringify({ type: "hello" }))
    socket.send(JSON.stringify({ type: "kv_update", revision: 1 }))
    update(socket, 2)
    update(socket, 3, { operation: "DEL" })
    update(socket, 3, { operation: "PURGE" })
    update(socket, 4, { operation: "PURGE" })
  }
  await using watcher = client.kv().bucket("b").watch("k")

  expect(await take(watcher, 3)).toEqual([
    { bucket: "b", key: "k", value: 5, revision: 2, operation: "put" },
    { bucket: "b", key: "k", revision: 3, operation: "delete" },
    { bucket: "b", key: "k", revision: 4, operation: "purge" }
  ])
  await watcher.ready
  expect(asked).toEqual(["/api/v1/kv/buckets/b/watch?revision=now&key=k"])
})

it("a server that does not announce the start of a watch is assumed to have started", async () => {
  onConnection = () => undefined
  await using watcher = client.kv().bucket("b").watch()

  await watcher.ready
})

/** The revisions after which the client has asked for changes. */
const askedRevisions = (): Array<string | null> =>
  asked.map((url) => new URL(url, "http://host").searchParams.get("revision"))

it("a server that was slow to start a watch, and is then lost, does not send old changes", async () => {
  let first: WebSocket
  onConnection = (socket, connection) => {
    if (connection === 1) return void (first = socket)
    socket.send(JSON.stringify({ type: "watching", revision: 88 }))
    update(socket, 89)
  }
  await using watcher = client.kv().bucket("b").watch()
  await watcher.ready
  first!.close()

  expect((await take(watcher, 1)).map(({ revision }) => revision)).toEqual([89])
  expect(askedRevisions()).toEqual(["now", "now"])
})

it("a watch continues where the server says that it starts, even if the server is slow to say so", async () => {
  let first: WebSocket
  onConnection = (socket, connection) => {
    if (connection === 1) first = socket
    else update(socket, 89)
  }
  await using watcher = client.kv().bucket("b").watch()
  await watcher.ready
  first!.send(JSON.stringify({ type: "watching", revision: 88 }))
  first!.close()

  expect((await take(watcher, 1)).map(({ revision }) => revision)).toEqual([89])
  expect(askedRevisions()).toEqual(["now", "88"])
})

it("a lost connection is renewed at the position of the watch, and nothing is delivered twice", async () => {
  onConnection = (socket, connection) => {
    update(socket, 7)
    if (connection === 1) return socket.close()
    update(socket, 8)
  }
  await using watcher = client.kv().bucket("b").watch()

  expect((await take(watcher, 2)).map(({ revision }) => revision)).toEqual([7, 8])
  expect(askedRevisions()).toEqual(["now", "7"])
})

it("a silent connection is given up, and a pinged one is not", async () => {
  const pings = 4
  const pingMs = 100
  let pinged = 0
  onConnection = (socket, connection) => {
    socket.send(JSON.stringify({ type: "watching", revision: 4, ping_ms: pingMs }))
    if (connection === 2) return update(socket, 5)
    const timer = setInterval(() => {
      if (pinged++ < pings) return socket.ping()
      clearInterval(timer)
      // from here on nothing arrives, as if the server had lost its power
    }, pingMs)
  }
  const began = performance.now()
  await using watcher = client.kv().bucket("b").watch()

  expect((await take(watcher, 1)).map(({ revision }) => revision)).toEqual([5])
  expect(asked.length).toBe(2)
  expect(pinged).toBeGreaterThan(pings)
  expect(performance.now() - began).toBeGreaterThan((pings + 3) * pingMs)
})

it("a connection that is pinged once in a year is not given up at once", async () => {
  onConnection = (socket) => {
    socket.send(JSON.stringify({ type: "watching", revision: 4, ping_ms: 365 * 24 * 3_600_000 }))
    socket.once("pong", () => update(socket, 5)).ping()
  }
  await using watcher = client.kv().bucket("b").watch()

  expect((await take(watcher, 1)).map(({ revision }) => revision)).toEqual([5])
  expect(asked.length).toBe(1)
})

it("an error that the server sends ends the watch", async () => {
  onConnection = (socket) =>
    socket.send(JSON.stringify({ type: "error", status: 404, error: "Bucket not found: b" }))

  await expect(take(client.kv().bucket("b").watch(), 1)).rejects.toThrow("Bucket not found: b")
  expect(asked.length).toBe(1)
})
