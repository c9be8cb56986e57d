/** Consumer groups through the client: in the process of the engine, over HTTP, and on legacy servers. */
import {
  type ConsumerGroupConfig,
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  createClient,
  createSubscriptionClient,
  type IronflowClient,
  type SubscriptionErrorInfo,
  ValidationError
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { ScriptedServer } from "./ScriptedServer.ts"

let engine: IronflowEngine
let overHttp: IronflowClient
beforeEach(async () => {
  engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  overHttp = createClient({ serverUrl: engine.url })
})
afterEach(async () => {
  await overHttp.close()
  await engine.close()
})

const rejection = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => undefined,
    (error: unknown) => error
  )

const printers = { name: "printers", pattern: "topic:news" } as const

it("both APIs see the same group, with all its fields", async () => {
  const made = await overHttp.consumerGroups.create({
    ...printers,
    namespace: "media",
    filter: "event.data.i > 1",
    ackMode: "manual",
    backpressure: "block",
    buffer: { maxBytes: 2048 },
    maxInflight: 7,
    maxRedeliveries: 0,
    redeliverDelayMs: 0,
    metadata: { team_name: "media", big: 1 }
  })
  const options = { namespace: "media" }
  assert.deepStrictEqual(await engine.client.consumerGroups.get("printers", options), made)
  assert.deepInclude(made, { maxRedeliveries: 0, redeliverDelayMs: 0, maxInflight: 7, backpressure: "block" })

  using sub = createSubscriptionClient({ serverUrl: engine.url! })
  await sub.connect()
  await sub.subscribe("topic:news", { consumerGroup: "printers", namespace: "media" })
  await overHttp.consumerGroups.pause("printers", { ...options, by: "ops", reason: "no paper" })
  await engine.client.publish("news", { i: 2 })
  const there = await engine.client.consumerGroups.get("printers", options)
  assert.deepStrictEqual(await overHttp.consumerGroups.get("printers", options), there)
  assert.deepInclude(there, { status: "paused", memberCount: 1, lag: 1, pausedBy: "ops" })
  assert.deepStrictEqual(await overHttp.consumerGroups.list(), [there])
})

describe.each([
  ["in process", () => engine.client],
  ["over HTTP", () => overHttp]
] as const)("%s", (_, open) => {
  it("a group is created, read, updated, paused, resumed and deleted", async () => {
    const { consumerGroups } = open()
    await consumerGroups.create({ ...printers, maxInflight: 5, filter: "event.data.i > 1" })
    const updated = await consumerGroups.update("printers", {
      maxInflight: null,
      filter: null,
      maxRedeliveries: 0
    })
    assert.deepInclude(updated, { maxInflight: 100, maxRedeliveries: 0 })
    assert.notProperty(updated, "filter")
    assert.strictEqual((await consumerGroups.pause("printers")).status, "paused")
    assert.lengthOf(await consumerGroups.list({ status: "paused", name: "printers" }), 1)
    assert.strictEqual((await consumerGroups.resume("printers")).status, "active")
    assert.isUndefined(await consumerGroups.delete("printers"))
    assert.deepStrictEqual(await consumerGroups.list(), [])
  })

  it("each invalid operation rejects with an error of its class", async () => {
    const { consumerGroups } = open()
    const unknown = await rejection(consumerGroups.get("nobody"))
    assert.instanceOf(unknown, ConsumerGroupNotFoundError)
    assert.strictEqual(unknown.group, "nobody")
    await consumerGroups.create(printers)
    assert.instanceOf(await rejection(consumerGroups.create(printers)), ConsumerGroupExistsError)
    await consumerGroups.create({ ...printers, pattern: "topic:other" })
    const ambiguous = await rejection(consumerGroups.pause("printers"))
    assert.instanceOf(ambiguous, ValidationError)
    assert.deepStrictEqual(ambiguous.details, { patterns: ["topic:news", "topic:other"] })
    // the types refuse some of these
    for (const bad of [undefined, {}, { name: 5, pattern: "a" }]) {
      assert.instanceOf(await rejection(consumerGroups.create(bad as ConsumerGroupConfig)), ValidationError)
    }
    assert.instanceOf(
      await rejection(consumerGroups.update("printers", { maxInflight: -1 }, { pattern: "topic:news" })),
      ValidationError
    )
    const signal = AbortSignal.abort("enough")
    assert.strictEqual(await rejection(consumerGroups.list({ signal })), "enough")
  })

  it("a long list is complete", async () => {
    const { consumerGroups } = open()
    const names = Array.from({ length: 205 }, (_, i) => `group-${i}`)
    await Promise.all(names.map((name) => engine.client.consumerGroups.create({ ...printers, name })))

    assert.deepStrictEqual((await consumerGroups.list()).map(({ name }) => name).toSorted(), names.toSorted())
  })
})

it("a subscription whose group is deleted ends, and is not renewed with the next connection", async () => {
  const errors: Array<SubscriptionErrorInfo> = []
  const seen: Array<number> = []
  using sub = createSubscriptionClient({ serverUrl: engine.url!, reconnectDelay: 10 })
  await sub.connect()
  const options = {
    consumerGroup: "printers",
    ackMode: "manual",
    onEvent: ({ data }: { readonly data: { readonly i: number } }) => void seen.push(data.i),
    onError: (error: SubscriptionErrorInfo) => void errors.push(error)
  } as const
  await sub.subscribe("topic:news", options)

  await engine.client.consumerGroups.delete("printers")
  await vi.waitFor(() => assert.lengthOf(errors, 1))

  assert.deepInclude(errors[0], { code: "CONSUMER_GROUP_DELETED", retrying: false })
  await engine.client.publish("news", { i: 1 })
  // a pattern can be subscribed to again once its subscription has ended
  const again = await sub.subscribe("topic:news", options)
  await engine.client.publish("news", { i: 2 })
  await vi.waitFor(() => assert.deepStrictEqual(seen, [2]))
  await again.ack(again.lastEvent!.eventId!)
})

it("answers of legacy servers are read: enum names, absent fields, pages", async () => {
  const group = {
    id: "7d9",
    namespace: "default",
    ...printers,
    ackMode: "ACK_MODE_AUTO",
    backpressure: "BACKPRESSURE_MODE_DROP",
    maxInflight: 10,
    status: "CONSUMER_GROUP_STATUS_PAUSED",
    createdAt: "2026-01-02T03:04:05Z"
  }
  await using server = await ScriptedServer.start(({ body, path }) => {
    if (path.endsWith("ListConsumerGroups")) {
      return body.cursor === undefined
        ? { body: { groups: [group], nextCursor: "1", totalCount: 2 } }
        : { body: { groups: [{ ...group, name: "packers" }], totalCount: 2 } }
    }
    return path.endsWith("GetConsumerGroup")
      ? { status: 404, body: { code: "not_found", message: "no such group" } }
      : { body: path.endsWith("DeleteConsumerGroup") ? {} : group }
  })
  await using client = createClient({ serverUrl: server.url })

  const [first, second] = await client.consumerGroups.list()

  assert.deepStrictEqual(first, {
    id: "7d9",
    namespace: "default",
    ...printers,
    status: "paused",
    message: "printers is paused",
    position: 0,
    lag: 0,
    inFlight: 0,
    retrying: 0,
    givenUp: 0,
    deadLetters: 0,
    memberCount: 0,
    members: [],
    ackMode: "auto",
    backpressure: "drop",
    buffer: {},
    maxInflight: 10,
    maxRedeliveries: 0,
    redeliverDelayMs: 0,
    createdAt: group.createdAt,
    updatedAt: group.createdAt,
    usedAt: group.createdAt
  })
  assert.strictEqual(second?.name, "packers")
  assert.instanceOf(await rejection(client.consumerGroups.get("printers")), ConsumerGroupNotFoundError)
  await client.consumerGroups.pause("printers", { reason: "no paper" })
  assert.deepStrictEqual(server.asked.at(-1)?.body, {
    group: { name: "printers", status: "CONSUMER_GROUP_STATUS_PAUSED" },
    updateMask: "status",
    reason: "no paper"
  })
  assert.isUndefined(await client.consumerGroups.delete("printers"))
})
