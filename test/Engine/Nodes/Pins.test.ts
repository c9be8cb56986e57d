/** Pinned functions on several engines: new runs begin with the latest version, whichever engine has a worker of it. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { RemoteWorkerOptions } from "../../../src/Engine/Workers/RemoteSession.ts"
import { createFunction } from "../../../src/index.ts"
import { toRegistration } from "../../../src/Protocol/Registration.ts"
import type { Job } from "../../../src/Protocol/Worker.ts"
import { type Node, openNode, until, withAndWithoutNotifications, withTwo } from "./Cluster.ts"

const packs = (version: string) =>
  createFunction(
    { id: "pack", version, versioning: "pin", triggers: [{ event: "order.placed" }] },
    async ({ step }) => step.run("pack", () => version)
  )

/** Starts a worker of a version; it stops when its scope is closed. */
const start = (node: Node, version: string) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    yield* Scope.provide(node.work([packs(version)], { workerId: `worker-${version}` }), scope)
    return Scope.close(scope, Exit.void)
  })

/** Connects a worker of a version from outside, without room. */
const connect = (node: Node, version: string, options: Partial<RemoteWorkerOptions> = {}) =>
  Effect.gen(function* () {
    const jobs: Array<Job> = []
    const session = yield* node.engine.workers.connectRemote(
      {
        workerId: `worker-${version}`,
        environment: "default",
        hostname: "here",
        functions: [toRegistration(packs(version))],
        maxConcurrentJobs: 1,
        labels: {},
        version: { sdk: "test", runtime: "test" }
      },
      { onJob: (job) => void jobs.push(job), onNotice: () => undefined },
      { leaseMs: 30_000, transport: "polling", ...options }
    )
    return { jobs, session }
  })

const otherFunction = (id: string) =>
  createFunction({ id, triggers: [{ event: `${id}.came` }] }, async () => id)

const startRun = (node: Node) =>
  Effect.map(node.client.emit("order.placed", {}), ({ runIds: [runId = ""] }) => runId)

/** Waits until an engine knows which versions have live workers. */
const knows = (node: Node, ...versions: ReadonlyArray<string>) =>
  until(
    Effect.map(node.client.liveVersions("pack"), (all) =>
      all
        .filter(({ workerIds }) => workerIds.length > 0)
        .map(({ codeVersion }) => codeVersion)
        .sort()
        .join()
    ),
    (live) => live === versions.join()
  )

/** Starts runs through both engines. Returns the versions with which they began. */
const startedVersions = (a: Node, b: Node) =>
  Effect.gen(function* () {
    const runIds: Array<string> = []
    for (const node of [a, b, a, b, a, b])
      runIds.push(...(yield* node.client.emit("order.placed", {})).runIds)
    assert.lengthOf(runIds, 6)
    const versions = new Set<unknown>()
    for (const runId of runIds) versions.add((yield* a.client.waitForRun(runId)).output)
    return [...versions]
  })

describe("new runs of a pinned function", () => {
  withAndWithoutNotifications(
    "begin with the latest version, through whichever engine, as long as any engine has a worker of it",
    (a, b) =>
      Effect.gen(function* () {
        yield* start(a, "1")
        const stopTwo = yield* start(b, "2")
        yield* knows(a, "1", "2")
        assert.deepStrictEqual(yield* startedVersions(a, b), ["2"])
        yield* stopTwo
        yield* knows(a, "1")
        assert.deepStrictEqual(yield* startedVersions(a, b), ["1"])
      })
  )

  withAndWithoutNotifications("do not begin with an old version that restarts at another engine", (a, b) =>
    Effect.gen(function* () {
      const stopOne = yield* start(b, "1")
      yield* start(a, "2")
      yield* stopOne
      yield* start(b, "1")
      yield* knows(b, "1", "2")
      assert.deepStrictEqual(yield* startedVersions(a, b), ["2"])
    })
  )

  const leaves = (at: (a: Node, b: Node) => Node) => (a: Node, b: Node) =>
    Effect.gen(function* () {
      yield* start(a, "1")
      const { session } = yield* connect(at(a, b), "2")
      yield* knows(a, "1", "2")
      const runIds = [yield* startRun(a), yield* startRun(b)]
      // these runs are claimed later, so both engines have by then tried to claim the runs above
      yield* a.work([otherFunction("a")])
      yield* b.work([otherFunction("b")])
      for (const [node, event] of [
        [a, "a.came"],
        [b, "b.came"]
      ] as const) {
        const { runIds: others } = yield* node.client.emit(event, {})
        yield* node.client.waitForRun(others[0] ?? "")
      }
      for (const runId of runIds) assert.strictEqual((yield* a.client.getRun(runId)).status, "pending")

      yield* session.close(false)
      for (const runId of runIds) assert.strictEqual((yield* a.client.waitForRun(runId)).output, "1")
    })
  withAndWithoutNotifications(
    "wait for a worker of the latest version without room until it leaves",
    leaves((_, b) => b)
  )
  withTwo(
    "wait for a worker of the latest version without room at the engine that also has a worker of an old one",
    leaves((a) => a)
  )

  withTwo("do not wait for a worker that has moved to this engine and left it", (a, b) =>
    Effect.gen(function* () {
      yield* start(a, "1")
      yield* connect(b, "2", { instance: "one" })
      yield* knows(a, "1", "2")
      const { session } = yield* connect(a, "2", { instance: "one" })
      yield* session.close(false)
      const runId = yield* startRun(a)
      assert.strictEqual((yield* a.client.waitForRun(runId)).output, "1")
    })
  )

  withAndWithoutNotifications(
    "go to a worker of the latest version at another engine once it has room",
    (a, b) =>
      Effect.gen(function* () {
        yield* start(a, "1")
        const { jobs, session } = yield* connect(b, "2")
        yield* knows(a, "1", "2")
        const runId = yield* startRun(a)
        session.makeRoom(1)
        yield* until(
          Effect.sync(() => jobs.map((job) => job.runId)),
          ([taken]) => taken === runId
        )
      })
  )

  withAndWithoutNotifications("do not wait for a worker that may no longer run the function", (a, b) =>
    Effect.gen(function* () {
      yield* start(a, "1")
      let isLimited = false
      const { session } = yield* connect(b, "2", {
        limits: { isLimited: () => isLimited, mayRun: () => false }
      })
      session.makeRoom(1)
      yield* knows(a, "1", "2")
      isLimited = true
      const runId = yield* startRun(a)
      assert.strictEqual((yield* a.client.waitForRun(runId)).output, "1")
    })
  )

  withTwo("do not wait for the workers of an engine that has ended", (a, _, options) =>
    Effect.gen(function* () {
      yield* start(a, "1")
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* connect(yield* openNode(options), "2")
          yield* knows(a, "1", "2")
        })
      )
      const runId = yield* startRun(a)
      assert.strictEqual((yield* a.client.waitForRun(runId)).output, "1")
    })
  )
})
