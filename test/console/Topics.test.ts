/** The pages of topics and consumer groups, in a browser. */
import { createClient, createSubscriptionClient, NonRetryableError } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { useConsole } from "./Browser.ts"
import { script, visitor } from "./Visitors.ts"

const kit = useConsole()
const confirm = "dialog button[type=submit]"

/** An engine with a group that fails for broken events, until the test fixes it. */
const startReading = async () => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  const sub = createSubscriptionClient({ serverUrl: server.url })
  const settings = { isFixed: false }
  await sub.connect()
  await sub.subscribe("events:order.*", {
    consumerGroup: "order-processors",
    onEvent: (event) => {
      if (event.data.isBroken === true && !settings.isFixed) throw new NonRetryableError(`torn ${script}`)
    }
  })
  return {
    url: server.url,
    client,
    sub,
    settings,
    [Symbol.asyncDispose]: async () => {
      sub.close()
      await client.close()
    }
  }
}

describe("the pages of topics and groups", () => {
  it("shows the status of groups, their members and dead letters", async () => {
    await using it = await startReading()
    await it.client.emit("order.placed", { orderId: "o-1" })
    await it.client.emit("order.torn", { orderId: "o-2", isBroken: true })
    const look = await kit.look(it.url)

    await look.open("topics")
    await look.sees("order-processors")
    await look.sees("There are no topics")
    await look.sees("events:order.*")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("topics-light")

    await look.press("order-processors")
    await look.sees("Dead letters (1)")
    await look.sees(`torn ${script}`)
    await look.sees("Members")
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("group-light")
    it.settings.isFixed = true
    await look.press("Retry")
    await look.sees("There are no dead letters.")
  })

  it("pauses, resumes and deletes a group", async () => {
    await using it = await startReading()
    const look = await kit.look(it.url, { scheme: "dark" })

    await look.open("topics/groups/order-processors")
    await look.press("Pause")
    await look.fill("Why", script)
    await look.page.locator(confirm).click()
    await look.sees("The group order-processors is paused.")
    await look.sees(script)
    assert.strictEqual((await it.client.consumerGroups.get("order-processors")).status, "paused")
    await it.client.emit("order.placed", { orderId: "o-1" })
    await look.sees(/Lag\n1\n/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("group-dark")

    await look.press("Resume")
    await look.sees(/Lag\n0\n/)
    await it.sub.close()
    await look.sees("No member is connected.")
    await look.press("Delete")
    await look.page.locator(confirm).click()
    await look.sees("The group order-processors is deleted.")
    assert.deepStrictEqual(await it.client.consumerGroups.list(), [])
  })

  it("shows topics, and publishes a message", async () => {
    const server = await kit.serve()
    const look = await kit.look(server.url, { width: 400 })

    await look.open("topics")
    await look.sees("There are no consumer groups")
    await look.press("Publish a message")
    await look.fill("Topic", "news")
    await look.fill("Message, as JSON", JSON.stringify({ title: script }))
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.page.locator(confirm).click()
    await look.sees("The message is published on news.")
    await look.press("news")
    await look.sees(/Messages that are kept\n1\n/)
    assert.deepStrictEqual(await look.accessibility(), [])
    await look.picture("topic-narrow")
    await using client = createClient({ serverUrl: server.url })
    assert.deepInclude((await client.listTopics())[0], { name: "news", messageCount: 1 })
    await look.open("topics")
    await look.sees("news")
    await look.picture("topics-narrow")
  })

  it("refuses a key without the right", async () => {
    await using it = await visitor(kit, [])
    await it.look.open("topics/groups/order-processors")
    await it.look.sees("You may not do this.")
    await it.look.open("topics/news")
    await it.look.sees("You may not do this.")
    await it.look.open("topics")
    await it.look.sees("You may not do this.")
    await it.look.press("Publish a message")
    await it.look.fill("Topic", "news")
    await it.look.page.locator(confirm).click()
    await it.look.sees("publish:message")
  })
})
