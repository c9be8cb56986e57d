/** Finding events: the same in this process and over HTTP, with the Promise API and the Effect API. */
import { createClient, EventNotFoundError, type IronflowClient, ValidationError } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

let engine: IronflowEngine
let remote: IronflowClient
let connections: ReadonlyArray<readonly [name: string, client: IronflowClient]>

beforeAll(async () => {
  engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  remote = createClient({ serverUrl: engine.url! })
  connections = [
    ["here", engine.client],
    ["http", remote]
  ]
  const { client } = engine
  await client.emit("order.placed", { i: 0 }, { idempotencyKey: "first", metadata: { by: "me" } })
  await client.emit("order.placed", null)
  await client.emit("cart.filled", { i: 2 })
  await client.publish("order.placed", { i: 3 })
  await client.streams.append("o-1", { name: "order.paid", data: { i: 4 }, entityType: "order" })
  await client.streams.append("o-2", { name: "order.paid", data: { i: 5 }, entityType: "order" })
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

type Options = NonNullable<Parameters<IronflowClient["listEvents"]>[0]>

const positions: ReadonlyArray<readonly [Options, ReadonlyArray<number>]> = [
  [{}, [6, 5, 3, 2, 1]],
  [{ order: "oldest" }, [1, 2, 3, 5, 6]],
  [{ name: "order.placed" }, [2, 1]],
  [{ name: "order.*" }, [6, 5, 2, 1]],
  [{ entityId: "o-1" }, [5]],
  [{ entityType: "order", name: "order.paid" }, [6, 5]],
  [{ idempotencyKey: "first" }, [1]],
  [{ after: 2 }, [6, 5, 3]],
  [{ since: new Date(0), until: "2100-01-01" }, [6, 5, 3, 2, 1]],
  [{ until: new Date(0) }, []],
  [{ name: "shipment.*" }, []]
]

/** The value or the error of a call, in a form that can be compared. */
const outcome = async (call: () => Promise<unknown>) =>
  call().then(
    (value) => ({ value }),
    (error: Error) => ({ class: error.constructor, message: error.message })
  )

describe("listEvents", () => {
  it.each(positions)("finds the same events with %j on both connections", async (options, expected) => {
    for (const [via, client] of connections) {
      const { events } = await client.listEvents(options)
      assert.deepStrictEqual(
        events.map(({ position }) => position),
        expected,
        via
      )
    }
    assert.deepStrictEqual(await remote.listEvents(options), await engine.client.listEvents(options))
  })

  it("returns all stored fields of an event", async () => {
    for (const [, client] of connections) {
      const { events } = await client.listEvents({ order: "oldest" })
      const [first, second] = events
      const { id, timestamp, ...event } = first!
      assert.match(`${id} ${timestamp}`, /^evt_\w+ \d{4}-\S+Z$/)
      assert.deepStrictEqual(event, {
        name: "order.placed",
        version: 1,
        data: { i: 0 },
        position: 1,
        idempotencyKey: "first",
        metadata: { by: "me" }
      })
      assert.isNull(second!.data)
      assert.deepStrictEqual(events[3]!.entity, { id: "o-1", type: "order", version: 1 })
      assert.deepStrictEqual(await client.getEvent(id), first)
    }
  })

  it("continues where a page ended, and refuses the cursor of another list", async () => {
    for (const [, client] of connections) {
      const first = await client.listEvents({ name: "order.*", limit: 2 })
      const second = await client.listEvents({ name: "order.*", limit: 2, cursor: first.nextCursor! })
      assert.deepStrictEqual(
        [...first.events, ...second.events].map(({ position }) => position),
        [6, 5, 2, 1]
      )
      assert.notProperty(second, "nextCursor")
      assert.deepStrictEqual(second.lookedTo?.position, 1)
      // another `limit` does not make another list
      await client.listEvents({ name: "order.*", limit: 5, cursor: first.nextCursor! })
      for (const other of [{}, { name: "order.paid" }, { name: "order.*", order: "oldest" }] as const) {
        const { message } = await client.listEvents({ ...other, cursor: first.nextCursor! }).then(
          () => assert.fail("it was taken"),
          (error: Error) => error
        )
        assert.match(message, /belongs to a list with other filters/)
      }
    }
  })

  const refused: ReadonlyArray<readonly [object, RegExp]> = [
    [{ limit: 0 }, /^The limit of listEvents must be an integer from 1 to 1000, got 0$/],
    [{ limit: 1001 }, /got 1001$/],
    [{ limit: Number.NaN }, /got NaN$/],
    [{ limit: "5" }, /got "5"$/],
    [{ name: "order..x" }, /^The name of the events cannot be "order..x"/],
    [{ name: 5 }, /^The name of the events must be a string/],
    [{ entityId: "" }, /^The entity id must not be empty/],
    [{ entityType: 5 }, /^The entity type must be a string/],
    [{ idempotencyKey: "" }, /^An idempotency key must be/],
    [{ since: "yesterday" }, /^`since` must be a `Date` or a text with .* got "yesterday"$/],
    [{ until: new Date(Number.NaN) }, /^`until` must be a `Date` or a text with .* got Invalid Date$/],
    [
      { after: -1 },
      /^`after` must be a position in the log \(the `position` of an event\): an integer, at least 0, got -1$/
    ],
    [{ order: "up" }, /^`order` must be "newest" or "oldest", got "up"$/],
    [{ cursor: "e5" }, /^Cursor "e5" is not one that listEvents returned/],
    [{ cursor: 5 }, /^The cursor of listEvents must be `nextCursor` of the previous page, got 5/],
    [{ cursor: "" }, /^The cursor of listEvents must be `nextCursor` of the previous page, got ""/],
    [{ cursor: null }, /^The cursor of listEvents must be `nextCursor` of the previous page, got null/],
    [{ entityID: "o-1" }, /^listEvents\(\) has no option `entityID`: did you mean `entityId`\?$/],
    [{ topicPattern: "x" }, /^listEvents has no filter "topicPattern": use name/]
  ]
  it.each(refused)("refuses %j with the same message on both connections", async (options, message) => {
    const outcomes = await Promise.all(
      connections.map(([, client]) => outcome(() => client.listEvents(options as Options)))
    )
    for (const said of outcomes) {
      assert.strictEqual("class" in said && said.class, ValidationError)
      assert.match("message" in said ? said.message : "", message)
    }
    assert.deepStrictEqual(outcomes[0], outcomes[1])
  })
})

describe("getEvent", () => {
  it("refuses an invalid id with the same message on both connections", async () => {
    const { eventId } = await engine.client.publish("news", 1)
    for (const [id, error] of [
      ["evt_1", EventNotFoundError],
      [eventId, EventNotFoundError],
      ["", ValidationError],
      [5, ValidationError]
    ] as const) {
      const outcomes = await Promise.all(
        connections.map(([, client]) => outcome(() => client.getEvent(id as string)))
      )
      assert.strictEqual("class" in outcomes[0]! && outcomes[0].class, error)
      assert.deepStrictEqual(outcomes[0], outcomes[1])
    }
  })
})
