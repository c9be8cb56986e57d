/**
 * What of the database cannot be read, and is left alone for that, so that it harms nothing else.
 *
 * Whoever asks for a damaged row gets an error. What the engine does by itself goes over many rows at once (claims, timers,
 * leases, old runs): it passes over the runs that are noted here. Notes are kept in memory: at the next start they are
 * found again, or what was damaged has been restored.
 */
import type { DatabaseSync } from "node:sqlite"
import type { Statement, Value } from "./Program.ts"

/** What is left alone: a whole run, the schedules of a function, a stored key, an event that is being handed on. */
export type DamagedKind = "run" | "schedule" | "key" | "event"

/**
 * Where an error in the middle of many rows comes from: one of them that is known, or one of those that a statement lists,
 * which reads an index alone and gives each as `key`.
 */
export interface Culprit {
  readonly error: unknown
  readonly kind: DamagedKind
  readonly keys:
    { readonly certain: number } | { readonly statement: Statement; readonly values: ReadonlyArray<Value> }
  /** It is known that it is one of these. */
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
  /** Whether anything was found damaged since the start: whether it still is, only a look at the whole file can say. */
  wasFound = false
  /** What is to be said in the log. */
  readonly news: Array<string> = []

  constructor(db: DatabaseSync) {
    this.#db = db
  }

  /** How many are left alone. */
  get count(): number {
    return Object.values(this.#notes).reduce((sum, notes) => sum + notes.size, 0)
  }

  /** Something else cannot be read. */
  unreadable(what: string, error: unknown): void {
    this.wasFound = true
    this.news.push(`${what} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }

  /** Why this one is left alone, if it is. */
  why(kind: DamagedKind, key: number): string | undefined {
    return this.#notes[kind].get(key)
  }

  /** The condition that leaves damaged ones out of a query: `column` has their keys. */
  except(kind: DamagedKind, column: string): string {
    return this.#notes[kind].size === 0 ? "" : ` AND ${column} NOT IN (SELECT key FROM temp.damaged_${kind})`
  }

  /** Leaves one alone from now on; says whether it was not before. Not within a transaction. */
  note(kind: DamagedKind, key: number, why: string): boolean {
    if (this.#notes[kind].has(key)) return false
    this.wasFound = true
    this.tabulate(kind, key)
    this.#notes[kind].set(key, why)
    return true
  }

  /** Has statements leave one out. */
  protected tabulate(kind: DamagedKind, key: number): void {
    if (!this.#hasTables) {
      for (const each of Object.keys(this.#notes)) {
        this.#db.exec(`CREATE TEMP TABLE damaged_${each} (key INTEGER PRIMARY KEY)`)
      }
      this.#hasTables = true
    }
    this.#db.prepare(`INSERT INTO temp.damaged_${kind} VALUES (?)`).run(key)
  }

  protected untabulate(kind: DamagedKind, key: number): void {
    this.#db.prepare(`DELETE FROM temp.damaged_${kind} WHERE key = ?`).run(key)
  }

  /** Somebody has put it right, or believes so. */
  forgive(kind: DamagedKind, key: number): void {
    if (this.#notes[kind].delete(key)) this.untabulate(kind, key)
  }
}
