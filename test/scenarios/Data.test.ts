import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { assert, describe } from "vitest"
import { z } from "zod"
import { Event, IronflowFunction, Step } from "../../src/effect.ts"
import {
  createEventDefinitionRegistry,
  createFunction,
  defineEvent,
  LimitExceededError
} from "../../src/index.ts"
import { scenario } from "./Story.ts"
import { World } from "./World.ts"

describe("schemas", () => {
  const calls: Array<unknown> = []
  const OrderPlaced = Event.define("order.placed", {
    data: Schema.Struct({ orderId: Schema.String, amount: Schema.NumberFromString })
  })

  for (const [library, fn] of [
    [
      "zod",
      createFunction(
        {
          id: "order",
          triggers: [{ event: "order.placed" }],
          schema: z.object({ orderId: z.string(), amount: z.coerce.number() })
        },
        async ({ event, step }) => {
          calls.push(event.data)
          return step.run("double", () => event.data.amount * 2)
        }
      )
    ],
    [
      "Effect Schema",
      IronflowFunction.make(
        { id: "order", triggers: [OrderPlaced] },
        Effect.fnUntraced(function* ({ event }) {
          calls.push(event.data)
          return yield* Step.run("double", Effect.succeed(event.data.amount * 2))
        })
      )
    ]
  ] as const) {
    it.effect(`data that fits is decoded by the schema before the handler gets it (${library})`, () =>
      Effect.gen(function* () {
        calls.length = 0
        const world = yield* World.make({ functions: [fn] })
        const runId = yield* world.place({ orderId: "o-1", amount: "21" })

        assert.strictEqual(yield* world.completes(runId), 42)
        assert.deepStrictEqual(calls, [{ orderId: "o-1", amount: 21 }])
      })
    )

    it.effect(
      `data that does not fit fails the run at once, names the paths, and no handler runs (${library})`,
      () =>
        Effect.gen(function* () {
          calls.length = 0
          const world = yield* World.make({ functions: [fn] })
          const run = yield* Effect.flatMap(world.place({ orderId: 7, amount: "21" }), (runId) =>
            world.ends(runId)
          )

          assert.deepInclude(run, { status: "failed", attempt: 1 })
          assert.deepInclude(run.error, { name: "SchemaValidationError", code: "VALIDATION_ERROR" })
          assert.include(run.error?.message, "orderId")
          assert.notInclude(run.error?.message, "amount")
          assert.deepStrictEqual(calls, [])
        })
    )
  }
})

describe("upcasting", () => {
  const definitions = createEventDefinitionRegistry()
  for (const name of ["order.placed", "order.approved"]) {
    definitions.register(defineEvent({ name, version: 1 }))
    definitions.register(
      defineEvent({ name, version: 2, upcast: (data) => ({ ...(data as object), currency: "EUR" }) })
    )
  }

  scenario(
    "handlers see the newest version of the event that triggers them and of those that they wait for",
    {
      world: { worker: { eventDefinitions: definitions } },
      promise:
        () =>
        async ({ event, step }) => {
          const approval = await step.waitForEvent("approval", { event: "order.approved" })
          return [event.data.currency, event.version, approval.data.currency, approval.version]
        },
      effect:
        () =>
        ({ event }) =>
          Effect.map(Step.waitForEvent("approval", { event: "order.approved" }), (approval) => [
            event.data.currency,
            event.version,
            approval.data.currency,
            approval.version
          ])
    },
    ({ client, world }) =>
      Effect.gen(function* () {
        const old = yield* world.place()
        yield* world.reaches(old, "WAITING_FOR_EVENT")
        yield* client.emit("order.approved", {})
        assert.deepStrictEqual(yield* world.completes(old), ["EUR", 1, "EUR", 1])

        const { runIds } = yield* client.emit("order.placed", { currency: "CHF" }, { version: 2 })
        yield* world.reaches(runIds[0]!, "WAITING_FOR_EVENT")
        yield* client.emit("order.approved", { currency: "USD" }, { version: 2 })
        assert.deepStrictEqual(yield* world.completes(runIds[0]!), ["CHF", 2, "USD", 2])
      })
  )
})

describe("limits", () => {
  const mebibyte = 1024 * 1024

  scenario(
    "an event that is too large is refused with its size and the limit, and starts nothing",
    { promise: () => async () => "ran", effect: () => () => Effect.succeed("ran") },
    ({ client, world }) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(client.emit("order.placed", "x".repeat(mebibyte - 1)))

        assert.instanceOf(error, LimitExceededError)
        assert.deepInclude(error, { size: mebibyte + 1, limit: mebibyte, unit: "bytes" })
        yield* world.settle
        assert.strictEqual((yield* client.listRuns()).totalCount, 0)
        const { runIds } = yield* client.emit("order.placed", "x".repeat(mebibyte - 2))
        assert.strictEqual(yield* world.completes(runIds[0]!), "ran")
      })
  )

  scenario(
    "a step whose result is too large fails at once and says how large it is, and nothing of it is stored",
    {
      promise:
        (stage) =>
        async ({ step }) => {
          await step.run("read", () => stage.does("read", "x".repeat(5 * mebibyte)))
        },
      effect: (stage) => () =>
        Step.run(
          "read",
          Effect.sync(() => stage.does("read", "x".repeat(5 * mebibyte)))
        )
    },
    ({ client, log, world }) =>
      Effect.gen(function* () {
        const runId = yield* world.place()
        const run = yield* world.ends(runId)

        assert.strictEqual(run.status, "failed")
        assert.include(run.error?.message, `${5 * mebibyte + 2} bytes`)
        assert.deepStrictEqual(log, ["read"])
        assert.notProperty((yield* client.getRunSteps(runId))[0], "output")
      })
  )
})
