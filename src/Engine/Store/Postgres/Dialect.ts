/**
 * Statements as Postgres takes them. Their text is written so that SQLite and Postgres take it alike; what is left to change is
 * told here, and a statement whose two texts differ in more than that carries the other one: {@link Statement.postgres}.
 */
import type { Damage, DamagedKind } from "../Damage.ts"
import type { Statement } from "../Program.ts"
import { type Merged, mergedInsert, mergedUpdate } from "./Merge.ts"

/** Placeholders: `?2` is `$2`, and `?` has the number after the highest so far. What stands between quotes is left as it is. */
const numbered = (text: string): string => {
  let highest = 0
  return text.replaceAll(/'(?:[^']|'')*'|\?(\d*)/g, (whole, number: string | undefined) => {
    if (number === undefined) return whole
    const which = number === "" ? highest + 1 : Number(number)
    highest = Math.max(highest, which)
    return `$${which}`
  })
}

/** A limit of -1 stands for none, no index is what a planner may choose by itself, and the items of a JSON list are texts. */
const toPostgres = (text: string): string =>
  numbered(
    text
      .replaceAll(/\bLIMIT -1\b/g, "LIMIT ALL")
      .replaceAll(/\bLIMIT (\?\d*)/g, "LIMIT nullif(CAST($1 AS BIGINT), -1)")
      .replaceAll(/\bjson_object\(/g, "json_build_object(")
      .replaceAll(/ NOT INDEXED\b/g, "")
      .replaceAll(/\bjson_each\((\?|\w+)\)/g, "jsonb_array_elements_text(CAST($1 AS JSONB)) AS value")
  )

/** A text, and the name that it is prepared under: short, and its own. */
export interface Prepared {
  readonly name: string
  readonly text: string
  /** The same for many at once. */
  readonly merged?: Merged & { readonly name: string }
}

export interface Translated extends Prepared {
  /** The table that it inserts rows into whose key the engine gives, and how it does that. */
  readonly keyed: (Prepared & { readonly table: KeyedTable }) | undefined
  /** Gives the key that the database has made. */
  readonly returning: Prepared
  /** Fails unless it changes exactly one row. */
  readonly believed: Prepared
  /** The tables that it names. */
  readonly tables: ReadonlyArray<string>
}

/** Tables whose keys are given by whoever holds the row of `engine`. */
type KeyedTable = "events" | "runs"

const keyOf: { readonly [table in KeyedTable]: string } = { events: "position", runs: "key" }

const translated = new Map<Statement, Translated>()
let count = 0

/** A statement as it is prepared, without what is damaged. */
export const translate = (statement: Statement, damage: Damage): Translated => {
  if (statement.isSound && damage.count > 0) return make(sound(statement, damage), "")
  let known = translated.get(statement)
  if (known === undefined) {
    known = make(sound(statement, damage), `i${++count}`)
    translated.set(statement, known)
  }
  return known
}

const sound = (statement: Statement, damage: Damage): string =>
  (statement.postgres ?? statement.text).replaceAll(
    / ?@sound\((\w+), ([\w.]+)\)/g,
    (_, kind: DamagedKind, column: string) => damage.except(kind, column)
  )

const INSERT = /^\s*INSERT INTO (events|runs) \(([^)]*)\)\s*VALUES \(([^)]*)\)\s*$/

/** `name` is empty for a text that is used once. */
const make = (source: string, name: string): Translated => {
  const text = toPostgres(source)
  const suffixed = (suffix: string): string => (name === "" ? "" : name + suffix)
  const prepared = (suffix: string, own: string, merged?: Merged): Prepared => ({
    name: suffixed(suffix),
    text: own,
    ...(merged === undefined || name === "" ? {} : { merged: { ...merged, name: suffixed(`${suffix}m`) } })
  })
  const [, table, columns, values] = INSERT.exec(source) ?? []
  const keyed =
    // the expression names no other table
    table === undefined ? undefined : keyedInsert(table as KeyedTable, `${columns}`, `${values}`)
  return {
    ...prepared("", text, mergedInsert(source)),
    tables: [...text.matchAll(/\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)/gi)].map(([, named]) => named!),
    believed: prepared(
      "b",
      `WITH changed AS (${text} RETURNING 1) SELECT 1 / count(*) FROM changed`,
      mergedUpdate(source)
    ),
    returning: prepared(
      "r",
      `${text} RETURNING ${/^\s*INSERT INTO (access|operation)_log\b/.test(source) ? "seq" : "key"} AS key`
    ),
    keyed:
      keyed === undefined
        ? undefined
        : { table: keyed.table, ...prepared("k", toPostgres(keyed.source), mergedInsert(keyed.source)) }
  }
}

/** The same insert with the key among its values, which is the last of them. */
const keyedInsert = (table: KeyedTable, columns: string, values: string) => ({
  table,
  source: `INSERT INTO ${table} (${columns}, ${keyOf[table]}) VALUES (${values}, ?)`
})
