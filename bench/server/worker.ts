/** A worker with the functions of the bench, for the server that `IRONFLOW_SERVER_URL` names. SIGTERM ends it. */
import { createWorker } from "@ironflow/node/worker"
import { functions } from "../functions.ts"

const worker = createWorker({ functions, maxConcurrentJobs: 512, logger: false })
process.once("SIGTERM", () => void worker.stop())

const working = worker.start()
await worker.ready()
console.log("ready")
await working
