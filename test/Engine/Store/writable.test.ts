/** A database that could not be written for a while. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { folder, newFile, open, visit, withLog } from "./OnFile.ts"

it.live(
  "a database that was locked recovers by a periodic check, even without writes",
  () =>
    withLog(() =>
      Effect.gen(function* () {
        const filename = yield* newFile
        const shop = yield* open(filename)
        const other = new DatabaseSync(filename)
        other.exec("BEGIN IMMEDIATE")
        const error = yield* Effect.flip(shop.emit("order.placed"))
        const during = shop.store.health()
        other.exec("ROLLBACK")
        other.close()

        yield* shop.store.tryAgain!

        assert.strictEqual(error.code, "STORE_UNAVAILABLE")
        assert.deepInclude(during, { status: "degraded", cannotWrite: true })
        assert.deepStrictEqual(shop.store.health(), { status: "ok" })
      })
    ).pipe(Effect.scoped),
  30_000
)

/** A disk of 4 MiB, or `undefined` where it cannot be mounted. */
const smallDisk = Effect.gen(function* () {
  const path = yield* folder
  const isMounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", path]).status === 0
  if (!isMounted) return undefined
  yield* Effect.addFinalizer(() => Effect.sync(() => void spawnSync("umount", [path])))
  return path
})

it.live.skipIf(process.getuid?.() !== 0)(
  "a database on a full disk is degraded until the disk has room, even if the smallest writes succeed",
  (context) =>
    withLog(() =>
      Effect.gen(function* () {
        const path = yield* smallDisk
        if (path === undefined) return context.skip()
        const filename = join(path, "orders.db")
        yield* visit(filename, (shop) => shop.emit("order.placed"))
        // after the restart its write-ahead log is small
        const shop = yield* open(filename)
        const fill = spawnSync("dd", ["if=/dev/zero", `of=${join(path, "fill")}`, "bs=4096"])
        assert.include(String(fill.stderr), "No space left")
        const error = yield* Effect.flip(shop.emit("order.placed", { text: "x".repeat(100_000) }))

        yield* shop.store.tryAgain!
        const still = shop.store.health()
        rmSync(join(path, "fill"))
        yield* shop.emit("order.placed", { text: "x".repeat(100_000) })

        assert.strictEqual(error.code, "STORE_UNAVAILABLE")
        assert.deepInclude(still, { status: "degraded", cannotWrite: true })
        assert.deepStrictEqual(shop.store.health(), { status: "ok" })
      })
    ).pipe(Effect.scoped),
  30_000
)
