import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Sqlite from "../../../src/Engine/Store/Sqlite.ts"
import { complete, handles, invoke, shopTest, suspend } from "./suite/Shop.ts"
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
