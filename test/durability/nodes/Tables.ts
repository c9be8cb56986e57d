/** Copies what the engines have stored on Postgres to a file that the checker reads. */
import { DatabaseSync, type SQLInputValue } from "node:sqlite"
import pg from "pg"

const tables = ["functions", "events", "runs", "steps", "waits"] as const

/** Copies the tables that the checker reads to a new SQLite file. */
export const copyTables = async (url: string, schema: string, filename: string): Promise<void> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const db = new DatabaseSync(filename)
  try {
    for (const table of tables) {
      const { fields, rows } = await client.query({
        text: `SELECT * FROM ${schema}.${table}`,
        rowMode: "array",
        types: {
          getTypeParser: ((oid: number) => (text: string) => (oid === 20 ? Number(text) : text)) as never
        }
      })
      const columns = fields.map(({ name }) => name)
      db.exec(`CREATE TABLE ${table} (${columns.join(", ")})`)
      const insert = db.prepare(`INSERT INTO ${table} VALUES (${columns.map(() => "?").join(", ")})`)
      for (const row of rows as ReadonlyArray<ReadonlyArray<SQLInputValue>>) insert.run(...row)
    }
  } finally {
    db.close()
    await client.end()
  }
}
