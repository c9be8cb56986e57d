/**
 * One trace from the caller to the last step, printed as a tree. In production the tracer is an Effect layer
 * (`Otlp.layerJson`) or an OpenTelemetry SDK, see docs/traces.md. Run it: `node --conditions=@ironflow/source
 * examples/traces/main.ts`.
 */
import { Client, Engine, IronflowFunction, Step, Store, Worker, WorkerTransport } from "@ironflow/node/effect"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

const spans: Array<Tracer.Span> = []
const tracer = Tracer.make({
  span: (options) => {
    const span = new Tracer.NativeSpan(options)
    spans.push(span)
    return span
  }
})

const processOrder = IronflowFunction.make(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  () =>
    Effect.gen(function* () {
      yield* Step.run("charge", Effect.succeed("paid").pipe(Effect.withSpan("ask the bank")))
      yield* Step.sleep("let it settle", "50 millis")
      yield* Step.run("ship", Effect.succeed("shipped"))
    })
)

const Main = Worker.layer({ functions: [processOrder] }).pipe(
  Layer.provide(WorkerTransport.layerMemory),
  Layer.merge(Engine.layerClient),
  Layer.provide(Engine.layer),
  Layer.provide(Store.layerSqlite({ filename: ":memory:" })),
  Layer.provideMerge(Layer.succeed(Tracer.Tracer, tracer))
)

const tree = (parent: Tracer.Span, indent = ""): string =>
  spans
    .filter((span) => Option.isSome(span.parent) && span.parent.value.spanId === parent.spanId)
    .map((span) => `${indent}${span.name}\n${tree(span, `${indent}  `)}`)
    .join("")

const program = Effect.gen(function* () {
  const client = yield* Client.Client
  const checkout = Effect.useSpan("checkout", (span) =>
    Effect.as(Effect.withParentSpan(client.emit("order.placed", { orderId: "order-7" }), span), span)
  )
  const span = yield* checkout
  const [run] = (yield* client.listRuns()).runs
  if (run !== undefined) yield* client.waitForRun(run.id, { timeout: 10_000 })
  // the span of the run ends a moment after the run
  while (!spans.some(({ name }) => name === "run process-order")) yield* Effect.sleep("10 millis")
  yield* Console.log(`checkout\n${tree(span, "  ")}`)
})

NodeRuntime.runMain(Effect.provide(program, Main))
