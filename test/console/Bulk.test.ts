/** Bulk operations in a browser: counted, confirmed, followed, cancelled and refused. */
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { assert, describe, it, vi } from "vitest"
import { useConsole } from "./Browser.ts"
import { script, visitor } from "./Visitors.ts"

const kit = useConsole()

let isOpen = false
const ship = createFunction(
  { id: "ship-order", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 1 } },
  async ({ event, step }) => {
    if (event.data.waits === true)
      await step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
    return step.run("pick", () => {
      if (event.data.isBroken === true && !isOpen) throw new Error("shelf is empty")
      return { picked: event.data.orderId }
    })
  }
)

/** An engine with four runs: two have failed, one is completed, and one waits. */
const shop = async () => {
  isOpen = false
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  const worker = createWorker({ serverUrl: server.url, functions: [ship], logger: false })
  const stopped = worker.start()
  await worker.ready()
  const place = async (data: object): Promise<string> => {
    const [id = ""] = (await client.emit("order.placed", data)).runIds
    return id
  }
  const failed = [
    await place({ orderId: "o-1", isBroken: true }),
    await place({ orderId: "o-2", isBroken: true })
  ]
  const good = await place({ orderId: "o-3" })
  const waiting = await place({ orderId: "o-4", waits: true })
  for (const id of [...failed, good]) await client.waitForRun(id).catch(() => undefined)
  return {
    url: server.url,
    client,
    place,
    failed,
    good,
    waiting,
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
      await client.close()
    }
  }
}

describe("bulk operations", () => {
  it("are counted, confirmed, and shown with the reasons for skipped runs", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("runs?function=ship-order")
    await look.sees(it.good)
    await look.press("Retry or change all")
    await look.sees("The runs are counted first")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-ask")
    await look.submit("Count the runs", { action: "retry" })
    await look.sees(/4 runs match, of which 2 can be retried\. The others: .*1 completed/)
    assert.deepStrictEqual(
      await Promise.all(it.failed.map(async (id) => (await it.client.getRun(id)).status)),
      ["failed", "failed"]
    )
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-counted")

    isOpen = true
    await look.press("Retry 2 runs")
    await look.sees("2 runs retried. 2 runs stay as they were:")
    await look.sees("Runs that stay as they were")
    await look.page.locator("summary").click()
    await look.sees(it.good)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-light")
    for (const id of it.failed) assert.deepInclude(await it.client.waitForRun(id), { status: "completed" })

    await look.open("bulk")
    await look.sees("Retry (dry run)")
    await look.sees("2 of 4")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-list")
  })

  it("cancel runs with a reason, on a narrow screen", async () => {
    await using it = await shop()
    const look = await kit.look(it.url, { width: 400 })

    await look.open("runs?status=waiting")
    await look.sees("1 of 1")
    await look.press("Retry or change all")
    await look.page.select("dialog select", "cancel")
    await look.submit("Count the runs", { reason: `sold out ${script}` })
    await look.sees("1 run matches, of which 1 can be cancelled.")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-counted-narrow")
    await look.press("Cancel 1 run")
    await look.sees("1 run cancelled.")
    await look.sees(`sold out ${script}`)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-narrow")
    assert.strictEqual((await it.client.getRun(it.waiting)).status, "cancelled")
  })

  it("skip runs that were created or have failed after the count", async () => {
    await using it = await shop()
    const early = await it.place({ orderId: "o-6", isBroken: true, waits: true })
    await vi.waitUntil(async () => (await it.client.getRun(early)).status === "waiting", 20_000)
    const look = await kit.look(it.url)

    await look.open("runs?status=failed")
    await look.press("Retry or change all")
    await look.submit("Count the runs", { action: "retry" })
    await look.sees("2 runs match")
    const late = [
      await it.place({ orderId: "o-5", isBroken: true }),
      // this run existed before, and had not failed yet
      early
    ]
    await it.client.emit("order.approved", {})
    for (const id of late) await it.client.waitForRun(id).catch(() => undefined)
    isOpen = true
    await look.press("Retry 2 runs")
    await look.sees("2 runs retried.")
    assert.notMatch(await look.text(), /stays? as (it|they) w/)
    for (const id of late) assert.strictEqual((await it.client.getRun(id)).status, "failed")
    for (const id of it.failed) await it.client.waitForRun(id)

    await look.open("runs?status=failed")
    await look.press("Retry or change all")
    await look.submit("Count the runs", { action: "delete" })
    await look.sees("2 runs match, of which 1 can be deleted. The others: 1 newest.")
    await look.press("Delete 1 run")
    await look.sees("1 run deleted. 1 run stays as it was: 1 newest.")
    assert.deepStrictEqual(
      (await it.client.listRuns({ status: "failed" })).runs.map(({ id }) => id),
      [late[0]!]
    )
  })

  it("are refused without filters", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("runs")
    await look.sees(it.good)
    await look.press("Retry or change all")
    await look.sees("Set a filter or choose some runs first")
    assert.notInclude(await look.text(), "Count the runs")
    assert.deepStrictEqual(await look.accessibility(), [])
    assert.deepStrictEqual(await it.client.listBulk(), [])
  })

  it("continue when the page is closed, and can be cancelled", async () => {
    const server = await kit.serve()
    await using client = createClient({ serverUrl: server.url })
    // the function is registered, but its worker has left, so its runs wait
    const worker = createWorker({ serverUrl: server.url, functions: [ship], logger: false })
    const stopped = worker.start()
    await worker.ready()
    await worker.stop()
    await stopped
    for (let i = 0; i < 20; i++) {
      await client.emitMany(
        Array.from({ length: 500 }, (_, n) => ({ event: "order.placed", data: { orderId: `o-${i}-${n}` } }))
      )
    }
    const look = await kit.look(server.url)
    const { id } = await client.bulk("pause", { functionId: "ship-order" })

    await look.open(`bulk/${id}`)
    await look.sees("continues when this page is closed")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("bulk-running")
    await look.press("Cancel the operation")
    await look.submit("Cancel the operation", {})
    await look.sees(/The operation changes no more runs|The operation had already ended \(completed\)/)
    await look.sees(/[\d,]+ runs paused\./)
    assert.include(["cancelled", "completed"], (await client.getBulk(id)).status)

    await look.open("runs?function=ship-order")
    await look.press("Retry or change all")
    await look.submit("Count the runs", { action: "cancel" })
    await look.sees("10,000 runs match, of which 10,000 can be cancelled.")
    await look.press("Cancel 10,000 runs")
    await look.sees(/looked at so far|runs cancelled\./)
    await look.page.goto("about:blank")
    const [begun] = await client.listBulk()
    assert.deepInclude(await client.waitForBulk(begun?.id ?? ""), { status: "completed", done: 10_000 })
  })

  it("report missing rights of a key, and a missing operation", async () => {
    await using it = await visitor(kit, ["role_viewer"])

    await it.look.open("runs?status=failed")
    await it.look.press("Retry or change all")
    await it.look.submit("Count the runs", { action: "delete" })
    await it.look.sees("You may not do this.")
    await it.look.sees("run:delete")
    assert.deepStrictEqual(await it.look.accessibility(), [])
    await it.look.picture("bulk-refused")
    await it.look.open("bulk/bulk_nothing")
    await it.look.sees("Not found.")
    await it.look.open("bulk")
    await it.look.sees("npx ironflow runs retry")
  })
})
