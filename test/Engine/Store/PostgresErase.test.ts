/** Erasing on Postgres: no row of any table has the data afterwards. */
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { createFunction, isErased } from "../../../src/index.ts"
import { startEngine } from "../../../src/engine.ts"
import { runSql } from "../../postgres/Schemas.ts"
import { sharedUrl } from "../../postgres/Server.ts"

const schema = `erase_${process.pid}`
let databaseUrl: string

beforeAll(async () => {
  databaseUrl = await sharedUrl()
})
afterAll(() => runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`))

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

/** The tables that have a text in one of their rows. */
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

it("takes the data out of all rows, and carries the marks into a restart", async () => {
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
    const done = async (asked: ReturnType<typeof client.erase>) =>
      client.waitForBulk((await asked).id, { timeout: 60_000 })
    const target = { events: { where }, keys: [{ bucket: "profiles", key: "c-1" }] }
    assert.strictEqual((await done(client.erase(target))).status, "stopped")
    const counted = await done(client.erase(target, { dryRun: true, cancel: true }))
    const erased = await done(client.erase(target, { cancel: true }))
    assert.strictEqual(erased.status, "completed", erased.error)
    assert.deepStrictEqual(erased.kinds, { events: 3, messages: 1, runs: 5, keys: 1 })
    assert.deepStrictEqual(counted.kinds, erased.kinds)
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
})
