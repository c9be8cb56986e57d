import { createFunction, InvokeError, NonRetryableError, StepError } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { createTestClient } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect, test } from "vitest"
import { z } from "zod"

const order = { id: "order", triggers: [{ event: "order.placed" }] }

describe("a call without a mock", () => {
  const failed = async (handler: Parameters<typeof createFunction>[1]) => {
    const run = await createTestClient({ functions: [createFunction(order, handler)] }).emit(
      "order.placed",
      {}
    )
    expect(run.status).toBe("failed")
    return run.error?.message ?? ""
  }

  test("of a step names it and shows the line to add", async () => {
    let ran = false
    const message = await failed(({ step }) => step.run("charge", () => void (ran = true)))

    expect(message).toContain('Step "charge" was called but has no mock')
    expect(message).toContain('t.mockStep("charge", () => result)')
    expect(ran).toBe(false)
  })

  test("of invoke and invokeAsync names the function and shows the line to add", async () => {
    expect(await failed(({ step }) => step.invoke("ship", {}))).toContain('t.mockInvoke("ship", (input)')
    expect(await failed(({ step }) => step.invokeAsync("ship", {}))).toContain('step.invokeAsync("ship")')
  })

  test("of waitForEvent for a pattern asks for a name, since a pattern cannot be sent", async () => {
    const message = await failed(({ step }) => step.waitForEvent("approval", { event: "order.*" }))

    expect(message).toContain('t.sendEvent(name, data), with a name that "order.*" matches')
  })

  test("of waitForEvent names step and event and shows the line to add", async () => {
    const message = await failed(({ step }) => step.waitForEvent("approval", { event: "order.approved" }))

    expect(message).toContain('Step "approval" waits for event "order.approved"')
    expect(message).toContain('t.sendEvent("order.approved", data)')
  })

  test("of an event that triggers no function rejects", async () => {
    await expect(createTestClient({ functions: [] }).emit("order.lost", {})).rejects.toThrow(
      'No function is registered for event "order.lost"'
    )
  })
})

test("sleeps of any length, waits, children, branches and messages take no time", async () => {
  const t = createTestClient({
    functions: [
      createFunction(order, async ({ event, step }) => {
        await step.sleep("cool-off", "365d")
        const first = await step.waitForEvent("first", { event: "order.*" })
        const second = await step.waitForEvent("second", { event: "order.paid" })
        const parts = await step.map("parts", [1, 2], (n, step) => step.run("part", () => n))
        const { runId } = await step.invokeAsync("notify", { n: 1 })
        await step.publish("orders", { id: 1 })
        const shipped = await step.invoke("ship", { to: event.data.to })
        return [first.data, second.data, parts, runId.startsWith("test-run-"), shipped]
      })
    ]
  })
  t.mockStep("part", async () => "a part")
  t.mockInvoke("ship", ({ to }) => `to ${to}`)
  t.mockInvoke("notify", () => undefined)
  t.sendEvent("order.paid", 1)
  t.sendEvent("order.paid", 2)

  const run = await t.emit("order.placed", { to: "Oslo" })

  expect(run.error).toBeUndefined()
  expect(run.output).toEqual([1, 2, ["a part", "a part"], true, "to Oslo"])
  expect(run.steps.map(({ name, type }) => `${type} ${name}`)).toEqual([
    "sleep cool-off",
    "waitForEvent first",
    "waitForEvent second",
    "run part",
    "run part",
    "invoke notify",
    "publish orders",
    "invoke ship"
  ])
})

test("a mock that throws is retried by the real policy, and fails the step with StepError", async () => {
  let tries = 0
  let seen: unknown
  const t = createTestClient({
    functions: [
      createFunction({ ...order, retry: { maxAttempts: 3 } }, async ({ step }) => {
        await step.run("charge", () => undefined).catch((error: unknown) => (seen = error))
        return "went on"
      })
    ]
  })
  t.mockStep("charge", () => {
    tries++
    throw new Error("declined")
  })

  const run = await t.emit("order.placed", {})

  expect(run).toMatchObject({ status: "completed", output: "went on" })
  expect(tries).toBe(3)
  expect(seen).toBeInstanceOf(StepError)
})

test("a mock of invoke that throws is an InvokeError, like a child that failed", async () => {
  let seen: unknown
  const t = createTestClient({
    functions: [
      createFunction(order, ({ step }) => step.invoke("ship").catch((error: unknown) => void (seen = error)))
    ]
  })
  t.mockInvoke("ship", () => {
    throw new Error("no ship")
  })
  await t.emit("order.placed", {})

  expect(seen).toBeInstanceOf(InvokeError)
})

test("compensations run in reverse order, also after one that fails, and are listed after the steps", async () => {
  const t = createTestClient({
    functions: [
      createFunction({ ...order, retry: { maxAttempts: 1 } }, async ({ step }) => {
        for (const name of ["a", "b"]) {
          await step.run(name, () => name)
          step.compensate(name, async () => {
            if (name === "b") throw new NonRetryableError("cannot be undone")
          })
        }
        throw new Error("out of stock")
      })
    ]
  })
  t.mockStep("a", () => 1)
  t.mockStep("b", () => 2)

  const run = await t.emit("order.placed", {})

  expect(run.error?.message).toBe("out of stock")
  expect(run.compensationsRan).toEqual(["b", "a"])
  expect(run.steps.map(({ error, name }) => [name, error?.message])).toEqual([
    ["a", undefined],
    ["b", undefined],
    ["compensate:b", "cannot be undone"],
    ["compensate:a", undefined]
  ])
})

test("the test client runs a function with an Effect handler", async () => {
  const t = createTestClient({
    functions: [
      IronflowFunction.make(
        order,
        Effect.fnUntraced(function* () {
          yield* Step.sleep("cool-off", "7 days")
          return yield* Step.run("charge", Effect.die("never runs"))
        })
      )
    ]
  })
  t.mockStep("charge", () => "R-1")

  expect(await t.emit("order.placed", {})).toMatchObject({ status: "completed", output: "R-1" })
})

describe("data of an event", () => {
  const unsendable = [
    ["a Map", new Map([["a", 1]]), "$ is a Map"],
    ["an error", { e: new Error("gone") }, "$.e is an error"],
    ["a BigInt", [1n], "$[0] is a BigInt"]
  ] as const

  test.each(unsendable)(
    "that is %s is refused when the event is sent, as by emit",
    async (_, data, problem) => {
      let ran = false
      const t = createTestClient({ functions: [createFunction(order, async () => void (ran = true))] })

      expect(() => t.sendEvent("order.paid", data)).toThrow(
        `Data of event "order.paid" cannot be stored: ${problem}`
      )
      await expect(t.emit("order.placed", data)).rejects.toThrow(
        `Data of event "order.placed" cannot be stored: ${problem}`
      )
      expect(ran).toBe(false)
    }
  )

  test("with an invalid name is refused when it is sent", () => {
    const t = createTestClient({ functions: [] })

    expect(() => t.sendEvent(" ", {})).toThrow("The event name must not be empty")
  })

  test("is unchanged, null stays null, and absent data is an empty object", async () => {
    const t = createTestClient({
      functions: [
        createFunction(order, async ({ event, step }) => {
          const received = [event.data]
          for (let i = 0; i < 3; i++) {
            received.push((await step.waitForEvent(`w${i}`, { event: "order.paid" })).data)
          }
          return received
        })
      ]
    })
    const data = { amount: 1 }
    t.sendEvent("order.paid", data)
    t.sendEvent("order.paid", null)
    t.sendEvent("order.paid", undefined)
    data.amount = 2

    expect((await t.emit("order.placed", null)).output).toEqual([null, { amount: 1 }, null, {}])
    expect((await t.emit("order.placed", undefined)).status).toBe("failed")
  })
})

test("a mock of a function receives the input of the function", async () => {
  const ship = createFunction(
    { id: "ship", triggers: [], schema: z.object({ to: z.string() }) },
    async ({ event }) => event.data.to
  )
  const shop = createFunction(order, async ({ step }) => step.invoke(ship, { to: "Ada" }))
  const t = createTestClient({ functions: [shop] })

  t.mockInvoke(ship, ({ to }) => `to ${to.toUpperCase()}`)

  expect((await t.emit("order.placed", {})).output).toBe("to ADA")
})

test("a mock of a function receives dates where the schema decodes dates", async () => {
  const Due = Schema.Struct({ at: Schema.DateFromString })
  const remind = createFunction({ id: "remind", triggers: [], schema: Due }, async ({ event }) =>
    event.data.at.getTime()
  )
  const shop = createFunction(order, async ({ step }) =>
    step.invoke(remind, { at: "1970-01-01T00:00:00.000Z" })
  )
  const t = createTestClient({ functions: [shop] })
  const inputs: Array<unknown> = []

  t.mockInvoke("remind", (input) => void inputs.push(input))
  await t.emit("order.placed", {})
  t.mockInvoke(remind, ({ at }) => void inputs.push(at.getTime()))
  await t.emit("order.placed", {})

  expect(inputs).toEqual([{ at: "1970-01-01T00:00:00.000Z" }, 0])
})
