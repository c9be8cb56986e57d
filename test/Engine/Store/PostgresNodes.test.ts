/** Several engines on one schema: what each of them knows and does while others write too. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import pg from "pg"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import type { StoreService } from "../../../src/Engine/Store/Store.ts"
import type { StoreError } from "../../../src/Errors.ts"
import { startProxy } from "../../postgres/Proxy.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import * as GuaranteeRows from "../../../src/Engine/Guarantees/GuaranteeRows.ts"
import * as FunctionRows from "../../../src/Engine/Functions/FunctionRows.ts"
import * as ProjectionOwnerRows from "../../../src/Engine/Projections/ProjectionOwnerRows.ts"
import * as KvBuckets from "../../../src/Engine/Kv/KvBuckets.ts"
import * as KvWrites from "../../../src/Engine/Kv/KvWrites.ts"
import * as EngineWorkers from "../../../src/Engine/Runs/EngineWorkers.ts"
import * as RunControl from "../../../src/Engine/Runs/RunControl.ts"
import * as LostLeases from "../../../src/Engine/Turns/LostLeases.ts"
import { traffic } from "../../../src/Engine/Store/Postgres/Postgres.ts"
import { complete, done, environment, handles, Shop, sleep, success, suspend, waitFor } from "./suite/Shop.ts"

const openNode = (options: PostgresOptions): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  PostgresStore.make({ poolSize: 3, ...options })

const rows = (schema: string | undefined, sql: string) => Effect.promise(() => runSql(sql, schema))

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

describe("nodes", () => {
  live("share a schema: each node has its own row, and the sequence counts the commits of all", () =>
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

  live("have no row once they are closed", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(openNode(options))
      assert.deepStrictEqual(yield* rows(options.schema, "SELECT id FROM nodes"), [])
    })
  )
})

/** Two engines that started on an empty schema. */
const twoShops = Effect.gen(function* () {
  const options = yield* takeSchema
  const a = new Shop(yield* openNode(options))
  const b = new Shop(yield* openNode(options))
  return { a, b, options }
})

describe("the memory of a node", () => {
  live("of functions and environments includes what other nodes have registered", () =>
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

  live("of ready runs includes those of other nodes", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      assert.lengthOf(yield* b.claim({ room: 5 }), 0)
      yield* a.emit("order.placed")
      assert.lengthOf(yield* b.claim({ room: 5 }), 1)
      assert.lengthOf(yield* a.claim({ room: 5 }), 0)
    })
  )

  live("of event names without waits is dropped when a run of another node waits", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      yield* a.emit("order.paid")
      const job = yield* b.start()
      yield* b.report(job, waitFor("paid:0", "order.paid"), suspend("paid:0"))
      yield* a.emit("order.paid", { amount: 3 })
      assert.lengthOf(yield* a.claim({ room: 5 }), 1)
    })
  )

  live("of leases is dropped when another node has ended them, and kept otherwise", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* twoShops
      yield* a.register(handles("charge"))
      const version = () => rows(options.schema, "SELECT leases FROM engine")
      const before = yield* version()
      const kept = yield* a.start()
      yield* b.emit("order.placed")
      const taken = yield* a.claimOne()
      yield* a.report(kept, done("charge:0"), complete())
      assert.deepStrictEqual(
        yield* version(),
        before,
        "a lease that its own node ends does not change the version"
      )
      yield* b.store.write(RunControl.cancelRun(environment, taken.runId, "too late"))
      assert.strictEqual(yield* a.refused(taken, done("charge:0"), complete()), "CANCELLED")
      assert.strictEqual(yield* b.status(taken.runId), "cancelled")
    })
  )

  live("of buckets includes what other nodes have written", () =>
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

  live("assigns every id and position once and in order", () =>
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
      const jobs = [...(yield* a.claim({ room: 20 })), ...(yield* b.claim({ room: 20 }))]
      assert.lengthOf(new Set(jobs.map(({ runId }) => runId)), 40)
      const jobIds = jobs.map(({ jobId }) => jobId)
      assert.deepStrictEqual(jobIds.toSorted(), jobIds, "jobs are in the order of their commits")
    })
  )

  live("costs three round trips, also when other nodes write in between", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* a.register(handles("charge"))
      yield* b.register(handles("charge"))
      yield* a.emit("order.placed")
      yield* b.emit("order.placed")
      const jobs = yield* a.claim({ room: 5 })
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

describe("reads that a node sends with the lock because earlier transactions needed them", () => {
  /** Two engines that have emitted so often that each of them looks for waits whenever it takes the lock. */
  const askingShops = Effect.gen(function* () {
    const { a, b, options } = yield* twoShops
    for (const shop of [a, b]) yield* shop.register(handles("charge"))
    for (let i = 0; i < 4; i++) for (const shop of [a, b]) yield* shop.emit("order.paid")
    return { a, b, options }
  })

  live("save a round trip", () =>
    Effect.gen(function* () {
      const { a } = yield* askingShops
      const before = { ...traffic }
      yield* Effect.all(
        [1, 2, 3].map(() => a.emit("order.paid")),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(traffic.commits - before.commits, 1)
      // one for the lock and the reads, and one for the writes and the commit
      assert.strictEqual(traffic.roundTrips - before.roundTrips, 2)
    })
  )

  live("see what another node has written just before", () =>
    Effect.gen(function* () {
      const { a, b } = yield* askingShops
      const job = yield* b.start()
      yield* b.report(job, waitFor("paid:0", "order.paid"), suspend("paid:0"))
      yield* a.emit("order.paid", { amount: 3 })
      assert.lengthOf(yield* a.claim({ room: 5 }), 1)
    })
  )

  live("see what the same transaction has written before", () =>
    Effect.gen(function* () {
      const { a, b } = yield* askingShops
      const job = yield* a.start()
      // another event than `order.paid`, because the wait looks back and would find that one
      yield* b.emit("order.sent")
      const before = { ...traffic }
      yield* Effect.all(
        [
          a.report(job, waitFor("paid:0", "order.paid"), suspend("paid:0")),
          a.emit("order.paid", { amount: 3 })
        ],
        { concurrency: "unbounded" }
      )
      assert.strictEqual(traffic.commits - before.commits, 1)
      assert.lengthOf(yield* b.claim({ room: 5 }), 1)
    })
  )

  live("are no longer sent once they have failed, or once no transaction needs them", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* askingShops
      yield* rows(options.schema, "ALTER TABLE waits RENAME TO waits_away")
      const failed = yield* Effect.result(a.emit("order.paid"))
      assert.strictEqual(failed._tag, "Failure")
      // this transaction does not read the missing table
      yield* a.store.write(
        KvBuckets.createBucket(environment, { name: "cart", history: 1, maxValueBytes: 1000 })
      )
      yield* rows(options.schema, "ALTER TABLE waits_away RENAME TO waits")
      for (let i = 0; i < 5; i++) for (const shop of [a, b]) yield* shop.emit("order.sent")
      yield* rows(options.schema, "ALTER TABLE waits RENAME TO waits_away")
      const found = yield* Effect.result(b.store.read(KvBuckets.readBucket(environment, "cart")))
      assert.strictEqual(found._tag, "Success")
      yield* rows(options.schema, "ALTER TABLE waits_away RENAME TO waits")
      yield* a.emit("order.paid")
    })
  )
})

describe("programs that arrive while a node waits for the lock of another node", () => {
  live("are all in its next transaction", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* twoShops
      yield* a.emit("order.placed")
      yield* b.emit("order.placed")
      const other = new pg.Client({ connectionString: options.url })
      yield* Effect.promise(async () => {
        await other.connect()
        await other.query(`SET search_path = ${options.schema}`)
        await other.query("BEGIN")
        await other.query("UPDATE engine SET sequence = sequence")
      })
      const commits = () =>
        Effect.map(rows(options.schema, "SELECT sequence FROM engine"), ([row]) => Number(row?.sequence))
      const before = yield* commits()
      const emitted = [yield* Effect.forkChild(a.emit("order.placed"))]
      yield* until(
        Effect.map(
          rows(
            options.schema,
            `SELECT 1 FROM nodes JOIN pg_stat_activity USING (pid) WHERE id = ${nodeOf(a)} AND wait_event_type = 'Lock'`
          ),
          ({ length }) => length === 1
        )
      )
      for (let i = 0; i < 5; i++) emitted.push(yield* Effect.forkChild(a.emit("order.placed")))
      yield* Effect.sleep(0)
      yield* Effect.promise(async () => {
        await other.query("COMMIT")
        await other.end()
      })
      yield* Effect.forEach(emitted, (fiber) => Fiber.join(fiber))
      assert.strictEqual((yield* commits()) - before, 1)
    })
  )
})

/**
 * Backdates a time of a node by a minute. `steady_since`: the node has run long enough to declare others dead. `last_seen`:
 * the node was not seen for a minute.
 */
const backdate = (schema: string | undefined, column: "steady_since" | "last_seen", node: number) =>
  rows(schema, `UPDATE nodes SET ${column} = ${column} - 60000 WHERE id = ${node}`)

const isDead = (schema: string | undefined, node: number) =>
  Effect.map(
    rows(schema, `SELECT steady_since FROM nodes WHERE id = ${node}`),
    ([row]) => row?.steady_since === null
  )

const until = <E>(condition: Effect.Effect<boolean, E>): Effect.Effect<void, E> =>
  Effect.flatMap(condition, (isMet) => (isMet ? Effect.void : Effect.delay(until(condition), 50)))

const nodeOf = ({ store }: Shop): number => store.node ?? assert.fail("it is one of several")

/** Two engines. The first one can be cut off from Postgres for good. */
const twoWithCut = Effect.gen(function* () {
  const options = yield* takeSchema
  const proxy = yield* Effect.acquireRelease(
    Effect.promise(() => startProxy(options.url)),
    ({ close }) => Effect.promise(close)
  )
  const a = new Shop(yield* openNode({ ...options, url: proxy.url }))
  const b = new Shop(yield* openNode(options))
  yield* a.register(handles("charge"))
  yield* b.register(handles("charge"))
  const cut = Effect.promise(proxy.close)
  return { a, b, cut, options, proxy }
})

/** Connects a worker to an engine in its process. */
const connectWorker = (shop: Shop, workerId: string) =>
  shop.store.write(
    EngineWorkers.connectWorker({
      workerId,
      environment,
      session: `${shop.store.node}.${workerId}`,
      info: "{}"
    })
  )

/** Connects a worker to an engine in its process, and gives it a run. */
const connectAndStart = (shop: Shop, worker: string) =>
  Effect.andThen(connectWorker(shop, worker), shop.start("order.placed", {}, { worker }))

const claimProjection = (shop: Shop, workerId: string) =>
  shop.store.write(
    ProjectionOwnerRows.claimProjection({
      environment,
      workerId,
      registration: { name: "sales", mode: "managed", events: ["order.placed"] }
    })
  )

describe("a live node", () => {
  live("keeps its runs and projections when other nodes start", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const a = new Shop(yield* openNode(options))
      yield* a.register(handles("charge"))
      const job = yield* connectAndStart(a, "worker-a")
      assert.strictEqual((yield* claimProjection(a, "worker-a"))._tag, "Granted")
      const b = new Shop(yield* openNode(options))
      yield* b.register(handles("charge"))
      assert.lengthOf(yield* b.claim({ room: 5 }), 0)
      assert.strictEqual((yield* claimProjection(b, "worker-b"))._tag, "Busy")
      yield* a.report(job, done("charge:0"), complete())
      assert.strictEqual(yield* b.status(job.runId), "completed")
    })
  )

  live("has its own workers: a worker at another node may not use the id of one of them", () =>
    Effect.gen(function* () {
      const { a, b } = yield* twoShops
      yield* connectWorker(a, "till")
      assert.strictEqual((yield* connectWorker(b, "till"))._tag, "Elsewhere")
    })
  )

  live(
    "is told of a run that another node revokes, and no worker gets the run before its lease is given up or expires",
    () =>
      Effect.gen(function* () {
        const { a, b } = yield* twoShops
        yield* a.register(handles("charge"))
        yield* b.register(handles("charge"))
        const job = yield* connectAndStart(a, "worker-a")
        yield* a.report(job, done("charge:0", success(1)))
        yield* b.store.write(RunControl.patchStep(environment, `${job.runId}:charge:0`, "2", "wrong"))
        assert.lengthOf(yield* b.claim({ room: 5 }), 0, "its worker may still execute it")
        assert.strictEqual(yield* a.refused(job, complete()), "LEASE_LOST")
        yield* a.store.write(LostLeases.endRevokedLeases(environment, [job.jobId]))
        assert.lengthOf(yield* b.claim({ room: 5 }), 1)
      })
  )

  live(
    "declares no node dead while it is new itself, so that all can reconnect after an outage of Postgres",
    () =>
      Effect.gen(function* () {
        const { a, b, cut, options } = yield* twoWithCut
        yield* cut
        yield* backdate(options.schema, "last_seen", nodeOf(a))
        yield* b.emit("order.placed")
        assert.isFalse(yield* isDead(options.schema, nodeOf(a)))
      })
  )
})

describe("a lost node", () => {
  live("loses the turns of its push endpoints, and a live one keeps them", () =>
    Effect.gen(function* () {
      const { a, b, cut, options } = yield* twoWithCut
      const start = (shop: Shop) =>
        shop.start("order.placed", {}, { worker: `push-0123456789abcdef-${nodeOf(shop)}`, leaseMs: 600_000 })
      const job = yield* start(a)
      const kept = yield* start(b)
      yield* cut
      yield* backdate(options.schema, "last_seen", nodeOf(a))
      yield* backdate(options.schema, "steady_since", nodeOf(b))
      yield* until(isDead(options.schema, nodeOf(a)))

      const again = yield* b.claimOne({ worker: "worker-b" })

      assert.strictEqual(again.runId, job.runId)
      assert.strictEqual(yield* b.refused(job, done("charge:0")), "LEASE_LOST")
      yield* b.report(kept, done("charge:0"))
    })
  )

  live("loses its leases to the others once, even if no program runs", () =>
    Effect.gen(function* () {
      const { a, b, cut, options } = yield* twoWithCut
      const job = yield* connectAndStart(a, "worker-a")
      assert.strictEqual((yield* claimProjection(a, "worker-a"))._tag, "Granted")
      yield* cut
      assert.lengthOf(yield* b.claim({ room: 5 }), 0)
      yield* backdate(options.schema, "last_seen", nodeOf(a))
      yield* backdate(options.schema, "steady_since", nodeOf(b))
      yield* until(isDead(options.schema, nodeOf(a)))
      const again = yield* b.claimOne({ worker: "worker-b" })
      assert.strictEqual(again.runId, job.runId)
      assert.strictEqual((yield* claimProjection(b, "worker-b"))._tag, "Granted")
      yield* b.emit("order.placed")
      const [run] = yield* rows(options.schema, `SELECT losses FROM runs WHERE id = '${job.runId}'`)
      assert.strictEqual(Number(run?.losses), 1, "it was lost once")
      yield* b.report(again, done("charge:0"), complete())
    })
  )

  live("has lost its leases when it returns, and is told so, and logs it once", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void logged.push(`${logLevel} ${String(message)}`))
    return Effect.gen(function* () {
      const { a, b, options } = yield* twoWithCut
      const job = yield* connectAndStart(a, "worker-a")
      let told = 0
      a.store.onPossibleTakeover?.(() => void told++)
      yield* rows(options.schema, `UPDATE nodes SET steady_since = NULL WHERE id = ${nodeOf(a)}`)
      assert.strictEqual(yield* a.refused(job, done("charge:0"), complete()), "LEASE_LOST")
      assert.strictEqual(told, 1)
      assert.isFalse(yield* isDead(options.schema, nodeOf(a)), "the node is alive again")
      const again = yield* a.claimOne({ worker: "worker-a" })
      yield* b.emit("order.placed")
      yield* a.report(again, done("charge:0"), complete())
      assert.strictEqual(told, 1)
      assert.deepStrictEqual(
        logged.filter((line) => line.includes("have declared this engine dead")),
        [
          "Warn Other engines have declared this engine dead and taken over its work, because it was frozen or cut off from Postgres for too long. This engine is back, has given up the turns that it had, and takes new turns"
        ]
      )
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  live("gives up its leases before the others take them when it is disconnected", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const proxy = yield* Effect.acquireRelease(
        Effect.promise(() => startProxy(options.url)),
        ({ close }) => Effect.promise(close)
      )
      const realClock = yield* Clock.Clock
      let passedMs = 0
      const clock = clockLike(realClock, { wallMs: () => 0, monotonicMs: () => passedMs })
      const open = openNode({ ...options, url: proxy.url })
      const a = new Shop(yield* Effect.provideService(open, Clock.Clock, clock))
      const b = new Shop(yield* openNode(options))
      let told = 0
      a.store.onPossibleTakeover?.(() => void told++)
      yield* a.register(handles("charge"))
      // wait until they know of each other
      yield* until(Effect.map(b.emit("order.paid"), () => a.lastChanges?.isFromOtherEngine === true))
      yield* Effect.promise(proxy.close)
      assert.strictEqual(told, 0)
      passedMs = 13_100
      yield* until(Effect.sync(() => told > 0))
      assert.isFalse(yield* isDead(options.schema, nodeOf(a)), "no node has declared it dead yet")
    })
  )

  live("blocks no other node: its transaction is ended when it holds the lock and sends nothing", () =>
    Effect.gen(function* () {
      const { b, options } = yield* twoWithCut
      const frozen = new pg.Client({ connectionString: options.url })
      const ended = new Promise<string>((resolve) => frozen.on("error", ({ message }) => resolve(message)))
      yield* Effect.promise(async () => {
        await frozen.connect()
        await frozen.query(`SET search_path = ${options.schema}`)
        await frozen.query(
          `INSERT INTO nodes (name, pid, started_at, last_seen, steady_since)
            SELECT 'frozen', pg_backend_pid(), last_seen, last_seen - 5000, last_seen - 5000 FROM nodes LIMIT 1`
        )
        await frozen.query("BEGIN")
        await frozen.query("UPDATE engine SET sequence = sequence + 1")
      })
      yield* b.emit("order.placed")
      assert.include(
        yield* Effect.promise(() => ended),
        "terminating connection due to administrator command"
      )
    })
  )

  live(
    "that got no answer to a commit finds out whether it was made, whatever others have committed since",
    () =>
      Effect.gen(function* () {
        const { a, b, options, proxy } = yield* twoWithCut
        for (const cut of [proxy.cutAfterCommit, proxy.cutBeforeCommit]) {
          cut()
          yield* Effect.all([a.emit("order.paid"), ...[1, 2, 3, 4].map(() => b.emit("order.paid"))], {
            concurrency: "unbounded"
          })
        }
        const [events] = yield* rows(options.schema, "SELECT count(*) AS n FROM events")
        assert.strictEqual(Number(events?.n), 10)
      })
  )
})

/** A clock that differs from another by `off`, which may change. */
const clockLike = (
  own: Clock.Clock,
  off: { readonly wallMs: () => number; readonly monotonicMs: () => number }
): Clock.Clock => ({
  currentTimeMillisUnsafe: () => own.currentTimeMillisUnsafe() + off.wallMs(),
  currentTimeMillis: Effect.map(own.currentTimeMillis, (now) => now + off.wallMs()),
  currentTimeNanosUnsafe: () => own.currentTimeNanosUnsafe(),
  currentTimeNanos: own.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => own.monotonicTimeNanosUnsafe() + BigInt(off.monotonicMs()) * 1_000_000n,
  monotonicTimeNanos: Effect.map(
    own.monotonicTimeNanos,
    (now) => now + BigInt(off.monotonicMs()) * 1_000_000n
  ),
  sleep: (duration) => own.sleep(duration)
})

describe("nodes with different clocks", () => {
  live("use the clock of the server: nothing is due early or late, and no lease expires early", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const realClock = yield* Clock.Clock
      const shifted = (ms: number) => clockLike(realClock, { wallMs: () => ms, monotonicMs: () => 0 })
      const open = (ms: number) =>
        Effect.map(
          Effect.provideService(openNode(options), Clock.Clock, shifted(ms)),
          (store) => new Shop(store)
        )
      const ahead = yield* open(600_000)
      const behind = yield* open(-600_000)
      yield* ahead.register(handles("charge"))
      yield* behind.register(handles("charge"))
      const held = yield* behind.start("order.placed", {}, { leaseMs: 60_000 })
      yield* ahead.fire()
      yield* behind.report(held, sleep("rest:0", 60_000), suspend("rest:0"))
      assert.strictEqual(yield* ahead.fire(), 0, "it still sleeps for a minute")
      const short = yield* ahead.start()
      yield* ahead.report(short, sleep("rest:0", 1), suspend("rest:0"))
      yield* until(Effect.map(behind.fire(), (count) => count > 0))
      const clock = ahead.store.clock ?? assert.fail("it has the clock of the server")
      const [server] = yield* rows(undefined, "SELECT extract(epoch FROM clock_timestamp()) * 1000 AS now")
      assert.isBelow(Math.abs(Number(server?.now) - clock.currentTimeMillisUnsafe()), 10_000)
    })
  )
})

describe("a schedule", () => {
  live("fires once across all nodes, also at a node that did not know its function", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* twoShops
      yield* a.register(
        handles("bill", { on: [], triggers: [{ event: "month.ended", cron: "0 0 1 * *", timezone: "UTC" }] })
      )
      yield* rows(options.schema, "UPDATE schedules SET next_at = 1000")
      yield* Effect.all([b.fire(), a.fire(), b.fire()], { concurrency: "unbounded" })
      const fired = yield* rows(options.schema, "SELECT id FROM events WHERE source = 'cron'")
      assert.lengthOf(fired, 1)
      assert.lengthOf(yield* rows(options.schema, "SELECT id FROM runs"), 1)
    })
  )
})

describe("the audit", () => {
  live("reads the steps of a run in one order, wherever its rows are and whatever the plan is", () =>
    Effect.gen(function* () {
      const { a, b, options } = yield* twoShops
      yield* a.register(handles("charge"))
      const job = yield* a.start()
      const steps = ["charge:0", "settle:0", "child:0", "ship:0"]
      yield* a.report(job, ...steps.map((step) => done(step)), complete())
      const checked = (shop: Shop) =>
        Effect.map(
          shop.store.read(GuaranteeRows.checkRuns({ after: 0, limit: 10, keepMs: 1000 })),
          ({ checkedRuns = [] }) => checkedRuns.map(({ end, id, steps }) => ({ id, end, steps: [...steps] }))
        )
      const before = yield* checked(a)
      assert.lengthOf(before[0]?.steps ?? [], 4)
      // the row moves unchanged to another place, and without the index Postgres uses another plan
      yield* rows(options.schema, "UPDATE steps SET value = value WHERE step_key = 'charge:0'")
      yield* rows(options.schema, "ALTER TABLE steps DROP CONSTRAINT steps_pkey")
      assert.deepStrictEqual(yield* checked(a), before)
      assert.deepStrictEqual(yield* checked(b), before)
    })
  )
})
