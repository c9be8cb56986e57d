/**
 * A worker whose steps keep the event loop busy: `node --conditions=@ironflow/source worker.ts <transport> <url> <event> <ms>`.
 * Says `ready`, and then a line for each time that the code of a step begins.
 */
import process from "node:process"
import { createFunction } from "@ironflow/node"
import { starts, type Transport } from "../Starts.ts"

const [transport = "", url = "", event = "", ms = ""] = process.argv.slice(2)

/** Nothing else happens in this process meanwhile. */
const block = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(ms))

const functions = [
  createFunction(
    { id: `compute-${event}`, triggers: [{ event }] },
    async ({ event: { data }, run, step }) => {
      await step.run("compute", async () => {
        process.stdout.write(`began ${run.id}\n`)
        // some code is busy at once, other behind promises
        if ((data as { readonly late: boolean }).late) await Promise.resolve()
        block()
      })
    }
  )
]
// the name of a transport is given by the test
await starts[transport as Transport](url, event, functions)
process.stdout.write("ready\n")
