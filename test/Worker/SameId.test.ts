/** Workers with one id: a new one takes over no run that the first may still be at, whatever became of that one's connection. */
import { createFunction } from "@ironflow/node"
import { assert, describe, it, type TestContext, vi } from "vitest"
import { FaultyNetwork } from "./FaultyNetwork.ts"
import { openRemote } from "./Places.ts"
import { type Running, type Start, starts } from "./Starts.ts"
import { createWorker } from "../../src/worker.ts"

/** Ends what a test began, the latest first; most of a test is to wait for a lease, so several run at once. */
type Cleanup = TestContext["onTestFinished"]

/** A function whose long step ends only by its signal, and what became of it at which worker. */
const shipping = () => {
  const begun: Array<string> = []
  const ended: Array<string> = []
  const on = (worker: string) =>
    createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, ({ step }) =>
      step.run("ship", ({ signal }) => {
        begun.push(worker)
        return new Promise((_, reject) =>
          signal.addEventListener("abort", () => {
            ended.push(worker)
            reject(signal.reason as Error)
          })
        )
      })
    )
  return { begun, ended, on }
}

type Join = (
  worker: string
) => Promise<{ readonly network: FaultyNetwork; readonly run: () => Promise<Running> }>

/** Somebody else may have the run after this. */
const TERM_MS = 4000

const bell = createFunction({ id: "answer-bell", triggers: [{ event: "bell.rung" }] }, () =>
  Promise.resolve("answered")
)

describe.concurrent.each(Object.entries(starts))("workers of one id over %s", (_, start: Start) => {
  /** A run at the first worker, and the way to cut that off. `before` comes before the run. */
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
    await vi.waitFor(() => assert.deepStrictEqual(work.begun, ["first"]))
    const cut = () => {
      first.network.impersonate(() => undefined)
      first.network.cut()
      cleanup(() => Promise.resolve(first.network.heal()))
    }
    return { ...work, place, client: place.client, join, cut, runId: runId! }
  }

  const untilTakenOver = (begun: ReadonlyArray<string>) =>
    vi.waitFor(() => assert.deepStrictEqual(begun, ["first", "second"]), { interval: 5, timeout: 20_000 })

  it(
    "the second gets the run when the first has stopped, even after a restart of the engine",
    {
      timeout: 30_000
    },
    async ({ onTestFinished: cleanup }) => {
      const second: { network?: FaultyNetwork; coming?: Promise<unknown> } = {}
      // it is there before the run is given to the first, and reaches the engine after that was started again
      const { begun, cut, ended, place } = await begin(cleanup, async (join) => {
        const { network, run } = await join("second")
        network.impersonate(() => undefined)
        Object.assign(second, { network, coming: run() })
      })
      cut()
      await place.stop()
      await place.start()
      second.network?.heal()
      await second.coming
      await untilTakenOver(begun)

      assert.deepStrictEqual(ended.slice(0, 1), ["first"])
    }
  )

  it(
    "notices to the second about a run of the first, or its departure, give the run to nobody",
    {
      timeout: 30_000
    },
    async ({ onTestFinished: cleanup }) => {
      const { begun, client, cut, ended, join, runId } = await begin(cleanup)
      cut()
      const second = await (await join("second")).run()
      await client.cancelRun(runId)
      await client.retryRun(runId)
      // what it says of what it was told goes before its answer to the second
      for (let rings = 0; rings < 2; rings++) {
        const rung = await client.emit("bell.rung", {})
        await client.waitForRun(rung.runIds[0]!)
      }
      const before = [...begun]
      await second.stop()
      await (await join("second")).run()
      await untilTakenOver(begun)

      assert.deepStrictEqual(before, ["first"])
      assert.deepStrictEqual(ended.slice(0, 1), ["first"])
    }
  )

  it(
    "a legacy worker that connects and leaves gives no run of the first to others",
    {
      timeout: 30_000
    },
    async ({ onTestFinished: cleanup }) => {
      const { begun, cut, ended, join, place } = await begin(cleanup)
      cut()
      const path = `${place.url}/api/v1/workers/shipper`
      const headers = { "content-type": "application/json" }
      const body = JSON.stringify({ worker_id: "shipper", function_ids: ["ship"], max_concurrent_jobs: 1 })
      await vi.waitFor(async () =>
        assert.strictEqual((await fetch(`${path}/register`, { method: "POST", headers, body })).status, 200)
      )
      await fetch(path, { method: "DELETE" })
      await (await join("second")).run()
      await untilTakenOver(begun)

      assert.deepStrictEqual(ended.slice(0, 1), ["first"])
    }
  )
})
