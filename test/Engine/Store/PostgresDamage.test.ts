/** Damaged rows and pages on Postgres: reading them is an error, and everything else works. Files behave the same. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { closeSync, openSync, writeSync } from "node:fs"
import { join } from "node:path"
import { explain } from "../../../src/Engine/Runs/Explain.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import * as RunInspection from "../../../src/Engine/Runs/RunInspection.ts"
import * as RunList from "../../../src/Engine/Runs/RunList.ts"
import * as RunControl from "../../../src/Engine/Runs/RunControl.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { withLog } from "./OnFile.ts"
import { complete, done, environment, failure, handles, Shop } from "./suite/Shop.ts"

const visit = <A, E>(options: PostgresOptions, body: (shop: Shop) => Effect.Effect<A, E>) =>
  Effect.scoped(
    Effect.flatMap(PostgresStore.make({ poolSize: 3, ...options }), (store) => body(new Shop(store)))
  )

const start = (shop: Shop, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    (n) => Effect.map(shop.emit("order.placed", { n }), ({ runIds }) => runIds[0]!),
    { concurrency: "unbounded" }
  )

/** Three runs with equal progress. The SQL damages the second one. */
const three = <A, E>(
  reach: (shop: Shop) => Effect.Effect<A, E>,
  sql: (runId: string) => string,
  body: (
    shop: Shop,
    ids: ReadonlyArray<string>,
    logged: ReadonlyArray<string>
  ) => Effect.Effect<void, unknown>
) =>
  withLog((logged) =>
    Effect.scoped(
      Effect.gen(function* () {
        const options = yield* takeSchema
        const ids = yield* visit(options, (shop) =>
          Effect.gen(function* () {
            yield* shop.register(handles("charge"))
            const ids = yield* start(shop, 3)
            yield* reach(shop)
            return ids
          })
        )
        yield* Effect.promise(() => runSql(sql(ids[1]!), options.schema))
        yield* visit(options, (shop) => body(shop, ids, logged))
      })
    )
  )

const ofRun = (runId: string) => `run = (SELECT key FROM runs WHERE id = '${runId}')`

const failOnce = (shop: Shop) =>
  Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
    Effect.forEach(jobs, (job) => shop.report(job, done("charge:0", failure("declined"))))
  )

describe("a run on Postgres whose rows are damaged", () => {
  it.live("degrades the health of the engine when only the worker notices it", () =>
    Effect.scoped(
      Effect.flatMap(takeSchema, (options) =>
        visit(options, (shop) =>
          Effect.gen(function* () {
            yield* shop.register(handles("charge"))
            const reportPause = (code: "NONDETERMINISM" | "STORE_CORRUPT") =>
              Effect.flatMap(shop.start(), (job) =>
                shop.report(job, { _tag: "Pause", code, message: "The handler cannot continue." })
              )
            yield* reportPause("NONDETERMINISM")
            assert.strictEqual(shop.store.health().status, "ok")
            yield* reportPause("STORE_CORRUPT")
            assert.strictEqual(shop.store.health().status, "degraded")
          })
        )
      )
    )
  )

  it.live(
    "because a stored error is not JSON, does not prevent claims of other runs, and continues once it is patched",
    () =>
      three(
        failOnce,
        (runId) => `UPDATE steps SET value = '{"message' WHERE ${ofRun(runId)}`,
        (shop, ids, logged) =>
          Effect.gen(function* () {
            const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })
            assert.sameMembers(
              jobs.map(({ runId }) => runId),
              [ids[0]!, ids[2]!]
            )
            const error = yield* Effect.flip(RunInspection.getRunSteps(shop.store, environment, ids[1]!))
            assert.strictEqual(error.code, "STORE_CORRUPT")
            assert.include(error.message, `Cannot read the steps of run ${ids[1]}`)
            assert.strictEqual(shop.store.health().status, "degraded")
            assert.deepInclude(explain(yield* shop.situation(ids[1]!), [], 0), { code: "DAMAGED" })
            assert.lengthOf(
              logged.filter((line) =>
                line.startsWith(`Run ${ids[1]} is damaged in the database and is skipped`)
              ),
              1
            )
            yield* shop.store.write(RunControl.patchStep(environment, `${ids[1]}:charge:0`, '"by hand"', ""))
            const [job] = yield* shop.claim({ functions: ["charge"], room: 10 })
            assert.strictEqual(job?.runId, ids[1])
            yield* shop.report(job!, complete())
          })
      )
  )

  it.live("is marked in lists when its output is not JSON", () =>
    three(
      (shop) =>
        Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
          Effect.forEach(jobs, (job) => shop.report(job, complete("ok")))
        ),
      (runId) => `UPDATE runs SET output = 'nothing' WHERE id = '${runId}'`,
      (shop, ids) =>
        Effect.gen(function* () {
          const { damaged = [], runs } = yield* RunList.listRuns(shop.store, { environment, limit: 1000 })
          assert.deepStrictEqual(
            runs.map(({ id }) => id),
            [ids[2], ids[0]]
          )
          assert.deepStrictEqual(
            damaged.map(({ id }) => id),
            [ids[1]]
          )
          assert.strictEqual((yield* Effect.flip(shop.run(ids[1]!))).code, "STORE_CORRUPT")
        })
    )
  )

  it.live("is skipped when its status is unknown", () =>
    three(
      () => Effect.void,
      (runId) => `UPDATE runs SET status = 99 WHERE id = '${runId}'`,
      (shop, ids, logged) =>
        Effect.gen(function* () {
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })
          assert.sameMembers(
            jobs.map(({ runId }) => runId),
            [ids[0]!, ids[2]!]
          )
          assert.include(
            logged.join("\n"),
            `Run ${ids[1]} is in no status that exists and cannot be handed out.`
          )
        })
    )
  )

  it.live("is skipped when its event is gone", () =>
    three(
      () => Effect.void,
      (runId) => `DELETE FROM events WHERE position = (SELECT event FROM runs WHERE id = '${runId}')`,
      (shop, ids) =>
        Effect.gen(function* () {
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })
          assert.sameMembers(
            jobs.map(({ runId }) => runId),
            [ids[0]!, ids[2]!]
          )
        })
    )
  )
})

/** Overwrites a page of a table on the disk, and makes Postgres drop its cached copy. */
const damagePage = async (schema: string, table: string, page: number): Promise<void> => {
  const [where] = await runSql(
    `SELECT current_setting('data_directory') AS folder, pg_relation_filepath('${schema}.${table}') AS file`
  )
  await runSql("CREATE EXTENSION IF NOT EXISTS pg_buffercache SCHEMA public")
  await runSql("CHECKPOINT")
  const file = openSync(join(String(where?.folder), String(where?.file)), "r+")
  writeSync(file, Buffer.alloc(8192, 0xa5), 0, 8192, page * 8192)
  closeSync(file)
  await runSql(`SELECT pg_buffercache_evict_relation('${schema}.${table}')`)
}

// the test overwrites files of Postgres, so the server must run on this machine
describe.skipIf((process.env.IRONFLOW_TEST_DATABASE_URL ?? "") !== "")("a damaged page on Postgres", () => {
  it.live("affects the runs on it and no others", () =>
    withLog((logged) =>
      Effect.scoped(
        Effect.gen(function* () {
          const options = yield* takeSchema
          // no other test may use a table with a damaged page
          yield* Effect.addFinalizer(() =>
            Effect.promise(() => runSql(`DROP SCHEMA ${options.schema} CASCADE`))
          )
          const ids = yield* visit(options, (shop) =>
            Effect.gen(function* () {
              yield* shop.register(handles("charge"))
              const ids = yield* start(shop, 40)
              const jobs = yield* shop.claim({ functions: ["charge"], room: 40 })
              yield* Effect.forEach(
                jobs,
                (job) => shop.report(job, done("charge:0", failure("declined ".repeat(80)))),
                {
                  concurrency: "unbounded"
                }
              )
              return ids
            })
          )
          // the table may have been used before, so that its rows are anywhere
          const [{ page } = {}] = yield* Effect.promise(() =>
            runSql(
              `SELECT page FROM (SELECT (ctid::text::point)[0]::int AS page FROM steps) AS p
                GROUP BY page HAVING count(*) BETWEEN 3 AND 15 ORDER BY count(*) DESC LIMIT 1`,
              options.schema
            )
          )
          yield* Effect.promise(() => damagePage(options.schema ?? "", "steps", Number(page)))
          yield* visit(options, (shop) =>
            Effect.gen(function* () {
              // an engine that could not say on a busy machine that it has closed keeps its turns until it counts as gone
              const jobs = yield* Effect.timeout(
                Effect.repeat(shop.claim({ functions: ["charge"], room: 1000 }), {
                  until: ({ length }) => length > 0,
                  schedule: Schedule.spaced("50 millis")
                }),
                "40 seconds"
              )
              const left = ids.filter((id) => !jobs.some(({ runId }) => runId === id))
              assert.isAbove(left.length, 2, logged.join("\n"))
              assert.isBelow(left.length, 20, logged.join("\n"))
              assert.strictEqual(shop.store.health().status, "degraded")
              const error = yield* Effect.flip(
                RunInspection.getRunSteps(shop.store, environment, left[0] ?? "")
              )
              assert.strictEqual(error.code, "STORE_CORRUPT")
              assert.include(error.message, "restore the database from a backup")
              assert.lengthOf(
                logged.filter((line) => line.includes("is skipped")),
                left.length
              )
              const job = yield* shop.start("order.placed", {}, { functions: ["charge"] })
              yield* shop.report(job, complete())
              assert.strictEqual(yield* shop.status(job.runId), "completed")
            })
          )
        })
      )
    )
  )
})
