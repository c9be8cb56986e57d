import { createFunction, ValidationError } from "@ironflow/node"
import { Client, Engine, Store, Testing, Worker, WorkerTransport } from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import { expect, test } from "vitest"
import { start } from "../wire/Ironflow.ts"

const counted = () => {
  const ran: Array<string> = []
  const fn = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
    for (const name of ["a", "b", "c", "d"]) await step.run(name, () => void ran.push(name))
    return "done"
  })
  return { fn, ran }
}

test.for(["before", "after"] as const)(
  "a run survives reports that are lost %s they take effect, and no step runs twice",
  async (lose) => {
    const { fn, ran } = counted()
    const engine = Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: ":memory:" })))
    const worker = Worker.layer({ functions: [fn], logger: false }).pipe(
      Layer.provide(Testing.layerFaultyWorkerTransport({ every: 2, lose })),
      Layer.provide(WorkerTransport.layerMemory)
    )
    const run = await Effect.gen(function* () {
      const client = yield* Client.Client
      const { runIds } = yield* client.emit("order.placed", {})
      return yield* client.waitForRun(runIds[0] ?? "")
    }).pipe(
      Effect.provide(Layer.mergeAll(worker, Engine.layerClient).pipe(Layer.provide(engine))),
      Effect.runPromise
    )

    expect(run).toMatchObject({ status: "completed", output: "done" })
    expect(ran).toEqual(["a", "b", "c", "d"])
  }
)

test("a client repeats a read whose request is lost", async () => {
  await using server = await start()
  const client = Client.layerHttp({ serverUrl: server.url }).pipe(
    Layer.provide(Testing.layerFaultyHttpClient({ every: 2, delayMs: 1 })),
    Layer.provide(FetchHttpClient.layer)
  )
  const answers = Effect.gen(function* () {
    const api = yield* Client.Client
    return [yield* api.listFunctions(), yield* api.listFunctions()]
  })

  expect(await Effect.runPromise(Effect.provide(answers, client))).toEqual([[], []])
})

/** The numbers of the requests, out of 50, that are lost. */
const losses = (options: Testing.FaultOptions) =>
  Effect.gen(function* () {
    const http = yield* HttpClient.HttpClient
    const lost: Array<number> = []
    const said: Array<string> = []
    for (let i = 1; i <= 50; i++) {
      yield* Effect.catch(Effect.asVoid(http.get("http://there/")), (error) =>
        Effect.sync(() => {
          lost.push(i)
          said.push(String(error.cause))
        })
      )
    }
    return { lost, said }
  }).pipe(
    Effect.provide(Testing.layerFaultyHttpClient(options)),
    Effect.provideService(
      HttpClient.HttpClient,
      HttpClient.make((request) =>
        Effect.succeed(HttpClientResponse.fromWeb(request, new Response(null, { status: 204 })))
      )
    )
  )

test("faults with a seed lose the same requests each time, and the error names the seed", async () => {
  const first = await Effect.runPromise(losses({ chance: 0.3, seed: 7 }))
  const again = await Effect.runPromise(losses({ chance: 0.3, seed: 7 }))
  const other = await Effect.runPromise(losses({ chance: 0.3, seed: 8 }))

  expect(first.lost.length).toBeGreaterThan(3)
  expect(first.lost.length).toBeLessThan(40)
  expect(again).toEqual(first)
  expect(other.lost).not.toEqual(first.lost)
  expect(first.said[0]).toContain(`lost this request: number ${first.lost[0]}, seed 7`)
})

test("a generated seed is reported, and using it gives the same result", async () => {
  const { lost, said } = await Effect.runPromise(losses({ chance: 0.5 }))
  const seed = Number(/seed (\d+)/.exec(said[0] ?? "")?.[1])

  expect(seed).toBeGreaterThanOrEqual(0)
  expect((await Effect.runPromise(losses({ chance: 0.5, seed }))).lost).toEqual(lost)
})

test.for([{ chance: 1 }, { chance: -0.1 }, { chance: Number.NaN }, { every: 1 }, { every: 2.5 }])(
  "%j is refused",
  async (options) => {
    await expect(Effect.runPromise(losses(options))).rejects.toBeInstanceOf(ValidationError)
  }
)
