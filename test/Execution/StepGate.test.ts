import { assert, describe, it } from "@effect/vitest"
import { type Progress, StepGate } from "../../src/Execution/StepGate.ts"
import { BranchGroup, StepScope } from "../../src/Execution/StepScope.ts"
import { StepCall, type StepWork } from "../../src/Execution/StepCall.ts"

const scope = new StepScope(new BranchGroup(undefined), "")
const call = (key: string, work: StepWork): StepCall =>
  new StepCall(key, key, isSleep(work) ? "sleep" : "run", scope, work, () => undefined)
const isSleep = (work: StepWork): boolean => "_tag" in work
const sleep = call("nap", { _tag: "Sleep", stepKey: "nap", name: "nap", due: { afterMs: 1 } })
const code = call("charge", {
  begin: () => undefined,
  timeout: undefined,
  retry: { maxAttempts: 1, initialDelayMs: 0, backoffFactor: 1, maxDelayMs: 0 }
})

describe("StepGate", () => {
  for (const [when, given, begins] of [
    ["the handler has caught up, and all is durable", {}, ["nap", "charge"]],
    ["the handler has not caught up", { isCaughtUp: false }, []],
    ["a report is not durable", { isDurable: false }, ["nap"]],
    ["the handler has not seen an outcome", { isEmpty: false }, ["nap"]],
    ["the turn wraps up", { isWrappingUp: true }, ["nap"]],
    ["the run is to be paused", { isPausing: true }, []]
  ] as ReadonlyArray<
    [string, Partial<Progress> & { isPausing?: true; isWrappingUp?: true }, ReadonlyArray<string>]
  >) {
    const make = (): StepGate => {
      const gate = new StepGate({ isCaughtUp: true, isEmpty: true, isDurable: true, ...given })
      gate.isPausing = given.isPausing === true
      gate.isWrappingUp = given.isWrappingUp === true
      return gate
    }

    it(`when ${when}, ${begins.join(" and ") || "no call"} ${begins.length > 1 ? "begin" : "begins"}`, () => {
      const gate = make()
      assert.deepStrictEqual(
        [sleep, code].filter((each) => gate.mayBegin(each)).map(({ key }) => key),
        begins
      )
    })

    it(`when ${when}, the same is true of calls that were held back`, () => {
      const gate = make()
      gate.keep(code)
      gate.keep(sleep)

      assert.deepStrictEqual(
        gate.take().map(({ key }) => key),
        begins
      )
      assert.deepStrictEqual(
        [gate.heldOps, gate.heldCode],
        [begins.includes("nap") ? 0 : 1, begins.includes("charge") ? 0 : 1]
      )
      if (begins.length === 2) assert.deepStrictEqual(gate.take(), [])
    })
  }

  it("drops calls when it is cleared", () => {
    const gate = new StepGate({ isCaughtUp: true, isEmpty: true, isDurable: true })
    gate.keep(code)
    gate.keep(sleep)

    gate.clear()

    assert.deepStrictEqual([gate.heldOps, gate.heldCode, gate.take()], [0, 0, []])
  })
})
