/** The pages of projections, in a browser. */
import { createProjection, createWorker, createClient } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { script, visitor } from "./Visitors.ts"

const kit = useConsole()

/** An engine with a worker for two projections. `isFixed` says whether the second one accepts broken orders. */
const startCounting = async () => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  const settings = { isFixed: false }
  const totals = createProjection({
    name: "order-totals",
    events: ["order.placed"],
    initialState: () => ({ count: 0, note: "" }),
    handler: (state, event) => ({ count: state.count + 1, note: event.data.note })
  })
  const customers = createProjection({
    name: "customer-orders",
    events: ["order.placed"],
    maxRetries: 0,
    partitionKey: "$.data.customer",
    initialState: () => ({ orders: 0 }),
    handler: (state, event) => {
      if (event.data.isBroken === true && !settings.isFixed) throw new Error(`no ${script} here`)
      return { orders: state.orders + 1 }
    }
  })
  const worker = createWorker({
    serverUrl: server.url,
    functions: [],
    projections: [totals, customers],
    logger: false
  })
  const stopped = worker.start()
  await worker.ready()
  return {
    url: server.url,
    client,
    settings,
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
      await client.close()
    }
  }
}

const confirm = "dialog button[type=submit]"

describe("the pages of projections", () => {
  it("shows the status of each projection, its state and its dead letters", async () => {
    await using it = await startCounting()
    await it.client.emit("order.placed", { customer: "c-1", note: script })
    const { position } = await it.client.emit("order.placed", { customer: "c-2", isBroken: true })
    await it.client.projections.get("order-totals", { after: position! })
    const look = await kit.look(it.url)

    await look.open("projections")
    await look.sees("order-totals")
    await look.sees("customer-orders")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("projections-light")

    await look.open("projections/order-totals")
    await look.sees('"count": 2')
    await look.sees("There are no dead letters.")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("projection-light")

    await look.open("projections/customer-orders")
    await look.sees("Dead letters (1)")
    await look.sees(`no ${script} here`)
    await look.press("c-1")
    await look.sees("State of c-1")
    await look.sees('"orders": 1')
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("projection-letters")

    it.settings.isFixed = true
    await look.press("Retry")
    await look.sees("There are no dead letters.")
    await look.sees("c-2")
  })

  it("pauses, resumes, rebuilds and deletes a projection", async () => {
    await using it = await startCounting()
    await it.client.emit("order.placed", { customer: "c-1" })
    const look = await kit.look(it.url, { scheme: "dark" })

    await look.open("projections/order-totals")
    await look.press("Pause")
    await look.fill("Why", script)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.page.locator(confirm).click()
    await look.sees("The projection order-totals is paused.")
    await look.sees("Why paused")
    await look.sees(script)
    const { status } = await it.client.projections.status("order-totals")
    assert.strictEqual(status, "paused")
    await it.client.emit("order.placed", { customer: "c-1" })
    await look.sees("1 event\n")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("projection-dark")

    await look.press("Resume")
    await look.sees('"count": 2')
    await look.press("Rebuild")
    await look.sees("the projection handles the whole log again")
    await look.page.locator(confirm).click()
    await look.sees("The projection order-totals is being rebuilt")
    await look.sees('"count": 2')
    await look.press("Delete")
    await look.page.locator(confirm).click()
    await look.sees("The projection order-totals is deleted.")
  })

  it("says what to try when it is empty, and reports a missing projection", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("projections")
    await look.sees("createProjection")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("projections-narrow")
    await look.open("projections/none")
    await look.sees("Not found.")
  })

  it("refuses a key without the right", async () => {
    await using it = await visitor(kit, [])
    await it.look.open("projections")
    await it.look.sees("You may not do this.")
    await it.look.open("projections/order-totals")
    await it.look.sees("You may not do this.")
  })
})
