/** What becomes of a run whose secrets cannot be read for a moment. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { TestClock } from "effect/testing"
import { Client } from "../../src/Client/Client.ts"
import * as Engine from "../../src/Engine/Engine.ts"
import { MasterKey } from "../../src/Engine/Secrets/Secrets.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { Store, type StoreService } from "../../src/Engine/Store/Store.ts"
import { StoreError } from "../../src/Errors.ts"
import type { Job } from "../../src/Protocol/Worker.ts"
import { handles } from "./Store/suite/Shop.ts"

/** Lets everything run that is possible without a later time. */
const turns = Effect.promise(async () => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
})

let failures = 0
const flaky = Layer.effect(
  Store,
  Effect.map(SqliteStore.make({ filename: ":memory:" }), (store): StoreService => ({
    ...store,
    read: (call) =>
      call.name === "readSecrets" && failures-- > 0
        ? Effect.fail(new StoreError("no connection is free", { code: "STORE_UNAVAILABLE", retryable: true }))
        : store.read(call)
  }))
)

it.effect("a run whose secrets cannot be read is handed out again a second later, and not paused", () =>
  Effect.gen(function* () {
    const engine = yield* Engine.Engine
    const client = yield* Client
    yield* engine.secrets.in("default").set("STRIPE_KEY", "sk_live_4711")
    const jobs: Array<Job> = []
    const worker = yield* engine.workers.connect(
      {
        workerId: "till",
        environment: "default",
        hostname: "here",
        functions: [{ ...handles("charge"), secrets: ["STRIPE_KEY"] }],
        maxConcurrentJobs: 1,
        labels: {},
        version: { sdk: "test", runtime: "test" }
      },
      { onJob: (job) => void jobs.push(job), onNotice: () => undefined }
    )
    worker.makeRoom(1)

    failures = 1
    const { runIds } = yield* client.emit("order.placed", {})
    yield* turns
    const { status } = yield* client.getRun(runIds[0]!)
    yield* TestClock.adjust("1 second")
    yield* turns

    assert.notStrictEqual(status, "paused")
    assert.deepStrictEqual(
      jobs.map(({ runId, secrets }) => [runId, secrets]),
      [[runIds[0], { STRIPE_KEY: "sk_live_4711" }]]
    )
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Engine.layerClientIn("default").pipe(
        Layer.provideMerge(Engine.layer),
        Layer.provide(flaky),
        Layer.provide(Layer.succeed(MasterKey, Redacted.make("ab".repeat(32))))
      )
    )
  )
)
