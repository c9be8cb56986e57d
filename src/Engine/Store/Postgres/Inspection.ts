/** Inspects a database on Postgres without being its engine: its own figures, and programs that only read. */
import * as Effect from "effect/Effect"
import { type StoreError, toError, type ValidationError } from "../../../Errors.ts"
import { makeIdGenerator } from "../../../Ids.ts"
import { type Call, type Program, Refused } from "../Program.ts"
import type { StoreService } from "../Store.ts"
import type { Transaction } from "../Transaction.ts"
import { checkServer, configOf, loadDriver, postgresSettingsOf } from "./Driver.ts"
import { migrations } from "./Migrations.ts"
import type { PostgresOptions } from "./Options.ts"
import { openError, storeError } from "./PostgresErrors.ts"
import { Environments, PostgresTransaction } from "./PostgresTransaction.ts"
import { Runner, Session } from "./Session.ts"

export interface PostgresFacts {
  /** The database without its password. */
  readonly shown: string
  readonly version: string
  /** Size of the tables and their indexes in the schema. */
  readonly bytes: number
  /** How many migrations have run; absent where there are no tables. */
  readonly tables?: number
  /** How many migrations this version knows. */
  readonly known: number
  /** The names of the engines that use the tables now. */
  readonly engines: ReadonlyArray<string>
  readonly isStandby: boolean
  readonly synchronousCommit: string
  readonly fsync: string
  readonly autovacuum: string
  readonly connections: number
  readonly maxConnections: number
  /** Age of the oldest open transaction of the database, milliseconds. */
  readonly longestMs: number
  /** The tables with the most dead rows. */
  readonly bloated: ReadonlyArray<{ readonly table: string; readonly live: number; readonly dead: number }>
}

export interface Inspection {
  readonly facts: PostgresFacts
  /** Absent unless the tables are those of this version. */
  readonly readApart?: StoreService["readApart"]
  readonly close: Effect.Effect<void>
}

const READ_SERVER = `SELECT current_setting('server_version') AS version, CAST(current_setting('server_version_num') AS INTEGER) AS number,
  pg_is_in_recovery() AS standby, current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
  current_setting('autovacuum') AS autovacuum, CAST(current_setting('max_connections') AS INTEGER) AS max_connections,
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
  (SELECT CAST(coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0) * 1000 AS BIGINT) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend') AS longest,
  (SELECT CAST(coalesce(sum(pg_total_relation_size(c.oid)), 0) AS BIGINT) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r') AS bytes,
  to_regclass($2) IS NOT NULL AS is_there`

const LIST_BLOATED_TABLES = `SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables
  WHERE schemaname = $1 ORDER BY n_dead_tup DESC LIMIT 5`

const READ_VERSION = "SELECT version FROM engine"

/** SQL: nodes with a live session. A killed node has none, though its row is still there. */
const LIST_ENGINES = `SELECT name FROM nodes WHERE steady_since IS NOT NULL
  AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'ironflow') ORDER BY id`

/**
 * Fails with `StoreError` when Postgres cannot be reached or is too old, with `ValidationError` for invalid options. `load` reads
 * what programs remember of a database.
 */
export const inspect = (
  options: PostgresOptions,
  now: () => number,
  load: (tx: Transaction) => Program<void>
): Effect.Effect<Inspection, StoreError | ValidationError> =>
  Effect.flatMap(
    // `postgresSettingsOf` throws nothing else
    Effect.try({
      try: () => postgresSettingsOf(options),
      catch: (error) => toError(error) as ValidationError
    }),
    (settings) =>
      Effect.tryPromise({
        try: async (): Promise<Inspection> => {
          const driver = await loadDriver()
          const client = new driver.Client(configOf(settings))
          // an error of the connection also fails the sent statement
          client.on("error", () => undefined)
          const close = Effect.promise(() => client.end().catch(() => undefined))
          try {
            await client.connect()
            const session = new Session(client, { statements: 0, roundTrips: 0, commits: 0 })
            const ask = async (text: string, values: ReadonlyArray<string | number> = []) =>
              (await session.wait(session.send({ name: "", text }, values))).rows
            const [server] = await ask(READ_SERVER, [settings.schema, `${settings.schema}.engine`])
            checkServer(Number(server.number), settings)
            const [engine] = server.is_there === 1 ? await ask(READ_VERSION) : [undefined]
            const isCurrent = engine !== undefined && Number(engine.version) === migrations.length
            const engines = isCurrent ? await ask(LIST_ENGINES) : []
            const bloated = await ask(LIST_BLOATED_TABLES, [settings.schema])
            const facts: PostgresFacts = {
              shown: settings.shown,
              version: String(server.version),
              bytes: Number(server.bytes),
              ...(engine === undefined ? {} : { tables: Number(engine.version) }),
              known: migrations.length,
              engines: engines.map(({ name }) => String(name)),
              isStandby: server.standby === 1,
              synchronousCommit: String(server.synchronous_commit),
              fsync: String(server.fsync),
              autovacuum: String(server.autovacuum),
              connections: Number(server.connections),
              maxConnections: Number(server.max_connections),
              longestMs: Number(server.longest),
              bloated: bloated.map(({ dead, live, name }) => ({
                table: String(name),
                live: Number(live),
                dead: Number(dead)
              }))
            }
            if (!isCurrent) return { facts, close }
            const environments = new Environments()
            for (const { key, name } of await ask("SELECT key, name FROM environments"))
              environments.put(name, key)
            const tx = new PostgresTransaction({
              environments,
              now,
              random: () => 0,
              // it does not write
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
        catch: (cause) => openError(settings.shown, cause)
      })
  )

const readerOf =
  (session: Session, tx: PostgresTransaction): StoreService["readApart"] =>
  <A, E>(call: Call<A, E>) =>
    Effect.flatMap(
      Effect.tryPromise({
        try: () => new Runner(session, tx).run(call.run(tx)),
        catch: (cause) => storeError(`Cannot ${call.what()}`, cause)
      }),
      (result) => (result instanceof Refused ? Effect.fail(result.error) : Effect.succeed(result))
    )
