/** Events with very many waits, on a file: how much is written, and what a killed process leaves. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { statSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { listRuns } from "../../../src/Engine/Runs/RunList.ts"
import { readAuditRecord } from "../../../src/Engine/Runs/RunAudit.ts"
import * as RunInspection from "../../../src/Engine/Runs/RunInspection.ts"
import { countStuckRuns } from "../../../src/Engine/Runs/Stuck.ts"
import * as Reports from "../../../src/Engine/Turns/Reports.ts"
import { fireDue } from "../../../src/Engine/Schedules/FireDue.ts"
import { change, overwritePagesWith } from "./Damaged.ts"
import { engineProcess } from "./EngineProcess.ts"
import { newFile, visit } from "./OnFile.ts"
import { complete, environment, handles, type Shop, suspend, waitFor } from "./suite/Shop.ts"

/** Makes runs wait for `order.paid`. */
const wait = (shop: Shop, count: number, options: Parameters<typeof handles>[1] = {}) =>
  Effect.gen(function* () {
    yield* shop.register(handles("charge", options))
    for (let i = 0; i < count; i++) yield* shop.emit("order.placed", { i })
    const jobs = yield* shop.claim({ room: count })
    const ops = [waitFor("paid:0", "order.paid"), suspend("paid:0")]
    yield* Reports.applyReports(
      shop.store,
      "default",
      jobs.map(({ jobId, runId }) => ({ jobId, runId, ops }))
    )
    return jobs.map(({ runId }) => runId)
  })

const rowsOf = (filename: string, sql: string) => {
  const db = new DatabaseSync(filename, { readOnly: true })
  try {
    return db.prepare(sql).all()
  } finally {
    db.close()
  }
}

const countCompleted = (shop: Shop) =>
  Effect.map(
    listRuns(shop.store, { environment, status: "completed", limit: 1 }),
    ({ totalCount }) => totalCount
  )

describe("a large event that very many runs wait for", () => {
  it.effect("is stored once, and every run receives all of it", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const text = "x".repeat(900_000)
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const [runId] = yield* wait(shop, 1000)
          const before = statSync(`${filename}-wal`).size

          yield* shop.emit("order.paid", { text })
          yield* shop.fire()

          // every write went through the write-ahead log, which was not emptied in between
          assert.isBelow(statSync(`${filename}-wal`).size - before, 3_000_000)
          const [step] = yield* RunInspection.getRunSteps(shop.store, environment, runId!)
          assert.include(JSON.stringify(step?.output), text)
          const part = yield* shop.store.read(
            RunInspection.readRunSteps(environment, runId!, {
              from: 0,
              limit: -1
            })
          )
          assert.strictEqual(part.steps.length, 1)
        })
      )

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const jobs = yield* shop.claim({
            functions: ["charge"],
            room: 1000
          })
          assert.strictEqual(jobs.length, 1000)
          for (const { journal } of jobs) {
            const [entry] = journal
            assert(entry?.outcome._tag === "Success")
            assert.isAbove(entry.outcome.value!.length, text.length)
          }
        })
      )
    })
  )

  it.effect("is stored once even when runs are recorded", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const text = "x".repeat(900_000)
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const [runId] = yield* wait(shop, 20, { recording: true })
          const before = statSync(`${filename}-wal`).size

          yield* shop.emit("order.paid", { text })
          yield* shop.fire()

          assert.isBelow(statSync(`${filename}-wal`).size - before, 3_000_000)
          const { events } = yield* shop.store.read(readAuditRecord(environment, runId!, { after: 0 }))
          const [step] = events.filter(({ type }) => type === "step.completed")
          assert.include(JSON.stringify(step?.details), text)
        })
      )
    })
  )

  it.effect("is read from the text that an earlier version stored", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const stored = '{"id":"evt_1","name":"order.paid","version":1,"data":{"n":1}}'
      const [runId] = yield* visit(filename, (shop) =>
        Effect.tap(wait(shop, 1), () => shop.emit("order.paid", { n: 2 }))
      )
      change(filename, `UPDATE steps SET value = '${stored}' WHERE wait IS NOT NULL`)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          const [step] = yield* RunInspection.getRunSteps(shop.store, environment, runId!)
          assert.deepStrictEqual(step?.output, JSON.parse(stored))
          const { journal } = yield* shop.claimOne()
          assert.deepStrictEqual(journal[0]?.outcome, {
            _tag: "Success",
            value: stored
          })
        })
      )
    })
  )

  it.effect("that is lost affects only the runs that have received it, and is logged", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) => Effect.tap(wait(shop, 2), () => shop.emit("order.paid", { n: 2 })))
      change(filename, "DELETE FROM events WHERE name = 'order.paid'")

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          assert.deepStrictEqual(yield* shop.claim({ room: 2 }), [])
          const { runs } = yield* listRuns(shop.store, {
            environment,
            limit: 1
          })
          const { damage } = yield* shop.situation(runs[0]!.id)
          assert.include(damage, "is missing, and a run needs it: the log is damaged")
          const { runId } = yield* shop.start()
          assert.strictEqual(yield* shop.status(runId), "running")
        })
      )
    })
  )
})

describe("an event that becomes unreadable during its delivery", () => {
  it.effect("is skipped, and later events still reach the waits", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* wait(shop, 700)
          yield* shop.emit("order.paid", { text: "illegible".repeat(200) })
          for (let n = 0; n < 30; n++) yield* shop.emit("order.sent", { text: "x".repeat(1000) })
          yield* shop.emit("order.paid", { n: 2 })
        })
      )
      overwritePagesWith(filename, "events", "illegible")

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.fire()
          assert.strictEqual((yield* fireDue(shop.store)).nextDueAt > 0, true)
          assert.strictEqual(shop.store.health().status, "degraded")
        })
      )
      const left = rowsOf(filename, "SELECT count(*) AS n FROM fan_outs")
      assert.deepStrictEqual(
        left.map((row) => ({ ...row })),
        [{ n: 1 }]
      )
      const open = rowsOf(filename, "SELECT count(*) AS n FROM waits WHERE fired IS NULL")
      assert.deepStrictEqual(
        open.map((row) => ({ ...row })),
        [{ n: 0 }]
      )
    })
  )
})

describe("a process that is killed while it delivers an event", () => {
  it.effect("leaves the rest to the next process: every run gets the event once and finishes", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const engine = yield* engineProcess(filename, "hand on")
      assert.strictEqual(yield* engine.line, "open")
      assert.strictEqual(yield* engine.line, "waiting 1500")
      assert.strictEqual(yield* engine.line, "emitted")
      assert.strictEqual(yield* engine.line, "fired")
      yield* engine.kill
      const [{ n: left }] = rowsOf(filename, "SELECT count(*) AS n FROM waits WHERE fired IS NULL") as [
        { n: number }
      ]
      assert.isAbove(left, 0)
      assert.isBelow(left, 1500)

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          yield* shop.fire()
          const jobs = yield* shop.claim({ room: 5000 })
          assert.strictEqual(jobs.length, 1500)
          for (const job of jobs) {
            assert.deepStrictEqual(
              job.journal.map(({ outcome }) => outcome._tag === "Success" && JSON.parse(outcome.value!).data),
              [{ n: 1 }]
            )
          }
          const ops = [complete()]
          yield* Reports.applyReports(
            shop.store,
            "default",
            jobs.map(({ jobId, runId }) => ({ jobId, runId, ops }))
          )
          assert.strictEqual(yield* countCompleted(shop), 1500)
          assert.strictEqual(yield* countStuckRuns(shop.store), 0)
        })
      )
      assert.deepStrictEqual(rowsOf(filename, "SELECT * FROM fan_outs"), [])
    })
  )
})
