/**
 * The types of results of steps and invoked functions, and the values that are refused: `tsc` checks this file, nothing runs
 * it. `test/StoredType.test.ts` checks that storage does what these types say.
 */
import { expectTypeOf } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createFunction, type InvokeError, type StepClient, type TxResult } from "@ironflow/node"
import { Event, IronflowFunction, Step } from "@ironflow/node/effect"
import { z } from "zod"

declare const step: StepClient

interface Order {
  readonly id: string
  readonly total: number
}
interface Tree {
  value: number
  children: Array<Tree>
}
interface Comment {
  at: Date
  replies: Array<Comment>
}
type JsonValue = string | number | boolean | null | Array<JsonValue> | { [key: string]: JsonValue }
type OrderId = string & { readonly __brand: "OrderId" }
declare const orderBrand: unique symbol
type BrandedOrder = Order & { readonly [orderBrand]: true }

/** Declares a value of a type, without making one. */
declare const some: <T>() => Promise<T>

// -----------------------------------------------------------------------------
// Results of step.run have the type that they have after storage
// -----------------------------------------------------------------------------

export const results = async () => {
  expectTypeOf(await step.run("now", () => new Date())).toEqualTypeOf<string>()
  expectTypeOf(await step.run("now", async () => ({ at: new Date(), n: 1 }))).toEqualTypeOf<{
    at: string
    n: number
  }>()
  expectTypeOf(await step.run("nothing", () => undefined)).toEqualTypeOf<undefined>()
  expectTypeOf(await step.run("nothing", async () => {})).toEqualTypeOf<void>()
  expectTypeOf(await step.run("never", (): never => some() as never)).toEqualTypeOf<never>()
  expectTypeOf(await step.run("either", () => some<Date | undefined>())).toEqualTypeOf<string | undefined>()
  expectTypeOf(await step.run("either", () => some<Date | string>())).toEqualTypeOf<string>()

  // members
  expectTypeOf(await step.run("methods", () => ({ id: 1, cancel: () => 2 }))).toEqualTypeOf<{ id: number }>()
  expectTypeOf(
    await step.run("optional", () => some<{ a?: Date; readonly b: number; c: Date | null }>())
  ).toEqualTypeOf<{ a?: string; readonly b: number; c: string | null }>()
  expectTypeOf(await step.run("record", () => some<Record<string, Date>>())).toEqualTypeOf<
    Record<string, string>
  >()
  expectTypeOf(
    await step.run("union", () => some<{ k: "a"; at: Date } | { k: "b"; n: number }>())
  ).toEqualTypeOf<{ k: "a"; at: string } | { k: "b"; n: number }>()
  class Money {
    readonly cents: number
    #currency = "EUR"
    constructor(cents: number) {
      this.cents = cents
    }
    format() {
      return `${this.cents} ${this.#currency}`
    }
  }
  expectTypeOf(await step.run("class", () => new Money(5))).toEqualTypeOf<{ readonly cents: number }>()

  // arrays and tuples
  expectTypeOf(await step.run("list", () => [new Date()])).toEqualTypeOf<Array<string>>()
  expectTypeOf(await step.run("list", () => some<ReadonlyArray<Date>>())).toEqualTypeOf<
    ReadonlyArray<string>
  >()
  expectTypeOf(await step.run("holes", () => [1, undefined])).toEqualTypeOf<Array<number | null>>()
  expectTypeOf(await step.run("tuple", () => [1, "a", new Date()] as const)).toEqualTypeOf<
    readonly [1, "a", string]
  >()
  expectTypeOf(await step.run("tuple", () => some<[id: string, at?: Date]>())).toEqualTypeOf<
    [id: string, at?: string | null]
  >()

  // toJSON
  expectTypeOf(await step.run("url", () => ({ url: new URL("https://example.com") }))).toEqualTypeOf<{
    url: string
  }>()
  expectTypeOf(await step.run("bytes", () => Buffer.from("a"))).toEqualTypeOf<{
    type: "Buffer"
    data: Array<number>
  }>()
  expectTypeOf(
    await step.run("own", () => ({ toJSON: () => ({ at: new Date(), total: 5 }) }))
  ).toEqualTypeOf<{ at: string; total: number }>()

  // errors stay errors
  expectTypeOf(await step.run("errors", () => Promise.allSettled([some<number>()]))).toEqualTypeOf<
    [PromiseSettledResult<number>]
  >()
  class CardError extends Error {
    readonly declinedAt = new Date()
  }
  const declined = await step.run("errors", () => new CardError())
  expectTypeOf(declined.declinedAt).toEqualTypeOf<string>()
  expectTypeOf(declined).toExtend<Error>()
}

export const resultsThatStay = async () => {
  expectTypeOf(await step.run("order", () => some<Order>())).toEqualTypeOf<Order>()
  expectTypeOf(await step.run("tree", () => some<Tree>())).toEqualTypeOf<Tree>()
  expectTypeOf(await step.run("json", () => some<JsonValue>())).toEqualTypeOf<JsonValue>()
  expectTypeOf(await step.run("brand", () => some<OrderId>())).toEqualTypeOf<OrderId>()
  expectTypeOf(await step.run("brand", () => some<BrandedOrder>())).toEqualTypeOf<BrandedOrder>()
  expectTypeOf(await step.run("any", () => JSON.parse("1"))).toBeAny()
  expectTypeOf(await step.run("unknown", () => some<unknown>())).toBeUnknown()
  expectTypeOf(await step.run("in it", () => some<{ a: unknown; b: Array<unknown> }>())).toEqualTypeOf<{
    a: unknown
    b: Array<unknown>
  }>()
  expectTypeOf(await step.run("explicit", () => some<Order>())).toEqualTypeOf<Order>()
  expectTypeOf(await step.run<Order>("explicit", async () => ({ id: "o", total: 1 }))).toEqualTypeOf<Order>()
  expectTypeOf(await step.run("context", async ({ attempt, signal }) => ({ attempt, a: signal.aborted })))
    // the context types the parameter
    .toEqualTypeOf<{ attempt: number; a: boolean }>()
  const deep = await step.run("recursive", () => some<Comment>())
  expectTypeOf(deep.replies[0]?.replies[0]?.at).toEqualTypeOf<string | undefined>()
}

// -----------------------------------------------------------------------------
// Helpers that do not know the type
// -----------------------------------------------------------------------------

export const once = async <T>(name: string, fn: () => Promise<T>): Promise<T> => step.run(name, fn)
export const awaited = async <T>(fn: () => T | Promise<T>): Promise<T> => {
  const result = await step.run("awaited", async () => fn())
  return result
}
export const explicit = async <T extends object>(fn: () => Promise<T>): Promise<T> =>
  await step.run<T>("explicit", fn)
export const nullable = <T>(fn: () => Promise<T | null>): Promise<T | null> => step.run("nullable", fn)
export const inObject = async <T>(fn: () => Promise<T>): Promise<{ value: T }> => {
  const result = await step.run("in", async ({ attempt: _ }) => ({ value: await fn() }))
  return result
}
export const list = async <T extends { id: string }>(fn: () => Promise<Array<T>>): Promise<Array<string>> =>
  (await step.run("list", fn)).map(({ id }) => id)
export const wrap =
  <A extends ReadonlyArray<unknown>, R>(name: string, fn: (...args: A) => R | Promise<R>) =>
  (...args: A): Promise<R> =>
    step.run(name, () => fn(...args))
export const effectHelper = <A, E, R>(effect: Effect.Effect<A, E, R>) => Step.run("helper", effect)
export const usesThem = async () => {
  expectTypeOf(await once("a", async () => ({ n: 1 }))).toEqualTypeOf<{ n: number }>()
}

// -----------------------------------------------------------------------------
// What JSON cannot carry
// -----------------------------------------------------------------------------

export const refused = async () => {
  // @ts-expect-error -- A bigint cannot be stored
  await step.run("bigint", () => 10n)
  // @ts-expect-error -- A bigint cannot be stored
  await step.run("bigint", async () => 10n)
  // @ts-expect-error -- A symbol cannot be stored
  await step.run("symbol", async () => Symbol("s"))
  // @ts-expect-error -- A function cannot be stored
  await step.run("function", async () => () => 1)
  // @ts-expect-error -- A Map cannot be stored
  await step.run("map", async () => new Map<string, number>())
  // @ts-expect-error -- A Set cannot be stored
  await step.run("set", async () => new Set<string>())
  // @ts-expect-error -- A RegExp cannot be stored
  await step.run("regexp", () => /a/)
  // @ts-expect-error -- A bigint cannot be stored, at `total`
  await step.run("member", async () => ({ total: 10n }))
  // @ts-expect-error -- A Map cannot be stored, at `a.b`
  await step.run("member", async ({ signal: _ }) => ({ a: { b: new Map() } }))
  // @ts-expect-error -- A Set cannot be stored, in an array
  await step.run("element", async () => [new Set<string>()])
  // @ts-expect-error -- A function cannot be stored, in an array
  await step.run("element", async () => [() => 1])
  // @ts-expect-error -- A promise cannot be stored, at `later`
  await step.run("promise", async () => ({ later: some<number>() }))
  // @ts-expect-error -- A bigint cannot be stored, with an explicit type
  await step.run<bigint>("explicit", async () => 10n)
  // @ts-expect-error -- A Map cannot be stored with the writes of a transaction
  await step.tx("tx", () => new Map())
  // @ts-expect-error -- A Map cannot be stored, even with a schema, which decodes the stored value
  await step.run("schema", () => new Map(), { schema: z.map(z.string(), z.number()) })
  // @ts-expect-error -- A Date comes back as a string
  const at: Date = await step.run("now", () => new Date())
  // @ts-expect-error -- Methods do not come back
  void (await step.run("methods", () => ({ id: 1, cancel: () => 2 }))).cancel()
  // @ts-expect-error -- A Map cannot be the result of a function
  createFunction({ id: "f", triggers: [] }, async () => new Map<string, number>())
  // @ts-expect-error -- no option of this name
  await step.run("options", () => 1, { schemas: z.number() })
  // @ts-expect-error -- no schema
  await step.run("options", () => 1, { schema: "number" })
  return at
}

export const refusedEffect = [
  // @ts-expect-error -- A bigint cannot be stored
  Step.run("bigint", Effect.succeed(10n)),
  // @ts-expect-error -- A Map cannot be stored, at `stock`
  Step.run("member", Effect.succeed({ stock: new Map<string, number>() })),
  // @ts-expect-error -- The effect returns another type than the schema
  Step.run("success", Effect.succeed({ id: 7 }), { success: Schema.Struct({ id: Schema.String }) }),
  // @ts-expect-error -- A Set cannot be the result of a function
  IronflowFunction.make({ id: "f", triggers: [] }, () => Effect.succeed(new Set<string>()))
]

// -----------------------------------------------------------------------------
// Schemas
// -----------------------------------------------------------------------------

export const decoded = async () => {
  const Receipt = z.object({ id: z.string(), at: z.coerce.date() })
  const options = { schema: Receipt, timeout: "5s" } as const
  expectTypeOf(await step.run("a", () => ({ id: "r", at: new Date() }), options)).toEqualTypeOf<{
    id: string
    at: Date
  }>()
  expectTypeOf(await step.run("a", ({ signal }) => fetch("/", { signal }).then((r) => r.json()), options))
    // whatever type the code returns
    .toEqualTypeOf<{ id: string; at: Date }>()
  expectTypeOf(
    await step.run("a", () => ({ at: new Date() }), { schema: Schema.Struct({ at: Schema.Date }) })
  ).toEqualTypeOf<{ readonly at: Date }>()
  expectTypeOf(await step.tx("a", () => new Date(), { schema: z.coerce.date() })).toEqualTypeOf<
    TxResult<Date>
  >()
  expectTypeOf(await step.tx("a", () => new Date())).toEqualTypeOf<TxResult<string>>()
  expectTypeOf(await step.invoke("ship", {}, { schema: Receipt })).toEqualTypeOf<{ id: string; at: Date }>()
  expectTypeOf(
    await step.map("all", [1, 2], async (n, s) => s.run("one", () => n), { schema: z.coerce.date() })
  ).toEqualTypeOf<Array<Date>>()
  expectTypeOf(
    await step.map("all", [1], async (n) => n, { schema: z.coerce.date(), onError: "allSettled" })
  ).toEqualTypeOf<Array<Date | Error>>()
}

export const branches = async () => {
  // the results of a branch's steps are stored; the result of the branch is not
  expectTypeOf(
    await step.parallel("all", [
      async (s) => s.run("now", () => new Date()),
      async (s) => new Date(await s.run("now", () => new Date()))
    ])
  ).toEqualTypeOf<[string, Date]>()
  expectTypeOf(
    await step.map("all", [1], async (n, s) => s.run("now", () => ({ n, at: new Date() })))
  ).toEqualTypeOf<Array<{ n: number; at: string }>>()
}

export const effects = Effect.gen(function* () {
  expectTypeOf(yield* Step.run("now", Effect.succeed(new Date()))).toEqualTypeOf<string>()
  expectTypeOf(
    yield* Step.run("now", Effect.succeed(new Date()), { success: Schema.Date })
  ).toEqualTypeOf<Date>()
  expectTypeOf(yield* Step.tx("now", () => Effect.succeed(new Date()))).toEqualTypeOf<TxResult<string>>()
})

// -----------------------------------------------------------------------------
// The type of an invocation comes from the function
// -----------------------------------------------------------------------------

const ship = createFunction(
  {
    id: "ship",
    triggers: [],
    schema: z.object({ order: z.string(), by: z.string().transform((text) => new Date(text)) })
  },
  async ({ event }) => {
    expectTypeOf(event.data).toEqualTypeOf<{ order: string; by: Date }>()
    return { parcel: event.data.order, at: new Date() }
  }
)
const free = createFunction({ id: "free", triggers: [] }, async () => "done")

class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
const Payment = Event.define("payment.due", {
  data: Schema.Struct({ amount: Schema.Number, due: Schema.Date })
})
const pay = IronflowFunction.make(
  { id: "pay", triggers: [Payment], success: Schema.Struct({ at: Schema.Date }), error: Declined },
  () => Effect.succeed({ at: new Date() })
)
const undeclared = IronflowFunction.make({ id: "undeclared", triggers: [Payment] }, () =>
  Effect.succeed({ at: new Date() })
)

export const invocations = async () => {
  expectTypeOf(await step.invoke(ship, { order: "o-1", by: "2030-01-01" })).toEqualTypeOf<{
    parcel: string
    at: string
  }>()
  expectTypeOf(
    await step.invoke(ship, { order: "o-1", by: "2030-01-01" }, { timeout: "1m" })
  ).toExtend<object>()
  expectTypeOf(await step.invokeAsync(ship, { order: "o-1", by: "2030-01-01" })).toEqualTypeOf<{
    runId: string
  }>()
  expectTypeOf(await step.invoke(free, { anything: 1 })).toEqualTypeOf<string>()
  expectTypeOf(await step.invoke(free)).toEqualTypeOf<string>()
  expectTypeOf(await step.invokeAsync(free)).toEqualTypeOf<{ runId: string }>()
  // @ts-expect-error -- its schema asks for an input
  await step.invoke(ship)
  // @ts-expect-error -- its schema asks for an input
  await step.invokeAsync(ship)
  expectTypeOf(await step.invoke(pay, { amount: 5, due: new Date() })).toEqualTypeOf<{ readonly at: Date }>()
  expectTypeOf(await step.invoke(undeclared, { amount: 5, due: new Date() })).toEqualTypeOf<{ at: string }>()
  expectTypeOf(await step.invoke("by-id")).toBeAny()
  expectTypeOf(await step.invoke<Order>("by-id", {})).toEqualTypeOf<Order>()
  // @ts-expect-error -- the schema takes the text of a date
  await step.invoke(ship, { order: "o-1", by: new Date() })
  // @ts-expect-error -- `by` is missing
  await step.invoke(ship, { order: "o-1" })
  // @ts-expect-error -- `by` is missing
  await step.invokeAsync(ship, { order: "o-1" })
  // @ts-expect-error -- the amount is a number
  await step.invoke(pay, { amount: "5", due: new Date() })
  // @ts-expect-error -- no function
  await step.invoke({ id: "ship" }, {})
}

export const effectInvocations = Effect.gen(function* () {
  const paying = Step.invoke(pay, { amount: 5, due: new Date() })
  expectTypeOf<Effect.Success<typeof paying>>().toEqualTypeOf<{ readonly at: Date }>()
  const reason = yield* Effect.map(paying, () => "").pipe(
    Effect.catchTag("InvokeError", (error) => {
      expectTypeOf(error.failure).toEqualTypeOf<Declined | undefined>()
      return Effect.succeed(error.failure?.reason)
    })
  )
  expectTypeOf(reason).toEqualTypeOf<string | undefined>()
  expectTypeOf(yield* Step.invoke(undeclared, { amount: 5, due: new Date() })).toEqualTypeOf<{ at: string }>()
  expectTypeOf(yield* Step.invoke(ship, { order: "o-1", by: "2030-01-01" })).toEqualTypeOf<{
    parcel: string
    at: string
  }>()
  expectTypeOf(yield* Step.invoke("by-id")).toBeUnknown()
  expectTypeOf(yield* Step.invoke(free)).toEqualTypeOf<string>()
  // @ts-expect-error -- its schema asks for an input
  yield* Step.invoke(ship)
  const byId = Step.invoke("pay", {}, { success: Schema.Date, error: Declined })
  expectTypeOf<Effect.Success<typeof byId>>().toEqualTypeOf<Date>()
  expectTypeOf<Extract<Effect.Error<typeof byId>, { failure?: unknown }>>().toExtend<InvokeError<Declined>>()
  // @ts-expect-error -- the amount is a number
  yield* Step.invoke(pay, { amount: "5", due: new Date() })
  // @ts-expect-error -- the due date is missing
  yield* Step.invokeAsync(pay, { amount: 5 })
  // @ts-expect-error -- `order` is missing
  yield* Step.invoke(ship, {})
})
