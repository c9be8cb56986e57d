/** Stores on the Postgres server of the tests. Each has a schema, which is emptied and used again. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import pg from "pg"
import { afterAll } from "vitest"
import * as PostgresStore from "../../src/Engine/PostgresStore.ts"
import type { PostgresOptions } from "../../src/Engine/Store/Postgres/Options.ts"
import type { Store } from "../../src/Engine/Store/Store.ts"
import type { StoreError } from "../../src/Errors.ts"
import { sharedUrl } from "./Server.ts"

const free: Array<string> = []
const made: Array<string> = []

let connected: Promise<pg.Client> | undefined

const connect = async (): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString: await sharedUrl() })
  await client.connect()
  return client
}

/** Runs SQL in a schema, or in none. */
export const runSql = async (
  sql: string,
  schema = "public"
): Promise<ReadonlyArray<Record<string, unknown>>> => {
  const client = await (connected ??= connect())
  // sent in one turn of the event loop: tests that run side by side share the connection, which executes in order
  const [, result] = await Promise.all([client.query(`SET search_path = ${schema}`), client.query(sql)])
  return result.rows ?? []
}

/**
 * Empties a schema but keeps its tables, since to make them takes most of the time in which a store opens. To restart a sequence
 * with `ALTER SEQUENCE` would make a file for it each time.
 */
const empty = `DO $$ DECLARE t text; BEGIN
  IF to_regclass('engine') IS NULL THEN RETURN; END IF;
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'engine' LOOP
    EXECUTE format('DELETE FROM %I', t);
  END LOOP;
  PERFORM setval(seqrelid::regclass, seqstart, false) FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
    WHERE relnamespace = current_schema()::regnamespace;
  UPDATE engine SET sequence = 0, environments = 0, events = 0, runs = 0, seq = 0, functions = 0, leases = 0, id_time = -1;
END $$`

/** An empty schema for one test. */
export const takeSchema = Effect.acquireRelease(
  Effect.promise(async (): Promise<PostgresOptions> => {
    const url = await sharedUrl()
    const known = free.pop()
    if (known !== undefined) {
      await runSql(empty, known)
      return { url, schema: known }
    }
    const schema = `test_${process.pid}_${process.env.VITEST_POOL_ID ?? 0}_${made.length}`
    if (made.length === 0) afterAll(dropAll)
    made.push(schema)
    return { url, schema }
  }),
  ({ schema = "" }) => Effect.sync(() => void free.push(schema))
)

const dropAll = async (): Promise<void> => {
  for (const schema of made.splice(0)) await runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
  free.length = 0
  await (await connected)?.end()
  connected = undefined
}

/** A store on Postgres, empty whenever it is built. It is opened `"alone"`, so that the test controls its clock. */
export const layerPostgres: Layer.Layer<Store, StoreError> = Layer.unwrap(
  Effect.map(takeSchema, (options) => PostgresStore.layer({ poolSize: 4, ...options }, "alone"))
)
