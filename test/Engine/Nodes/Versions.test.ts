/** Engines of two versions on one schema: what the newer one may do while the older one runs, and afterwards. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { type Migration, migrations } from "../../../src/Engine/Store/Postgres/Migrations.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import { createFunction } from "../../../src/index.ts"
import type { StoreError } from "../../../src/Errors.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { type Node, openNode, until } from "./Cluster.ts"

/** Adds columns to tables that every version reads. Some statements select all columns of such a table. */
const addition: Migration = {
  sql: `ALTER TABLE runs ADD COLUMN made_up TEXT; ALTER TABLE steps ADD COLUMN made_up BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE waits ADD COLUMN made_up TEXT; ALTER TABLE events ADD COLUMN made_up TEXT; CREATE TABLE made_up (id BIGINT PRIMARY KEY);`,
  isAddition: true
}
const change: Migration = { sql: "ALTER TABLE runs ADD COLUMN changed TEXT" }

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

/** A schema that is dropped afterwards, because the test changes its tables. */
const ownSchema = Effect.gen(function* () {
  const { url } = yield* takeSchema
  const schema = `versions_${process.pid}_${++schemas}`
  yield* Effect.acquireRelease(Effect.void, () =>
    Effect.promise(() => runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`))
  )
  return { url, schema } satisfies PostgresOptions
})
let schemas = 0

const failsToOpen = (options: PostgresOptions, known?: ReadonlyArray<Migration>) =>
  Effect.flip(Effect.scoped(PostgresStore.make(options, "shared", known)))

const greet = createFunction(
  { id: "greet", triggers: [{ event: "guest.came" }] },
  async ({ event, step }) => {
    const name = await step.run("name", () => event.data.name)
    await step.waitForEvent("go on", { event: "guest.left", match: "data.name", timeout: "1h" })
    return `bye ${name}`
  }
)

/** Checks that runs of both engines end, whichever of them executes them. */
const workTogether = (a: Node, b: Node, name: string) =>
  Effect.gen(function* () {
    for (const [one, other] of [
      [a, b],
      [b, a]
    ] as const) {
      const guest = `${name} ${one === a ? 1 : 2}`
      const { runIds } = yield* one.client.emit("guest.came", { name: guest })
      const runId = runIds[0] ?? assert.fail("it starts a run")
      yield* until(other.client.getRun(runId), ({ status }) => status === "waiting")
      assert.lengthOf(yield* other.client.getRunSteps(runId), 2)
      yield* other.client.emit("guest.left", { name: guest })
      assert.strictEqual((yield* one.client.waitForRun(runId)).output, `bye ${guest}`)
    }
  })

describe("an engine of a newer version", () => {
  live("that only adds to the tables works beside older engines, which continue and may restart", () =>
    Effect.gen(function* () {
      const options = yield* ownSchema
      const newer = [...migrations, addition]
      const old = yield* openNode(options)
      yield* old.work([greet])
      const before = yield* openNode(options)
      yield* workTogether(old, before, "ann")

      const young = yield* openNode(options, newer)
      yield* young.work([greet])
      const [engine] = yield* Effect.promise(() => runSql("SELECT version FROM engine", options.schema))
      assert.strictEqual(Number(engine?.version), newer.length)

      yield* workTogether(old, young, "ben")
      yield* workTogether(young, before, "cid")
      // an older engine that starts now, and one that reconnects
      yield* workTogether(yield* openNode(options), young, "dot")
      yield* Effect.promise(() =>
        runSql("SELECT pg_terminate_backend(CAST(pid AS INTEGER)) FROM nodes", options.schema)
      )
      yield* workTogether(old, young, "eve")
    })
  )

  live(
    "that changes the tables is refused, with the names of the older engines, until those have ended",
    () =>
      Effect.gen(function* () {
        const options = yield* ownSchema
        const newer = [...migrations, addition, change]
        yield* Effect.scoped(
          Effect.gen(function* () {
            const old = yield* openNode(options)
            yield* old.work([greet])
            const error = yield* failsToOpen(options, newer)
            assert.strictEqual(error.code, "STORE_LOCKED")
            assert.include(error.message, "Engines of an older version use them")
            assert.include(error.message, `process ${process.pid}`)
            yield* workTogether(old, old, "ann")
          })
        )
        yield* Effect.scoped(openNode(options, newer))
        const error = yield* failsToOpen(options)
        assert.strictEqual(error.code, "STORE_UNAVAILABLE")
        assert.include(error.message, "upgrade @ironflow/node")
      })
  )
})

describe("an engine of an older version", () => {
  live("stops for good when it returns to tables that were changed meanwhile", () =>
    Effect.gen(function* () {
      const options = yield* ownSchema
      const store = yield* PostgresStore.make({ ...options, poolSize: 3 })
      const losses: Array<StoreError> = []
      store.onLost((error) => losses.push(error))
      // a newer version changes the tables while the session of this engine is broken
      yield* Effect.promise(() =>
        runSql(
          `${change.sql}; UPDATE engine SET version = version + 1; UPDATE meta SET value = ${migrations.length + 1} WHERE name = 'oldest'`,
          options.schema
        )
      )
      yield* Effect.promise(() =>
        runSql("SELECT pg_terminate_backend(CAST(pid AS INTEGER)) FROM nodes", options.schema)
      )
      const touched = new Promise<void>((resolve) => store.leaseFreshness?.renew(resolve))
      yield* Effect.promise(() => touched)
      assert.deepStrictEqual(
        losses.map(({ code }) => code),
        ["STORE_LOCKED"]
      )
      assert.include(losses[0]?.message ?? "", "upgrade @ironflow/node")
      assert.strictEqual(store.health().status, "down")
    })
  )
})
