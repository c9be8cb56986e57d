/**
 * Merges many writes of one statement into one write. For each parameter of the statement, the merged write gets an array with the
 * values of all writes. The merged write costs Postgres and the engine a fraction of what the single writes cost.
 */
import { migrations } from "./Migrations.ts"

/** The merged form of a statement. */
export interface Merged {
  /** The SQL. All its parameters are arrays. */
  readonly text: string
  /** How many parameters the statement has, merged or not. */
  readonly parameterCount: number
}

/** Column types, by table and column name, as the migrations define them. */
const columnTypes: ReadonlyMap<string, ReadonlyMap<string, string>> = (() => {
  const sql = migrations.map(({ sql }) => sql).join("\n")
  const tables = new Map<string, Map<string, string>>()
  for (const [, table = "", columns = ""] of sql.matchAll(/CREATE TABLE (\w+) \(\n([^]*?)\n\)/g)) {
    const typedColumns = columns.matchAll(/^ {2}(\w+) (BIGINT|TEXT|BYTEA)\b/gm)
    tables.set(table, new Map([...typedColumns].map(([, name, type]) => [name!, type!])))
  }
  for (const [, table = "", name = "", type = ""] of sql.matchAll(
    /ALTER TABLE (\w+) ADD COLUMN (\w+) (BIGINT|TEXT|BYTEA)\b/g
  ))
    tables.get(table)?.set(name, type)
  return tables
})()

const INSERT = /^\s*INSERT INTO (\w+) \(([^)]*)\)\s*VALUES \(([^)]*)\)\s*(ON CONFLICT DO NOTHING)?\s*$/
const UPDATE = /^\s*UPDATE (\w+) SET ([^]*) WHERE (key = \?(?: AND status IN \([\d, ]+\))?)\s*$/
/** A value in the SQL that is the same in every row. */
const CONSTANT = /^(?:\d+|NULL|'[^'?]*')$/

/** SQL: the rows `v` with the columns `p1`, `p2` and so on, whose values come from the parameters, which are arrays. */
const rowsOfParameters = (types: ReadonlyArray<string>): string => {
  const arrays = types.map((type, index) => `CAST($${index + 1} AS ${type}[])`)
  return `unnest(${arrays.join(", ")}) AS v(${types.map((_, index) => `p${index + 1}`).join(", ")})`
}

/**
 * The merged form of an insert; `undefined` for other statements, and for an insert that does not have a plain list of values. With
 * `ON CONFLICT DO NOTHING`, the merged form skips existing rows too.
 */
export const mergedInsert = (source: string): Merged | undefined => {
  const [, table = "", names = "", values = "", rest = ""] = INSERT.exec(source) ?? []
  const typesOfTable = columnTypes.get(table)
  if (typesOfTable === undefined) return undefined
  const columns = names.split(",").map((name) => name.trim())
  const types: Array<string> = []
  const row: Array<string> = []
  for (const [index, value] of values.split(",").entries()) {
    const type = typesOfTable.get(columns[index] ?? "")
    if (value.trim() === "?") {
      if (type === undefined) return undefined
      types.push(type)
      row.push(`v.p${types.length}`)
    } else if (CONSTANT.test(value.trim())) row.push(value.trim())
    else return undefined
  }
  if (types.length === 0 || row.length !== columns.length) return undefined
  return {
    text: `INSERT INTO ${table} (${columns.join(", ")}) SELECT ${row.join(", ")} FROM ${rowsOfParameters(types)} ${rest}`,
    parameterCount: types.length
  }
}

/**
 * The merged form of an update of one row by its key; `undefined` for other statements. The merged update fails unless it changes
 * one row for each item of the arrays.
 */
export const mergedUpdate = (source: string): Merged | undefined => {
  const [, table = "", set = "", where = ""] = UPDATE.exec(source) ?? []
  const typesOfTable = columnTypes.get(table)
  if (typesOfTable === undefined || /'/.test(set)) return undefined
  const types: Array<string> = []
  const withRowValues = (text: string): string =>
    text.replaceAll(/(\w+) = (coalesce\(\w+, )?\?/g, (_, column: string, before = "") => {
      types.push(typesOfTable.get(column) ?? "")
      return `${column} = ${before}v.p${types.length}`
    })
  const [mergedSet, mergedWhere] = [withRowValues(set), withRowValues(where)]
  if (types.includes("") || /\?/.test(mergedSet + mergedWhere)) return undefined
  return {
    text: `WITH changed AS (UPDATE ${table} SET ${mergedSet} FROM ${rowsOfParameters(types)} WHERE ${mergedWhere} RETURNING 1)
      SELECT 1 / CASE WHEN count(*) = cardinality(CAST($1 AS ${types[0]}[])) THEN 1 ELSE 0 END FROM changed`,
    parameterCount: types.length
  }
}

/** The arrays for a merged write: for each parameter, an array with its value in each write. */
export const arraysOf = <A>(
  parameterCount: number,
  writes: ReadonlyArray<ReadonlyArray<A>>
): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: parameterCount }, (_, index) => writes.map((values) => values[index]!))
