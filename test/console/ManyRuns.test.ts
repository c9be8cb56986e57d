/** Very many runs in the list, which has no more rows in the page than are seen. */
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { assert, it } from "vitest"
import { either } from "../Long.ts"
import { useConsole } from "./Browser.ts"

const kit = useConsole()

const RUNS = either(10_000, 100_000)
/** Events that are emitted at once. */
const BATCH = 1000

it("scrolls through all of them", { timeout: 300_000 }, async () => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  // known, and gone: its runs wait
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
  // so many are counted at once; how many there are is known at the end
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
