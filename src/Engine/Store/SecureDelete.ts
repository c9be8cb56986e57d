/**
 * Removes deleted data from the files. A database leaves deleted data in free parts of its pages and in the write-ahead log,
 * until other data is written there. During an erasure, freed parts are overwritten with zeros. Data that was freed earlier, or
 * copied when pages were split, goes when the file is rewritten.
 */
import { statSync } from "node:fs"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { DatabaseSync } from "./NodeSqlite.ts"
import type { Snapshot } from "./Snapshot.ts"
import { storeError } from "./SqliteErrors.ts"

/** A file up to this size is rewritten within a second or two, which blocks everything else. */
const SMALL_BYTES = 64 * 1024 * 1024
/** How often to try to truncate the log while somebody reads an older state, and the delay between tries, milliseconds. */
const TRIES = 60
const AGAIN_MS = 1000

const BUT_STATES =
  ", but for what projections have made of it: once all of them are rebuilt, `ironflow erase --compact --yes` (`compact: true`) overwrites what their old states have left"
const KEPT_ELSEWHERE = "Backups and exports that were made before still have the data."

/** What is wiped, for what is said about it. */
export interface WipedData {
  /** States of projections still have it. */
  readonly hasStates: boolean
  /** Whatever was deleted before, and nothing of now. */
  readonly isOfAll: boolean
}

export class SecureDelete {
  readonly #db: DatabaseSync
  readonly #filename: string | undefined
  readonly #snapshot: Snapshot
  #wanted = 0

  /** `filename` is absent for a database in memory. */
  constructor(db: DatabaseSync, filename: string | undefined, snapshot: Snapshot) {
    this.#db = db
    this.#filename = filename
    this.#snapshot = snapshot
  }

  /** Turns overwriting of deleted data on or off; it ends when every caller that has turned it on has turned it off. */
  overwrite(isOn: boolean): void {
    this.#wanted += isOn ? 1 : -1
    this.#db.exec(`PRAGMA secure_delete = ${this.#wanted > 0 ? "ON" : "OFF"}`)
  }

  /** See `StoreService.cutLog`. */
  get cutLog(): Effect.Effect<boolean, StoreError> {
    return this.#filename === undefined ? Effect.succeed(true) : this.#try(() => this.#cut())
  }

  /** See `StoreService.wipe`. */
  wipe(isLong: boolean, { hasStates, isOfAll }: WipedData): Effect.Effect<string, StoreError> {
    return Effect.gen({ self: this }, function* () {
      const filename = this.#filename
      if (filename === undefined) return "The database is in memory, and is gone when the process ends."
      const isWritten = yield* this.#try(() => {
        const isWritten = isLong || statSync(filename).size <= SMALL_BYTES
        if (isWritten) this.#write()
        return isWritten
      })
      for (let tries = 0; ; tries++) {
        const isCut = yield* this.#try(() => this.#cut())
        if (isCut) break
        if (tries === TRIES) {
          return `Something else reads the database (a backup, for instance), so that "${filename}-wal" may still have the data: it goes when that has ended and the engine is stopped. ${KEPT_ELSEWHERE}`
        }
        yield* Effect.sleep(AGAIN_MS)
      }
      const but = hasStates ? BUT_STATES : ""
      return isWritten
        ? `The database file was rewritten and ${isOfAll ? "has nothing that was deleted before" : `no longer has the data${but}`}. ${KEPT_ELSEWHERE}`
        : `The erased data was overwritten in the database file${but}. Free parts of the file may still have older copies, since a large file is not rewritten by itself: \`ironflow erase --compact\` rewrites it, and everything waits meanwhile. ${KEPT_ELSEWHERE}`
    })
  }

  #try<A>(run: () => A): Effect.Effect<A, StoreError> {
    return Effect.try({
      try: () => {
        this.#snapshot.giveUp()
        return run()
      },
      catch: (cause) => storeError("The data is erased, but the database file could not be rewritten", cause)
    })
  }

  #write(): void {
    // the copy of a large file would not fit into memory
    this.#db.exec("PRAGMA temp_store = FILE")
    try {
      this.#db.exec("VACUUM")
    } finally {
      this.#db.exec("PRAGMA temp_store = MEMORY")
    }
  }

  /** Moves the whole write-ahead log into the file, unless somebody reads an older state. */
  #cut(): boolean {
    this.#db.exec("PRAGMA busy_timeout = 0")
    try {
      return this.#db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get()?.busy === 0
    } finally {
      this.#db.exec("PRAGMA busy_timeout = 5000")
    }
  }
}
