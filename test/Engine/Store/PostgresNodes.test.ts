/** Several engines on one schema: what each of them knows and does when others write too. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import type { StoreService } from "../../../src/Engine/Store/Store.ts"
import type { StoreError } from "../../../src/Errors.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import * as FunctionRows from "../../../src/Engine/Functions/FunctionRows.ts"
import * as KvBuckets from "../../../src/Engine/Kv/KvBuckets.ts"
import * as KvWrites from "../../../src/Engine/Kv/KvWrites.ts"
import * as Steering from "../../../src/Engine/Runs/Steering.ts"
import { traffic } from "../../../src/Engine/Store/Postgres/Postgres.ts"
import { complete, done, environment, handles, Shop, suspend, waitFor } from "./suite/Shop.ts"

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

/** Two engines on one schema, which have begun when there was nothing. */
const twoShops = Effect.gen(function* () {
  const options = yield* takeSchema
  const a = new Shop(yield* openNode(options))
  const b = new Shop(yield* openNode(options))
  return { a, b, options }
})

describe("what a node remembers", () => {
  live("of functions and environments is what others have registered", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      const first = yield* b.emit("order.placed")
      assert.lengthOf(first.runIds, 1, "the other node starts the function")
      yield* b.register(handles("charge", { on: ["order.paid"] }))
      assert.lengthOf((yield* a.emit("order.placed")).runIds, 0, "the trigger is gone on the other node")
      yield* a.store.write(FunctionRows.deleteFunction(environment, "charge"))
      assert.lengthOf((yield* b.emit("order.paid")).runIds, 0, "the function is gone on the other node")
    })
  )

  live("of runs that are ready includes those of others", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      assert.lengthOf(yield* b.claim({ credit: 5 }), 0)
      yield* a.emit("order.placed")
      assert.lengthOf(yield* b.claim({ credit: 5 }), 1)
      assert.lengthOf(yield* a.claim({ credit: 5 }), 0)
    })
  )

  live("of names that nobody waits for is forgotten", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      yield* a.emit("order.paid")
      const job = yield* b.start()
      yield* b.report(job, waitFor("paid:0", "order.paid"), suspend("paid:0"))
      yield* a.emit("order.paid", { amount: 3 })
      assert.lengthOf(yield* a.claim({ credit: 5 }), 1)
    })
  )

  live("of leases is forgotten when another has ended them, and kept when it has not touched them", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* twoShops
      yield* a.register(handles("charge"))
      const version = () => rows(options.schema, "SELECT leases FROM engine")
      const before = yield* version()
      const kept = yield* a.start()
      yield* b.emit("order.placed")
      const taken = yield* a.claimOne()
      yield* a.report(kept, done("charge:0"), complete())
      assert.deepStrictEqual(yield* version(), before, "a lease that its own node ends concerns no other")
      yield* b.store.write(Steering.cancelRun(environment, taken.runId, "too late"))
      assert.strictEqual(yield* a.refused(taken, done("charge:0"), complete()), "CANCELLED")
      assert.strictEqual(yield* b.status(taken.runId), "cancelled")
    })
  )

  live("of buckets is what others have written", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.store.write(
        KvBuckets.createBucket(environment, { name: "cart", history: 1, maxValueBytes: 1000 })
      )
      const put = (shop: Shop, text: string) =>
        shop.store.write(
          KvWrites.writeEntries(environment, "cart", [
            { key: "k", value: { type: "text", bytes: Buffer.from(text) } }
          ])
        )
      yield* put(a, "1")
      yield* put(b, "2")
      assert.deepStrictEqual(yield* put(a, "3"), [3])
      assert.strictEqual((yield* a.store.read(KvBuckets.readBucket(environment, "cart"))).revision, 3)
    })
  )

  live("does not give an id, a position or a place in the order twice, or out of turn", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      for (let i = 0; i < 10; i++) {
        yield* Effect.all(
          [a, b, b, a].map((shop) => shop.emit("order.placed")),
          { concurrency: "unbounded" }
        )
      }
      const events = yield* rows(options.schema, "SELECT id FROM events ORDER BY position")
      assert.lengthOf(events, 40)
      const ids = events.map(({ id }) => String(id))
      assert.deepStrictEqual(ids.toSorted(), ids, "ids are in the order of positions")
      const jobs = [...(yield* a.claim({ credit: 20 })), ...(yield* b.claim({ credit: 20 }))]
      assert.lengthOf(new Set(jobs.map(({ runId }) => runId)), 40)
      const jobIds = jobs.map(({ jobId }) => jobId)
      assert.deepStrictEqual(jobIds.toSorted(), jobIds, "jobs are in the order of their commits")
    })
  )

  live("costs nothing more when others write between: three round trips", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      yield* a.emit("order.placed")
      yield* b.emit("order.placed")
      const jobs = yield* a.claim({ credit: 5 })
      yield* b.emit("order.placed")
      const before = { ...traffic }
      yield* Effect.all(
        jobs.map((job) => a.report(job, done("charge:0"), complete())),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(traffic.commits - before.commits, 1)
      assert.isAtMost(traffic.roundTrips - before.roundTrips, 3)
    })
  )
})
