/** An acknowledged write is on the disk. The engine waits for the disk, and does other work meanwhile. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import { join } from "node:path"
import { acrossEnvironments, all, statement } from "../../../src/Engine/Store/Program.ts"
import type { Transaction } from "../../../src/Engine/Store/Transaction.ts"
import { folder, newFile, open, visit } from "./OnFile.ts"
import type { Shop } from "./suite/Shop.ts"

const EVENT_IDS = statement("test.eventIds", "SELECT id FROM events ORDER BY position", {
  scans: "a few hundred events"
})

const readIds = acrossEnvironments(
  "sync.test",
  function* (_tx: Transaction) {
    return (yield* all(EVENT_IDS)).map(({ id }) => String(id))
  },
  () => "read events"
)

const eventsOf = ({ store }: Shop) => store.read(readIds())

type Done = (error: NodeJS.ErrnoException | null) => void

interface Disk {
  readonly aside?: (sync: (done: Done) => void, done: Done) => void
  readonly now?: (sync: () => void) => void
}

/** Replaces the calls that wait for the disk, until the scope ends. */
const withDisk = (disk: Disk) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { fdatasync, fdatasyncSync } = fs
      const unanswered = new Set<Done>()
      fs.fdatasync = ((fd: number, then: Done) => {
        const done: Done = (error) => {
          if (unanswered.delete(done)) then(error)
        }
        unanswered.add(done)
        const sync = (answer: Done) => fdatasync(fd, answer)
        if (disk.aside === undefined) sync(done)
        else disk.aside(sync, done)
      }) as never
      fs.fdatasyncSync = (fd) => (disk.now ?? ((sync) => sync()))(() => fdatasyncSync(fd))
      syncBuiltinESMExports()
      return { own: { fdatasync, fdatasyncSync }, unanswered }
    }),
    ({ own, unanswered }) =>
      Effect.sync(() => {
        Object.assign(fs, own)
        syncBuiltinESMExports()
        // other tests in this process wait until no call is pending
        for (const done of unanswered) done(null)
      })
  )

/** Blocks the process for a moment, as a slow disk does. */
const pause = () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)

/** Makes one write slow. From then on the engine does other work while it waits for the disk. */
const makeSlow = (shop: Shop) =>
  Effect.scoped(
    Effect.andThen(
      withDisk({
        now: (sync) => {
          pause()
          sync()
        }
      }),
      shop.emit("order.placed")
    )
  )

const turns = (count: number) =>
  Effect.promise(async () => {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
  })

const isLinux = process.platform === "linux"

describe.skipIf(!isLinux)("a write", () => {
  it.live("is answered once the disk has it, and other work continues meanwhile", () =>
    Effect.gen(function* () {
      const shop = yield* open(yield* newFile)
      yield* makeSlow(shop)
      const held: Array<() => void> = []
      yield* withDisk({ aside: (sync, done) => void held.push(() => sync(done)) })

      const emits = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 8 }, () => shop.emit("order.placed")),
          { concurrency: "unbounded" }
        )
      )
      yield* Effect.promise(() => until(() => held.length === 1))
      const later = yield* Effect.forkChild(shop.emit("order.shipped"))
      const read = yield* Effect.forkChild(eventsOf(shop))
      yield* turns(5)
      const waiting = [emits, later, read].map((fiber) => fiber.pollUnsafe() === undefined)
      assert.deepStrictEqual([waiting, held.length], [[true, true, true], 1])

      held.shift()!()
      yield* Fiber.join(emits)
      // the read began while the disk was busy, so it does not see the later event
      assert.strictEqual((yield* Fiber.join(read)).length, 9)
      yield* Fiber.join(later)
      assert.strictEqual((yield* eventsOf(shop)).length, 10)
    }).pipe(Effect.scoped)
  )

  it.live("does not wait for ever for the thread pool of Node.js", () =>
    Effect.gen(function* () {
      const shop = yield* open(yield* newFile)
      yield* makeSlow(shop)
      yield* withDisk({ aside: () => {} })
      const emits = Array.from({ length: 8 }, () => shop.emit("order.placed"))
      yield* Effect.all(emits, { concurrency: "unbounded" })
      assert.strictEqual((yield* eventsOf(shop)).length, 9)
    }).pipe(Effect.scoped)
  )

  it.live("that is acknowledged outlives a power cut", () =>
    Effect.gen(function* () {
      const filename = yield* newFile
      const files = ["", "-wal"].map((end) => filename + end)
      const look = () => files.map((file) => fs.readFileSync(file))
      /** The content that the disk is sure to have. */
      let disk: ReadonlyArray<Buffer> = []
      const watched: Disk = {
        aside: (sync, done) => {
          const before = look()
          sync((error) => {
            disk = before
            done(error)
          })
        },
        now: (sync) => {
          const before = look()
          pause()
          sync()
          disk = before
        }
      }
      const acknowledged: Array<{ readonly id: string; readonly disk: ReadonlyArray<Buffer> }> = []
      yield* Effect.scoped(
        Effect.andThen(
          withDisk(watched),
          visit(filename, (shop) =>
            Effect.forEach(
              Array.from({ length: 12 }, (_, client) => client),
              (client) =>
                Effect.forEach(Array.from({ length: client === 0 ? 40 : 10 }), () =>
                  Effect.map(shop.emit("order.placed"), ({ eventId }) =>
                    acknowledged.push({ id: eventId, disk })
                  )
                ),
              { concurrency: "unbounded" }
            )
          )
        )
      )
      assert.strictEqual(acknowledged.length, 150)
      const images = [...new Set(acknowledged.map((one) => one.disk))]
      assert.isAbove(images.length, 20)
      for (const image of images.filter((_, i) => i % 5 === 0)) {
        const path = join(yield* folder, "after.db")
        image.forEach((bytes, i) => fs.writeFileSync(path + ["", "-wal"][i]!, bytes))
        const found = new Set(yield* visit(path, eventsOf))
        const lost = acknowledged.filter((one) => one.disk === image && !found.has(one.id))
        assert.deepStrictEqual(lost, [])
      }
    }).pipe(Effect.scoped)
  )

  for (const count of [1, 8]) {
    it.live(`that the disk refuses is an error, and the engine stops (${count} at once)`, () =>
      Effect.gen(function* () {
        const filename = yield* newFile
        yield* Effect.scoped(
          Effect.gen(function* () {
            const shop = yield* open(filename)
            yield* count === 1 ? shop.emit("order.placed") : makeSlow(shop)
            let refusals = 0
            const refuse = (): Error => {
              refusals++
              return Object.assign(new Error("EIO: i/o error, fdatasync"), {
                code: "EIO",
                syscall: "fdatasync"
              })
            }
            const lost: Array<string> = []
            shop.store.onLost((error) => lost.push(error.code))
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* withDisk({
                  aside: (_, done) => setImmediate(() => done(refuse())),
                  now: () => {
                    throw refuse()
                  }
                })
                const errors = yield* Effect.all(
                  Array.from({ length: count }, () => Effect.flip(shop.emit("order.placed"))),
                  { concurrency: "unbounded" }
                )
                for (const error of errors) {
                  assert.strictEqual(error.code, "STORE_UNAVAILABLE")
                  assert.match(error.message, /^The disk has not stored what was written to database .* EIO/)
                }
              })
            )
            // the disk works again, but a write after the missing one would leave a gap
            assert.match((yield* Effect.flip(shop.emit("order.placed"))).message, /^The disk has not stored/)
            assert.match((yield* Effect.flip(eventsOf(shop))).message, /^The disk has not stored/)
            assert.deepInclude(shop.store.health(), { status: "down", cannotWrite: true })
            assert.deepStrictEqual([lost, refusals], [["STORE_UNAVAILABLE"], 1])
          })
        )
        const again = yield* open(filename)
        yield* again.emit("order.placed")
        assert.isAtLeast((yield* eventsOf(again)).length, 2)
      }).pipe(Effect.scoped)
    )
  }
})

const until = async (isTrue: () => boolean): Promise<void> => {
  while (!isTrue()) await new Promise((resolve) => setImmediate(resolve))
}
