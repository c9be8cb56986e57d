/**
 * Tests of the guarantees with real processes that are killed: each runs a plan and judges its evidence.
 *
 * `IRONFLOW_TEST_SEED=7 IRONFLOW_TEST_ROUNDS=100` runs a hundred plans from seed 7 on instead of the usual few.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { afterAll, assert, describe, it } from "vitest"
import { runPlan, runRemotePlan } from "./Chaos.ts"
import { judge } from "./Checker.ts"
import { type Fate, type Item, makePlan, type Place } from "./Plan.ts"
import { either, seeds } from "../Long.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-durability-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const newFolder = (): string => fs.mkdtempSync(path.join(folder, "shop-"))

const seedsToRun = seeds(1, 20)

describe.concurrent("a shop whose process is killed again and again", () => {
  for (const seed of seedsToRun) {
    it(`keeps every guarantee with seed ${seed}`, { timeout: 180_000 }, async () => {
      const evidence = await runPlan(makePlan(seed), newFolder(), cache)

      const { figures, violations } = judge(evidence)
      assert.deepStrictEqual(violations, [], `seed ${seed}`)
      assert.isAbove(figures.kills, 3)
      assert.isAbove(figures.executions, 20)
    })
  }
})

describe.concurrent("a shop whose worker and whose engine are killed and frozen again and again", () => {
  for (const transport of ["rpc", "connect"] as const) {
    for (const seed of seedsToRun.slice(0, Math.ceil(seedsToRun.length / 4))) {
      it(`keeps every guarantee over ${transport} with seed ${seed}`, { timeout: 300_000 }, async () => {
        const plan = makePlan(seed)
        const fates = plan.fates.slice(0, either(3, plan.fates.length))
        const evidence = await runRemotePlan({ ...plan, fates }, transport, newFolder(), cache)

        const { figures, violations } = judge(evidence)
        assert.deepStrictEqual(violations, [], `seed ${seed}`)
        assert.isAtLeast(figures.kills, 3)
        assert.isAbove(figures.executions, 20)
      })
    }
  }
})

const at = (place: Place, nth = 1, turns = 0): Fate => ({ _tag: "At", place, nth, turns })
const emit = (name: string, data: Extract<Item, { op: "emit" }>["data"]): Item => ({
  op: "emit",
  key: `${name}/1`,
  name,
  data: { work: 5, ...data }
})

/** Most of these events start a run in each style of handlers. A short run keeps only some of the fates. */
const moments: ReadonlyArray<
  readonly [what: string, fates: ReadonlyArray<Fate>, items: ReadonlyArray<Item>]
> = [
  [
    "in the body of a step",
    either([at("begin", 2), at("begin", 4)], [at("begin", 2), at("begin", 4), at("begin", 4)]),
    [emit("order.placed", { orderId: "o-1", pause: 20 })]
  ],
  [
    "while the result of a step is on its way to the disk",
    either(
      [at("end", 2, 0), at("end", 2, 2)],
      [at("end", 2, 0), at("end", 2, 1), at("end", 2, 2), at("end", 1, 3)]
    ),
    [emit("order.placed", { orderId: "o-1", pause: 20 })]
  ],
  [
    "between two attempts of a step",
    either([at("fail", 1, 0), at("fail", 2, 3)], [at("fail", 1, 0), at("fail", 2, 1), at("fail", 2, 3)]),
    [emit("text.requested", { failures: 3 })]
  ],
  [
    "in the middle of compensations",
    either(
      [at("compensation begin"), at("compensation end", 1, 3)],
      [
        at("compensation begin"),
        at("compensation end"),
        at("compensation end", 1, 3),
        at("compensation begin")
      ]
    ),
    [emit("trip.requested", { failAt: "end", stubborn: false })]
  ],
  [
    "right after it has acknowledged an event",
    either(
      [at("acknowledgement"), at("acknowledgement")],
      [at("acknowledgement"), at("acknowledgement"), at("acknowledgement")]
    ),
    [
      emit("order.placed", { orderId: "o-1", pause: 20 }),
      emit("bill.requested", { child: "good" }),
      emit("news.written", { pause: 20 }),
      emit("pages.requested", { printer: "p-1", pages: 2, pause: 10 })
    ]
  ],
  [
    "after it was frozen and another process has begun to take its place",
    [{ _tag: "Frozen", ms: 10, restMs: 10 }],
    [emit("order.placed", { orderId: "o-1", pause: 20 })]
  ]
]

describe.concurrent("a process that is killed", () => {
  for (const [what, fates, items] of moments) {
    it(`${what} loses nothing, whatever the style of its handlers`, { timeout: 120_000 }, async () => {
      const evidence = await runPlan({ seed: 0, items, fates }, newFolder(), cache)

      assert.deepStrictEqual(judge(evidence).violations, [])
      assert.strictEqual(evidence.killsAsPlanned, fates.length)
    })
  }
})
