/**
 * A worker whose steps block the event loop: `node --conditions=@ironflow/source worker.ts <transport> <url> <event> <ms>`.
 * It prints `ready`, and then a line each time that the code of a step begins.
 */
import process from "node:process"
import { createFunction } from "@ironflow/node"
import { starts, type Transport } from "../Starts.ts"

const [transport = "", url = "", event = "", ms = ""] = process.argv.slice(2)

/** Blocks this process. */
const block = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(ms))

const functions = [
  createFunction(
    { id: `compute-${event}`, triggers: [{ event }] },
    async ({ event: { data }, run, step }) => {
      await step.run("compute", async () => {
        process.stdout.write(`began ${run.id}\n`)
        // some code blocks at once, other code after a promise
        if ((data as { readonly late: boolean }).late) await Promise.resolve()
        block()
      })
    }
  )
]
// the test gives the name of a transport
await starts[transport as Transport](url, event, functions)
process.stdout.write("ready\n")
