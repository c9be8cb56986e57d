/** Backups: made while the engine writes, restored, and refused where a restore would do harm. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { dirname, join } from "node:path"
import { backUp } from "../../../src/Engine/Store/Backup.ts"
import { migrations } from "../../../src/Engine/Store/Migrations.ts"
import { restore } from "../../../src/Engine/Store/Restore.ts"
import * as LogRows from "../../../src/Engine/Log/LogRows.ts"
import { engineProcess } from "./EngineProcess.ts"
import { newFile, open, visit, withLog } from "./OnFile.ts"
import { complete, done, environment, handles, success, type Shop } from "./suite/Shop.ts"

const eventsIn = (shop: Shop) =>
  Effect.map(shop.store.read(LogRows.readLog({ environment, after: 0, limit: 10_000 })), ({ entries }) =>
    entries.map(({ name }) => name)
  )
const modeOf = (filename: string): string => (statSync(filename).mode & 0o777).toString(8)
const filesBeside = (filename: string): ReadonlyArray<string> => readdirSync(dirname(filename)).toSorted()
const failure = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.flip(effect)

/** A backup of a shop with one order. */
const backupOfOne = Effect.gen(function* () {
  const filename = yield* newFile
  const backup = join(dirname(filename), "backup.db")
  yield* visit(filename, (shop) => Effect.andThen(shop.emit("order.placed"), shop.store.backup!(backup)))
  return { filename, backup }
})

describe("a backup", () => {
  it.live("has everything up to one moment, while others keep writing", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const backup = join(dirname(filename), "backup.db")
      const shop = yield* open(filename)
      for (let i = 0; i < 200; i++) yield* shop.emit("order.placed", { note: "x".repeat(20_000) })
      let written = 200
      const writer = yield* Effect.forkChild(
        Effect.forever(Effect.tap(shop.emit("order.paid"), () => Effect.sync(() => void written++)))
      )

      const info = yield* shop.store.backup!(backup)

      yield* Fiber.interrupt(writer)
      assert.isAbove(written, 200)
      assert.strictEqual(info.bytes, statSync(backup).size)
      assert.strictEqual(info.version, migrations.length)
      assert.strictEqual(modeOf(backup), "600")
      assert.deepStrictEqual(
        filesBeside(backup).filter((name) => name.startsWith("backup")),
        ["backup.db"]
      )
      // the backup opens without a warning, because no engine owns it
      yield* withLog((logged) => visit(backup, () => Effect.sync(() => assert.deepStrictEqual(logged, []))))
      using copy = new DatabaseSync(backup)
      const count = (name: string) =>
        copy.prepare("SELECT count(*) AS n, max(position) AS last FROM events WHERE name = ?").get(name)
      const [placed, paid] = [count("order.placed"), count("order.paid")]
      assert.strictEqual(placed?.n, 200)
      // the backup has the first of the events that were emitted meanwhile, without a gap
      assert.isBelow(Number(paid?.n), written - 200)
      assert.strictEqual(Number(paid?.last ?? 200), 200 + Number(paid?.n))
    }).pipe(Effect.scoped)
  )

  it.live("can be made of a file that another process has open, and of a file that no process has open", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const first = yield* engineProcess(filename, "hold")
      assert.strictEqual(yield* first.line, "open")
      const held = join(dirname(filename), "held.db")
      const left = join(dirname(filename), "left.db")

      yield* backUp(filename, held, 0)
      yield* first.kill
      yield* backUp(filename, left, 0)

      for (const backup of [held, left]) yield* visit(backup, () => Effect.void)
    }).pipe(Effect.scoped)
  )

  it.live("can be made of a database in memory", () =>
    Effect.gen(function* () {
      const backup = yield* newFile
      yield* visit(":memory:", (shop) =>
        Effect.andThen(shop.emit("order.placed"), shop.store.backup!(backup))
      )

      yield* visit(backup, (shop) =>
        Effect.map(eventsIn(shop), (names) => assert.deepStrictEqual(names, ["order.placed"]))
      )
    }).pipe(Effect.scoped)
  )

  it.live("never overwrites a file", () =>
    Effect.gen(function* () {
      const { backup, filename } = yield* backupOfOne
      const before = readFileSync(backup)

      const again = yield* failure(backUp(filename, backup, 0))
      const itself = yield* failure(backUp(filename, filename, 0))

      assert.strictEqual(again.code, "VALIDATION_ERROR")
      assert.include(again.message, `"${backup}" exists, and is not overwritten`)
      assert.strictEqual(itself.code, "VALIDATION_ERROR")
      assert.isTrue(before.equals(readFileSync(backup)))
    }).pipe(Effect.scoped)
  )

  it.live("that cannot be written says why, and leaves no file", () =>
    Effect.gen(function* () {
      const { filename } = yield* backupOfOne
      const nowhere = yield* failure(backUp(filename, join(dirname(filename), "missing", "b.db"), 0))
      const folder = yield* failure(backUp(filename, dirname(filename), 0))
      const ofNothing = yield* failure(backUp(join(dirname(filename), "none.db"), `${filename}.b`, 0))
      const blank = yield* failure(backUp(filename, " ", 0))

      assert.strictEqual(nowhere.code, "STORE_UNAVAILABLE")
      assert.include(folder.message, "is a folder")
      assert.strictEqual(ofNothing.code, "VALIDATION_ERROR")
      assert.include(ofNothing.message, `There is no database "${join(dirname(filename), "none.db")}"`)
      assert.strictEqual(blank.code, "VALIDATION_ERROR")
      assert.isFalse(existsSync(join(dirname(filename), "none.db")))
      assert.deepStrictEqual(
        filesBeside(filename).filter((name) => name.includes("partial") || name.endsWith(".b")),
        []
      )
    }).pipe(Effect.scoped)
  )

  it.live("that is interrupted leaves no file", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const backup = join(dirname(filename), "backup.db")
      const shop = yield* open(filename)
      for (let i = 0; i < 100; i++) yield* shop.emit("order.placed", { note: "x".repeat(50_000) })
      const making = yield* Effect.forkChild(shop.store.backup!(backup), { startImmediately: true })

      yield* Fiber.interrupt(making)

      assert.deepStrictEqual(
        filesBeside(filename).filter((name) => name.startsWith("backup")),
        []
      )
    }).pipe(Effect.scoped)
  )
})

describe("a restore", () => {
  it.live("brings back the backup, and runs in flight continue", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const backup = join(dirname(filename), "backup.db")
      const elsewhere = join(dirname(filename), "elsewhere.db")
      const runId = yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("pack-order"))
          const job = yield* shop.start()
          yield* shop.report(job, done("charge:0", success("r-1")))
          yield* shop.store.backup!(backup)
          yield* shop.report(job, done("pack:0"), complete("packed"))
          return job.runId
        })
      )

      const info = yield* restore({ backup, filename: elsewhere })

      assert.deepInclude(info, { filename: elsewhere, version: migrations.length })
      assert.strictEqual(modeOf(elsewhere), "600")
      yield* withLog((logged) =>
        visit(elsewhere, (shop) =>
          Effect.gen(function* () {
            yield* shop.register(handles("pack-order"))
            const job = yield* shop.claimOne()
            assert.deepStrictEqual(
              [job.runId, job.journal.map(({ stepKey }) => stepKey)],
              [runId, ["charge:0"]]
            )
            yield* shop.report(job, done("pack:0"), complete("packed"))
            assert.strictEqual(yield* shop.status(runId), "completed")
            assert.deepStrictEqual(logged, [])
          })
        )
      )
    }).pipe(Effect.scoped)
  )

  it.live("replaces a database only with `replace`, with its write-ahead log", () =>
    Effect.gen(function* () {
      const { backup, filename } = yield* backupOfOne
      // a process that was killed leaves a write-ahead log
      const killed = yield* engineProcess(filename, "emit")
      for (let i = 0; i < 9; i++) yield* killed.line
      yield* killed.kill
      chmodSync(filename, 0o640)
      const before = readFileSync(filename)

      const refused = yield* failure(restore({ backup, filename }))

      assert.strictEqual(refused.code, "VALIDATION_ERROR")
      assert.include(refused.message, "exists: add --replace")
      assert.isTrue(before.equals(readFileSync(filename)))

      yield* restore({ backup, filename, replace: true })

      assert.strictEqual(modeOf(filename), "640")
      assert.deepStrictEqual(filesBeside(filename), ["backup.db", "orders.db", "orders.db.lock"])
      yield* visit(filename, (shop) =>
        Effect.map(eventsIn(shop), (names) => assert.deepStrictEqual(names, ["order.placed"]))
      )
    }).pipe(Effect.scoped)
  )

  it.live("through a link replaces the target of the link", () =>
    Effect.gen(function* () {
      const { backup, filename } = yield* backupOfOne
      const link = join(dirname(filename), "link.db")
      symlinkSync(filename, link)

      yield* restore({ backup, filename: link, replace: true })

      assert.isFalse(statSync(filename).ino === statSync(backup).ino)
      assert.strictEqual(statSync(link).ino, statSync(filename).ino)
    }).pipe(Effect.scoped)
  )

  it.live("onto a database that an engine has open is refused, by any name, and changes nothing", () =>
    Effect.gen(function* () {
      const { backup, filename } = yield* backupOfOne
      const other = join(dirname(filename), "other.db")
      linkSync(filename, other)
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          for (const name of [filename, other]) {
            const error = yield* failure(restore({ backup, filename: name, replace: true }))

            assert.strictEqual(error.code, "STORE_LOCKED")
            assert.include(error.message, `process ${process.pid} on `)
          }
          yield* shop.emit("order.paid")
          assert.deepStrictEqual(yield* eventsIn(shop), ["order.placed", "order.paid"])
        })
      )
    }).pipe(Effect.scoped)
  )

  it.live("of a file that is not a backup is refused and changes nothing", () =>
    Effect.gen(function* () {
      const { backup, filename } = yield* backupOfOne
      const at = (name: string): string => join(dirname(filename), name)
      writeFileSync(at("empty"), "")
      writeFileSync(at("text"), "no database at all, ".repeat(1000))
      const change = (name: string, sql: string): void => {
        copyFileSync(backup, at(name))
        const db = new DatabaseSync(at(name))
        db.exec(sql)
        db.close()
      }
      change("foreign", "PRAGMA application_id = 1")
      change("newer", `PRAGMA user_version = ${migrations.length + 1}`)
      change("unfinished", "PRAGMA user_version = 0")
      change("unsound", "UPDATE events SET data = 'x'")
      copyFileSync(backup, at("damaged"))
      writeFileSync(at("damaged"), Buffer.alloc(3 * 4096), { flag: "r+" })
      writeFileSync(at("truncated"), readFileSync(backup).subarray(0, -8 * 4096))
      copyFileSync(backup, at("logged"))
      writeFileSync(at("logged-wal"), "what was not written back")
      mkdirSync(at("folder"))
      yield* visit(filename, () => Effect.sync(() => copyFileSync(filename, at("copied"))))
      const before = readFileSync(filename)

      const refusalOf = (name: string, options: { readonly filename?: string } = {}) =>
        Effect.map(
          failure(restore({ backup: at(name), filename, replace: true, ...options })),
          ({ code, message }) => `${code}: ${message.replaceAll(dirname(filename), "")}`
        )

      assert.match(yield* refusalOf("none"), /^VALIDATION_ERROR: There is no file "\/none"/)
      assert.match(yield* refusalOf("empty"), /^VALIDATION_ERROR: .* is not a backup: it is empty/)
      assert.match(yield* refusalOf("folder"), /^VALIDATION_ERROR: .* is not a backup: it is a folder/)
      assert.match(
        yield* refusalOf("text"),
        /^VALIDATION_ERROR: .* is not a backup of Ironflow: it is not a SQLite/
      )
      assert.match(
        yield* refusalOf("foreign"),
        /^VALIDATION_ERROR: "\/foreign" is not a backup of Ironflow: it is a SQLite database of another program/
      )
      assert.match(yield* refusalOf("newer"), /^STORE_UNAVAILABLE: .* was written by a newer version/)
      assert.match(yield* refusalOf("unfinished"), /^VALIDATION_ERROR: .*it is empty/)
      assert.match(yield* refusalOf("unsound"), /^STORE_CORRUPT: .*`data` is not JSON/)
      assert.match(yield* refusalOf("damaged"), /^(STORE_CORRUPT|VALIDATION_ERROR): /)
      assert.match(
        yield* refusalOf("truncated"),
        /^STORE_CORRUPT: .*Nothing was changed: restore another backup$/
      )
      assert.notMatch(yield* refusalOf("truncated"), /from a backup/)
      assert.match(yield* refusalOf("logged"), /^VALIDATION_ERROR: .*there is a write-ahead log beside it/)
      assert.match(
        yield* refusalOf("copied"),
        /^VALIDATION_ERROR: .*it is a copy of a database that was in use/
      )
      assert.match(yield* refusalOf("orders.db"), /^VALIDATION_ERROR: .* is both the backup and the database/)
      assert.match(yield* refusalOf("backup.db", { filename: at("folder") }), /is a folder/)
      assert.match(yield* refusalOf("backup.db", { filename: " " }), /must not be empty or blank/)
      assert.match(yield* refusalOf("backup.db", { filename: at("missing/a.db") }), /^STORE_UNAVAILABLE: /)

      assert.isTrue(before.equals(readFileSync(filename)))
      assert.deepStrictEqual(
        filesBeside(filename).filter((name) => name.includes("partial")),
        []
      )
    }).pipe(Effect.scoped)
  )
})
