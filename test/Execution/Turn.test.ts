import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { NonRetryableError, StepError } from "../../src/Errors.ts"
import { createFunction } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { attempt, both, only, type Probe } from "./Scenario.ts"
import { settle, success, until } from "./ScriptedEngine.ts"

describe("a lease that was lost unnoticed", () => {
  both(
    "is noticed before the code of a step begins",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await probe.hold("outside of steps")
          await Promise.all([
            step.run("charge", probe.code("charge", 1)),
            step.run("ship", probe.code("ship", 2))
          ])
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* attempt(() => probe.hold("outside of steps"))
          yield* Effect.all(
            [
              Step.run("charge", attempt(probe.code("charge", 1))),
              Step.run("ship", attempt(probe.code("ship", 2)))
            ],
            { concurrency: 2 }
          )
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("outside of steps"), "at work")
      engine.mayBegin = () => {
        engine.abort(new Error("the lease is lost"))
        return false
      }
      probe.release("outside of steps")
      await until(() => end.value !== undefined, "the end")

      assert.deepInclude(end.value, { _tag: "Aborted" })
      assert.deepStrictEqual(log, ["outside of steps"])
      assert.deepStrictEqual(engine.tags, [])
    }
  )
})

describe("replay", () => {
  both(
    "a recorded step does not run again after a suspension",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const receipt = await step.run("charge", probe.code("charge", { id: "r-1" }))
          await step.sleep("cool off", "1h")
          const sent = await step.run("send", probe.code("send", receipt.id))
          return { receipt, sent }
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const receipt = yield* Step.run("charge", attempt(probe.code("charge", { id: "r-1" })))
          yield* Step.sleep("cool off", "1 hour")
          const sent = yield* Step.run("send", attempt(probe.code("send", receipt.id)))
          return { receipt, sent }
        })
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)

      assert.deepStrictEqual(engine.output, { receipt: { id: "r-1" }, sent: "r-1" })
      assert.deepStrictEqual(log, ["charge", "send"])
      assert.deepStrictEqual(
        engine.turns.map((ops) => ops.map(({ _tag }) => _tag)),
        [
          ["StepDone", "Sleep", "Suspend"],
          ["StepDone", "Complete"]
        ]
      )
      assert.deepStrictEqual(engine.keys, ["charge:0", "cool off:0", "send:0"])
      assert.strictEqual(engine.now, 3_600_000)
    }
  )

  both(
    "a suspension does not reach catch and finally",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          try {
            await step.sleep("nap", "1m")
            await step.run("after", probe.code("after", 1))
          } catch {
            probe.log.push("catch")
          } finally {
            probe.log.push("finally")
          }
        },
      effect: (probe) => () =>
        Step.sleep("nap", "1m").pipe(
          Effect.andThen(Step.run("after", attempt(probe.code("after", 1)))),
          Effect.catch(() => Effect.sync(() => void probe.log.push("catch"))),
          Effect.andThen(Effect.sync(() => void probe.log.push("finally")))
        )
    },
    async ({ engine, fn, log }) => {
      assert.strictEqual((await engine.turn(fn))._tag, "Suspended")
      assert.deepStrictEqual(log, [])

      await engine.advanceToDue()
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["after", "finally"])
      assert.strictEqual(engine.status, "completed")
    }
  )

  both(
    "a race has the same winner in a replay",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const winner = await Promise.race([
            step.run("slow", () => probe.hold<string>("slow")),
            step.run("quick", () => probe.hold<string>("quick"))
          ])
          await step.sleep("nap", "1m")
          return await step.run("end", probe.code("end", winner))
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          // both steps run to their end, as they do with promises
          const winner = yield* Effect.raceFirst(
            Effect.uninterruptible(
              Step.run(
                "slow",
                attempt(() => probe.hold<string>("slow"))
              )
            ),
            Step.run(
              "quick",
              attempt(() => probe.hold<string>("quick"))
            )
          )
          yield* Step.sleep("nap", "1m")
          return yield* Step.run("end", attempt(probe.code("end", winner)))
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("slow") && probe.isHeld("quick"), "both run")
      probe.release("quick", "quick")
      await settle()
      probe.release("slow", "slow")
      await until(() => end.value !== undefined, "suspended")
      assert.deepStrictEqual(engine.keys, ["quick:0", "slow:0"])

      // the calls are in the order slow, quick, and their results are recorded as quick, slow
      await engine.advanceToDue()
      await engine.run(fn)
      assert.strictEqual(engine.output, "quick")
      assert.deepStrictEqual(log, ["slow", "quick", "end"])
    }
  )

  both(
    "a sleep beside a long step ends while the step still runs",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const winner = await Promise.race([
            step.run("long", () => probe.hold<string>("long")),
            step.sleep("patience", "10s").then(() => "timeout")
          ])
          probe.log.push(winner)
          return await step.run("end", probe.code("end", winner))
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const winner = yield* Effect.raceFirst(
            Step.run(
              "long",
              attempt(() => probe.hold<string>("long"))
            ),
            Effect.as(Step.sleep("patience", "10 seconds"), "timeout")
          )
          probe.log.push(winner)
          return yield* Step.run("end", attempt(probe.code("end", winner)))
        })
    },
    async ({ engine, fn, log, probe, style }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("long") && engine.open.has("patience:0"), "both stand")
      await engine.advance(10_000)
      await until(() => end.value !== undefined, "the end")

      assert.strictEqual(engine.output, "timeout")
      assert.deepStrictEqual(log, ["long", "timeout", "end"])
      assert.strictEqual(engine.turns.length, 1)
      assert.deepStrictEqual(engine.keys, ["patience:0", "end:0"])
      // a promise handler leaves the loser running; the Effect handler has interrupted it
      assert.strictEqual(engine.warnings().length, style === "promise" ? 1 : 0)
    }
  )

  both(
    "several suspensions are open together",
    {
      promise:
        () =>
        async ({ step }) => {
          const [, event, child] = await Promise.all([
            step.sleep("nap", "1m"),
            step.waitForEvent("approval", { event: "order.approved", match: "data.orderId" }),
            step.invoke("ship", { orderId: "o-1" }, { timeout: "2h" })
          ])
          return { approved: event.data.by, child }
        },
      effect: () => () =>
        Effect.gen(function* () {
          const [, event, child] = yield* Effect.all(
            [
              Step.sleep("nap", "1m"),
              Step.waitForEvent("approval", { event: "order.approved", match: "data.orderId" }),
              Step.invoke("ship", { orderId: "o-1" }, { timeout: "2h" })
            ],
            { concurrency: "unbounded" }
          )
          return { approved: event.data.by, child }
        })
    },
    async ({ engine, fn }) => {
      const end = await engine.turn(fn)
      assert.deepStrictEqual(end, { _tag: "Suspended", open: ["nap:0", "approval:0", "ship:0"] })
      await settle()
      assert.deepStrictEqual(engine.late, [])
      assert.deepStrictEqual(engine.turns[0], [
        { _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { afterMs: 60_000 } },
        {
          _tag: "WaitForEvent",
          stepKey: "approval:0",
          name: "approval",
          scope: "",
          event: "order.approved",
          match: "data.orderId",
          timeout: { afterMs: 604_800_000 },
          timeoutMs: 604_800_000
        },
        {
          _tag: "Invoke",
          stepKey: "ship:0",
          name: "ship",
          functionId: "ship",
          input: '{"orderId":"o-1"}',
          timeoutMs: 7_200_000
        },
        { _tag: "Suspend", open: ["nap:0", "approval:0", "ship:0"] }
      ])

      engine.fire("ship:0", success({ parcel: 7 }))
      engine.fire(
        "approval:0",
        success({ id: "evt_2", name: "order.approved", version: 1, data: { by: "ada" }, timestamp: 5 })
      )
      assert.deepStrictEqual(await engine.turn(fn), { _tag: "Suspended", open: ["nap:0"] })
      // the engine knows the open steps, so they are not reported again
      assert.deepStrictEqual(
        engine.turns[1]?.map(({ _tag }) => _tag),
        ["Suspend"]
      )

      await engine.advanceToDue()
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, { approved: "ada", child: { parcel: 7 } })
    }
  )

  both(
    "a wait that fires during a turn resolves in the turn, and enters the journal when the handler has seen it",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const kept = step.run("kept", () => probe.hold("kept"))
          const event = await step.waitForEvent("approval", { event: "order.approved" })
          probe.log.push(`approved at ${event.timestamp.toISOString()}`)
          return await kept
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const [, kept] = yield* Effect.all(
            [
              Effect.map(Step.waitForEvent("approval", { event: "order.approved" }), (event) => {
                probe.log.push(`approved at ${event.timestamp.toISOString()}`)
              }),
              Step.run(
                "kept",
                attempt(() => probe.hold("kept"))
              )
            ],
            { concurrency: "unbounded" }
          )
          return kept
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("kept") && engine.open.has("approval:0"), "both stand")
      engine.fire(
        "approval:0",
        success({
          id: "e",
          name: "order.approved",
          version: 1,
          data: {},
          timestamp: "1970-01-01T00:00:01.000Z"
        })
      )
      await until(() => log.length === 2, "the event was seen")
      probe.release("kept", 9)
      await until(() => end.value !== undefined, "the end")

      assert.deepStrictEqual(log, ["kept", "approved at 1970-01-01T00:00:01.000Z"])
      assert.deepStrictEqual(engine.keys, ["approval:0", "kept:0"])
      assert.strictEqual(engine.output, 9)
      assert.strictEqual(engine.turns.length, 1)
    }
  )

  both(
    "a wait that fires while the handler is still replaying resolves in order",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const order: Array<string> = []
          await Promise.all([
            step.sleep("nap", "1m").then(() => order.push("nap")),
            (async () => {
              for (const name of ["a", "b", "c"]) {
                await step.run(name, probe.code(name, 0))
                order.push(name)
              }
              await step.sleep("late", "1h")
            })()
          ])
          return order
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const order: Array<string> = []
          yield* Effect.all(
            [
              Effect.map(Step.sleep("nap", "1m"), () => order.push("nap")),
              Effect.gen(function* () {
                for (const name of ["a", "b", "c"]) {
                  yield* Step.run(name, attempt(probe.code(name, 0)))
                  order.push(name)
                }
                yield* Step.sleep("late", "1h")
              })
            ],
            { concurrency: "unbounded" }
          )
          return order
        })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      const { end } = engine.start(fn)
      // the turn has just begun: none of its recorded steps has resolved yet
      await engine.advance(60_000)
      await until(() => end.value !== undefined, "suspended")
      await engine.advanceToDue()
      await engine.run(fn)

      assert.deepStrictEqual(engine.output, ["a", "b", "c", "nap"])
      assert.deepStrictEqual(engine.keys, ["a:0", "b:0", "c:0", "nap:0", "late:0"])
    }
  )

  both(
    "recorded results come before new ones, whichever was called first",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const order: Array<string> = []
          await Promise.all(
            ["new", "old"].map(async (name) => {
              await step.run(name, async () => {
                probe.log.push(`${name} ran after ${order.length}`)
              })
              order.push(name)
            })
          )
          return order
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const order: Array<string> = []
          yield* Effect.forEach(
            ["new", "old"],
            (name) =>
              Effect.andThen(
                Step.run(
                  name,
                  Effect.sync(() => void probe.log.push(`${name} ran after ${order.length}`))
                ),
                Effect.sync(() => void order.push(name))
              ),
            { concurrency: "unbounded" }
          )
          return order
        })
    },
    async ({ engine, fn, log }) => {
      engine.journal.push({
        stepKey: "old:0",
        name: "old",
        kind: "run",
        outcome: success(undefined),
        attempt: 1
      })
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["new ran after 1"])
      assert.deepStrictEqual(engine.output, ["old", "new"])
    }
  )

  both(
    "the outcome of a wait that fires before the handler has reached it is kept",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 1000 } },
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("first", probe.code("first", 1))
          await step.sleep("nap", "1s")
          return await step.run("flaky", ({ attempt: n }) => {
            probe.log.push(`flaky ${n}`)
            if (n === 1) throw new Error("again")
            return n
          })
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* Step.run("first", attempt(probe.code("first", 1)))
          yield* Step.sleep("nap", "1s")
          return yield* Step.run(
            "flaky",
            Effect.gen(function* () {
              const { attempt: n } = yield* Step.StepAttempt
              probe.log.push(`flaky ${n}`)
              if (n === 1) return yield* Effect.fail(new Error("again"))
              return n
            })
          )
        })
    },
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      for (const key of ["nap:0", "flaky:0"]) {
        const { end } = engine.start(fn)
        engine.fire(key)
        await until(() => end.value !== undefined, "the end")
      }
      assert.strictEqual(engine.output, 2)
      assert.deepStrictEqual(log, ["first", "flaky 1", "flaky 2"])
      assert.strictEqual(engine.turns.length, 3)
    }
  )
})

describe("a wait that is held back in a replay while an open wait for the same event gets it", () => {
  const paid = { event: "paid", timeout: "30d" }
  const payment = (n: number) =>
    success({ id: `evt_${n}`, name: "paid", version: 1, data: { n }, timestamp: 0 })

  only(
    "looks back to that event when the open wait has lost a race",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        const soon = await Promise.race([step.waitForEvent("soon", paid), step.sleep("patience", "1h")])
        const late = step.waitForEvent("late", paid)
        if (probe.engine.turns.length === 2) probe.engine.fire("soon:0", payment(1))
        return [soon, (await late).data.n]
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      await engine.advance(3_600_000)
      await engine.turn(fn)

      assert.deepStrictEqual(engine.keys, ["patience:0", "soon:0"])
      assert.deepStrictEqual(
        engine.ops("WaitForEvent").map(({ stepKey, unseen }) => [stepKey, unseen]),
        [
          ["soon:0", undefined],
          ["late:0", ["soon:0"]]
        ]
      )
      engine.fire("late:0", payment(1))
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, [null, 1])
    }
  )

  both(
    "shares that event with the open wait when both are awaited",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const one = step.waitForEvent("one", paid)
          await step.sleep("rest", "1h")
          const two = step.waitForEvent("two", paid)
          if (probe.engine.turns.length === 2) probe.engine.fire("one:0", payment(1))
          const both = await Promise.all([one, two])
          return [...both, await step.waitForEvent("three", paid)].map(({ data }) => data.n)
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const one = yield* Effect.forkChild(Step.waitForEvent("one", paid), { startImmediately: true })
          yield* Step.sleep("rest", "1h")
          const two = yield* Effect.forkChild(Step.waitForEvent("two", paid), { startImmediately: true })
          if (probe.engine.turns.length === 2) probe.engine.fire("one:0", payment(1))
          const both = [yield* Fiber.join(one), yield* Fiber.join(two)]
          return [...both, yield* Step.waitForEvent("three", paid)].map(({ data }) => data.n)
        })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      await engine.advance(3_600_000)
      await engine.turn(fn)
      engine.fire("two:0", payment(1))
      await engine.turn(fn)

      assert.deepStrictEqual(
        engine.ops("WaitForEvent").map(({ stepKey, unseen }) => [stepKey, unseen]),
        [
          ["one:0", undefined],
          ["two:0", ["one:0"]],
          ["three:0", undefined]
        ]
      )
      engine.fire("three:0", payment(2))
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, [1, 1, 2])
    }
  )
})

describe("strict durability", () => {
  both(
    "the code of a step begins only when everything before it is durable",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("first", probe.code("first", 1))
          probe.log.push("went on")
          await step.run("second", probe.code("second", 2))
          return "done"
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* Step.run("first", attempt(probe.code("first", 1)))
          probe.log.push("went on")
          yield* Step.run("second", attempt(probe.code("second", 2)))
          return "done"
        })
    },
    async ({ engine, fn, log }) => {
      engine.manual = true
      const { end } = engine.start(fn)
      await settle()
      assert.deepStrictEqual(log, ["first", "went on"])
      assert.deepStrictEqual(
        engine.uncommitted.map(({ _tag }) => _tag),
        ["StepDone"]
      )

      engine.commit()
      await settle()
      assert.deepStrictEqual(log, ["first", "went on", "second"])
      // the last step and the completion are reported together
      assert.deepStrictEqual(
        engine.uncommitted.map(({ _tag }) => _tag),
        ["StepDone", "Complete"]
      )
      assert.strictEqual(end.value, undefined)

      engine.commit()
      assert.deepStrictEqual(end.value, { _tag: "Completed", output: '"done"' })
    }
  )

  both(
    "a publish is reported after the result before it, and resolves after the commit",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("first", probe.code("first", 1))
          const { eventId } = await step.publish("orders", { n: 1 })
          const { runId } = await step.invokeAsync("ship", { n: 1 })
          await step.run("second", probe.code("second", 2))
          return [eventId, runId]
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* Step.run("first", attempt(probe.code("first", 1)))
          const { eventId } = yield* Step.publish("orders", { n: 1 })
          const { runId } = yield* Step.invokeAsync("ship", { n: 1 })
          yield* Step.run("second", attempt(probe.code("second", 2)))
          return [eventId, runId]
        })
    },
    async ({ engine, fn, log }) => {
      engine.manual = true
      const { end } = engine.start(fn)
      await settle()
      assert.deepStrictEqual(
        engine.uncommitted.map(({ _tag }) => _tag),
        ["StepDone", "Publish"]
      )
      engine.commit()
      await settle()
      assert.deepStrictEqual(
        engine.uncommitted.map(({ _tag }) => _tag),
        ["InvokeAsync"]
      )
      assert.deepStrictEqual(log, ["first"])
      for (let i = 0; i < 3; i++) {
        engine.commit()
        await settle()
      }

      assert.strictEqual(end.value?._tag, "Completed")
      assert.deepStrictEqual(engine.output, ["msg-publish:orders:0", "child-of-ship:0"])
      assert.deepStrictEqual(engine.keys, ["first:0", "publish:orders:0", "ship:0", "second:0"])
    }
  )

  both(
    "a step whose result was not committed runs again, and nothing after it has begun",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("first", probe.code("first", 1))
          await step.run("second", probe.code("second", 2))
        },
      effect: (probe) => () =>
        Effect.andThen(
          Step.run("first", attempt(probe.code("first", 1))),
          Step.run("second", attempt(probe.code("second", 2)))
        )
    },
    async ({ engine, fn, log }) => {
      engine.manual = true
      engine.start(fn)
      await settle()
      engine.crash()
      await settle()
      assert.deepStrictEqual(log, ["first"])

      engine.manual = false
      await engine.run(fn)
      assert.deepStrictEqual(log, ["first", "first", "second"])
      assert.strictEqual(engine.status, "completed")
    }
  )

  both(
    "steps that are called together begin together",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("before", probe.code("before", 0))
          return await Promise.all(
            ["a", "b", "c"].map(async (name) => {
              const value = await step.run(name, () => (probe.log.push(name), name))
              probe.log.push(`saw ${name}`)
              return value
            })
          )
        },
      effect: (probe) => () =>
        Effect.andThen(
          Step.run("before", attempt(probe.code("before", 0))),
          Effect.forEach(
            ["a", "b", "c"],
            (name) =>
              Effect.tap(
                Step.run(
                  name,
                  Effect.sync(() => (probe.log.push(name), name))
                ),
                () => Effect.sync(() => void probe.log.push(`saw ${name}`))
              ),
            { concurrency: "unbounded" }
          )
        )
    },
    async ({ engine, fn, log }) => {
      engine.manual = true
      const { end } = engine.start(fn)
      await settle()
      engine.commit()
      await settle()
      assert.deepStrictEqual(log, ["before", "a", "b", "c", "saw a", "saw b", "saw c"])
      engine.commit()
      await until(() => end.value !== undefined, "the end")
      assert.deepStrictEqual(engine.output, ["a", "b", "c"])
    }
  )
})

describe("order of outcomes", () => {
  both(
    "the code of a step does not begin before the handler has seen all outcomes",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await Promise.all([
            (async () => {
              await step.run("a", () => probe.hold("a"))
              await step.run("after a", probe.code("after a", 1))
            })(),
            (async () => {
              await step.run("b", () => probe.hold("b"))
              probe.log.push("saw b")
            })()
          ])
        },
      effect: (probe) => () =>
        Effect.all(
          [
            Effect.andThen(
              Step.run(
                "a",
                attempt(() => probe.hold("a"))
              ),
              Step.run("after a", attempt(probe.code("after a", 1)))
            ),
            Effect.andThen(
              Step.run(
                "b",
                attempt(() => probe.hold("b"))
              ),
              Effect.sync(() => void probe.log.push("saw b"))
            )
          ],
          { concurrency: "unbounded" }
        )
    },
    async ({ engine, fn, log, probe }) => {
      engine.manual = true
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("a") && probe.isHeld("b"), "both run")
      await settle()
      probe.release("a")
      probe.release("b")
      // both were reported, and the handler has seen the first one only
      for (let i = 0; i < 20; i++) await Promise.resolve()
      assert.strictEqual(engine.uncommitted.length, 2)
      engine.commit()
      engine.manual = false
      await until(() => end.value !== undefined, "the end")
      assert.deepStrictEqual(log, ["a", "b", "saw b", "after a"])
    }
  )
})

describe("the end of a turn", () => {
  only(
    "a turn stays open for its linger, and a step call meanwhile is part of the turn",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        const nap = step.sleep("nap", "1h")
        await probe.hold("own request")
        await step.run("after", probe.code("after", 1))
        await nap
      }),
    async ({ engine, fn, log, probe }) => {
      engine.lingerMs = 50
      const { end } = engine.start(fn)
      await settle()
      assert.strictEqual(end.value, undefined)

      await engine.advance(49)
      probe.release("own request")
      await until(() => log.includes("after"), "the step ran")
      await settle()
      assert.strictEqual(end.value, undefined)

      await engine.advance(50)
      await until(() => end.value !== undefined, "suspended")
      assert.deepStrictEqual(end.value, { _tag: "Suspended", open: ["nap:0"] })
      assert.deepStrictEqual(engine.keys, ["after:0"])
      assert.deepStrictEqual(engine.late, [])
    }
  )

  only(
    "a step call after the end of its turn does not execute and is reported once",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        void step.sleep("nap", "1h")
        await probe.hold("own request")
        void step.run("one", probe.code("one", 1))
        await step.run("two", probe.code("two", 2))
      }),
    async ({ engine, fn, log, probe }) => {
      assert.strictEqual((await engine.turn(fn))._tag, "Suspended")
      probe.release("own request")
      await settle()

      assert.deepStrictEqual(log, ["own request"])
      assert.deepStrictEqual(engine.late, ["one"])
      assert.strictEqual(engine.warnings().length, 1)
      assert.include(engine.warnings()[0], 'step "one" was called after the turn had been suspended')
      assert.deepStrictEqual(engine.tags, ["Sleep", "Suspend"])
    }
  )

  only(
    "a handler that returns after the end of its turn is reported as late",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        void step.sleep("nap", "1h")
        await probe.hold("own request")
      }),
    async ({ engine, fn, probe }) => {
      await engine.turn(fn)
      probe.release("own request")
      await settle()
      assert.deepStrictEqual(engine.late, ["the end of the handler"])
      assert.strictEqual(engine.status, "running")
    }
  )

  only(
    "a turn whose handler awaits a request of its own, with nothing suspended, does not end",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async () => {
        return await probe.hold("own request")
      }),
    async ({ engine, fn, probe }) => {
      const { end } = engine.start(fn)
      await settle()
      assert.strictEqual(end.value, undefined)
      probe.release("own request", "answer")
      await until(() => end.value !== undefined, "the end")
      assert.strictEqual(engine.output, "answer")
    }
  )

  only(
    "callbacks run and the signal aborts at the end of a turn, and a failing callback is reported",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ onTurnEnd, signal, step }) => {
        signal.addEventListener("abort", () => probe.log.push(`abort: ${signal.reason.code}`))
        onTurnEnd(() => {
          throw new Error("broken")
        })
        onTurnEnd(() => void probe.log.push("callback"))
        await step.sleep("nap", "1h")
      }),
    async ({ engine, fn, log }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["abort: TURN_ENDED", "callback"])
      assert.include(engine.warnings()[0], "broken")
    }
  )

  both(
    "an abort ends the turn at once, gives running steps the reason, and reports nothing more",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("charge", async ({ signal }) => {
            signal.addEventListener("abort", () => probe.log.push((signal.reason as Error).message))
            return await probe.hold("charge")
          })
        },
      effect: (probe) => () =>
        Step.run(
          "charge",
          Effect.onInterrupt(
            attempt(() => probe.hold("charge")),
            () => Effect.sync(() => void probe.log.push("lease lost"))
          )
        )
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("charge"), "running")
      const reason = new Error("lease lost")
      engine.abort(reason)
      assert.deepStrictEqual(end.value, { _tag: "Aborted", reason })
      probe.release("charge", 1)
      await settle()

      assert.deepStrictEqual(log, ["charge", "lease lost"])
      assert.deepStrictEqual(engine.tags, [])
      assert.deepStrictEqual(engine.late, [])
    }
  )

  both(
    "a turn that takes longer than the function's timeout fails the run with a retryable error",
    {
      config: { timeout: 5000, retry: { maxAttempts: 2, initialDelayMs: 10 } },
      promise:
        (probe) =>
        async ({ step }) => {
          await step.run("stuck", async ({ signal }) => {
            signal.addEventListener("abort", () => probe.log.push("aborted"))
            return await probe.hold("stuck")
          })
        },
      effect: (probe) => () =>
        Step.run(
          "stuck",
          Effect.onInterrupt(
            attempt(() => probe.hold("stuck")),
            () => Effect.sync(() => void probe.log.push("aborted"))
          )
        )
    },
    async ({ engine, fn, log, probe }) => {
      const first = engine.start(fn)
      await until(() => probe.isHeld("stuck"), "running")
      await engine.advance(5000)
      await until(() => first.end.value !== undefined, "the end")
      assert.strictEqual(first.end.value?._tag, "Retrying")
      assert.deepStrictEqual(log, ["stuck", "aborted"])

      engine.attempt = 2
      const second = engine.start(fn)
      await until(() => probe.isHeld("stuck"), "running")
      await engine.advance(5000)
      await until(() => second.end.value !== undefined, "the end")
      assert.strictEqual(engine.status, "failed")
      assert.strictEqual(engine.error?.name, "FunctionTimeoutError")
    }
  )

  both(
    "a failure outside steps starts the handler again, as often as the retry policy allows",
    {
      config: { retry: { maxAttempts: 3, initialDelayMs: 100 } },
      promise:
        (probe) =>
        async ({ run, step }) => {
          await step.run("charge", probe.code("charge", 1))
          throw new Error(`attempt ${run.attempt}`)
        },
      effect:
        (probe) =>
        ({ run }) =>
          Effect.andThen(
            Step.run("charge", attempt(probe.code("charge", 1))),
            Effect.fail(new Error(`attempt ${run.attempt}`))
          )
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.strictEqual(engine.error?.message, "attempt 3")
      assert.deepStrictEqual(log, ["charge"])
      assert.deepStrictEqual(
        engine.ops("RetryRun").map(({ due }) => due),
        [{ afterMs: 100 }, { afterMs: 200 }]
      )
      assert.strictEqual(engine.ops("Fail").length, 1)
    }
  )

  both(
    "a failure that is not retryable ends the run",
    {
      promise: () => async () => {
        throw new NonRetryableError("declined")
      },
      effect: () => () => Effect.fail(new NonRetryableError("declined"))
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.error?.message, "declined")
      assert.deepStrictEqual(engine.tags, ["Fail"])
    }
  )

  only(
    "recorded steps that a completed handler never called are named in a warning",
    () => createFunction({ id: "order", triggers: [] }, async () => 1),
    async ({ engine, fn }) => {
      engine.journal.push({
        stepKey: "removed:0",
        name: "removed",
        kind: "run",
        outcome: success(1),
        attempt: 1
      })
      await engine.turn(fn)
      assert.strictEqual(engine.status, "completed")
      assert.include(engine.warnings()[0], '"removed"')
    }
  )

  both(
    "the handler's logger is silent while recorded steps are replayed",
    {
      promise:
        (probe) =>
        async ({ logger, step }) => {
          probe.log.push(String(logger !== undefined))
          logger.info("before")
          await step.run("a", probe.code("a", 1))
          logger.info("between")
          await step.sleep("nap", "1m")
          logger.info("after")
        },
      effect:
        (probe) =>
        ({ logger }) =>
          Effect.gen(function* () {
            probe.log.push(String(logger !== undefined))
            logger.info("before")
            yield* Step.run("a", attempt(probe.code("a", 1)))
            logger.info("between")
            yield* Step.sleep("nap", "1m")
            logger.info("after")
          })
    },
    async ({ engine, fn }) => {
      const written: Array<string> = []
      const original = console.info
      console.info = (line: string) => void written.push(line)
      try {
        await engine.run(fn)
      } finally {
        console.info = original
      }
      assert.deepStrictEqual(
        written.map((line) => line.split(" ").at(-1)),
        ["before", "between", "after"]
      )
    }
  )
})

describe("the handler's logger before anything is recorded", () => {
  const failsOnce = (probe: Probe) => () => {
    probe.enter("a")
    if (probe.log.length === 1) throw new Error("once")
    return 1
  }

  both(
    "a line before a step that is retried in a later turn is written once",
    {
      promise:
        (probe) =>
        async ({ logger, step }) => {
          logger.info("before")
          await step.run("a", failsOnce(probe))
          logger.info("after")
        },
      effect:
        (probe) =>
        ({ logger }) =>
          Effect.gen(function* () {
            logger.info("before")
            yield* Step.run("a", attempt(failsOnce(probe)))
            logger.info("after")
          })
    },
    async ({ engine, fn, log }) => {
      const written: Array<string> = []
      const original = console.info
      console.info = (line: string) => void written.push(line)
      try {
        await engine.run(fn)
      } finally {
        console.info = original
      }
      assert.deepStrictEqual(log, ["a", "a"])
      assert.deepStrictEqual(
        written.map((line) => line.split(" ").at(-1)),
        ["before", "after"]
      )
    }
  )
})

describe("signals", () => {
  only(
    "the handler's signal has the reason why the turn was given up, before the compensations run",
    (probe) =>
      createFunction(
        { id: "order", triggers: [], timeout: 1000, retry: { maxAttempts: 1 } },
        async ({ signal, step }) => {
          signal.addEventListener("abort", () => probe.log.push((signal.reason as Error).name))
          step.compensate("charge", probe.code("refund", undefined))
          await probe.hold("own request")
        }
      ),
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("own request"), "running")
      await engine.advance(1000)
      await until(() => end.value !== undefined, "the end")
      assert.deepStrictEqual(log, ["own request", "FunctionTimeoutError", "refund"])
    }
  )
})

describe("nondeterminism", () => {
  for (const from of ["journal", "open"] as const) {
    both(
      `a step recorded in the ${from} as another kind pauses the run`,
      {
        promise:
          (probe) =>
          async ({ step }) => {
            try {
              await step.run("nap", probe.code("nap", 1))
            } finally {
              probe.log.push("finally")
            }
          },
        effect: (probe) => () =>
          Effect.onExit(Step.run("nap", attempt(probe.code("nap", 1))), (exit) =>
            Effect.sync(() => void (exit._tag === "Success" && probe.log.push("finally")))
          )
      },
      async ({ engine, fn, log, style }) => {
        if (from === "journal") {
          engine.journal.push({
            stepKey: "nap:0",
            name: "nap",
            kind: "sleep",
            outcome: success(undefined),
            attempt: 1
          })
        } else {
          engine.open.set("nap:0", {
            stepKey: "nap:0",
            name: "nap",
            kind: "sleep",
            failures: 0,
            pending: true,
            dueAt: 1000,
            outcome: undefined,
            op: { _tag: "Sleep", stepKey: "nap:0", name: "nap", due: { at: 1000 } }
          })
        }
        const end = await engine.turn(fn)
        await settle()

        assert.strictEqual(end._tag, "Paused")
        assert.deepStrictEqual(log, [])
        const [pause] = engine.ops("Pause")
        assert.strictEqual(pause?.code, "NONDETERMINISM")
        assert.include(pause?.message, 'step "nap" (nap:0) was recorded as "sleep"')
        assert.include(pause?.message, 'is now called as "run"')
        if (style === "promise") assert.include(pause?.message, "Turn.test.ts")
      }
    )
  }

  both(
    "a recorded value that is damaged pauses the run, which neither fails nor rolls back",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          try {
            await step.run("charge", probe.code("charge", 1))
            step.compensate("charge", probe.code("refund", 1))
            await step.run("ship", probe.code("ship", 1))
          } finally {
            probe.log.push("finally")
          }
        },
      effect: (probe) => () =>
        Effect.onExit(
          Effect.gen(function* () {
            yield* Step.run("charge", attempt(probe.code("charge", 1)))
            yield* Step.run("ship", attempt(probe.code("ship", 1)))
          }),
          (exit) => Effect.sync(() => void (exit._tag === "Success" && probe.log.push("finally")))
        )
    },
    async ({ engine, fn, log }) => {
      engine.journal.push({
        stepKey: "charge:0",
        name: "charge",
        kind: "run",
        outcome: { _tag: "Success", value: '{"amount' },
        attempt: 1
      })

      const end = await engine.turn(fn)
      await settle()

      assert.strictEqual(end._tag, "Paused")
      assert.deepStrictEqual(log, [])
      const [pause] = engine.ops("Pause")
      assert.strictEqual(pause?.code, "STORE_CORRUPT")
      assert.include(pause?.message, 'the recorded value of step "charge" (charge:0) is damaged')
    }
  )

  for (const column of ["data", "metadata"]) {
    both(
      `an event whose ${column} is damaged pauses the run, which neither fails nor starts`,
      {
        promise:
          (probe) =>
          async ({ step }) => {
            await step.run("charge", probe.code("charge", 1))
          },
        effect: (probe) => () => Step.run("charge", attempt(probe.code("charge", 1)))
      },
      async ({ engine, fn, log }) => {
        engine.stored = { [column]: '{"amount' }

        const end = await engine.turn(fn)
        await settle()

        assert.strictEqual(end._tag, "Paused")
        assert.deepStrictEqual(log, [])
        const [pause] = engine.ops("Pause")
        assert.strictEqual(pause?.code, "STORE_CORRUPT")
        assert.include(pause?.message, 'the stored event "order.placed" (evt_1) is damaged')
      }
    )
  }

  only(
    "the pause names both places in the code when the recorded place is known",
    () => {
      let calls = 0
      return createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        if (calls++ === 0) await step.run("flip", () => 1)
        else await step.sleep("flip", "1m")
        await step.sleep("nap", "1m")
      })
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      await engine.advanceToDue()
      await engine.turn(fn)
      const details = engine.ops("Pause")[0]?.details as { recordedSite: string; callSite: string }
      assert.match(details.recordedSite, /Turn\.test\.ts:\d+/)
      assert.match(details.callSite, /Turn\.test\.ts:\d+/)
      assert.notStrictEqual(details.recordedSite, details.callSite)
    }
  )
})

describe("logging", () => {
  only(
    "a recorded step that the handler does not call does not silence the logger",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ logger, step }) => {
        await step.run("a", probe.code("a", 1))
        logger.info("live")
      }),
    async ({ engine, fn }) => {
      engine.journal.push({
        stepKey: "removed:0",
        name: "removed",
        kind: "run",
        outcome: success(1),
        attempt: 1
      })
      const written: Array<string> = []
      const original = console.info
      console.info = (line: string) => void written.push(line)
      try {
        await engine.turn(fn)
      } finally {
        console.info = original
      }
      assert.strictEqual(written.length, 1)
    }
  )
})

describe("limits", () => {
  only(
    "a run with too many steps fails, naming the limit",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await step.map("all", Array.from({ length: 10_001 }), (_, branch) => branch.sleep("nap", "1h"))
      }),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.status, "failed")
      assert.strictEqual(engine.error?.name, "LimitExceededError")
      assert.include(engine.error?.message, "10000 steps")
    }
  )

  both(
    "a result that is too large fails the step at once",
    {
      promise:
        () =>
        async ({ step }) =>
          step.run("big", () => "x".repeat(4 * 1024 * 1024)),
      effect: () => () =>
        Step.run(
          "big",
          Effect.sync(() => "x".repeat(4 * 1024 * 1024))
        )
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.status, "failed")
      assert.strictEqual(engine.error?.name, "StepError")
      assert.include(engine.error?.message, 'Result of step "big" is too large')
      assert.deepStrictEqual(engine.tags, ["StepDone", "Fail"])
    }
  )
})

describe("memory", () => {
  only(
    "suspended turns are garbage-collected",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        await step.sleep("nap", "1h")
      }),
    async ({ engine, fn }) => {
      const { setFlagsFromString } = await import("node:v8")
      const { runInNewContext } = await import("node:vm")
      setFlagsFromString("--expose-gc")
      const collect = runInNewContext("gc") as () => void
      const handles: Array<WeakRef<object>> = []
      for (let i = 0; i < 50; i++) {
        const live = engine.start(fn)
        handles.push(new WeakRef(live.handle))
        await until(() => live.end.value !== undefined, "suspended")
      }
      engine.turns.length = 0
      await settle()
      for (let i = 0; i < 5; i++) {
        collect()
        await settle()
      }
      const alive = handles.filter((handle) => handle.deref() !== undefined).length
      assert.isAtMost(alive, 1)
    }
  )
})

describe("step errors", () => {
  both(
    "a step without attempts left rejects with StepError, which a handler may catch and continue",
    {
      config: { retry: { maxAttempts: 2, initialDelayMs: 10 } },
      promise:
        (probe) =>
        async ({ step }) => {
          try {
            await step.run("charge", () => {
              probe.log.push("charge")
              throw new RangeError("no funds")
            })
          } catch (error) {
            assert.instanceOf(error, StepError)
            assert.instanceOf(error.cause, RangeError)
            return [error.message, error.stepId, error.stepName, error.retryable]
          }
        },
      effect: (probe) => () =>
        Step.run(
          "charge",
          Effect.suspend(() => {
            probe.log.push("charge")
            return Effect.fail(new RangeError("no funds"))
          })
        ).pipe(
          Effect.catchTag("StepError", (error) => {
            assert.instanceOf(error.cause, RangeError)
            return Effect.succeed([error.message, error.stepId, error.stepName, error.retryable])
          })
        )
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, ["no funds", "run_1:charge:0", "charge", false])
      assert.deepStrictEqual(log, ["charge", "charge"])
      assert.deepStrictEqual(
        engine.ops("StepRetry").map(({ due, failures }) => ({ due, failures })),
        [{ due: { afterMs: 10 }, failures: 1 }]
      )
      assert.strictEqual(engine.ops("StepDone")[0]?.attempt, 2)
    }
  )
})
