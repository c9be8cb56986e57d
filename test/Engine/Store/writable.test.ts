/** A database that could not be written, and can be again. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { DatabaseSync } from "node:sqlite"
import { newFile, open, withLog } from "./OnFile.ts"

it.live(
  "recovers by a periodic check, even when nobody writes",
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
