/** `step.tx` in a turn: the writes of its body are reported with the result of the step, which resolves once all are stored. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { expectTypeOf } from "vitest"
import { type IronflowError, StepError, VersionConflictError } from "../../src/Errors.ts"
import { createFunction, make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { both, only } from "./Scenario.ts"
import { settle } from "./ScriptedEngine.ts"

const item = (n: number) => ({ name: "item.added", data: { n }, entityType: "order" })
const retry = { maxAttempts: 2, initialDelayMs: 100 }

describe("step.tx", () => {
  both(
    "reports its writes in the order of the calls, together with the result of the body",
    {
      promise: () => async (context) => {
        const { value, writes } = await context.step.tx("reserve", async (tx) => {
          tx.streams.append("o-1", item(1), { expectedVersion: 0, version: 2, metadata: { by: "me" } })
          tx.emit("order.reserved", { n: 2 })
          await Promise.resolve()
          tx.streams.appendAll("o-1", { entityType: "order", events: [{ name: "a" }, { name: "b" }] })
          return "reserved"
        })
        return [value, writes.length]
      },
      effect: () =>
        Effect.fnUntraced(function* () {
          const { value, writes } = yield* Step.tx(
            "reserve",
            Effect.fnUntraced(function* (tx) {
              yield* tx.streams.append("o-1", item(1), {
                expectedVersion: 0,
                version: 2,
                metadata: { by: "me" }
              })
              yield* tx.emit("order.reserved", { n: 2 })
              yield* Effect.yieldNow
              yield* tx.streams.appendAll("o-1", {
                entityType: "order",
                events: [{ name: "a" }, { name: "b" }]
              })
              return "reserved"
            })
          )
          return [value, writes.length]
        })
    },
    async ({ engine, fn }) => {
      await engine.run(fn)

      const [op] = engine.ops("Transact")
      assert.deepInclude(op, { stepKey: "reserve:0", name: "reserve", value: '"reserved"', attempt: 1 })
      assert.deepStrictEqual(op?.writes, [
        {
          _tag: "append",
          entityId: "o-1",
          entityType: "order",
          events: [{ name: "item.added", version: 2, data: '{"n":1}', metadata: '{"by":"me"}' }],
          expectedVersion: 0
        },
        { _tag: "emit", name: "order.reserved", version: 1, data: '{"n":2}' },
        {
          _tag: "append",
          entityId: "o-1",
          entityType: "order",
          events: [
            { name: "a", version: 1, data: "{}" },
            { name: "b", version: 1, data: "{}" }
          ]
        }
      ])
      assert.deepStrictEqual(engine.output, ["reserved", 3])
    }
  )

  both(
    "reports changes of keys with their conditions, and values in a form that JSON allows",
    {
      promise: () => async (context) => {
        await context.step.tx("reserve", (tx) => {
          const stock = tx.kv("stock")
          stock.put("a", { left: 1 })
          stock.create("b", "text")
          stock.update("c", Uint8Array.of(0, 255), 7)
          stock.delete("d")
          stock.delete("e", { revision: 3 })
        })
      },
      effect: () => () =>
        Step.tx(
          "reserve",
          Effect.fnUntraced(function* (tx) {
            const stock = tx.kv("stock")
            yield* stock.put("a", { left: 1 })
            yield* stock.create("b", "text")
            yield* stock.update("c", Uint8Array.of(0, 255), 7)
            yield* stock.delete("d")
            yield* stock.delete("e", { revision: 3 })
          })
        ).pipe(Effect.asVoid)
    },
    async ({ engine, fn }) => {
      await engine.run(fn)

      const at = { _tag: "kv" as const, bucket: "stock" }
      assert.deepStrictEqual(engine.ops("Transact")[0]?.writes, [
        { ...at, key: "a", value: { type: "json", data: '{"left":1}' } },
        { ...at, key: "b", value: { type: "text", data: "text" }, expected: 0 },
        { ...at, key: "c", value: { type: "bytes", data: "AP8=" }, expected: 7 },
        { ...at, key: "d" },
        { ...at, key: "e", expected: 3 }
      ])
    }
  )

  both(
    "lets the handler continue only when it is stored, and later resolves from the journal",
    {
      promise: (probe) => async (context) => {
        await context.step.tx("reserve", (tx) => {
          probe.enter("reserve")
          tx.emit("order.reserved")
        })
        probe.log.push("after")
        await context.step.sleep("rest", "1s")
      },
      effect: (probe) =>
        Effect.fnUntraced(function* () {
          yield* Step.tx("reserve", (tx) =>
            Effect.andThen(
              Effect.sync(() => probe.enter("reserve")),
              tx.emit("order.reserved")
            )
          )
          probe.log.push("after")
          yield* Step.sleep("rest", "1 second")
        })
    },
    async ({ engine, fn, log }) => {
      engine.manual = true
      engine.start(fn)
      await settle()
      assert.deepStrictEqual(log, ["reserve"])

      engine.commit()
      await settle()
      assert.deepStrictEqual(log, ["reserve", "after"])

      engine.crash()
      engine.manual = false
      await engine.run(fn)
      assert.deepStrictEqual(log, ["reserve", "after", "after", "after"])
      assert.strictEqual(engine.ops("Transact").length, 1)
      assert.strictEqual(engine.status, "completed")
    }
  )

  both(
    "that is refused runs again as its retry policy allows, with an empty transaction",
    {
      promise: (probe) => (context) =>
        context.step.tx(
          "reserve",
          async (tx, { attempt }) => {
            probe.log.push(`attempt ${attempt}`)
            tx.streams.append("o-1", item(attempt), { expectedVersion: attempt })
          },
          { retry }
        ),
      effect: (probe) => () =>
        Step.tx(
          "reserve",
          Effect.fnUntraced(function* (tx) {
            const { attempt } = yield* Step.StepAttempt
            probe.log.push(`attempt ${attempt}`)
            yield* tx.streams.append("o-1", item(attempt), { expectedVersion: attempt })
          }),
          { retry }
        )
    },
    async ({ engine, fn, log }) => {
      engine.refusals.push(new VersionConflictError("o-1", 1, 2))

      await engine.run(fn)

      assert.deepStrictEqual(log, ["attempt 1", "attempt 2"])
      assert.deepStrictEqual(
        engine.ops("Transact").map(({ writes }) => writes.length),
        [1, 1]
      )
      assert.deepInclude(engine.ops("StepRetry")[0], { stepKey: "reserve:0", kind: "tx", failures: 1 })
      assert.strictEqual(engine.status, "completed")
    }
  )

  both(
    "that is refused in every attempt fails with the conflict as its cause",
    {
      promise: () => async (context) => {
        try {
          await context.step.tx("reserve", (tx) => tx.streams.append("o-1", item(1)), { retry })
        } catch (error) {
          return causeOf(error)
        }
      },
      effect: () => () =>
        Step.tx("reserve", (tx) => tx.streams.append("o-1", item(1)), { retry }).pipe(
          Effect.as("stored"),
          Effect.catch((error) => Effect.succeed(causeOf(error)))
        )
    },
    async ({ engine, fn }) => {
      engine.refusals.push(new VersionConflictError("o-1", 0, 1), new VersionConflictError("o-1", 0, 2))

      await engine.run(fn)

      assert.strictEqual(engine.output, "StepError by VersionConflictError at 2")
      assert.deepStrictEqual(engine.keys, ["reserve:0"])
    }
  )

  both(
    "whose body fails writes nothing",
    {
      promise: () => (context) =>
        context.step.tx(
          "reserve",
          (tx) => {
            tx.emit("order.reserved")
            throw new Error("no stock")
          },
          { retry: { maxAttempts: 1 } }
        ),
      effect: () => () =>
        Step.tx(
          "reserve",
          (tx) => Effect.andThen(tx.emit("order.reserved"), Effect.fail(new Error("no stock"))),
          { retry: { maxAttempts: 1 } }
        )
    },
    async ({ engine, fn }) => {
      await engine.run(fn)

      assert.deepStrictEqual(engine.ops("Transact"), [])
      assert.strictEqual(engine.outcome("reserve:0")?._tag, "Failure")
    }
  )

  both(
    "is refused before its body runs when the engine lacks transactions",
    {
      promise: (probe) => (context) => context.step.tx("reserve", () => probe.enter("reserve")),
      effect: (probe) => () => Step.tx("reserve", () => Effect.sync(() => probe.enter("reserve")))
    },
    async ({ engine, fn, log }) => {
      engine.transactions = false

      await engine.run(fn)

      assert.deepStrictEqual(log, [])
      assert.include(JSON.stringify(engine.error), '"code":"UNIMPLEMENTED"')
      assert.deepStrictEqual(engine.tags, ["Fail"])
    }
  )

  only(
    "fails with an error that an Effect handler can catch when the engine lacks transactions",
    () =>
      make({ id: "order", triggers: [{ event: "order.placed" }] }, () =>
        Step.tx("reserve", () => Effect.void).pipe(
          Effect.catchTag("UnsupportedError", ({ code }) => Effect.succeed(code))
        )
      ),
    async ({ engine, fn }) => {
      engine.transactions = false

      await engine.run(fn)

      assert.strictEqual(engine.output, "UNIMPLEMENTED")
    }
  )

  both(
    "refuses invalid writes at once, and steps in its body",
    {
      promise: () => async (context) => {
        const codes: Array<unknown> = []
        await context.step.tx("reserve", async (tx) => {
          const attempts: ReadonlyArray<() => unknown> = [
            () => tx.streams.append("", item(1)),
            () => tx.streams.append("o-1", { ...item(1), entityType: " " }),
            () => tx.streams.append("o-1", item(1), { expectedVersion: 1.5 }),
            () => tx.emit("order.*"),
            () => tx.emit("order.placed", { n: 1n }),
            () => tx.emit("order.placed", "x".repeat(1024 * 1024)),
            () => tx.kv("no bucket").put("a", 1),
            () => tx.kv("stock").put("", 1),
            () => tx.kv("stock").put("a", undefined),
            () => tx.kv("stock").update("a", 1, 0),
            () => tx.kv("stock").delete("a", { revision: 0.5 }),
            () => tx.kv("stock").create("a", "x".repeat(1024 * 1024 + 1)),
            () => tx.kv("stock").put("a", 1),
            () => tx.kv("stock").delete("a"),
            () => tx.kv("other").put("a", 1),
            () => context.step.run("inner", () => 1)
          ]
          for (const attempt of attempts) {
            try {
              await attempt()
            } catch (error) {
              codes.push(Object(error).code)
            }
          }
        })
        return codes
      },
      effect: () =>
        Effect.fnUntraced(function* () {
          const codes: Array<string> = []
          yield* Step.tx(
            "reserve",
            Effect.fnUntraced(function* (tx) {
              const attempts: ReadonlyArray<Effect.Effect<void, IronflowError, Step.Step>> = [
                tx.streams.append("", item(1)),
                tx.streams.append("o-1", { ...item(1), entityType: " " }),
                tx.streams.append("o-1", item(1), { expectedVersion: 1.5 }),
                tx.emit("order.*"),
                tx.emit("order.placed", { n: 1n }),
                tx.emit("order.placed", "x".repeat(1024 * 1024)),
                tx.kv("no bucket").put("a", 1),
                tx.kv("stock").put("", 1),
                tx.kv("stock").put("a", undefined),
                tx.kv("stock").update("a", 1, 0),
                tx.kv("stock").delete("a", { revision: 0.5 }),
                tx.kv("stock").create("a", "x".repeat(1024 * 1024 + 1)),
                tx.kv("stock").put("a", 1),
                tx.kv("stock").delete("a"),
                tx.kv("other").put("a", 1),
                Effect.asVoid(Step.run("inner", Effect.succeed(1)))
              ]
              for (const attempt of attempts) {
                yield* Effect.catch(attempt, ({ code }) => Effect.sync(() => void codes.push(code)))
              }
            })
          )
          return codes
        })
    },
    async ({ engine, fn }) => {
      await engine.run(fn)

      assert.deepStrictEqual(engine.output, [
        ...Array.from({ length: 5 }, () => "VALIDATION_ERROR"),
        "LIMIT_EXCEEDED",
        ...Array.from({ length: 5 }, () => "VALIDATION_ERROR"),
        "LIMIT_EXCEEDED",
        // the second change of a key is refused, and the first one is kept
        "VALIDATION_ERROR",
        "NESTED_STEP"
      ])
      const value = { type: "json", data: "1" } as const
      assert.deepStrictEqual(engine.ops("Transact")[0]?.writes, [
        { _tag: "kv", bucket: "stock", key: "a", value },
        { _tag: "kv", bucket: "other", key: "a", value }
      ])
    }
  )

  only(
    "refuses writes after its body has ended",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        let late: (() => void) | undefined
        await step.tx("reserve", (tx) => {
          late = () => tx.emit("order.reserved")
        })
        try {
          late?.()
        } catch (error) {
          probe.log.push(String(Object(error).code))
        }
      }),
    async ({ engine, fn, log }) => {
      await engine.run(fn)

      assert.deepStrictEqual(log, ["INVALID_STATE"])
      assert.deepStrictEqual(engine.ops("Transact")[0]?.writes, [])
    }
  )

  only(
    "limits the total size of its writes",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await step.tx(
          "reserve",
          (tx) => {
            const large = "x".repeat(1000 * 1000)
            for (let i = 0; i < 10; i++) {
              probe.log.push("write")
              if (i % 2 === 0) tx.emit("order.reserved", large)
              else tx.kv("stock").put(`key-${i}`, large)
            }
          },
          { retry: { maxAttempts: 1 } }
        )
      }),
    async ({ engine, fn, log }) => {
      await engine.run(fn)

      assert.strictEqual(log.length, 5)
      assert.deepStrictEqual(engine.tags, ["StepDone", "Fail"])
    }
  )

  only(
    "has the type of the result of its body",
    () =>
      make(
        { id: "order", triggers: [] },
        Effect.fnUntraced(function* () {
          const { value } = yield* Step.tx("reserve", () => Effect.succeed(1))
          expectTypeOf(value).toEqualTypeOf<number>()
          return value + 1
        })
      ),
    async ({ engine, fn }) => {
      await engine.run(fn)

      assert.strictEqual(engine.output, 2)
    }
  )
})

const causeOf = (error: unknown): string =>
  error instanceof StepError && error.cause instanceof VersionConflictError
    ? `StepError by ${error.cause.name} at ${error.cause.actualVersion}`
    : String(error)
