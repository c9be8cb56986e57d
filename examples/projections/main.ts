/** Projections in one process: a state for each customer, letters to write, and an event whose handler fails. */
import { createProjection } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const spending = createProjection({
  name: "spending",
  events: ["order.placed", "order.cancelled"],
  partitionKey: "$.data.customer",
  initialState: () => ({ orders: 0, total: 0 }),
  handler: (state, event) => {
    const sign = event.name === "order.placed" ? 1 : -1
    return { orders: state.orders + sign, total: state.total + sign * event.data.amount }
  }
})

const letters: Array<string> = []
const writer = createProjection({
  name: "letter-writer",
  events: ["order.placed"],
  maxRetries: 0,
  handler: async (event) => {
    if (event.data.customer === "nobody") throw new Error("no address")
    letters.push(`Dear ${event.data.customer}, thank you for ${event.data.amount}`)
  }
})

const engine = await startEngine({
  filename: ":memory:",
  projections: [spending, writer],
  logger: false
})
const { client } = engine

await client.emit("order.placed", { customer: "ada", amount: 30 })
await client.emit("order.placed", { customer: "nobody", amount: 1 })
await client.emit("order.placed", { customer: "ada", amount: 12 })
const { position } = await client.emit("order.cancelled", { customer: "ada", amount: 30 })

// waits until the projection has handled the last event
const { state } = await client.projections.get("spending", { partition: "ada", after: position })
console.log("ada:", state)

await client.projections.waitForCatchup("letter-writer", { after: position })
console.log(letters.join("\n"))
const { message } = await client.projections.status("letter-writer")
console.log(message)
const [dead] = await client.projections.deadLetters("letter-writer")
console.log(`dead letter: ${dead?.event.name} at position ${dead?.position}: ${dead?.error.message}`)
await engine.close()
