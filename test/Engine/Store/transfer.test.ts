/** Export and import: all data of an engine moves from a file to Postgres and back, and its runs continue there. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { createFunction } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import pg from "pg"
import { examinePostgres } from "../../../src/Engine/Doctor/OfflineChecks.ts"
import { migrateDatabase } from "../../../src/Engine/Store/Postgres/Migrate.ts"
import { migrations } from "../../../src/Engine/Store/Postgres/Migrations.ts"
import { exportStore, importStore, type Place } from "../../../src/Engine/Store/Transfer/Transfer.ts"
import { isIronflowError } from "../../../src/Errors.ts"
import { runSql } from "../../postgres/Schemas.ts"
import { OwnServer, sharedUrl } from "../../postgres/Server.ts"

const functions = [
  createFunction({ id: "approval", triggers: [{ event: "approval.wanted" }] }, async ({ step }) => {
    const asked = await step.run("ask", () => ({ asked: "Ann", at: new Date(0) }))
    const { data } = await step.waitForEvent("approval", {
      event: "order.approved",
      match: "data.orderId",
      timeout: "1h"
    })
    return { asked, by: data.by }
  }),
  createFunction({ id: "napper", triggers: [{ event: "nap.wanted" }] }, async ({ step }) => {
    await step.sleep("nap", "30d")
  }),
  createFunction({ id: "parent", triggers: [{ event: "parent.wanted" }] }, async ({ step }) =>
    step.invoke("napper", {})
  ),
  createFunction(
    { id: "failing", triggers: [{ event: "fail.wanted" }], retry: { maxAttempts: 1 } },
    async () => {
      throw new Error("the bank is down ✗ 🦊")
    }
  )
]

const schema = `transfer_${process.pid}`
let folder: string
let postgres: Place
const pathOf = (name: string): string => join(folder, name)
const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)
const failure = async (effect: Effect.Effect<unknown, unknown>): Promise<string> => {
  const error = await Effect.runPromise(Effect.flip(effect))
  return isIronflowError(error) ? `${error.code}: ${error.message}` : String(error)
}
/** The lines of an export that contain tables and rows. */
const linesOf = (name: string): ReadonlyArray<string> =>
  readFileSync(pathOf(name), "utf8").trim().split("\n").slice(1, -1)

let waiting: string
const fillUp = async (engine: IronflowEngine): Promise<void> => {
  const { client } = engine
  const [first] = (await client.emit("approval.wanted", { orderId: "o-1" })).runIds
  waiting = first!
  await client.emit("nap.wanted", {})
  await client.emit("parent.wanted", {})
  for (const id of (await client.emit("fail.wanted", { text: "ü" })).runIds) {
    await client.waitForRun(id).catch(() => undefined)
  }
  while ((await client.explain(waiting)).code !== "WAITING_FOR_EVENT") await new Promise(setImmediate)
  await client.emit("order.placed", { amount: 12.5 }, { idempotencyKey: "once" })
  await client.streams.append("order-1", { name: "item.added", data: { sku: "A" }, entityType: "order" })
  await client.kv().createBucket({ name: "carts", history: 3 })
  const carts = client.kv().bucket("carts")
  await carts.put("c-1", { items: [1, 2] })
  await carts.put("c-1", new Uint8Array([0, 1, 255]))
  await carts.put("empty", new Uint8Array(0))
  await client.publish("news", { headline: "Opened" })
  await engine.secrets.set("STRIPE_KEY", "sk_live_1")
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ironflow-transfer-"))
  postgres = { database: { url: await sharedUrl(), schema } }
  const engine = await startEngine({
    filename: pathOf("first.db"),
    functions,
    masterKey: "ab".repeat(32),
    logger: false
  })
  await fillUp(engine)
  // an export of a running engine
  await run(exportStore({ filename: pathOf("first.db") }, pathOf("running.jsonl")))
  await engine.close()
  await run(exportStore({ filename: pathOf("first.db") }, pathOf("first.jsonl")))
}, 60_000)
afterAll(async () => {
  await runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE; DROP SCHEMA IF EXISTS ${schema}_running CASCADE`)
  rmSync(folder, { recursive: true })
})

const sorted = (rows: ReadonlyArray<unknown>): ReadonlyArray<unknown> =>
  rows
    .map((row) => [JSON.stringify(row), row] as const)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([, row]) => row)

const rowsOf = (name: string): { readonly [table: string]: ReadonlyArray<unknown> } => {
  const db = new DatabaseSync(pathOf(name), { readOnly: true })
  const tables = db
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all()
    .map((row) => String(row.name))
  const all = Object.fromEntries(
    tables.map((table) => [table, sorted(db.prepare(`SELECT * FROM ${table}`).all())])
  )
  db.close()
  return all
}

describe("an export", () => {
  it(
    "can be moved to Postgres and back to a file, with every row unchanged",
    { timeout: 60_000 },
    async () => {
      const there = await run(importStore(pathOf("first.jsonl"), postgres))
      const fromPostgres = await run(exportStore(postgres, pathOf("second.jsonl")))
      await run(importStore(pathOf("second.jsonl"), { filename: pathOf("third.db") }))
      await run(exportStore({ filename: pathOf("third.db") }, pathOf("third.jsonl")))

      assert.isAbove(there.rows, 30)
      assert.strictEqual(fromPostgres.rows, there.rows)
      assert.deepStrictEqual(linesOf("second.jsonl"), linesOf("first.jsonl"))
      assert.deepStrictEqual(linesOf("third.jsonl"), linesOf("first.jsonl"))
      assert.deepStrictEqual(rowsOf("third.db"), rowsOf("first.db"))
      assert.strictEqual(statSync(pathOf("third.db")).mode & 0o777, 0o600)
      assert.strictEqual(statSync(pathOf("first.jsonl")).mode & 0o777, 0o600)
    }
  )

  it(
    "of a running engine can be used elsewhere: its runs and its counters continue",
    { timeout: 60_000 },
    async () => {
      const database = { url: await sharedUrl(), schema: `${schema}_running` }
      await run(importStore(pathOf("running.jsonl"), { database }))
      const engine = await startEngine({
        databaseUrl: database.url,
        databaseSchema: database.schema,
        functions,
        masterKey: "ab".repeat(32),
        logger: false
      })
      try {
        const { client } = engine
        await client.emit("order.approved", { orderId: "o-1", by: "Bob" })
        const ended = await client.waitForRun(waiting)
        const bytes = await client.kv().bucket("carts").get("c-1")
        const again = await client.emit("order.placed", { amount: 12.5 }, { idempotencyKey: "once" })
        const { runs } = await client.listRuns({ status: "waiting" })
        // new rows get numbers that are not in use
        await client.kv().createBucket({ name: "more" })
        await client.emit("nap.wanted", {})

        assert.include(ended.output as object, { by: "Bob" })
        assert.deepStrictEqual(new Uint8Array(bytes.value as Uint8Array), new Uint8Array([0, 1, 255]))
        assert.lengthOf(again.runIds, 0)
        assert.deepStrictEqual(runs.map(({ functionId }) => functionId).toSorted(), [
          "napper",
          "napper",
          "parent"
        ])
        assert.deepStrictEqual(
          (await engine.secrets.list()).map(({ name }) => name),
          ["STRIPE_KEY"]
        )
      } finally {
        await engine.close()
      }
    }
  )
})

describe("an export from Postgres", () => {
  it(
    "is made while a newer version has only added to the tables, and otherwise says what to do",
    {
      timeout: 60_000
    },
    async () => {
      const database = { url: await sharedUrl(), schema: `${schema}_newer` }
      const place: Place = { database }
      const at = (version: number, oldest: number) =>
        runSql(
          `UPDATE engine SET version = ${version}; UPDATE meta SET value = ${oldest} WHERE name = 'oldest'`,
          database.schema
        )
      const known = migrations.length
      try {
        assert.match(
          await failure(exportStore(place, pathOf("none.jsonl"))),
          /^STORE_UNAVAILABLE: There are no tables at .*--database-schema/
        )
        await migrateDatabase(database)
        await at(known + 3, known)
        await run(exportStore(place, pathOf("newer-fits.jsonl")))
        const checks = await run(examinePostgres(database, false))
        await at(known + 3, known + 1)
        const tooNew = await failure(exportStore(place, pathOf("too-new.jsonl")))
        await at(known - 1, known - 1)
        const tooOld = await failure(exportStore(place, pathOf("too-old.jsonl")))

        assert.deepInclude(
          checks.find(({ name }) => name === "tables"),
          { status: "ok" }
        )
        assert.include(
          checks.map(({ name }) => name),
          "runs"
        )
        assert.match(tooNew, /^STORE_UNAVAILABLE: .*upgrade @ironflow\/node/)
        assert.notInclude(tooNew, "migrate")
        assert.match(tooOld, /^STORE_UNAVAILABLE: .*`ironflow migrate` brings them up to date/)
      } finally {
        await runSql(`DROP SCHEMA IF EXISTS ${database.schema} CASCADE`)
      }
    }
  )

  it("is made on a standby, by a user who may only read", { timeout: 120_000 }, async () => {
    const primary = await OwnServer.start()
    try {
      await run(importStore(pathOf("first.jsonl"), { database: { url: primary.url } }))
      const admin = new pg.Client({ connectionString: primary.url })
      await admin.connect()
      await admin.query(
        "CREATE ROLE reports LOGIN; GRANT USAGE ON SCHEMA ironflow TO reports; GRANT SELECT ON ALL TABLES IN SCHEMA ironflow TO reports"
      )
      const place = (url: string): Place => ({
        database: { url: url.replace("postgres@", "reports@") }
      })
      const withoutSequences = await failure(exportStore(place(primary.url), pathOf("denied.jsonl")))
      await admin.query("GRANT SELECT ON ALL SEQUENCES IN SCHEMA ironflow TO reports")
      await admin.query("REVOKE SELECT ON ironflow.steps FROM reports")
      const withoutTable = await failure(exportStore(place(primary.url), pathOf("denied.jsonl")))
      await admin.query("GRANT SELECT ON ironflow.steps TO reports")
      await admin.end()
      const standby = await primary.follow(primary.port)
      try {
        await run(exportStore(place(standby.url), pathOf("standby.jsonl")))
      } finally {
        await standby.close()
      }

      assert.include(withoutSequences, "permission denied for sequence")
      assert.include(withoutSequences, "GRANT SELECT ON ALL SEQUENCES IN SCHEMA ironflow TO")
      assert.include(withoutTable, "permission denied for table steps")
      assert.deepStrictEqual(linesOf("standby.jsonl"), linesOf("first.jsonl"))
    } finally {
      await primary.close()
    }
  })
})

describe("an import", () => {
  const importInto = (name: string, target = "refused.db") =>
    failure(importStore(pathOf(name), { filename: pathOf(target) }))
  const write = (name: string, change: (text: string) => string): string => {
    writeFileSync(pathOf(name), change(readFileSync(pathOf("first.jsonl"), "utf8")))
    return name
  }

  it("refuses a file that was changed or cut or is not an export, and leaves nothing behind", async () => {
    const changed = write("changed.jsonl", (text) => text.replace("o-1", "o-2"))
    const cut = write("cut.jsonl", (text) => text.slice(0, text.length / 2))
    const line = write("line.jsonl", (text) =>
      text
        .split("\n")
        .filter((_, i) => i !== 5)
        .join("\n")
    )
    const newer = write("newer.jsonl", (text) => text.replace('"format":1', '"format":2'))
    const other = write("other.jsonl", (text) => text.replace('{"table":"access_log"', '{"table":"gremlins"'))
    writeFileSync(pathOf("letter.jsonl"), "Dear Ann\n")

    assert.match(await importInto(changed), /^STORE_CORRUPT: .* does not match its checksum/)
    assert.match(await importInto(cut), /^STORE_CORRUPT: /)
    assert.match(await importInto(line), /^STORE_CORRUPT: /)
    assert.match(await importInto(newer), /^STORE_UNAVAILABLE: .* newer version/)
    assert.match(await importInto(other), /^STORE_UNAVAILABLE: .*a table "gremlins"/)
    assert.match(await importInto("letter.jsonl"), /^VALIDATION_ERROR: .* is not an export/)
    assert.match(await importInto("nowhere.jsonl"), /^VALIDATION_ERROR: There is no file/)
    assert.match(await importInto("first.jsonl", "first.db"), /^VALIDATION_ERROR: .*exists/)
    assert.deepStrictEqual(
      readdirSync(folder).filter((name) => /partial|refused/.test(name)),
      []
    )
  })

  it("refuses tables that have rows, or that an engine uses", { timeout: 60_000 }, async () => {
    assert.match(
      await failure(importStore(pathOf("first.jsonl"), postgres)),
      /^VALIDATION_ERROR: .*not empty/
    )
    const database = { url: await sharedUrl(), schema: `${schema}_running` }
    const engine = await startEngine({
      databaseUrl: database.url,
      databaseSchema: database.schema,
      logger: false
    })
    try {
      assert.match(await failure(importStore(pathOf("first.jsonl"), { database })), /^STORE_LOCKED: /)
    } finally {
      await engine.close()
    }
  })

  it("of a changed file into Postgres leaves no schema behind", { timeout: 60_000 }, async () => {
    const database = { url: await sharedUrl(), schema: `${schema}_cut` }
    try {
      assert.match(await failure(importStore(pathOf("cut.jsonl"), { database })), /^STORE_CORRUPT: /)
      assert.deepStrictEqual(
        await runSql(`SELECT 1 FROM pg_namespace WHERE nspname = '${database.schema}'`),
        []
      )
      await run(importStore(pathOf("first.jsonl"), { database }))
    } finally {
      await runSql(`DROP SCHEMA IF EXISTS ${database.schema} CASCADE`)
    }
  })

  it("is named to another import, and to an engine, that comes meanwhile", { timeout: 60_000 }, async () => {
    const database = { url: await sharedUrl(), schema: `${schema}_twice` }
    const place: Place = { database }
    await migrateDatabase(database)
    const other = new pg.Client({ connectionString: database.url })
    await other.connect()
    try {
      await other.query(`BEGIN; LOCK TABLE ${database.schema}.steps`)
      const first = run(importStore(pathOf("first.jsonl"), place))
      const isBlocked = async () =>
        (
          await runSql(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ironflow import' AND wait_event_type = 'Lock'"
          )
        ).length > 0
      while (!(await isBlocked())) await new Promise(setImmediate)
      const second = await failure(importStore(pathOf("first.jsonl"), place))
      const engine = await startEngine({
        databaseUrl: database.url,
        databaseSchema: database.schema,
        logger: false
      }).then(
        () => "started",
        (error: unknown) => String(error)
      )
      await other.query("ROLLBACK")

      assert.match(
        second,
        /^STORE_LOCKED: .* being filled by an `ironflow import`: wait for the end of the import/
      )
      assert.match(engine, /being filled by an `ironflow import`/)
      assert.isAbove((await first).rows, 30)
    } finally {
      await other.end()
      await runSql(`DROP SCHEMA IF EXISTS ${database.schema} CASCADE`)
    }
  })

  it("of a missing database is refused", async () => {
    assert.match(
      await failure(exportStore({ filename: pathOf("nowhere.db") }, pathOf("x.jsonl"))),
      /^VALIDATION_ERROR: There is no database/
    )
    assert.match(
      await failure(exportStore({ filename: pathOf("first.db") }, pathOf("first.jsonl"))),
      /^VALIDATION_ERROR: .*exists/
    )
  })
})
