/** Slices of bulk operations and erases: each takes effect once, whoever carries them out. */
import { assert, describe } from "@effect/vitest"
import * as BulkRows from "../../../../src/Engine/Bulk/BulkRows.ts"
import * as AdvanceErase from "../../../../src/Engine/Bulk/AdvanceErase.ts"
import { complete, environment, handles, type ShopTest } from "./Shop.ts"

const bulkOptions = { dryRun: false }

export const bulkSuite = (test: ShopTest): void => {
  describe("a slice of a bulk operation", () => {
    test("changes nothing when the operation was continued after the slice began", function* (shop) {
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      yield* shop.report(job, complete("ok"))
      const { store } = shop
      const ids = [job.runId]
      const begun = yield* store.write(BulkRows.insertBulk(environment, "rerun", bulkOptions, ids, undefined))
      const advance = (isLast: boolean) =>
        BulkRows.advanceBulk(environment, begun.id, begun, {
          items: [{ runId: job.runId }],
          notAllowed: [],
          place: { index: 1 },
          isLast
        })
      const advanced = yield* store.write(advance(false))
      assert.deepInclude(advanced, { done: 1, status: "running" })
      assert.strictEqual(yield* store.write(advance(true)), BulkRows.OVERTAKEN)
      assert.deepStrictEqual(yield* store.read(BulkRows.getBulk(environment, begun.id)), advanced)
      assert.lengthOf(yield* shop.claim({ room: 5 }), 1, "there is one new run")
    })

    test("does not stop an operation that was continued after the slice began", function* ({ store }) {
      const begun = yield* store.write(
        BulkRows.insertBulk(environment, "rerun", bulkOptions, ["a"], undefined)
      )
      const slice = { items: [], notAllowed: [], place: { index: 1 }, isLast: false }
      yield* store.write(BulkRows.advanceBulk(environment, begun.id, begun, slice))
      const stop = (from: typeof begun) =>
        store.write(BulkRows.endBulk(environment, begun.id, "stopped", "local", "no reason", from))
      const still = yield* stop(begun)
      assert.strictEqual(still.status, "running")
      assert.strictEqual((yield* stop(still)).status, "stopped")
    })

    test("of an erase finds its items once, and its end is refused elsewhere", function* ({ store }) {
      const request = { ...bulkOptions, erase: { events: { name: "order.placed" } } }
      const begun = yield* store.write(
        BulkRows.insertBulk(environment, "erase", request, undefined, undefined)
      )
      const found = {
        events: [],
        runs: [],
        missing: ["run_0"],
        place: { phase: "find", source: 1 } as const
      }
      const advance = AdvanceErase.advanceErase(environment, begun.id, begun, found)
      const advanced = yield* store.write(advance)
      assert.deepInclude(advanced, { matched: 1, skipped: { "not found": 1 } })
      assert.strictEqual(yield* store.write(advance), BulkRows.OVERTAKEN)
      const finish = AdvanceErase.finishErase(environment, begun.id, begun, "done")
      assert.strictEqual(yield* store.write(finish), BulkRows.OVERTAKEN)
      assert.deepStrictEqual(yield* store.read(BulkRows.getBulk(environment, begun.id)), advanced)
    })
  })
}
