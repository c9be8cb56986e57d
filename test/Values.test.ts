/** Values that cannot be stored are refused at once, in every call with data, in both APIs. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { Client, Engine, IronflowConfig, IronflowFunction, Kv, Step, Store, Streams } from "../src/effect.ts"
import { type IronflowEngine, startEngine } from "../src/engine.ts"
import { createClient, createFunction, type IronflowClient, ValidationError } from "../src/index.ts"
import { createTestClient } from "../src/test.ts"

const inProcess = Engine.layerClient.pipe(
  Layer.provide(Engine.layer),
  Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
)

const lost = [
  ["an error", () => new Error("gone"), "is an error (Error)"],
  ["a RegExp", () => /a/, "is a RegExp"],
  ["Headers", () => new Headers({ a: "b" }), "is a Headers"],
  ["a Map", () => new Map([["a", 1]]), "is a Map"]
] as const

const steps = (bad: unknown) => [
  createFunction({ id: "publishes", triggers: [{ event: "publishes" }] }, async ({ step }) =>
    step.publish("topic", { bad })
  ),
  createFunction({ id: "invokes", triggers: [{ event: "invokes" }] }, async ({ step }) =>
    step.invoke("publishes", { bad })
  ),
  createFunction({ id: "invokes-later", triggers: [{ event: "invokes-later" }] }, async ({ step }) =>
    step.invokeAsync("publishes", { bad })
  ),
  createFunction({ id: "emits", triggers: [{ event: "emits" }] }, async ({ step }) =>
    step.tx("tx", (tx) => tx.emit("order.paid", { bad }))
  ),
  createFunction({ id: "appends", triggers: [{ event: "appends" }] }, async ({ step }) =>
    step.tx("tx", (tx) => tx.streams.append("o-1", { name: "a", data: { bad }, entityType: "order" }))
  ),
  createFunction({ id: "puts", triggers: [{ event: "puts" }] }, async ({ step }) =>
    step.tx("tx", (tx) => tx.kv("sessions").put("k", { bad }))
  ),
  IronflowFunction.make({ id: "publishes-effect", triggers: [{ event: "publishes-effect" }] }, () =>
    Step.publish("topic", { bad })
  ),
  IronflowFunction.make({ id: "invokes-effect", triggers: [{ event: "invokes-effect" }] }, () =>
    Step.invoke("publishes", { bad })
  ),
  IronflowFunction.make({ id: "emits-effect", triggers: [{ event: "emits-effect" }] }, () =>
    Step.tx("tx", (tx) => tx.emit("order.paid", { bad }))
  )
]

describe.each(lost)("%s", (_what, make, problem) => {
  let engine: IronflowEngine
  let remote: IronflowClient
  beforeAll(async () => {
    engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    remote = createClient({ serverUrl: engine.url! })
    await engine.client.kv().createBucket({ name: "sessions" })
    await engine.client.config().set("shop", { open: true })
  })
  afterAll(async () => {
    await remote.close()
    await engine.close()
  })

  const calls: ReadonlyArray<readonly [string, (client: IronflowClient, bad: unknown) => unknown]> = [
    ["emit", (client, bad) => client.emit("order.placed", { bad })],
    ["emit with metadata", (client, bad) => client.emit("order.placed", {}, { metadata: { bad } })],
    ["emitSync", (client, bad) => client.emitSync("order.placed", { bad })],
    ["publish", (client, bad) => client.publish("topic", { bad })],
    ["kv put", (client, bad) => client.kv().bucket("sessions").put("k", { bad })],
    ["kv create", (client, bad) => client.kv().bucket("sessions").create("k", [bad])],
    ["kv update", (client, bad) => client.kv().bucket("sessions").update("k", bad, 1)],
    ["config set", (client, bad) => client.config().set("shop", { bad })],
    ["config patch", (client, bad) => client.config().patch("shop", { bad })],
    [
      "append",
      (client, bad) => client.streams.append("o-1", { name: "a", data: { bad }, entityType: "order" })
    ],
    [
      "append with metadata",
      (client, bad) =>
        client.streams.append("o-1", { name: "a", data: {}, entityType: "order" }, { metadata: { bad } })
    ],
    [
      "snapshot",
      (client, bad) =>
        client.streams.createSnapshot("o-1", { entityType: "order", entityVersion: 1, state: { bad } })
    ],
    ["patchStep", (client, bad) => client.patchStep("run_1:a:0", { bad })]
  ]

  it.each(calls)("is refused by %s, in this process and over HTTP, with its path", async (_call, call) => {
    for (const client of [engine.client, remote]) {
      const refused: unknown = await Promise.resolve()
        .then(() => call(client, make()))
        .catch((error: unknown) => error)

      assert.instanceOf(refused, ValidationError)
      assert.match(refused.message, /cannot be stored: \$/)
      assert.include(refused.message, problem)
    }
  })

  it("is refused by the services of the Effect API, with its path", async () => {
    const bad = make()
    const program = Effect.gen(function* () {
      const [client, kv, config, streams] = [
        yield* Client.Client,
        yield* Kv.Kv,
        yield* IronflowConfig.Config,
        yield* Streams.Streams
      ]
      yield* kv.createBucket({ name: "sessions" })
      return yield* Effect.forEach(
        [
          client.emit("order.placed", { bad }),
          client.publish("topic", { bad }),
          kv.bucket("sessions").put("k", { bad }),
          config.set("shop", { bad }),
          streams.append("o-1", { name: "a", data: { bad }, entityType: "order" })
        ] as ReadonlyArray<Effect.Effect<unknown, unknown>>,
        (call) => Effect.flip(call)
      )
    })

    for (const refused of await Effect.runPromise(Effect.provide(program, inProcess))) {
      assert.instanceOf(refused, ValidationError)
      assert.include(refused.message, `$.bad ${problem}`)
    }
  })

  it.each(steps(make()).map((fn) => [fn.config.id, fn] as const))(
    "is refused by a step that %s, with its path",
    async (id, fn) => {
      const run = await createTestClient({ functions: [fn] }).emit(id, {})

      assert.strictEqual(run.status, "failed")
      assert.include(run.error?.message, `$.bad ${problem}`)
    }
  )
})
