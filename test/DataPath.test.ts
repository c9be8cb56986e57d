import { assert, describe, it } from "@effect/vitest"
import { isDataPath, readPath } from "../src/DataPath.ts"

describe("isPath", () => {
  it.each<readonly [string, boolean]>([
    ["data.requestId", true],
    ["event.data.customerId", true],
    ["$.data.customerId", true],
    ["data.items.0.sku", true],
    ["data.items[0].sku", true],
    ["data.request-id", true],
    ["x", true],
    ["", false],
    [" ", false],
    ["data.", false],
    [".data", false],
    ["data..id", false],
    ["data.a == 1", false],
    ["event.data.a==trigger.data.a", false],
    ["!event.data.a", false],
    ["size(event.data)", false],
    ['data["a"]', false],
    ["a\n", false],
    ["x".repeat(5000), false]
  ])("%o: %s", (text, expected) => {
    assert.strictEqual(isDataPath(text), expected)
  })
})

describe("readPath", () => {
  const root = {
    event: { data: { customerId: "c-1", zero: 0, none: null, items: [{ sku: "a" }, { sku: "b" }], "a-b": 1 } }
  }

  it.each<readonly [string, unknown]>([
    ["event.data.customerId", "c-1"],
    ["$.event.data.customerId", "c-1"],
    ["event.data.zero", 0],
    ["event.data.none", null],
    ["event.data.items.1.sku", "b"],
    ["event.data.items[1].sku", "b"],
    ["event.data.a-b", 1],
    ["event.data.missing", undefined],
    ["event.data.missing.deeper", undefined],
    ["event.data.none.deeper", undefined],
    ["event.data.customerId.length", undefined],
    ["event.data.items.2", undefined],
    ["event.data.items.length", undefined],
    ["event.data.constructor", undefined],
    ["event.data.__proto__", undefined],
    ["event.data.toString", undefined]
  ])("%s", (path, expected) => {
    assert.deepStrictEqual(readPath(root, path), expected)
  })

  it("reads a property of the data that has the name of an inherited one", () => {
    assert.strictEqual(readPath(JSON.parse('{"__proto__":{"constructor":1}}'), "__proto__.constructor"), 1)
  })

  it.each([undefined, null, "text", 5])("finds nothing in %o", (value) => {
    assert.isUndefined(readPath(value, "a.b"))
  })
})
