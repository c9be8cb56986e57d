/** The page of runs, in a browser. A test of a page has this form: an engine, its data, what a user sees, and what a user does. */
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"

const kit = useConsole()

const ship = createFunction(
  { id: "ship-order", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 1 } },
  async ({ event, step }) =>
    step.run("pick", async () => {
      if (event.data.isBroken === true) throw new Error("shelf <img src=x onerror=alert(1)> is empty")
      return { picked: event.data.orderId }
    })
)

/** An engine with a worker, and a client. */
const shop = async () => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  const worker = createWorker({ serverUrl: server.url, functions: [ship], logger: false })
  const stopped = worker.start()
  await worker.ready()
  return {
    url: server.url,
    client,
    place: async (data: object): Promise<string> => {
      const { runIds } = await client.emit("order.placed", data)
      const [id = ""] = runIds
      await client.waitForRun(id).catch(() => undefined)
      return id
    },
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
      await client.close()
    }
  }
}

describe("the page of runs", () => {
  it("shows runs, and new ones as they start", async () => {
    await using it = await shop()
    const first = await it.place({ orderId: "o-1" })
    const look = await kit.look(it.url)

    await look.open("runs")
    await look.sees(first)
    await look.sees("completed")
    const second = await it.place({ orderId: "o-2", isBroken: true })
    await look.sees(second)
    await look.sees("shelf <img src=x onerror=alert(1)> is empty")

    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-light")
  })

  it("keeps its filters in the address", async () => {
    await using it = await shop()
    const good = await it.place({ orderId: "o-1" })
    const bad = await it.place({ orderId: "o-2", isBroken: true })
    const look = await kit.look(it.url, { scheme: "dark" })

    await look.open("runs?status=failed")
    await look.sees(bad)
    assert.notInclude(await look.text(), good)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-dark")

    await look.press("Clear")
    await look.sees(good)
    await look.enter("Function", "no-such")
    await look.sees("No run matches these filters")
    assert.include(look.page.url(), "function=no-such")
  })

  it("says what to try when it is empty", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("runs")
    await look.sees("npx ironflow emit")

    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-narrow")
  })

  it("reports an invalid filter, and shows no other list instead", async () => {
    await using it = await shop()
    const id = await it.place({ orderId: "o-1" })
    const look = await kit.look(it.url)

    await look.open("runs?attribute=nonsense")
    await look.sees('The request is not valid. The attribute "nonsense" has no value')
    assert.notInclude(await look.text(), id)
    await look.press("Clear")
    await look.sees(id)
  })

  it("shows the command for the current environment", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)

    await look.open("runs?env=staging")
    await look.sees(
      `emit order.placed '{"orderId":"o-1"}' --wait --server-url ${server.url} --environment staging`
    )
    // an environment that only a link names does not stay in the menu
    await look.page.select('select[aria-label="Environment"]', "default")
    await look.sees("--wait")
    await look.seesNoMore("staging")
    await look.page.reload()
    await look.sees("There are no runs")
    assert.notInclude(
      String(
        await look.page.evaluate(`document.querySelector('select[aria-label="Environment"]').textContent`)
      ),
      "staging"
    )
  })

  it("shows characters that change the text direction as visible marks", async () => {
    const server = await kit.serve()
    const client = createClient({ serverUrl: server.url })
    const turned = createFunction(
      { id: "pay-\u202Eredro", triggers: [{ event: "order.placed" }] },
      async () => "\u2066done"
    )
    const worker = createWorker({ serverUrl: server.url, functions: [turned], logger: false })
    const stopped = worker.start()
    await worker.ready()
    const { runIds } = await client.emit("order.placed", {})
    await client.waitForRun(runIds[0] ?? "")
    const look = await kit.look(server.url)

    await look.open("runs")
    await look.sees("pay-[U+202E]redro")
    await look.open(`runs/${runIds[0]}`)
    await look.sees("pay-[U+202E]redro")
    await look.sees("[U+2066]done")
    assert.notMatch(
      String(await look.page.evaluate("document.documentElement.outerHTML")),
      /[\u202A-\u202E\u2066-\u2069]/
    )
    assert.strictEqual(
      await look.page.evaluate('getComputedStyle(document.querySelector("h1 a")).unicodeBidi'),
      "isolate"
    )
    await look.picture("run-turned")
    await worker.stop()
    await stopped
    await client.close()
  })
})
