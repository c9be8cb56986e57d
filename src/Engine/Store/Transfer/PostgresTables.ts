/** Reads all tables on Postgres for an export, also while engines use them, and fills them in an import. */
import type { Client } from "pg"
import { StoreError, toError, ValidationError } from "../../../Errors.ts"
import type { Value } from "../Program.ts"
import { loadDriver, openClient, type PostgresSettings, postgresSettingsOf } from "../Postgres/Driver.ts"
import {
  askWith,
  beingFilledError,
  IMPORT_APPLICATION,
  hasImport,
  fitOfVersion,
  LOCK_CLASS,
  migrateWithin,
  READ_VERSION,
  SCHEMA_LOCK,
  tooNewError
} from "../Postgres/Migrate.ts"
import type { PostgresOptions } from "../Postgres/Options.ts"
import { isDenied, LOST_FOR_GOOD_ADVICE, openError, storeError } from "../Postgres/PostgresErrors.ts"
import { fill, type Imported, unexportedMeta, type Source, type Table, type Values } from "./Format.ts"

/** Tables that are of use only in their own database, for its engines. They are not exported. */
const UNEXPORTED_TABLES = ["engine", "nodes", "node_workers", "news"]

/** How many rows are read at once. */
const BATCH = 500
/** Maximum number of parameters of a statement. Postgres accepts 65,535. */
const MAX_PARAMETERS = 30_000

const quoted = (columns: ReadonlyArray<string>): string => columns.map((name) => `"${name}"`).join(", ")

/**
 * SQL: the columns of the tables of schema $1. Unlogged tables are left out: a standby cannot read them, and a crash empties them
 * anyway.
 */
const COLUMNS = `FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 'u' AND a.attnum > 0 AND NOT a.attisdropped`

const tablesOf = async (client: Client, schema: string): Promise<ReadonlyArray<Table>> => {
  // does not ask `information_schema`, which leaves out tables that the user may not read: without any error, an export would lack
  // these tables
  const { rows } = await client.query(
    `SELECT c.relname AS name, a.attname AS column ${COLUMNS} AND c.relname <> ALL($2)
       ORDER BY c.relname COLLATE "C", a.attname COLLATE "C"`,
    [schema, UNEXPORTED_TABLES]
  )
  const tables = new Map<string, Array<string>>()
  for (const { column, name } of rows) {
    const columns = tables.get(String(name)) ?? []
    columns.push(String(column))
    tables.set(String(name), columns)
  }
  return [...tables].map(([name, columns]) => ({ name, columns }))
}

/** The identity columns of the tables, and the sequences from which their values come. */
const identitiesOf = async (client: Client, schema: string) =>
  (
    await client.query(
      `SELECT c.relname AS name, a.attname AS column, pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) AS sequence
         ${COLUMNS} AND a.attidentity <> '' ORDER BY c.relname COLLATE "C"`,
      [schema]
    )
  ).rows.map(({ column, name, sequence }) => ({
    table: String(name),
    column: String(column),
    sequence: String(sequence)
  }))

const withClient = async <A>(
  options: PostgresOptions,
  use: (client: Client, settings: PostgresSettings, isNew: boolean) => Promise<A>
): Promise<A> => {
  const settings = postgresSettingsOf(options)
  const driver = await loadDriver()
  let opened: Client | undefined
  try {
    const { client, sessionFacts } = await openClient(driver, settings, false)
    opened = client
    return await use(client, settings, sessionFacts?.is_new === 1)
  } catch (cause) {
    if (cause instanceof ValidationError) throw cause
    throw openError(settings.displayName, cause, opened === undefined ? undefined : LOST_FOR_GOOD_ADVICE)
  } finally {
    await opened?.end().catch(() => undefined)
  }
}

/** Reads all tables in one snapshot. Engines may be running. */
export const readPostgres = <A>(
  options: PostgresOptions,
  now: number,
  use: (source: Source) => Promise<A>
): Promise<A> =>
  withClient(options, (client, settings, isNew) =>
    readTables(client, settings, isNew, now, use).catch((cause: unknown) => {
      if (!isDenied(cause)) throw cause
      const { schema, displayName } = settings
      throw new StoreError(
        `Cannot read the tables at ${displayName}: ${toError(cause).message}. An export reads all tables and their sequences, so the user of the database URL needs these rights: ` +
          `GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ...; GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schema} TO ...`,
        { code: "STORE_UNAVAILABLE", cause }
      )
    })
  )

const readTables = async <A>(
  client: Client,
  settings: PostgresSettings,
  isNew: boolean,
  now: number,
  use: (source: Source) => Promise<A>
): Promise<A> => {
  const { migrations, schema, displayName } = settings
  if (isNew) {
    throw new StoreError(
      `There are no tables at ${displayName}: check the database in the URL, and the schema (\`--database-schema\`)`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
  // this transaction may be idle for long, while the file is written
  await client.query("SET LOCAL idle_in_transaction_session_timeout = 0")
  const { oldest, version } = (await client.query(READ_VERSION)).rows[0] ?? {}
  const fit = fitOfVersion(settings, Number(version), oldest)
  if (fit === "too new") throw tooNewError(settings, Number(version))
  if (fit === "too old") {
    throw new StoreError(
      `The tables at ${displayName} are at version ${version}, and this package reads version ${migrations.length}: \`ironflow migrate\` brings them up to date`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  const sequences: Record<string, number> = {}
  for (const { sequence, table } of await identitiesOf(client, schema)) {
    const { rows } = await client.query(`SELECT last_value, is_called FROM ${sequence}`)
    if (rows[0]?.is_called === 1) sequences[table] = Number(rows[0].last_value)
  }
  const { rows: engines } = await client.query("SELECT environments, events, runs, seq FROM engine")
  const { environments, events, runs, seq } = engines[0]
  const keys = new Map<string, Array<string>>()
  const primaryKeys = await client.query(
    `SELECT c.relname AS name, a.attname AS column FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
         WHERE n.nspname = $1 AND i.indisprimary ORDER BY array_position(i.indkey, a.attnum)`,
    [schema]
  )
  for (const { column, name } of primaryKeys.rows) keys.set(name, [...(keys.get(name) ?? []), String(column)])
  return await use({
    header: {
      madeAt: new Date(now).toISOString(),
      numbers: { environments, events, runs, seq },
      sequences
    },
    tables: await tablesOf(client, schema),
    async *rows(table) {
      const condition = table.name === "meta" ? ` WHERE name <> ALL($1)` : ""
      const values = table.name === "meta" ? [unexportedMeta] : []
      await client.query(
        `DECLARE rows CURSOR FOR SELECT ${quoted(table.columns)} FROM ${table.name}${condition} ORDER BY ${quoted(keys.get(table.name) ?? table.columns)}`,
        values
      )
      while (true) {
        const { rows } = await client.query({ text: `FETCH ${BATCH} FROM rows`, rowMode: "array" })
        if (rows.length > 0) yield rows as unknown as ReadonlyArray<Values>
        if (rows.length < BATCH) break
      }
      await client.query("CLOSE rows")
    }
  })
}

/**
 * Fills empty tables with an export, in one transaction, which also creates missing tables. An import that fails changes nothing.
 */
export const writePostgres = (options: PostgresOptions, filename: string): Promise<Imported> =>
  withClient(options, async (client, settings) => {
    const { schema, displayName } = settings
    const imported = await fill(filename, async () => {
      // the name of the session shows other engines that an import holds the lock
      await client.query(`SET application_name = '${IMPORT_APPLICATION}'`)
      await client.query("BEGIN")
      await client.query("SET LOCAL idle_in_transaction_session_timeout = 0")
      const { rows } = await client.query("SELECT pg_try_advisory_lock($1, hashtext($2)) AS mine", [
        LOCK_CLASS,
        `${SCHEMA_LOCK} ${schema}`
      ])
      if (rows[0]?.mine !== 1) {
        if (await hasImport(askWith(client), schema)) throw beingFilledError(settings)
        throw new StoreError(
          `The tables at ${displayName} are in use by an engine, or by an import of another user: stop that engine or import first, or name another schema`,
          {
            code: "STORE_LOCKED"
          }
        )
      }
      await migrateWithin(client, settings)
      const tables = await tablesOf(client, schema)
      for (const { name } of tables) {
        if (name === "meta") continue
        const { rows } = await client.query(`SELECT 1 FROM ${name} LIMIT 1`)
        if (rows.length === 0) continue
        throw new ValidationError(
          `The tables at ${displayName} are not empty ("${name}" has rows), and an import needs empty tables: name another schema`
        )
      }
      await client.query("DELETE FROM meta WHERE name <> 'oldest'")
      return {
        tables,
        write: async ({ columns, name }, rows) => {
          const maxRows = Math.max(1, Math.floor(MAX_PARAMETERS / columns.length))
          for (let from = 0; from < rows.length; from += maxRows) {
            const batch = rows.slice(from, from + maxRows)
            let number = 0
            const places = batch.map(() => `(${columns.map(() => `$${++number}`).join(", ")})`).join(", ")
            await client
              .query(`INSERT INTO ${name} (${quoted(columns)}) VALUES ${places}`, batch.flat().map(sendable))
              .catch((cause: unknown) =>
                Promise.reject(storeError(`Cannot import rows of "${name}"`, cause, LOST_FOR_GOOD_ADVICE))
              )
          }
        }
      }
    })
    const { numbers, sequences } = imported.header
    await client.query(
      `UPDATE engine SET environments = greatest($1, (SELECT coalesce(max(key), 0) FROM environments)),
         events = greatest($2, (SELECT coalesce(max(position), 0) FROM events)), runs = greatest($3, (SELECT coalesce(max(key), 0) FROM runs)), seq = $4`,
      [numbers.environments, numbers.events, numbers.runs, numbers.seq]
    )
    for (const { column, sequence, table } of await identitiesOf(client, schema)) {
      const { rows } = await client.query(`SELECT coalesce(max("${column}"), 0) AS last FROM ${table}`)
      const last = Math.max(sequences[table] ?? 0, Number(rows[0]?.last))
      if (last > 0) await client.query("SELECT setval($1, $2)", [sequence, last])
    }
    await client.query("COMMIT")
    return imported
  })

const sendable = (value: Value): Value => (value instanceof Uint8Array ? Buffer.from(value) : value)
