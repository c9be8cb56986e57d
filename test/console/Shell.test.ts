/** The frame of every page: keyboard, environments, times, and the path of a proxy. */
import { once } from "node:events"
import http from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { openShop } from "./Shop.ts"

const kit = useConsole()
const proxies: Array<http.Server> = []
afterEach(() => {
  for (const proxy of proxies.splice(0)) {
    proxy.closeAllConnections()
    proxy.close()
  }
})

describe("the frame of every page", () => {
  it("has keyboard shortcuts that open pages and the search, and are listed", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)
    const { keyboard } = look.page
    await look.open("")
    await look.sees("Needs attention")

    await keyboard.type("gr")
    await look.sees("More filters")
    await keyboard.press("/")
    await keyboard.type("o-1?")
    await keyboard.press("Enter")
    await look.sees("No run has this value")
    assert.include(look.page.url(), "find?q=o-1%3F")
    await keyboard.press("Escape")
    // on a page with a search field, the key for the search goes to that field
    await keyboard.type("ge")
    await look.sees("Name or pattern")
    await keyboard.press("/")
    await keyboard.type("order.*")
    await keyboard.press("Enter")
    await look.page.waitForFunction(`location.href.includes("events?name=order")`)
    await look.sees("No event")
    await keyboard.press("Escape")
    await keyboard.type("?")
    await look.sees("go to Runs")
    assert.deepStrictEqual(await look.accessibility(), [])
    await keyboard.press("Escape")
    await look.seesNoMore("go to Runs")
    await keyboard.type("go")
    await look.sees("Needs attention")
  })

  it("lets the user choose the environment, which is in the address and applies to every call", async () => {
    const server = await kit.serve()
    await using shop = await openShop(server)
    const id = await shop.order({ orderId: "o-1" })
    const look = await kit.look(server.url)
    await look.open("runs")
    await look.sees(id)

    await look.page.select('select[aria-label="Environment"]', "+")
    await look.enter("Name of the environment", "staging")
    await look.sees("There are no runs in this environment yet")

    assert.include(look.page.url(), "env=staging")
    await look.press("Overview")
    await look.sees("Needs attention")
    assert.include(look.page.url(), "env=staging")
    await look.page.select('select[aria-label="Environment"]', "default")
    await look.press("Runs")
    await look.sees(id)
    // going back shows the earlier environment
    await look.page.goBack()
    await look.sees("Needs attention")
  })

  it("shows times in local time or UTC, and exactly on hover", async () => {
    const server = await kit.serve()
    await using shop = await openShop(server)
    const id = await shop.order({ orderId: "o-1" })
    const { createdAt } = await shop.client.getRun(id)
    const look = await kit.look(server.url)
    await look.page.emulateTimezone("Asia/Kathmandu")
    await look.open("runs")
    await look.sees(id)
    const title = () =>
      look.page.evaluate(
        `document.querySelector('a[href*="${id}"]').closest(".row").querySelector("time").title`
      )

    assert.match(String(await title()), /\+05:45$/)
    await look.press("Local time")
    await look.sees("UTC")
    assert.strictEqual(await title(), createdAt.replace("T", " ").replace("Z", " UTC"))
    await look.page.reload()
    await look.sees("UTC")
  })

  it("works under the path of a proxy", async () => {
    const server = await kit.serve({ console: { base: "/ironflow" } })
    const proxy = http.createServer((request, response) => {
      if (!request.url?.startsWith("/ironflow/")) return response.writeHead(404).end("not here")
      const asked = http.request(
        {
          host: "127.0.0.1",
          port: server.port,
          path: request.url.slice("/ironflow".length),
          method: request.method,
          headers: request.headers
        },
        (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers)
          answer.pipe(response)
        }
      )
      asked.on("error", () => response.destroy())
      return request.pipe(asked)
    })
    proxies.push(proxy.listen(0, "127.0.0.1"))
    await once(proxy, "listening")
    const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/ironflow`
    const look = await kit.look(url)

    await look.open("runs")
    await look.sees("There are no runs")
    await look.press("Overview")
    await look.sees("Needs attention")
    assert.strictEqual(look.page.url(), `${url}/console/`)
    await look.page.reload()
    await look.sees("Needs attention")
  })

  it("starts in a browser without a language", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)
    await look.page.evaluateOnNewDocument(
      'Object.defineProperty(Navigator.prototype, "language", { get: () => "en-US@posix" })'
    )

    await look.open("")
    await look.sees("Needs attention")
    assert.strictEqual(await look.page.evaluate("navigator.language"), "en-US@posix")
  })

  it("reports that its script could not be loaded", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)
    await look.page.setRequestInterception(true)
    look.page.on("request", (request) =>
      request.url().endsWith(".js") ? void request.abort() : void request.continue()
    )

    await look.open("runs")
    await look.sees("The console has not started")
    await look.picture("not-started")
  })

  it("shows its address behind the proxy when it is opened directly", async () => {
    const server = await kit.serve({ console: { base: "/ironflow" } })
    const look = await kit.look(server.url)

    await look.open("")
    await look.sees("open the address of the proxy, followed by /ironflow/console/")
    look.complaints.splice(0)
    await look.picture("not-started-proxy")
  })

  it("appears at once", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)
    const loaded: Array<string> = []
    look.page.on("response", (response) => {
      if (response.url().includes("/console/")) loaded.push(new URL(response.url()).pathname)
    })

    await look.open("runs")
    await look.sees("There are no runs")

    // the page, a script, a style sheet, an icon, and the session
    assert.isAtMost(loaded.length, 5, loaded.join(" "))
    const bytes = await look.page.evaluate(
      'performance.getEntries().filter((it) => it.name.includes("/console/")).reduce((sum, it) => sum + (it.transferSize ?? 0), 0)'
    )
    assert.isBelow(Number(bytes), 120_000)
  })
})
