/** A very long list of runs. The page contains only the rows that can be seen. */
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { assert, it } from "vitest"
import { either } from "../Long.ts"
import { useConsole } from "./Browser.ts"

const kit = useConsole()

const RUNS = either(10_000, 100_000)
/** The number of events that are emitted at once. */
const BATCH = 1000

it("the list of runs scrolls to the end of a very long list", { timeout: 300_000 }, async () => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  // the function is registered, but its worker has left, so its runs wait
  const ship = createFunction(
    { id: "ship-order", triggers: [{ event: "order.placed" }] },
    async () => "shipped"
  )
  const worker = createWorker({ serverUrl: server.url, functions: [ship], logger: false })
  const stopped = worker.start()
  await worker.ready()
  await worker.stop()
  await stopped
  let first: string | undefined
  for (let i = 0; i < RUNS; i += BATCH) {
    const results = await client.emitMany(
      Array.from({ length: BATCH }, (_, n) => ({ event: "order.placed", data: { orderId: `o-${i + n}` } }))
    )
    first ??= results[0]?.runIds[0]
  }
  const look = await kit.look(server.url)
  await look.open("runs")
  // the engine counts up to this number, and the total is known at the end of the list
  await look.sees("of 5,000 or more")

  const most = Number(
    await look.page.evaluate(`(async () => {
      const rows = document.querySelector(".rows")
      let most = 0
      const frame = () => new Promise((resolve) => requestAnimationFrame(resolve))
      for (let loaded = 0; loaded < ${RUNS}; ) {
        rows.scrollTop = rows.scrollHeight
        await frame()
        most = Math.max(most, rows.querySelectorAll(".row").length)
        loaded = Math.round((rows.scrollHeight - 36) / 36)
      }
      rows.scrollTop = rows.scrollHeight
      await frame()
      await frame()
      return most
    })()`)
  )

  assert.isBelow(most, 100)
  const all = RUNS.toLocaleString("en-US")
  await look.sees(`${all} of ${all}`)
  await look.sees(first ?? "")
  await client.close()
})
