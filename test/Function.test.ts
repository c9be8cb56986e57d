import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { z } from "zod"
import { functionCodeHash } from "../src/CodeHash.ts"
import { ValidationError } from "../src/Errors.ts"
import * as Event from "../src/Event.ts"
import {
  createFunction,
  type EffectFunction,
  type FunctionConfig,
  type FunctionRequirements,
  ironflow,
  type IronflowFunction,
  isEffectFunction,
  make
} from "../src/Function.ts"
import { toRegistration } from "../src/Protocol/Registration.ts"
import * as Step from "../src/Step.ts"

const Order = z.object({ orderId: z.string(), amount: z.number() })

const OrderPlaced = Event.define("order.placed", {
  data: Schema.Struct({ orderId: Schema.String, placedAt: Schema.DateFromString })
})
const OrderCancelled = Event.define("order.cancelled", { data: Schema.Struct({ reason: Schema.String }) })

class Payments extends Context.Service<Payments, { readonly charge: Effect.Effect<string> }>()(
  "test/Payments"
) {}

const full = {
  id: "billing/process-order",
  name: "Process Order",
  description: "sells",
  triggers: [
    { event: "order.placed" },
    { event: "order.*", expression: "event.data.priority > 5" },
    { cron: "0 */6 * * *", event: "scheduled.cleanup", timezone: "Europe/Berlin" },
    { cron: "0 9 * * 1-5" }
  ],
  retry: { maxAttempts: 5, initialDelayMs: 2000, backoffFactor: 3 },
  timeout: 300_000,
  concurrency: { limit: 10, key: "event.data.customerId" },
  mode: "pull",
  actorKey: "event.data.customerId",
  schema: Order,
  secrets: ["STRIPE_SECRET_KEY"],
  stepTimeout: "30s",
  recording: true,
  recordingRetention: "30d",
  version: "2",
  versioning: "pin",
  keepRuns: { completed: "1h", failed: "forever", cancelled: 60_000 },
  metadata: { requires: { region: "eu" } }
} satisfies FunctionConfig<typeof Order>

describe("createFunction", () => {
  it("returns the configuration and the handler", () => {
    const handler = async () => "done"

    const fn = ironflow.createFunction(full, handler)

    assert.strictEqual(fn.config, full)
    assert.strictEqual(fn.handler, handler)
    assert.isFalse(isEffectFunction(fn))
  })

  it("types event.data according to the schema, and as `any` without a schema", () => {
    createFunction({ id: "typed", triggers: [], schema: Order }, async ({ event, step }) => {
      expectTypeOf(event.data).toEqualTypeOf<{ orderId: string; amount: number }>()
      return step.run("charge", async () => event.data.amount)
    })
    createFunction({ id: "effect-schema", triggers: [], schema: OrderPlaced.schema }, ({ event }) => {
      expectTypeOf(event.data).toEqualTypeOf<{ readonly orderId: string; readonly placedAt: Date }>()
    })
    createFunction({ id: "open", triggers: [] }, async ({ event }) => {
      expectTypeOf(event.data).toBeAny()
      return event.data.whatever.there.may.be
    })

    const fn = createFunction({ id: "output", triggers: [] }, async () => ({ receipt: "r-1" }))
    expectTypeOf<Step.InvokeOutput<typeof fn>>().toEqualTypeOf<{ receipt: string }>()
  })

  it("ignores fields that it does not know", () => {
    const config = { id: "extra", triggers: [], cancelOn: [{ event: "order.cancelled" }] }

    assert.strictEqual(createFunction(config, () => undefined).config.id, "extra")
  })

  const bad: ReadonlyArray<readonly [problem: string, change: Record<string, unknown>, message: RegExp]> = [
    ["no id", { id: undefined }, /function id must be a string, got undefined/],
    ["a blank id", { id: " " }, /function id must not be empty/],
    ["white space in the id", { id: "process order" }, /must not contain white space/],
    ["a wildcard in the id", { id: "order.*" }, /must not contain white space, \* or >/],
    ["a very long id", { id: "x".repeat(257) }, /257 characters, and the limit is 256/],
    ["a name that is not a string", { name: 7 }, /"f": `name` must be a string.*got 7/],
    ["no triggers", { triggers: undefined }, /"f": `triggers` must be an array/],
    ["triggers that are not an array", { triggers: { event: "a" } }, /"f": `triggers` must be an array/],
    ["an empty trigger", { triggers: [{}] }, /"f": `triggers\[0\]` needs `event` or `cron`/],
    [
      "a bad pattern",
      { triggers: [{ event: "order.>.x" }] },
      /`triggers\[0\]`: `event`.*the wildcard ">" may only stand at the end/
    ],
    ["a blank event", { triggers: [{ event: " " }] }, /`triggers\[0\]`: `event`.*not blank/],
    [
      "a bad expression",
      { triggers: [{ event: "a", expression: "event.data.x >" }] },
      /`expression`: Invalid CEL.*at character/
    ],
    ["a bad cron", { triggers: [{ cron: "every day" }] }, /`cron`: "every day" is not a cron schedule/],
    [
      "a cron value out of range",
      { triggers: [{ cron: "61 * * * *" }] },
      /`cron`: "61 \* \* \* \*" is not a cron/
    ],
    [
      "a bad zone",
      { triggers: [{ cron: "0 9 * * *", timezone: "Mars/Olympus" }] },
      /"Mars\/Olympus" is not a time zone/
    ],
    ["a zone without cron", { triggers: [{ event: "a", timezone: "UTC" }] }, /`timezone`: it needs `cron`/],
    [
      "a pattern as a cron's event",
      { triggers: [{ cron: "0 9 * * *", event: "a.*" }] },
      /must not contain the wildcards/
    ],
    [
      "no attempts",
      { retry: { maxAttempts: 0 } },
      /^`maxAttempts` of the retry of function "f" must be an integer, at least 1 .*, got 0$/
    ],
    ["a timeout of zero", { timeout: 0 }, /"f": `timeout` must be a positive/],
    ["an endless timeout", { timeout: Infinity }, /"f": `timeout` must be a positive/],
    [
      "a limit of zero",
      { concurrency: { limit: 0 } },
      /`concurrency.limit` must be an integer, at least 1, got 0/
    ],
    [
      "a bad concurrency key",
      { concurrency: { limit: 1, key: "event.data.a == 1" } },
      /`concurrency.key` must be a dotted path/
    ],
    ["a bad actor key", { actorKey: "event..a" }, /`actorKey` must be a dotted path/],
    ["an unknown mode", { mode: "both" }, /`mode` must be "push" or "pull", got "both"/],
    ["an invalid schema", { schema: {} }, /`schema` must be a Standard Schema/],
    ["a secret without a name", { secrets: [""] }, /name of a secret of function "f" must not be empty/],
    [
      "a step timeout of zero",
      { stepTimeout: "0s" },
      /`stepTimeout` of function "f": "0s" is not a positive/
    ],
    ["a blank version", { version: " " }, /`version` must be a string of at most 256 characters/],
    ["an unknown versioning", { versioning: "some" }, /`versioning` must be "latest" or "pin", got "some"/],
    ["an invalid `keepRuns`", { keepRuns: "soon" }, /`keepRuns`/],
    [
      "an unknown status in `keepRuns`",
      { keepRuns: { done: "1d" } },
      /has "done", which is not a status of a run that has ended: use completed, failed, cancelled/
    ],
    ["an unknown retention", { recordingRetention: "1y" }, /one of "7d", "30d", "90d", "forever", got "1y"/],
    [
      "metadata that JSON does not have",
      { metadata: { n: 1n } },
      /`metadata` cannot be stored: \$\.n is a BigInt/
    ]
  ]
  it.each(bad)("refuses %s with an error that names function and field", (_problem, change, message) => {
    const config = { id: "f", triggers: [], ...change } as unknown as FunctionConfig

    assert.throws(() => createFunction(config, () => undefined), ValidationError)
    assert.throws(() => createFunction(config, () => undefined), message)
  })

  it("refuses a handler that is not a function", () => {
    assert.throws(
      () => createFunction({ id: "f", triggers: [] }, undefined as unknown as () => void),
      /Function "f": the handler must be a function, got undefined/
    )
  })
})

describe("make", () => {
  it("types the event according to its definitions, and keeps the handler's requirements, failures and result", () => {
    const fn = make(
      { id: "process-order", triggers: [OrderPlaced], retry: { maxAttempts: 5 } },
      Effect.fnUntraced(function* ({ event }) {
        expectTypeOf(event.data).toEqualTypeOf<{ readonly orderId: string; readonly placedAt: Date }>()
        const payments = yield* Payments
        const receipt = yield* payments.charge
        yield* Step.sleep("cool off", "5 minutes")
        return { receipt }
      })
    )

    expectTypeOf(fn).toExtend<
      EffectFunction<
        { receipt: string },
        Step.StepCallError,
        Payments,
        (typeof OrderPlaced)["schema"]["Type"]
      >
    >()
    expectTypeOf<FunctionRequirements<typeof fn>>().toEqualTypeOf<Payments>()
    expectTypeOf<FunctionRequirements<IronflowFunction>>().toBeNever()
    assert.isTrue(isEffectFunction(fn))
    assert.deepStrictEqual(fn.config.triggers, [{ event: "order.placed" }])
    assert.deepStrictEqual(fn.config.definitions, [OrderPlaced])
  })

  it("types the data as the union of the definitions' data, and as `any` with a plain trigger or without triggers", () => {
    make({ id: "either", triggers: [OrderPlaced, OrderCancelled] }, ({ event }) => {
      expectTypeOf(event.data).toEqualTypeOf<
        { readonly orderId: string; readonly placedAt: Date } | { readonly reason: string }
      >()
      return Effect.void
    })
    make({ id: "plain", triggers: [OrderPlaced, { event: "order.>" }] }, ({ event }) => {
      expectTypeOf(event.data).toBeAny()
      return Effect.void
    })
    make({ id: "invoked", triggers: [] }, ({ event }) => {
      expectTypeOf(event.data).toBeAny()
      return Effect.void
    })
  })

  it("refuses what createFunction refuses", () => {
    assert.throws(() => make({ id: "a b", triggers: [] }, () => Effect.void), /must not contain white space/)
    assert.throws(
      () => make({ id: "f", triggers: undefined as unknown as [] }, () => Effect.void),
      /"f": `triggers` must be an array/
    )
  })
})

describe("toRegistration", () => {
  it("has every default", () => {
    const handler = () => undefined
    const fn = createFunction({ id: "f", triggers: [{ event: "order.placed" }] }, handler)

    assert.deepStrictEqual(toRegistration(fn), {
      id: "f",
      name: "f",
      triggers: [{ event: "order.placed" }],
      retry: { maxAttempts: 3, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 300_000 },
      timeoutMs: 600_000,
      mode: "pull",
      secrets: [],
      codeHash: functionCodeHash(fn)
    })
  })

  it("has everything that was configured, with the schema as JSON Schema and without the step timeout", () => {
    const fn = createFunction(full, () => undefined)
    const schema = {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      properties: { orderId: { type: "string" }, amount: { type: "number" } },
      required: ["orderId", "amount"]
    }

    assert.deepStrictEqual(toRegistration(fn), {
      id: "billing/process-order",
      name: "Process Order",
      triggers: full.triggers.map((trigger) =>
        "event" in trigger && !("cron" in trigger) ? { ...trigger, schema } : trigger
      ),
      retry: { maxAttempts: 5, initialDelayMs: 2000, backoffFactor: 3, maxDelayMs: 300_000 },
      timeoutMs: 300_000,
      mode: "pull",
      secrets: ["STRIPE_SECRET_KEY"],
      codeHash: functionCodeHash(fn),
      concurrency: { limit: 10, key: "event.data.customerId" },
      actorKey: "event.data.customerId",
      recording: true,
      recordingRetention: "30d",
      metadata: { requires: { region: "eu" } },
      version: "2",
      versioning: "pin",
      keepRuns: { completed: 3_600_000, failed: "forever", cancelled: 60_000 }
    })
  })

  it("hashes the handler's source text, so that a change of code shows", () => {
    const hash = (handler: () => unknown) =>
      functionCodeHash(createFunction({ id: "f", triggers: [] }, handler))

    assert.match(
      hash(() => 1),
      /^[0-9a-f]{16}$/
    )
    assert.strictEqual(
      hash(() => 1),
      hash(() => 1)
    )
    assert.notStrictEqual(
      hash(() => 1),
      hash(() => 2)
    )
  })
})
