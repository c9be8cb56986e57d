/**
 * Push mode: an engine calls an app over HTTP. The process of the app is killed in the middle of a run, another process takes its
 * place, and the run continues after its last completed step. Run it: `node --conditions=@ironflow/source examples/push/main.ts`.
 */
import assert from "node:assert/strict"
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import net from "node:net"
import path from "node:path"
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"

// the engine signs its requests with this key, and the app checks them
process.env.IRONFLOW_SIGNING_KEY = "a key of this example"

const engine = await startEngine({
  filename: ":memory:",
  listen: { port: 0 },
  // needed because the app is on this machine
  push: { allowPrivateNetworks: true },
  logger: false
})

const startApp = async (port: number, env: Record<string, string> = {}): Promise<ChildProcess> => {
  const app = fork(path.join(import.meta.dirname, "app.ts"), [String(port), engine.url ?? ""], {
    env: { ...process.env, ...env }
  })
  process.on("exit", () => app.kill("SIGKILL"))
  await once(app, "message")
  return app
}

const probe = net.createServer().listen(0, "127.0.0.1")
await once(probe, "listening")
const { port } = probe.address() as net.AddressInfo
probe.close()
await once(probe, "close")

console.log(
  "1. The app starts, and its URL is registered with the engine, as `ironflow functions register <url>` does."
)
const first = await startApp(port, { DIE: "yes" })
assert.deepEqual(await engine.client.pushEndpoints.register(`http://127.0.0.1:${port}/`), ["process-order"])

console.log("2. An order comes in. The app dies while it packs.")
const died = once(first, "exit")
const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
assert.deepEqual(await died, [null, "SIGKILL"])

console.log("3. The app starts again at the same address, and the run continues.")
const second = await startApp(port)
const [runId = ""] = runIds
const run = await engine.client.waitForRun(runId, { timeout: 20_000 })
console.log(`4. The run has ${run.status}: ${JSON.stringify(run.output)}`)

assert.deepEqual(run.output, { receipt: "receipt-o-1", parcel: "parcel-o-1" })
const steps = await engine.client.getRunSteps(runId)
console.log(
  `   Its steps: ${steps.map(({ name }) => name).join(", ")}. It took ${run.attempt} attempt: a lost process does not count.`
)
assert.equal(run.attempt, 1)

second.kill("SIGTERM")
await once(second, "exit")
await engine.close()
