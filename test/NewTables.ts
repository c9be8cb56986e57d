/**
 * Makes the tables of a new database in one step: an engine in memory starts thirty times as fast as with all migrations,
 * and tests start thousands of engines. The tables are copied from the first database, which was migrated. A database that
 * has tables is migrated as usual.
 */
import { DatabaseSync } from "node:sqlite"
import type * as SqliteFile from "../src/Engine/Store/SqliteFile.ts"

type Migrate = typeof SqliteFile.migrate

interface Made {
  /** The content of an empty database with all tables. */
  readonly image: Uint8Array
  /** The statements that make its tables. */
  readonly sql: string
}

const make = (migrate: Migrate): Made => {
  using db = new DatabaseSync(":memory:")
  migrate(db)
  const tables = db.prepare(
    "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'"
  )
  const marks = ["user_version", "application_id"].map(
    (name) => `PRAGMA ${name} = ${Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0])}`
  )
  const sql = [...tables.all().map((row) => String(row.sql)), ...marks].join(";\n")
  return { image: db.serialize(), sql }
}

/** Does the same as `migrate`, but faster for a database without tables. */
export const soonerThan = (migrate: Migrate): Migrate => {
  let made: Made | undefined
  return (db) => {
    const isNew = db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined
    // the oldest supported Node.js lacks `deserialize`
    if (!isNew || typeof db.deserialize !== "function") return migrate(db)
    made ??= make(migrate)
    if (db.location() === null) db.deserialize(made.image)
    else db.exec(`BEGIN IMMEDIATE;\n${made.sql};\nCOMMIT`)
  }
}
