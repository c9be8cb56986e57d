import { assert, describe, it } from "@effect/vitest"
import { runInNewContext } from "node:vm"
import * as Data from "effect/Data"
import {
  LimitExceededError,
  NonRetryableError,
  StepError,
  ValidationError,
  WaitTimeoutError
} from "../src/Errors.ts"
import {
  decodeResult,
  encodeResult,
  fromLegacyOutput,
  plainResult,
  toLegacyOutput
} from "../src/ResultEncoding.ts"

const roundTrip = (value: unknown): unknown => decodeResult(encodeResult(value, "Result"))

class Sold extends Data.TaggedError("Sold")<{ readonly item: string }> {}

describe("encodeResult", () => {
  it.each<readonly [what: string, value: unknown]>([
    ["nothing", undefined],
    ["a string", "a"],
    ["plain data", { a: [1, { b: null }] }],
    ["data that looks like an error", { "ironflow:error": { name: "Error", message: "forged" } }],
    ["an object with a message and a stack", { message: "m", stack: "s" }]
  ])("writes %s as JSON.stringify does", (_what, value) => {
    assert.strictEqual(encodeResult(value, "Result"), JSON.stringify(value))
    assert.deepStrictEqual(roundTrip(value), value)
  })

  it("refuses the same values with errors as without them", () => {
    assert.throws(
      () => encodeResult([new Error("gone"), { a: 1n }], "Result"),
      "Result cannot be stored: $[1].a is a BigInt"
    )
    assert.throws(() => encodeResult({ e: new Error("gone"), m: new Map() }, "Result"), ValidationError)
    const cyclic: Array<unknown> = [new Error("gone")]
    cyclic.push(cyclic)
    assert.throws(() => encodeResult(cyclic, "Result"))
    let deep: unknown = new Error("gone")
    for (let i = 0; i < 100; i++) deep = [deep]
    assert.throws(() => encodeResult(deep, "Result"), LimitExceededError)
  })
})

describe("an error in a result", () => {
  it.each<readonly [what: string, error: Error]>([
    ["a plain error", new Error("gone")],
    ["a built-in error", new TypeError("no function")],
    [
      "an error with a code and data",
      Object.assign(new Error("refused"), { code: "ECONNREFUSED", port: 80 })
    ],
    ["an error with a cause", new Error("outer", { cause: new RangeError("inner") })],
    ["an error of Ironflow", new NonRetryableError("declined", { code: "CARD_DECLINED" })],
    ["the error of a wait", new WaitTimeoutError("approval", "order.approved", 1000)],
    ["the error of a step", new StepError("x", { stepId: "r:s:0", stepName: "s", cause: new Error("y") })],
    ["a DOMException", new DOMException("gone", "AbortError")],
    ["an error of another realm", runInNewContext("new SyntaxError('x')") as Error],
    ["a failure of Effect", new Sold({ item: "tea" })],
    ["an error whose class defines its form in JSON", Object.assign(new Error("x"), { toJSON: () => ({}) })]
  ])("comes back as an error: %s", (_what, error) => {
    for (const back of [
      roundTrip(error),
      (roundTrip({ list: [{ reason: error }] }) as { list: [{ reason: unknown }] }).list[0].reason,
      (roundTrip({ toJSON: () => ({ error }) }) as { error: unknown }).error
    ]) {
      assert.instanceOf(back, Error)
      assert.strictEqual(back.name, error.name)
      assert.strictEqual(back.message, error.message)
      const { code } = error as { readonly code?: unknown }
      if (typeof code === "string") assert.strictEqual((back as { code?: unknown }).code, code)
      if (error.cause instanceof Error) {
        assert.instanceOf(back.cause, Error)
        assert.strictEqual((back.cause as Error).message, error.cause.message)
      }
      if (!(error instanceof DOMException)) assert.include(back.stack, error.name)
    }
  })

  it("has the same class as after a step", () => {
    assert.instanceOf(roundTrip(new TypeError("x")), TypeError)
    assert.instanceOf(roundTrip(new NonRetryableError("x")), NonRetryableError)
    assert.strictEqual((roundTrip(new Sold({ item: "tea" })) as Sold).item, "tea")
  })

  it("comes back from a legacy server that re-encodes JSON", () => {
    const value = [{ status: "rejected", reason: new TypeError("gone") }]
    const forged = { "ironflow:result": { "ironflow:error": { name: "Error", message: "forged" } } }
    for (const each of [value, forged, { a: forged }, [forged], undefined, "text"]) {
      const text = encodeResult(each, "Result")
      const sent = toLegacyOutput(text)
      const back = sent === undefined ? undefined : (JSON.parse(JSON.stringify(sent)) as unknown)

      assert.deepStrictEqual(decodeResult(fromLegacyOutput(back) ?? JSON.stringify(back)), roundTrip(each))
    }
  })

  it("is an object with name, message and code for readers that do not know errors", () => {
    const text = encodeResult([new NonRetryableError("gone"), { "ironflow:error": 1 }], "Result")

    assert.deepStrictEqual(plainResult(text), [
      { name: "NonRetryableError", message: "gone", code: "NON_RETRYABLE" },
      { "ironflow:error": 1 }
    ])
  })

  it("keeps its fields, except those that JSON does not have", () => {
    const error = Object.assign(new Error("outer"), {
      inner: new TypeError("inner"),
      headers: new Headers({ a: "b" }),
      list: [new Map([[1, 2]])],
      at: new Date(0)
    })

    const { inner, list, at, ...rest } = roundTrip(error) as typeof error
    assert.deepStrictEqual<unknown>(
      { inner, list, at },
      { inner: { name: "TypeError", message: "inner" }, list: [null], at: "1970-01-01T00:00:00.000Z" }
    )
    assert.notProperty(rest, "headers")
  })
})

describe("data that looks like a stored error", () => {
  const forged = { "ironflow:error": { name: "Error", message: "forged" } }
  const twice = { "\\ironflow:error": forged, "\\\\ironflow:error": [forged] }

  it.each<readonly [what: string, value: unknown]>([
    ["alone", forged],
    ["nested", { a: [forged] }],
    ["nested under the same key", { "ironflow:error": forged }],
    ["with keys that look escaped", twice]
  ])("stays data: %s", (_what, value) => {
    assert.deepStrictEqual(roundTrip(value), value)

    const [back, error] = roundTrip([value, new Error("real")]) as [unknown, unknown]
    assert.deepStrictEqual(back, value)
    assert.instanceOf(error, Error)
  })

  it("stays data in results that were stored before errors had a form", () => {
    assert.deepStrictEqual(decodeResult(JSON.stringify(forged)), forged)
    assert.deepStrictEqual(decodeResult(JSON.stringify({ value: forged, writes: [] })), {
      value: forged,
      writes: []
    })
  })

  it("inside an error stays data", () => {
    const back = roundTrip(Object.assign(new Error("real"), { details: forged })) as { details: unknown }

    assert.deepStrictEqual(back.details, forged)
  })
})

/** A random result: it may have errors, and keys like those under which errors are stored. */
const valueOf = (random: () => number, depth: number): unknown => {
  const any = <A>(choices: ReadonlyArray<A>): A => choices[Math.floor(random() * choices.length)]!
  const some = (make: () => unknown) => Array.from({ length: Math.floor(random() * 4) }, make)
  const inner = () => valueOf(random, depth - 1)
  const names = ["a", "ironflow:error", "\\ironflow:error", "\\\\ironflow:error", "__proto__", "value"]
  const kinds = ["leaf", "error", ...(depth > 0 ? ["list", "object", "object"] : [])]
  switch (any(kinds)) {
    case "error":
      return Object.assign(new RangeError(any(names)), { data: JSON.parse(JSON.stringify(inner() ?? null)) })
    case "list":
      return some(inner)
    case "object":
      return Object.fromEntries(some(() => 0).map(() => [any(names), inner()]))
    default:
      return any([0, 1.5, "", any(names), true, null])
  }
}

/** Replaces errors by their facts, so that two values can be compared. */
const shown = (value: unknown): unknown => {
  if (value instanceof Error) return ["an error", value.name, value.message, { ...value }]
  if (Array.isArray(value)) return value.map(shown)
  return typeof value === "object" && value !== null
    ? Object.entries(value).map(([key, member]) => [key, shown(member)])
    : value
}

describe("decodeResult", () => {
  const seed = Number(process.env.IRONFLOW_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))

  it(`returns what encodeResult was given, whatever its keys are (IRONFLOW_TEST_SEED=${seed})`, () => {
    let state = seed
    // the mulberry32 generator
    const random = () => {
      state = (state + 0x6d2b79f5) | 0
      let t = Math.imul(state ^ (state >>> 15), 1 | state)
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
    }
    for (let i = 0; i < 2000; i++) {
      const value = valueOf(random, 4)
      const message = `seed ${seed}, value ${i}: ${JSON.stringify(shown(value))}`

      assert.deepStrictEqual(shown(roundTrip(value)), shown(value), message)
      const foreign = JSON.parse(JSON.stringify({ sent: toLegacyOutput(encodeResult(value, "Result")) })) as {
        sent: unknown
      }
      const back = fromLegacyOutput(foreign.sent) ?? JSON.stringify(foreign.sent)
      assert.deepStrictEqual(shown(decodeResult(back)), shown(value), message)
    }
  })
})
