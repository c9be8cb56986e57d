import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { createDeferred } from "../../src/Deferred.ts"
import { createFunction, make as makeFunction } from "../../src/Function.ts"
import { createClient } from "../../src/Promise/Client.ts"
import { createWorker, type RunnableFunction, type ServerWorkerConfig } from "../../src/Promise/Worker.ts"
import * as Step from "../../src/Step.ts"
import { EngineServer } from "../Client/EngineServer.ts"

const triggers = [{ event: "order.placed" }]

/** An engine behind HTTP, with a client and a worker that reach it there. */
const shop = async (functions: ReadonlyArray<RunnableFunction>, more: Partial<ServerWorkerConfig> = {}) => {
  const server = await EngineServer.start()
  const client = createClient({ serverUrl: server.url })
  const worker = createWorker({
    serverUrl: server.url,
    functions,
    logger: false,
    reconnectDelay: 50,
    ...more
  })
  const stopped = worker.start()
  await worker.ready()
  const dispose = async () => {
    await worker.stop()
    await client.close()
    await server[Symbol.asyncDispose]()
  }
  return { server, client, worker, stopped, [Symbol.asyncDispose]: dispose }
}

/** A function whose one step ends when the test says so. */
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

describe("a worker on an engine elsewhere", () => {
  it("runs functions of both styles", async () => {
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
    await using it = await shop([promised, effectful])

    const { runIds } = await it.client.emit("order.placed", { orderId: "o-1" })
    const runs = await Promise.all(runIds.map((runId) => it.client.waitForRun(runId)))

    assert.deepStrictEqual(runs.map((run) => [run.functionId, run.status, run.output]).sort(), [
      ["effectful", "completed", { receipt: "r-o-1" }],
      ["promised", "completed", { receipt: "r-o-1" }]
    ])
  })

  it("does everything that steps can do", async () => {
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
    await using it = await shop([child, parent])

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

  it("aborts a running step when its run is cancelled", async () => {
    const { fn, started } = longFunction()
    await using it = await shop([fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const signal = await started
    const aborted = new Promise((resolve) => signal.addEventListener("abort", () => resolve(signal.reason)))

    await it.client.cancelRun(runId!, "out of stock")

    assert.deepInclude(await aborted, { code: "RUN_CANCELLED", runId })
    assert.strictEqual((await it.client.getRun(runId!)).status, "cancelled")
  })

  it("has room for another run as soon as one has ended, and never takes more than it said", async () => {
    let running = 0
    let most = 0
    const fn = createFunction({ id: "counted", triggers }, async ({ step }) => {
      most = Math.max(most, ++running)
      await step.run("work", async () => new Promise((resolve) => setImmediate(resolve)))
      running--
    })
    await using it = await shop([fn], { maxConcurrentJobs: 3 })

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
    await using it = await shop([fn], { maxConcurrentJobs: 64 })

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

  it("keeps its turns while the engine is restarted: no step runs twice", async () => {
    const { executions, finish, fn, started } = longFunction()
    await using it = await shop([fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const signal = await started

    await it.server.stop()
    finish("shipped")
    await it.server.start()
    const run = await it.client.waitForRun(runId!)

    assert.deepStrictEqual([run.status, run.output], ["completed", "shipped!"])
    assert.strictEqual(executions(), 1)
    // aborted by the end of its turn only
    assert.notInclude(["LEASE_LOST", "RUN_CANCELLED"], (signal.reason as { code?: string } | undefined)?.code)
  })

  it("goes on with new runs after the engine was restarted", async () => {
    const fn = createFunction({ id: "quick", triggers }, async ({ step }) => step.run("work", async () => 1))
    await using it = await shop([fn], { maxConcurrentJobs: 1 })

    for (let round = 0; round < 3; round++) {
      const [runId] = (await it.client.emit("order.placed", {})).runIds
      assert.strictEqual((await it.client.waitForRun(runId!)).status, "completed")
      await it.server.stop()
      await it.server.start()
    }
  })

  it("gives its runs back when it is stopped, and another worker goes on at once", async () => {
    const first = longFunction()
    const second = longFunction()
    await using it = await shop([first.fn])
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    await first.started

    await it.worker.stop()
    assert.isUndefined(await it.stopped)
    const other = createWorker({ serverUrl: it.server.url, functions: [second.fn], logger: false })
    const ended = other.start()
    await second.started
    second.finish("shipped")

    assert.strictEqual((await it.client.waitForRun(runId!)).output, "shipped!")
    await other.stop()
    await ended
  })

  it("draining finishes what runs and takes no more", async () => {
    const { finish, fn, started } = longFunction()
    await using it = await shop([fn], { maxConcurrentJobs: 1 })
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

  it("shows itself with its labels, and nobody else may have its id meanwhile", async () => {
    const { fn } = longFunction()
    await using it = await shop([fn], { workerId: "w-1", labels: { region: "north" } })

    const [worker] = await it.client.listWorkers()
    assert.deepInclude(worker, {
      id: "w-1",
      functionIds: ["long"],
      maxConcurrentJobs: 10,
      labels: { region: "north" },
      transport: "polling"
    })
    const twin = createWorker({
      serverUrl: it.server.url,
      functions: [fn],
      workerId: "w-1",
      logger: false
    })
    const error = await twin.start().catch((error: unknown) => error)
    assert.deepInclude(error, { code: "FUNCTION_REGISTRATION_FAILED" })
    assert.match(String(error), /connected already/)
  })

  it("sends reports that are too large for one request in several", async () => {
    const large = "x".repeat(4 * 1024 * 1024 - 16)
    const fn = createFunction({ id: "large", triggers }, async ({ step }) => {
      const results = await step.map("all", [1, 2, 3, 4, 5, 6], (n, branch) =>
        branch.run("make", async () => `${n}${large}`)
      )
      return results.map((text) => text.length)
    })
    await using it = await shop([fn])

    const [runId] = (await it.client.emit("order.placed", {})).runIds
    const run = await it.client.waitForRun(runId!)

    assert.deepStrictEqual(
      run.output,
      Array.from({ length: 6 }, () => large.length + 1)
    )
  })

  it("is stopped by a function that the engine does not accept", async () => {
    const server = await EngineServer.start()
    const fn = createFunction({ id: "bad", triggers: [{ event: "order.placed" }] }, async () => 1)
    // what older code, or another SDK, may have put there
    Object.assign(fn.config.triggers[0]!, { expression: "event.data.amount >" })
    const worker = createWorker({ serverUrl: server.url, functions: [fn], logger: false })

    const error = await worker.start().catch((error: unknown) => error)

    assert.deepInclude(error, { code: "FUNCTION_REGISTRATION_FAILED" })
    await server[Symbol.asyncDispose]()
  })
})
