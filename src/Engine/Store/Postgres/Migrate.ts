/** Brings the tables up to what this version knows, under a lock: several engines may be started at once. */
import type { Client } from "pg"
import { StoreError } from "../../../Errors.ts"
import { checkServer, configOf, type Driver, loadDriver, type Settings, settingsOf } from "./Driver.ts"
import { openError } from "./PostgresErrors.ts"
import { migrations } from "./Migrations.ts"
import type { PostgresOptions } from "./Options.ts"
import type { Session } from "./Session.ts"

/** Names our advisory locks: "Iron" in ASCII. */
export const LOCK_CLASS = 0x49726f6e
/** Names the one that engines have as long as they use a schema. */
export const HOLD = "hold"

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

/** Whether the tables are those of this version: what every session asks first. Fails when the server is too old, or a pooler has dropped its settings. */
export const isMigrated = async (session: Session, settings: Settings): Promise<boolean> => {
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
  if (rows[0]?.is_new === 1) return false
  const engine = await session.wait(session.send({ name: "", text: "SELECT version FROM engine" }))
  return engine.rows[0]?.version === migrations.length
}

/** Fails with `StoreError`: `STORE_UNAVAILABLE` when Postgres is not reached, is too old, or its tables are newer than this version. */
export const migrate = async (driver: Driver, settings: Settings): Promise<Migrated> => {
  const client = new driver.Client({ ...configOf(settings), pipeline: false })
  // an error of the connection comes to the statement that is sent
  client.on("error", () => undefined)
  try {
    await client.connect()
    const { rows } = await client.query("SELECT current_setting('server_version_num') AS version")
    checkServer(Number(rows[0]?.version), settings)
    return await migrateOn(client, settings)
  } catch (cause) {
    throw openError(settings.shown, cause)
  } finally {
    await client.end().catch(() => undefined)
  }
}

const migrateOn = async (client: Client, settings: Settings): Promise<Migrated> => {
  const { schema } = settings
  await client.query("BEGIN")
  // it goes with the transaction
  await client.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [LOCK_CLASS, `migrate ${schema}`])
  const from = await versionOf(client, settings)
  if (from > migrations.length) {
    throw new StoreError(
      `The tables at ${settings.shown} were written by a newer version (they are at ${from}, this version knows ${migrations.length}): upgrade @ironflow/node`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  if (from < migrations.length) {
    // engines of an older version would go on with what is another table now
    const hold = await client.query("SELECT pg_try_advisory_xact_lock($1, hashtext($2)) AS mine", [
      LOCK_CLASS,
      `${HOLD} ${schema}`
    ])
    if (hold.rows[0]?.mine !== 1) {
      throw new StoreError(
        `The tables at ${settings.shown} are at ${from}, this version makes ${migrations.length} of them, and an engine of an older version uses them: stop it first`,
        { code: "STORE_LOCKED" }
      )
    }
    // a user who may use a schema that is there need not be allowed to create one
    const there = await client.query("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema])
    if (there.rows.length === 0) await client.query(`CREATE SCHEMA ${schema}`)
    for (const migration of migrations.slice(from)) await client.query(migration)
    await client.query("UPDATE engine SET version = $1", [migrations.length])
  }
  await client.query("COMMIT")
  return { from, to: migrations.length }
}

/** How many migrations have run; 0 for a schema without tables. Fails when the schema has tables of something else. */
const versionOf = async (client: Client, { schema, shown }: Settings): Promise<number> => {
  const { rows } = await client.query(
    "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') LIMIT 1000",
    [schema]
  )
  if (rows.length === 0) return 0
  const isOurs = ["engine", "runs", "events"].every((table) => rows.some(({ name }) => name === table))
  if (!isOurs) {
    throw new StoreError(
      `The schema at ${shown} has tables of something else: give the engine a schema of its own`,
      {
        code: "STORE_CORRUPT"
      }
    )
  }
  const engine = await client.query("SELECT version FROM engine")
  return Number(engine.rows[0]?.version)
}
