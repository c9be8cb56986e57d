/** Observers are notified of what happens to runs, in the order of the commits. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Client } from "../../src/Client/Client.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import type { ObservedActivity } from "../../src/Engine/Store/RunActivity.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { NonRetryableError } from "../../src/Errors.ts"
import { createFunction } from "../../src/Function.ts"
import { toRegistration } from "../../src/Protocol/Registration.ts"
import * as Worker from "../../src/Worker/Worker.ts"

let attempts = 0
const ship = createFunction(
  { id: "ship", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 2, initialDelayMs: 1 } },
  async ({ step }) => {
    await step.run("charge", () => {
      if (++attempts === 1) throw new Error("the bank is down")
      return { receipt: "r-1" }
    })
    await step.sleep("settle", 1)
    await step.run("ship", () => {
      throw new NonRetryableError("no parcel")
    })
  }
)

const live = Worker.layer({ functions: [ship], logger: false }).pipe(
  Layer.provide(Engine.layerWorkerTransport),
  Layer.merge(Engine.layerClient),
  Layer.provideMerge(Engine.layer),
  Layer.provide(SqliteStore.layer({ filename: ":memory:" }))
)

it.live("observers see a run from its start to its end, until they stop", () =>
  Effect.gen(function* () {
    const engine = yield* Engine.Engine
    const client = yield* Client
    const seen: Array<ObservedActivity> = []
    const stop = engine.runs.observe((activity) => seen.push(...activity))

    const { runIds } = yield* client.emit("order.placed", {})
    yield* client.waitForRun(runIds[0]!)

    assert.deepStrictEqual(
      seen.map((one) => ("name" in one ? `${one._tag} ${one.name}` : one._tag)),
      [
        "RunStarted",
        "RunTaken",
        "StepFailed charge",
        "StepEnded charge",
        "StepEnded settle",
        "StepEnded ship",
        "RunEnded"
      ]
    )
    assert.isTrue(seen.every((one) => one.runId === runIds[0] && one.functionId === "ship"))
    const last = seen.at(-1)
    assert.isTrue(last?._tag === "RunEnded" && last.status === "failed" && last.outcome._tag === "Failure")

    stop()
    const unseen = yield* client.emit("order.placed", {})
    yield* client.waitForRun(unseen.runIds[0]!)
    assert.lengthOf(seen, 7)
  }).pipe(Effect.provide(live))
)

it.live("a run that no worker has claimed is not reported as started", () =>
  Effect.gen(function* () {
    const engine = yield* Engine.Engine
    const client = yield* Client
    yield* engine.functions.register("default", [toRegistration(ship)])
    const seen: Array<ObservedActivity> = []
    engine.runs.observe((activity) => seen.push(...activity))

    yield* client.emit("order.placed", {})

    assert.deepStrictEqual(
      seen.map(({ _tag }) => _tag),
      ["RunStarted"]
    )
  }).pipe(
    Effect.provide(
      Layer.provide(
        Layer.provideMerge(Engine.layerClient, Engine.layer),
        SqliteStore.layer({ filename: ":memory:" })
      )
    )
  )
)
