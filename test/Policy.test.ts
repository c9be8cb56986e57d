import { assert, describe, it } from "vitest"
import { MAX_SHARED_STEPS, MAX_EXPRESSION_STEPS, expressionSteps } from "../src/ExpressionBudget.ts"
import {
  checkActions,
  checkResources,
  matchesGlob,
  overlapsGlob,
  Permissions,
  type PolicyRule
} from "../src/Policy.ts"

describe("matchesGlob", () => {
  it.each([
    ["*", "", true],
    ["*", "anything", true],
    ["emit:*", "emit:event", true],
    ["emit:*", "emit", false],
    ["event:order.*", "event:order.placed", true],
    ["event:order.*", "event:payment.made", false],
    ["*:read", "run:read", true],
    ["a*b*c", "a1b2b3c", true],
    ["a*b*c", "a1b2b3", false],
    ["run", "run:read", false],
    ["a*a", "a", false],
    ["ab*ba", "aba", false],
    ["a**b", "ab", true],
    ["*ab", "aab", true],
    ["*ab*b", "xabab", true],
    ["*ab*ab", "xabxb", false],
    ["", "", true],
    ["", "a", false]
  ])("%s on %s is %s", (pattern, text, fits) => assert.strictEqual(matchesGlob(pattern, text), fits))

  it("does not take long with many stars", () => {
    assert.isFalse(matchesGlob("*a".repeat(250), `${"a".repeat(1000)}b`))
  })
})

it.each(["*", "emit:*, run:cancel", "*:read", "apikey:create"])("%s are actions", (text) =>
  assert.strictEqual(checkActions(text), text)
)
it.each(["", " ", "fly:*", "EMIT:*", "emit:*,", null, 5])("%j are not actions", (text) =>
  assert.throws(() => checkActions(text), /polic/)
)
it.each(["*", "event:order.*, run:*", "secret:STRIPE_KEY"])("%s are resources", (text) =>
  assert.strictEqual(checkResources(text), text)
)
it.each(["", "order.*", "planet:x", "event:", "event:a b", {}])("%j are not resources", (text) =>
  assert.throws(() => checkResources(text), /polic/)
)

describe("overlapsGlob", () => {
  it.each([
    ["", "", true],
    ["", "*", true],
    ["a", "", false],
    ["a*", "*b", true],
    ["a*c", "abd", false],
    ["a*c", "a*d", false],
    ["a*c", "abc", true],
    ["*a*", "b*b", true],
    ["order.*", "*.paid", true],
    ["order.*", "salary.*", false]
  ])("%s and %s: %s", (one, other, overlaps) => {
    assert.strictEqual(overlapsGlob(one, other), overlaps)
    assert.strictEqual(overlapsGlob(other, one), overlaps)
  })
})

describe("Permissions", () => {
  const context = { environment: "default", key: { id: "key_1", name: "ci" }, now: () => 0 }
  const allow: PolicyRule = { name: "a", effect: "allow", actions: "emit:*", resources: "event:order.*" }
  const reasonOf = (rules: ReadonlyArray<PolicyRule>, resource = "event:order.placed") =>
    new Permissions(rules).denial("emit:event", resource, context)?.reason

  it.each<[string, ReadonlyArray<PolicyRule>, string | undefined]>([
    ["without a policy nothing is allowed", [], "nothing allows it"],
    ["a matching policy allows the action", [allow], undefined],
    ["a policy for other actions does not allow it", [{ ...allow, actions: "run:*" }], "nothing allows it"],
    ["a deny before an allow wins", [{ ...allow, effect: "deny" }, allow], "a policy denies it"],
    ["a deny after an allow wins", [allow, { ...allow, effect: "deny" }], "a policy denies it"],
    [
      "a deny wins against an allow of everything",
      [
        { ...allow, actions: "*", resources: "*" },
        { ...allow, effect: "deny" }
      ],
      "a policy denies it"
    ],
    [
      "a deny alone does not allow other actions",
      [{ ...allow, effect: "deny", resources: "event:x" }],
      "nothing allows it"
    ],
    [
      "a policy whose condition is true allows the action",
      [{ ...allow, condition: 'request.key.name == "ci"' }],
      undefined
    ],
    [
      "a policy whose condition is false does not allow it",
      [{ ...allow, condition: 'request.name == "x"' }],
      "nothing allows it"
    ],
    [
      "a policy whose condition fails denies the action",
      [{ ...allow, condition: "request.x.y == 1" }, allow],
      "a condition failed"
    ],
    [
      "a deny whose condition fails denies the action",
      [allow, { ...allow, effect: "deny", condition: "request.x.y == 1" }],
      "a condition failed"
    ],
    [
      "a policy whose condition is invalid denies the action",
      [{ ...allow, condition: "(((" }],
      "a condition failed"
    ]
  ])("%s", (_title, rules, reason) => assert.strictEqual(reasonOf(rules), reason))

  it("does not compare a resource with patterns when it is longer than any name", () => {
    const rules = [{ ...allow, resources: "event:*a*a*a*b, event:*" }]
    const denial = (length: number) =>
      new Permissions(rules).denial("emit:event", `event:${"a".repeat(length)}`, context)

    assert.isUndefined(denial(256))
    assert.deepStrictEqual(denial(4_000_000), { reason: "nothing allows it" })
  })

  it("limit the time of all checks in a turn together, and always leave enough for simple conditions", async () => {
    const loop = (inner: string) => `[${Array(60).fill(1).join()}].all(x, ${inner})`
    const heavy = new Permissions([
      { ...allow, resources: "*", condition: loop(loop("request.name != 'x'")) }
    ])
    const simple = new Permissions([{ ...allow, resources: "*", condition: "request.name != 'x'" }])
    const allowed = (permissions: Permissions, many: number): number => {
      let count = 0
      for (let i = 0; i < many; i++) {
        if (permissions.denial("emit:event", `event:e-${i}`, context) === undefined) count++
      }
      return count
    }

    const before = expressionSteps()
    const some = allowed(heavy, 2000)
    assert.isAbove(some, 20)
    assert.isBelow(expressionSteps() - before, MAX_SHARED_STEPS + 3 * MAX_EXPRESSION_STEPS + 2000 * 1000)
    assert.isBelow(some, 1000)
    // the permissions of another key have a budget of their own
    assert.strictEqual(allowed(simple, 20_000), 20_000)
    await new Promise((resolve) => setImmediate(resolve))
    assert.strictEqual(allowed(heavy, 20), 20)
  })
})
