/** The documented examples of topics and subscriptions of 0.8.0 do what they promise, unchanged. */
import { createSubscriptionClient, type SubscriptionClient } from "@ironflow/node"
import { describe, expect, test, vi } from "vitest"
import { useDocumented } from "./Documented.ts"

describe("topics and subscriptions", () => {
  const documented = useDocumented()
  const { given, load } = documented
  const connected = async (): Promise<SubscriptionClient> => {
    const sub = createSubscriptionClient({ serverUrl: documented.server.url })
    documented.cleanups.push(() => sub.close())
    await sub.connect()
    return sub
  }

  test("listTopics and getTopicStats", async () => {
    await documented.client.publish("notifications", { message: "Hello!" })

    await load("server-side-client.14", ["topics"])
    await load("server-side-client.15", ["stats"])

    expect(vi.mocked(console.log).mock.calls).toEqual([
      ["notifications", 1, 0],
      ["Messages:", 1],
      ["Lag:", 0],
      ["Consumers:", 0],
      ["First seq:", 1, "Last seq:", 1]
    ])
  })

  test("a basic subscription", async () => {
    const { sub } = await load<{ sub: SubscriptionClient }>("subscriptions.01", ["sub"])

    expect(sub.connectionState).toBe("disconnected")
  })

  test("a consumer group whose events are acked", async () => {
    const handled: Array<unknown> = []
    given({
      sub: await connected(),
      eventId: "evt_unknown",
      processOrder: async (data: unknown) => void handled.push(data)
    })
    // the example then acks an event that it does not hold
    await expect(load("subscriptions.02", ["subscription"])).rejects.toMatchObject({ code: "NOT_HELD" })
    await documented.client.emit("order.placed", { orderId: "o-1" })

    await vi.waitFor(() => expect(handled).toEqual([{ orderId: "o-1" }]))
  })

  test("connection monitoring", async () => {
    const sub = await connected()
    given({ sub })
    const printed = vi.mocked(console.log).mock.calls

    await load("subscriptions.03", ["unsubscribe", "unsubErr"])
    const printedBefore = printed.length
    const states: Array<string> = []
    sub.onConnectionChange((state) => void states.push(state))
    sub.close()

    await vi.waitFor(() => expect(states).toContain("disconnected"))
    // the example has removed its listeners
    expect(printed).toHaveLength(printedBefore)
  })
})
