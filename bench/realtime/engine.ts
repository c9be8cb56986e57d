/** An engine that says how much memory it uses: what `main.ts` starts as a process of its own. */
import { startEngine } from "@ironflow/node/engine"

const engine = await startEngine({ filename: process.argv[2]!, logger: false, listen: { port: 0 } })
process.on("message", () => {
  globalThis.gc?.()
  const { external, heapUsed, rss } = process.memoryUsage()
  process.send?.({ rss, heap: heapUsed + external })
})
process.send?.({ url: engine.url })
