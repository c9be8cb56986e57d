/** What the registration of a function says about the data of its events. */
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { z } from "zod"
import { define, defineEvent, type EventDefinition } from "../../src/Event.ts"
import { createFunction, type FunctionConfig, make } from "../../src/Function.ts"
import { registrationBytes } from "../../src/Limits.ts"
import { toRegistration, toRegistrations } from "../../src/Protocol/Registration.ts"
import type { AnySchema } from "../../src/StandardSchema.ts"

const Order = z.object({ orderId: z.string(), amount: z.number().optional() })

const triggersOf = (event: EventDefinition, config: Partial<FunctionConfig> = {}) =>
  toRegistration(createFunction({ id: "ship", triggers: [event], ...config }, () => 1)).triggers

describe("the registration of a function", () => {
  it.each<readonly [library: string, schema: AnySchema]>([
    ["Zod", Order],
    ["Effect", Schema.Struct({ orderId: Schema.String, amount: Schema.optional(Schema.Number) })],
    [
      "Effect, converted to a Standard Schema",
      Schema.toStandardSchemaV1(Schema.Struct({ orderId: Schema.String }))
    ]
  ])("has the JSON Schema of an event with a schema of %s", (_, schema) => {
    const [trigger] = triggersOf(defineEvent({ name: "order.placed", schema, version: 2 }))

    assert.strictEqual(trigger?.version, 2)
    assert.strictEqual(trigger?.schema?.type, "object")
    assert.deepInclude(trigger?.schema?.properties, { orderId: { type: "string" } })
    assert.deepStrictEqual(trigger?.schema?.required, ["orderId"])
  })

  it("has the stored form of a date, and defines each named schema once", () => {
    const Person = Schema.Struct({ name: Schema.String }).annotate({ identifier: "Person" })
    const fn = make(
      {
        id: "ship",
        triggers: [
          define("order.placed", { data: Schema.Struct({ at: Schema.Date, from: Person, to: Person }) })
        ]
      },
      () => Schema.decodeEffect(Schema.String)("")
    )
    const { schema } = toRegistration(fn as never).triggers[0]!

    assert.deepInclude(schema?.properties, {
      at: { type: "string" },
      to: { $ref: "#/$defs/Person" }
    })
    assert.property(schema?.$defs, "Person")
  })

  it("has the JSON Schema of the function's schema for triggers without a definition, but not for schedules", () => {
    const { triggers } = toRegistration(
      createFunction(
        { id: "ship", schema: Order, triggers: [{ event: "order.*" }, { cron: "0 9 * * *" }] },
        () => 1
      )
    )

    assert.property(triggers[0]?.schema?.properties, "orderId")
    assert.notProperty(triggers[0], "version")
    assert.notProperty(triggers[1], "schema")
  })

  it("is unchanged without a schema, or with one that JSON Schema cannot express", () => {
    const plain = [{ event: "order.placed" }]
    const wide = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`member-${i}`, z.string()]))

    assert.deepStrictEqual(triggersOf(defineEvent({ name: "order.placed", version: 2 })), plain)
    for (const schema of [
      z.object({ at: z.date() }),
      Silent,
      Broken,
      // the schema is too large
      z.object(wide)
    ]) {
      assert.deepStrictEqual(triggersOf(defineEvent({ name: "order.placed", schema })), plain)
    }
  })

  it("leaves schemas out when the registration of a program would be too large", () => {
    const schema = z.object(
      Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`member-${i}`, z.string()]))
    )
    const functions = Array.from({ length: 200 }, (_, i) =>
      createFunction({ id: `f-${i}`, triggers: [defineEvent({ name: `e-${i}`, schema })] }, () => i)
    )

    assert.property(toRegistrations(functions.slice(0, 5))[4]?.triggers[0], "schema")
    const all = toRegistrations(functions)
    assert.isBelow(JSON.stringify(all).length, registrationBytes / 2)
    assert.deepStrictEqual(all[4]?.triggers, [{ event: "e-4" }])
  })
})

const Silent: AnySchema = {
  "~standard": { version: 1, vendor: "none", validate: (value: unknown) => ({ value }) }
}

const Broken: AnySchema = {
  "~standard": {
    version: 1,
    vendor: "broken",
    validate: (value: unknown) => ({ value }),
    jsonSchema: { input: () => "no schema" }
  } as (typeof Silent & { "~standard": unknown })["~standard"]
}
