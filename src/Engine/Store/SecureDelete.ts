/**
 * Removes deleted data from the files of a database. SQLite leaves deleted data in free parts of its pages and in the write-ahead
 * log, until other data is written there. During an erasure, freed parts are overwritten with zeros. Data that was deleted before,
 * and copies that were made when pages were split, are removed only by rewriting the file.
 */
import { statSync } from "node:fs"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import type { DatabaseSync } from "./NodeSqlite.ts"
import type { ReadSnapshot } from "./ReadSnapshot.ts"
import { storeError } from "./SqliteErrors.ts"

/**
 * A file that is not larger than this is rewritten by every erasure, a larger file only on request. Rewriting blocks everything
 * else, and takes a second or two for a file of this size.
 */
const SMALL_BYTES = 64 * 1024 * 1024
/** How many more times to try to empty the write-ahead log, while another connection reads an older state of the database. */
const MAX_TRIES = 60
/** The delay between two tries. */
const RETRY_MS = 1000

const EXCEPT_STATES =
  ", but states of projections may still contain it: when all projections are rebuilt, run `ironflow erase --compact --yes` (`compact: true`) to overwrite their old states"
const KEPT_ELSEWHERE = "Backups and exports that were made before still contain the data."

/** Facts that the messages of `wipe` mention. */
export interface WipedData {
  /** Whether states of projections still contain the erased data. */
  readonly hasStates: boolean
  /** Whether this call erased nothing and only wipes what was deleted earlier. */
  readonly onlyEarlierDeletions: boolean
}

export class SecureDelete {
  readonly #db: DatabaseSync
  readonly #filename: string | undefined
  readonly #snapshot: ReadSnapshot
  /** How many callers have overwriting turned on. */
  #overwriters = 0

  /** `filename` is absent for a database in memory. */
  constructor(db: DatabaseSync, filename: string | undefined, snapshot: ReadSnapshot) {
    this.#db = db
    this.#filename = filename
    this.#snapshot = snapshot
  }

  /** Turns overwriting of deleted data on or off. Overwriting stays on until every caller that has turned it on has turned it off. */
  overwrite(isOn: boolean): void {
    this.#overwriters += isOn ? 1 : -1
    this.#db.exec(`PRAGMA secure_delete = ${this.#overwriters > 0 ? "ON" : "OFF"}`)
  }

  /** See `StoreService.cutLog`. */
  get cutLog(): Effect.Effect<boolean, StoreError> {
    return this.#filename === undefined
      ? Effect.succeed(true)
      : this.#try("The write-ahead log could not be emptied", () => this.#cut())
  }

  /** See `StoreService.wipe`. */
  wipe(mayBlock: boolean, { hasStates, onlyEarlierDeletions }: WipedData): Effect.Effect<string, StoreError> {
    const erased = onlyEarlierDeletions ? "" : "The data is erased, but "
    const failedTo = (what: string): string => (erased === "" ? `The ${what}` : `${erased}the ${what}`)
    return Effect.gen({ self: this }, function* () {
      const filename = this.#filename
      if (filename === undefined) return "The database is in memory: its data is gone when the process ends."
      const isRewritten = yield* this.#try(failedTo("database file could not be rewritten"), () => {
        const isRewritten = mayBlock || statSync(filename).size <= SMALL_BYTES
        if (isRewritten) this.#rewrite()
        return isRewritten
      })
      for (let tries = 0; ; tries++) {
        const isCut = yield* this.#try(failedTo("write-ahead log could not be emptied"), () => this.#cut())
        if (isCut) break
        if (tries === MAX_TRIES) {
          return `"${filename}-wal" may still contain the data, because something else reads the database (a backup, for instance): when that has ended, stop the engine, which removes this log. ${KEPT_ELSEWHERE}`
        }
        yield* Effect.sleep(RETRY_MS)
      }
      const exception = hasStates ? EXCEPT_STATES : ""
      return isRewritten
        ? `The database file was rewritten and ${onlyEarlierDeletions ? "contains no data that was deleted before" : `no longer contains the data${exception}`}. ${KEPT_ELSEWHERE}`
        : `The erased data was overwritten in the database file${exception}. Free parts of the file may still contain older copies, because a large file is rewritten on request only: run \`ironflow erase --compact --yes\`, which blocks the engine while it runs. ${KEPT_ELSEWHERE}`
    })
  }

  /** Closes the snapshot of the readers, and calls `run`. Fails with a message that begins with `what`. */
  #try<A>(what: string, run: () => A): Effect.Effect<A, StoreError> {
    return Effect.try({
      try: () => {
        this.#snapshot.close()
        return run()
      },
      catch: (cause) => storeError(what, cause)
    })
  }

  #rewrite(): void {
    // VACUUM makes a copy of the file, and the copy of a large file would not fit into memory
    this.#db.exec("PRAGMA temp_store = FILE")
    try {
      this.#db.exec("VACUUM")
    } finally {
      this.#db.exec("PRAGMA temp_store = MEMORY")
    }
  }

  /** Moves the whole write-ahead log into the file. Returns `false` when another connection reads an older state. */
  #cut(): boolean {
    this.#db.exec("PRAGMA busy_timeout = 0")
    try {
      return this.#db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get()?.busy === 0
    } finally {
      this.#db.exec("PRAGMA busy_timeout = 5000")
    }
  }
}
