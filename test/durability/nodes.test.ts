/**
 * Three engines on one Postgres, a short form of `npm run storm -- --nodes`: `ironflow serve` with workers of every
 * transport, and engines with workers in them. `IRONFLOW_TEST_SEED=7` changes the requests and their times.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { afterAll, assert, describe, it } from "vitest"
import { judgeNodes } from "./nodes/Judge.ts"
import { runNodeStorm } from "./nodes/NodeStorm.ts"
import { type Strike, withStrikes } from "./nodes/Plan.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-nodes-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const seed = Number(process.env.IRONFLOW_TEST_SEED ?? 1)

const storms: ReadonlyArray<
  readonly [what: string, strikes: ReadonlyArray<Strike>, isEmbedded?: "with workers in them"]
> = [
  [
    "a kill of one, a Postgres that goes down, and connections that carry nothing",
    [
      { fault: "kill", at: "node", which: 0 },
      { fault: "restart", ending: "immediate", ms: 5000 },
      { fault: "lose", which: "all", ms: 1000 },
      { fault: "clock", which: 1, shift: -240_000 }
    ]
  ],
  [
    "a kill of one, and a freeze of another until it counts as dead",
    [
      { fault: "kill", at: "node", which: 0 },
      { fault: "freeze", at: "node", which: 1, ms: 18_000 }
    ],
    "with workers in them"
  ]
]

// they mostly wait
describe.concurrent("three engines on one Postgres", () => {
  for (const [nth, [what, strikes, how]] of storms.entries()) {
    it(
      `${how ?? "with workers elsewhere"} lose nothing and repeat nothing after ${what}`,
      { timeout: 400_000 },
      async () => {
        const stormFolder = fs.mkdtempSync(path.join(folder, "storm-"))
        const plan = withStrikes(strikes, {
          seed: seed * 10 + nth,
          size: 6,
          leaseMs: 10_000,
          isEmbedded: how !== undefined,
          transports: how === undefined ? ["channel", "connect", "push"] : ["rpc"]
        })

        const { figures, violations } = judgeNodes(
          await runNodeStorm(plan, { folder: stormFolder, cache, settleMs: 60_000 })
        )

        assert.deepStrictEqual(violations, [], `seed ${plan.seed}: ${JSON.stringify(figures)}`)
        assert.isAbove(figures.hits, 0)
        assert.isAbove(figures.executions, 20)
      }
    )
  }
})
