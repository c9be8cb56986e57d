/** One trace from the caller to the last compensation, as a receiver of OTLP sees it. */
import { execFile } from "node:child_process"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import {
  Client,
  IronflowFunction,
  Projection,
  Step,
  Subscriptions,
  Worker,
  WorkerTransport
} from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import * as Stream from "effect/Stream"
import { assert, describe, it, vi } from "vitest"
import { NonRetryableError } from "../src/Errors.ts"
import { parseTrace } from "../src/Trace.ts"
import { Collector } from "./Collector.ts"
import { nodeArguments } from "./Built.ts"

const open = () => startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })

const layerOtlp = (collector: Collector, serviceName: string) =>
  Otlp.layerJson({
    baseUrl: collector.url,
    resource: { serviceName },
    tracerExportInterval: "50 millis"
  }).pipe(Layer.provide(FetchHttpClient.layer))

describe("a trace with Effect's tracer", () => {
  const child = IronflowFunction.make({ id: "invoice", triggers: [] }, () =>
    Step.run("print", Effect.succeed("printed"))
  )
  const order = IronflowFunction.make(
    { id: "order", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 2, initialDelayMs: 1 } },
    Effect.fnUntraced(function* () {
      yield* Step.run(
        "charge",
        Effect.gen(function* () {
          const { attempt } = yield* Step.StepAttempt
          if (attempt === 1) return yield* Effect.fail(new Error("the bank is busy"))
          return yield* Effect.succeed("paid").pipe(Effect.withSpan("ask the bank"))
        })
      )
      yield* Step.compensate("charge", Effect.void.pipe(Effect.withSpan("refund")))
      yield* Step.sleep("settle", "20 millis")
      yield* Step.waitForEvent("approval", { event: "order.approved" })
      yield* Step.invoke("invoice")
      yield* Step.publish("orders", { n: 1 })
      yield* Step.run("ship", Effect.fail(new NonRetryableError("no stock")))
    })
  )
  const totals = Projection.make({
    name: "totals",
    events: ["order.placed"],
    initialState: () => ({ count: 0 }),
    handler: (state) => ({ count: state.count + 1 })
  })

  it("leads from the caller over run, turns, steps, child, message and projection to the last compensation", async () => {
    await using collector = await Collector.open()
    const engine = await open()
    const serverUrl = engine.url!
    const working = Worker.make({ functions: [order, child], projections: [totals] }).pipe(
      Effect.flatMap(({ ready }) => ready),
      Effect.andThen(Effect.never),
      Effect.scoped,
      Effect.provide(
        WorkerTransport.layerPolling({ serverUrl }).pipe(
          Layer.provide(FetchHttpClient.layer),
          Layer.provideMerge(layerOtlp(collector, "shop"))
        )
      )
    )
    const worker = Effect.runFork(working)

    const calls = Effect.gen(function* () {
      const client = yield* Client.Client
      const { runIds } = yield* client.emit("order.placed", { orderId: "o-1" })
      return runIds[0]!
    }).pipe(Effect.withSpan("checkout"))
    const approves = Effect.gen(function* () {
      const client = yield* Client.Client
      yield* client.emit("order.approved", {})
    }).pipe(Effect.withSpan("approve"))
    const asClient = <A, E>(effect: Effect.Effect<A, E, Client.Client>) =>
      Effect.runPromise(
        Effect.provide(
          effect,
          Client.layerHttp({ serverUrl }).pipe(
            Layer.provide(FetchHttpClient.layer),
            Layer.provideMerge(layerOtlp(collector, "web"))
          )
        )
      )
    await vi.waitFor(async () => assert.lengthOf(await engine.client.listFunctions(), 2), 5000)
    const runId = await asClient(calls)
    await vi.waitFor(
      async () => assert.strictEqual((await engine.client.explain(runId)).code, "WAITING_FOR_EVENT"),
      5000
    )
    await asClient(approves)
    const run = await engine.client.waitForRun(runId, { timeout: 10_000 })
    assert.strictEqual(run.status, "failed")
    await vi.waitFor(() => collector.named("project totals"), 5000)
    worker.interruptUnsafe()
    await vi.waitFor(() => collector.named("run order"), 5000)
    await engine.close()

    const tree = collector.tree(collector.named("checkout"))
    // the division of attempts into turns depends on time, so only the parents are checked
    const checkout = collector.named("checkout")
    const runSpan = collector.named("run order")
    assert.strictEqual(runSpan.parentSpanId, checkout.spanId)
    assert.isTrue(
      collector.spans.every(({ name, traceId }) => name === "approve" || traceId === checkout.traceId),
      "all spans are in one trace"
    )
    const below = (name: string, parent: string) =>
      assert.isTrue(
        collector.spans.some(
          (span) =>
            span.name === name &&
            collector.spans.some((other) => other.name === parent && other.spanId === span.parentSpanId)
        ),
        `"${name}" is below "${parent}" in\n${tree}`
      )
    below("project totals", "checkout")
    below("turn order", "run order")
    below("step charge", "turn order")
    below("ask the bank", "step charge")
    below("sleep settle", "turn order")
    below("wait approval", "turn order")
    below("invoke invoice", "turn order")
    below("run invoice", "invoke invoice")
    below("step print", "turn invoice")
    below("publish orders", "turn order")
    below("compensate charge", "turn order")
    below("refund", "compensate charge")

    const charges = collector.spans.filter(({ name }) => name === "step charge")
    const events = charges.flatMap(({ events }) => events.map(({ name }) => name))
    assert.deepStrictEqual(events, ["attempt", "attempt failed", "attempt"])
    assert.strictEqual(collector.named("step ship").status.code, 2)
    const links = collector.spans.flatMap(({ links }) => links.map(({ spanId }) => spanId))
    assert.include(links, collector.named("approve").spanId)
    assert.include(links, collector.named("wait approval").spanId)
  }, 30_000)
})

describe("the span of a subscriber, with Effect's tracer,", () => {
  it("is below the span that has emitted or published, with and without groups", async () => {
    await using collector = await Collector.open()
    const engine = await open()
    const traced = (serviceName: string) =>
      Client.layerHttp({ serverUrl: engine.url! }).pipe(
        Layer.provide(FetchHttpClient.layer),
        Layer.provideMerge(layerOtlp(collector, serviceName))
      )
    const calls = Effect.gen(function* () {
      const client = yield* Client.Client
      yield* client.emit("order.placed", { n: 1 }).pipe(Effect.withSpan("checkout"))
      yield* client.publish("orders", { n: 2 }).pipe(Effect.withSpan("tell"))
    })
    await Effect.runPromise(Effect.provide(calls, traced("web")))
    await engine.client.emit("order.untraced", {})
    const first = (pattern: string, inside: string, options: Subscriptions.StreamOptions) =>
      Effect.flatMap(Subscriptions.Subscriptions, ({ stream }) =>
        stream(pattern, { replay: 10, ...options }).pipe(
          Stream.take(1),
          Stream.runForEach((event) => event.within(Effect.withSpan(Effect.void, inside)))
        )
      )
    const receives = Effect.all([
      first("events:order.placed", "mail", {}),
      first("topic:orders", "pack", { consumerGroup: "packers" }),
      first("events:order.untraced", "look", {})
    ])
    await Effect.runPromise(Effect.provide(receives, traced("warehouse")))
    await vi.waitFor(() => collector.named("look"), 5000)
    await engine.close()

    const trees = ["checkout", "tell"].map((name) => collector.tree(collector.named(name)))
    assert.deepStrictEqual(trees, ["handle order.placed\n  mail\n", "handle orders\n  pack\n"])
    assert.isUndefined(collector.named("look").parentSpanId)
    const told = collector
      .named("handle orders")
      .attributes.map(({ key, value }) => [key, Object.values(value)[0]])
      .filter(([key]) => key !== "ironflow.event.id")
    assert.deepStrictEqual(told, [
      ["ironflow.subscription", "topic:orders"],
      ["ironflow.group", "packers"],
      ["ironflow.event.name", "orders"],
      ["ironflow.delivery.attempt", 1]
    ])
  }, 30_000)

  it("ends where a stream is interrupted or fails", async () => {
    await using collector = await Collector.open()
    const engine = await open()
    const layer = Client.layerHttp({ serverUrl: engine.url! }).pipe(
      Layer.provide(FetchHttpClient.layer),
      Layer.provideMerge(layerOtlp(collector, "shop"))
    )
    const each = (body: Effect.Effect<unknown, Error>) =>
      Effect.flatMap(Subscriptions.Subscriptions, ({ stream }) =>
        Stream.runForEach(stream("events:order.placed", { replay: 1 }), () => body)
      )
    const program = Effect.gen(function* () {
      const client = yield* Client.Client
      yield* client.emit("order.placed", {}).pipe(Effect.withSpan("checkout"))
      const begun = yield* Deferred.make<void>()
      const endless = yield* Effect.forkChild(
        each(Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))
      )
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(endless)
      yield* Effect.flip(each(Effect.fail(new Error("no stamps"))))
    })
    await Effect.runPromise(Effect.provide(program, layer))
    await engine.close()

    const handled = collector.spans.filter(({ name }) => name === "handle order.placed")
    const checkout = collector.named("checkout")
    assert.deepStrictEqual(
      handled.map(({ parentSpanId, status }) => [parentSpanId, status.code]),
      [
        [checkout.spanId, 0],
        [checkout.spanId, 2]
      ]
    )
  }, 30_000)
})

describe("a trace with @opentelemetry/api", () => {
  it("leads from an HTTP request over the run to spans that a library makes in a step", async () => {
    // in a process of its own, because a provider is registered for the whole process
    const file = fileURLToPath(new URL("traces/openTelemetry.ts", import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [...nodeArguments(), file])
    const { spans, traceId }: { readonly traceId: string; readonly spans: ReadonlyArray<Span> } =
      JSON.parse(stdout)
    const named = (name: string): Span => {
      const span = spans.find((span) => span.name === name)
      assert.isDefined(span, `${name} in ${stdout}`)
      return span
    }
    const idOf = (name: string) => named(name).spanId
    const all = spans.filter(({ name }) => name === "handle order.placed")
    const handled = all.filter(({ group }) => group === "packers")
    const handledInProcess = all.find(({ group }) => group === undefined)
    // the first attempt has asked for another delivery
    assert.deepStrictEqual(
      handled.map(({ attempt, failed, parentSpanId }) => ({ attempt, failed, parentSpanId })),
      [
        { attempt: 1, failed: true, parentSpanId: idOf("emit order.placed") },
        { attempt: 2, failed: false, parentSpanId: idOf("emit order.placed") }
      ]
    )
    assert.strictEqual(handledInProcess?.parentSpanId, idOf("emit order.placed"))

    const chain = [
      ["POST /orders", "b7ad6b7169203331"],
      // the engine is in the same process, and is traced too
      ["emit order.placed", idOf("POST /orders")],
      ["run order", idOf("emit order.placed")],
      ["project totals", idOf("emit order.placed")],
      ["turn order", idOf("run order")],
      ["step charge", idOf("turn order")],
      ["ask the bank", idOf("step charge")],
      ["step mail", idOf("turn order")],
      ["send", idOf("step mail")],
      ["pack", handled.find(({ failed }) => !failed)?.spanId],
      ["list", handledInProcess?.spanId]
    ] as const
    assert.deepStrictEqual(
      chain.map(([name]) => [name, named(name).parentSpanId]),
      chain.map((link) => [...link])
    )
    assert.isTrue(spans.every((span) => span.traceId === traceId))
  }, 60_000)
})

interface Span {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly failed: boolean
  readonly group?: string
  readonly attempt?: number
}

describe("without a tracer", () => {
  it("no header is sent, and inside a span the header of that span", async () => {
    const seen: Array<{ readonly traceparent?: unknown; readonly b3?: unknown }> = []
    const server = createServer((request, response) => {
      const { b3, traceparent } = request.headers
      seen.push({ b3, traceparent })
      response.writeHead(200, { "content-type": "application/json" }).end('{"eventId":"evt_1","runIds":[]}')
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const serverUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const emits = Effect.gen(function* () {
      const client = yield* Client.Client
      yield* client.emit("order.placed", {})
      const span = yield* Effect.useSpan("checkout", (span) =>
        Effect.as(Effect.withParentSpan(client.emit("order.placed", {}), span), span)
      )
      return `00-${span.traceId}-${span.spanId}-01`
    })
    const traceparent = await Effect.runPromise(
      Effect.provide(emits, Client.layerHttp({ serverUrl }).pipe(Layer.provide(FetchHttpClient.layer)))
    )
    server.close()
    server.closeAllConnections()

    assert.deepStrictEqual(seen, [
      { b3: undefined, traceparent: undefined },
      { b3: undefined, traceparent }
    ])
  })

  it("a broken traceparent is ignored", async () => {
    const engine = await open()
    const headers = { "content-type": "application/json" }
    const post = (traceparent: string) =>
      fetch(`${engine.url}/ironflow.v1.IronflowService/Trigger`, {
        method: "POST",
        headers: { ...headers, traceparent },
        body: '{"event":"order.placed","data":{}}'
      })
    const statuses = []
    for (const broken of ["", "nonsense", `00-${"0".repeat(32)}-b7ad6b7169203331-01`, "x".repeat(4000)]) {
      statuses.push((await post(broken)).status)
    }
    await engine.close()

    assert.deepStrictEqual(statuses, [200, 200, 200, 200])
  })

  it.each([
    ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true],
    ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false],
    // a later version with more fields
    ["cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", true],
    ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what", undefined],
    ["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", undefined],
    ["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", undefined],
    ["00-00000000000000000000000000000000-b7ad6b7169203331-01", undefined],
    ["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", undefined],
    [["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"], undefined],
    [undefined, undefined]
  ])("the header %s is of a sampled span: %s", (text, sampled) => {
    assert.strictEqual(parseTrace(text)?.sampled, sampled)
  })
})
