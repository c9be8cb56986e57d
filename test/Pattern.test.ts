import { assert, describe, it, prop } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { ValidationError } from "../src/Errors.ts"
import { checkPattern, compilePattern, isPattern, matchesPattern, patterns } from "../src/Pattern.ts"

describe("matchesPattern", () => {
  it.each<readonly [pattern: string, name: string, expected: boolean]>([
    ["order.placed", "order.placed", true],
    ["order.placed", "order.place", false],
    ["order.placed", "order.placed.late", false],
    ["order.*", "order.placed", true],
    ["order.*", "order", false],
    ["order.*", "order.", false],
    ["order.*", "order.item.added", false],
    ["order.*", "orders.placed", false],
    ["*.placed", "order.placed", true],
    ["*.placed", "placed", false],
    ["order.*.added", "order.item.added", true],
    ["order.*.added", "order.item.removed", false],
    ["order.>", "order.placed", true],
    ["order.>", "order.item.added", true],
    ["order.>", "order", false],
    ["order.*.>", "order.item", false],
    ["order.*.>", "order.item.added", true],
    [">", "order", true],
    [">", "order.item.added", true],
    ["*", "order", true],
    ["*", "order.placed", false],
    ["or*", "order", false],
    ["order.placed", "order.*", false]
  ])("%s against %s: %s", (pattern, name, expected) => {
    assert.strictEqual(matchesPattern(pattern, name), expected)
  })

  const Token = Schema.String.check(Schema.isPattern(/^[a-z]{1,3}$/))
  const tokens = Arbitrary.schema(Schema.NonEmptyArray(Token))
  prop(
    "is true for a name with any of its tokens replaced by *, and its tail by >",
    { tokens },
    ({ tokens }) => {
      const name = tokens.join(".")

      for (const [i] of tokens.entries()) {
        assert.isTrue(matchesPattern(tokens.map((token, j) => (i === j ? "*" : token)).join("."), name))
        assert.isTrue(matchesPattern([...tokens.slice(0, i), ">"].join("."), name))
        assert.isFalse(matchesPattern([...tokens, "*"].join("."), name))
      }
    }
  )
})

describe("compilePattern", () => {
  it("checks names against a pattern", () => {
    assert.deepStrictEqual(["order.placed", "order.a.b", "x"].map(compilePattern("order.*")), [
      true,
      false,
      false
    ])
    assert.deepStrictEqual(["order.placed", "order"].map(compilePattern("order.placed")), [true, false])
  })

  it.each<readonly [unknown, string]>([
    ["", "not blank"],
    [" ", "not blank"],
    [undefined, "got undefined"],
    ["order..placed", "empty token"],
    [".order", "empty token"],
    ["order.", "empty token"],
    ["order.>.x", 'the wildcard ">" may only stand at the end'],
    ["ord*", "a wildcard must be a whole token"],
    ["order.**", "a wildcard must be a whole token"],
    ["order placed", "white space"],
    ["x".repeat(257), "257 characters"]
  ])("refuses %o", (pattern, message) => {
    assert.throws(() => compilePattern(pattern as string), ValidationError)
    assert.throws(() => checkPattern(pattern, "trigger event"), /^The trigger event /)
    assert.throws(() => checkPattern(pattern), message)
  })
})

describe("isPattern", () => {
  it.each<readonly [string, boolean]>([
    ["order.placed", false],
    ["order.*", true],
    [">", true],
    ["a.*.b", true],
    ["or*er", false],
    ["", false]
  ])("%o: %s", (text, expected) => {
    assert.strictEqual(isPattern(text), expected)
  })
})

describe("patterns", () => {
  it("makes the patterns to which a client can subscribe", () => {
    assert.deepStrictEqual(
      [
        patterns.allRuns(),
        patterns.run("r"),
        patterns.runLifecycle("r"),
        patterns.runSteps("r"),
        patterns.allFunctions(),
        patterns.function("f"),
        patterns.userEvent("order.*"),
        patterns.allUserEvents(),
        patterns.allSecrets(),
        patterns.secret("s"),
        patterns.secretAction("created"),
        patterns.topic("orders"),
        patterns.allTopics()
      ],
      [
        "system.run.>",
        "system.run.r.>",
        "system.run.r.*",
        "system.run.r.step.>",
        "system.function.>",
        "system.function.f.>",
        "events:order.*",
        "events:>",
        "system.secret.*",
        "system.secret.s.*",
        "system.secret.*.created",
        "topic:orders",
        "topic:>"
      ]
    )
  })
})
