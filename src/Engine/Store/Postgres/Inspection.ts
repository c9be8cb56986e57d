/** Inspects a database on Postgres for `ironflow doctor`: reads figures of the server, and runs programs that only read. */
import * as Effect from "effect/Effect"
import { type StoreError, toError, type ValidationError } from "../../../Errors.ts"
import { makeIdGenerator } from "../../../Ids.ts"
import { type Call, type Program, Refused } from "../Program.ts"
import type { StoreService } from "../Store.ts"
import type { Transaction } from "../Transaction.ts"
import { loadDriver, openClient, postgresSettingsOf } from "./Driver.ts"
import {
  type Fit,
  LIST_LOCK_HOLDERS,
  fitOfVersion,
  LOCK_CLASS,
  READ_VERSION,
  SCHEMA_LOCK
} from "./Migrate.ts"
import type { PostgresOptions } from "./Options.ts"
import { LOST_FOR_GOOD_ADVICE, openError, storeError } from "./PostgresErrors.ts"
import { Environments, PostgresTransaction } from "./PostgresTransaction.ts"
import { LAPSE_MS, NOW } from "./Nodes.ts"
import { Runner, Session } from "./Session.ts"

export interface PostgresFacts {
  /** The database as messages name it, without the password. */
  readonly displayName: string
  /** The version of Postgres. */
  readonly version: string
  /** Size of the tables and their indexes in the schema, bytes. */
  readonly bytes: number
  /** The version of the tables: how many migrations have run; absent where there are no tables. */
  readonly tablesVersion?: number
  /** The version of the tables that this package makes: how many migrations it knows. */
  readonly packageVersion: number
  /** Whether this version of the package works with the tables; absent where there are no tables. */
  readonly fit?: Fit
  /** The names of the engines that use the tables now; empty unless the tables fit this version. */
  readonly engines: ReadonlyArray<string>
  readonly isStandby: boolean
  readonly synchronousCommit: string
  readonly fsync: string
  readonly autovacuum: string
  /** The number of sessions of all users, without the session of this inspection. */
  readonly connections: number
  readonly maxConnections: number
  /** The connection limits of the user and of the database, as far as there are any. */
  readonly limits: ReadonlyArray<ConnectionLimit>
  readonly rights: Rights
  /** Age of the oldest open transaction of the database. */
  readonly oldestTransactionMs: number
  /** The tables with the most dead rows. */
  readonly bloatedTables: ReadonlyArray<{
    readonly table: string
    readonly live: number
    readonly dead: number
  }>
}

/** How many sessions a user or a database may have. */
export interface ConnectionLimit {
  readonly owner: "user" | "database"
  readonly name: string
  readonly max: number
  /** How many sessions the user or the database has, without the session of this inspection. */
  readonly used: number
}

/** The rights of the user of the database URL, as far as an engine needs them. */
export interface Rights {
  readonly user: string
  readonly schema: string
  /** Whether the user may create tables in the schema, or the schema itself where it is missing. */
  readonly mayMakeTables: boolean
  /** Tables that the user may not read and write. */
  readonly closedTables: ReadonlyArray<string>
  /** Sequences that the user may not set. */
  readonly closedSequences: ReadonlyArray<string>
}

export interface Inspection {
  readonly facts: PostgresFacts
  /** Runs programs that only read. Absent when this version does not work with the tables, and where there are no tables. */
  readonly readApart?: StoreService["readApart"]
  readonly close: Effect.Effect<void>
}

/**
 * SQL: the figures of the server. A user who is no member of `pg_read_all_stats` sees that other users have sessions, but not what
 * these sessions do or since when.
 */
const READ_SERVER = `WITH others AS (SELECT usename, datname FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    AND (backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)))
  SELECT current_setting('server_version') AS version,
  pg_is_in_recovery() AS standby, current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
  current_setting('autovacuum') AS autovacuum, CAST(current_setting('max_connections') AS INTEGER) AS max_connections,
  (SELECT count(*) FROM others) AS connections, session_user AS "user", current_database() AS database,
  (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END FROM pg_roles WHERE rolname = session_user) AS user_limit,
  (SELECT count(*) FROM others WHERE usename = session_user) AS of_user,
  (SELECT CASE WHEN rolsuper THEN -1 ELSE datconnlimit END FROM pg_database, pg_roles
     WHERE datname = current_database() AND rolname = session_user) AS database_limit,
  (SELECT count(*) FROM others WHERE datname = current_database()) AS of_database,
  coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1),
     has_database_privilege(current_database(), 'CREATE')) AS may_make,
  (SELECT CAST(coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0) * 1000 AS BIGINT) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS longest,
  (SELECT CAST(coalesce(sum(pg_total_relation_size(c.oid)), 0) AS BIGINT) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r') AS bytes`

const LIST_CLOSED = `SELECT c.relname AS name, c.relkind = 'S' AS is_sequence FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'UPDATE')
    ELSE c.relkind IN ('r', 'p') AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
      AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')) END ORDER BY c.relname`

const LIST_BLOATED_TABLES = `SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables
  WHERE schemaname = $1 ORDER BY n_dead_tup DESC LIMIT 5`

/** SQL: the nodes that were last seen so lately that they are probably live. For a standby, where engines have no sessions. */
const LIST_SEEN_ENGINES = `SELECT name FROM nodes WHERE steady_since IS NOT NULL
  AND last_seen > ${NOW} - ${LAPSE_MS} ORDER BY id`
/** SQL: the live nodes that have a session. A node that was just killed has no session, although its row still looks live. */
const LIST_ENGINES = `SELECT name FROM nodes WHERE steady_since IS NOT NULL
  AND pid IN (${LIST_LOCK_HOLDERS}) ORDER BY id`

/**
 * Opens an inspection. Fails with `StoreError` when Postgres cannot be reached or is too old, and with `ValidationError` for
 * invalid options. `load` returns the program that fills the caches which other programs need.
 */
export const inspect = (
  options: PostgresOptions,
  now: () => number,
  load: (tx: Transaction) => Program<void>
): Effect.Effect<Inspection, StoreError | ValidationError> =>
  Effect.flatMap(
    // safe cast: `postgresSettingsOf` throws nothing else
    Effect.try({
      try: () => postgresSettingsOf(options),
      catch: (error) => toError(error) as ValidationError
    }),
    (settings) =>
      Effect.tryPromise({
        try: async (): Promise<Inspection> => {
          const driver = await loadDriver()
          const { client, sessionFacts } = await openClient(driver, settings, true)
          const close = Effect.promise(() => client.end().catch(() => undefined))
          try {
            const session = new Session(client, { statements: 0, roundTrips: 0, commits: 0 })
            const ask = async (text: string, values: ReadonlyArray<string | number> = []) =>
              (await session.wait(session.send({ name: "", text }, values))).rows
            const listEngines = (isStandby: boolean) =>
              isStandby
                ? ask(LIST_SEEN_ENGINES)
                : ask(LIST_ENGINES, [LOCK_CLASS, `${SCHEMA_LOCK} ${settings.schema}`])
            const [server] = await ask(READ_SERVER, [settings.schema])
            const [engine] = sessionFacts?.is_new === 1 ? [undefined] : await ask(READ_VERSION)
            const fit =
              engine === undefined ? undefined : fitOfVersion(settings, Number(engine.version), engine.oldest)
            const engines = fit === "fit" ? await listEngines(server.standby === 1) : []
            const closed = await ask(LIST_CLOSED, [settings.schema])
            const namesOf = (isSequence: number) =>
              closed.filter(({ is_sequence }) => is_sequence === isSequence).map(({ name }) => String(name))
            const limits = (
              [
                ["user", server.user, server.user_limit, server.of_user],
                ["database", server.database, server.database_limit, server.of_database]
              ] as const
            ).map(([owner, name, max, used]) => ({
              owner,
              name: String(name),
              max: Number(max),
              used: Number(used)
            }))
            const bloated = await ask(LIST_BLOATED_TABLES, [settings.schema])
            const facts: PostgresFacts = {
              displayName: settings.displayName,
              version: String(server.version),
              bytes: Number(server.bytes),
              ...(engine === undefined ? {} : { tablesVersion: Number(engine.version) }),
              packageVersion: settings.migrations.length,
              ...(fit === undefined ? {} : { fit }),
              engines: engines.map(({ name }) => String(name)),
              isStandby: server.standby === 1,
              synchronousCommit: String(server.synchronous_commit),
              fsync: String(server.fsync),
              autovacuum: String(server.autovacuum),
              connections: Number(server.connections),
              maxConnections: Number(server.max_connections),
              // -1 stands for no limit
              limits: limits.filter(({ max }) => max >= 0),
              rights: {
                user: String(sessionFacts?.user),
                schema: settings.schema,
                mayMakeTables: server.may_make === 1,
                closedTables: namesOf(0),
                closedSequences: namesOf(1)
              },
              oldestTransactionMs: Number(server.longest),
              bloatedTables: bloated.map(({ dead, live, name }) => ({
                table: String(name),
                live: Number(live),
                dead: Number(dead)
              }))
            }
            if (fit !== "fit") return { facts, close }
            const environments = new Environments()
            for (const { key, name } of await ask("SELECT key, name FROM environments"))
              environments.put(name, key)
            const tx = new PostgresTransaction({
              environments,
              now,
              random: () => 0,
              // an inspection writes nothing, so it needs no number
              node: -1,
              ids: makeIdGenerator(now, () => 0)
            })
            await new Runner(session, tx).run(load(tx))
            return { facts, close, readApart: readerOf(session, tx) }
          } catch (error) {
            await client.end().catch(() => undefined)
            throw error
          }
        },
        catch: (cause) => openError(settings.displayName, cause)
      })
  )

const readerOf =
  (session: Session, tx: PostgresTransaction): StoreService["readApart"] =>
  <A, E>(call: Call<A, E>) =>
    Effect.flatMap(
      Effect.tryPromise({
        try: () => new Runner(session, tx).run(call.run(tx)),
        catch: (cause) => storeError(`Cannot ${call.what()}`, cause, LOST_FOR_GOOD_ADVICE)
      }),
      (result) => (result instanceof Refused ? Effect.fail(result.error) : Effect.succeed(result))
    )
