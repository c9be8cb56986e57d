/** Push endpoints of several engines on one database: each engine calls them, and one of them probes endpoints that are down. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { PushEndpoints } from "../../../src/Client/PushEndpoints.ts"
import { createFunction, serve } from "../../../src/index.ts"
import { InputBudget } from "../../../src/Engine/InputBudget.ts"
import { Availability } from "../../../src/Engine/Push/Availability.ts"
import { makeSettings } from "../../../src/Engine/Push/PushSettings.ts"
import * as Alarm from "../../../src/Execution/Alarm.ts"
import { takeSchema } from "../../postgres/Schemas.ts"
import { listen } from "../../Serve/Hosts.ts"
import { openNode, until, withTwo } from "./Cluster.ts"

const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) =>
  step.run("charge", () => "charged")
)

/** An endpoint with the function. The test can take it down. */
const host = Effect.acquireRelease(
  Effect.promise(async () => {
    const handler = serve({ functions: [order], logger: false })
    const state = { isDown: false }
    const server = await listen((request, response) => {
      if (!state.isDown) return handler(request, response)
      response.writeHead(503).end()
    })
    return { state, url: server.url, close: server.close }
  }),
  ({ close }) => Effect.promise(async () => close())
)

const startRun = (node: { readonly client: { emit: any } }): Effect.Effect<string> =>
  Effect.map(node.client.emit("order.placed", {}), ({ runIds }: any) => String(runIds[0]))

describe("a push endpoint of two engines", () => {
  withTwo("is called by both, and either of them explains why a run waits while it is down", (a, b) =>
    Effect.gen(function* () {
      const { state, url } = yield* host
      yield* Context.get(a.services, PushEndpoints).register(url)
      for (const node of [a, b]) {
        yield* until(node.client.listWorkers(), (workers) => workers.length === 2)
        const runId = yield* startRun(node)
        assert.strictEqual((yield* b.client.waitForRun(runId)).output, "charged")
      }
      state.isDown = true
      const runId = yield* startRun(a)
      const explanation = yield* until(b.client.explain(runId), ({ code }) => code === "ENDPOINT_UNAVAILABLE")
      assert.include(explanation.message, "The run is dispatched as soon as the endpoint answers")
      state.isDown = false
      assert.strictEqual((yield* b.client.waitForRun(runId)).output, "charged")
    })
  )

  it.live("is called by the other engine when the engine that called it has ended", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const options = yield* takeSchema
        const first = yield* Scope.make()
        const a = yield* Scope.provide(openNode(options), first)
        const b = yield* openNode(options)
        const { state, url } = yield* host
        yield* Context.get(a.services, PushEndpoints).register(url)
        yield* until(b.client.listWorkers(), (workers) => workers.length === 2)
        state.isDown = true
        const runId = yield* startRun(b)
        yield* until(b.client.explain(runId), ({ code }) => code === "ENDPOINT_UNAVAILABLE")
        yield* Scope.close(first, Exit.void)
        state.isDown = false
        assert.strictEqual((yield* b.client.waitForRun(runId)).output, "charged")
      })
    )
  )

  it.live("is not probed by one engine while the other one probes it", () =>
    Effect.scoped(
      Effect.gen(function* () {
        let requestCount = 0
        let looks = 0
        const server = yield* Effect.acquireRelease(
          Effect.promise(() =>
            listen((_, response) => {
              requestCount++
              response.writeHead(503).end()
            })
          ),
          ({ close }) => Effect.promise(async () => close())
        )
        const clock = yield* Clock.Clock
        const availability = new Availability({
          url: server.url,
          environment: "default",
          settings: makeSettings({ allowPrivateNetworks: true }),
          inputBudget: new InputBudget(clock, yield* Alarm.makeScheduleTimeout),
          clock,
          fork: Effect.runFork,
          onChange: () => undefined,
          isProbedByOther: () => ++looks < 3
        })
        availability.start()
        yield* until(
          Effect.sync(() => looks),
          (count) => {
            if (count < 3) assert.strictEqual(requestCount, 0)
            return count >= 3
          }
        )
        yield* until(
          Effect.sync(() => requestCount),
          (count) => count > 0
        )
        availability.stop()
      })
    )
  )
})
