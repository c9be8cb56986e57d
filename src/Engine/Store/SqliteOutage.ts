/** Remembers why writes to a SQLite database fail at the moment, and detects when they succeed again. */
import type { DatabaseSync } from "node:sqlite"
import type { StoreError } from "../../Errors.ts"
import { hasRoom } from "./Files.ts"
import { isFull, storeError } from "./SqliteErrors.ts"
import { RETRY_MS } from "./StoreOutage.ts"

export interface SqliteOutageOptions {
  readonly db: DatabaseSync
  /** Absent for a database in memory. */
  readonly filename: string | undefined
  /** A monotonic clock. */
  readonly monotonicMs: () => number
}

export class SqliteOutage {
  readonly #options: SqliteOutageOptions
  #lastFailure:
    { readonly error: StoreError; readonly changes: unknown; readonly isFull: boolean } | undefined
  #triedAt = Number.NEGATIVE_INFINITY

  constructor(options: SqliteOutageOptions) {
    this.#options = options
  }

  /** Why writes fail; `undefined` when they work, as far as is known. */
  get error(): StoreError | undefined {
    return this.#lastFailure?.error
  }

  /** Notes that a write has failed, because the file is out of reach or its disk is full. */
  failed(cause: unknown): void {
    this.#lastFailure = {
      error: storeError("Cannot write to the database", cause),
      changes: this.#changes(),
      isFull: isFull(cause)
    }
  }

  /** Notes that a transaction was committed. Ends the outage if this commit shows that writes succeed again. */
  committed(): void {
    const last = this.#lastFailure
    // a transaction without changes needs no disk space, so it shows nothing
    if (last === undefined || this.#changes() === last.changes) return
    const { filename } = this.#options
    // on a full disk, small writes may still succeed, because SQLite reuses space in the write-ahead log
    if (!last.isFull || filename === undefined || hasRoom(filename)) this.#lastFailure = undefined
  }

  /** Whether to try a write now: during an outage, returns `true` once a second. */
  mayTry(): boolean {
    const { monotonicMs } = this.#options
    if (this.#lastFailure === undefined || monotonicMs() - this.#triedAt < RETRY_MS) return false
    this.#triedAt = monotonicMs()
    return true
  }

  /** How many rows were changed since the database was opened. */
  #changes(): unknown {
    return this.#options.db.prepare("SELECT total_changes() AS changes").get()?.changes
  }
}
