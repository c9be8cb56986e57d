/**
 * The writes of a transaction whose results no program waits for. They are held until a statement that could see them, or until
 * the commit.
 */
import type { Value } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { listsOf } from "./MergedWrites.ts"

type ManyAtOnce = Prepared["merged"]

interface Group {
  readonly statement: Prepared
  readonly merged: ManyAtOnce
  readonly tables: ReadonlyArray<string>
  readonly writes: Array<ReadonlyArray<Value>>
}

export class DeferredWrites {
  #groups: Array<Group> = []

  /** Whether a held write concerns one of the tables. */
  touches(tables: ReadonlyArray<string>): boolean {
    return this.#groups.some((group) => group.tables.some((table) => tables.includes(table)))
  }

  /**
   * Holds a write. When writes of the statement can be merged, it goes out with an earlier one of them, unless a write in between
   * concerns its tables.
   */
  add(
    statement: Prepared,
    merged: ManyAtOnce,
    tables: ReadonlyArray<string>,
    values: ReadonlyArray<Value>
  ): void {
    if (merged !== undefined) {
      for (let i = this.#groups.length - 1; i >= 0; i--) {
        const group = this.#groups[i]!
        if (group.statement === statement) return void group.writes.push(values)
        if (group.tables.some((table) => tables.includes(table))) break
      }
    }
    this.#groups.push({ statement, merged, tables, writes: [values] })
  }

  /** Passes all held writes to `send`. Their order may differ from that in which they were added, and has the same effect. */
  flush(send: (statement: Prepared, values: ReadonlyArray<Value | ReadonlyArray<Value>>) => void): void {
    const groups = this.#groups
    this.#groups = []
    for (const { merged, statement, writes } of groups) {
      if (merged === undefined || writes.length === 1) for (const values of writes) send(statement, values)
      else send(merged, listsOf(merged.places, writes))
    }
  }
}
