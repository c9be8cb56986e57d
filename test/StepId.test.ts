import { assert, describe, it } from "@effect/vitest"
import {
  branchScope,
  compensationKey,
  escapeName,
  publishName,
  stepId,
  StepKeys,
  verdictKey
} from "../src/StepId.ts"

describe("step ids", () => {
  for (const [name, escaped] of [
    ["charge", "charge"],
    ["", ""],
    ["a:b", "a\\:b"],
    ["a\\b", "a\\\\b"],
    ["a\\:b", "a\\\\\\:b"],
    ["::", "\\:\\:"],
    ["Größe 😀", "Größe 😀"]
  ] as const) {
    it(`the name ${JSON.stringify(name)} is ${JSON.stringify(escaped)} in keys`, () => {
      assert.strictEqual(escapeName(name), escaped)
    })
  }

  it("are made of their parts as in the protocol", () => {
    assert.strictEqual(stepId("run_1", "charge:0"), "run_1:charge:0")
    assert.strictEqual(publishName("orders"), "publish:orders")
    assert.strictEqual(publishName("orders:eu"), "publish:orders\\:eu")
    assert.strictEqual(compensationKey("charge", 0), "compensate:charge:0")
    assert.strictEqual(compensationKey("a:b", 2), "compensate:a\\:b:2")
    assert.strictEqual(branchScope("outer:0:inner", 1), "outer:0:inner:1:")
    assert.strictEqual(verdictKey("fetch-all"), "fetch-all:verdict")
  })

  it("count the uses of a name within its scope only", () => {
    const root = new StepKeys("")
    const branch = new StepKeys(branchScope(root.nextParallel("fetch-all"), 1))
    assert.deepStrictEqual(
      [
        root.next("charge"),
        root.next("charge"),
        root.next("ship"),
        branch.next("charge"),
        branch.next("charge")
      ],
      ["charge:0", "charge:1", "ship:0", "fetch-all:1:charge:0", "fetch-all:1:charge:1"]
    )
  })

  it("number a parallel name that is used again, which does not count as a step", () => {
    const root = new StepKeys("")
    assert.deepStrictEqual(
      [
        root.nextParallel("all"),
        root.nextParallel("all"),
        root.next("all"),
        root.nextParallel("a:b"),
        root.nextParallel("all")
      ],
      ["all", "all~1", "all:0", "a\\:b", "all~2"]
    )
  })
})
