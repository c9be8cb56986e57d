import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { afterAll, beforeAll } from "vitest"
import { Client, IronflowFunction, Step, Worker, WorkerTransport } from "@ironflow/node/effect"
import * as Errors from "../../src/Errors.ts"
import { createFunction } from "../../src/Function.ts"
import { createClient, type IronflowClient } from "../../src/Promise/Client.ts"
import { createWorker, type Worker as PromiseWorker } from "../../src/Promise/Worker.ts"
import { EngineServer } from "./EngineServer.ts"

const rejection = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

let declines = true

const quick = createFunction(
  { id: "quick", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const receipt = await step.run("charge", async () => ({ receipt: `r-${event.data.orderId}` }))
    return { ...receipt, nothing: null }
  }
)

const recorded = createFunction(
  { id: "recorded", triggers: [{ event: "order.audited" }], recording: true, recordingRetention: "90d" },
  async ({ step }) => step.run("charge", () => 42)
)

const waiting = createFunction({ id: "waiting", triggers: [{ event: "order.held" }] }, async ({ step }) => {
  await step.run("reserve", async () => undefined)
  const paid = await step.waitForEvent<{ amount: number }>("payment", { event: "order.paid" })
  return paid.data.amount
})

const failing = createFunction(
  { id: "failing", triggers: [{ event: "order.doubtful" }] },
  async ({ step }) => {
    await step.run("check", async () => "checked")
    return step.run("charge", async () => {
      if (declines) throw new Errors.NonRetryableError("card declined", { code: "DECLINED" })
      return "charged"
    })
  }
)

let server: EngineServer
let client: IronflowClient
let worker: PromiseWorker

beforeAll(async () => {
  server = await EngineServer.start()
  client = createClient({ serverUrl: server.url })
  worker = createWorker({
    serverUrl: server.url,
    functions: [quick, recorded, waiting, failing],
    logger: false
  })
  worker.start().catch(() => undefined)
  await worker.ready()
})

afterAll(async () => {
  await worker.stop()
  await client.close()
  await server[Symbol.asyncDispose]()
})

/** Starts a run, and waits until it waits for an event. */
const startHeldRun = async () => {
  const [runId] = (await client.emit("order.held", {})).runIds
  // every check is a request, so this loop is not busy
  for (;;) {
    if ((await client.explain(runId!)).code === "WAITING_FOR_EVENT") return runId!
  }
}

describe("the client of an engine of this package", () => {
  it("emits, waits, and reads the run and its steps", async () => {
    const { eventId, runIds } = await client.emit("order.placed", { orderId: "o-1" })
    const run = await client.waitForRun(runIds[0]!, { timeout: 10_000 })

    assert.deepInclude(run, {
      id: runIds[0]!,
      functionId: "quick",
      eventId,
      status: "completed",
      attempt: 1,
      maxAttempts: 3,
      input: { orderId: "o-1" },
      output: { receipt: "r-o-1", nothing: null }
    })
    assert.deepStrictEqual(await client.getRun(run.id), run)
    const [step] = await client.getRunSteps(run.id)
    assert.deepInclude(step, {
      id: `${run.id}:charge:0`,
      name: "charge",
      kind: "run",
      status: "completed",
      attempt: 1,
      output: { receipt: "r-o-1" }
    })
    assert.strictEqual((await client.explain(run.id)).code, "COMPLETED")
  })

  it("reads the record of a run whose function has recording on", async () => {
    const [runId] = (await client.emit("order.audited", {})).runIds
    await client.waitForRun(runId!)

    const events = await client.getRunAudit(runId!)

    assert.deepStrictEqual(
      events.map(({ stepName, type }) => [type, stepName]),
      [
        ["run.started", undefined],
        ["step.completed", "charge"],
        ["run.completed", undefined]
      ]
    )
    assert.strictEqual(events[1]!.details.output, 42)
  })

  it.each<[string, (client: IronflowClient) => Promise<unknown>, RegExp]>([
    ["an empty idempotency key", (c) => c.emit("order.new", {}, { idempotencyKey: "" }), /idempotency key/],
    [
      "an empty idempotency key of a message",
      (c) => c.publish("news", {}, { idempotencyKey: "" }),
      /idempotency key/
    ],
    ["version 0", (c) => c.emit("order.new", {}, { version: 0 }), /version of event "order.new"/],
    ["a limit of 0", (c) => c.listRuns({ limit: 0 }), /from 1 to 1000, got 0/],
    ["an empty step to retry", (c) => c.retryRun("run_1", ""), /has no step ""/],
    ["an empty step to resume", (c) => c.resumeRun("run_1", ""), /has no step ""/]
  ])("refuses %s, which would be lost on the way to the server", async (_, ask, message) => {
    const error = await rejection(ask(client))

    assert.match(error.message, message)
    assert.isTrue(Errors.isIronflowError(error))
  })

  it("emits once for one idempotency key", async () => {
    const emit = () => client.emit("order.placed", { orderId: "o-2" }, { idempotencyKey: "o-2", version: 2 })

    assert.deepStrictEqual(await emit(), await emit())
  })

  it("an event that nothing matches starts nothing", async () => {
    assert.deepStrictEqual((await client.emit("order.forgotten", {})).runIds, [])
  })

  it("publishes, and counts the sequence up", async () => {
    const first = await client.publish("orders", { id: 1 })
    const second = await client.publish("orders", { id: 2 })

    assert.match(first.eventId, /^msg_/)
    assert.isAbove(second.sequence, first.sequence)
  })

  it("waits until its timeout, and says why the run has not ended", async () => {
    const runId = await startHeldRun()

    const error = await rejection(client.waitForRun(runId, { timeout: 1 }))

    assert.instanceOf(error, Errors.TimeoutError)
    assert.match(
      error.message,
      /has not ended within 1ms\. Only the wait is over: the run itself is unchanged\. .*order\.paid/
    )
    await client.cancelRun(runId)
  })

  it("is notified at once that an awaited run has ended", async () => {
    const runId = await startHeldRun()

    const ended = client.waitForRun(runId)
    await client.emit("order.paid", { amount: 3 })

    assert.deepInclude(await ended, { status: "completed", output: 3 })
  })

  it("pauses, resumes and cancels", async () => {
    const runId = await startHeldRun()

    const paused = await client.pauseRun(runId, "stocktaking")
    assert.deepInclude(paused, { id: runId, status: "paused", pauseReason: "stocktaking" })
    assert.notStrictEqual((await client.resumeRun(runId)).status, "paused")
    assert.deepInclude(await client.cancelRun(runId, "no longer needed"), { id: runId, status: "cancelled" })
    assert.strictEqual((await client.waitForRun(runId)).status, "cancelled")
  })

  it("retries a failed run from a step, and patches a step", async () => {
    declines = true
    const [runId] = (await client.emit("order.doubtful", {})).runIds
    const failed = await client.waitForRun(runId!)
    assert.deepInclude(failed, { status: "failed" })
    assert.deepInclude(failed.error, { message: "card declined", code: "STEP_FAILED" })

    declines = false
    await client.retryRun(runId!, "charge")
    assert.strictEqual((await client.waitForRun(runId!)).output, "charged")

    await client.patchStep(`${runId}:check:0`, { by: "hand" }, "bad data")
    const [check] = await client.getRunSteps(runId!)
    assert.deepStrictEqual(check!.output, { by: "hand" })
  })

  it("lists runs in pages, and by function and status", async () => {
    for (let i = 0; i < 3; i++) {
      const [runId] = (await client.emit("order.placed", { orderId: i })).runIds
      await client.waitForRun(runId!)
    }

    const first = await client.listRuns({ functionId: "quick", status: "completed", limit: 2 })
    const second = await client.listRuns({
      functionId: "quick",
      status: "completed",
      limit: 2,
      cursor: first.nextCursor!
    })

    assert.strictEqual(first.runs.length, 2)
    assert.isAtLeast(first.totalCount, 3)
    assert.isTrue([...first.runs, ...second.runs].every(({ functionId }) => functionId === "quick"))
    assert.notInclude(
      first.runs.map(({ id }) => id),
      second.runs[0]!.id
    )
    assert.deepStrictEqual((await client.listRuns({ functionId: "nobody" })).runs, [])
  })

  it("lists functions and workers, and reports that the engine is healthy", async () => {
    const functions = await client.listFunctions()
    assert.deepStrictEqual(functions.map(({ id }) => id).sort(), ["failing", "quick", "recorded", "waiting"])
    assert.match(functions[0]!.codeHash, /^[0-9a-f]{16}$/)
    const [worker] = await client.listWorkers()
    assert.deepStrictEqual([...worker!.functionIds].sort(), ["failing", "quick", "recorded", "waiting"])
    assert.strictEqual(await client.health(), "ok")
  })

  it("deletes a function only when no worker has it", async () => {
    const once = createFunction({ id: "once", triggers: [{ event: "order.old" }] }, async () => "done")
    const early = createWorker({ serverUrl: server.url, functions: [once], logger: false, workerId: "early" })
    const stopped = early.start()
    await early.ready()

    const refused = await rejection(client.deleteFunction("once"))
    assert.instanceOf(refused, Errors.InvalidStateError)
    assert.include(refused.message, "while worker early has the function")

    await early.drain()
    await stopped
    const { runIds } = await client.emit("order.old", {})
    await client.deleteFunction("once")
    assert.deepStrictEqual((await client.emit("order.old", {})).runIds, [])
    assert.notInclude(
      (await client.listFunctions()).map(({ id }) => id),
      "once"
    )
    assert.include((await client.explain(runIds[0]!)).message, 'Function "once" was deleted')
    const missing = await rejection(client.deleteFunction("once"))
    assert.instanceOf(missing, Errors.FunctionNotFoundError)
    await client.cancelRun(runIds[0]!)
  })

  it("sees its own environment only", async () => {
    await using elsewhere = createClient({ serverUrl: server.url, environment: "staging" })

    const { runIds } = await elsewhere.emit("order.placed", { orderId: "o-9" })

    assert.deepStrictEqual(runIds, [])
    assert.deepStrictEqual(await elsewhere.listFunctions(), [])
  })

  it.each<
    [
      string,
      (client: IronflowClient) => Promise<unknown>,
      new (...args: Array<any>) => Errors.IronflowError,
      string
    ]
  >([
    ["getRun", (client) => client.getRun("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["getRunAudit", (client) => client.getRunAudit("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["explain", (client) => client.explain("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["explain without an id", (client) => client.explain(""), Errors.ValidationError, "VALIDATION_ERROR"],
    ["waitForRun", (client) => client.waitForRun("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["getRunSteps", (client) => client.getRunSteps("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["cancelRun", (client) => client.cancelRun("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["resumeRun", (client) => client.resumeRun("run_none"), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["patchStep", (client) => client.patchStep("run_none:a:0", 1), Errors.RunNotFoundError, "RUN_NOT_FOUND"],
    ["emit without a name", (client) => client.emit("", {}), Errors.ValidationError, "VALIDATION_ERROR"],
    [
      "emit of too much data",
      (client) => client.emit("order.placed", "x".repeat(1024 * 1024)),
      Errors.LimitExceededError,
      "LIMIT_EXCEEDED"
    ],
    ["listRuns", (client) => client.listRuns({ limit: 5000 }), Errors.ValidationError, "VALIDATION_ERROR"],
    [
      "listRuns with an unknown status",
      (client) => client.listRuns({ status: "lost" as never }),
      Errors.ValidationError,
      "VALIDATION_ERROR"
    ],
    [
      "waitForRun with a negative timeout",
      (client) => client.waitForRun("run_none", { timeout: -1 }),
      Errors.ValidationError,
      "VALIDATION_ERROR"
    ]
  ])("%s rejects with the error class of the engine", async (_, call, Class, code) => {
    const error = await rejection(call(client))

    assert.instanceOf(error, Class)
    assert.strictEqual(error.code, code)
  })

  it("an operation that the state of a run does not allow rejects with InvalidStateError", async () => {
    const [runId] = (await client.emit("order.placed", { orderId: "o-3" })).runIds
    await client.waitForRun(runId!)

    assert.instanceOf(await rejection(client.pauseRun(runId!)), Errors.InvalidStateError)
  })

  it.live("does the same with the Effect API, worker included", () =>
    Effect.gen(function* () {
      const ship = IronflowFunction.make(
        { id: "ship", triggers: [{ event: "order.packed" }] },
        Effect.fnUntraced(function* () {
          return yield* Step.run("ship", Effect.succeed("shipped"))
        })
      )
      const program = Effect.gen(function* () {
        const client = yield* Client.Client
        const { runIds } = yield* client.emit("order.packed", {})
        return yield* client.waitForRun(runIds[0]!)
      })
      const Live = Layer.mergeAll(
        Worker.layer({ functions: [ship], logger: false }).pipe(
          Layer.provide(WorkerTransport.layerPolling({ serverUrl: server.url }))
        ),
        Client.layerHttp({ serverUrl: server.url })
      ).pipe(Layer.provide(FetchHttpClient.layer))

      const run = yield* Effect.provide(program, Live)

      assert.deepInclude(run, { status: "completed", output: "shipped" })
      const missing = yield* Effect.flip(
        Effect.provide(
          Effect.flatMap(Client.Client, (client) => client.getRun("run_none")),
          Live
        )
      )
      assert.strictEqual(missing._tag, "RunNotFoundError")
    })
  )
})
