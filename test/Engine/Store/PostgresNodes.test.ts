/** Several engines on one schema: what each of them knows and does when others write too. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import type { StoreService } from "../../../src/Engine/Store/Store.ts"
import type { StoreError } from "../../../src/Errors.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { handles, Shop } from "./suite/Shop.ts"

const openNode = (options: PostgresOptions): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  PostgresStore.make({ poolSize: 3, ...options }, "shared")

const rows = (schema: string | undefined, sql: string) => Effect.promise(() => runSql(sql, schema))

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

describe("nodes", () => {
  live("share a schema: each has a row of its own, and the sequence counts the commits of all", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = new Shop(yield* openNode(options))
      yield* a.register(handles("charge"))
      const b = new Shop(yield* openNode(options))
      yield* b.emit("order.placed")
      yield* a.emit("order.placed")
      const [engine] = yield* rows(options.schema, "SELECT sequence FROM engine")
      const nodes = yield* rows(options.schema, "SELECT id, name, batch FROM nodes ORDER BY batch DESC")
      assert.lengthOf(new Set(nodes.map(({ id }) => id)), 2)
      assert.deepStrictEqual(
        nodes.map(({ batch }) => Number(batch)),
        [Number(engine?.sequence), Number(engine?.sequence) - 1]
      )
    })
  )

  live("that are closed have no row any more", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(openNode(options))
      assert.deepStrictEqual(yield* rows(options.schema, "SELECT id FROM nodes"), [])
    })
  )
})
