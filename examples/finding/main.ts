/** Finds runs by an attribute, by the error with which they failed, and by an expression. */
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const processOrder = createFunction(
  {
    id: "process-order",
    triggers: [{ event: "order.placed" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.orderId"]
  },
  async ({ event, step }) =>
    step.run("charge", () => {
      if (event.data.amount > 100) throw new Error(`card of ${event.data.customer} declined`)
      return event.data.amount
    })
)

const engine = await startEngine({ filename: ":memory:", functions: [processOrder], logger: false })
const { client } = engine
const placed = await client.emitMany(
  Array.from({ length: 200 }, (_, i) => ({
    event: "order.placed",
    data: { orderId: `o-${i}`, amount: i, customer: i % 2 === 0 ? "Ada" : "Bob" }
  }))
)
for (const { runIds } of placed) for (const id of runIds) await client.waitForRun(id).catch(() => undefined)

const [one] = (await client.listRuns({ attributes: { "event.data.orderId": "o-150" } })).runs
console.log(`order o-150: ${one?.status}, ${one?.error?.message}`)

const ofAda = await client.listRuns({ status: "failed", error: "card of Ada", limit: 10 })
console.log(`Ada's newest declined orders: ${ofAda.runs.length} found`)

const small = await client.listRuns({ where: "output < 3" })
console.log(`charged less than three: ${small.runs.map(({ output }) => output).join(", ")}`)

await engine.close()
