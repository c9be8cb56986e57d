/** Steps whose code keeps the event loop busy. */
import { assert, it } from "vitest"
import { Pace } from "../../src/Worker/Pace.ts"

const turnOfTheLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

it("begins quick steps at once, and lets the event loop turn after each that keeps it busy", async () => {
  let now = 0
  const begun: Array<string> = []
  const pace = new Pace(() => now)
  const step = (name: string, ms: number) =>
    pace.begin(() => {
      begun.push(name)
      now += ms
    })

  step("quick 1", 1)
  step("quick 2", 1)
  step("slow 1", 600)
  step("slow 2", 600)
  step("quick 3", 1)
  assert.deepStrictEqual(begun, ["quick 1", "quick 2", "slow 1"])

  await turnOfTheLoop()
  assert.deepStrictEqual(begun.slice(3), ["slow 2"])
  await turnOfTheLoop()
  assert.deepStrictEqual(begun.slice(4), ["quick 3"])
})
