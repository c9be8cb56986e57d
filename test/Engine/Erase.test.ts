/**
 * Erasing the data of one person: what is erased, kept and refused. The tests use an embedded engine and HTTP, and restart
 * the engine.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import {
  type BulkOperation,
  createClient,
  createFunction,
  createProjection,
  type EraseTarget,
  InvalidStateError,
  type IronflowClient,
  isErased,
  ValidationError
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"

const fails = true

const welcome = createFunction(
  {
    id: "welcome",
    triggers: [{ event: "user.signed-up" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.email"],
    recording: true,
    concurrency: { limit: 5, key: "event.data.email" },
    onFailure: ({ event, logger }) => logger.info(`sorry ${JSON.stringify(event.data)}`)
  },
  async ({ event, logger, step }) => {
    logger.info(`hello ${event.data.email}`)
    const mail = await step.run("write", () => `Dear ${event.data.email}`)
    const child = await step.invoke("send-mail", { to: event.data.email, mail })
    if (event.data.waits === true)
      await step.waitForEvent("confirmed", {
        event: "user.confirmed",
        match: "event.data.email",
        timeout: "1d"
      })
    if (event.data.breaks === true && fails) throw new Error(`No letter for ${event.data.email}`)
    return { sent: child, to: event.data.email }
  }
)
const sendMail = createFunction({ id: "send-mail", triggers: [] }, async ({ event }) => ({
  sentTo: event.data.to
}))
const names = createProjection({
  name: "names",
  events: ["user.*"],
  initialState: () => ({ seen: [] as Array<string> }),
  handler: (state: { seen: Array<string> }, event) => {
    // an erased event has no email, so this line would throw
    state.seen.push(event.data.email.toUpperCase())
    return state
  }
})

const folder = mkdtempSync(join(tmpdir(), "ironflow-erase-"))
const start = () =>
  startEngine({
    filename: join(folder, "erase.db"),
    logger: false,
    listen: { port: 0 },
    functions: [welcome, sendMail],
    projections: [names]
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

const done = async (client: IronflowClient, operation: Promise<BulkOperation>): Promise<BulkOperation> =>
  client.waitForBulk((await operation).id, { timeout: 60_000 })

let userCount = 0
const someone = () => `secret-person-${++userCount}@example.com`

const signUp = async (email: string, more: object = {}) => {
  const emitted = await engine.client.emit(
    "user.signed-up",
    { email, ...more },
    { idempotencyKey: `sign-up ${email}`, metadata: { by: email } }
  )
  const runId = emitted.runIds[0]!
  await vi.waitFor(async () => {
    assert.include(["completed", "failed", "waiting"], (await engine.client.getRun(runId)).status)
  }, 10_000)
  return { ...emitted, runId }
}
const targetOf = (email: string): EraseTarget => ({ events: { where: `event.data.email == "${email}"` } })

/** The files of the database that contain the text. */
const filesWith = (text: string): ReadonlyArray<string> =>
  readdirSync(folder).filter((file) => readFileSync(join(folder, file)).includes(text))

const connections: ReadonlyArray<readonly [string, () => IronflowClient]> = [
  ["embedded", () => engine.client],
  ["over HTTP", () => remote]
]

for (const [via, clientOf] of connections) {
  describe(`erasing ${via}`, () => {
    it("counts in a dry run, and changes nothing", async () => {
      const email = someone()
      const { eventId } = await signUp(email)
      const dryRunResult = await done(clientOf(), clientOf().erase(targetOf(email), { dryRun: true }))
      assert.deepStrictEqual(
        [dryRunResult.status, dryRunResult.action, dryRunResult.dryRun],
        ["completed", "erase", true]
      )
      assert.deepStrictEqual(dryRunResult.kinds, { runs: 2, events: 1 })
      const { events } = await engine.client.listEvents({ idempotencyKey: `sign-up ${email}` })
      assert.deepStrictEqual(
        events.map(({ id }) => id),
        [eventId]
      )
    })

    it("removes the data from events, from everything derived from them, and from the files", async () => {
      const email = someone()
      const other = someone()
      const user = await signUp(email, { breaks: true })
      const otherUser = await signUp(other)
      await vi.waitFor(async () => {
        const { runs } = await engine.client.listRuns({ functionId: "welcome/on-failure" })
        assert.isTrue(
          runs.some(({ input, status }) => JSON.stringify(input).includes(email) && status === "completed")
        )
      }, 10_000)
      assert.isNotEmpty(filesWith(email))

      const erased = await done(clientOf(), clientOf().erase(targetOf(email)))
      assert.strictEqual(erased.status, "completed", erased.error)
      // the run of the event, the run that it invoked, and the run of its failure handler
      assert.deepStrictEqual(erased.kinds, { events: 1, runs: 3 })
      assert.deepStrictEqual(erased.skipped, {})
      assert.match(erased.target ?? "", /^sha256:[0-9a-f]{64}$/)
      assert.include(erased.note, "no longer contains the data")
      assert.deepStrictEqual(filesWith(email), [])
      assert.isNotEmpty(filesWith(other))

      const run = await clientOf().getRun(user.runId)
      assert.strictEqual(run.status, "failed")
      assert.isTrue(isErased(run.input))
      assert.isString(run.erasedAt)
      assert.strictEqual(run.error?.message, "Erased")
      for (const step of await clientOf().getRunSteps(user.runId))
        assert.isTrue(isErased(step.output), JSON.stringify(step))
      const event = (await clientOf().listEvents({ name: "user.signed-up", limit: 1000 })).events.find(
        ({ id }) => id === user.eventId
      )
      assert.isTrue(isErased(event?.data))
      assert.isUndefined(event?.metadata)
      assert.isUndefined(event?.idempotencyKey)
      assert.include(JSON.stringify((await clientOf().getRun(otherUser.runId)).output), other)
    })

    it("refuses to continue with erased data", async () => {
      const email = someone()
      const { runId } = await signUp(email, { breaks: true })
      await done(clientOf(), clientOf().erase({ runs: { ids: [runId] } }))
      for (const call of [
        () => clientOf().retryRun(runId),
        () => clientOf().forkRun(runId),
        () => clientOf().resumeRun(runId),
        () => clientOf().patchStep(`${runId}:write:0`, "Dear you")
      ]) {
        const error = await call().then(
          () => undefined,
          (error: unknown) => error
        )
        assert.instanceOf(error, InvalidStateError)
        assert.include((error as Error).message, `Run ${runId} was erased at`)
      }
      for (const action of ["rerun", "fork", "retry", "resume"] as const) {
        const again = await done(clientOf(), clientOf().bulk(action, { ids: [runId] }))
        assert.deepStrictEqual([action, again.done, again.skipped], [action, 0, { erased: 1 }])
      }
    })

    it("erases nothing while a run is unfinished, unless it may be cancelled", async () => {
      const email = someone()
      const { runId } = await signUp(email, { waits: true })
      const refused = await done(clientOf(), clientOf().erase(targetOf(email)))
      assert.strictEqual(refused.status, "stopped")
      assert.include(refused.error, `1 run has not ended: ${runId} (waiting). So nothing was erased`)
      assert.strictEqual((await clientOf().getRun(runId)).status, "waiting")
      const erased = await done(clientOf(), clientOf().erase(targetOf(email), { cancel: true }))
      assert.deepStrictEqual(
        [erased.status, erased.kinds],
        ["completed", { events: 1, runs: 2 }],
        erased.error
      )
      assert.strictEqual((await clientOf().getRun(runId)).status, "cancelled")
      assert.deepStrictEqual(filesWith(email), [])
    })

    it("leaves the searched values in no file, even when it finds nothing", async () => {
      for (const options of [{ dryRun: true }, {}, { cancel: true }]) {
        const email = someone()
        const ended = await done(clientOf(), clientOf().erase(targetOf(email), options))
        assert.deepStrictEqual([ended.status, ended.matched], ["completed", 0])
        assert.deepStrictEqual(filesWith(email), [], JSON.stringify(options))
        const named = `run_nobody-${email}`
        const missing = await done(clientOf(), clientOf().erase({ runs: { ids: [named] } }, options))
        assert.deepStrictEqual(missing.skipped, { "not found": 1 })
        assert.strictEqual(
          missing.note,
          options.dryRun === true
            ? undefined
            : "Nothing was found to erase, and the database was not changed."
        )
      }
    })

    it("may be repeated", async () => {
      const email = someone()
      const { runId } = await signUp(email)
      const first = await done(clientOf(), clientOf().erase(targetOf(email)))
      assert.deepStrictEqual(first.kinds, { events: 1, runs: 2 })
      const second = await done(clientOf(), clientOf().erase(targetOf(email)))
      assert.deepStrictEqual([second.status, second.matched], ["completed", 0])
      const third = await done(clientOf(), clientOf().erase({ runs: { ids: [runId, "run_none"] } }))
      assert.deepStrictEqual(third.skipped, { "erased already": 1, "not found": 1 })
    })

    it("purges keys and configurations, by name and by prefix", async () => {
      const email = someone()
      const bucket = `profiles-${userCount}`
      const kv = via === "embedded" ? engine.client.kv() : remote.kv()
      await kv.createBucket({ name: bucket, history: 5 })
      const handle = kv.bucket(bucket)
      for (const key of ["a.1", "a.2", "b.1"])
        for (const n of [1, 2]) await handle.put(key, { email, key, n })
      await engine.client.config().set(`of-${userCount}`, { email })
      const erased = await done(
        clientOf(),
        clientOf().erase({
          keys: [
            { bucket, prefix: "a." },
            { bucket, key: "b.1" }
          ],
          configs: [`of-${userCount}`]
        })
      )
      assert.deepStrictEqual(erased.kinds, { keys: 3, configs: 1 })
      assert.deepStrictEqual(await handle.listKeys(), [])
      assert.deepStrictEqual(filesWith(email), [])
    })

    it("erases a stream with its snapshots, and the stream can still be read", async () => {
      const email = someone()
      const entityId = `customer-${userCount}`
      const streams = clientOf().streams
      for (const name of ["customer.created", "customer.moved"])
        await streams.append(entityId, { name, data: { email }, entityType: "customer" })
      await streams.createSnapshot(entityId, { entityType: "customer", entityVersion: 2, state: { email } })
      const erased = await done(clientOf(), clientOf().erase({ streams: [entityId] }))
      assert.deepStrictEqual(erased.kinds, { events: 2 })
      const { events } = await streams.read(entityId)
      assert.deepStrictEqual(
        events.map(({ data }) => isErased(data)),
        [true, true]
      )
      assert.isNull((await streams.getSnapshot(entityId)) ?? null)
      assert.deepStrictEqual(filesWith(email), [])
      await streams.append(
        entityId,
        { name: "customer.moved", data: { again: true }, entityType: "customer" },
        { expectedVersion: 2 }
      )
    })

    it("explains what is wrong with a request, and changes nothing", async () => {
      const wrong: ReadonlyArray<readonly [unknown, unknown, RegExp]> = [
        [{}, {}, /no target is given/],
        [{ events: {} }, {}, /`events` is empty/],
        [{ events: { where: "" } }, {}, /`events.where` is blank/],
        [{ events: { where: "event.data.email ==" } }, {}, /CEL/],
        [{ events: { wher: "true" } }, {}, /wher/],
        [{ event: { where: "true" } }, {}, /event/],
        [{ events: null }, {}, /null/],
        [{ events: { where: "true" } }, { dryRun: null }, /null|dryRun/],
        [{ runs: {} }, {}, /`runs` is empty/],
        [{ runs: { ids: [] } }, {}, /empty/],
        [{ runs: { state: "failed" } }, {}, /^erase has no filter "state"/],
        [{ runs: { functionId: [] } }, {}, /^erase: `functionId` is an empty list/],
        [{ streams: [] }, {}, /empty/],
        [{ keys: [{ bucket: "nowhere", key: "a" }] }, {}, /no bucket "nowhere"/],
        [{ keys: [{ bucket: "nowhere" }] }, {}, /needs `key` or `prefix`, and not both/],
        [{ events: { since: "yesterday" } }, {}, /ISO string/],
        // if the engine ignored this option, it would erase data that was only to be counted
        [{ events: { where: "true" }, dryRun: true }, {}, /has no option `dryRun` in this argument/],
        [{ events: { where: "true" } }, { dry_run: true }, /has no option `dry_run`/],
        [{ events: { where: "true" } }, { dry: true }, /has no option `dry` in this argument/]
      ]
      for (const [target, options, words] of wrong) {
        const error = await clientOf()
          .erase(target as EraseTarget, options as object)
          .then(
            () => undefined,
            (error: unknown) => error
          )
        assert.instanceOf(error, ValidationError, JSON.stringify(target))
        assert.match((error as Error).message, words)
      }
    })
  })
}

it("projections skip an erased event, also in a rebuild", async () => {
  const email = someone()
  const kept = someone()
  await signUp(email)
  await signUp(kept)
  const state = async () => JSON.stringify(await engine.client.projections.get("names"))
  await vi.waitFor(async () => assert.include(await state(), kept.toUpperCase()), 10_000)
  assert.include(await state(), email.toUpperCase())
  const erased = await done(engine.client, engine.client.erase(targetOf(email)))
  assert.deepStrictEqual(erased.rebuild, ["names"])
  assert.include(erased.note, "when all projections are rebuilt, run `ironflow erase --compact --yes`")
  await engine.client.projections.rebuild("names")
  await vi.waitFor(async () => assert.notInclude(await state(), email.toUpperCase()), 10_000)
  await vi.waitFor(async () => assert.include(await state(), kept.toUpperCase()), 10_000)
  assert.strictEqual((await engine.client.projections.status("names")).status, "active")
  const compacted = await done(engine.client, engine.client.erase({}, { compact: true }))
  assert.include(compacted.note, "contains no data that was deleted before")
  assert.deepStrictEqual(filesWith(email.toUpperCase()), [])
})

it("the access log shows an erasure without the erased values", async () => {
  const email = someone()
  await signUp(email)
  const { id, target } = await done(engine.client, engine.client.erase(targetOf(email)))
  const response = await fetch(`${engine.url}/api/v1/access-log`)
  const text = await response.text()
  assert.include(text, id)
  assert.include(text, "data:erase")
  assert.include(text, String(target))
  assert.notInclude(text, email)
})

it(
  "an event can be erased when more runs have received it than fit into one transaction",
  { timeout: 120_000 },
  async () => {
    const filename = join(folder, "many.db")
    const listener = createFunction({ id: "listener", triggers: [{ event: "listening" }] }, ({ step }) =>
      step.waitForEvent("told", { event: "all.told", timeout: "1d" })
    )
    const open = () => startEngine({ filename, logger: false, functions: [listener] })
    let many = await open()
    const runId = (await many.client.emit("listening", {})).runIds[0]!
    await vi.waitFor(
      async () => assert.strictEqual((await many.client.getRun(runId)).status, "waiting"),
      20_000
    )
    await many.client.emit("all.told", { email: "secret-crowd" }, { idempotencyKey: "told" })
    await vi.waitFor(
      async () => assert.strictEqual((await many.client.getRun(runId)).status, "completed"),
      20_000
    )
    await many.close()
    const db = new DatabaseSync(filename)
    const columns = (table: string) =>
      db
        .prepare("SELECT name FROM pragma_table_info(?)")
        .all(table)
        .map(({ name }) => String(name))
    const copies = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4500)`
    const key = "(SELECT key FROM runs)"
    const steps = columns("steps").filter((name) => name !== "run")
    db.exec(
      `INSERT INTO steps (run, ${steps.join(", ")}) ${copies} SELECT ${key} + i, ${steps.join(", ")} FROM n, steps`
    )
    const runs = columns("runs").filter((name) => name !== "key" && name !== "id")
    db.exec(
      `INSERT INTO runs (key, id, ${runs.join(", ")}) ${copies} SELECT key + i, id || '-' || i, ${runs.join(", ")} FROM n, runs`
    )
    db.close()
    many = await open()
    try {
      const target: EraseTarget = { events: { idempotencyKey: "told" } }
      const dryRunResult = await done(many.client, many.client.erase(target, { dryRun: true }))
      assert.deepStrictEqual(dryRunResult.kinds, { events: 1, runs: 4501 })
      const erased = await done(many.client, many.client.erase(target))
      assert.strictEqual(erased.status, "completed", erased.error)
      assert.deepStrictEqual(erased.kinds, { events: 1, runs: 4501 })
      assert.deepStrictEqual(erased.skipped, {})
      assert.isTrue(isErased((await many.client.getRun(`${runId}-4500`)).output))
    } finally {
      await many.close()
    }
  }
)
