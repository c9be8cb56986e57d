/** Runs on a whole engine whose store is in another thread, so its calls and answers must be plain data too. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { expect, test } from "vitest"
import { Client } from "../../../src/Client/Client.ts"
import * as Engine from "../../../src/Engine/Engine.ts"
import type { Store } from "../../../src/Engine/Store/Store.ts"
import type { StoreError } from "../../../src/Errors.ts"
import { createFunction } from "../../../src/Function.ts"
import * as Worker from "../../../src/Worker/Worker.ts"

/** A shop that records which of its steps ran. */
const openShop = () => {
  const ran: Array<string> = []
  const record = (what: string) => () => {
    ran.push(what)
    return what
  }
  let packed = 0
  const ship = createFunction({ id: "ship", triggers: [] }, async ({ event, step }) => {
    const pack = () => {
      ran.push("pack")
      if (++packed === 1) throw new Error("out of tape")
      return `parcel ${event.data.id}`
    }
    return step.run("pack", pack, { retry: { maxAttempts: 2, initialDelayMs: 1 } })
  })
  const order = createFunction(
    { id: "order", triggers: [{ event: "order.placed" }] },
    async ({ event, step }) => {
      await step.run("reserve", record("reserve"))
      await step.sleep("cool off", "20ms")
      const paid = await step.waitForEvent("paid", { event: "order.paid", match: "data.id", timeout: "1m" })
      return [paid.data.amount, await step.invoke("ship", { id: event.data.id })]
    }
  )
  const refuse = createFunction(
    { id: "refuse", triggers: [{ event: "order.refused" }], retry: { maxAttempts: 1 } },
    async ({ step }) => {
      await step.run("reserve", record("reserve"))
      step.compensate("reserve", record("release"))
      await step.run("pay", () => Promise.reject(new Error("no money")))
    }
  )
  return { functions: [ship, order, refuse], ran }
}

/** Defines the scenarios for stores that `makeStore` makes. */
export const engineScenarios = (makeStore: Layer.Layer<Store, StoreError>): void => {
  const run = <A, E>(
    shop: ReturnType<typeof openShop>,
    scenario: Effect.Effect<A, E, Client>
  ): Promise<A> => {
    const worker = Worker.layer({ functions: shop.functions, logger: false }).pipe(
      Layer.provide(Engine.layerWorkerTransport),
      Layer.merge(Engine.layerClient),
      Layer.provideMerge(Engine.layer),
      Layer.provide(makeStore)
    )
    return Effect.runPromise(Effect.provide(scenario, worker))
  }

  test("a run sleeps, waits for an event, invokes another one and completes", async () => {
    const shop = openShop()
    const ended = await run(
      shop,
      Effect.gen(function* () {
        const client = yield* Client
        const [runId = ""] = (yield* client.emit("order.placed", { id: "o-1" })).runIds
        yield* client.emit("order.paid", { id: "o-2", amount: 1 })
        yield* client.emit("order.paid", { id: "o-1", amount: 42 })
        return yield* client.waitForRun(runId)
      })
    )

    expect(ended).toMatchObject({ status: "completed", output: [42, "parcel o-1"] })
    expect(shop.ran).toEqual(["reserve", "pack", "pack"])
  })

  test("a run that fails compensates its steps", async () => {
    const shop = openShop()
    const ended = await run(
      shop,
      Effect.gen(function* () {
        const client = yield* Client
        const [runId = ""] = (yield* client.emit("order.refused", {})).runIds
        return yield* client.waitForRun(runId)
      })
    )

    expect(ended).toMatchObject({ status: "failed", error: { message: "no money" } })
    expect(shop.ran).toEqual(["reserve", "release"])
  })

  test("many runs are dispatched as soon as there is room for them", async () => {
    const shop = openShop()
    const runs = await run(
      shop,
      Effect.gen(function* () {
        const client = yield* Client
        const emitted = yield* Effect.forEach(
          Array.from({ length: 50 }, (_, n) => n),
          (n) => client.emit("order.refused", { n }),
          { concurrency: "unbounded" }
        )
        const ids = emitted.flatMap(({ runIds }) => runIds)
        return yield* Effect.forEach(ids, (id) => client.waitForRun(id), { concurrency: "unbounded" })
      })
    )

    expect(runs.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => "failed"))
    expect(shop.ran).toHaveLength(100)
  })
}
