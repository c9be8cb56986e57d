/** Buckets and keys: revisions, conditions, limits, expiry, and reading on from a revision (guarantee G13). */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import type { StoreService } from "../../../../src/Engine/Store/Store.ts"
import type { KvWriteRow, NewKvBucket } from "../../../../src/Engine/Kv/KvRecords.ts"
import { type ShopTest, environment } from "./Shop.ts"
import * as KvBuckets from "../../../../src/Engine/Kv/KvBuckets.ts"
import * as KvWrites from "../../../../src/Engine/Kv/KvWrites.ts"
import * as KvRows from "../../../../src/Engine/Kv/KvRows.ts"
import * as ConfigRows from "../../../../src/Engine/Config/ConfigRows.ts"
import * as FireDue from "../../../../src/Engine/Schedules/FireDue.ts"

const DAY = 24 * 60 * 60 * 1000

const make = (store: StoreService, options: Partial<NewKvBucket> = {}) =>
  store.write(
    KvBuckets.createBucket(environment, { name: "carts", maxValueBytes: 1000, history: 1, ...options })
  )

const put = (key: string, text: string, expected?: number): KvWriteRow => ({
  key,
  value: { type: "text", bytes: Buffer.from(text) },
  ...(expected === undefined ? {} : { expected })
})

const write = (store: StoreService, ...writes: ReadonlyArray<KvWriteRow>) =>
  store.write(KvWrites.writeEntries(environment, "carts", writes))

const read = (store: StoreService, key: string) =>
  Effect.map(store.read(KvRows.readEntry(environment, "carts", key)), ({ revision, value }) => [
    Buffer.from(value.bytes).toString(),
    revision
  ])

const everything = { after: "", limit: 1000 }

/** The tag of the error with which the effect fails. */
const errorTag = <A, E extends { readonly _tag: string }>(self: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(self), ({ _tag }) => _tag)

const changes = (store: StoreService, after: number, limit = 100) =>
  Effect.map(store.read(KvRows.readChanges(environment, "carts", after, limit)), ({ changes }) =>
    changes.map(({ key, operation, revision }) => `${revision} ${operation} ${key}`)
  )

export const kvSuite = (test: ShopTest): void => {
  describe("keys", () => {
    test("of several writes in one commit that expect the same revision, one succeeds", function* ({
      store
    }) {
      yield* make(store)
      yield* write(store, put("cart-1", "empty"))

      const outcomes = yield* Effect.all(
        Array.from({ length: 20 }, (_, i) => Effect.exit(write(store, put("cart-1", `writer ${i}`, 1)))),
        { concurrency: "unbounded" }
      )

      assert.strictEqual(outcomes.filter(({ _tag }) => _tag === "Success").length, 1)
      assert.deepStrictEqual(yield* read(store, "cart-1"), ["writer 0", 2])
    })

    test("a write of several keys is refused as a whole", function* ({ store }) {
      yield* make(store)
      yield* write(store, put("a", "1"), put("b", "1"))

      const conflict = yield* Effect.flip(write(store, put("a", "2"), put("c", "2"), put("b", "2", 1)))

      assert.include(conflict, { _tag: "RevisionConflictError", key: "b", expected: 1, actual: 2 })
      assert.deepStrictEqual(yield* read(store, "a"), ["1", 1])
      assert.strictEqual(yield* errorTag(read(store, "c")), "KeyNotFoundError")
      assert.strictEqual((yield* store.read(KvBuckets.readBucket(environment, "carts"))).revision, 2)
    })

    test("a refused write does not affect others in its commit", function* ({ store }) {
      yield* make(store)
      yield* Effect.all(
        [
          write(store, put("a", "1")),
          Effect.flip(write(store, put("a", "2", 7))),
          Effect.flip(store.write(KvWrites.writeEntries(environment, "nowhere", [put("a", "3")]))),
          write(store, put("b", "4"))
        ],
        { concurrency: "unbounded" }
      )

      assert.deepStrictEqual(yield* read(store, "a"), ["1", 1])
      assert.deepStrictEqual(yield* read(store, "b"), ["4", 2])
    })

    test("a key cannot be read from its expiry on, even before the sweep deletes it", function* ({ store }) {
      yield* make(store, { ttlMs: 1000, history: 3 })
      yield* write(store, put("a", "old"))
      yield* write(store, put("a", "new"))

      yield* TestClock.adjust(999)
      assert.deepStrictEqual(yield* read(store, "a"), ["new", 2])
      yield* TestClock.adjust(1)

      assert.strictEqual(yield* errorTag(read(store, "a")), "KeyNotFoundError")
      assert.strictEqual(
        yield* errorTag(
          store.read(KvRows.readHistory(environment, "carts", { key: "a", after: 0, limit: 64 }))
        ),
        "KeyNotFoundError"
      )
      assert.deepStrictEqual(yield* store.read(KvRows.listKeys(environment, "carts", everything)), {
        keys: []
      })
      assert.deepStrictEqual(yield* changes(store, 0), [])
      assert.strictEqual((yield* store.read(KvBuckets.readBucket(environment, "carts"))).values, 0)
      assert.strictEqual(yield* errorTag(write(store, put("a", "x", 2))), "RevisionConflictError")
      assert.deepStrictEqual(yield* write(store, put("a", "again", 0)), [4])
    })

    test("the sweep announces an expiry once, and a write restarts the time to live", function* (shop) {
      const { store } = shop
      yield* make(store, { ttlMs: 1000 })
      yield* write(store, put("a", "1"), put("b", "1"))
      yield* TestClock.adjust(600)
      yield* write(store, put("b", "2"))

      yield* TestClock.adjust(600)
      yield* FireDue.fireDue(store)
      assert.deepStrictEqual(
        shop.lastChanges?.kv.map(({ key, operation }) => [key, operation]),
        [["a", "expire"]]
      )
      assert.strictEqual(yield* shop.fire(), 0)
      assert.deepStrictEqual(yield* changes(store, 0), ["3 put b", "4 expire a"])
      assert.deepStrictEqual(yield* read(store, "b"), ["2", 3])
      assert.include(yield* store.read(KvBuckets.readBucket(environment, "carts")), { values: 1, bytes: 2 })
    })

    test("many expired keys are deleted in batches", function* (shop) {
      const { store } = shop
      yield* make(store, { ttlMs: 1000 })
      for (let i = 0; i < 600; i += 100)
        yield* write(store, ...Array.from({ length: 100 }, (_, j) => put(`key-${i + j}`, "x")))

      yield* TestClock.adjust(1000)
      const first = yield* FireDue.fireDue(store)
      const second = yield* FireDue.fireDue(store)

      assert.deepStrictEqual([first.count, second.count], [512, 88])
      assert.include(yield* store.read(KvBuckets.readBucket(environment, "carts")), {
        values: 0,
        bytes: 0,
        revision: 1200
      })
    })

    test("the next due time is known: an expiry, then the end of its marker", function* (shop) {
      const { store } = shop
      yield* make(store, { ttlMs: 1000 })
      yield* write(store, put("a", "1"))

      assert.strictEqual((yield* FireDue.fireDue(store)).nextDueAt, 1000)
      yield* shop.pass(1000)
      assert.strictEqual((yield* FireDue.fireDue(store)).nextDueAt, 1000 + DAY)
    })

    test("a reader that continues from before a deleted marker gets an error", function* (shop) {
      const { store } = shop
      yield* make(store)
      yield* write(store, put("a", "1"))
      yield* write(store, put("b", "1"))
      yield* write(store, { key: "a" })

      assert.deepStrictEqual(yield* changes(store, 2), ["3 delete a"])
      yield* shop.pass(DAY)
      yield* write(store, put("c", "1"))

      assert.strictEqual(yield* errorTag(changes(store, 2)), "RevisionGoneError")
      assert.deepStrictEqual(yield* changes(store, 3), ["4 put c"])
      assert.deepStrictEqual(yield* changes(store, 0), ["2 put b", "4 put c"])
    })

    test("changes are read page by page, with the history", function* ({ store }) {
      yield* make(store, { history: 3 })
      for (const text of ["1", "2", "3", "4"]) yield* write(store, put("a", text))
      yield* write(store, put("b", "1"))

      const first = yield* store.read(KvRows.readChanges(environment, "carts", 0, 2))
      const second = yield* store.read(KvRows.readChanges(environment, "carts", first.revision, 5))

      assert.deepStrictEqual(
        [first, second].map((page) => [page.changes.map(({ revision }) => revision), page.atEnd]),
        [
          [[2, 3], false],
          [[4, 5], true]
        ]
      )
    })

    test("a bucket counts the bytes that it stores, and limits them", function* ({ store }) {
      yield* make(store, { history: 2, maxBytes: 12 })
      yield* write(store, put("a", "12345"))
      yield* write(store, put("a", "12345"))
      yield* write(store, put("a", "54321"))
      assert.strictEqual(yield* errorTag(write(store, put("b", ""))), "ValidationError")
      yield* write(store, { key: "a", purge: true })
      yield* write(store, put("b", "1234567890"))

      assert.include(yield* store.read(KvBuckets.readBucket(environment, "carts")), { bytes: 11, values: 1 })
    })

    test("the bytes of expired keys are free even before the sweep deletes them", function* ({ store }) {
      yield* make(store, { ttlMs: 1000, maxBytes: 10 })
      yield* write(store, put("a", "123456789"))
      assert.strictEqual(yield* errorTag(write(store, put("b", "1"))), "ValidationError")

      yield* TestClock.adjust(1000)

      assert.deepStrictEqual(yield* write(store, put("b", "123456789")), [2])
    })

    test("a deleted bucket is gone at once, its keys are deleted in batches, and revisions are never used again", function* (shop) {
      const { store } = shop
      yield* make(store)
      for (let i = 0; i < 600; i += 100)
        yield* write(store, ...Array.from({ length: 100 }, (_, j) => put(`key-${i + j}`, "x")))

      yield* store.write(KvBuckets.deleteBucket(environment, "carts"))
      assert.strictEqual(shop.lastChanges?.deletedBuckets.length, 1)
      assert.strictEqual(yield* errorTag(read(store, "key-1")), "BucketNotFoundError")
      yield* make(store)
      assert.deepStrictEqual(yield* write(store, put("key-1", "anew")), [601])

      assert.isAtLeast(yield* shop.fire(), 600)
      assert.deepStrictEqual(yield* store.read(KvRows.listKeys(environment, "carts", everything)), {
        keys: ["key-1"]
      })
      assert.strictEqual((yield* FireDue.fireDue(store)).nextDueAt, Number.POSITIVE_INFINITY)
    })

    test("keys are listed in pages, which limit the keys that are read", function* ({ store }) {
      yield* make(store, { ttlMs: 1000 })
      yield* write(store, ...["a", "b", "c", "d", "e"].map((key) => put(key, key)))
      yield* write(store, { key: "b" }, { key: "d" })
      const page = (after: string, limit: number) =>
        store.read(KvRows.listKeys(environment, "carts", { after, limit }))

      assert.deepStrictEqual(yield* page("", 2), { keys: ["a"], nextCursor: "b" })
      assert.deepStrictEqual(yield* page("b", 2), { keys: ["c"], nextCursor: "d" })
      assert.deepStrictEqual(yield* page("d", 2), { keys: ["e"] })
      assert.deepStrictEqual(yield* page("", 5), { keys: ["a", "c", "e"], nextCursor: "e" })
      assert.deepStrictEqual(yield* page("e", 5), { keys: [] })
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* page("", 10), { keys: [] })
    })

    test("what the engine remembers of a bucket equals its stored row", function* ({ store }) {
      yield* make(store, { maxBytes: 20 })
      yield* write(store, put("a", "1"))
      // in one commit: the bucket is deleted and made again, with writes before, between and after
      const results = yield* Effect.all(
        [
          write(store, put("b", "2")),
          store.write(KvBuckets.deleteBucket(environment, "carts")),
          Effect.exit(write(store, put("b", "3"))),
          make(store),
          write(store, put("c", "4"))
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(results[0], [2])
      assert.strictEqual(results[2]._tag, "Failure")
      assert.deepStrictEqual(results[4], [3])
      const info = yield* store.read(KvBuckets.readBucket(environment, "carts"))
      assert.deepInclude(info, { revision: 3, values: 1, bytes: 2 })
      assert.deepStrictEqual(yield* store.read(KvBuckets.listBuckets(environment)), [info])
    })

    test("a commit announces its changes in the order of their revisions", function* (shop) {
      yield* make(shop.store)
      yield* Effect.all(
        Array.from({ length: 5 }, (_, i) => write(shop.store, put(`key-${i}`, String(i)))),
        { concurrency: "unbounded" }
      )

      assert.deepStrictEqual(
        shop.lastChanges?.kv.map(({ revision }) => revision),
        [1, 2, 3, 4, 5]
      )
    })
  })

  describe("configurations", () => {
    test("are set, patched by both of two writers, listed and deleted", function* ({ store }) {
      yield* store.write(ConfigRows.setConfig(environment, "app", `{"a":1,"b":{"c":1}}`))
      const revisions = yield* Effect.all(
        [
          store.write(ConfigRows.patchConfig(environment, "app", `{"b":{"d":2}}`)),
          store.write(ConfigRows.patchConfig(environment, "app", `{"__proto__":3,"e":4}`))
        ],
        { concurrency: "unbounded" }
      )

      assert.deepStrictEqual(revisions, [2, 3])
      assert.strictEqual(
        (yield* store.read(ConfigRows.readConfig(environment, "app"))).data,
        `{"a":1,"b":{"d":2},"__proto__":3,"e":4}`
      )
      assert.deepStrictEqual(
        (yield* store.read(ConfigRows.listConfigs(environment, "", 10))).map(({ name }) => name),
        ["app"]
      )
      yield* store.write(ConfigRows.deleteConfig(environment, "app"))
      yield* store.write(ConfigRows.deleteConfig(environment, "app"))
      yield* store.write(ConfigRows.deleteConfig("unknown", "app"))
      assert.strictEqual(
        yield* errorTag(store.read(ConfigRows.readConfig(environment, "app"))),
        "ConfigNotFoundError"
      )
      assert.strictEqual(
        yield* errorTag(store.write(ConfigRows.patchConfig(environment, "app", "{}"))),
        "ConfigNotFoundError"
      )
      assert.deepStrictEqual(yield* store.read(ConfigRows.listConfigs(environment, "", 10)), [])
      assert.deepStrictEqual(yield* store.read(KvBuckets.listBuckets(environment)), [])
    })

    test("are listed in pages", function* ({ store }) {
      for (const name of ["a", "b", "c"]) yield* store.write(ConfigRows.setConfig(environment, name, "{}"))
      const page = (after: string) =>
        Effect.map(store.read(ConfigRows.listConfigs(environment, after, 2)), (rows) =>
          rows.map(({ name }) => name)
        )

      assert.deepStrictEqual(yield* page(""), ["a", "b"])
      assert.deepStrictEqual(yield* page("b"), ["c"])
    })

    test("changes can be read before any exist", function* ({ store }) {
      assert.deepInclude(yield* store.read(ConfigRows.readConfigChanges(environment, undefined, 10)), {
        revision: 0,
        changes: []
      })
      yield* store.write(ConfigRows.setConfig(environment, "app", "{}"))
      assert.deepStrictEqual(
        (yield* store.read(ConfigRows.readConfigChanges(environment, 0, 10))).changes.map(({ key }) => key),
        ["app"]
      )
    })
  })
}
