/** The declared result and failures of a function, through an engine to its invoker. */
import { createFunction, InvokeError } from "@ironflow/node"
import { Event, IronflowFunction, Step } from "@ironflow/node/effect"
import { createTestClient, createTestEngine } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect, test } from "vitest"

class Declined extends Schema.TaggedError<Declined>()("Declined", {
  reason: Schema.String,
  until: Schema.Date
}) {}

const PaymentDue = Event.define("payment.due", {
  data: Schema.Struct({ amount: Schema.Number, due: Schema.Date })
})

const pay = IronflowFunction.make(
  {
    id: "pay",
    triggers: [PaymentDue],
    retry: { maxAttempts: 1 },
    success: Schema.Struct({ paidAt: Schema.Date, fees: Schema.BigInt }),
    error: Declined
  },
  ({ event }) => {
    switch (event.data.amount) {
      case 1:
        return Effect.succeed({ paidAt: event.data.due, fees: 5n })
      case 2:
        return Effect.fail(new Declined({ reason: "limit", until: new Date(7) }))
      default:
        return Effect.die(new Error("the terminal is on fire"))
    }
  }
)

const order = { id: "order", triggers: [{ event: "order.placed" }] }

const ordering = IronflowFunction.make(order, ({ event }) =>
  Step.invoke(pay, { amount: event.data.amount, due: new Date(5) }).pipe(
    Effect.map(({ fees, paidAt }) => `paid at ${paidAt.getTime()}, fees ${fees + 1n}`),
    Effect.catchTag("InvokeError", ({ errorCause, failure }) =>
      Effect.succeed(
        failure === undefined ? `failed: ${errorCause}` : `${failure.reason} until ${failure.until.getTime()}`
      )
    )
  )
)

describe("an invoked function", () => {
  test.for([
    { amount: 1, output: "paid at 5, fees 6" },
    { amount: 2, output: "limit until 7" },
    { amount: 3, output: "failed: the terminal is on fire" }
  ])("gives its invoker the declared outcome for amount $amount: $output", async ({ amount, output }) => {
    await using engine = await createTestEngine({ functions: [ordering, pay] })
    const { runIds } = await engine.client.emit("order.placed", { amount })
    await engine.runUntilIdle()

    expect(await engine.client.getRun(runIds[0] ?? "")).toMatchObject({ status: "completed", output })
  })

  test("gives an async handler its decoded result, and its failure as the cause", async () => {
    let paid: unknown
    let seen: unknown
    await using engine = await createTestEngine({
      functions: [
        createFunction(order, async ({ step }) => {
          const { fees, paidAt } = await step.invoke(pay, { amount: 1, due: new Date(5) })
          paid = [fees, paidAt]
          await step
            .invoke(pay, { amount: 2, due: new Date(5) })
            .catch((error: unknown) => void (seen = error))
        }),
        pay
      ]
    })
    await engine.client.emit("order.placed", {})
    await engine.runUntilIdle()

    expect(paid).toEqual([5n, new Date(5)])
    expect(seen).toBeInstanceOf(InvokeError)
    const { cause } = seen as InvokeError
    expect(cause).toBeInstanceOf(Error)
    expect(cause).toMatchObject({ name: "Declined", reason: "limit" })
    expect(Object.keys(cause as Error)).not.toContain("ironflow:failure")
    const { runs } = await engine.client.listRuns({ functionId: "pay", status: "failed" })
    expect(runs).toHaveLength(1)
    expect(runs[0]?.error).toMatchObject({ name: "Declined" })
    expect(JSON.stringify(runs)).not.toContain("ironflow:failure")
  })

  test("that is mocked in the test client fails as declared", async () => {
    const t = createTestClient({ functions: [ordering] })
    t.mockInvoke("pay", () => {
      throw new Declined({ reason: "no card", until: new Date(9) })
    })

    expect(await t.emit("order.placed", { amount: 1 })).toMatchObject({
      status: "completed",
      output: "no card until 9"
    })
  })
})
