import { assert, describe, expectTypeOf } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import { AsyncLocalStorage } from "node:async_hooks"
import { z } from "zod"
import {
  InvokeError,
  NestedStepError,
  NonRetryableError,
  type StepError,
  ValidationError,
  WaitTimeoutError
} from "../../src/Errors.ts"
import * as Event from "../../src/Event.ts"
import { createFunction, make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { attempt, both, only } from "./Scenario.ts"
import { failure, settle, success, until } from "./ScriptedEngine.ts"

describe("retries", () => {
  both(
    "a failed step waits for its next attempt while other branches continue",
    {
      config: { retry: { maxAttempts: 3, initialDelayMs: 1000 } },
      promise:
        (probe) =>
        async ({ step }) =>
          await step.parallel("all", [
            async (s) =>
              s.run("flaky", ({ attempt: n }) => {
                probe.log.push(`flaky ${n}`)
                if (n < 3) throw new Error("again")
                return n
              }),
            async (s) => {
              await s.run("one", probe.code("one", 1))
              return await s.run("two", probe.code("two", 2))
            }
          ]),
      effect: (probe) => () =>
        Step.parallel("all", [
          Step.run(
            "flaky",
            Effect.gen(function* () {
              const { attempt: n } = yield* Step.StepAttempt
              probe.log.push(`flaky ${n}`)
              if (n < 3) return yield* Effect.fail(new Error("again"))
              return n
            })
          ),
          Effect.andThen(
            Step.run("one", attempt(probe.code("one", 1))),
            Step.run("two", attempt(probe.code("two", 2)))
          )
        ])
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, [3, 2])
      assert.deepStrictEqual(log, ["flaky 1", "one", "two", "flaky 2", "flaky 3"])
      assert.deepStrictEqual(
        engine.ops("StepRetry").map(({ due }) => due),
        [{ afterMs: 1000 }, { afterMs: 2000 }]
      )
      assert.strictEqual(engine.journal.find(({ name }) => name === "flaky")?.attempt, 3)
    }
  )

  both(
    "the next attempt starts in the same turn when its delay passes during the turn",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 1000 } },
      promise:
        (probe) =>
        async ({ step }) => {
          const [, kept] = await Promise.all([
            step.run("flaky", ({ attempt: n }) => {
              probe.log.push(`flaky ${n}`)
              if (n < 2) throw new Error("again")
            }),
            step.run("kept", () => probe.hold("kept"))
          ])
          return kept
        },
      effect: (probe) => () =>
        Effect.map(
          Effect.all(
            [
              Step.run(
                "flaky",
                Effect.gen(function* () {
                  const { attempt: n } = yield* Step.StepAttempt
                  probe.log.push(`flaky ${n}`)
                  if (n < 2) return yield* Effect.fail(new Error("again"))
                  return undefined
                })
              ),
              Step.run(
                "kept",
                attempt(() => probe.hold("kept"))
              )
            ],
            { concurrency: "unbounded" }
          ),
          ([, kept]) => kept
        )
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => engine.open.has("flaky:0") && probe.isHeld("kept"), "one waits, one runs")
      await engine.advance(1000)
      await until(() => log.includes("flaky 2"), "the second attempt")
      probe.release("kept", 7)
      await until(() => end.value !== undefined, "the end")
      assert.strictEqual(engine.output, 7)
      assert.strictEqual(engine.turns.length, 1)
    }
  )

  both(
    "an error and the policy of the step decide about further attempts",
    {
      config: { retry: { maxAttempts: 5, initialDelayMs: 10 } },
      promise:
        (probe) =>
        async ({ step }) =>
          await step
            .map(
              "all",
              [
                new NonRetryableError("no"),
                Object.assign(new Error("never"), { retryable: false }),
                new Error("twice")
              ],
              async (error, s, i) =>
                s.run(
                  "fails",
                  () => {
                    probe.log.push(`${i}`)
                    throw error
                  },
                  { retry: { maxAttempts: 2 } }
                ),
              { onError: "allSettled" }
            )
            .then((all) => all.length),
      effect: (probe) => () =>
        Effect.map(
          Step.map(
            "all",
            [
              new NonRetryableError("no"),
              Object.assign(new Error("never"), { retryable: false }),
              new Error("twice")
            ],
            (error, i) =>
              Step.run(
                "fails",
                Effect.suspend(() => {
                  probe.log.push(`${i}`)
                  return Effect.fail(error)
                }),
                { retry: { maxAttempts: 2 } }
              ),
            { onError: "allSettled" }
          ),
          (all) => all.length
        )
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(log.toSorted(), ["0", "1", "2", "2"])
      assert.strictEqual(engine.output, 3)
    }
  )

  both(
    "the idempotency key is the same for every attempt, and different in the next generation",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 10 } },
      promise:
        (probe) =>
        async ({ step }) =>
          await step.run("charge", ({ attempt: n, idempotencyKey }) => {
            probe.log.push(idempotencyKey)
            if (n === 1) throw new Error("again")
            return idempotencyKey
          }),
      effect: (probe) => () =>
        Step.run(
          "charge",
          Effect.gen(function* () {
            const { attempt: n, idempotencyKey } = yield* Step.StepAttempt
            probe.log.push(idempotencyKey)
            if (n === 1) return yield* Effect.fail(new Error("again"))
            return idempotencyKey
          })
        )
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(log, ["run_1:charge:0", "run_1:charge:0"])
      engine.generation = 2
      engine.journal.length = 0
      await engine.run(fn)
      assert.strictEqual(log.at(-1), "run_1:charge:0@2")
    }
  )

  both(
    "an attempt does not begin early when the notice for the previous one is repeated",
    {
      config: { retry: { initialDelayMs: 1000, maxAttempts: 5 } },
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("charge", async ({ attempt: number }) => {
            probe.log.push(`attempt ${number}`)
            throw new Error("declined")
          })
        },
      effect: (probe) => () =>
        Step.run(
          "charge",
          Effect.gen(function* () {
            probe.log.push(`attempt ${(yield* Step.StepAttempt).attempt}`)
            return yield* Effect.fail(new Error("declined"))
          })
        )
    },
    async ({ engine, fn, log }) => {
      engine.lingerMs = 60_000
      engine.start(fn)
      await settle()
      await engine.advance(1000)
      await settle()
      assert.deepStrictEqual(log, ["attempt 1", "attempt 2"])

      engine.repeat("charge:0", 1)
      await settle()
      assert.deepStrictEqual(log, ["attempt 1", "attempt 2"])
      await engine.advance(2000)
      await settle()
      assert.deepStrictEqual(log, ["attempt 1", "attempt 2", "attempt 3"])
      engine.crash()
    }
  )
})

describe("timeouts", () => {
  both(
    "the timeout of a step begins when its code begins, however long the step was held back",
    {
      promise:
        (probe) =>
        ({ step }) =>
          step.run("quick", probe.code("quick", 1), { timeout: "60ms" }),
      effect: (probe) => () => Step.run("quick", attempt(probe.code("quick", 1)), { timeout: "60 millis" })
    },
    async ({ engine, fn, log }) => {
      const waiting: Array<() => void> = []
      engine.pace = (start) => void waiting.push(start)
      const { end } = engine.start(fn)
      await until(() => waiting.length === 1, "waiting for its turn")
      await engine.advance(5000)
      assert.deepStrictEqual(engine.tags, [])
      const beganAt = engine.now
      waiting[0]!()
      await until(() => end.value !== undefined, "ended")
      assert.deepStrictEqual(log, ["quick"])
      const [done] = engine.ops("StepDone")
      assert.deepStrictEqual([done?.attempt, done?.startedAt], [1, beganAt])
    }
  )

  for (const where of ["step", "function"] as const) {
    const options = where === "step" ? { timeout: "2s" } : {}
    both(
      `a step that exceeds the timeout of its ${where} fails with a retryable error, and its later result is ignored`,
      {
        config: {
          retry: { maxAttempts: 2, initialDelayMs: 10 },
          ...(where === "step" ? {} : { stepTimeout: "2s" })
        },
        promise:
          (probe) =>
          async ({ step }) => {
            await step.run(
              "slow",
              async ({ signal }) => {
                signal.addEventListener("abort", () => probe.log.push((signal.reason as Error).message))
                return await probe.hold("slow")
              },
              options
            )
          },
        effect: (probe) => () =>
          Step.run(
            "slow",
            Effect.gen(function* () {
              const { signal } = yield* Step.StepAttempt
              signal.addEventListener("abort", () => probe.log.push((signal.reason as Error).message))
              return yield* attempt(() => probe.hold("slow"))
            }),
            options
          )
      },
      async ({ engine, fn, log, probe }) => {
        const { end } = engine.start(fn)
        await until(() => probe.isHeld("slow"), "running")
        await engine.advance(1999)
        assert.deepStrictEqual(engine.tags, [])
        await engine.advance(1)
        probe.release("slow", "too late")
        await until(() => end.value !== undefined, "suspended")
        assert.strictEqual(engine.ops("StepRetry")[0]?.error.name, "StepTimeoutError")
        assert.deepStrictEqual(log, ["slow", 'Step "slow" timed out after 2s'])

        await engine.advanceToDue()
        const second = engine.start(fn)
        await until(() => probe.isHeld("slow"), "running again")
        await engine.advance(2000)
        await until(() => second.end.value !== undefined, "the end")
        assert.strictEqual(engine.error?.name, "StepError")
        assert.include(engine.error?.message, "timed out")
      }
    )
  }
})

describe("values", () => {
  both(
    "the handler sees the same value as a replay, because values are converted to JSON and back at once",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const value = await step.run("value", () => ({
            at: new Date(0),
            gone: undefined,
            big: Number.NaN,
            list: [undefined]
          }))
          const nothing = await step.run("nothing", () => undefined)
          const zero = await step.run("null", () => null)
          probe.log.push(JSON.stringify(value), String(nothing), String(zero))
          await step.sleep("nap", "1m")
          return [value, typeof nothing, zero]
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const value = yield* Step.run(
            "value",
            Effect.sync(() => ({ at: new Date(0), gone: undefined, big: Number.NaN, list: [undefined] }))
          )
          const nothing = yield* Step.run("nothing", Effect.void)
          const zero = yield* Step.run("null", Effect.succeed(null))
          probe.log.push(JSON.stringify(value), String(nothing), String(zero))
          yield* Step.sleep("nap", "1m")
          return [value, typeof nothing, zero]
        })
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      const text = '{"at":"1970-01-01T00:00:00.000Z","big":null,"list":[null]}'
      assert.deepStrictEqual(log, [text, "undefined", "null", text, "undefined", "null"])
      assert.deepStrictEqual(engine.output, [JSON.parse(text), "undefined", null])
    }
  )

  const cycle: Record<string, unknown> = {}
  cycle["self"] = cycle
  for (const [title, value, problem] of [
    ["a BigInt", { price: 1n }, "$.price is a BigInt"],
    ["a cycle", { order: cycle }, "$.order.self"],
    ["a function", [() => 1], "$[0] is a function"]
  ] as const) {
    both(
      `${title} in a result fails the step at once, naming the path`,
      {
        promise:
          (probe) =>
          async ({ step }) => {
            await step.run("charge", () => {
              probe.log.push("ran")
              return value as unknown
            })
          },
        effect: (probe) => () =>
          Step.run(
            "charge",
            Effect.sync(() => {
              probe.log.push("ran")
              return value as unknown
            })
          )
      },
      async ({ engine, fn, log }) => {
        await engine.turn(fn)
        assert.deepStrictEqual(log, ["ran"])
        assert.include(engine.error?.message, 'Result of step "charge" cannot be stored')
        assert.include(engine.error?.message, problem)
        assert.deepStrictEqual(engine.tags, ["StepDone", "Fail"])
      }
    )
  }

  both(
    "a Map as a result is refused, even when the caller ignores it",
    {
      promise:
        () =>
        async ({ step }) => {
          const stock = new Map<string, number>()
          // @ts-expect-error -- a Map cannot be stored
          return [await step.run("count", () => stock.set("book", 1))]
        },
      effect: () => () =>
        Effect.map(
          Step.run(
            "count",
            // @ts-expect-error -- a Map cannot be stored
            Effect.sync(() => new Map([["book", 1]]))
          ),
          (value) => [value]
        )
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.include(engine.error?.message, 'Result of step "count" cannot be stored: $ is a Map')
    }
  )

  both(
    "an output that cannot be stored fails the run for good",
    {
      promise: () => async () => ({ price: 1n }),
      effect: () => () => Effect.succeed({ price: 1n })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.status, "failed")
      assert.include(engine.error?.message, 'Output of function "order" cannot be stored')
    }
  )

  both(
    "the first error and the replayed error are the same",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        (probe) =>
        async ({ step }) => {
          const told = await step
            .run("charge", () => {
              throw Object.assign(new TypeError("declined", { cause: new RangeError("limit") }), {
                code: "E_CARD",
                at: new Date(0)
              })
            })
            .catch((error: StepError) => {
              const cause = error.cause as TypeError & { code: string; at: unknown }
              return [
                error.name,
                error.message,
                cause instanceof TypeError,
                cause.code,
                cause.at,
                (cause.cause as Error).name
              ]
            })
          probe.log.push(JSON.stringify(told))
          await step.sleep("nap", "1m")
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const told = yield* Step.run(
            "charge",
            Effect.fail(
              Object.assign(new TypeError("declined", { cause: new RangeError("limit") }), {
                code: "E_CARD",
                at: new Date(0)
              })
            )
          ).pipe(
            Effect.catchTag("StepError", (error) => {
              const cause = error.cause as TypeError & { code: string; at: unknown }
              return Effect.succeed([
                error.name,
                error.message,
                cause instanceof TypeError,
                cause.code,
                cause.at,
                (cause.cause as Error).name
              ])
            })
          )
          probe.log.push(JSON.stringify(told))
          yield* Step.sleep("nap", "1m")
        })
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      const told = '["StepError","declined",true,"E_CARD","1970-01-01T00:00:00.000Z","RangeError"]'
      assert.deepStrictEqual(log, [told, told])
    }
  )
})

describe("waits and children", () => {
  both(
    "sleepUntil returns at once for a past time, and records nothing",
    {
      promise:
        () =>
        async ({ step }) => {
          await step.sleepUntil("past", new Date(500))
          await step.sleepUntil("past text", "1970-01-01T00:00:00Z")
          await step.sleepUntil("future", "1970-01-01T00:00:02Z")
          return "awake"
        },
      effect: () => () =>
        Effect.gen(function* () {
          yield* Step.sleepUntil("past", new Date(500))
          yield* Step.sleepUntil("past text", "1970-01-01T00:00:00Z")
          yield* Step.sleepUntil("future", "1970-01-01T00:00:02Z")
          return "awake"
        })
    },
    async ({ engine, fn }) => {
      await engine.advance(1000)
      await engine.run(fn)
      assert.strictEqual(engine.output, "awake")
      // the sleep was recorded when its time was in the future, so the replay uses it although the time is past
      assert.deepStrictEqual(engine.keys, ["future:0"])
      assert.deepStrictEqual(engine.warnings(), [])
      assert.deepStrictEqual(
        engine.ops("Sleep").map(({ due }) => due),
        [{ at: 2000 }]
      )
    }
  )

  both(
    "a wait that times out rejects with WaitTimeoutError, which the handler may catch",
    {
      promise:
        () =>
        async ({ step }) => {
          try {
            await step.waitForEvent("approval", { event: "order.approved", timeout: "48h" })
          } catch (error) {
            assert.instanceOf(error, WaitTimeoutError)
            return [error.name, error.stepName, error.timeoutMs]
          }
        },
      effect: () => () =>
        Step.waitForEvent("approval", { event: "order.approved", timeout: "48 hours" }).pipe(
          Effect.catchTag("TimeoutError", (error) => {
            assert.instanceOf(error, WaitTimeoutError)
            return Effect.succeed([error.name, error.stepName, error.timeoutMs])
          })
        )
    },
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, ["WaitTimeoutError", "approval", 172_800_000])
    }
  )

  both(
    "the error of a wait in a branch names the branch",
    {
      promise:
        () =>
        async ({ step }) => {
          await step.parallel("all", [
            async (s) =>
              s.waitForEvent("w", {
                event: " order.* ",
                match: "event.data.id == trigger.data.id && event.data.n > 1"
              })
          ])
        },
      effect: () => () =>
        Step.parallel("all", [
          Step.waitForEvent("w", {
            event: " order.* ",
            match: "event.data.id == trigger.data.id && event.data.n > 1"
          })
        ])
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      const [wait] = engine.ops("WaitForEvent")
      assert.strictEqual(wait?.stepKey, "all:0:w:0")
      assert.strictEqual(wait?.scope, "all:0")
      assert.strictEqual(wait?.event, "order.*")
    }
  )

  both(
    "a failed child rejects with InvokeError, unwrapped",
    {
      promise:
        () =>
        async ({ step }) => {
          try {
            await step.invoke("ship")
          } catch (error) {
            assert.instanceOf(error, InvokeError)
            return error.functionId
          }
        },
      effect: () => () =>
        Step.invoke("ship").pipe(Effect.catchTag("InvokeError", (error) => Effect.succeed(error.functionId)))
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire(
        "ship:0",
        failure("InvokeError", "Invoked function 'ship' failed: boom", {
          code: "INVOKE_FAILED",
          retryable: false,
          data: { functionId: "ship", errorCause: "boom" }
        })
      )
      await engine.turn(fn)
      assert.strictEqual(engine.output, "ship")
    }
  )

  both(
    "invoke and invokeAsync of one function share a counter, and accept the function itself",
    {
      promise:
        () =>
        async ({ step }) => {
          const ship = createFunction({ id: "ship", triggers: [] }, async () => ({ parcel: 1 }))
          const { runId } = await step.invokeAsync(ship, {})
          const result = step.invoke(ship, { n: 1 }).then((child) => child.parcel)
          await result
          return runId
        },
      effect: () => () =>
        Effect.gen(function* () {
          const ship = make({ id: "ship", triggers: [] }, () => Effect.succeed({ parcel: 1 }))
          const { runId } = yield* Step.invokeAsync(ship, {})
          const child = yield* Step.invoke(ship, { n: 1 })
          expectTypeOf(child).toEqualTypeOf<{ parcel: number }>()
          return runId
        })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual([...engine.keys, ...engine.open.keys()], ["ship:0", "ship:1"])
      assert.strictEqual(engine.ops("Invoke")[0]?.timeoutMs, 30_000)
      engine.fire("ship:1", success({ parcel: 1 }))
      await engine.turn(fn)
      assert.strictEqual(engine.output, "child-of-ship:0")
    }
  )

  const Approved = Event.define("order.approved", { data: Schema.Struct({ by: Schema.String }) })
  both(
    "a definition types the awaited event and checks its data, after upcasting",
    {
      promise:
        () =>
        async ({ step }) => {
          const event = await step.waitForEvent("approval", { event: Approved })
          expectTypeOf(event.data).toEqualTypeOf<{ readonly by: string }>()
          return event.data.by
        },
      effect: () => () =>
        Effect.gen(function* () {
          const event = yield* Step.waitForEvent("approval", { event: Approved })
          expectTypeOf(event.data).toEqualTypeOf<{ readonly by: string }>()
          return event.data.by
        })
    },
    async ({ engine, fn }) => {
      engine.eventDefinitions = {
        upcastEvent: (_name, data, version) =>
          version === 1 ? { by: (data as { who?: unknown }).who } : data,
        getLatestVersion: () => 1
      }
      await engine.turn(fn)
      engine.fire(
        "approval:0",
        success({ id: "e", name: "order.approved", version: 1, data: { who: "ada" }, timestamp: 1 })
      )
      await engine.turn(fn)
      assert.strictEqual(engine.output, "ada")

      engine.journal.length = 0
      await engine.turn(fn)
      engine.fire(
        "approval:0",
        success({ id: "e", name: "order.approved", version: 1, data: {}, timestamp: 1 })
      )
      await engine.turn(fn)
      assert.strictEqual(engine.error?.name, "SchemaValidationError")
    }
  )

  both(
    "an event that is newer than the code pauses the run, and nothing is compensated",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        ({ log }) =>
        async ({ step }) => {
          step.compensate("charge", () => void log.push("refunded"))
          const event = await step.waitForEvent("approval", { event: Approved }).catch(() => undefined)
          return event?.data.by
        },
      effect:
        ({ log }) =>
        () =>
          Effect.gen(function* () {
            yield* Step.compensate(
              "charge",
              Effect.sync(() => log.push("refunded"))
            )
            const waiting = Step.waitForEvent("approval", { event: Approved })
            const event = yield* Effect.catch(waiting, () => Effect.succeed(undefined))
            return event?.data.by
          })
    },
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      engine.fire(
        "approval:0",
        success({ id: "e", name: "order.approved", version: 2, data: { by: { id: 7 } }, timestamp: 1 })
      )
      await engine.turn(fn)

      const [pause] = engine.ops("Pause")
      assert.deepStrictEqual([engine.status, pause?.code, log], ["paused", "EVENT_TOO_NEW", []])
      assert.match(
        pause?.message ?? "",
        /step "approval" \(approval:0\): Data of event "order.approved" does not fit its schema: by: .* The event has version 2, and the newest definition in this process has version 1: deploy code with version 2/
      )

      engine.status = "running"
      engine.eventDefinitions = {
        upcastEvent: (name, data) => (name === "order.approved" ? { by: "ada" } : data),
        getLatestVersion: () => 2
      }
      await engine.turn(fn)
      assert.strictEqual(engine.output, "ada")
    }
  )

  const ApprovedBy = Event.define("order.approved", {
    version: 2,
    data: Schema.Struct({ by: Schema.String }),
    upcast: (data) => ({ by: (data as { who?: unknown }).who })
  })
  both(
    "a definition that is not registered upcasts the awaited event",
    {
      promise:
        () =>
        async ({ step }) =>
          (await step.waitForEvent("approval", { event: ApprovedBy })).data.by,
      effect: () => () =>
        Effect.map(Step.waitForEvent("approval", { event: ApprovedBy }), ({ data }) => data.by)
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.fire(
        "approval:0",
        success({ id: "e", name: "order.approved", version: 1, data: { who: "ada" }, timestamp: 1 })
      )
      await engine.turn(fn)
      assert.strictEqual(engine.output, "ada")
    }
  )

  both(
    "publish without data sends an empty object",
    {
      promise:
        () =>
        async ({ step }) =>
          step.publish("ping", undefined),
      effect: () => () => Step.publish("ping", undefined)
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.ops("Publish")[0], {
        _tag: "Publish",
        stepKey: "publish:ping:0",
        name: "publish:ping",
        topic: "ping",
        data: "{}"
      })
      assert.deepStrictEqual(engine.output, { eventId: "msg-publish:ping:0", sequence: 1 })
    }
  )
})

describe("arguments", () => {
  only(
    "the message about an invalid duration names the durations of Effect",
    () => make({ id: "order", triggers: [] }, () => Step.sleep("a", "10 minuets")),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.match(engine.error?.message ?? "", /"7d", or a duration of Effect, like "5 minutes"/)
    }
  )

  const refused: ReadonlyArray<
    readonly [
      string,
      (step: Step.StepClient) => Promise<unknown>,
      () => Effect.Effect<unknown, unknown, Step.Step>
    ]
  > = [
    ["a blank name", (s) => s.run(" ", () => 1), () => Step.run(" ", Effect.succeed(1))],
    ["a long name", (s) => s.sleep("x".repeat(257), "1s"), () => Step.sleep("x".repeat(257), "1s")],
    ["a name that is not a string", (s) => s.sleep(7 as never, "1s"), () => Step.sleep(7 as never, "1s")],
    ["no code", (s) => s.run("a", undefined as never), () => Step.run("a", undefined as never)],
    ["an unknown unit", (s) => s.sleep("a", "10x"), () => Step.sleep("a", "10x")],
    ["a duration of zero", (s) => s.sleep("a", 0), () => Step.sleep("a", 0)],
    ["a negative duration", (s) => s.sleep("a", -1), () => Step.sleep("a", -1)],
    ["an endless duration", (s) => s.sleep("a", Number.POSITIVE_INFINITY), () => Step.sleep("a", "Infinity")],
    ["an invalid duration", (s) => s.sleep("a", "a while"), () => Step.sleep("a", "a while")],
    [
      "an invalid date",
      (s) => s.sleepUntil("a", new Date(Number.NaN)),
      () => Step.sleepUntil("a", new Date(Number.NaN))
    ],
    ["a date as a word", (s) => s.sleepUntil("a", "tomorrow"), () => Step.sleepUntil("a", "tomorrow")],
    [
      "a blank event",
      (s) => s.waitForEvent("a", { event: " " }),
      () => Step.waitForEvent("a", { event: " " })
    ],
    [
      "a bad pattern",
      (s) => s.waitForEvent("a", { event: "a.>.b" }),
      () => Step.waitForEvent("a", { event: "a.>.b" })
    ],
    [
      "no filter",
      (s) => s.waitForEvent("a", undefined as never),
      () => Step.waitForEvent("a", undefined as never)
    ],
    [
      "a timeout that is not a number",
      (s) => s.waitForEvent("a", { event: "e", timeout: Number.NaN }),
      () => Step.waitForEvent("a", { event: "e", timeout: Number.NaN })
    ],
    [
      "a match that does not compile",
      (s) => s.waitForEvent("a", { event: "e", match: "event.data ==" }),
      () => Step.waitForEvent("a", { event: "e", match: "event.data ==" })
    ],
    [
      "a blank match",
      (s) => s.waitForEvent("a", { event: "e", match: "" }),
      () => Step.waitForEvent("a", { event: "e", match: "" })
    ],
    ["an input with a BigInt", (s) => s.invoke("f", { n: 1n }), () => Step.invoke("f", { n: 1n })],
    ["a child without an id", (s) => s.invoke(""), () => Step.invoke("")],
    ["a blank topic", (s) => s.publish("", {}), () => Step.publish("", {})],
    ["a message with a function", (s) => s.publish("t", () => 1), () => Step.publish("t", () => 1)],
    [
      "a timeout as a word",
      (s) => s.run("a", () => 1, { timeout: "soon" }),
      () => Step.run("a", Effect.succeed(1), { timeout: "soon" })
    ],
    [
      "a policy without attempts",
      (s) => s.run("a", () => 1, { retry: { maxAttempts: 0 } }),
      () => Step.run("a", Effect.succeed(1), { retry: { maxAttempts: 0 } })
    ],
    [
      "a concurrency of zero",
      (s) => s.parallel("p", [], { concurrency: 0 }),
      () => Step.parallel("p", [], { concurrency: 0 })
    ],
    [
      "a fraction as the concurrency",
      (s) => s.map("p", [1], async () => 1, { concurrency: 1.5 }),
      () => Step.map("p", [1], () => Effect.succeed(1), { concurrency: 1.5 })
    ],
    [
      "an unknown mode",
      (s) => s.parallel("p", [], { onError: "ignore" as never }),
      () => Step.parallel("p", [], { onError: "ignore" as never })
    ],
    [
      "a map without a function",
      (s) => s.map("p", [1], undefined as never),
      () => Step.parallel("p", "x" as never)
    ],
    [
      "branches that are not an array",
      (s) => s.parallel("p", {} as never),
      () => Step.parallel("p", {} as never)
    ]
  ]
  for (const [title, asPromise, asEffect] of refused) {
    both(
      `${title} rejects the call with ValidationError and records nothing`,
      {
        promise:
          () =>
          async ({ step }) => {
            const error = await asPromise(step).then(
              () => undefined,
              (thrown: unknown) => thrown
            )
            assert.instanceOf(error, ValidationError)
            assert.isAbove(error.message.length, 10)
            return "went on"
          },
        effect: () => () =>
          Effect.gen(function* () {
            const error = yield* Effect.flip(asEffect())
            assert.instanceOf(error, ValidationError)
            return "went on"
          })
      },
      async ({ engine, fn }) => {
        await engine.turn(fn)
        assert.deepStrictEqual(engine.tags, ["Complete"])
        assert.strictEqual(engine.output, "went on")
      }
    )
  }
})

describe("faulty code", () => {
  both(
    "an upcaster that throws fails the handler",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        () =>
        async ({ step }) => {
          await step.waitForEvent("approval", { event: "order.approved" })
        },
      effect: () => () => Step.waitForEvent("approval", { event: "order.approved" })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      engine.eventDefinitions = {
        upcastEvent: (name, data) => {
          if (name === "order.approved") throw new Error("no way up")
          return data
        },
        getLatestVersion: () => 2
      }
      engine.fire(
        "approval:0",
        success({ id: "e", name: "order.approved", version: 1, data: {}, timestamp: 1 })
      )
      await engine.turn(fn)
      assert.strictEqual(engine.error?.message, "no way up")
    }
  )

  both(
    "an error that throws when it is inspected is treated like any other error",
    {
      config: { retry: { maxAttempts: 1 } },
      promise:
        () =>
        async ({ step }) =>
          step.run("charge", () => Promise.reject(hostile())),
      effect: () => () => Step.run("charge", Effect.fail(hostile()))
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.status, "failed")
      assert.strictEqual(engine.error?.name, "StepError")
    }
  )

  only(
    "a branch of a failed handler begins nothing while compensations run",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        step.compensate("charge", () => probe.hold("refund"))
        await Promise.all([
          (async () => {
            await probe.hold("own request")
            await step.run("never", probe.code("never", 1))
          })(),
          Promise.reject(new NonRetryableError("declined"))
        ])
      }),
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("refund"), "compensating")
      probe.release("own request")
      await settle()
      probe.release("refund")
      await until(() => end.value !== undefined, "the end")
      assert.deepStrictEqual(log, ["own request", "refund"])
      assert.deepStrictEqual(engine.keys, ["compensate:charge:0"])
    }
  )

  only(
    "a result that throws when it is read fails its step",
    () =>
      createFunction({ id: "order", triggers: [], retry: { maxAttempts: 1 } }, async ({ step }) => {
        await step.run("first", async () => 1)
        return step.run("odd", () => ({
          // oxlint-disable-next-line unicorn/no-thenable -- the test is about such a value
          get then() {
            throw new Error("do not look")
          }
        }))
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)

      assert.strictEqual(engine.status, "failed")
      assert.strictEqual(engine.error?.message, "do not look")
    }
  )
})

/** An object that throws on every read. */
const hostile = (): object =>
  new Proxy(
    {},
    {
      get: (_target, key) => {
        if (key === "then") return undefined
        throw new Error(`no ${String(key)} for you`)
      },
      getPrototypeOf: () => {
        throw new Error("no prototype either")
      }
    }
  )

describe("nested calls", () => {
  only(
    "every step call inside a step's callback rejects at once",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) =>
        step.run("outer", async () => {
          const names: Array<string> = []
          for (const call of [
            () => step.run("inner", () => 1),
            () => step.sleep("inner", "1s"),
            () => step.sleepUntil("inner", new Date(0)),
            () => step.waitForEvent("inner", { event: "e" }),
            () => step.invoke("inner"),
            () => step.invokeAsync("inner"),
            () => step.publish("inner", {}),
            () => step.parallel("inner", []),
            () => step.map("inner", [], async () => 1),
            async () => step.compensate("inner", () => undefined)
          ]) {
            await call().catch((error: unknown) => {
              assert.instanceOf(error, NestedStepError)
              names.push(`${error.stepName} in ${error.outerStepName}`)
            })
          }
          return names
        })
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(
        engine.output,
        Array.from({ length: 10 }, () => "inner in outer")
      )
      assert.deepStrictEqual(engine.keys, ["outer:0"])
    }
  )

  only(
    "every step inside a step's effect fails at once",
    () =>
      make({ id: "order", triggers: [] }, () =>
        Step.run(
          "outer",
          Effect.gen(function* () {
            const names: Array<string> = []
            for (const call of [
              Step.run("inner", Effect.succeed(1)),
              Step.sleep("inner", "1s"),
              Step.sleepUntil("inner", new Date(0)),
              Step.waitForEvent("inner", { event: "e" }),
              Step.invoke("inner"),
              Step.invokeAsync("inner"),
              Step.publish("inner", {}),
              Step.parallel("inner", []),
              Step.map("inner", [], () => Effect.succeed(1)),
              Step.compensate("inner", Effect.void)
            ]) {
              const error = yield* Effect.flip(call as Effect.Effect<unknown, unknown, Step.Step>)
              assert.instanceOf(error, NestedStepError)
              names.push(`${error.stepName} in ${error.outerStepName}`)
            }
            return names
          })
        )
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(
        engine.output,
        Array.from({ length: 10 }, () => "inner in outer")
      )
    }
  )

  only(
    "a step after a callback that left a promise running is not nested",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await step.run("outer", () => void probe.hold("left running"))
        return await step.run("after", () => 1)
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.output, 1)
    }
  )
})

describe("the Promise API", () => {
  const storage = new AsyncLocalStorage<string>()
  only(
    "a callback sees the async context of its call, even if it begins later",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await step.run("before", () => 1)
        return await storage.run("mine", () => step.run("read", () => storage.getStore() ?? "lost"))
      }),
    async ({ engine, fn }) => {
      await storage.run("the engine's", () => engine.turn(fn))
      assert.strictEqual(engine.output, "mine")
    }
  )

  only(
    "a handler does not see the async context from which its turn was started",
    () => createFunction({ id: "order", triggers: [] }, async () => storage.getStore() ?? "none"),
    async ({ engine, fn }) => {
      await storage.run("the engine's", () => engine.turn(fn))
      assert.strictEqual(engine.output, "none")
    }
  )

  only(
    "steps may be destructured from `step`",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step: { run, sleep } }) => {
        const n = await run("one", () => 1)
        await sleep("nap", "1s")
        return n
      }),
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.strictEqual(engine.output, 1)
    }
  )

  only(
    "a step that fails while the handler awaits another one does not end the process",
    () =>
      createFunction({ id: "order", triggers: [], retry: { maxAttempts: 1 } }, async ({ step }) => {
        const failing = step.run("failing", () => {
          throw new Error("declined")
        })
        await step.run("other", () => 1)
        await settle()
        return await failing.catch((error: Error) => error.message)
      }),
    async ({ engine, fn }) => {
      const unhandled: Array<unknown> = []
      const listen = (error: unknown) => void unhandled.push(error)
      process.on("unhandledRejection", listen)
      await engine.turn(fn)
      process.off("unhandledRejection", listen)
      assert.deepStrictEqual(unhandled, [])
      assert.strictEqual(engine.output, "declined")
    }
  )

  only(
    "event data that does not fit the schema fails the run for good, listing the paths",
    (probe) =>
      createFunction(
        { id: "order", triggers: [], schema: z.object({ orderId: z.string(), amount: z.number() }) },
        async ({ event }) => {
          expectTypeOf(event.data).toEqualTypeOf<{ orderId: string; amount: number }>()
          probe.log.push(event.data.orderId)
        }
      ),
    async ({ engine, fn, log }) => {
      engine.event = { orderId: "o-1", amount: "12" }
      await engine.turn(fn)
      assert.strictEqual(engine.error?.name, "SchemaValidationError")
      assert.include(engine.error?.message, "amount: ")
      assert.deepStrictEqual(log, [])

      engine.event = { orderId: "o-1", amount: 12 }
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["o-1"])
    }
  )

  only(
    "an asynchronous schema is awaited",
    () =>
      createFunction(
        {
          id: "order",
          triggers: [],
          schema: z.object({ orderId: z.string().refine(async (id) => id.startsWith("o-"), "not an order") })
        },
        async ({ event }) => event.data.orderId
      ),
    async ({ engine, fn }) => {
      engine.event = { orderId: "o-1" }
      await engine.turn(fn)
      assert.strictEqual(engine.output, "o-1")
      engine.event = { orderId: "x" }
      await engine.turn(fn)
      assert.include(engine.error?.message, "orderId: not an order")
    }
  )
})

describe("the Effect API", () => {
  class Declined extends Schema.TaggedError<Declined>()("Declined", {
    reason: Schema.String,
    at: Schema.DateFromString
  }) {}
  const Receipt = Schema.Struct({ id: Schema.String, at: Schema.DateFromString })

  only(
    "a success schema encodes for storage and decodes for the handler, also the first time",
    (probe) =>
      make({ id: "order", triggers: [] }, () =>
        Effect.gen(function* () {
          const receipt = yield* Step.run("charge", Effect.succeed({ id: "r-1", at: new Date(5) }), {
            success: Receipt
          })
          expectTypeOf(receipt).toEqualTypeOf<{ readonly id: string; readonly at: Date }>()
          probe.log.push(String(receipt.at instanceof Date))
          yield* Step.sleep("nap", "1m")
          return receipt.at.getTime()
        })
      ),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(log, ["true", "true"])
      assert.deepStrictEqual(
        engine.outcome("charge:0"),
        success({ id: "r-1", at: "1970-01-01T00:00:00.005Z" })
      )
      assert.strictEqual(engine.output, 5)
    }
  )

  only(
    "a result that does not fit its schema fails the step at once",
    () =>
      make({ id: "order", triggers: [] }, () =>
        Step.run("charge", Effect.succeed({ id: 7 } as never), { success: Receipt })
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.error?.name, "StepError")
      assert.include(
        engine.error?.message,
        'Result of step "charge" of function "order" does not fit its schema'
      )
      assert.deepStrictEqual(engine.tags, ["StepDone", "Fail"])
    }
  )

  only(
    "a failure that fits the error schema comes back unchanged and typed, also in a replay",
    (probe) =>
      make({ id: "order", triggers: [], retry: { maxAttempts: 2, initialDelayMs: 10 } }, () =>
        Effect.gen(function* () {
          const program = Step.run(
            "charge",
            Effect.suspend(() => {
              probe.log.push("charge")
              return Effect.fail(new Declined({ reason: "limit", at: new Date(5) }))
            }),
            { error: Declined }
          )
          expectTypeOf<Effect.Error<typeof program>>().toEqualTypeOf<
            Declined | StepError | Step.StepCallError
          >()
          const told = yield* program.pipe(
            Effect.catchTag("Declined", (declined) =>
              Effect.succeed(`${declined.reason} ${declined.at.getTime()}`)
            )
          )
          probe.log.push(told)
          yield* Step.sleep("nap", "1m")
          return told
        })
      ),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      // the retry policy applies as to any other failure
      assert.deepStrictEqual(log, ["charge", "charge", "limit 5", "limit 5"])
      assert.strictEqual(engine.output, "limit 5")
    }
  )

  only(
    "a failure that does not fit the error schema is a StepError",
    () =>
      make({ id: "order", triggers: [], retry: { maxAttempts: 1 } }, () =>
        Step.run("charge", Effect.fail(new RangeError("no")) as Effect.Effect<never, RangeError | Declined>, {
          error: Declined
        }).pipe(Effect.catchTag("StepError", (error) => Effect.succeed((error.cause as Error).name)))
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.output, "RangeError")
    }
  )

  only(
    "a defect in a step is a failure of the step",
    () =>
      make({ id: "order", triggers: [], retry: { maxAttempts: 1 } }, () =>
        Step.run("charge", Effect.die(new TypeError("bug"))).pipe(
          Effect.catchTag("StepError", (error) => Effect.succeed(error.message))
        )
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.output, "bug")
    }
  )

  only(
    "an effect that interrupts itself is a failure of the step",
    () =>
      make({ id: "order", triggers: [], retry: { maxAttempts: 1 } }, () =>
        Step.run("charge", Effect.interrupt).pipe(
          Effect.catchTag("StepError", (error) => Effect.succeed(error.message))
        )
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.include(engine.output as string, "interrupted itself")
    }
  )

  class Payments extends Context.Service<Payments, { readonly charge: Effect.Effect<string> }>()(
    "test/Payments"
  ) {}
  only(
    "steps and compensations have the services of their caller",
    (probe) =>
      make({ id: "order", triggers: [] }, () =>
        Effect.gen(function* () {
          const charge = Effect.flatMap(Payments, (payments) => payments.charge)
          const first = yield* Step.run("charge", charge)
          yield* Step.compensate(
            "charge",
            Effect.map(charge, (text) => void probe.log.push(`undo ${text}`))
          )
          const [second] = yield* Step.parallel("all", [Step.run("charge", charge)])
          probe.log.push(first, second)
          return yield* Effect.fail(new NonRetryableError("no"))
        }).pipe(Effect.provideService(Payments, { charge: Effect.succeed("charged") }))
      ),
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["charged", "charged", "undo charged"])
    }
  )

  only(
    "the loser of a race is withdrawn: an open sleep is closed, and in a replay the loser does not begin",
    (probe) =>
      make({ id: "order", triggers: [] }, () =>
        Effect.gen(function* () {
          const winner = yield* Effect.race(
            Step.run("quick", attempt(probe.code("quick", "quick"))),
            Effect.as(Step.sleep("nap", "1h"), "nap")
          )
          yield* Step.sleep("after", "1m")
          yield* Effect.race(
            Effect.as(Step.sleep("short", "1m"), "short"),
            Effect.andThen(Step.sleep("long", "1h"), Step.run("never", attempt(probe.code("never", 1))))
          )
          return winner
        })
      ),
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.strictEqual(engine.output, "quick")
      assert.deepStrictEqual(log, ["quick"])
      assert.deepStrictEqual(
        engine.ops("Withdraw").map(({ stepKey }) => stepKey),
        ["nap:0", "long:0"]
      )
      assert.strictEqual(engine.open.size, 0)
      assert.deepStrictEqual(engine.keys, ["quick:0", "after:0", "short:0"])
    }
  )

  only(
    "a step that is interrupted in its second attempt is withdrawn, so that it is not tried again",
    () =>
      make({ id: "order", triggers: [], retry: { initialDelayMs: 1000 } }, () =>
        Effect.gen(function* () {
          yield* Effect.raceFirst(
            Step.run(
              "flaky",
              Effect.gen(function* () {
                const { attempt: number } = yield* Step.StepAttempt
                return number === 1 ? yield* Effect.fail(new Error("again")) : yield* Effect.never
              })
            ),
            Step.sleep("limit", "5s")
          )
          yield* Step.sleep("cool down", "1h")
        })
      ),
    async ({ engine, fn }) => {
      await engine.run(fn)

      assert.strictEqual(engine.status, "completed")
      assert.deepStrictEqual(
        engine.ops("Withdraw").map(({ stepKey }) => stepKey),
        ["flaky:0"]
      )
    }
  )

  only(
    "interrupting the caller interrupts the running step, waits for it, and records nothing",
    (probe) =>
      make({ id: "order", triggers: [] }, () =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(
            Step.run(
              "charge",
              Effect.onInterrupt(
                attempt(() => probe.hold("charge")),
                () =>
                  Effect.andThen(
                    Effect.yieldNow,
                    Effect.sync(() => void probe.log.push("cleaned up"))
                  )
              )
            ),
            { startImmediately: true }
          )
          yield* Fiber.interrupt(fiber)
          probe.log.push("interrupted")
          const exit = yield* Fiber.await(fiber)
          return Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
        })
      ),
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["charge", "cleaned up", "interrupted"])
      assert.strictEqual(engine.output, true)
      assert.deepStrictEqual(engine.tags, ["Complete"])
    }
  )

  only(
    "finalizers run when the turn is suspended, and steps in them do nothing",
    (probe) =>
      make({ id: "order", triggers: [] }, () =>
        Effect.onExit(Step.sleep("nap", "1h"), () =>
          Effect.andThen(
            Effect.sync(() => void probe.log.push("finalizer")),
            Step.run("inert", attempt(probe.code("inert", 1)))
          )
        )
      ),
    async ({ engine, fn, log }) => {
      assert.strictEqual((await engine.turn(fn))._tag, "Suspended")
      await settle()
      assert.deepStrictEqual(log, ["finalizer"])
      assert.deepStrictEqual(engine.late, [])
      assert.deepStrictEqual(engine.tags, ["Sleep", "Suspend"])
    }
  )

  only(
    "resources of a handler are released at the end of its turn, whether it is suspended or completed",
    (probe) =>
      make({ id: "order", triggers: [] }, ({ event }) =>
        Effect.gen(function* () {
          yield* Effect.acquireRelease(
            Effect.sync(() => void probe.log.push("acquired")),
            () => Effect.sync(() => void probe.log.push("released"))
          )
          if (event.data.waits) yield* Step.sleep("nap", "1h")
          probe.log.push("done")
        })
      ),
    async ({ engine, fn, log }) => {
      engine.event = { waits: true }
      assert.strictEqual((await engine.turn(fn))._tag, "Suspended")
      await settle()
      assert.deepStrictEqual(log, ["acquired", "released"])

      engine.event = { waits: false }
      assert.strictEqual((await engine.turn(fn))._tag, "Completed")
      assert.deepStrictEqual(log.slice(2), ["acquired", "done", "released"])
    }
  )

  only(
    "siblings are interrupted before a failing parallel call returns",
    (probe) =>
      make({ id: "order", triggers: [] }, () =>
        Step.parallel("all", [
          Effect.onInterrupt(Step.sleep("nap", "1h"), () =>
            Effect.sync(() => void probe.log.push("released"))
          ),
          Step.run("bad", Effect.fail(new NonRetryableError("declined")))
        ]).pipe(Effect.catch((error) => Effect.sync(() => void probe.log.push(error.message))))
      ),
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["released", "declined"])
    }
  )

  const Placed = Event.define("order.placed", { data: Schema.Struct({ at: Schema.DateFromString }) })
  only(
    "event data is decoded by the definition among the triggers",
    () =>
      make({ id: "order", triggers: [Placed] }, ({ event }) => {
        expectTypeOf(event.data.at).toEqualTypeOf<Date>()
        return Effect.succeed(event.data.at.getTime())
      }),
    async ({ engine, fn }) => {
      engine.event = { at: "1970-01-01T00:00:00.007Z" }
      await engine.turn(fn)
      assert.strictEqual(engine.output, 7)
      engine.event = {}
      await engine.turn(fn)
      assert.strictEqual(engine.error?.name, "SchemaValidationError")
    }
  )
})
