import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import { createFunction } from "../../src/Function.ts"
import { createClient } from "../../src/Promise/Client.ts"
import { layer } from "../../src/Worker/PollingTransport.ts"
import * as Worker from "../../src/Worker/Worker.ts"
import { EngineServer } from "../Client/EngineServer.ts"
import { NonRetryableError } from "../../src/Errors.ts"

const stripped = Layer.effect(HttpClient.HttpClient, Effect.map(HttpClient.HttpClient, HttpClient.mapRequest((request) => {
  if (request.body._tag !== "Uint8Array" || !request.url.endsWith("/register")) return request
  const { capabilities, registration, instance, jobs, ...rest } = JSON.parse(new TextDecoder().decode(request.body.body))
  return HttpClientRequest.bodyText(request, JSON.stringify(rest), "application/json")
}))).pipe(Layer.provide(FetchHttpClient.layer))

it.live("legacy vs engine", () => Effect.gen(function* () {
  const server = yield* Effect.promise(() => EngineServer.start())
  const client = createClient({ serverUrl: server.url })
  const log: string[] = []
  const child = createFunction({ id: "child", triggers: [] }, async ({ event }) => ({ got: event.data }))
  const parent = createFunction({ id: "parent", triggers: [{ event: "a" }] }, async ({ step }) => {
    const a = await step.run("a", async () => { log.push("a"); return 1 })
    await step.sleep("nap", 10)
    const flaky = await step.run("flaky", async ({ attempt }) => { log.push("flaky" + attempt); if (attempt < 3) throw new Error("no"); return attempt }, { retry: { initialDelayMs: 5 } })
    let failed = ""
    try { await step.run("bad", async () => { log.push("bad"); throw new NonRetryableError("bad") }) } catch (e) { failed = (e as Error).message }
    const c = await step.invoke("child", { n: 1 })
    const { runId } = await step.invokeAsync("child", { n: 2 })
    const p = await step.publish("t", { x: 1 })
    const w = await step.waitForEvent<any>("w", { event: "paid" })
    const both = await step.parallel("both", [async (b) => { await b.sleep("s1", 20); return "x" }, async (b) => { await b.sleep("s2", 10); return "y" }])
    return { a, flaky, failed, c, child: runId.startsWith("run_"), pub: p.eventId.startsWith("msg_"), amount: w.data.amount, version: w.version, both }
  })
  const saga = createFunction({ id: "saga", triggers: [{ event: "b" }] }, async ({ step }) => {
    await step.run("reserve", async () => 1)
    step.compensate("reserve", async () => { log.push("undo") })
    throw new NonRetryableError("sold out")
  })
  const w = yield* Worker.make({ functions: [child, parent, saga] as any }).pipe(Effect.provide(layer({ serverUrl: server.url }).pipe(Layer.provide(stripped)))) as any
  const { runIds } = yield* Effect.promise(() => client.emit("a", {}))
  const { runIds: r2 } = yield* Effect.promise(() => client.emit("b", {}))
  yield* Effect.promise(() => client.emit("paid", { amount: 3 }))
  const run = yield* Effect.promise(() => client.waitForRun(runIds[0]!, { timeout: 60000 }).catch(async (e) => { console.log(e.message, await client.getRunSteps(runIds[0]!)); throw e }))
  console.log(JSON.stringify(run, null, 1), log)
  console.log(JSON.stringify((yield* Effect.promise(() => client.getRunSteps(runIds[0]!))).map(s => [s.id, s.kind, s.status, s.attempt])))
  const run2 = yield* Effect.promise(() => client.waitForRun(r2[0]!))
  console.log(run2.status, run2.error, (yield* Effect.promise(() => client.getRunSteps(r2[0]!))).map(s => [s.id, s.kind, s.status]))
  console.log(yield* Effect.promise(() => client.listWorkers()))
  yield* (w as any).stop
  yield* Effect.promise(() => server[Symbol.asyncDispose]())
}), 80000)
