/** Which fields the form of an event has, whatever its schema is. */
import { assert, describe, it } from "vitest"
import {
  type DataField,
  dataFields,
  missingPaths,
  valueAt,
  withValue
} from "../../src/Console/Parts/DataFields.ts"

const text = { type: "string" }

/** The fields as `name: kind`, with a star when they are required. */
const describeFields = (fields: ReadonlyArray<DataField>): ReadonlyArray<string> =>
  fields.flatMap(({ fields: inner, isRequired, kind, path, values }) => [
    `${path.join(".")}${isRequired ? "*" : ""}: ${kind}${values === undefined ? "" : ` ${values.join("|")}`}`,
    ...describeFields(inner ?? [])
  ])

const fieldsOf = (properties: object, more: object = {}) =>
  describeFields(dataFields({ type: "object", properties, ...more }))

describe("the fields of data", () => {
  it("are those of its properties", () => {
    assert.deepStrictEqual(
      fieldsOf(
        {
          id: text,
          count: { type: "integer" },
          price: { anyOf: [{ type: "number" }, { type: "string", enum: ["Infinity", "-Infinity", "NaN"] }] },
          isGift: { type: "boolean" },
          note: { anyOf: [text, { type: "null" }] },
          size: { enum: ["s", "m", 3] },
          kind: { anyOf: [{ const: "a" }, { type: "string", enum: ["b"] }] },
          tags: { type: "array", items: text },
          either: { anyOf: [text, { type: "number" }] },
          to: { type: "object", properties: { city: text }, required: ["city"] },
          from: { $ref: "#/$defs/Place" },
          anything: {}
        },
        { required: ["id", "to"], $defs: { Place: { type: ["object", "null"], properties: { city: text } } } }
      ),
      [
        "id*: text",
        "count: integer",
        "price: number",
        "isGift: choice true|false",
        "note: text",
        "size: choice s|m|3",
        "kind: choice a|b",
        "tags: json",
        "either: json",
        "to*: group",
        "to.city*: text",
        "from: group",
        "from.city: text",
        "anything: json"
      ]
    )
  })

  it.each<readonly [what: string, schema: object]>([
    ["a schema that is not of an object", { type: "string" }],
    ["invalid properties", { properties: "x" }],
    ["properties that are not schemas", { properties: { a: 1, b: null, c: true, d: "x" } }],
    ["an empty schema", {}]
  ])("are none for %s", (_, schema) => {
    assert.deepStrictEqual(dataFields(schema as { [member: string]: unknown }), [])
  })

  it("are few and flat, whatever the schema is", () => {
    const Loop = { type: "object", properties: { next: { $ref: "#/$defs/Loop" } } }
    assert.deepStrictEqual(fieldsOf({ a: { $ref: "#/$defs/Loop" } }, { $defs: { Loop } }), [
      "a: group",
      "a.next: group",
      "a.next.next: json"
    ])
    assert.deepStrictEqual(fieldsOf({ a: { $ref: "#/$defs/a" } }, { $defs: { a: { $ref: "#/$defs/a" } } }), [
      "a: json"
    ])
    for (const $ref of ["#/$defs/none", "#/$defs/__proto__", "https://example.com/a", "#/properties/a"]) {
      assert.deepStrictEqual(fieldsOf({ a: { $ref } }, { $defs: {} }), ["a: json"])
    }
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`m${i}`, text]))
    assert.lengthOf(fieldsOf(many), 40)
  })
})

describe("data that is entered in fields", () => {
  it("keeps properties without a field, and their order", () => {
    const data = { a: 1, b: { c: 2, d: 3 }, e: 4 }
    assert.deepStrictEqual(withValue(data, ["b", "c"], 9), { a: 1, b: { c: 9, d: 3 }, e: 4 })
    assert.deepStrictEqual(Object.keys(withValue(data, ["a"], 9) as object), ["a", "b", "e"])
    assert.deepStrictEqual(withValue(data, ["a"], undefined), { b: { c: 2, d: 3 }, e: 4 })
    assert.deepStrictEqual(withValue(undefined, ["x", "y"], "z"), { x: { y: "z" } })
    assert.deepStrictEqual(withValue({ x: { y: "z" } }, ["x", "y"], undefined), {})
    assert.deepStrictEqual(withValue([1], ["x"], 1), { x: 1 })
  })

  it("allows odd names", () => {
    const named = withValue({}, ["__proto__"], "x")
    assert.strictEqual(JSON.stringify(named), '{"__proto__":"x"}')
    assert.isUndefined(valueAt({}, ["constructor"]))
    assert.isUndefined(valueAt({}, ["__proto__", "toString"]))
    assert.isUndefined(({} as { x?: unknown }).x)
  })

  it("reports required properties that are missing", () => {
    const fields = dataFields({
      properties: { id: text, to: { type: "object", properties: { city: text }, required: ["city"] } },
      required: ["id"]
    })
    assert.deepStrictEqual(missingPaths(undefined, fields), ["id"])
    assert.deepStrictEqual(missingPaths({ id: "", to: {} }, fields), ["to.city"])
    assert.deepStrictEqual(missingPaths({ id: "x" }, fields), [])
  })
})
