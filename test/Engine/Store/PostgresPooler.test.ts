/** A pooler in transaction mode is detected at the start and refused. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
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
