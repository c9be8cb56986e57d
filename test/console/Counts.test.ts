/** Counting runs in a browser: which customer's runs fail most, what a function did, and actions on chosen runs. */
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { visitor } from "./Visitors.ts"

const kit = useConsole()

let isOpen = false
const charge = createFunction(
  {
    id: "charge",
    triggers: [{ event: "order.placed" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.customerId"]
  },
  ({ event }) => {
    if (event.data.fails === true && !isOpen) throw new Error(`card ${event.data.card} is declined`)
    return "charged"
  }
)
const shout = createFunction({ id: "shout", triggers: [] }, ({ step }) => step.run("cry", () => "loud"))
const call = createFunction({ id: "call", triggers: [{ event: "call.wanted" }] }, ({ step }) =>
  step.invoke("shout", {})
)

/** An engine with runs of three customers: three of Ada's runs have failed, and one of Bob's. */
const shop = async () => {
  isOpen = false
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  const worker = createWorker({ serverUrl: server.url, functions: [charge, shout, call], logger: false })
  const stopped = worker.start()
  await worker.ready()
  const place = async (customerId: string, fails: boolean, card = 17): Promise<string> => {
    const [id = ""] = (await client.emit("order.placed", { customerId, fails, card })).runIds
    await client.waitForRun(id).catch(() => undefined)
    return id
  }
  const ada = [await place("Ada", true), await place("Ada", true, 18), await place("Ada", true, 4242)]
  const bob = [await place("Bob", true)]
  const good = [await place("Bob", false), await place("Eve", false)]
  return {
    url: server.url,
    client,
    ada,
    bob,
    good,
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
      await client.close()
    }
  }
}

describe("runs that are counted", () => {
  it("show which customer's runs fail most, and offer to retry them", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("runs?status=failed")
    await look.sees("Group by")
    await look.enter("Group by", "event.data.customerId")
    await look.sees("4 runs in 2 groups")
    assert.match(await look.text(), /Ada[\s\S]*3[\s\S]*Bob[\s\S]*1/)
    assert.include(look.page.url(), "by=event.data.customerId")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-groups")

    await look.press("Ada")
    await look.sees(it.ada[0]!)
    assert.notInclude(await look.text(), it.bob[0]!)
    isOpen = true
    await look.press("Retry or change all")
    await look.submit("Count the runs", { action: "retry" })
    await look.sees("3 runs match, of which 3 can be retried")
    await look.press("Retry 3 runs")
    await look.sees("3 runs retried.")
    for (const id of it.ada) assert.strictEqual((await it.client.waitForRun(id)).status, "completed")
    assert.strictEqual((await it.client.getRun(it.bob[0]!)).status, "failed")
  })

  it("are grouped by their errors, and by paths that are not search attributes", async () => {
    await using it = await shop()
    const look = await kit.look(it.url, { scheme: "dark" })

    await look.open("runs?by=event.data.card")
    await look.sees("6 runs in 3 groups")
    await look.press("4242")
    await look.sees(it.ada[2]!)
    assert.notInclude(await look.text(), it.ada[0]!)

    await look.open("runs?by=error")
    await look.sees("card … is declined")
    await look.sees("4 runs in 1 group")
    await look.press("card … is declined")
    await look.sees(it.bob[0]!)
    await look.sees(it.ada[0]!)

    await look.open("runs?by=function")
    await look.press("How long runs took")
    await look.sees("Half took at most")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-groups-dark")
  })

  it("report invalid queries, and an empty result", async () => {
    await using it = await shop()
    const look = await kit.look(it.url, { width: 320 })

    await look.open("runs?by=colour")
    await look.sees("The request is not valid. countRuns: `by` must be status, function")
    await look.open("runs?by=function&event=no.such")
    await look.sees("No run matches these filters")
    await look.open("runs?by=function")
    await look.sees("6 runs in 1 group")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("runs-groups-320")
  })

  it("exclude denied runs, and offer no actions to a key that may only read", async () => {
    const it = await visitor(kit, ["role_viewer"])
    await it.look.open("runs?by=function")
    await it.look.sees("No run matches these filters")
    await it.look.open("runs?function=charge")
    await it.look.press("Retry or change all")
    await it.look.submit("Count the runs", { action: "cancel" })
    await it.look.sees(/There are no such runs|You may not do this/)
  })
})

describe("a function", () => {
  it("shows its runs in a span of time, with their errors", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("functions/charge")
    await look.sees("What it did")
    await look.sees("card … is declined")
    await look.sees("95 % took at most")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("function-figures")
    for (const span of ["Last hour", "Last night", "Last 7 days"]) {
      await look.press(span)
      await look.sees(
        span === "Last night"
          ? /card … is declined|No run of this function was created from/
          : "card … is declined"
      )
    }
    assert.include(look.page.url(), "span=week")

    await look.press("card … is declined")
    await look.sees(it.bob[0]!)
    assert.match(look.page.url(), /function=charge.*created-from=.*status=failed/)
  })
})

describe("runs that were chosen", () => {
  it("are the only ones that an action affects", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("runs")
    await look.sees(it.ada[0]!)
    for (const id of [it.ada[0]!, it.bob[0]!]) await look.page.locator(`aria/Choose ${id}`).click()
    await look.picture("runs-chosen")
    assert.deepStrictEqual(await look.accessibility(), [])
    isOpen = true
    await look.press("Retry or change 2 runs")
    await look.submit("Count the runs", { action: "retry" })
    await look.sees("2 runs match, of which 2 can be retried")
    await look.press("Retry 2 runs")
    await look.sees("2 runs retried.")
    assert.strictEqual((await it.client.waitForRun(it.ada[0]!)).status, "completed")
    assert.strictEqual((await it.client.getRun(it.ada[1]!)).status, "failed")

    await look.page.keyboard.press("g")
    await look.page.keyboard.press("b")
    await look.sees("Bulk operations")
    assert.include(look.page.url(), "/bulk")
  })
})

describe("a run", () => {
  it("links to the run that it invoked, and back, after both have ended", async () => {
    await using it = await shop()
    const { runIds } = await it.client.emit("call.wanted", {})
    const run = await it.client.waitForRun(runIds[0]!)
    const look = await kit.look(it.url)

    await look.open(`runs/${run.id}`)
    await look.press("invoke →")
    await look.sees("Invoked by")
    await look.press(run.id)
    await look.sees("call")
    assert.deepStrictEqual(await look.accessibility(), [])
  })

  it("shows its trace", async () => {
    await using it = await shop()
    const response = await fetch(`${it.url}/ironflow.v1.IronflowService/Trigger`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
      },
      body: JSON.stringify({ event: "call.wanted", data: {} })
    })
    const { runIds } = (await response.json()) as { readonly runIds: ReadonlyArray<string> }
    const look = await kit.look(it.url)

    await look.open(`runs/${runIds[0]}`)
    await look.sees("4bf92f3577b34da6a3ce929d0e0e4736")
  })
})

describe("an event to emit", () => {
  it("starts with the data of the last event with this name", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("events")
    await look.press("Emit an event")
    await look.fill("Name", "order.placed")
    await look.page.keyboard.press("Tab")
    await look.sees("This is the data of the last event order.placed.")
    assert.include(
      String(await look.page.evaluate(`document.querySelector('[name="data"]').value`)),
      '"customerId": "Eve"'
    )
    await look.fill("Data, as JSON", "{}")
    await look.fill("Name", "call.wanted")
    await look.page.keyboard.press("Tab")
    assert.strictEqual(await look.page.evaluate(`document.querySelector('[name="data"]').value`), "{}")
  })
})
