import { LimitExceededError, ValidationError } from "@ironflow/node"
import { assert, describe, it } from "vitest"
import { checkShape, ShapeCounts } from "../src/JsonLimits.ts"
import { jsonNames, jsonValues } from "../src/Limits.ts"

describe("checkShape", () => {
  const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels)

  it.each([
    ["", 0],
    ["[]", 1],
    ["[[],[],[],{}]", 2],
    [nested(10), 10],
    [`{"a":"${"[{".repeat(50)}"}`, 1],
    [`{"a":"\\"${"[".repeat(50)}\\\\","b":[]}`, 2],
    [`["${"[".repeat(50)}`, 1],
    [`${"[]".repeat(50)}`, 1]
  ])("accepts %o at a limit of %d levels", (text, levels) => {
    assert.strictEqual(checkShape("the text", text, levels), text)
  })

  it.each([
    [nested(11), 10],
    ['{"a":{"b":[]}}', 2],
    ["[".repeat(3), 1],
    ['["\\\\",["\\"",[1]]]', 2]
  ])("refuses %o at a limit of %d levels", (text, levels) => {
    assert.throws(() => checkShape("the text", text, levels), LimitExceededError)
    assert.throws(() => checkShape("the text", text, levels), /Nesting of the text .* 100 levels/)
  })
})

describe("checkShape, for large values,", () => {
  const list = (items: number, item: (i: number) => string): string =>
    `[${Array.from({ length: items }, (_, i) => item(i)).join(",")}]`
  const named = (members: number): string =>
    `{${Array.from({ length: members }, (_, i) => `"k${i}":${i}`).join(",")}}`
  const row = (i: number): string => `{"id":${i},"name":"n \\" : , ${i}","tags":["a","b"],"of":{"id":1}}`

  it.each<readonly [string, string]>([
    ["numbers of an embedding", list(200_000, (i) => `0.${i}12345`)],
    ["rows with the same fields", list(45_000, row)],
    ["a string", JSON.stringify('{"a":[1,2,'.repeat(500_000))],
    ["a short string of brackets", JSON.stringify('{"[' + "[".repeat(1000))],
    ["the greatest number of names", named(jsonNames - 1000)]
  ])("accepts %s", (_name, text) => {
    assert.strictEqual(checkShape("the text", text), text)
  })

  it.each<readonly [string, string, "names" | "values"]>([
    ["values", list(jsonValues + 1, () => "0"), "values"],
    ["lists", list(jsonValues + 1, () => "[]"), "values"],
    ["lists that are not closed", "[],".repeat(jsonValues), "values"],
    ["names in one object", named(jsonNames * 1.2), "names"],
    ["names in many objects", list(jsonNames * 0.6, (i) => `{"a${i}":1,"b${i}":2}`), "names"],
    [
      "orders of the same names",
      list(
        jsonNames * 1.1,
        (i) => `{"${i % 50}":1,"${50 + (Math.floor(i / 50) % 50)}":1,"${100 + Math.floor(i / 2500)}":1}`
      ),
      "names"
    ]
  ])("refuses too many %s", (_name, text, unit) => {
    const limit = unit === "names" ? jsonNames : jsonValues
    assert.throws(
      () => checkShape("the text", text),
      new RegExp(`^The number of .*${unit} in the text is too large: more than ${limit} ${unit}$`)
    )
  })

  it("counts all values of one message together", () => {
    const counted = new ShapeCounts()
    const text = list(100_000, (i) => `${i}`)
    assert.throws(() => {
      for (let i = 0; i < 10; i++) checkShape("the texts", text, 10, counted)
    }, LimitExceededError)
  })
})

describe("checkShape, for numbers that are too large,", () => {
  it.each([
    ['{"data":{"price":1e999}}', "$.data.price"],
    ['[{"unit price":[0,-1E+400]}]', '$[0]["unit price"][1]'],
    [`{"a":${"9".repeat(309)}}`, "$.a"],
    [`${"9".repeat(250)}.5e70`, "$"],
    ['{"a":"1e999","b":1e0000309}', "$.b"],
    ['{"id":"run_5E123","at":1.5,"b":2.25e999}', "$.b"],
    ["[1,\n1e+999]", "$[1]"],
    ["1e999", "$"]
  ])("refuses %s with its path", (text, path) => {
    const check = () => checkShape("the body", text)

    assert.throws(check, ValidationError)
    assert.throws(check, `The body cannot be stored: ${path} is the number `)
  })

  it.each([
    '{"a":"1e999","\\"1e999":2}',
    `{"a":"${"9".repeat(400)}"}`,
    '{"a":1e308,"b":1.7976931348623157e308,"c":1e-999,"d":0e999}',
    `{"a":${"9".repeat(308)},"b":0.${"9".repeat(400)}}`,
    // this text is not JSON, which the parser reports
    '{"a":1e999'
  ])("accepts %s", (text) => {
    assert.strictEqual(checkShape("the body", text), text)
  })
})
