/** Workers of several engines on one database: the engine that each belongs to, and their turns when they move. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createDeferred } from "../../../src/Deferred.ts"
import { ValidationError } from "../../../src/Errors.ts"
import { createFunction, createWorker, type RunnableFunction } from "../../../src/index.ts"
import { createStreamingWorker } from "../../../src/worker-streaming.ts"
import { toRegistration } from "../../../src/Protocol/Registration.ts"
import { done } from "../Store/suite/Shop.ts"
import { makeSwitch, type Node, withAndWithoutNotifications, until, withTwo } from "./Cluster.ts"

const LEASE_MS = 5_000

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

const registration = {
  workerId: "till",
  environment: "default",
  hostname: "here",
  functions: [],
  maxConcurrentJobs: 1,
  labels: {},
  version: { sdk: "test", runtime: "test" }
}

/** Connects a polling worker, always as the same process. `jobs` gets the ids of its jobs. */
const connectPolling = (node: Node, fn: RunnableFunction, jobs: Array<string>) =>
  node.engine.workers.connectRemote(
    { ...registration, functions: [toRegistration(fn)] },
    { onJob: ({ jobId }) => void jobs.push(jobId), onNotice: () => undefined },
    { leaseMs: LEASE_MS, transport: "polling", instance: "one" }
  )

const getsOne = (jobs: ReadonlyArray<string>) =>
  until(
    Effect.sync(() => jobs.length),
    (count) => count === 1
  )

/** A function whose only step begins, and ends when the test lets it. */
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

/** Starts a worker that connects to the first engine, through a switch, and ends it with the scope. */
const startWorker = (
  make: (typeof transports)[number][1],
  url: string,
  fn: RunnableFunction
): Effect.Effect<unknown, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const worker = make(url, fn)
      const working = worker.start()
      await worker.ready()
      return { worker, working }
    }),
    ({ worker, working }) =>
      Effect.promise(async () => {
        await worker.stop()
        await working
      })
  )

describe("a worker", () => {
  for (const [how, make] of transports) {
    withAndWithoutNotifications(
      `that ${how} moves to another engine in the middle of a step and keeps its turn`,
      (a, b) =>
        Effect.gen(function* () {
          const [portA, portB] = [yield* a.listen(LEASE_MS), yield* b.listen(LEASE_MS)]
          const proxy = yield* makeSwitch(portA)
          const { begins, begun, fn, mayEnd } = makeStep()
          yield* startWorker(make, proxy.url, fn)
          const runId = yield* startRun(a, "order.placed")
          yield* Effect.promise(() => begun)

          proxy.to(portB)
          yield* until(
            Effect.sync(() => b.engine.workers.load().workers),
            (count) => count === 1
          )
          // the first engine has waited for the worker, and has given it up
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

  withAndWithoutNotifications(
    "is shown by every engine, and every engine considers it when it explains why a run waits",
    (a, b) =>
      Effect.gen(function* () {
        const begun = createDeferred<void>()
        const mayEnd = createDeferred<void>()
        const one = createFunction(
          { id: "one", triggers: [{ event: "order.placed" }], concurrency: { limit: 1 } },
          ({ step }) => step.run("wait", () => (begun.resolve(), mayEnd.promise))
        )
        yield* a.work([one], { workerId: "till" })
        yield* until(workersOf(b), (ids) => ids.includes("till"))
        yield* startRun(a, "order.placed")
        yield* Effect.promise(() => begun.promise)
        const waits = yield* startRun(b, "order.placed")
        yield* until(b.client.explain(waits), ({ code }) => code !== "NO_WORKER")
        yield* until(b.client.listWorkers(), (workers) => workers[0]?.activeJobs === 1)
        mayEnd.resolve()
      })
  )

  withTwo("that has moved keeps its turns when its earlier engine gives it up", (a, b) =>
    Effect.gen(function* () {
      const { fn } = makeStep()
      const jobs: Array<string> = []
      const first = yield* connectPolling(a, fn, jobs)
      first.makeRoom(1)
      const runId = yield* startRun(a, "order.placed")
      yield* getsOne(jobs)
      const second = yield* connectPolling(b, fn, [])
      assert.deepStrictEqual((yield* second.adopt(jobs)).lost, [])

      // the earlier engine gives the worker up, as an engine does when a worker has been away for too long
      yield* first.close(true)

      const [ack] = yield* second.report([
        { jobId: jobs[0] ?? "", runId, ops: [{ _tag: "Complete", output: '"charged"' }] }
      ])
      assert.strictEqual(ack?._tag, "Accepted")
      assert.strictEqual((yield* a.client.waitForRun(runId)).output, "charged")
    })
  )

  withTwo(
    "that has moved adds no step to a run that its earlier engine has cancelled, although that engine once leased the run to it",
    (a, b) =>
      Effect.gen(function* () {
        const { fn } = makeStep()
        const [atA, atB]: [Array<string>, Array<string>] = [[], []]
        const first = yield* connectPolling(a, fn, atA)
        first.makeRoom(1)
        const runId = yield* startRun(a, "order.placed")
        yield* getsOne(atA)
        // the worker has dropped its turn when it moves, and gets the run again
        const second = yield* connectPolling(b, fn, atB)
        second.makeRoom(1)
        yield* second.adopt([], "")
        yield* getsOne(atB)

        yield* a.client.cancelRun(runId)

        const [ack] = yield* second.report([{ jobId: atB[0] ?? "", runId, ops: [done("run/charge")] }])
        assert.strictEqual(ack?._tag, "Refused")
        assert.deepStrictEqual(yield* b.client.getRunSteps(runId), [])
      })
  )

  withTwo("gets the same answer when it repeats its reports to another engine", (a, b) =>
    Effect.gen(function* () {
      const register = (node: Node) =>
        node.engine.workers.connectRemote(
          registration,
          { onJob: () => undefined, onNotice: () => undefined },
          { leaseMs: LEASE_MS, transport: "polling", instance: "one", number: 1 }
        )
      const first = yield* register(a)
      const acks = yield* first.report([{ jobId: "job_1", runId: "run_1", ops: [{ _tag: "Release" }] }], 7)

      const { batchElsewhere } = yield* register(b)

      assert.deepStrictEqual(batchElsewhere, { batch: 7, acks })
    })
  )

  withTwo("is told that a registration is late when it has registered at another engine since", (a, b) =>
    Effect.gen(function* () {
      const register = (node: Node, number: number) =>
        node.engine.workers.connectRemote(
          registration,
          { onJob: () => undefined, onNotice: () => undefined },
          { leaseMs: LEASE_MS, transport: "polling", instance: "one", number }
        )
      yield* register(a, 4)

      const error = yield* Effect.flip(register(b, 3))

      assert.strictEqual(error.code, "STALE_REGISTRATION")
      assert.include(error.message, "with number 4, at another engine or port. Nothing needs to be done")
      assert.deepStrictEqual(yield* workersOf(a), ["till"])
    })
  )

  withTwo("may not use the id of a worker that is connected to another engine", (a, b) =>
    Effect.gen(function* () {
      const { fn } = makeStep()
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
