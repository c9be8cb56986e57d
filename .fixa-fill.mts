import { createClient } from "@ironflow/node"
const client = createClient({ serverUrl: process.argv[2]! })
const from = Number(process.argv[3]), to = Number(process.argv[4])
let n = from
await Promise.all(Array.from({ length: 32 }, async () => { while (n < to) { const i = n++; await client.emit("order.placed", { n: i, customer: `c-${i % 100}`, text: "x".repeat(200) }, { idempotencyKey: `k-${i}` }) } }))
console.log("emitted"); process.exit(0)
