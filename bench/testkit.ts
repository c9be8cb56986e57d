/**
 * How long a test of a function takes: one run of a small function (a step, a sleep of a week, a step) with
 * `createTestClient`, with a new `createTestEngine` for each run, and with one `createTestEngine` for all runs.
 *
 * `node --conditions=@ironflow/source bench/testkit.ts` prints one JSON line with medians of 200, in milliseconds. The limit
 * is a plain call of the functions of the two steps: everything beyond it is the cost of the test kit.
 */
import { createFunction } from "@ironflow/node"
import { createTestClient, createTestEngine } from "@ironflow/node/test"
import { median } from "./metrics.ts"

const RUNS = 200
const WARM_UP = 20

const charge = () => "R-1"
const ship = () => "shipped"

const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
  const receipt = await step.run("charge", charge)
  await step.sleep("cool-off", "7d")
  return [receipt, await step.run("ship", ship)]
})

const check = (output: unknown): void => {
  if (JSON.stringify(output) !== '["R-1","shipped"]') throw new Error(`wrong: ${JSON.stringify(output)}`)
}

const measure = async (test: () => Promise<unknown>): Promise<number> => {
  const times: Array<number> = []
  for (let i = -WARM_UP; i < RUNS; i++) {
    const started = performance.now()
    check(await test())
    if (i >= 0) times.push(performance.now() - started)
  }
  return Number(median(times).toFixed(3))
}

const limit = await measure(async () => [await charge(), await ship()])

const testClient = await measure(async () => {
  const t = createTestClient({ functions: [order] })
  t.mockStep("charge", charge)
  t.mockStep("ship", ship)
  return (await t.emit("order.placed", {})).output
})

type Engine = Awaited<ReturnType<typeof createTestEngine>>
const place = async (engine: Engine): Promise<unknown> => {
  const { runIds } = await engine.client.emit("order.placed", {})
  return (await engine.runToEnd(runIds[0] ?? "")).output
}

const newEngine = await measure(async () => {
  await using engine = await createTestEngine({ functions: [order] })
  return await place(engine)
})

const engine = await createTestEngine({ functions: [order] })
const sameEngine = await measure(() => place(engine))
await engine.close()

console.log(
  JSON.stringify({ bench: "testkit", runs: RUNS, ms: { limit, testClient, newEngine, sameEngine } })
)
