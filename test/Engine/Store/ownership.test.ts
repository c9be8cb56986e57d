/** Two engines on one file despite the lock file, and unclean stops. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { copyFileSync, existsSync, linkSync, renameSync, rmSync } from "node:fs"
import { backup, DatabaseSync } from "node:sqlite"
import { dirname, join } from "node:path"
import { engineProcess } from "./EngineProcess.ts"
import { newFile, open, problem, visit, withLog } from "./OnFile.ts"
import { environment, handles, type Shop } from "./suite/Shop.ts"
import * as LogRows from "../../../src/Engine/Log/LogRows.ts"
import * as RunList from "../../../src/Engine/Runs/RunList.ts"

const eventsIn = (shop: Shop) =>
  Effect.map(shop.store.read(LogRows.readLog({ environment, after: 0, limit: 1000 })), ({ entries }) =>
    entries.map(({ name }) => name)
  )

describe("a second engine", () => {
  it.effect("that opens the file under another name is refused, and does not disturb the first", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = join(dirname(filename), "other.db")
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.emit("order.placed")
          linkSync(filename, other)

          const error = yield* problem(other)

          assert.strictEqual(error.code, "STORE_LOCKED")
          assert.include(error.message, `process ${process.pid} on `)
          assert.include(error.message, `under another name, "${filename}"`)
          yield* shop.emit("order.paid")
        })
      )
      // once the first has closed, the other name works
      yield* visit(other, (shop) =>
        Effect.map(eventsIn(shop), (names) => assert.deepStrictEqual(names, ["order.placed", "order.paid"]))
      )
    })
  )

  it.effect("that opens the file under another name is refused, also when the first is another process", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = join(dirname(filename), "other.db")
      const first = yield* engineProcess(filename, "hold")
      assert.strictEqual(yield* first.line, "open")
      linkSync(filename, other)

      const error = yield* problem(other)
      yield* first.kill

      assert.strictEqual(error.code, "STORE_LOCKED")
      assert.include(error.message, `process ${first.child.pid} on `)
    })
  )

  it.effect(
    "that took over the file after its lock was deleted is noticed by the first, which then writes nothing",
    () =>
      withLog((logged) =>
        Effect.gen(function* () {
          const filename = yield* newFile
          const first = yield* open(filename)
          yield* first.emit("by.first")
          rmSync(`${filename}.lock`)
          const second = yield* open(filename)

          const error = yield* Effect.flip(first.emit("by.loser"))
          const again = yield* Effect.flip(first.emit("by.loser"))
          const read = yield* Effect.flip(RunList.listRuns(first.store, { environment, limit: 1 }))
          yield* second.emit("by.second")

          for (const each of [error, again, read]) assert.strictEqual(each.code, "STORE_LOCKED")
          assert.match(error.message, /was taken over by another engine.*\.lock/)
          assert.lengthOf(
            logged.filter((line) => line.includes("was taken over by another engine")),
            1
          )
          assert.strictEqual(first.store.health().status, "down")
          assert.strictEqual(second.store.health().status, "ok")
          assert.deepStrictEqual(yield* eventsIn(second), ["by.first", "by.second"])
        })
      )
  )

  it.effect("makes every command of the next transaction of the first fail, and nothing is written", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const first = yield* open(filename)
      rmSync(`${filename}.lock`)
      const second = yield* open(filename)

      const errors = yield* Effect.forEach([1, 2, 3], (n) => Effect.flip(first.emit(`by.loser.${n}`)), {
        concurrency: "unbounded"
      })

      assert.deepStrictEqual(
        errors.map(({ code }) => code),
        ["STORE_LOCKED", "STORE_LOCKED", "STORE_LOCKED"]
      )
      assert.deepStrictEqual(yield* eventsIn(second), [])
    })
  )

  it.effect("leaves its events in the file, after both have closed", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* Effect.scoped(
        Effect.gen(function* () {
          const second = yield* Effect.scoped(
            Effect.gen(function* () {
              const first = yield* open(filename)
              rmSync(`${filename}.lock`)
              yield* Effect.flip(
                Effect.andThen(
                  visit(filename, (shop) => shop.emit("by.second")),
                  first.emit("x")
                )
              )
              return true
            })
          )
          assert.isTrue(second)
        })
      )
      yield* visit(filename, (shop) =>
        Effect.map(eventsIn(shop), (names) => assert.deepStrictEqual(names, ["by.second"]))
      )
    })
  )
})

describe("a copy of a database that is open", () => {
  it.effect("made by SQLite's backup is a database of its own", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const copy = join(dirname(filename), "copy.db")
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.emit("order.placed")
          yield* Effect.promise(async () => {
            const db = new DatabaseSync(filename, { readOnly: true })
            await backup(db, copy)
            db.close()
          })
          yield* shop.emit("order.paid")
          yield* visit(copy, (other) =>
            Effect.gen(function* () {
              yield* other.emit("order.copied")
              assert.deepStrictEqual(yield* eventsIn(other), ["order.placed", "order.copied"])
            })
          )
          yield* shop.emit("order.shipped")
          assert.deepStrictEqual(yield* eventsIn(shop), ["order.placed", "order.paid", "order.shipped"])
        })
      )
    })
  )

  it.effect("made by copying the file can be opened, with a warning about what may be missing", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const copy = join(dirname(filename), "copy.db")
        yield* visit(filename, (shop) =>
          Effect.andThen(
            shop.emit("order.placed"),
            Effect.sync(() => copyFileSync(filename, copy))
          )
        )

        yield* visit(copy, (shop) => shop.emit("order.copied"))

        assert.isTrue(logged.some((line) => line.includes("was copied, or moved to another disk")))
      })
    )
  )
})

describe("a stop", () => {
  /** Lets another process emit events for a while, and kills it. */
  const killEmitter = (filename: string) =>
    Effect.gen(function* () {
      const other = yield* engineProcess(filename, "emit")
      assert.strictEqual(yield* other.line, "open")
      for (let i = 0; i < 20; i++) yield* other.line
      yield* other.kill
      // the other process used the real clock
      yield* TestClock.setTime(Date.now())
    })

  it.effect("that was clean logs nothing at the next start", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        yield* visit(filename, (shop) => shop.emit("order.placed"))
        yield* visit(filename, (shop) => shop.emit("order.placed"))

        assert.deepStrictEqual(logged, [])
      })
    )
  )

  it.effect("by a kill logs nothing at the next start, which has every commit", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        yield* killEmitter(filename)

        yield* visit(filename, (shop) =>
          Effect.map(eventsIn(shop), (names) => assert.isAtLeast(names.length, 20))
        )

        assert.deepStrictEqual(logged, [])
      })
    )
  )

  it.effect("by a kill, after which the write-ahead log was deleted, is reported", () =>
    withLog((logged) =>
      Effect.gen(function* () {
        const filename = yield* newFile
        yield* killEmitter(filename)
        for (const suffix of ["-wal", "-shm"]) rmSync(`${filename}${suffix}`)

        yield* visit(filename, () => Effect.void)

        assert.lengthOf(logged, 1)
        assert.match(
          logged[0]!,
          /its write-ahead log ".*-wal" is gone: what was committed last may be missing/
        )
      })
    )
  )

  it.effect("by a kill, after which the file was moved without its write-ahead log, is reported", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* killEmitter(filename)
      const moved = join(dirname(filename), "moved.db")
      renameSync(filename, moved)

      const error = yield* problem(moved)
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.include(error.message, `move the log to "${moved}-wal"`)

      for (const suffix of ["-wal", "-shm"]) {
        if (existsSync(`${filename}${suffix}`)) renameSync(`${filename}${suffix}`, `${moved}${suffix}`)
        if (existsSync(`${moved}${suffix}`) && suffix === "-shm") rmSync(`${moved}${suffix}`)
      }
      yield* visit(moved, (shop) => Effect.map(eventsIn(shop), (names) => assert.isAtLeast(names.length, 20)))
    })
  )
})

describe("a disk that is full", () => {
  it.effect("is an error for writers, and everything acknowledged can be read", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const other = yield* engineProcess(filename, "fill", 4000)

      const logged: Array<string> = []
      for (let i = 0; i < 5; i++) logged.push(yield* other.line)
      yield* other.kill

      assert.deepStrictEqual(logged, ["open", "STORE_UNAVAILABLE", "STORE_UNAVAILABLE", "degraded", "reads"])
      yield* visit(filename, (shop) => shop.emit("order.placed"))
    })
  )
})

describe("a file that vanishes while it is open", () => {
  it.effect("is an error for writers, until the file is back", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      yield* visit(filename, (shop) =>
        Effect.gen(function* () {
          yield* shop.register(handles("charge"))
          renameSync(filename, `${filename}.away`)
          yield* TestClock.adjust("2 seconds")

          const error = yield* Effect.flip(shop.emit("order.placed"))
          const status = shop.store.health().status
          renameSync(`${filename}.away`, filename)
          yield* shop.emit("order.placed")

          assert.strictEqual(error.code, "STORE_UNAVAILABLE")
          assert.include(error.message, "was deleted, moved or replaced")
          assert.strictEqual(status, "degraded")
          assert.strictEqual(shop.store.health().status, "ok")
        })
      )
    })
  )
})
