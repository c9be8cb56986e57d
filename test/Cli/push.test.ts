/** `functions register` and related commands, with a server and an app that are processes of their own. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { runHere } from "./Here.ts"
import { freePort, type Running, Terminal, waitForRun } from "./Terminal.ts"

const app = `
import http from "node:http"
import { createFunction, serve } from "@ironflow/node"

const greet = createFunction({ id: "greet", triggers: [{ event: "guest.arrived" }] }, async ({ event, step }) =>
  step.run("greet", () => \`hello \${event.data.name}\`)
)
const wave = createFunction({ id: "wave", triggers: [{ event: "guest.left" }] }, () => "bye")
const functions = process.env.WITH_WAVE === "1" ? [greet, wave] : [greet]
http.createServer(serve({ functions })).listen(Number(process.env.APP_PORT), () => console.log("app ready"))
`

const terminal = new Terminal({ "app.ts": app })
const key = { IRONFLOW_SIGNING_KEY: "key-of-the-tests" }
let server: Running
let env: { readonly IRONFLOW_SERVER_URL: string }

beforeAll(async () => {
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  server = terminal.start(["serve", "--port", String(port), "--allow-private-endpoints"], { env: key })
  await server.until("listens")
})
afterAll(() => terminal[Symbol.asyncDispose]())

describe("push endpoints", () => {
  it("are registered, listed and removed, and their functions run", async () => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}/api/ironflow`
    const running = terminal.node("app.ts", { env: { ...key, APP_PORT: String(port) } })
    await running.until("app ready")

    const registered = await runHere(["functions", "register", url, "--json"], { env })
    assert.deepStrictEqual(JSON.parse(registered.stdout), { url, functions: ["greet"] })

    const emitted = await runHere(["emit", "guest.arrived", '{"name":"ada"}', "--json"], { env })
    const { runIds } = JSON.parse(emitted.stdout)
    const run = await waitForRun(env.IRONFLOW_SERVER_URL, runIds[0])
    assert.deepInclude(run, { output: "hello ada" })

    const listed = await terminal.run(["functions", "endpoints"], { env })
    assert.match(listed.stdout, /greet +available/)

    assert.strictEqual((await runHere(["functions", "unregister", url], { env })).code, 0)
    const again = await terminal.run(["functions", "unregister", url, "--json"], { env })
    assert.strictEqual(again.code, 1)
    assert.include(again.stderr, "ENDPOINT_NOT_FOUND")
    running.signal("SIGKILL")
  })

  it("whose app no longer has a function say so at the next registration, and the function can be deleted", async () => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}/api/ironflow`
    const start = async (more: { readonly [name: string]: string }) => {
      const running = terminal.node("app.ts", { env: { ...key, APP_PORT: String(port), ...more } })
      await running.until("app ready")
      return running
    }
    const first = await start({ WITH_WAVE: "1" })
    assert.include((await runHere(["functions", "register", url], { env })).stdout, "greet, wave")
    first.signal("SIGKILL")
    await first.ended
    const second = await start({})

    const { stdout } = await runHere(["functions", "register", url], { env })
    const listed = await runHere(["functions", "endpoints"], { env })
    const deleted = await runHere(["functions", "delete", "wave"], { env })
    const again = await runHere(["functions", "register", url, "--json"], { env })

    assert.match(stdout, /run these functions: greet\.\nIt no longer has wave, registered from there before/)
    assert.match(listed.stdout, /greet, wave +available, but its app does not have "wave"/)
    assert.strictEqual(deleted.code, 0)
    assert.deepStrictEqual(JSON.parse(again.stdout), { url, functions: ["greet"] })
    second.signal("SIGKILL")
  })

  it("that cannot be reached give an error with the reason", async () => {
    const port = await freePort()
    const ended = await runHere(["functions", "register", `http://127.0.0.1:${port}/`], { env })

    assert.strictEqual(ended.code, 1)
    assert.match(ended.stderr, /cannot be registered: it refuses connections/)
  })
})
