/** A worker whose requests to the engine, or answers from it, are lost. */
import http from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, assert, it, vi } from "vitest"
import {
  createNoopLogger,
  createProjection,
  createWorker,
  type IronflowProjection,
  NonRetryableError
} from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** A proxy that drops some requests, and cuts off some answers after the engine has given them. */
const startProxy = async (
  target: string,
  isLost: (path: string) => boolean,
  isRequestLost: (path: string) => boolean = () => false
): Promise<{ readonly url: string }> => {
  const proxy = http.createServer((request, response) => {
    const path = request.url ?? "/"
    if (isRequestLost(path)) {
      response.destroy()
      return
    }
    const sent = http.request(
      new URL(path, target),
      { method: request.method, headers: request.headers },
      (answer) => {
        if (isLost(path)) {
          answer.resume().once("end", () => response.destroy())
          return
        }
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      }
    )
    sent.once("error", () => response.destroy())
    response.once("close", () => sent.destroy())
    request.pipe(sent)
  })
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))
  cleanups.push(() => {
    proxy.closeAllConnections()
    return new Promise((resolve) => proxy.close(resolve))
  })
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` }
}

/** Starts a worker for the engine at the URL. */
const startWorker = (serverUrl: string, projection: IronflowProjection<any, any>) => {
  const worker = createWorker({
    functions: [],
    projections: [projection],
    serverUrl,
    logger: createNoopLogger()
  })
  const working = worker.start()
  cleanups.push(async () => {
    await worker.stop()
    await working
  })
  return worker
}

it("a save whose answer is lost is stored once, and not counted as refused", async () => {
  const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  cleanups.push(() => engine.close())
  let saves = 0
  let lost = 0
  const proxy = await startProxy(engine.url!, (path) => {
    if (!path.endsWith("/owner/save")) return false
    const isLost = saves++ % 2 === 0
    if (isLost) lost++
    return isLost
  })
  const totals = createProjection({
    name: "totals",
    events: ["order.placed"],
    batchSize: 1,
    maxRetries: 0,
    initialState: () => ({ total: 0 }),
    handler: (state, event) => {
      if (event.data.amount === 13) throw new NonRetryableError("bad luck")
      return { total: state.total + event.data.amount }
    }
  })
  const worker = startWorker(proxy.url, totals)
  await worker.ready()

  const { projections } = engine.client
  for (const amount of [1, 2, 13, 4]) {
    const { position } = await engine.client.emit("order.placed", { amount })
    await projections.waitForCatchup("totals", { after: position })
  }
  const { state, version } = await projections.get("totals")
  const status = await projections.status("totals")
  const letters = await projections.deadLetters("totals")

  assert.isAtLeast(lost, 3)
  assert.deepStrictEqual(state, { total: 7 })
  assert.deepStrictEqual([version, status.refusedSaves, status.deadLetters], [4, 0, 1])
  assert.deepStrictEqual(
    letters.map(({ attempts, event }) => [(event.data as { amount: number }).amount, attempts]),
    [[13, 1]]
  )
  // the worker has never lost its claim
  assert.strictEqual(status.generation, 1)
})

it("a worker is not ready before the engine has its projections", async () => {
  const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  cleanups.push(() => engine.close())
  let lost = 0
  const proxy = await startProxy(
    engine.url!,
    () => false,
    (path) => path.endsWith("/owner/claim") && lost++ < 2
  )
  const counts = createProjection({
    name: "counts",
    events: ["order.placed"],
    initialState: () => 0,
    handler: (count) => count + 1
  })
  const worker = startWorker(proxy.url, counts)
  await worker.ready()

  assert.isAtLeast(lost, 3)
  assert.strictEqual((await engine.client.projections.status("counts")).mode, "managed")
})

it("ready() rejects when a worker is stopped before the engine has its projections", async () => {
  const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  cleanups.push(() => engine.close())
  let lost = 0
  const proxy = await startProxy(
    engine.url!,
    () => false,
    (path) => path.endsWith("/owner/claim") && lost++ >= 0
  )
  const mails = createProjection({ name: "mails", events: ["order.placed"], handler: async () => undefined })
  const worker = startWorker(proxy.url, mails)
  await vi.waitFor(() => assert.isAtLeast(lost, 1))
  await worker.stop()

  const error = await worker.ready().then(
    () => assert.fail("expected a rejection"),
    (error: unknown) => error
  )
  assert.propertyVal(error, "code", "WORKER_STOPPED")
})

/** A proxy over HTTP that answers with `page` instead of the engine, while there is one. */
const startGateway = async (target: string) => {
  const it = {
    page: undefined as { readonly status: number; readonly body: string } | undefined,
    pages: 0,
    url: ""
  }
  const gateway = http.createServer((request, response) => {
    if (it.page !== undefined) {
      if (request.url?.includes("/owner/")) it.pages++
      response.writeHead(it.page.status, { "content-type": "text/html" }).end(it.page.body)
      return
    }
    const sent = http.request(
      new URL(request.url ?? "/", target),
      { method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(response)
      }
    )
    sent.once("error", () => response.destroy())
    response.once("close", () => sent.destroy())
    request.pipe(sent)
  })
  await new Promise<void>((resolve) => gateway.listen(0, "127.0.0.1", resolve))
  cleanups.push(() => {
    gateway.closeAllConnections()
    return new Promise((resolve) => gateway.close(resolve))
  })
  it.url = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`
  return { it, hangUp: () => gateway.closeAllConnections() }
}

it.each([400, 401, 403, 404, 405, 409, 413])(
  "a projection waits while a gateway answers a page with %i in place of the engine, and continues afterwards",
  async (status) => {
    const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    cleanups.push(() => engine.close())
    const { hangUp, it } = await startGateway(engine.url!)
    const logged: Array<string> = []
    const collect = (text: string) => void logged.push(text)
    const seen: Array<number> = []
    const worker = createWorker({
      functions: [],
      projections: [
        createProjection({
          name: "totals",
          events: ["order.placed"],
          handler: (event) => void seen.push((event.data as { n: number }).n)
        })
      ],
      serverUrl: it.url,
      logger: { debug: () => undefined, info: collect, warn: collect, error: collect }
    })
    const working = worker.start()
    cleanups.push(async () => {
      await worker.stop()
      await working
    })
    await engine.client.emit("order.placed", { n: 1 })
    await vi.waitFor(() => assert.deepStrictEqual(seen, [1]), 10_000)

    it.page = { status, body: "<html>no</html>" }
    hangUp()
    // the first pages may be answers to acks: those events are delivered again, and the worker soon asks for more and gets a page
    await vi.waitFor(() => assert.match(logged.join("\n"), /Projection "totals".* waits/), 40_000)
    it.page = undefined
    await engine.client.emit("order.placed", { n: 2 })
    await vi.waitFor(() => assert.deepStrictEqual([...new Set(seen)], [1, 2]), 10_000)
    const aboutTotals = logged.filter((text) => text.startsWith('Projection "totals"'))
    await vi.waitFor(() => assert.match(logged.join("\n"), /Projection "totals" continues/), 10_000)
    assert.strictEqual(aboutTotals.filter((text) => text.includes("waits")).length, 1)
    assert.notMatch(logged.join("\n"), /does not run/)
  }
)
