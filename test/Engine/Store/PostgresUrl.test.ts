/** Parameters of the database URL, and what they cannot change. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as KvBuckets from "../../../src/Engine/Kv/KvBuckets.ts"
import * as KvRows from "../../../src/Engine/Kv/KvRows.ts"
import * as KvWrites from "../../../src/Engine/Kv/KvWrites.ts"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import { configOf, loadDriver, postgresSettingsOf } from "../../../src/Engine/Store/Postgres/Driver.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"

const withParameters = (url: string, parameters: Record<string, string>): string => {
  const changed = new URL(url)
  for (const [name, value] of Object.entries(parameters)) changed.searchParams.set(name, value)
  return changed.href
}

const parameters = {
  application_name: "shop",
  statement_timeout: "1",
  lock_timeout: "1",
  idle_in_transaction_session_timeout: "1",
  pipeline: "",
  options: "-c work_mem=7MB -c jit=on"
}

it.live("the settings of the engine win over those of the database URL, and other options count", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { schema = "", url } = yield* takeSchema
      const settings = postgresSettingsOf({ url: withParameters(url, parameters), schema })
      const { Client } = yield* Effect.promise(loadDriver)
      const client = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const made = new Client(configOf(settings))
          await made.connect()
          return made
        }),
        (made) => Effect.promise(() => made.end())
      )
      const names = [
        "application_name",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "search_path",
        "jit",
        "work_mem"
      ]
      const { rows } = yield* Effect.promise(() =>
        client.query(`SELECT ${names.map((name) => `current_setting('${name}') AS ${name}`).join(", ")}`)
      )
      assert.deepStrictEqual(rows[0], {
        application_name: "ironflow",
        statement_timeout: "30s",
        lock_timeout: "30s",
        idle_in_transaction_session_timeout: "4s",
        search_path: schema,
        jit: "off",
        work_mem: "7MB"
      })
    })
  )
)

it.live("values have the forms that the engine reads, whatever settings the database user has", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { schema = "", url } = yield* takeSchema
      const user = `odd_${schema}`
      const set = [
        "bytea_output = escape",
        "DateStyle = 'German'",
        "extra_float_digits = -15",
        "array_nulls = off"
      ]
      yield* Effect.acquireRelease(
        Effect.promise(() =>
          runSql(
            `CREATE ROLE ${user} LOGIN SUPERUSER; ${set.map((setting) => `ALTER ROLE ${user} SET ${setting}`).join("; ")}`
          )
        ),
        () => Effect.promise(() => runSql(`REASSIGN OWNED BY ${user} TO CURRENT_USER; DROP ROLE ${user}`))
      )
      const odd = new URL(url)
      odd.username = user
      const store = yield* PostgresStore.make({ url: odd.href, schema, poolSize: 2 })
      yield* store.write(KvBuckets.createBucket("default", { name: "cart", history: 1, maxValueBytes: 1000 }))
      const value = { type: "bytes", bytes: new Uint8Array([0, 92, 255]) } as const
      yield* store.write(
        KvWrites.writeEntries("default", "cart", [
          { key: "k", value: { type: "bytes", bytes: Buffer.from(value.bytes) } }
        ])
      )
      const entry = yield* store.read(KvRows.readEntry("default", "cart", "k"))
      assert.deepStrictEqual(entry.value, value)
    })
  )
)

it.live("an engine whose database URL names an application can find its own sessions", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { schema = "", url } = yield* takeSchema
      yield* PostgresStore.make({ url: withParameters(url, parameters), schema, poolSize: 2 })
      const rows = yield* Effect.promise(() =>
        runSql(
          `SELECT n.pid FROM nodes n JOIN pg_stat_activity a ON a.pid = n.pid WHERE a.application_name = 'ironflow'`,
          schema
        )
      )
      assert.lengthOf(rows, 1)
    })
  )
)
