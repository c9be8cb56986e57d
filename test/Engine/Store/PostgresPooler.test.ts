/** A pooler in transaction mode is detected at the start and refused, before anything is written. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { examinePostgres } from "../../../src/Engine/Doctor/OfflineChecks.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { migrateDatabase } from "../../../src/Engine/Store/Postgres/Migrate.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import { exportStore, importStore } from "../../../src/Engine/Store/Transfer/Transfer.ts"
import { toError } from "../../../src/Errors.ts"
import { startPooler } from "../../postgres/Pooler.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"

for (const reaction of ["refuses", "ignores"] as const) {
  it.live(`an engine that meets a pooler which ${reaction} its settings says what to do`, () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { schema = "", url } = yield* takeSchema
        const pooler = yield* Effect.acquireRelease(
          Effect.promise(() => startPooler(url, reaction)),
          ({ close }) => Effect.promise(close)
        )
        const error = yield* Effect.flip(
          Effect.scoped(PostgresStore.make({ url: pooler.url, schema, poolSize: 2 }))
        )
        assert.strictEqual(error.code, "STORE_UNAVAILABLE")
        assert.match(error.message, /pooler/)
        assert.match(error.message, /URL of Postgres itself, or of a pool in session mode/)
        const held = yield* Effect.promise(() =>
          runSql(
            `SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objid::bigint = (hashtext('hold ${schema}')::bigint & 4294967295)`
          )
        )
        assert.lengthOf(held, 0)
      })
    )
  )
}

for (const reaction of ["refuses", "ignores"] as const) {
  it.live(
    `the commands that meet a pooler which ${reaction} their settings say what to do, and write nothing`,
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          const options = yield* takeSchema
          yield* Effect.promise(() => migrateDatabase(options))
          const schema = `pooled_${process.pid}`
          yield* Effect.addFinalizer(() =>
            Effect.promise(() => runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`))
          )
          const pooler = yield* Effect.acquireRelease(
            Effect.promise(() => startPooler(options.url, reaction)),
            ({ close }) => Effect.promise(close)
          )
          const folder = yield* Effect.acquireRelease(
            Effect.sync(() => mkdtempSync(join(tmpdir(), "ironflow-pooler-"))),
            (made) => Effect.sync(() => rmSync(made, { recursive: true }))
          )
          const file = join(folder, "all.jsonl")
          yield* exportStore({ database: options }, file)
          const tables = Effect.promise(() =>
            runSql(
              "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = $$public$$ OR schemaname = $$" +
                schema +
                "$$"
            )
          )
          const before = yield* tables

          const pooled: PostgresOptions = { url: pooler.url, schema }
          const errors = yield* Effect.all([
            Effect.flip(Effect.tryPromise({ try: () => migrateDatabase(pooled), catch: toError })),
            Effect.flip(importStore(file, { database: pooled })),
            Effect.flip(
              exportStore({ database: { ...options, url: pooler.url } }, join(folder, "again.jsonl"))
            ),
            Effect.flip(examinePostgres({ ...options, url: pooler.url }, false))
          ])

          for (const { message } of errors) {
            assert.match(message, /pooler/)
            assert.match(
              message,
              /URL of Postgres itself, or of a pool in session mode that passes `options` on/
            )
          }
          assert.deepStrictEqual(yield* tables, before)
          assert.deepStrictEqual(readdirSync(folder), ["all.jsonl"])
          assert.lengthOf(
            yield* Effect.promise(() => runSql(`SELECT 1 FROM pg_namespace WHERE nspname = '${schema}'`)),
            0
          )
        })
      )
  )
}
