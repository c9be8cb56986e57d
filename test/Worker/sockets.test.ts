/** What happens to the sockets of workers and clients, with real processes on both sides. */
import type { Socket } from "node:net"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { freePort, type Running, Terminal, waitForRun } from "../Cli/Terminal.ts"
import { isLong } from "../Long.ts"
import { FaultyNetwork } from "./FaultyNetwork.ts"

const program = (create: string, from: string, options = ""): string => `
import { setTimeout as pause } from "node:timers/promises"
import { createClient, createFunction, createSubscriptionClient } from "@ironflow/node"
import { ${create} } from "@ironflow/node/${from}"

const serverUrl = process.env.SERVER_URL
const ship = createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, async ({ event, step }) =>
  step.run("ship", () => "shipped " + event.data.orderId)
)
const worker = ${create}({ serverUrl, functions: [ship], workerId: "w-1", reconnectDelay: 50, ${options} })
worker.start().catch((error) => console.log("failed " + error.message))
await worker.ready()
console.log("ready")

if (process.env.CLIENT === "too") {
  const client = createClient({ serverUrl, timeout: 2000, retry: { maxAttempts: 1 } })
  const called = async () => {
    for (;;) {
      await client.health().then(() => console.log("called"), () => undefined)
      await pause(50)
    }
  }
  called()
  const subscriptions = createSubscriptionClient({ serverUrl, reconnectDelay: 50, maxReconnectDelay: 200 })
  await subscriptions.connect()
  await subscriptions.subscribe("order.placed", {
    onEvent: ({ data }) => console.log("event " + data.orderId),
    onError: () => undefined
  })
  const kv = client.kv()
  await kv.createBucket({ name: "orders" }).catch(() => undefined)
  const watched = async () => {
    for (;;) {
      try {
        const changes = kv.bucket("orders").watch("*", { onOpen: () => console.log("watching") })
        for await (const { key } of changes) console.log("watch " + key)
      } catch {
        await pause(50)
      }
    }
  }
  watched()
}
`

const transports = {
  connect: program("createStreamingWorker", "worker-streaming"),
  rpc: program("createWorker", "worker", 'transport: "streaming"'),
  polling: program("createWorker", "worker")
}

const terminal = new Terminal(
  Object.fromEntries(Object.entries(transports).map(([name, text]) => [`${name}.ts`, text]))
)
afterAll(() => terminal[Symbol.asyncDispose]())

describe("a worker process that is killed", () => {
  it.each(["connect", "rpc"])("over %s is noticed as soon as its socket ends", async (transport) => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const server = terminal.start(["serve", "--port", String(port), "--data", `${transport}.db`])
    await server.until(`Ironflow listens at ${url}`)
    const process = terminal.node(`${transport}.ts`, { env: { SERVER_URL: url } })
    await process.until("ready")
    const env = { IRONFLOW_SERVER_URL: url }
    assert.lengthOf((await terminal.json(["workers", "list"], { env })).workers, 1)

    process.signal("SIGKILL")
    const killedAt = performance.now()
    await server.until("Worker w-1 counts as dead")

    // the engine waits five seconds for the worker to reconnect
    assert.isBelow(performance.now() - killedAt, 8000)
    assert.lengthOf((await terminal.json(["workers", "list"], { env })).workers, 0)
    server.signal("SIGTERM")
    await server.ended
  })
})

const frame = (type: number, streamId: number, payload: Buffer): Buffer =>
  Buffer.concat([Buffer.from([0, 0, payload.length, type, 0, 0, 0, 0, streamId]), payload])
const int32 = (n: number): Buffer => Buffer.from([0, 0, 0, n])
const textFrame = (text: string): Buffer => {
  const head = Buffer.alloc(4)
  head.writeUInt16BE(0x817e)
  head.writeUInt16BE(text.length, 2)
  return Buffer.concat([head, Buffer.from(text)])
}
const deep = "[".repeat(10_000) + "]".repeat(10_000)

const impostors: { readonly [name: string]: (near: Socket) => void } = {
  "a proxy that answers 503": (near) =>
    near.write(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nDown"
    ),
  "a proxy that answers 503 and closes": (near) =>
    near.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nDown"),
  "a proxy that closes in the middle of a 503": (near) =>
    near.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 400\r\n\r\nDown"),
  noise: (near) => near.end(Buffer.from([...Array(512).keys()].map((i) => (i * 7919) % 251))),
  "a reset": (near) => near.resetAndDestroy(),
  "a connection that is closed at once": (near) => near.end(),
  "half a frame": (near) => near.end(Buffer.from([0, 0, 100, 4, 0])),
  "a TLS alert": (near) => near.end(Buffer.from([0x15, 3, 1, 0, 2, 2, 0x28])),
  "an invalid SETTINGS frame": (near) => near.end(frame(4, 0, Buffer.alloc(5))),
  "a GOAWAY": (near) =>
    near.end(
      Buffer.concat([frame(4, 0, Buffer.alloc(0)), frame(7, 0, Buffer.concat([int32(0), int32(11)]))])
    ),
  "an RST_STREAM": (near) =>
    near.end(Buffer.concat([frame(4, 0, Buffer.alloc(0)), frame(3, 1, int32(2)), frame(3, 1, int32(2))])),
  "half a WebSocket frame": (near) => near.end(Buffer.from([0x81, 0x7e, 1])),
  "a WebSocket frame that is too large": (near) =>
    near.end(Buffer.from([0x81, 0x7f, 0x7f, 0xff, 0, 0, 0, 0, 0, 0])),
  ...Object.fromEntries(
    [
      "null",
      deep,
      `{"_tag":${deep},"type":${deep},"message":${deep}}`,
      '{"_tag":"Exit"}',
      '{"_tag":"Exit","requestId":"1","exit":{"_tag":"Failure","cause":7}}',
      '{"_tag":"Chunk","requestId":{"toString":1},"values":7}',
      '{"_tag":"ClientProtocolError","error":null}',
      '{"_tag":"Defect","defect":{"toString":1}}',
      '{"type":"subscription_result","results":7}',
      '{"type":"subscription_result","results":[null,{"pattern":{"toString":1}}]}',
      '{"type":"subscription_error","subscriptionId":{"toString":1}}',
      '{"type":"error","status":{"toString":1},"message":{"toString":1},"code":{"toString":1}}',
      '{"type":"event","topic":{"toString":1},"subscriptionId":{"toString":1}}',
      '{"type":"kv_update","revision":{"toString":1},"key":{"toString":1},"operation":{"toString":1}}',
      '{"type":"watching","revision":{"toString":1},"ping_ms":-1}',
      "1 {}"
    ].map((text) => [`the text ${text.slice(0, 60)}`, (near: Socket) => near.write(textFrame(text))])
  )
}

/**
 * A short run sends each text only to the process whose worker reads such texts. The subscriptions and the watch are the same in
 * all processes.
 */
const impostorsFor = (transport: string): ReadonlyArray<string> =>
  Object.keys(impostors).filter((name) => {
    if (isLong || !name.startsWith("the text ")) return true
    if (name.includes("_tag")) return transport === "rpc"
    return transport === "polling" || name === "the text null"
  })

describe.each(["connect", "rpc", "polling"])("a process with a worker over %s", (transport) => {
  let url: string
  let network: FaultyNetwork
  let server: Running
  let running: Running
  let orders = 0
  beforeAll(async () => {
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    server = terminal.start(["serve", "--port", String(port), "--data", `${transport}-faults.db`])
    await server.until(`Ironflow listens at ${url}`)
    network = await FaultyNetwork.before(url)
    running = terminal.node(`${transport}.ts`, { env: { SERVER_URL: network.url, CLIENT: "too" } })
    await running.until("ready")
    await running.until("watching")
  }, 60_000)
  afterAll(async () => {
    // otherwise it would try to connect many times a second, beside the tests of the next transport
    for (const one of [running, server]) {
      one.signal("SIGKILL")
      await one.ended
    }
    await network[Symbol.asyncDispose]()
  })

  const post = (path: string, method: string, body: unknown) =>
    fetch(url + path, { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } })

  it.each(impostorsFor(transport))("survives %s, and continues afterwards", async (name) => {
    const before = network.connections
    const calls = running.output().split("called").length
    network.impersonate(impostors[name]!)
    const again = new Promise<void>((resolve) =>
      network.onConnection(() => network.connections >= before + 3 && resolve())
    )
    const ended = running.ended.then(({ stderr }) => assert.fail(`The process has ended:\n${stderr}`))
    await Promise.race([again, ended])
    network.heal()

    const orderId = `o-${++orders}`
    const { runIds } = (await (
      await post("/ironflow.v1.IronflowService/Trigger", "POST", { event: "order.placed", data: { orderId } })
    ).json()) as { runIds: ReadonlyArray<string> }
    assert.strictEqual((await waitForRun(url, runIds[0]!)).output, `shipped ${orderId}`)
    await running.until("called", calls + 1)
    await running.until(`event ${orderId}\n`)
    await post(`/api/v1/kv/buckets/orders/keys/k-${orders}`, "PUT", { orderId })
    await running.until(`watch k-${orders}\n`)
  })
})
