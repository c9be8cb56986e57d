/** Workers that come to several engines on one database: whose they are, and that they keep their turns when they move. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createDeferred } from "../../../src/Deferred.ts"
import { ValidationError } from "../../../src/Errors.ts"
import { createFunction, createWorker, type RunnableFunction } from "../../../src/index.ts"
import { createStreamingWorker } from "../../../src/worker-streaming.ts"
import { makeSwitch, type Node, toldOrNot, until, withTwo } from "./Cluster.ts"

const LEASE_MS = 5000

/** Ways to connect a worker. */
const transports = [
  [
    "polls",
    (serverUrl: string, fn: RunnableFunction) => createWorker({ serverUrl, functions: [fn], logger: false })
  ],
  [
    "has a stream",
    (serverUrl: string, fn: RunnableFunction) =>
      createWorker({ serverUrl, functions: [fn], logger: false, transport: "streaming" })
  ],
  [
    "speaks ConnectRPC",
    (serverUrl: string, fn: RunnableFunction) =>
      createStreamingWorker({ serverUrl, functions: [fn], logger: false })
  ]
] as const

const startRun = (node: Node, event: string) =>
  Effect.map(node.client.emit(event, {}), ({ runIds: [runId = ""] }) => runId)

const workersOf = (node: Node) =>
  Effect.map(node.client.listWorkers(), (workers) => workers.map(({ id }) => id))

/** A function whose only step begins, and ends when it may. */
const makeStep = () => {
  const begun = createDeferred<void>()
  const mayEnd = createDeferred<string>()
  let begins = 0
  const fn = createFunction({ id: "charge", triggers: [{ event: "order.placed" }] }, async ({ step }) =>
    step.run("charge", () => {
      begins++
      begun.resolve()
      return mayEnd.promise
    })
  )
  return { fn, begun: begun.promise, mayEnd: () => mayEnd.resolve("charged"), begins: () => begins }
}

/** Starts a worker by way of a switch to the first engine; ends it with the scope. */
const startWorker = (
  make: (typeof transports)[number][1],
  url: string,
  fn: RunnableFunction
): Effect.Effect<unknown, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const worker = make(url, fn)
      await worker.start()
      return worker
    }),
    (worker) => Effect.promise(() => worker.stop())
  )

describe("a worker", () => {
  for (const [how, make] of transports) {
    toldOrNot(`that ${how} moves to another engine in the middle of a step and keeps its turn`, (a, b) =>
      Effect.gen(function* () {
        const [portA, portB] = [yield* a.listen(LEASE_MS), yield* b.listen(LEASE_MS)]
        const way = yield* makeSwitch(portA)
        const { begins, begun, fn, mayEnd } = makeStep()
        yield* startWorker(make, way.url, fn)
        const runId = yield* startRun(a, "order.placed")
        yield* Effect.promise(() => begun)

        way.to(portB)
        yield* until(
          Effect.sync(() => b.engine.workers.load().workers),
          (count) => count === 1
        )
        // the first engine has waited for it, and given it up
        yield* until(
          Effect.sync(() => a.engine.workers.load().workers),
          (count) => count === 0
        )
        mayEnd()

        assert.strictEqual((yield* a.client.waitForRun(runId)).output, "charged")
        assert.strictEqual(begins(), 1)
      })
    )
  }

  toldOrNot("is shown by every engine, and counts for those who ask why a run waits", (a, b) =>
    Effect.gen(function* () {
      const begun = createDeferred<void>()
      const one = createFunction(
        { id: "one", triggers: [{ event: "order.placed" }], concurrency: { limit: 1 } },
        ({ step }) => step.run("wait", () => (begun.resolve(), new Promise<void>(() => undefined)))
      )
      yield* a.work([one], { workerId: "till" })
      yield* until(workersOf(b), (ids) => ids.includes("till"))
      yield* startRun(a, "order.placed")
      yield* Effect.promise(() => begun.promise)
      const waits = yield* startRun(b, "order.placed")
      yield* until(b.client.explain(waits), ({ code }) => code !== "NO_WORKER")
      yield* until(b.client.listWorkers(), (workers) => workers[0]?.activeJobs === 1)
    })
  )

  withTwo("may not have the id of one that is connected to another engine", (a, b) =>
    Effect.gen(function* () {
      const { fn } = makeStep()
      const registration = {
        workerId: "till",
        environment: "default",
        hostname: "here",
        functions: [],
        maxConcurrentJobs: 1,
        labels: {},
        version: { sdk: "test", runtime: "test" }
      }
      yield* a.work([fn], { workerId: "till" })
      const error = yield* Effect.flip(
        b.engine.workers.connectRemote(
          registration,
          { onJob: () => undefined, onNotice: () => undefined },
          { leaseMs: LEASE_MS, transport: "polling" }
        )
      )
      assert.instanceOf(error, ValidationError)
      assert.include(error.message, 'A worker with id "till" is connected already, to another engine')
      assert.strictEqual(b.engine.workers.load().workers, 0)
    })
  )
})
