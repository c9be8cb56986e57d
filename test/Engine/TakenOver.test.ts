/** An engine whose database another engine has taken over after its lock file was deleted, and the runs of that engine. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createFunction, createWorker, type RunnableFunction } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import * as Effect from "effect/Effect"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"

/** Longer than these tests wait, so that a worker stops because it is told to, and not because its lease expires. */
const leaseMs = 120_000

/** How long something may take on a busy machine, in milliseconds. */
const PATIENCE_MS = 20_000

/** Ways to connect a worker. */
const transports = [
  [
    "polling",
    (serverUrl: string, fn: RunnableFunction) => createWorker({ serverUrl, functions: [fn], logger: false })
  ],
  [
    "rpc",
    (serverUrl: string, fn: RunnableFunction) =>
      createWorker({ serverUrl, functions: [fn], logger: false, transport: "streaming" })
  ],
  [
    "ConnectRPC",
    (serverUrl: string, fn: RunnableFunction) =>
      createStreamingWorker({ serverUrl, functions: [fn], logger: false })
  ]
] as const

let folder: string
let filename: string
let logged: Array<string>
const log = (message: string): void => void logged.push(message)
const logger = { debug: () => undefined, info: () => undefined, warn: log, error: log }
beforeEach(() => {
  logged = []
  folder = mkdtempSync(join(tmpdir(), "ironflow-taken-"))
  filename = join(folder, "ironflow.db")
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** A step that writes nothing until it ends, and what happens to it. */
const makeStep = () => {
  const begun = createDeferred<void>()
  const stopped = createDeferred<unknown>()
  let begins = 0
  const trigger = { id: "charge-order", triggers: [{ event: "order.placed" }] }
  const inPromises: RunnableFunction = createFunction(trigger, ({ step }) =>
    step.run("charge", ({ signal }) => {
      begins++
      begun.resolve()
      signal.addEventListener("abort", () => stopped.resolve(signal.reason))
      return stopped.promise
    })
  )
  const inEffect: RunnableFunction = IronflowFunction.make(trigger, () =>
    Step.run(
      "charge",
      Effect.onInterrupt(
        Effect.andThen(
          Effect.sync(() => {
            begins++
            begun.resolve()
          }),
          Effect.never
        ),
        () => Effect.sync(() => stopped.resolve("interrupted"))
      )
    )
  )
  return { begun: begun.promise, stopped: stopped.promise, inPromises, inEffect, begins: () => begins }
}

const codeOf = (reason: unknown): unknown =>
  reason instanceof Error && "code" in reason ? reason.code : reason

/** Fails unless the promise resolves long before the lease would expire. */
const soon = async (promise: Promise<unknown>): Promise<unknown> => {
  let result: { readonly value: unknown } | undefined
  void promise.then((value) => (result = { value }))
  await vi.waitFor(() => assert.isDefined(result), PATIENCE_MS)
  return result?.value
}

describe("an engine whose database was taken over", () => {
  it.each(["inPromises", "inEffect"] as const)(
    "aborts the runs in its process, even if it has nothing to write: %s",
    async (api) => {
      const one = makeStep()
      const first = await startEngine({ filename, logger, functions: [one[api]] })
      const { runIds } = await first.client.emit("order.placed", {})
      await one.begun
      rmSync(`${filename}.lock`)

      const other = createFunction(
        { id: "charge-order", triggers: [{ event: "order.placed" }] },
        ({ step }) => step.run("charge", () => "by the second")
      )
      await using second = await startEngine({ filename, logger: false, functions: [other] })
      const reason = await soon(one.stopped)
      const run = await second.client.waitForRun(runIds[0]!)

      assert.include(["LEASE_LOST", "interrupted"], codeOf(reason))
      assert.isTrue(logged.some((line) => line.includes("was taken over by another engine")))
      assert.isTrue(logged.some((line) => line.includes("1 turn of this engine is aborted: another engine")))
      assert.strictEqual(await first.client.health(), "down")
      assert.strictEqual(await second.client.health(), "ok")
      assert.deepInclude(run, { status: "completed", output: "by the second" })
      assert.strictEqual(one.begins(), 1)
      await first.close()
    }
  )

  it.each(transports)("tells its workers, which abort their runs: over %s", async (_, create) => {
    const { begun, inPromises, stopped } = makeStep()
    const first = await startEngine({ filename, logger, listen: { port: 0, leaseTerm: leaseMs } })
    const worker = create(first.url!, inPromises)
    const working = worker.start()
    await worker.ready()
    await first.client.emit("order.placed", {})
    await begun
    rmSync(`${filename}.lock`)

    await using _second = await startEngine({ filename, logger: false })
    const reason = await soon(stopped)

    assert.strictEqual(codeOf(reason), "LEASE_LOST")
    assert.match(String(reason), /was taken over by another engine/)
    await worker.stop()
    await working
    await first.close()
  })

  it.each(transports)(
    "tells its workers that they are disconnected, even while they are idle: over %s",
    async (_, create) => {
      const first = await startEngine({ filename, logger, listen: { port: 0, leaseTerm: leaseMs } })
      const worker = create(first.url!, makeStep().inPromises)
      const working = worker.start()
      await worker.ready()
      const before = worker.connection
      rmSync(`${filename}.lock`)

      await using _second = await startEngine({ filename, logger: false })
      await vi.waitFor(() => assert.strictEqual(worker.connection, "disconnected"), PATIENCE_MS)

      assert.strictEqual(before, "connected")
      assert.strictEqual(await first.client.health(), "down")
      await worker.stop()
      await working
      await first.close()
    }
  )

  it("shows the error to workers in its process, and stays closed with STORE_LOCKED", async () => {
    const { begun, inPromises } = makeStep()
    const first = await startEngine({ filename, logger })
    const worker = first.createWorker({ functions: [inPromises], logger: false })
    const working = worker.start()
    await worker.ready()
    await first.client.emit("order.placed", {})
    await begun
    const before = worker.connection
    rmSync(`${filename}.lock`)

    await using _second = await startEngine({ filename, logger: false })
    await vi.waitFor(() => assert.strictEqual(worker.connection, "disconnected"), PATIENCE_MS)
    const error: unknown = await first.client.emit("order.placed", {}).catch((error: unknown) => error)

    assert.strictEqual(before, "connected")
    assert.strictEqual(codeOf(error), "STORE_LOCKED")
    await worker.stop()
    await working
    await first.close()
  })
})
