/**
 * Makes committed transactions durable, beside the other work of the process.
 *
 * With `synchronous=FULL`, SQLite waits for the disk within `COMMIT`, and the thread of the engine does nothing else meanwhile.
 * So the store commits with `synchronous=NORMAL`, which writes to the write-ahead log and does not wait. Then this class calls
 * `fdatasync` on the log, as SQLite would. The log is one file for as long as the database is open: a checkpoint overwrites or
 * truncates it. SQLite itself syncs the log before a checkpoint, and its folder when the log is created.
 */
import { closeSync, fdatasync, fdatasyncSync, openSync, realpathSync } from "node:fs"
import type { DatabaseSync, StatementSync } from "node:sqlite"

/** Makes sure that the disk has what was committed. */
export interface Sync {
  /** Whether anything was written since the last sync began. */
  readonly isNeeded: () => boolean
  /** Blocks until the disk has what was committed. Throws when the disk refuses. */
  readonly now: () => void
  /** Calls `done` when the disk has everything that was committed before this call, or with the error when the disk refuses. */
  readonly inBackground: (done: (error: unknown) => void) => void
}

/**
 * Lets SQLite commit without waiting for the disk, and returns the `WalSync` that waits instead. It does so on Linux only, and
 * returns `undefined` elsewhere. There the system calls of Node.js and of SQLite differ (on macOS, that of Node.js also empties
 * the cache of the disk), and SQLite waits itself.
 */
export const walSyncOf = (db: DatabaseSync, filename: string): WalSync | undefined => {
  if (process.platform !== "linux") return undefined
  const sync = new WalSync(db, filename)
  db.exec("PRAGMA synchronous=NORMAL")
  return sync
}

let underway = 0
/** Whether an `fdatasync` is in flight. Until it ends, an idle event loop does not mean that all work is done. */
export const isSyncing = (): boolean => underway > 0

export class WalSync implements Sync {
  readonly #log: number
  readonly #count: StatementSync
  #synced: unknown

  /** The database must have been written with `journal_mode=WAL` before, so that its log exists. */
  constructor(db: DatabaseSync, filename: string) {
    this.#log = openSync(`${realpathSync(filename)}-wal`, "r+")
    this.#count = db.prepare("SELECT total_changes() AS changes")
    fdatasyncSync(this.#log)
    this.#synced = this.#written()
  }

  isNeeded(): boolean {
    return this.#written() !== this.#synced
  }

  now(): void {
    const written = this.#written()
    fdatasyncSync(this.#log)
    this.#synced = written
  }

  inBackground(done: (error: unknown) => void): void {
    // commits during the sync need another sync
    this.#synced = this.#written()
    underway++
    fdatasync(this.#log, (error) => {
      underway--
      done(error)
    })
  }

  close(): void {
    closeSync(this.#log)
  }

  #written(): unknown {
    return this.#count.get()?.changes
  }
}
