/** All rows of a database file, to see whether something has changed them. */
import { DatabaseSync } from "node:sqlite"

export class Stored implements Disposable {
  readonly #db: DatabaseSync

  constructor(filename: string) {
    this.#db = new DatabaseSync(filename, { readOnly: true })
  }

  /** A number that changes with every commit of another connection. */
  get version(): number {
    return Number(Object.values(this.#db.prepare("PRAGMA data_version").get() ?? {})[0])
  }

  /**
   * Every row as text after the name of its table. Leaves out what the engine writes by itself: the last use of a key, and its
   * clock.
   */
  rows(): ReadonlyArray<string> {
    const tables = this.#db
      .prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
      )
      .all()
    return tables.flatMap(({ name }) =>
      this.#db
        .prepare(`SELECT * FROM "${String(name)}"`)
        .all()
        .filter((row) => name !== "meta" || row.name !== "clock")
        .map(({ last_used_at: _, ...row }) => `${String(name)} ${JSON.stringify(row, asText)}`)
    )
  }

  [Symbol.dispose](): void {
    this.#db.close()
  }
}

const asText = (_name: string, value: unknown): unknown => (typeof value === "bigint" ? String(value) : value)
