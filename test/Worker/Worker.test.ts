import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import {
  type AccessError,
  type ConnectionError,
  FunctionNotFoundError,
  IronflowError,
  RunCancelledError,
  ValidationError
} from "../../src/Errors.ts"
import { createDeferred } from "../../src/Deferred.ts"
import { createFunction, make as makeFunction } from "../../src/Function.ts"
import type { WorkerTransport } from "../../src/Protocol/Worker.ts"
import * as Step from "../../src/Step.ts"
import { createEventDefinitionRegistry } from "../../src/Upcaster.ts"
import * as Worker from "../../src/Worker/Worker.ts"
import manifest from "../../package.json" with { type: "json" }
import { ScriptedTransport } from "./ScriptedTransport.ts"

const triggers = [{ event: "order.placed" }]

/** A function whose only step ends when the test ends it. */
const longFunction = (id = "long") => {
  const started = createDeferred<AbortSignal>()
  const done = createDeferred<void>()
  const fn = createFunction({ id, triggers }, async ({ step }) => {
    await step.run("work", async ({ signal }) => {
      started.resolve(signal)
      await done.promise
    })
    return "shipped"
  })
  return { fn, started: started.promise, finish: () => done.resolve() }
}

const quick = createFunction({ id: "quick", triggers }, async ({ event, step }) => {
  await step.run("charge", async () => "receipt")
  return event.data
})

/** Starts a worker in a scope that the test closes. */
const startWorker = (transport: ScriptedTransport, options: Worker.WorkerOptions) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const worker = yield* Worker.make({ logger: false, ...options }).pipe(
      Scope.provide(scope),
      Effect.provide(transport.layer)
    )
    return { worker, close: Scope.close(scope, Exit.void) }
  })

describe("Worker", () => {
  it.live("registers its functions, and asks for as many jobs as it may run at once", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const before = yield* Clock.currentTimeMillis
      const { close, worker } = yield* startWorker(transport, {
        functions: [quick],
        labels: { region: "north" },
        environment: "staging"
      })

      const { functions, hostname: _, startedAt = 0, ...registration } = transport.registration!
      assert.isAtLeast(startedAt, before)
      assert.isAtMost(startedAt, yield* Clock.currentTimeMillis)
      assert.deepStrictEqual(registration, {
        workerId: worker.workerId,
        environment: "staging",
        namesEnvironment: true,
        maxConcurrentJobs: 10,
        pauses: true,
        labels: { region: "north" },
        version: { sdk: manifest.version, runtime: `node ${process.version}` }
      })
      assert.match(worker.workerId, /^worker-[0-9a-z]+-[0-9a-z]+$/)
      assert.deepStrictEqual(
        functions.map((fn) => fn.id),
        ["quick"]
      )
      assert.strictEqual(transport.room, 10)
      yield* close
    })
  )

  it.live("runs a turn, reports it in one batch, and asks for one more job at its end", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { close, worker } = yield* startWorker(transport, { functions: [quick], maxConcurrentJobs: 2 })

      transport.dispatch("run-1", "quick")
      assert.strictEqual(transport.room, 1)
      assert.strictEqual(yield* worker.activeJobs, 1)
      yield* Effect.promise(() => transport.until(() => transport.room === 2))

      assert.strictEqual(yield* worker.activeJobs, 0)
      assert.strictEqual(transport.batches.length, 1)
      assert.deepStrictEqual(transport.reported("run-1"), ["StepDone charge", "Complete"])
      yield* close
    })
  )

  it.live("reports each step at once, and the last one together with the completion", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const fn = createFunction({ id: "three", triggers }, async ({ step }) => {
        for (const name of ["reserve", "charge", "ship"]) await step.run(name, async () => name)
      })
      const { close } = yield* startWorker(transport, { functions: [fn] })

      transport.dispatch("run-1", "three")
      yield* Effect.promise(() => transport.until(() => transport.room === 10))

      assert.strictEqual(transport.batches.length, 3)
      assert.deepStrictEqual(transport.reported("run-1"), [
        "StepDone reserve",
        "StepDone charge",
        "StepDone ship",
        "Complete"
      ])
      yield* close
    })
  )

  it.live("gives event data to handlers in its latest version", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const eventDefinitions = createEventDefinitionRegistry()
      eventDefinitions.register({
        name: "order.placed",
        version: 2,
        upcast: (data) => ({ ...(data as object), currency: "USD" })
      })
      const { close } = yield* startWorker(transport, { functions: [quick], eventDefinitions })

      transport.dispatch("run-1", "quick")
      yield* Effect.promise(() => transport.until(() => transport.room === 10))

      const complete = transport.batches
        .flat()
        .flatMap((report) => report.ops)
        .at(-1)
      assert.deepStrictEqual(complete, { _tag: "Complete", output: '{"orderId":"o-1","currency":"USD"}' })
      yield* close
    })
  )

  it.live("fails a job of an unknown function, and frees its place", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { close } = yield* startWorker(transport, { functions: [quick] })

      transport.dispatch("run-1", "unheard-of")
      yield* Effect.promise(() => transport.until(() => transport.room === 10))

      const [op] = transport.batches.flat().flatMap((report) => report.ops)
      assert.ok(op?._tag === "Fail")
      assert.strictEqual(op.error.name, FunctionNotFoundError.name)
      assert.include(op.error.message, "unheard-of")
      yield* close
    })
  )

  it.live("aborts the steps of a cancelled run with the reason, and reports nothing more", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { fn, finish, started } = longFunction()
      const { close } = yield* startWorker(transport, { functions: [fn] })
      transport.dispatch("run-1", "long")
      const signal = yield* Effect.promise(() => started)

      transport.tell({ _tag: "Cancelled", jobId: "job-of-run-1", reason: "the customer left" })
      yield* Effect.promise(() => transport.until(() => transport.room === 10))
      finish()

      assert.isTrue(signal.aborted)
      assert.instanceOf(signal.reason, RunCancelledError)
      yield* close
      assert.deepStrictEqual(transport.reported("run-1"), [])
    })
  )

  const losses = [
    [
      "a notice of a lost lease",
      (transport: ScriptedTransport) =>
        transport.tell({ _tag: "LeaseLost", jobId: "job-of-run-1", reason: "taken over" })
    ],
    [
      "a refused report",
      (transport: ScriptedTransport) => {
        transport.answer = () => ({ _tag: "Refused", reason: "LEASE_LOST", message: "taken over" })
      }
    ]
  ] as const
  for (const [title, lose] of losses) {
    it.live(`aborts the turn with code LEASE_LOST and has room again after ${title}`, () =>
      Effect.gen(function* () {
        const transport = new ScriptedTransport()
        const first = createDeferred<void>()
        const second = createDeferred<AbortSignal>()
        const fn = createFunction({ id: "two", triggers }, async ({ step }) => {
          await Promise.all([
            step.run("a", () => first.promise),
            step.run("b", ({ signal }) => {
              second.resolve(signal)
              return new Promise(() => {})
            })
          ])
        })
        const { close } = yield* startWorker(transport, { functions: [fn] })
        transport.dispatch("run-1", "two")
        const signal = yield* Effect.promise(() => second.promise)

        lose(transport)
        first.resolve()
        yield* Effect.promise(() => transport.until(() => transport.room === 10))

        assert.isTrue(signal.aborted)
        assert.instanceOf(signal.reason, IronflowError)
        assert.strictEqual((signal.reason as IronflowError).code, "LEASE_LOST")
        yield* close
      })
    )
  }

  it.live("on a drain withdraws its demand, lets turns end, and gives back late jobs", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { fn, finish, started } = longFunction()
      const { close, worker } = yield* startWorker(transport, { functions: [fn, quick] })
      transport.dispatch("run-1", "long")
      yield* Effect.promise(() => started)

      const draining = yield* Effect.forkChild(worker.drain, { startImmediately: true })
      assert.strictEqual(transport.room, 0)
      transport.dispatch("run-2", "quick")
      yield* Effect.promise(() => transport.until(() => transport.reported("run-2").length > 0))
      assert.deepStrictEqual(transport.reported("run-2"), ["Release"])
      assert.isFalse(transport.closed)

      finish()
      yield* Fiber.join(draining)
      yield* worker.awaitStopped
      assert.deepStrictEqual(transport.reported("run-1"), ["StepDone work", "Complete"])
      assert.isTrue(transport.closed)
      yield* worker.drain
      yield* close
    })
  )

  it.live("gives back a job whose run is already to be paused, and asks for another one", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { close } = yield* startWorker(transport, { functions: [quick], maxConcurrentJobs: 2 })

      transport.dispatch("run-1", "quick", {}, true)
      yield* Effect.promise(() => transport.until(() => transport.reported("run-1").length > 0))

      assert.deepStrictEqual(transport.reported("run-1"), ["Release"])
      assert.strictEqual(transport.room, 2)
      yield* close
    })
  )

  it.live(
    "on a stop aborts turns with code WORKER_STOPPED, and gives their runs back after their reports",
    () =>
      Effect.gen(function* () {
        const transport = new ScriptedTransport()
        const { fn, started } = longFunction()
        const { close, worker } = yield* startWorker(transport, { functions: [fn] })
        transport.dispatch("run-1", "long")
        const signal = yield* Effect.promise(() => started)

        yield* worker.stop

        assert.strictEqual((signal.reason as IronflowError).code, "WORKER_STOPPED")
        assert.deepStrictEqual(transport.reported("run-1"), ["Release"])
        assert.isTrue(transport.closed)
        yield* worker.awaitStopped
        yield* close
      })
  )

  it.live("on a stop ends a drain that waits", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { fn, started } = longFunction()
      const { close, worker } = yield* startWorker(transport, { functions: [fn] })
      transport.dispatch("run-1", "long")
      yield* Effect.promise(() => started)

      const draining = yield* Effect.forkChild(worker.drain, { startImmediately: true })
      yield* worker.stop

      yield* Fiber.join(draining)
      assert.deepStrictEqual(transport.reported("run-1"), ["Release"])
      yield* close
    })
  )

  for (const [how, options, timeoutMs] of [
    ["closing its scope", { drainTimeout: "10s" }, 10_000],
    ["draining", { drainTimeout: "10s" }, 10_000],
    ["draining without options", {}, 30_000]
  ] as const) {
    it.effect(`${how} waits for turns for ${timeoutMs} ms, and then gives them back with a log line`, () =>
      Effect.gen(function* () {
        const transport = new ScriptedTransport()
        const { fn, started } = longFunction()
        const warnings: Array<string> = []
        const silent = () => undefined
        const logger = {
          debug: silent,
          info: silent,
          error: silent,
          warn: (message: string) => warnings.push(message)
        }
        const { close, worker } = yield* startWorker(transport, { functions: [fn], logger, ...options })
        transport.dispatch("run-1", "long")
        const signal = yield* Effect.promise(() => started)

        const ending = yield* Effect.forkChild(how === "closing its scope" ? close : worker.drain, {
          startImmediately: true
        })
        yield* TestClock.adjust(timeoutMs - 1)
        assert.deepStrictEqual(transport.reported("run-1"), [])
        assert.isFalse(transport.closed)

        yield* TestClock.adjust(1)
        yield* Fiber.join(ending)
        yield* worker.awaitStopped
        assert.strictEqual((signal.reason as IronflowError).code, "WORKER_STOPPED")
        assert.deepStrictEqual(transport.reported("run-1"), ["Release"])
        assert.isTrue(transport.closed)
        assert.match(
          warnings.join(),
          /has drained for \d+s and stops: 1 turn has not ended and is given back/
        )
        yield* close
      })
    )
  }

  it.effect("gives up after 5 seconds when it is stopped and its engine does not answer", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const { fn, started } = longFunction()
      const { worker } = yield* startWorker(transport, { functions: [fn] })
      transport.dispatch("run-1", "long")
      yield* Effect.promise(() => started)
      transport.hold()

      const stopping = yield* Effect.forkChild(worker.stop, { startImmediately: true })
      yield* Effect.promise(() => transport.until(() => transport.batches.length === 1))
      yield* TestClock.adjust("5 seconds")

      yield* Fiber.join(stopping)
      assert.isTrue(transport.closed)
    })
  )

  it.live("reports a step call after the end of its turn to the engine", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const gate = createDeferred<void>()
      const fn = createFunction({ id: "slow-io", triggers }, async ({ step }) => {
        void step.sleep("nap", "1h")
        await gate.promise
        await step.run("charge", async () => 1)
      })
      const { close } = yield* startWorker(transport, { functions: [fn] })
      transport.dispatch("run-1", "slow-io")
      yield* Effect.promise(() => transport.until(() => transport.reported("run-1").includes("Suspend")))
      yield* Effect.promise(() => transport.until(() => transport.room === 10))

      gate.resolve()
      yield* Effect.promise(() => transport.until(() => transport.lateCalls.length > 0))

      assert.deepStrictEqual(transport.lateCalls, [{ runId: "run-1", stepName: "charge", lingerMs: 0 }])
      yield* close
    })
  )

  const bad = [
    ["two functions with the same id", { functions: [quick, quick] }, /two functions have the id "quick"/],
    [
      "a limit of zero jobs",
      { functions: [quick], maxConcurrentJobs: 0 },
      /`maxConcurrentJobs`.*an integer from 1 to 100000, got 0/
    ],
    [
      "a fraction as the limit",
      { functions: [quick], maxConcurrentJobs: 1.5 },
      /`maxConcurrentJobs`.*got 1.5/
    ],
    ["an invalid function", { functions: [undefined] }, /`functions\[0\]` is not a function definition/],
    ["no functions at all", {}, /`functions` must be an array/],
    [
      "a label that is not a string",
      { functions: [quick], labels: { region: 7 } },
      /label "region" must be a string/
    ],
    [
      "an invalid drain timeout",
      { functions: [quick], drainTimeout: "soon" },
      /`drainTimeout` of the worker.*"soon"/
    ],
    ["a blank worker id", { functions: [quick], workerId: " " }, /worker id must not be empty/],
    ["a blank environment", { functions: [quick], environment: " " }, /environment must not be empty/]
  ] as const
  for (const [title, options, message] of bad) {
    it.live(`fails with a ValidationError that says so, given ${title}`, () =>
      Effect.gen(function* () {
        const transport = new ScriptedTransport()
        // callers in JavaScript can do this
        const given = options as unknown as Worker.WorkerOptions

        const error = yield* Effect.flip(startWorker(transport, given))

        assert.instanceOf(error, ValidationError)
        assert.match(error.message, message)
        assert.isUndefined(transport.registration)
      })
    )
  }

  it.live("fails with the error of an engine that refuses its functions", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      transport.refusal = new ValidationError("bad trigger")

      const error = yield* Effect.flip(startWorker(transport, { functions: [quick] }))

      assert.strictEqual(error, transport.refusal)
    })
  )

  it.live("keeps running until it is interrupted, and is then drained", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const running = yield* Effect.forkChild(
        Effect.provide(Worker.run({ functions: [quick], logger: false }), transport.layer)
      )
      yield* Effect.promise(() => transport.until(() => transport.room === 10))

      yield* Fiber.interrupt(running)

      assert.isTrue(transport.closed)
    })
  )
})

class Payments extends Context.Service<Payments, { readonly charge: Effect.Effect<string> }>()(
  "test/Payments"
) {}
class Mail extends Context.Service<Mail, { readonly send: Effect.Effect<void> }>()("test/Mail") {}

const charging = makeFunction({ id: "charging", triggers }, () =>
  Step.run(
    "charge",
    Effect.flatMap(Payments, (payments) => payments.charge)
  )
)
const mailing = makeFunction({ id: "mailing", triggers }, () =>
  Step.run(
    "mail",
    Effect.flatMap(Mail, (mail) => mail.send)
  )
)

describe("the services of handlers", () => {
  it("are in the type of the layer, without the steps", () => {
    expectTypeOf(Worker.layer({ functions: [charging, mailing, quick] })).toEqualTypeOf<
      Layer.Layer<
        Worker.Worker,
        ConnectionError | ValidationError | AccessError,
        WorkerTransport | Payments | Mail
      >
    >()
    expectTypeOf(Worker.layer({ functions: [quick] })).toEqualTypeOf<
      Layer.Layer<Worker.Worker, ConnectionError | ValidationError | AccessError, WorkerTransport>
    >()
  })

  it.live("are provided once, around the worker", () =>
    Effect.gen(function* () {
      const transport = new ScriptedTransport()
      const charged = yield* Deferred.make<string>()
      const payments = Layer.succeed(Payments, {
        charge: Effect.as(Deferred.succeed(charged, "charged"), "receipt")
      })
      const scope = yield* Scope.make()
      yield* Worker.layer({ functions: [charging], logger: false }).pipe(
        Layer.provide(payments),
        Layer.provide(transport.layer),
        Layer.buildWithScope(scope)
      )

      transport.dispatch("run-1", "charging")

      assert.strictEqual(yield* Deferred.await(charged), "charged")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(transport.reported("run-1"), ["StepDone charge", "Complete"])
    })
  )
})
