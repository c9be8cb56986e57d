/**
 * Migrates the tables to the version of this package, under a lock, because several engines may start at once.
 *
 * Engines of two versions can work side by side when the migrations of the newer version only add to the tables. The row `oldest` of
 * `meta` says how many of the migrations an engine must know. Each engine reads this number when it connects or reconnects.
 */
import type { Client } from "pg"
import { StoreError } from "../../../Errors.ts"
import {
  checkSession,
  type Driver,
  loadDriver,
  openClient,
  type PostgresSettings,
  postgresSettingsOf,
  READ_SESSION
} from "./Driver.ts"
import { isConflict, LOST_FOR_GOOD_ADVICE, openError } from "./PostgresErrors.ts"
import type { PostgresOptions } from "./Options.ts"
import type { Session } from "./Session.ts"

/** Class of the advisory locks of engines: "Iron" in ASCII. */
export const LOCK_CLASS = 0x49726f6e
/** Name of the lock that engines hold while they use a schema. */
export const SCHEMA_LOCK = "hold"

/** Maximum number of times that a migration is tried when other sessions block it. */
const MAX_TRIES = 5

export interface Migrated {
  /** How many migrations had run before. */
  readonly versionBefore: number
  /** How many migrations have run now. */
  readonly version: number
}

/** {@link migrate} for callers without an engine. Also returns `shown`, the name of the database in messages. */
export const migrateDatabase = async (
  options: PostgresOptions
): Promise<Migrated & { readonly shown: string }> => {
  const settings = postgresSettingsOf(options)
  return { ...(await migrate(await loadDriver(), settings)), shown: settings.displayName }
}

/** Whether this version can work with the tables. `"fit"`: it can, even if a newer version has added to the tables. */
export type Fit = "fit" | "too old" | "too new"

/**
 * Runs the first query of every session of an engine. Returns whether the tables fit this version. Fails when {@link
 * checkSession} does.
 */
export const fitOf = async (session: Session, settings: PostgresSettings): Promise<Fit> => {
  const { rows } = await session.wait(session.send({ name: "", text: READ_SESSION }, [settings.schema]))
  checkSession(rows[0], settings)
  if (rows[0]?.is_new === 1) return "too old"
  const engine = await session.wait(session.send({ name: "", text: READ_VERSION }))
  const { oldest, version } = engine.rows[0] ?? {}
  return fitOfVersion(settings, Number(version), oldest)
}

/**
 * SQL: how many migrations have run (`version`), and how many of them an engine must know (`oldest`). `oldest` is null
 * in tables that were never migrated by a version that writes this row: then an engine must know all migrations.
 */
export const READ_VERSION =
  "SELECT version, (SELECT value FROM meta WHERE name = 'oldest') AS oldest FROM engine"

export const fitOfVersion = ({ migrations }: PostgresSettings, version: number, oldest: unknown): Fit => {
  if (version < migrations.length) return "too old"
  return version === migrations.length || (typeof oldest === "string" && Number(oldest) <= migrations.length)
    ? "fit"
    : "too new"
}

/** The error for tables that are too new for this version. */
export const tooNewError = (settings: PostgresSettings, version?: number): StoreError =>
  new StoreError(
    `The tables at ${settings.displayName} were written by a newer version (` +
      (version === undefined ? "" : `version ${version}, and `) +
      `this package knows version ${settings.migrations.length}): upgrade @ironflow/node`,
    { code: "STORE_UNAVAILABLE" }
  )

/**
 * Creates the tables, or brings them to this version. Fails with `StoreError`: `STORE_UNAVAILABLE` when Postgres cannot be reached or
 * is too old, or when the tables are too new for this version; `STORE_LOCKED` when the tables are used by an import, or by engines
 * of an older version that cannot work with the change; `STORE_CORRUPT` when the schema has tables of another program.
 */
export const migrate = async (driver: Driver, settings: PostgresSettings): Promise<Migrated> => {
  let opened: Client | undefined
  try {
    const { client } = await openClient(driver, settings, false)
    opened = client
    for (let tries = 1; ; tries++) {
      try {
        return await migrateOn(client, settings)
      } catch (error) {
        // a session that reads a table blocks the migration of this table
        if (tries === MAX_TRIES || !isConflict(error)) throw error
        await client.query("ROLLBACK")
      }
    }
  } catch (cause) {
    throw openError(settings.displayName, cause, opened === undefined ? undefined : LOST_FOR_GOOD_ADVICE)
  } finally {
    await opened?.end().catch(() => undefined)
  }
}

const migrateOn = async (client: Client, settings: PostgresSettings): Promise<Migrated> => {
  await client.query("BEGIN")
  // the end of the transaction releases the lock
  await client.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [
    LOCK_CLASS,
    `migrate ${settings.schema}`
  ])
  const migrated = await migrateWithin(client, settings)
  await client.query("COMMIT")
  return migrated
}

/** Migrates in the open transaction of a session, which holds the lock of migrations or has the schema for itself. */
export const migrateWithin = async (client: Client, settings: PostgresSettings): Promise<Migrated> => {
  const { migrations, schema } = settings
  const { oldest, version: versionBefore } = await versionOf(client, settings)
  const fit = fitOfVersion(settings, versionBefore, oldest)
  if (fit === "too new") throw tooNewError(settings, versionBefore)
  if (fit === "too old") {
    const isAddition =
      versionBefore > 0 && migrations.slice(versionBefore).every((migration) => migration.isAddition)
    // for an addition, this lock is shared with the engines that use the tables; for any other change, getting the lock fails while
    // engines of an older version use the tables, since they do not know the change and would go on after it
    const hold = await client.query(
      `SELECT pg_try_advisory_xact_lock${isAddition ? "_shared" : ""}($1, hashtext($2)) AS mine`,
      [LOCK_CLASS, `${SCHEMA_LOCK} ${schema}`]
    )
    if (hold.rows[0]?.mine !== 1) {
      if (await hasImport(askWith(client), schema)) throw beingFilledError(settings)
      throw new StoreError(
        `The tables at ${settings.displayName} are at version ${versionBefore}, and this engine changes them to version ${migrations.length}. Engines of an older version use them ` +
          `(${await namesOfNodes(client, settings)}) and cannot work with the change: stop these engines first`,
        { code: "STORE_LOCKED" }
      )
    }
    // locks the row of `engine`, as every writer does first
    if (versionBefore > 0) await client.query(`SELECT version FROM ${schema}.engine FOR UPDATE`)
    // the schema is created only if it is missing: the user of an existing schema may lack the right to create one
    const there = await client.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema])
    if (there.rows.length === 0) await client.query(`CREATE SCHEMA ${schema}`)
    for (const { sql } of migrations.slice(versionBefore)) await client.query(sql)
    await client.query("UPDATE engine SET version = $1", [migrations.length])
    await client.query(
      "INSERT INTO meta (name, value) VALUES ('oldest', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      [String(migrations.findLastIndex((migration) => migration.isAddition !== true) + 1)]
    )
  }
  return { versionBefore, version: Math.max(versionBefore, migrations.length) }
}

/** The `application_name` of the sessions of `ironflow import`. */
export const IMPORT_APPLICATION = "ironflow import"

/** Whether an import holds the lock of the schema. */
export const hasImport = async (ask: Ask, schema: string): Promise<boolean> => {
  const holders = await ask(`${LIST_LOCK_HOLDERS} AND a.application_name = $3 LIMIT 1`, [
    LOCK_CLASS,
    `${SCHEMA_LOCK} ${schema}`,
    IMPORT_APPLICATION
  ])
  return holders.length > 0
}

type Ask = (
  text: string,
  values: ReadonlyArray<string | number>
) => Promise<ReadonlyArray<{ readonly [column: string]: unknown }>>

export const askWith =
  (client: Client): Ask =>
  async (text, values) =>
    (await client.query(text, [...values])).rows

/** SQL: the sessions that hold lock $2 of class $1. */
export const LIST_LOCK_HOLDERS = `SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
  WHERE l.locktype = 'advisory' AND l.granted AND l.classid = CAST($1 AS OID)
    AND l.objid = CAST(CAST(hashtext($2) AS BIGINT) & 4294967295 AS OID)
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`

export const beingFilledError = ({ displayName }: PostgresSettings): StoreError =>
  new StoreError(
    `The tables at ${displayName} are being filled by an \`ironflow import\`: wait for the end of the import, or name another schema`,
    { code: "STORE_LOCKED" }
  )

/** The names of up to three engines that use the tables, ordered by when they were last seen, newest first. */
const namesOfNodes = async (client: Client, { schema }: PostgresSettings): Promise<string> => {
  const there = await client.query("SELECT to_regclass($1) IS NOT NULL AS is_there", [`${schema}.nodes`])
  const { rows } =
    there.rows[0]?.is_there === 1
      ? await client.query(`SELECT name FROM ${schema}.nodes ORDER BY last_seen DESC LIMIT 3`)
      : { rows: [] }
  return rows.length === 0 ? "with unknown names" : rows.map(({ name }) => String(name)).join("; ")
}

/** How many migrations have run; 0 for a schema without tables. Fails when the schema has tables of another program. */
const versionOf = async (
  client: Client,
  { schema, displayName }: PostgresSettings
): Promise<{ readonly version: number; readonly oldest?: unknown }> => {
  const { rows } = await client.query(
    "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') LIMIT 1000",
    [schema]
  )
  if (rows.length === 0) return { version: 0 }
  const hasIronflowTables = ["engine", "runs", "events"].every((table) =>
    rows.some(({ name }) => name === table)
  )
  if (!hasIronflowTables) {
    throw new StoreError(
      `The schema at ${displayName} has tables of another program: give the engine a schema of its own`,
      {
        code: "STORE_CORRUPT"
      }
    )
  }
  const engine = await client.query(READ_VERSION)
  return { version: Number(engine.rows[0]?.version), oldest: engine.rows[0]?.oldest }
}
