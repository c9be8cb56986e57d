/** The pages of functions, schedules and workers, in a browser. */
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { engineWithWorker, script, visitor } from "./Visitors.ts"

const kit = useConsole()

const ship = createFunction(
  {
    id: "ship-order",
    name: `Ship ${script}`,
    triggers: [{ event: "order.placed", expression: "event.data.total > 10" }],
    retry: { maxAttempts: 1 }
  },
  async ({ event, step }) =>
    step.run("pick", async () => {
      if (event.data.isBroken === true) throw new Error(`shelf ${script} is empty`)
      return { picked: event.data.orderId }
    })
)
const report = createFunction(
  { id: "report", triggers: [{ cron: "0 9 * * 1-5", timezone: "Europe/Berlin", overlap: "skip" }] },
  async () => "done"
)
const nap = createFunction({ id: "nap", triggers: [{ event: "nap.asked" }] }, async ({ step }) =>
  step.run("nap", ({ signal }) => new Promise((resolve) => signal.addEventListener("abort", resolve)))
)

describe("the pages of functions", () => {
  it("shows the triggers of a function, its failures, newest runs and workers", async () => {
    await using it = await engineWithWorker(kit, [ship, report])
    const { runIds: good } = await it.client.emit("order.placed", { orderId: "o-1", total: 20 })
    const { runIds: bad } = await it.client.emit("order.placed", {
      orderId: "o-2",
      total: 20,
      isBroken: true
    })
    await it.client.waitForRun(good[0]!)
    await it.client.waitForRun(bad[0]!).catch(() => undefined)
    const look = await kit.look(it.url)

    await look.open("functions")
    await look.sees("ship-order")
    await look.sees("1 worker")
    await look.sees("order.placed if event.data.total > 10")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("functions-light")

    await look.press("ship-order")
    await look.sees(`Ship ${script}`)
    await look.sees("Failures (1)")
    await look.sees(`shelf ${script} is empty`)
    await look.sees("Newest runs (2 in all)")
    await look.sees(good[0]!)
    await look.sees("0 of ")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("function-light")

    await look.press("Emit order.placed")
    await look.sees("Data, as JSON")
    assert.include(
      String(await look.page.evaluate("document.querySelector('dialog textarea').value")),
      '"orderId": "o-2"'
    )
    await look.page.locator("dialog button[type=submit]").click()
    await look.sees("has started 1 run.")
  })

  it("deletes a function that no worker has", async () => {
    const server = await kit.serve()
    await using client = createClient({ serverUrl: server.url })
    const worker = createWorker({ serverUrl: server.url, functions: [ship], logger: false })
    const stopped = worker.start()
    await worker.ready()
    await worker.stop()
    await stopped
    const look = await kit.look(server.url, { scheme: "dark" })

    await look.open("functions/ship-order")
    await look.sees("No worker has this function now")
    await look.picture("function-dark")
    await look.press("Delete")
    await look.sees("registers it again")
    await look.page.locator("dialog button[type=submit]").click()
    await look.sees("Nothing starts ship-order any more.")
    await look.sees("There are no functions in this environment yet.")
    assert.deepStrictEqual(await client.listFunctions(), [])
  })

  it("pauses a function with a reason, resumes it, and runs it now", async () => {
    await using it = await engineWithWorker(kit, [ship, report])
    const look = await kit.look(it.url)

    await look.open("functions/report")
    await look.press("Pause")
    await look.sees("New runs of this function are stored and wait")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("function-pause")
    await look.submit("Pause", { reason: `stock-taking ${script}` })
    await look.sees("report is paused: its new runs wait.")
    await look.sees(`by console: stock-taking ${script}`)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("function-paused")
    assert.strictEqual(
      (await it.client.listFunctions()).find(({ id }) => id === "report")?.paused?.by,
      "console"
    )

    await look.open("functions")
    await look.sees("paused")
    await look.picture("functions-paused")
    await look.open("schedules")
    await look.sees("paused")

    await look.page.setViewport({ width: 400, height: 900 })
    await look.open("functions/report")
    await look.press("Resume")
    await look.sees("The waiting runs of report can begin.")
    await look.seesNoMore("stock-taking")

    await look.open("functions/ship-order")
    await look.press("Run now")
    await look.submit("Run now", { data: "{ orderId" })
    await look.sees("The data is not JSON")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("function-run-narrow")
    await look.submit("Run now", { data: '{ "orderId": "o-17" }' })
    await look.sees("of ship-order is started.")
    await look.sees('"picked": "o-17"')
    assert.lengthOf((await it.client.listRuns({ functionId: "ship-order" })).runs, 1)
  })

  it("shows the versions of a function: changes, and runs of old versions", async () => {
    const version = (name: string, maxAttempts: number) =>
      createFunction(
        {
          id: "approve",
          version: name,
          versioning: "pin",
          triggers: [{ event: "approval.asked" }],
          retry: { maxAttempts }
        },
        ({ step }) => step.waitForEvent("answer", { event: "approval.given", timeout: "1h" })
      )
    await using it = await engineWithWorker(kit, [version("1.0", 2)])
    const [id = ""] = (await it.client.emit("approval.asked", {})).runIds
    const look = await kit.look(it.url)
    await look.open(`runs/${id}`)
    await look.sees("Pinned to version")
    const worker = createWorker({ serverUrl: it.url, functions: [version("2.0", 7)], logger: false })
    const stopped = worker.start()
    await worker.ready()

    await look.open("functions/approve")
    await look.sees("the version that they began with")
    await look.sees(/2\.0 the latest/)
    await look.sees(/1\s+the oldest/)
    await look.sees("Keep the workers of old versions")
    await look.sees("the first registration that is kept")
    await look.page.locator("summary").click()
    await look.sees(/-\s+"maxAttempts": 2/)
    await look.sees(/\+\s+"maxAttempts": 7/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.page.evaluate("document.querySelector('summary').scrollIntoView({ block: 'center' })")
    await look.picture("function-versions")
    await look.page.setViewport({ width: 400, height: 900 })
    await look.page.evaluate("document.querySelector('summary').scrollIntoView({ block: 'center' })")
    await look.picture("function-versions-narrow")
    assert.deepStrictEqual(await look.accessibility(), [])

    await it.client.emit("approval.given", {})
    await look.sees("you can stop their workers")
    await worker.stop()
    await stopped
  })

  it("says what to try when it is empty, and reports a missing function", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("functions")
    await look.sees("npx ironflow dev")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.open("functions/none")
    await look.sees("Not found.")
    await look.open("schedules")
    await look.sees("No function in this environment has a schedule.")
    await look.open("workers")
    await look.sees("npx ironflow worker")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.open("workers/none")
    await look.sees("This worker is not connected.")
  })

  it("shows nothing to a key without rights", async () => {
    await using it = await visitor(kit, [])

    for (const page of ["functions", "functions/ship-order", "schedules", "workers"]) {
      await it.look.open(page)
      await it.look.sees("You may not do this.")
    }
  })
})

describe("the page of schedules", () => {
  it("shows the next time of each schedule", async () => {
    await using it = await engineWithWorker(kit, [ship, report])
    const look = await kit.look(it.url, { width: 400 })
    const time = new Intl.DateTimeFormat("en-GB", {
      timeZone: "Europe/Berlin",
      hour: "2-digit",
      minute: "2-digit",
      weekday: "short"
    })

    await look.open("schedules")
    await look.sees("0 9 * * 1-5")
    const [next = ""] = await look.page.$$eval("time", (all) => all.map(({ dateTime }) => dateTime))
    assert.match(time.format(new Date(next)), /^(Mon|Tue|Wed|Thu|Fri),? 09:00$/)
    assert.isAbove(Date.parse(next), Date.now())
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("schedules-narrow")

    await look.press("report")
    await look.sees("Next fires")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("function-narrow")
    await look.page.setViewport({ width: 1280, height: 900 })
    await look.sees("the next run is left out")
    assert.deepStrictEqual(await look.accessibility(), [])
  })
})

describe("the page of workers", () => {
  it("shows the connected workers and their runs", async () => {
    await using it = await engineWithWorker(kit, [ship, nap])
    const { runIds } = await it.client.emit("nap.asked", {})
    const look = await kit.look(it.url)

    await look.open("workers")
    await look.sees("zone=a")
    await look.sees("1/")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("workers-light")
    const [worker] = await it.client.listWorkers()
    await look.press(worker!.id)
    await look.sees("Runs that it holds")
    await look.sees(runIds[0]!)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("worker-light")
    await it.client.cancelRun(runIds[0]!)
    await look.sees("The worker holds no run at this moment.")
  })
})
