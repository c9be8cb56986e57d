/**
 * Lets the reads of one turn of the event loop share a snapshot of the database. A read without a snapshot has to take
 * and release SQLite's lock, which takes longer than most reads themselves.
 */
import type { DatabaseSync } from "node:sqlite"
import { setImmediate } from "../../RealTimers.ts"
import { rollBack } from "./RollBack.ts"

export class ReadSnapshot {
  readonly #db
  readonly #begin
  readonly #commit
  #isOpen = false

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#begin = db.prepare("BEGIN")
    this.#commit = db.prepare("COMMIT")
  }

  /** Opens a snapshot, unless one is open. The snapshot is closed in the next turn of the event loop. */
  open(): void {
    if (this.#isOpen) return
    this.#begin.run()
    this.#isOpen = true
    setImmediate(() => this.close())
  }

  /** Closes the snapshot, if one is open. A writer must call this before it begins a transaction. Never throws. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    try {
      this.#commit.run()
    } catch {
      // after a failed read, COMMIT fails too: this is no new error, since the reader got the error of the read, and nothing was
      // written
      rollBack(this.#db)
    }
  }
}
