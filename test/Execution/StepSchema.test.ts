import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { z } from "zod"
import { type InvokeError, SchemaValidationError, StepError, ValidationError } from "../../src/Errors.ts"
import * as Event from "../../src/Event.ts"
import { createFunction, make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { only } from "./Scenario.ts"
import { failure, success } from "./ScriptedEngine.ts"

const order = { id: "order", triggers: [] }
const Receipt = z.object({ id: z.string(), at: z.coerce.date() })

describe("the schema of an async step", () => {
  for (const [kind, schema] of [
    ["a transforming Standard Schema", Receipt],
    ["an Effect schema", Schema.Struct({ id: Schema.String, at: Schema.Date })]
  ] as const) {
    only(
      `${kind} decodes the result, the first time and in each replay`,
      (probe) =>
        createFunction(order, async ({ step }) => {
          const receipt = await step.run("charge", () => ({ id: "r-1", at: new Date(5) }), { schema })
          probe.log.push(`${receipt.at instanceof Date} ${receipt.at.getTime()}`)
          await step.sleep("nap", "1m")
          return receipt.at.getTime()
        }),
      async ({ engine, fn, log }) => {
        await engine.run(fn)
        assert.deepStrictEqual(log, ["true 5", "true 5"])
        assert.deepStrictEqual(
          engine.outcome("charge:0"),
          success({ id: "r-1", at: "1970-01-01T00:00:00.005Z" })
        )
        assert.strictEqual(engine.output, 5)
      }
    )
  }

  only(
    "a result that does not fit fails the step at once, naming function, step and paths",
    (probe) =>
      createFunction({ ...order, retry: { maxAttempts: 3 } }, async ({ step }) => {
        const error: unknown = await step
          .run("charge", () => ({ id: 7, at: "never" }), { schema: Receipt })
          .catch((error: unknown) => error)
        assert.instanceOf(error, StepError)
        assert.instanceOf(error.cause, SchemaValidationError)
        probe.log.push(error.message, ...error.cause.validationErrors.map((line) => line.split(":")[0] ?? ""))
        await step.sleep("nap", "1m")
      }),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.match(
        log[0] ?? "",
        /^Result of step "charge" of function "order" does not fit its schema: id: .*; at: /
      )
      assert.deepStrictEqual(log.slice(1, 3), ["id", "at"])
      // the replay does the same
      assert.deepStrictEqual(log.slice(3), log.slice(0, 3))
      assert.deepStrictEqual(engine.tags.slice(0, 1), ["StepDone"])
      assert.lengthOf(engine.ops("StepRetry"), 0)
    }
  )

  only(
    "a recorded result that no longer fits fails the step too",
    () =>
      createFunction(order, ({ step }) =>
        step.run("charge", () => ({ id: "r-1", at: new Date(5) }), { schema: Receipt })
      ),
    async ({ engine, fn }) => {
      engine.journal.push({
        stepKey: "charge:0",
        name: "charge",
        kind: "run",
        outcome: success({ id: "r-1" }),
        attempt: 1
      })
      await engine.turn(fn)
      assert.strictEqual(engine.error?.name, "StepError")
      assert.match(
        engine.error?.message ?? "",
        /^Result of step "charge" of function "order" does not fit its schema: at: /
      )
    }
  )

  only(
    "tx decodes its value, and a value that does not fit writes nothing",
    (probe) =>
      createFunction({ ...order, retry: { maxAttempts: 1 } }, async ({ step }) => {
        const { value } = await step.tx("note", () => new Date(5), { schema: z.coerce.date() })
        probe.log.push(String(value.getTime()))
        await step.tx("bad", (tx) => void tx.emit("order.noted"), { schema: z.string() })
      }),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(new Set(log), new Set(["5"]))
      assert.lengthOf(engine.ops("Transact"), 1)
      assert.match(
        engine.error?.message ?? "",
        /^Result of step "bad" of function "order" does not fit its schema: \$: /
      )
    }
  )

  only(
    "invoke decodes the child's result",
    () =>
      createFunction(order, async ({ step }) => {
        const receipt = await step.invoke("pay", {}, { schema: Receipt })
        return receipt.at.getTime()
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire("pay:0", success({ id: "r-1", at: "1970-01-01T00:00:00.005Z" }))
      await engine.turn(fn)
      assert.strictEqual(engine.output, 5)
    }
  )

  only(
    "the error for a child's result that does not fit names the function of the child",
    () => createFunction(order, ({ step }) => step.invoke("pay", {}, { schema: Receipt })),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire("pay:0", success({ id: "r-1" }))
      await engine.turn(fn)
      assert.strictEqual(engine.error?.name, "SchemaValidationError")
      assert.match(
        engine.error?.message ?? "",
        /^Result of function "pay", which function "order" has invoked, does not fit its schema: at: /
      )
    }
  )

  only(
    "map decodes the result of each branch with its schema",
    () =>
      createFunction(order, async ({ step }) => {
        const all = await step.map("all", [5, "never"], async (n, s) => s.run("one", () => n), {
          schema: z.coerce.date(),
          onError: "allSettled"
        })
        return all.map((one) => (one instanceof Error ? one.message.split(":")[0] : one.getTime()))
      }),
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, [
        5,
        'Result 1 of "all" of function "order" does not fit its schema'
      ])
    }
  )

  only(
    "a value that is not a schema, and an asynchronous schema, are refused",
    (probe) =>
      createFunction(order, async ({ step }) => {
        const later = z.number().refine(async (n) => n > 0)
        for (const schema of ["number", later] as ReadonlyArray<typeof later>) {
          const error: unknown = await step
            .run("charge", () => 1, { schema })
            .catch((error: unknown) => error)
          probe.log.push(String(error))
          assert.instanceOf(error instanceof StepError ? error.cause : error, ValidationError)
        }
      }),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.include(
        log[0],
        '`schema` must be a Standard Schema (Zod, Valibot, ArkType) or an Effect schema, got "number"'
      )
      assert.include(log[1], "the schema validates asynchronously, but here it must be synchronous")
    }
  )

  only(
    "a result that a branch computes from stored results is not stored, and is not converted",
    (probe) =>
      createFunction(order, async ({ step }) => {
        const [at] = await step.parallel("all", [
          async (s) => new Date(await s.run("now", () => new Date(5)))
        ])
        probe.log.push(at.toISOString())
        await step.sleep("nap", "1m")
      }),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(log, ["1970-01-01T00:00:00.005Z", "1970-01-01T00:00:00.005Z"])
    }
  )
})

describe("the schemas of a function", () => {
  class Declined extends Schema.TaggedError<Declined>()("Declined", {
    reason: Schema.String,
    until: Schema.Date
  }) {}
  const Due = Event.define("payment.due", { data: Schema.Struct({ amount: Schema.NumberFromString }) })
  const pay = make(
    { id: "pay", triggers: [Due], success: Schema.Struct({ at: Schema.Date }), error: Declined },
    ({ event }) =>
      event.data.amount > 100
        ? Effect.fail(new Declined({ reason: "limit", until: new Date(7) }))
        : Effect.succeed({ at: new Date(event.data.amount) })
  )
  const invoking = make(order, () =>
    Step.invoke(pay, { amount: 5 }).pipe(
      Effect.map(({ at }) => at.getTime()),
      Effect.catchTag("InvokeError", ({ failure }) =>
        failure === undefined
          ? Effect.succeed("failed otherwise")
          : Effect.succeed(`${failure._tag} ${failure.reason} ${failure.until.getTime()}`)
      )
    )
  )

  only(
    "a function's result is stored by its success schema",
    () => pay,
    async ({ engine, fn }) => {
      engine.event = { amount: "5" }
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, { at: "1970-01-01T00:00:00.005Z" })
    }
  )

  only(
    "input is encoded by the definition, and the result decoded by the success schema",
    () => invoking,
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.ops("Invoke")[0]?.input, '{"amount":"5"}')
      engine.fire("pay:0", success({ at: "1970-01-01T00:00:00.005Z" }))
      await engine.turn(fn)
      assert.strictEqual(engine.output, 5)
    }
  )

  only(
    "input is encoded by a definition whose Effect schema was converted to a Standard Schema, too",
    () => {
      const Paid = Event.define("paid", {
        data: Schema.toStandardSchemaV1(Schema.Struct({ at: Schema.Date }))
      })
      const book = make({ id: "book", triggers: [Paid] }, () => Effect.void)
      return make(order, () => Step.invoke(book, { at: new Date(5) }))
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.ops("Invoke")[0]?.input, '{"at":"1970-01-01T00:00:00.005Z"}')
    }
  )

  only(
    "input from an async handler is encoded too, and input that fits in neither form is refused",
    () =>
      createFunction(order, async ({ step }) => {
        await step.invokeAsync(pay, { amount: 6 })
        await step.invokeAsync(pay, { amount: {} } as never)
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(
        engine.ops("InvokeAsync").map(({ input }) => input),
        ['{"amount":"6"}']
      )
      assert.strictEqual(engine.error?.name, "SchemaValidationError")
      assert.match(engine.error?.message ?? "", /^Input of invoked function "pay" does not fit its schema: /)
    }
  )

  only(
    "an InvokeError has no `failure` when the child failed in another way",
    () => invoking,
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire(
        "pay:0",
        failure("InvokeError", "Invoked function 'pay' failed: boom", {
          code: "INVOKE_FAILED",
          retryable: false,
          data: { functionId: "pay", errorCause: "boom" },
          cause: { name: "Error", message: "boom" }
        })
      )
      await engine.turn(fn)
      assert.strictEqual(engine.output, "failed otherwise")
    }
  )

  only(
    "an async handler sees the child's error as the cause",
    () =>
      createFunction(order, async ({ step }) => {
        const error: unknown = await step.invoke(pay, { amount: 500 }).catch((error: unknown) => error)
        const { cause } = error as InvokeError
        return cause instanceof Error ? [cause.name, (cause as Partial<Declined>).reason] : cause
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire(
        "pay:0",
        failure("InvokeError", "Invoked function 'pay' failed: limit", {
          code: "INVOKE_FAILED",
          retryable: false,
          data: { functionId: "pay", errorCause: "limit" },
          cause: { name: "Declined", message: "", data: { _tag: "Declined", reason: "limit" } }
        })
      )
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, ["Declined", "limit"])
    }
  )
})
