import { assert, describe, it } from "@effect/vitest"
import { LimitExceededError, ValidationError } from "../src/Errors.ts"
import { compileExpression, evaluateExpression } from "../src/Expression.ts"

const over = (data: unknown) => ({ event: { name: "order.placed", data } })

describe("compileExpression", () => {
  it.each<readonly [expression: string, data: unknown, matched: boolean]>([
    ["event.data.priority > 5", { priority: 6 }, true],
    ["event.data.priority > 5", { priority: 5.5 }, true],
    ["event.data.priority > 5", { priority: 5 }, false],
    ["event.data.priority > 5", { priority: "6" }, false],
    ["event.data.priority > 5", { priority: null }, false],
    ["event.data.priority > 5", {}, false],
    ["event.data.priority > 5.2", { priority: 5 }, false],
    ["event.data.priority == 6", { priority: 6 }, true],
    ["event.data.priority in [5, 6]", { priority: 6 }, true],
    ["event.data.n + 1 > 6", { n: 5.5 }, true],
    ["1 + event.data.n == 6", { n: 5 }, true],
    ["event.data.n - 1 == 4", { n: 5 }, true],
    ["event.data.n * 2 == 11.0", { n: 5.5 }, true],
    ["event.data.n / 2 == 2.5", { n: 5 }, true],
    ["event.data.n % 2 == 0", { n: 4 }, true],
    ["event.data.n % event.data.m == 1", { n: 7, m: 3 }, true],
    ["event.data.tier == 'gold' && event.data.amount >= 100", { tier: "gold", amount: 100 }, true],
    ["has(event.data.x) && event.data.x == 1", {}, false],
    ["!has(event.data.x) || event.data.x == 1", {}, true],
    ["event.data.items.exists(item, item.price > 5)", { items: [{ price: 1 }, { price: 6 }] }, true],
    ["event.data.flag", { flag: true }, true],
    ["event.name == 'order.placed'", {}, true],
    ["event.data['a b'] == 1", { "a b": 1 }, true],
    ["true", {}, true]
  ])("%s of %o: %s", (expression, data, matched) => {
    const compiled = compileExpression(expression, ["event"])

    assert.strictEqual(compiled(over(data)), matched)
    assert.strictEqual(compiled.evaluate(over(data)).matched, matched)
  })

  it.each([
    ["that does not parse", `${"event.data.a == 1 && ".repeat(180)}event.data.here ==`, "event.data.here =="],
    ["that is not true or false", `'${"x".repeat(4000)}'`, "it must be true or false"],
    ["with `matches`", `event.data.a.matches("${"x".repeat(4000)}")`, "`matches` is not available"],
    ["with an unknown name", `${"true && ".repeat(400)}${"y".repeat(600)} == 1`, "at character 3201"]
  ])("quotes only the place of the mistake in a long expression %s", (_what, expression, says) => {
    const error = (() => {
      try {
        return compileExpression(expression, ["event"])
      } catch (error) {
        return error
      }
    })()

    assert.instanceOf(error, ValidationError)
    assert.include(error.message, says)
    assert.isBelow(error.message.length, 700)
  })

  it("compiles the same expression once", () => {
    assert.strictEqual(
      compileExpression("event.data.a == 1", ["event"]),
      compileExpression("event.data.a == 1", ["event"])
    )
  })

  it.each<readonly [expression: string, message: RegExp]>([
    ["", /not blank/],
    [{ toString: 1 } as unknown as string, /must be a string/],
    ["  ", /not blank/],
    ["event.data.x ==", /at character 16: Unexpected token.*Expressions start from `event`/],
    ["event.data.x = 1", /at character 1\d/],
    ["evnt.data.x == 1", /at character 1: Unknown variable: evnt/],
    ["trigger.data.x == 1", /Unknown variable: trigger.*start from `event`, as/],
    ["1 + 1", /must be true or false, got an expression of type int/],
    ["'a' + 1 == 'a1'", /no such overload/],
    ["event.data.s.matches('^(a+)+$')", /`matches` is not available.*startsWith/],
    ["event.data.xs.exists(x, matches(x, 'a'))", /matches/],
    [`${"(".repeat(100)}true${")".repeat(100)}`, /Invalid CEL expression/]
  ])("refuses %o with an error that says where the mistake is and what is allowed", (expression, message) => {
    assert.throws(() => compileExpression(expression, ["event"]), ValidationError)
    assert.throws(() => compileExpression(expression, ["event"]), message)
  })

  it("refuses more than 4096 characters", () => {
    const expression = `event.data.x == "${"a".repeat(4096)}"`

    assert.throws(() => compileExpression(expression, ["event"]), LimitExceededError)
  })
})

describe("evaluateExpression", () => {
  it("compares an awaited event with the triggering one", () => {
    const expression = "event.data.id == trigger.data.id && event.data.amount > trigger.data.amount"
    const trigger = { data: { id: "o-1", amount: 5 } }

    assert.deepStrictEqual(
      evaluateExpression(expression, { event: { data: { id: "o-1", amount: 6 } }, trigger }),
      {
        matched: true
      }
    )
    assert.deepStrictEqual(
      evaluateExpression(expression, { event: { data: { id: "o-2", amount: 6 } }, trigger }),
      {
        matched: false
      }
    )
  })

  it.each<readonly [expression: string, data: unknown, error: RegExp]>([
    ["event.data.x == 1", {}, /No such key: x/],
    ["event.data.x > 1", { x: "2" }, /no such overload/],
    ["event.data.x", { x: "yes" }, /must be true or false, got string/],
    ["event.data.constructor == 1", {}, /No such key: constructor/],
    ["event.data.__proto__ == 1", {}, /No such key: __proto__/],
    ["event.data.x ==", {}, /Invalid CEL expression/]
  ])("%s of %o does not match, and the error says why", (expression, data, error) => {
    const evaluation = evaluateExpression(expression, over(data))

    assert.isFalse(evaluation.matched)
    assert.match(evaluation.error ?? "", error)
  })
})
