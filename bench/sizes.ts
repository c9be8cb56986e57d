/**
 * Measures the size of rows in the database, for `docs/operations.md` and `docs/production.md`:
 *
 * node --conditions=@ironflow/source bench/sizes.ts [postgres]
 *
 * Prints the bytes of an event, a run, a step, a wait and a KV key, each with everything that belongs to it and all indexes. A figure
 * is the growth of the database when 4,000 are added, with 100 bytes of data in each.
 */
import { mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { createFunction } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { startOwnServer } from "../test/postgres/Server.ts"
import { loadDriver } from "../src/Engine/Store/Postgres/Driver.ts"

const server = process.argv[2] === "postgres" ? await startOwnServer() : undefined
const url = server?.url
const folder = mkdtempSync(join(tmpdir(), "ironflow-sizes-"))
const filename = join(folder, "sizes.db")
const schema = `sizes_${process.pid}`
const COUNT = 4000
const data = { text: "x".repeat(89) }

const functions = [0, 1, 3, 11].map((steps) =>
  createFunction(
    { id: `steps-${steps}`, triggers: [{ event: `bench.steps.${steps}` }] },
    async ({ step }) => {
      for (let i = 0; i < steps; i++) await step.run(`step ${i}`, () => data)
      return data
    }
  )
)
const waits = createFunction(
  { id: "waits", triggers: [{ event: "bench.wait" }] },
  async ({ event, step }) => {
    await step.waitForEvent("answer", { event: "bench.answer", match: "data.id", timeout: "30d" })
    return event.id
  }
)

const open = () =>
  startEngine({
    ...(url === undefined ? { filename } : { databaseUrl: url, databaseSchema: schema }),
    functions: [...functions, waits],
    maxConcurrentJobs: 256,
    keepRuns: "forever",
    logger: false
  })

/** All bytes written to the write-ahead log of Postgres so far. */
const logged = async (): Promise<number> => {
  if (url === undefined) return 0
  const { Client } = await loadDriver()
  const client = new Client({ connectionString: url })
  await client.connect()
  const { rows } = await client.query("SELECT pg_current_wal_lsn() - '0/0' AS bytes")
  await client.end()
  return Number(rows[0]?.bytes)
}

/** The size of the database. The engine must have closed it, so that nothing is left in a write-ahead log. */
const bytes = async (): Promise<number> => {
  if (url === undefined) return statSync(filename).size
  const { Client } = await loadDriver()
  const client = new Client({ connectionString: url })
  await client.connect()
  const { rows } = await client.query(
    `SELECT sum(pg_total_relation_size(c.oid)) AS bytes FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = $1 AND c.relkind = 'r'`,
    [schema]
  )
  await client.end()
  return Number(rows[0]?.bytes)
}

const grow = async (what: string, make: (engine: IronflowEngine, i: number) => Promise<unknown>) => {
  const before = await bytes()
  const logBefore = await logged()
  const engine = await open()
  const began = performance.now()
  let next = 0
  const one = async (): Promise<void> => {
    while (next < COUNT) await make(engine, next++)
  }
  await Promise.all(Array.from({ length: 128 }, one))
  const perSecond = Math.round((COUNT * 1000) / (performance.now() - began))
  await engine.close()
  const each = Math.round(((await bytes()) - before) / COUNT)
  const log = url === undefined ? "" : `, ${Math.round(((await logged()) - logBefore) / COUNT)} in the log`
  console.log(`${what.padEnd(44)} ${each} bytes${log}; ${perSecond} a second`)
  return each
}

const run = (steps: number) => async (engine: IronflowEngine, i: number) => {
  const { runIds } = await engine.client.emit(`bench.steps.${steps}`, { ...data, i })
  for (const id of runIds) await engine.client.waitForRun(id)
}

await (await open()).close()
await grow("an event that starts nothing", (engine, i) => engine.client.emit("bench.none", { ...data, i }))
await grow("an event with an idempotency key", (engine, i) =>
  engine.client.emit("bench.none", { ...data, i }, { idempotencyKey: `key-${i}` })
)
await grow("a run without steps, and its event", run(0))
const short = await grow("a run of one step, and its event", run(1))
await grow("a run of three steps, and its event", run(3))
const long = await grow("a run of eleven steps, and its event", run(11))
console.log(`${"a step more".padEnd(44)} ${Math.round((long - short) / 10)} bytes`)
await grow("a run that waits for an event", (engine, i) =>
  engine.client.emit("bench.wait", { ...data, id: i })
)
const engine = await open()
await engine.client.kv().createBucket({ name: "sizes" })
await engine.close()
await grow("a key in a bucket", ({ client }, i) => client.kv().bucket("sizes").put(`key-${i}`, data))
await server?.stop()
rmSync(folder, { recursive: true })
