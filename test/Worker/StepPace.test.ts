/** Steps whose code blocks the event loop. */
import { assert, describe, it } from "vitest"
import { StepPace } from "../../src/Worker/StepPace.ts"

const turnOfTheLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Logs the beginning of each turn of the event loop. */
const watchTurns = (log: Array<string>): { readonly stop: () => void } => {
  const mark = () => {
    log.push("turn")
    next = setImmediate(mark)
  }
  let next = setImmediate(mark)
  return { stop: () => clearImmediate(next) }
}

describe("the pace of a worker", () => {
  it("begins quick steps at once, and lets the event loop turn after each step that blocks it", async () => {
    let now = 0
    const log: Array<string> = []
    const pace = new StepPace(() => now)
    const step = (name: string, ms: number) =>
      pace.begin(() => {
        log.push(name)
        now += ms
      })
    const turns = watchTurns(log)

    step("quick 1", 1)
    step("quick 2", 1)
    step("slow 1", 600)
    step("slow 2", 600)
    step("quick 3", 1)
    await turnOfTheLoop()
    await turnOfTheLoop()
    turns.stop()

    assert.deepStrictEqual(log, ["quick 1", "quick 2", "slow 1", "turn", "slow 2", "turn", "quick 3"])
  })

  it("lets the event loop turn also when code blocks after promises that are already settled", async () => {
    let now = 0
    const log: Array<string> = []
    const pace = new StepPace(() => now)
    const step = (name: string) =>
      pace.begin(async () => {
        log.push(name)
        await Promise.resolve()
        await Promise.resolve()
        now += 600
      })
    const turns = watchTurns(log)

    step("first")
    step("second")
    step("third")
    await turnOfTheLoop()
    await turnOfTheLoop()
    turns.stop()

    assert.deepStrictEqual(log, ["first", "turn", "second", "turn", "third"])
  })

  it("begins no step until the engine has answered, when it has sent nothing for long", async () => {
    let recent = false
    const asked: Array<() => void> = []
    const begun: Array<string> = []
    const pace = new StepPace(() => 0, { isRecent: () => recent, renew: (then) => asked.push(then) })
    const step = (name: string) => pace.begin(() => begun.push(name))

    step("first")
    step("second")
    for (let i = 0; i < 3; i++) await turnOfTheLoop()
    assert.deepStrictEqual([begun, asked.length], [[], 1])

    recent = true
    asked[0]!()
    await turnOfTheLoop()
    assert.deepStrictEqual(begun, ["first", "second"])
  })
})
