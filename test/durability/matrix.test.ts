/**
 * A short form of the matrix of storms (`npm run storm` runs all of it): each transport under one fault, or under two
 * where the second one depends on what the first has done. `IRONFLOW_TEST_SEED=7` changes the requests and their times.
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
/** Short, since a storm spends half of its time on waiting for leases to end. */
const leaseMs = 3000
/** Other test files run at the same time. `npm run storm` allows no slack. */
const slackMs = 10_000

const storms: ReadonlyArray<
  readonly [transport: Transport, what: string, strikes: readonly [Strike, ...ReadonlyArray<Strike>]]
> = [
  ["http", "a long cut", [{ fault: "cut", lasting: "until takeover" }]],
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
    "a clock that goes back an hour at a kill, and another hour while the engine runs",
    [
      { fault: "clock", shift: 0, isKilled: true },
      { fault: "clock", shift: -3_600_000, isKilled: false }
    ]
  ]
]

/** At most three storms at a time: a storm mostly waits, but it begins with the start of three processes. */
const lanes = [0, 1, 2].map(() => Promise.resolve())

describe.concurrent("a storm", () => {
  for (const [nth, [transport, what, strikes]] of storms.entries()) {
    it(`over ${transport} leaves nothing waiting after ${what}`, { timeout: 300_000 }, async () => {
      const lane = nth % lanes.length
      const before = lanes[lane]
      const ended = createDeferred<void>()
      lanes[lane] = ended.promise
      await before
      using _ = { [Symbol.dispose]: () => ended.resolve() }
      // a test that is repeated gets another folder
      const stormFolder = fs.mkdtempSync(path.join(folder, `${transport}-`))
      const plan = withStrikes(transport, strikes[0].fault, strikes, { seed, leaseMs, slackMs, size: 10 })

      const { figures, violations } = judgeStorm(
        await runStorm(plan, { folder: stormFolder, cache, settleMs: 60_000 })
      )

      assert.deepStrictEqual(violations, [], `seed ${seed}: ${JSON.stringify(figures)}`)
      assert.strictEqual(figures.hits, strikes.length)
    })
  }
})
