/** The pages of events, in a browser. */
import { createFunction, defineEvent } from "@ironflow/node"
import type { HTTPRequest } from "puppeteer-core"
import { assert, describe, it, vi } from "vitest"
import { z } from "zod"
import { useConsole } from "./Browser.ts"
import { engineWithWorker, script, visitor } from "./Visitors.ts"

const kit = useConsole()

const ship = createFunction(
  { id: "ship-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => step.run("pick", async () => ({ picked: event.data.orderId }))
)

const wrap = createFunction(
  { id: "wrap-gift", triggers: [{ event: "order.*", expression: "event.data.isGift == true" }] },
  async () => "wrapped"
)

const bill = createFunction({ id: "send-bill", triggers: [{ event: "invoice.asked" }] }, async () => "sent")

const shop = () => engineWithWorker(kit, [ship, wrap, bill])

describe("the page of events", () => {
  it("shows stored events, new ones, and the runs that an event started", async () => {
    await using it = await shop()
    const { eventId, runIds } = await it.client.emit(
      "order.placed",
      { orderId: "o-1", note: script },
      { idempotencyKey: script, metadata: { from: script } }
    )
    await it.client.emit("order.placed", { orderId: "o-other" })
    const look = await kit.look(it.url)

    await look.open("events")
    await look.sees("order.placed")
    await look.sees(`"note":"<img src=x`)
    await it.client.streams.append("c-7", {
      entityType: "customer",
      name: "customer.moved",
      data: { city: "Ulm" }
    })
    await look.sees("customer.moved")
    await look.sees("customer c-7")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("events-light")

    await look.open(`events/${eventId}`)
    await look.sees("Runs that it has started")
    await look.sees(runIds[0]!)
    assert.notInclude(await look.text(), "o-other")
    await look.sees(
      /wrap-gift: The expression .*event\.data\.isGift == true.* cannot be evaluated for the event: No such key: isGift\./
    )
    await look.page.locator("summary").click()
    await look.sees('send-bill: The function listens to "invoice.asked".')
    assert.notInclude(await look.text(), "ship-order: ")
    await look.sees(script)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("event-light")
    await look.page.setViewport({ width: 400, height: 900 })
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("event-narrow")
  })

  it("keeps its filters in the address", async () => {
    await using it = await shop()
    await it.client.emit("order.placed", { orderId: "o-1" })
    await it.client.emit("invoice.sent", { invoice: "i-1" })
    const look = await kit.look(it.url, { scheme: "dark" })

    await look.open("events?name=invoice.*")
    await look.sees("i-1")
    assert.notInclude(await look.text(), "o-1")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("events-dark")

    await look.press("Clear")
    await look.sees("o-1")
    await look.enter("Entity", "nobody")
    await look.sees("No event matches these filters")
    assert.include(look.page.url(), "entity=nobody")
    await look.enter("Since", "yesterday")
    await look.sees("The request is not valid.")
  })

  it("emits an event, and shows the runs that it started", async () => {
    await using it = await shop()
    const look = await kit.look(it.url)

    await look.open("events")
    await look.press("Emit an event")
    await look.fill("Name", "order.placed")
    await look.fill("Data, as JSON", "{ orderId }")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("events-emit")
    await look.page.locator("dialog button[type=submit]").click()
    await look.sees("The data is not JSON")
    await look.fill("Data, as JSON", '{ "orderId": "o-9" }')
    await look.page.locator("dialog button[type=submit]").click()

    await look.sees("has started 1 run.")
    await look.sees("Runs that it has started")
    const { events } = await it.client.listEvents({ name: "order.placed" })
    assert.deepStrictEqual(
      events.map(({ data }) => data),
      [{ orderId: "o-9" }]
    )
    await look.press("Emit another like it")
    await look.page.locator("dialog button[type=submit]").click()
    await look.seesNoMore(events[0]!.id)
    assert.lengthOf((await it.client.listEvents({ name: "order.placed" })).events, 2)
  })

  it("keeps the data that is written while the last data of the name is on its way", async () => {
    await using it = await shop()
    await it.client.emit("order.placed", { orderId: "o-1" })
    const look = await kit.look(it.url)
    await look.open("events")
    await look.press("Emit an event")
    const held: Array<HTTPRequest> = []
    await look.page.setRequestInterception(true)
    look.page.on("request", (request) => {
      const isAsked = request.url().endsWith("/ListEvents") && request.postData()?.includes("order.placed")
      if (isAsked === true) held.push(request)
      else void request.continue()
    })
    await look.fill("Name", "order.placed")
    await look.page.keyboard.press("Tab")
    await vi.waitUntil(() => held.length > 0, { timeout: 20_000 })

    await look.fill("Data, as JSON", '{ "orderId": "o-9" }')
    const answered = look.page.waitForResponse((response) => response.request() === held[0])
    await held[0]!.continue()
    await answered
    await look.page.evaluate("new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))")
    await look.page.locator("dialog button[type=submit]").click()

    await look.sees("has started 1 run.")
    const { events } = await it.client.listEvents({ name: "order.placed" })
    assert.deepStrictEqual(events[0]?.data, { orderId: "o-9" })
  })

  it("has fields for the data of an event with a schema", async () => {
    const Order = defineEvent({
      name: "order.placed",
      version: 2,
      upcast: (data) => data,
      schema: z.object({
        orderId: z.string().describe(`As on the bill ${script}`),
        total: z.number(),
        isGift: z.boolean().optional(),
        size: z.enum(["small", script]).optional(),
        to: z.object({ city: z.string() }),
        tags: z.array(z.string()).optional()
      })
    })
    const fn = createFunction({ id: "ship-order", triggers: [Order] }, ({ event }) => event.data.to.city)
    await using it = await engineWithWorker(kit, [fn, bill])
    const look = await kit.look(it.url)

    await look.open("events")
    await look.press("Emit an event")
    await look.fill("Name", "order.placed")
    await look.page.keyboard.press("Tab")
    await look.sees("The event is stored with data version 2.")
    await look.sees("Missing: orderId, total, to.")
    await look.fill("orderId", "o-9")
    await look.fill("total", "12.5")
    await look.page.select('[aria-label="isGift (optional)"]', "0")
    await look.page.select('[aria-label="size (optional)"]', "1")
    await look.fill("city", "Ulm")
    await look.fill("tags (optional)", "[fragile")
    await look.page.keyboard.press("Tab")
    await look.sees("This is not JSON.")
    await look.fill("tags (optional)", '["fragile"]')
    await look.page.keyboard.press("Tab")
    await look.seesNoMore("This is not JSON.")
    await look.seesNoMore("Missing")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("events-emit-fields")
    await look.page.setViewport({ width: 400, height: 900 })
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("events-emit-fields-narrow")

    const data = {
      orderId: "o-9",
      total: 12.5,
      isGift: true,
      size: script,
      to: { city: "Ulm" },
      tags: ["fragile"]
    }
    const written = () => look.page.evaluate("JSON.parse(document.querySelector('dialog textarea').value)")
    assert.deepStrictEqual(await written(), data)
    await look.fill("Data, as JSON", "{")
    await look.sees("The fields are locked until the text is valid JSON.")
    await look.fill("Data, as JSON", JSON.stringify({ ...data, more: 1 }))
    await look.fill("orderId", "o-10")
    assert.deepStrictEqual(await written(), { ...data, orderId: "o-10", more: 1 })
    await look.page.locator("dialog button[type=submit]").click()
    await look.sees("has started 1 run.")
    const [event] = (await it.client.listEvents({ name: "order.placed" })).events
    assert.strictEqual(event?.version, 2)
    assert.deepStrictEqual(event?.data, { ...data, orderId: "o-10", more: 1 })

    // the next event starts with the same data and version
    await look.press("Emit another like it")
    await look.sees("The event is stored with data version 2.")
    await look.page.locator("dialog button[type=submit]").click()
    await look.seesNoMore(event!.id)
    assert.strictEqual((await it.client.listEvents({ name: "order.placed" })).events[0]?.version, 2)
  })

  it("says what to try when it is empty, and reports a missing event", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("events")
    await look.sees("npx ironflow emit")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("events-narrow")
    await look.open("events/evt_nothing")
    await look.sees("Not found.")
  })

  it("shows nothing to a key without rights", async () => {
    await using it = await visitor(kit, [])
    const { eventId } = await it.client.emit("order.placed", { orderId: "o-1" })

    await it.look.open("events")
    await it.look.sees("You may not do this.")
    await it.look.open(`events/${eventId}`)
    await it.look.sees("You may not do this.")
    await it.look.open("events")
    await it.look.press("Emit an event")
    await it.look.fill("Name", "order.placed")
    await it.look.page.locator("dialog button[type=submit]").click()
    await it.look.sees("You may not")
  })
})
