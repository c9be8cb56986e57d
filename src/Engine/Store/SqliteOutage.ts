/** Why writes to a SQLite database fail at the moment, and when they work again. */
import type { DatabaseSync } from "node:sqlite"
import type { StoreError } from "../../Errors.ts"
import { hasRoom } from "./Files.ts"
import { isFull, storeError } from "./SqliteErrors.ts"
import { RETRY_MS } from "./StoreOutage.ts"

export interface SqliteOutageOptions {
  readonly db: DatabaseSync
  /** Absent for a database in memory. */
  readonly filename: string | undefined
  /** A monotonic clock, milliseconds. */
  readonly monotonicMs: () => number
}

export class SqliteOutage {
  readonly #options: SqliteOutageOptions
  #last: { readonly error: StoreError; readonly changes: unknown; readonly isFull: boolean } | undefined
  #triedAt = Number.NEGATIVE_INFINITY

  constructor(options: SqliteOutageOptions) {
    this.#options = options
  }

  /** Why writes fail; `undefined` when they work, as far as is known. */
  get error(): StoreError | undefined {
    return this.#last?.error
  }

  /** A write has failed, because the file is out of reach or its disk is full. */
  failed(cause: unknown): void {
    this.#last = {
      error: storeError("Cannot write to the database", cause),
      changes: this.#changes(),
      isFull: isFull(cause)
    }
  }

  /** A transaction was committed: the outage is over if that shows it. */
  committed(): void {
    const last = this.#last
    // a transaction without changes needs no disk space
    if (last === undefined || this.#changes() === last.changes) return
    const { filename } = this.#options
    // on a full disk small writes still succeed, in parts of the log that are used again
    if (!last.isFull || filename === undefined || hasRoom(filename)) this.#last = undefined
  }

  /** Whether to try a write now: during an outage, returns `true` once a second. */
  mayTry(): boolean {
    const { monotonicMs } = this.#options
    if (this.#last === undefined || monotonicMs() - this.#triedAt < RETRY_MS) return false
    this.#triedAt = monotonicMs()
    return true
  }

  /** How many rows were changed since the database was opened. */
  #changes(): unknown {
    return this.#options.db.prepare("SELECT total_changes() AS changes").get()?.changes
  }
}
