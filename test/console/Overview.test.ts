/** The first page, in a browser. */
import {
  createClient,
  createProjection,
  createSubscriptionClient,
  createWorker,
  NonRetryableError
} from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { openShop } from "./Shop.ts"

const kit = useConsole()

describe("the overview", () => {
  it("shows activity, problems and workers", async () => {
    await using shop = await openShop(await kit.serve())
    for (const orderId of ["o-1", "o-2", "o-3"]) await shop.order({ orderId })
    await shop.order({ orderId: "o-4", customerId: "c-7", fails: true })
    const waiting = await shop.order({ orderId: "o-5", waits: true })
    await shop.client.pauseRun(waiting)
    const look = await kit.look(shop.url)

    await look.open("")
    await look.sees("1 failed no van for c-7 <script>alert(1)</script>")
    await look.sees("1 paused")
    await look.sees(/worker-\S+/)
    await look.sees(/Completed\s+\d/)
    // the engine counts in memory, so these figures begin with its start
    await look.sees(/Failed\s+1\s+since the engine started/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("overview-light")

    await look.press("Last day")
    await look.sees(/in 10 minutes/)
    assert.include(look.page.url(), "span=day")
    await look.press("ship-order")
    await look.sees("1 of 1")
    assert.include(look.page.url(), "status=failed")
  })

  it("names projections and groups with dead letters", async () => {
    const server = await kit.serve()
    const client = createClient({ serverUrl: server.url })
    const fails = () => {
      throw new NonRetryableError("torn")
    }
    const sub = createSubscriptionClient({ serverUrl: server.url })
    await sub.connect()
    await sub.subscribe("events:order.*", { consumerGroup: "order-processors", onEvent: fails })
    const totals = createProjection({
      name: "order-totals",
      events: ["order.*"],
      mode: "managed",
      initialState: () => ({}),
      handler: fails
    })
    const worker = createWorker({
      serverUrl: server.url,
      functions: [],
      projections: [totals],
      logger: false
    })
    const stopped = worker.start()
    await worker.ready()
    await client.emit("order.placed", {})
    const look = await kit.look(server.url)

    await look.open("")
    await look.sees(/order-processors\s+has given up 1 event/)
    await look.sees(/order-totals\s+has given up 1 event/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("overview-given-up")
    await look.press("order-processors")
    await look.sees("Dead letters (1)")
    sub.close()
    await worker.stop()
    await stopped
    await client.close()
  })

  it.each([
    ["dark", 1280],
    ["light", 400]
  ] as const)("fits, %s and %i pixels wide", async (scheme, width) => {
    await using shop = await openShop(await kit.serve())
    await shop.order({ orderId: "o-1" })
    const look = await kit.look(shop.url, { scheme, width })

    await look.open("")
    await look.sees("Nothing: no run failed")
    assert.deepStrictEqual(await look.accessibility(), [])
    assert.strictEqual(
      await look.page.evaluate("document.documentElement.scrollWidth <= innerWidth"),
      true,
      "nothing is wider than the screen"
    )
    await look.picture(`overview-${scheme}-${width}`)
  })

  it("says how to start a worker when there is none", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url)

    await look.open("")
    await look.sees("npx ironflow worker")
  })
})
