/** Members of groups over sockets: unhandled events go to other members, and events in progress do not. */
import {
  type ConsumerGroupConfig,
  createClient,
  createSubscriptionClient,
  NonRetryableError,
  RetryAfterError
} from "@ironflow/node"
import { expect, test, vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { EngineServer } from "../Client/EngineServer.ts"

const quick = { reconnectDelay: 10, maxReconnectDelay: 50 } as const
const ten = Array.from({ length: 10 }, (_, i) => i)

/** A server with a group, its client, and two members. */
const begin = async (settings: Partial<ConsumerGroupConfig> = {}) => {
  const server = await EngineServer.start()
  const client = createClient({ serverUrl: server.url })
  const members = [0, 1].map(() => createSubscriptionClient({ serverUrl: server.url, ...quick }))
  const groups = client.consumerGroups
  await groups.create({ name: "printers", pattern: "topic:news", ...settings })
  return {
    server,
    client,
    groups,
    members,
    publish: async (...numbers: ReadonlyArray<number>) => {
      for (const i of numbers) await client.publish("news", { i })
    },
    join: (at: number) => members[at]!.stream("topic:news", { consumerGroup: "printers" }),
    async [Symbol.asyncDispose]() {
      for (const member of members) member.close()
      await client.close()
      await server[Symbol.asyncDispose]()
    }
  }
}
type Printers = Awaited<ReturnType<typeof begin>>

/** Reads `count` events as the second member, and acks the last one. */
const rest = async ({ join }: Printers, count: number): Promise<Array<number>> => {
  const seen: Array<number> = []
  for await (const event of join(1)) {
    seen.push(event.data.i)
    if (seen.length < count) continue
    await event.ack()
    break
  }
  return seen
}

const isEmpty = ({ groups }: Printers, more: object = {}) =>
  vi.waitFor(
    async () =>
      expect(await groups.get("printers")).toMatchObject({ lag: 0, inFlight: 0, retrying: 0, ...more }),
    5000
  )

test("events that a loop has not taken go to other members at once when the loop is left", async () => {
  await using printers = await begin()
  await printers.publish(...ten)

  for await (const event of printers.join(0)) {
    expect(event.data.i).toBe(0)
    await event.ack()
    break
  }

  expect(await rest(printers, 9)).toEqual(ten.slice(1))
  await isEmpty(printers, { givenUp: 0, deadLetters: 0 })
})

test("an event whose loop ended by a throw or without an ack has failed, and is delivered again", async () => {
  await using printers = await begin({ redeliverDelayMs: 0, maxRedeliveries: 2 })
  await printers.publish(1, 2)

  const throwInLoop = async () => {
    for await (const event of printers.join(0)) throw new Error(`no paper for ${event.data.i}`)
  }
  await expect(throwInLoop()).rejects.toThrow("no paper for 1")
  await isPending(printers, 1)
  for await (const event of printers.join(0)) {
    // failed events come first
    expect(event.data.i).toBe(1)
    break
  }
  await isPending(printers, 1)

  expect(await rest(printers, 2)).toEqual([1, 2])
  await isEmpty(printers, { givenUp: 0 })
})

const isPending = ({ groups }: Printers, retrying: number) =>
  vi.waitFor(async () => {
    const group = await groups.get("printers")
    expect(group.inFlight).toBe(0)
    expect(group.retrying).toBeGreaterThanOrEqual(retrying)
  }, 5000)

test("an event whose handler throws or rejects is delivered again, until it is a dead letter, which can be retried", async () => {
  await using printers = await begin({ redeliverDelayMs: 0, maxRedeliveries: 2 })
  const [member] = printers.members
  await member!.connect()
  const seen: Array<number> = []
  const errors: Array<string> = []
  let isBroken = true
  await member!.subscribe("topic:news", {
    consumerGroup: "printers",
    onError: ({ code, message }) => errors.push(`${code} ${message}`),
    onEvent: ({ data }) => {
      seen.push(data.i)
      if (!isBroken) return
      if (data.i === 1) throw new Error("no paper")
      return Promise.reject(data.i === 2 ? new Error("no ink") : new NonRetryableError("torn"))
    }
  })

  await printers.publish(1)
  await isEmpty(printers, { givenUp: 1, deadLetters: 1 })
  await printers.publish(2, 3)
  await isEmpty(printers, { givenUp: 3, deadLetters: 3 })

  expect(seen.toSorted()).toEqual([1, 1, 1, 2, 2, 2, 3])
  expect(errors.filter((error) => error === "HANDLER_ERROR no paper")).toHaveLength(3)
  expect(errors.filter((error) => error.startsWith("REDELIVERIES_EXHAUSTED"))).toHaveLength(2)
  const letters = await printers.groups.deadLetters("printers")
  expect(
    letters.map(({ attempts, event, reason }) => [(event.data as { i: number }).i, attempts, reason])
  ).toEqual([
    [1, 3, "no paper"],
    [2, 3, "no ink"],
    [3, 1, "torn"]
  ])
  isBroken = false
  await printers.groups.retryDeadLetter("printers", letters[0]!.position)
  await expect(printers.groups.retryDeadLetter("printers", letters[0]!.position)).rejects.toMatchObject({
    code: "INVALID_STATE"
  })
  expect(await printers.groups.retryDeadLetters("printers", { namespace: "default" })).toBe(2)
  await isEmpty(printers, { deadLetters: 0 })
  expect(seen.slice(7).toSorted()).toEqual([1, 2, 3])
})

test("a handler may name the delay until the next delivery, whatever the delay of the group is", async () => {
  await using printers = await begin({ redeliverDelayMs: 3_600_000 })
  const [member] = printers.members
  await member!.connect()
  let attempts = 0
  await member!.subscribe("topic:news", {
    consumerGroup: "printers",
    onEvent: () => {
      if (++attempts === 1) throw new RetryAfterError("The printer warms up", 50)
    }
  })
  await printers.publish(1)

  await vi.waitFor(() => expect(attempts).toBe(2), 5000)
  await isEmpty(printers, { givenUp: 0 })
})

test("a handler that runs while the connection is lost is not started again, and its event is acked", async () => {
  await using printers = await begin()
  const [member] = printers.members
  await member!.connect()
  const seen: Array<number> = []
  const work = createDeferred<void>()
  await member!.subscribe("topic:news", {
    consumerGroup: "printers",
    onEvent: ({ data }) => {
      seen.push(data.i)
      return data.i === 1 ? work.promise : undefined
    }
  })
  await printers.publish(1)
  await vi.waitFor(() => expect(seen).toEqual([1]), 5000)

  await printers.server.stop()
  await printers.server.start()
  await vi.waitFor(
    async () => expect(await printers.groups.get("printers")).toMatchObject({ memberCount: 1, inFlight: 1 }),
    5000
  )
  await printers.publish(2)
  await vi.waitFor(() => expect(seen).toEqual([1, 2]), 5000)
  work.resolve()

  await isEmpty(printers, { givenUp: 0 })
  expect(seen).toEqual([1, 2])
})

test("an event is held as long as its handler runs, or with manual acks as long as it is extended", async () => {
  await using printers = await begin()
  const [member, other] = printers.members
  await member!.connect()
  await other!.connect()
  // measures the time of the engine: an unacked event is delivered again after a fixed time
  const clock = await other!.subscribe("topic:clock", {
    ackMode: "manual",
    consumerGroup: "clocks",
    onEvent: () => tick()
  })
  let tick: () => void = () => undefined
  const passes = async (ms: number) => {
    const back = createDeferred<void>()
    let first = true
    tick = () => {
      const { eventId } = clock.lastEvent!
      if (first) void clock.nak(eventId!, ms)
      else void clock.ack(eventId!).then(back.resolve)
      first = false
    }
    await printers.client.publish("clock", {})
    await back.promise
  }
  const seen: Array<number> = []
  const work = createDeferred<void>()
  const subscription = await member!.subscribe("topic:news", {
    consumerGroup: "printers",
    ackMode: "manual",
    ackWait: "1s",
    onEvent: ({ data }) => {
      seen.push(data.i)
      return data.i === 1 ? work.promise : undefined
    }
  })
  await printers.publish(1, 2)
  await vi.waitFor(() => expect(seen).toEqual([1, 2]), 5000)
  const { eventId } = subscription.lastEvent!

  await passes(700)
  await subscription.inProgress(eventId!)
  await passes(700)
  expect(seen).toEqual([1, 2])
  await subscription.ack(eventId!)
  await expect(subscription.inProgress(eventId!)).rejects.toMatchObject({ code: "NOT_HELD" })
  await passes(700)
  expect(seen).toEqual([1, 2])

  work.resolve()
  await vi.waitFor(() => expect(seen).toEqual([1, 2, 1]), 5000)
})
