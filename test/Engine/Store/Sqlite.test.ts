import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { DatabaseSync } from "node:sqlite"
import { vi } from "vitest"
import { migrations } from "../../../src/Engine/Store/Migrations.ts"
import * as SqliteStore from "../../../src/Engine/SqliteStore.ts"
import { isLong } from "../../Long.ts"
import { quickFile } from "./OnFile.ts"
import { complete, handles, invoke, Shop, shopTest, suspend, waitFor } from "./suite/Shop.ts"
import { storeSuite } from "./suite.ts"
import type { Demand } from "../../../src/Engine/Turns/TurnRecords.ts"
import * as Claims from "../../../src/Engine/Turns/Claims.ts"
import { acrossEnvironments, type Program } from "../../../src/Engine/Store/Program.ts"
import type { Transaction } from "../../../src/Engine/Store/Transaction.ts"
import * as LogRows from "../../../src/Engine/Log/LogRows.ts"
import * as AbandonedGroups from "../../../src/Engine/PubSub/AbandonedGroups.ts"
import * as GroupRows from "../../../src/Engine/PubSub/GroupRows.ts"
import * as GroupClaims from "../../../src/Engine/PubSub/GroupClaims.ts"
import * as RunControl from "../../../src/Engine/Runs/RunControl.ts"

/** Gives every store a file of its own. */
const layerFile = Layer.unwrap(Effect.map(quickFile, (filename) => SqliteStore.layer({ filename })))

storeSuite("SQLite in memory", SqliteStore.layer({ filename: ":memory:" }))
// in a short run, `Thread.test.ts` shows the same on files
if (isLong) storeSuite("a SQLite file", layerFile)

describe("SQLite", () => {
  const test = shopTest(SqliteStore.layer({ filename: ":memory:" }))

  test("cancels a run with its children, however long the chain is", function* (shop) {
    yield* shop.register(handles("order"))
    const root = yield* shop.start()
    let last = root
    for (let i = 0; i < 3500; i++) {
      yield* shop.report(last, invoke("order:0", "order", { timeoutMs: 1e9 }), suspend("order:0"))
      last = yield* shop.claimOne()
    }

    yield* shop.store.write(RunControl.cancelRun("default", root.runId, ""))
    yield* shop.fire()

    assert.strictEqual(yield* shop.status(last.runId), "cancelled")
    assert.strictEqual(yield* shop.refused(last, complete()), "CANCELLED")
  })
})

/** Claims runs, then fails, so that the transaction is rolled back. */
const claimAndFail = acrossEnvironments(
  "test.claimAndFail",
  function* (tx: Transaction, demand: Demand): Program<void> {
    const claims = yield* Claims.claimRuns.in(tx, demand.environment, [demand])
    throw new Error(`${claims.length} claimed`)
  },
  () => "claim and fail"
)

it.effect("a claim that is rolled back leaves the remembered functions with ready runs as they were", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const shop = new Shop(yield* SqliteStore.make({ filename: ":memory:" }))
      yield* shop.register(handles("charge"))
      const { runIds } = yield* shop.emit("order.placed")

      const error = yield* Effect.flip(shop.store.write(claimAndFail(shop.demand({ room: 10 }))))
      assert.include(error.message, "1 claimed")
      yield* shop.store.write(AbandonedGroups.touchGroups("default", []))

      assert.isTrue(shop.lastChanges?.mayHaveReady)
      assert.strictEqual((yield* shop.claimOne()).runId, runIds[0])
    })
  )
)

it.effect("no read of the log sorts: sorting would take longer as the log grows", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const prepare = vi.spyOn(DatabaseSync.prototype, "prepare")
      yield* Effect.addFinalizer(() => Effect.sync(() => prepare.mockRestore()))
      const shop = new Shop(yield* SqliteStore.make({ filename: ":memory:" }))
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
          yield* store.read(LogRows.readLog({ ...named, ...kind, after: 0 }))
          yield* store.read(LogRows.readLogBack({ ...named, ...kind, before: 100 }))
        }
      }
      const { key } = yield* store.write(
        GroupRows.openGroup({
          environment: "default",
          namespace: "default",
          name: "mailers",
          pattern: "order.*",
          names: "order.*",
          after: 0
        })
      )
      yield* store.write(
        GroupClaims.claimDeliveries({
          environment: "default",
          group: key,
          members: [{ holder: "m-1", credit: 5, ackMs: 1000 }],
          maxRedeliveries: 3
        })
      )

      const db = new DatabaseSync(":memory:")
      for (const migration of migrations) db.exec(migration)
      const logReads = new Set(
        prepare.mock.calls.map(([sql]) => sql).filter((sql) => /^SELECT.* FROM events/.test(sql))
      )
      prepare.mockRestore()
      const plans = [...logReads].map((sql) => {
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
