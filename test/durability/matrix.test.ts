/**
 * A short form of the matrix of storms (`npm run storm` runs the whole): each transport under one fault, twice where the first
 * one prepares the ground for the second. `IRONFLOW_TEST_SEED=7` asks for other things at other times.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { afterAll, assert, describe, it } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import type { Transport } from "./matrix/Cells.ts"
import { judgeStorm } from "./matrix/Judge.ts"
import { type Strike, withStrikes } from "./matrix/Plan.ts"
import { runStorm } from "./matrix/Storm.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-matrix-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const seed = Number(process.env.IRONFLOW_TEST_SEED ?? 1)
/** Short, since half of a storm is to wait for its end. */
const leaseMs = 3000
/** Other files of tests run beside this one. `npm run storm` judges to the second. */
const slackMs = 10_000

const storms: ReadonlyArray<
  readonly [transport: Transport, what: string, strikes: readonly [Strike, ...ReadonlyArray<Strike>]]
> = [
  ["http", "a cut that lasts", [{ fault: "cut", lasting: "until takeover" }]],
  ["channel", "a worker that is frozen", [{ fault: "worker-freeze", lasting: "until takeover" }]],
  [
    "rpc",
    "an engine that is stopped and comes back, twice",
    [{ fault: "engine-sigterm" }, { fault: "engine-sigterm" }]
  ],
  [
    "connect",
    "an engine that is frozen twice",
    [
      { fault: "engine-freeze", ms: 6000 },
      { fault: "engine-freeze", ms: 8000 }
    ]
  ],
  [
    "push",
    "connections that carry nothing",
    [{ fault: "half-open", lasting: "until takeover", deaf: "both", heals: true }]
  ],
  ["push-alone", "apps that are killed", [{ fault: "worker-sigkill" }, { fault: "worker-sigkill" }]],
  [
    "memory",
    "a clock that is an hour back after a kill, and another one while it runs",
    [
      { fault: "clock", shift: 0, isKilled: true },
      { fault: "clock", shift: -3_600_000, isKilled: false }
    ]
  ]
]

/** Three at once: most of a storm is waiting, and its beginning is three processes that start. */
const lanes = [0, 1, 2].map(() => Promise.resolve())

describe.concurrent("a storm", () => {
  for (const [nth, [transport, what, strikes]] of storms.entries()) {
    it(`over ${transport} leaves nothing waiting after ${what}`, { timeout: 300_000 }, async () => {
      const lane = nth % lanes.length
      const before = lanes[lane]
      const over = createDeferred<void>()
      lanes[lane] = over.promise
      await before
      using _ = { [Symbol.dispose]: () => over.resolve() }
      // a test that is tried again gets another one
      const own = fs.mkdtempSync(path.join(folder, `${transport}-`))
      const plan = withStrikes(transport, strikes[0].fault, strikes, { seed, leaseMs, slackMs, size: 10 })

      const { figures, violations } = judgeStorm(
        await runStorm(plan, { folder: own, cache, settleMs: 60_000 })
      )

      assert.deepStrictEqual(violations, [], `seed ${seed}: ${JSON.stringify(figures)}`)
      assert.strictEqual(figures.hits, strikes.length)
    })
  }
})
