/**
 * Bulk operations: which runs match, results, and reasons for skipped runs; embedded, over HTTP and across a restart.
 */
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  BulkNotFoundError,
  type BulkOperation,
  createClient,
  createFunction,
  createWorker,
  type IronflowClient,
  TimeoutError,
  ValidationError
} from "@ironflow/node"
import { Client } from "@ironflow/node/effect"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, beforeEach, describe, it, vi } from "vitest"

let declines = true

const orders = createFunction(
  {
    id: "process-order",
    triggers: [{ event: "order.placed" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.batch"]
  },
  async ({ event, step }) => {
    await step.run("charge", () => {
      if (event.data.amount > 100 && declines) {
        throw Object.assign(new Error("Card was declined"), { code: "DECLINED" })
      }
    })
    if (event.data.waits === true) await step.waitForEvent("paid", { event: "order.paid", timeout: "1d" })
    return { charged: event.data.amount }
  }
)
const parent = createFunction({ id: "parent", triggers: [{ event: "parent.asked" }] }, async ({ step }) => {
  await step.invoke("child", {})
  await step.waitForEvent("go on", { event: "parent.told", timeout: "1d" })
})
const child = createFunction({ id: "child", triggers: [] }, async () => "done")
const packOf = (version: string) =>
  createFunction(
    {
      id: "pack",
      version,
      versioning: "pin",
      triggers: [{ event: "pack.asked" }],
      searchBy: ["event.data.batch"]
    },
    async ({ step }) => {
      await step.waitForEvent("packed", { event: "packed", timeout: "1d" })
      return version
    }
  )

const folder = mkdtempSync(join(tmpdir(), "ironflow-bulk-"))
const start = () =>
  startEngine({
    filename: join(folder, "bulk.db"),
    logger: false,
    listen: { port: 0 },
    functions: [orders, parent, child, packOf("1")]
  })
let engine: IronflowEngine
let remote: IronflowClient

beforeAll(async () => {
  engine = await start()
  remote = createClient({ serverUrl: engine.url ?? "" })
})
afterAll(async () => {
  await remote.close()
  await engine.close()
  rmSync(folder, { recursive: true, force: true })
})
beforeEach(() => void (declines = true))

let batches = 0
/** Emits orders with a batch id of their own, and waits until their runs are completed, failed or waiting. */
const batchOf = async (...orders: ReadonlyArray<object>) => {
  const batch = `batch-${++batches}`
  const ids: Array<string> = []
  for (const order of orders) {
    const { runIds } = await engine.client.emit("order.placed", { batch, amount: 1, ...order })
    ids.push(runIds[0]!)
  }
  await vi.waitFor(async () => {
    for (const id of ids)
      assert.include(["completed", "failed", "waiting"], (await engine.client.getRun(id)).status)
  }, 10_000)
  return { ids, filter: { attributes: { "event.data.batch": batch } } }
}
const failing = { amount: 200 }
const waiting = { waits: true }

const statusesOf = async (ids: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  const statuses: Array<string> = []
  for (const id of ids) statuses.push((await engine.client.getRun(id)).status)
  return statuses
}
const done = async (client: IronflowClient, operation: Promise<BulkOperation>): Promise<BulkOperation> =>
  client.waitForBulk((await operation).id, { timeout: 30_000 })
const countsOf = ({ done, matched, skipped, status }: BulkOperation) => ({ done, matched, skipped, status })

const connections: ReadonlyArray<readonly [string, () => IronflowClient]> = [
  ["embedded", () => engine.client],
  ["over HTTP", () => remote]
]

it("a bulk operation works in an environment that was never used", async () => {
  const client = createClient({ serverUrl: engine.url ?? "", environment: "of-nobody" })
  const operation = await done(client, client.bulk("retry", { status: "failed" }, { dryRun: true }))
  assert.deepStrictEqual(countsOf(operation), { done: 0, matched: 0, skipped: {}, status: "completed" })
  await client.close()
})

for (const [via, clientOf] of connections) {
  describe(`a bulk operation ${via}`, () => {
    it("counts runs in a dry run, and changes nothing", async () => {
      const { filter, ids } = await batchOf(waiting, waiting, {}, failing)
      const operation = await done(clientOf(), clientOf().bulk("cancel", filter, { dryRun: true }))
      assert.deepStrictEqual(countsOf(operation), {
        done: 2,
        matched: 4,
        skipped: { completed: 1, failed: 1 },
        status: "completed"
      })
      assert.isTrue(operation.dryRun)
      assert.deepStrictEqual(await statusesOf(ids), ["waiting", "waiting", "completed", "failed"])
      const { log } = await auditOf()
      assert.notInclude(log, operation.id)
    })

    it("is refused with an unknown option, and deletes nothing", async () => {
      const { filter, ids } = await batchOf({})
      for (const options of [{ dry_run: true }, { dry: true }, { dryRun: true, why: "a test" }]) {
        const error = await clientOf()
          .bulk("delete", filter, options as object)
          .then(
            () => undefined,
            (error: unknown) => error
          )
        assert.instanceOf(error, ValidationError, JSON.stringify(options))
      }
      assert.deepStrictEqual(await statusesOf(ids), ["completed"])
    })

    it("cancels the matching runs, and gives the reason for each that it skips", async () => {
      const { filter, ids } = await batchOf(waiting, {}, waiting)
      const other = await batchOf(waiting)
      const operation = await done(clientOf(), clientOf().bulk("cancel", filter, { reason: "recalled" }))
      assert.deepStrictEqual(countsOf(operation), {
        done: 2,
        matched: 3,
        skipped: { completed: 1 },
        status: "completed"
      })
      assert.deepStrictEqual(operation.examples, [{ runId: ids[1]!, why: "completed" }])
      assert.deepStrictEqual(operation.filters, filter)
      assert.deepStrictEqual(await statusesOf(ids), ["cancelled", "completed", "cancelled"])
      assert.strictEqual((await engine.client.getRun(ids[0]!)).error?.message, "recalled")
      assert.deepStrictEqual(await statusesOf(other.ids), ["waiting"])
    })

    it("retries, pauses and resumes", async () => {
      const { filter, ids } = await batchOf(failing, waiting)
      declines = false
      assert.deepStrictEqual(
        countsOf(await done(clientOf(), clientOf().bulk("retry", { ...filter, status: "failed" }))),
        { done: 1, matched: 1, skipped: {}, status: "completed" }
      )
      assert.strictEqual((await engine.client.waitForRun(ids[0]!)).status, "completed")
      const paused = await done(clientOf(), clientOf().bulk("pause", filter, { reason: "look" }))
      assert.deepStrictEqual(countsOf(paused), {
        done: 1,
        matched: 2,
        skipped: { completed: 1 },
        status: "completed"
      })
      assert.strictEqual((await engine.client.getRun(ids[1]!)).pauseReason, "look")
      const resumed = await done(clientOf(), clientOf().bulk("resume", filter))
      assert.deepStrictEqual(resumed.skipped, { completed: 1 })
      await vi.waitFor(async () => assert.deepStrictEqual(await statusesOf([ids[1]!]), ["waiting"]))
    })

    it("retries from a step, and reports runs without that step", async () => {
      const { filter } = await batchOf(failing)
      const counted = await clientOf().bulk("retry", filter, { fromStep: "pack", dryRun: true })
      assert.deepStrictEqual((await done(clientOf(), Promise.resolve(counted))).skipped, {
        "no such step": 1
      })
      const there = await clientOf().bulk("retry", filter, { fromStep: "charge", dryRun: true })
      assert.strictEqual((await done(clientOf(), Promise.resolve(there))).done, 1)
      const resumed = await clientOf().bulk("resume", filter, { fromStep: "pack", dryRun: true })
      assert.deepStrictEqual((await done(clientOf(), Promise.resolve(resumed))).skipped, {
        "no such step": 1
      })
      const operation = await done(clientOf(), clientOf().bulk("retry", filter, { fromStep: "pack" }))
      assert.deepStrictEqual(countsOf(operation), {
        done: 0,
        matched: 1,
        skipped: { "no such step": 1 },
        status: "completed"
      })
      assert.strictEqual(operation.fromStep, "pack")
    })

    it("creates one new run of the same event by rerun, and does not rerun the new one", async () => {
      const { filter, ids } = await batchOf({}, failing, waiting)
      const operation = await done(clientOf(), clientOf().bulk("rerun", filter))
      assert.deepStrictEqual(countsOf(operation), {
        done: 2,
        matched: 3,
        skipped: { waiting: 1 },
        status: "completed"
      })
      const { runs } = await engine.client.listRuns(filter)
      assert.strictEqual(runs.length, 5)
      const [first] = await Promise.all(ids.map((id) => engine.client.getRun(id)))
      assert.strictEqual(runs.filter(({ eventId }) => eventId === first!.eventId).length, 2)
    })

    it("reruns a fork with the data given to the fork, and a run that was started by hand with its own data", async () => {
      const { filter, ids } = await batchOf({ amount: 1 })
      const fork = await engine.client.forkRun(ids[0]!, { data: { amount: 3, batch: "of the fork" } })
      const byHand = await engine.client.runFunction("process-order", { amount: 5, ...filter.attributes })
      for (const { id } of [fork, byHand])
        assert.strictEqual((await engine.client.waitForRun(id)).status, "completed")
      const operation = await done(clientOf(), clientOf().bulk("rerun", { ids: [fork.id, byHand.id] }))
      assert.deepStrictEqual(countsOf(operation), { done: 2, matched: 2, skipped: {}, status: "completed" })
      const { runs } = await engine.client.listRuns({ functionId: "process-order", limit: 2 })
      const again = await Promise.all(runs.map(({ id }) => engine.client.waitForRun(id)))
      assert.deepStrictEqual(
        again.map(({ input, output }) => [input, output]),
        [
          [byHand.input, { charged: 5 }],
          [fork.input, { charged: 3 }]
        ]
      )
      assert.strictEqual(again[1]!.eventId, fork.eventId)
      // its attributes come from the data of the fork
      const found = await engine.client.listRuns({ attributes: { "event.data.batch": "of the fork" } })
      assert.deepInclude(found.runs[0], { id: again[1]!.id })
    })

    it("forks runs before a step, and reports those without that step", async () => {
      const { filter, ids } = await batchOf({}, waiting)
      const lacking = await done(
        clientOf(),
        clientOf().bulk("fork", filter, { fromStep: "ship", dryRun: true })
      )
      assert.deepStrictEqual(lacking.skipped, { "no such step": 2 })
      const operation = await done(clientOf(), clientOf().bulk("fork", { ids }, { fromStep: "charge" }))
      assert.deepStrictEqual(countsOf(operation), { done: 2, matched: 2, skipped: {}, status: "completed" })
      assert.strictEqual(operation.fromStep, "charge")
      const { runs } = await engine.client.listRuns(filter)
      assert.sameMembers(
        runs.flatMap(({ forkedFrom }) => forkedFrom ?? []),
        ids
      )
    })

    it("moves unfinished runs that are pinned to another version, and gives the reason for the others", async () => {
      const batch = `pack-${++batches}`
      const filter = { attributes: { "event.data.batch": batch } }
      const ids: Array<string> = []
      for (let i = 0; i < 3; i++) ids.push((await engine.client.emit("pack.asked", { batch })).runIds[0]!)
      await vi.waitFor(async () =>
        assert.deepStrictEqual(await statusesOf(ids), ["waiting", "waiting", "waiting"])
      )
      await engine.client.cancelRun(ids[2]!)
      const order = await batchOf(waiting)
      const worker = createWorker({ serverUrl: engine.url ?? "", functions: [packOf("2")], logger: false })
      const working = worker.start()
      await worker.ready()
      const moveTo = async (version: string | undefined, runs: object = filter) =>
        done(clientOf(), clientOf().bulk("move", runs, version === undefined ? {} : { version }))
      const unknown = await moveTo("0.9")
      assert.deepStrictEqual(countsOf(unknown), {
        done: 0,
        matched: 3,
        skipped: { cancelled: 1, "no such version": 2 },
        status: "completed"
      })
      assert.strictEqual(unknown.version, "0.9")
      const latest = await moveTo(undefined, { ids: [...ids, ...order.ids] })
      assert.deepStrictEqual(latest.skipped, { cancelled: 1, "not pinned": 1 })
      assert.strictEqual(latest.done, 2)
      assert.deepStrictEqual((await moveTo("2")).skipped, { cancelled: 1, "there already": 2 })
      assert.strictEqual((await moveTo("1", { ids: [ids[1]!] })).done, 1)
      await engine.client.emit("packed", {})
      const outputs = await Promise.all(
        ids.slice(0, 2).map(async (id) => (await engine.client.waitForRun(id)).output)
      )
      assert.deepStrictEqual(outputs, ["2", "1"])
      await worker.stop()
      await working
    })

    it("deletes ended runs with all their rows, and keeps their events", async () => {
      const { filter, ids } = await batchOf({}, waiting, failing)
      const { eventId } = await engine.client.getRun(ids[0]!)
      // the newest run is never deleted, so that its number is not used again
      await batchOf({})
      const operation = await done(clientOf(), clientOf().bulk("delete", filter))
      assert.deepStrictEqual(countsOf(operation), {
        done: 2,
        matched: 3,
        skipped: { waiting: 1 },
        status: "completed"
      })
      const { runs } = await engine.client.listRuns(filter)
      assert.deepStrictEqual(
        runs.map(({ id }) => id),
        [ids[1]!]
      )
      assert.strictEqual((await engine.client.getEvent(eventId)).id, eventId)
      const again = await done(clientOf(), clientOf().bulk("delete", { ids: [ids[0]!, ids[1]!] }))
      assert.deepStrictEqual(again.skipped, { "not found": 1, waiting: 1 })
    })

    it("takes runs by their ids, each once", async () => {
      const { ids } = await batchOf(waiting, {}, waiting)
      const named = [ids[0]!, ids[0]!, ids[1]!, "run_none"]
      const operation = await done(clientOf(), clientOf().bulk("cancel", { ids: named }))
      assert.deepStrictEqual(countsOf(operation), {
        done: 1,
        matched: 3,
        skipped: { completed: 1, "not found": 1 },
        status: "completed"
      })
      assert.strictEqual(operation.ids, 3)
      assert.deepStrictEqual(await statusesOf(ids), ["cancelled", "completed", "waiting"])
    })

    it("finds runs by an expression", async () => {
      const { filter, ids } = await batchOf({ amount: 3, ...waiting }, { amount: 7, ...waiting })
      const operation = await done(
        clientOf(),
        clientOf().bulk("cancel", { ...filter, where: "event.data.amount > 5" })
      )
      assert.strictEqual(operation.matched, 1)
      assert.deepStrictEqual(await statusesOf(ids), ["waiting", "cancelled"])
    })

    it("continues past the limit of one transaction", async () => {
      const { filter, ids } = await batchOf(...Array.from({ length: 120 }, () => waiting))
      const operation = await done(clientOf(), clientOf().bulk("cancel", filter))
      assert.strictEqual(operation.done, 120)
      assert.strictEqual(new Set(await statusesOf(ids)).size, 1)
    })

    it("is listed, and is not found under another id", async () => {
      const { filter } = await batchOf({})
      const { id } = await done(clientOf(), clientOf().bulk("delete", filter, { dryRun: true }))
      assert.strictEqual((await clientOf().listBulk())[0]!.id, id)
      assert.strictEqual((await clientOf().getBulk(id)).id, id)
      // it has already ended
      assert.strictEqual((await clientOf().cancelBulk(id)).status, "completed")
      for (const call of ["getBulk", "cancelBulk", "waitForBulk"] as const) {
        const error = await clientOf()
          [call]("bulk_none")
          .catch((error: unknown) => error)
        assert.instanceOf(error, BulkNotFoundError, call)
      }
    })

    const wrong: ReadonlyArray<readonly [string, ReadonlyArray<unknown>, RegExp]> = [
      ["no filter", ["cancel", {}], /without a filter this would cancel all runs/],
      ["a filter that is undefined", ["cancel", { status: undefined }], /without a filter/],
      ["undefined instead of a filter", ["cancel", undefined], /select runs by filters/],
      ["an unknown action", ["erase", { status: "failed" }], /action/],
      ["an unknown filter", ["cancel", { statuses: ["failed"] }], /statuses/],
      ["pages", ["cancel", { status: "failed", limit: 5 }], /limit/],
      ["ids and filters", ["cancel", { ids: ["run_1"], status: "failed" }], /not both/],
      ["no ids", ["cancel", { ids: [] }], /ids/],
      ["too many ids", ["cancel", { ids: Array.from({ length: 10_001 }, (_, n) => `run_${n}`) }], /10000/],
      ["an invalid id", ["cancel", { ids: [5] }], /ids|run id/],
      [
        "a version for a retry",
        ["retry", { status: "failed" }, { version: "2" }],
        /version. is for move, not for retry/
      ],
      ["a blank version", ["move", { status: "waiting" }, { version: " " }], /version. is blank/],
      ["a reason for a retry", ["retry", { status: "failed" }, { reason: "so" }], /reason/],
      ["a step to cancel from", ["cancel", { status: "failed" }, { fromStep: "charge" }], /fromStep/],
      ["an invalid expression", ["cancel", { where: "event.data.(" }], /expression|where/i],
      [
        "an attribute that no function has",
        ["cancel", { attributes: { "event.data.no": 1 } }],
        /event\.data\.no/
      ],
      ["an empty function", ["delete", { functionId: "", status: "completed" }], /functionId. is empty/],
      [
        "several functions, one of them empty",
        ["delete", { functionId: ["process-order", ""] }],
        /functionId. is empty/
      ],
      ["an empty status", ["delete", { functionId: "process-order", status: "" }], /status. is empty/],
      ["an empty time", ["delete", { status: "failed", createdTo: "" }], /createdTo. is empty/],
      ["a blank time", ["delete", { status: "failed", endedTo: " " }], /endedTo. is blank/],
      ["an empty event", ["delete", { status: "failed", eventName: "" }], /eventName. is empty/],
      ["an empty error", ["delete", { status: "failed", error: "" }], /error. is empty/],
      ["an empty expression", ["delete", { status: "failed", where: "" }], /where. is empty/],
      ["an empty key", ["delete", { status: "failed", idempotencyKey: "" }], /idempotencyKey. is empty/],
      ["an entity that is null", ["delete", { status: "failed", entityId: null }], /entityId. is null/],
      ["attributes that are null", ["delete", { status: "failed", attributes: null }], /attributes. is null/],
      ["a function that is null", ["delete", { functionId: null }], /functionId. is null/],
      ["a status that is null", ["delete", { status: null }], /status. is null/],
      ["an empty list of functions", ["delete", { functionId: [] }], /^bulk: `functionId` is an empty list/],
      [
        "an unknown path",
        ["delete", { attributes: { "event.data.no": 1 } }],
        /^bulk: runs cannot be found by/
      ],
      ["a time that is null", ["delete", { createdFrom: null }], /createdFrom. is null/],
      ["a time that is a boolean", ["delete", { createdFrom: true }], /createdFrom/],
      ["a time that is a list", ["delete", { createdFrom: [] }], /createdFrom/],
      ["a day that does not exist", ["delete", { createdFrom: "2026-02-30" }], /createdFrom.*valid date/],
      ["a dry run that is null", ["delete", { status: "failed" }, { dryRun: null }], /dryRun. is null/],
      ["an empty step", ["retry", { status: "failed" }, { fromStep: "" }], /fromStep. is blank/],
      ["a step that is null", ["retry", { status: "failed" }, { fromStep: null }], /fromStep. is null/],
      ["ids that are null", ["delete", { ids: null, status: "failed" }], /ids. is null/],
      ["a misspelled option", ["cancel", { status: "failed" }, { dryrun: true }], /dryrun/]
    ]
    it("is refused with a reason, and starts nothing", async () => {
      const before = await clientOf().listBulk()
      for (const [what, args, message] of wrong) {
        const error = await Reflect.apply(clientOf().bulk, clientOf(), args).catch((error: unknown) => error)
        assert.instanceOf(error, ValidationError, what)
        assert.match(error.message, message, what)
      }
      assert.deepStrictEqual(await clientOf().listBulk(), before)
    })

    it("is not waited for longer than `timeout`", async () => {
      const { filter } = await batchOf({})
      const { id } = await clientOf().bulk("cancel", filter, { dryRun: true })
      // it may already have ended
      const ended = await clientOf()
        .waitForBulk(id, { timeout: 0 })
        .catch((error: unknown) => error)
      if (ended instanceof Error) assert.instanceOf(ended, TimeoutError)
      await clientOf().waitForBulk(id)
      const error = await clientOf()
        .waitForBulk(id, { timeout: -1 })
        .catch((error: unknown) => error)
      assert.instanceOf(error, ValidationError)
    })
  })
}

it("a bulk operation over HTTP with an empty filter is refused, in camel case and snake case", async () => {
  const before = await engine.client.listBulk()
  const empty: ReadonlyArray<readonly [object, RegExp]> = [
    [{ filters: { functionId: "", status: "completed" } }, /functionId. is empty/],
    [{ filters: { function_id: "", status: "completed" } }, /function_id. is empty/],
    [{ filters: { functionIds: ["process-order", ""] } }, /functionIds. is empty/],
    [{ filters: { functionId: "process-order", status: "" } }, /status. is empty/],
    [{ filters: { functionId: "process-order", status: "RUN_STATUS_UNSPECIFIED" } }, /status. is empty/],
    [{ filters: { status: "completed", created_to: "" } }, /created_to. is empty/],
    [{ filters: { status: "completed", entityId: null } }, /entityId. is null/],
    [{ filters: { status: "completed", where: " " } }, /where. is blank/],
    [{ filters: { status: "completed" }, dryRun: null }, /dryRun. is null/],
    [{ filters: { status: "completed" }, dry_run: null }, /dry_run. is null/]
  ]
  for (const [body, message] of empty) {
    const answer = await fetch(`${engine.url}/api/v1/bulk`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ action: "delete", ...body })
    })
    const text = await answer.text()
    assert.strictEqual(answer.status, 400, text)
    assert.match(text, message)
  }
  assert.deepStrictEqual(await engine.client.listBulk(), before)
  // in lists of runs an empty text counts as a filter that is not set, because programs send it so
  for (const where of ["?status=&function_id=&where=", "?status=RUN_STATUS_UNSPECIFIED"])
    assert.strictEqual((await fetch(`${engine.url}/api/v1/runs${where}`)).status, 200)
})

const auditOf = async () => {
  const answer = await fetch(`${engine.url}/api/v1/access-log`)
  return { log: await answer.text() }
}

it("a child is not deleted while its parent is unfinished", async () => {
  await engine.client.emit("parent.asked", {})
  await vi.waitFor(async () => {
    const { runs } = await engine.client.listRuns({ functionId: "child", status: "completed" })
    assert.isNotEmpty(runs)
  }, 10_000)
  await batchOf({})
  const operation = await done(engine.client, engine.client.bulk("delete", { functionId: "child" }))
  assert.deepStrictEqual(operation.skipped, { "parent unfinished": 1 })
  const invoked = await done(engine.client, engine.client.bulk("rerun", { functionId: "child" }))
  assert.deepStrictEqual(invoked.skipped, { invoked: 1 })
})

it("the start and the result of a bulk operation are in the access log", async () => {
  const { filter } = await batchOf(waiting)
  const { id } = await done(engine.client, engine.client.bulk("cancel", filter))
  const entries = JSON.parse((await auditOf()).log).filter(
    ({ subject }: { subject: string }) => subject === id
  )
  assert.deepStrictEqual(
    entries.map(({ action, by, details }: { action: string; by: string; details: { bulk: string } }) => [
      action,
      by,
      details.bulk
    ]),
    [
      ["run:cancel", "local", "completed"],
      ["run:cancel", "local", "begun"]
    ]
  )
  assert.deepInclude(entries[0].details, { matched: 1, done: 1, skipped: {} })
  assert.deepInclude(entries[1].details, { filters: filter })
})

it("bulk operations do the same in Effect programs", async () => {
  const { filter } = await batchOf(waiting)
  const program = Effect.gen(function* () {
    const client = yield* Client.Client
    const { id } = yield* client.bulk("cancel", filter)
    const ended = yield* client.waitForBulk(id)
    const missing = yield* Effect.flip(client.getBulk("bulk_none"))
    return { ended, missing }
  })
  const { ended, missing } = await Effect.runPromise(
    Effect.provide(
      program,
      Client.layerHttp({ serverUrl: engine.url ?? "" }).pipe(Layer.provide(FetchHttpClient.layer))
    )
  )
  assert.strictEqual(ended.done, 1)
  assert.strictEqual(missing._tag, "BulkNotFoundError")
})

it("a bulk operation continues after a restart, and handles no run twice", async () => {
  const { filter, ids } = await batchOf(...Array.from({ length: 150 }, () => ({})))
  const { id } = await engine.client.bulk("rerun", filter)
  await engine.close()
  engine = await start()
  await remote.close()
  remote = createClient({ serverUrl: engine.url ?? "" })
  const operation = await engine.client.waitForBulk(id, { timeout: 30_000 })
  assert.deepStrictEqual(countsOf(operation), {
    done: 150,
    matched: 150,
    skipped: {},
    status: "completed"
  })
  assert.strictEqual((await engine.client.listRuns({ ...filter, limit: 1000 })).runs.length, 300)
  assert.strictEqual(ids.length, 150)
})

it("a cancelled bulk operation handles no more runs", async () => {
  const { filter } = await batchOf(...Array.from({ length: 120 }, () => waiting))
  const { id } = await engine.client.bulk("cancel", filter)
  const { status } = await engine.client.cancelBulk(id)
  assert.strictEqual(status, "cancelled")
  const { done, endedAt } = await engine.client.waitForBulk(id)
  assert.isDefined(endedAt)
  const { totalCount } = await engine.client.listRuns({ ...filter, status: "waiting", limit: 1000 })
  assert.strictEqual(totalCount, 120 - done)
})

it("twenty bulk operations at once change each run once, and all of them count it", async () => {
  const { filter, ids } = await batchOf(...Array.from({ length: 60 }, () => waiting))
  const begun = await Promise.all(
    Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? engine.client : remote).bulk("cancel", filter))
  )
  const operations = await Promise.all(
    begun.map(({ id }) => engine.client.waitForBulk(id, { timeout: 60_000 }))
  )
  assert.strictEqual(
    operations.reduce((sum, { done }) => sum + done, 0),
    60
  )
  for (const { done, matched, skipped, status } of operations) {
    assert.deepStrictEqual([status, matched], ["completed", 60])
    assert.strictEqual(done + (skipped.cancelled ?? 0), 60)
  }
  assert.deepStrictEqual(new Set(await statusesOf(ids)), new Set(["cancelled"]))
})
