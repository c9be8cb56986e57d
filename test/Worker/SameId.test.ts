/**
 * Workers with the same id: a new worker takes over no run that the first one may still execute, even if the first has lost
 * its connection.
 */
import { createFunction } from "@ironflow/node"
import { assert, describe, it, type TestContext, vi } from "vitest"
import { FaultyNetwork } from "./FaultyNetwork.ts"
import { openRemote } from "./Places.ts"
import { type Running, type Start, starts } from "./Starts.ts"
import { createWorker } from "../../src/worker.ts"

/** Registers a cleanup of one test; cleanups run in reverse order. Tests mostly wait for leases, so several run at once. */
type Cleanup = TestContext["onTestFinished"]

/** How long something may take on a busy machine, in milliseconds. */
const PATIENCE_MS = 20_000

/** A function whose long step ends only by its signal, and what happened to the step, in order. */
const shipping = () => {
  const happened: Array<string> = []
  const on = (worker: string) =>
    createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, ({ step }) =>
      step.run("ship", ({ signal }) => {
        happened.push(`${worker} begins`)
        return new Promise((_, reject) =>
          signal.addEventListener("abort", () => {
            happened.push(`${worker} ends`)
            reject(signal.reason as Error)
          })
        )
      })
    )
  return { happened, on }
}

type Join = (
  worker: string
) => Promise<{ readonly network: FaultyNetwork; readonly run: () => Promise<Running> }>

/** The lease term, after which another worker may have the run. */
const TERM_MS = 4000

const bell = createFunction({ id: "answer-bell", triggers: [{ event: "bell.rung" }] }, () =>
  Promise.resolve("answered")
)

describe.concurrent.each(Object.entries(starts))("workers with the same id over %s", (_, start: Start) => {
  /** A run at the first worker, and a function that cuts this worker off. `before` runs before the run is started. */
  const begin = async (cleanup: Cleanup, before: (join: Join) => void | Promise<void> = () => undefined) => {
    const place = await openRemote(createWorker, {}, { leaseTerm: TERM_MS })
    cleanup(async () => place[Symbol.asyncDispose]())
    const join: Join = async (worker) => {
      const network = await FaultyNetwork.before(place.url)
      cleanup(async () => network[Symbol.asyncDispose]())
      const run = async () => {
        const running = await start(network.url, "shipper", [work.on(worker), bell])
        cleanup(async () => void (await running.stop()))
        return running
      }
      return { network, run }
    }
    const work = shipping()
    const first = await join("first")
    await first.run()
    await before(join)
    const [runId] = (await place.client.emit("order.placed", {})).runIds
    await vi.waitFor(() => assert.deepStrictEqual(work.happened, ["first begins"]), PATIENCE_MS)
    const cut = () => {
      first.network.impersonate(() => undefined)
      first.network.cut()
      cleanup(() => Promise.resolve(first.network.heal()))
    }
    return { ...work, place, client: place.client, join, cut, runId: runId! }
  }

  /** Waits until the second has begun the step, and checks that the first had ended it before. */
  const checkTakenOver = async (happened: ReadonlyArray<string>) => {
    await vi.waitFor(() => assert.include(happened, "second begins"), { interval: 5, timeout: PATIENCE_MS })
    assert.deepStrictEqual(happened.slice(0, 3), ["first begins", "first ends", "second begins"])
  }

  it(
    "pass the run to the second when the first has stopped it, even after a restart of the engine",
    {
      timeout: 60_000
    },
    async ({ onTestFinished: cleanup }) => {
      const second: { network?: FaultyNetwork; coming?: Promise<unknown> } = {}
      // the second exists before the first gets the run, and reaches the engine after its restart
      const { cut, happened, place } = await begin(cleanup, async (join) => {
        const { network, run } = await join("second")
        network.impersonate(() => undefined)
        Object.assign(second, { network, coming: run() })
      })
      cut()
      await place.stop()
      await place.start()
      second.network?.heal()
      await second.coming

      await checkTakenOver(happened)
    }
  )

  it(
    "keep the run with the first when the second is notified about it, or leaves",
    {
      timeout: 60_000
    },
    async ({ onTestFinished: cleanup }) => {
      const { client, cut, happened, join, runId } = await begin(cleanup)
      cut()
      const second = await (await join("second")).run()
      await client.cancelRun(runId)
      await client.retryRun(runId)
      // what the worker says about the notices reaches the engine before its answers to these runs
      for (let rings = 0; rings < 2; rings++) {
        const rung = await client.emit("bell.rung", {})
        await client.waitForRun(rung.runIds[0]!)
      }
      await second.stop()
      await (await join("second")).run()

      await checkTakenOver(happened)
    }
  )

  it(
    "keep the run with the first when a legacy worker connects and leaves",
    {
      timeout: 60_000
    },
    async ({ onTestFinished: cleanup }) => {
      const { cut, happened, join, place } = await begin(cleanup)
      cut()
      const path = `${place.url}/api/v1/workers/shipper`
      const headers = { "content-type": "application/json" }
      const body = JSON.stringify({ worker_id: "shipper", function_ids: ["ship"], max_concurrent_jobs: 1 })
      await vi.waitFor(
        async () =>
          assert.strictEqual(
            (await fetch(`${path}/register`, { method: "POST", headers, body })).status,
            200
          ),
        PATIENCE_MS
      )
      await fetch(path, { method: "DELETE" })
      await (await join("second")).run()

      await checkTakenOver(happened)
    }
  )
})
