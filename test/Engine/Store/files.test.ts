/** What can be wrong with a file, and what a file keeps when its process is killed. */
import { assert, describe, it } from "@effect/vitest"
import * as FunctionRows from "../../../src/Engine/Functions/FunctionRows.ts"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { createHash, randomBytes } from "node:crypto"
import {
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync
} from "node:fs"
import { dirname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { migrations } from "../../../src/Engine/Store/Migrations.ts"
import { callError } from "../../../src/Engine/Store/SqliteErrors.ts"
import { engineProcess } from "./EngineProcess.ts"
import { folder, newFile, problem, visit } from "./OnFile.ts"
import { complete, done, environment, handles, release, type Shop } from "./suite/Shop.ts"
import * as EventSearch from "../../../src/Engine/Log/EventSearch.ts"
import * as Publish from "../../../src/Engine/PubSub/Publish.ts"
import * as RunList from "../../../src/Engine/Runs/RunList.ts"
import * as RunInspection from "../../../src/Engine/Runs/RunInspection.ts"
import * as FireDue from "../../../src/Engine/Schedules/FireDue.ts"

describe("a database file", () => {
  it.effect("finds events by id, even after the clock was set back", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const emitOne = (shop: Shop) => shop.emit("order.placed")
      yield* TestClock.setTime(1_000_000)
      const first = [yield* visit(filename, emitOne), yield* visit(filename, emitOne)]
      yield* TestClock.setTime(500_000)
      const all = [...first, yield* visit(filename, emitOne), yield* visit(filename, emitOne)]

      const found = yield* visit(filename, ({ store }) =>
        Effect.forEach(all, ({ eventId }) => store.read(EventSearch.findEvent(environment, eventId)))
      )

      assert.deepStrictEqual(found, [1, 2, 3, 4])
    })
  )

  it.effect(
    "has idempotency keys from before scopes, which still match the event or topic that they were used with",
    () =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const fingerprint = (name: string) =>
          createHash("sha256")
            .update(JSON.stringify([name, "{}"]))
            .digest("base64")
            .slice(0, 22)
        const before = migrations.findIndex((text) =>
          text.includes("operation now ends with the name of the event")
        )
        const other = yield* newFile
        yield* visit(other, () => Effect.void)
        const { application_id } = new DatabaseSync(other).prepare("PRAGMA application_id").get()!
        const db = new DatabaseSync(filename)
        db.exec(
          `${migrations.slice(0, before).join("")}
         PRAGMA user_version = ${before}; PRAGMA application_id = ${application_id};
         INSERT INTO environments (key, name) VALUES (1, 'default');
         INSERT INTO events (position, environment, kind, id, name, version, data, timestamp) VALUES
           (1, 1, 0, 'evt_1', 'order.placed', 1, '{}', 0), (2, 1, 1, 'msg_1', 'news', 1, '{}', 0);
         INSERT INTO idempotency (environment, operation, key, fingerprint, result, expires_at) VALUES
           (1, 'emit', 'k', '${fingerprint("order.placed")}', '{"eventId":"evt_1","position":1,"runIds":[]}', 60000),
           (1, 'emit', 'broken', '', '{"eventId', 60000),
           (1, 'emit', 'no event', '', '{"eventId":"evt_9","position":9,"runIds":[]}', 60000),
           (1, 'publish', 'k', '${fingerprint("news")}', '{"eventId":"msg_1","sequence":2}', 60000)`
        )
        db.close()

        yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            const key = { idempotencyKey: "k" }
            const emits = [
              yield* shop.emit("order.placed", {}, key),
              yield* shop.emit("order.placed", {}, { ...key, webhook: "shop" }),
              yield* shop.emit("order.placed", { a: 1 }, key),
              yield* shop.emit("order.paid", {}, key),
              yield* shop.emit("order.paid", {}, { ...key, webhook: "shop" })
            ]
            assert.deepStrictEqual(
              emits.map(({ conflicting, duplicate, eventId }) => [
                duplicate,
                eventId === "evt_1",
                conflicting
              ]),
              [
                [true, true, false],
                [true, true, false],
                [true, true, true],
                [false, false, false],
                [false, false, false]
              ]
            )
            const message = { environment, data: "{}", ...key }
            const again = yield* shop.store.write(Publish.appendMessage({ ...message, topic: "news" }))
            assert.deepStrictEqual([again.eventId, again.conflicting], ["msg_1", false])
            assert.isFalse(
              (yield* shop.store.write(Publish.appendMessage({ ...message, topic: "weather" }))).duplicate
            )
            yield* TestClock.adjust(60_000)
            assert.isFalse((yield* shop.emit("order.placed", {}, key)).duplicate)
          })
        )
      })
  )

  it.effect("can be opened by only one engine of a process at a time", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          const error = yield* problem(filename)
          assert.strictEqual(error.code, "STORE_LOCKED")
          assert.include(error.message, `process ${process.pid} on `)
          assert.include(error.message, filename)
          // the engine that has it open is not disturbed
          yield* shop.emit("order.placed")
        })
      )
      yield* visit(filename, (shop) => shop.emit("order.placed"))
    })
  )

  it.effect("can be opened by only one engine at a time, under any name", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const alias = join(dirname(filename), "alias.db")
      yield* visit(filename, () => Effect.sync(() => symlinkSync(filename, alias)))

      yield* visit(filename, () =>
        Effect.map(problem(alias), (error) => assert.strictEqual(error.code, "STORE_LOCKED"))
      )
    })
  )

  it.effect("can be opened by only one engine at a time, by a link that is older than the file", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const alias = join(dirname(filename), "alias.db")
      symlinkSync(filename, alias)

      yield* visit(alias, () =>
        Effect.gen(function* () {
          assert.strictEqual(statSync(filename).mode & 0o777, 0o600)
          for (const name of [filename, alias]) {
            const error = yield* problem(name)
            assert.strictEqual(error.code, "STORE_LOCKED")
          }
        })
      )
    })
  )

  it.effect("is free as soon as the process that had it open is killed", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = yield* engineProcess(filename, "hold")
      assert.strictEqual(yield* other.line, "open")

      const error = yield* problem(filename)
      assert.strictEqual(error.code, "STORE_LOCKED")
      assert.include(error.message, `process ${other.child.pid} on `)

      yield* other.kill
      yield* visit(filename, (shop) => shop.emit("order.placed"))
    })
  )

  it.effect("keeps everything when it is reopened", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const before = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge", { on: ["order.*"], concurrency: { limit: 1 } }))
          const job = yield* shop.start("order.placed", { orderId: "o-1" })
          yield* shop.report(job, done("charge:0"), { _tag: "Settle", stepKey: "x:0" }, release)
          yield* shop.emit("order.placed", {}, { idempotencyKey: "k" })
          return {
            runId: job.runId,
            runs: yield* RunList.listRuns(shop.store, { environment: "default", limit: 10 }),
            steps: yield* RunInspection.getRunSteps(shop.store, "default", job.runId),
            functions: yield* FunctionRows.listFunctions(shop.store, "default")
          }
        })
      )

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(
            yield* RunList.listRuns(shop.store, { environment: "default", limit: 10 }),
            before.runs
          )
          assert.deepStrictEqual(
            yield* RunInspection.getRunSteps(shop.store, "default", before.runId),
            before.steps
          )
          assert.deepStrictEqual(yield* FunctionRows.listFunctions(shop.store, "default"), before.functions)
          assert.isTrue((yield* shop.emit("order.placed", {}, { idempotencyKey: "k" })).duplicate)

          const [job] = yield* shop.claim({ functions: ["charge"] })
          assert.strictEqual(job?.runId, before.runId)
          yield* shop.report(job!, done("ship:0"), complete())
          assert.deepStrictEqual(yield* shop.steps(before.runId), ["charge:0 completed", "ship:0 completed"])
        })
      )
    })
  )

  it.effect("refuses calls after it was closed", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const shop = yield* visit(filename, (shop) => Effect.as(shop.emit("order.placed"), shop))

      const error = yield* Effect.flip(shop.emit("order.placed"))
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.include(error.message, "is closed")
      assert.strictEqual((yield* Effect.flip(shop.run("run_1")))._tag, "StoreError")
    })
  )
})

describe("a file that another program has locked", () => {
  it.effect("says so in the error, and nothing about the folder", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = new DatabaseSync(filename)
      other.exec("CREATE TABLE notes (text TEXT); BEGIN EXCLUSIVE")
      const db = new DatabaseSync(filename, { timeout: 0 })

      const error = yield* Effect.flip(
        Effect.try({
          try: () => db.exec("BEGIN IMMEDIATE"),
          catch: (cause) => callError("write", cause)
        })
      )

      db.close()
      other.close()
      assert.deepInclude(error, { code: "STORE_UNAVAILABLE", retryable: true })
      assert.match(
        error.message,
        /^Cannot write: database is locked\. Another program has locked the file: close it/
      )
    })
  )
})

describe("a file that is not acceptable", () => {
  const cases: ReadonlyArray<
    readonly [what: string, code: string, says: RegExp, make: (path: string) => string]
  > = [
    [
      "in a folder that does not exist",
      "STORE_UNAVAILABLE",
      /Check that the folder of the database exists/,
      (path) => join(path, "missing", "orders.db")
    ],
    [
      "below a file",
      "STORE_UNAVAILABLE",
      /Check that the folder of the database exists/,
      (path) => {
        writeFileSync(join(path, "file"), "")
        return join(path, "file", "orders.db")
      }
    ],
    [
      "that is a folder",
      "STORE_UNAVAILABLE",
      /is a folder: name the file of the database/,
      (path) => {
        mkdirSync(join(path, "orders.db"))
        return join(path, "orders.db")
      }
    ],
    [
      "of random bytes",
      "STORE_CORRUPT",
      /damaged or is not a database/,
      (path) => {
        writeFileSync(join(path, "orders.db"), randomBytes(10_000))
        return join(path, "orders.db")
      }
    ],
    [
      "that is a database of another program",
      "STORE_CORRUPT",
      /database of another program/,
      (path) => {
        const db = new DatabaseSync(join(path, "orders.db"))
        db.exec("CREATE TABLE cats (name TEXT); INSERT INTO cats VALUES ('Minka')")
        db.close()
        return join(path, "orders.db")
      }
    ],
    [
      "that another program has marked as its own",
      "STORE_CORRUPT",
      /database of another program/,
      (path) => {
        const db = new DatabaseSync(join(path, "orders.db"))
        db.exec("PRAGMA application_id = 7; PRAGMA user_version = 3; CREATE TABLE cats (name TEXT)")
        db.close()
        return join(path, "orders.db")
      }
    ]
  ]
  for (const [what, code, says, make] of cases) {
    it.effect(`${what} is refused with the reason, and is not changed`, () =>
      Effect.gen(function* () {
        const filename = make(yield* folder)
        const content = () => (code === "STORE_CORRUPT" ? readFileSync(filename) : existsSync(filename))
        const before = content()

        // twice, because the first refusal must leave no lock behind
        for (let i = 0; i < 2; i++) {
          const error = yield* problem(filename)
          assert.strictEqual(error._tag, "StoreError")
          assert.strictEqual(error.code, code)
          assert.match(error.message, says)
          assert.include(error.message, filename)
        }
        assert.deepStrictEqual(content(), before)
      })
    )
  }

  it.effect("with newer tables is refused, and the error names the remedy", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) => shop.emit("order.placed"))
      const db = new DatabaseSync(filename)
      db.exec("PRAGMA user_version = 999")
      db.close()

      const error = yield* problem(filename)
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.match(error.message, /newer version.*999.*upgrade @ironflow\/node/)
    })
  )

  it.effect("with an empty file name is refused, since SQLite would use a temporary file", () =>
    Effect.gen(function* () {
      for (const filename of ["", "  "]) {
        const error = yield* problem(filename)
        assert.strictEqual(error.code, "STORE_UNAVAILABLE")
        assert.match(error.message, /filename of the database must not be empty/)
      }
    })
  )

  it.effect("with random bytes in it is refused as damaged", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) => shop.register(handles("charge")))
      const size = readFileSync(filename).length
      const file = openSync(filename, "r+")
      writeSync(file, randomBytes(size - 100), 0, size - 100, 100)

      const error = yield* problem(filename)
      assert.strictEqual(error.code, "STORE_CORRUPT")
    })
  )
})

describe("a process that is killed", () => {
  it.effect("loses nothing acknowledged, and leaves nothing half done", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = yield* engineProcess(filename, "emit")
      assert.strictEqual(yield* other.line, "open")
      const acknowledged: Array<string> = []
      while (acknowledged.length < 200) acknowledged.push(yield* other.line)
      acknowledged.push(...(yield* other.kill))

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          for (const line of acknowledged) {
            // the last line may be incomplete
            const [, n, runId] = /^(\d+) (run_\w{25})$/.exec(line) ?? []
            if (runId === undefined) continue
            const run = yield* shop.run(runId)
            assert.deepStrictEqual([run.status, run.input], ["pending", { n: Number(n) }])
          }
          const { totalCount } = yield* RunList.listRuns(shop.store, { environment: "default", limit: 1 })
          assert.isAtLeast(totalCount, 200)
          assert.strictEqual((yield* shop.claim({ functions: ["charge"], room: 1e6 })).length, totalCount)
        })
      )
    })
  )

  it.effect("has runs that lose their leases and actors, and each loss is counted", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = yield* engineProcess(filename, "claim")
      assert.strictEqual(yield* other.line, "open")
      const runId = yield* other.line
      yield* other.kill

      for (let losses = 1; losses <= 8; losses++) {
        yield* visit(filename, (shop) =>
          Effect.gen(function* () {
            const situation = yield* shop.situation(runId)
            assert.isUndefined(situation.lease)
            assert.isUndefined(situation.actorWorkerId)
            // from the second loss on, a run is delayed
            assert.strictEqual(situation.readyAt === undefined, losses > 1)
            if (losses > 1) yield* shop.pass(100_000)
            const [job] = yield* shop.claim({ functions: ["charge"], worker: "worker-2" })
            assert.strictEqual(job?.runId, runId)
          })
        )
      }
    })
  )

  it.effect("keeps the leases of remote workers until they expire", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const job = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge", { actorKey: "event.data.van" }))
          return yield* shop.start("order.placed", { van: 1 }, { leaseMs: 1000 })
        })
      )

      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.report(job, done("charge:0"))
          assert.strictEqual((yield* shop.situation(job.runId)).actorWorkerId, "worker-1")
          assert.strictEqual((yield* FireDue.fireDue(shop.store)).nextDueAt, 1000)
          yield* shop.pass(1000)
          assert.strictEqual(yield* shop.refused(job, done("ship:0")), "LEASE_LOST")
        })
      )
    })
  )
})
