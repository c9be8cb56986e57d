/** Sleeps and timers of functions in push mode. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createClient, serve } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { describe } from "vitest"
import { endsLongTimes, keepsLongTimes, keepsShortTimes, whileStopped } from "../Worker/TimeSuite.ts"
import { hosts, listen, pushedAsExisting, SIGNING_KEY } from "./Hosts.ts"

const ways = Object.entries(hosts).filter(([name]) => name.startsWith("push"))

describe.each(ways)("a function in %s", (_name, start) => {
  keepsShortTimes(start)
  keepsLongTimes(start)
})

describe("a function that the engine calls as a handler of another package", () => {
  keepsShortTimes(pushedAsExisting)
  keepsLongTimes(pushedAsExisting, { retries: "SLEEPING" })
})

describe.each([
  ["push, reporting with the response", false],
  ["push, reporting at once", true]
])("a function in %s", (_name, reports) => {
  endsLongTimes(async (functions) => {
    const folder = mkdtempSync(join(tmpdir(), "ironflow-"))
    let engine: IronflowEngine
    let port = 0
    const start = async () => {
      engine = await startEngine({
        filename: join(folder, "ironflow.db"),
        logger: false,
        listen: { port },
        push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY }
      })
      port = Number(new URL(engine.url ?? "").port)
    }
    await start()
    const handler = serve({
      functions,
      signingKey: SIGNING_KEY,
      logger: false,
      ...(reports ? { serverUrl: `http://127.0.0.1:${port}` } : {})
    })
    const server = await listen(handler)
    const client = createClient({ serverUrl: `http://127.0.0.1:${port}` })
    await client.pushEndpoints.register(`${server.url}/api/ironflow`)
    const clock = whileStopped({ start, stop: async () => engine.close() })
    return {
      client,
      move: clock.move,
      [Symbol.asyncDispose]: async () => {
        await client.close()
        await engine.close()
        await server.close()
        clock[Symbol.dispose]()
        rmSync(folder, { recursive: true, force: true })
      }
    }
  })
})
