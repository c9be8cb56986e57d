/** Following a projection on a legacy server, whose events name the partition that has changed, but not its state. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, it, vi } from "vitest"
import { type WebSocket, WebSocketServer } from "ws"
import { createClient, type ProjectionStateResult } from "@ironflow/node"

interface Kept {
  readonly state: unknown
  readonly id: string
  readonly version: number
}

/** A server that keeps states, and announces them over `/ws` when it is told to. */
class Server implements AsyncDisposable {
  readonly states = new Map<string, Kept>()
  readonly asked: Array<string> = []
  readonly patterns: Array<string> = []
  readonly #sockets = new Set<WebSocket>()
  readonly #http = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://server")
    this.asked.push(`${pathname}${searchParams.size > 0 ? `?${searchParams}` : ""}`)
    if (pathname !== "/api/v1/projections/totals") {
      response.writeHead(404).end("404 page not found")
      return
    }
    const partition = searchParams.get("partition") ?? "__global__"
    const kept = this.states.get(partition)
    response.writeHead(200, { "content-type": "application/json" }).end(
      JSON.stringify({
        name: "totals",
        version: kept?.version ?? 0,
        mode: "managed",
        status: "active",
        last_event_seq: kept?.version ?? 0,
        updated_at: "2026-01-02T03:04:05Z",
        ...(kept === undefined
          ? {}
          : { state: { partition_key: partition, state: kept.state, last_event_id: kept.id } })
      })
    )
  })
  readonly #ws = new WebSocketServer({ server: this.#http, path: "/ws" })

  static async start(): Promise<Server> {
    const server = new Server()
    server.#ws.on("connection", (socket) => {
      server.#sockets.add(socket)
      socket.on("close", () => server.#sockets.delete(socket))
      socket.on("message", (data) => {
        const { pattern } = JSON.parse(String(data)).subscription
        server.patterns.push(pattern)
        const results = [{ pattern, status: "ok", subscriptionId: `sub-${pattern}` }]
        socket.send(JSON.stringify({ type: "subscription_result", results }))
      })
    })
    await new Promise<void>((resolve) => server.#http.listen(0, "127.0.0.1", resolve))
    return server
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`
  }

  put(partition: string, total: number): void {
    const version = (this.states.get(partition)?.version ?? 0) + 1
    this.states.set(partition, { state: { total }, id: `evt-${partition}-${version}`, version })
  }

  announce(partition: string, pattern: string): void {
    const topic = `system.projection.totals.${partition}.updated`
    const data = { state: {}, last_event_id: "evt", last_event_name: "order.placed" }
    const frame = { type: "event", subscriptionId: `sub-${pattern}`, topic, data }
    for (const socket of this.#sockets) socket.send(JSON.stringify(frame))
  }

  cut(): void {
    for (const socket of this.#sockets) socket.terminate()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    this.#ws.close()
    this.#http.closeAllConnections()
    await new Promise((resolve) => this.#http.close(resolve))
  }
}

it("a subscription reads each state that an event announces, and the global state again after a reconnect", async () => {
  await using server = await Server.start()
  await using client = createClient({ serverUrl: server.url })
  server.put("__global__", 1)
  const seen: Array<ProjectionStateResult> = []
  const subscription = client.projections.subscribe("totals", {
    onUpdate: (update) => void seen.push(update)
  })
  await subscription.ready
  const all = "system.projection.totals.>"

  server.put("ada", 2)
  server.announce("ada", all)
  await vi.waitFor(() => assert.lengthOf(seen, 1))
  // these states have not changed
  server.announce("ada", all)
  server.announce("__global__", all)
  await vi.waitFor(() => assert.match(server.asked.at(-1)!, /partition=__global__$/))
  server.cut()
  server.put("__global__", 3)
  await vi.waitFor(() => assert.lengthOf(seen, 2), { timeout: 5000 })
  await subscription.stop()

  assert.deepStrictEqual(
    seen.map(({ partition, state, version }) => [partition, state, version]),
    [
      ["ada", { total: 2 }, 1],
      ["__global__", { total: 3 }, 2]
    ]
  )
  assert.deepStrictEqual(new Set(server.patterns), new Set([all]))
}, 15_000)

it("a subscription begins with the existing state on request, and follows one partition", async () => {
  await using server = await Server.start()
  await using client = createClient({ serverUrl: server.url })
  server.put("ada", 1)
  const seen: Array<unknown> = []
  const subscription = client.projections.subscribe("totals", { partition: "ada", includeCurrent: true })
  for await (const { state } of subscription) {
    seen.push(state)
    if (seen.length === 2) break
    server.put("ada", 2)
    server.announce("bob", "system.projection.totals.ada.updated")
    server.announce("ada", "system.projection.totals.ada.updated")
  }

  assert.deepStrictEqual(seen, [{ total: 1 }, { total: 2 }])
  assert.deepStrictEqual(server.patterns, [
    "system.projection.totals.ada.updated",
    "system.projection.totals.rebuilt"
  ])
})
