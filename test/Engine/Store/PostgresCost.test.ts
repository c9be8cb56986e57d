/** The number of statements and round trips on Postgres. They are counted, because times depend on the machine. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import type { Sharing } from "../../../src/Engine/Store/Postgres/Postgres.ts"
import { traffic } from "../../../src/Engine/Store/Postgres/Postgres.ts"
import { acrossEnvironments, all, get, statement } from "../../../src/Engine/Store/Program.ts"
import * as RunRows from "../../../src/Engine/Runs/RunRows.ts"
import { createFunction } from "../../../src/index.ts"
import { startEngine } from "../../../src/engine.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { complete, done, environment, handles, Shop } from "./suite/Shop.ts"

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

/** Runs an effect, and counts what it asks of Postgres. */
const countCost = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const before = { ...traffic }
    return Effect.map(effect, (value) => ({
      value,
      commits: traffic.commits - before.commits,
      roundTrips: traffic.roundTrips - before.roundTrips,
      statements: traffic.statements - before.statements
    }))
  })

const open = (sharing: Sharing) =>
  Effect.gen(function* () {
    const options = yield* takeSchema
    const store = yield* PostgresStore.make({ poolSize: 3, ...options }, sharing)
    const shop = new Shop(store)
    yield* shop.register(handles("charge"))
    return { schema: options.schema, shop, store }
  })

const together = { concurrency: "unbounded" } as const
const orders = Array.from({ length: 64 }, (_, n) => n)

describe.each(["alone", "shared"] as const)("an engine that knows of no other engine, %s", (sharing) => {
  live("waits once for a transaction of many events, and once for a transaction of many reports", () =>
    Effect.gen(function* () {
      const { shop } = yield* open(sharing)
      // from now on the engine knows whether runs wait for this event
      yield* shop.emit("order.placed")
      yield* shop.claim({ room: 1 })
      const emitted = yield* countCost(
        Effect.forEach(orders, (n) => shop.emit("order.placed", { n }), together)
      )
      assert.deepInclude(emitted, { commits: 1, roundTrips: 1 })
      const jobs = yield* shop.claim({ room: 64 })
      assert.lengthOf(jobs, 64)
      const reported = yield* countCost(
        Effect.forEach(jobs, (job) => shop.report(job, done("charge:0"), complete("ok")), together)
      )
      assert.deepInclude(reported, { commits: 1, roundTrips: 1 })
      // begin, lock, rows of steps, rows of runs, the counters, commit
      assert.isAtMost(reported.statements, 8)
    })
  )

  live("follows writes of another engine that did not notify it", () =>
    Effect.gen(function* () {
      const { schema, shop } = yield* open(sharing)
      yield* shop.emit("order.placed", { n: 1 })
      yield* Effect.promise(() =>
        runSql(
          "UPDATE engine SET sequence = sequence + 1, events = events + 10, runs = runs + 10, seq = seq + 10",
          schema
        )
      )
      yield* Effect.forEach([2, 3], (n) => shop.emit("order.placed", { n }), together)
      yield* shop.emit("order.placed", { n: 4 })
      const stored = yield* Effect.promise(() =>
        runSql(
          "SELECT key::int, (SELECT data FROM events WHERE position = event) AS data FROM runs ORDER BY key",
          schema
        )
      )
      assert.deepStrictEqual(stored, [
        { key: 1, data: '{"n":1}' },
        { key: 12, data: '{"n":2}' },
        { key: 13, data: '{"n":3}' },
        { key: 14, data: '{"n":4}' }
      ])
      const [engine] = yield* Effect.promise(() =>
        runSql("SELECT runs::int, sequence::int FROM engine", schema)
      )
      assert.strictEqual(engine?.runs, 14)
    })
  )

  live("sends no query for a run that it has leased and that has not ended", () =>
    Effect.gen(function* () {
      const { shop, store } = yield* open(sharing)
      const job = yield* shop.start()
      const unfinished = yield* countCost(store.read(RunRows.getEndedRun(environment, job.runId)))
      assert.deepInclude(unfinished, { value: undefined, statements: 0 })
      yield* shop.report(job, complete("ok"))
      const ended = yield* store.read(RunRows.getEndedRun(environment, job.runId))
      assert.strictEqual(ended?.status, "completed")
    })
  )

  live("notices that another engine has ended a run that it had leased", () =>
    Effect.gen(function* () {
      const { schema, shop, store } = yield* open(sharing)
      const job = yield* shop.start()
      yield* Effect.promise(() =>
        runSql(
          "UPDATE runs SET status = 5, lease = NULL, lease_until = NULL, ended_at = 1; UPDATE engine SET sequence = sequence + 1, leases = sequence + 1",
          schema
        )
      )
      // the engine notices it with its next transaction
      yield* shop.emit("order.paid")
      const ended = yield* store.read(RunRows.getEndedRun(environment, job.runId))
      assert.strictEqual(ended?.status, "completed")
    })
  )
})

const FAILS = statement("test.fails", "SELECT 1 / (key - 1) AS one FROM environments WHERE key = 1")
const fails = acrossEnvironments(
  "test.fails",
  function* () {
    return yield* all(FAILS)
  },
  () => "divide by nothing"
)
const FIRST = statement("test.first", "SELECT name FROM environments WHERE key = ?")
const SECOND = statement("test.second", "SELECT key FROM environments WHERE name = ?")
const reads = acrossEnvironments(
  "test.reads",
  function* () {
    const first = yield* get(FIRST, 1)
    const second = yield* get(SECOND, String(first?.name))
    return [first?.name, second?.key]
  },
  () => "read twice"
)

live("a read that fails does not affect others that share its snapshot", () =>
  Effect.gen(function* () {
    const { store } = yield* open("alone")
    const [failed, ...others] = yield* Effect.all(
      [Effect.result(store.read(fails())), store.read(reads()), store.read(reads())],
      together
    )
    assert.strictEqual(failed._tag, "Failure")
    assert.deepStrictEqual(others, [
      ["default", 1],
      ["default", 1]
    ])
  })
)

live("an engine that has nothing to do sends at most one query a second", () =>
  Effect.gen(function* () {
    const { schema = "", url: databaseUrl } = yield* takeSchema
    const greet = createFunction({ id: "greet", triggers: [{ event: "guest.came" }] }, () => "hello")
    const engine = yield* Effect.acquireRelease(
      Effect.promise(() =>
        startEngine({ databaseUrl, databaseSchema: schema, functions: [greet], logger: false })
      ),
      (started) => Effect.promise(() => started.close())
    )
    const { runIds } = yield* Effect.promise(() => engine.client.emit("guest.came", {}))
    yield* Effect.promise(() => engine.client.waitForRun(runIds[0] ?? ""))
    // the loop waits until the queries of the start have ended, and only the regular ones remain
    const seconds = 3
    let statementCount = Number.POSITIVE_INFINITY
    while (statementCount > seconds)
      statementCount = (yield* countCost(Effect.sleep(seconds * 1000))).statements
  })
)

live("engines that have nothing to do send no query for bulk operations that have ended", () =>
  Effect.gen(function* () {
    const { schema = "", url: databaseUrl } = yield* takeSchema
    const start = Effect.acquireRelease(
      Effect.promise(() => startEngine({ databaseUrl, databaseSchema: schema, logger: false })),
      (started) => Effect.promise(() => started.close())
    )
    const a = yield* start
    // the first event creates the environment
    yield* Effect.promise(() => a.client.emit("guest.came", {}))
    const b = yield* start
    const { id } = yield* Effect.promise(() => a.client.bulk("cancel", { createdTo: new Date() }))
    yield* Effect.promise(() => b.client.waitForBulk(id))
    // each engine asks once a second for work, and announces itself now and then
    const seconds = 5
    const announcements = 3
    let statementCount = Number.POSITIVE_INFINITY
    while (statementCount > 2 * seconds + announcements)
      statementCount = (yield* countCost(Effect.sleep(seconds * 1000))).statements
  })
)
