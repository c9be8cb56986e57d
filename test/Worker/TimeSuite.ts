/** Time in functions over every transport: short sleeps, many sleeps, and timers of years. */
import { createFunction, type IronflowClient, type IronflowFunction, RetryAfterError } from "@ironflow/node"
import { assert, it, vi } from "vitest"
import { either } from "../Long.ts"

/** An engine with functions that run somewhere. */
export interface Timed extends AsyncDisposable {
  readonly client: IronflowClient
}

/** An engine whose time can be moved forward, in milliseconds. */
export interface Movable extends Timed {
  readonly move: (ms: number) => Promise<void>
}

type Open<T> = (functions: ReadonlyArray<IronflowFunction>) => Promise<T>

const triggers = [{ event: "order.placed" }]
const DAY = 86_400_000

/** The first is longer than a timer of Node.js can be. */
const ages = { "25 days": 25 * DAY, "a year": 365 * DAY, "ten years": 3650 * DAY }
const longest = ages["ten years"]

const start = async ({ client }: Timed): Promise<string> => {
  const { runIds } = await client.emit("order.placed", {})
  assert.lengthOf(runIds, 1)
  return runIds[0] ?? ""
}

const outputOf = async (place: Timed): Promise<unknown> => {
  const run = await place.client.waitForRun(await start(place), { timeout: 60_000 })
  assert.deepInclude(run, { status: "completed" })
  return run.output
}

/** Short sleeps and many of them. */
export const keepsShortTimes = (open: Open<Timed>): void => {
  it("sleeps for less than a second, and never too briefly", async () => {
    const naps = [1, 50, 999, "1ms", "0.05s", 0.5] as const
    const fn = createFunction({ id: "naps", triggers }, async ({ step }) => {
      const slept: Array<number> = []
      for (const [n, nap] of naps.entries()) {
        const before = await step.run(`before ${n}`, () => Date.now())
        await step.sleep(`nap ${n}`, nap)
        slept.push((await step.run(`after ${n}`, () => Date.now())) - before)
      }
      return slept
    })
    await using place = await open([fn])

    const slept = (await outputOf(place)) as ReadonlyArray<number>

    const asked = [1, 50, 999, 1, 50, 0.5]
    assert.deepStrictEqual(
      slept.map((ms, n) => ms >= asked[n]! && ms < asked[n]! + 10_000),
      asked.map(() => true),
      String(slept)
    )
  }, 60_000)

  it("does not sleep for zero, or until a past time", async () => {
    const fn = createFunction({ id: "nothing", triggers }, async ({ step }) => {
      const refused = await step.sleep("none", 0).catch(({ code }) => code)
      const began = await step.run("begin", () => Date.now())
      await step.sleepUntil("now", new Date(began))
      await step.sleepUntil("long ago", new Date(0))
      await step.sleepUntil("long ago as text", "1970-01-01T00:00:00Z")
      return refused
    })
    await using place = await open([fn])

    assert.strictEqual(await outputOf(place), "VALIDATION_ERROR")
  })

  it("sleeps very often in a row in one run, and runs the steps in between once", async () => {
    const often = either(60, 300)
    const done: Array<number> = []
    const fn = createFunction({ id: "sleepy", triggers }, async ({ step }) => {
      for (let n = 1; n <= often; n++) {
        await step.sleep("nap", 1)
        if (n % (often / 3) === 0) await step.run(`work ${n}`, () => done.push(n))
      }
      return "awake"
    })
    await using place = await open([fn])
    const runId = await start(place)

    const run = await place.client.waitForRun(runId, { timeout: 120_000 })

    assert.deepInclude(run, { status: "completed", output: "awake", attempt: 1 })
    assert.deepStrictEqual(done, [often / 3, (2 * often) / 3, often])
    const steps = await place.client.getRunSteps(runId)
    assert.lengthOf(steps, often + 3)
    assert.isTrue(steps.every(({ status }) => status === "completed"))
  }, 150_000)
}

/** Functions that wait for a long time, the code of `explain` meanwhile, and the output after it. */
const longWaits: Readonly<
  Record<
    string,
    { readonly code: string; readonly comes: unknown; readonly fn: (ms: number) => IronflowFunction }
  >
> = {
  "a sleep": {
    code: "SLEEPING",
    comes: "awake",
    fn: (ms) =>
      createFunction({ id: `sleep-${ms}`, triggers }, async ({ step }) => {
        await step.sleep("nap", ms)
        return "awake"
      })
  },
  "a sleep until a date": {
    code: "SLEEPING",
    comes: "awake",
    fn: (ms) =>
      createFunction({ id: `sleep-until-${ms}`, triggers }, async ({ event, step }) => {
        await step.sleepUntil("date", new Date(event.timestamp.getTime() + ms))
        return "awake"
      })
  },
  "a wait for an event": {
    code: "WAITING_FOR_EVENT",
    comes: "WaitTimeoutError",
    fn: (ms) =>
      createFunction({ id: `wait-${ms}`, triggers }, async ({ step }) =>
        step.waitForEvent("payment", { event: "order.paid", timeout: ms }).catch(({ name }) => name)
      )
  },
  "a wait for a child": {
    code: "WAITING_FOR_CHILD",
    comes: "InvokeTimeoutError",
    fn: (ms) =>
      createFunction({ id: `invoke-${ms}`, triggers }, async ({ step }) =>
        step.invoke("child", {}, { timeout: ms }).catch(({ name }) => name)
      )
  },
  "a retry by its policy": {
    code: "WAITING_FOR_RETRY",
    comes: 2,
    fn: (ms) =>
      createFunction(
        { id: `retry-${ms}`, triggers, retry: { initialDelayMs: ms, maxDelayMs: ms } },
        async ({ step }) =>
          step.run("charge", ({ attempt }) => {
            if (attempt === 1) throw new Error("busy")
            return attempt
          })
      )
  },
  "a retry by its error": {
    code: "WAITING_FOR_RETRY",
    comes: 2,
    fn: (ms) =>
      createFunction({ id: `retry-after-${ms}`, triggers }, async ({ step }) =>
        step.run("charge", ({ attempt }) => {
          if (attempt === 1) throw new RetryAfterError("busy", ms)
          return attempt
        })
      )
  }
}

const child = createFunction({ id: "child", triggers: [] }, async ({ step }) => {
  await step.sleep("for ever", "36500d")
})

/** A function that fires once a year, for the first time in two months. */
const makeYearly = () => {
  const first = new Date(Date.now() + 60 * DAY)
  const cron = `0 0 ${first.getUTCDate()} ${first.getUTCMonth() + 1} *`
  return createFunction({ id: "yearly", triggers: [{ cron }] }, async () => "fired")
}

const countFires = async ({ client }: Timed): Promise<number> =>
  (await client.listRuns({ functionId: "yearly" })).totalCount

interface LongWait {
  readonly what: string
  readonly code: string
  readonly comes: unknown
  readonly ms: number
  readonly fn: IronflowFunction
}

/** All long waits for each length. `retries` is the code of `explain` for a run that waits for a retry. */
const longWaitsWhere = (retries: string): ReadonlyArray<LongWait> =>
  Object.entries(longWaits).flatMap(([what, { code, comes, fn }]) =>
    Object.entries(ages).map(([age, ms]) => ({
      what: `${what} of ${age}`,
      code: code === "WAITING_FOR_RETRY" ? retries : code,
      comes,
      ms,
      fn: fn(ms)
    }))
  )

/** Starts the long waits, and checks that each of them waits for its length. */
const startLongWaits = async (
  place: Timed,
  waits: ReadonlyArray<LongWait>
): Promise<ReadonlyMap<string, string>> => {
  const { client } = place
  const { runIds } = await client.emit("order.placed", {})
  const runs = new Map<string, string>()
  let begun = 0
  for (const id of runIds) {
    const { createdAt, functionId } = await client.getRun(id)
    runs.set(functionId, id)
    begun = Date.parse(createdAt)
  }
  for (const { code, fn, ms, what } of waits) {
    await vi.waitFor(
      async () => {
        const explanation = await client.explain(runs.get(fn.config.id) ?? "")
        assert.deepStrictEqual([what, explanation.code], [what, code])
        const due = Date.parse(/\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(explanation.message)?.[0] ?? "")
        assert.approximately(due, begun + ms, 30_000, what)
      },
      { timeout: 30_000, interval: 20 }
    )
  }
  return runs
}

/** Timers that are longer than a timer of Node.js can be. */
export const keepsLongTimes = (open: Open<Timed>, { retries = "WAITING_FOR_RETRY" } = {}): void => {
  it("does not end waits of years early", async () => {
    const nap = createFunction({ id: "nap", triggers: [{ event: "nap.taken" }] }, async ({ step }) =>
      step.sleep("nap", 50)
    )
    const bounded = createFunction(
      { id: "bounded", triggers: [{ event: "nap.taken" }], timeout: longest },
      async ({ step }) =>
        step.run("work", () => new Promise((resolve) => setTimeout(() => resolve("done"), 20)), {
          timeout: longest
        })
    )
    const waits = longWaitsWhere(retries)
    await using place = await open([...waits.map(({ fn }) => fn), child, nap, bounded, makeYearly()])
    const runs = await startLongWaits(place, waits)

    // other timers still fire, and time limits of years abort nothing
    for (let n = 0; n < 3; n++) {
      for (const runId of (await place.client.emit("nap.taken", {})).runIds) {
        const { status } = await place.client.waitForRun(runId, { timeout: 30_000 })
        assert.strictEqual(status, "completed")
      }
    }

    assert.strictEqual(await countFires(place), 0)
    for (const { code, fn, what } of waits) {
      const explanation = await place.client.explain(runs.get(fn.config.id) ?? "")
      assert.deepStrictEqual([what, explanation.code], [what, code])
    }
  }, 90_000)
}

/** The same timers, until they fire. */
export const endsLongTimes = (open: Open<Movable>): void => {
  it("continues after years, each run at its time", async () => {
    const waits = longWaitsWhere("WAITING_FOR_RETRY")
    await using place = await open([...waits.map(({ fn }) => fn), child, makeYearly()])
    const { client } = place
    const runs = await startLongWaits(place, waits)

    let passed = 0
    for (const age of Object.values(ages)) {
      // waits of this length are not due yet one minute before
      await place.move(age - passed - 60_000)
      for (const { code, fn, ms, what } of waits) {
        if (ms < age) continue
        const explanation = await client.explain(runs.get(fn.config.id) ?? "")
        assert.deepStrictEqual([what, explanation.code], [what, code])
      }
      await place.move(60_000)
      passed = age
      if (age === ages["25 days"]) assert.strictEqual(await countFires(place), 0)
      else await vi.waitFor(async () => assert.isAbove(await countFires(place), 0), { timeout: 10_000 })
      for (const { comes, fn, ms, what } of waits) {
        if (ms !== age) continue
        const run = await client.waitForRun(runs.get(fn.config.id) ?? "", { timeout: 30_000 })
        assert.deepStrictEqual([what, run.status, run.output], [what, "completed", comes])
      }
    }
  }, 150_000)
}

/** Moves the wall clock of an engine in this process while the engine is stopped. The monotonic clock stays as it is. */
export const whileStopped = (engine: {
  readonly stop: () => Promise<void>
  readonly start: () => Promise<void>
}) => {
  const now = Date.now.bind(Date)
  let moved = 0
  const spy = vi.spyOn(Date, "now").mockImplementation(() => now() + moved)
  return {
    move: async (ms: number) => {
      await engine.stop()
      moved += ms
      await engine.start()
    },
    [Symbol.dispose]: () => spy.mockRestore()
  }
}
