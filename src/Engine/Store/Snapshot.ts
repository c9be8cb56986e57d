/**
 * Reads of one turn of the event loop share a snapshot of the database. A separate read takes and releases SQLite's lock, which
 * costs more than most reads do.
 */
import type { DatabaseSync } from "node:sqlite"
import { setImmediate } from "../../RealTimers.ts"

export class Snapshot {
  readonly #db
  readonly #begin
  readonly #commit
  #open = false

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#begin = db.prepare("BEGIN")
    this.#commit = db.prepare("COMMIT")
  }

  /** Opens a snapshot, unless one is open. It is closed when the event loop goes on. */
  take(): void {
    if (this.#open) return
    this.#begin.run()
    this.#open = true
    setImmediate(() => this.giveUp())
  }

  /** Closes the snapshot, as a writer must before it begins. Never throws. */
  giveUp(): void {
    if (!this.#open) return
    this.#open = false
    try {
      this.#commit.run()
    } catch {
      // a read of a damaged page spoils the snapshot; its caller has the error. Nothing was written
      endTransaction(this.#db)
    }
  }
}

/** Rolls back the open transaction, unless SQLite has already done so. Never throws. */
export const endTransaction = (db: DatabaseSync): void => {
  if (!db.isOpen || !db.isTransaction) return
  try {
    db.exec("ROLLBACK")
  } catch {
    // SQLite has rolled it back itself (disk full, I/O error, damage)
  }
}
