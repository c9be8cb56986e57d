/** Reading the log: positions, kinds, names and patterns, environments. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { putSecret } from "../../../../src/Engine/Secrets/SecretRows.ts"
import type { LogQuery } from "../../../../src/Engine/Log/LogRecords.ts"
import type { ShopTest } from "./Shop.ts"
import * as LogRows from "../../../../src/Engine/Log/LogRows.ts"
import * as Append from "../../../../src/Engine/Events/Append.ts"
import * as EndOfLog from "../../../../src/Engine/Log/EndOfLog.ts"
import * as Publish from "../../../../src/Engine/PubSub/Publish.ts"

const fromStart: LogQuery = { environment: "default", kind: "event", after: 0, limit: 100 }

export const logSuite = (test: ShopTest): void => {
  describe("the log", () => {
    test("is read in order, page by page, each row once", function* (shop) {
      for (let i = 0; i < 5; i++) yield* shop.emit("order.placed", { i })

      const first = yield* shop.store.read(LogRows.readLog({ ...fromStart, limit: 3 }))
      const second = yield* shop.store.read(
        LogRows.readLog({ ...fromStart, after: first.position, limit: 3 })
      )

      assert.deepStrictEqual(
        [...first.entries, ...second.entries].map(({ data }) => JSON.parse(data)),
        [{ i: 0 }, { i: 1 }, { i: 2 }, { i: 3 }, { i: 4 }]
      )
      assert.deepStrictEqual([first.atEnd, second.atEnd], [false, true])
      assert.strictEqual(second.position, yield* EndOfLog.readEndOfLog(shop.store))
    })

    test("a page limits the rows that are read, and skips rows that do not match", function* (shop) {
      for (const name of ["order.placed", "user.created", "order.paid", "order.item.added"])
        yield* shop.emit(name)
      const read = (patterns: ReadonlyArray<string>, limit = 100) =>
        Effect.map(
          shop.store.read(LogRows.readLog({ ...fromStart, patterns, limit })),
          ({ entries, atEnd }) => [entries.map(({ name }) => name), atEnd]
        )

      assert.deepStrictEqual(yield* read(["order.*"]), [["order.placed", "order.paid"], true])
      assert.deepStrictEqual(yield* read(["order.>"]), [
        ["order.placed", "order.paid", "order.item.added"],
        true
      ])
      assert.deepStrictEqual(yield* read(["order.paid"]), [["order.paid"], true])
      assert.deepStrictEqual(yield* read(["order.paid", "user.*"]), [["user.created", "order.paid"], true])
      assert.deepStrictEqual(yield* read(["order.*"], 1), [["order.placed"], false])
    })

    test("matches of a pattern are found, however sparse they are", function* (shop) {
      const expected: Array<string> = []
      for (let i = 0; i < 120; i++) {
        const name = i % 12 === 0 ? `order.${i % 48}.placed` : `page.${i % 7}`
        const { position } = yield* shop.emit(name, { i })
        if (i % 12 === 0) expected.push(`${position} ${name}`)
        if (i % 5 === 0) {
          yield* shop.store.write(
            Publish.appendMessage({ environment: "default", topic: "order.1.placed", data: "{}" })
          )
          yield* shop.store.write(
            Append.appendEvent({
              environment: "staging",
              name: "order.1.placed",
              version: 1,
              data: "{}"
            })
          )
        }
      }
      const readAll = (patterns: ReadonlyArray<string>, limit: number) =>
        Effect.gen(function* () {
          const found: Array<string> = []
          for (let after = 0; ;) {
            const page = yield* shop.store.read(LogRows.readLog({ ...fromStart, patterns, after, limit }))
            assert.isTrue(page.entries.every(({ position }) => position > after && position <= page.position))
            found.push(...page.entries.map(({ name, position }) => `${position} ${name}`))
            if (page.atEnd) return found
            after = page.position
          }
        })

      for (const limit of [1, 3, 10, 1000]) {
        for (const patterns of [
          ["order.>"],
          ["order.*.placed"],
          ["*.*.placed"],
          ["*.*.placed", "order.0.placed"]
        ])
          assert.deepStrictEqual(yield* readAll(patterns, limit), expected, `${patterns} by ${limit}`)
        assert.deepStrictEqual(yield* readAll(["shipment.*"], limit), [])
      }
    })

    test("matches of a pattern are found among more names than are looked up one by one", function* (shop) {
      const positions: Array<number> = []
      for (let i = 0; i < 200; i++) {
        const fits = i % 50 === 49
        const { position } = yield* shop.emit(fits ? "zoo.opened" : `page.${i}.seen`)
        if (fits) positions.push(position)
      }
      for (const patterns of [["*.opened"], ["page.*.seen", "*.opened"]]) {
        const found: Array<number> = []
        for (let after = 0, atEnd = false; !atEnd;) {
          const page = yield* shop.store.read(LogRows.readLog({ ...fromStart, patterns, after, limit: 10 }))
          found.push(
            ...page.entries.filter(({ name }) => name === "zoo.opened").map(({ position }) => position)
          )
          after = page.position
          atEnd = page.atEnd
        }
        assert.deepStrictEqual(found, positions)
      }
    })

    test("is read backwards, without rows of other environments", function* (shop) {
      for (let i = 0; i < 3; i++) {
        yield* shop.emit("order.placed", { i })
        yield* shop.store.write(
          Append.appendEvent({
            environment: "staging",
            name: "order.placed",
            version: 1,
            data: "{}"
          })
        )
      }
      const { before, ...query } = { ...fromStart, before: (yield* EndOfLog.readEndOfLog(shop.store)) + 1 }

      for (const patterns of [["order.placed"], ["order.*"]]) {
        const page = yield* shop.store.read(LogRows.readLogBack({ ...query, before, patterns }))
        assert.deepStrictEqual(
          page.entries.map(({ data }) => JSON.parse(data)),
          [{ i: 2 }, { i: 1 }, { i: 0 }]
        )
      }
    })

    test("messages and other environments do not appear among events", function* (shop) {
      yield* shop.emit("order.placed")
      yield* shop.store.write(
        Publish.appendMessage({ environment: "default", topic: "order.placed", data: "{}" })
      )
      yield* shop.store.write(
        Append.appendEvent({ environment: "staging", name: "order.placed", version: 1, data: "{}" })
      )

      const count = (query: Partial<LogQuery>) =>
        Effect.map(
          shop.store.read(LogRows.readLog({ ...fromStart, ...query })),
          ({ entries }) => entries.length
        )

      assert.strictEqual(yield* count({}), 1)
      assert.strictEqual(yield* count({ kind: "message" }), 1)
      assert.strictEqual(yield* count({ environment: "staging" }), 1)
      assert.strictEqual(yield* count({ environment: "unknown" }), 0)
    })

    test("a commit says how far the log goes", function* (shop) {
      const ends: Array<number> = []
      const stop = shop.store.onCommit(({ logEnd }) => void ends.push(logEnd))

      yield* shop.emit("order.placed")
      yield* shop.store.write(putSecret("default", "token", "sealed"))
      stop()

      assert.deepStrictEqual(ends, [yield* EndOfLog.readEndOfLog(shop.store), 0])
    })
  })
}
