import { assert, describe, it } from "@effect/vitest"
import { ClosingGroups } from "../../src/Execution/ClosingGroups.ts"
import { BranchGroup, StepScope } from "../../src/Execution/StepScope.ts"

/** A turn whose time the test controls. */
const start = () => {
  const drains: Array<() => void> = []
  const running = new Set<BranchGroup>()
  const outcomes = { isSettled: true, pumped: 0, pump: () => void outcomes.pumped++ }
  const turn = { activityCount: 0, outcomes, running, whenDrained: (fn: () => void) => void drains.push(fn) }
  const closings = new ClosingGroups(turn)
  /** Runs everything that follows from what has just happened. */
  const drain = () => {
    for (const fn of drains.splice(0)) fn()
  }
  const closed: Array<string> = []
  const add = (name: string, group: BranchGroup) => closings.add(group, () => void closed.push(name))
  return { add, closed, closings, drain, running, turn }
}

const rootGroup = new BranchGroup(undefined)
const groupIn = (outer: BranchGroup): BranchGroup => new BranchGroup(new StepScope(outer, "all:0:"))

describe("ClosingGroups", () => {
  it("a group closes once all code that follows the end of its steps has run", () => {
    const { add, closed, closings, drain } = start()
    add("group", groupIn(rootGroup))

    closings.check()
    assert.deepStrictEqual(closed, [])
    drain()

    assert.deepStrictEqual(closed, ["group"])
    assert.strictEqual(closings.size, 0)
    closings.check()
    drain()
    assert.deepStrictEqual(closed, ["group"])
  })

  it("a group with running steps does not close, and another one does", () => {
    const { add, closed, closings, drain, running } = start()
    const busy = groupIn(rootGroup)
    running.add(busy)
    add("busy", busy)
    add("idle", groupIn(rootGroup))

    closings.check()
    drain()

    assert.deepStrictEqual([closed, closings.size], [["idle"], 1])
  })

  it("nothing closes while outcomes are on their way to the handler", () => {
    const { add, closed, closings, drain, turn } = start()
    turn.outcomes.isSettled = false
    add("group", groupIn(rootGroup))

    closings.check()
    drain()

    assert.deepStrictEqual([closed, closings.size], [[], 1])
  })

  it("an inner group closes before the outer one, which is checked again", () => {
    const { add, closed, closings, drain } = start()
    const outer = groupIn(rootGroup)
    add("outer", outer)
    add("inner", groupIn(outer))

    closings.check()
    drain()
    assert.deepStrictEqual(closed, ["inner"])

    closings.check()
    drain()
    assert.deepStrictEqual(closed, ["inner", "outer"])
  })

  for (const [what, happens] of [
    ["activity of the handler", ({ turn }) => turn.activityCount++],
    ["a step that begins", ({ group, running }) => running.add(group)],
    ["an undelivered outcome", ({ turn }) => (turn.outcomes.isSettled = false)]
  ] as ReadonlyArray<
    [string, (given: Pick<ReturnType<typeof start>, "running" | "turn"> & { group: BranchGroup }) => unknown]
  >) {
    it(`${what} in between delays the end`, () => {
      const { add, closed, closings, drain, running, turn } = start()
      const group = groupIn(rootGroup)
      add("group", group)

      closings.check()
      happens({ group, running, turn })
      drain()
      assert.deepStrictEqual([closed, turn.outcomes.pumped], [[], 1])

      running.clear()
      turn.outcomes.isSettled = true
      closings.check()
      drain()
      assert.deepStrictEqual(closed, ["group"])
    })
  }

  it("a second check does not close twice", () => {
    const { add, closed, closings, drain } = start()
    add("group", groupIn(rootGroup))

    closings.check()
    closings.check()
    drain()

    assert.deepStrictEqual(closed, ["group"])
  })

  it("a group that is no longer awaited does not close", () => {
    const { add, closed, closings, drain } = start()
    add("group", groupIn(rootGroup))

    closings.check()
    closings.clear()
    drain()

    assert.deepStrictEqual([closed, closings.size], [[], 0])
  })
})
