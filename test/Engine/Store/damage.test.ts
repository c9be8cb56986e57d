/** A partly damaged database: reading damaged data is an error, and everything else works. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { explain } from "../../../src/Engine/Runs/Explain.ts"
import { yieldToEventLoop } from "../../../src/Engine/Yielding.ts"
import type { Job, TurnOp } from "../../../src/Protocol/Worker.ts"
import * as SqliteStore from "../../../src/Engine/SqliteStore.ts"
import { change, overwritePagesWith } from "./Damaged.ts"
import { newFile, visit, withLog } from "./OnFile.ts"
import {
  complete,
  done,
  environment,
  failure,
  handles,
  invoke,
  type Shop,
  sleep,
  success,
  suspend,
  waitFor
} from "./suite/Shop.ts"
import * as RunRetention from "../../../src/Engine/Runs/RunRetention.ts"
import * as ExtendLeases from "../../../src/Engine/Turns/ExtendLeases.ts"
import * as LostLeases from "../../../src/Engine/Turns/LostLeases.ts"
import * as RunList from "../../../src/Engine/Runs/RunList.ts"
import * as FireDue from "../../../src/Engine/Schedules/FireDue.ts"
import * as RunInspection from "../../../src/Engine/Runs/RunInspection.ts"
import * as RunControl from "../../../src/Engine/Runs/RunControl.ts"
import * as Forking from "../../../src/Engine/Runs/Forking.ts"
import * as Reports from "../../../src/Engine/Turns/Reports.ts"

/** Starts `count` runs and returns their ids. */
const startMany = (shop: Shop, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => n),
    (n) => Effect.map(shop.emit("order.placed", { n }), ({ runIds }) => runIds[0]!),
    { concurrency: "unbounded" }
  )

/** Sends the same report for many runs, in few commits. */
const reportAll = (shop: Shop, jobs: ReadonlyArray<Job>, ...ops: ReadonlyArray<TurnOp>) =>
  Effect.forEach(jobs, (job) => shop.report(job, ...ops), { concurrency: "unbounded" })

const all = { environment, limit: 1000 }

it.effect("a run with an impossible status is skipped, and keeps that status", () =>
  withLog((logged) =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.andThen(shop.register(handles("charge")), startMany(shop, 3))
      )
      change(filename, `UPDATE runs SET status = 5 WHERE id = '${ids[0]}'`)
      change(filename, `UPDATE runs SET status = 99 WHERE id = '${ids[1]}'`)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })

          assert.deepStrictEqual(
            jobs.map(({ runId }) => runId),
            [ids[2]!]
          )
          assert.strictEqual(yield* shop.status(ids[0]!), "completed")
          const log = logged.join("\n")
          assert.include(log, `Run ${ids[0]} is completed and cannot be handed out. Nothing was written.`)
          assert.include(log, `Run ${ids[1]} is in no status that exists and cannot be handed out.`)
        })
      )
    })
  )
)

describe("runs on a damaged page", () => {
  it.effect("give readers an error, are marked in lists, and do not prevent claims of other runs", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const ids = yield* visit(filename, (shop) =>
          Effect.andThen(shop.register(handles("charge")), startMany(shop, 900))
        )
        overwritePagesWith(filename, "runs", ids[100]!)

        yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            const error = yield* Effect.flip(shop.run(ids[100]!))
            // what was read is remembered until the next turn of the event loop
            yield* yieldToEventLoop
            const { damaged = [], runs, totalCount } = yield* RunList.listRuns(shop.store, all)
            const jobs = yield* shop.claim({ functions: ["charge"], room: 5000 })
            yield* reportAll(shop, jobs, done("charge:0"), complete())

            assert.strictEqual(error.code, "STORE_CORRUPT")
            assert.include(error.message, ids[100]!)
            const lost = damaged.map(({ id }) => id)
            assert.include(lost, ids[100])
            assert.isBelow(lost.length, 100)
            assert.match(damaged[0]!.message, /damaged.*restore it from a backup/)
            assert.sameMembers([...runs.map(({ id }) => id), ...lost], ids)
            assert.strictEqual(totalCount, 900)
            // SQLite must rebalance the pages beside a damaged one when it writes, so the runs on them cannot be written either
            const unwritableCount = logged.filter((line) =>
              / is skipped.* cannot be written/.test(line)
            ).length
            assert.isBelow(unwritableCount, 300)
            assert.lengthOf(jobs, 900 - lost.length - unwritableCount)
            assert.strictEqual(yield* shop.status(ids[899]!), "completed")
            // other runs can be started and executed
            yield* shop.start("order.placed", {}, { functions: ["charge"] })
            assert.deepStrictEqual(yield* shop.claim({ functions: ["charge"], room: 1000 }), [])
            assert.strictEqual(shop.store.health().status, "degraded")
            for (const id of lost) {
              assert.lengthOf(
                logged.filter((line) => line.startsWith(`Run ${id} is damaged`)),
                1
              )
            }
          })
        )
      })
    )
  )

  it.effect("are listed page by page like the others", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.andThen(shop.register(handles("charge")), startMany(shop, 200))
      )
      overwritePagesWith(filename, "runs", ids[3]!, ids[120]!)

      yield* visit(filename, ({ store }) =>
        Effect.gen(function* () {
          const seen: Array<string> = []
          let cursor: string | undefined
          do {
            const page = yield* RunList.listRuns(store, {
              environment,
              limit: 7,
              ...(cursor === undefined ? {} : { cursor })
            })
            const both = [...page.runs, ...(page.damaged ?? [])]
            assert.isAtMost(both.length, 7)
            seen.push(...both.map(({ id }) => id))
            cursor = page.nextCursor
          } while (cursor !== undefined)

          assert.lengthOf(seen, 200)
          assert.sameMembers(seen, ids)
        })
      )
    })
  )

  it.effect("do not prevent the engine from opening", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          const ids = yield* startMany(shop, 900)
          yield* shop.claim({ functions: ["charge"], room: 450 })
          yield* shop.claim({ functions: ["charge"], room: 450, worker: "far", leaseMs: 1000 })
          return ids
        })
      )
      overwritePagesWith(filename, "runs", ids[50]!, ids[750]!)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const { damaged = [] } = yield* RunList.listRuns(shop.store, all)
          const here = yield* shop.claim({ functions: ["charge"], room: 1000 })
          yield* shop.pass(1000)
          const there = yield* shop.claim({ functions: ["charge"], room: 1000 })

          const lost = new Set(damaged.map(({ id }) => id))
          assert.isAbove(lost.size, 0)
          assert.isAbove(here.length, 100)
          assert.isAbove(there.length, 100)
          assert.isFalse([...here, ...there].some(({ runId }) => lost.has(runId)))
          // no work remains that would be due again and again
          assert.strictEqual((yield* FireDue.fireDue(shop.store)).nextDueAt, Number.POSITIVE_INFINITY)
        })
      )
    })
  )

  it.effect("stay when old runs are deleted", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          const ids = yield* startMany(shop, 900)
          yield* reportAll(shop, yield* shop.claim({ functions: ["charge"], room: 899 }), complete())
          return ids
        })
      )
      overwritePagesWith(filename, "runs", ids[50]!)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const { damaged = [] } = yield* RunList.listRuns(shop.store, all)
          yield* shop.pass(1000)
          const { deleted } = yield* shop.store.write(RunRetention.deleteEndedRuns(500, 1000))

          assert.isAbove(damaged.length, 0)
          // the runs on the pages beside them stay too: SQLite cannot write there
          assert.isAbove(deleted, 600)
          assert.sameMembers(
            (yield* RunList.listRuns(shop.store, all)).damaged!.map(({ id }) => id),
            damaged.map(({ id }) => id)
          )
        })
      )
    })
  )
})

/** Three runs with equal progress. The SQL damages the second one. */
const three = <A, E>(
  reach: (shop: Shop) => Effect.Effect<A, E>,
  sql: (runId: string) => string,
  body: (shop: Shop, ids: ReadonlyArray<string>) => Effect.Effect<void, unknown>
) =>
  Effect.gen(function* () {
    const filename = yield* newFile
    const ids = yield* visit(filename, (shop) =>
      Effect.gen(function* () {
        yield* shop.register(handles("charge"))
        const ids = yield* startMany(shop, 3)
        yield* reach(shop)
        return ids
      })
    )
    change(filename, sql(ids[1]!))
    yield* visit(filename, (shop) => body(shop, ids))
  })

const ofRun = (runId: string) => `run = (SELECT key FROM runs WHERE id = '${runId}')`

describe("a run whose rows are damaged", () => {
  it.effect("degrades the health of the engine when only the worker notices it", () =>
    Effect.flatMap(newFile, (filename) =>
      visit(filename, (shop) =>
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

  it.effect("because a stored error is not JSON, does not prevent claims of other runs", () =>
    three(
      (shop) =>
        Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
          Effect.forEach(jobs, (job) => shop.report(job, done("charge:0", failure("declined"))))
        ),
      (runId) => `UPDATE steps SET value = '{"message' WHERE ${ofRun(runId)}`,
      (shop, ids) =>
        Effect.gen(function* () {
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })
          const error = yield* Effect.flip(RunInspection.getRunSteps(shop.store, environment, ids[1]!))

          assert.sameMembers(
            jobs.map(({ runId }) => runId),
            [ids[0]!, ids[2]!]
          )
          assert.strictEqual(error.code, "STORE_CORRUPT")
          assert.include(error.message, `Cannot read the steps of run ${ids[1]}`)
          assert.strictEqual(shop.store.health().status, "degraded")
        })
    )
  )

  it.effect("continues once the damaged step is patched", () =>
    three(
      (shop) =>
        Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
          Effect.forEach(jobs, (job) => shop.report(job, done("charge:0", failure("declined"))))
        ),
      (runId) => `UPDATE steps SET value = 'nothing' WHERE ${ofRun(runId)}`,
      (shop, ids) =>
        Effect.gen(function* () {
          yield* shop.claim({ functions: ["charge"], room: 10 })
          assert.deepInclude(explain(yield* shop.situation(ids[1]!), [], 0), { code: "DAMAGED" })
          yield* shop.store.write(RunControl.patchStep(environment, `${ids[1]}:charge:0`, '"by hand"', ""))
          const [job] = yield* shop.claim({ functions: ["charge"], room: 10 })

          assert.strictEqual(job?.runId, ids[1])
          yield* shop.report(job!, complete())
        })
    )
  )

  it.effect("is marked in lists when its output is not JSON", () =>
    three(
      (shop) =>
        Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
          Effect.forEach(jobs, (job) => shop.report(job, complete("ok")))
        ),
      (runId) => `UPDATE runs SET output = 'nothing' WHERE id = '${runId}'`,
      (shop, ids) =>
        Effect.gen(function* () {
          const { damaged = [], runs, totalCount } = yield* RunList.listRuns(shop.store, all)

          assert.deepStrictEqual(
            runs.map(({ id }) => id),
            [ids[2], ids[0]]
          )
          assert.deepStrictEqual(
            damaged.map(({ id }) => id),
            [ids[1]]
          )
          assert.strictEqual(totalCount, 3)
          assert.strictEqual((yield* Effect.flip(shop.run(ids[1]!))).code, "STORE_CORRUPT")
        })
    )
  )

  it.effect("does not prevent other timers from firing", () =>
    three(
      (shop) =>
        Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
          Effect.forEach(jobs, (job) => shop.report(job, sleep("nap:0", 1000), suspend("nap:0")))
        ),
      // its row in `runs` says that it is paused, and not why
      (runId) => `UPDATE runs SET status = 4, pause = '{', lease = 'x' WHERE id = '${runId}';
                  UPDATE waits SET fired = 1, kind = 5, step_key = '', failed = 1, value = '{' WHERE ${ofRun(runId)}`,
      (shop, ids) =>
        Effect.gen(function* () {
          yield* shop.pass(1000)
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })

          assert.includeMembers(
            jobs.map(({ runId }) => runId),
            [ids[0]!, ids[2]!]
          )
          assert.isAbove((yield* FireDue.fireDue(shop.store)).nextDueAt, 1000)
        })
    )
  )

  it.effect("does not affect others that are reported with it", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const jobs = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* startMany(shop, 3)
          return yield* shop.claim({ functions: ["charge"], room: 3, leaseMs: 60_000 })
        })
      )
      change(filename, `UPDATE runs SET pause = '{' WHERE id = '${jobs[1]!.runId}'`)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const acks = yield* Reports.applyReports(
            shop.store,
            "default",
            jobs.map(({ jobId, runId }) => ({ jobId, runId, ops: [suspend()] }))
          )

          assert.deepStrictEqual(
            acks.map(({ _tag }) => _tag),
            ["Accepted", "Refused", "Accepted"]
          )
          assert.include(JSON.stringify(acks[1]), "the database is damaged")
        })
      )
    })
  )

  it.effect("does not affect others when none of its steps can be written", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const marker = "m".repeat(300)
        const jobs = yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            yield* shop.register(handles("charge"))
            yield* startMany(shop, 100)
            const jobs = yield* shop.claim({ functions: ["charge"], room: 100, leaseMs: 60_000 })
            yield* Effect.forEach(jobs, (job, n) =>
              shop.report(job, done("charge:0", success(`${marker}-${n}-`)))
            )
            return jobs
          })
        )
        overwritePagesWith(filename, "steps", `${marker}-50-`)

        yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            const acks = yield* Reports.applyReports(
              shop.store,
              "default",
              jobs.map(({ jobId, runId }) => ({ jobId, runId, ops: [done("ship:0"), complete()] }))
            )
            const refused = jobs.filter((_, n) => acks[n]!._tag === "Refused")

            assert.include(
              refused.map(({ runId }) => runId),
              jobs[50]!.runId
            )
            assert.isBelow(refused.length, 40)
            assert.include(JSON.stringify(acks[50]), "LEASE_LOST")
            assert.include(JSON.stringify(acks[50]), "the database is damaged")
            assert.strictEqual(yield* shop.status(jobs[0]!.runId), "completed")
            assert.deepInclude(explain(yield* shop.situation(jobs[50]!.runId), [], 0), { code: "DAMAGED" })
            assert.strictEqual(shop.store.health().status, "degraded")
            for (const { runId } of refused) {
              assert.lengthOf(
                logged.filter((line) => line.startsWith(`Run ${runId} is damaged`)),
                1
              )
            }
          })
        )
      })
    )
  )

  it.effect("does not affect others when its id cannot be looked up", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const jobs = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* startMany(shop, 900)
          return yield* shop.claim({ functions: ["charge"], room: 900, leaseMs: 60_000 })
        })
      )
      overwritePagesWith(filename, "sqlite_autoindex_runs_1", jobs[100]!.runId)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const reportedJobs = [jobs[100]!, jobs[800]!, jobs[850]!]
          const acks = yield* Reports.applyReports(
            shop.store,
            "default",
            reportedJobs.map(({ jobId, runId }) => ({ jobId, runId, ops: [done("charge:0"), suspend()] }))
          )

          assert.deepStrictEqual(
            acks.map(({ _tag }) => _tag),
            ["Refused", "Accepted", "Accepted"]
          )
          assert.include(JSON.stringify(acks[0]), "the database is damaged")
        })
      )
    })
  )

  it.effect("affects only itself when it is new and its first step falls on a damaged page", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* startMany(shop, 100)
          const jobs = yield* shop.claim({ functions: ["charge"], room: 100 })
          yield* Effect.forEach(jobs, (job, n) =>
            shop.report(job, done("charge:0", success(`${"m".repeat(300)}-${n}-`)), complete())
          )
        })
      )
      // rows that are written later go onto this page
      overwritePagesWith(filename, "steps", "-99-")

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* startMany(shop, 3)
          const jobs = yield* shop.claim({ functions: ["charge"], room: 3, leaseMs: 60_000 })
          const acks = yield* Reports.applyReports(
            shop.store,
            "default",
            jobs.map(({ jobId, runId }, n) => ({
              jobId,
              runId,
              ops: n === 1 ? [complete()] : [done("charge:0"), complete()]
            }))
          )

          assert.deepStrictEqual(
            acks.map(({ _tag }) => _tag),
            ["Refused", "Accepted", "Refused"]
          )
          assert.strictEqual(yield* shop.status(jobs[1]!.runId), "completed")
          for (const n of [0, 2]) {
            assert.deepInclude(explain(yield* shop.situation(jobs[n]!.runId), [], 0), { code: "DAMAGED" })
          }
          assert.deepStrictEqual(
            yield* shop.store.write(
              ExtendLeases.extendLeases(
                "default",
                jobs.map(({ jobId }) => jobId),
                60_000
              )
            ),
            jobs.map(({ jobId }) => jobId)
          )
        })
      )
    })
  )

  it.effect("does not count under the limit of its function", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const jobs = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge", { concurrency: { limit: 1 } }))
          yield* startMany(shop, 2)
          return yield* shop.claim({ functions: ["charge"], room: 2, leaseMs: 60_000 })
        })
      )
      assert.lengthOf(jobs, 1)
      change(filename, `UPDATE runs SET pause = '{' WHERE id = '${jobs[0]!.runId}'`)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const [{ jobId, runId }] = jobs as [Job]
          yield* Reports.applyReports(shop.store, "default", [{ jobId, runId, ops: [suspend()] }])

          assert.lengthOf(yield* shop.claim({ functions: ["charge"], room: 2 }), 1)
        })
      )
    })
  )

  it.effect("does not prevent a child that it waits for from ending", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"), handles("pack", { on: [] }))
          const ids = yield* startMany(shop, 1)
          const job = yield* shop.claimOne({ functions: ["charge"] })
          yield* shop.report(job, invoke("pack:0", "pack"), suspend("pack:0"))
          return ids
        })
      )
      // nothing can be added to the journal of the run
      change(
        filename,
        `CREATE TRIGGER broken BEFORE INSERT ON steps WHEN NEW.${ofRun(ids[0]!)} BEGIN SELECT RAISE(ABORT, 'broken'); END`
      )

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const child = yield* shop.claimOne({ functions: ["pack"] })
          yield* shop.report(child, complete())

          assert.strictEqual(yield* shop.status(child.runId), "completed")
          assert.deepInclude(explain(yield* shop.situation(ids[0]!), [], 0), { code: "DAMAGED" })
        })
      )
    })
  )

  it.effect("because its event is gone, is skipped and gets no invented event", () =>
    three(
      () => Effect.void,
      (runId) => `DELETE FROM events WHERE position = (SELECT event FROM runs WHERE id = '${runId}')`,
      (shop, ids) =>
        Effect.gen(function* () {
          const before = explain(yield* shop.situation(ids[1]!), [], 0)
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })
          const { damaged = [], runs } = yield* RunList.listRuns(shop.store, all)

          assert.deepInclude(before, { code: "DAMAGED" })
          assert.deepStrictEqual(
            jobs.map(({ runId }) => runId),
            [ids[0]!, ids[2]!]
          )
          assert.deepInclude(explain(yield* shop.situation(ids[1]!), [], 0), { code: "DAMAGED" })
          assert.strictEqual(shop.store.health().status, "degraded")
          assert.strictEqual((yield* Effect.flip(shop.run(ids[1]!))).code, "STORE_CORRUPT")
          assert.lengthOf(runs, 2)
          assert.deepStrictEqual(
            damaged.map(({ id }) => id),
            [ids[1]]
          )
        })
    )
  )

  it.effect("because its event is gone, satisfies no wait with an invented event", () =>
    three(
      (shop) =>
        Effect.flatMap(shop.claim({ functions: ["charge"], room: 3 }), (jobs) =>
          Effect.forEach(jobs, (job) =>
            shop.report(
              job,
              waitFor("paid:0", "order.paid", { match: "event.data.n != trigger.data.n" }),
              suspend("paid:0")
            )
          )
        ),
      (runId) => `DELETE FROM events WHERE position = (SELECT event FROM runs WHERE id = '${runId}')`,
      (shop, ids) =>
        Effect.gen(function* () {
          yield* shop.emit("order.paid", { n: 1000 })
          const jobs = yield* shop.claim({ functions: ["charge"], room: 10 })

          assert.sameMembers(
            jobs.map(({ runId }) => runId),
            [ids[0]!, ids[2]!]
          )
          assert.deepInclude(explain(yield* shop.situation(ids[1]!), [], 0), { code: "DAMAGED" })
        })
    )
  )

  it.effect("does not affect leases that are extended with its own", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const jobs = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* startMany(shop, 900)
          return yield* shop.claim({ functions: ["charge"], room: 900, leaseMs: 60_000 })
        })
      )
      overwritePagesWith(filename, "runs", jobs[100]!.runId)

      yield* visit(filename, ({ store }) =>
        Effect.gen(function* () {
          const ids = [jobs[100]!, jobs[800]!, jobs[850]!].map(({ jobId }) => jobId)
          const lostJobIds = yield* store.write(ExtendLeases.extendLeases("default", ids, 60_000))

          assert.deepStrictEqual(lostJobIds, [jobs[100]!.jobId])
        })
      )
    })
  )

  it.effect("does not affect leases of turns with a limit, or of turns that are taken back", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const jobs = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* startMany(shop, 900)
          return yield* shop.claim({ functions: ["charge"], room: 900, leaseMs: 60_000 })
        })
      )
      overwritePagesWith(filename, "runs", jobs[100]!.runId)

      yield* visit(filename, ({ store }) =>
        Effect.gen(function* () {
          const ids = [jobs[100]!, jobs[800]!, jobs[850]!].map(({ jobId }) => jobId)
          const holder = { turnLimits: new Map([["charge", 60_000]]) }
          for (let beat = 0; beat < 2; beat++) {
            assert.deepStrictEqual(
              yield* store.write(ExtendLeases.extendLeases("default", [...ids, "no-job"], 60_000, holder)),
              [jobs[100]!.jobId, "no-job"]
            )
          }
          assert.isTrue(
            yield* store.write(LostLeases.loseLease("default", jobs[800]!.jobId, "it does not answer"))
          )
        })
      )
    })
  )

  it.effect("does not prevent an event that it waits for from being stored and delivered to others", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          const ids = yield* startMany(shop, 900)
          const jobs = yield* shop.claim({ functions: ["charge"], room: 900 })
          const wait = waitFor("paid:0", "order.paid", { match: "event.data.n >= trigger.data.n" })
          yield* reportAll(shop, jobs, wait, suspend("paid:0"))
          return ids
        })
      )
      overwritePagesWith(filename, "runs", ids[100]!)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.emit("order.paid", { n: 1000 })
          yield* shop.fire()
          const jobs = yield* shop.claim({ functions: ["charge"], room: 900 })

          assert.isAbove(jobs.length, 500)
          assert.isFalse(jobs.some(({ runId }) => runId === ids[100]))
        })
      )
    })
  )

  it.effect("is skipped at the start when it cannot be taken back", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const jobs = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* startMany(shop, 3)
          return yield* shop.claim({ functions: ["charge"], room: 3 })
        })
      )
      change(filename, `UPDATE runs SET pause = '{' WHERE id = '${jobs[1]!.runId}'`)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const again = yield* shop.claim({ room: 10, functions: ["charge"] })

          assert.deepStrictEqual(
            again.map(({ runId }) => runId),
            [jobs[0]!.runId, jobs[2]!.runId]
          )
        })
      )
    })
  )
})

describe("a damaged function", () => {
  it.effect("is restored when a worker registers it again, and does not affect others", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) =>
        Effect.andThen(
          shop.register(handles("charge"), handles("ship", { on: ["order.paid"] })),
          Effect.andThen(shop.emit("order.placed"), shop.emit("order.paid"))
        )
      )
      change(filename, "UPDATE functions SET registration = '{' WHERE id = 'charge'")

      for (const healed of [false, true]) {
        yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            assert.strictEqual(shop.store.health().status, healed ? "ok" : "degraded")
            assert.lengthOf(yield* shop.claim({ room: 10, functions: ["ship"], worker: "s" }), 1)
            yield* shop.register(handles("charge"))
            assert.lengthOf(yield* shop.claim({ room: 10, functions: ["charge"], worker: "c" }), 1)
          })
        )
      }
    })
  )
})

describe("a run of a damaged function", () => {
  it.effect("cannot be moved or forked, and the error names the damage and the way out", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const [job] = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge", { versioning: "pin" }))
          yield* shop.emit("order.placed")
          return yield* shop.claim({ room: 1, functions: ["charge"] })
        })
      )
      change(filename, "UPDATE functions SET registration = '{' WHERE id = 'charge'")

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const runId = job!.runId
          const refused = yield* Effect.all([
            Effect.flip(shop.store.write(Forking.moveRun(environment, runId, undefined))),
            Effect.flip(shop.store.write(Forking.forkRun(environment, runId, {})))
          ])

          for (const { message } of refused)
            assert.match(message, /the row of its function is damaged: start a worker that has the function/)
        })
      )
    })
  )
})

describe("the start", () => {
  it.effect("detects a damaged end of the log, and continues", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const ids = yield* visit(filename, (shop) =>
          Effect.andThen(
            shop.register(handles("charge")),
            Effect.andThen(startMany(shop, 100), shop.emit("the.last", { marker: "m-4711" }))
          )
        )
        assert.isUndefined(ids.runIds[0])
        overwritePagesWith(filename, "events", "m-4711")

        yield* visit(filename, (shop) =>
          Effect.sync(() => {
            assert.strictEqual(shop.store.health().status, "degraded")
            assert.isTrue(logged.some((line) => line.startsWith("The end of the log cannot be read")))
          })
        )
      })
    )
  )

  it.effect("with `check` reads the whole file, and refuses it when any page is damaged", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.andThen(shop.register(handles("charge")), startMany(shop, 200))
      )
      yield* Effect.scoped(SqliteStore.make({ filename, check: true }))
      overwritePagesWith(filename, "runs", ids[3]!)

      const error = yield* Effect.scoped(Effect.flip(SqliteStore.make({ filename, check: true })))

      assert.strictEqual(error.code, "STORE_CORRUPT")
      assert.match(error.message, /is damaged: .*Restore it from a backup/)
    })
  )

  it.effect("with `check` names damaged rows that SQLite reads without an error", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const ids = yield* visit(filename, (shop) =>
        Effect.andThen(shop.register(handles("charge")), startMany(shop, 3))
      )
      yield* Effect.scoped(SqliteStore.make({ filename, check: true }))
      change(
        filename,
        `UPDATE events SET data = substr(data, 2) WHERE position = (SELECT min(event) FROM runs);
         DELETE FROM events WHERE position = (SELECT max(event) FROM runs);
         INSERT INTO steps (run, step_key, seq, name, kind, failed, attempt, started_at, ended_at)
           VALUES (4711, 'lost:0', 1, 'lost', 'run', 0, 1, 0, 0)`
      )

      const error = yield* Effect.scoped(Effect.flip(SqliteStore.make({ filename, check: true })))

      assert.strictEqual(error.code, "STORE_CORRUPT")
      assert.match(error.message, /event \S+: `data` is not JSON/)
      assert.include(error.message, `run ${ids[2]}: its event is missing`)
      assert.include(error.message, "step lost:0: its run is missing")
    })
  )
})
