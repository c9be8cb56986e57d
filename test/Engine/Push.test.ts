/**
 * How the engine calls push endpoints: which ones it calls, how it treats their answers, and what it does while they are
 * away.
 */
import { createHmac } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import type http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  createClient,
  createFunction,
  createWorker,
  type Logger,
  serve,
  ValidationError
} from "@ironflow/node"
import { type IronflowEngine, type PushConfig, startEngine } from "@ironflow/node/engine"
import { afterEach, describe, expect, it, vi } from "vitest"
import { isPublicAddress } from "../../src/Engine/Push/PublicAddress.ts"
import { FaultyNetwork } from "../Worker/FaultyNetwork.ts"
import { listen, registerEndpoint, SIGNING_KEY } from "../Serve/Hosts.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const startWith = async (
  push: PushConfig = {},
  filename = ":memory:",
  logger: Logger | false = false
): Promise<IronflowEngine> => {
  const engine = await startEngine({
    filename,
    logger,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY, ...push }
  })
  cleanups.push(() => engine.close())
  return engine
}

type Listener = (request: http.IncomingMessage, response: http.ServerResponse, body: string) => unknown

/** An endpoint whose answers the test gives. */
const endpoint = async (listener: Listener) => {
  const server = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    await listener(request, response, Buffer.concat(chunks).toString())
  })
  cleanups.push(server.close)
  return server
}

const description = JSON.stringify({
  type: "description",
  capabilities: { turns: 1 },
  functions: [
    {
      id: "order",
      name: "order",
      triggers: [{ event: "order.placed" }],
      retry: { maxAttempts: 2, initialDelayMs: 10, backoffFactor: 1, maxDelayMs: 10 },
      timeoutMs: 60_000,
      mode: "pull",
      secrets: [],
      codeHash: "0123456789abcdef"
    }
  ]
})

/** Answers `describe` like a handler of this package, and turns as the test says. */
const describing =
  (turn: (job: any, response: http.ServerResponse, request: http.IncomingMessage) => unknown): Listener =>
  (request, response, body) => {
    const question = JSON.parse(body)
    if (question.type === "describe") return response.end(description)
    return turn(question.job, response, request)
  }

const complete = (response: http.ServerResponse, output = '"done"') =>
  response.end(JSON.stringify({ type: "turn", ops: [{ _tag: "Complete", output }] }))

const place = async (engine: IronflowEngine): Promise<string> => {
  const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
  expect(runIds).toHaveLength(1)
  return runIds[0] ?? ""
}

const ended = (engine: IronflowEngine, runId: string) => engine.client.waitForRun(runId, { timeout: 15_000 })

const explained = (engine: IronflowEngine, runId: string, code: string) =>
  vi.waitFor(
    async () => {
      const explanation = await engine.client.explain(runId)
      expect(explanation.code).toBe(code)
      return explanation
    },
    { timeout: 10_000 }
  )

const register = async (engine: IronflowEngine, url: string): Promise<void> => {
  const response = await registerEndpoint(engine, url)
  if (response.status !== 200) throw new Error(await response.text())
}

/** Registers one function with its endpoint, as users do who have a handler of another package. */
const registerFunction = async (engine: IronflowEngine, url: string, id: string, event: string) => {
  const response = await fetch(`${engine.url}/ironflow.v1.IronflowService/RegisterFunction`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      id,
      triggers: [{ event }],
      endpointUrl: url,
      preferredMode: "EXECUTION_MODE_PUSH"
    })
  })
  if (response.status !== 200) throw new Error(await response.text())
}

describe("registering", () => {
  it("makes the engine send a signed request with the exact bytes, which names the environment", async () => {
    const seen: Array<{ readonly body: string; readonly headers: http.IncomingHttpHeaders }> = []
    const server = await endpoint((request, response, body) => {
      seen.push({ body, headers: request.headers })
      response.end(description)
    })
    const engine = await startWith()

    await register(engine, server.url)

    const [{ body, headers } = { body: "", headers: {} }] = seen
    expect(headers["x-ironflow-signature"]).toBe(
      `sha256=${createHmac("sha256", SIGNING_KEY).update(body).digest("hex")}`
    )
    expect(headers["x-ironflow-environment"]).toBe("default")
    expect(JSON.parse(body)).toEqual({ type: "describe", sent_at: expect.any(Number) })
    expect(await engine.client.listFunctions()).toMatchObject([{ id: "order" }])
  })

  it.each([
    ["an invalid URL", "shop", 400, /The URL of the endpoint must be an HTTP URL such as/],
    ["another scheme", "ftp://shop.example.com", 400, /The URL of the endpoint must be an HTTP URL such as/],
    ["credentials", "http://a:b@shop.example.com/", 400, /no user and password/]
  ])("refuses %s", async (_what, url, status, message) => {
    const response = await registerEndpoint(await startWith(), url)

    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ message: expect.stringMatching(message) })
  })

  it.each<readonly [string, Listener, RegExp]>([
    [
      "another key",
      (_, response) =>
        response
          .writeHead(401)
          .end('{"error":{"message":"The signature is wrong","code":"SIGNATURE_INVALID"}}'),
      /answered 401: The signature is wrong/
    ],
    ["no handler", (_, response) => response.writeHead(404).end("<html>"), /answered 404/],
    [
      "a redirect",
      (_, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      /answered 302/
    ],
    ["an error of the app", (_, response) => response.writeHead(500).end("oops"), /answered 500/]
  ])("reports when there is %s", async (_what, listener, message) => {
    const engine = await startWith()
    const response = await registerEndpoint(engine, (await endpoint(listener)).url)

    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({
      code: "ENDPOINT_UNAVAILABLE",
      message: expect.stringMatching(message)
    })
    expect(await engine.client.listFunctions()).toEqual([])
  })

  it.each([
    ["an invalid function", '{"type":"description","capabilities":{"turns":1},"functions":[7]}'],
    [
      "a function without an id",
      '{"type":"description","capabilities":{"turns":1},"functions":[{"codeHash":"a","secrets":[],"triggers":[]}]}'
    ],
    ["a bad trigger", description.replace("order.placed", "order placed")],
    [
      "a bad expression",
      description.replace('"event":"order.placed"', '"event":"order.placed","expression":"1 +"')
    ]
  ])("refuses a description with %s", async (_what, text) => {
    const engine = await startWith()
    const response = await registerEndpoint(engine, (await endpoint((_, response) => response.end(text))).url)

    expect(response.status).toBe(400)
    expect(await engine.client.listFunctions()).toEqual([])
  })

  it("does not call private addresses unless that is allowed", async () => {
    const called = vi.fn()
    const server = await endpoint((_, response) => (called(), response.end(description)))
    const engine = await startWith({ allowPrivateNetworks: false })
    const { port } = new URL(server.url)

    for (const host of [
      "127.0.0.1",
      "localhost",
      "[::1]",
      "[::ffff:127.0.0.1]",
      "2130706433",
      "0x7f.1",
      "10.0.0.1",
      "169.254.169.254"
    ]) {
      const response = await registerEndpoint(engine, `http://${host}:${port}/`)
      expect([response.status, host]).toEqual([400, host])
      expect(await response.json()).toMatchObject({
        message: expect.stringContaining("not a public address")
      })
    }
    expect(called).not.toHaveBeenCalled()
  })
})

/** One address of each row of the registries of IANA, and addresses outside of those. */
it("a public address is told from a private one", () => {
  for (const address of [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "192.0.1.1",
    "192.88.98.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.175.48.1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2620:4f:8000::1",
    "2a00:1450::1"
  ]) {
    expect([address, isPublicAddress(address)]).toEqual([address, true])
  }
  for (const address of [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.88.99.2",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:808:808",
    "::8.8.8.8",
    "::7f00:1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "100::1",
    "100:0:0:1::1",
    "1fff::1",
    "2001::1",
    "2001:1::1",
    "2001:2::1",
    "2001:3::1",
    "2001:4:112::1",
    "2001:10::1",
    "2001:20::1",
    "2001:30::1",
    "2001:db8::1",
    "2002:a00:1::",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fe80::1",
    "fe80::1%lo",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "no address"
  ]) {
    expect([address, isPublicAddress(address)]).toEqual([address, false])
  }
})

describe("an endpoint", () => {
  it("keeps errors in results from turn to turn", async () => {
    const engine = await startWith()
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      const settled = await step.run("settle", () =>
        Promise.allSettled([Promise.reject(new RangeError("no"))])
      )
      await step.sleep("another turn", 5)
      return settled.map((one) => one.status === "rejected" && [one.reason instanceof RangeError, one.reason])
    })
    const server = await listen(serve({ functions: [order], signingKey: SIGNING_KEY, logger: false }))
    cleanups.push(server.close)
    await register(engine, server.url)

    const { output } = await ended(engine, await place(engine))

    expect(output).toEqual([[true, expect.any(RangeError)]])
  })

  it("that is unreachable loses nothing: its runs wait, explain says why, and they continue later", async () => {
    const engine = await startWith()
    const order = createFunction(
      { id: "order", triggers: [{ event: "order.placed" }] },
      async ({ run }) => run.attempt
    )
    const handler = serve({ functions: [order], signingKey: SIGNING_KEY, logger: false })
    const first = await listen(handler)
    await register(engine, first.url)
    await first.close()

    const runId = await place(engine)
    const explanation = await explained(engine, runId, "ENDPOINT_UNAVAILABLE")
    expect(explanation.message).toContain("refuses connections")

    const second = await listen(handler, Number(new URL(first.url).port))
    cleanups.push(second.close)
    expect(await ended(engine, runId)).toMatchObject({ status: "completed", output: 1, attempt: 1 })
  })

  it.each<readonly [string, (response: http.ServerResponse, request: http.IncomingMessage) => unknown]>([
    ["breaks off", (_, request) => request.socket.destroy()],
    ["fails", (response) => response.writeHead(500).end("oops")],
    ["does not answer with JSON", (response) => response.end("ok")],
    ["answers with invalid ops", (response) => response.end('{"type":"turn","ops":[{"_tag":"Win"}]}')],
    ["answers with a turn that does not end", (response) => response.end('{"type":"turn","ops":[]}')],
    ["answers with too much data", (response) => response.end(" ".repeat(200_000))],
    ["does not answer in time", () => undefined],
    [
      "does not know the function",
      (response) => response.writeHead(404).end('{"error":{"code":"FUNCTION_NOT_FOUND","message":"?"}}')
    ]
  ])("that %s gets the turn again, which does not count as an attempt", async (_what, fail) => {
    let calls = 0
    const server = await endpoint(
      describing((job, response, request) => {
        if (++calls <= 2) return fail(response, request)
        return complete(response, String(job.attempt))
      })
    )
    const engine = await startWith({ timeout: "300ms", maxResponseBytes: 100_000 })
    await register(engine, server.url)

    expect(await ended(engine, await place(engine))).toMatchObject({
      status: "completed",
      output: 1,
      attempt: 1
    })
    expect(calls).toBe(3)
    await vi.waitFor(async () => expect(await engine.client.listWorkers()).toMatchObject([{ activeJobs: 0 }]))
  })

  it("that has a function no longer is not called for it until it describes it again, and is for the others", async () => {
    const make = (id: string) =>
      createFunction({ id, triggers: [{ event: `${id}.placed` }] }, async ({ run }) => run.attempt)
    const handlerOf = (...ids: ReadonlyArray<string>) =>
      serve({ functions: ids.map(make), signingKey: SIGNING_KEY, logger: false })
    let handler = handlerOf("order", "bill")
    const turns: Array<string> = []
    const server = await listen(async (request, response) => {
      const chunks: Array<Buffer> = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      const body = Buffer.concat(chunks)
      const asked = JSON.parse(body.toString())
      if (asked.type === "turn") turns.push(asked.job.functionId)
      return handler(Object.assign(request, { body }), response)
    })
    cleanups.push(server.close)
    const engine = await startWith()
    await register(engine, server.url)
    const start = async (event: string) => (await engine.client.emit(event, {})).runIds[0] ?? ""
    handler = handlerOf("order")

    const bill = await start("bill.placed")
    const { details, message } = await explained(engine, bill, "ENDPOINT_UNAVAILABLE")
    const order = await start("order.placed")
    expect(await ended(engine, order)).toMatchObject({ status: "completed" })

    expect(message).toMatch(
      /^The app at the endpoint \S+ has no function "bill": deploy it there again.* as soon as the endpoint has the function\.$/
    )
    expect(details).toMatchObject({ missing: "bill" })
    expect(await engine.client.pushEndpoints.list()).toMatchObject([
      { available: true, problem: 'its app does not have "bill"', functionIds: ["order", "bill"] }
    ])
    expect(turns).toEqual(["bill", "order"])

    handler = handlerOf("order", "bill")
    expect(await ended(engine, bill)).toMatchObject({ status: "completed", output: 1, attempt: 1 })
    expect(turns).toEqual(["bill", "order", "bill"])
    expect((await engine.client.pushEndpoints.list())[0]?.problem).toBeUndefined()
  })

  it("that is busy gets no turns until it answers again", async () => {
    let busy = true
    const turns: Array<number> = []
    const server = await endpoint((_request, response, body) => {
      const question = JSON.parse(body)
      if (question.type !== "describe") turns.push(question.job.attempt)
      if (busy && turns.length > 0) return response.writeHead(503).end()
      return question.type === "describe" ? response.end(description) : complete(response)
    })
    const engine = await startWith()
    await register(engine, server.url)
    const runIds = [await place(engine), await place(engine)]
    await explained(engine, runIds[0] ?? "", "ENDPOINT_UNAVAILABLE")
    const called = turns.length
    expect(called).toBeLessThanOrEqual(2)

    busy = false

    for (const runId of runIds)
      expect(await ended(engine, runId)).toMatchObject({ status: "completed", attempt: 1 })
    expect(turns.length).toBe(called + 2)
  })

  it("that answers but accepts no turn is called less and less often", async () => {
    const triedAt: Array<number> = []
    let isWell = false
    const server = await endpoint(
      describing((_job, response) => {
        if (isWell) return complete(response)
        triedAt.push(performance.now())
        return response.writeHead(404).end()
      })
    )
    const engine = await startWith()
    await register(engine, server.url)
    const runId = await place(engine)
    await vi.waitFor(() => expect(triedAt.length).toBeGreaterThanOrEqual(5), { timeout: 20_000 })
    const waits = triedAt.slice(1, 5).map((at, i) => at - triedAt[i]!)
    isWell = true

    // the waits are 250, 500, 1000 and 1200 ms
    expect(waits[2]).toBeGreaterThan(2 * waits[0]!)
    expect(await ended(engine, runId)).toMatchObject({ status: "completed", attempt: 1 })
  })

  it("may fail the run: the retries of the function apply", async () => {
    const attempts: Array<number> = []
    const server = await endpoint(
      describing((job, response) => {
        attempts.push(job.attempt)
        const error = { name: "Error", message: "No van" }
        response.end(
          JSON.stringify({
            type: "turn",
            ops: [
              job.attempt === 1 ? { _tag: "RetryRun", error, due: { afterMs: 10 } } : { _tag: "Fail", error }
            ]
          })
        )
      })
    )
    const engine = await startWith()
    await register(engine, server.url)

    expect(await ended(engine, await place(engine))).toMatchObject({
      status: "failed",
      error: { message: "No van" }
    })
    expect(attempts).toEqual([1, 2])
  })

  it("has its request aborted when the run is cancelled", async () => {
    const closed = vi.fn()
    const started = vi.fn()
    const server = await endpoint(
      describing((_job, response) => {
        started()
        response.on("close", closed)
      })
    )
    const engine = await startWith()
    await register(engine, server.url)
    const runId = await place(engine)
    await vi.waitFor(() => expect(started).toHaveBeenCalledOnce())

    await engine.client.cancelRun(runId)

    await vi.waitFor(() => expect(closed).toHaveBeenCalledOnce())
    expect(await ended(engine, runId)).toMatchObject({ status: "cancelled" })
    // the endpoint has room for a turn again
    expect(await engine.client.listWorkers()).toMatchObject([{ transport: "push" }])
  })

  describe("whose run is taken from it", () => {
    /** Starts a turn that ends only when its request is aborted, at an endpoint whose network the test can freeze. */
    const startTurn = async () => {
      const happened: Array<string> = []
      const server = await endpoint(
        describing((_job, response) => {
          happened.push("begun")
          if (happened.length > 1) return complete(response)
          response.on("close", () => happened.push("broken off"))
          return undefined
        })
      )
      const network = await FaultyNetwork.before(server.url)
      cleanups.push(() => network[Symbol.asyncDispose]())
      const engine = await startWith()
      await register(engine, network.url)
      const runId = await place(engine)
      await vi.waitFor(() => expect(happened).toEqual(["begun"]))
      return { engine, happened, network, runId }
    }

    it("gets the run again once it has dropped it, which is at once while it is connected", async () => {
      const { engine, happened, runId } = await startTurn()

      const at = performance.now()
      await engine.client.cancelRun(runId)
      await engine.client.retryRun(runId)

      expect(await ended(engine, runId)).toMatchObject({ status: "completed" })
      expect(performance.now() - at).toBeLessThan(2500)
      expect(happened).toEqual(["begun", "broken off", "begun"])
    })

    it("gets no turn of the run while it is unreachable", async () => {
      const { engine, happened, network, runId } = await startTurn()

      network.freeze()
      await engine.client.cancelRun(runId)
      await engine.client.retryRun(runId)
      const { details } = await explained(engine, runId, "WORKER_STOPPING")
      const other = await place(engine)
      await ended(engine, other)
      expect(happened).toEqual(["begun", "begun"])
      network.thaw()

      expect(await ended(engine, runId)).toMatchObject({ status: "completed" })
      expect(happened.toSorted()).toEqual(["begun", "begun", "begun", "broken off"])
      expect(happened.indexOf("broken off")).toBeLessThan(happened.lastIndexOf("begun"))
      expect(Date.parse(String(details.handOutFrom)) - Date.now()).toBeLessThan(30_000)
    })

    it("keeps the run after its removal until it has dropped it, and no worker gets it before", async () => {
      const { engine, happened, network, runId } = await startTurn()

      network.freeze()
      const [known] = await engine.client.pushEndpoints.list()
      await engine.client.pushEndpoints.remove(known?.url ?? "")
      expect(await engine.client.pushEndpoints.list()).toEqual([])
      const order = createFunction(
        { id: "order", triggers: [{ event: "order.placed" }] },
        async () => void happened.push("worker")
      )
      const worker = engine.createWorker({ functions: [order], logger: false })
      worker.start().catch(() => undefined)
      cleanups.push(() => worker.stop())
      await worker.ready()
      await ended(engine, await place(engine))
      expect(happened).toEqual(["begun", "worker"])
      network.thaw()

      expect(await ended(engine, runId)).toMatchObject({ status: "completed", attempt: 1 })
      expect(happened.filter((what) => what === "worker")).toHaveLength(2)
      expect(happened.indexOf("broken off")).toBeLessThan(happened.lastIndexOf("worker"))
    })
  })

  it("gets at most its limit of turns at once", async () => {
    const open: Array<http.ServerResponse> = []
    const server = await endpoint(describing((_job, response) => void open.push(response)))
    const engine = await startWith({ maxConcurrent: 2 })
    await register(engine, server.url)
    const runIds = await Promise.all([place(engine), place(engine), place(engine)])
    await vi.waitFor(() => expect(open).toHaveLength(2))
    await explained(engine, runIds[2] ?? "", "NO_CAPACITY")

    complete(open[0]!)

    await vi.waitFor(() => expect(open).toHaveLength(3))
    for (const response of open.slice(1)) complete(response)
    for (const runId of runIds) expect(await ended(engine, runId)).toMatchObject({ status: "completed" })
  })

  it("is still called after a restart of the engine, also for turns in flight", async () => {
    const folder = mkdtempSync(join(tmpdir(), "ironflow-push-"))
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
    let calls = 0
    const server = await endpoint(
      describing((_job, response) => {
        if (++calls > 1) complete(response)
      })
    )
    const first = await startWith({}, join(folder, "orders.db"))
    await register(first, server.url)
    const runId = await place(first)
    await vi.waitFor(() => expect(calls).toBe(1))
    await first.close()

    const second = await startWith({}, join(folder, "orders.db"))

    expect(await ended(second, runId)).toMatchObject({ status: "completed", attempt: 1 })
    expect(calls).toBe(2)
  })

  it("that is known to run whole turns is still treated so, whatever its probe answers, until its description changes", async () => {
    let turns = 0
    let page: "none" | "busy" | "html" | "method" = "none"
    const foreign: Array<unknown> = []
    const probed = vi.fn()
    const server = await endpoint((_request, response, body) => {
      const question = JSON.parse(body)
      if (question.type === undefined) foreign.push(question)
      if (question.type === "describe" && page !== "none") probed(page)
      if (page === "busy") return response.writeHead(503).end()
      if (page === "html") return response.end("<html>Back in a minute</html>")
      if (page === "method") return response.writeHead(400).end("?")
      if (question.type === "describe") return response.end(description)
      turns++
      return complete(response)
    })
    const folder = mkdtempSync(join(tmpdir(), "ironflow-push-"))
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
    const first = await startWith({}, join(folder, "orders.db"))
    await register(first, server.url)
    page = "busy"
    const runId = await place(first)
    await explained(first, runId, "ENDPOINT_UNAVAILABLE")

    for (const next of ["html", "method"] as const) {
      page = next
      await vi.waitFor(() => expect(probed).toHaveBeenCalledWith(next), 5000)
    }
    expect((await explained(first, runId, "ENDPOINT_UNAVAILABLE")).message).toContain(
      "answered requests for its description before, and no longer does"
    )
    await first.close()
    page = "html"
    probed.mockClear()
    const second = await startWith({}, join(folder, "orders.db"))
    await vi.waitFor(() => expect(probed).toHaveBeenCalledWith("html"), 5000)
    await explained(second, runId, "ENDPOINT_UNAVAILABLE")
    expect([turns, foreign]).toEqual([0, []])

    page = "none"
    expect(await ended(second, runId)).toMatchObject({ status: "completed", attempt: 1 })
    expect([turns, foreign]).toEqual([1, []])
  })

  it("of another package gets a failed invocation as a step whose error is a JSON string", async () => {
    const segments: Array<any> = []
    const server = await endpoint((_request, response, body) => {
      const question = JSON.parse(body)
      if (question.type === "describe") return response.writeHead(400).end("{}")
      segments.push(question)
      const id = question.run_id
      response.setHeader("content-type", "application/json")
      if (question.function_id === "charge") {
        return response.end(
          JSON.stringify({
            status: "failed",
            steps: [],
            error: { message: "Declined", code: "ERROR", retryable: false }
          })
        )
      }
      return response.end(
        JSON.stringify(
          question.steps.length === 0
            ? {
                status: "yielded",
                steps: [],
                yield: { type: "invoke_function", step_id: `${id}:charge:0`, function_id: "charge" }
              }
            : { status: "completed", steps: [], result: "handled" }
        )
      )
    })
    const engine = await startWith()
    await registerFunction(engine, server.url, "order", "order.placed")
    await registerFunction(engine, server.url, "charge", "charge.asked")

    expect(await ended(engine, await place(engine))).toMatchObject({ status: "completed", output: "handled" })

    const [, child, last] = segments
    expect(segments).toHaveLength(3)
    const [step] = last.steps
    expect(step).toEqual({
      id: `${last.run_id}:charge:0`,
      name: "charge",
      status: "failed",
      error: expect.any(String)
    })
    expect(JSON.parse(step.error)).toEqual({
      function_id: "charge",
      child_run_id: child.run_id,
      cause: expect.stringContaining("Declined")
    })
  })

  it.each<readonly [string, (response: http.ServerResponse) => unknown]>([
    [
      "500 and an error",
      (response) => response.writeHead(500).end('{"error":{"message":"Cannot read properties of undefined"}}')
    ],
    ["500 and a page", (response) => response.writeHead(500).end("<html>oops</html>")],
    ["404", (response) => response.writeHead(404).end('{"message":"no such function"}')],
    ["405", (response) => response.writeHead(405).end()],
    ["422", (response) => response.writeHead(422).end("{}")],
    ["200 and something else", (response) => response.end("{}")]
  ])("of another package that answers `describe` with %s is called", async (_what, answer) => {
    let questions = 0
    const server = await endpoint((_request, response, body) => {
      const { event, type } = JSON.parse(body)
      if (type === "describe") {
        questions++
        return answer(response)
      }
      return response.end(JSON.stringify({ status: "completed", steps: [], result: event.data.orderId }))
    })
    const engine = await startWith()
    await registerFunction(engine, server.url, "order", "order.placed")

    for (let runs = 0; runs < 4; runs++) {
      expect(await ended(engine, await place(engine))).toMatchObject({ output: "o-1", attempt: 1 })
    }
    const known = questions
    expect(await ended(engine, await place(engine))).toMatchObject({ output: "o-1", attempt: 1 })
    // the endpoint has run segments, so the engine does not ask for its description again
    expect(questions).toBe(known)
  })

  it.each([500, 404])(
    "of this package that answers %i for a while is called again, and gets whole turns",
    async (status) => {
      const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) =>
        step.parallel("both", [() => step.run("one", () => 1), () => step.run("two", () => 2)])
      )
      const handler = serve({ functions: [order], logger: false, skipVerification: true })
      const failed = vi.fn()
      const requestTypes: Array<string> = []
      let isWell = false
      const server = await endpoint(async (_request, response, body) => {
        if (!isWell) {
          failed()
          return response.writeHead(status).end("Back in a moment")
        }
        requestTypes.push(JSON.parse(body).type)
        const answer = await handler(new Request("http://app/api/ironflow", { method: "POST", body }))
        return response.writeHead(answer.status).end(await answer.text())
      })
      const engine = await startWith()
      await registerFunction(engine, server.url, "order", "order.placed")
      await vi.waitFor(() => expect(failed).toHaveBeenCalled())
      isWell = true

      expect(await ended(engine, await place(engine))).toMatchObject({ output: [1, 2], attempt: 1 })
      expect(await ended(engine, await place(engine))).toMatchObject({ output: [1, 2], attempt: 1 })
      expect(requestTypes).toEqual(["describe", "turn", "turn"])
    }
  )

  it("of this package that got a segment because it did not answer `describe` gets whole turns once it does", async () => {
    const ran: Array<string> = []
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.run("charge", () => void ran.push("charge"))
      await step.sleep("settle", 10)
      await step.run("ship", () => void ran.push("ship"))
      await step.sleep("rest", 10)
      return "done"
    })
    const handler = serve({ functions: [order], logger: false, skipVerification: true })
    const requestTypes: Array<string> = []
    const server = await endpoint(async (_request, response, body) => {
      const type = JSON.parse(body).type ?? "segment"
      requestTypes.push(type)
      if (type === "describe" && !requestTypes.includes("segment")) return response.writeHead(500).end("{}")
      const answer = await handler(new Request("http://app/api/ironflow", { method: "POST", body }))
      return response.writeHead(answer.status).end(await answer.text())
    })
    const engine = await startWith()
    await registerFunction(engine, server.url, "order", "order.placed")

    expect(await ended(engine, await place(engine))).toMatchObject({ output: "done", attempt: 1 })
    expect(ran).toEqual(["charge", "ship"])
    expect(requestTypes.filter((type) => type !== "describe")).toEqual(["segment", "turn", "turn"])
  })

  it("that may be of this package gets no segment when only a whole turn can deliver the outcome, and the run does not fail", async () => {
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) =>
      step.waitForEvent("paid", { event: "order.paid", timeout: 100 }).catch(() => "too late")
    )
    const handler = serve({ functions: [order], logger: false, skipVerification: true })
    const failed = vi.fn()
    const waits = vi.fn()
    let isWell = true
    const segments: Array<unknown> = []
    const server = await endpoint(async (_request, response, body) => {
      if (JSON.parse(body).type === undefined) segments.push(body)
      if (!isWell) {
        failed()
        return response.writeHead(500).end("{}")
      }
      const answer = await handler(new Request("http://app/api/ironflow", { method: "POST", body }))
      const text = await answer.text()
      if (text.includes("order.paid")) {
        isWell = false
        waits()
      }
      return response.writeHead(answer.status).end(text)
    })
    const folder = mkdtempSync(join(tmpdir(), "ironflow-push-"))
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
    const first = await startWith({}, join(folder, "orders.db"))
    await registerFunction(first, server.url, "order", "order.placed")
    const runId = await place(first)
    await vi.waitFor(() => expect(waits).toHaveBeenCalled(), 10_000)
    await first.close()
    failed.mockClear()

    const second = await startWith({}, join(folder, "orders.db"))
    // the calls are a probe, and questions for the description before the turn that follows the wait
    await vi.waitFor(() => expect(failed.mock.calls.length).toBeGreaterThanOrEqual(3), 10_000)
    isWell = true

    expect(await ended(second, runId)).toMatchObject({ status: "completed", output: "too late", attempt: 1 })
    expect(segments).toEqual([])
  })

  it.each([0, 3])(
    "that answers only 404 after %i runs is called at growing intervals, and its run waits",
    async (runs) => {
      const at: Array<number> = []
      let isThere = true
      const server = await endpoint((_request, response, body) => {
        const isTurn = JSON.parse(body).type === undefined
        if (isThere && isTurn) return response.end(JSON.stringify({ status: "completed", steps: [] }))
        if (isTurn) at.push(performance.now())
        return response.writeHead(404).end("<html>")
      })
      const engine = await startWith()
      await registerFunction(engine, server.url, "order", "order.placed")
      for (let i = 0; i < runs; i++) await ended(engine, await place(engine))
      isThere = false
      const runId = await place(engine)

      await vi.waitFor(() => expect(at.length).toBeGreaterThanOrEqual(4), 10_000)
      const [first = 0, second = 0, third = 0, fourth = 0] = at
      expect(second - first).toBeGreaterThan(200)
      expect(third - second).toBeGreaterThan(400)
      expect(fourth - third).toBeGreaterThan(900)
      await explained(engine, runId, "ENDPOINT_UNAVAILABLE")
      expect(await engine.client.getRun(runId)).toMatchObject({ attempt: 1 })
    }
  )

  it("is not called after it was removed, and its runs wait for another endpoint", async () => {
    const server = await endpoint(describing((_job, response) => complete(response)))
    const engine = await startWith()
    await register(engine, server.url)
    const remove = () =>
      fetch(`${engine.url}/api/v1/push/endpoints?url=${encodeURIComponent(server.url)}`, { method: "DELETE" })
    const list = async () => (await fetch(`${engine.url}/api/v1/push/endpoints`)).json()
    const elsewhere = createClient({ serverUrl: engine.url })
    cleanups.push(() => elsewhere.close())
    for (const { pushEndpoints } of [engine.client, elsewhere]) {
      expect(await pushEndpoints.list()).toEqual([
        { url: `${server.url}/`, functionIds: ["order"], available: true }
      ])
      expect(await pushEndpoints.register(server.url)).toEqual(["order"])
      expect(await pushEndpoints.remove(`${server.url}/other`)).toBe(false)
      await expect(pushEndpoints.register("shop")).rejects.toThrow(ValidationError)
      await expect(pushEndpoints.register(`${server.url}1`)).rejects.toMatchObject({
        code: expect.stringMatching(/ENDPOINT_UNAVAILABLE|VALIDATION_ERROR/)
      })
    }
    expect(await list()).toEqual({
      endpoints: [{ url: `${server.url}/`, functionIds: ["order"], available: true }]
    })

    expect((await remove()).status).toBe(204)
    expect((await remove()).status).toBe(404)

    expect(await list()).toEqual({ endpoints: [] })
    const runId = await place(engine)
    await explained(engine, runId, "NO_WORKER")
  })

  it("is replaced by a worker that registers the function", async () => {
    const pushed = vi.fn()
    const server = await endpoint(
      describing((_job, response) => {
        pushed()
        complete(response)
      })
    )
    const lines: Array<string> = []
    const info = (line: string) => void lines.push(line)
    const engine = await startWith({}, ":memory:", { debug() {}, info, warn: info, error: info })
    await register(engine, server.url)
    const order = createFunction(
      { id: "order", triggers: [{ event: "order.placed" }] },
      async () => "by the worker"
    )
    const worker = createWorker({ serverUrl: engine.url, functions: [order], logger: false })
    worker.start().catch(() => undefined)
    cleanups.push(() => worker.stop())
    await worker.ready()

    expect(await ended(engine, await place(engine))).toMatchObject({ output: "by the worker" })
    expect(pushed).not.toHaveBeenCalled()
    expect(lines).toContainEqual(
      expect.stringContaining(
        `has taken over "order" from the push endpoint ${server.url}/, which is no longer called for this function`
      )
    )

    await worker.stop()
    const runId = await place(engine)
    const { message } = await explained(engine, runId, "NO_WORKER")
    expect(message).toContain(
      `Before, the push endpoint ${server.url}/ had it; \`ironflow functions register ${server.url}/\` gives it back`
    )
    await register(engine, server.url)
    expect(await ended(engine, runId)).toMatchObject({ status: "completed" })
    expect(pushed).toHaveBeenCalledOnce()
  })
})

const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels)

describe("an invalid answer", () => {
  it.each([
    ["null", "null"],
    ["ops that are not an array", '{"type":"turn","ops":{"toString":1}}'],
    ["an op without a valid kind", '{"type":"turn","ops":[{"_tag":{"toString":1}}]}'],
    ["an output that is not a string", '{"type":"turn","ops":[{"_tag":"Complete","output":{"toString":1}}]}'],
    ["an invalid error", '{"type":"turn","ops":[{"_tag":"Fail","error":{"toString":1}}]}']
  ])("costs a turn, and the run continues: %s", async (_what, answer) => {
    let turns = 0
    const server = await endpoint(
      describing((_job, response) => (turns++ === 0 ? response.end(answer) : complete(response)))
    )
    const engine = await startWith()
    await register(engine, server.url)

    const run = await ended(engine, await place(engine))

    expect([run.status, turns]).toEqual(["completed", 2])
  })

  it.each([
    ["the answer", nested(10_000)],
    ["its ops", `{"type":"turn","ops":${nested(10_000)}}`],
    ["an output", JSON.stringify({ type: "turn", ops: [{ _tag: "Complete", output: nested(10_000) }] })]
  ])("fails the run when %s has 10,000 levels", async (_what, answer) => {
    const server = await endpoint(describing((_job, response) => response.end(answer)))
    const engine = await startWith()
    await register(engine, server.url)

    const run = await ended(engine, await place(engine))

    expect(run.status).toBe("failed")
    expect(run.error?.message).toMatch(/Nesting of .* more than 100 levels/)
  })

  it("to a request for the description is explained in the error", async () => {
    const odd = description.replace('"turns":1', '"turns":{"toString":1}')
    const server = await endpoint((_request, response) => response.end(odd))
    const engine = await startWith()

    const response = await registerEndpoint(engine, server.url)

    expect(response.status).toBe(400)
    expect(await response.text()).toContain("does not say which functions it has")
  })
})

describe("a report during a turn", () => {
  type Turn = { readonly jobId: string; readonly runId: string }

  const sendUpdate = async (engine: { readonly url?: string }, { jobId, runId }: Turn, body: object) => {
    const answer = await fetch(`${engine.url}/api/v1/push/turns/${jobId}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ runId, ...body })
    })
    return (await answer.json()) as { readonly ack: unknown; readonly notices: unknown }
  }
  const charged = {
    _tag: "StepDone",
    stepKey: "charge:0",
    name: "charge",
    kind: "run",
    outcome: { _tag: "Success" },
    attempt: 1,
    startedAt: 1,
    endedAt: 2
  }

  it("is refused when it is invalid, and changes nothing", async () => {
    const engine = await startWith()
    const update = (body: unknown) =>
      fetch(`${engine.url}/api/v1/push/turns/job_1`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body)
      })

    for (const body of [
      {},
      [],
      { runId: "r" },
      { runId: "r", ops: [{}] },
      { runId: "r", ops: [], waitMs: -1 },
      { runId: "r", ops: [], late: {} },
      { runId: "r", ops: [], pauses: 1 }
    ]) {
      expect((await update(body)).status).toBe(400)
    }
    const unknown = await update({ runId: "r", ops: [{ _tag: "Complete" }] })
    expect(await unknown.json()).toMatchObject({
      ack: { _tag: "Refused", reason: "LEASE_LOST" },
      notices: [{ _tag: "LeaseLost" }]
    })
  })

  it("may report running steps in an invalid form, which are left out", async () => {
    const jobs: Array<{ readonly jobId: string; readonly runId: string }> = []
    const server = await endpoint(describing((job) => void jobs.push(job)))
    const engine = await startWith()
    await register(engine, server.url)
    const runId = await place(engine)
    await vi.waitFor(() => expect(jobs.at(-1)?.runId).toBe(runId))
    for (const running of [5, "x", [null], [{ stepKey: 1 }], { length: 1e9 }]) {
      const answer = await fetch(`${engine.url}/api/v1/push/turns/${jobs.at(-1)!.jobId}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ runId, ops: [], waitMs: 1, running })
      })
      expect(answer.status).toBe(200)
      const steps = (await (await fetch(`${engine.url}/api/v1/runs/${runId}/steps`)).json()) as unknown
      expect(JSON.stringify(steps)).not.toContain("running")
    }
  })

  it("leaves the notices to the next request for them", async () => {
    const jobs: Array<{ readonly jobId: string; readonly runId: string }> = []
    const server = await endpoint(describing((job) => void jobs.push(job)))
    const engine = await startWith()
    await register(engine, server.url)
    const runId = await place(engine)
    await vi.waitFor(() => expect(jobs.at(-1)?.runId).toBe(runId))
    const update = (body: object) => sendUpdate(engine, jobs.at(-1)!, { pauses: true, ...body })

    await engine.client.pauseRun(runId)
    const reported = await update({ ops: [charged] })
    await update({ ops: [], late: { stepName: "charge", lingerMs: 1 } })
    const answer = await update({ ops: [], waitMs: 1 })

    expect(reported).toMatchObject({ ack: { _tag: "Accepted", paused: true }, notices: [] })
    expect(answer.notices).toMatchObject([{ _tag: "Paused" }])
  })

  it("is kept when a pause is requested, and a handler that does not know pauses is called back", async () => {
    const jobs: Array<{ readonly jobId: string; readonly runId: string }> = []
    const server = await endpoint(describing((job) => void jobs.push(job)))
    const engine = await startWith()
    await register(engine, server.url)
    const update = (body: object) => sendUpdate(engine, jobs.at(-1)!, body)
    for (const pauses of [true, false]) {
      const runId = await place(engine)
      await vi.waitFor(() => expect(jobs.at(-1)?.runId).toBe(runId))

      await engine.client.pauseRun(runId)
      const answer = await update({ ops: [], ...(pauses ? { pauses } : {}) })
      const reported = await update({ ops: [charged], ...(pauses ? { pauses } : {}) })

      expect(answer.notices).toMatchObject(pauses ? [{ _tag: "Paused" }] : [])
      expect(reported.ack).toMatchObject(
        pauses ? { _tag: "Accepted", paused: true } : { _tag: "Refused", reason: "LEASE_LOST" }
      )
      if (pauses) await update({ ops: [{ _tag: "Release" }], pauses })
      expect((await engine.client.getRun(runId)).status).toBe("paused")
      expect(await engine.client.getRunSteps(runId)).toMatchObject([{ name: "charge" }])
    }
  })
})
