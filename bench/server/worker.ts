/**
 * A worker with the functions of the benchmarks, for the server `IRONFLOW_SERVER_URL`, over the transport `WORKER_TRANSPORT`.
 * SIGTERM ends it.
 */
import { createWorker } from "@ironflow/node/worker"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { functions } from "../functions.ts"

const config = { functions, maxConcurrentJobs: 512, logger: false } as const
const transport = process.env.WORKER_TRANSPORT
const worker =
  transport === "connect"
    ? createStreamingWorker(config)
    : createWorker({ ...config, transport: transport === "rpc" ? "streaming" : "polling" })
process.once("SIGTERM", () => void worker.stop())

const working = worker.start()
await worker.ready()
console.log("ready")
await working
