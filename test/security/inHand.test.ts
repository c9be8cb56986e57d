/**
 * The calls of workers and of owners of projections while they have work. Each is refused to keys without the right and
 * changes nothing, and is then made with a key that has it. `matrix.test.ts` covers all calls; here the refused calls
 * would have taken effect.
 */
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { actions } from "../../src/Policy.ts"
import { pathOf } from "../../src/Protocol/Http/CallAddress.ts"
import { accessTo } from "../../src/Protocol/CallSpec.ts"
import { type CallName, callSpecs } from "../../src/Protocol/AllCalls.ts"
import type { Answer } from "../wire/RawClient.ts"
import { temporaryDatabase } from "../wire/Ironflow.ts"
import { complete, registrationOf, stepDone } from "../wire/RawTurnWorker.ts"
import { Keys } from "./Keys.ts"
import { Stored } from "./Stored.ts"

const WORKER = "worker-1"
const OLD = "worker-old"
const database = temporaryDatabase()
let keys: Keys
let stored: Stored
/** For each action, a key that lacks only this right, and one that is denied it. */
let refusedKeys: { readonly [action: string]: ReadonlyArray<string> }

beforeAll(async () => {
  vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
  keys = await Keys.start({ filename: database.filename })
  const refusedTo = async (action: string, resources: ReadonlyArray<string>) => [
    await keys.keyThat({ actions: actions.filter((one) => one !== action).join(", ") }),
    await keys.keyThat({ actions: "*" }, { effect: "deny", actions: action, resources: resources.join(", ") })
  ]
  refusedKeys = {
    "worker:run": await refusedTo("worker:run", [`worker:${WORKER}`, `worker:${OLD}`]),
    "projection:run": await refusedTo("projection:run", ["projection:totals"])
  }
  stored = new Stored(database.filename)
}, 40_000)
afterAll(async () => {
  stored[Symbol.dispose]()
  await keys[Symbol.asyncDispose]()
  database[Symbol.dispose]()
  vi.unstubAllEnvs()
})

const made = new Set<CallName>()

/** Makes the call with keys without the right, checks that nothing changes, and then makes it with a key that has it. */
const call = async (
  name: CallName,
  variables: { readonly [name: string]: string },
  body?: unknown,
  query = ""
): Promise<Answer> => {
  made.add(name)
  const rule = accessTo(callSpecs[name])
  assert(typeof rule !== "string")
  const { method } = callSpecs[name]
  const path = pathOf(callSpecs[name], variables) + query
  const rows = stored.rows()
  for (const key of refusedKeys[rule.action] ?? []) {
    const { body: refusal, status } = await keys.send(method, path, body, { key })
    assert.deepStrictEqual([name, status, refusal.code], [name, 403, "UNAUTHORIZED"])
    assert.deepStrictEqual(stored.rows(), rows)
  }
  return keys.send(method, path, body)
}

const expectChange = async <A>(act: () => Promise<A>): Promise<A> => {
  const rows = stored.rows()
  const result = await act()
  assert.notDeepEqual(stored.rows(), rows)
  return result
}

const emit = async (event: string): Promise<string> =>
  (await keys.ok(keys.rpc("IronflowService/Trigger", { event, data: { id: "o-1" } }))).runIds[0]

const statusOf = async (id: string): Promise<string> =>
  (await keys.ok(keys.rpc("IronflowService/GetRun", { id }))).status

it("a worker with turns registers, takes and ends its job only with a key that has the right", async () => {
  const worker = { id: WORKER }
  const registration = {
    worker_id: WORKER,
    hostname: "host-1",
    function_ids: [],
    capabilities: { turns: 1 },
    registration: registrationOf(WORKER, [{ id: "ship-order", event: "order.placed" }]),
    instance: "instance-1",
    jobs: []
  }
  const { session } = (await expectChange(() => call("registerWorker", worker, registration))).body
  const runId = await emit("order.placed")

  const poll = { session, asked: 1, withdrawn: 0, seen: 0, waitMs: 5000 }
  const { deliveries } = (await call("pollTurns", worker, poll)).body
  const { jobId } = deliveries[0].job
  assert.strictEqual(deliveries[0].job.runId, runId)

  const report = (batch: number, ops: ReadonlyArray<object>) =>
    call("reportTurns", worker, { session, batch, reports: [{ jobId, runId, ops }] })
  const lateCall = { session, runId, stepName: "charge", lingerMs: 50 }
  assert.strictEqual((await call("lateTurn", worker, lateCall)).status, 204)
  const { acks } = (await expectChange(() => report(1, [stepDone("charge:0", 1)]))).body
  assert.strictEqual(acks[0]._tag, "Accepted")
  assert.notStrictEqual(await statusOf(runId), "RUN_STATUS_COMPLETED")
  await expectChange(() => report(2, [complete("shipped")]))
  assert.match(await statusOf(runId), /completed/i)

  assert.strictEqual((await call("deregisterWorker", worker, undefined, `?session=${session}`)).status, 204)
  assert.deepStrictEqual((await keys.ok(keys.send("GET", "/api/v1/workers"))).workers, [])
})

it("a legacy worker takes, confirms and ends its job only with a key that has the right", async () => {
  const worker = { id: OLD }
  await keys.ok(
    keys.rpc("IronflowService/RegisterFunction", {
      id: "pack-order",
      triggers: [{ event: "order.packed" }],
      preferredMode: "EXECUTION_MODE_PULL"
    })
  )
  const registration = {
    worker_id: OLD,
    hostname: "host-1",
    function_ids: ["pack-order"],
    max_concurrent_jobs: 10,
    labels: {}
  }
  assert.strictEqual((await call("registerWorker", worker, registration)).status, 200)
  const runId = await emit("order.packed")

  const taken = await vi.waitFor(async () => {
    const answer = await call("takeJobs", worker)
    assert.strictEqual(answer.status, 200)
    return answer.body
  })
  assert.strictEqual(taken.run_id, runId)

  const job = { ...worker, jobId: taken.job_id }
  assert.strictEqual((await call("ackJob", job, {})).status, 200)
  const beat = { worker_id: OLD, active_jobs: 1, jobs: [{ job_id: taken.job_id }] }
  assert.strictEqual((await call("heartbeat", worker, beat)).status, 200)
  await expectChange(() => call("updateJob", job, { status: "completed", output: { packed: true } }))
  assert.match(await statusOf(runId), /completed/i)
})

it("an owner of a projection claims, reads and saves it only with a key that has the right", async () => {
  const totals = { name: "totals" }
  const claim = {
    workerId: WORKER,
    registration: { name: "totals", events: ["order.*"], mode: "managed" },
    waitMs: 10
  }
  await emit("order.placed")
  const { lease } = (await expectChange(() => call("claimProjection", totals, claim))).body
  const owner = { token: lease.token, generation: lease.generation }

  const { batch } = (await call("readProjection", totals, { ...owner, limit: 10 })).body
  assert.isAbove(batch.events.length, 0)
  const last = batch.events.at(-1)
  const partitions = { ...owner, partitions: ["__global__"] }
  assert.strictEqual((await call("projectionStates", totals, partitions)).status, 200)
  const save = {
    number: 1,
    from: lease.position,
    to: last.position,
    states: [
      { partition: "__global__", state: '{"n":1}', position: last.position, eventId: last.id, eventTime: 1 }
    ],
    deadLetters: [],
    resolved: []
  }
  assert.strictEqual(
    (await expectChange(() => call("saveProjection", totals, { ...owner, save }))).status,
    200
  )
  assert.strictEqual((await call("renewProjection", totals, owner)).status, 200)
  assert.strictEqual((await call("releaseProjection", totals, owner)).status, 204)
})

it("the tests here and in `matrix.test.ts` make all calls of workers, current and legacy", () => {
  const all = Object.entries(callSpecs).flatMap(([name, row]) => {
    const rule = accessTo(row)
    return typeof rule !== "string" && ["worker:run", "projection:run"].includes(rule.action) ? [name] : []
  })
  // calls that take effect in `matrix.test.ts`, and the answer of a push endpoint
  const others = [
    "registerProjection",
    "pollProjectionEvents",
    "saveProjectionState",
    "ackProjectionEvents",
    "pushTurn"
  ]
  assert.sameMembers([...made, ...others], all)
})
