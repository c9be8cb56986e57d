/**
 * Reads of one turn of the event loop share a view of the database: a read on its own takes and gives back SQLite's lock,
 * which costs more than most reads do.
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

  /** Takes a view, unless one is held. It is given up when the event loop goes on. */
  take(): void {
    if (this.#open) return
    this.#begin.run()
    this.#open = true
    setImmediate(() => this.giveUp())
  }

  /** Gives the view up, as a writer has to before it begins. Never throws. */
  giveUp(): void {
    if (!this.#open) return
    this.#open = false
    try {
      this.#commit.run()
    } catch {
      // a read that met a damaged page spoils the view that it was made in; whoever made it knows. Nothing was written
      endTransaction(this.#db)
    }
  }
}

/** Takes back the transaction that is open, if SQLite has not done so by itself. Never throws. */
export const endTransaction = (db: DatabaseSync): void => {
  if (!db.isOpen || !db.isTransaction) return
  try {
    db.exec("ROLLBACK")
  } catch {
    // SQLite has taken it back by itself (disk full, I/O error, damage)
  }
}
