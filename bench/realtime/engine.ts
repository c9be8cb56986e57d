/** An engine that reports its memory and CPU time. `main.ts` starts it as a separate process. */
import { startEngine } from "@ironflow/node/engine"

const engine = await startEngine({ filename: process.argv[2]!, logger: false, listen: { port: 0 } })
process.on("message", () => {
  globalThis.gc?.()
  const { external, heapUsed, rss } = process.memoryUsage()
  const { system, user } = process.cpuUsage()
  process.send?.({ rss, heap: heapUsed + external, cpuMs: (system + user) / 1000 })
})
// the parent has ended
process.on("disconnect", () => process.exit())
process.send?.({ url: engine.url })
