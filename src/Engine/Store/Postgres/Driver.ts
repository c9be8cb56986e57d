/**
 * The driver `pg`, the settings of a store on Postgres, and how connections are configured and checked. Only users of Postgres
 * install the driver, so it is loaded when a store on Postgres is opened. The driver sends statements without waiting for earlier
 * answers (`pipeline`), so all writes of a transaction and its commit together cost one round trip.
 */
import type { Client, ClientConfig, QueryConfig, Pool, PoolConfig } from "pg"
import { StoreError, ValidationError } from "../../../Errors.ts"
import { type Migration, migrations } from "./Migrations.ts"
import type { PostgresOptions } from "./Options.ts"

/** The oldest tested version of Postgres. */
const OLDEST_VERSION = 14

/**
 * When a transaction is idle for this long, the server ends its session, so that a frozen process does not hold its locks for ever.
 */
const MAX_IDLE_MS = 4000

/** Maximum number of characters of the name of a schema. */
const MAX_SCHEMA_LENGTH = 63

/** The `application_name` of sessions, by which an engine finds its own in `pg_stat_activity`. */
export const APPLICATION = "ironflow"

/** The values of `sslmode` that the driver knows. Any other value must be refused here: the driver would accept it, and encrypt. */
const SSL_MODES = ["disable", "prefer", "require", "verify-ca", "verify-full", "no-verify"]

export interface PostgresSettings {
  readonly url: string
  /** The database as messages name it, without the password. */
  readonly displayName: string
  readonly schema: string
  readonly poolSize: number
  readonly connectTimeoutMs: number
  readonly statementTimeoutMs: number
  /** The migrations of this version. */
  readonly migrations: ReadonlyArray<Migration>
}

/** Throws a `ValidationError` for invalid options. */
export const postgresSettingsOf = (options: PostgresOptions): PostgresSettings => {
  const {
    connectTimeoutMs = 10_000,
    poolSize = 10,
    schema = "ironflow",
    statementTimeoutMs = 30_000
  } = options
  let url: URL
  try {
    url = new URL(options.url)
  } catch {
    throw invalid("The database URL is not a URL")
  }
  if (!["postgres:", "postgresql:"].includes(url.protocol)) {
    throw invalid(`The database URL begins with "${url.protocol}//"`)
  }
  const sslMode = url.searchParams.get("sslmode")
  if (sslMode !== null && !SSL_MODES.includes(sslMode)) {
    throw new ValidationError(
      `sslmode in the database URL is "${sslMode}": it must be one of ${SSL_MODES.join(", ")}`
    )
  }
  if (!/^[a-z_][a-z0-9_]*$/.test(schema) || schema.length > MAX_SCHEMA_LENGTH || schema.startsWith("pg_")) {
    throw new ValidationError(
      `"${schema}" cannot be the schema: use at most ${MAX_SCHEMA_LENGTH} lower case letters, digits and "_", and begin with a letter or "_", but not with "pg_"`
    )
  }
  if (!Number.isSafeInteger(poolSize) || poolSize < 2) {
    throw new ValidationError(
      `poolSize (databasePoolSize of an engine, --database-pool-size of a command) is ${poolSize}: it must be an integer, at least 2`
    )
  }
  const times: Array<readonly [string, number]> = [
    ["connectTimeoutMs", connectTimeoutMs],
    ["statementTimeoutMs", statementTimeoutMs]
  ]
  for (const [name, ms] of times) {
    if (!Number.isSafeInteger(ms) || ms < 1) {
      throw new ValidationError(`${name} is ${ms}: it must be an integer, at least 1, in milliseconds`)
    }
  }
  return {
    url: options.url,
    displayName: `${url.host === "" ? (url.searchParams.get("host") ?? "localhost") : url.host}${url.pathname} (schema ${schema})`,
    schema,
    poolSize,
    connectTimeoutMs,
    statementTimeoutMs,
    migrations
  }
}

const invalid = (problem: string): ValidationError =>
  new ValidationError(`${problem}: it must look like postgres://user:password@host:5432/database`)

/** A number from a column. Throws when JavaScript cannot hold it exactly. */
const toNumber = (text: string): number => {
  const value = Number(text)
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new RangeError(
      `The database holds the number ${text}, which is too large for JavaScript to hold exactly: was the row changed by hand?`
    )
  }
  return value
}

const toBytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.slice(2), "hex"))

/** The parsers of columns, by the id of the column's type. They return what SQLite returns: numbers, strings and bytes. */
const parsers: { readonly [oid: number]: (text: string) => unknown } = {
  16: (text) => (text === "t" ? 1 : 0),
  17: toBytes,
  20: toNumber,
  21: toNumber,
  23: toNumber,
  700: Number,
  701: Number,
  1700: toNumber
}

const asText = (text: string): string => text

/** Parses the text of a column of this type. */
export const parserOf = (oid: number): ((text: string) => unknown) => parsers[oid] ?? asText

export interface Driver {
  readonly Client: new (config: ClientConfig) => Client
  readonly Pool: new (config: PoolConfig) => Pool
}

/** Loads the driver. Fails with a `StoreError` that says how to install it. */
export const loadDriver = async (): Promise<Driver> => {
  try {
    const { default: pg } = await import("pg")
    return pg
  } catch (cause) {
    throw new StoreError(
      "A store on Postgres needs the package pg, which is not installed (or cannot be loaded): run `npm install pg`",
      { code: "STORE_UNAVAILABLE", cause }
    )
  }
}

/**
 * Parameters of a database URL that the driver does not get. The engine sets these parameters itself, but the driver would prefer
 * the values in the URL. Then the engine could not find its own sessions again, or would wait without its limits. Only `options`
 * are kept: the engine adds its own options to them.
 */
const ENGINE_PARAMETERS = [
  "application_name",
  "fallback_application_name",
  "idle_in_transaction_session_timeout",
  "lock_timeout",
  "options",
  "pipeline",
  "query_timeout",
  "statement_timeout"
]

/** Divides a database URL into what the driver reads, and the `options` for the session. */
const divideUrl = (text: string): { readonly connectionString: string; readonly options: string } => {
  const url = new URL(text)
  const engineParameters = ENGINE_PARAMETERS.filter((name) => url.searchParams.has(name))
  if (engineParameters.length === 0) return { connectionString: text, options: "" }
  const options = url.searchParams.get("options") ?? ""
  for (const name of engineParameters) url.searchParams.delete(name)
  return { connectionString: url.href, options }
}

/**
 * The configuration of every connection. The engine's settings come after the `options` of the URL, so the engine's settings apply.
 */
export const configOf = (settings: PostgresSettings): ClientConfig => {
  const { connectionString, options } = divideUrl(settings.url)
  return {
    connectionString,
    // set here, so that the environment variable PGAPPNAME does not rename the sessions
    application_name: APPLICATION,
    pipeline: true,
    keepAlive: true,
    connectionTimeoutMillis: settings.connectTimeoutMs,
    types: { getTypeParser: parserOf } as unknown as NonNullable<ClientConfig["types"]>,
    options: [
      options,
      ...[
        `search_path=${settings.schema}`,
        `statement_timeout=${settings.statementTimeoutMs}`,
        `lock_timeout=${settings.statementTimeoutMs}`,
        `idle_in_transaction_session_timeout=${MAX_IDLE_MS}`,
        // these settings make values have the form that the engine expects: the server, the database or the user may have other
        // defaults
        "array_nulls=on",
        "bytea_output=hex",
        "DateStyle=ISO",
        "extra_float_digits=1",
        "standard_conforming_strings=on",
        "transform_null_equals=off",
        // these settings make statements use the indexes: without them, a plan that was made for an empty table is kept while the
        // table fills up fast
        "plan_cache_mode=force_generic_plan",
        "enable_seqscan=off",
        "jit=off"
      ].map((setting) => `-c ${setting}`)
    ]
      .join(" ")
      .trim()
  }
}

/** How much longer than the statement timeout a client waits for an answer. */
const ANSWER_MARGIN_MS = 5000

/**
 * Opens a connection for one command, and checks its session. `sessionFacts` is what {@link READ_SESSION} has read. Even after the server
 * has accepted the connection, a statement fails when its answer takes too long: for the first statement, longer than the connect
 * timeout; for later statements, longer than the statement timeout and {@link ANSWER_MARGIN_MS}.
 */
export const openClient = async (
  driver: Driver,
  settings: PostgresSettings,
  isPipelined: boolean
): Promise<{
  readonly client: Client
  readonly sessionFacts: { readonly [column: string]: unknown } | undefined
}> => {
  const client = new driver.Client({
    ...configOf(settings),
    pipeline: isPipelined,
    query_timeout: settings.statementTimeoutMs + ANSWER_MARGIN_MS
  })
  // an error of the connection also fails the sent statement
  client.on("error", () => undefined)
  try {
    await client.connect()
    // the declared type of a query lacks `query_timeout`
    const query: QueryConfig & { readonly query_timeout: number } = {
      text: READ_SESSION,
      values: [settings.schema],
      query_timeout: settings.connectTimeoutMs
    }
    const { rows } = await client.query(query)
    checkSession(rows[0], settings)
    return { client, sessionFacts: rows[0] }
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  }
}

/**
 * SQL: reads what {@link checkSession} judges, and whether the schema $1 has no tables of an engine. A user without any rights may
 * run it.
 */
export const READ_SESSION = `SELECT CAST(current_setting('server_version_num') AS INTEGER) AS server,
  current_setting('plan_cache_mode', true) AS plans, current_setting('search_path') AS path, current_user AS "user",
  (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1) AS may_use,
  NOT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'engine') AS is_new`

/**
 * Checks a session before anything else is done with it. Throws a `StoreError` when the server is too old, when a pooler has
 * dropped the settings of the session, or when the user has no rights in the schema.
 */
export const checkSession = (
  row: { readonly [column: string]: unknown } | undefined,
  settings: PostgresSettings
): void => {
  checkServer(Number(row?.server), settings)
  const { schema, displayName } = settings
  // the settings are sent when the connection begins; a pooler in transaction mode drops them
  if (row?.plans !== "force_generic_plan" || row.path !== schema) {
    throw new StoreError(
      `The settings of the session did not arrive at ${displayName}: a pooler between the engine and Postgres leaves them out (\`ignore_startup_parameters\`). ` +
        "The engine needs a session of its own, with its settings, locks and prepared statements: give it the URL of Postgres itself, or of a pool in session mode that passes `options` on",
      { code: "STORE_UNAVAILABLE" }
    )
  }
  if (row.may_use === 0) {
    const user = `"${String(row.user)}"`
    throw new StoreError(
      `The user ${user} is not allowed to use the schema at ${displayName}. The owner of the schema has to allow it: GRANT USAGE ON SCHEMA ${schema} TO ${user}; ` +
        `GRANT ALL ON ALL TABLES IN SCHEMA ${schema} TO ${user}; GRANT ALL ON ALL SEQUENCES IN SCHEMA ${schema} TO ${user}`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
}

/** Throws a `StoreError` when the server is too old; `versionNumber` is a number such as 180004. */
export const checkServer = (versionNumber: number, settings: PostgresSettings): void => {
  const version = Math.floor(versionNumber / 10_000)
  if (version >= OLDEST_VERSION) return
  throw new StoreError(
    `Postgres at ${settings.displayName} is version ${version}, and the engine needs version ${OLDEST_VERSION} or later: upgrade Postgres`,
    { code: "STORE_UNAVAILABLE" }
  )
}
