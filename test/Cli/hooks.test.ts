/** `serve --hook` and `onFailure` when processes are killed: each hook is called, and each handler runs once. */
import type http from "node:http"
import { type HookCall, verifyHook } from "@ironflow/node"
import { afterAll, assert, describe, it, vi } from "vitest"
import { listen } from "../Serve/Hosts.ts"
import { jsonHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const SECRET = "secret-of-the-hooks-of-the-command"

const functions = `
import { existsSync } from "node:fs"
import { createFunction, NonRetryableError } from "@ironflow/node"

export const charge = createFunction(
  {
    id: "charge",
    triggers: [{ event: "order.placed" }],
    onFailure: async ({ event, step }) =>
      await step.run("tell", async () => {
        console.log("telling")
        while (!existsSync("gate")) await new Promise((resolve) => setTimeout(resolve, 20))
        return event.data.runId
      })
  },
  () => {
    throw new NonRetryableError("card declined")
  }
)
`

const terminal = new Terminal({ "functions.ts": functions })
afterAll(() => terminal[Symbol.asyncDispose]())

describe("serve --hook", () => {
  it("reaches a hook that was away, and onFailure runs once, even when all processes were killed in between", async () => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const hookPort = await freePort()
    const there = { env: { IRONFLOW_SERVER_URL: url } }
    const env = { ...there.env, IRONFLOW_HOOK_SECRET: SECRET }
    const args = ["serve", "--port", String(port), "--data", "hooks.db", "--allow-private-endpoints"]
    const hook = ["--hook", `http://127.0.0.1:${hookPort}/token-of-the-url`, "--hook-on", "run.failed"]
    const begin = async () => {
      const server = terminal.start([...args, ...hook], { env })
      await server.until(`Ironflow listens at ${url}`)
      const worker = terminal.start(["worker", "functions.ts"], { env })
      await worker.until("charge/on-failure")
      return { server, worker }
    }

    const first = await begin()
    await jsonHere(["emit", "order.placed", "{}"], there)
    await first.worker.until("telling")
    await first.server.until("did not accept the call about run.failed")
    for (const process of [first.server, first.worker]) process.signal("SIGKILL")
    await Promise.all([first.server.ended, first.worker.ended])

    const calls: Array<HookCall> = []
    const receiver = await listen(async (request: http.IncomingMessage, response) => {
      const chunks: Array<Buffer> = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      calls.push(verifyHook({ headers: request.headers, body: Buffer.concat(chunks) }, SECRET))
      response.writeHead(204).end()
    }, hookPort)
    terminal.write("gate", "")
    const second = await begin()
    const handled = await vi.waitFor(
      async () => {
        const { runs } = await jsonHere(["runs", "list", "--status", "completed"], there)
        assert.lengthOf(runs, 1)
        return runs[0]
      },
      { timeout: 45_000, interval: 1000 }
    )
    await vi.waitFor(() => assert.lengthOf(calls, 1), { timeout: 45_000 })

    assert.strictEqual(handled.functionId, "charge/on-failure")
    assert.strictEqual(calls[0]!.data.runId, handled.output)
    const { runs } = await jsonHere(["runs", "list"], there)
    assert.sameMembers(
      (runs as ReadonlyArray<{ readonly functionId: string }>).map(({ functionId }) => functionId),
      ["charge", "charge/on-failure"]
    )
    const said = [first, second]
      .flatMap(({ server, worker }) => [server.output(), worker.output()])
      .join("\n")
    assert.notMatch(said, /secret-of-the-hooks|token-of-the-url/)
    for (const process of [second.server, second.worker]) process.signal("SIGTERM")
    await Promise.all([second.server.ended, second.worker.ended])
    await receiver.close()
  })

  it.each([
    [
      "if it has no secret",
      ["--hook", "https://alarms.example.com/"],
      {},
      "--hook and IRONFLOW_HOOK_URL need IRONFLOW_HOOK_SECRET or --hook-secret"
    ],
    [
      "if its secret is short",
      ["--hook", "https://alarms.example.com/", "--hook-secret", "abc"],
      {},
      "at least 16 characters"
    ],
    [
      "with one URL twice",
      ["--hook", "https://alarms.example.com/", "--hook", "https://alarms.example.com/"],
      { IRONFLOW_HOOK_SECRET: SECRET },
      "--hook has https://alarms.example.com/ twice: give it once"
    ],
    ["if it has no URL", ["--hook-on", "run.failed"], {}, "need --hook URL or IRONFLOW_HOOK_URL"],
    [
      "if its URL is invalid",
      [],
      { IRONFLOW_HOOK_URL: "alarms", IRONFLOW_HOOK_SECRET: SECRET },
      "The URL of --hook must be an HTTP URL such as"
    ]
  ])("is refused %s", async (_, flags, env, message) => {
    const ended = await terminal.run(["serve", "--port", "0", "--data", "refused.db", ...flags], { env })

    assert.notStrictEqual(ended.code, 0)
    assert.include(ended.stderr, message)
    assert.notInclude(ended.stdout + ended.stderr, SECRET)
  })

  it("explains its use without the secret", async () => {
    const { stdout } = await terminal.run(["serve", "--help"], { env: { IRONFLOW_HOOK_SECRET: SECRET } })

    assert.include(stdout, "--hook URL")
    assert.include(stdout, "--hook-secret")
    assert.notInclude(stdout, SECRET)
  })
})
