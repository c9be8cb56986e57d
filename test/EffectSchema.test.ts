import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { z } from "zod"
import { asStandard } from "../src/EffectSchema.ts"
import { validateData } from "../src/StandardSchema.ts"

const Zod = z.object({ orderId: z.string() })
const Native = Schema.Struct({ orderId: Schema.String })

describe("asStandard", () => {
  it("leaves a Standard Schema as it is, also one that was made from an Effect schema", () => {
    const standard = Schema.toStandardSchemaV1(Native)

    assert.strictEqual(asStandard(Zod), Zod)
    assert.strictEqual(asStandard(standard), standard)
  })

  it("wraps an Effect schema once", () => {
    assert.strictEqual(asStandard(Native), asStandard(Native))
  })

  it("throws what an Effect schema dies of", () => {
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
