import { createFunction } from "@ironflow/node"
import { Client, Engine, Store, Testing, Worker, WorkerTransport } from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
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
  "a run survives reports that are lost %s they were carried out, and no step runs twice",
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

test("a client tries a read again whose request is lost", async () => {
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
