/** Transcripts of entity streams: the requests of legacy clients, and the answers. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc, normalize, send } from "./RawClient.ts"
import { complete, RawTurnWorker } from "./RawTurnWorker.ts"

let ironflow: Ironflow
beforeAll(async () => void (ironflow = await start()))
afterAll(() => ironflow.close())

const call = (method: string, body: unknown) => rpc(ironflow.url, method, body, "EntityStreamService")

/** As a legacy client sends it: every field, in snake case. */
const append = (entity: string, more: Record<string, unknown> = {}) =>
  call("AppendEvent", {
    entity_id: entity,
    entity_type: "order",
    event_name: "item.added",
    data: { sku: "ABC", qty: 2 },
    expected_version: -1,
    idempotency_key: "",
    version: 1,
    ...more
  })

describe("AppendEvent", () => {
  it("answers with 64-bit integers as strings", async () => {
    const first = await append("golden")
    const second = await append("golden")

    assert.strictEqual(first.status, 200)
    assert.deepStrictEqual(normalize({ ...first.body, sequence: "<position>" }), {
      entityVersion: "1",
      eventId: "evt_1",
      sequence: "<position>"
    })
    assert.match(first.body.sequence, /^\d+$/)
    assert.strictEqual(second.body.entityVersion, "2")
    assert.isAbove(Number(second.body.sequence), Number(first.body.sequence))
  })

  it("reads fields in camel case and integers as digits, and ignores unknown fields", async () => {
    const { body, status } = await call("AppendEvent", {
      entityId: "camel",
      entityType: "order",
      eventName: "item.added",
      data: { a_b: { cD: 1 } },
      expectedVersion: "0",
      idempotencyKey: "k",
      version: "3",
      metadata: { by: "me" },
      frobnicate: true
    })
    const read = await call("ReadStream", { entityId: "camel" })

    assert.deepStrictEqual([status, body.entityVersion], [200, "1"])
    const [event] = read.body.events
    assert.deepInclude(event, { data: { a_b: { cD: 1 } }, version: 3, metadata: { by: "me" } })
  })

  it("answers a conflict with 409 and the text that legacy clients look for", async () => {
    await append("conflict")

    for (const expected of [0, 2, "7"]) {
      const { body, status } = await append("conflict", { expected_version: expected })

      assert.deepStrictEqual([status, body.code], [409, "aborted"])
      assert.match(body.message, /version conflict/i)
      assert.include(body.message, "actual version 1")
    }
    assert.strictEqual((await append("conflict", { expected_version: 1 })).body.entityVersion, "2")
  })

  it("treats an absent expectation as 0: the stream must not exist", async () => {
    const minimal = { entity_id: "absent", entity_type: "order", event_name: "item.added" }

    assert.strictEqual((await call("AppendEvent", minimal)).status, 200)
    assert.strictEqual((await call("AppendEvent", minimal)).status, 409)
    const { body } = await call("ReadStream", { entity_id: "absent" })
    assert.deepStrictEqual([body.events[0].data, body.events[0].version], [{}, 1])
  })

  it("with the same key answers with the first event, whatever version is expected", async () => {
    const first = await append("once", { idempotency_key: "k", expected_version: 0 })
    const again = await append("once", { idempotency_key: "k", expected_version: 0 })

    assert.deepStrictEqual(again.body, first.body)
    assert.strictEqual((await call("GetStreamInfo", { entity_id: "once" })).body.version, "1")
  })

  it.for([
    [{ entity_id: "" }, "entity id must not be empty"],
    [{ entity_id: 5 }, "entityId"],
    [{ entity_id: "x".repeat(300) }, "too large"],
    [{ entity_id: "a\u0000b" }, "control characters"],
    [{ entity_type: "" }, "entity type"],
    [{ event_name: "item.*" }, "wildcards"],
    [{ event_name: "" }, "event name"],
    [{ expected_version: -2 }, "expected version"],
    [{ expected_version: 1.5 }, "expectedVersion"],
    [{ expected_version: "soon" }, "expectedVersion"],
    [{ version: -1 }, "version"],
    [{ metadata: [] }, "metadata"],
    [{ data: "x".repeat(1024 * 1024) }, "too large"]
  ] as const)("is refused with %j", { timeout: 10_000 }, async ([mistake, reason]) => {
    const { body, status } = await append("mistaken", mistake)

    assert.strictEqual(status, 400)
    assert.include(body.message, reason)
    assert.strictEqual((await call("GetStreamInfo", { entity_id: "mistaken" })).status, 404)
  })

  it("to an entity of another type is refused", async () => {
    await append("typed")
    const { body, status } = await append("typed", { entity_type: "cart" })

    assert.deepStrictEqual([status, body.code], [400, "failed_precondition"])
  })
})

describe("AppendEvents", () => {
  it("appends all or nothing", async () => {
    const events = [{ event_name: "a", data: { n: 1 } }, { eventName: "b", version: 2 }, { event_name: "c" }]
    const body = { entity_id: "several", entity_type: "order", expected_version: 0, events }
    const appended = await call("AppendEvents", body)
    const again = await call("AppendEvents", body)
    const bad = await call("AppendEvents", {
      ...body,
      expected_version: -1,
      events: [...events, { event_name: "d e" }]
    })

    assert.deepInclude(appended.body, { entityVersion: "3", sequence: appended.body.events[2].sequence })
    assert.deepStrictEqual(
      appended.body.events.map(({ entityVersion }: any) => entityVersion),
      ["1", "2", "3"]
    )
    assert.deepStrictEqual([again.status, bad.status], [409, 400])
    assert.strictEqual((await call("GetStreamInfo", { entity_id: "several" })).body.version, "3")
  })
})

describe("ReadStream", () => {
  it("reads in both directions, and omits zeros", async () => {
    for (let n = 1; n <= 3; n++) await append("read", { data: { n } })
    const read = async (more: Record<string, unknown>) => {
      const { body } = await call("ReadStream", {
        entity_id: "read",
        from_version: 0,
        limit: 0,
        direction: "forward",
        ...more
      })
      return [(body.events ?? []).map(({ data }: any) => data.n), body.totalCount]
    }

    assert.deepStrictEqual(await read({}), [[1, 2, 3], 3])
    assert.deepStrictEqual(await read({ from_version: "2" }), [[2, 3], 3])
    assert.deepStrictEqual(await read({ direction: "backward", limit: 2 }), [[3, 2], 3])
    assert.deepStrictEqual(await read({ direction: "BACKWARD", from_version: 2 }), [[2, 1], 3])
    assert.deepStrictEqual(await read({ from_version: 9 }), [[], 3])
    assert.deepStrictEqual((await call("ReadStream", { entity_id: "nobody" })).body, {})
    const { body } = await call("ReadStream", { entity_id: "read", limit: 1 })
    assert.deepStrictEqual(normalize(body.events), [
      {
        id: "evt_1",
        name: "item.added",
        data: { n: 1 },
        entityVersion: "1",
        version: 1,
        timestamp: "<time>"
      }
    ])
  })

  it.for([{ direction: "sideways" }, { limit: -1 }, { from_version: -1 }, { limit: "many" }])(
    "is refused with %j",
    async (mistake) => {
      assert.strictEqual((await call("ReadStream", { entity_id: "read", ...mistake })).status, 400)
    }
  )
})

describe("GetStreamInfo", () => {
  it("answers with digits in strings", async () => {
    await append("info")
    const { body } = await call("GetStreamInfo", { entityId: "info" })

    assert.deepStrictEqual(normalize(body), {
      entityId: "info",
      entityType: "order",
      version: "1",
      eventCount: "1",
      createdAt: "<time>",
      updatedAt: "<time>"
    })
  })

  it("of a missing stream answers with the exact text that clients compare", async () => {
    const { body, status } = await call("GetStreamInfo", { entity_id: "nobody" })

    assert.deepStrictEqual([status, body.code, body.message], [404, "not_found", "stream not found"])
    const history = await send(ironflow.url, "GET", "/api/v1/streams/nobody/history")
    assert.deepStrictEqual(
      [history.status, history.body.error, history.body.code],
      [404, "stream not found", "STREAM_NOT_FOUND"]
    )
  })
})

describe("GetEntityHistory", () => {
  it("answers with the runs that each event started, and the next position", async () => {
    await using other = await start()
    const worker = new RawTurnWorker(other.url)
    await worker.register()
    const ask = (method: string, body: object) => rpc(other.url, method, body, "EntityStreamService")
    for (const name of ["order.placed", "order.noted"]) {
      await ask("AppendEvent", {
        entity_id: "o-1",
        entity_type: "order",
        event_name: name,
        data: { n: 1 },
        expected_version: -1
      })
    }
    const delivered = await worker.poll({ asked: 1 })
    const { jobId, runId } = delivered.body.deliveries[0].job
    const step = { stepKey: "check:0", name: "check", kind: "run", attempt: 1, startedAt: 1, endedAt: 2 }
    await worker.report(1, [
      {
        jobId,
        runId,
        ops: [
          { _tag: "StepDone", ...step, outcome: { _tag: "Success", value: '"secret"' } },
          complete("done")
        ]
      }
    ])

    const first = await ask("GetEntityHistory", { entity_id: "o-1", limit: "1" })
    const rest = await ask("GetEntityHistory", { entityId: "o-1", fromVersion: first.body.nextCursor })
    const backward = await ask("GetEntityHistory", { entity_id: "o-1", limit: 1, direction: "BACKWARD" })

    assert.deepStrictEqual(normalize(first.body), {
      entries: [
        {
          event: {
            id: "evt_1",
            name: "order.placed",
            data: { n: 1 },
            entityVersion: "1",
            version: 1,
            timestamp: "<time>"
          },
          runs: [
            {
              id: "run_1",
              functionId: delivered.body.deliveries[0].job.functionId,
              status: "RUN_STATUS_COMPLETED",
              state: "completed",
              attempt: 1,
              createdAt: "<time>",
              startedAt: "<time>",
              endedAt: "<time>",
              steps: [
                {
                  id: "run_1:check:0",
                  name: "check",
                  kind: "run",
                  status: "completed",
                  attempt: 1,
                  startedAt: "<time>",
                  endedAt: "<time>"
                }
              ]
            }
          ]
        }
      ],
      nextCursor: "2",
      totalEvents: 2,
      info: {
        entityId: "o-1",
        entityType: "order",
        version: "2",
        eventCount: "2",
        createdAt: "<time>",
        updatedAt: "<time>"
      }
    })
    assert.deepStrictEqual(
      rest.body.entries.map(({ event, runs }: any) => [event.name, runs]),
      [["order.noted", undefined]]
    )
    assert.isUndefined(rest.body.nextCursor)
    assert.deepStrictEqual(
      [backward.body.entries[0].event.name, backward.body.nextCursor],
      ["order.noted", "1"]
    )
  })

  it("needs an existing stream and a valid order", async () => {
    await append("asked")

    const nobody = await call("GetEntityHistory", { entity_id: "nobody" })
    const sideways = await call("GetEntityHistory", { entity_id: "asked", direction: "sideways" })
    const many = await call("GetEntityHistory", { entity_id: "asked", limit: 1001 })

    assert.deepStrictEqual([nobody.status, nobody.body.message], [404, "stream not found"])
    assert.deepStrictEqual([sideways.status, many.status], [400, 400])
  })
})

describe("snapshots", () => {
  it("are created and found by version", async () => {
    await append("kept")
    await append("kept")
    const made = await call("CreateSnapshot", {
      entity_id: "kept",
      entity_type: "order",
      entity_version: "1",
      state: { total: 2 }
    })
    const found = await call("GetSnapshot", { entity_id: "kept", before_version: 0 })
    const below = await call("GetSnapshot", { entity_id: "kept", before_version: 1 })
    const ahead = await call("CreateSnapshot", {
      entity_id: "kept",
      entity_type: "order",
      entity_version: 3,
      state: {}
    })

    assert.match(made.body.snapshotId, /^snap_/)
    assert.deepStrictEqual(normalize({ ...found.body, snapshotId: "<id>" }), {
      snapshotId: "<id>",
      entityId: "kept",
      entityType: "order",
      entityVersion: "1",
      state: { total: 2 },
      createdAt: "<time>"
    })
    assert.deepStrictEqual([below.status, below.body.code], [404, "not_found"])
    assert.strictEqual(ahead.status, 400)
    const nobody = await call("CreateSnapshot", { entity_id: "nobody", entity_type: "order", state: {} })
    assert.deepStrictEqual([nobody.status, nobody.body.message], [404, "stream not found"])
  })
})

describe("streams", () => {
  it("are listed over REST with numbers, and over Connect with digits in strings", async () => {
    await using other = await start()
    for (const [entity, type] of [
      ["b", "order"],
      ["a/ü", "cart"],
      ["b", "order"]
    ]) {
      await rpc(
        other.url,
        "AppendEvent",
        { entity_id: entity, entity_type: type, event_name: "x", expected_version: -1 },
        "EntityStreamService"
      )
    }
    const rest = await send(other.url, "GET", "/api/v1/streams?limit=1&offset=1&entity_type=")
    const ofType = await send(other.url, "GET", "/api/v1/streams?entity_type=cart")
    const overConnect = await rpc(other.url, "ListStreams", { entityType: "order" }, "EntityStreamService")
    const history = await send(other.url, "GET", `/api/v1/streams/${encodeURIComponent("a/ü")}/history`)
    const wrong = await send(other.url, "GET", "/api/v1/streams?limit=all")

    assert.deepStrictEqual(normalize(rest.body), {
      streams: [{ entityId: "b", entityType: "order", version: 2, eventCount: 2, lastEventAt: "<time>" }],
      totalCount: 2
    })
    assert.strictEqual(ofType.body.streams[0].entityId, "a/ü")
    assert.deepStrictEqual(normalize(overConnect.body), {
      streams: [{ entityId: "b", entityType: "order", version: "2", eventCount: "2", lastEventAt: "<time>" }],
      totalCount: 1
    })
    assert.deepStrictEqual(normalize(history.body), {
      events: [{ eventName: "x", data: {}, version: 1, timestamp: "<time>" }]
    })
    assert.strictEqual(wrong.status, 400)
  })

  it("of environments are separate", async () => {
    const headers = { "content-type": "application/json", "x-ironflow-environment": "staging" }
    await append("apart")

    const { status } = await send(
      ironflow.url,
      "POST",
      "/ironflow.v1.EntityStreamService/GetStreamInfo",
      { entity_id: "apart" },
      headers
    )

    assert.strictEqual(status, 404)
  })
})

describe("the writes of a step, as a worker reports them", () => {
  const transact = (writes: ReadonlyArray<object>) => ({
    _tag: "Transact",
    stepKey: "reserve:0",
    name: "reserve",
    value: "1",
    writes,
    attempt: 1,
    startedAt: 1,
    endedAt: 2
  })
  const event = { name: "stock.reserved", version: 1, data: "{}" }
  const appending = (more: object = {}) => ({
    _tag: "append",
    entityId: "stock",
    entityType: "stock",
    events: [event],
    ...more
  })

  const key = (more: object) => ({ _tag: "kv", bucket: "stock", key: "pen", ...more })

  /** A worker with a turn. */
  const turn = async () => {
    const ironflow = await start()
    const worker = new RawTurnWorker(ironflow.url)
    await worker.register()
    await rpc(ironflow.url, "Trigger", { event: "order.placed", data: {} })
    const { body } = await worker.poll({ asked: 1 })
    const { jobId, runId, transactions } = body.deliveries[0].job
    const report = (batch: number, ...ops: ReadonlyArray<object>) =>
      worker.report(batch, [{ jobId, runId, ops }])
    return { ironflow, report, transactions, [Symbol.asyncDispose]: () => ironflow.close() }
  }

  it("are stored with the step and acknowledged with their results; a conflict stores nothing", async () => {
    await using here = await turn()

    const conflict = await here.report(
      1,
      transact([{ _tag: "emit", ...event }, appending({ expectedVersion: 1 })])
    )
    const stored = await here.report(2, transact([appending({ expectedVersion: 0 })]), complete("done"))

    assert.strictEqual(here.transactions, true)
    assert.deepInclude(conflict.body.acks[0].outcomes[0], { _tag: "Failure" })
    assert.deepInclude(conflict.body.acks[0].outcomes[0].error, {
      name: "VersionConflictError",
      code: "VERSION_CONFLICT",
      retryable: true
    })
    const { value, writes } = JSON.parse(stored.body.acks[0].outcomes[0].value)
    assert.deepStrictEqual([value, writes.length, writes[0].entityVersion], [1, 1, 1])
    const info = await rpc(here.ironflow.url, "GetStreamInfo", { entity_id: "stock" }, "EntityStreamService")
    assert.strictEqual(info.body.version, "1")
  })

  it.for([
    [{ _tag: "drop", table: "events" }, "writes of the kinds append, emit and kv"],
    [{ _tag: "emit", ...event, name: "a b" }, "white space"],
    [{ _tag: "emit", ...event, data: "{" }, "JSON text"],
    [{ _tag: "emit", ...event, version: 0 }, "version"],
    [appending({ entityId: "" }), "entity id"],
    [appending({ entityType: 5 }), "entity type"],
    [appending({ events: [] }), "at least one event"],
    [appending({ events: [{ ...event, metadata: "[" }] }), "JSON text"],
    [appending({ expectedVersion: "latest" }), "expected version"],
    [key({ bucket: "$config" }), "name of a bucket"],
    [key({ key: "" }), "cannot be a key: it is blank"],
    [key({ expected: -1 }), "changes of keys"],
    [key({ value: "text" }), "changes of keys"],
    [key({ value: { type: "raw", data: "" } }), "changes of keys"],
    [key({ value: { type: "json", data: "{" } }), "changes of keys"],
    [key({ value: { type: "text", data: 5 } }), "changes of keys"],
    [key({ key: "twice" }), "writes that change each key at most once"],
    ["emit", "writes of the kinds append, emit and kv"]
  ] as const)("are refused as %j, and nothing is stored", async ([write, reason]) => {
    await using here = await turn()

    const { body, status } = await here.report(
      1,
      transact([appending(), key({ key: "twice" }), write as object])
    )

    assert.strictEqual(status, 400)
    assert.include(body.message, reason)
    const info = await rpc(here.ironflow.url, "GetStreamInfo", { entity_id: "stock" }, "EntityStreamService")
    assert.strictEqual(info.status, 404)
  })

  it("cannot write to another environment", async () => {
    await using here = await turn()

    await here.report(
      1,
      transact([
        appending({
          environment: "staging",
          events: [{ ...event, environment: "staging", entity: { id: "x" } }]
        }),
        { _tag: "emit", ...event, environment: "staging", entity: { id: "x", type: "y", version: 1 } }
      ])
    )

    const streams = await send(here.ironflow.url, "GET", "/api/v1/streams")
    assert.deepStrictEqual(
      streams.body.streams.map(({ entityId, version }: any) => [entityId, version]),
      [["stock", 1]]
    )
    const staging = await send(here.ironflow.url, "GET", "/api/v1/streams", undefined, {
      "x-ironflow-environment": "staging"
    })
    assert.deepStrictEqual(staging.body.streams, [])
  })
})
