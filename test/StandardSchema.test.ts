import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { z } from "zod"
import { asStandard } from "../src/EffectSchema.ts"
import { SchemaValidationError, ValidationError } from "../src/Errors.ts"
import {
  isSchema,
  parseAndValidate,
  type SchemaOutput,
  type StandardSchemaV1,
  validate,
  validateData
} from "../src/StandardSchema.ts"

const Zod = z.object({ orderId: z.string(), items: z.array(z.object({ price: z.number() })) })
const Native = Schema.Struct({
  orderId: Schema.String,
  items: Schema.Array(Schema.Struct({ price: Schema.Number }))
})
const schemas = [
  ["zod", Zod],
  ["effect", asStandard(Native)],
  ["effect as Standard Schema", Schema.toStandardSchemaV1(Native)]
] as const

const good = { orderId: "o-1", items: [{ price: 1 }] }
const bad = { orderId: 1, items: [{ price: 1 }, { price: "2" }] }

describe("validateData", () => {
  it.each(schemas)("returns what a %s schema returns, at once", (_library, schema) => {
    assert.deepStrictEqual<unknown>(validateData(schema, { ...good, extra: 1 }, "Data"), good)
  })

  it.each(schemas)("lists path and problem of everything that a %s schema refuses", (_library, schema) => {
    let error: unknown
    try {
      void validateData(schema, bad, 'Data of event "order.placed"')
    } catch (thrown) {
      error = thrown
    }

    assert.instanceOf(error, SchemaValidationError)
    assert.match(error.message, /^Data of event "order.placed" does not fit its schema: orderId: /)
    assert.deepStrictEqual(
      error.validationErrors.map((problem) => problem.split(":")[0]),
      ["orderId", "items[1].price"]
    )
  })

  it("decodes with an Effect schema", () => {
    assert.deepStrictEqual(
      validateData(asStandard(Schema.DateFromString), "2026-01-01T00:00:00.000Z", "Data"),
      new Date("2026-01-01")
    )
  })

  const Later = z.string().refine(async (text) => text === "yes", "must be yes")
  const LaterNative = Schema.String.pipe(
    Schema.decodeTo(Schema.String, {
      decode: SchemaGetter.transformEffect((text) =>
        Effect.as(
          Effect.promise(() => Promise.resolve()),
          `${text}!`
        )
      ),
      encode: SchemaGetter.transform((text) => text)
    })
  )
  it("waits for an asynchronous schema", async () => {
    assert.strictEqual(await validateData(Later, "yes", "Data"), "yes")
    assert.strictEqual(await validateData(asStandard(LaterNative), "yes", "Data"), "yes!")
    const refused = await Promise.resolve(validateData(Later, "no", "Data")).then(
      () => undefined,
      (error: unknown) => error
    )
    assert.instanceOf(refused, SchemaValidationError)
    assert.match(refused.message, /\$: must be yes/)
  })

  it("makes an error that a schema throws a SchemaValidationError with that cause", () => {
    const cause = new Error("broken")
    const schema: StandardSchemaV1 = {
      "~standard": {
        version: 1,
        vendor: "test",
        validate: () => {
          throw cause
        }
      }
    }

    assert.throws(
      () => validateData(schema, 1, "Data"),
      /^Data could not be validated: the schema threw "broken"$/
    )
  })

  it("refuses a value that is not a schema", () => {
    assert.throws(() => validateData({} as StandardSchemaV1, 1, "Data"), ValidationError)
  })

  it("says how to wrap an Effect schema", () => {
    assert.throws(
      () => validateData(Native as unknown as StandardSchemaV1, good, "Data"),
      /^Data: an Effect schema has to be wrapped here: Schema\.toStandardSchemaV1\(schema\)$/
    )
  })

  it("types the result", () => {
    expectTypeOf<SchemaOutput<typeof Zod>>().toEqualTypeOf<{
      orderId: string
      items: Array<{ price: number }>
    }>()
    expectTypeOf<SchemaOutput<typeof Schema.DateFromString>>().toEqualTypeOf<Date>()
  })
})

describe("validate and parseAndValidate", () => {
  it("return the value", () => {
    assert.deepStrictEqual(validate(Zod, good, "order"), good)
    assert.deepStrictEqual(parseAndValidate(Zod, JSON.stringify(good), "order"), good)
  })

  it("throw SchemaValidationError with the context and the problems", () => {
    assert.throws(() => validate(Zod, bad, "order"), /^order .*orderId: /)
    assert.throws(() => parseAndValidate(Zod, "{", "order"), SchemaValidationError)
    assert.throws(() => parseAndValidate(Zod, "{", "order"), /^order: \$: Not valid JSON/)
  })

  it("refuse an asynchronous schema", () => {
    const schema = z.string().refine(async () => true)

    assert.throws(() => validate(schema, "x", "order"), /asynchronously/)
  })
})

describe("isSchema", () => {
  it.each<readonly [unknown, boolean]>([
    [Zod, true],
    [Native, true],
    [Schema.String, true],
    [{}, false],
    [null, false],
    ["schema", false],
    [{ "~standard": {} }, false]
  ])("%o: %s", (value, expected) => {
    assert.strictEqual(isSchema(value), expected)
  })
})
