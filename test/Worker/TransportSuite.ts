/**
 * What a worker does, whatever its transport is: one suite for all transports. The second half is about transports that can
 * lose their engine.
 */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { createFunction, make as makeFunction } from "../../src/Function.ts"
import { createProjection } from "../../src/Projection/Projection.ts"
import type { IronflowClient } from "../../src/Promise/Client.ts"
import type { RunnableFunction, Worker } from "../../src/Promise/Worker.ts"
import type { WorkerOptions } from "../../src/Worker/Options.ts"
import { NonRetryableError, RetryAfterError } from "../../src/Errors.ts"
import * as Step from "../../src/Step.ts"

const triggers = [{ event: "order.placed" }]

/** The options of a worker that a test may choose. */
export type WorkerChoices = Omit<WorkerOptions<ReadonlyArray<RunnableFunction>>, "logger">

/** An engine, a client of it, and workers that are connected to it over the tested transport. */
export interface Place extends AsyncDisposable {
  readonly client: IronflowClient
  readonly createWorker: (choices: WorkerChoices) => Worker
  readonly setSecret: (name: string, value: string) => Promise<void>
}

/** A place whose engine can be stopped, and started again on the same data and port. */
export interface RemotePlace extends Place {
  readonly stop: () => Promise<void>
  readonly start: () => Promise<void>
}

/** A place with a worker that is ready. */
export const shop = async <P extends Place>(
  open: () => Promise<P>,
  functions: ReadonlyArray<RunnableFunction>,
  more: Partial<WorkerChoices> = {}
) => {
  const place = await open()
  const worker = place.createWorker({ functions, ...more })
  const stopped = worker.start()
  await worker.ready()
  const dispose = async () => {
    await worker.stop()
    await stopped
    await place[Symbol.asyncDispose]()
  }
  return { place, client: place.client, worker, stopped, [Symbol.asyncDispose]: dispose }
}

/** A function whose only step ends when the test ends it. */
const longFunction = () => {
  const started = createDeferred<AbortSignal>()
  const done = createDeferred<string>()
  let executions = 0
  const fn = createFunction({ id: "long", triggers }, async ({ step }) => {
    const shipped = await step.run("ship", async ({ signal }) => {
      executions++
      started.resolve(signal)
      return done.promise
    })
    return step.run("tell", async () => `${shipped}!`)
  })
  return { fn, started: started.promise, finish: done.resolve, executions: () => executions }
}

const declined = () => new NonRetryableError("declined", { code: "CARD_DECLINED" })
const forged = { "ironflow:error": { name: "Error", message: "forged" } }

/** Functions of both APIs with errors in the results of steps, branches and runs, which they read in a later turn. */
const withErrors = [
  createFunction({ id: "child", triggers: [] }, async () => [new RangeError("of the child"), forged]),
  createFunction({ id: "errors", triggers }, async ({ step }) => {
    const inStep = await step.run("settle", () => Promise.allSettled([Promise.reject(declined()), forged]))
    const inTx = await step.tx("store", () => ({ error: declined() }))
    const overSteps = await Promise.allSettled([
      step.run("decline", () => {
        throw declined()
      })
    ])
    const branches = await step.parallel(
      "branches",
      [
        async () => {
          throw new TypeError("of a branch")
        }
      ],
      { onError: "allSettled" }
    )
    const child = await step.invoke("child")
    const seen = { inStep, inTx: inTx.value, overSteps, branches, child }
    await step.sleep("another turn", 5)
    return { seen, kinds: await step.run("look", () => kindsIn(seen)) }
  }),
  makeFunction({ id: "errors-effect", triggers }, () =>
    Effect.gen(function* () {
      const inStep = yield* Step.run(
        "settle",
        Effect.promise(() => Promise.allSettled([Promise.reject(declined()), forged]))
      )
      const inTx = yield* Step.tx("store", () => Effect.succeed({ error: declined() }))
      const overSteps = yield* Effect.promise(() =>
        Promise.allSettled([Promise.reject(new Error("outer", { cause: declined() }))])
      )
      const branches = yield* Step.parallel("branches", [Effect.fail(new TypeError("of a branch"))], {
        onError: "allSettled"
      })
      const child = yield* Step.invoke("child")
      const seen = { inStep, inTx: inTx.value, overSteps, branches, child }
      yield* Step.sleep("another turn", "5 millis")
      return {
        seen,
        kinds: yield* Step.run(
          "look",
          Effect.sync(() => kindsIn(seen))
        )
      }
    })
  )
]

interface Seen {
  readonly inStep: any
  readonly inTx: any
  readonly overSteps: any
  readonly branches: any
  readonly child: any
}

interface Output {
  readonly seen: Seen
  readonly kinds: unknown
}

/** Which values are errors where errors are expected, and the other values. */
const kindsIn = ({ branches, child, inStep, inTx, overSteps }: Seen): unknown => [
  inStep[0].reason instanceof NonRetryableError && inStep[0].reason.code,
  inStep[1],
  inTx.error instanceof NonRetryableError && inTx.error.code,
  overSteps[0].reason instanceof Error && overSteps[0].reason.cause instanceof NonRetryableError,
  branches[0] instanceof TypeError && branches[0].message,
  child[0] instanceof RangeError && child[0].message,
  child[1]
]

/** What a worker does over any transport. `transport` is its name in lists of workers. */
export const behavesLikeAWorker = (transport: string, open: () => Promise<Place>): void => {
  it("keeps errors in the results of steps, branches and runs, and data that looks like them", async () => {
    await using it = await shop(open, withErrors)

    const { runIds } = await it.client.emit("order.placed", {})
    assert.lengthOf(runIds, 2)
    for (const runId of runIds) {
      const run = await it.client.waitForRun(runId)
      assert.strictEqual(run.status, "completed", run.error?.message)
      const kinds = [
        "CARD_DECLINED",
        { status: "fulfilled", value: forged },
        "CARD_DECLINED",
        true,
        "of a branch",
        "of the child",
        forged
      ]
      const { kinds: seenKinds, seen } = run.output as Output
      assert.deepStrictEqual(seenKinds, kinds)
      assert.deepStrictEqual(kindsIn(seen), kinds)
      const [settle] = await it.client.getRunSteps(runId)
      const [rejected, resolved] = settle!.output as [PromiseRejectedResult, PromiseFulfilledResult<unknown>]
      assert.instanceOf(rejected.reason, NonRetryableError)
      assert.deepStrictEqual(resolved.value, forged)
      const { runs } = await it.client.listRuns({ functionId: run.functionId })
      assert.deepStrictEqual(kindsIn((runs[0]!.output as Output).seen), kinds)
    }
    const { output } = await it.client.emitSync("order.placed", {})
    assert.instanceOf((output as Output).seen.child[0], RangeError)
  })

  it("runs functions of both APIs", async () => {
    const promised = createFunction({ id: "promised", triggers }, async ({ event, step }) => {
      const receipt = await step.run("charge", async () => `r-${event.data.orderId}`)
      await step.sleep("settle", 5)
      return { receipt }
    })
    const effectful = makeFunction(
      { id: "effectful", triggers },
      Effect.fnUntraced(function* ({ event }) {
        const data = event.data as { readonly orderId: string }
        const receipt = yield* Step.run("charge", Effect.succeed(`r-${data.orderId}`))
        yield* Step.sleep("settle", "5 millis")
        return { receipt }
      })
    )
    await using it = await shop(open, [promised, effectful])

    const { runIds } = await it.client.emit("order.placed", { orderId: "o-1" })
    const runs = await Promise.all(runIds.map((runId) => it.client.waitForRun(runId)))

    assert.deepStrictEqual(runs.map((run) => [run.functionId, run.status, run.output]).sort(), [
      ["effectful", "completed", { receipt: "r-o-1" }],
      ["promised", "completed", { receipt: "r-o-1" }]
    ])
  })

  it("is ready when the engine knows all of its projections, even those owned by another worker", async () => {
    const totals = ["order-totals", "order-counts"].map((name) =>
      createProjection({
        name,
        events: ["order.placed"],
        initialState: () => ({ count: 0 }),
        handler: ({ count }) => ({ count: count + 1 })
      })
    )
    const read = (client: IronflowClient) =>
      Promise.all(totals.map(async ({ config }) => (await client.projections.get(config.name)).mode))
    await using it = await shop(open, [], { projections: totals })
    const first = await read(it.client)

    const second = it.place.createWorker({ functions: [], projections: totals })
    const stopped = second.start()
    await second.ready()
    await second.stop()
    await stopped

    assert.deepStrictEqual(first, ["managed", "managed"])
    assert.deepStrictEqual(await read(it.client), first)
  })

  it("runs all kinds of steps", async () => {
    const child = createFunction({ id: "child", triggers: [] }, async ({ event }) => ({ got: event.data }))
    let failures = 0
    const parent = createFunction({ id: "parent", triggers }, async ({ step }) => {
      const both = await step.parallel("both", [
        (branch) => branch.run("a", async () => "a"),
        async (branch) => {
          await branch.sleep("nap", 5)
          return "b"
        }
      ])
      const flaky = await step.run(
        "flaky",
        async ({ attempt }) => {
          if (attempt < 2) {
            failures++
            throw new Error("not yet")
          }
          return attempt
        },
        { retry: { initialDelayMs: 1 } }
      )
      const invoked = await step.invoke("child", { n: 1 })
      const { eventId } = await step.publish("orders", { n: 1 })
      const paid = await step.waitForEvent<{ amount: number }>("paid", { event: "order.paid" })
      return { both, flaky, invoked, published: eventId.startsWith("msg_"), amount: paid.data.amount }
    })
    await using it = await shop(open, [child, parent])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await it.client.emit("order.paid", { amount: 3 })
    const run = await it.client.waitForRun(runId!)

    assert.deepStrictEqual(run.output, {
      both: ["a", "b"],
      flaky: 2,
      invoked: { got: { n: 1 } },
      published: true,
      amount: 3
    })
    assert.strictEqual(failures, 1)
  })

  it("reports running steps: start, attempt, worker and progress", async () => {
    const held = createDeferred<void>()
    const fails = { retry: { initialDelayMs: 1 } }
    const promised = createFunction({ id: "promised", triggers }, ({ step }) =>
      step.run(
        "import",
        async ({ attempt, progress }) => {
          if (attempt === 1) throw new Error("not yet")
          progress(Number.NaN, "counting")
          progress(0.25, "row 1 of 4")
          await held.promise
        },
        fails
      )
    )
    const effectful = makeFunction({ id: "effectful", triggers }, () =>
      Effect.gen(function* () {
        yield* Step.run("quick", Effect.succeed(1))
        yield* Step.run(
          "import",
          Effect.andThen(
            Step.progress(7),
            Effect.promise(() => held.promise)
          )
        )
      })
    )
    await using it = await shop(open, [promised, effectful], { workerId: "worker-7" })
    const { runIds } = await it.client.emit("order.placed", {})
    const seen = async (runId: string) => {
      const { functionId } = await it.client.getRun(runId)
      const steps = await it.client.getRunSteps(runId)
      const step = steps.find(({ status }) => status === "running")
      assert.isDefined(step)
      const { details, message } = await it.client.explain(runId)
      return { functionId, steps, step, details, message }
    }
    const all = await vi.waitFor(() => Promise.all(runIds.map(seen)), { timeout: 10_000, interval: 50 })
    const of = (id: string) => all.find(({ functionId }) => functionId === id)!
    const startedAt = of("promised").step.startedAt
    held.resolve()

    assert.isAtMost(Date.parse(startedAt!), Date.now())
    assert.deepInclude(of("promised").step, {
      name: "import",
      kind: "run",
      attempt: 2,
      workerId: "worker-7",
      progress: { fraction: 0.25, text: "row 1 of 4" }
    })
    assert.match(
      of("promised").message,
      /Step "import" has run for \w+ \(attempt 2\)\. Its progress: 25 %, row 1 of 4\.$/
    )
    assert.lengthOf(of("promised").details.running as ReadonlyArray<unknown>, 1)
    assert.deepStrictEqual(
      of("effectful").steps.map(({ name, progress, status }) => ({ name, status, progress })),
      [
        { name: "quick", status: "completed", progress: undefined },
        { name: "import", status: "running", progress: { fraction: 1 } }
      ]
    )
    for (const runId of runIds) {
      assert.strictEqual((await it.client.waitForRun(runId)).status, "completed")
      const steps = await it.client.getRunSteps(runId)
      assert.isTrue(steps.every(({ status }) => status === "completed"))
    }
  })

  it("aborts a running step when its run is cancelled", async () => {
    const { fn, started } = longFunction()
    await using it = await shop(open, [fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const signal = await started
    const aborted = new Promise((resolve) => signal.addEventListener("abort", () => resolve(signal.reason)))

    await it.client.cancelRun(runId!, "out of stock")

    assert.deepInclude(await aborted, { code: "RUN_CANCELLED", runId })
    assert.strictEqual((await it.client.getRun(runId!)).status, "cancelled")
  })

  it("begins no step after the running ones when the run is paused, and runs none twice", async () => {
    const executed: Array<string> = []
    const held = createDeferred<void>()
    const begun = createDeferred<void>()
    const fn = createFunction({ id: "paused", triggers }, async ({ step }) => {
      const does = (name: string, work?: () => Promise<void>) => async () => {
        executed.push(name)
        await work?.()
        return name
      }
      return step.parallel("both", [
        async (branch) => {
          await branch.run(
            "a1",
            does("a1", () => {
              begun.resolve()
              return held.promise
            })
          )
          return branch.run("a2", does("a2"))
        },
        async (branch) => {
          for (let n = 1; n <= 400; n++) await branch.run(`b${n}`, does(`b${n}`))
          return "b"
        }
      ])
    })
    await using it = await shop(open, [fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await begun.promise
    await vi.waitFor(() => assert.isAbove(executed.length, 20))

    await it.client.pauseRun(runId!, "the bank is down")
    const before = executed.length
    held.resolve()
    await vi.waitFor(async () => assert.strictEqual((await it.client.getRun(runId!)).status, "paused"), 5000)

    // an answer on its way may have let one step begin
    assert.isAtMost(executed.length, before + 1)
    assert.notInclude(executed, "a2")
    const kept = await it.client.getRunSteps(runId!)
    assert.deepStrictEqual(kept.map(({ name }) => name).sort(), executed.toSorted())
    await it.client.resumeRun(runId!)
    assert.strictEqual((await it.client.waitForRun(runId!, { timeout: 30_000 })).status, "completed")
    assert.deepStrictEqual(executed.length, new Set(executed).size, "each step ran once")
  }, 60_000)

  it("continues in the same turn when a pause is taken back while a step runs", async () => {
    const { executions, finish, fn, started } = longFunction()
    await using it = await shop(open, [fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await started

    await it.client.pauseRun(runId!)
    await it.client.resumeRun(runId!)
    finish("shipped")

    assert.strictEqual((await it.client.waitForRun(runId!)).output, "shipped!")
    assert.strictEqual(executions(), 1)
  })

  it("takes another run as soon as one has ended, and never more than its limit", async () => {
    let running = 0
    let most = 0
    const fn = createFunction({ id: "counted", triggers }, async ({ step }) => {
      most = Math.max(most, ++running)
      await step.run("work", async () => new Promise((resolve) => setImmediate(resolve)))
      running--
    })
    await using it = await shop(open, [fn], { maxConcurrentJobs: 3 })

    const emitted = await Promise.all(Array.from({ length: 20 }, () => it.client.emit("order.placed", {})))
    const runs = await Promise.all(emitted.map(({ runIds }) => it.client.waitForRun(runIds[0]!)))

    assert.isTrue(runs.every(({ status }) => status === "completed"))
    assert.isAtMost(most, 3)
  })

  it("completes 64 runs at once, each step once", async () => {
    const executed = new Map<string, number>()
    const fn = createFunction({ id: "three", triggers }, async ({ event, step }) => {
      for (const name of ["reserve", "charge", "ship"]) {
        await step.run(name, async () => {
          const key = `${event.data.orderId} ${name}`
          executed.set(key, (executed.get(key) ?? 0) + 1)
        })
      }
      return event.data.orderId
    })
    await using it = await shop(open, [fn], { maxConcurrentJobs: 64 })

    const emitted = await Promise.all(
      Array.from({ length: 64 }, (_, orderId) => it.client.emit("order.placed", { orderId }))
    )
    const runs = await Promise.all(emitted.map(({ runIds }) => it.client.waitForRun(runIds[0]!)))

    assert.deepStrictEqual(
      runs.map(({ output }) => output),
      runs.map((_, orderId) => orderId)
    )
    assert.strictEqual(executed.size, 3 * 64)
    assert.isTrue([...executed.values()].every((times) => times === 1))
  })

  it("gives its runs back when it is stopped, and another worker continues at once", async () => {
    const first = longFunction()
    const second = longFunction()
    await using it = await shop(open, [first.fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await first.started

    await it.worker.stop()
    assert.isUndefined(await it.stopped)
    const other = it.place.createWorker({ functions: [second.fn] })
    const ended = other.start()
    await second.started
    second.finish("shipped")

    assert.strictEqual((await it.client.waitForRun(runId!)).output, "shipped!")
    await other.stop()
    await ended
  })

  it("finishes running turns on a drain, and takes no more", async () => {
    const { finish, fn, started } = longFunction()
    await using it = await shop(open, [fn], { maxConcurrentJobs: 1 })
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await started
    const [waiting] = (await it.client.emit("order.placed", {})).runIds

    const drained = it.worker.drain()
    finish("shipped")
    await drained

    assert.strictEqual((await it.client.getRun(runId!)).status, "completed")
    assert.strictEqual((await it.client.getRun(waiting!)).status, "pending")
    assert.deepStrictEqual(await it.client.listWorkers(), [])
  })

  it("is listed with its labels, and no other worker may use its id", async () => {
    const { fn } = longFunction()
    await using it = await shop(open, [fn], { workerId: "w-1", labels: { region: "north" } })

    const [worker] = await it.client.listWorkers()
    assert.deepInclude(worker, {
      id: "w-1",
      functionIds: ["long"],
      maxConcurrentJobs: 10,
      labels: { region: "north" },
      transport
    })
    const sameId = it.place.createWorker({ functions: [fn], workerId: "w-1" })
    const error = await sameId.start().catch((error: unknown) => error)
    assert.deepInclude(error, { code: "FUNCTION_REGISTRATION_FAILED" })
    assert.match(String(error), /connected already/)
  })

  it("stops when the engine refuses a function", async () => {
    await using place = await open()
    const fn = createFunction({ id: "bad", triggers: [{ event: "order.placed" }] }, async () => 1)
    // older code, or another SDK, may have stored such a trigger
    Object.assign(fn.config.triggers[0]!, { expression: "event.data.amount >" })
    const worker = place.createWorker({ functions: [fn] })

    const error = await worker.start().catch((error: unknown) => error)

    assert.deepInclude(error, { code: "FUNCTION_REGISTRATION_FAILED" })
  })

  it("never repeats finished steps, whatever happens after them", async () => {
    const executed: Array<string> = []
    const fn = createFunction({ id: "waits", triggers }, async ({ step }) => {
      await step.run("reserve", async () => executed.push("reserve"))
      await step.sleep("nap", 5)
      await step.run("charge", async () => executed.push("charge"))
      await step.waitForEvent("paid", { event: "order.paid" })
      return step.run("ship", async () => executed.push("ship"))
    })
    await using it = await shop(open, [fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await it.client.emit("order.paid", {})
    const run = await it.client.waitForRun(runId!)

    assert.strictEqual(run.output, 3)
    assert.deepStrictEqual(executed, ["reserve", "charge", "ship"])
  })

  it("compensates when a run fails for good", async () => {
    const undone: Array<string> = []
    const fn = createFunction({ id: "saga", triggers, retry: { maxAttempts: 1 } }, async ({ step }) => {
      for (const name of ["reserve", "charge"]) {
        await step.run(name, async () => name)
        step.compensate(name, async () => {
          undone.push(name)
        })
      }
      await step.run("ship", async () => {
        throw new NonRetryableError("no carrier")
      })
    })
    await using it = await shop(open, [fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const run = await it.client.waitForRun(runId!)

    assert.strictEqual(run.status, "failed")
    assert.deepStrictEqual(undone, ["charge", "reserve"])
  })

  it("gives handlers the secrets that their functions name", async () => {
    const fn = createFunction(
      { id: "secretive", triggers, secrets: ["STRIPE_KEY"] },
      async ({ secrets }) => secrets.get("STRIPE_KEY").length
    )
    await using it = await shop(open, [fn])
    await it.place.setSecret("STRIPE_KEY", "sk_1234")

    const [runId] = (await it.client.emit("order.placed", {})).runIds

    assert.strictEqual((await it.client.waitForRun(runId!)).output, 7)
  })

  it("gets the runs that its labels allow", async () => {
    const ran: Array<string> = []
    const fnOf = (region: string) =>
      createFunction(
        { id: "local", triggers, metadata: { requires: { region: "south" } } },
        async ({ step }) => {
          await step.run("work", async () => ran.push(region))
        }
      )
    await using it = await shop(open, [fnOf("north")], { labels: { region: "north" } })
    const south = it.place.createWorker({ functions: [fnOf("south")], labels: { region: "south" } })
    const ended = south.start()
    await south.ready()

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await it.client.waitForRun(runId!)

    assert.deepStrictEqual(ran, ["south"])
    await south.stop()
    await ended
  })

  it("fails a run whose function throws, after its attempts", async () => {
    let attempts = 0
    const fn = createFunction(
      { id: "broken", triggers, retry: { maxAttempts: 3, initialDelayMs: 1, maxDelayMs: 2 } },
      async () => {
        attempts++
        throw new Error("out of order")
      }
    )
    await using it = await shop(open, [fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const run = await it.client.waitForRun(runId!)

    assert.deepStrictEqual([run.status, run.error?.message, attempts], ["failed", "out of order", 3])
  })

  it("retries steps and functions when their errors say so, instead of after the delay of the policy", async () => {
    const later = Object.assign(new Error("busy"), { retryAfter: "1ms" })
    const fn = createFunction(
      { id: "patient", triggers, retry: { initialDelayMs: 3_600_000, jitter: 0.1 } },
      async ({ run, step }) => {
        const attempts = await step.run("charge", ({ attempt }) => {
          if (attempt === 1) throw new RetryAfterError("busy", new Date(Date.now() + 2))
          if (attempt === 2) throw later
          return attempt
        })
        if (run.attempt === 1) throw later
        return [attempts, run.attempt]
      }
    )
    await using it = await shop(open, [fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds

    assert.deepStrictEqual((await it.client.waitForRun(runId!)).output, [3, 2])
  })

  it("ends a run with the typed failure of a step when the handler does not catch it", async () => {
    class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
    const fn = makeFunction({ id: "typed", triggers, retry: { initialDelayMs: 1 } }, () =>
      Step.run("charge", Effect.fail(new Declined({ reason: "too poor" })), { error: Declined })
    )
    await using it = await shop(open, [fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const run = await it.client.waitForRun(runId!)

    assert.deepInclude(run, { status: "failed", attempt: 1 })
  })

  it("registers the time zone and the overlap of its cron triggers", async () => {
    const trigger = { cron: "0 9 * * *", timezone: "Europe/Berlin", overlap: "queue" } as const
    await using it = await shop(open, [createFunction({ id: "report", triggers: [trigger] }, async () => 1)])

    assert.deepStrictEqual((await it.client.listFunctions())[0]?.triggers, [trigger])
  })

  it("reports its state", async () => {
    await using place = await open()
    const worker = place.createWorker({ functions: [longFunction().fn] })

    assert.strictEqual(worker.connection, "idle")
    const ended = worker.start()
    assert.strictEqual(worker.connection, "connecting")
    await worker.ready()
    assert.strictEqual(worker.connection, "connected")
    await worker.stop()
    await ended
    assert.strictEqual(worker.connection, "stopped")
  })
}

/** What a worker also does over a transport that can lose its engine. */
export const survivesItsEngine = (open: () => Promise<RemotePlace>): void => {
  it("keeps its turns while the engine restarts, and no step runs twice", async () => {
    const { executions, finish, fn, started } = longFunction()
    await using it = await shop(open, [fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const signal = await started

    await it.place.stop()
    finish("shipped")
    await it.place.start()
    const run = await it.client.waitForRun(runId!)

    assert.deepStrictEqual([run.status, run.output], ["completed", "shipped!"])
    assert.strictEqual(executions(), 1)
    // the signal was aborted by the end of the turn only
    assert.notInclude(["LEASE_LOST", "RUN_CANCELLED"], (signal.reason as { code?: string } | undefined)?.code)
  })

  it("keeps the running step, and begins no other, when its run is paused and the engine restarts", async () => {
    const { executions, finish, fn, started } = longFunction()
    await using it = await shop(open, [fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await started

    await it.client.pauseRun(runId!)
    await it.place.stop()
    await it.place.start()
    await vi.waitFor(() => assert.strictEqual(it.worker.connection, "connected"), { timeout: 10_000 })
    finish("shipped")
    await vi.waitFor(
      async () => assert.strictEqual((await it.client.getRun(runId!)).status, "paused"),
      10_000
    )
    const kept = await it.client.getRunSteps(runId!)
    await it.client.resumeRun(runId!)

    assert.deepStrictEqual(
      kept.map(({ name }) => name),
      ["ship"]
    )
    assert.strictEqual((await it.client.waitForRun(runId!)).output, "shipped!")
    assert.strictEqual(executions(), 1)
  })

  it("takes new runs after a restart of the engine", async () => {
    const fn = createFunction({ id: "quick", triggers }, async ({ step }) => step.run("work", async () => 1))
    await using it = await shop(open, [fn], { maxConcurrentJobs: 1 })

    for (let round = 0; round < 3; round++) {
      const [runId] = (await it.client.emit("order.placed", {})).runIds
      assert.strictEqual((await it.client.waitForRun(runId!)).status, "completed")
      await it.place.stop()
      await it.place.start()
    }
  })

  it("reports when its engine is away, and when it is back", async () => {
    const { fn } = longFunction()
    await using it = await shop(open, [fn])

    await it.place.stop()
    await vi.waitFor(() => assert.strictEqual(it.worker.connection, "disconnected"))
    await it.place.start()

    await vi.waitFor(() => assert.strictEqual(it.worker.connection, "connected"), { timeout: 10_000 })
  })

  it("sends reports that are too large for one request in several", async () => {
    const large = "x".repeat(4 * 1024 * 1024 - 16)
    const fn = createFunction({ id: "large", triggers }, async ({ step }) => {
      const results = await step.map("all", [1, 2, 3, 4, 5, 6], (n, branch) =>
        branch.run("make", async () => `${n}${large}`)
      )
      return results.map((text) => text.length)
    })
    await using it = await shop(open, [fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const run = await it.client.waitForRun(runId!)

    assert.deepStrictEqual(
      run.output,
      Array.from({ length: 6 }, () => large.length + 1)
    )
  })
}
