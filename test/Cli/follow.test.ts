/** Commands that keep running while their server restarts. */
import { createServer } from "node:http"
import { once } from "node:events"
import { afterEach, assert, beforeEach, it } from "vitest"
import { WebSocketServer } from "ws"
import { jsonHere } from "./Here.ts"
import { freePort, type Running, Terminal } from "./Terminal.ts"

let terminal: Terminal
beforeEach(() => {
  terminal = new Terminal({
    "functions.ts": `
      import { createFunction } from "@ironflow/node"
      export const charge = createFunction({ id: "charge", triggers: [{ event: "order.placed" }] }, async () => "charged")
    `
  })
})
afterEach(() => terminal[Symbol.asyncDispose]())

const away = "Trying again until the server answers."

it("following runs and events continues over restarts of the server", { timeout: 240_000 }, async () => {
  const port = await freePort()
  const env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  const serve = async (): Promise<Running> => {
    const server = terminal.start(["serve", "--port", String(port), "--data", "orders.db"])
    await server.until("listens")
    return server
  }
  const first = await serve()
  const worker = terminal.start(["worker", "./functions.ts"], { env })
  await worker.until("charge")
  const emit = (orderId: string) =>
    jsonHere(["emit", "order.placed", JSON.stringify({ orderId }), "--wait"], { env })
  const before = await emit("o-1")
  const runs = terminal.start(["runs", "list", "--follow"], { env })
  const events = terminal.start(["events", "tail"], { env })
  await runs.until(before.runIds[0])
  await events.until('{"orderId":"o-1"}')

  first.signal("SIGKILL")
  await first.ended
  await runs.until(away)
  await serve()
  const after = await emit("o-2")

  await runs.until(after.runIds[0])
  await events.until('{"orderId":"o-2"}')
  assert.lengthOf(runs.output().split(before.runIds[0]), 2)
  assert.lengthOf(runs.output().split(away), 2)
  assert.lengthOf(events.output().split('{"orderId":"o-1"}'), 2)
  for (const running of [runs, events]) running.signal("SIGINT")
  for (const { code } of await Promise.all([runs.ended, events.ended])) assert.strictEqual(code, 0)
})

it("waiting for a bulk operation continues over a restart of the server", { timeout: 240_000 }, async () => {
  const port = await freePort()
  const operation = {
    id: "bulk_1",
    action: "retry",
    status: "running",
    dryRun: false,
    by: "local",
    matched: 2,
    done: 1,
    skipped: {},
    filters: { status: "failed" },
    createdAt: "2026-01-31T12:00:00.000Z",
    updatedAt: "2026-01-31T12:00:00.000Z"
  }
  const listen = async (answer: object) => {
    let asked = 0
    const server = createServer((request, response) => {
      if (request.url?.includes("ulk") === true) asked++
      response.setHeader("content-type", "application/json")
      const isHealth = request.url?.endsWith("/health") === true
      response.end(JSON.stringify(isHealth ? { status: "ok", version: "0.8.0" } : answer))
    }).listen(port, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    return {
      asked: () => asked,
      close: () => {
        server.closeAllConnections()
        return new Promise((resolve) => server.close(resolve))
      }
    }
  }
  const first = await listen(operation)
  const waiting = terminal.start(["bulk", "get", "bulk_1", "--wait"], {
    env: { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  })
  while (first.asked() < 2) await new Promise(setImmediate)
  await first.close()
  await waiting.until("Trying again every second.")
  const second = await listen({ ...operation, status: "completed", done: 2 })

  const { code, stdout } = await waiting.ended
  await second.close()
  assert.include(stdout, "2 runs retried.")
  assert.strictEqual(code, 0)
})

it("what a subscription logs does not go to standard output, where programs read events", async () => {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
  await once(server, "listening")
  server.on("connection", (socket) =>
    socket.on("message", (text) => {
      const { requestId, subscription, subscriptions } = JSON.parse(String(text))
      const pattern = (subscription ?? subscriptions?.[0])?.pattern
      if (pattern === undefined) return
      const send = (message: object) => socket.send(JSON.stringify(message))
      send({
        type: "subscription_result",
        requestId,
        results: [{ pattern, status: "ok", subscriptionId: "sub-1" }]
      })
      send({
        type: "subscription_error",
        subscriptionId: "sub-1",
        code: "EVENTS_DROPPED",
        message: "Some were lost",
        retrying: true
      })
      send({ type: "event", subscriptionId: "sub-1", topic: "system.run.completed", data: { a: 1 } })
    })
  )
  const { port } = server.address() as { port: number }

  const subscribe = terminal.start(["subscribe", "system.run.>", "--json"], {
    env: { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  })
  await subscribe.until('"a":1')
  await subscribe.until("Some were lost")
  subscribe.signal("SIGINT")
  const { stderr, stdout } = await subscribe.ended
  server.close()

  assert.deepStrictEqual(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).data),
    [{ a: 1 }]
  )
  assert.include(stderr, "Some were lost")
})
