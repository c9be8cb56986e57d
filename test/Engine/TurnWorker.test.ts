/** The engine's side of a worker that speaks turns, over an engine that lives in the test. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { PassThrough } from "node:stream"
import type { RemoteSession } from "../../src/Engine/Dispatch.ts"
import { Deliveries } from "../../src/Engine/Http/Deliveries.ts"
import { TurnWorker } from "../../src/Engine/Http/TurnWorker.ts"
import { ConnectionError } from "../../src/Errors.ts"
import type { TurnAck } from "../../src/Protocol/Worker.ts"

const session = (report: RemoteSession["report"]): RemoteSession => ({
  credit: () => undefined,
  report,
  late: () => Effect.void,
  setReachable: () => undefined,
  take: () => Effect.succeed([]),
  extend: () => Effect.succeed([]),
  adopt: () => Effect.succeed([]),
  close: () => Effect.void,
  detach: () => undefined
})

const worker = (name: string, engine: RemoteSession, earlier?: TurnWorker): TurnWorker =>
  new TurnWorker(
    {
      workerId: "worker-1",
      environment: "default",
      instance: "worker-1-a",
      session: name,
      engine,
      deliveries: new Deliveries(),
      functionIds: new Set(["order"]),
      leaseMs: 15_000,
      renews: true,
      seals: false,
      process: undefined,
      now: () => 0,
      line: new PassThrough(),
      fork: Effect.runFork,
      onStale: () => undefined,
      onDead: () => Effect.void
    },
    earlier
  )

describe("a worker that registers again while its reports are being stored", () => {
  const reports = [{ jobId: "job_1", runId: "run_1", ops: [] }]
  const accepted: ReadonlyArray<TurnAck> = [{ _tag: "Accepted", outcomes: [] }]

  /** A session whose batch is being stored, and one of the same instance that has taken its place. */
  const replaced = (engine: RemoteSession["report"]) =>
    Effect.gen(function* () {
      const stored = yield* Deferred.make<ReadonlyArray<TurnAck>, ConnectionError>()
      const before = worker(
        "ses_1",
        session(() => Deferred.await(stored))
      )
      yield* Effect.forkChild(before.report({ session: "ses_1", batch: 1, reports }), {
        startImmediately: true
      })
      before.replace()
      return { stored, after: worker("ses_2", session(engine), before) }
    })

  it.effect("sends a batch again that could not be stored, and has it stored", () =>
    Effect.gen(function* () {
      const { after, stored } = yield* replaced(() => Effect.succeed(accepted))
      yield* Deferred.fail(stored, new ConnectionError("disk full"))
      yield* Effect.yieldNow

      assert.deepStrictEqual(yield* after.report({ session: "ses_2", batch: 1, reports }), accepted)
    })
  )

  it.effect("is answered as before when it was stored", () =>
    Effect.gen(function* () {
      const { after, stored } = yield* replaced(() => Effect.die("stored twice"))
      const again = yield* Effect.forkChild(after.report({ session: "ses_2", batch: 1, reports }))
      yield* Deferred.succeed(stored, accepted)

      assert.deepStrictEqual(yield* Fiber.join(again), accepted)
    })
  )
})
