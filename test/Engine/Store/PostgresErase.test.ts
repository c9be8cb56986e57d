/** Erasing on Postgres: afterwards no row of any table has the data, and an export has the marks. */
import * as Effect from "effect/Effect"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { migrations } from "../../../src/Engine/Store/Migrations.ts"
import { exportStore, importStore } from "../../../src/Engine/Store/Transfer/Transfer.ts"
import { createFunction, InvalidStateError, isErased } from "../../../src/index.ts"
import { startEngine } from "../../../src/engine.ts"
import { runSql } from "../../postgres/Schemas.ts"
import { sharedUrl } from "../../postgres/Server.ts"

const schema = `erase_${process.pid}`
let databaseUrl: string

beforeAll(async () => {
  databaseUrl = await sharedUrl()
})
const folder = mkdtempSync(join(tmpdir(), "ironflow-erase-"))
afterAll(async () => {
  await runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE; DROP SCHEMA IF EXISTS ${schema}_moved CASCADE`)
  rmSync(folder, { recursive: true, force: true })
})

const greet = createFunction(
  {
    id: "greet",
    triggers: [{ event: "user.seen" }],
    searchBy: ["event.data.email"],
    recording: true,
    retry: { maxAttempts: 1 },
    onFailure: ({ logger }) => logger.info("sorry")
  },
  async ({ event, logger, step }) => {
    logger.info(`Hello ${event.data.email}`)
    await step.run("words", () => `Hello ${event.data.email}`)
    await step.invoke("child", { email: event.data.email })
    if (event.data.waits === true) await step.waitForEvent("left", { event: "user.left", timeout: "1d" })
    throw new Error(`No words for ${event.data.email}`)
  }
)
const child = createFunction({ id: "child", triggers: [] }, async ({ event }) => event.data)

/** The tables in which a row contains the text. */
const tablesWith = async (text: string): Promise<ReadonlyArray<string>> => {
  const tables = await runSql(
    `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = '${schema}'`
  )
  const found: Array<string> = []
  for (const { name } of tables) {
    const rows = await runSql(`SELECT 1 FROM ${name} t WHERE t::text LIKE '%${text}%' LIMIT 1`, schema)
    if (rows.length > 0) found.push(String(name))
  }
  return found.sort()
}

it("erasing removes the data from all rows, and its marks outlast a restart", async () => {
  const start = () =>
    startEngine({ databaseUrl, databaseSchema: schema, functions: [greet, child], logger: false })
  const engine = await start()
  const { client } = engine
  const email = "secret@postgres.example"
  const where = `event.data.email == "${email}"`
  let runId = ""
  try {
    const first = await client.emit("user.seen", { email }, { idempotencyKey: email, metadata: { email } })
    const second = await client.emit("user.seen", { email, waits: true })
    runId = first.runIds[0]!
    await vi.waitFor(async () => {
      assert.strictEqual((await client.getRun(runId)).status, "failed")
      assert.strictEqual((await client.getRun(second.runIds[0]!)).status, "waiting")
      const { runs } = await client.listRuns({ functionId: "greet/on-failure" })
      assert.deepStrictEqual(
        runs.map(({ status }) => status),
        ["completed"]
      )
    }, 20_000)
    await client.publish("news", { email })
    await client.streams.append("c-1", { name: "customer.made", data: { email }, entityType: "customer" })
    await client.kv().createBucket({ name: "profiles", history: 3 })
    for (const n of [1, 2]) await client.kv().bucket("profiles").put("c-1", { email, n })
    assert.includeMembers(
      [...(await tablesWith(email))],
      ["events", "idempotency", "recordings", "run_attributes", "run_logs", "runs", "steps"]
    )
    const done = async (operation: ReturnType<typeof client.erase>) =>
      client.waitForBulk((await operation).id, { timeout: 60_000 })
    const target = { events: { where }, keys: [{ bucket: "profiles", key: "c-1" }] }
    assert.strictEqual((await done(client.erase(target))).status, "stopped")
    const dryRunResult = await done(client.erase(target, { dryRun: true, cancel: true }))
    const erased = await done(client.erase(target, { cancel: true }))
    assert.strictEqual(erased.status, "completed", erased.error)
    assert.deepStrictEqual(erased.kinds, { events: 3, messages: 1, runs: 5, keys: 1 })
    assert.deepStrictEqual(dryRunResult.kinds, erased.kinds)
    assert.include(erased.note, "VACUUM")
    assert.deepStrictEqual(await tablesWith(email), [])
  } finally {
    await engine.close()
  }
  const again = await start()
  try {
    assert.isTrue(isErased((await again.client.getRun(runId)).input))
    const { events } = await again.client.streams.read("c-1")
    assert.isTrue(isErased(events[0]?.data))
  } finally {
    await again.close()
  }

  // export to a file, and import into other tables
  const pathOf = (name: string) => join(folder, name)
  const filename = pathOf("moved.db")
  const moved = { url: databaseUrl, schema: `${schema}_moved` }
  const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)
  const linesOf = (name: string) => readFileSync(pathOf(name), "utf8").trim().split("\n").slice(1, -1)
  await run(exportStore({ database: { url: databaseUrl, schema } }, pathOf("first.jsonl")))
  assert.notInclude(readFileSync(pathOf("first.jsonl"), "utf8"), email)
  await run(importStore(pathOf("first.jsonl"), { filename }))
  await run(exportStore({ filename }, pathOf("second.jsonl")))
  await run(importStore(pathOf("second.jsonl"), { database: moved }))
  await run(exportStore({ database: moved }, pathOf("third.jsonl")))
  assert.deepStrictEqual(linesOf("third.jsonl"), linesOf("first.jsonl"))
  for (const place of [{ filename }, { databaseUrl, databaseSchema: moved.schema }]) {
    const there = await startEngine({ ...place, functions: [greet, child], logger: false })
    try {
      const { erasedAt, input } = await there.client.getRun(runId)
      assert.isTrue(isErased(input))
      assert.isDefined(erasedAt)
      assert.isTrue(isErased((await there.client.streams.read("c-1")).events[0]?.data))
      const refused = await there.client.retryRun(runId).catch((error: unknown) => error)
      assert.instanceOf(refused, InvalidStateError)
    } finally {
      await there.close()
    }
  }
}, 120_000)

it("the effect of erasing is decided for every column of Postgres too: it has the tables of SQLite, and those for several engines", async () => {
  const db = new DatabaseSync(":memory:")
  for (const migration of migrations) db.exec(migration)
  const here = db
    .prepare(
      `SELECT t.name || '.' || c.name AS name FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'`
    )
    .all()
    .map(({ name }) => String(name))
  db.close()
  const engine = await startEngine({ databaseUrl, databaseSchema: schema, logger: false })
  await engine.close()
  const there = (
    await runSql(
      `SELECT table_name || '.' || column_name AS name FROM information_schema.columns
         WHERE table_schema = '${schema}' AND table_name NOT IN ('engine', 'nodes', 'node_workers', 'news')`
    )
  ).map(({ name }) => String(name))
  // SQLite gives the rows of keys a number of its own
  assert.deepStrictEqual(there.filter((name) => name !== "kv_entries.rowid").sort(), here.sort())
})
