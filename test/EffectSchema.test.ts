import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { z } from "zod"
import { asStandard, jsonCodec } from "../src/EffectSchema.ts"
import { SchemaValidationError, ValidationError } from "../src/Errors.ts"
import { type AnySchema, validateData } from "../src/StandardSchema.ts"

const Zod = z.object({ orderId: z.string() })
const Native = Schema.Struct({ orderId: Schema.String })

describe("asStandard", () => {
  it("leaves a Standard Schema of another library unchanged", () => {
    assert.strictEqual(asStandard(Zod), Zod)
  })

  it("reads dates from JSON with an Effect schema that was converted to a Standard Schema", () => {
    const at = "2026-01-02T03:04:05.000Z"
    const standard = Schema.toStandardSchemaV1(Schema.Struct({ at: Schema.Date }))

    assert.deepStrictEqual(validateData(asStandard(standard), { at }, "Data"), { at: new Date(at) })
  })

  it("wraps an Effect schema once", () => {
    assert.strictEqual(asStandard(Native), asStandard(Native))
  })

  it("throws the defect of an Effect schema", () => {
    const Broken = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transformEffect(() => Effect.die(new Error("broken"))),
        encode: SchemaGetter.transform((text) => text)
      })
    )

    assert.throws(
      () => validateData(asStandard(Broken), "x", "Data"),
      /^Data could not be validated: the schema threw "broken"$/
    )
  })
})

describe("jsonCodec", () => {
  const at = new Date("2026-01-02T03:04:05.000Z")
  const Tagged = Schema.Union([
    Schema.TaggedStruct("Paid", { at: Schema.Date }),
    Schema.TaggedStruct("Open", { left: Schema.Number })
  ])

  it.each<readonly [what: string, schema: AnySchema, data: unknown, stored: unknown]>([
    ["a date in a schema of dates", Schema.Date, at, at.toISOString()],
    ["a date in a schema of strings", Schema.DateFromString, at, at.toISOString()],
    [
      "a date in a schema that was converted to a Standard Schema",
      Schema.toStandardSchemaV1(Schema.Date),
      at,
      at.toISOString()
    ],
    ["a bigint", Schema.BigInt, 7n, "7"],
    ["bytes", Schema.Uint8Array, new Uint8Array([1, 2]), "AQI="],
    ["a member of a union", Tagged, { _tag: "Paid", at }, { _tag: "Paid", at: at.toISOString() }],
    ["fields that are not in the schema", Native, { orderId: "o-1", extra: 1 }, { orderId: "o-1" }],
    [
      "fields that a Standard Schema accepts",
      Zod,
      { orderId: "o-1", extra: 1 },
      { orderId: "o-1", extra: 1 }
    ],
    ["undefined, where a Standard Schema expects an object", z.object({}), undefined, {}],
    ["a field for which a Standard Schema has a default", z.object({ qty: z.number().default(1) }), {}, {}],
    ["a value that a Standard Schema transforms", z.string().transform((text) => text.length), "abc", "abc"]
  ])("stores %s in a form that can be read again", (_, schema, data, stored) => {
    const encoded = jsonCodec(schema).encode(data, "Data")

    assert.deepStrictEqual(encoded, stored)
    const json: unknown = JSON.parse(JSON.stringify(encoded))
    assert.doesNotThrow(() => validateData(asStandard(schema), json, "Data"))
  })

  it.each<readonly [what: string, schema: AnySchema, data: unknown, message: RegExp]>([
    [
      "an Effect schema",
      Schema.Struct({ items: Schema.Array(Native) }),
      { items: [{}] },
      /^Data does not fit its schema: items\[0\]\.orderId: /
    ],
    [
      "a check of an Effect schema",
      Schema.Number.check(Schema.isGreaterThan(0)),
      -1,
      /^Data does not fit its schema: \$: /
    ],
    [
      "a Standard Schema",
      z.object({ items: z.array(Zod) }),
      { items: [{}] },
      /^Data does not fit its schema: items\[0\]\.orderId: /
    ],
    [
      "a Standard Schema once it is JSON",
      z.object({ at: z.date() }),
      { at },
      /at: .* The data fits only before it becomes JSON/
    ]
  ])("refuses data that does not fit %s, with the paths", (_, schema, data, message) => {
    assert.throws(() => jsonCodec(schema).encode(data, "Data"), SchemaValidationError)
    assert.throws(() => jsonCodec(schema).encode(data, "Data"), message)
  })

  it("refuses values that JSON does not have", () => {
    assert.throws(() => jsonCodec(z.any()).encode({ count: 7n }, "Data"), ValidationError, "count")
  })
})
