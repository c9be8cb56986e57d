/** Failures of the connection to Postgres: their messages, and that nothing is lost or done twice. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AddressInfo, createServer, type Server } from "node:net"
import pg from "pg"
import { vi } from "vitest"
import * as PostgresStore from "../../../src/Engine/PostgresStore.ts"
import * as EngineWorkers from "../../../src/Engine/Runs/EngineWorkers.ts"
import { examinePostgres } from "../../../src/Engine/Doctor/OfflineChecks.ts"
import { Connections } from "../../../src/Engine/Store/Postgres/Connections.ts"
import { checkServer, loadDriver, postgresSettingsOf } from "../../../src/Engine/Store/Postgres/Driver.ts"
import { migrateDatabase } from "../../../src/Engine/Store/Postgres/Migrate.ts"
import { migrations } from "../../../src/Engine/Store/Postgres/Migrations.ts"
import { openError } from "../../../src/Engine/Store/Postgres/PostgresErrors.ts"
import { traffic } from "../../../src/Engine/Store/Postgres/Postgres.ts"
import type { PostgresOptions } from "../../../src/Engine/Store/Postgres/Options.ts"
import type { StoreService } from "../../../src/Engine/Store/Store.ts"
import { exportStore } from "../../../src/Engine/Store/Transfer/Transfer.ts"
import { type StoreError, toError, ValidationError } from "../../../src/Errors.ts"
import { Wire } from "../../durability/matrix/Wire.ts"
import { startProxy } from "../../postgres/Proxy.ts"
import { runSql, takeSchema } from "../../postgres/Schemas.ts"
import { OwnServer } from "../../postgres/Server.ts"
import { complete, done, handles, Shop } from "./suite/Shop.ts"

const open = (
  options: PostgresOptions,
  sharing?: "alone"
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  PostgresStore.make({ poolSize: 3, ...options }, sharing)

const failsToOpen = (options: PostgresOptions) => Effect.flip(Effect.scoped(open(options)))

const rows = (schema: string | undefined, sql: string) => Effect.promise(() => runSql(sql, schema))

/** The connections of the engines in a schema that hold its lock. */
const backends = (schema: string | undefined) =>
  rows(
    schema,
    `SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
       AND l.objid::bigint = (hashtext('hold ${schema}')::bigint & 4294967295)`
  )

const live = (name: string, test: () => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.scoped(test()))

describe("a database URL", () => {
  it("that is invalid is refused with an example", () => {
    for (const url of ["", "orders.db", "mysql://localhost/orders", "http://localhost"]) {
      assert.throws(
        () => PostgresStore.layer({ url }),
        ValidationError,
        "postgres://user:password@host:5432/database"
      )
    }
  })

  it("is not shown with its password", () => {
    assert.strictEqual(
      postgresSettingsOf({ url: "postgres://shop:secret@db.internal:5433/orders" }).displayName,
      "db.internal:5433/orders (schema ironflow)"
    )
  })

  it("without a host means this machine, or a socket", () => {
    assert.include(postgresSettingsOf({ url: "postgres:///orders" }).displayName, "localhost/orders")
    assert.include(
      postgresSettingsOf({ url: "postgres:///orders?host=/run/postgresql" }).displayName,
      "/run/postgresql/orders"
    )
  })

  it("is checked with its schema, pool size and timeouts", () => {
    const url = "postgres://localhost/orders"
    assert.throws(() => PostgresStore.layer({ url, schema: "Robert'); --" }), ValidationError, "schema")
    assert.throws(() => PostgresStore.layer({ url, schema: "pg_mine" }), ValidationError, "schema")
    assert.throws(() => PostgresStore.layer({ url, poolSize: 1 }), ValidationError, "poolSize")
    assert.throws(
      () => PostgresStore.layer({ url, statementTimeoutMs: 0 }),
      ValidationError,
      "statementTimeoutMs"
    )
    assert.throws(
      () => PostgresStore.layer({ url: `${url}?sslmode=sometimes` }),
      ValidationError,
      "must be one of disable, prefer, require, verify-ca, verify-full, no-verify"
    )
    assert.throws(
      () => PostgresStore.layer({ url, poolsize: 3 } as unknown as PostgresOptions),
      ValidationError,
      "poolSize"
    )
  })

  live("at which nothing listens is reported", () =>
    Effect.gen(function* () {
      const error = yield* failsToOpen({ url: "postgres://localhost:1/orders" })
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.isTrue(error.retryable)
      assert.include(error.message, "Cannot use Postgres at localhost:1/orders")
      assert.include(error.message, "that Postgres is running")
    })
  )

  live("of a missing database says what to create", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const error = yield* failsToOpen({ url: new URL("/no_such_database", url).href })
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.isFalse(error.retryable)
      assert.include(error.message, "Create the database first")
    })
  )

  live("of a user who may not create the schema says what to grant", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const user = `guest_${process.pid}`
      yield* Effect.acquireRelease(rows(undefined, `CREATE ROLE ${user} LOGIN`), () =>
        rows(undefined, `DROP ROLE ${user}`)
      )
      const urlOfUser = new URL(url)
      urlOfUser.username = user
      const error = yield* failsToOpen({ url: urlOfUser.href, schema: "not_there" })
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.include(error.message, "GRANT CREATE ON DATABASE")
    })
  )
})

describe("a user without a right is told which one:", () => {
  const guest = Effect.gen(function* () {
    const { url } = yield* takeSchema
    const user = `guest_${process.pid}`
    yield* Effect.acquireRelease(rows(undefined, `CREATE ROLE ${user} LOGIN`), () =>
      rows(undefined, `DROP OWNED BY ${user}; DROP ROLE ${user}`)
    )
    const urlOfUser = new URL(url)
    urlOfUser.username = user
    return { url: urlOfUser.href, user }
  })
  /** The messages with which an engine and `ironflow migrate` fail. */
  const messagesFor = (options: PostgresOptions) =>
    Effect.map(
      Effect.all([
        failsToOpen(options),
        Effect.flip(Effect.tryPromise({ try: () => migrateDatabase(options), catch: toError }))
      ]),
      (errors) => errors.map(({ message }) => message)
    )

  live("USAGE of the schema", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(open(options))
      const { url, user } = yield* guest
      for (const message of yield* messagesFor({ ...options, url })) {
        assert.include(message, `The user "${user}" is not allowed to use the schema`)
        assert.include(message, `GRANT USAGE ON SCHEMA ${options.schema} TO "${user}"`)
      }
      const read = yield* Effect.flip(exportStore({ database: { ...options, url } }, "/tmp/never.jsonl"))
      assert.include(read.message, "GRANT USAGE ON SCHEMA")
      assert.include((yield* Effect.flip(examinePostgres({ ...options, url }, false))).message, "GRANT USAGE")
    })
  )

  live("CREATE in an empty schema", () =>
    Effect.gen(function* () {
      const { url, user } = yield* guest
      const schema = `empty_${process.pid}`
      yield* Effect.acquireRelease(
        rows(undefined, `CREATE SCHEMA ${schema}; GRANT USAGE ON SCHEMA ${schema} TO ${user}`),
        () => rows(undefined, `DROP SCHEMA ${schema}`)
      )
      for (const message of yield* messagesFor({ url, schema })) {
        assert.include(message, "GRANT CREATE ON SCHEMA")
        assert.notInclude(message, "GRANT CREATE ON DATABASE")
      }
    })
  )

  live("CONNECT to the database", () =>
    Effect.gen(function* () {
      const { url } = yield* guest
      const database = `closed_${process.pid}`
      yield* Effect.acquireRelease(rows(undefined, `CREATE DATABASE ${database}`), () =>
        rows(undefined, `DROP DATABASE ${database}`)
      )
      yield* rows(undefined, `REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC`)
      for (const message of yield* messagesFor({ url: new URL(`/${database}`, url).href })) {
        assert.include(message, "GRANT CONNECT ON DATABASE")
        assert.notInclude(message, "GRANT CREATE ON DATABASE")
      }
    })
  )

  live(
    "those that an engine needs and a reader lacks, by the doctor, which also counts what it may not see",
    () =>
      Effect.gen(function* () {
        const options = yield* takeSchema
        yield* Effect.scoped(open(options))
        const { url, user } = yield* guest
        yield* rows(
          undefined,
          `GRANT USAGE ON SCHEMA ${options.schema} TO ${user}; GRANT SELECT ON ALL TABLES IN SCHEMA ${options.schema} TO ${user}; ALTER ROLE ${user} CONNECTION LIMIT 2`
        )
        const others = yield* Effect.forEach([1, 2, 3, 4, 5], () =>
          Effect.acquireRelease(
            Effect.promise(async () => {
              const other = new pg.Client({ connectionString: options.url })
              await other.connect()
              return other
            }),
            (other) => Effect.promise(() => other.end())
          )
        )
        const checks = yield* examinePostgres({ ...options, url }, false)
        const named = (wanted: string) => checks.find(({ name }) => name === wanted) ?? assert.fail(wanted)
        assert.strictEqual(named("rights").status, "fail")
        assert.include(named("rights").message, `The user "${user}" is not allowed to read and write`)
        assert.include(named("rights").advice, `GRANT ALL ON ALL TABLES IN SCHEMA ${options.schema}`)
        const { advice, message, status } = named("connections")
        assert.isAtLeast(Number(/^\d+/.exec(message)?.[0]), others.length + 1)
        assert.strictEqual(status, "fail")
        assert.include(
          message,
          `The user "${user}" has 0 of the 2 connections that its CONNECTION LIMIT allows.`
        )
        assert.include(advice, "--database-pool-size")
      })
  )
})

describe("a connection that the server ends", () => {
  live("while no query runs does not end the process", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const { Pool } = new Connections({ Client: pg.Client, Pool: pg.Pool }).driver
      const pool = yield* Effect.acquireRelease(
        Effect.sync(() => new Pool({ connectionString: url })),
        (pool) => Effect.promise(() => pool.end())
      )
      const held = yield* Effect.promise(() => pool.connect())
      const [row] = (yield* Effect.promise(() => held.query("SELECT pg_backend_pid() AS pid"))).rows
      const ended = new Promise((resolve) => held.once("end", resolve))
      // an `error` event without a listener would be thrown, and this test would fail
      yield* rows(undefined, `SELECT pg_terminate_backend(${row.pid})`)
      yield* Effect.promise(() => ended)
      const refused = yield* Effect.promise(() => held.query("SELECT 1").then(() => "answered", String))
      assert.notStrictEqual(refused, "answered")
      held.release(true)
    })
  )
})

/** Makes a role on the server of the tests, and a URL with it. */
const roleWith = (name: string, sql: (role: string) => string) =>
  Effect.gen(function* () {
    const { schema = "", url } = yield* takeSchema
    const role = `${name}_${process.pid}`
    yield* Effect.acquireRelease(rows(undefined, `CREATE ROLE ${role} LOGIN; ${sql(role)}`), () =>
      rows(undefined, `DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`)
    )
    const urlOfRole = new URL(url)
    urlOfRole.username = role
    return { url: urlOfRole.href, schema }
  })

const mayCreate = (role: string): string =>
  `DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO ${role}', current_database()); END $$`

describe("an engine that cannot start names the cause and a remedy:", () => {
  const assertNames = (error: StoreError, code: string, isRetryable: boolean, advice: string) => {
    assert.strictEqual(error.code, code)
    assert.strictEqual(error.retryable, isRetryable)
    assert.include(error.message, "Cannot use Postgres at ")
    assert.include(error.message, advice)
  }

  live("tables that the user may not use", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(open(options))
      const { url } = yield* roleWith(
        "reader",
        (role) => `GRANT USAGE ON SCHEMA ${options.schema} TO ${role}`
      )
      assertNames(
        yield* failsToOpen({ ...options, url }),
        "STORE_UNAVAILABLE",
        false,
        "GRANT ALL ON ALL TABLES IN SCHEMA"
      )
    })
  )

  live("a server or a user that is read-only", () =>
    Effect.gen(function* () {
      const { url } = yield* roleWith(
        "standby",
        (role) => `${mayCreate(role)}; ALTER ROLE ${role} SET default_transaction_read_only = on`
      )
      const error = yield* failsToOpen({ url, schema: `standby_${process.pid}` })
      assertNames(error, "STORE_UNAVAILABLE", true, "it is a standby, or the database is read-only")
    })
  )

  live("no connection left", () =>
    Effect.gen(function* () {
      const { url } = yield* roleWith(
        "crowded",
        (role) => `${mayCreate(role)}; ALTER ROLE ${role} CONNECTION LIMIT 0`
      )
      assertNames(
        yield* failsToOpen({ url, schema: `crowded_${process.pid}` }),
        "STORE_UNAVAILABLE",
        true,
        "ALTER ROLE or ALTER DATABASE ... CONNECTION LIMIT"
      )
    })
  )

  live("tables that another client has locked", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(open(options))
      const other = new pg.Client({ connectionString: options.url })
      yield* Effect.acquireRelease(
        Effect.promise(() => other.connect()),
        () => Effect.promise(() => other.end())
      )
      yield* Effect.promise(() => other.query(`BEGIN; LOCK TABLE ${options.schema}.engine`))
      const error = yield* failsToOpen({ ...options, statementTimeoutMs: 100 })
      assertNames(error, "STORE_UNAVAILABLE", true, "pg_stat_activity")
    })
  )

  live("a missing certificate", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const error = yield* failsToOpen({ url: `${url}?sslmode=verify-full&sslrootcert=/nowhere.pem` })
      assertNames(error, "STORE_UNAVAILABLE", false, "`sslrootcert`")
    })
  )

  live("a server without encryption", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const error = yield* failsToOpen({ url: `${url}?sslmode=verify-full` })
      assertNames(error, "STORE_UNAVAILABLE", false, "Check `sslmode`")
    })
  )

  live("an invalid host", () =>
    Effect.gen(function* () {
      const error = yield* failsToOpen({ url: "postgres://no-such-host.invalid/orders" })
      assertNames(error, "STORE_UNAVAILABLE", true, "Check the host in the database URL")
    })
  )

  live("a port where another program listens, or nothing answers", () =>
    Effect.gen(function* () {
      const listening = (answer: string) =>
        Effect.map(
          Effect.acquireRelease(
            Effect.promise(
              () =>
                new Promise<Server>((resolve) => {
                  const server = createServer((socket) => {
                    socket.on("error", () => undefined)
                    if (answer !== "") socket.end(answer)
                  })
                  server.listen(0, "127.0.0.1", () => resolve(server))
                })
            ),
            (server) => Effect.sync(() => server.close())
          ),
          (server) => `postgres://127.0.0.1:${(server.address() as AddressInfo).port}/orders`
        )
      const other = yield* failsToOpen({ url: yield* listening("HTTP/1.1 400 Bad Request\r\n\r\n") })
      assertNames(other, "STORE_UNAVAILABLE", true, "are those of Postgres")
      const silent = yield* failsToOpen({ url: yield* listening(""), connectTimeoutMs: 50 })
      assertNames(silent, "STORE_UNAVAILABLE", true, "There was no connection in time")
    })
  )

  // the network between an engine and Postgres may fail at any moment, without an error
  for (const answerBytes of [600, 1500]) {
    live(`a server that falls silent after ${answerBytes} bytes, as every command does`, () =>
      Effect.gen(function* () {
        const options = yield* takeSchema
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() => startProxy(options.url, { answerBytes })),
          ({ close }) => Effect.promise(close)
        )
        const cutOff = { ...options, url: proxy.url, connectTimeoutMs: 1000, statementTimeoutMs: 1000 }
        const failures = yield* Effect.all(
          [
            failsToOpen(cutOff),
            Effect.flip(Effect.tryPromise({ try: () => migrateDatabase(cutOff), catch: toError })),
            Effect.flip(examinePostgres(cutOff, false)),
            Effect.flip(exportStore({ database: cutOff }, "/tmp/never.jsonl"))
          ],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          failures.map((error) => Object(error).code),
          failures.map(() => "STORE_UNAVAILABLE")
        )
      })
    )
  }

  it("a password that is wrong or missing", () => {
    const openErrorFor = (message: string, code?: string) =>
      openError("localhost/orders", Object.assign(new Error(message), code === undefined ? {} : { code }))
    assertNames(
      openErrorFor('password authentication failed for user "shop"', "28P01"),
      "STORE_UNAVAILABLE",
      false,
      "Check the user and the password"
    )
    assertNames(
      openErrorFor("SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string"),
      "STORE_UNAVAILABLE",
      false,
      "the database URL has none"
    )
  })
})

describe("a server", () => {
  it("that is too old is refused", () => {
    const settings = postgresSettingsOf({ url: "postgres://localhost/orders" })
    checkServer(140_000, settings)
    assert.throws(
      () => checkServer(130_014, settings),
      "is version 13, and the engine needs version 14 or later"
    )
  })

  it("cannot be reached without the driver, and the error says how to install it", async () => {
    vi.doMock("pg", () => {
      throw new Error("Cannot find package 'pg'")
    })
    try {
      const error = await loadDriver().then(
        () => undefined,
        (cause: unknown) => cause as StoreError
      )
      assert.strictEqual(error?.code, "STORE_UNAVAILABLE")
      assert.include(error?.message, "npm install pg")
    } finally {
      vi.doUnmock("pg")
    }
  })
})

describe("a server that hides its write-ahead log, as managed servers may", () => {
  it.live(
    "is used nevertheless, and counts as another server after each restart",
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          const server = yield* Effect.acquireRelease(
            Effect.promise(() => OwnServer.start()),
            (own) => Effect.promise(() => own.close())
          )
          const admin = new pg.Client({ connectionString: server.url })
          yield* Effect.promise(async () => {
            await admin.connect()
            await admin.query(
              "CREATE ROLE shop LOGIN; GRANT CREATE ON DATABASE postgres TO shop; REVOKE EXECUTE ON FUNCTION pg_walfile_name FROM PUBLIC"
            )
            await admin.end()
          })
          const url = server.url.replace("postgres@", "shop@")
          const shop = new Shop(yield* open({ url }))
          const first = yield* shop.emit("order.placed")
          const second = yield* shop.emit("order.placed")
          assert.strictEqual(second.position, first.position + 1)
          yield* Effect.promise(async () => {
            await server.down("fast")
            await server.up()
          })
          const third = yield* shop.emit("order.placed")
          assert.isAbove(third.position, second.position + 900_000)
          assert.strictEqual((yield* shop.emit("order.placed")).position, third.position + 1)
        })
      ),
    120_000
  )
})

describe("a schema", () => {
  live("of a newer version is refused and unchanged", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(open(options))
      const at = (version: number) =>
        rows(
          options.schema,
          `UPDATE engine SET version = ${version}; UPDATE meta SET value = ${version} WHERE name = 'oldest'`
        )
      yield* Effect.acquireRelease(at(migrations.length + 1), () => at(migrations.length))
      const error = yield* failsToOpen(options)
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.include(error.message, "upgrade @ironflow/node")
    })
  )

  live("is not changed while an engine of an older version uses it", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* open(options)
      const at = (version: number) => rows(options.schema, `UPDATE engine SET version = ${version}`)
      yield* Effect.acquireRelease(at(migrations.length - 1), () => at(migrations.length))
      const error = yield* failsToOpen(options)
      assert.strictEqual(error.code, "STORE_LOCKED")
      assert.include(error.message, "Engines of an older version use them")
    })
  )

  live("with tables of another program is refused and unchanged", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const schema = `shop_${process.pid}`
      yield* Effect.acquireRelease(
        rows(undefined, `CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.orders (id INTEGER)`),
        () => rows(undefined, `DROP SCHEMA ${schema} CASCADE`)
      )
      const error = yield* failsToOpen({ url, schema })
      assert.strictEqual(error.code, "STORE_CORRUPT")
      assert.include(error.message, "give the engine a schema of its own")
    })
  )

  live("is created once when several engines start at once, and all of them use it", () =>
    Effect.gen(function* () {
      const { url } = yield* takeSchema
      const schema = `crowd_${process.pid}`
      yield* Effect.addFinalizer(() => rows(undefined, `DROP SCHEMA IF EXISTS ${schema} CASCADE`))
      const stores = yield* Effect.all(
        [1, 2, 3].map(() => open({ url, schema })),
        { concurrency: "unbounded" }
      )
      const [first, ...others] = stores.map((store) => new Shop(store))
      yield* first!.register(handles("charge"))
      for (const other of others) assert.lengthOf((yield* other.emit("order.placed")).runIds, 1)
    })
  )

  live("that an engine uses alone is refused to other engines, with the name of that engine", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* open(options, "alone")
          const error = yield* failsToOpen(options)
          assert.strictEqual(error.code, "STORE_LOCKED")
          assert.include(error.message, `process ${process.pid}`)
        })
      )
      yield* open(options)
      assert.strictEqual((yield* Effect.flip(Effect.scoped(open(options, "alone")))).code, "STORE_LOCKED")
    })
  )

  live("that another engine has taken over gets no more writes", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const store = yield* open(options, "alone")
      const shop = new Shop(store)
      const losses: Array<string> = []
      store.onLost((error) => losses.push(error.code))
      yield* shop.register(handles("charge"))
      yield* rows(options.schema, "DELETE FROM nodes")
      const error = yield* Effect.flip(shop.emit("order.placed"))
      assert.strictEqual((error as StoreError).code, "STORE_LOCKED")
      assert.deepStrictEqual(losses, ["STORE_LOCKED"])
      assert.strictEqual(store.health().status, "down")
      assert.deepStrictEqual(yield* rows(options.schema, "SELECT id FROM events"), [])
    })
  )
})

describe("a store that is closed", () => {
  it.live("refuses later reads too", () =>
    Effect.gen(function* () {
      const shop = yield* Effect.scoped(
        Effect.gen(function* () {
          const shop = new Shop(yield* open(yield* takeSchema))
          yield* shop.emit("order.placed")
          return shop
        })
      )
      const error = yield* Effect.flip(shop.store.read(EngineWorkers.readWorkers()))
      assert.strictEqual(error.code, "STORE_UNAVAILABLE")
      assert.include(error.message, "is closed")
    })
  )
})

describe("a connection", () => {
  const shopBehindProxy = Effect.gen(function* () {
    const options = yield* takeSchema
    const proxy = yield* Effect.acquireRelease(
      Effect.promise(() => startProxy(options.url)),
      ({ close }) => Effect.promise(close)
    )
    const store = yield* open({ ...options, url: proxy.url })
    const shop = new Shop(store)
    yield* shop.register(handles("charge"))
    const events = rows(options.schema, "SELECT id FROM events ORDER BY position")
    return { events, options, proxy, shop, store }
  })

  live("that is cut after a commit loses nothing: the engine finds out what was committed", () =>
    Effect.gen(function* () {
      const { events, proxy, shop } = yield* shopBehindProxy
      proxy.cutAfterCommit()
      const { eventId } = yield* shop.emit("order.placed", { n: 1 })
      assert.deepStrictEqual(yield* events, [{ id: eventId }])
      assert.strictEqual((yield* shop.claim({ room: 5 })).length, 1)
    })
  )

  live("that is cut before a commit loses nothing: the transaction is repeated", () =>
    Effect.gen(function* () {
      const { events, proxy, shop } = yield* shopBehindProxy
      proxy.cutBeforeCommit()
      const { eventId } = yield* shop.emit("order.placed", { n: 1 })
      assert.deepStrictEqual(yield* events, [{ id: eventId }])
      assert.strictEqual((yield* shop.claim({ room: 5 })).length, 1)
    })
  )

  live("that Postgres ends again and again loses no event and starts no run twice", () =>
    Effect.gen(function* () {
      const { options, shop } = yield* shopBehindProxy
      let kills = 0
      const killer = yield* Effect.forkScoped(
        Effect.forever(
          Effect.gen(function* () {
            for (const { pid } of yield* backends(options.schema)) {
              yield* rows(undefined, `SELECT pg_terminate_backend(${Number(pid)})`)
            }
            // sometimes within each transaction, sometimes between transactions
            yield* Effect.sleep([50, 20, 600, 150][kills++ % 4] ?? 50)
          })
        )
      )
      const accepted: Array<string> = []
      for (let n = 0; n < 60; n++) {
        const result = yield* Effect.result(shop.emit("order.placed", { n }, { idempotencyKey: `o-${n}` }))
        if (result._tag === "Success") accepted.push(result.success.eventId)
        else assert.isTrue((result.failure as StoreError).retryable)
      }
      yield* Effect.sync(() => killer.interruptUnsafe())
      const stored = (yield* rows(options.schema, "SELECT id FROM events")).map(({ id }) => String(id))
      assert.isAbove(accepted.length, 0)
      assert.deepStrictEqual(
        accepted.filter((id) => !stored.includes(id)),
        []
      )
      const [runs] = yield* rows(
        options.schema,
        "SELECT count(*)::int AS n, count(DISTINCT event)::int AS events FROM runs"
      )
      assert.deepStrictEqual(runs, { n: stored.length, events: stored.length })
    })
  )

  live("that is cut while idle is replaced by the next statement", () =>
    Effect.gen(function* () {
      const { proxy, shop } = yield* shopBehindProxy
      const job = yield* shop.start()
      assert.strictEqual(yield* shop.status(job.runId), "running")
      proxy.cut()
      yield* shop.report(job, done("charge:0"), complete())
      const status = yield* Effect.retry(shop.status(job.runId), { times: 3 })
      assert.strictEqual(status, "completed")
    })
  )

  const shopBehindWire = Effect.gen(function* () {
    const options = yield* takeSchema
    const wire = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const made = new Wire(() => Number(new URL(options.url).port))
        await made.listen()
        return made
      }),
      (made) => Effect.sync(() => made.close())
    )
    const url = new URL(options.url)
    url.port = String(wire.port)
    const store = yield* open({ ...options, url: url.href })
    const shop = new Shop(store)
    yield* shop.register(handles("charge"))
    return { options, shop, store, wire }
  })

  /** Waits until the health of an idle engine has this status. */
  const becomes = (store: StoreService, status: string) =>
    Effect.repeat(
      Effect.delay(
        Effect.sync(() => store.health()),
        20
      ),
      { until: (now) => now.status === status }
    )

  live("that is dead but seems open is detected, for writes and for reads", () =>
    Effect.gen(function* () {
      const { options, shop, wire } = yield* shopBehindWire
      const job = yield* shop.start()
      wire.set({ _tag: "lost" })
      const [emitted, status] = yield* Effect.all(
        [
          shop.emit("order.placed", { n: 2 }, { idempotencyKey: "o-2" }),
          // each retry may meet another dead connection of the pool
          Effect.retry(shop.status(job.runId), { times: 5 })
        ],
        { concurrency: "unbounded" }
      )
      assert.strictEqual(status, "running")
      const [event] = yield* rows(options.schema, "SELECT id FROM events WHERE idempotency_key = 'o-2'")
      assert.strictEqual(event?.id, emitted.eventId)
    })
  )

  for (const mode of [{ _tag: "lost" }, { _tag: "deaf", towards: "both" }] as const) {
    live(`that carries no data any more (${mode._tag}) does not prevent an engine from ending`, () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { shop, store, wire } = yield* shopBehindWire
          const job = yield* shop.start()
          yield* shop.status(job.runId)
          wire.set(mode)
          yield* Effect.forkScoped(Effect.ignore(store.write(EngineWorkers.disconnectWorker("till", "1.1"))))
        })
      )
    )
  }

  live("that cannot be opened shows in the health of an idle engine, which recovers by itself", () =>
    Effect.gen(function* () {
      const { store, wire } = yield* shopBehindWire
      wire.set({ _tag: "cut" })
      const degraded = yield* becomes(store, "degraded")
      assert.deepInclude(degraded, { cannotWrite: true })
      wire.set({ _tag: "passing" })
      yield* becomes(store, "ok")
      wire.set({ _tag: "deaf", towards: "both" })
      yield* becomes(store, "degraded")
      wire.set({ _tag: "passing" })
      yield* becomes(store, "ok")
    })
  )

  live("that is dead but seems open is detected by an idle engine, which replaces all of them", () =>
    Effect.gen(function* () {
      const { shop, store, wire } = yield* shopBehindWire
      const job = yield* shop.start()
      yield* shop.status(job.runId)
      wire.set({ _tag: "lost" })
      yield* becomes(store, "degraded")
      yield* becomes(store, "ok")
      // works because the engine has replaced all connections: until a query is sent on a dead one, only the engine's
      // check can notice it
      assert.strictEqual(yield* shop.status(job.runId), "running")
    })
  )

  it.live(
    "that waits for a server which cannot be reached any more fails, long before the timeout of a statement",
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { options, wire } = yield* shopBehindWire
          const url = new URL(options.url)
          url.port = String(wire.port)
          const shop = new Shop(yield* open({ ...options, url: url.href, connectTimeoutMs: 300 }))
          yield* shop.register(handles("charge"))
          const job = yield* shop.start()
          yield* shop.status(job.runId)
          wire.set({ _tag: "deaf", towards: "both" })
          const error = yield* Effect.flip(shop.status(job.runId))
          assert.strictEqual((error as StoreError).code, "STORE_UNAVAILABLE")
          wire.set({ _tag: "passing" })
        })
      ),
    20_000
  )

  live("that is not free in time is reported as a lack of connections", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const store = yield* open({ ...options, poolSize: 2, connectTimeoutMs: 200, statementTimeoutMs: 5000 })
      const shop = new Shop(store)
      yield* shop.register(handles("charge"))
      const job = yield* shop.start()
      const other = new pg.Client({ connectionString: options.url })
      yield* Effect.acquireRelease(
        Effect.promise(() => other.connect()),
        () => Effect.promise(() => other.end())
      )
      yield* Effect.promise(() =>
        other.query(`BEGIN; LOCK TABLE ${options.schema}.runs IN ACCESS EXCLUSIVE MODE`)
      )
      const held = yield* Effect.forkScoped(shop.status(job.runId))
      // wait until the only connection for reads waits for the lock
      yield* Effect.repeat(
        rows(undefined, "SELECT 1 FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"),
        { until: (waiting) => waiting.length > 0 }
      )
      const error = yield* Effect.flip(shop.status(job.runId))
      assert.strictEqual((error as StoreError).code, "STORE_UNAVAILABLE")
      assert.include(error.message, "databasePoolSize")
      yield* Effect.promise(() => other.query("COMMIT"))
      yield* Effect.sync(() => held.interruptUnsafe())
      assert.strictEqual(yield* shop.status(job.runId), "running")
    })
  )

  live("whose statement takes too long fails with advice on what to check, and works afterwards", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const store = yield* open({ ...options, statementTimeoutMs: 300 })
      const shop = new Shop(store)
      yield* shop.register(handles("charge"))
      const other = new pg.Client({ connectionString: options.url })
      yield* Effect.acquireRelease(
        Effect.promise(() => other.connect()),
        () => Effect.promise(() => other.end())
      )
      yield* Effect.promise(() =>
        other.query(`BEGIN; LOCK TABLE ${options.schema}.events IN ACCESS EXCLUSIVE MODE`)
      )
      const error = yield* Effect.flip(shop.emit("order.placed"))
      assert.strictEqual((error as StoreError).code, "STORE_UNAVAILABLE")
      assert.include(error.message, "pg_stat_activity")
      assert.strictEqual(store.health().status, "degraded")
      yield* Effect.promise(() => other.query("COMMIT"))
      assert.strictEqual((yield* shop.emit("order.placed")).runIds.length, 1)
      assert.strictEqual(store.health().status, "ok")
    })
  )
})

describe("a transaction", () => {
  live("of many events, and one of many reports, takes three round trips", () =>
    Effect.gen(function* () {
      const options = yield* takeSchema
      const shop = new Shop(yield* open(options))
      yield* shop.register(handles("charge"))
      const countCost = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.suspend(() => {
          const before = { ...traffic }
          return Effect.map(effect, (value) => ({
            value,
            commits: traffic.commits - before.commits,
            roundTrips: traffic.roundTrips - before.roundTrips
          }))
        })
      const together = { concurrency: "unbounded" } as const
      const orders = Array.from({ length: 64 }, (_, n) => n)
      const emitted = yield* countCost(
        Effect.forEach(orders, (n) => shop.emit("order.placed", { n }), together)
      )
      assert.strictEqual(emitted.commits, 1)
      assert.isAtMost(emitted.roundTrips, 3)
      const jobs = yield* shop.claim({ room: 64 })
      assert.strictEqual(jobs.length, 64)
      const reported = yield* countCost(
        Effect.forEach(
          jobs,
          (job) => shop.report(job, done("charge:0"), done("ship:0"), complete("ok")),
          together
        )
      )
      assert.strictEqual(reported.commits, 1)
      assert.isAtMost(reported.roundTrips, 3)
    })
  )
})
