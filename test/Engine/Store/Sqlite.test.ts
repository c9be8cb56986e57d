import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { DatabaseSync } from "node:sqlite"
import { join } from "node:path"
import { vi } from "vitest"
import { migrations } from "../../../src/Engine/Store/Migrations.ts"
import * as Sqlite from "../../../src/Engine/Store/Sqlite.ts"
import { complete, handles, invoke, Shop, shopTest, suspend, waitFor } from "./suite/Shop.ts"
import { storeSuite } from "./suite.ts"

/** A file of its own for every store. */
const layerFile = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "ironflow-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    ),
    (folder) => Sqlite.layer({ filename: join(folder, "orders.db") })
  )
)

storeSuite("SQLite in memory", Sqlite.layer({ filename: ":memory:" }))
storeSuite("a SQLite file", layerFile)

describe("SQLite", () => {
  const test = shopTest(Sqlite.layer({ filename: ":memory:" }))

  test("cancels the children of a run with it, however long the chain", function* (shop) {
    yield* shop.register(handles("order"))
    const root = yield* shop.start()
    let last = root
    for (let i = 0; i < 3500; i++) {
      yield* shop.report(last, invoke("order:0", "order", { timeoutMs: 1e9 }), suspend("order:0"))
      last = yield* shop.claimOne()
    }

    yield* shop.store.cancelRun("default", root.runId, "")

    assert.strictEqual(yield* shop.status(last.runId), "cancelled")
    assert.strictEqual(yield* shop.refused(last, complete()), "CANCELLED")
  })
})

it.effect("no read of the log sorts what it has found, which would take longer the longer the log is", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const prepare = vi.spyOn(DatabaseSync.prototype, "prepare")
      yield* Effect.addFinalizer(() => Effect.sync(() => prepare.mockRestore()))
      const shop = new Shop(yield* Sqlite.make({ filename: ":memory:" }))
      const { store } = shop
      yield* shop.register(handles("ship"))
      for (let i = 0; i < 20; i++) yield* shop.emit(`page.${i}`)
      const job = yield* shop.start()
      for (const event of ["order.paid", "order.*"]) {
        yield* shop.report(job, waitFor(`${event}:0`, event))
      }
      const query = { environment: "default", limit: 2 }
      for (const patterns of [["page.1"], ["page.1", "page.2"], ["*.placed"], undefined]) {
        const named = { ...query, ...(patterns === undefined ? {} : { patterns }) }
        for (const kind of [{}, { kind: "event" } as const]) {
          yield* store.readLog({ ...named, ...kind, after: 0 })
          yield* store.readLogBack({ ...named, ...kind, before: 100 })
        }
      }
      const { key } = yield* store.openGroup({
        environment: "default",
        namespace: "default",
        name: "mailers",
        pattern: "order.*",
        names: "order.*",
        after: 0
      })
      yield* store.claimDeliveries({
        group: key,
        members: [{ holder: "m-1", credit: 5, ackMs: 1000 }],
        maxRedeliveries: 3
      })

      const db = new DatabaseSync(":memory:")
      for (const migration of migrations) db.exec(migration)
      const ofTheLog = new Set(
        prepare.mock.calls.map(([sql]) => sql).filter((sql) => /^SELECT.* FROM events/.test(sql))
      )
      prepare.mockRestore()
      const plans = [...ofTheLog].map((sql) => {
        const values = sql
          .split("?")
          .slice(1)
          .map(() => 1)
        return { sql, plan: JSON.stringify(db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...values)) }
      })

      assert.isAtLeast(plans.length, 8)
      assert.deepStrictEqual(
        plans.filter(({ plan }) => plan.includes("TEMP B-TREE")),
        []
      )
    })
  )
)
