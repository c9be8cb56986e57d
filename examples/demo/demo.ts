/**
 * An engine with constant traffic, to look at its console: run `npm run demo`, and open the address that it prints. The demo runs
 * until Ctrl-C, or for a number of seconds: `npm run demo -- 60`. It stores everything in memory.
 */
import { randomBytes } from "node:crypto"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { createSubscriptionClient } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { functions, projections } from "./shop.ts"

const seconds = Number(process.argv[2] ?? Number.POSITIVE_INFINITY)
if (!(seconds > 0)) {
  console.error(`Give the number of seconds to run, such as 60; got ${process.argv[2]}`)
  process.exit(2)
}

// the console shows what runs log, so the terminal need not
process.env.IRONFLOW_LOG_LEVEL ??= "error"

const engine = await startEngine({
  filename: ":memory:",
  functions,
  projections,
  masterKey: randomBytes(32).toString("hex"),
  logger: false,
  listen: { port: Number(process.env.PORT ?? 0) }
})
const { client } = engine
console.log(`The console of a shop that is open: ${engine.url}/console/`)

const closing = new AbortController()
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => closing.abort())
if (Number.isFinite(seconds)) setTimeout(() => closing.abort(), seconds * 1000).unref()

// data that exists from the beginning
await client.config().set("shipping", { carrier: "van", freeFrom: 50 })
await client.secrets.set("BANK_KEY", "only the bank knows")
await client.kv().createBucket({ name: "sessions", history: 5, ttlSeconds: 3600 })
const sessions = client.kv().bucket("sessions")

// a consumer group whose handler fails for one order in seven
const sub = createSubscriptionClient({ serverUrl: engine.url! })
await sub.connect()
await sub.subscribe("events:order.placed", {
  consumerGroup: "mailers",
  onEvent: (event) => {
    if (Number(event.data.orderId.split("-")[1]) % 7 === 0) throw new Error("the letter has no stamp")
  }
})

const placeOrder = async (n: number): Promise<void> => {
  const orderId = `o-${n}`
  const customerId = `c-${n % 6}`
  await client.emit("order.placed", { orderId, customerId, total: 10 + ((n * 7) % 90) })
  await client.streams.append(orderId, { name: "order.noted", data: { customerId }, entityType: "order" })
  await sessions.put(`customers/${customerId}`, { lastOrder: orderId })
  // most orders that wait for an approval get it some time later
  if (n > 25 && n % 15 !== 0) await client.emit("order.approved", { orderId: `o-${n - 25}` })
  if (n % 10 === 0) await client.publish("news", { title: `${n} orders` })
  if (n % 20 === 0) await client.emit("prices.changed", { of: "everything" })
}

try {
  for (let n = 1; !closing.signal.aborted; n++) {
    await placeOrder(n)
    await sleep(300 + Math.random() * 1200, undefined, { signal: closing.signal })
  }
} catch (error) {
  if (!closing.signal.aborted) throw error
}
sub.close()
await engine.close()
