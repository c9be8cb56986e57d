/** Commands as people type them who have not read the documentation. */
import { spawn } from "node:child_process"
import fs from "node:fs"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { commandArguments } from "../Built.ts"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const FUNCTIONS = `
import { createFunction } from "@ironflow/node"

export const approval = createFunction({ id: "approval", triggers: [{ event: "approval.wanted" }] }, async ({ event, step }) => {
  await step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
  return event.data
})
export const echo = createFunction({ id: "echo", triggers: [{ event: "echo.wanted" }] }, async ({ event }) => event.data)
`

let terminal: Terminal
let env: { readonly IRONFLOW_SERVER_URL: string }
beforeAll(async () => {
  terminal = new Terminal({ "functions.ts": FUNCTIONS })
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  await terminal.start(["dev", "./functions.ts", "--port", String(port)]).until("Emit an event")
})
afterAll(() => terminal[Symbol.asyncDispose]())

const run = (...args: ReadonlyArray<string>) => runHere(args, { env })

describe("--data with a folder", () => {
  it.each([
    ["serve", ["serve", "--port", "0", "--data", "folder"]],
    ["dev", ["dev", "./functions.ts", "--port", "0", "--data", "folder"]],
    ["apikeys create", ["apikeys", "create", "ci", "--data", "folder"]],
    ["verify", ["verify", "./functions.ts", "--data", "folder"]]
  ])("is refused by %s because it is a folder, and no file is made", async (_, args) => {
    fs.mkdirSync(terminal.pathOf("folder"), { recursive: true })
    const before = fs.readdirSync(terminal.folder)

    const { code, stderr } = await terminal.run(args)

    assert.strictEqual(code, 2)
    assert.match(
      stderr,
      /^Error: "folder" is a folder: name the file of the database, such as "folder\/ironflow\.db"\.\n$/
    )
    assert.deepStrictEqual(fs.readdirSync(terminal.folder), before)
    assert.deepStrictEqual(fs.readdirSync(terminal.pathOf("folder")), [])
  })
})

describe("emit", () => {
  it("with --wait fails when it started no run", async () => {
    const { code, stderr } = await run("emit", "nobody.listens", "--wait")

    assert.strictEqual(code, 1)
    assert.match(
      stderr,
      /^Error: There is no run to wait for: no function has a trigger that matches "nobody\.listens"/
    )
  })

  it("accepts its data as --data too, but not twice", async () => {
    const { code, stdout } = await run("emit", "echo.wanted", "--data", '{"n":1}', "--wait")
    const twice = await run("emit", "echo.wanted", "{}", "--data", "{}")

    assert.deepStrictEqual([code, /completed in \w+ +(.*)/.exec(stdout)?.[1]], [0, '{"n":1}'])
    assert.strictEqual(twice.code, 2)
    assert.match(twice.stderr, /give it once/)
  })
})

it.each([
  ["run"],
  ["function"],
  ["stream"],
  ["projection"],
  ["group"],
  ["secret"],
  ["apikey"],
  ["org"],
  ["role"],
  ["policy"]
])("%s is accepted as its plural", async (noun) => {
  const singular = await run(noun, "list")
  const plural = await run(noun === "policy" ? "policies" : `${noun}s`, "list")

  assert.deepStrictEqual([singular.code, singular.stderr], [plural.code, plural.stderr])
  assert.strictEqual(singular.stdout, plural.stdout)
})

it("runs why of a paused run names the command that resumes it", async () => {
  const { runIds } = await jsonHere(["emit", "approval.wanted"], { env })
  await vi.waitFor(
    async () => assert.match((await run("runs", "why", runIds[0])).stdout, /order\.approved/),
    {
      timeout: 10_000
    }
  )
  await run("runs", "pause", runIds[0])

  const { stdout } = await run("run", "why", runIds[0])

  assert.include(stdout, `\`ironflow runs resume ${runIds[0]}\``)
  assert.notInclude(stdout, "resumeRun")
})

it("the engine that npx has started ends with it", async () => {
  const words = [process.execPath, ...commandArguments(), "serve", "--port", "0", "--json"]
  const serve = words.map((word) => `"${word}"`).join(" ")
  // npx starts a shell, which starts the command; a signal to npx ends the shell, and does not reach the command
  const shell = spawn("sh", ["-c", `${serve}; true`], {
    cwd: terminal.folder,
    env: { ...process.env, npm_command: "exec" },
    stdio: ["ignore", "pipe", "inherit"]
  })
  const [line] = await new Promise<[Buffer]>((resolve) =>
    shell.stdout.once("data", (data: Buffer) => resolve([data]))
  )
  const { pid } = JSON.parse(String(line))

  shell.kill("SIGKILL")

  await vi.waitFor(() => assert.throws(() => process.kill(pid, 0), /ESRCH/), { timeout: 10_000 })
})
