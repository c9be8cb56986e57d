/** The functions and projections of a shop in which not everything goes well. */
import { createFunction, createProjection, NonRetryableError } from "@ironflow/node"

/** Whether the number in the order's id is a multiple of `n`. */
const isEvery = (n: number, orderId: string): boolean => Number(orderId.split("-")[1]) % n === 0

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const payInvoice = createFunction(
  { id: "pay-invoice", triggers: [{ event: "invoice.due" }], retry: { maxAttempts: 4, initialDelayMs: 500 } },
  async ({ event, logger, step }) =>
    step.run("ask the bank", async ({ attempt }) => {
      await wait(150)
      logger.info("the bank is asked", { attempt })
      if (isEvery(3, event.data.orderId) && attempt < 3) throw new Error("the bank does not answer")
      return { receipt: `r-${event.data.orderId}` }
    })
)

const processOrder = createFunction(
  {
    id: "process-order",
    triggers: [{ event: "order.placed" }],
    retry: { maxAttempts: 2, initialDelayMs: 800 },
    recording: true,
    searchBy: ["event.data.customerId"]
  },
  async ({ event, logger, step }) => {
    const { customerId, orderId, total } = event.data
    step.compensate("reserve", async () => logger.warn("the goods are back on their shelf", { orderId }))
    const shelf = await step.run("reserve", async () => {
      await wait(80)
      return { shelf: 1 + (total % 9) }
    })
    const paid = await step.invoke("pay-invoice", { orderId, total })
    const [parcel] = await step.parallel("prepare", [
      (branch) => branch.run("pack", async () => wait(200).then(() => `parcel of shelf ${shelf.shelf}`)),
      (branch) => branch.run("print the label", () => `label of ${customerId}`)
    ])
    if (isEvery(5, orderId)) {
      await step.waitForEvent("approval", {
        event: "order.approved",
        match: "data.orderId",
        timeout: "10m"
      })
    }
    await step.sleep("until the van comes", "3s")
    return step.run("ship", async () => {
      if (customerId === "c-3" && isEvery(9, orderId)) {
        throw new NonRetryableError(`no van goes to ${customerId}`)
      }
      return { parcel, paid }
    })
  }
)

const report = createFunction(
  { id: "nightly-report", triggers: [{ cron: "*/2 * * * *", timezone: "Europe/Berlin", overlap: "skip" }] },
  async ({ step }) => {
    await step.run("count", () => wait(500))
    await step.sleep("let the printer cool", "20s")
    return "printed"
  }
)

const importPrices = createFunction(
  {
    id: "import-prices",
    triggers: [{ event: "prices.changed" }],
    concurrency: { limit: 1 }
  },
  async ({ step }) => step.run("import", () => wait(6000))
)

export const functions = [processOrder, payInvoice, report, importPrices]

export const projections = [
  createProjection({
    name: "order-totals",
    events: ["order.placed"],
    initialState: () => ({ orders: 0, total: 0 }),
    handler: (state, event) => ({ orders: state.orders + 1, total: state.total + event.data.total })
  }),
  createProjection({
    name: "orders-of-customer",
    events: ["order.placed"],
    partitionKey: "$.data.customerId",
    maxRetries: 1,
    initialState: () => ({ orders: 0 }),
    handler: (state, event) => {
      if (isEvery(11, event.data.orderId)) throw new Error(`${event.data.orderId} has no customer`)
      return { orders: state.orders + 1 }
    }
  })
]
