import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { assert, describe, it } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { ConnectionError, IronflowError, ValidationError } from "../../src/Errors.ts"
import { createFunction } from "../../src/Function.ts"
import type { EngineHandle } from "../../src/Promise/EngineConnection.ts"
import { createWorker, type WorkerConfig } from "../../src/Promise/Worker.ts"
import { ScriptedTransport } from "../Worker/ScriptedTransport.ts"

const scriptedEngine = () => {
  const transport = new ScriptedTransport()
  const closers = new Set<() => Promise<void>>()
  const engine: EngineHandle = {
    connection: {
      environment: "staging",
      // a worker does not use a client, so none is scripted
      client: () => Layer.effectContext(Effect.die("not scripted")),
      wire: () => {
        throw new Error("not scripted")
      },
      transport: transport.layer,
      onClose: (_who, close) => {
        closers.add(close)
        return () => void closers.delete(close)
      }
    }
  }
  const close = async () => {
    for (const close of closers) await close()
  }
  return { transport, engine, closers, close }
}

const quick = createFunction({ id: "quick", triggers: [] }, async ({ step }) =>
  step.run("charge", async () => 1)
)

const longFunction = () => {
  const started = createDeferred<AbortSignal>()
  const done = createDeferred()
  const fn = createFunction({ id: "long", triggers: [] }, async ({ step }) => {
    await step.run("work", ({ signal }) => {
      started.resolve(signal)
      return done.promise
    })
  })
  return { fn, started: started.promise, finish: () => done.resolve() }
}

const rejection = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

describe("createWorker", () => {
  it("start() resolves when the worker has ended, and ready() when it is registered", async () => {
    const { engine, transport, closers } = scriptedEngine()
    const worker = createWorker({ engine, functions: [quick], logger: false })
    assert.strictEqual(transport.room, 0)

    const working = worker.start()
    await worker.ready()
    transport.dispatch("run-1", "quick")
    await transport.until(() => transport.reported("run-1").includes("Complete"))
    await worker.drain()
    await working

    assert.strictEqual(transport.registration?.environment, "staging")
    assert.isTrue(transport.closed)
    assert.strictEqual(closers.size, 0)
  })

  it("drain() waits for the jobs in flight", async () => {
    const { engine, transport } = scriptedEngine()
    const { fn, started, finish } = longFunction()
    const worker = createWorker({ engine, functions: [fn], logger: false })
    const working = worker.start()
    await worker.ready()
    transport.dispatch("run-1", "long")
    await started

    const draining = worker.drain()
    finish()
    await draining
    await working

    assert.deepStrictEqual(transport.reported("run-1"), ["StepDone work", "Complete"])
  })

  it("drain() ends after drainTimeout, and gives back the jobs that have not ended", async () => {
    const { engine, transport } = scriptedEngine()
    const { fn, started } = longFunction()
    const worker = createWorker({ engine, functions: [fn], logger: false, drainTimeout: "20ms" })
    const working = worker.start()
    await worker.ready()
    transport.dispatch("run-1", "long")
    const signal = await started

    await worker.drain()
    await working

    assert.strictEqual(signal.reason.code, "WORKER_STOPPED")
    assert.deepStrictEqual(transport.reported("run-1"), ["Release"])
  })

  it("stop() aborts the jobs in flight and gives their runs back", async () => {
    const { engine, transport } = scriptedEngine()
    const { fn, started } = longFunction()
    const worker = createWorker({ engine, functions: [fn], logger: false })
    const working = worker.start()
    await worker.ready()
    transport.dispatch("run-1", "long")
    const signal = await started

    await worker.stop()
    await working

    assert.strictEqual(signal.reason.code, "WORKER_STOPPED")
    assert.deepStrictEqual(transport.reported("run-1"), ["Release"])
  })

  it("a worker drains when its engine closes", async () => {
    const { engine, transport, close } = scriptedEngine()
    const { fn, started, finish } = longFunction()
    const worker = createWorker({ engine, functions: [fn], logger: false })
    const working = worker.start()
    await worker.ready()
    transport.dispatch("run-1", "long")
    await started

    const closing = close()
    finish()
    await closing
    await working

    assert.deepStrictEqual(transport.reported("run-1"), ["StepDone work", "Complete"])
  })

  it("a worker starts only once, and not again after a stop", async () => {
    const { engine } = scriptedEngine()
    const worker = createWorker({ engine, functions: [quick], logger: false })
    const working = worker.start()

    const twice = await rejection(worker.start())
    await worker.stop()
    await working
    const again = await rejection(worker.start())

    for (const error of [twice, again]) {
      assert.instanceOf(error, IronflowError)
      assert.strictEqual(error.code, "WORKER_ALREADY_RUNNING")
      assert.isFalse(error.retryable)
    }
  })

  it("drain() and stop() do nothing after the end, and drain() does nothing before the start", async () => {
    const { engine, transport } = scriptedEngine()
    const worker = createWorker({ engine, functions: [quick], logger: false })

    await worker.drain()
    const working = worker.start()
    await worker.ready()
    await worker.stop()
    await working
    await worker.stop()
    await worker.drain()

    assert.isTrue(transport.closed)
  })

  it("a worker that is stopped before its start can never be started, and ready() rejects", async () => {
    const { engine, transport } = scriptedEngine()
    const worker = createWorker({ engine, functions: [quick], logger: false })

    await worker.stop()

    assert.strictEqual((await rejection(worker.start())).code, "WORKER_ALREADY_RUNNING")
    assert.strictEqual((await rejection(worker.ready())).code, "WORKER_STOPPED")
    assert.isUndefined(transport.registration)
  })

  it.each([
    ["FUNCTION_REGISTRATION_FAILED", new ValidationError("bad trigger")],
    ["REGISTRATION_FAILED", new ConnectionError("no answer")]
  ])(
    "start() and ready() reject with code %s, and with the reason of the engine as the cause",
    async (code, reason) => {
      const { engine, transport } = scriptedEngine()
      transport.refusal = reason
      const worker = createWorker({ engine, functions: [quick], logger: false })

      const error = await rejection(worker.start())

      assert.strictEqual(error.code, code)
      assert.strictEqual(error.cause, reason)
      assert.include(error.message, reason.message)
      assert.isFalse(error.retryable)
      assert.strictEqual(await rejection(worker.ready()), error)
    }
  )

  it.each([
    [
      "an invalid engine",
      { functions: [quick], engine: {} },
      /createWorker\(\) needs an engine: pass `engine`/
    ],
    [
      "two functions with the same id",
      { ...scriptedEngine(), functions: [quick, quick] },
      /two functions have the id "quick"/
    ]
  ])("createWorker with %s throws at once", (_, config, message) => {
    // callers in JavaScript can do this
    assert.throws(() => createWorker(config as unknown as WorkerConfig), ValidationError, message)
  })
})
