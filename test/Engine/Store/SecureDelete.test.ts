/** What a store says when it cannot remove deleted data from its files. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { tmpdir } from "node:os"
import path from "node:path"
import { SecureDelete } from "../../../src/Engine/Store/SecureDelete.ts"
import { ReadSnapshot } from "../../../src/Engine/Store/ReadSnapshot.ts"

/** A database that was closed behind the back of its store. */
const closed = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "ironflow-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  ),
  (folder) => {
    const filename = path.join(folder, "ironflow.db")
    const db = new DatabaseSync(filename)
    db.exec("CREATE TABLE events (id TEXT)")
    const secureDelete = new SecureDelete(db, filename, new ReadSnapshot(db))
    db.close()
    return secureDelete
  }
)

describe("a database that cannot be written", () => {
  it.effect(
    "does not claim that something was erased when only its write-ahead log could not be emptied",
    () =>
      Effect.gen(function* () {
        const secureDelete = yield* closed
        const { message } = yield* Effect.flip(secureDelete.cutLog)
        assert.match(message, /^The write-ahead log could not be emptied: /)
      })
  )

  it.effect.each([
    [false, /^The data is erased, but the database file could not be rewritten: /],
    [true, /^The database file could not be rewritten: /]
  ] as const)(
    "says that data is erased only if it is: only earlier deletions, %s",
    ([onlyEarlierDeletions, expected]) =>
      Effect.gen(function* () {
        const secureDelete = yield* closed
        const { message } = yield* Effect.flip(
          secureDelete.wipe(true, { hasStates: false, onlyEarlierDeletions })
        )
        assert.match(message, expected)
      })
  )
})
