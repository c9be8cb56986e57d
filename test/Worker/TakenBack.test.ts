/** Runs that are taken from a worker, connected or not: two workers never execute a run at the same time. */
import { assert, describe, it, type TestContext, vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { createFunction } from "../../src/Function.ts"
import type { RunnableFunction, ServerWorkerConfig, Worker } from "../../src/Promise/Worker.ts"
import type { IronflowClient } from "../../src/Promise/Client.ts"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"
import { FaultyNetwork } from "./FaultyNetwork.ts"
import { openRemote } from "./Places.ts"

const transports = [
  ["polling", (config: ServerWorkerConfig) => createWorker(config)],
  ["effect/rpc", (config: ServerWorkerConfig) => createWorker({ ...config, transport: "streaming" })],
  ["ConnectRPC", createStreamingWorker]
] as const

/** The ways to take a run from a worker while it executes its second step. */
const ways: ReadonlyArray<readonly [string, (client: IronflowClient, runId: string) => Promise<unknown>]> = [
  [
    "cancelled and retried",
    async (client, runId) => {
      await client.cancelRun(runId, "out of stock")
      await client.retryRun(runId)
    }
  ],
  ["patched", async (client, runId) => client.patchStep(`${runId}:reserve:0`, "mended")],
  [
    "resumed from a step",
    async (client, runId) => {
      await client.pauseRun(runId)
      await client.resumeRun(runId, "reserve")
    }
  ]
]

/** The shortest lease term that an engine may have. Its workers abort their turns after 2.4 s. */
const TERM_MS = 3000

/** Registers a cleanup of one test; cleanups run in reverse order. Tests mostly wait for leases, so several run at once. */
type Cleanup = TestContext["onTestFinished"]

/** A function that records when its long step runs. The step ends only by its signal. */
const shipping = () => {
  const begun: Array<number> = []
  const ended: Array<number> = []
  const isAtWork = createDeferred<void>()
  const fn = createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
    await step.run("reserve", () => "reserved")
    await step.run("ship", ({ signal }) => {
      begun.push(performance.now())
      isAtWork.resolve()
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          ended.push(performance.now())
          reject(signal.reason as Error)
        })
      )
    })
  })
  return { fn, begun, ended, isAtWork: isAtWork.promise }
}

describe.concurrent.each(transports)("a run that is taken from a worker over %s", (_, create) => {
  const start = async (
    cleanup: Cleanup,
    serverUrl: string,
    functions: ReadonlyArray<RunnableFunction>,
    more: Partial<ServerWorkerConfig> = {}
  ): Promise<Worker> => {
    const worker = create({ serverUrl, functions, logger: false, reconnectDelay: 50, ...more })
    const stopped = worker.start()
    await worker.ready()
    cleanup(async () => {
      await worker.stop()
      await stopped
    })
    return worker
  }

  /** A run in its long step, at a worker behind a network. Another worker has the function too. */
  const begin = async (cleanup: Cleanup, leaseTerm: number) => {
    const place = await openRemote(create, {}, { leaseTerm })
    cleanup(async () => place[Symbol.asyncDispose]())
    const network = await FaultyNetwork.before(place.url)
    cleanup(async () => network[Symbol.asyncDispose]())
    const work = shipping()
    await start(cleanup, network.url, [work.fn])
    const [runId] = (await place.client.emit("order.placed", {})).runIds
    await work.isAtWork
    await start(cleanup, place.url, [work.fn])
    // without `heal`, a worker that is cut off would wait for its engine before it stops
    cleanup(() => Promise.resolve(network.heal()))
    return { ...work, place, network, runId: runId!, client: place.client }
  }

  describe.each(ways)("and is %s", (_, takeBack) => {
    it("moves to another worker as soon as its connected worker has stopped it", async ({
      onTestFinished: cleanup
    }) => {
      const { begun, client, ended, runId } = await begin(cleanup, 60_000)

      await takeBack(client, runId)
      await vi.waitFor(() => assert.isAtLeast(begun.length, 2), { interval: 2, timeout: 20_000 })

      // the lease of 60 s has not expired: `waitFor` ends after 20 s
      assert.isAtLeast(begun[1]!, ended[0]!)
    })

    it("waits until its disconnected worker has stopped it or the lease expires, and explain reports this", async ({
      onTestFinished: cleanup
    }) => {
      const { begun, client, ended, network, runId } = await begin(cleanup, TERM_MS)

      network.impersonate(() => undefined)
      await takeBack(client, runId)
      const { code, details, message } = await client.explain(runId)
      await vi.waitFor(() => assert.isAtLeast(begun.length, 2), { interval: 2, timeout: 20_000 })

      assert.strictEqual(code, "WORKER_STOPPING")
      assert.match(
        message,
        /^Worker .+ was told to drop the run, and may still be executing it\. Other workers can get the run when/
      )
      assert.isBelow(Date.parse(String(details.handOutFrom)) - Date.now(), TERM_MS)
      assert.isAtLeast(begun[1]!, ended[0]!)
    })
  })

  it("moves to another worker with the same id, which connects once the first one counts as dead", async ({
    onTestFinished: cleanup
  }) => {
    const place = await openRemote(create, {}, { leaseTerm: TERM_MS })
    cleanup(async () => place[Symbol.asyncDispose]())
    const network = await FaultyNetwork.before(place.url)
    cleanup(async () => network[Symbol.asyncDispose]())
    const { begun, ended, fn, isAtWork } = shipping()
    await start(cleanup, network.url, [fn], { workerId: "north" })
    await place.client.emit("order.placed", {})
    await isAtWork

    network.impersonate(() => undefined)
    await start(cleanup, place.url, [fn], { workerId: "north" })
    await vi.waitFor(() => assert.isAtLeast(begun.length, 2), { interval: 2, timeout: 20_000 })

    assert.isAtLeast(begun[1]!, ended[0]!)
  })

  it(
    "waits for the same time when the engine restarts meanwhile",
    { timeout: 60_000 },
    async ({ onTestFinished: cleanup }) => {
      const { begun, client, ended, network, place, runId } = await begin(cleanup, TERM_MS)

      network.impersonate(() => undefined)
      await client.cancelRun(runId)
      await place.stop()
      await place.start()
      await client.retryRun(runId)
      await vi.waitFor(() => assert.isAtLeast(begun.length, 2), { interval: 2, timeout: 20_000 })

      assert.isAtLeast(begun[1]!, ended[0]!)
    }
  )

  it(
    "moves to another worker when its worker has reconnected and stopped it",
    { timeout: 60_000 },
    async ({ onTestFinished: cleanup }) => {
      const { begun, client, ended, network, runId } = await begin(cleanup, 60_000)

      network.impersonate(() => undefined)
      await client.cancelRun(runId)
      await client.retryRun(runId)
      assert.strictEqual((await client.explain(runId)).code, "WORKER_STOPPING")
      network.heal()
      await vi.waitFor(() => assert.isAtLeast(begun.length, 2), { interval: 2, timeout: 20_000 })

      assert.isAtLeast(begun[1]!, ended[0]!)
    }
  )
})
