/** Due work in several environments: found for all of them at once, and fired for each separately. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Append from "../../../../src/Engine/Events/Append.ts"
import * as FunctionRows from "../../../../src/Engine/Functions/FunctionRows.ts"
import * as KvBuckets from "../../../../src/Engine/Kv/KvBuckets.ts"
import * as KvWrites from "../../../../src/Engine/Kv/KvWrites.ts"
import * as RunControl from "../../../../src/Engine/Runs/RunControl.ts"
import * as FireDue from "../../../../src/Engine/Schedules/FireDue.ts"
import type { StoreService } from "../../../../src/Engine/Store/Store.ts"
import * as Reports from "../../../../src/Engine/Turns/Reports.ts"
import type { TurnOp } from "../../../../src/Protocol/Worker.ts"
import { handles, invoke, type Shop, type ShopTest, sleep, suspend, waitFor } from "./Shop.ts"

const both = ["default", "staging"]

/** Fires due work, and returns the writes with their environments. */
const firing = (shop: Shop) =>
  Effect.gen(function* () {
    const writes: Array<string> = []
    const store: StoreService = {
      ...shop.store,
      write: (call) => {
        writes.push(`${call.name} ${call.environment ?? "-"}`)
        return shop.store.write(call)
      }
    }
    const { count } = yield* FireDue.fireDue(store)
    return { count, writes: writes.sort() }
  })

const emit = (shop: Shop, environment: string, name: string) =>
  shop.store.write(Append.appendEvent({ environment, name, version: 1, data: "{}" }))

/** Starts runs that all report the same ops. */
const startMany = (shop: Shop, environment: string, count: number, ops: ReadonlyArray<TurnOp>) =>
  Effect.gen(function* () {
    yield* Effect.all(
      Array.from({ length: count }, () => emit(shop, environment, "order.placed")),
      { concurrency: "unbounded" }
    )
    const jobs = yield* shop.claim({ environment, room: count })
    assert.strictEqual(jobs.length, count)
    yield* Reports.applyReports(
      shop.store,
      environment,
      jobs.map(({ jobId, runId }) => ({ jobId, runId, ops }))
    )
    return jobs
  })

const start = (shop: Shop, environment: string, ops: ReadonlyArray<TurnOp>) =>
  Effect.map(startMany(shop, environment, 1, ops), ([job]) => job!)

const putKeys = (store: StoreService, environment: string, keys: ReadonlyArray<string>) =>
  store.write(
    KvWrites.writeEntries(
      environment,
      "carts",
      keys.map((key) => ({ key, value: { type: "text", bytes: Buffer.from("x") } }))
    )
  )

export const dueSuite = (test: ShopTest): void => {
  describe("due work in several environments", () => {
    test("fires in each by a separate program, and environments without due work are not queried", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.store.write(FunctionRows.registerFunctions("staging", [handles("charge")]))
      yield* start(shop, "default", [sleep("rest:0", 1000), suspend("rest:0")])
      const job = yield* start(shop, "staging", [sleep("rest:0", 1000), suspend("rest:0")])
      assert.deepStrictEqual(yield* firing(shop), { count: 0, writes: ["nextDueAt -"] })

      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* firing(shop), {
        count: 2,
        writes: ["fireDueKind default", "fireDueKind staging", "nextDueAt -"]
      })

      assert.deepStrictEqual(yield* firing(shop), { count: 0, writes: ["nextDueAt -"] })
      assert.strictEqual((yield* shop.claimOne({ environment: "staging" })).runId, job.runId)
    })

    test("leases, schedules and keys are handled in their own environment", function* (shop) {
      const nightly = handles("report", { triggers: [{ cron: "0 9 * * *" }] })
      yield* shop.register(handles("charge"), nightly)
      yield* shop.store.write(FunctionRows.registerFunctions("staging", [handles("charge"), nightly]))
      for (const environment of both) {
        yield* shop.store.write(
          KvBuckets.createBucket(environment, { name: "carts", ttlMs: 1000, maxValueBytes: 100, history: 1 })
        )
      }
      yield* putKeys(shop.store, "staging", ["a"])
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual((yield* firing(shop)).writes, ["fireDueKind staging", "nextDueAt -"])

      yield* shop.emit("order.placed")
      yield* shop.claimOne({ leaseMs: 1000 })
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual((yield* firing(shop)).writes, ["fireDueKind default", "nextDueAt -"])

      yield* TestClock.adjust("9 hours")
      assert.deepStrictEqual(yield* firing(shop), {
        count: 2,
        writes: ["fireDueKind default", "fireDueKind staging", "nextDueAt -"]
      })
      assert.strictEqual(
        (yield* shop.claimOne({ environment: "staging", functions: ["report"] })).event.name,
        "cron.report"
      )
    })

    test("several batches of one environment do not delay another", function* (shop) {
      const { store } = shop
      for (const environment of both) {
        yield* store.write(
          KvBuckets.createBucket(environment, { name: "carts", ttlMs: 1000, maxValueBytes: 100, history: 1 })
        )
      }
      for (let i = 0; i < 600; i += 100) {
        yield* putKeys(
          store,
          "default",
          Array.from({ length: 100 }, (_, j) => `key-${i + j}`)
        )
      }
      yield* TestClock.adjust(1)
      yield* putKeys(store, "staging", ["a"])
      yield* TestClock.adjust(1000)

      assert.deepStrictEqual(yield* firing(shop), {
        count: 512,
        writes: ["fireDueKind default", "nextDueAt -"]
      })
      assert.deepStrictEqual(yield* firing(shop), {
        count: 89,
        writes: ["fireDueKind default", "fireDueKind staging", "nextDueAt -"]
      })
    })

    test("an event with very many waits in one environment leaves time for another", function* (shop) {
      yield* shop.register(handles("charge"))
      yield* shop.store.write(FunctionRows.registerFunctions("staging", [handles("charge")]))
      yield* startMany(shop, "default", 700, [waitFor("paid:0", "paid"), suspend("paid:0")])
      yield* startMany(shop, "staging", 400, [waitFor("paid:0", "paid"), suspend("paid:0")])
      for (const environment of both) yield* emit(shop, environment, "paid")
      const ready = (environment: string) =>
        Effect.map(shop.claim({ environment, room: 1000 }), (jobs) => jobs.length)
      const before = [yield* ready("default"), yield* ready("staging")]

      yield* FireDue.fireDue(shop.store)
      yield* FireDue.fireDue(shop.store)
      const [first = 0, second = 0] = [yield* ready("default"), yield* ready("staging")]

      assert.deepStrictEqual(before, [300, 300])
      // each environment came first in one of the two rounds, so that each has got its time
      assert.isAbove(first, 250)
      assert.strictEqual(second, 100)
    })

    test("children are cancelled with their parents in both environments", function* (shop) {
      yield* shop.register(handles("charge"), handles("ship", { on: [] }))
      yield* shop.store.write(
        FunctionRows.registerFunctions("staging", [handles("charge"), handles("ship", { on: [] })])
      )
      const children = Array.from({ length: 400 }, (_, i) => invoke(`ship:${i}`, "ship"))
      const parents = []
      for (const environment of both) {
        parents.push(
          yield* start(shop, environment, [...children, suspend(...children.map((_, i) => `ship:${i}`))])
        )
      }
      for (const [i, environment] of both.entries()) {
        yield* shop.store.write(RunControl.cancelRun(environment, parents[i]!.runId, "no stock"))
      }

      assert.include((yield* firing(shop)).writes, "fireDueKind staging")
      yield* shop.fire()

      assert.deepStrictEqual(yield* shop.claim({ environment: "staging", room: 10 }), [])
      assert.deepStrictEqual(yield* shop.claim({ room: 10 }), [])
    })
  })
}
