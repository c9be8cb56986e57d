/**
 * A key of all environments keeps to the rights that it has in the environment of a worker or a run, whichever environment the
 * call names. The ids of workers and runs do not tell their environment.
 */
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { Keys, type PolicyOf } from "./Keys.ts"

let keys: Keys
beforeEach(async () => {
  keys = await Keys.start()
})
afterEach(() => keys[Symbol.asyncDispose]())

const production = { environment: "production" }
const staging = { environment: "staging" }
const inProduction = 'request.environment == "production"'

/** A key of all environments with these policies. */
const keyOfAll = async (...policies: ReadonlyArray<PolicyOf>): Promise<string> =>
  (await keys.makeKey({ env_id: "*", role_ids: [await keys.makeRole(...policies)] })).key

/** Starts a legacy worker in `production`, with a job for it. */
const work = async (key: string) => {
  const caller = { key, ...production }
  await keys.ok(
    keys.rpc(
      "IronflowService/RegisterFunction",
      { id: "ship", triggers: [{ event: "order.placed" }] },
      production
    )
  )
  await keys.ok(keys.send("POST", "/api/v1/workers/w-1/register", { function_ids: ["ship"] }, caller))
  await keys.ok(
    keys.rpc("IronflowService/Trigger", { event: "order.placed", data: { secret: 1 } }, production)
  )
}

const take = (key: string, environment: object) =>
  keys.send("GET", "/api/v1/workers/w-1/jobs", undefined, { key, ...environment })

describe("an action that is denied in one environment", () => {
  it("cannot be done by a report that names another environment", async () => {
    const key = await keyOfAll(
      { actions: "worker:run, emit:*, kv:*, subscription:read, publish:*" },
      {
        effect: "deny",
        actions: "emit:*, kv:*, publish:*, subscription:read",
        resources: "event:salary.*, bucket:vault, topic:salary, subscription:events:salary.*",
        condition: inProduction
      }
    )
    await keys.ok(keys.send("POST", "/api/v1/kv/buckets", { name: "vault" }, production))
    const step = { stepKey: "s:0", name: "s", attempt: 1, startedAt: 0, endedAt: 0 }
    const writes = [
      { _tag: "Transact", ...step, writes: [{ _tag: "emit", name: "salary.paid", version: 1, data: "{}" }] },
      {
        _tag: "Transact",
        ...step,
        writes: [{ _tag: "kv", bucket: "vault", key: "k", value: { type: "json", data: "1" } }]
      },
      { _tag: "Publish", stepKey: "s:0", name: "s", topic: "salary", data: "{}" }
    ]
    for (const op of writes) {
      await work(key)
      const [jobId = "", runId] = (await keys.ok(take(key, production))).job_id.split("~")
      const { ack } = await keys.ok(
        keys.send("POST", `/api/v1/push/turns/${jobId}`, { runId, ops: [op] }, { key, ...staging })
      )
      assert.strictEqual(ack._tag, "Refused", JSON.stringify(op))
      const run = await keys.ok(keys.rpc("IronflowService/GetRun", { id: runId }, production))
      assert.strictEqual(run.status, "RUN_STATUS_PAUSED")
    }
    // the report of a legacy worker
    await work(key)
    const { job_id: jobId } = await keys.ok(take(key, production))
    const yielded = {
      status: "yielded",
      yield: { type: "wait_for_event", step_id: "w", name: "w", event_filter: { event: "salary.paid" } }
    }
    const path = `/api/v1/workers/w-1/jobs/${encodeURIComponent(jobId)}`
    await keys.send("PUT", path, yielded, { key, ...staging })
    const run = await keys.ok(keys.rpc("IronflowService/GetRun", { id: jobId.split("~")[1] }, production))
    assert.notStrictEqual(run.status, "RUN_STATUS_WAITING")
    assert.include(
      (await keys.send("GET", "/api/v1/events?name=salary.paid", undefined, production)).text,
      "[]"
    )
    assert.strictEqual(
      (await keys.send("GET", "/api/v1/kv/buckets/vault/keys/k", undefined, production)).status,
      404
    )
  })

  it("cannot be done for a worker there by a call that names another environment", async () => {
    const worker = await keyOfAll({ actions: "worker:run, subscription:read" })
    const elsewhere = await keyOfAll(
      { actions: "worker:run, subscription:read" },
      { effect: "deny", actions: "worker:run", condition: inProduction }
    )
    await work(worker)
    assert.strictEqual((await take(elsewhere, production)).status, 403)
    assert.strictEqual((await take(elsewhere, staging)).status, 403)
    const deletion = await keys.send("DELETE", "/api/v1/workers/w-1", undefined, {
      key: elsewhere,
      ...staging
    })
    assert.strictEqual(deletion.status, 403)
    const { job_id: jobId } = await keys.ok(take(worker, staging))
    const path = `/api/v1/workers/w-1/jobs/${encodeURIComponent(jobId)}`
    for (const end of ["", "/ack"]) {
      const answer = await keys.send(
        "PUT",
        path + end,
        { status: "completed" },
        { key: elsewhere, ...staging }
      )
      assert.strictEqual(answer.status, 403, end)
    }
  })

  it("cannot be done by extending a lease, whatever environment and run the call names", async () => {
    const worker = await keyOfAll({ actions: "worker:run, subscription:read" })
    const elsewhere = await keys.keyThat({ actions: "worker:*" })
    const limited = await keyOfAll(
      { actions: "worker:*" },
      { effect: "deny", actions: "worker:run", condition: inProduction }
    )
    await work(worker)
    const { job_id: jobId } = await keys.ok(take(worker, production))
    const [lease = ""] = jobId.split("~")
    const isHeld = async () => {
      // asks as the worker that has the job, which does not change the lease
      const answer = await keys.send(
        "PUT",
        `/api/v1/workers/w-1/jobs/${encodeURIComponent(jobId)}/ack`,
        undefined,
        {
          key: worker,
          ...production
        }
      )
      return answer.status
    }
    assert.strictEqual(await isHeld(), 200)

    const ack = (id: string, as: object) =>
      keys.send("PUT", `/api/v1/workers/w-9/jobs/${encodeURIComponent(id)}/ack`, undefined, as)
    assert.strictEqual((await ack(jobId, { key: elsewhere })).status, 409)
    assert.strictEqual((await ack(`${lease}~run_of_nobody`, { key: limited, ...staging })).status, 409)
    const progress = await keys.send(
      "PUT",
      `/api/v1/workers/w-9/jobs/${encodeURIComponent(jobId)}`,
      { status: "progress" },
      { key: elsewhere }
    )
    assert.notStrictEqual(progress.status, 200)
    assert.strictEqual(await isHeld(), 200)
  })

  it("cannot make the engine drop the job of a worker there", async () => {
    const worker = await keyOfAll({ actions: "worker:run, subscription:read" })
    const elsewhere = await keys.keyThat({ actions: "worker:*" })
    await work(worker)
    const { job_id: jobId } = await keys.ok(take(worker, production))
    const [lease = "", runId] = jobId.split("~")
    const jobs = async () =>
      (await keys.ok(keys.send("GET", "/api/v1/workers", undefined, production))).workers[0].active_jobs
    assert.strictEqual(await jobs(), 1)

    const update = await keys.send(
      "PUT",
      `/api/v1/workers/w-9/jobs/${encodeURIComponent(jobId)}`,
      { status: "completed" },
      { key: elsewhere }
    )
    assert.strictEqual(update.status, 409)
    const { ack } = await keys.ok(
      keys.send(
        "POST",
        `/api/v1/push/turns/${lease}`,
        { runId, ops: [{ _tag: "Release" }] },
        { key: elsewhere }
      )
    )
    assert.strictEqual(ack._tag, "Refused")
    assert.strictEqual(await jobs(), 1)
  })
})
