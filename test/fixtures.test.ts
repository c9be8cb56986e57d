/**
 * This version opens data of earlier versions, and old and new processes work with each other. There is a test for each
 * folder in `test/fixtures/`, whose README says what is in it and how to make another one.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { gunzipSync } from "node:zlib"
import {
  createClient,
  createSubscriptionClient,
  createWorker,
  type EngineHandle,
  type IronflowClient,
  KeyNotFoundError,
  UnauthenticatedError,
  UnauthorizedError
} from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { afterAll, assert, describe, expect, it, vi } from "vitest"
import * as SqliteStore from "../src/Engine/SqliteStore.ts"
import { isPattern } from "../src/Pattern.ts"
import { openTestEngine } from "../src/Testing/TestEngine.ts"
import type { EngineProcess } from "./fixtures/engine.ts"
import { callAgain, type Fixture } from "./fixtures/Fixture.ts"
import { look, ownOf, type RunIds } from "./fixtures/Look.ts"
import { FILE as POSTGRES, loadFrom } from "./fixtures/Postgres.ts"
import { startProgram } from "./fixtures/Process.ts"
import { makeFunctions, makeProjections } from "./fixtures/Shop.ts"
import { openSideLog, readSideLog } from "./fixtures/SideLog.ts"
import { isLong } from "./Long.ts"
import type { Transport, WorkerProcess } from "./fixtures/worker.ts"
import { runSql } from "./postgres/Schemas.ts"
import { sharedUrl } from "./postgres/Server.ts"

const folder = path.join(import.meta.dirname, "fixtures")
const names = fs
  .readdirSync(folder, { withFileTypes: true })
  .flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
  .toSorted()
const transports: ReadonlyArray<Transport> = ["polling", "rpc", "connect"]

/**
 * The transports with which a version is tested. In a short run the oldest version works over all of them, and each other version
 * over another one than the version before it.
 */
const transportsFor = (name: string, first: number): ReadonlyArray<Transport> => {
  const nth = names.indexOf(name)
  return isLong || nth === 0 ? transports : [transports[(first + nth) % transports.length]!]
}

// outside the repository, so that the bundles cannot find packages that are installed there
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-fixtures-"))
afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }))

/** A copy of a fixture that a test may change. */
const copyOf = (name: string) => {
  const copy = fs.mkdtempSync(path.join(scratch, `${name}-`))
  const database = path.join(copy, "database.db")
  const sideLog = path.join(copy, "side.log")
  fs.writeFileSync(database, gunzipSync(fs.readFileSync(path.join(folder, name, "database.db.gz"))))
  for (const file of ["engine.mjs", "worker.mjs"]) {
    fs.copyFileSync(path.join(folder, name, file), path.join(copy, file))
  }
  const fixture = JSON.parse(fs.readFileSync(path.join(folder, name, "fixture.json"), "utf8")) as Fixture
  fs.writeFileSync(sideLog, fixture.lines.map((line) => `${JSON.stringify(line)}\n`).join(""))
  const { access, ...seen } = fixture.seen
  return {
    ...fixture,
    seen: { ...seen, access: { ...access, policies: ownOf(access.policies) } },
    database,
    sideLog,
    engine: path.join(copy, "engine.mjs"),
    worker: path.join(copy, "worker.mjs")
  }
}
type Copy = ReturnType<typeof copyOf>

const work = ({ sideLog }: Copy) => ({
  functions: makeFunctions(openSideLog(sideLog), { hold: false }),
  projections: makeProjections(),
  logger: false as const
})

interface Outcome {
  readonly status: string
  readonly output?: unknown
  /** The steps with effects outside. */
  readonly steps: ReadonlyArray<string>
}

/** How a run of a function ends, for the event with this key. */
const outcomes: Readonly<Record<string, (key: string) => Outcome>> = {
  order: (key) => ({
    status: "completed",
    output: { charge: `charge of ${key}`, ship: `ship of ${key}` },
    steps: ["charge", "ship"]
  }),
  approval: () => ({ status: "completed", output: { by: "Ada" }, steps: ["ask", "note"] }),
  reminder: () => ({ status: "completed", output: "reminded", steps: ["remind"] }),
  bill: (key) => ({
    status: "completed",
    output: { printed: `print of ${key}/print` },
    steps: ["prepare", "send"]
  }),
  print: (key) => ({ status: "completed", output: `print of ${key}`, steps: ["print"] }),
  text: () => ({ status: "completed", output: { attempts: 2 }, steps: ["write", "send"] }),
  trip: () => ({
    status: "failed",
    steps: ["flight", "train", "hotel", "cancel hotel", "cancel train", "cancel flight"]
  }),
  report: (key) => ({ status: "completed", output: `compute of ${key}`, steps: ["gather", "compute"] }),
  checks: (key) => ({
    status: "completed",
    output: {
      both: [`stock of ${key}`, `credit of ${key}`],
      labels: [`label a of ${key}`, `label b of ${key}`]
    },
    steps: ["stock", "credit", "label a", "label b"]
  }),
  transfer: () => ({ status: "completed", output: "booked", steps: [] }),
  pay: (key) => ({
    status: "completed",
    output: `pay with a key of 12 of ${key}`,
    steps: ["pay with a key of 12"]
  }),
  audit: () => ({ status: "failed", steps: ["look"] }),
  fax: (key) => ({ status: "completed", output: `send of ${key}`, steps: ["send"] }),
  offer: () => ({ status: "completed", output: "too late", steps: ["file"] }),
  stocktaking: (key) => ({ status: "completed", output: key, steps: ["count"] }),
  claim: () => ({ status: "failed", steps: ["read"] }),
  "claim/on-failure": (key) => ({ status: "completed", output: `close of ${key}`, steps: ["tell", "close"] }),
  rent: (key) => ({ status: "completed", output: { asked: `ask of ${key}` }, steps: ["ask", "collect"] }),
  letter: (key) => ({ status: "completed", output: `post of ${key}`, steps: ["post"] }),
  parcel: (key) => ({ status: "completed", output: `deliver of ${key}`, steps: ["pack", "deliver"] })
}

const outcomeOf = (key: string, functionId: string): Outcome => special[key] ?? outcomes[functionId]!(key)

const special: Readonly<Record<string, Outcome>> = {
  cancelled: { status: "cancelled", steps: ["charge"] },
  "is a fork": {
    status: "completed",
    output: { charge: "a charge of its own", ship: "ship of is a fork" },
    steps: ["ship"]
  }
}

/** Sends the events and commands for which the runs of a fixture wait. */
const moveOn = async (client: IronflowClient, { runIds }: Copy): Promise<void> => {
  await client.resumeRun(runIds["paused"] ?? "")
  await client.emit("approval.given", { key: "waits for an event", by: "Ada" })
  if (runIds["is held"] !== undefined) await client.resumeFunction("letter")
}

/** Starts a run of every function that was started by an event in the fixture. */
const startNewRuns = async (client: IronflowClient, { seen }: Copy): Promise<RunIds> => {
  const runIds: Record<string, string> = {}
  for (const event of seen.functions.flatMap(({ triggers }) =>
    triggers.flatMap(({ event }) => (event === undefined || isPattern(event) ? [] : [event]))
  )) {
    const key = `new ${event}`
    const { runIds: ids } = await client.emit(event, { key, pause: 20 })
    runIds[key] = ids[0] ?? ""
  }
  await client.emit("approval.given", { key: "new approval.asked", by: "Ada" })
  return runIds
}

/** Checks that every run has ended as expected, that completed runs are unchanged, and that nothing was done twice. */
const assertEnded = async (client: IronflowClient, copy: Copy, runIds: RunIds): Promise<void> => {
  const began = new Set(copy.lines.filter(({ what }) => what === "begin").map(nameOf))
  for (const line of copy.lines) if (line.what === "end") began.delete(nameOf(line))
  const runs = await Promise.all(
    Object.entries(runIds).map(async ([key, id]) => ({
      key,
      id,
      run: await client.waitForRun(id, { timeout: 20_000 })
    }))
  )
  const did = readSideLog(copy.sideLog)
  for (const { id, key, run } of runs) {
    const { output, status, steps } = outcomeOf(key, run.functionId)
    assert.deepStrictEqual({ key, status: run.status, output: run.output }, { key, status, output })
    for (const step of steps) {
      const count = (what: string) =>
        did.filter((line) => line.key === key && line.step === step && line.what === what).length
      const before = began.has(nameOf({ key, step })) ? 1 : 0
      assert.deepStrictEqual([key, step, count("begin"), count("end")], [key, step, 1 + before, 1])
    }
    const after = await client.getRunSteps(id)
    for (const step of copy.seen.runs[key]?.steps ?? []) {
      if (step.status !== "completed") continue
      expect(after.find((it) => it.id === step.id)).toMatchObject(step)
    }
  }
  const taken = did.flatMap(({ key, step, what }) =>
    key === "takes back" && what === "end" && step.startsWith("cancel ") ? [step] : []
  )
  assert.deepStrictEqual(taken, ["cancel hotel", "cancel train", "cancel flight"])
}

const nameOf = ({ key, step }: { readonly key: string; readonly step: string }): string => `${key}: ${step}`

/** Joins the group of the fixture. `all` resolves when it has received and acked the remaining events. */
const emptyGroup = async (config: {
  readonly engine?: EngineHandle
  readonly serverUrl?: string
  readonly apiKey?: string
}) => {
  const got: Array<number> = []
  const subscriptions = createSubscriptionClient(config)
  await subscriptions.connect()
  let done: () => void
  const all = new Promise<void>((resolve) => (done = resolve))
  const subscription = await subscriptions.subscribe("events:delivery.*", {
    consumerGroup: "warehouse",
    ackMode: "manual",
    onEvent: async ({ data, eventId = "" }) => {
      await subscription.ack(eventId)
      if (got.push((data as { readonly n: number }).n) === 6) done()
    }
  })
  return {
    /** The received events, sorted. */
    all: all.then(() => got.toSorted((a, b) => a - b)),
    close: () => subscriptions.close()
  }
}

/** Joins the group with dead letters, if there is one, and retries them. `all` resolves when all failed events have arrived. */
const emptyReturns = async (
  client: IronflowClient,
  { seen }: Copy,
  config: { serverUrl?: string; apiKey?: string } | { engine: EngineHandle }
) => {
  if (seen.returns === undefined) return { all: Promise.resolve([1, 2]), close: () => undefined }
  const got: Array<number> = []
  const subscriptions = createSubscriptionClient(config)
  await subscriptions.connect()
  let done: () => void
  const all = new Promise<void>((resolve) => (done = resolve))
  await subscriptions.subscribe("events:return.*", {
    consumerGroup: "returns",
    onEvent: ({ data }) => {
      if (got.push((data as { readonly n: number }).n) === 2) done()
    }
  })
  assert.strictEqual(await client.consumerGroups.retryDeadLetters("returns"), 1)
  return { all: all.then(() => got.toSorted()), close: () => subscriptions.close() }
}

/** The id of the run for which a fire of its schedule waits, if the fixture has one. */
const queueOf = ({ runIds, seen }: Copy): string | undefined =>
  runIds[Object.keys(seen.runs).find((key) => seen.runs[key]?.functionId === "stocktaking") ?? ""]

/** Checks that the queued fire has started a run of its own. */
const assertQueueMoves = async (client: IronflowClient, copy: Copy): Promise<void> => {
  if (queueOf(copy) === undefined) return
  await vi.waitFor(
    async () => {
      const { runs } = await client.listRuns({ functionId: "stocktaking", status: "completed" })
      assert.isAtLeast(runs.length, 2)
      const [first, second] = runs
        .map(({ input }) => Date.parse((input as { scheduledAt: string }).scheduledAt))
        .toSorted()
      assert.strictEqual(second! - first!, 60_000)
    },
    { timeout: 10_000 }
  )
}

describe.each(names)("the data of the version of %s", (name) => {
  it("is complete when it is opened at once, and its runs continue", async () => {
    const copy = copyOf(name)
    const { database, first, killedAt, masterKey, runIds, seen } = copy

    await using engine = await openTestEngine(
      { masterKey, startAt: new Date(killedAt + 1000) },
      SqliteStore.layer({ filename: database })
    )
    const { client } = engine
    expect(await look(client, runIds)).toMatchObject(seen)
    assert.deepStrictEqual(await callAgain(client), first)
    assert.strictEqual((await client.explain(runIds["sleeps"] ?? "")).code, "SLEEPING")
    assert.strictEqual((await client.explain(runIds["waits for a retry"] ?? "")).code, "WAITING_FOR_RETRY")
    const sessions = client.kv().bucket("sessions")
    assert.deepStrictEqual((await sessions.get("ada")).value, { role: "admin" })

    assert.strictEqual(
      (await client.explain(runIds["waits as long as its error said"] ?? runIds["waits for a retry"] ?? ""))
        .code,
      "WAITING_FOR_RETRY"
    )
    const queue = queueOf(copy)
    if (queue !== undefined) {
      const { schedule } = (await client.explain(queue)).details
      expect(schedule).toMatchObject({ cron: "0,1 3 * * *", overlap: "queue", waiting: 1 })
    }

    if (runIds["is held"] !== undefined) {
      assert.strictEqual((await client.explain(runIds["is held"])).code, "FUNCTION_PAUSED")
      const where = { attributes: { "event.data.key": "failed and handled" } }
      assert.deepStrictEqual(
        (await client.listRuns(where)).runs.map(({ id }) => id),
        [runIds["failed and handled"]]
      )
    }

    const group = await emptyGroup({ engine })
    const returns = await emptyReturns(client, copy, { engine })
    await engine.startWorker(work(copy))
    await moveOn(client, copy)
    await engine.runUntilIdle()
    await assertEnded(client, copy, runIds)
    await assertQueueMoves(client, copy)
    assert.strictEqual(await engine.countStuckRuns(), 0)

    await engine.advance("1d")
    assert.deepStrictEqual(await group.all, [2, 3, 4, 5, 6, 7])
    group.close()
    assert.deepStrictEqual(await returns.all, [1, 2])
    returns.close()
    await assertRejects(sessions.get("ada"), KeyNotFoundError)
    const { position } = await client.emit("points.given", { customer: "ada", points: 1 })
    await engine.settle()
    const { lastEventSeq, state } = await client.projections.get("points", { partition: "ada" })
    assert.deepStrictEqual({ lastEventSeq, state }, { lastEventSeq: position, state: { sum: 8, count: 3 } })
    assert.isAbove((await client.listRuns({ functionId: "nightly", status: "completed" })).totalCount, 0)
  })

  it("is complete when it is opened much later, also over HTTP, and its runs continue", async () => {
    const copy = copyOf(name)
    const { apiKeys, database: filename, first, masterKey, runIds, seen } = copy

    await using engine = await startEngine({ ...keeping, filename, masterKey, listen: { port: 0 } })
    const serverUrl = engine.url ?? ""
    await using client = createClient({ serverUrl, apiKey: apiKeys.admin })
    // by now runs are due, and keys and the history of deleted keys have expired
    const { kv, runs: _, ...others } = seen
    const { kv: kvNow, ...othersNow } = await look(client, runIds)
    expect(othersNow).toMatchObject(others)
    expect(kvNow).toMatchObject({ ...kv, buckets: kv.buckets.map(({ name }) => ({ name })) })
    await assertRejects(client.kv().bucket("sessions").get("ada"), KeyNotFoundError)

    await using orders = createClient({ serverUrl, apiKey: apiKeys.orders })
    // versions that store the time of the clock keep idempotency keys for one more day, because the clock may have been set
    const key = name === "2026-11" ? "order-completed" : "order-later"
    const later = await orders.emit("order.placed", { key: "later", pause: 20 }, { idempotencyKey: key })
    assert.notStrictEqual(later.eventId, first.emit.eventId)
    if (key === "order-later") assert.deepStrictEqual(await callAgain(client), first)
    await assertRejects(orders.emit("pay.asked", {}), UnauthorizedError)
    await using stranger = createClient({ serverUrl, apiKey: `${apiKeys.orders}x` })
    await assertRejects(stranger.listRuns(), UnauthenticatedError)

    const group = await emptyGroup({ serverUrl, apiKey: apiKeys.admin })
    const returns = await emptyReturns(client, copy, { serverUrl, apiKey: apiKeys.admin })
    const worker = engine.createWorker(work(copy))
    void worker.start()
    await moveOn(client, copy)
    await assertEnded(client, copy, { ...runIds, later: later.runIds[0] ?? "" })
    assert.deepStrictEqual(await group.all, [2, 3, 4, 5, 6, 7])
    group.close()
    assert.deepStrictEqual(await returns.all, [1, 2])
    returns.close()
    await assertQueueMoves(client, copy)
    await assertProjects(client)
  })

  it.each(transportsFor(name, 0))(
    "works with its own worker and the newest engine, over %s",
    async (transport) => {
      const copy = copyOf(name)
      const { apiKeys, database: filename, masterKey, runIds, sideLog } = copy

      await using engine = await startEngine({ ...keeping, filename, masterKey, listen: { port: 0 } })
      await using _worker = await startProgram(copy.worker, {
        serverUrl: engine.url ?? "",
        apiKey: apiKeys.worker,
        transport,
        sideLog,
        hold: false
      } satisfies WorkerProcess)

      const { client } = engine
      assert.deepStrictEqual(await transportsOf(client), [transport])

      await moveOn(client, copy)
      const newRunIds = await startNewRuns(client, copy)
      await assertEnded(client, copy, { ...runIds, ...newRunIds })
      await assertProjects(client)
    }
  )

  it.each(transportsFor(name, 1))(
    "works with its own engine and the newest worker, over %s",
    async (transport) => {
      const copy = copyOf(name)
      const { apiKeys, database: filename, masterKey, runIds } = copy

      await using engine = await startProgram(copy.engine, { filename, masterKey } satisfies EngineProcess)
      const server = { serverUrl: engine.said, apiKey: apiKeys.worker }
      const worker =
        transport === "connect"
          ? createStreamingWorker({ ...work(copy), ...server })
          : createWorker({
              ...work(copy),
              ...server,
              transport: transport === "rpc" ? "streaming" : "polling"
            })
      await using _ = { [Symbol.asyncDispose]: () => worker.drain() }
      void worker.start()
      await worker.ready()
      await using client = createClient({ ...server, apiKey: apiKeys.admin })
      assert.deepStrictEqual(await transportsOf(client), [transport])

      const group = await emptyGroup({ ...server, apiKey: apiKeys.admin })
      await moveOn(client, copy)
      const newRunIds = await startNewRuns(client, copy)
      await assertEnded(client, copy, { ...runIds, ...newRunIds })
      assert.deepStrictEqual(await group.all, [2, 3, 4, 5, 6, 7])
      group.close()
      await assertProjects(client)
    }
  )
})

const onPostgres = names.filter((name) => fs.existsSync(path.join(folder, name, POSTGRES)))

const onPostgresTitle = "the data of the version of %s on Postgres is complete, and its runs continue"

it.each(onPostgres)(onPostgresTitle, { timeout: 120_000 }, async (name) => {
  const copy = copyOf(name)
  const { apiKeys, masterKey, runIds, seen } = copy
  const database = { url: await sharedUrl(), schema: `fixture_${name.replace("-", "_")}_${process.pid}` }
  await using _ = {
    [Symbol.asyncDispose]: async () => void (await runSql(`DROP SCHEMA IF EXISTS ${database.schema} CASCADE`))
  }
  await loadFrom(path.join(folder, name), database)

  const { schema: databaseSchema, url: databaseUrl } = database
  await using engine = await startEngine({
    ...keeping,
    databaseUrl,
    databaseSchema,
    masterKey,
    listen: { port: 0 }
  })
  await using client = createClient({ serverUrl: engine.url ?? "", apiKey: apiKeys.admin })
  const { kv, runs: _runs, ...others } = seen
  const { kv: kvNow, ...othersNow } = await look(client, runIds)
  expect(othersNow).toMatchObject(others)
  expect(kvNow).toMatchObject({ ...kv, buckets: kv.buckets.map(({ name }) => ({ name })) })

  const group = await emptyGroup({ engine })
  const returns = await emptyReturns(client, copy, { engine })
  void engine.createWorker(work(copy)).start()
  await moveOn(client, copy)
  await assertEnded(client, copy, { ...runIds, ...(await startNewRuns(client, copy)) })
  assert.deepStrictEqual(await group.all, [2, 3, 4, 5, 6, 7])
  group.close()
  assert.deepStrictEqual(await returns.all, [1, 2])
  returns.close()
  await assertQueueMoves(client, copy)
  await assertProjects(client)
})

/** Checks that the projection continues from the state in the fixture. */
const assertProjects = async (client: IronflowClient): Promise<void> => {
  const { position } = await client.emit("points.given", { customer: "bob", points: 1 })
  const { state } = await client.projections.get("points", { partition: "bob", after: position })
  assert.deepStrictEqual(state, { sum: 6, count: 2 })
}

const transportsOf = async (client: IronflowClient): Promise<ReadonlyArray<string>> =>
  (await client.listWorkers()).map(({ transport }) => transport)

/** Settings that keep all data, however old a fixture is. */
const keeping = { keepRuns: "forever", keepMessages: "forever", logger: false } as const

const assertRejects = async (
  promise: Promise<unknown>,
  kind: Parameters<typeof assert.instanceOf>[1]
): Promise<void> => {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error
  )
  assert.instanceOf(error, kind)
}
