/**
 * Merges many writes of one statement into one write, which has the values of each parameter as an array. It costs Postgres and
 * the engine a fraction of the single writes.
 */
import { migrations } from "./Migrations.ts"

export interface Merged {
  /** Its `places` parameters are arrays. */
  readonly text: string
  /** How many parameters a single write has. */
  readonly places: number
}

/** Column types, by table and column name, as the migrations define them. */
const types: ReadonlyMap<string, ReadonlyMap<string, string>> = (() => {
  const all = migrations.map(({ sql }) => sql).join("\n")
  const found = new Map<string, Map<string, string>>()
  for (const [, table = "", columns = ""] of all.matchAll(/CREATE TABLE (\w+) \(\n([^]*?)\n\)/g)) {
    const own = columns.matchAll(/^ {2}(\w+) (BIGINT|TEXT|BYTEA)\b/gm)
    found.set(table, new Map([...own].map(([, name, type]) => [name!, type!])))
  }
  for (const [, table = "", name = "", type = ""] of all.matchAll(
    /ALTER TABLE (\w+) ADD COLUMN (\w+) (BIGINT|TEXT|BYTEA)\b/g
  ))
    found.get(table)?.set(name, type)
  return found
})()

const INSERT = /^\s*INSERT INTO (\w+) \(([^)]*)\)\s*VALUES \(([^)]*)\)\s*(ON CONFLICT DO NOTHING)?\s*$/
const UPDATE = /^\s*UPDATE (\w+) SET ([^]*) WHERE (key = \?(?: AND status IN \([\d, ]+\))?)\s*$/
/** A value that is the same in every row. */
const CONSTANT = /^(?:\d+|NULL|'[^'?]*')$/

/** SQL that makes rows of the arrays. */
const listed = (columns: ReadonlyArray<string>): string => {
  const lists = columns.map((type, index) => `CAST($${index + 1} AS ${type}[])`)
  return `unnest(${lists.join(", ")}) AS v(${columns.map((_, index) => `p${index + 1}`).join(", ")})`
}

/**
 * The merged form of an insert; `undefined` for other statements, and for an insert without a list of values. An insert that
 * skips existing rows does so in its merged form too.
 */
export const mergedInsert = (source: string): Merged | undefined => {
  const [, table = "", names = "", values = "", rest = ""] = INSERT.exec(source) ?? []
  const known = types.get(table)
  if (known === undefined) return undefined
  const columns = names.split(",").map((name) => name.trim())
  const places: Array<string> = []
  const row: Array<string> = []
  for (const [index, value] of values.split(",").entries()) {
    const type = known.get(columns[index] ?? "")
    if (value.trim() === "?") {
      if (type === undefined) return undefined
      places.push(type)
      row.push(`v.p${places.length}`)
    } else if (CONSTANT.test(value.trim())) row.push(value.trim())
    else return undefined
  }
  if (places.length === 0 || row.length !== columns.length) return undefined
  return {
    text: `INSERT INTO ${table} (${columns.join(", ")}) SELECT ${row.join(", ")} FROM ${listed(places)} ${rest}`,
    places: places.length
  }
}

/**
 * The merged form of an update of one row by its key; `undefined` for other statements. It fails unless it changes one row for
 * each item of the arrays.
 */
export const mergedUpdate = (source: string): Merged | undefined => {
  const [, table = "", set = "", where = ""] = UPDATE.exec(source) ?? []
  const known = types.get(table)
  if (known === undefined || /'/.test(set)) return undefined
  const places: Array<string> = []
  const put = (text: string): string =>
    text.replaceAll(/(\w+) = (coalesce\(\w+, )?\?/g, (_, column: string, before = "") => {
      places.push(known.get(column) ?? "")
      return `${column} = ${before}v.p${places.length}`
    })
  const [setTo, which] = [put(set), put(where)]
  if (places.includes("") || /\?/.test(setTo + which)) return undefined
  return {
    text: `WITH changed AS (UPDATE ${table} SET ${setTo} FROM ${listed(places)} WHERE ${which} RETURNING 1)
      SELECT 1 / CASE WHEN count(*) = cardinality(CAST($1 AS ${places[0]}[])) THEN 1 ELSE 0 END FROM changed`,
    places: places.length
  }
}

/** The arrays of many writes: the values of each parameter. */
export const listsOf = <A>(
  places: number,
  writes: ReadonlyArray<ReadonlyArray<A>>
): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: places }, (_, place) => writes.map((values) => values[place]!))
