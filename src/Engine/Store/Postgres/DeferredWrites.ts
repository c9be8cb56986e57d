/**
 * The deferred writes of a transaction: no program waits for their results. They are sent before a statement that could see their
 * effect, or before the commit.
 */
import type { Value } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { arraysOf } from "./MergedWrites.ts"

type MergedStatement = Prepared["merged"]

interface WriteGroup {
  readonly statement: Prepared
  readonly merged: MergedStatement
  readonly tables: ReadonlyArray<string>
  readonly writes: Array<ReadonlyArray<Value>>
}

export class DeferredWrites {
  #groups: Array<WriteGroup> = []

  /** Whether a deferred write concerns one of the tables. */
  touches(tables: ReadonlyArray<string>): boolean {
    return this.#groups.some((group) => group.tables.some((table) => tables.includes(table)))
  }

  /**
   * Defers a write. With `merged`, the write is sent together with the last deferred write of the same statement, unless a write in
   * between concerns one of `tables`.
   */
  add(
    statement: Prepared,
    merged: MergedStatement,
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

  /**
   * Passes all deferred writes to `send`. Their order may differ from the order in which they were added, but the effect is the
   * same.
   */
  flush(send: (statement: Prepared, values: ReadonlyArray<Value | ReadonlyArray<Value>>) => void): void {
    const groups = this.#groups
    this.#groups = []
    for (const { merged, statement, writes } of groups) {
      if (merged === undefined || writes.length === 1) for (const values of writes) send(statement, values)
      else send(merged, arraysOf(merged.parameterCount, writes))
    }
  }
}
