/**
 * Notes which rows of the database are damaged, so that the engine leaves these rows alone and all other work goes on.
 *
 * A caller who asks for a damaged row gets an error. The engine's own work covers many rows at once (claims, timers, leases, old
 * runs), and skips the rows that are noted here. Notes are kept in memory. After a restart, damage is found again, unless it was
 * repaired.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Statement, Value } from "./Program.ts"

/**
 * What is noted as damaged: a whole run, the schedules of a function, an entry of a bucket (`key`), or an event that is being
 * delivered.
 */
export type DamagedKind = "run" | "schedule" | "key" | "event"

/**
 * Where an error in work over many rows comes from: a known row, or one of the rows that a statement lists. That statement reads
 * only an index, and returns the key of each row as `key`.
 */
export interface Culprit {
  readonly error: unknown
  readonly kind: DamagedKind
  readonly keys:
    { readonly known: number } | { readonly statement: Statement; readonly values: ReadonlyArray<Value> }
  /** Whether the error certainly comes from one of the listed rows. A known row is certain anyway. */
  readonly isCertain?: boolean
}

export class Damage {
  readonly #db: DatabaseSync
  readonly #notes: { readonly [kind in DamagedKind]: Map<number, string> } = {
    run: new Map(),
    schedule: new Map(),
    key: new Map(),
    event: new Map()
  }
  #hasTables = false
  /** Whether damage was found since the start. Only a check of the whole file can tell whether the damage is still there. */
  wasFound = false
  /** Messages for the log. */
  readonly messages: Array<string> = []

  constructor(db: DatabaseSync) {
    this.#db = db
  }

  /** How many runs, schedules, entries and events are left alone. */
  get skippedCount(): number {
    return Object.values(this.#notes).reduce((sum, notes) => sum + notes.size, 0)
  }

  /**
   * Notes that something other than a single row, such as the newest runs, cannot be read. This does not make the engine leave any
   * row alone.
   */
  noteUnreadable(what: string, error: unknown): void {
    this.wasFound = true
    this.messages.push(`${what} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }

  /** Why this row is left alone, if it is. */
  reasonOf(kind: DamagedKind, key: number): string | undefined {
    return this.#notes[kind].get(key)
  }

  /** The SQL condition that leaves damaged rows out of a query. `column` is the column that has the keys of the rows. */
  soundCondition(kind: DamagedKind, column: string): string {
    return this.#notes[kind].size === 0 ? "" : ` AND ${column} NOT IN (SELECT key FROM temp.damaged_${kind})`
  }

  /** Leaves a row alone from now on. Returns `false` when it was left alone before. Must not be called within a transaction. */
  note(kind: DamagedKind, key: number, reason: string): boolean {
    if (this.#notes[kind].has(key)) return false
    this.wasFound = true
    this.addToTable(kind, key)
    this.#notes[kind].set(key, reason)
    return true
  }

  /** Adds a row to the table of the rows that {@link soundCondition} leaves out. */
  protected addToTable(kind: DamagedKind, key: number): void {
    if (!this.#hasTables) {
      for (const each of Object.keys(this.#notes)) {
        this.#db.exec(`CREATE TEMP TABLE damaged_${each} (key INTEGER PRIMARY KEY)`)
      }
      this.#hasTables = true
    }
    this.#db.prepare(`INSERT INTO temp.damaged_${kind} VALUES (?)`).run(key)
  }

  /** Removes a row from that table. */
  protected removeFromTable(kind: DamagedKind, key: number): void {
    this.#db.prepare(`DELETE FROM temp.damaged_${kind} WHERE key = ?`).run(key)
  }

  /** Stops leaving a row alone. Called when an operator has, or may have, repaired it. */
  forgive(kind: DamagedKind, key: number): void {
    if (this.#notes[kind].delete(key)) this.removeFromTable(kind, key)
  }
}
