/** Input and results of calls are the same in the process and over HTTP. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { type IronflowEngine, startEngine } from "../src/engine.ts"
import {
  createClient,
  createFunction,
  createSubscriptionClient,
  type IronflowClient,
  ValidationError
} from "../src/index.ts"

const lines: Array<string> = []
const line = (message: string) => void lines.push(message)
const half = "\ud800"

let engine: IronflowEngine
let remote: IronflowClient
let received: (topic: string, count: number) => Promise<ReadonlyArray<unknown>>
let closeSubscriptions: () => Promise<void>

beforeAll(async () => {
  const says = createFunction({ id: "says", triggers: [{ event: "say" }] }, async ({ event, step }) => {
    const values: Array<unknown> = [null, Number.NaN, new Date(Number.NaN), undefined]
    await step.publish(event.data.topic, values[event.data.value])
  })
  engine = await startEngine({
    filename: ":memory:",
    logger: { debug: line, info: line, warn: line, error: line },
    listen: { port: 0 },
    functions: [says],
    masterKey: "0".repeat(64)
  })
  remote = createClient({ serverUrl: engine.url! })
  await engine.client.kv().createBucket({ name: "sessions" })
  const subscriptions = createSubscriptionClient({ serverUrl: engine.url! })
  await subscriptions.connect()
  received = async (topic, count) => {
    const seen: Array<unknown> = []
    let resolve = (): void => undefined
    const promise = new Promise<void>((done) => (resolve = done))
    const subscription = await subscriptions.subscribe(`topic:${topic}`, {
      replay: 100,
      onEvent: ({ data }) => {
        seen.push(data)
        if (seen.length === count) resolve()
      }
    })
    await promise
    await subscription.unsubscribe()
    return seen
  }
  closeSubscriptions = async () => subscriptions.close()
})
afterAll(async () => {
  await closeSubscriptions()
  await remote.close()
  await engine.close()
})

const connections = () => [["here", engine.client] as const, ["http", remote] as const]

/** The result of a call, or `refused`. */
const outcomeOf = async (call: () => Promise<unknown>): Promise<unknown> => {
  try {
    return await call()
  } catch (error) {
    assert.instanceOf(error, ValidationError)
    return "refused"
  }
}

describe("data", () => {
  const values: ReadonlyArray<readonly [name: string, given: unknown, kept: unknown]> = [
    ["null", null, null],
    ["undefined", undefined, {}],
    ["NaN", Number.NaN, null],
    ["Infinity", Number.POSITIVE_INFINITY, null],
    ["an invalid date", new Date(Number.NaN), null],
    ["an empty string", "", ""],
    ["zero", 0, 0],
    ["false", false, false],
    ["an empty list", [], []],
    ["an empty object", {}, {}],
    ["half of a surrogate pair", half, half]
  ]
  let count = 0
  const uniqueName = () => `n${++count}`

  const lastEvent = async (name: string) => {
    const answer = await fetch(`${engine.url}/api/v1/events?limit=200`)
    const { events } = (await answer.json()) as { events: Array<{ name: string; data: unknown }> }
    return events.find((event) => event.name === name)?.data
  }

  const keeping: ReadonlyArray<
    readonly [string, (client: IronflowClient, value: never) => Promise<unknown>]
  > = [
    [
      "emit",
      async (client, value) => {
        const name = uniqueName()
        await client.emit(name, value)
        return lastEvent(name)
      }
    ],
    [
      "publish",
      async (client, value) => {
        const topic = uniqueName()
        await client.publish(topic, value)
        return (await received(topic, 1))[0]
      }
    ],
    [
      "append",
      async (client, value) => {
        const id = uniqueName()
        await client.streams.append(id, { name: "placed", data: value, entityType: "order" })
        return (await client.streams.read(id)).events[0]?.data
      }
    ],
    [
      "appendAll",
      async (client, value) => {
        const id = uniqueName()
        await client.streams.appendAll(id, { entityType: "order", events: [{ name: "placed", data: value }] })
        return (await client.streams.read(id)).events[0]?.data
      }
    ]
  ]
  describe.each(keeping)("of %s", (_, call) => {
    it.each(values)("that is %s is stored as in JSON, and as {} when absent", async (_, given, kept) => {
      for (const [via, client] of connections())
        assert.deepStrictEqual(await call(client, given as never), kept, via)
    })
  })

  const same: ReadonlyArray<readonly [string, (client: IronflowClient, value: never) => Promise<unknown>]> = [
    [
      "put",
      async (client, value) => {
        const bucket = client.kv().bucket("sessions")
        const key = uniqueName()
        await bucket.put(key, value)
        return (await bucket.get(key)).value
      }
    ],
    [
      "write",
      async (client, value) => {
        const bucket = client.kv().bucket("sessions")
        const key = uniqueName()
        await bucket.write([{ op: "put", key, value }])
        return (await bucket.get(key)).value
      }
    ],
    [
      "config.set",
      async (client, value) => {
        const name = uniqueName()
        await client.config().set(name, value)
        return (await client.config().get(name)).data
      }
    ],
    [
      "config.set of a field",
      async (client, value) => {
        const name = uniqueName()
        await client.config().set(name, { value })
        return (await client.config().get(name)).data
      }
    ],
    [
      "createSnapshot",
      async (client, value) => {
        const id = uniqueName()
        await client.streams.append(id, { name: "placed", data: {}, entityType: "order" })
        await client.streams.createSnapshot(id, { entityType: "order", entityVersion: 1, state: value })
        return (await client.streams.getSnapshot(id))?.state
      }
    ]
  ]
  describe.each(same)("of %s", (_, call) => {
    it.each(values)("that is %s has the same result with both connections", async (_, given) => {
      const [here, http] = await Promise.all(
        connections().map(([, client]) => outcomeOf(() => call(client, given as never)))
      )

      assert.deepStrictEqual(here, http)
    })
  })

  it("of a key that is half of a surrogate pair comes back unchanged", async () => {
    for (const [via, client] of connections()) {
      const bucket = client.kv().bucket("sessions")
      await bucket.put(`half-${via}`, half)

      assert.strictEqual((await bucket.get(`half-${via}`)).value, half)
      assert.strictEqual((await bucket.history(`half-${via}`)).at(-1)?.value, half)
    }
  })

  it.each([
    [0, "null", null],
    [1, "NaN", null],
    [2, "an invalid date", null],
    [3, "undefined", {}]
  ])("of step.publish (%i) that is %s is stored like that of publish", async (value, _, kept) => {
    const topic = uniqueName()
    const { runIds } = await engine.client.emit("say", { topic, value })
    await engine.client.waitForRun(runIds[0]!)

    assert.deepStrictEqual(await received(topic, 1), [kept])
  })
})

describe("an idempotency key", () => {
  const append = (client: IronflowClient, id: string, data: unknown, version: number) =>
    client.streams.append(id, { name: "placed", data, entityType: "order" }, { idempotencyKey: "k", version })
  const calls: ReadonlyArray<
    readonly [
      string,
      (client: IronflowClient, id: string, data: unknown, version: number) => Promise<unknown>
    ]
  > = [
    ["emit", (client, id, data, version) => client.emit(id, data, { idempotencyKey: "k", version })],
    ["append", append],
    [
      "appendAll",
      (client, id, data, version) =>
        client.streams.appendAll(
          id,
          { entityType: "order", events: [{ name: "placed", data, version }] },
          { idempotencyKey: "k" }
        )
    ]
  ]
  const first = { a: 1, b: [{ c: "x", d: { 2: "y", e: null } }] }
  const reordered = { b: [{ d: { e: null, 2: "y" }, c: "x" }], a: 1 }

  it.each([
    ...calls,
    [
      "publish",
      (client, id, data) => client.publish(id, data, { idempotencyKey: "k" })
    ] as (typeof calls)[number]
  ])("of %s counts for the same data with its fields in another order", async (what, call) => {
    for (const [via, client] of connections()) {
      const one = await call(client, `ordered-${what}-${via}`, first, 1)
      lines.length = 0
      const two = await call(client, `ordered-${what}-${via}`, reordered, 1)

      assert.deepStrictEqual(two, one)
      assert.deepStrictEqual(lines, [])

      await call(client, `ordered-${what}-${via}`, { ...first, b: [] }, 1)

      assert.match(lines.join(), /Idempotency key "k" was used before/)
    }
  })

  it.each(calls)("of %s that is used with another version causes a warning", async (what, call) => {
    for (const [via, client] of connections()) {
      const one = await call(client, `version-${what}-${via}`, first, 1)
      lines.length = 0
      const two = await call(client, `version-${what}-${via}`, first, 2)

      assert.deepStrictEqual(two, one)
      assert.match(lines.join(), /Idempotency key "k" was used before/)
    }
  })
})

describe("metadata", () => {
  const group = (client: IronflowClient, id: string, metadata: never) =>
    client.consumerGroups.create({ name: id, pattern: "topic:orders", metadata })
  const calls: ReadonlyArray<
    readonly [string, (client: IronflowClient, id: string, metadata: never) => Promise<unknown>]
  > = [
    ["emit", (client, id, metadata) => client.emit(id, {}, { metadata })],
    ["emitSync", (client, id, metadata) => client.emitSync(id, {}, { metadata }).catch(withoutRuns)],
    [
      "append",
      (client, id, metadata) =>
        client.streams.append(id, { name: "placed", data: {}, entityType: "order" }, { metadata })
    ],
    [
      "appendAll",
      (client, id, metadata) =>
        client.streams.appendAll(id, {
          entityType: "order",
          events: [{ name: "placed", data: {}, metadata }]
        })
    ],
    ["consumerGroups.create", group],
    [
      "consumerGroups.update",
      async (client, id, metadata) => {
        await group(client, id, {} as never)
        return client.consumerGroups.update(id, { metadata }, { pattern: "topic:orders" })
      }
    ]
  ]
  const withoutRuns = (error: { code?: string }) => {
    if (error.code !== "NO_RESULTS") throw error
  }
  const bad = [
    ["a date", new Date(0)],
    ["a URL", new URL("http://localhost/")],
    ["a list", []],
    ["a string", "x"],
    ["an object that becomes a string in JSON", { toJSON: () => "x" }]
  ] as const

  let count = 0
  describe.each(calls)("of %s", (_, call) => {
    it.each(bad)("that is %s is refused", async (_, metadata) => {
      for (const [via, client] of connections()) {
        const refused: unknown = await call(client, `m${++count}`, metadata as never).catch((error) => error)

        assert.instanceOf(refused, ValidationError, via)
        assert.match(refused.message, /metadata.* must be an object/, via)
      }
    })

    it("that is null is absent", async () => {
      for (const [, client] of connections()) await call(client, `m${++count}`, null as never)
    })
  })
})

describe("half of a surrogate pair", () => {
  const calls: ReadonlyArray<readonly [string, (client: IronflowClient) => Promise<unknown>]> = [
    ["the name of an event", (client) => client.emit(`order.${half}`, {})],
    ["a topic", (client) => client.publish(`orders${half}`, {})],
    ["an entity id", (client) => client.streams.append(half, { name: "a", data: {}, entityType: "order" })],
    ["an entity type", (client) => client.streams.append("o-h", { name: "a", data: {}, entityType: half })],
    ["the entity id of a read", (client) => client.streams.read(half)],
    ["an idempotency key", (client) => client.emit("order.placed", {}, { idempotencyKey: half })],
    ["a run id", (client) => client.getRun(half)],
    ["the run id of a wait", (client) => client.waitForRun(half)],
    ["the topic of statistics", (client) => client.getTopicStats(half)],
    ["a function id", (client) => client.deleteFunction(half)],
    ["a key", (client) => client.kv().bucket("sessions").put(half, 1)],
    ["a bucket", (client) => client.kv().bucket(half).get("k")],
    ["a projection", (client) => client.projections.get(half)],
    ["a configuration", (client) => client.config().set(half, {})],
    [
      "the name of a consumer group",
      (client) => client.consumerGroups.create({ name: half, pattern: "topic:a" })
    ],
    ["the name of a secret", (client) => client.secrets.set(half, "x")],
    ["the value of a secret", (client) => client.secrets.set("stripe", `x${half}`)]
  ]

  it.each(calls)("is refused in %s", async (_, call) => {
    for (const [via, client] of connections()) {
      const refused: unknown = await Promise.resolve()
        .then(() => call(client))
        .catch((error: unknown) => error)

      assert.instanceOf(refused, ValidationError, via)
    }
  })
})
