/** An engine that has ended, on a store that is still open. */
import { assert, it } from "@effect/vitest"
import { Engine } from "@ironflow/node/effect"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { Store, type StoreService } from "../../src/Engine/Store/Store.ts"
import type { Job } from "../../src/Protocol/Worker.ts"
import { handles } from "./Store/suite/Shop.ts"
import { untilQuiet } from "./Quiet.ts"

const engineOver = (store: StoreService, scope: Scope.Scope) =>
  Effect.map(
    Layer.buildWithScope(Layer.provide(Engine.layer, Layer.succeed(Store, store)), scope),
    (context) => Context.get(context, Engine.Engine)
  )

/** Connects a worker outside the process with room for one job, and collects the jobs that it is given. */
const worker = (engine: Engine.EngineService, workerId: string) =>
  Effect.gen(function* () {
    const jobs: Array<Job> = []
    const session = yield* engine.workers.connectRemote(
      {
        workerId,
        environment: "default",
        hostname: "shop",
        functions: [handles("charge")],
        maxConcurrentJobs: 10,
        labels: {},
        version: { sdk: "0", runtime: "node" }
      },
      { onJob: (job) => void jobs.push(job), onNotice: () => undefined },
      { transport: "polling", leaseMs: 60_000 }
    )
    session.makeRoom(1)
    return jobs
  })

const quiet = Effect.promise(async () => {
  await untilQuiet()
})

it.effect("an engine that has ended dispatches no run that becomes ready afterwards", () =>
  Effect.gen(function* () {
    const store = yield* SqliteStore.make({ filename: ":memory:" })
    const first = yield* Scope.make()
    const before = yield* worker(yield* engineOver(store, first), "worker-1")
    yield* quiet
    yield* Scope.close(first, Exit.void)

    const engine = yield* engineOver(store, yield* Scope.Scope)
    const { runIds } = yield* engine.client("default").emit("order.placed", {})
    yield* quiet
    assert.lengthOf(before, 0)

    const after = yield* worker(engine, "worker-2")
    yield* quiet
    assert.deepStrictEqual(
      after.map(({ runId }) => runId),
      runIds
    )
  })
)

it.effect("an engine that has ended listens to nothing", () =>
  Effect.gen(function* () {
    const store = yield* SqliteStore.make({ filename: ":memory:" })
    const listening = { onCommit: 0, onReady: 0, onLost: 0 }
    const countListener = (what: keyof typeof listening, stop: () => void) => {
      listening[what]++
      return () => {
        listening[what]--
        stop()
      }
    }
    const scope = yield* Scope.make()
    const engine = yield* engineOver(
      {
        ...store,
        onCommit: (...args) => countListener("onCommit", store.onCommit(...args)),
        onReady: (listener) => countListener("onReady", store.onReady(listener)),
        onLost: (listener) => countListener("onLost", store.onLost(listener))
      },
      scope
    )
    yield* Scope.provide(engine.workers.atPort(15_000), scope)
    yield* quiet
    assert.isTrue(Object.values(listening).every((count) => count > 0))

    yield* Scope.close(scope, Exit.void)

    assert.deepStrictEqual(listening, { onCommit: 0, onReady: 0, onLost: 0 })
  })
)
