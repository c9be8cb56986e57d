/**
 * The process that does the work, and that is killed: an engine and the shop's functions on one SQLite file.
 *
 * The process does the same each time it starts. `emit` with an idempotency key starts an order only once: the second call returns
 * the existing run.
 */
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"
import { makeFunctions } from "./orders.ts"

const [database = "", ledger = "", life = ""] = process.argv.slice(2)

const functions = makeFunctions({
  ledger,
  life: Number(life),
  askForApproval: (orderId) => process.send?.({ approvalWanted: orderId })
})

const engine = await startEngine({ filename: database, functions })
const { client } = engine

process.on("message", (answer: { readonly orderId: string; readonly by: string }) => {
  console.log(`   → order.approved   emitted for ${answer.orderId}`)
  void client.emit("order.approved", answer)
})

const order = await client.emit(
  "order.placed",
  { orderId: "order-7", item: "teapot", price: 21, quantity: 2 },
  { idempotencyKey: "order-7" }
)
for (const runId of order.runIds) {
  const run = await client.waitForRun(runId)
  console.log(`   ${run.status}: ${JSON.stringify(run.output)}`)
}

console.log("\n3. Another function books three things, fails at the third, and takes back the other two.\n")
const gift = await client.emit("gift.ordered", { item: "kite", to: "the moon" }, { idempotencyKey: "gift-1" })
for (const runId of gift.runIds) {
  const run = await client.waitForRun(runId)
  console.log(`   ${run.status}: ${run.error?.message}`)
}

await engine.close()
// The channel to the parent would keep this process running.
process.disconnect?.()
