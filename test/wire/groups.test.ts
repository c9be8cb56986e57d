/** Consumer groups on the wire: over REST, and as the calls of `PubSubService` that legacy clients make. */
import { once } from "node:events"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { WebSocket } from "ws"
import { reader } from "../../src/Protocol/Codec.ts"
import { callSpecs } from "../../src/Protocol/ConsumerGroups.ts"
import { encoder } from "../../src/Protocol/ServerCodec.ts"
import type { CallSpec } from "../../src/Protocol/CallSpec.ts"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc, normalize, send } from "./RawClient.ts"

let ironflow: Ironflow
beforeEach(async () => {
  ironflow = await start()
})
afterEach(() => ironflow.close())

const rest = (method: string, path = "", body?: unknown) =>
  send(ironflow.url, method, `/api/v1/consumer-groups${path}`, body)
const call = (method: string, body: unknown) => rpc(ironflow.url, method, body, "PubSubService")
/** Checks that the spec describes the whole answer. */
const assertDescribed = <A>({ answer }: CallSpec<A>, body: unknown) =>
  assert.deepStrictEqual(encoder(answer!)(reader(answer!)(body)!), body)

const printers = { name: "printers", pattern: "topic:news" }

describe("consumer groups over REST", () => {
  it("are created, read, updated, paused, resumed and deleted", async () => {
    const created = await rest("POST", "", {
      ...printers,
      filter: "event.data.i > 1",
      ack_mode: "manual",
      maxInflight: "7",
      redeliver_delay_ms: 0,
      buffer: { max_bytes: 4096 },
      metadata: { team_name: "media" },
      unknown: 1
    })
    assert.strictEqual(created.status, 200, created.text)
    assertDescribed(callSpecs.restGetConsumerGroup, created.body)
    const expected = {
      id: "grp_1",
      namespace: "default",
      ...printers,
      filter: "event.data.i > 1",
      status: "active",
      message: 'No member is connected; 0 events wait. Nothing in the log matches "topic:news" so far.',
      position: 0,
      lag: 0,
      inFlight: 0,
      retrying: 0,
      givenUp: 0,
      deadLetters: 0,
      memberCount: 0,
      members: [],
      ackMode: "manual",
      backpressure: "buffer",
      buffer: { maxBytes: 4096 },
      maxInflight: 7,
      maxRedeliveries: 10,
      redeliverDelayMs: 0,
      metadata: { team_name: "media" },
      createdAt: "<time>",
      updatedAt: "<time>",
      usedAt: "<time>"
    }
    assert.deepStrictEqual(normalize(created.body), expected)
    assert.deepStrictEqual((await rest("GET", "/printers")).body, created.body)

    const updated = await rest("PATCH", "/printers?namespace=default&pattern=topic:news", {
      max_inflight: null,
      filter: null,
      backpressure: "block"
    })
    const { filter: _, ...unfiltered } = expected
    assert.deepStrictEqual(normalize(updated.body), {
      ...unfiltered,
      backpressure: "block",
      maxInflight: 100
    })

    await rpc(ironflow.url, "Publish", { topic: "news", data: { i: 1 } }, "PubSubService")
    const paused = await rest("POST", "/printers/pause", { by: "ops", reason: "no paper" })
    assertDescribed(callSpecs.restGetConsumerGroup, paused.body)
    assert.deepInclude(normalize(paused.body), {
      status: "paused",
      pausedBy: "ops",
      pauseReason: "no paper",
      pausedAt: "<time>",
      lag: 1
    })
    const resumed = await rest("POST", "/printers/resume", {})
    assert.deepInclude(resumed.body, { status: "active", message: "No member is connected; 1 event waits." })
    assert.deepInclude((await rest("POST", "/printers/pause")).body, { pausedBy: "a client" })

    assert.strictEqual((await rest("DELETE", "/printers")).status, 204)
    const gone = await rest("GET", "/printers")
    assert.deepStrictEqual([gone.status, gone.body.code], [404, "CONSUMER_GROUP_NOT_FOUND"])
  })

  it("list dead letters in pages, and retry them", async () => {
    await rest("POST", "", printers)
    const socket = new WebSocket(`${ironflow.url.replace("http", "ws")}/ws`)
    const received: Array<{ readonly type: string; readonly eventId?: string }> = []
    const receives = async (count: number) => {
      while (received.length < count) await once(socket, "message")
    }
    socket.on("message", (data) => received.push(JSON.parse(String(data))))
    await once(socket, "open")
    const options = { consumerGroup: "printers", ackMode: "manual" }
    socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern: "topic:news", options } }))
    await receives(1)
    for (const i of [1, 2])
      await rpc(ironflow.url, "Publish", { topic: "news", data: { i } }, "PubSubService")
    await receives(3)
    for (const [requestId, { eventId }] of received.slice(1).entries()) {
      socket.send(JSON.stringify({ type: "ack", eventId, ackType: "term", requestId, reason: "torn" }))
    }
    await receives(5)

    const { body } = await rest("GET", "/printers/dead-letters?limit=1")
    assertDescribed(callSpecs.groupDeadLetters, body)
    const letter = {
      position: 1,
      event: { id: received[1]!.eventId, name: "news", version: 1, data: { i: 1 }, timestamp: "<time>" },
      reason: "torn",
      attempts: 1,
      failedAt: "<time>"
    }
    assert.deepStrictEqual(normalize(body), normalize({ dead_letters: [letter] }))
    const { dead_letters: second } = (await rest("GET", "/printers/dead-letters?after=1")).body
    assert.deepStrictEqual(
      second.map((one: { position: number }) => one.position),
      [2]
    )
    const group = (await call("GetConsumerGroup", { name: "printers" })).body
    assertDescribed(callSpecs.getConsumerGroup, group)
    assert.deepInclude(group, { givenUp: 2, deadLetters: 2 })

    const retry = async (body?: object) => (await rest("POST", "/printers/dead-letters/retry", body)).body
    assert.deepStrictEqual(await retry({ position: 1 }), { retrying: 1 })
    assert.strictEqual((await retry({ position: 1 })).code, "INVALID_STATE")
    assert.deepStrictEqual([await retry(), await retry({})], [{ retrying: 1 }, { retrying: 0 }])
    await receives(7)
    assert.deepStrictEqual(
      received.slice(5).map(({ eventId }) => eventId),
      received.slice(1, 3).map(({ eventId }) => eventId)
    )
    for (const query of ["?limit=0", "?limit=1001", "?after=-1"]) {
      assert.strictEqual((await rest("GET", `/printers/dead-letters${query}`)).status, 400, query)
    }
    assert.strictEqual((await rest("GET", "/nobody/dead-letters")).status, 404)
    socket.close()
    await once(socket, "close")
  })

  it("are listed by query, in pages", async () => {
    for (const namespace of ["a", "b", "c"]) await rest("POST", "", { ...printers, namespace })
    await rest("POST", "/printers/pause?namespace=b")
    const list = async (query: string) => {
      const { body, status, text } = await rest("GET", query)
      assert.strictEqual(status, 200, text)
      assertDescribed(callSpecs.restListConsumerGroups, body)
      return [body.groups.map((group: { namespace: string }) => group.namespace).join(), body.totalCount]
    }

    assert.deepStrictEqual(await list(""), ["a,b,c", 3])
    assert.deepStrictEqual(await list("?namespace=c&name=printers"), ["c", 1])
    assert.deepStrictEqual(await list("?status=paused"), ["b", 1])
    const { body } = await rest("GET", "?limit=2")
    assert.deepStrictEqual(await list(`?limit=2&cursor=${body.nextCursor}`), ["c", 3])
  })

  it.each([
    ["POST", "", { name: "printers" }, 400, "VALIDATION_ERROR"],
    ["POST", "", { ...printers, pattern: "system.run.>" }, 400, "VALIDATION_ERROR"],
    ["POST", "", { ...printers, maxInflight: 0 }, 400, "VALIDATION_ERROR"],
    ["POST", "", "{", 400, "INVALID_JSON"],
    ["POST", "", printers, 409, "CONSUMER_GROUP_EXISTS"],
    ["GET", "/nobody", undefined, 404, "CONSUMER_GROUP_NOT_FOUND"],
    ["GET", "/printers", undefined, 400, "CONSUMER_GROUP_AMBIGUOUS"],
    ["DELETE", "/printers", undefined, 400, "CONSUMER_GROUP_AMBIGUOUS"],
    ["PATCH", "/printers?pattern=topic:news", { ackMode: "later" }, 400, "VALIDATION_ERROR"],
    ["POST", "/printers/pause?pattern=topic:news", { reason: 5 }, 400, "VALIDATION_ERROR"],
    ["POST", "/printers/pause?pattern=topic:third", {}, 404, "CONSUMER_GROUP_NOT_FOUND"],
    ["GET", "?status=odd", undefined, 400, "VALIDATION_ERROR"],
    ["GET", "?cursor=x", undefined, 400, "VALIDATION_ERROR"],
    ["GET", "?limit=-1", undefined, 400, "VALIDATION_ERROR"]
  ])("%s %s with %j is refused and changes nothing", async (method, path, body, status, code) => {
    await rest("POST", "", printers)
    await rest("POST", "", { ...printers, pattern: "topic:other" })
    const before = await rest("GET")

    const answer = await rest(method, path, body)

    assert.strictEqual(answer.status, status, answer.text)
    if (code !== "INVALID_JSON") assert.strictEqual(answer.body.code, code)
    assert.deepStrictEqual((await rest("GET")).body, before.body)
  })
})

describe("a legacy client", () => {
  it("creates a group with the enums of the protocol, and gets only fields that it knows", async () => {
    const { body, status, text } = await call("CreateConsumerGroup", {
      namespace: "",
      ...printers,
      filterExpr: "event.data.i > 1",
      ackMode: "ACK_MODE_MANUAL",
      backpressure: 2,
      maxInflight: 0,
      maxRedeliveries: 5,
      redeliverDelayMs: "250"
    })
    assert.strictEqual(status, 200, text)
    assertDescribed(callSpecs.getConsumerGroup, body)
    assert.deepStrictEqual(normalize(body), {
      id: "grp_1",
      namespace: "default",
      ...printers,
      filterExpr: "event.data.i > 1",
      ackMode: "ACK_MODE_MANUAL",
      backpressure: "BACKPRESSURE_MODE_BLOCK",
      buffer: {},
      maxInflight: 100,
      maxRedeliveries: 5,
      redeliverDelayMs: 250,
      status: "CONSUMER_GROUP_STATUS_ACTIVE",
      message: 'No member is connected; 0 events wait. Nothing in the log matches "topic:news" so far.',
      position: "0",
      lag: "0",
      createdAt: "<time>",
      updatedAt: "<time>",
      usedAt: "<time>"
    })
    assert.deepStrictEqual((await call("GetConsumerGroup", { name: "printers" })).body, body)
    const again = await call("CreateConsumerGroup", printers)
    assert.deepStrictEqual([again.status, again.body.code], [409, "already_exists"])
  })

  it("lists groups by status, in pages, and gets an empty answer where there are none", async () => {
    assert.deepStrictEqual((await call("ListConsumerGroups", {})).body, {})
    for (const namespace of ["a", "b"]) await call("CreateConsumerGroup", { ...printers, namespace })

    const first = await call("ListConsumerGroups", { limit: 1, cursor: "", status: 1 })
    const last = await call("ListConsumerGroups", { limit: 1, cursor: first.body.nextCursor })

    assertDescribed(callSpecs.listConsumerGroups, first.body)
    assert.deepStrictEqual(
      [first, last].map(({ body }) => [body.groups[0].namespace, body.totalCount]),
      [
        ["a", 2],
        ["b", 2]
      ]
    )
    const paused = await call("ListConsumerGroups", { status: "CONSUMER_GROUP_STATUS_PAUSED" })
    assert.deepStrictEqual(paused.body, {})
    assert.deepStrictEqual((await call("ListConsumerGroups", { status: 3 })).body, {})
  })

  it("updates the fields of the mask, and pauses by the status", async () => {
    await call("CreateConsumerGroup", { ...printers, maxInflight: 5, filterExpr: "event.data.i > 1" })
    const update = async (group: object, more: object = {}) => {
      const { body } = await call("UpdateConsumerGroup", { group: { name: "printers", ...group }, ...more })
      return [body.maxInflight, body.filterExpr, body.status?.slice(22), body.pausedBy, body.code]
    }

    assert.deepStrictEqual(await update({ maxInflight: 9 }, { updateMask: "maxInflight,filterExpr" }), [
      9,
      undefined,
      "ACTIVE",
      undefined,
      undefined
    ])
    assert.deepStrictEqual(
      await update(
        { max_inflight: 1, filter_expr: "event.data.i > 2" },
        { update_mask: { paths: ["filter_expr"] } }
      ),
      [9, "event.data.i > 2", "ACTIVE", undefined, undefined]
    )
    assert.deepStrictEqual(await update({ status: 2, maxInflight: 3 }, { by: "ops" }), [
      3,
      "event.data.i > 2",
      "PAUSED",
      "ops",
      undefined
    ])
    assert.deepStrictEqual(
      await update({ status: "CONSUMER_GROUP_STATUS_ACTIVE" }, { updateMask: "status" }),
      [3, "event.data.i > 2", "ACTIVE", undefined, undefined]
    )
    for (const [group, more] of [
      [{ pattern: "topic:news" }, { updateMask: "pattern" }],
      [{ status: 3 }, {}],
      [{}, { updateMask: 5 }]
    ] as const) {
      assert.strictEqual((await update(group, more)).at(-1), "invalid_argument", JSON.stringify(group))
    }
  })

  it("deletes a group, once", async () => {
    await call("CreateConsumerGroup", printers)
    const request = { namespace: "default", name: "printers" }

    assert.deepStrictEqual((await call("DeleteConsumerGroup", request)).body, {})
    const again = await call("DeleteConsumerGroup", request)
    assert.deepStrictEqual([again.status, again.body.code], [404, "not_found"])
  })
})

it("the description of the server has the calls about groups", async () => {
  const { paths } = (await send(ironflow.url, "GET", "/openapi.json")).body
  assert.containsAllKeys(paths["/api/v1/consumer-groups/{name}"], ["get", "patch", "delete"])
  assert.containsAllKeys(paths, [
    "/api/v1/consumer-groups",
    "/api/v1/consumer-groups/{name}/pause",
    "/api/v1/consumer-groups/{name}/resume",
    "/ironflow.v1.PubSubService/UpdateConsumerGroup"
  ])
})
