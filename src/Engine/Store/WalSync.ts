/**
 * Makes committed transactions durable, beside the other work of the process.
 *
 * With `synchronous=FULL`, SQLite waits for the disk within `COMMIT`, and the thread of the engine does nothing else meanwhile.
 * So the store commits with `synchronous=NORMAL`: SQLite writes to the write-ahead log and does not wait. Then this class calls
 * `fdatasync` on the log, as SQLite would. The same log file stays open as long as the database is open, because a checkpoint only
 * overwrites or truncates the log. SQLite itself syncs the log before a checkpoint, and syncs the folder when it creates the log.
 */
import { closeSync, fdatasync, fdatasyncSync, openSync, realpathSync } from "node:fs"
import type { DatabaseSync, StatementSync } from "node:sqlite"

/** A way to make sure that the disk has what was committed. */
export interface Sync {
  /** Whether anything was written since the last sync began. */
  readonly isNeeded: () => boolean
  /** Blocks until the disk has what was committed. Throws when the disk refuses. */
  readonly syncNow: () => void
  /** Calls `done` when the disk has everything that was committed before this call, or with the error when the disk refuses. */
  readonly syncInBackground: (done: (error: unknown) => void) => void
}

/**
 * Lets SQLite commit without waiting for the disk, and returns the `WalSync` that waits instead. On systems other than Linux, SQLite
 * still waits itself, and the result is `undefined`: there, Node.js syncs files with another system call than SQLite does (on
 * macOS, that of Node.js also empties the cache of the disk).
 */
export const walSyncOf = (db: DatabaseSync, filename: string): WalSync | undefined => {
  if (process.platform !== "linux") return undefined
  const sync = new WalSync(db, filename)
  db.exec("PRAGMA synchronous=NORMAL")
  return sync
}

let runningSyncs = 0
/** Whether an `fdatasync` is in flight. Until it ends, an idle event loop does not mean that all work is done. */
export const isSyncing = (): boolean => runningSyncs > 0

export class WalSync implements Sync {
  /** The file descriptor of the write-ahead log. */
  readonly #log: number
  readonly #countChanges: StatementSync
  /** The number of changes when the last sync began. */
  #syncedChanges: unknown

  /** The database must have been written with `journal_mode=WAL` before, so that its log exists. */
  constructor(db: DatabaseSync, filename: string) {
    this.#log = openSync(`${realpathSync(filename)}-wal`, "r+")
    this.#countChanges = db.prepare("SELECT total_changes() AS changes")
    fdatasyncSync(this.#log)
    this.#syncedChanges = this.#changes()
  }

  isNeeded(): boolean {
    return this.#changes() !== this.#syncedChanges
  }

  syncNow(): void {
    const changes = this.#changes()
    fdatasyncSync(this.#log)
    this.#syncedChanges = changes
  }

  syncInBackground(done: (error: unknown) => void): void {
    // counted before the sync, because commits during the sync need another sync
    this.#syncedChanges = this.#changes()
    runningSyncs++
    fdatasync(this.#log, (error) => {
      runningSyncs--
      done(error)
    })
  }

  close(): void {
    closeSync(this.#log)
  }

  /** How many rows this connection has changed. */
  #changes(): unknown {
    return this.#countChanges.get()?.changes
  }
}
