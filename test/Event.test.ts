import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { ValidationError } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"

describe("defineEvent", () => {
  it("refuses what is not an object with an error that says what it takes", () => {
    for (const given of ["order.placed", undefined, null]) {
      assert.throws(
        () => Event.defineEvent(given as never),
        /^The definition of an event must be an object such as { name, schema }, got /
      )
    }
  })

  it("returns name, version and upcaster, and nothing else", () => {
    const upcast = (data: unknown) => data

    assert.deepStrictEqual(Event.defineEvent({ name: "order.placed", version: 1 }), {
      name: "order.placed",
      version: 1
    })
    assert.deepStrictEqual(Event.defineEvent({ name: "order.placed", version: 2, upcast }), {
      name: "order.placed",
      version: 2,
      upcast
    })
  })

  it.each<readonly [options: unknown, message: string]>([
    [{ name: "", version: 1 }, "The event name must not be empty"],
    [{ name: "order.*", version: 1 }, "must not contain the wildcards"],
    [{ name: "order placed", version: 1 }, "must not contain white space"],
    [{ version: 1 }, "The event name must be a string"],
    [{ name: "order.placed", version: 0 }, "`version` must be an integer, at least 1, got 0"],
    [{ name: "order.placed", version: 1.5 }, "got 1.5"],
    [{ name: "order.placed" }, "got undefined"],
    [{ name: "order.placed", version: 2, upcast: {} }, "`upcast` must be a function"]
  ])("refuses %o", (options, message) => {
    assert.throws(() => Event.defineEvent(options as Event.EventDefinitionOptions), ValidationError)
    assert.throws(() => Event.defineEvent(options as Event.EventDefinitionOptions), message)
  })
})

describe("define", () => {
  it("keeps the schema, and types the data according to it", () => {
    const data = Schema.Struct({ orderId: Schema.String, placedAt: Schema.DateFromString })

    const OrderPlaced = Event.define("order.placed", { data })

    assert.deepStrictEqual({ ...OrderPlaced }, { name: "order.placed", version: 1, schema: data })
    expectTypeOf<Event.EventData<typeof OrderPlaced>>().toEqualTypeOf<{
      readonly orderId: string
      readonly placedAt: Date
    }>()
  })

  it("refuses a bad name, version or schema", () => {
    assert.throws(() => Event.define("order.>", { data: Schema.String }), /wildcards/)
    assert.throws(() => Event.define("order.placed", { data: Schema.String, version: 0 }), /`version`/)
    assert.throws(
      () => Event.define("order.placed", { data: undefined as unknown as Schema.Codec<string> }),
      /`data` must be a schema, got undefined: give a Standard Schema/
    )
  })
})
