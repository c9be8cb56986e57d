/** What happens to the sockets below workers and clients, seen from real processes on both sides. */
import { createServer, type Socket } from "node:net"
import { afterAll, afterEach, assert, describe, it } from "vitest"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"

const worker = (create: string, from: string, options = ""): string => `
import { createFunction } from "@ironflow/node"
import { ${create} } from "@ironflow/node/${from}"

const hold = createFunction({ id: "hold", triggers: [{ event: "hold.wanted" }] }, async ({ step }) =>
  step.run("hold", () => new Promise(() => setInterval(() => undefined, 1000)))
)
process.on("uncaughtException", (error) => {
  console.log("UNCAUGHT " + error.stack)
  process.exit(1)
})
const worker = ${create}({ serverUrl: process.env.SERVER_URL, functions: [hold], workerId: "w-1", ${options} })
worker.ready().then(() => console.log("ready"))
worker.start().then(() => console.log("stopped"), (error) => console.log("failed " + error.message))
`

const transports = {
  connect: worker("createStreamingWorker", "worker-streaming"),
  rpc: worker("createWorker", "worker", 'transport: "streaming"'),
  polling: worker("createWorker", "worker")
}

const terminal = new Terminal(
  Object.fromEntries(Object.entries(transports).map(([name, text]) => [`${name}.ts`, text]))
)
afterAll(() => terminal[Symbol.asyncDispose]())

describe("a worker process that is killed", () => {
  it.each(["connect", "rpc"])("over %s is missed as soon as its socket ends", async (transport) => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const server = terminal.start(["serve", "--port", String(port), "--data", `${transport}.db`])
    await server.until(`Ironflow listens at ${url}`)
    const process = terminal.node(`${transport}.ts`, { env: { SERVER_URL: url } })
    await process.until("ready")
    const env = { IRONFLOW_SERVER_URL: url }
    assert.lengthOf((await terminal.json(["workers", "list"], { env })).workers, 1)

    process.signal("SIGKILL")
    const killedAt = performance.now()
    await server.until("Worker w-1 is gone")

    // five seconds in which a worker that lives may come back
    assert.isBelow(performance.now() - killedAt, 8000)
    assert.lengthOf((await terminal.json(["workers", "list"], { env })).workers, 0)
    server.signal("SIGTERM")
    await server.ended
  })
})
