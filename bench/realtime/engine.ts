/** An engine that says how much memory it holds and CPU time it has used: what `main.ts` starts as a process of its own. */
import { startEngine } from "@ironflow/node/engine"

const engine = await startEngine({ filename: process.argv[2]!, logger: false, listen: { port: 0 } })
process.on("message", () => {
  globalThis.gc?.()
  const { external, heapUsed, rss } = process.memoryUsage()
  const { system, user } = process.cpuUsage()
  process.send?.({ rss, heap: heapUsed + external, cpuMs: (system + user) / 1000 })
})
// its parent has been killed
process.on("disconnect", () => process.exit())
process.send?.({ url: engine.url })
