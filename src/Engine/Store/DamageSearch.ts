/**
 * Finds damage that SQLite reads without an error: invalid JSON, and rows whose run or event is missing. `ironflow serve --check`,
 * `ironflow doctor --check`, backups and restores search for such damage when they check a whole file. A changed value that is
 * still valid JSON is not found here; the checksum of a backup (`Checksum.ts`) shows that something in the backup has changed.
 */
import type { DatabaseSync } from "node:sqlite"

/** The JSON columns of each table. `rowName` is the SQL expression that names a row in reports. */
const jsonColumns: ReadonlyArray<{
  readonly table: string
  readonly rowName: string
  readonly columns: ReadonlyArray<string>
}> = [
  { table: "functions", rowName: "'function ' || id", columns: ["registration"] },
  { table: "events", rowName: "'event ' || id", columns: ["data", "metadata"] },
  {
    table: "runs",
    rowName: "'run ' || id",
    columns: ["input", "output", "error", "compensations", "pause"]
  },
  {
    table: "steps",
    rowName: "'step ' || step_key || ' of run ' || coalesce((SELECT id FROM runs WHERE key = run), run)",
    columns: ["value"]
  },
  {
    table: "waits",
    rowName: "'wait ' || step_key || ' of run ' || coalesce((SELECT id FROM runs WHERE key = run), run)",
    columns: ["value"]
  },
  {
    table: "superseded_steps",
    rowName: "'step ' || step_key || ' of run ' || coalesce((SELECT id FROM runs WHERE key = run), run)",
    columns: ["entry"]
  },
  { table: "snapshots", rowName: "'the snapshot of ' || entity_id", columns: ["state"] },
  {
    table: "projection_states",
    rowName: "'state of partition ' || partition_key || ' of a projection'",
    columns: ["state"]
  }
]

/**
 * The references from one row to another. `where` finds the rows that refer to a missing row, and `problem` says what is wrong with
 * such a row.
 */
const references: ReadonlyArray<{
  readonly table: string
  readonly rowName: string
  readonly where: string
  readonly problem: string
}> = [
  {
    table: "runs",
    rowName: "'run ' || id",
    where: "input IS NULL AND ended_at IS NULL AND event NOT IN (SELECT position FROM events)",
    problem: "its event is missing"
  },
  {
    table: "steps",
    rowName: "'step ' || step_key",
    where: "run NOT IN (SELECT key FROM runs)",
    problem: "its run is missing"
  },
  {
    table: "steps",
    rowName: "'step ' || step_key || ' of run ' || coalesce((SELECT id FROM runs WHERE key = run), run)",
    where:
      "value IS NULL AND failed = 0 AND event IS NOT NULL AND event NOT IN (SELECT position FROM events)",
    problem: "the event that it received is missing"
  },
  {
    table: "waits",
    rowName: "'wait ' || step_key",
    where: "run NOT IN (SELECT key FROM runs)",
    problem: "its run is missing"
  }
]

/** Returns at most `limit` sentences, each about one damaged row. Skips tables and JSON columns that an older database lacks. */
export const findDamage = (db: DatabaseSync, limit: number): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const findColumn = db.prepare("SELECT 1 FROM pragma_table_info(?) WHERE name = ?")
  const search = (table: string, rowName: string, where: string, problem: string): void => {
    if (problems.length >= limit) return
    const rows = db.prepare(`SELECT ${rowName} AS which FROM ${table} WHERE ${where} LIMIT ?`)
    for (const { which } of rows.iterate(limit - problems.length)) problems.push(`${which}: ${problem}`)
  }
  for (const { columns, rowName, table } of jsonColumns) {
    for (const column of columns) {
      if (findColumn.get(table, column) === undefined) continue
      search(
        table,
        rowName,
        `${column} IS NOT NULL AND NOT json_valid(${column})`,
        `\`${column}\` is not JSON`
      )
    }
  }
  for (const { problem, rowName, table, where } of references) {
    // checks that the table exists: each of these tables has a column `key` or `run`
    if (findColumn.get(table, "key") !== undefined || findColumn.get(table, "run") !== undefined)
      search(table, rowName, where, problem)
  }
  return problems
}
