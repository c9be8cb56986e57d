/** The law of managed projections: the state is the fold of the events, whatever happens in between. The seed is printed. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "vitest"
import { createProjection } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { makeDice } from "../durability/Plan.ts"
import { seeds } from "../Long.ts"

interface State {
  readonly count: number
  readonly digest: number
}
/** The result depends on the order of the events, and on each being there once. */
const fold = ({ count, digest }: State, amount: number): State => ({
  count: count + 1,
  digest: (digest * 31 + amount) % 1_000_003
})

describe("a managed projection", () => {
  it.for(seeds(2, 30))(
    "has the fold of its events as its state, over restarts and rebuilds, seed %i",
    { timeout: 60_000 },
    async (seed) => {
      const dice = makeDice(seed)
      const folder = mkdtempSync(join(tmpdir(), "ironflow-projections-"))
      const projection = createProjection({
        name: "digest",
        events: ["order.*"],
        batchSize: dice.between(1, 20),
        maxRetries: 0,
        initialState: () => ({ count: 0, digest: 0 }),
        handler: (state, event) => {
          if (event.data.amount % 17 === 0) throw new Error("unlucky")
          return fold(state, event.data.amount)
        },
        partitionKey: "$.data.customer"
      })
      const open = () =>
        startEngine({ filename: join(folder, "engine.db"), projections: [projection], logger: false })
      const expected = new Map<string, State>()
      let engine: IronflowEngine = await open()
      let after = 0
      try {
        for (let i = 0; i < 60; i++) {
          const amount = dice.between(1, 1000)
          const customer = `c-${dice.between(0, 4)}`
          const name = dice.pick(["order.placed", "order.paid", "user.created"])
          const { position = 0 } = await engine.client.emit(name, { amount, customer })
          after = position
          if (name !== "user.created" && amount % 17 !== 0) {
            expected.set(customer, fold(expected.get(customer) ?? { count: 0, digest: 0 }, amount))
          }
          const what = dice.between(0, 19)
          if (what === 0) await engine.client.projections.rebuild("digest").catch(() => undefined)
          if (what === 1) {
            await engine.close()
            engine = await open()
          }
        }
        for (const [customer, state] of expected) {
          const result = await engine.client.projections.get("digest", { partition: customer, after })
          assert.deepStrictEqual(result.state, state, `seed ${seed}, ${customer}`)
        }
      } finally {
        await engine.close()
        rmSync(folder, { recursive: true, force: true })
      }
    }
  )
})
