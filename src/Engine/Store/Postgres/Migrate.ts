/**
 * Brings the tables up to what this version knows, under a lock: several engines may be started at once.
 *
 * Engines of two versions work side by side when the newer one has only added to the tables: `oldest` in `meta` says how many migrations
 * an engine has to know at least. It is read whenever an engine comes, and when it comes back.
 */
import type { Client } from "pg"
import { StoreError } from "../../../Errors.ts"
import { checkServer, configOf, type Driver, loadDriver, type Settings, settingsOf } from "./Driver.ts"
import { isConflict, storeError } from "./PostgresErrors.ts"
import type { PostgresOptions } from "./Options.ts"
import type { Session } from "./Session.ts"

/** Names our advisory locks: "Iron" in ASCII. */
export const LOCK_CLASS = 0x49726f6e
/** Names the one that engines have as long as they use a schema. */
export const HOLD = "hold"

/** How often a migration is begun again that others stood in the way of. */
const MOST_TRIES = 5

export interface Migrated {
  /** How many migrations had run before, and have run now. */
  readonly from: number
  readonly to: number
}

/** {@link migrate} for those who have no engine: also says which database it was. */
export const migrateDatabase = async (
  options: PostgresOptions
): Promise<Migrated & { readonly shown: string }> => {
  const settings = settingsOf(options)
  return { ...(await migrate(await loadDriver(), settings)), shown: settings.shown }
}

/** How the tables are for this version: `"fit"` when it works with them, also when a newer version has added to them. */
export type Fit = "fit" | "too old" | "too new"

/** What every session asks first. Fails when the server is too old, or a pooler has dropped its settings. */
export const fitOf = async (session: Session, settings: Settings): Promise<Fit> => {
  const { rows } = await session.wait(
    session.send(
      {
        name: "",
        text: "SELECT CAST(current_setting('server_version_num') AS INTEGER) AS server, current_setting('plan_cache_mode') AS plans, to_regclass($1) IS NULL AS is_new"
      },
      [`${settings.schema}.engine`]
    )
  )
  checkServer(Number(rows[0]?.server), settings)
  // what is sent with the connection is the session's: a pooler that drops it gives each transaction a session of others
  if (rows[0]?.plans !== "force_generic_plan") {
    throw new StoreError(
      `The settings of the session did not arrive at ${settings.shown}: a pooler between the engine and Postgres leaves them out (\`ignore_startup_parameters\`). ` +
        "The engine needs a session of its own, with its settings, locks and prepared statements: give it the URL of Postgres itself, or of a pool in session mode that passes `options` on",
      { code: "STORE_UNAVAILABLE" }
    )
  }
  if (rows[0]?.is_new === 1) return "too old"
  const engine = await session.wait(session.send({ name: "", text: VERSION }))
  const { oldest, version } = engine.rows[0] ?? {}
  return judge(settings, Number(version), oldest)
}

/** `oldest` is absent where nobody has said that older versions may go on. */
const VERSION = "SELECT version, (SELECT value FROM meta WHERE name = 'oldest') AS oldest FROM engine"

const judge = ({ known }: Settings, version: number, oldest: unknown): Fit => {
  if (version < known.length) return "too old"
  return version === known.length || (typeof oldest === "string" && Number(oldest) <= known.length)
    ? "fit"
    : "too new"
}

/** The tables were made by a version that this one cannot work beside. */
export const tooNew = (settings: Settings, version?: number): StoreError =>
  new StoreError(
    `The tables at ${settings.shown} were written by a newer version (` +
      (version === undefined ? "" : `they are at ${version}, `) +
      `this version knows ${settings.known.length}): upgrade @ironflow/node`,
    { code: "STORE_UNAVAILABLE" }
  )

/** Fails with `StoreError`: `STORE_UNAVAILABLE` when Postgres is not reached, is too old, or its tables are newer than this version. */
export const migrate = async (driver: Driver, settings: Settings): Promise<Migrated> => {
  const client = new driver.Client({ ...configOf(settings), pipeline: false })
  // an error of the connection comes to the statement that is sent
  client.on("error", () => undefined)
  try {
    await client.connect()
    const { rows } = await client.query("SELECT current_setting('server_version_num') AS version")
    checkServer(Number(rows[0]?.version), settings)
    for (let tries = 1; ; tries++) {
      try {
        return await migrateOn(client, settings)
      } catch (error) {
        // those who read stand in the way of who changes their tables
        if (tries === MOST_TRIES || !isConflict(error)) throw error
        await client.query("ROLLBACK")
      }
    }
  } catch (cause) {
    throw storeError(`Cannot use Postgres at ${settings.shown}`, cause)
  } finally {
    await client.end().catch(() => undefined)
  }
}

const migrateOn = async (client: Client, settings: Settings): Promise<Migrated> => {
  const { known, schema } = settings
  await client.query("BEGIN")
  // it goes with the transaction
  await client.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [LOCK_CLASS, `migrate ${schema}`])
  const { oldest, version: from } = await versionOf(client, settings)
  const fit = judge(settings, from, oldest)
  if (fit === "too new") throw tooNew(settings, from)
  if (fit === "too old") {
    const isAddition = from > 0 && known.slice(from).every((migration) => migration.isAddition)
    // engines of an older version would go on with what is another table now
    const hold = await client.query(
      `SELECT pg_try_advisory_xact_lock${isAddition ? "_shared" : ""}($1, hashtext($2)) AS mine`,
      [LOCK_CLASS, `${HOLD} ${schema}`]
    )
    if (hold.rows[0]?.mine !== 1) {
      throw new StoreError(
        `The tables at ${settings.shown} are at ${from}, this version makes ${known.length} of them, and engines of an older version use them ` +
          `(${await namesOfNodes(client, settings)}) which cannot work with what it changes: stop them first`,
        { code: "STORE_LOCKED" }
      )
    }
    // whoever writes comes here first, too
    if (from > 0) await client.query(`SELECT version FROM ${schema}.engine FOR UPDATE`)
    // a user who may use a schema that is there need not be allowed to create one
    const there = await client.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema])
    if (there.rows.length === 0) await client.query(`CREATE SCHEMA ${schema}`)
    for (const { sql } of known.slice(from)) await client.query(sql)
    await client.query("UPDATE engine SET version = $1", [known.length])
    await client.query(
      "INSERT INTO meta (name, value) VALUES ('oldest', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      [String(known.findLastIndex((migration) => migration.isAddition !== true) + 1)]
    )
  }
  await client.query("COMMIT")
  return { from, to: Math.max(from, known.length) }
}

/** Engines that have the tables, as they call themselves. */
const namesOfNodes = async (client: Client, { schema }: Settings): Promise<string> => {
  const there = await client.query("SELECT to_regclass($1) IS NOT NULL AS is_there", [`${schema}.nodes`])
  const { rows } =
    there.rows[0]?.is_there === 1
      ? await client.query(`SELECT name FROM ${schema}.nodes ORDER BY last_seen DESC LIMIT 3`)
      : { rows: [] }
  return rows.length === 0 ? "they do not say which" : rows.map(({ name }) => String(name)).join("; ")
}

/** How many migrations have run; 0 for a schema without tables. Fails when the schema has tables of something else. */
const versionOf = async (
  client: Client,
  { schema, shown }: Settings
): Promise<{ readonly version: number; readonly oldest?: unknown }> => {
  const { rows } = await client.query(
    "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') LIMIT 1000",
    [schema]
  )
  if (rows.length === 0) return { version: 0 }
  const isOurs = ["engine", "runs", "events"].every((table) => rows.some(({ name }) => name === table))
  if (!isOurs) {
    throw new StoreError(
      `The schema at ${shown} has tables of something else: give the engine a schema of its own`,
      {
        code: "STORE_CORRUPT"
      }
    )
  }
  const engine = await client.query(VERSION)
  return { version: Number(engine.rows[0]?.version), oldest: engine.rows[0]?.oldest }
}
