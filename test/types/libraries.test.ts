/** The compiler can write the declarations of libraries that export values made with the package. */
import { spawnSync } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"
import { afterAll, expect, test } from "vitest"
import { makeDeclarations, repository, tsc } from "./Declarations.ts"

const folder = fs.mkdtempSync(path.join(repository, "test", ".examples-"))
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

// the package as it is installed, since the compiler names types by the `exports` of the package
const installed = path.join(folder, "node_modules/@ironflow/node")
fs.mkdirSync(path.join(installed, "dist"), { recursive: true })
fs.copyFileSync(path.join(repository, "package.json"), path.join(installed, "package.json"))
fs.cpSync(makeDeclarations(), path.join(installed, "dist/dts"), { recursive: true })
fs.writeFileSync(path.join(folder, "package.json"), JSON.stringify({ type: "module" }))

/** The compiler's errors when it writes the declarations of a library of one module. */
const complaints = (name: string, source: string): string => {
  fs.writeFileSync(path.join(folder, `${name}.ts`), source)
  const config = path.join(folder, `tsconfig.${name}.json`)
  fs.writeFileSync(
    config,
    JSON.stringify({
      compilerOptions: {
        target: "ES2023",
        lib: ["ES2023", "DOM", "ESNext.Disposable"],
        module: "NodeNext",
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: true,
        types: ["node"],
        declaration: true,
        emitDeclarationOnly: true,
        rootDir: ".",
        outDir: "out"
      },
      files: [`${name}.ts`]
    })
  )
  const { stdout } = spawnSync(process.execPath, [tsc, "-p", config], { encoding: "utf8" })
  expect(fs.existsSync(path.join(folder, `out/${name}.d.ts`)) || stdout !== "").toBe(true)
  return stdout
}

test("a library with the Promise API has declarations", () => {
  const source = `
import { createClient, createFunction, createProjection, createWorker, defineEntity, defineEvent, type EventMap, serve, withEvents } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { createTestClient, createTestEngine } from "@ironflow/node/test"
import { z } from "zod"

export const OrderPlaced = defineEvent({ name: "order.placed", schema: z.object({ at: z.coerce.date() }) })
export const order = createFunction({ id: "order", triggers: [OrderPlaced] }, async ({ step }) => {
  const [at, read] = await step.parallel("both", [(s) => s.run("a", () => new Date()), (s) => s.run("b", () => new Error("b"))])
  return { at, read, map: await step.map("m", [1], (i, s) => s.run("x", () => i), { onError: "allSettled" }) }
})
export const totals = createProjection({ name: "totals", events: [OrderPlaced], initialState: () => 0, handler: (n) => n + 1 })
export const Cart = defineEntity({ type: "cart", events: [OrderPlaced], initialState: () => 0, evolve: (n) => n + 1 })
export const client = createClient()
export const typed = createClient<EventMap<typeof OrderPlaced>>()
export const names = withEvents<EventMap<typeof OrderPlaced>>()
export const carts = client.streams.of(Cart)
export const bucket = client.kv().bucket("b", { schema: z.object({ at: z.coerce.date() }) })
export const worker = createWorker({ functions: [order] })
export const POST = serve({ functions: [order] })
export const engine = () => startEngine({ functions: [order] })
export const kits = () => [createTestClient({ functions: [order] }), createTestEngine({ functions: [order] })]
export const calls = () => [client.emitSync(OrderPlaced, { at: 1 }), client.listRuns(), carts.read("c-1"), bucket.get("k")]
`
  expect(complaints("promise", source)).toBe("")
})

test("a library with the Effect API has declarations, without importing the namespace Errors", () => {
  const source = `
import { Client, Engine, Event, IronflowConfig, IronflowFunction, Kv, Projection, Projections, Server, Step, Store, Streams, Subscriptions, Testing, Worker, WorkerTransport } from "@ironflow/node/effect"
import { Context, Effect, Layer, Schema } from "effect"
import { FetchHttpClient } from "effect/http"

export const OrderPlaced = Event.define("order.placed", { data: Schema.Struct({ at: Schema.Date }) })
export class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
export class Payments extends Context.Service<Payments, { readonly charge: () => Effect.Effect<number, Declined> }>()("shop/Payments") {}
export const order = IronflowFunction.make(
  { id: "order", triggers: [OrderPlaced], success: Schema.Struct({ at: Schema.Date }), error: Declined },
  Effect.fnUntraced(function* ({ event }) {
    const payments = yield* Payments
    yield* Step.run("charge", payments.charge(), { error: Declined })
    return { at: event.data.at }
  })
)
export const totals = Projection.make({ name: "totals", events: [OrderPlaced], initialState: () => 0, handler: (n) => n + 1 })
export const EngineLive = Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: ":memory:" })))
export const ClientLive = Engine.layerClient
export const Main = Worker.layer({ functions: [order] }).pipe(
  Layer.provide(WorkerTransport.layerMemory),
  Layer.merge(Engine.layerClient),
  Layer.provide(EngineLive)
)
export const Remote = Client.layerHttp({ serverUrl: "http://localhost:9123" }).pipe(Layer.provide(FetchHttpClient.layer))
export const RemoteEngine = WorkerTransport.layerPolling({ serverUrl: "http://localhost:9123" })
export const Http = Server.layer({ port: 9123 })
export const Test = Testing.layer({ functions: [order] })
export const moved = Effect.flatMap(Testing.TestEngine, (engine) => engine.advance("1 day"))
export const invoked = Step.invoke(order, { at: new Date() })
export const waited = Step.waitForEvent("w", { event: OrderPlaced })
export const both = Step.parallel("both", [Step.run("a", Effect.succeed(1)), waited])
export const written = Step.tx("t", (tx) => tx.emit(OrderPlaced, { at: new Date() }))
export const session = Effect.flatMap(Kv.Kv, (kv) => kv.bucket("b", { schema: Schema.Struct({ at: Schema.Date }) }).get("k"))
export const steered = Effect.fn("steered")(function* (id: string) {
  const client = yield* Client.Client
  yield* client.emitSync(OrderPlaced, { at: new Date() })
  return [yield* client.getRun(id), yield* client.cancelRun(id), yield* client.health()]
})
export const read = Effect.flatMap(Streams.Streams, (streams) => streams.read("c-1"))
export const state = Effect.flatMap(Projections.Projections, (projections) => projections.get("totals"))
export const settings = Effect.flatMap(IronflowConfig.Config, (config) => config.get("app"))
export const heard = Effect.map(Subscriptions.Subscriptions, ({ stream }) => stream(OrderPlaced))
`
  expect(complaints("effect", source)).toBe("")
})

test("a layer has declarations in a module that does not import the services of its type", () => {
  const source = `
import { Engine } from "@ironflow/node/effect"

export const EngineLive = Engine.layer
export const ClientLive = Engine.layerClient
`
  expect(complaints("layers", source)).toBe("")
})
