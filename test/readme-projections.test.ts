/** The documented examples of projections, unchanged. */
import { type RunnableProjection, createFunction } from "@ironflow/node"
import { describe, expect, test, vi } from "vitest"
import { textOf, useDocumented } from "./Documented.ts"

describe("the documented projections do what they promise", () => {
  const documented = useDocumented()
  const { given, load, placeExample, cleanups } = documented
  const processOrder = createFunction(
    { id: "process-order", triggers: [{ event: "order.placed" }] },
    async () => "processed"
  )

  test("a managed one, an external one, and the worker that runs them beside functions", async () => {
    const sent: Array<unknown> = []
    given({ processOrder, sendEmail: async (email: string, text: string) => void sent.push([email, text]) })
    const { orderTotals } = await load<{ orderTotals: RunnableProjection }>("projections.01", ["orderTotals"])
    const { emailNotifier } = await load<{ emailNotifier: RunnableProjection }>("projections.02", [
      "emailNotifier"
    ])
    expect(orderTotals.config).toMatchObject({ mode: "managed", maxRetries: 3, batchSize: 100 })
    expect(emailNotifier.config).toMatchObject({ mode: "external" })
    given({ orderTotals, emailNotifier })
    // the last line of the example waits until the worker is stopped
    const { createWorker } = await import("@ironflow/node")
    given({
      createWorker: (config: Parameters<typeof createWorker>[0]) => {
        const worker = createWorker({ ...config, logger: false })
        cleanups.push(() => worker.stop())
        return worker
      }
    })
    const working = import(/* @vite-ignore */ placeExample(textOf("projections.03"), [], "worker.ts"))
    cleanups.push(() => working)

    const { client } = documented
    await client.emit("order.placed", { amount: 100 })
    await client.emit("order.completed", { email: "ada@example.com" })
    const { position } = await client.emit("order.cancelled", { amount: 40 })
    await vi.waitFor(() => client.projections.status("order-totals"), { timeout: 10_000 })
    await vi.waitFor(() => client.projections.status("email-notifier"), { timeout: 10_000 })
    const { state } = await client.projections.get("order-totals", { after: position })
    await client.projections.waitForCatchup("email-notifier", { after: position })

    expect(state).toEqual({ total: 60, count: 0 })
    expect(sent).toEqual([["ada@example.com", "Your order is complete!"]])
  })
})
