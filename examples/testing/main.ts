/** Tests a run of a week in milliseconds, replays its handler after every step, and checks changed code against the run. */
import assert from "node:assert/strict"
import { createFunction } from "@ironflow/node"
import { createTestEngine, verify } from "@ironflow/node/test"

const config = { id: "order", triggers: [{ event: "order.placed" }] }
const order = createFunction(config, async ({ step }) => {
  const receipt = await step.run("charge", () => "R-1")
  await step.sleep("cool-off", "7d")
  return { receipt }
})

const engine = await createTestEngine({ functions: [order], replayEveryStep: true })
const { runIds } = await engine.client.emit("order.placed", {})
const [runId = ""] = runIds
await engine.advance("6d")
console.log((await engine.client.explain(runId)).message)

const renamed = createFunction(config, ({ step }) => step.run("pay", () => "R-1"))
const divergence = await verify(await engine.history(runId), [renamed])
console.log(divergence?.message)
assert.equal(divergence?.recorded?.name, "charge")

const run = await engine.runToEnd(runId)
console.log(run.status, run.output)
assert.deepEqual(run.output, { receipt: "R-1" })
await engine.close()
