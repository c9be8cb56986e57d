/** Reading on in the log: positions, kinds, names and patterns, environments. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { LogQuery } from "../../../../src/Engine/Store/Store.ts"
import type { ShopTest } from "./Shop.ts"

const fromStart: LogQuery = { environment: "default", kind: "event", after: 0, limit: 100 }

export const logSuite = (test: ShopTest): void => {
  describe("the log", () => {
    test("is read in order, page by page, each row once", function* (shop) {
      for (let i = 0; i < 5; i++) yield* shop.emit("order.placed", { i })

      const first = yield* shop.store.readLog({ ...fromStart, limit: 3 })
      const second = yield* shop.store.readLog({ ...fromStart, after: first.position, limit: 3 })

      assert.deepStrictEqual(
        [...first.entries, ...second.entries].map(({ data }) => JSON.parse(data)),
        [{ i: 0 }, { i: 1 }, { i: 2 }, { i: 3 }, { i: 4 }]
      )
      assert.deepStrictEqual([first.atEnd, second.atEnd], [false, true])
      assert.strictEqual(second.position, yield* shop.store.endOfLog())
    })

    test("a page bounds what is looked at, and passes over what does not fit", function* (shop) {
      for (const name of ["order.placed", "user.created", "order.paid", "order.item.added"])
        yield* shop.emit(name)
      const read = (patterns: ReadonlyArray<string>, limit = 100) =>
        Effect.map(shop.store.readLog({ ...fromStart, patterns, limit }), ({ entries, atEnd }) => [
          entries.map(({ name }) => name),
          atEnd
        ])

      assert.deepStrictEqual(yield* read(["order.*"]), [["order.placed", "order.paid"], true])
      assert.deepStrictEqual(yield* read(["order.>"]), [
        ["order.placed", "order.paid", "order.item.added"],
        true
      ])
      assert.deepStrictEqual(yield* read(["order.paid"]), [["order.paid"], true])
      assert.deepStrictEqual(yield* read(["order.paid", "user.*"]), [["user.created", "order.paid"], true])
      assert.deepStrictEqual(yield* read(["order.item.*"], 2), [[], false])
    })

    test("messages and other environments do not show among events", function* (shop) {
      yield* shop.emit("order.placed")
      yield* shop.store.appendMessage({ environment: "default", topic: "order.placed", data: "{}" })
      yield* shop.store.appendEvent({ environment: "staging", name: "order.placed", version: 1, data: "{}" })

      const count = (query: Partial<LogQuery>) =>
        Effect.map(shop.store.readLog({ ...fromStart, ...query }), ({ entries }) => entries.length)

      assert.strictEqual(yield* count({}), 1)
      assert.strictEqual(yield* count({ kind: "message" }), 1)
      assert.strictEqual(yield* count({ environment: "staging" }), 1)
      assert.strictEqual(yield* count({ environment: "unknown" }), 0)
    })

    test("a commit says how far the log goes", function* (shop) {
      const ends: Array<number> = []
      const stop = shop.store.onCommit(({ logEnd }) => void ends.push(logEnd))

      yield* shop.emit("order.placed")
      yield* shop.store.putSecret("default", "token", "sealed")
      stop()

      assert.deepStrictEqual(ends, [yield* shop.store.endOfLog(), 0])
    })
  })
}
