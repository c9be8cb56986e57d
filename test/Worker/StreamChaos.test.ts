/** What a bad network does to streams: connections that are dead but seem open, that break, or that are slow. */
import * as v8 from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it, vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { createFunction } from "../../src/Function.ts"
import type { RunnableFunction, ServerWorkerConfig, Worker } from "../../src/Promise/Worker.ts"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"
import { either } from "../Long.ts"
import { FaultyNetwork } from "./FaultyNetwork.ts"
import { openRemote } from "./Places.ts"

const triggers = [{ event: "order.placed" }]

const collectGarbage = (): void => {
  v8.setFlagsFromString("--expose-gc")
  const gc: unknown = runInNewContext("gc")
  if (typeof gc === "function") gc()
}

/** Waits until the worker is connected, breaks its connection, and waits until it has a new one. */
const breakOff = async ({
  network,
  worker
}: {
  readonly network: FaultyNetwork
  readonly worker: Worker
}): Promise<void> => {
  await vi.waitFor(() => assert.strictEqual(worker.connection, "connected"), { interval: 1, timeout: 20_000 })
  const before = network.connections
  network.cut()
  await vi.waitFor(() => assert.isAbove(network.connections, before), { interval: 1, timeout: 20_000 })
}

const transports = [
  ["effect/rpc", (config: ServerWorkerConfig) => createWorker({ ...config, transport: "streaming" })],
  ["ConnectRPC", createStreamingWorker]
] as const

describe.each(transports)("a worker over %s on a bad network", (_, create) => {
  /** An engine, and a worker that connects to it through a network of the test. */
  const open = async (functions: ReadonlyArray<RunnableFunction>, more: Partial<ServerWorkerConfig> = {}) => {
    const place = await openRemote(create)
    const network = await FaultyNetwork.before(place.url)
    const worker: Worker = create({
      serverUrl: network.url,
      functions,
      logger: false,
      heartbeatInterval: 200,
      reconnectDelay: 20,
      ...more
    })
    const stopped = worker.start()
    await worker.ready()
    const dispose = async () => {
      await worker.stop()
      await stopped
      await network[Symbol.asyncDispose]()
      await place[Symbol.asyncDispose]()
    }
    return { client: place.client, network, place, worker, [Symbol.asyncDispose]: dispose }
  }

  it(
    "notices within a heartbeat that its connection is dead, and keeps its turn",
    { timeout: 30_000 },
    async () => {
      const started = createDeferred<AbortSignal>()
      const done = createDeferred<string>()
      let executions = 0
      const fn = createFunction({ id: "long", triggers }, async ({ step }) =>
        step.run("ship", async ({ signal }) => {
          executions++
          started.resolve(signal)
          return done.promise
        })
      )
      await using it = await open([fn])
      const [runId] = (await it.client.emit("order.placed", {})).runIds
      const signal = await started.promise

      it.network.freeze()
      // with the usual heartbeat it would notice this only after half of the lease term, 7.5 s
      await vi.waitFor(() => assert.strictEqual(it.worker.connection, "disconnected"), {
        interval: 5,
        timeout: 5000
      })
      await vi.waitFor(() => assert.strictEqual(it.worker.connection, "connected"), { timeout: 10_000 })
      done.resolve("shipped")

      assert.strictEqual((await it.client.waitForRun(runId!)).output, "shipped")
      assert.strictEqual(executions, 1)
      assert.isFalse(signal.aborted && (signal.reason as { code?: string }).code === "LEASE_LOST")
    }
  )

  it("loses no report when the connection breaks at any moment", { timeout: 60_000 }, async () => {
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
    await using it = await open([fn], { maxConcurrentJobs: 16 })

    let breaking = true
    const breaks = (async () => {
      while (breaking) await breakOff(it)
    })()
    const emitted = await Promise.all(
      Array.from({ length: 100 }, (_, orderId) => it.client.emit("order.placed", { orderId }))
    )
    await vi.waitFor(() => assert.isAbove(it.network.connections, 8), { timeout: 20_000 })
    breaking = false
    await breaks
    const runs = await Promise.all(
      emitted.map(({ runIds }) => it.client.waitForRun(runIds[0]!, { timeout: 30_000 }))
    )

    assert.deepStrictEqual(
      runs.map(({ output }) => output),
      runs.map((_, orderId) => orderId)
    )
    // a run may be given back when its connection breaks, but no recorded step runs again
    assert.strictEqual(executed.size, 300)
    assert.isEmpty([...executed].filter(([, times]) => times !== 1))
  })

  it(
    "that reads slowly delays no other worker, and receives everything in the end",
    { timeout: 60_000 },
    async () => {
      const ran = new Map<string, number>()
      const large = "x".repeat(256 * 1024)
      const named = (id: string) =>
        createFunction({ id, triggers: [{ event: `${id}.wanted` }] }, async ({ step }) => {
          await step.run("work", async () => void ran.set(id, (ran.get(id) ?? 0) + 1))
        })
      await using it = await open([named("slow")], { maxConcurrentJobs: 100, heartbeatInterval: 20_000 })
      const quick = it.place.createWorker({ functions: [named("quick")] })
      const ended = quick.start()
      await quick.ready()

      it.network.holdAnswers()
      const slow = await Promise.all(
        Array.from({ length: 64 }, () => it.client.emit("slow.wanted", { large }))
      )
      const other = await it.client.emit("quick.wanted", {})
      assert.strictEqual((await it.client.waitForRun(other.runIds[0]!)).status, "completed")
      it.network.releaseAnswers()
      const runs = await Promise.all(
        slow.map(({ runIds }) => it.client.waitForRun(runIds[0]!, { timeout: 30_000 }))
      )

      assert.isTrue(runs.every(({ status }) => status === "completed"))
      assert.strictEqual(ran.get("slow"), 64)
      await quick.stop()
      await ended
    }
  )

  it("reconnects hundreds of times without a leak", { timeout: 240_000 }, async () => {
    const fn = createFunction({ id: "quick", triggers }, async ({ step }) =>
      step.run("work", async () => "done")
    )
    await using it = await open([fn], { reconnectDelay: 1, heartbeatInterval: 30_000 })

    const breakOften = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i++) await breakOff(it)
      await vi.waitFor(() => assert.strictEqual(it.worker.connection, "connected"), { timeout: 20_000 })
    }
    const measure = async () => {
      // wait until pending output has been sent
      await vi.waitFor(() => assert.strictEqual(it.worker.connection, "connected"))
      collectGarbage()
      collectGarbage()
      return {
        handles: process.getActiveResourcesInfo().filter((name) => name !== "Timeout").length,
        // the heap has what is reachable; the memory of the process also has pages that the allocator keeps
        heap: process.memoryUsage().heapUsed
      }
    }

    const times = either(200, 700)
    await breakOften(either(100, 300))
    const before = await measure()
    await breakOften(times)

    await vi.waitFor(
      async () => {
        const after = await measure()
        assert.isAtMost(after.handles, before.handles + 5)
        assert.isAtMost(after.heap, before.heap + times * 6 * 1024)
      },
      { timeout: 10_000, interval: 500 }
    )
    const [runId] = (await it.client.emit("order.placed", {})).runIds
    assert.strictEqual((await it.client.waitForRun(runId!)).output, "done")
  })
})
