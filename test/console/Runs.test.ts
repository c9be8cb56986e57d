/** The page of runs, in a browser. The pattern for the tests of a page: an engine, what is in it, what somebody sees and does. */
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
  it("shows what was run, and what comes while one looks", async () => {
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

  it("has filters that are in the address", async () => {
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
    await look.sees("No run fits these filters")
    assert.include(look.page.url(), "function=no-such")
  })

  it("says what to try where there is nothing", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("runs")
    await look.sees("npx ironflow emit")

    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-narrow")
  })
})
