import { assert, describe, it, prop } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { expectTypeOf } from "vitest"
import * as Errors from "../src/Errors.ts"
import { deserializeError, invokeFailure, isRetryable, serializeError, toError } from "../src/Errors.ts"

/** One error of each class: code, retryable, message, and its own properties. */
const samples: ReadonlyArray<
  readonly [
    name: string,
    error: Errors.IronflowError,
    code: string,
    retryable: boolean,
    message: RegExp,
    props: Record<string, unknown>
  ]
> = [
  ["IronflowError", new Errors.IronflowError("m"), "UNKNOWN_ERROR", false, /^m$/, {}],
  [
    "IronflowError",
    new Errors.IronflowError("m", { code: "X", retryable: true, details: { a: 1 }, status: 418 }),
    "X",
    true,
    /^m$/,
    { details: { a: 1 }, status: 418 }
  ],
  ["ConnectionError", new Errors.ConnectionError("m"), "CONNECTION_LOST", true, /^m$/, {}],
  ["SubscriptionError", new Errors.SubscriptionError("m"), "SUBSCRIPTION_ERROR", true, /^m$/, {}],
  [
    "SubscriptionError",
    new Errors.SubscriptionError("m", { subscriptionId: "sub_1", code: "INVALID_PATTERN", retryable: false }),
    "INVALID_PATTERN",
    false,
    /^m$/,
    { subscriptionId: "sub_1" }
  ],
  ["TimeoutError", new Errors.TimeoutError("m", 30), "TIMEOUT", true, /^m$/, { timeoutMs: 30 }],
  [
    "WaitTimeoutError",
    new Errors.WaitTimeoutError("approval", "order.approved", 50),
    "WAIT_TIMEOUT",
    false,
    /"approval" timed out after 50ms.*"order.approved"/,
    { stepName: "approval", event: "order.approved", timeoutMs: 50 }
  ],
  [
    "FunctionTimeoutError",
    new Errors.FunctionTimeoutError("process-order", 600_000),
    "FUNCTION_TIMEOUT",
    true,
    /"process-order" timed out.*600000ms/,
    { functionId: "process-order", timeoutMs: 600_000 }
  ],
  [
    "ValidationError",
    new Errors.ValidationError("m"),
    "VALIDATION_ERROR",
    false,
    /^m$/,
    { validationErrors: [] }
  ],
  [
    "SchemaValidationError",
    new Errors.SchemaValidationError("m", { validationErrors: ["amount: expected number"] }),
    "VALIDATION_ERROR",
    false,
    /^m$/,
    { validationErrors: ["amount: expected number"] }
  ],
  [
    "LimitExceededError",
    new Errors.LimitExceededError('Result of step "charge"', 5, 4, "bytes"),
    "LIMIT_EXCEEDED",
    false,
    /^Result of step "charge" is too large: 5 bytes, and the limit is 4 bytes$/,
    { what: 'Result of step "charge"', size: 5, limit: 4, unit: "bytes" }
  ],
  ["SignatureError", new Errors.SignatureError("m"), "SIGNATURE_INVALID", false, /^m$/, {}],
  [
    "FunctionNotFoundError",
    new Errors.FunctionNotFoundError("f"),
    "FUNCTION_NOT_FOUND",
    false,
    /^Function not found: f$/,
    { functionId: "f", details: { functionId: "f" } }
  ],
  [
    "RunNotFoundError",
    new Errors.RunNotFoundError("run_1"),
    "RUN_NOT_FOUND",
    false,
    /^Run not found: run_1$/,
    { runId: "run_1", details: { runId: "run_1" } }
  ],
  [
    "StepNotFoundError",
    new Errors.StepNotFoundError("run_1", "run_1:charge:0"),
    "STEP_NOT_FOUND",
    false,
    /run_1 has no step "run_1:charge:0"/,
    { runId: "run_1", stepId: "run_1:charge:0" }
  ],
  [
    "StepError",
    new Errors.StepError("declined", { stepId: "r:charge:0", stepName: "charge" }),
    "STEP_FAILED",
    true,
    /^declined$/,
    { stepId: "r:charge:0", stepName: "charge", details: { stepId: "r:charge:0", stepName: "charge" } }
  ],
  [
    "StepError",
    new Errors.StepError("declined", { stepId: "r:charge:0", stepName: "charge", retryable: false }),
    "STEP_FAILED",
    false,
    /^declined$/,
    {}
  ],
  ["NonRetryableError", new Errors.NonRetryableError("m"), "NON_RETRYABLE", false, /^m$/, {}],
  [
    "NonRetryableError",
    new Errors.NonRetryableError("m", { code: "DECLINED" }),
    "DECLINED",
    false,
    /^m$/,
    {}
  ],
  [
    "RetryAfterError",
    new Errors.RetryAfterError("m", "30s"),
    "RETRY_AFTER",
    true,
    /^m$/,
    { retryAfter: "30s" }
  ],
  ["NotConfiguredError", new Errors.NotConfiguredError(), "NOT_CONFIGURED", false, /IRONFLOW_SERVER_URL/, {}],
  [
    "InvokeError",
    new Errors.InvokeError("pay", "run_2", "declined"),
    "INVOKE_FAILED",
    false,
    /'pay' \(run run_2\) failed: declined$/,
    {
      functionId: "pay",
      childRunId: "run_2",
      errorCause: "declined",
      details: { functionId: "pay", childRunId: "run_2" }
    }
  ],
  [
    "InvokeError",
    new Errors.InvokeError("pay", undefined, "unknown"),
    "INVOKE_FAILED",
    false,
    /'pay' failed: unknown$/,
    {}
  ],
  [
    "InvokeTimeoutError",
    new Errors.InvokeTimeoutError("pay", "run_2", 30_000),
    "INVOKE_FAILED",
    false,
    /'pay' \(run run_2\).*30000ms/,
    { timeoutMs: 30_000, functionId: "pay" }
  ],
  [
    "StepTimeoutError",
    new Errors.StepTimeoutError("charge", "30s"),
    "STEP_TIMEOUT",
    true,
    /"charge" timed out after 30s/,
    { stepName: "charge", timeout: "30s" }
  ],
  [
    "StepAbortedError",
    new Errors.StepAbortedError("charge", "a sibling failed"),
    "STEP_ABORTED",
    false,
    /"charge" was aborted: a sibling failed/,
    { stepName: "charge", reason: "a sibling failed" }
  ],
  [
    "NestedStepError",
    new Errors.NestedStepError("inner", "outer"),
    "NESTED_STEP",
    false,
    /"inner".*inside the callback of step "outer".*Move/,
    { stepName: "inner", outerStepName: "outer" }
  ],
  [
    "NondeterminismError",
    new Errors.NondeterminismError("m", { details: { step: "a" } }),
    "NONDETERMINISM",
    false,
    /^m$/,
    { details: { step: "a" } }
  ],
  ["InvalidStateError", new Errors.InvalidStateError("m"), "INVALID_STATE", false, /^m$/, {}],
  ["StoreError", new Errors.StoreError("m"), "STORE_ERROR", false, /^m$/, {}],
  [
    "StoreError",
    new Errors.StoreError("m", { code: "STORE_UNAVAILABLE", retryable: true }),
    "STORE_UNAVAILABLE",
    true,
    /^m$/,
    {}
  ],
  [
    "RunFailedError",
    new Errors.RunFailedError("run_1", { a: 1 }),
    "RUN_FAILED",
    false,
    /run_1/,
    { runId: "run_1", output: { a: 1 } }
  ],
  [
    "RunCancelledError",
    new Errors.RunCancelledError("run_1"),
    "RUN_CANCELLED",
    false,
    /run_1/,
    { runId: "run_1" }
  ],
  ["UnauthenticatedError", new Errors.UnauthenticatedError(), "UNAUTHENTICATED", false, /API key/, {}],
  [
    "EnterpriseRequiredError",
    new Errors.EnterpriseRequiredError(),
    "ENTERPRISE_REQUIRED",
    false,
    /license/,
    {}
  ],
  ["UnauthorizedError", new Errors.UnauthorizedError("no"), "UNAUTHORIZED", false, /^no$/, {}]
]

describe("error classes", () => {
  it.each(samples)("%s has its name, code, retryable, message and properties", (...sample) => {
    const [name, error, code, retryable, message, props] = sample

    assert.instanceOf(error, Errors.IronflowError)
    assert.instanceOf(error, Error)
    assert.strictEqual(error.constructor.name, name)
    assert.strictEqual(error.name, name)
    assert.strictEqual(error.code, code)
    assert.strictEqual(error.retryable, retryable)
    assert.match(error.message, message)
    assert.deepInclude({ ...error }, props)
    assert.match(error.stack ?? "", new RegExp(`^${name}: `))
    assert.isTrue(Errors.isIronflowError(error))
  })

  it("keeps the cause", () => {
    const cause = new Error("socket hang up")

    assert.strictEqual(new Errors.ConnectionError("m", { cause }).cause, cause)
    assert.strictEqual(new Errors.StepError("m", { stepId: "s", stepName: "s", cause }).cause, cause)
  })

  it("has the name of a user's subclass, also in the stack", () => {
    class Declined extends Errors.NonRetryableError {}

    const error = new Declined("no money")

    assert.strictEqual(error.name, "Declined")
    assert.match(error.stack ?? "", /^Declined: no money/)
  })

  it.effect("is caught by the tag of its class, and by that of our class that it extends", () =>
    Effect.gen(function* () {
      const wait: Effect.Effect<string, Errors.TimeoutError | Errors.StepError> = Effect.fail(
        new Errors.WaitTimeoutError("approval", "order.approved", 50)
      )

      const caught = yield* wait.pipe(Effect.catchTag("TimeoutError", (error) => Effect.succeed(error.code)))

      assert.strictEqual(caught, "WAIT_TIMEOUT")
    })
  )
})

describe("isRetryable", () => {
  const throwing = {
    get retryable(): boolean {
      throw new Error("no")
    }
  }
  it.each<readonly [what: string, error: unknown, expected: boolean]>([
    ["a plain Error", new Error("x"), true],
    ["a TypeError", new TypeError("x"), true],
    ["a string", "boom", true],
    ["null", null, true],
    ["undefined", undefined, true],
    ["an object", { a: 1 }, true],
    ["an object whose `retryable` is false", { retryable: false }, false],
    ["an object whose `retryable` is true", { retryable: true }, true],
    ["an object whose `retryable` is not a boolean", { retryable: "no" }, true],
    ["an object whose getter throws", throwing, true],
    ["an Error whose `retryable` is false", Object.assign(new Error("x"), { retryable: false }), false],
    ["a NonRetryableError", new Errors.NonRetryableError("x"), false],
    ["a ValidationError", new Errors.ValidationError("x"), false],
    [
      "an exhausted StepError",
      new Errors.StepError("x", { stepId: "s", stepName: "s", retryable: false }),
      false
    ],
    ["a WaitTimeoutError", new Errors.WaitTimeoutError("s", "e", 1), false],
    ["a NestedStepError", new Errors.NestedStepError("a", "b"), false],
    ["a StepTimeoutError", new Errors.StepTimeoutError("s", "1s"), true],
    ["a ConnectionError", new Errors.ConnectionError("x"), true]
  ])("%s", (_what, error, expected) => {
    assert.strictEqual(isRetryable(error), expected)
  })
})

describe("toError", () => {
  it("returns an Error unchanged", () => {
    const error = new RangeError("x")

    assert.strictEqual(toError(error), error)
  })

  it.each<readonly [value: unknown, message: string]>([
    ["boom", "boom"],
    [{ message: "from an object" }, "from an object"],
    [{ a: 1 }, '{"a":1}'],
    [[1, 2], "[1,2]"],
    [null, "null"],
    [undefined, "undefined"],
    [42, "42"],
    [7n, "7"],
    [Symbol("s"), "Symbol(s)"]
  ])("gives %o the message %s", (value, message) => {
    assert.strictEqual(toError(value).message, message)
  })
})

const roundTrip = (error: unknown) =>
  deserializeError(JSON.parse(JSON.stringify(serializeError(error))) as Errors.SerializedError)

/** All facts about an error that must survive. */
const facts = (error: Error): unknown => ({
  class: error.constructor.name,
  name: error.name,
  message: error.message,
  stack: error.stack,
  own: JSON.parse(JSON.stringify({ ...error })),
  cause: error.cause instanceof Error ? facts(error.cause) : undefined
})

describe("serializeError and deserializeError", () => {
  it.each(samples)("bring back %s as the same class with its properties", (_name, error) => {
    const back = roundTrip(error)

    assert.strictEqual(back.constructor, error.constructor)
    assert.deepStrictEqual(facts(back), facts(error))
    assert.strictEqual((back as Errors.IronflowError)._tag, error._tag)
    assert.strictEqual(isRetryable(back), isRetryable(error))
  })

  it.each([
    new Error("x"),
    new TypeError("x"),
    new RangeError("x"),
    new SyntaxError("x"),
    new ReferenceError("x"),
    new EvalError("x"),
    new URIError("x"),
    Object.assign(new Error("no such file"), { code: "ENOENT", errno: -2, path: "/tmp/x" }),
    Object.assign(new Error("final"), { retryable: false }),
    Object.assign(new Error("numeric code"), { code: 404 }),
    new Error("outer", {
      cause: new TypeError("inner", { cause: new Errors.NonRetryableError("innermost") })
    })
  ])("bring back the built-in %o as its class", (error) => {
    assert.deepStrictEqual(facts(roundTrip(error)), facts(error))
    assert.strictEqual(isRetryable(roundTrip(error)), isRetryable(error))
  })

  it("bring back a user's class as an Error of that name with its data", () => {
    class Declined extends Error {
      override readonly name = "Declined"
      readonly reason = { code: 51, at: new Date(0) }
    }

    const back = roundTrip(new Declined("no money"))

    assert.strictEqual(back.constructor, Error)
    assert.strictEqual(back.name, "Declined")
    assert.deepStrictEqual((back as unknown as Declined).reason as unknown, {
      code: 51,
      at: "1970-01-01T00:00:00.000Z"
    })
  })

  it("bring back a user's subclass of an error of ours as our class under its name", () => {
    class Declined extends Errors.NonRetryableError {
      readonly reason = "limit"
    }

    const back = roundTrip(new Declined("no money", { code: "DECLINED" }))

    assert.instanceOf(back, Errors.NonRetryableError)
    assert.strictEqual(back.name, "Declined")
    assert.strictEqual(back.code, "DECLINED")
    assert.isFalse(isRetryable(back))
    assert.strictEqual((back as unknown as Declined).reason, "limit")
  })

  it("bring back an Effect error with its tag", () => {
    class Declined extends Data.TaggedError("Declined")<{ readonly reason: string }> {}

    const { _tag, reason } = roundTrip(new Declined({ reason: "limit" })) as Declined

    assert.deepStrictEqual({ _tag, reason }, { _tag: "Declined", reason: "limit" })
  })

  it("bring back an AggregateError with its errors", () => {
    const back = roundTrip(
      new AggregateError([new TypeError("a"), new Errors.NonRetryableError("b")], "all failed")
    )

    assert.instanceOf(back, AggregateError)
    assert.deepStrictEqual(
      back.errors.map((inner: Error) => `${inner.constructor.name} ${inner.message}`),
      ["TypeError a", "NonRetryableError b"]
    )
  })

  it("do not mistake a foreign error with the name of one of ours for ours", () => {
    const back = roundTrip(new DOMException("The operation timed out", "TimeoutError"))

    assert.notInstanceOf(back, Errors.TimeoutError)
    assert.strictEqual(back.name, "TimeoutError")
    assert.isTrue(isRetryable(back))
  })

  it("leave the stack out when asked to", () => {
    const stored = serializeError(new Error("x", { cause: new Error("y") }), { stack: false })

    assert.deepStrictEqual(stored, { name: "Error", message: "x", cause: { name: "Error", message: "y" } })
    assert.strictEqual(deserializeError(stored).stack, "Error: x")
  })

  it("follow causes to a depth of eight, and stop at a circle of causes", () => {
    const circle: Error = new Error("round")
    circle.cause = circle

    let depth = 0
    for (let at = serializeError(circle).cause; at !== undefined; at = at.cause) depth += 1

    assert.strictEqual(depth, 8)
  })

  it("keep a member called __proto__ as data", () => {
    const error = Object.defineProperty(new Error("x"), "__proto__", { value: { a: 1 }, enumerable: true })

    const back = roundTrip(error)

    assert.deepStrictEqual(Object.getOwnPropertyDescriptor(back, "__proto__")?.value, { a: 1 })
    assert.strictEqual(Object.getPrototypeOf(back), Error.prototype)
  })

  const cyclic: { self?: unknown } = {}
  cyclic.self = cyclic
  const revoked = Proxy.revocable({}, {})
  revoked.revoke()
  it.each<readonly [what: string, thrown: unknown, message: RegExp]>([
    ["a string", "boom", /^boom$/],
    ["an object", { a: 1 }, /^\{"a":1\}$/],
    ["null", null, /^null$/],
    ["undefined", undefined, /^undefined$/],
    ["a bigint", 5n, /^5$/],
    ["a function", () => 1, /=> 1/],
    ["an object that refers to itself", cyclic, /object Object/],
    [
      "an object without prototype whose toString is missing",
      Object.create(null, { x: { value: 1n, enumerable: true } }),
      /cannot be shown/
    ],
    ["a revoked proxy", revoked.proxy, /cannot be shown/],
    [
      "a proxy that always throws",
      new Proxy(
        {},
        {
          get: () => assert.fail("get"),
          ownKeys: () => assert.fail("keys"),
          getPrototypeOf: () => assert.fail("proto")
        }
      ),
      /cannot be shown/
    ],
    [
      "an error whose getters throw",
      Object.defineProperties(new Error("seen"), {
        code: { get: () => assert.fail("code"), enumerable: true },
        extra: { get: () => assert.fail("extra"), enumerable: true },
        stack: { get: () => assert.fail("stack") }
      }),
      /^seen$/
    ],
    ["an error whose message is not a string", Object.assign(new Error(), { message: 5 }), /^$/],
    [
      "an error with data that refers to itself",
      Object.assign(new Error("seen"), { cyclic, big: 1n, fn: () => 1 }),
      /^seen$/
    ]
  ])("never fail: %s", (_what, thrown, message) => {
    const stored = serializeError(thrown)

    assert.match(stored.message, message)
    assert.instanceOf(deserializeError(JSON.parse(JSON.stringify(stored)) as Errors.SerializedError), Error)
  })

  it("cut off long messages and data", () => {
    const stored = serializeError(
      Object.assign(new Error("x".repeat(1_000_000)), { huge: "y".repeat(1_000_000), small: 1 })
    )

    assert.isBelow(JSON.stringify(stored).length, 50_000)
    assert.deepStrictEqual(stored.data, { small: 1 })
  })

  const bottomless = (depth: number): unknown => {
    let stored: unknown = {}
    for (let i = 0; i < depth; i++) stored = { name: "Error", message: "m", cause: stored }
    return stored
  }
  it.each<readonly [what: string, damaged: unknown]>([
    ["null", null],
    ["a string", "x"],
    ["an empty object", {}],
    ["fields of other types", { name: 5, message: null, code: 7, cause: "x" }],
    ["invalid data", { name: "StepError", message: "m", data: null }],
    ["invalid errors", { name: "AggregateError", message: "m", data: { errors: [null, 1] } }],
    ["an endless chain of causes", bottomless(100_000)]
  ])("read a damaged stored error without failing: %s", (_what, damaged) => {
    assert.instanceOf(deserializeError(damaged as Errors.SerializedError), Error)
  })

  prop(
    "keep name, message, code, retryable and data of any error",
    {
      name: Arbitrary.schema(Schema.Literals(["Error", "TypeError", "Declined", "StepError", ""])),
      message: Arbitrary.schema(Schema.String),
      code: Arbitrary.schema(Schema.UndefinedOr(Schema.String)),
      retryable: Arbitrary.schema(Schema.UndefinedOr(Schema.Boolean)),
      data: Arbitrary.schema(Schema.Json)
    },
    ({ name, message, code, retryable, data }) => {
      const error = Object.assign(new Error(message), {
        ...(code === undefined ? {} : { code }),
        ...(retryable === undefined ? {} : { retryable }),
        payload: data
      })
      Object.defineProperty(error, "name", { value: name })

      const back = roundTrip(error) as typeof error

      assert.strictEqual(back.name, name)
      assert.strictEqual(back.message, message)
      assert.strictEqual(back.code, code)
      assert.strictEqual(isRetryable(back), retryable ?? true)
      assert.deepStrictEqual(back.payload, JSON.parse(JSON.stringify(data)))
      assert.strictEqual(back.stack, error.stack)
    }
  )
})

describe("tags", () => {
  it.effect("tell the compiler which error was caught, and which ones remain", () =>
    Effect.gen(function* () {
      const fails: Effect.Effect<
        never,
        Errors.RunNotFoundError | Errors.TimeoutError | Errors.IronflowError
      > = Effect.fail(new Errors.RunNotFoundError("run_1"))

      const caught = Effect.catchTag(fails, "RunNotFoundError", (error) => Effect.succeed(error.runId))

      expectTypeOf<Effect.Error<typeof caught>>().toEqualTypeOf<Errors.TimeoutError | Errors.IronflowError>()
      assert.strictEqual(yield* caught, "run_1")
      assert.strictEqual(new Errors.IronflowError("something")._tag, "IronflowError")
    })
  )
})

describe("invokeFailure", () => {
  it("shows the fields of a failure without a message, and not its stored form", () => {
    const { message } = invokeFailure("ship", "run_1", {
      name: "Bad",
      message: "",
      data: { _tag: "Bad", reason: "no", "ironflow:failure": { _tag: "Bad", reason: "no" } }
    })
    assert.match(message, /Bad \{"reason":"no"\}$/)
  })
})
