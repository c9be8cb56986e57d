/**
 * Translates statements for Postgres. The text of a statement is written so that both SQLite and Postgres accept it, apart from the
 * few differences that are handled here. A statement with other differences has its own text in {@link Statement.postgres}.
 */
import type { Damage, DamagedKind } from "../Damage.ts"
import type { Statement } from "../Program.ts"
import { type Merged, mergedInsert, mergedUpdate } from "./MergedWrites.ts"

/**
 * Gives placeholders their numbers: `?2` becomes `$2`, and a plain `?` gets the number after the highest number so far. Quoted text
 * is not changed.
 */
const withNumberedPlaceholders = (text: string): string => {
  let highest = 0
  return text.replaceAll(/'(?:[^']|'')*'|\?(\d*)/g, (whole, number: string | undefined) => {
    if (number === undefined) return whole
    const position = number === "" ? highest + 1 : Number(number)
    highest = Math.max(highest, position)
    return `$${position}`
  })
}

/**
 * Translates SQLite's text: a limit of -1 becomes no limit, index hints are removed, `json_object` gets its name on Postgres, and
 * the items of a JSON list are cast to text.
 */
const toPostgres = (text: string): string =>
  withNumberedPlaceholders(
    text
      .replaceAll(/\bLIMIT -1\b/g, "LIMIT ALL")
      .replaceAll(/\bLIMIT (\?\d*)/g, "LIMIT nullif(CAST($1 AS BIGINT), -1)")
      .replaceAll(/\bjson_object\(/g, "json_build_object(")
      .replaceAll(/ NOT INDEXED\b| INDEXED BY \w+/g, "")
      .replaceAll(/\bjson_each\((\?|\w+)\)/g, "jsonb_array_elements_text(CAST($1 AS JSONB)) AS value")
  )

export interface Prepared {
  /** The short, unique name under which the statement is prepared; empty for a statement that is not prepared. */
  readonly name: string
  readonly text: string
  /** The same statement for many rows at once; absent where it cannot be merged. */
  readonly merged?: Merged & { readonly name: string }
}

export interface Translated extends Prepared {
  /** For an insert into a table whose keys the engine assigns: the table, and the insert with the key as its last value. */
  readonly withKey: (Prepared & { readonly table: KeyedTable }) | undefined
  /** The statement in a form that returns the key that the database has assigned. */
  readonly returningKey: Prepared
  /** The statement in a form that fails if it changes no row. The statement must not be able to change several rows. */
  readonly assumingOne: Prepared
  /** The tables that the statement names. */
  readonly tables: ReadonlyArray<string>
}

/** Tables whose keys an engine assigns, while it has locked the row of the table `engine`. */
type KeyedTable = "events" | "runs"

const keyOf: { readonly [table in KeyedTable]: string } = { events: "position", runs: "key" }

const translations = new Map<Statement, Translated>()
/** How many translated statements have a name. */
let namedCount = 0

/** Translates a statement. The conditions that leave out damaged rows are part of the translation. */
export const translate = (statement: Statement, damage: Damage): Translated => {
  if (statement.isSound && damage.skippedCount > 0)
    return makeTranslations(withSoundConditions(statement, damage), "")
  let translation = translations.get(statement)
  if (translation === undefined) {
    translation = makeTranslations(withSoundConditions(statement, damage), `i${++namedCount}`)
    translations.set(statement, translation)
  }
  return translation
}

/** The text of a statement with the conditions that leave out damaged rows. */
const withSoundConditions = (statement: Statement, damage: Damage): string =>
  (statement.postgres ?? statement.text).replaceAll(
    / ?@sound\((\w+), ([\w.]+)\)/g,
    (_, kind: DamagedKind, column: string) => damage.soundCondition(kind, column)
  )

const INSERT = /^\s*INSERT INTO (events|runs) \(([^)]*)\)\s*VALUES \(([^)]*)\)\s*$/

/** Makes the translations of a text. `name` is empty for a text that is used once: it is not prepared. */
const makeTranslations = (source: string, name: string): Translated => {
  const text = toPostgres(source)
  const suffixed = (suffix: string): string => (name === "" ? "" : name + suffix)
  const prepared = (suffix: string, form: string, merged?: Merged): Prepared => ({
    name: suffixed(suffix),
    text: form,
    ...(merged === undefined || name === "" ? {} : { merged: { ...merged, name: suffixed(`${suffix}m`) } })
  })
  const [, table, columns, values] = INSERT.exec(source) ?? []
  const withKey =
    // safe cast: the regular expression matches no other table
    table === undefined ? undefined : keyedInsert(table as KeyedTable, `${columns}`, `${values}`)
  return {
    ...prepared("", text, mergedInsert(source)),
    tables: [...text.matchAll(/\b(?:FROM|JOIN|INTO|UPDATE)\s+(\w+)/gi)].map(([, named]) => named!),
    assumingOne: prepared(
      "b",
      `WITH changed AS (${text} RETURNING 1) SELECT 1 / count(*) FROM changed`,
      mergedUpdate(source)
    ),
    returningKey: prepared(
      "r",
      `${text} RETURNING ${/^\s*INSERT INTO (access|operation)_log\b/.test(source) ? "seq" : "key"} AS key`
    ),
    withKey:
      withKey === undefined
        ? undefined
        : { table: withKey.table, ...prepared("k", toPostgres(withKey.source), mergedInsert(withKey.source)) }
  }
}

/** The insert with the key of the row as its last value. */
const keyedInsert = (table: KeyedTable, columns: string, values: string) => ({
  table,
  source: `INSERT INTO ${table} (${columns}, ${keyOf[table]}) VALUES (${values}, ?)`
})
