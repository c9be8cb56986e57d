/** Two versions of a function at the same time, over every transport; and the operations on functions and runs. */
import { createFunction, type IronflowClient, serve } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { assert, describe, it, vi } from "vitest"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"
import { listen, registerEndpoint, SIGNING_KEY } from "../Serve/Hosts.ts"
import { openInProcess, openRemote } from "./Places.ts"
import type { Place } from "./TransportSuite.ts"

const packs = (version: string) =>
  createFunction(
    { id: "pack", version, versioning: "pin", triggers: [{ event: "order.placed" }] },
    async ({ event, step }) => {
      const begun = await step.run("begin", () => version)
      await step.waitForEvent("paid", { event: "order.paid", match: "data.orderId", timeout: "1h" })
      return step.run("end", () => [begun, version, event.data.orderId])
    }
  )

const place = async (client: IronflowClient, orderId: string): Promise<string> => {
  const { runIds } = await client.emit("order.placed", { orderId })
  await reaches(client, runIds[0]!, "WAITING_FOR_EVENT")
  return runIds[0]!
}

const reaches = (client: IronflowClient, runId: string, code: string) =>
  vi.waitFor(
    async () => {
      const explanation = await client.explain(runId)
      assert.strictEqual(explanation.code, code, explanation.message)
      return explanation
    },
    { timeout: 10_000 }
  )

const startWorker = async (from: Place, version: string) => {
  const worker = from.createWorker({ functions: [packs(version)], workerId: `worker-${version}` })
  const stopped = worker.start()
  await worker.ready()
  return async () => {
    await worker.stop()
    await stopped
  }
}

const places = [
  ["in the engine's process", openInProcess],
  ["over polling", () => openRemote(createWorker)],
  ["over effect/rpc", () => openRemote(createWorker, { transport: "streaming" })],
  ["over ConnectRPC", () => openRemote(createStreamingWorker)]
] as const

describe.each(places)("workers of two versions %s", (_, open) => {
  it("each version continues its own runs, and a run without a worker can be moved", async () => {
    await using shop = await open()
    const { client } = shop
    const stopOne = await startWorker(shop, "1")
    const first = await place(client, "o-1")
    const left = await place(client, "o-2")
    const stopTwo = await startWorker(shop, "2")
    const second = await place(client, "o-3")

    for (const orderId of ["o-1", "o-3"]) await client.emit("order.paid", { orderId })
    assert.deepStrictEqual((await client.waitForRun(first, { timeout: 10_000 })).output, ["1", "1", "o-1"])
    assert.deepStrictEqual((await client.waitForRun(second, { timeout: 10_000 })).output, ["2", "2", "o-3"])
    assert.deepStrictEqual(await client.liveVersions("pack"), [
      { functionId: "pack", codeVersion: "2", isLatest: true, liveRuns: 0, workerIds: ["worker-2"] },
      {
        functionId: "pack",
        codeVersion: "1",
        isLatest: false,
        liveRuns: 1,
        oldestRunId: left,
        workerIds: ["worker-1"]
      }
    ])

    await stopOne()
    await client.emit("order.paid", { orderId: "o-2" })
    const { details, message } = await reaches(client, left, "NO_WORKER_OF_VERSION")
    assert.include(message, 'is pinned to version "1" of function "pack"')
    assert.deepInclude(details, { codeVersion: "1", workers: [{ id: "worker-2", codeVersion: "2" }] })

    assert.strictEqual((await client.moveRun(left)).codeVersion, "2")
    assert.deepStrictEqual((await client.waitForRun(left, { timeout: 10_000 })).output, ["1", "2", "o-2"])
    await stopTwo()
  })

  it("a restarted old version does not become the latest while a new version is connected", async () => {
    await using shop = await open()
    const { client } = shop
    const latest = async () => (await client.listFunctions())[0]?.codeVersion
    const stopOne = await startWorker(shop, "1")
    const stopTwo = await startWorker(shop, "2")
    await stopOne()
    const stopAgain = await startWorker(shop, "1")
    assert.strictEqual(await latest(), "2")
    await stopTwo()
    const runId = await place(client, "o-1")
    assert.strictEqual((await client.getRun(runId)).codeVersion, "1")
    await stopAgain()
    const stopThird = await startWorker(shop, "1")
    assert.strictEqual(await latest(), "1")
    await stopThird()
  })

  it("an old version that restarts and then leaves gives the triggers and schedules back to the new version", async () => {
    await using shop = await open()
    const { client } = shop
    const start = async (version: string, event: string, cron: string) => {
      const ships = createFunction(
        { id: "ship", version, triggers: [{ event }, { cron }] },
        async () => version
      )
      const worker = shop.createWorker({ functions: [ships], workerId: `worker-${version}` })
      const stopped = worker.start()
      await worker.ready()
      return async () => {
        await worker.stop()
        await stopped
      }
    }
    const registered = async () => {
      const [fn] = await client.listFunctions()
      return [fn?.codeVersion, ...(fn?.triggers ?? []).map(({ cron, event }) => event ?? cron)]
    }
    const stopOld = await start("1", "order.placed", "0 7 * * *")
    const stopNew = await start("2", "order.paid", "0 9 * * *")
    await stopOld()
    const stopOldAgain = await start("1", "order.placed", "0 7 * * *")
    assert.deepStrictEqual(await registered(), ["1", "order.placed", "0 7 * * *"])

    await stopOldAgain()

    await vi.waitFor(async () => assert.deepStrictEqual(await registered(), ["2", "order.paid", "0 9 * * *"]))
    assert.lengthOf((await client.emit("order.placed", {})).runIds, 0)
    const { runIds } = await client.emit("order.paid", {})
    assert.strictEqual((await client.waitForRun(runIds[0]!, { timeout: 10_000 })).output, "2")
    const versions = (await client.functionHistory("ship")).map(({ codeVersion }) => codeVersion)
    assert.deepStrictEqual(versions, ["2", "1", "2", "1"])
    // with the last worker gone, nothing changes
    await stopNew()
    assert.deepStrictEqual(await registered(), ["2", "order.paid", "0 9 * * *"])
  })

  it("a paused function starts its runs when it is resumed, and a run is started by hand and forked", async () => {
    await using shop = await open()
    const { client } = shop
    const stop = await startWorker(shop, "1")
    const paused = await client.pauseFunction("pack", { reason: "the bank is down", by: "ada" })
    assert.deepInclude(paused.paused, { by: "ada", reason: "the bank is down" })
    const run = await client.runFunction("pack", { orderId: "o-1" })
    assert.strictEqual(run.status, "pending")
    const { message } = await reaches(client, run.id, "FUNCTION_PAUSED")
    assert.match(message, /^Function "pack" has been paused since .*, by ada: the bank is down\. /)

    await client.resumeFunction("pack")
    await reaches(client, run.id, "WAITING_FOR_EVENT")
    await client.emit("order.paid", { orderId: "o-1" })
    await client.waitForRun(run.id, { timeout: 10_000 })

    const fork = await client.forkRun(run.id, { from: "end", steps: { begin: "by hand" } })
    assert.strictEqual(fork.forkedFrom, run.id)
    const ended = await client.waitForRun(fork.id, { timeout: 10_000 })
    assert.deepStrictEqual(ended.output, ["by hand", "1", "o-1"])
    const steps = await client.getRunSteps(fork.id)
    assert.deepStrictEqual(
      steps.map(({ name, status }) => `${name} ${status}`),
      ["begin completed", "paid completed", "end completed"]
    )
    const [registered] = await client.functionHistory("pack")
    assert.deepInclude(registered, { version: 1, codeVersion: "1" })
    await stop()
  })
})

describe("a push endpoint", () => {
  it("with a new version of its code leaves runs of the old version to be moved", async () => {
    await using engine = await startEngine({
      filename: ":memory:",
      logger: false,
      listen: { port: 0 },
      push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY }
    })
    const { client } = engine
    const handlerOf = (version: string) =>
      serve({ functions: [packs(version)], signingKey: SIGNING_KEY, logger: false })
    let handler = handlerOf("1")
    const server = await listen((request, response) => handler(request, response))
    try {
      assert.isTrue((await registerEndpoint(engine, server.url)).ok)
      const runId = await place(client, "o-1")
      handler = handlerOf("2")
      assert.isTrue((await registerEndpoint(engine, server.url)).ok)
      await client.emit("order.paid", { orderId: "o-1" })
      await reaches(client, runId, "NO_WORKER_OF_VERSION")
      await client.moveRun(runId, { version: "2" })
      assert.deepStrictEqual((await client.waitForRun(runId, { timeout: 10_000 })).output, ["1", "2", "o-1"])
    } finally {
      await server.close()
    }
  })
})
