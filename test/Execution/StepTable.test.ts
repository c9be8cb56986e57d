import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { positiveDuration } from "../../src/Duration.ts"
import { NestedStepError, ValidationError } from "../../src/Errors.ts"
import { effectSteps } from "../../src/Execution/EffectStep.ts"
import { functionPlan, resolveStepTimeout } from "../../src/Execution/FunctionPlan.ts"
import { nestedSteps, refuseNested } from "../../src/Execution/NestedSteps.ts"
import { promiseSteps } from "../../src/Execution/PromiseStep.ts"
import { isCode, type StepCall } from "../../src/Execution/StepCall.ts"
import { failureOf, type Place, primitives, type StepRow, stepRows } from "../../src/Execution/StepTable.ts"
import { TurnMachine } from "../../src/Execution/TurnMachine.ts"
import { createFunction } from "../../src/Function.ts"
import type { Job } from "../../src/Protocol/Worker.ts"
import { invokeKeys, runKeys, Step } from "../../src/Step.ts"

const now = 1_000_000
const fn = createFunction({ id: "order", triggers: [] }, () => undefined)
const quiet = () => undefined

/** The root scope of a turn that has just begun. */
const placeOf = (job: Partial<Job> = {}): Place => {
  const turn = new TurnMachine(
    functionPlan(fn),
    {
      jobId: "job",
      runId: "run_1",
      functionId: "order",
      environment: "default",
      attempt: 1,
      generation: 0,
      event: { id: "evt", name: "order.placed", version: 1, data: "{}", timestamp: 0 },
      journal: [],
      open: [],
      lingerMs: 0,
      createdAt: 0,
      transactions: true,
      ...job
    },
    {
      report: quiet,
      clock: { ...Context.get(Context.empty(), Clock.Clock), currentTimeMillisUnsafe: () => now },
      alarm: { at: () => quiet },
      logger: { debug: quiet, info: quiet, warn: quiet, error: quiet },
      context: Context.empty(),
      onLate: quiet
    },
    { loopTurnsToDrain: 1, abandonsSilently: true, interruptHandler: quiet, onEnd: quiet }
  )
  return {
    api: {
      durationMs: (duration, what) => positiveDuration(duration as string, what),
      timeout: (timeout, what) => resolveStepTimeout(timeout as string, what),
      runKeys,
      invokeKeys
    },
    turn,
    scope: turn.steps.root
  }
}

const call = <Given>(row: StepRow<Given, unknown>, name: string, given: Given, place = placeOf()) =>
  row.call(place, name, given, quiet)

const begin = quiet
const target = "ship"

describe("the table of steps", () => {
  it("has every step of both APIs, and nothing else", () => {
    const { scope, turn } = placeOf()
    const names = Object.keys(primitives).toSorted()

    assert.deepStrictEqual(Object.keys(promiseSteps(turn, scope)).toSorted(), names)
    assert.deepStrictEqual(Object.keys(effectSteps(turn, scope)).toSorted(), names)
  })

  for (const primitive of Object.keys(primitives) as ReadonlyArray<keyof typeof primitives>) {
    it.effect(`${primitive} inside the code of a step says that it is nested`, () =>
      Effect.gen(function* () {
        const service = nestedSteps("charge") as unknown as Record<
          string,
          (name: string) => Effect.Effect<never, unknown>
        >

        const error = yield* Effect.flip(service[primitive]!("inner"))

        assert.deepStrictEqual(error, new NestedStepError("inner", "charge"))
      })
    )
  }

  it("nested steps are recognized by their context, and other steps are not", () => {
    const { scope, turn } = placeOf()
    const context = (service: typeof Step.Service) =>
      Context.make(Step, service) as unknown as Context.Context<never>

    assert.throws(() => refuseNested(context(nestedSteps("charge")), "inner"), NestedStepError)
    refuseNested(context(effectSteps(turn, scope)), "inner")
    refuseNested(Context.empty(), "inner")
  })

  for (const [what, made, expected] of [
    [
      "a sleep",
      () => call(stepRows.sleep, "nap", "1m"),
      { kind: "sleep", work: { _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { afterMs: 60_000 } } }
    ],
    [
      "a sleep until a future time",
      () => call(stepRows.sleepUntil, "nap", new Date(now + 1)),
      { kind: "sleep", work: { _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { at: now + 1 } } }
    ],
    [
      "a wait with the defaults",
      () => call(stepRows.waitForEvent, "paid", { event: " order.paid " }),
      {
        kind: "waitForEvent",
        work: {
          _tag: "WaitForEvent",
          stepKey: "paid:0",
          name: "paid",
          scope: "",
          event: "order.paid",
          timeout: { afterMs: 604_800_000 },
          timeoutMs: 604_800_000
        }
      }
    ],
    [
      "a wait for a defined event",
      () =>
        call(stepRows.waitForEvent, "paid", {
          event: { name: "order.paid", version: 1 },
          match: " data.orderId ",
          timeout: "1s"
        }),
      {
        kind: "waitForEvent",
        work: {
          _tag: "WaitForEvent",
          stepKey: "paid:0",
          name: "paid",
          scope: "",
          event: "order.paid",
          match: "data.orderId",
          timeout: { afterMs: 1000 },
          timeoutMs: 1000
        }
      }
    ],
    [
      "an invocation with the defaults",
      () => call(stepRows.invoke, "ship", { target, input: { id: 1 } }),
      {
        kind: "invoke",
        work: {
          _tag: "Invoke",
          stepKey: "ship:0",
          name: "ship",
          functionId: "ship",
          input: '{"id":1}',
          timeoutMs: 30_000
        }
      }
    ],
    [
      "an invocation that the run does not wait for",
      () => call(stepRows.invokeAsync, "ship", { target, input: undefined }),
      {
        kind: "invokeAsync",
        work: { _tag: "InvokeAsync", stepKey: "ship:0", name: "ship", functionId: "ship", input: undefined }
      }
    ],
    [
      "a message",
      () => call(stepRows.publish, "orders:eu", undefined),
      {
        kind: "publish",
        work: {
          _tag: "Publish",
          stepKey: "publish:orders\\:eu:0",
          name: "publish:orders:eu",
          topic: "orders:eu",
          data: "{}"
        }
      }
    ]
  ] as ReadonlyArray<[string, () => StepCall | undefined, object]>) {
    it(`${what} is a request to the engine`, () => {
      const { kind, work } = made()!
      assert.deepStrictEqual({ kind, work }, expected)
    })
  }

  for (const kind of ["run", "tx"] as const) {
    it(`the code of ${kind} has the retry policy of the function, unless its options have another one`, () => {
      const plain = call(stepRows[kind], "charge", { begin, options: undefined })
      const other = call(stepRows[kind], "charge", {
        begin,
        options: { timeout: "2s", retry: { maxAttempts: 7 } }
      })

      assert.deepStrictEqual([plain?.kind, plain?.key], [kind, "charge:0"])
      const { retry } = functionPlan(fn)
      assert.deepStrictEqual(plain?.work, { begin, timeout: undefined, retry })
      assert.deepStrictEqual(other?.work, {
        begin,
        timeout: { ms: 2000, text: "2s" },
        retry: { ...retry, maxAttempts: 7 }
      })
      assert.isTrue(isCode(plain!.work))
    })
  }

  it("a sleep until a past time is not a step, unless an earlier turn slept for it", () => {
    const past = new Date(now - 1).toISOString()
    const open = [{ stepKey: "nap:0", name: "nap", kind: "sleep", failures: 0, pending: true }] as const

    assert.isUndefined(call(stepRows.sleepUntil, "nap", past))
    assert.strictEqual(call(stepRows.sleepUntil, "nap", past, placeOf({ open }))?.key, "nap:0")
  })

  for (const [what, make] of [
    ["an invalid duration", (place: Place) => call(stepRows.sleep, "nap", "soon", place)],
    ["an invalid time", (place: Place) => call(stepRows.sleepUntil, "nap", "tomorrow", place)],
    ["an invalid event", (place: Place) => call(stepRows.waitForEvent, "nap", { event: 7 }, place)],
    [
      "a blank match",
      (place: Place) => call(stepRows.waitForEvent, "nap", { event: "a", match: " " }, place)
    ],
    [
      "an input that is not JSON",
      (place: Place) => call(stepRows.invoke, "nap", { target, input: 1n }, place)
    ],
    ["a message that is not JSON", (place: Place) => call(stepRows.publish, "nap", 1n, place)],
    [
      "a misspelled option",
      (place: Place) => call(stepRows.run, "nap", { begin, options: { timeot: 1 } as object }, place)
    ]
  ] as const) {
    it(`${what} is refused, and does not use up a name`, () => {
      const place = placeOf()

      assert.throws(() => make(place), ValidationError)

      assert.strictEqual(call(stepRows.sleep, "nap", 1, place)?.key, "nap:0")
      assert.strictEqual(call(stepRows.publish, "nap", 1, place)?.key, "publish:nap:0")
    })
  }

  it("a tx is refused when the engine lacks transactions", () => {
    const { transactions: _, ...job } = placeOf().turn.job
    const place = placeOf()
    const without: Place = { ...place, turn: { ...place.turn, job } as unknown as TurnMachine }

    assert.throws(() => call(stepRows.tx, "charge", { begin, options: undefined }, without), /step\.tx/)
  })

  for (const [name, wraps] of [
    ["run", true],
    ["tx", true],
    ["publish", true],
    ["sleep", false],
    ["sleepUntil", false],
    ["waitForEvent", false],
    ["invoke", false],
    ["invokeAsync", false]
  ] as const) {
    it(`${name} fails with ${wraps ? "a StepError around the stored error" : "the stored error"}`, () => {
      const place = placeOf()
      const made = call(stepRows.sleep, "nap", 1, place)!
      const error = failureOf(stepRows[name], place.turn, made, { name: "TypeError", message: "no" })

      assert.strictEqual(error.name, wraps ? "StepError" : "TypeError")
      assert.strictEqual(error.message, "no")
    })
  }
})
