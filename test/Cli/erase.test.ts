/**
 * The command `erase`, with a server that is a process of its own and may be killed. The tests read the files of the
 * database.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { createClient, createFunction, createWorker, type IronflowClient } from "@ironflow/node"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { runHere } from "./Here.ts"
import { freePort, type Running, Terminal } from "./Terminal.ts"

const greet = createFunction({ id: "greet", triggers: [{ event: "user.seen" }] }, async ({ event, step }) => {
  const words = await step.run("words", () => `Hello ${event.data.email}`)
  if (event.data.waits === true) await step.waitForEvent("left", { event: "user.left", timeout: "1d" })
  return { words }
})

const terminal = new Terminal()
let port: number
let server: Running
let env: { readonly IRONFLOW_SERVER_URL: string }
let client: IronflowClient
let worker: ReturnType<typeof createWorker>
let working: Promise<void>

const serve = async () => {
  server = terminal.start(["serve", "--port", String(port), "--data", "erase.db"])
  await server.until("listens")
}
const run = (args: ReadonlyArray<string>) => runHere(args, { env })

beforeAll(async () => {
  port = await freePort()
  const serverUrl = `http://127.0.0.1:${port}`
  env = { IRONFLOW_SERVER_URL: serverUrl }
  await serve()
  worker = createWorker({ serverUrl, functions: [greet], logger: false })
  working = worker.start()
  await worker.ready()
  client = createClient({ serverUrl })
}, 60_000)
afterAll(async () => {
  await worker.stop()
  await working
  await client.close()
  await terminal[Symbol.asyncDispose]()
})

/** Emits `count` events of a person, and waits until all of their runs have ended or wait. */
const emitSeen = async (email: string, count: number, more: object = {}) => {
  for (let i = 0; i < count; i += 500) {
    const events = Array.from({ length: Math.min(500, count - i) }, () => ({
      event: "user.seen",
      data: { email, ...more }
    }))
    await client.emitMany(events)
  }
  await vi.waitUntil(
    async () => (await client.listRuns({ status: ["pending", "running"], limit: 1 })).runs.length === 0,
    { timeout: 60_000, interval: 50 }
  )
}

const filesWith = (text: string): ReadonlyArray<string> =>
  readdirSync(terminal.folder).filter(
    (file) => file.startsWith("erase.db") && readFileSync(join(terminal.folder, file)).includes(text)
  )

it("erase counts, refuses without --yes, erases, and has an exit code for each result", async () => {
  const email = "first-secret@example.com"
  await emitSeen(email, 3)
  const where = `event.data.email == "${email}"`
  const counted = await run(["erase", "--where", where, "--dry-run"])
  assert.strictEqual(counted.code, 0)
  assert.include(counted.stdout, "6 items match, of which 6 can be erased: 3 runs, 3 events.")
  const refused = await run(["erase", "--where", where])
  assert.strictEqual(refused.code, 2)
  assert.include(refused.stderr, "--yes")
  assert.isNotEmpty(filesWith(email))
  const erased = await run(["erase", "--where", where, "--yes"])
  assert.strictEqual(erased.code, 0, erased.stderr)
  assert.include(erased.stdout, "6 items erased: 3 events, 3 runs.")
  assert.include(erased.stdout, "Backups and exports that were made before still contain the data.")
  assert.deepStrictEqual(filesWith(email), [])
  const again = await run(["erase", "--where", where, "--yes"])
  assert.strictEqual(again.code, 4)
  assert.include(again.stdout, "Nothing was found.")
  const { runs } = await client.listRuns({ functionId: "greet", limit: 1 })
  const shown = await run(["runs", "get", runs[0]!.id])
  assert.match(shown.stdout, /erased +20/)
})

it("erase refuses missing, blank and invalid targets", async () => {
  for (const [args, words] of [
    [[], "Say what to erase"],
    [["--where", ""], "--where is empty"],
    [["--run", " "], "--run is empty"],
    [["--where", "event.data.email =="], "CEL"],
    [["--key", "profiles"], "a bucket and a key"],
    [["--key", "profiles/*"], "the whole bucket"],
    [["--key", "nowhere/a"], 'Error: There is no bucket "nowhere" in this environment'],
    [["--attribute", "a"], "a path and its value"],
    [["--since", "someday"], "--since takes"],
    [["--compact", "--dry-run"], "--compact alone erases nothing"]
  ] as ReadonlyArray<readonly [ReadonlyArray<string>, string]>) {
    const { code, stderr } = await run(["erase", ...args, "--yes"])
    assert.strictEqual(code, 2, args.join(" "))
    assert.include(stderr, words)
  }
})

it("erase starts nothing when it finds nothing, and leaves the searched values in no file", async () => {
  const secret = "nobody-secret@example.com"
  for (const args of [
    ["--where", `event.data.email == "${secret}"`],
    ["--run", "run_nope"]
  ]) {
    const ended = await run(["erase", ...args, "--yes"])
    assert.strictEqual(ended.code, 4)
    assert.match(ended.stderr, /Nothing was found|None of 1 item can be erased: 1 not found/)
    assert.notInclude(ended.stdout + ended.stderr, "no longer")
  }
  const operations = await client.listBulk()
  assert.deepStrictEqual(
    operations.slice(0, 2).map(({ dryRun }) => dryRun),
    [true, true]
  )
  assert.deepStrictEqual(filesWith(secret), [])
})

it("erase changes nothing while a run is unfinished, unless --cancel is given", async () => {
  const email = "live-secret@example.com"
  await emitSeen(email, 1, { waits: true })
  const where = `event.data.email == "${email}"`
  const refused = await run(["erase", "--where", where, "--yes"])
  assert.strictEqual(refused.code, 1)
  assert.include(refused.stderr, "So nothing was erased")
  assert.isNotEmpty(filesWith(email))
  const erased = await run(["erase", "--where", where, "--cancel", "--yes"])
  assert.strictEqual(erased.code, 0, erased.stderr)
  assert.deepStrictEqual(filesWith(email), [])
})

it("erase continues after a kill of the server, with the same result", { timeout: 180_000 }, async () => {
  const email = "killed-secret@example.com"
  await emitSeen(email, 1500)
  const { id } = await client.erase({ events: { where: `event.data.email == "${email}"` } })
  await vi.waitUntil(async () => (await client.getBulk(id)).done > 0, { timeout: 30_000, interval: 1 })
  server.signal("SIGKILL")
  await server.ended
  await serve()
  const ended = await run(["bulk", "get", id, "--wait", "--json"])
  assert.strictEqual(ended.code, 0, ended.stderr)
  assert.deepInclude(JSON.parse(ended.stdout), {
    done: 3000,
    matched: 3000,
    kinds: { events: 1500, runs: 1500 },
    status: "completed"
  })
  assert.deepStrictEqual(filesWith(email), [])
})
