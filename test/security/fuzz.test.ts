/**
 * A short run of the fuzzer: ten inputs over every transport, with and without keys. `IRONFLOW_TEST_SEED=7` sends others, and
 * `npm run fuzz -- --seed 7 --minutes 10` starts a long run.
 */
import process from "node:process"
import { assert, describe, it } from "vitest"
import { makeDice } from "../durability/Plan.ts"
import { fuzz } from "./fuzz/Fuzzer.ts"
import { mutateBody, mutateJson } from "./fuzz/Mutate.ts"
import { diceFor, transports } from "./fuzz/Inputs.ts"

const seed = Number(process.env.IRONFLOW_TEST_SEED ?? 1)
const count = 10 * transports.length

describe("a server that gets odd inputs", () => {
  it.each([
    ["with keys", true],
    ["without keys", false]
  ])("%s stays up, fast and small, and a client continues to work", async (_mode, withKeys) => {
    const { broken, inputs, report } = await fuzz({ seed, withKeys, count })

    if (broken !== undefined) assert.fail(broken)
    assert.strictEqual(inputs, count)
    assert.isAbove(report?.runs ?? 0, 0)
  })
})

describe("the watcher", () => {
  it("reports failures with the seed and the last inputs", async () => {
    const { broken } = await fuzz({ seed, withKeys: false, count: 100_000, bounds: { rssMb: 50 } })

    assert.match(broken ?? "", /^The (server|app) has \d+ MB in memory/)
    assert.include(broken, `npm run fuzz -- --seed ${seed} --open --from `)
  })
})

describe("inputs", () => {
  it("are the same for the same seed", () => {
    const value = { event: "order.placed", data: { lines: [1, 2] } }
    const bodies = (one: number) =>
      Array.from({ length: 200 }, (_, i) => String(mutateBody(diceFor(one, i), value)))

    assert.deepStrictEqual(bodies(seed), bodies(seed))
    assert.notDeepEqual(bodies(seed), bodies(seed + 1))
  })

  it("made from JSON are JSON, and hardly ever unchanged", () => {
    const dice = makeDice(seed)
    const value = { event: "order.placed", data: { lines: [1, 2] } }
    const texts = Array.from({ length: 500 }, () => mutateJson(dice, value))

    for (const text of texts) assert.doesNotThrow(() => JSON.parse(text))
    assert.isBelow(texts.filter((text) => text === JSON.stringify(value)).length, 50)
  })
})
