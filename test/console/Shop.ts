/** A shop whose functions have everything that a page of a run can show. */
import { createClient, createFunction, createWorker, type IronflowClient } from "@ironflow/node"
import type { Ironflow } from "../wire/Ironflow.ts"

const print = createFunction({ id: "print-label", triggers: [{ event: "label.wanted" }] }, async ({ step }) =>
  step.run("draw", () => ({ label: "L-1" }))
)

export const ship = createFunction(
  {
    id: "ship-order",
    triggers: [{ event: "order.placed" }],
    recording: true,
    retry: { maxAttempts: 2, initialDelayMs: 20 },
    searchBy: ["event.data.customerId"]
  },
  async ({ event, logger, step }) => {
    const { customerId, fails, orderId, waits } = event.data
    logger.info("begun", { orderId })
    const receipt = await step.run("charge", ({ attempt }) => {
      if (attempt === 1) throw new Error("the bank is closed")
      return { receipt: `r-${orderId}` }
    })
    await step.parallel("prepare", [
      (branch) => branch.run("pick", () => "shelf 4"),
      (branch) => branch.run("pack", () => "box")
    ])
    await step.sleep("cool off", 200)
    if (waits === true) await step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
    const label = await step.invoke("print-label", { orderId })
    if (fails === true) {
      await step.run("hand over", () => {
        throw new TypeError(`no van for ${customerId} <script>alert(1)</script>`)
      })
    }
    return { receipt, label, customerId }
  }
)

export interface Shop extends AsyncDisposable {
  readonly url: string
  readonly client: IronflowClient
  /** Places an order. Waits until its run has ended, or until it waits for an approval. */
  readonly order: (data: {
    readonly orderId: string
    readonly customerId?: string
    readonly fails?: boolean
    readonly waits?: boolean
  }) => Promise<string>
}

/** Connects a worker and a client to the engine. */
export const openShop = async (server: Pick<Ironflow, "url">, apiKey?: string): Promise<Shop> => {
  const config = { serverUrl: server.url, ...(apiKey === undefined ? {} : { apiKey }) }
  const client = createClient(config)
  const worker = createWorker({ ...config, functions: [print, ship], logger: false })
  const stopped = worker.start()
  await worker.ready()
  return {
    url: server.url,
    client,
    order: async (data) => {
      const { runIds } = await client.emit("order.placed", data)
      const [id = ""] = runIds
      if (data.waits !== true) await client.waitForRun(id).catch(() => undefined)
      return id
    },
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
      await client.close()
    }
  }
}
