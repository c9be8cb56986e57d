import { assert, describe, it, prop } from "@effect/vitest"
import { runInNewContext } from "node:vm"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { LimitExceededError, NonRetryableError, ValidationError } from "../src/Errors.ts"
import {
  byteLength,
  decodeJson,
  deepMerge,
  encodeJson,
  isObject,
  isPlainJson,
  safeJsonParse
} from "../src/Json.ts"

const nested = (levels: number): unknown => {
  let value: unknown = 1
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { a: value }
  return value
}

class Receipt {
  readonly id = "r-1"
  total() {
    return 3
  }
}

/** An object whose only field has no value. */
class Open {
  note = undefined
}

class Closed {
  readonly #secret = 1
  get revealed() {
    return this.#secret
  }
}

/** An error that defines its own form in JSON. */
class Declined extends Error {
  toJSON() {
    return { why: this.message }
  }
}

class Sold extends Data.TaggedError("Sold")<{ readonly item: string }> {}

const shared = { a: 1 }

describe("isPlainJson", () => {
  it.each([undefined, null, 1, "a", true, [1, { a: [null] }], { a: undefined }, Object.create(null)])(
    "holds for %o",
    (value) => assert.isTrue(isPlainJson(value))
  )

  it.each([
    1n,
    Number.NaN,
    [Number.POSITIVE_INFINITY],
    () => 1,
    Symbol("s"),
    new Date(0),
    [new Date(0)],
    { a: { b: 1n } },
    new Map(),
    new Receipt()
  ])("does not hold for %o", (value) => assert.isFalse(isPlainJson(value)))
})

describe("encodeJson", () => {
  it.each<readonly [value: unknown, text: string | undefined]>([
    [undefined, undefined],
    [null, "null"],
    [true, "true"],
    [false, "false"],
    [1.5, "1.5"],
    [-0, "0"],
    [1e21, "1e+21"],
    [Number.NaN, "null"],
    [Number.POSITIVE_INFINITY, "null"],
    ['say "hi"\n\u2028', JSON.stringify('say "hi"\n\u2028')],
    ["\ud800", '"\\ud800"'],
    [[1, undefined, Number.NaN], "[1,null,null]"],
    [{ a: undefined, b: 1 }, '{"b":1}'],
    [new Date(0), '"1970-01-01T00:00:00.000Z"'],
    [{ at: new Date(0) }, '{"at":"1970-01-01T00:00:00.000Z"}'],
    [new Date(Number.NaN), "null"],
    [new Receipt(), '{"id":"r-1"}'],
    [[shared, shared], '[{"a":1},{"a":1}]'],
    [JSON.parse('{"__proto__":{"polluted":true}}'), '{"__proto__":{"polluted":true}}'],
    [{ toJSON: () => ({ shown: 1 }) }, '{"shown":1}'],
    [{ toJSON: () => undefined }, undefined],
    [Object.assign(() => 1, { toJSON: () => "fn" }), '"fn"'],
    [Object.create(null, { a: { value: 1, enumerable: true } }), '{"a":1}'],
    [{}, "{}"],
    [Object.create(null), "{}"],
    [runInNewContext("({ a: [{}] })"), '{"a":[{}]}'],
    [new Open(), "{}"],
    [new Uint8Array(2), '{"0":0,"1":0}'],
    [[new String("a"), new String(""), new Number(1), new Boolean(false)], '["a","",1,false]'],
    [new URL("https://example.com"), '"https://example.com/"'],
    [new Declined("no"), '{"why":"no"}'],
    [Option.some(1), '{"_id":"Option","_tag":"Some","value":1}']
  ])("writes %o as %s", (value, text) => {
    assert.strictEqual(encodeJson(value, "value"), text)
  })

  const cyclic: { items: Array<unknown> } = { items: [] }
  cyclic.items.push({ back: cyclic })
  it.each<readonly [what: string, value: unknown, message: string]>([
    ["a BigInt", 1n, "$ is a BigInt"],
    ["a nested BigInt", { items: [1, 2, { price: 3n }] }, "$.items[2].price is a BigInt"],
    ["a function", () => 1, "$ is a function"],
    ["a field that is a function", { a: { send: () => 1 } }, "$.a.send is a function"],
    ["a symbol", Symbol("s"), "$ is a symbol"],
    ["a symbol in a list", [Symbol("s")], "$[0] is a symbol"],
    ["a field whose name is not an identifier", { "a b": 1n }, '$["a b"] is a BigInt'],
    ["a Map", new Map([["a", 1]]), "$ is a Map"],
    ["a nested Map", { stock: [new Map()] }, "$.stock[0] is a Map"],
    ["a Set", { items: new Set([1]) }, "$.items is a Set"],
    ["an empty Map", new Map(), "$ is a Map, which JSON cannot represent"],
    ["a Map with fields", Object.assign(new Map(), { name: "stock" }), "$ is a Map"],
    [
      "a RegExp",
      { pattern: /a/ },
      "$.pattern is a RegExp, which JSON cannot represent (it would become {}); convert it"
    ],
    ["Headers", [new Headers({ a: "b" })], "$[0] is a Headers"],
    ["URLSearchParams", new URLSearchParams("a=1"), "$ is a URLSearchParams"],
    ["an ArrayBuffer", { a: { body: new ArrayBuffer(2) } }, "$.a.body is an ArrayBuffer"],
    ["a DataView", new DataView(new ArrayBuffer(2)), "$ is a DataView"],
    ["an empty Uint8Array", new Uint8Array(0), "$ is a Uint8Array"],
    ["a Blob", new Blob(["a"]), "$ is a Blob"],
    ["FormData", new FormData(), "$ is a FormData"],
    ["a Response", { answer: new Response("ok") }, "$.answer is a Response"],
    ["an AbortSignal", new AbortController().signal, "$ is an AbortSignal"],
    ["an iterator", { rows: [1].values() }, "$.rows is an Array Iterator"],
    ["a generator", [(function* () {})()], "$[0] is a Generator"],
    ["a WeakMap", new WeakMap(), "$ is a WeakMap"],
    ["a boxed symbol", Object(Symbol("s")), "$ is a Symbol"],
    ["an instance without fields", { a: new Closed() }, "$.a is a Closed"],
    ["a Map of another realm", runInNewContext("new Map([[1, 2]])"), "$ is a Map"],
    ["an error", new Error("gone"), "$ is an error (Error), whose stack may reveal internals"],
    ["a nested error", { a: [new TypeError("gone")] }, "$.a[0] is an error (TypeError)"],
    ["an error with fields", Object.assign(new Error("gone"), { code: "E" }), "$ is an error (Error)"],
    ["an error of ours", { e: new NonRetryableError("gone") }, "$.e is an error (NonRetryableError)"],
    ["an error of another realm", runInNewContext("new RangeError('x')"), "$ is an error (RangeError)"],
    ["a DOMException", { e: new DOMException("gone", "AbortError") }, "$.e is an error (AbortError)"],
    ["a failure of Effect", [new Sold({ item: "tea" })], "$[0] is an error (Sold)"],
    ["a Cause of Effect", Cause.fail(new Sold({ item: "tea" })), "$.reasons[0].error is an error (Sold)"],
    ["an error that toJSON returns", { toJSON: () => new Error("gone") }, "$ is an error (Error)"],
    ["a promise that was not awaited", { user: Promise.resolve(1) }, "$.user is a promise; await it first"],
    ["a cycle", cyclic, "$.items[0].back refers back"],
    ["the result of toJSON", { a: { toJSON: () => ({ n: 1n }) } }, "$.a.n is a BigInt"]
  ])("refuses %s with an error that names the path", (_what, value, message) => {
    assert.throws(() => encodeJson(value, 'result of step "charge"'), ValidationError)
    assert.throws(
      () => encodeJson(value, 'result of step "charge"'),
      `Result of step "charge" cannot be stored: ${message}`
    )
  })

  it.each<readonly [what: string, value: unknown]>([
    [
      "toJSON",
      {
        toJSON: () => {
          throw new Error("gone")
        }
      }
    ],
    [
      "a getter",
      {
        get a() {
          throw new Error("gone")
        }
      }
    ]
  ])("refuses a value whose %s throws, and says what was thrown", (_what, value) => {
    assert.throws(() => encodeJson(value, "input"), ValidationError)
    assert.throws(() => encodeJson(value, "input"), 'Input cannot be stored: reading it threw "gone"')
  })

  it("allows 100 levels, and no more", () => {
    assert.strictEqual(encodeJson(nested(100), "value"), JSON.stringify(nested(100)))
    assert.throws(() => encodeJson(nested(101), "value"), LimitExceededError)
    assert.throws(() => encodeJson(nested(100_000), "value"), /too large: more than 100 levels/)
  })

  prop(
    "and decodeJson are inverse for every JSON value",
    { value: Arbitrary.schema(Schema.Json) },
    ({ value }) => {
      const text = encodeJson(value, "value")

      assert.strictEqual(text, JSON.stringify(value))
      assert.deepStrictEqual(decodeJson(text), JSON.parse(JSON.stringify(value)))
    }
  )
})

describe("decodeJson", () => {
  it("returns undefined for undefined", () => {
    assert.isUndefined(decodeJson(undefined))
  })

  it("keeps __proto__ as a plain property", () => {
    const value = decodeJson('{"__proto__":{"admin":true}}') as { readonly admin?: boolean }

    assert.isTrue(Object.hasOwn(value, "__proto__"))
    assert.isUndefined(value.admin)
  })

  it.each(["", "{", "undefined", "{'a':1}"])("refuses %o", (text) => {
    assert.throws(() => decodeJson(text), ValidationError)
  })
})

describe("small JSON tools", () => {
  it.each<readonly [string, number]>([
    ["", 0],
    ["abc", 3],
    ["é", 2],
    ["€", 3],
    ["😀", 4]
  ])("byteLength(%o) is %d", (text, bytes) => {
    assert.strictEqual(byteLength(text), bytes)
  })

  it("safeJsonParse returns the default for text that is not JSON", () => {
    assert.deepStrictEqual(safeJsonParse('{"a":1}'), { a: 1 })
    assert.isUndefined(safeJsonParse("{"))
    assert.strictEqual(safeJsonParse("{", 7), 7)
  })

  it.each<readonly [unknown, boolean]>([
    [{}, true],
    [new Date(), true],
    [[], false],
    [null, false],
    ["x", false],
    [undefined, false]
  ])("isObject(%o) is %s", (value, expected) => {
    assert.strictEqual(isObject(value), expected)
  })

  it("deepMerge merges plain objects, replaces everything else, and changes neither argument", () => {
    const target = { a: { x: 1, y: 1 }, list: [1], kept: true, when: new Date(0) }
    const source = { a: { y: 2, z: 3 }, list: [2], kept: undefined, when: new Date(1) }

    const merged = deepMerge(target, source)

    assert.deepStrictEqual<unknown>(merged, {
      a: { x: 1, y: 2, z: 3 },
      list: [2],
      kept: true,
      when: new Date(1)
    })
    assert.deepStrictEqual(target, { a: { x: 1, y: 1 }, list: [1], kept: true, when: new Date(0) })
  })

  it("deepMerge does not let __proto__ reach a prototype", () => {
    const merged = deepMerge({}, JSON.parse('{"__proto__":{"admin":true}}') as object) as {
      readonly admin?: boolean
    }

    assert.isUndefined(merged.admin)
    assert.isUndefined(({} as { readonly admin?: boolean }).admin)
  })
})
