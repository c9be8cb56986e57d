/** Two engine processes on one Postgres: shared changes, and what one engine does while the other is frozen. */
import { setTimeout as delay } from "node:timers/promises"
import pg from "pg"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { createClient, type IronflowClient } from "../../../src/index.ts"
import { freePort, type Running, Terminal } from "../../Cli/Terminal.ts"
import { runSql } from "../../postgres/Schemas.ts"
import { startProxy } from "../../postgres/Proxy.ts"
import { sharedUrl } from "../../postgres/Server.ts"

const schemas: Array<string> = []
let databaseUrl: string

beforeAll(async () => {
  databaseUrl = await sharedUrl()
})
afterAll(async () => {
  for (const schema of schemas) await runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
})

const until = async (what: string, isMet: () => boolean | Promise<boolean>): Promise<void> => {
  for (const deadline = Date.now() + 45_000; !(await isMet()); await delay(20)) {
    if (Date.now() > deadline) throw new Error(`This has not happened: ${what}`)
  }
}

interface Process {
  readonly url: string
  readonly process: Running
}

/** Starts two engines on a schema of their own. `urlOfA` is another way to the database. */
const startTwo = async (
  terminal: Terminal,
  urlOfA = databaseUrl
): Promise<readonly [a: Process, b: Process, schema: string]> => {
  const schema = `processes_${process.pid}_${schemas.length}`
  schemas.push(schema)
  const start = async (databaseUrl: string): Promise<Process> => {
    const port = await freePort()
    const running = terminal.start(
      ["serve", "--port", String(port), "--database-schema", schema, "--no-console"],
      { env: { IRONFLOW_DATABASE_URL: databaseUrl } }
    )
    const url = `http://127.0.0.1:${port}`
    await running.until(`Ironflow listens at ${url}`)
    return { url, process: running }
  }
  return [await start(urlOfA), await start(databaseUrl), schema]
}

/** Runs SQL in a transaction that holds up other sessions until it is ended. */
const blockWith = async (schema: string, sql: string): Promise<() => Promise<void>> => {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  await client.query(`SET search_path = ${schema}`)
  await client.query("BEGIN")
  await client.query(sql)
  return async () => {
    await client.query("COMMIT")
    await client.end()
  }
}

/** The session with which an engine writes, and what it is doing. */
const sessionOf = async (schema: string, { process: { pid } }: Process) => {
  const [row] = await runSql(
    `SELECT a.pid, a.state, a.wait_event_type || ' ' || a.wait_event AS waits
      FROM nodes JOIN pg_stat_activity a ON a.pid = nodes.pid WHERE nodes.name LIKE '%process ${pid}'`,
    schema
  )
  return row
}

const big = `
import { createFunction } from "@ironflow/node"

export const fill = createFunction({ id: "fill", triggers: [{ event: "album.opened" }] }, async ({ step }) => {
  for (let i = 0; i < 6; i++) await step.run("picture " + i, () => "x".repeat(3_500_000))
  await step.waitForEvent("closed", { event: "album.closed", timeout: "1h" })
  return "done"
})
`

const packs = (version: string): string => `
import { createFunction } from "@ironflow/node"

export const pack = createFunction(
  { id: "pack", version: "${version}", versioning: "pin", triggers: [{ event: "order.placed" }] },
  async () => "${version}"
)
`

const small = `
import { createFunction } from "@ironflow/node"

export const greet = createFunction({ id: "greet", triggers: [{ event: "guest.came" }] }, () => "hello")
export const copy = createFunction({ id: "copy", triggers: [{ event: "page.copied" }] }, () => "copied")
`

/** Freezes an engine once it waits for the lock that `release` gives up. Returns when the other engine has written. */
const freezeAt = async (
  schema: string,
  frozen: Process,
  release: () => Promise<void>,
  other: IronflowClient
): Promise<void> => {
  await until("the engine waits", async () =>
    String((await sessionOf(schema, frozen))?.waits).startsWith("Lock")
  )
  frozen.process.signal("SIGSTOP")
  try {
    await release()
    await until("it has the lock", async () => {
      const session = await sessionOf(schema, frozen)
      return session?.state === "idle in transaction" || session?.waits === "Client ClientWrite"
    })
    const before = await sessionOf(schema, frozen)
    await other.emit("somebody.wrote", {})
    const after = await sessionOf(schema, frozen)
    assert.notStrictEqual(after?.pid, before?.pid, "the session that had the lock was ended")
  } finally {
    frozen.process.signal("SIGCONT")
  }
}

// concurrent, because these tests mostly wait: until an engine counts as dead, or until another takes over its work
describe.concurrent("an engine with another one in a separate process", () => {
  it("no longer accepts a key that was deleted at the other engine", { timeout: 240_000 }, async () => {
    await using terminal = new Terminal()
    const [a, b] = await startTwo(terminal)
    const admin = await createClient({ serverUrl: a.url }).apiKeys.create({ name: "admin" })
    const atA = createClient({ serverUrl: a.url, apiKey: admin.key })
    const { id, key } = await atA.apiKeys.create({ name: "shop" })
    const atB = createClient({ serverUrl: b.url, apiKey: key, timeout: 5000 })
    const codeAtB = (): Promise<string> =>
      atB.emit("order.placed", {}).then(
        () => "none",
        (error: unknown) => String(Object(error).code)
      )
    await until("the other engine knows the key", async () => (await codeAtB()) === "none")
    await atA.apiKeys.delete(id)
    await until("the other engine knows of its deletion", async () => (await codeAtB()) !== "none")
    assert.strictEqual(await codeAtB(), "UNAUTHENTICATED")
    await Promise.all([atA.close(), atB.close()])
  })

  it("continues when the other engine is frozen while it holds the lock", { timeout: 240_000 }, async () => {
    await using terminal = new Terminal()
    const [a, b, schema] = await startTwo(terminal)
    const atA = createClient({ serverUrl: a.url })
    const atB = createClient({ serverUrl: b.url })
    await atA.emit("order.placed", { n: 0 })
    await atB.emit("order.placed", { n: 1 })
    const release = await blockWith(schema, "UPDATE engine SET sequence = sequence")
    const emitted = atA.emit("order.placed", { n: 2 }, { idempotencyKey: "o-2" })
    await freezeAt(schema, a, release, atB)
    await emitted
    const [events] = await runSql("SELECT count(*) AS n FROM events WHERE name = 'order.placed'", schema)
    assert.strictEqual(Number(events?.n), 3)
    await Promise.all([atA.close(), atB.close()])
  })

  it(
    "continues when the other engine is frozen in the middle of a large answer while it holds the lock",
    { timeout: 240_000 },
    async () => {
      await using terminal = new Terminal({ "functions.ts": big })
      const [a, b, schema] = await startTwo(terminal)
      const atB = createClient({ serverUrl: b.url })
      const work = (): Running =>
        terminal.start(["worker", "functions.ts"], { env: { IRONFLOW_SERVER_URL: a.url } })
      const first = work()
      await first.until("runs fill for")
      const {
        runIds: [runId = ""]
      } = await atB.emit("album.opened", {})
      await until("the run waits", async () => {
        const [row] = await runSql("SELECT count(*) AS n FROM waits", schema)
        const [run] = await runSql("SELECT lease FROM runs", schema)
        return Number(row?.n) === 1 && run?.lease === null
      })
      first.signal("SIGTERM")
      await first.ended
      await atB.emit("album.closed", {})
      const release = await blockWith(schema, "LOCK TABLE steps IN ACCESS EXCLUSIVE MODE")
      work()
      await freezeAt(schema, a, release, atB)
      const run = await atB.waitForRun(runId, { timeout: 60_000 })
      assert.strictEqual(run.output, "done")
      await atB.close()
    }
  )

  it(
    "gives new runs to an old version once the other engine and its worker of the latest version were killed",
    { timeout: 240_000 },
    async () => {
      await using terminal = new Terminal({ "one.ts": packs("1"), "two.ts": packs("2") })
      const [a, b] = await startTwo(terminal)
      const atA = createClient({ serverUrl: a.url })
      const work = async (file: string, { url }: Process): Promise<Running> => {
        const worker = terminal.start(["worker", file], { env: { IRONFLOW_SERVER_URL: url } })
        await worker.until("runs pack for")
        return worker
      }
      await work("one.ts", a)
      const latest = await work("two.ts", b)
      await until(
        "the engine knows both workers",
        async () =>
          (await atA.liveVersions("pack")).filter(({ workerIds }) => workerIds.length > 0).length === 2
      )
      const outputOf = async (): Promise<unknown> => {
        const {
          runIds: [runId = ""]
        } = await atA.emit("order.placed", {})
        return (await atA.waitForRun(runId, { timeout: 60_000 })).output
      }
      assert.strictEqual(await outputOf(), "2")
      for (const { process } of [b, { process: latest }]) {
        process.signal("SIGKILL")
        await process.ended
      }
      assert.strictEqual(await outputOf(), "1")
      await atA.close()
    }
  )
  for (const [signal, what] of [
    ["SIGKILL", "was killed"],
    ["SIGSTOP", "is frozen"],
    ["SIGTERM", "has ended"]
  ] as const) {
    it(
      `continues the bulk operations and erases of an engine that ${what}, and does nothing twice`,
      { timeout: 240_000 },
      async () => {
        const count = 200
        // its queries take longer, so that it is ended in the middle
        const proxy = await startProxy(databaseUrl, { delayMs: 5 })
        await using terminal = new Terminal({ "functions.ts": small })
        const [a, b, schema] = await startTwo(terminal, proxy.url)
        const [atA, atB] = [a, b].map(({ url }) => createClient({ serverUrl: url })) as [
          IronflowClient,
          IronflowClient
        ]
        const worker = terminal.start(["worker", "functions.ts"], { env: { IRONFLOW_SERVER_URL: b.url } })
        await worker.until("runs copy, greet for")
        for (const event of ["guest.came", "page.copied"]) {
          await atB.emitMany(Array.from({ length: count }, (_, n) => ({ event, data: { n } })))
        }
        await until("all runs have ended", async () => {
          const [row] = await runSql("SELECT count(*) AS n FROM runs WHERE ended_at IS NOT NULL", schema)
          return Number(row?.n) === 2 * count
        })
        worker.signal("SIGTERM")
        await worker.ended
        const erase = await atA.erase({ runs: { functionId: "greet" } })
        await until("the erase has begun", async () => (await atB.getBulk(erase.id)).done > 0)
        const rerun = await atA.bulk("rerun", { functionId: "copy" })
        await until("the operation has begun", async () => (await atB.getBulk(rerun.id)).done > 0)
        a.process.signal(signal)
        const [rerunThen, eraseThen] = await Promise.all([rerun, erase].map(({ id }) => atB.getBulk(id)))
        assert.deepStrictEqual([rerunThen?.status, eraseThen?.status], ["running", "running"])
        const [rerunEnd, eraseEnd] = await Promise.all(
          [rerun, erase].map(({ id }) => atB.waitForBulk(id, { timeout: 60_000 }))
        )
        assert.deepInclude(rerunEnd, { status: "completed", matched: count, done: count, skipped: {} })
        assert.deepInclude(eraseEnd, { status: "completed", skipped: {} })
        assert.deepStrictEqual(eraseEnd?.kinds, { events: count, runs: count })
        if (signal === "SIGSTOP") {
          a.process.signal("SIGCONT")
          await until("the engine has learned of the end", async () => {
            const ended = await atA.getBulk(rerun.id).catch(() => undefined)
            return ended?.status === "completed"
          })
        }
        await Promise.all([atA.close(), atB.close()])
        for (const { process } of [a, b]) {
          process.signal("SIGTERM")
          await process.ended
        }
        await proxy.close()
        const [runs] = await runSql(
          "SELECT count(*)::int AS n, count(DISTINCT event)::int AS events FROM runs WHERE erased_at IS NULL",
          schema
        )
        assert.deepStrictEqual(runs, { n: 2 * count, events: count })
      }
    )
  }
})
