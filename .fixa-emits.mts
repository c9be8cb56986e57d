import { createClient } from "@ironflow/node"
const client = createClient({ serverUrl: process.argv[2]! })
const until = Date.now() + Number(process.argv[3]) * 1000
const took: number[] = []
while (Date.now() < until) {
  const b = performance.now()
  try { await client.emit("probe.sent", {}) } catch (e) { console.log(String(e)) }
  took.push(performance.now() - b)
  await new Promise((r) => setTimeout(r, 20))
}
took.sort((a, b) => a - b)
console.log(`emits ${took.length} median ${took[took.length >> 1]!.toFixed(0)} p99 ${took[Math.floor(took.length * 0.99)]!.toFixed(0)} max ${took.at(-1)!.toFixed(0)} ms`)
process.exit(0)
