/** A file of `worker` and `verify` that exports a registry of event definitions: events of earlier versions are upcast. */
import { afterAll, assert, it, vi } from "vitest"
import { jsonHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const terminal = new Terminal({
  "functions.ts": `
    import { createEventDefinitionRegistry, createFunction, defineEvent } from "@ironflow/node"
    const OrderPlaced = defineEvent({
      name: "order.placed",
      version: 2,
      upcast: (data) => ({ amount: { cents: (data as { total: number }).total * 100 } })
    })
    export const definitions = createEventDefinitionRegistry()
    definitions.register(defineEvent({ name: "order.placed", version: 1 }))
    definitions.register(OrderPlaced)
    export const bill = createFunction({ id: "bill", triggers: [OrderPlaced] }, async ({ event, step }) => {
      const { cents } = (event.data as { amount: { cents: number } }).amount
      await step.run("charge", () => cents)
      await step.sleep("a while", cents > 500 ? "1d" : 1)
      return cents
    })
  `
})
afterAll(() => terminal[Symbol.asyncDispose]())

it("upcasts events for the worker and for verify", async () => {
  const port = await freePort()
  const env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  const server = terminal.start(["serve", "--port", String(port), "--data", "orders.db"])
  await server.until("listens")
  const worker = terminal.start(["worker", "./functions.ts"], { env })
  await worker.until("bill")

  const done = await jsonHere(["emit", "order.placed", '{"total":5}', "--wait"], { env })
  const asleep = await jsonHere(["emit", "order.placed", '{"total":6}'], { env })

  assert.strictEqual(done.runs[0].output, 500)
  await vi.waitFor(
    async () =>
      assert.strictEqual((await jsonHere(["runs", "why", asleep.runIds[0]], { env })).code, "SLEEPING"),
    20_000
  )
  const verified = await terminal.run(["verify", "./functions.ts", "--data", "orders.db"])
  assert.strictEqual(verified.code, 0, verified.stderr)
  assert.include(verified.stdout, "1 run verified, of which 0 diverged")
})
