/** Access with a browser: who may sign in, what they see, and that pages of other sites can do nothing. */
import { once } from "node:events"
import http from "node:http"
import type { AddressInfo } from "node:net"
import { createClient } from "@ironflow/node"
import { afterEach, assert, describe, it } from "vitest"
import { freePort, Terminal } from "../Cli/Terminal.ts"
import { BOOTSTRAP } from "../security/Keys.ts"
import { useConsole } from "./Browser.ts"
import { openShop } from "./Shop.ts"

const kit = useConsole()

describe("a visitor without a session", () => {
  it("signs in with a key, sees the page of the address, and signs out", async () => {
    const server = await kit.serve({ bootstrapKey: BOOTSTRAP })
    const look = await kit.look(server.url)

    await look.open("runs?status=failed")
    await look.sees("ironflow apikeys create")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("sign-in")
    await look.enter("API key", "wrong-key-0123456789")
    await look.sees("This key does not work")
    await look.enter("API key", BOOTSTRAP)
    await look.sees("No run matches these filters")
    assert.strictEqual(await look.page.evaluate("document.cookie"), "", "no script can read the cookie")

    await look.open("runs")
    await look.sees("There are no runs")
    await look.press("Sign out")
    await look.sees("ironflow apikeys create")
    await look.open("runs")
    await look.sees("ironflow apikeys create")
  })

  it("signs in with a key of another environment, and sees that environment", async () => {
    const server = await kit.serve({ bootstrapKey: BOOTSTRAP })
    const client = createClient({ serverUrl: server.url, apiKey: BOOTSTRAP })
    const { secret } = await client.apiKeys.create({
      name: "staging",
      envId: "staging",
      role_ids: ["role_viewer"]
    })
    await client.close()
    const look = await kit.look(server.url)

    await look.open("runs?status=failed")
    await look.enter("API key", secret)
    await look.sees("No run matches these filters")
    assert.match(look.page.url(), /env=staging/)
    assert.match(look.page.url(), /status=failed/)
    // a link may name another environment, or none: that of the key counts
    await look.open("runs?env=other")
    await look.sees("There are no runs in this environment yet")
    assert.match(look.page.url(), /env=staging/)
    await look.press("Sign out")
    await look.sees("ironflow apikeys create")
  })

  it("is asked for a key again when the key is deleted", async () => {
    const server = await kit.serve({ bootstrapKey: BOOTSTRAP })
    const client = createClient({ serverUrl: server.url, apiKey: BOOTSTRAP })
    const { id, key } = await client.apiKeys.create({ name: "visitor" })
    const look = await kit.look(server.url)
    await look.open("runs")
    await look.enter("API key", key)
    await look.sees("There are no runs")
    await look.sees("visitor")

    await client.apiKeys.delete(id)

    await look.sees("ironflow apikeys create")
    await client.close()
  })

  it("can see and do what the roles of the key allow, and is told that other actions are not allowed", async () => {
    const server = await kit.serve({ bootstrapKey: BOOTSTRAP })
    await using shop = await openShop(server, BOOTSTRAP)
    const run = await shop.order({ orderId: "o-1", waits: true })
    const { key } = await shop.client.apiKeys.create({ name: "reader", role_ids: ["role_viewer"] })
    const look = await kit.look(server.url)
    await look.open(`runs/${run}`)
    await look.enter("API key", key)
    await look.sees("waits for event")

    await look.press("Cancel")
    await look.submit("Cancel", { reason: "I may not" })
    await look.sees("You may not do this.")

    assert.strictEqual((await shop.client.getRun(run)).status, "waiting")
  })
})

/** Servers of other sites, for which browsers apply their rules. */
const otherSites: Array<http.Server> = []
afterEach(() => {
  for (const server of otherSites.splice(0)) server.close()
})
const startOtherSite = async (): Promise<number> => {
  const server = http.createServer((_, response) => {
    response.setHeader("content-type", "text/html")
    response.end("<!doctype html><title>prizes</title><p>prizes")
  })
  otherSites.push(server.listen(0, "127.0.0.1"))
  await once(server, "listening")
  return (server.address() as AddressInfo).port
}

describe("a page of another site in the same browser", () => {
  it.each<readonly [string, { readonly bootstrapKey?: string }]>([
    ["that requires a key", { bootstrapKey: BOOTSTRAP }],
    ["that requires no key", {}]
  ])("can change, read and show nothing of an engine %s", async (_, options) => {
    const server = await kit.serve(options)
    const key = options.bootstrapKey
    const client = createClient({ serverUrl: server.url, ...(key === undefined ? {} : { apiKey: key }) })
    const look = await kit.look(server.url)
    await look.open("runs")
    if (key !== undefined) await look.enter("API key", key)
    await look.sees("There are no runs")

    const page = await look.page.browserContext().newPage()
    const port = await startOtherSite()
    await page.goto(`http://evil.example.com:${port}/`)
    const attack = `(async () => {
      const call = async (url, init) => {
        try {
          const answer = await fetch(url, { credentials: "include", ...init })
          return answer.type === "opaque" ? "sent" : "read " + (await answer.text())
        } catch (error) { return "refused" }
      }
      const emit = JSON.stringify({ event: "order.placed", data: {} })
      const at = ${JSON.stringify(server.url)}
      const found = [
        await call(at + "/api/v1/functions"),
        await call(at + "/console/session"),
        await call(at + "/api/v1/events", { method: "POST", body: emit, headers: { "content-type": "application/json" } }),
        await call(at + "/api/v1/events", { method: "POST", body: emit, mode: "no-cors" }),
        await call(at + "/console/session", { method: "DELETE" })
      ]
      found.push(await new Promise((resolve) => {
        const socket = new WebSocket(at.replace("http", "ws") + "/ws")
        socket.onopen = () => resolve("open")
        socket.onerror = () => resolve("refused")
      }))
      const frame = document.createElement("iframe")
      frame.src = at + "/console/"
      document.body.append(frame)
      await new Promise((resolve) => { frame.onload = resolve; setTimeout(resolve, 3000) })
      // of a page that is not shown one sees an error page, of another origin too
      return found
    })()`
    assert.deepStrictEqual(await page.evaluate(attack), [
      "refused",
      "refused",
      "refused",
      "sent",
      "refused",
      "refused"
    ])
    // a name of another site points to the address of the engine: at most its page gets the files of the console
    await page.goto(`http://evil.example.com:${server.port}/console/`)
    const rebound = await page.evaluate(`(async () => {
      const emit = JSON.stringify({ event: "order.placed", data: {} })
      const init = { method: "POST", body: emit, headers: { "content-type": "application/json" } }
      return [(await fetch("/api/v1/events", init)).status, (await fetch("/api/v1/functions")).status]
    })()`)
    assert.deepStrictEqual(rebound, [403, 403])

    assert.deepStrictEqual((await client.listEvents()).events, [])
    await look.page.reload()
    await look.sees("There are no runs")
    await client.close()
  })

  it("on another port of the same machine cannot use the session, although the browser sends the cookie", async () => {
    const server = await kit.serve({ bootstrapKey: BOOTSTRAP })
    const look = await kit.look(server.url)
    await look.open("runs")
    await look.enter("API key", BOOTSTRAP)
    await look.sees("There are no runs")
    const page = await look.page.browserContext().newPage()
    await page.goto(`http://127.0.0.1:${await startOtherSite()}/`)

    const found = await page.evaluate(`(async () => {
      const emit = JSON.stringify({ event: "order.placed", data: {} })
      await fetch("${server.url}/api/v1/events", { method: "POST", body: emit, mode: "no-cors", credentials: "include" })
      return new Promise((resolve) => {
        const socket = new WebSocket("${server.url.replace("http", "ws")}/ws")
        socket.onopen = () => resolve("open")
        socket.onerror = () => resolve("refused")
      })
    })()`)

    assert.strictEqual(found, "refused")
    const client = createClient({ serverUrl: server.url, apiKey: BOOTSTRAP })
    assert.deepStrictEqual((await client.listEvents()).events, [])
    await client.close()
  })
})

describe("an open page", () => {
  it("reports that the engine is gone, keeps its content, and continues when the engine is back", async () => {
    await using terminal = new Terminal()
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const serve = async () => {
      const engine = terminal.start(["serve", "--port", String(port)])
      await engine.until("Ironflow listens at")
      return engine
    }
    const engine = await serve()
    const client = createClient({ serverUrl: url })
    const look = await kit.look(url)
    await look.open("runs")
    await look.sees("There are no runs")

    engine.signal("SIGKILL")
    await engine.ended
    await look.sees("The engine does not answer")
    await look.sees("There are no runs")
    await look.seesNoMore("Try again")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("engine-gone")

    await serve()
    await look.seesNoMore("The engine does not answer")
    await client.emit("order.placed", { orderId: "o-1" })
    await look.press("Overview")
    await look.sees("Needs attention")
    await client.close()
  })
})
