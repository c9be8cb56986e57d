/** The number of turns that a worker takes at once must be possible, for every kind of worker. */
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { send } from "./RawClient.ts"
import { RawTurnWorker, registrationOf } from "./RawTurnWorker.ts"

let engine: IronflowEngine
beforeAll(async () => {
  engine = await startEngine({ filename: ":memory:", listen: { port: 0 }, logger: false })
})
afterAll(() => engine.close())

const impossible = [-1, 1.5, 1e9, 100_001]

describe("a worker that registers", () => {
  it.each([...impossible, 0])("for %d turns is refused, and is not listed", async (maxConcurrentJobs) => {
    const worker = new RawTurnWorker(engine.url!, { id: `w${maxConcurrentJobs}` })
    const registration = { ...registrationOf(worker.id, [{ id: "ship-order" }]), maxConcurrentJobs }
    const { body, status } = await worker.register([], engine.url, { registration })

    assert.strictEqual(status, 400)
    assert.include(JSON.stringify(body), "maxConcurrentJobs")
    assert.deepStrictEqual(await engine.client.listWorkers(), [])
  })

  it.each(impossible)("by the legacy protocol for %d turns is refused", async (max_concurrent_jobs) => {
    const { body, status } = await send(engine.url!, "POST", "/api/v1/workers/old/register", {
      worker_id: "old",
      hostname: "host-1",
      function_ids: [],
      max_concurrent_jobs,
      labels: {}
    })

    assert.strictEqual(status, 400)
    assert.match(JSON.stringify(body), /maxConcurrentJobs|max_concurrent_jobs/)
  })

  it("for one turn, or for the maximum, is accepted", async () => {
    for (const maxConcurrentJobs of [1, 100_000]) {
      const worker = new RawTurnWorker(engine.url!, { id: `w${maxConcurrentJobs}` })
      const registration = { ...registrationOf(worker.id, [{ id: "ship-order" }]), maxConcurrentJobs }
      assert.strictEqual((await worker.register([], engine.url, { registration })).status, 200)
    }
  })
})
