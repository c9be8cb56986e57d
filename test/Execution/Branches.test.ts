import { assert, describe, expectTypeOf } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { NonRetryableError, StepError } from "../../src/Errors.ts"
import { createFunction, make } from "../../src/Function.ts"
import * as Step from "../../src/Step.ts"
import { attempt, both, only } from "./Scenario.ts"
import { settle, until } from "./ScriptedEngine.ts"

/** An error class of a user. */
class SoldOut extends Error {
  readonly what: string
  constructor(what: string) {
    super(`sold out: ${what}`)
    this.what = what
  }
}

describe("parallel", () => {
  both(
    "branches have separate step names, and results are in the order of the branches",
    {
      promise:
        (probe) =>
        async ({ step }) =>
          await step.parallel("fetch-all", [
            async (s) => [
              await s.run("profile", probe.code("0", "a")),
              await s.run("profile", probe.code("0 again", "b"))
            ],
            async (s) => s.run("profile", probe.code("1", "c")),
            async (s) =>
              s.parallel("inner", [
                async (t) => t.run("deep:er", probe.code("2 0", "d")),
                async (t) => t.run("deep", probe.code("2 1", "e"))
              ])
          ]),
      effect: (probe) => () =>
        Step.parallel("fetch-all", [
          Effect.all([
            Step.run("profile", attempt(probe.code("0", "a"))),
            Step.run("profile", attempt(probe.code("0 again", "b")))
          ]),
          Step.run("profile", attempt(probe.code("1", "c"))),
          Step.parallel("inner", [
            Step.run("deep:er", attempt(probe.code("2 0", "d"))),
            Step.run("deep", attempt(probe.code("2 1", "e")))
          ])
        ])
    },
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, [["a", "b"], "c", ["d", "e"]])
      assert.sameMembers(
        [...engine.keys],
        [
          "fetch-all:0:profile:0",
          "fetch-all:0:profile:1",
          "fetch-all:1:profile:0",
          "fetch-all:2:inner:0:deep\\:er:0",
          "fetch-all:2:inner:1:deep:0"
        ]
      )
    }
  )

  both(
    "a name used again in the same scope does not collide",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const first = await step.map("all", [1], async (n, s) => s.run("x", probe.code("first", n)))
          const second = await step.map("all", [2], async (n, s) => s.run("x", probe.code("second", n)))
          return [...first, ...second]
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const first = yield* Step.map("all", [1], (n) => Step.run("x", attempt(probe.code("first", n))))
          const second = yield* Step.map("all", [2], (n) => Step.run("x", attempt(probe.code("second", n))))
          return [...first, ...second]
        })
    },
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, [1, 2])
      assert.deepStrictEqual(engine.keys, ["all:0:x:0", "all~1:0:x:0"])
    }
  )

  both(
    "an empty list gives an empty list",
    {
      promise:
        () =>
        async ({ step }) => [await step.parallel("none", []), await step.map("none", [], async () => 1)],
      effect: () => () =>
        Effect.all([
          Step.parallel("none", []),
          Step.map("none", [] as Array<number>, () => Effect.succeed(1))
        ])
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, [[], []])
    }
  )

  both(
    "no more branches run at once than the concurrency allows",
    {
      promise:
        (probe) =>
        async ({ step }) =>
          await step.map("all", ["a", "b", "c"], async (name, s) => s.run(name, () => probe.hold(name)), {
            concurrency: 2
          }),
      effect: (probe) => () =>
        Step.map(
          "all",
          ["a", "b", "c"],
          (name) =>
            Step.run(
              name,
              attempt(() => probe.hold(name))
            ),
          {
            concurrency: 2
          }
        )
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await settle()
      assert.deepStrictEqual(log, ["a", "b"])
      probe.release("b", 2)
      await until(() => probe.isHeld("c"), "the third began")
      probe.release("a", 1)
      probe.release("c", 3)
      await until(() => end.value !== undefined, "the end")
      assert.deepStrictEqual(engine.output, [1, 2, 3])
    }
  )

  both(
    "many branches that end at once neither overflow the stack nor change the order",
    {
      promise:
        () =>
        async ({ step }) =>
          (await step.map("all", Array.from({ length: 3000 }), async (_, __, i) => i, { concurrency: 1 }))
            .length,
      effect: () => () =>
        Effect.map(
          Step.map("all", Array.from({ length: 3000 }), (_, i) => Effect.succeed(i), { concurrency: 1 }),
          (all) => all.length
        )
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.output, 3000)
    }
  )

  both(
    "allSettled waits for all branches, and errors are in the places of their results",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const results = await step.parallel(
            "all",
            [
              async (s) => s.run("good", probe.code("good", 1)),
              async (s) =>
                s.run("bad", () => {
                  throw new NonRetryableError("declined")
                }),
              async () => {
                throw "text"
              }
            ],
            { onError: "allSettled" }
          )
          return results.map((result) =>
            result instanceof Error ? `${result.name}: ${result.message}` : result
          )
        },
      effect: (probe) => () =>
        Effect.map(
          Step.parallel(
            "all",
            [
              Step.run("good", attempt(probe.code("good", 1))),
              Step.run("bad", Effect.fail(new NonRetryableError("declined"))),
              Effect.fail(new Error("text"))
            ],
            { onError: "allSettled" }
          ),
          (results) =>
            results.map((result) => (result instanceof Error ? `${result.name}: ${result.message}` : result))
        )
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, [1, "StepError: declined", "Error: text"])
      assert.notInclude(engine.keys, "all:verdict")
    }
  )

  both(
    "branches suspend together, and continue where they were",
    {
      promise:
        (probe) =>
        async ({ step }) =>
          await step.map("all", ["a", "b"], async (name, s) => {
            await s.run("before", probe.code(`before ${name}`, 0))
            await s.sleep("nap", "1m")
            return await s.run("after", probe.code(`after ${name}`, name))
          }),
      effect: (probe) => () =>
        Step.map("all", ["a", "b"], (name) =>
          Effect.gen(function* () {
            yield* Step.run("before", attempt(probe.code(`before ${name}`, 0)))
            yield* Step.sleep("nap", "1m")
            return yield* Step.run("after", attempt(probe.code(`after ${name}`, name)))
          })
        )
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.deepStrictEqual(engine.output, ["a", "b"])
      assert.deepStrictEqual(log, ["before a", "before b", "after a", "after b"])
    }
  )
})

describe("fail fast", () => {
  both(
    "running siblings are aborted and awaited, their results are recorded, and then the call fails",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          try {
            await step.parallel("all", [
              async (s) => {
                await s.run("kept", async ({ signal }) => {
                  signal.addEventListener("abort", () => probe.log.push((signal.reason as Error).name))
                  return await probe.hold("kept")
                })
                s.compensate("kept", probe.code("undo kept", undefined))
                await s.run("never", probe.code("never", 1))
              },
              async (s) => s.run("bad", () => probe.hold("bad")),
              async (s) => s.sleep("long", "1h")
            ])
          } catch (error) {
            probe.log.push((error as Error).message)
            assert.instanceOf(error, StepError)
            throw error
          }
        },
      effect: (probe) => () =>
        Step.parallel("all", [
          Effect.gen(function* () {
            yield* Step.run(
              "kept",
              Effect.gen(function* () {
                const { signal } = yield* Step.StepAttempt
                signal.addEventListener("abort", () => probe.log.push((signal.reason as Error).name))
                return yield* attempt(() => probe.hold("kept"))
              })
            )
            yield* Step.compensate("kept", attempt(probe.code("undo kept", undefined)))
            yield* Step.run("never", attempt(probe.code("never", 1)))
          }),
          Step.run(
            "bad",
            attempt(() => probe.hold("bad"))
          ),
          Step.sleep("long", "1h")
        ]).pipe(
          Effect.tapError((error) =>
            Effect.sync(() => {
              assert.instanceOf(error, StepError)
              probe.log.push(error.message)
            })
          )
        )
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("kept") && probe.isHeld("bad"), "running")
      await until(() => engine.open.size === 1, "asleep")
      probe.fail("bad", new NonRetryableError("declined"))
      await settle()
      assert.deepStrictEqual(log.slice(2), ["StepAbortedError"])
      assert.strictEqual(end.value, undefined)

      probe.release("kept", 1)
      await until(() => end.value !== undefined, "the end")
      assert.deepStrictEqual(log.slice(3), ["declined", "undo kept"])
      assert.deepStrictEqual(engine.keys, ["all:1:bad:0", "all:0:kept:0", "all:verdict", "compensate:kept:0"])
      assert.deepStrictEqual(
        engine.tags.filter((tag) => tag === "Withdraw"),
        ["Withdraw"]
      )
      assert.strictEqual(engine.error?.message, "declined")
    }
  )

  both(
    "a sibling that is aborted in its second attempt is withdrawn, so that it is not retried",
    {
      config: { retry: { initialDelayMs: 1000 } },
      promise:
        (probe) =>
        async ({ step }) => {
          try {
            await step.parallel("all", [
              async (s) =>
                s.run("flaky", ({ attempt, signal }) => {
                  if (attempt === 1) throw new Error("again")
                  probe.log.push("second attempt")
                  return new Promise((_, reject) => {
                    signal.addEventListener("abort", () => reject(signal.reason))
                  })
                }),
              async (s) => s.run("bad", () => probe.hold("bad"))
            ])
          } catch {
            probe.log.push("caught")
          }
          await step.sleep("cool down", "1h")
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          yield* Effect.ignore(
            Step.parallel("all", [
              Step.run(
                "flaky",
                Effect.gen(function* () {
                  const { attempt: number, signal } = yield* Step.StepAttempt
                  if (number === 1) return yield* Effect.fail(new Error("again"))
                  probe.log.push("second attempt")
                  return yield* Effect.callback<never, Error>((resume) => {
                    signal.addEventListener("abort", () => resume(Effect.fail(signal.reason as Error)))
                  })
                })
              ),
              Step.run(
                "bad",
                attempt(() => probe.hold("bad"))
              )
            ])
          )
          probe.log.push("caught")
          yield* Step.sleep("cool down", "1h")
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("bad") && engine.open.has("all:0:flaky:0"), "between two attempts")
      await engine.advance(1000)
      await until(() => log.includes("second attempt"), "the second attempt")
      probe.fail("bad", new NonRetryableError("declined"))
      await until(() => end.value !== undefined, "the end of the turn")

      assert.include(log, "caught")
      assert.deepStrictEqual([...engine.open.keys()], ["cool down:0"])
    }
  )

  both(
    "a sibling that stops because of the abort is not recorded",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          try {
            await step.parallel("all", [
              async (s) =>
                s.run("obedient", ({ signal }) => {
                  probe.log.push("obedient")
                  return new Promise((_, reject) => {
                    signal.addEventListener("abort", () => reject(signal.reason))
                  })
                }),
              async (s) => s.run("bad", () => probe.hold("bad"))
            ])
          } catch (error) {
            return (error as Error).message
          }
        },
      effect: (probe) => () =>
        Step.parallel("all", [
          Step.run(
            "obedient",
            Effect.gen(function* () {
              probe.log.push("obedient")
              const { signal } = yield* Step.StepAttempt
              return yield* Effect.callback<never, Error>((resume) => {
                signal.addEventListener("abort", () => resume(Effect.fail(signal.reason as Error)))
              })
            })
          ),
          Step.run(
            "bad",
            attempt(() => probe.hold("bad"))
          )
        ]).pipe(Effect.catch((error) => Effect.succeed(error.message)))
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("bad"), "running")
      probe.fail("bad", new NonRetryableError("declined"))
      await until(() => end.value !== undefined, "the end")
      assert.strictEqual(engine.output, "declined")
      assert.deepStrictEqual(engine.keys, ["all:1:bad:0", "all:verdict"])
      assert.deepStrictEqual(log, ["obedient", "bad"])
    }
  )

  only(
    "the call waits for a sibling that does not stop for five seconds only",
    (probe) =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) =>
        step
          .parallel("all", [
            async (s) => s.run("deaf", () => probe.hold("deaf")),
            async (s) =>
              s.run("bad", () => {
                throw new NonRetryableError("declined")
              })
          ])
          .catch((error: Error) => error.message)
      ),
    async ({ engine, fn, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("deaf"), "running")
      await settle()
      await engine.advance(4999)
      await settle()
      assert.strictEqual(end.value, undefined)

      await engine.advance(1)
      await until(() => end.value !== undefined, "the end")
      assert.strictEqual(engine.output, "declined")
      assert.include(engine.warnings()[0], '"deaf" was aborted and has not stopped within 5 s')
      probe.release("deaf")
      await settle()
      assert.deepStrictEqual(engine.keys, ["all:1:bad:0", "all:verdict"])
    }
  )

  both(
    "a sibling that fails while it stops is not retried, and does not begin in a replay",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const told = await step
            .parallel("all", [
              async (s) => s.run("flaky", () => probe.hold("flaky")),
              async (s) => s.run("bad", () => probe.hold("bad"))
            ])
            .catch((error: Error) => error.message)
          await step.sleep("nap", "1m")
          await step.run("end", probe.code("end", 1))
          return told
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const told = yield* Step.parallel("all", [
            Step.run(
              "flaky",
              attempt(() => probe.hold("flaky"))
            ),
            Step.run(
              "bad",
              attempt(() => probe.hold("bad"))
            )
          ]).pipe(Effect.catch((error) => Effect.succeed(error.message)))
          yield* Step.sleep("nap", "1m")
          yield* Step.run("end", attempt(probe.code("end", 1)))
          return told
        })
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => probe.isHeld("flaky") && probe.isHeld("bad"), "running")
      probe.fail("bad", new NonRetryableError("declined"))
      await settle()
      probe.fail("flaky", new Error("hiccup"))
      await until(() => end.value !== undefined, "suspended")
      assert.deepStrictEqual(engine.ops("StepRetry"), [])

      await engine.advanceToDue()
      await engine.turn(fn)
      assert.deepStrictEqual(log, ["flaky", "bad", "end"])
      assert.strictEqual(engine.output, "declined")
      assert.deepStrictEqual(engine.keys, ["all:1:bad:0", "all:verdict", "nap:0", "end:0"])
    }
  )

  both(
    "a replay runs every branch through its recorded steps, then fails in the same way",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          const order: Array<string> = []
          const outcome = await step
            .parallel("all", [
              async (s) => {
                await s.run("one", probe.code("one", 1))
                order.push("one")
                await s.run("two", probe.code("two", 2))
                order.push("two")
              },
              async (s) => {
                await s.run("bad", () => {
                  throw new NonRetryableError("declined")
                })
              }
            ])
            .catch((error: Error) => `${error.name}: ${error.message}`)
          await step.sleep("nap", "1m")
          return [...order, outcome]
        },
      effect: (probe) => () =>
        Effect.gen(function* () {
          const order: Array<string> = []
          const outcome = yield* Step.parallel("all", [
            Effect.gen(function* () {
              yield* Step.run("one", attempt(probe.code("one", 1)))
              order.push("one")
              yield* Step.run("two", attempt(probe.code("two", 2)))
              order.push("two")
            }),
            Step.run("bad", Effect.fail(new NonRetryableError("declined")))
          ]).pipe(Effect.catch((error) => Effect.succeed(`${error.name}: ${error.message}`)))
          yield* Step.sleep("nap", "1m")
          return [...order, outcome]
        })
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.strictEqual(engine.status, "completed")
      assert.deepStrictEqual((engine.output as Array<string>).at(-1), "StepError: declined")
      const first = [...log]

      // the handler sees the same again, and no code of a step runs
      const output = engine.output
      await engine.turn(fn)
      assert.deepStrictEqual(engine.output, output)
      assert.deepStrictEqual(log, first)
    }
  )

  both(
    "after a crash before the call was settled, the replay fails it in the same way",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step.parallel("all", [
            async (s) => s.run("never", () => probe.hold("never")),
            async (s) =>
              s.run("bad", () => {
                throw new NonRetryableError("declined")
              })
          ])
        },
      effect: (probe) => () =>
        Step.parallel("all", [
          Step.run(
            "never",
            attempt(() => probe.hold("never"))
          ),
          Step.run("bad", Effect.fail(new NonRetryableError("declined")))
        ])
    },
    async ({ engine, fn, log, probe }) => {
      engine.start(fn)
      await until(() => engine.keys.includes("all:1:bad:0") && probe.isHeld("never"), "one failed, one runs")
      engine.crash()

      await engine.turn(fn)
      assert.strictEqual(engine.status, "failed")
      // the call fails before anything new may begin, so the sibling does not run again
      assert.deepStrictEqual(log, ["never"])
      assert.deepStrictEqual(engine.keys, ["all:1:bad:0", "all:verdict"])
    }
  )

  both(
    "a branch that throws outside a step fails the call with its own error, also in a replay",
    {
      promise:
        (probe) =>
        async ({ step }) => {
          await step
            .parallel("all", [
              async () => {
                probe.log.push("began")
                throw new SoldOut("shoes")
              }
            ])
            .catch((error: unknown) => {
              assert.instanceOf(error, SoldOut)
              probe.log.push(error.what)
            })
          await step.sleep("nap", "1m")
        },
      effect: (probe) => () =>
        Effect.andThen(
          Step.parallel("all", [
            Effect.suspend(() => {
              probe.log.push("began")
              return Effect.fail(new SoldOut("shoes"))
            })
          ]).pipe(
            Effect.catch((error) => {
              assert.instanceOf(error, SoldOut)
              return Effect.sync(() => void probe.log.push(error.what))
            })
          ),
          Step.sleep("nap", "1m")
        )
    },
    async ({ engine, fn, log }) => {
      await engine.run(fn)
      assert.strictEqual(engine.status, "completed")
      assert.deepStrictEqual(log, ["began", "shoes", "began", "shoes"])
      assert.deepStrictEqual(engine.keys, ["all:verdict", "nap:0"])
    }
  )

  both(
    "the verdict of an inner call is recorded before that of the outer call",
    {
      promise:
        () =>
        async ({ step }) =>
          await step.parallel("outer", [
            async (s) =>
              s.parallel("inner", [
                async (t) =>
                  t.run("bad", () => {
                    throw new NonRetryableError("declined")
                  })
              ]),
            async (s) => s.sleep("nap", "1h")
          ]),
      effect: () => () =>
        Step.parallel("outer", [
          Step.parallel("inner", [Step.run("bad", Effect.fail(new NonRetryableError("declined")))]),
          Step.sleep("nap", "1h")
        ])
    },
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.deepStrictEqual(engine.keys, ["outer:0:inner:0:bad:0", "outer:0:inner:verdict", "outer:verdict"])
      assert.strictEqual(engine.open.size, 0)
      assert.strictEqual(engine.error?.message, "declined")
    }
  )

  both(
    "a step between two attempts is not tried again after a sibling has failed",
    {
      config: { retry: { maxAttempts: 5, initialDelayMs: 10 } },
      promise:
        (probe) =>
        async ({ step }) =>
          await step
            .parallel("all", [
              async (s) =>
                s.run("flaky", () => {
                  probe.log.push("flaky")
                  throw new Error("again")
                }),
              async (s) => s.run("bad", () => probe.hold("bad"))
            ])
            .catch((error: Error) => error.message),
      effect: (probe) => () =>
        Step.parallel("all", [
          Step.run(
            "flaky",
            Effect.suspend(() => {
              probe.log.push("flaky")
              return Effect.fail(new Error("again"))
            })
          ),
          Step.run(
            "bad",
            attempt(() => probe.hold("bad"))
          )
        ]).pipe(Effect.catch((error) => Effect.succeed(error.message)))
    },
    async ({ engine, fn, log, probe }) => {
      const { end } = engine.start(fn)
      await until(() => engine.open.has("all:0:flaky:0") && probe.isHeld("bad"), "between two attempts")
      probe.fail("bad", new NonRetryableError("declined"))
      await until(() => end.value !== undefined, "the end")
      assert.strictEqual(engine.output, "declined")
      assert.deepStrictEqual(log, ["flaky", "bad"])
      assert.strictEqual(engine.open.size, 0)
    }
  )
})

describe("types", () => {
  only(
    "tuples keep their types",
    () =>
      createFunction({ id: "order", triggers: [] }, async ({ step }) => {
        const [profile, score] = await step.parallel("fetch-all", [
          async (s) => s.run("profile", () => Promise.resolve({ name: "ada" })),
          async (s) => s.run("score", () => 700)
        ])
        expectTypeOf(profile).toEqualTypeOf<{ name: string }>()
        expectTypeOf(score).toEqualTypeOf<number>()

        const settled = await step.parallel("settled", [async () => 1, async () => "x"], {
          onError: "allSettled"
        })
        expectTypeOf(settled).toEqualTypeOf<[number | Error, string | Error]>()

        // oxlint-disable-next-line typescript/no-explicit-any -- as in the README, where items are not declared
        const items: Array<any> = [{ id: 1 }]
        const list = await step.parallel(
          "list",
          items.map((item) => async (s) => {
            return s.run(`process-${item.id}`, () => "done")
          }),
          { concurrency: 5, onError: "allSettled" }
        )
        expectTypeOf(list[0]).toEqualTypeOf<string | Error | undefined>()

        const mapped = await step.map("map", [1, 2], async (n, s, i) => s.run(`m-${i}`, () => n), {
          concurrency: 3
        })
        expectTypeOf(mapped).toEqualTypeOf<Array<number>>()
      }),
    async ({ engine, fn }) => {
      await engine.run(fn)
      assert.strictEqual(engine.status, "completed")
    }
  )

  only(
    "branches of the Effect API keep their types and failures",
    () =>
      make({ id: "order", triggers: [] }, () =>
        Effect.gen(function* () {
          const both = yield* Step.parallel("both", [Effect.succeed(1), Effect.succeed("x")])
          expectTypeOf(both).toEqualTypeOf<[number, string]>()
          const program = Step.parallel("fails", [Effect.fail(new RangeError("r")), Effect.succeed(1)])
          expectTypeOf<Effect.Error<typeof program>>().toEqualTypeOf<RangeError | Step.StepCallError>()
          const settled = yield* Step.parallel("settled", [Effect.fail(new RangeError("r"))], {
            onError: "allSettled"
          })
          expectTypeOf(settled).toEqualTypeOf<[RangeError]>()
          return both.length + settled.length
        })
      ),
    async ({ engine, fn }) => {
      await engine.turn(fn)
      assert.strictEqual(engine.output, 3)
    }
  )
})
