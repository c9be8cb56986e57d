/** A database that is damaged, or that two engines have open, as other processes see it. */
import { rmSync } from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { createClient, createFunction } from "../../src/index.ts"
import { startEngine } from "../../src/engine.ts"
import { change, overwritePagesWith } from "../Engine/Store/Damaged.ts"
import { freePort, type Running, Terminal } from "./Terminal.ts"

const terminal = new Terminal()
afterAll(() => terminal[Symbol.asyncDispose]())

const greet = createFunction(
  { id: "greet", triggers: [{ event: "guest.came" }] },
  async ({ event }) => event.data
)

/** Makes a database with `count` completed runs, and returns their ids. */
const fill = async (filename: string, count: number): Promise<ReadonlyArray<string>> => {
  await using engine = await startEngine({ filename, functions: [greet], logger: false })
  const ids: Array<string> = []
  for (let n = 0; n < count; n++) {
    const { runIds } = await engine.client.emit("guest.came", { n })
    ids.push(...runIds)
  }
  for (const id of ids) await engine.client.waitForRun(id)
  return ids
}

const health = async (url: string) => {
  const answer = await fetch(`${url}/health`)
  return { code: answer.status, body: (await answer.json()) as { status: string; components?: unknown } }
}

const serve = async (
  data: string,
  ...more: ReadonlyArray<string>
): Promise<[url: string, server: Running]> => {
  const port = await freePort()
  const server = terminal.start(["serve", "--port", String(port), "--data", data, ...more])
  await server.until("Ironflow listens at")
  return [`http://127.0.0.1:${port}`, server]
}

describe("a damaged database", () => {
  const filename = terminal.pathOf("damaged.db")
  let ids: ReadonlyArray<string>
  beforeAll(async () => {
    ids = await fill(filename, 250)
    change(filename, `UPDATE runs SET output = '{' WHERE id = '${ids[248]}'`)
    overwritePagesWith(filename, "runs", ids[5]!)
  })

  it("is not served with --check, which says what is damaged", async () => {
    const { code, stderr } = await terminal.run([
      "serve",
      "--port",
      "0",
      "--data",
      "damaged.db",
      "--check",
      "--json"
    ])

    assert.strictEqual(code, 1)
    const { error } = JSON.parse(stderr)
    assert.strictEqual(error.code, "STORE_CORRUPT")
    assert.include(error.message, "Restore it from a backup")
  })

  it("is served without --check, is reported in health, and affects only damaged rows", async () => {
    const [url, server] = await serve("damaged.db")
    const client = createClient({ serverUrl: url, retry: { maxAttempts: 1 } })

    const { damaged = [], runs, totalCount } = await client.listRuns({ limit: 1000 })
    const failures = await Promise.all(damaged.map(({ id }) => client.getRun(id).catch((error) => error)))
    const listed = await terminal.run(["runs", "list", "--limit", "1000"], {
      env: { IRONFLOW_SERVER_URL: url }
    })

    assert.strictEqual(totalCount, 250)
    assert.sameMembers(
      [...runs, ...damaged].map(({ id }) => id),
      [...ids]
    )
    assert.includeMembers(
      damaged.map(({ id }) => id),
      [ids[5]!, ids[248]!]
    )
    for (const error of failures) assert.strictEqual(error.code, "STORE_CORRUPT")
    assert.include(listed.stdout, `${ids[248]} is damaged.`)
    const { body, code } = await health(url)
    assert.deepStrictEqual([code, body.status], [200, "degraded"])
    assert.match(JSON.stringify(body.components), /"store":\{"status":"degraded","message":/)
    assert.strictEqual(await client.health(), "degraded")
    assert.strictEqual((await fetch(`${url}/metrics`)).status, 200)
    // the engine continues
    const { eventId } = await client.emit("nobody.cares", {})
    assert.match(eventId, /^evt_/)
    server.signal("SIGTERM")
    assert.strictEqual((await server.ended).code, 0)
  })

  it("is an error with a code for an embedded engine too, and runs continue", async () => {
    await using engine = await startEngine({ filename, functions: [greet], logger: false })
    const error = await engine.client.getRun(ids[248]!).catch((error) => error)
    const { damaged = [] } = await engine.client.listRuns({ limit: 1000 })
    const { runIds } = await engine.client.emit("guest.came", { n: 251 })

    assert.strictEqual(error.code, "STORE_CORRUPT")
    assert.isAbove(damaged.length, 1)
    assert.strictEqual((await engine.client.waitForRun(runIds[0]!)).status, "completed")
    assert.strictEqual(await engine.client.health(), "degraded")
  })
})

describe("a database whose log is damaged at its end", () => {
  it("is opened, and reports the damage to writers of the log", async () => {
    const filename = terminal.pathOf("end.db")
    const ids = await fill(filename, 60)
    {
      await using engine = await startEngine({ filename, logger: false })
      await engine.client.emit("the.last", { marker: "m-4711" })
    }
    overwritePagesWith(filename, "events", "m-4711")

    await using engine = await startEngine({ filename, functions: [greet], logger: false })
    const error = await engine.client.emit("guest.came", {}).catch((error) => error)

    assert.strictEqual(error.code, "STORE_CORRUPT")
    assert.strictEqual(await engine.client.health(), "degraded")
    assert.strictEqual((await engine.client.getRun(ids[0]!)).status, "completed")
  })
})

describe("two engines on one database", () => {
  it("stop the first with a message when the second has taken the database over", async () => {
    const [first, loser] = await serve("shared.db")
    rmSync(terminal.pathOf("shared.db.lock"))
    const [second] = await serve("shared.db")
    await createClient({ serverUrl: second }).emit("order.placed", {})

    await loser.until("was taken over by another engine")
    // exit code 1: a supervisor may start it again, which then reports that another engine has the file
    assert.strictEqual((await loser.ended).code, 1)
    const error = await createClient({ serverUrl: first, retry: { maxAttempts: 1 } })
      .emit("order.placed", {})
      .catch((error) => error)
    assert.strictEqual(error.code, "CONNECTION_LOST")
    assert.deepStrictEqual((await health(second)).body.status, "ok")
  })
})
