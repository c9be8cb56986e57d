/** Runs that an engine claimed before it froze, and that had not yet reached their workers. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import pg from "pg"
import { createDeferred } from "../../../src/Deferred.ts"
import { createFunction } from "../../../src/index.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import type { Job } from "../../../src/Protocol/Worker.ts"
import { toRegistration } from "../../../src/Protocol/Registration.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { type Node, openNode, until } from "./Cluster.ts"

const LEASE_MS = 60_000

/** A clock that the test moves on, as if the process had been frozen. */
const freezableClock = Effect.map(Clock.Clock, (realClock) => {
  let passedMs = 0
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => realClock.currentTimeMillisUnsafe() + passedMs,
    currentTimeMillis: Effect.map(realClock.currentTimeMillis, (now) => now + passedMs),
    currentTimeNanosUnsafe: () => realClock.currentTimeNanosUnsafe(),
    currentTimeNanos: realClock.currentTimeNanos,
    monotonicTimeNanosUnsafe: () => realClock.monotonicTimeNanosUnsafe() + BigInt(passedMs) * 1_000_000n,
    monotonicTimeNanos: Effect.map(
      realClock.monotonicTimeNanos,
      (now) => now + BigInt(passedMs) * 1_000_000n
    ),
    sleep: (duration) => realClock.sleep(duration)
  }
  return { clock, freeze: (ms: number) => Effect.sync(() => void (passedMs += ms)) }
})

/** Makes all writers wait until `end`. */
const blockWriters = ({ schema, url }: PostgresOptions) =>
  Effect.gen(function* () {
    const client = new pg.Client({ connectionString: url })
    yield* Effect.acquireRelease(
      Effect.promise(async () => {
        await client.connect()
        await client.query("BEGIN")
        await client.query(`SELECT sequence FROM ${schema}.engine FOR UPDATE`)
      }),
      () => Effect.promise(() => client.end())
    )
    return {
      isWaitedFor: Effect.promise(async () => {
        const { rows } = await client.query(
          "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('tuple', 'transactionid')"
        )
        return rows.length > 0
      }),
      end: Effect.promise(() => client.query("ROLLBACK"))
    }
  })

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

const charge = createFunction({ id: "charge", triggers: [{ event: "order.placed" }] }, async () => "charged")

const connect = (node: Node, workerId: string, jobs: Array<Job>) =>
  node.engine.workers.connectRemote(
    {
      workerId,
      environment: "default",
      hostname: "here",
      functions: [toRegistration(charge)],
      maxConcurrentJobs: 1,
      labels: {},
      version: { sdk: "test", runtime: "test" }
    },
    { onJob: (job) => void jobs.push(job), onNotice: () => undefined },
    { leaseMs: LEASE_MS, transport: "polling", instance: workerId }
  )

/** An engine with a worker, whose clock the test can move on, and another engine. */
const twoNodes = Effect.gen(function* () {
  const options = yield* takeSchema
  const { clock, freeze } = yield* freezableClock
  const a = yield* Effect.provideService(openNode(options), Clock.Clock, clock)
  const b = yield* openNode(options)
  const jobs: Array<Job> = []
  const worker = yield* connect(a, "slow", jobs)
  return { a, b, jobs, options, freeze, worker }
})

const lossesOf = (schema: string | undefined) =>
  Effect.map(
    Effect.promise(() => runSql("SELECT losses, attempt FROM runs", schema)),
    (rows) => rows.map(({ attempt, losses }) => [Number(attempt), Number(losses)])
  )

describe("a claim that was in flight while its engine was frozen", () => {
  live("is given back when it was about to reach the worker, which does not count as an attempt", () =>
    Effect.gen(function* () {
      const { b, jobs, options, freeze, worker } = yield* twoNodes
      yield* b.client.emit("order.placed", {})
      const held = yield* blockWriters(options)
      worker.makeRoom(1)
      yield* until(held.isWaitedFor, (isWaiting) => isWaiting)
      yield* freeze(LEASE_MS / 2)
      // the worker still has room, so the run is claimed again and arrives at once
      yield* held.end
      yield* until(
        Effect.sync(() => jobs.length),
        (count) => count === 1
      )
      assert.strictEqual(jobs[0]?.attempt, 1)
      assert.deepStrictEqual(yield* lossesOf(options.schema), [[1, 0]])
    })
  )

  live("is given back when a polling worker had asked for it, and another engine dispatches it", () =>
    Effect.gen(function* () {
      const { b, options, freeze, worker } = yield* twoNodes
      yield* b.client.emit("order.placed", {})
      const held = yield* blockWriters(options)
      const polled = yield* Effect.forkScoped(worker.take(1))
      yield* until(held.isWaitedFor, (isWaiting) => isWaiting)
      yield* freeze(LEASE_MS / 2)
      yield* held.end
      assert.deepStrictEqual(yield* Fiber.join(polled), [])

      const jobs: Array<Job> = []
      const other = yield* connect(b, "quick", jobs)
      other.makeRoom(1)
      yield* until(
        Effect.sync(() => jobs.length),
        (count) => count === 1
      )
      assert.deepStrictEqual(yield* lossesOf(options.schema), [[1, 0]])
    })
  )
})

describe("a turn in the process of an engine that was frozen", () => {
  live("begins no step before the engine knows that it still has the run", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const { clock, freeze } = yield* freezableClock
      const a = yield* Effect.provideService(openNode(options), Clock.Clock, clock)
      const b = yield* openNode(options)
      const arrived = createDeferred<void>()
      const mayContinue = createDeferred<void>()
      let turns = 0
      let charges = 0
      const slow = createFunction({ id: "slow", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
        turns++
        arrived.resolve()
        await mayContinue.promise
        return step.run("charge", () => ++charges)
      })
      yield* a.work([slow])
      const { runIds } = yield* a.client.emit("order.placed", {})
      yield* Effect.promise(() => arrived.promise)

      // another engine has declared this one dead
      yield* freeze(20_000)
      yield* Effect.promise(() =>
        // the row of the engine that started first
        runSql("UPDATE nodes SET steady_since = NULL WHERE id = (SELECT min(id) FROM nodes)", options.schema)
      )
      mayContinue.resolve()

      assert.strictEqual((yield* b.client.waitForRun(runIds[0] ?? "")).output, 1)
      assert.deepStrictEqual([turns, charges], [2, 1])
    })
  )
})
