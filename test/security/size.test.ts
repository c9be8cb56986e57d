/**
 * Input that is expensive although it is short. It is refused with the name of the limit, before it costs much, on every
 * transport.
 */
import type http from "node:http"
import * as http2 from "node:http2"
import { startEngine } from "@ironflow/node/engine"
import { createClient, createFunction, type IronflowFunction } from "@ironflow/node"
import { afterEach, assert, describe, it, vi } from "vitest"
import WebSocket from "ws"
import * as Limits from "../../src/Limits.ts"
import { callSpecs } from "../../src/Protocol/AllCalls.ts"
import { listen, registerEndpoint } from "../Serve/Hosts.ts"
import { type Answer, send } from "../wire/RawClient.ts"
import { type Ironflow, start, type StartOptions } from "../wire/Ironflow.ts"
import { message, text } from "../wire/RawStream.ts"
import { RawTurnWorker, registrationOf } from "../wire/RawTurnWorker.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const serve = async (options: StartOptions = {}): Promise<Ironflow> => {
  const server = await start(options)
  cleanups.push(() => server.close())
  return server
}

const connect = "/ironflow.v1.IronflowService"
const numbers = (many: number): string => `[${Array(many).fill("0").join(",")}]`
const names = (many: number): string => `{${Array.from({ length: many }, (_, i) => `"k${i}":0`).join(",")}}`
const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels)

/** The name of each limit, JSON that exceeds it, and the message of the refusal. */
const tooMuch: ReadonlyArray<readonly [string, string, RegExp]> = [
  ["values", numbers(Limits.jsonValues + 10), /number of values .*more than 500000 values/],
  ["names", names(Limits.jsonNames * 1.1), /number of different names .*more than 100000 names/],
  ["levels", nested(200), /Nesting of .*more than 100 levels/]
]

const assertRefused = ({ body, status }: Answer, reason: RegExp): void => {
  assert.deepInclude([400, 413], status)
  assert.match(JSON.stringify(body), reason)
}

describe.each(tooMuch)("too many %s", (_name, json, reason) => {
  const post = (url: string, path: string, body: string, method = "POST"): Promise<Answer> =>
    send(url, method, path, body)

  it("are refused in the body of a call, in that of a worker's call, and in the value of a key", async () => {
    const { url } = await serve()
    await send(url, "POST", "/api/v1/kv/buckets", { name: "carts" })
    const encoded = Buffer.from(json).toString("base64")

    assertRefused(await post(url, `${connect}/Trigger`, `{"event":"order.placed","data":${json}}`), reason)
    assertRefused(await post(url, `${connect}/TriggerBatch`, `{"events":${json}}`), reason)
    assertRefused(await post(url, "/api/v1/events", `{"name":"order.placed","data":${json}}`), reason)
    assertRefused(await post(url, "/api/v1/workers/worker-1/register", `{"registration":${json}}`), reason)
    assertRefused(await post(url, "/api/v1/config/prices", json), reason)
    if (Buffer.byteLength(json) <= Limits.kvValueBytes) {
      assertRefused(await post(url, "/api/v1/kv/buckets/carts/keys/c-1", json, "PUT"), reason)
      assertRefused(
        await post(
          url,
          "/api/v1/kv/buckets/carts/write",
          `{"writes":[{"op":"put","key":"c-1","content_type":"application/json","value":"${encoded}"}]}`
        ),
        reason
      )
    }
    assert.strictEqual((await send(url, "GET", "/health")).status, 200)
  })

  it("are refused in the values of a report, which count together", async () => {
    const { url } = await serve()
    const worker = new RawTurnWorker(url)
    await worker.register()
    const step = (value: string, i: number) => ({
      _tag: "StepDone",
      stepKey: `s${i}`,
      name: `s${i}`,
      kind: "run",
      outcome: { _tag: "Success", value },
      attempt: 1,
      startedAt: 0,
      endedAt: 0
    })
    const report = (ops: ReadonlyArray<object>) => worker.report(1, [{ jobId: "job_1", runId: "run_1", ops }])

    assertRefused(await report([step(json, 0)]), reason)
    const halves = Array.from({ length: 4 }, (_, i) =>
      step(reason.source.includes("names") ? names(60_000).replaceAll("k", `k${i}`) : numbers(300_000), i)
    )
    if (!reason.source.includes("Nesting")) assertRefused(await report(halves), reason)
  })

  it("end only the call of a channel, and the socket of a worker or a subscriber", async () => {
    const { url } = await serve()
    const opened = async (path: string): Promise<WebSocket> => {
      const socket = new WebSocket(url.replace("http", "ws") + path)
      cleanups.push(() => socket.terminate())
      await new Promise((resolve) => socket.once("open", resolve))
      return socket
    }
    const firstFrame = (socket: WebSocket): Promise<string> =>
      new Promise((resolve) => {
        socket.once("message", (frame) => resolve(String(frame)))
        socket.once("close", (code, why) => resolve(`${code} ${String(why)}`))
      })

    const channel = await opened("/api/v1/channel")
    const body = `{"event":"order.placed","data":${json}}`
    channel.send(`1 POST ${connect}/Trigger ${body.length}\n${body}`)
    assert.match(await firstFrame(channel), reason)

    const rpc = await opened("/rpc/worker")
    rpc.send(`{"_tag":"Request","id":"1","tag":"work","payload":${json},"headers":[]}`)
    assert.match(await firstFrame(rpc), reason)

    const subscriptions = await opened("/ws")
    subscriptions.send(`{"type":"subscribe","subscription":${json}}`)
    assert.match(await firstFrame(subscriptions), /Nesting of|too large|^1009/)
    assert.strictEqual((await send(url, "GET", "/health")).status, 200)
  })

  it("are refused in answers of a push endpoint, and the run fails with the reason", async () => {
    const engine = await startEngine({
      filename: ":memory:",
      logger: false,
      listen: { port: 0 },
      push: { allowPrivateNetworks: true }
    })
    cleanups.push(() => engine.close())
    const description = {
      type: "description",
      capabilities: { turns: 1 },
      functions: registrationOf("w", [{ id: "order", event: "order.placed" }]).functions
    }
    let describes = JSON.stringify({ ...description, more: 0 }).replace('"more":0', `"more":${json}`)
    let status = 200
    const endpoint = await listen(async (request: http.IncomingMessage, response: http.ServerResponse) => {
      let received = ""
      for await (const chunk of request) received += chunk
      response.writeHead(received.includes('"describe"') ? 200 : status)
      response.end(received.includes('"describe"') ? describes : `{"type":"turn","ops":${json},"error":{}}`)
    })
    cleanups.push(endpoint.close)

    const refusal = await registerEndpoint(engine, endpoint.url)
    assert.strictEqual(refusal.status, 502)
    assert.match(await refusal.text(), reason)

    describes = JSON.stringify(description)
    assert.strictEqual((await registerEndpoint(engine, endpoint.url)).status, 200)
    const { runIds } = await engine.client.emit("order.placed", {})
    const run = await engine.client.waitForRun(runIds[0] ?? "", { timeout: 15_000 })
    assert.strictEqual(run.status, "failed")
    assert.match(String(run.error?.message), reason)

    // an answer with an error status is not parsed
    status = 503
    const second = await engine.client.emit("order.placed", {})
    await vi.waitFor(async () =>
      assert.strictEqual((await engine.client.explain(second.runIds[0] ?? "")).code, "ENDPOINT_UNAVAILABLE")
    )
  })
})

describe("a number that is too large", () => {
  const refusal = /cannot be stored: \$\.some\[1\]\.price is the number 1e999, which is too large/
  const json = '{"some":[0,{"price":1e999}]}'
  const readsNoBody = new Set<string>(["health", "subscribe", "joinConsumerGroup"])

  it("is refused in the body of every call, with its path", async () => {
    const { url } = await serve()
    const wrong: Array<string> = []
    let calls = 0
    for (const [name, { method, path }] of Object.entries(callSpecs)) {
      if (readsNoBody.has(name) || !["POST", "PATCH"].includes(method)) continue
      calls++
      const { body, status } = await send(url, method, path.replaceAll(/:\w+\*?/g, "x"), json)
      if (status !== 400 || !refusal.test(JSON.stringify(body))) wrong.push(`${name}: ${status}`)
    }
    assert.deepStrictEqual(wrong, [])
    assert.isAbove(calls, 60)
  })

  it("is refused in values of keys, in reports, and in frames of sockets", async () => {
    const { url } = await serve()
    await send(url, "POST", "/api/v1/kv/buckets", { name: "carts" })
    const write = { op: "put", key: "c-1", content_type: "application/json" }
    const value = Buffer.from(json).toString("base64")
    assertRefused(await send(url, "PUT", "/api/v1/kv/buckets/carts/keys/c-1", json), refusal)
    assertRefused(
      await send(url, "POST", "/api/v1/kv/buckets/carts/write", { writes: [{ ...write, value }] }),
      refusal
    )
    const worker = new RawTurnWorker(url)
    await worker.register()
    const step = { stepKey: "s:0", name: "s", attempt: 1, startedAt: 0, endedAt: 0 }
    const emit = { _tag: "emit", name: "order.placed", version: 1, data: json }
    for (const op of [
      { _tag: "StepDone", ...step, kind: "run", outcome: { _tag: "Success", value: json } },
      { _tag: "Transact", ...step, writes: [emit] },
      { _tag: "Publish", stepKey: "s:0", name: "s", topic: "orders", data: json },
      { _tag: "Invoke", stepKey: "s:0", name: "s", functionId: "ship", input: json }
    ]) {
      assertRefused(await worker.report(1, [{ jobId: "job_1", runId: "run_1", ops: [op] }]), refusal)
    }

    for (const [path, frame] of [
      ["/ws", json],
      ["/api/v1/channel", `1 POST ${connect}/Trigger ${json.length}\n${json}`]
    ] as const) {
      const socket = new WebSocket(url.replace("http", "ws") + path)
      cleanups.push(() => socket.terminate())
      await new Promise((resolve) => socket.once("open", resolve))
      socket.send(frame)
      const answer = await new Promise((resolve) => {
        socket.once("message", (frame) => resolve(String(frame)))
        socket.once("close", (code, why) => resolve(`${code} ${String(why)}`))
      })
      assert.match(String(answer), refusal)
    }
  })
})

describe("a message of a streaming worker", () => {
  const register = (...fields: ReadonlyArray<Buffer>): Buffer =>
    message(1, text(1, "worker-1"), text(2, "host-1"), ...fields)

  it.each<readonly [string, Buffer]>([
    ["with a list of 300,000 items", register(Buffer.alloc(600_000, Buffer.from([0x1a, 0])))],
    ["with as many unknown fields", Buffer.alloc(600_000, Buffer.from([0x78, 0]))],
    [
      "with a structure of as many values",
      message(
        7,
        message(
          2,
          message(1, text(1, "a"), message(2, message(6, Buffer.alloc(600_000, Buffer.from([0x0a, 0])))))
        )
      )
    ]
  ])("%s ends its stream with the reason", async (_name, bytes) => {
    const server = await serve()
    const session = http2.connect(server.url)
    cleanups.push(() => session.destroy())
    const stream = session.request({
      ":method": "POST",
      ":path": "/ironflow.v1.WorkerService/Connect",
      "content-type": "application/connect+proto"
    })
    const head = Buffer.alloc(5)
    head.writeUInt32BE(bytes.length, 1)
    stream.write(Buffer.concat([head, bytes]))

    let answer = ""
    for await (const chunk of stream) answer += String(chunk)

    assert.match(answer, /number of fields in a message is too large.*limit is 200000 fields/)
  })
})

describe("metadata and labels", () => {
  const entries = Object.fromEntries(
    Array.from({ length: Limits.metadataEntries + 1 }, (_, i) => [`k${i}`, "v"])
  )
  const long = { note: "x".repeat(Limits.metadataBytes) }

  it.each([
    ["metadata with many members", entries, /257 entries, and the limit is 256 entries/],
    ["long metadata", long, /bytes, and the limit is 65536 bytes/]
  ])("are small: %s is refused by every call", async (_name, metadata, reason) => {
    const { url } = await serve()
    const order = { event: "order.placed", data: {}, metadata }
    const appended = { eventName: "order.placed", data: {}, metadata }
    const entity = { entityId: "o-1", entityType: "order" }
    for (const [path, body] of [
      [`${connect}/Trigger`, order],
      [`${connect}/TriggerBatch`, { events: [order] }],
      ["/api/v1/events", { name: "order.placed", data: {}, metadata }],
      ["/ironflow.v1.EntityStreamService/AppendEvent", { ...entity, ...appended }],
      ["/ironflow.v1.EntityStreamService/AppendEvents", { ...entity, events: [appended] }],
      [`${connect}/RegisterFunction`, { id: "ship", triggers: [], metadata }]
    ] as const) {
      assertRefused(await send(url, "POST", path, body), reason)
    }
    await using client = createClient({ serverUrl: url })
    const error: unknown = await client
      .emit("order.placed", {}, { metadata })
      .catch((error: unknown) => error)
    assert.match(String(error), reason)
  })

  it("are small: a worker with too many or too long labels is refused", async () => {
    const { url } = await serve()
    const register = (labels: object) =>
      send(url, "POST", "/api/v1/workers/worker-1/register", {
        worker_id: "worker-1",
        hostname: "host-1",
        function_ids: [],
        labels,
        capabilities: { turns: 1 },
        registration: { ...registrationOf("worker-1", []), labels },
        instance: "instance-1",
        jobs: []
      })

    assertRefused(await register(entries), /257 entries, and the limit is 256 entries/)
    assertRefused(await register(long), /bytes, and the limit is 65536 bytes/)
    assert.strictEqual((await register({ zone: "a" })).status, 200)
  })

  it("leave room for a batch of a thousand ordinary events", async () => {
    const { url } = await serve()
    const event = (i: number) => ({
      event: "order.placed",
      data: {
        id: `o-${i}`,
        customer: { id: i, name: `Customer ${i}`, tags: ["a", "b", "c"] },
        lines: Array.from({ length: 10 }, (_, n) => ({ sku: `s-${n}`, price: n, quantity: i }))
      },
      metadata: { source: "import", trace: `t-${i}` }
    })

    const { body, status } = await send(url, "POST", `${connect}/TriggerBatch`, {
      events: Array.from({ length: 1000 }, (_, i) => event(i))
    })

    assert.strictEqual(status, 200)
    assert.lengthOf(body.results, 1000)
  })
})

describe("events that start many runs", () => {
  const listeners = (url: string, many: number): Promise<Answer> =>
    send(url, "POST", "/api/v1/workers/worker-1/register", {
      worker_id: "worker-1",
      hostname: "host-1",
      function_ids: [],
      capabilities: { turns: 1 },
      registration: {
        ...registrationOf("worker-1", []),
        functions: registrationOf(
          "worker-1",
          Array.from({ length: many }, (_, i) => ({ id: `fn-${i}`, event: "order.placed" }))
        ).functions
      },
      instance: "instance-1",
      jobs: []
    })
  const countRuns = async (url: string): Promise<number> =>
    (await send(url, "POST", `${connect}/ListRuns`, { limit: 1 })).body.totalCount ?? 0

  it("are refused as an append when they could start more than 10,000 runs, and none is stored", async () => {
    const { url } = await serve()
    assert.strictEqual((await listeners(url, 1000)).status, 200)
    const append = (many: number) =>
      send(url, "POST", "/ironflow.v1.EntityStreamService/AppendEvents", {
        entityId: "o-1",
        entityType: "order",
        events: Array.from({ length: many }, () => ({ eventName: "order.placed", data: {} }))
      })

    assertRefused(await append(1000), /append to stream .*1000000 runs, and the limit is 10000 runs/)
    assertRefused(await append(11), /11000 runs, and the limit is 10000 runs/)
    assert.strictEqual(await countRuns(url), 0)
    assert.strictEqual((await append(2)).status, 200)
    assert.strictEqual(await countRuns(url), 2000)
  })

  it("are refused as a batch too", async () => {
    const { url } = await serve()
    assert.strictEqual((await listeners(url, 1000)).status, 200)
    const batch = (many: number) =>
      send(url, "POST", `${connect}/TriggerBatch`, {
        events: Array.from({ length: many }, () => ({ event: "order.placed", data: {} }))
      })

    assertRefused(await batch(1000), /batch of events.*1000000 runs, and the limit is 10000 runs/)
    assert.strictEqual(await countRuns(url), 0)
    const { body, status } = await batch(3)
    assert.strictEqual(status, 200)
    assert.lengthOf(
      body.results.flatMap(({ runIds }: { readonly runIds: ReadonlyArray<string> }) => runIds),
      3000
    )
  })

  it("are refused in a transaction of a step too", async () => {
    const quiet = Array.from({ length: 11 }, (_, i) =>
      createFunction({ id: `fn-${i}`, triggers: [{ event: "order.placed" }] }, async () => undefined)
    )
    const order = createFunction(
      { id: "order", triggers: [{ event: "go" }], retry: { maxAttempts: 1 } },
      async ({ step }) =>
        step.tx("place", (tx) => {
          for (let i = 0; i < 1000; i++) tx.emit("order.placed", { i })
        })
    )
    const engine = await startEngine({ filename: ":memory:", logger: false, functions: [order, ...quiet] })
    cleanups.push(() => engine.close())

    const { runIds } = await engine.client.emit("go", {})
    const run = await engine.client.waitForRun(runIds[0] ?? "", { timeout: 30_000 })

    assert.strictEqual(run.status, "failed")
    assert.match(String(run.error?.message), /transaction.*11000 runs, and the limit is 10000 runs/)
  })
})

describe("a registration", () => {
  const functions = (many: number, more: object = {}) =>
    registrationOf(
      "worker-1",
      Array.from({ length: many }, (_, i) => ({ id: `fn-${i}` }))
    ).functions.map((fn) => ({ ...fn, ...more }))
  const register = (url: string, fns: ReadonlyArray<object>, id = "worker-1"): Promise<Answer> =>
    send(url, "POST", `/api/v1/workers/${id}/register`, {
      worker_id: id,
      hostname: "host-1",
      function_ids: [],
      capabilities: { turns: 1 },
      registration: { ...registrationOf(id, []), functions: fns },
      instance: "instance-1",
      jobs: []
    })
  const expression = `event.data.note == "${"x".repeat(4000)}"`
  const triggers = (many: number) => Array.from({ length: many }, () => ({ event: "a.b", expression }))

  it.each<readonly [string, ReadonlyArray<object>, RegExp]>([
    [
      "of too many functions",
      functions(Limits.functionsAtOnce + 1),
      /list of functions .*limit is 1000 functions/
    ],
    [
      "of too many cron triggers",
      functions(5, { triggers: Array.from({ length: 201 }, () => ({ cron: "0 0 29 2 *" })) }),
      /list of cron triggers .*1005 triggers, and the limit is 1000 triggers/
    ],
    ["with a long name", functions(1, { name: "n".repeat(300) }), /`name` must be a string of at most 256/],
    [
      "with a long description",
      functions(1, { description: "d".repeat(5000) }),
      /`description` must be a string of at most 4096/
    ],
    [
      "of a long function",
      functions(1, { triggers: triggers(100) }),
      /function \\"fn-0\\" .*limit is 262144 bytes/
    ],
    [
      "that is long as a whole",
      functions(30, { triggers: triggers(20) }),
      /function registrations .*limit is 1048576 bytes/
    ]
  ])("%s is refused", async (_name, fns, reason) => {
    const { url } = await serve()
    // workers do not send descriptions: the limit of a description is checked where the function is defined
    if (reason.source.includes("description")) {
      const description = "d".repeat(5000)
      const define = (): IronflowFunction =>
        createFunction({ id: "fn-0", description, triggers: [] }, async () => undefined)
      assert.throws(define, reason)
      return
    }
    assertRefused(await register(url, fns), reason)
    assert.deepStrictEqual((await send(url, "GET", "/api/v1/functions")).body, { functions: [] })
  })

  it("is refused if its environment would have more than 10,000 functions", async () => {
    const { url } = await serve()
    for (let i = 0; i < 10; i++) {
      const fns = functions(Limits.functionsAtOnce).map((fn) => ({ ...fn, id: `${fn.id}-${i}` }))
      assert.strictEqual((await register(url, fns, `worker-${i}`)).status, 200)
    }

    const refusal = await send(url, "POST", `${connect}/RegisterFunction`, { id: "one-more", triggers: [] })

    assertRefused(refusal, /list of functions of environment .*limit is 10000 functions/)
    const again = await send(url, "POST", `${connect}/RegisterFunction`, { id: "fn-1-1", triggers: [] })
    assert.strictEqual(again.status, 200)
  })

  it(
    "is shown in lists of workers and functions, whose pages have a bounded size",
    { timeout: 180_000 },
    async () => {
      // the workers send nothing more, so in real time the first ones would be lost before the last ones register
      const { url } = await serve({ virtualTime: true })
      for (let i = 0; i < 92; i++) {
        const fns = functions(900).map((fn) => ({ ...fn, id: `${fn.id}-${i % 4}-${"x".repeat(200)}` }))
        const small = fns.map((fn) => ({ ...fn, retry: { ...fn.retry } }))
        assert.strictEqual((await register(url, small, `worker-${String(i).padStart(2, "0")}`)).status, 200)
      }
      const page = async (list: string, cursor: string) => {
        const response = await fetch(`${url}/api/v1/${list}?limit=1000&cursor=${encodeURIComponent(cursor)}`)
        const text = await response.text()
        assert.isBelow(text.length, 1.5 * 1024 * 1024)
        return JSON.parse(text)
      }
      for (const [list, many] of [
        ["workers", 92],
        ["functions", 3600]
      ] as const) {
        const ids: Array<string> = []
        for (let cursor: string | undefined = ""; cursor !== undefined;) {
          const answer: any = await page(list, cursor)
          ids.push(...answer[list].map(({ id }: { readonly id: string }) => id))
          cursor = answer.nextCursor
        }
        assert.lengthOf(new Set(ids), many)
        assert.lengthOf(ids, many)
      }
      assertRefused(
        await send(url, "GET", "/api/v1/workers"),
        /list of all workers is too large: .* Ask for it in pages/
      )
      await using client = createClient({ serverUrl: url })
      assert.lengthOf(await client.listWorkers(), 92)
      assert.lengthOf(await client.listFunctions(), 3600)
    }
  )
})
