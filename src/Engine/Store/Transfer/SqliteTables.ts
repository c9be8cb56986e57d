/** Reads all tables of a SQLite database for an export, also while an engine uses it, and fills them in an import. */
import { StoreError } from "../../../Errors.ts"
import type { DatabaseSync } from "../NodeSqlite.ts"
import { migrations } from "../Migrations.ts"
import { checkIsIronflow, versionOf } from "../SqliteFile.ts"
import { type Header, unexportedMeta, type Source, type Table, type Target, type Values } from "./Format.ts"

/**
 * Tables for which programs use the hidden column `rowid`. This column is exported too, because on Postgres it is an ordinary
 * column.
 */
const TABLES_WITH_ROWID: ReadonlySet<string> = new Set(["kv_entries"])

const tablesOf = (db: DatabaseSync): ReadonlyArray<Table> =>
  db
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    .all()
    .map((row) => {
      const name = String(row.name)
      const columns = db
        .prepare("SELECT name FROM pragma_table_info(?) ORDER BY name")
        .all(name)
        .map((column) => String(column.name))
      return { name, columns: TABLES_WITH_ROWID.has(name) ? [...columns, "rowid"].toSorted() : columns }
    })

/** The columns of the primary key of a table, or all its columns where it has none. */
const keyOf = (db: DatabaseSync, { columns, name }: Table): ReadonlyArray<string> => {
  const key = db
    .prepare("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk")
    .all(name)
    .map((column) => String(column.name))
  return key.length === 0 ? columns : key
}

const unexportedNames = unexportedMeta.map((name) => `'${name}'`).join(", ")
const quoted = (columns: ReadonlyArray<string>): string => columns.map((name) => `"${name}"`).join(", ")
const highest = (db: DatabaseSync, sql: string): number =>
  Number(Object.values(db.prepare(sql).get() ?? {})[0] ?? 0)

/** How many rows are read at once. */
const BATCH = 500

/**
 * Reads a database in the snapshot that its connection holds. Throws a `StoreError` when its tables are older or newer than those
 * of this version.
 */
export const readSqlite = (db: DatabaseSync, filename: string, now: number): Source => {
  checkIsIronflow(db, filename)
  if (versionOf(db) !== migrations.length) {
    throw new StoreError(
      `The tables of "${filename}" are at version ${versionOf(db)}, and this package reads version ${migrations.length}: start an engine of this version of the package on the file once`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  const sequences = db.prepare("SELECT name, seq FROM sqlite_sequence ORDER BY name").all()
  return {
    header: {
      madeAt: new Date(now).toISOString(),
      numbers: {
        environments: highest(db, "SELECT max(key) FROM environments"),
        events: highest(db, "SELECT max(position) FROM events"),
        runs: highest(db, "SELECT max(key) FROM runs"),
        seq: highest(db, "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'seq'")
      },
      sequences: Object.fromEntries(sequences.map(({ name, seq }) => [String(name), Number(seq)]))
    },
    tables: tablesOf(db),
    *rows(table) {
      const condition = table.name === "meta" ? ` WHERE name NOT IN (${unexportedNames})` : ""
      const statement = db.prepare(
        `SELECT ${quoted(table.columns)} FROM ${table.name}${condition} ORDER BY ${quoted(keyOf(db, table))}`
      )
      let batch: Array<Values> = []
      for (const row of statement.iterate()) {
        batch.push(table.columns.map((name) => row[name] ?? null))
        if (batch.length < BATCH) continue
        yield batch
        batch = []
      }
      if (batch.length > 0) yield batch
    }
  }
}

/** Fills a database that has the tables of this version, within the open transaction of its connection. Empties it first. */
export const writeSqlite = (db: DatabaseSync): Target => {
  const tables = tablesOf(db)
  for (const { name } of tables) db.exec(`DELETE FROM ${name}`)
  return {
    tables,
    write: ({ columns, name }, rows) => {
      const insert = db.prepare(
        `INSERT INTO ${name} (${quoted(columns)}) VALUES (${columns.map(() => "?").join(", ")})`
      )
      for (const row of rows) insert.run(...row)
    }
  }
}

/** Writes the last assigned numbers, so that the engine assigns higher ones. */
export const writeNumbers = (db: DatabaseSync, { numbers, sequences }: Header): void => {
  db.prepare("INSERT INTO meta (name, value) VALUES ('seq', ?)").run(numbers.seq)
  for (const { name } of db
    .prepare("SELECT name FROM sqlite_schema WHERE sql LIKE '%AUTOINCREMENT%'")
    .all()) {
    const last = sequences[String(name)]
    if (last === undefined) continue
    db.prepare("DELETE FROM sqlite_sequence WHERE name = ?").run(name ?? null)
    db.prepare("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)").run(name ?? null, last)
  }
}
