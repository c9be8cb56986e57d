/** The commands `backup` and `restore` beside running engines, and the readiness of an engine, as separate processes. */
import { readdirSync, statSync } from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { overwritePagesWith } from "../Engine/Store/Damaged.ts"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, type Running, Terminal, waitForRun } from "./Terminal.ts"

const functions = `
import { createFunction } from "@ironflow/node"

export default [
  createFunction({ id: "approval", triggers: [{ event: "approval.wanted" }] }, async ({ step }) => {
    const asked = await step.run("ask", () => "asked")
    const { data } = await step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
    return { asked, by: data.by }
  })
]
`

const terminal = new Terminal({ "functions.ts": functions })
let server: Running
let env: { readonly IRONFLOW_SERVER_URL: string }
let runId: string

const serve = async (data: string, ...more: ReadonlyArray<string>): Promise<[Running, string]> => {
  const port = String(await freePort())
  const running = terminal.start(["serve", "--port", port, "--data", data, ...more])
  await running.until("Ironflow listens at")
  return [running, `http://127.0.0.1:${port}`]
}
const stateOf = async (url: string, id: string): Promise<string> =>
  ((await (await fetch(`${url}/api/v1/runs/${id}/explain`)).json()) as { code: string }).code
const files = () => readdirSync(terminal.folder).toSorted()
const leftovers = () => files().filter((name) => /partial|download/.test(name))

beforeAll(async () => {
  const [started, url] = await serve("orders.db")
  server = started
  env = { IRONFLOW_SERVER_URL: url }
  const worker = terminal.start(["worker", "functions.ts", "--worker-id", "w-1"], { env })
  await worker.until(`Worker w-1 runs approval`)
  const { runIds } = await jsonHere(["emit", "approval.wanted", "{}"], { env })
  runId = runIds[0]
  for (let code = ""; code !== "WAITING_FOR_EVENT";) code = await stateOf(url, runId)
}, 40_000)
afterAll(() => terminal[Symbol.asyncDispose]())

describe("ironflow backup and restore", () => {
  it(
    "move everything of a running engine to another place, where runs in flight continue",
    { timeout: 60_000 },
    async () => {
      const made = await terminal.run(["backup", "monday.db"], { env })
      const fromFile = await terminal.json(["backup", "tuesday.db", "--data", "orders.db"])
      const restored = await terminal.run(["restore", "monday.db", "--data", "elsewhere.db"])
      const [, url] = await serve("elsewhere.db")
      const there = { env: { IRONFLOW_SERVER_URL: url } }
      const worker = terminal.start(["worker", "functions.ts", "--worker-id", "w-2"], there)
      await worker.until("Worker w-2 runs approval")
      await jsonHere(["emit", "order.approved", '{"by":"Ann"}'], there)

      assert.match(
        made.stdout,
        /^monday\.db has the whole database \([\d.]+ \w+, as it was at \d{4}-[^ ]+Z\)\. Keep this file/,
        made.stderr
      )
      assert.deepInclude(fromFile, {
        filename: "tuesday.db",
        bytes: statSync(terminal.pathOf("tuesday.db")).size
      })
      assert.strictEqual(statSync(terminal.pathOf("monday.db")).mode & 0o777, 0o600)
      assert.strictEqual(restored.code, 0, restored.stderr)
      assert.include(restored.stdout, "elsewhere.db was restored from monday.db: ")
      assert.deepStrictEqual((await waitForRun(url, runId)).output, { asked: "asked", by: "Ann" })
      assert.deepStrictEqual(leftovers(), [])
    }
  )

  it("never overwrite a file, and refuse to restore onto a running engine", { timeout: 60_000 }, async () => {
    await terminal.json(["backup", "once.db"], { env })

    const again = await terminal.run(["backup", "once.db"], { env })
    const onto = await terminal.run(["restore", "once.db", "--data", "orders.db", "--replace"])
    const noBackup = await terminal.run(["restore", "functions.ts", "--data", "fresh.db"])

    assert.deepStrictEqual([again.code, onto.code, noBackup.code], [2, 1, 2])
    assert.match(again.stderr, /^Error: "once\.db" exists, and is not overwritten/)
    assert.match(
      onto.stderr,
      new RegExp(`^Error: Database ".*orders\\.db" is in use by another engine \\(process ${server.pid} on `)
    )
    assert.match(noBackup.stderr, /^Error: "functions\.ts" is not a backup of Ironflow/)
    assert.notInclude(files(), "fresh.db")
    const ofNothing = await terminal.run(["backup", "none.db", "--data", "nowhere.db"])
    assert.strictEqual(ofNothing.code, 2)
    assert.match(ofNothing.stderr, /^Error: There is no database "nowhere\.db" to back up/)
    assert.notInclude(files(), "none.db")
    assert.strictEqual(await stateOf(env.IRONFLOW_SERVER_URL, runId), "WAITING_FOR_EVENT")
  })

  it("refuse a pipe", { timeout: 60_000 }, async () => {
    for (const command of [
      ["backup", "-"],
      ["restore", "-", "--data", "other.db"],
      ["export", "-", "--data", "ironflow.db"],
      ["import", "-", "--data", "other.db"]
    ]) {
      const { code, stderr } = await terminal.run(command)

      assert.include(stderr, '"-" is not possible here')
      assert.strictEqual(code, 2)
    }
    assert.notInclude(readdirSync(terminal.folder), "-")
  })

  it("leave no file on a full disk, and report it", { timeout: 60_000 }, async () => {
    const full = { env, mostBlocks: 64 }

    const sent = await terminal.run(["backup", "sent.db"], full)
    const read = await terminal.run(["backup", "read.db", "--data", "orders.db"], full)

    for (const { code, stderr } of [sent, read]) {
      assert.strictEqual(code, 1)
      assert.match(stderr, /^Error: Cannot write the backup "\w+\.db": .*writable and has room\.\n$/)
    }
    assert.notIncludeMembers(files(), ["sent.db", "read.db"])
    assert.deepStrictEqual(leftovers(), [])
  })

  it("refuse a damaged database, and leave no file", { timeout: 60_000 }, async () => {
    const fill = async (data: string) => {
      const [running, url] = await serve(data)
      for (let i = 0; i < 40; i++) {
        const payload = JSON.stringify({ mark: `mark-${i}`, note: "x".repeat(1000) })
        await fetch(`${url}/api/v1/events`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: `{"name":"order.placed","data":${payload}}`
        })
      }
      return [running, url] as const
    }
    const [running] = await fill("rotten.db")
    running.signal("SIGTERM")
    await running.ended
    overwritePagesWith(terminal.pathOf("rotten.db"), "events", "mark-20")
    const [, url] = await serve("rotten.db")

    const fromFile = await terminal.run(["backup", "bad.db", "--data", "rotten.db"])
    const sent = await terminal.run(["backup", "bad.db"], { env: { IRONFLOW_SERVER_URL: url } })

    for (const { code, stderr } of [fromFile, sent]) {
      assert.strictEqual(code, 1)
      assert.match(
        stderr,
        /^Error: Database ".*" is damaged: .*\. No backup of a damaged database is made, because it could not be restored\. /
      )
    }
    assert.include(fromFile.stderr, '"rotten.db"')
    assert.include(sent.stderr, url)
    assert.notInclude(files(), "bad.db")
    assert.deepStrictEqual(leftovers(), [])
  })

  it("report problems with the server, and need a key with the right", { timeout: 60_000 }, async () => {
    const nobody = await runHere(["backup", terminal.pathOf("a.db")], {
      env: { IRONFLOW_SERVER_URL: `http://127.0.0.1:${await freePort()}` }
    })
    const [, url] = await serve("guarded.db")
    const guarded = { IRONFLOW_SERVER_URL: url }
    const { secret } = await jsonHere(["apikeys", "create", "admin"], { env: guarded })
    const admin = { env: { ...guarded, IRONFLOW_API_KEY: secret as string } }
    const developer = await jsonHere(["apikeys", "create", "dev"], admin)
    const bound = await jsonHere(["apikeys", "create", "one", "--role", "role_admin"], admin)

    const withKey = (key: string) =>
      runHere(["backup", terminal.pathOf("b.db")], { env: { ...guarded, IRONFLOW_API_KEY: key } })
    const refused = [
      await runHere(["backup", terminal.pathOf("b.db")], { env: guarded }),
      await withKey(developer.secret)
    ]
    const inOne = await withKey(bound.secret)
    const allowed = await terminal.run(["backup", "b.db"], admin)

    assert.match(nobody.stderr, /refuses connections/)
    assert.deepStrictEqual(
      [...refused, inOne].map(({ code }) => code),
      [1, 1, 1]
    )
    assert.match(inOne.stderr, /a backup contains all environments/)
    assert.strictEqual(allowed.code, 0, allowed.stderr)
    assert.notInclude(files(), "a.db")
  })
})

describe("a signal", () => {
  const ready = async (url: string) => {
    const answer = await fetch(`${url}/ready`)
    return [answer.status, ((await answer.json()) as { status: string }).status]
  }

  it(
    "makes `serve --drain` report that it is stopping and still answer, and a second signal ends it",
    { timeout: 60_000 },
    async () => {
      const [draining, url] = await serve("drained.db", "--drain", "1h")
      const before = await ready(url)

      draining.signal("SIGTERM")
      await draining.until("Another Ctrl-C or SIGTERM stops the engine at once")
      const after = await ready(url)
      const answered = await jsonHere(["emit", "order.placed", "{}"], {
        env: { IRONFLOW_SERVER_URL: url }
      })
      draining.signal("SIGTERM")
      const { code } = await draining.ended

      assert.deepStrictEqual(
        [before, after],
        [
          [200, "ready"],
          [503, "draining"]
        ]
      )
      assert.match(answered.eventId, /^evt_/)
      assert.strictEqual(code, 1)
      // the database was closed as usual
      const restarted = await serve("drained.db")
      assert.notInclude(restarted[0].output(), "was not closed")
    }
  )

  it("ends `serve` with exit code 0, also after a drain", { timeout: 60_000 }, async () => {
    const [plain] = await serve("plain.db")
    const [drained] = await serve("short.db", "--drain", "50ms")

    plain.signal("SIGTERM")
    drained.signal("SIGINT")

    assert.deepStrictEqual([(await plain.ended).code, (await drained.ended).code], [0, 0])
  })

  it("with an invalid --drain is refused", async () => {
    const { code, stderr } = await terminal.run(["serve", "--port", "0", "--drain", "soon"])

    assert.strictEqual(code, 2)
    assert.match(stderr, /^Error: Invalid --drain: "soon" is not a duration/)
  })
})

describe("an engine whose disk is full", () => {
  it("is not ready, and says so without names of files", { timeout: 60_000 }, async () => {
    const port = String(await freePort())
    const url = `http://127.0.0.1:${port}`
    const full = terminal.start(["serve", "--port", port, "--data", "full.db"], { mostBlocks: 2000 })
    await full.until("Ironflow listens at")
    const emit = (bytes: number) =>
      fetch(`${url}/api/v1/events`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ name: "order.placed", data: { note: "x".repeat(bytes) } })
      })
    const before = await fetch(`${url}/ready`)
    while ((await emit(100_000)).ok);
    // a small write may still succeed
    let after = before
    while (after.status === 200) {
      while ((await emit(0)).ok);
      after = await fetch(`${url}/ready`)
    }

    assert.deepStrictEqual([before.status, after.status], [200, 503])
    const { components, status } = (await after.json()) as { components: unknown; status: string }
    assert.strictEqual(status, "degraded")
    assert.deepStrictEqual(components, {
      store: { status, message: "The database cannot be written: the log of the engine says why" }
    })
  })
})

describe("retention", () => {
  it.each([
    [["--keep-runs", "soon"], /^Error: Invalid --keep-runs: "soon" is not a duration/],
    [["--keep-messages", "0s"], /^Error: Invalid --keep-messages: "0s" is not a positive/],
    [
      ["--max-topic-size", "much"],
      /^Error: --max-topic-size must be a positive number of bytes, got "much": write digits and one unit of B/
    ]
  ])("is refused when %j is invalid", async (flags, said) => {
    const { code, stderr } = await runHere([
      "serve",
      "--port",
      "0",
      "--data",
      terminal.pathOf("keep.db"),
      ...flags
    ])

    assert.strictEqual(code, 2)
    assert.match(stderr, said)
    assert.notInclude(files(), "keep.db")
  })

  it("is accepted with the value that a refusal suggests", { timeout: 60_000 }, async () => {
    const flags = ["--keep-runs", "--keep-events", "--keep-messages", "--max-events-size", "--max-topic-size"]
    const advised: Array<string> = []
    for (const flag of [...flags, "--lease-term", "--drain"]) {
      const { code, stderr } = await runHere([
        "serve",
        "--port",
        "0",
        "--data",
        terminal.pathOf("advised.db"),
        flag,
        "3600000"
      ])
      assert.strictEqual(code, 2, stderr)
      const [, value = ""] = /write the unit too, as in "([^"]+)"/.exec(stderr) ?? []
      advised.push(flag, flag === "--lease-term" ? value.replace("3600000", "60000") : value)
    }

    const [server] = await serve("advised.db", ...advised.slice(0, -2))
    server.signal("SIGTERM")
    assert.strictEqual((await server.ended).code, 0)
  })

  it("follows the flags of serve", { timeout: 60_000 }, async () => {
    const [first, url] = await serve("kept.db")
    const there = { env: { IRONFLOW_SERVER_URL: url } }
    for (let i = 0; i < 3; i++) await jsonHere(["publish", "news", '{"text":"one of three messages"}'], there)
    first.signal("SIGTERM")
    await first.ended

    const [, later] = await serve(
      "kept.db",
      "--keep-runs",
      "forever",
      "--keep-messages",
      "1d",
      "--max-topic-size",
      "40B"
    )
    let messages = 3
    while (messages === 3) {
      const { topics } = await jsonHere(["topics"], { env: { IRONFLOW_SERVER_URL: later } })
      messages = topics[0].messageCount
    }

    assert.strictEqual(messages, 1)
  })
})
