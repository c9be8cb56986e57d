/**
 * Reads of one turn of the event loop share a view of the database: a read on its own takes and gives back SQLite's lock,
 * which costs more than most reads do.
 */
import type { DatabaseSync } from "node:sqlite"

export class Snapshot {
  readonly #begin
  readonly #commit
  #open = false

  constructor(db: DatabaseSync) {
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

  /** Gives the view up, as a writer has to before it begins. */
  giveUp(): void {
    if (!this.#open) return
    this.#open = false
    this.#commit.run()
  }
}
