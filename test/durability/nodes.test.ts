/**
 * Three engines on one Postgres, with workers in their processes and in others, that are killed and frozen: nothing is lost, and no
 * finished step is done again. `IRONFLOW_TEST_SEED=7` asks for other things at other times.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { afterAll, assert, describe, it } from "vitest"
import { judge, type Law } from "./Checker.ts"
import { runNodeStorm, type Strike } from "./nodes/NodeStorm.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-nodes-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const seed = Number(process.env.IRONFLOW_TEST_SEED ?? 1)

/** What has no meaning where several processes work at once. */
const alone: ReadonlySet<Law> = new Set([
  "a step runs again only when it has failed or its process died",
  "a concurrency limit is never exceeded"
])

const storms: ReadonlyArray<readonly [what: string, strikes: ReadonlyArray<Strike>]> = [
  [
    "nodes that are killed",
    [
      { at: "node", which: 0, fault: "kill" },
      { at: "worker", which: 1, fault: "kill" },
      { at: "node", which: 2, fault: "kill" }
    ]
  ],
  [
    "a node that stands still until the others take it for dead, and one that stands still for less",
    [
      { at: "node", which: 1, fault: "freeze", ms: 20_000 },
      { at: "node", which: 2, fault: "freeze", ms: 3000 },
      { at: "worker", which: 0, fault: "freeze", ms: 3000 }
    ]
  ]
]

describe("three engines on one Postgres", () => {
  for (const [nth, [what, strikes]] of storms.entries()) {
    it(`lose nothing and repeat nothing after ${what}`, { timeout: 400_000 }, async () => {
      const own = fs.mkdtempSync(path.join(folder, "storm-"))
      const plan = { seed: seed * 10 + nth, size: 12, strikes, leaseMs: 3000 }

      const { evidence, faults, hits, settledAfter } = await runNodeStorm(plan, own, cache, 60_000)

      const { figures, violations } = judge(evidence, alone)
      assert.deepStrictEqual(violations, [], `seed ${plan.seed}: ${JSON.stringify(figures)}`)
      assert.deepStrictEqual(faults, [])
      assert.isDefined(settledAfter, "all runs end within a minute")
      assert.isAbove(hits, 0)
      assert.isAbove(figures.executions, 20)
    })
  }
})
