/** The connection of a subscription client to a server that stops answering. */
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { createSubscriptionClient } from "@ironflow/node"
import { afterEach, assert, expect, it, vi } from "vitest"
import { type WebSocket, WebSocketServer } from "ws"

afterEach(() => void vi.useRealTimers())

it("the connection is given up when the server vanishes silently, and opened again", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] })
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, autoPong: false })
  const connections: Array<WebSocket> = []
  server.on("connection", (socket) => void connections.push(socket))
  await once(server, "listening")
  const client = createSubscriptionClient({
    serverUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    reconnectDelay: 1
  })
  await client.connect()
  const [first] = connections

  // the client sends a ping, and waits as long again for the answer
  const closed = once(first!, "close")
  vi.advanceTimersByTime(15_000)
  vi.advanceTimersByTime(15_000)
  await closed

  await vi.waitFor(() => expect(connections).toHaveLength(2))
  assert.notStrictEqual(connections[1]!.readyState, first!.readyState)
  await client.close()
  server.close()
})
