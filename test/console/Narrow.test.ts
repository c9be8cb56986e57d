/** Every page on a small screen: no button is cut off, and no list is wider than the screen. */
import {
  createClient,
  createFunction,
  createProjection,
  createSubscriptionClient,
  createWorker,
  NonRetryableError,
  serve
} from "@ironflow/node"
import { assert, it } from "vitest"
import { listen, SIGNING_KEY } from "../Serve/Hosts.ts"
import { useConsole } from "./Browser.ts"
import { OPERATOR } from "./Visitors.ts"

const kit = useConsole()

/** The elements that are cut off or outside the screen, except those to which a user can scroll. */
const cutOff = `(() => {
  const width = document.documentElement.clientWidth
  const found = []
  const told = (element) => element.tagName.toLowerCase() + " " + JSON.stringify((element.innerText || element.getAttribute("aria-label") || "").slice(0, 40))
  if (document.documentElement.scrollWidth > width) found.push("the page is " + document.documentElement.scrollWidth + " wide")
  for (const list of document.querySelectorAll(".list .rows")) {
    if (list.scrollWidth > list.clientWidth) found.push("the list " + list.getAttribute("aria-label") + " is " + (list.scrollWidth - list.clientWidth) + " too wide")
  }
  for (const element of document.querySelectorAll("button, input, select, textarea, summary, h1, h2")) {
    if (element.matches(".skip") || element.closest(".scroll, nav") !== null) continue
    const box = element.getBoundingClientRect()
    if (box.width === 0) continue
    const cell = element.closest('[role="cell"]')?.getBoundingClientRect()
    if (box.right > width + 1 || (cell !== undefined && box.right > cell.right + 1)) found.push(told(element))
  }
  return found
})()`

const ship = createFunction(
  {
    id: "ship-order-to-customer",
    triggers: [{ event: "order.placed" }, { cron: "*/5 8-18 * * 1-5" }],
    searchBy: ["event.data.customerId"]
  },
  async ({ event, step }) => {
    if (event.data.isBroken === true) throw new NonRetryableError("no van goes to the customer of this order")
    return step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
  }
)
const totals = createProjection({
  name: "orders-of-customer",
  events: ["order.*"],
  maxRetries: 0,
  partitionKey: "$.data.customerId",
  initialState: () => ({ orders: 0 }),
  handler: (state, event) => {
    if (event.data.isBroken === true) throw new Error("it has no customer")
    return { orders: state.orders + 1 }
  }
})

it("every page of the console fits on a screen of 320 pixels", { timeout: 180_000 }, async () => {
  const server = await kit.serve({
    bootstrapKey: OPERATOR,
    masterKey: "cd".repeat(32),
    signingKey: SIGNING_KEY
  })
  const config = { serverUrl: server.url, apiKey: OPERATOR }
  const client = createClient(config)
  const worker = createWorker({ ...config, functions: [ship], projections: [totals], logger: false })
  const sub = createSubscriptionClient(config)
  const stopped = worker.start()
  try {
    await worker.ready()
    await sub.connect()
    await sub.subscribe("events:order.*", { consumerGroup: "order-processors", onEvent: () => {} })
    const { runIds } = await client.emit("order.placed", { orderId: "o-1", customerId: "c-1" })
    const { runIds: failed } = await client.emit("order.placed", {
      orderId: "o-2",
      customerId: "c-1",
      isBroken: true
    })
    await client.waitForRun(failed[0]!).catch(() => undefined)
    const { id: bulk } = await client.bulk("pause", { functionId: ["ship-order-to-customer"] })
    await client.streams.append("order-1234567", {
      name: "order.noted",
      data: {},
      entityType: "customer-order"
    })
    await client.kv().createBucket({ name: "sessions-of-customers", history: 5 })
    await client.kv().bucket("sessions-of-customers").put("customers/c-1234567", { last: "o-1" })
    await client.config().set("shipping-of-orders", { carrier: "van", freeFrom: 50 })
    await client.publish("news-of-the-shop", { title: "We have moved" })
    await client.secrets.set("STRIPE_SECRET_KEY", "sk_live_1")
    const role = await client.roles.create({ name: "support-of-customers" })
    const policy = await client.policies.create({
      name: "retry-runs-of-orders",
      effect: "allow",
      actions: "run:read, run:retry",
      resources: "*"
    })
    await client.roles.assignPolicy(role.id, policy.id)
    const { secret } = await client.apiKeys.create({
      name: "console-of-the-support",
      envId: "*",
      role_ids: ["role_admin"]
    })
    const handler = await listen(serve({ functions: [ship], signingKey: SIGNING_KEY, logger: false }))
    const registered = await fetch(`${server.url}/api/v1/push/endpoints`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${OPERATOR}` },
      body: JSON.stringify({ url: handler.url })
    })
    assert.isTrue(registered.ok)

    const look = await kit.look(server.url, { width: 320, height: 700, scheme: "dark" })
    await look.open("")
    await look.enter("API key", secret)
    await look.sees("Sign out")
    const [{ id: workerId = "" } = {}] = await client.listWorkers()
    const { events } = await client.listEvents({ name: "order.placed" })
    const places = [
      ["", "1 failed"],
      ["find?q=c-1", "orderId o-1"],
      ["runs", "2 of 2"],
      ["runs?status=failed&by=event.data.customerId&took=yes", "1 run in 1 group"],
      [`runs/${runIds[0]}`, "approval"],
      [`runs/${failed[0]}`, "no van goes"],
      ["bulk", "Pause"],
      [`bulk/${bulk}`, "paused"],
      ["events", "order.placed"],
      [`events/${events[0]!.id}`, "Runs that it has started"],
      ["functions", "ship-order-to-customer"],
      ["functions/ship-order-to-customer", "Count failures by"],
      ["schedules", "ship-order-to-customer"],
      ["workers", workerId],
      [`workers/${workerId}`, "Its functions"],
      ["projections", "orders-of-customer"],
      ["projections/orders-of-customer", "it has no customer"],
      ["topics", "news-of-the-shop"],
      ["topics/news-of-the-shop", "--replay 10"],
      ["topics/groups/order-processors", "Members"],
      ["streams", "order-1234567"],
      ["streams/order-1234567", "order.noted"],
      ["keys", "sessions-of-customers"],
      ["keys/sessions-of-customers", "customers/c-1234567"],
      ["keys/sessions-of-customers/customers%2Fc-1234567", "Revision"],
      ["configurations", "shipping-of-orders"],
      ["configurations/shipping-of-orders", "freeFrom"],
      ["push", "available"],
      ["access", "retry-runs-of-orders"],
      ["secrets", "STRIPE_SECRET_KEY"],
      ["system", "How long things take"]
    ] as const
    const wrong: Array<string> = []
    for (const [place, text] of places) {
      await look.open(place)
      await look.sees(text)
      const found = await look.page.evaluate(cutOff)
      if (JSON.stringify(found) !== "[]") wrong.push(`${place}: ${JSON.stringify(found)}`)
      await look.picture(`narrow-${place.replace(/\W+/g, "-").slice(0, 30)}`)
    }
    assert.deepStrictEqual(wrong, [])
    await handler.close()
  } finally {
    sub.close()
    await worker.stop()
    await stopped
    await client.close()
  }
})
