import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { z } from "zod"
import { SchemaValidationError } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import { validateEvent } from "../src/EventData.ts"
import { type AnyFunction, createFunction, make } from "../src/Function.ts"

const Order = z.object({ orderId: z.string(), amount: z.number() })
const OrderPlaced = Event.define("order.placed", {
  data: Schema.Struct({ orderId: Schema.String, placedAt: Schema.DateFromString })
})
const OrderCancelled = Event.define("order.cancelled", { data: Schema.Struct({ reason: Schema.String }) })

const dataOf = (fn: AnyFunction, name: string, data: unknown): unknown => {
  const handled = validateEvent(fn, { name, version: 1, data })
  return handled instanceof Promise ? handled.then(({ data }) => data) : handled.data
}

describe("validateEvent", () => {
  const placed = { orderId: "o-1", placedAt: "2026-01-02T03:04:05.000Z" }

  it("returns the output of the schema, or the data itself without a schema", () => {
    const zod = createFunction({ id: "zod", triggers: [], schema: Order }, () => undefined)
    const open = createFunction({ id: "open", triggers: [] }, () => undefined)

    assert.deepStrictEqual(dataOf(zod, "x", { orderId: "o-1", amount: 3, extra: true }), {
      orderId: "o-1",
      amount: 3
    })
    assert.strictEqual(dataOf(open, "x", placed), placed)
  })

  it("decodes with an Effect schema of a function with an async handler", () => {
    const fn = createFunction({ id: "effect", triggers: [], schema: OrderPlaced.schema }, () => undefined)

    assert.deepStrictEqual(dataOf(fn, "x", placed), {
      orderId: "o-1",
      placedAt: new Date("2026-01-02T03:04:05.000Z")
    })
    assert.throws(() => dataOf(fn, "x", {}), SchemaValidationError, "orderId: Missing key")
  })

  it("uses the schema of the definition with the event's name", () => {
    const fn = make(
      { id: "f", triggers: [OrderPlaced, OrderCancelled, { event: "note.*" }] },
      () => Effect.void
    )

    assert.deepStrictEqual(dataOf(fn, "order.placed", placed), {
      orderId: "o-1",
      placedAt: new Date("2026-01-02T03:04:05.000Z")
    })
    assert.throws(
      () => dataOf(fn, "order.cancelled", placed),
      /Data of event "order.cancelled" does not fit its schema: reason: Missing key/
    )
    assert.strictEqual(dataOf(fn, "note.added", placed), placed)
  })

  it("checks the input of an invoked run by the only definition", () => {
    const fn = make({ id: "f", triggers: [OrderCancelled] }, () => Effect.void)

    assert.throws(() => dataOf(fn, "ironflow.invoke", { reason: 1 }), SchemaValidationError)
  })
})
