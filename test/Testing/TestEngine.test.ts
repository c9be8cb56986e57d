import {
  createFunction,
  createProjection,
  NondeterminismError,
  StepError,
  TimeoutError
} from "@ironflow/node"
import { Client, IronflowFunction, Step, Testing } from "@ironflow/node/effect"
import { createTestEngine, type TestEngineConfig } from "@ironflow/node/test"
import * as Effect from "effect/Effect"
import { StatementSync } from "node:sqlite"
import { describe, expect, test, vi } from "vitest"

const order = { id: "order", triggers: [{ event: "order.placed" }] }

const place = async (config: TestEngineConfig) => {
  const engine = await createTestEngine(config)
  const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
  return { engine, runId: runIds[0] ?? "" }
}

describe("virtual time", () => {
  test("advance fires a sleep exactly at its time, as explain predicts", async () => {
    const { engine, runId } = await place({
      functions: [createFunction(order, async ({ step }) => (await step.sleep("week", "7d"), "done"))]
    })
    await using _ = engine
    await engine.advance("6d")
    expect(await engine.client.explain(runId)).toMatchObject({ code: "SLEEPING" })
    await engine.advance("1d")

    expect(await engine.client.getRun(runId)).toMatchObject({ status: "completed", output: "done" })
    expect(await engine.now()).toEqual(new Date("2030-01-08T00:00:00Z"))
  })

  test("advance fires a sleep exactly at its time on a slow disk", async () => {
    const run = Object.getOwnPropertyDescriptor(StatementSync.prototype, "run")!
    StatementSync.prototype.run = function (...values) {
      if (this.sourceSQL === "COMMIT") {
        const until = performance.now() + 100
        while (performance.now() < until);
      }
      return Reflect.apply(run.value, this, values)
    }
    using _run = { [Symbol.dispose]: () => Object.defineProperty(StatementSync.prototype, "run", run) }
    const { engine, runId } = await place({
      functions: [createFunction(order, async ({ step }) => (await step.sleep("week", "7d"), "done"))]
    })
    await using _ = engine
    await engine.advance("6d")
    await engine.advance("1d")

    expect(await engine.client.getRun(runId)).toMatchObject({ status: "completed", output: "done" })
  })

  test("a worker is ready at once even when another worker owns its projection", async () => {
    const visits = createProjection({
      name: "visits",
      events: ["page.seen"],
      initialState: () => 0,
      handler: (count) => count + 1
    })
    await using engine = await createTestEngine({ projections: [visits] })
    await engine.startWorker({ functions: [], projections: [visits] })

    await engine.client.emit("page.seen", {})
    await engine.settle()
    expect((await engine.client.projections.get("visits")).state).toBe(1)
  })

  test("runToEnd performs real retries with their delays", async () => {
    const at: Array<number> = []
    const { engine, runId } = await place({
      functions: [
        createFunction(
          { ...order, retry: { maxAttempts: 3, initialDelayMs: 60_000, backoffFactor: 2 } },
          ({ step }) =>
            step.run("charge", ({ attempt }) => {
              at.push(attempt)
              if (attempt < 3) throw new Error("declined")
              return "paid"
            })
        )
      ]
    })
    await using _ = engine

    expect(await engine.runToEnd(runId)).toMatchObject({ status: "completed", output: "paid" })
    expect(at).toEqual([1, 2, 3])
    expect((await engine.now()).getTime()).toBeGreaterThanOrEqual(Date.UTC(2030, 0, 1) + 60_000)
  })

  test("a step that never ends times out, and a step that takes real time does not", async () => {
    const { engine, runId } = await place({
      functions: [
        createFunction({ ...order, retry: { maxAttempts: 1 } }, async ({ step }) => {
          await step.run("real", () => new Promise<void>((resolve) => setTimeout(resolve, 20)), {
            timeout: "1s"
          })
          await step.run("never", () => new Promise<void>(() => undefined), { timeout: "5m" })
        })
      ]
    })
    await using _ = engine
    const run = await engine.runToEnd(runId)

    expect(run.error?.message).toContain('"never"')
  })

  test("runToEnd rejects with a TimeoutError that says what the run waits for, when nothing continues it", async () => {
    const { engine, runId } = await place({
      functions: [createFunction(order, ({ step }) => step.waitForEvent("approval", { event: "order.ok" }))]
    })
    await using _ = engine
    const ending = engine.runToEnd(runId, { within: "1d" })

    await expect(ending).rejects.toBeInstanceOf(TimeoutError)
    await expect(ending).rejects.toThrow("order.ok")
  })

  test("schedules fire as virtual time passes", async () => {
    let fired = 0
    await using engine = await createTestEngine({
      functions: [createFunction({ id: "nightly", triggers: [{ cron: "0 3 * * *" }] }, () => void fired++)]
    })
    await engine.advance("3d")
    expect(fired).toBe(3)
  })

  test("secrets reach handlers, and a worker that is started later runs waiting runs", async () => {
    await using engine = await createTestEngine()
    await engine.secrets.set("PSP_KEY", "sk_test")
    const fn = createFunction({ ...order, secrets: ["PSP_KEY"] }, ({ secrets }) => secrets.get("PSP_KEY"))
    const worker = await engine.startWorker({ functions: [fn] })
    await worker.stop()
    const { runIds } = await engine.client.emit("order.placed", {})
    expect(await engine.client.explain(runIds[0] ?? "")).toMatchObject({ code: "NO_WORKER" })
    await engine.startWorker({ functions: [fn] })
    await engine.runUntilIdle()

    expect(await engine.client.getRun(runIds[0] ?? "")).toMatchObject({ output: "sk_test" })
    expect(await engine.countStuckRuns()).toBe(0)
  })
})

describe("replayEveryStep", () => {
  const run = async (handler: Parameters<typeof createFunction>[1]) => {
    const { engine, runId } = await place({
      functions: [createFunction(order, handler)],
      replayEveryStep: true
    })
    await using _ = engine
    return await engine.runToEnd(runId)
  }

  test("names a step that depends on state of an earlier replay", async () => {
    let passes = 0
    const ending = run(async ({ step }) => {
      await step.run(passes++ === 0 ? "first" : "again", () => 1)
    })

    await expect(ending).rejects.toBeInstanceOf(NondeterminismError)
    await expect(ending).rejects.toThrow('diverges at step first:0: the journal has the `run` step "first"')
    await expect(ending).rejects.toThrow('`run` step "again" (again:0)')
  })

  test("finds an output that depends on the number of replays", async () => {
    let passes = 0
    await expect(run(async ({ step }) => (await step.run("a", () => 1), ++passes))).rejects.toThrow(
      "depends on something that no step recorded"
    )
  })

  test("reports nothing for a correct handler: branches, sleeps, failures, messages", async () => {
    const ended = await run(async ({ step }) => {
      const parts = await step.map("parts", [1, 2, 3], (n, step) => step.run("part", () => n))
      await step.sleep("cool-off", "7d")
      const failed = await step
        .run("fails", () => Promise.reject(new Error("no")), { retry: { maxAttempts: 2 } })
        .catch((error: unknown) => error instanceof StepError)
      await step.publish("orders", {})
      return { parts, failed }
    })
    expect(ended).toMatchObject({ status: "completed", output: { parts: [1, 2, 3], failed: true } })
  })
})

describe("repeatSteps", () => {
  const charges = async (repeatSteps: "keepFirst" | "dropFirst", isIdempotent: boolean) => {
    const charged: Array<string> = []
    const { engine, runId } = await place({
      functions: [
        createFunction(order, ({ step }) =>
          step.run("charge", ({ idempotencyKey }) => {
            if (!isIdempotent || !charged.includes(idempotencyKey)) charged.push(idempotencyKey)
            return charged.length
          })
        )
      ],
      repeatSteps
    })
    await using _ = engine
    return { output: (await engine.runToEnd(runId)).output, times: charged.length }
  }

  test("reveals a step that charges twice", async () => {
    expect(await charges("dropFirst", false)).toEqual({ output: 2, times: 2 })
    expect(await charges("keepFirst", false)).toEqual({ output: 1, times: 2 })
  })

  test("does not repeat a step that reads its idempotency key", async () => {
    expect(await charges("dropFirst", true)).toEqual({ output: 1, times: 1 })
  })

  test("fails a step that cannot run twice, and says why", async () => {
    let once = false
    const { engine, runId } = await place({
      functions: [
        createFunction(order, ({ step }) =>
          step.run("reserve", () => {
            if (once) throw new Error("reserved already")
            once = true
          })
        )
      ],
      repeatSteps: "dropFirst"
    })
    await using _ = engine

    expect((await engine.runToEnd(runId)).error?.message).toContain(
      "succeeded, and failed when `repeatSteps` ran its code again"
    )
  })
})

test("random workflows end the same with and without replayEveryStep", { timeout: 60_000 }, async () => {
  const seed = Math.floor(Math.random() * 2 ** 31)
  console.log(`seed ${seed}`)
  let state = seed
  const below = (n: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >> 8) % n
  }
  for (let i = 0; i < 10; i++) {
    const plan = Array.from({ length: 1 + below(6) }, () => below(4))
    const fn = createFunction({ ...order, retry: { initialDelayMs: 10 } }, async ({ step }) => {
      const seen: Array<unknown> = []
      for (const [n, kind] of plan.entries()) {
        if (kind === 0) seen.push(await step.run(`run-${n}`, () => n))
        else if (kind === 1) await step.sleep(`sleep-${n}`, "1h")
        else if (kind === 2)
          seen.push(await step.map("map", [n, n + 1], (m, step) => step.run("each", () => m)))
        else
          seen.push(
            await step.run("flaky", ({ attempt }) => {
              if (attempt === 1) throw new Error("again")
              return attempt
            })
          )
      }
      return seen
    })
    const ended = []
    for (const replayEveryStep of [false, true]) {
      const { engine, runId } = await place({ functions: [fn], replayEveryStep })
      await using _ = engine
      const { output, status } = await engine.runToEnd(runId)
      ended.push({ output, status })
    }
    expect(ended[1], `seed ${seed}, plan ${plan.join()}`).toEqual(ended[0])
    expect(ended[0]?.status).toBe("completed")
  }
})

test("the test engine is also available as Effect layers", async () => {
  const fn = IronflowFunction.make(
    order,
    Effect.fnUntraced(function* () {
      yield* Step.sleep("week", "7 days")
      return yield* Step.run("charge", Effect.succeed("paid"))
    })
  )
  const program = Effect.gen(function* () {
    const client = yield* Client.Client
    const engine = yield* Testing.TestEngine
    const { runIds } = yield* client.emit("order.placed", {})
    yield* engine.advance("7d")
    return yield* client.getRun(runIds[0] ?? "")
  })
  const run = await Effect.runPromise(
    Effect.provide(program, Testing.layer({ functions: [fn], replayEveryStep: true }))
  )

  expect(run).toMatchObject({ status: "completed", output: "paid" })
})

test("the logger of a test engine takes the lines of the engine too, and `false` none", async () => {
  const printed = vi.spyOn(console, "log")
  const lines: Array<string> = []
  const line = (message: string) => void lines.push(message)
  const logger = { debug: line, info: line, warn: line, error: line }
  const failing = createFunction({ ...order, retry: { maxAttempts: 1 } }, () => {
    throw new Error("no stock")
  })

  for (const chosen of [logger, false] as const) {
    const { engine, runId } = await place({ functions: [failing], logger: chosen })
    await using _ = engine
    await engine.runToEnd(runId)
  }

  const ofEngine = lines.filter((line) => /^(Functions in environment|Run )/.test(line))
  expect(ofEngine).toEqual([
    "Functions in environment default: order (new)",
    expect.stringMatching(/^Run \S+ of function "order" has failed: Error: no stock/)
  ])
  expect(printed.mock.calls).toEqual([])
  printed.mockRestore()
})
