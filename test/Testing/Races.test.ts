/** Differences that a replay may have: handlers that do not await all of their steps are correct. */
import { createFunction, type FunctionHandler, NondeterminismError } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { createTestEngine, type TestEngineConfig, verify } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { describe, expect, test } from "vitest"

const order = { id: "order", triggers: [{ event: "order.placed" }], retry: { initialDelayMs: 1000 } }

type Functions = NonNullable<TestEngineConfig["functions"]>

const runsIn = (ms: number, value: unknown = ms) =>
  new Promise((resolve) => setTimeout(() => resolve(value), ms))
const failsIn = (ms: number) =>
  new Promise((_, reject) => setTimeout(() => reject(new Error("out of stock")), ms))

const promises: Record<string, FunctionHandler> = {
  "a step that wins against a sleep": async ({ step }) => {
    const first = await Promise.race([step.run("charge", () => runsIn(5)), step.sleep("limit", "1h")])
    await step.run("after", () => 1)
    return first
  },
  "a sleep that wins against a step, which is aborted": async ({ step }) => {
    const first = await Promise.race([
      step.run("charge", () => Promise.reject(new Error("down")), {
        retry: { maxAttempts: 3, initialDelayMs: 7_200_000 }
      }),
      step.sleep("limit", "1h").then(() => "late")
    ])
    await step.run("after", () => 1)
    return first
  },
  "a sleep that wins against a wait": async ({ step }) => {
    const first = await Promise.race([
      step.waitForEvent("approval", { event: "order.approved", timeout: "2d" }),
      step.sleep("limit", "1h").then(() => "late")
    ])
    await step.run("after", () => 1)
    return first
  },
  "a wait that wins against a sleep": async ({ step }) => {
    const first = await Promise.race([
      step.waitForEvent("note", { event: "order.noted", timeout: "2h" }).then(({ name }) => name),
      step.sleep("limit", "1d")
    ])
    await step.sleep("cool-off", "2h")
    await step.run("after", () => 1)
    return first
  },
  "two steps": async ({ step }) => {
    const first = await Promise.race([step.run("slow", () => runsIn(30)), step.run("fast", () => runsIn(1))])
    await step.run("after", () => runsIn(60))
    return first
  },
  "two steps, and the run ends with the first": ({ step }) =>
    Promise.race([step.run("slow", () => runsIn(30)), step.run("fast", () => runsIn(1))]),
  "a race in each round of a loop": async ({ step }) => {
    const won = []
    for (let i = 0; i < 3; i++) {
      won.push(
        await Promise.race([
          step.run("poll", () => runsIn(i === 1 ? 20 : 2)),
          step.run("other", () => runsIn(i === 1 ? 2 : 20)),
          step.sleep("limit", "1h")
        ])
      )
      await step.sleep("pause", "10m")
    }
    return won
  },
  "a race in branches": async ({ step }) =>
    step.map("items", [1, 2, 3], async (n, step) => {
      const first = await Promise.race([
        step.run("fast", () => runsIn(n)),
        step.run("slow", () => runsIn(20 + n)),
        step.sleep("limit", "1h")
      ])
      await step.run("after", () => 1)
      return first
    }),
  "Promise.any": async ({ step }) => {
    const first = await Promise.any([
      step.run("fails", () => failsIn(1), { retry: { maxAttempts: 2 } }),
      step.run("slow", () => runsIn(30)),
      step.run("fast", () => runsIn(5))
    ])
    await step.run("after", () => 1)
    return first
  },
  "a race, and then all of its promises": async ({ step }) => {
    const all = [
      step.run("a", () => runsIn(20)),
      step.run("b", () => runsIn(2)),
      step.run("c", () => failsIn(10), { retry: { maxAttempts: 1 } })
    ]
    const first = await Promise.race(all)
    await step.run("between", () => 1)
    const states = (await Promise.allSettled(all)).map(({ status }) => status)
    return { first, states }
  },
  "a loser that calls more steps": async ({ step }) => {
    const slow = async () => {
      await step.run("slow-1", () => runsIn(10))
      await step.run("slow-2", () => runsIn(10))
      await step.run("slow-3", () => runsIn(500))
      return "slow"
    }
    const first = await Promise.race([slow(), step.run("fast", () => runsIn(2))])
    await step.run("after", () => runsIn(40))
    return first
  },
  "a promise that is not awaited": async ({ step }) => {
    void step.run("audit", () => runsIn(10))
    void step.sleep("reminder", "3h").then(() => step.run("remind", () => 1))
    await step.run("charge", () => 1)
    await step.sleep("cool-off", "1d")
    return await step.run("after", () => 1)
  },
  "a promise that is not awaited, and the run ends before it": async ({ step }) => {
    void step.run("audit", () => runsIn(200))
    void step.sleep("reminder", "3h")
    return await step.run("charge", () => runsIn(2))
  },
  "a race of a step that times out and a sleep": async ({ step }) => {
    const limited = step
      .run("charge", () => runsIn(400), { timeout: "5ms", retry: { maxAttempts: 2 } })
      .catch(() => "too late")
    const first = await Promise.race([limited, step.sleep("limit", "1d")])
    await step.run("after", () => 1)
    return first
  },
  "a race of a step and a timer": async ({ step }) => {
    const first = await Promise.race([step.run("charge", () => new Promise(() => undefined)), runsIn(20)])
    await step.run("after", () => 1)
    return first
  },
  "branches, one of which fails fast": async ({ step }) => {
    const ended = await step
      .parallel("parts", [
        (step) => step.run("fails", () => failsIn(5), { retry: { maxAttempts: 1 } }),
        async (step) => {
          for (let i = 0; i < 20; i++) await step.run("part", () => runsIn(2))
        },
        (step) => step.sleep("pause", "1h"),
        async (step) => {
          await step.run("first", () => runsIn(1))
          await step.run("second", () => runsIn(30))
          await step.run("third", () => 1)
        }
      ])
      .catch(() => "failed")
    await step.run("after", () => 1)
    return ended
  },
  "branches that fail fast, with limited concurrency": async ({ step }) => {
    const ended = await step
      .map(
        "parts",
        [1, 2, 3, 4, 5, 6],
        (n, step) =>
          step.run("part", () => (n === 3 ? failsIn(4) : runsIn(n)), { retry: { maxAttempts: 1 } }),
        { concurrency: 2 }
      )
      .catch(() => "failed")
    await step.sleep("cool-off", "1h")
    return ended
  },
  "a race between branches": async ({ step }) => {
    const first = await Promise.race([
      step.parallel("left", [
        (step) => step.run("l", () => runsIn(2)),
        (step) => step.run("m", () => runsIn(4))
      ]),
      step.parallel("right", [
        (step) => step.run("r", () => runsIn(20)),
        async (step) => {
          await step.run("s", () => runsIn(1))
          await step.run("t", () => runsIn(90))
        }
      ])
    ])
    await step.run("after", () => runsIn(30))
    return first
  },
  "a run that fails while steps run": async ({ step }) => {
    step.compensate("charge", () => undefined)
    const slow = step.run("slow", () => runsIn(20))
    await Promise.all([slow, step.run("fails", () => failsIn(2), { retry: { maxAttempts: 1 } })])
  },
  "an invocation that is no longer awaited": async ({ step }) => {
    const first = await Promise.race([step.invoke("child", {}, { timeout: "1d" }), step.run("fast", () => 1)])
    await step.sleep("cool-off", "1h")
    await step.publish("orders", {})
    return first
  }
}

const pause = (ms: number, value: unknown = ms) => Effect.promise(() => runsIn(ms, value))

const run = (name: string, ms: number, options = {}) => Step.run(name, pause(ms, name), options)
const never = (name: string) => Step.run(name, Effect.never)
const after = Effect.tap(Step.run("after", Effect.succeed(1)))

const effects: Record<string, Effect.Effect<unknown, unknown, Step.Step>> = {
  "race of steps": Effect.race(run("slow", 200), run("fast", 2)).pipe(after),
  "race that only a success ends": Effect.race(
    Step.run("fails", Effect.fail("no"), { retry: { maxAttempts: 1 } }),
    run("fast", 5)
  ).pipe(after),
  "race that ends the run": Effect.race(run("slow", 200), run("fast", 2)),
  "race of a step and a sleep": Effect.race(never("stuck"), Step.sleep("limit", "2m")).pipe(
    after,
    Effect.tap(Step.sleep("cool-off", "1h"))
  ),
  "race of a wait and a sleep": Effect.race(
    Step.waitForEvent("approval", { event: "order.approved", timeout: "2 days" }),
    Step.sleep("limit", "1h")
  ).pipe(after),
  "race of a wait and a sleep that the wait wins": Effect.race(
    Step.waitForEvent("note", { event: "order.noted", timeout: "2 days" }).pipe(
      Effect.map(({ name }) => name)
    ),
    Step.sleep("limit", "2h")
  ).pipe(Effect.tap(Step.sleep("cool-off", "3h"))),
  raceFirst: Effect.exit(
    Effect.raceFirst(
      Step.run("fails", Effect.andThen(pause(2), Effect.fail("no")), { retry: { maxAttempts: 1 } }),
      run("slow", 200)
    )
  ).pipe(
    after,
    Effect.map(({ _tag }) => _tag)
  ),
  raceAll: Effect.raceAll([run("a", 300), run("b", 3), Step.sleep("limit", "1h")]).pipe(after),
  raceAllFirst: Effect.raceAllFirst([run("a", 300), run("b", 3), Step.sleep("limit", "1h")]).pipe(after),
  "race in a loop": Effect.forEach([1, 2, 3], (n) =>
    Effect.race(run("poll", n === 2 ? 300 : 1), run("other", n === 2 ? 1 : 300)).pipe(
      Effect.tap(Step.sleep("pause", "10m"))
    )
  ),
  "race in branches": Step.map("items", [1, 2, 3], (n) =>
    Effect.race(run("slow", 300), run("fast", n)).pipe(after)
  ),
  "a loser that calls more steps": Effect.race(
    run("one", 3).pipe(Effect.andThen(run("two", 3)), Effect.andThen(run("three", 300))),
    run("fast", 20)
  ).pipe(after),
  timeout: Effect.exit(Effect.timeout(never("stuck"), "2 minutes")).pipe(
    after,
    Effect.map(({ _tag }) => _tag)
  ),
  "timeout that is not reached": Effect.timeout(run("charge", 2), "2 minutes").pipe(after),
  timeoutOption: Effect.timeoutOption(never("stuck"), "2 minutes").pipe(
    after,
    Effect.tap(Step.sleep("cool-off", "1h")),
    Effect.map(({ _tag }) => _tag)
  ),
  "timeoutOption that ends the run": Effect.timeoutOption(never("stuck"), "2 minutes").pipe(
    Effect.map(({ _tag }) => _tag)
  ),
  timeoutOrElse: Effect.timeoutOrElse(never("stuck"), {
    duration: "2 minutes",
    orElse: () => Step.run("fallback", Effect.succeed("fallback"))
  }).pipe(after),
  "interruption of a wait": Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(
      Step.waitForEvent("approval", { event: "order.approved", timeout: "2 days" })
    )
    yield* run("charge", 2)
    yield* Fiber.interrupt(fiber)
    yield* Step.sleep("cool-off", "1h")
    return yield* run("ship", 2)
  }),
  "interruption of a step": Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(never("stuck"))
    yield* run("charge", 2)
    yield* Fiber.interrupt(fiber)
    return yield* run("ship", 2)
  }),
  "a fiber that is not awaited": Effect.gen(function* () {
    yield* Effect.forkChild(Effect.andThen(run("audit", 3), Step.sleep("reminder", "5h")))
    yield* Step.sleep("cool-off", "1h")
    return yield* run("ship", 2)
  }),
  "branches, one of which fails fast": Effect.exit(
    Step.parallel("parts", [
      Step.run("fails", Effect.andThen(pause(5), Effect.fail("no")), { retry: { maxAttempts: 1 } }),
      Effect.forEach(Array.from({ length: 20 }), () => run("part", 2)),
      Step.sleep("pause", "1h"),
      Effect.andThen(run("first", 1), run("second", 30))
    ])
  ).pipe(
    after,
    Effect.map(({ _tag }) => _tag)
  ),
  "Effect.all, one of whose effects fails": Effect.exit(
    Effect.all(
      [
        run("slow", 300),
        Step.run("fails", Effect.andThen(pause(5), Effect.fail("no")), { retry: { maxAttempts: 1 } })
      ],
      { concurrency: "unbounded" }
    )
  ).pipe(
    after,
    Effect.map(({ _tag }) => _tag)
  )
}

const child = createFunction({ id: "child", triggers: [{ event: "child.wanted" }] }, async ({ step }) => {
  await step.sleep("work", "2h")
})

/** Checks that replays after every step do not change how the run ends, and that every history on the way fits the function. */
const check = async (fn: Functions[number], fails?: string) => {
  const ended = []
  for (const replayEveryStep of [false, true]) {
    await using engine = await createTestEngine({ functions: [fn, child], replayEveryStep })
    const { runIds } = await engine.client.emit("order.placed", {})
    const [runId = ""] = runIds
    for (let i = 0; i < 4; i++) {
      await engine.advance("50m")
      if (i === 0) await engine.client.emit("order.noted", {})
      const history = await engine.history(runId)
      expect(await verify(history, [fn]), JSON.stringify(history)).toBeUndefined()
    }
    const { error, output, status } = await engine.runToEnd(runId)
    const history = await engine.history(runId)
    expect(await verify(history, [fn]), JSON.stringify(history)).toBeUndefined()
    expect({ status, error: error?.message }).toEqual(
      fails === undefined
        ? { status: "completed", error: undefined }
        : { status: "failed", error: expect.stringContaining(fails) }
    )
    ended.push(output)
  }
  expect(ended[1]).toEqual(ended[0])
}

describe.concurrent("no nondeterminism is reported for a correct handler of the Promise API:", () => {
  for (const [shape, handler] of Object.entries(promises)) {
    test(shape, () =>
      check(createFunction(order, handler), shape.startsWith("a run that fails") ? "out of stock" : undefined)
    )
  }
})

describe.concurrent("no nondeterminism is reported for a correct handler of the Effect API:", () => {
  for (const [shape, program] of Object.entries(effects)) {
    test(shape, () => check(IronflowFunction.make(order, () => program)))
  }
})

/** The error that replays after every step find in a handler. */
const findingOf = async (fn: Functions[number]) => {
  await using engine = await createTestEngine({ functions: [fn], replayEveryStep: true })
  const { runIds } = await engine.client.emit("order.placed", {})
  const error: unknown = await engine.runToEnd(runIds[0] ?? "").then(
    () => undefined,
    (error: unknown) => error
  )
  if (!(error instanceof NondeterminismError)) throw new Error(`nothing was found, but ${String(error)}`)
  return error
}

describe("sleepUntil a time that has passed when the handler is replayed", () => {
  const at = (hour: number) => new Date(Date.UTC(2020, 0, 1, hour))
  const next = (first: string) => (first === "late" ? "escalate" : "after")
  const functions: Record<string, Functions[number]> = {
    promise: createFunction(order, async ({ step }) => {
      const first = await Promise.race([
        step.waitForEvent("note", { event: "order.noted" }).then(({ name }) => name),
        step.sleepUntil("limit", at(5)).then(() => "late")
      ])
      await step.sleepUntil("had passed", at(1))
      await step.run(next(first), () => 1)
    }),
    effect: IronflowFunction.make(
      order,
      Effect.fnUntraced(function* () {
        const first = yield* Effect.race(
          Effect.map(Step.waitForEvent("note", { event: "order.noted" }), ({ name }) => name),
          Effect.as(Step.sleepUntil("limit", at(5)), "late")
        )
        yield* Step.sleepUntil("had passed", at(1))
        yield* Step.run(next(first), Effect.succeed(1))
      })
    )
  }
  for (const [api, fn] of Object.entries(functions)) {
    test(`still loses when another step had won, and returns at once when its time had passed before the call (${api})`, async () => {
      await using engine = await createTestEngine({ functions: [fn], startAt: at(0), replayEveryStep: true })
      const { runIds } = await engine.client.emit("order.placed", {})
      await engine.advance("2h")
      await engine.client.emit("order.noted", {})
      await engine.runUntilIdle()
      const history = await engine.history(runIds[0] ?? "")

      expect(history.journal.map(({ name }) => name)).toEqual(["note", "after"])
      expect(await verify(history, [fn])).toBeUndefined()
    })
  }
})

test("a sleepUntil that has lost an Effect.race also loses it in later turns, after its time", async () => {
  const fn = IronflowFunction.make(
    order,
    Effect.fnUntraced(function* () {
      const first = yield* Effect.race(
        Effect.map(Step.waitForEvent("note", { event: "order.noted" }), ({ name }) => name),
        Effect.as(Step.sleepUntil("limit", "2030-01-01T05:00:00Z"), "late")
      )
      yield* Step.sleep("cool-off", "10h")
      yield* Step.sleep("once more", "10h")
      return first
    })
  )
  await using engine = await createTestEngine({ functions: [fn], replayEveryStep: true })
  const { runIds } = await engine.client.emit("order.placed", {})
  await engine.advance("2h")
  await engine.client.emit("order.noted", {})

  expect(await engine.runToEnd(runIds[0] ?? "")).toMatchObject({
    output: "order.noted",
    endedAt: "2030-01-01T22:00:00.000Z"
  })
})

describe("a real difference is found in a race as well:", () => {
  const fast = (step: Parameters<FunctionHandler>[0]["step"]) => step.run("fast", () => 1)
  const slow = (step: Parameters<FunctionHandler>[0]["step"]) => step.run("slow", () => runsIn(50))

  test("a step after the race whose name depends on the replay", async () => {
    let passes = 0
    const error = await findingOf(
      createFunction(order, async ({ step }) => {
        const name = passes++ === 0 ? "after" : "later"
        await Promise.race([slow(step), fast(step)])
        await step.run(name, () => 1)
      })
    )
    expect(error.details).toMatchObject({
      recorded: { name: "after" },
      asked: { name: "later" },
      missing: [{ stepKey: "after:0" }]
    })
  })

  test("a loser that is no longer called", async () => {
    let passes = 0
    const error = await findingOf(
      createFunction(order, async ({ step }) => {
        const isFirst = passes++ === 0
        await Promise.race([fast(step), ...(isFirst ? [slow(step)] : [])])
        await step.run("after", () => runsIn(100))
      })
    )
    expect(error.details).toMatchObject({ missing: [{ stepKey: "slow:0" }] })
  })

  test("a step that becomes a sleep", async () => {
    let passes = 0
    const error = await findingOf(
      createFunction(order, async ({ step }) => {
        const wins = passes++ === 0 ? fast(step) : step.sleep("fast", "1h")
        await Promise.race([slow(step), wins])
        await step.run("after", () => 1)
      })
    )
    expect(error.details).toMatchObject({ recorded: { kind: "run" }, asked: { kind: "sleep" } })
  })

  test("a result of another winner than the recorded one", async () => {
    let passes = 0
    const error = await findingOf(
      createFunction(order, async ({ step }) => {
        const isFirst = passes++ === 0
        return Promise.race([slow(step), ...(isFirst ? [] : ["nothing"]), fast(step)])
      })
    )
    expect(error.message).toContain("depends on something that no step recorded")
  })

  test("an Effect.race that continues with another step", async () => {
    let passes = 0
    const error = await findingOf(
      IronflowFunction.make(order, () => {
        const name = passes++ === 0 ? "after" : "later"
        return Effect.race(never("stuck"), run("fast", 2)).pipe(
          Effect.andThen(Step.run(name, Effect.succeed(1)))
        )
      })
    )
    expect(error.details).toMatchObject({ recorded: { name: "after" }, asked: { name: "later" } })
  })

  test("changed code is reported at its next step, and not at the loser of a race", async () => {
    const define = (last: string) =>
      createFunction(order, async ({ step }) => {
        await Promise.race([fast(step), step.sleep("limit", "1d")])
        if (last !== "") await step.run(last, () => 1)
      })
    await using engine = await createTestEngine({ functions: [define("after")] })
    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.runUntilIdle()
    const history = await engine.history(runIds[0] ?? "")

    expect(await verify(history, [define("after")])).toBeUndefined()
    expect(await verify(history, [define("later")])).toMatchObject({
      recorded: { name: "after" },
      asked: { name: "later" }
    })
    expect((await verify(history, [define("")]))?.message).toContain("the code returns without it")
  })
})

test("a reported difference belongs to its run only, and is reported once when all runs are awaited", async () => {
  let passes = 0
  const guilty = createFunction(order, async ({ step }) => {
    await step.run(passes++ === 0 ? "first" : "again", () => 1)
  })
  const innocent = createFunction({ id: "note", triggers: [{ event: "order.noted" }] }, async ({ step }) => {
    await step.run("note", () => 1)
    await step.sleep("cool-off", "1h")
  })
  const parent = createFunction(
    { id: "parent", triggers: [{ event: "parent.wanted" }] },
    async ({ step }) => {
      passes = 0
      await step.invoke(guilty, {}).catch(() => undefined)
    }
  )
  await using engine = await createTestEngine({
    functions: [guilty, innocent, parent],
    replayEveryStep: true
  })
  const emit = async (name: string) => (await engine.client.emit(name, {})).runIds[0] ?? ""
  const [bad, good] = [await emit("order.placed"), await emit("order.noted")]

  expect(await engine.runToEnd(good)).toMatchObject({ status: "completed" })
  await expect(engine.settle()).rejects.toThrow(bad)
  await engine.runUntilIdle()
  await engine.advance("1h")
  await expect(engine.runToEnd(bad)).rejects.toBeInstanceOf(NondeterminismError)
  expect(await engine.runToEnd(await emit("order.noted"))).toMatchObject({ status: "completed" })
  await expect(engine.runToEnd(await emit("parent.wanted"))).rejects.toThrow('function "order" diverges')
})
