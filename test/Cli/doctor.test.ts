/** The command `doctor` as a process of its own, for servers, files and Postgres. */
import { once } from "node:events"
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { DatabaseSync } from "node:sqlite"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { restCapabilities } from "../../src/Protocol/Server.ts"
import { runSql } from "../postgres/Schemas.ts"
import { sharedUrl } from "../postgres/Server.ts"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, type Running, type RunOptions, Terminal } from "./Terminal.ts"

const functions = `
import { createFunction } from "@ironflow/node"

export default [
  createFunction({ id: "approval", triggers: [{ event: "approval.wanted" }] }, async ({ step }) => {
    await step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
  })
]
`

interface Check {
  readonly name: string
  readonly status: string
  readonly message: string
  readonly advice?: string
}

const terminal = new Terminal({ "functions.ts": functions })
let server: Running
let env: { readonly IRONFLOW_SERVER_URL: string }

/** The id of a process that does not exist. */
const GONE = 2 ** 22 + 1

const statuses = (checks: ReadonlyArray<Check>) =>
  Object.fromEntries(checks.map(({ name, status }) => [name, status]))
/** The checks that it prints, whether or not one fails. One may fail: the server of the tests does not wait for its disk. */
const examine = async (args: ReadonlyArray<string>, options: RunOptions): Promise<ReadonlyArray<Check>> => {
  const { stderr, stdout } = await terminal.run(["doctor", ...args, "--json"], options)
  if (stdout === "") throw new Error(stderr)
  return JSON.parse(stdout).checks
}
const named = (checks: ReadonlyArray<Check>, name: string): Check => {
  const found = checks.find((check) => check.name === name)
  if (found === undefined) throw new Error(`There is no check "${name}"`)
  return found
}

beforeAll(async () => {
  const port = String(await freePort())
  server = terminal.start(["serve", "--port", port, "--data", "orders.db"])
  await server.until("Ironflow listens at")
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
}, 40_000)
afterAll(() => terminal[Symbol.asyncDispose]())

describe("ironflow doctor", () => {
  it(
    "reports the state of a server and its engine, and the time of its last backup",
    { timeout: 60_000 },
    async () => {
      const before = await terminal.json(["doctor"], { env })
      await terminal.json(["backup", "monday.db"], { env })
      const after = await terminal.run(["doctor"], { env })

      assert.deepStrictEqual(statuses(before.checks), {
        server: "ok",
        keys: "warn",
        versions: "ok",
        "clock here": "ok",
        node: "ok",
        database: "ok",
        files: "ok",
        disk: "ok",
        leftovers: "ok",
        clock: "ok",
        secrets: "ok",
        runs: "ok",
        "dead letters": "ok",
        "bulk operations": "ok",
        backups: "warn"
      })
      assert.strictEqual(after.code, 0, after.stderr)
      assert.match(after.stdout, /^ok {4}backups +The last one was made \d{4}-/m)
      assert.match(
        after.stdout,
        /^warn {2}keys +The engine answers everybody who reaches .*, without an API key\./m
      )
    }
  )

  it(
    "checks what it can of an older server, which has no checks and does not say its version",
    { timeout: 60_000 },
    async () => {
      const other = createServer((request, response) => {
        const health = { status: "ok", version: "", timestamp: new Date().toISOString() }
        if (request.url === "/health") response.end(JSON.stringify(health))
        else response.writeHead(404).end("404 page not found")
      })
      await once(other.listen(0, "127.0.0.1"), "listening")
      try {
        const { port } = other.address() as AddressInfo
        const checks = await examine([], { env: { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` } })

        assert.deepInclude(statuses(checks), { server: "ok", keys: "warn", engine: "warn" })
        assert.match(
          named(checks, "keys").message,
          /^It is unknown whether calls need an API key: .* answered a call without one with status 404\.$/
        )
        const versions = named(checks, "versions")
        assert.strictEqual(versions.status, "warn")
        assert.match(
          versions.message,
          /^The server does not tell its version; this command is version \d+\.\d+\.\d+\S*\.$/
        )
      } finally {
        other.close()
      }
    }
  )

  it.each([
    [401, "ok", /^Calls need an API key\.$/],
    [403, "ok", /^Calls need an API key\.$/],
    [503, "warn", /^It is unknown whether calls need an API key: .* with status 503\.$/],
    [
      "no answer",
      "warn",
      /^It is unknown whether calls need an API key: .* did not answer a call without one\.$/
    ]
  ] as const)(
    "a call without a key that gets %s makes the check of the keys: %s",
    async (answer, status, message) => {
      const other = createServer((request, response) => {
        const health = { status: "ok", version: "1.0.0", timestamp: new Date().toISOString() }
        if (request.url === "/health") response.end(JSON.stringify(health))
        else if (request.url !== restCapabilities.path) response.writeHead(404).end("404 page not found")
        else if (answer === "no answer") request.socket.destroy()
        else response.writeHead(answer).end()
      })
      await once(other.listen(0, "127.0.0.1"), "listening")
      try {
        const { port } = other.address() as AddressInfo
        const url = `http://127.0.0.1:${port}`
        const { checks } = await jsonHere(["doctor"], { env: { IRONFLOW_SERVER_URL: url } })

        const keys = named(checks, "keys")
        assert.strictEqual(keys.status, status)
        assert.match(keys.message, message)
      } finally {
        other.closeAllConnections()
        other.close()
      }
    }
  )

  it("names the runs that are held, and why", { timeout: 60_000 }, async () => {
    const worker = terminal.start(["worker", "functions.ts", "--worker-id", "w-1"], { env })
    await worker.until("Worker w-1 runs approval")
    const { runIds } = await jsonHere(["emit", "approval.wanted", "{}"], { env })
    await jsonHere(["runs", "pause", runIds[0], "--reason", "the bank is down"], { env })
    worker.signal("SIGTERM")
    await worker.ended
    const { checks } = await jsonHere(["doctor"], { env })
    const ofFile = await terminal.json(["doctor", "--data", "orders.db"])
    await jsonHere(["runs", "cancel", runIds[0]], { env })

    for (const found of [checks, ofFile.checks]) {
      const held = named(found, "runs")
      assert.strictEqual(held.status, "warn")
      assert.include(held.message, `1 run has not ended. ${runIds[0]}: PAUSED, It is paused`)
      assert.include(held.advice, "docs/reasons.md")
    }
  })

  it(
    "checks a file beside the engine that has it open, and changes nothing",
    { timeout: 60_000 },
    async () => {
      const { checks } = await terminal.json(["doctor", "--data", "orders.db"])

      assert.include(named(checks, "holder").message, `process ${server.pid} on `)
      assert.deepStrictEqual(statuses(checks), {
        node: "ok",
        files: "ok",
        holder: "ok",
        disk: "ok",
        leftovers: "ok",
        tables: "ok",
        integrity: "ok",
        clock: "ok",
        keys: "warn",
        secrets: "ok",
        runs: "ok",
        "dead letters": "ok",
        "bulk operations": "ok",
        backups: "ok"
      })
    }
  )

  it(
    "reports permissions of other users, leftovers of killed backups, a clock that was set back and held runs",
    { timeout: 60_000 },
    async () => {
      await terminal.json(["restore", "monday.db", "--data", "sick.db"])
      const db = new DatabaseSync(terminal.pathOf("sick.db"))
      db.prepare("UPDATE meta SET value = ? WHERE name = 'clock'").run(`${Date.now() + 3_600_000} 0`)
      db.close()
      chmodSync(terminal.pathOf("sick.db"), 0o644)
      writeFileSync(terminal.pathOf(`tuesday.db.${GONE}-1.partial`), "half")
      writeFileSync(terminal.pathOf(`tuesday.db.${process.pid}-1.partial`), "being made")

      const { code, stderr, stdout } = await terminal.run(["doctor", "--data", "sick.db", "--json"])
      const { checks } = JSON.parse(stdout)
      assert.strictEqual(code, 1)
      assert.strictEqual(JSON.parse(stderr).error.code, "CHECKS_FAILED")
      assert.deepInclude(statuses(checks), { files: "warn", leftovers: "warn", clock: "fail", holder: "ok" })
      assert.include(named(checks, "leftovers").message, `1 file of 4 bytes is left`)
      assert.include(named(checks, "leftovers").message, `tuesday.db.${GONE}-1.partial`)

      // the next backup to that place deletes the leftover, but not the file that another process is writing
      await terminal.json(["backup", "tuesday.db", "--data", "orders.db"])
      const again = await terminal.json(["doctor", "--data", "orders.db"])
      assert.strictEqual(statuses(again.checks).leftovers, "ok")
      assert.strictEqual(
        readFileSync(terminal.pathOf(`tuesday.db.${process.pid}-1.partial`), "utf8"),
        "being made"
      )
    }
  )

  it("finds damage, and recognizes a file of another program", { timeout: 60_000 }, async () => {
    await terminal.json(["restore", "monday.db", "--data", "torn.db"])
    const bytes = readFileSync(terminal.pathOf("torn.db"))
    bytes.fill(0xff, 4096 * 3, 4096 * 12)
    writeFileSync(terminal.pathOf("torn.db"), bytes)
    writeFileSync(terminal.pathOf("letter.txt"), "Dear Ann")

    const torn = await terminal.run(["doctor", "--data", "torn.db"])
    const letter = await terminal.run(["doctor", "--data", "letter.txt"])
    const missing = await terminal.run(["doctor", "--data", "nowhere.db"])
    const checkWithoutFile = await runHere(["doctor", "--check"], { env })
    copyFileSync(terminal.pathOf("monday.db"), terminal.pathOf("changed.db"))
    const db = new DatabaseSync(terminal.pathOf("changed.db"))
    db.exec("CREATE TABLE more (a); DROP TABLE more")
    db.close()
    const backup = await terminal.run(["doctor", "--data", "monday.db", "--check"])
    const changed = await terminal.run(["doctor", "--data", "changed.db", "--check"])
    const restored = await terminal.run(["restore", "changed.db", "--data", "from-changed.db"])

    assert.strictEqual(torn.code, 1)
    assert.match(torn.stdout, /^fail {2}integrity +The database is damaged: /m)
    assert.match(
      backup.stdout,
      /^ok {4}checksum +The file is a backup, and was not changed since it was written\.$/m
    )
    assert.strictEqual(backup.code, 0)
    assert.match(changed.stdout, /^fail {2}checksum +"changed\.db" does not match its checksum: /m)
    assert.deepStrictEqual([changed.code, restored.code], [1, 1])
    assert.include(restored.stderr, '"changed.db" does not match its checksum')
    assert.match(letter.stdout, /^fail {2}tables +"letter\.txt" cannot be read: file is not a database/m)
    assert.match(missing.stderr, /There is no database "nowhere\.db"/)
    assert.deepStrictEqual([missing.code, checkWithoutFile.code], [1, 2])
  })

  it("examines Postgres, with and without tables", { timeout: 90_000 }, async () => {
    const url = await sharedUrl()
    const schema = `doctor_${process.pid}`
    const database = { env: { IRONFLOW_DATABASE_URL: url } }
    try {
      const empty = await examine(["--database-schema", schema], database)
      await terminal.json(["migrate", "--database-schema", schema], database)
      const checks = await examine(["--database-schema", schema], database)
      const port = String(await freePort())
      const engine = terminal.start(["serve", "--port", port, "--database-schema", schema], database)
      await engine.until("Ironflow listens at")
      const held = await examine(["--database-schema", schema], database)
      engine.signal("SIGTERM")
      await engine.ended

      assert.strictEqual(statuses(empty).tables, "warn")
      assert.deepInclude(statuses(checks), {
        tables: "ok",
        holder: "ok",
        clock: "ok",
        runs: "ok",
        keys: "warn"
      })
      assert.include(named(checks, "clock").message, "agrees with that of Postgres")
      assert.include(named(held, "holder").message, `process ${engine.pid}`)
    } finally {
      await runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
    }
  })
})
