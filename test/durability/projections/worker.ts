/** A worker with projections in its own process: `node worker.ts <server url> <side log>`. */
import { appendFileSync } from "node:fs"
import { createNoopLogger, createProjection, createWorker } from "@ironflow/node"

const [serverUrl = "", sideLog = ""] = process.argv.slice(2)

interface Digest {
  readonly count: number
  readonly digest: number
}
const add = ({ count, digest }: Digest, amount: number): Digest => ({
  count: count + 1,
  digest: (digest * 31 + amount) % 1_000_003
})

const one = createProjection({
  name: "one",
  events: ["order.*"],
  batchSize: 7,
  initialState: () => ({ count: 0, digest: 0 }),
  handler: (state, event) => add(state, event.data.amount)
})
const perCustomer = createProjection({
  name: "per-customer",
  events: ["order.placed", "order.paid"],
  batchSize: 5,
  initialState: () => ({ count: 0, digest: 0 }),
  handler: (state, event) => add(state, event.data.amount),
  partitionKey: "$.data.customer"
})
const mails = createProjection({
  name: "mails",
  events: ["order.placed"],
  batchSize: 3,
  handler: async (event) => {
    await new Promise((resolve) => setImmediate(resolve))
    appendFileSync(sideLog, `${event.seq}\n`)
  }
})

const worker = createWorker({
  serverUrl,
  functions: [],
  projections: [one, perCustomer, mails],
  logger: createNoopLogger(),
  reconnectDelay: 50
})
void worker.ready().then(() => process.stdout.write("ready\n"))
await worker.start()
