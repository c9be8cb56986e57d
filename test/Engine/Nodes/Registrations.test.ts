/** Several engines: the registration in force is that of a live worker, at whichever engine. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { AwayMs } from "../../../src/Engine/Workers/RestoredRegistrations.ts"
import { createFunction } from "../../../src/index.ts"
import { toRegistration } from "../../../src/Protocol/Registration.ts"
import { type Node, until, withAndWithoutNotifications } from "./Cluster.ts"

/** Connects a worker of a version from outside. Its program started at `startedAt`. */
const connect = (node: Node, workerId: string, version: string, startedAt: number) =>
  node.engine.workers.connectRemote(
    {
      workerId,
      environment: "default",
      hostname: "here",
      functions: [
        toRegistration(
          createFunction(
            { id: "ship", version, triggers: [{ event: `placed.${version}` }] },
            async () => version
          )
        )
      ],
      maxConcurrentJobs: 1,
      labels: {},
      version: { sdk: "test", runtime: "test" },
      startedAt
    },
    { onJob: () => undefined, onNotice: () => undefined },
    { leaseMs: 30_000, transport: "polling" }
  )

const latest = (node: Node) => Effect.map(node.client.listFunctions(), ([ship]) => ship?.codeVersion)

describe("the registration of a worker that has left", () => {
  withAndWithoutNotifications("gives way to that of a worker of another engine", (a, b) =>
    Effect.gen(function* () {
      const first = yield* connect(a, "old", "1", 1)
      yield* connect(b, "new", "2", 2)
      yield* first.close(true)
      const again = yield* connect(a, "old", "1", 3)
      yield* until(latest(b), (version) => version === "1")

      yield* again.close(false)

      assert.strictEqual(yield* latest(a), "2")
      yield* until(latest(b), (version) => version === "2")
      assert.lengthOf((yield* a.client.emit("placed.2", {})).runIds, 1)
      assert.lengthOf((yield* b.client.emit("placed.1", {})).runIds, 0)
    })
  )

  withAndWithoutNotifications(
    "gives way to an older one when it stays away",
    (a, b) =>
      Effect.gen(function* () {
        yield* connect(a, "old", "1", 1)
        const { close } = yield* connect(b, "new", "2", 2)
        yield* until(latest(a), (version) => version === "2")

        yield* close(true)

        yield* until(latest(a), (version) => version === "1")
        yield* until(latest(b), (version) => version === "1")
      }),
    Effect.provideService(AwayMs, 100)
  )

  withAndWithoutNotifications(
    "gives way to that of the worker that started last, of two at different engines",
    (a, b) =>
      Effect.gen(function* () {
        yield* connect(a, "first", "1", 1)
        yield* connect(b, "second", "2", 2)
        const { close } = yield* connect(a, "third", "3", 3)
        yield* until(latest(b), (version) => version === "3")

        yield* close(true)

        yield* until(latest(a), (version) => version !== "3")
        const history = yield* a.client.functionHistory("ship")
        assert.deepStrictEqual(
          history.map(({ codeVersion }) => codeVersion),
          ["2", "3", "2", "1"]
        )
      }),
    Effect.provideService(AwayMs, 100)
  )
})
