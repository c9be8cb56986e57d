/** What `serve` and `dev` print about the console, and its flags. */
import { afterAll, assert, describe, it } from "vitest"
import { runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const terminal = new Terminal({
  "functions.ts": `
import { createFunction } from "@ironflow/node"
export const ship = createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, async () => "shipped")
`
})
afterAll(() => terminal[Symbol.asyncDispose]())

const look = (port: number, path: string): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers: { accept: "text/html" }, redirect: "manual" })

describe("the console", () => {
  it("is served, and its address is printed", async () => {
    const port = await freePort()
    const server = terminal.start(["serve", "--port", String(port), "--data", "served.db"])

    await server.until(`Its console: http://127.0.0.1:${port}/console/`)

    assert.strictEqual((await look(port, "/")).headers.get("location"), "/console/")
    server.signal("SIGTERM")
    await server.ended
  })

  it("has its address printed by dev, too", async () => {
    const port = await freePort()
    const dev = terminal.start(["dev", "functions.ts", "--port", String(port)])

    await dev.until(`Its console: http://127.0.0.1:${port}/console/`)

    dev.signal("SIGTERM")
    await dev.ended
  })

  it("is served under the path of a proxy", async () => {
    const port = await freePort()
    const flags = ["--port", String(port), "--data", "proxied.db", "--console-base", "/ironflow"]
    const server = terminal.start(["serve", ...flags])

    await server.until("Its console: at the address of your proxy, followed by /ironflow/console/")

    assert.strictEqual((await look(port, "/")).headers.get("location"), "/ironflow/console/")
    server.signal("SIGTERM")
    await server.ended
  })

  it("can be turned off", async () => {
    const port = await freePort()
    const flags = ["--port", String(port), "--data", "without.db", "--no-console", "--json"]
    const server = terminal.start(["serve", ...flags])

    await server.until("keysRequired")

    assert.notInclude(server.output(), "console")
    assert.strictEqual((await look(port, "/")).status, 404)
    server.signal("SIGTERM")
    await server.ended
  })

  it.each(["ironflow?", "/x/../y", "/..", "/./x/"])(
    "is refused with a base that is not a path: %s",
    async (base) => {
      const { code, stderr } = await runHere([
        "serve",
        "--port",
        "0",
        "--data",
        terminal.pathOf("no.db"),
        "--console-base",
        base
      ])

      assert.strictEqual(code, 2)
      assert.include(stderr, "--console-base must be the path under which a proxy serves the engine")
    }
  )
})
