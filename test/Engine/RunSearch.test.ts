/** Finding runs: by each filter alone and by several together, embedded and over HTTP, and what is refused as a filter. */
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import { Client, Engine, Store } from "@ironflow/node/effect"
import { createClient, createFunction, type IronflowClient, type ListRunsOptions } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { rpc, send } from "../wire/RawClient.ts"

const orders = createFunction(
  {
    id: "process-order",
    triggers: [{ event: "order.placed" }, { event: "order.changed" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.orderId", "event.data.express"]
  },
  async ({ event, step }) => {
    await step.run("charge", () => {
      if (event.data.amount > 100) {
        throw Object.assign(new Error(`Card of ${event.data.customer} was declined: 100% "no funds"`), {
          code: "DECLINED"
        })
      }
    })
    if (event.data.amount === 7) await step.sleep("cool off", "1d")
    if (event.data.amount === 8) await step.invoke("ship", { orderId: event.data.orderId })
    return { charged: event.data.amount }
  }
)
const ship = createFunction(
  { id: "ship", triggers: [], searchBy: ["event.data.orderId"] },
  async () => "shipped"
)
const notes = createFunction({ id: "notes", triggers: [{ event: "order.*" }] }, async () => undefined)

let engine: IronflowEngine
let remote: IronflowClient
let url: string
/** The first run of each event, by the id of its order. */
const runOf: { [orderId: string]: string } = {}
const noteOf: { [orderId: string]: string } = {}
/** When each of them was created. */
const at: { [orderId: string]: string } = {}

beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [orders, ship, notes]
  })
  url = engine.url ?? ""
  remote = createClient({ serverUrl: url })
  const { client } = engine
  const emit = async (name: string, data: { orderId: string; amount: number } & object, key?: string) => {
    const { runIds } = await client.emit(
      name,
      { customer: "Ada", ...data },
      key === undefined ? {} : { idempotencyKey: key }
    )
    for (const id of runIds) {
      const run = await client.getRun(id)
      if (run.functionId === "notes") noteOf[data.orderId] = id
      else runOf[data.orderId] = id
      if (at[data.orderId] === undefined || run.createdAt < at[data.orderId]!)
        at[data.orderId] = run.createdAt
    }
    // the next run must be created later
    const now = new Date().toISOString()
    await vi.waitUntil(() => new Date().toISOString() > now)
  }
  await emit("order.placed", { orderId: "o-1", amount: 1, express: true } as never)
  await emit("order.placed", { orderId: "o-2", amount: 200 }, "key-2")
  await emit("order.changed", { orderId: "o-3", amount: 7 })
  await emit("order.placed", { orderId: "o-4", amount: 8, express: false } as never)
  await vi.waitFor(async () =>
    assert.strictEqual((await client.listRuns({ functionId: "ship" })).totalCount, 1)
  )
  await client.streams.append("order-5", {
    entityType: "order",
    name: "order.placed",
    data: { orderId: "o-5", amount: 300, customer: "Bob" }
  })
  await vi.waitFor(async () => {
    assert.strictEqual((await client.listRuns({ status: ["pending", "running"] })).runs.length, 0)
    assert.strictEqual((await client.listRuns({ status: "failed" })).totalCount, 2)
    assert.strictEqual((await client.listRuns({ functionId: "ship" })).totalCount, 1)
  })
  for (const run of (await client.listRuns({ entityId: "order-5" })).runs) {
    if (run.functionId === "notes") noteOf["o-5"] = run.id
    else runOf["o-5"] = run.id
    at["o-5"] = run.createdAt
  }
  runOf.ship = (await client.listRuns({ functionId: "ship" })).runs[0]!.id
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

/** The name of a run in these tests. */
const named = (id: string): string =>
  [...Object.entries(runOf), ...Object.entries(noteOf).map(([name, run]) => [`n${name}`, run] as const)].find(
    ([, run]) => run === id
  )?.[0] ?? id

const foundBy = async (client: IronflowClient, filters: ListRunsOptions): Promise<ReadonlyArray<string>> => {
  const { isTotalExact, runs, totalCount } = await client.listRuns(filters)
  assert.strictEqual(totalCount, runs.length)
  assert.notStrictEqual(isTotalExact, false)
  return runs.map(({ id }) => named(id))
}

const kinds: ReadonlyArray<readonly [string, () => ListRunsOptions, ReadonlyArray<string>]> = [
  ["one function", () => ({ functionId: "ship" }), ["ship"]],
  ["a list of one function", () => ({ functionId: ["ship"] }), ["ship"]],
  [
    "several functions",
    () => ({ functionId: ["ship", "process-order"] }),
    ["o-5", "ship", "o-4", "o-3", "o-2", "o-1"]
  ],
  ["several functions, one of them unknown", () => ({ functionId: ["ship", "absent"] }), ["ship"]],
  ["several statuses", () => ({ status: ["failed", "waiting"] }), ["o-5", "o-3", "o-2"]],
  ["statuses of ended runs", () => ({ status: ["failed", "cancelled"] }), ["o-5", "o-2"]],
  [
    "several statuses, one of them completed",
    () => ({ status: ["completed", "failed"], functionId: "process-order" }),
    ["o-5", "o-4", "o-2", "o-1"]
  ],
  [
    "the time of creation",
    () => ({ createdFrom: at["o-2"]!, createdTo: at["o-4"]! }),
    ["no-3", "o-3", "no-2", "o-2"]
  ],
  [
    "a Date and milliseconds",
    () => ({ createdFrom: new Date(at["o-2"]!), createdTo: Date.parse(at["o-3"]!) }),
    ["no-2", "o-2"]
  ],
  ["the time of the end", () => ({ endedTo: "2026-01-01" }), []],
  [
    "the time of the end, for runs that ended",
    () => ({ endedFrom: "2020-01-01T00:00:00Z", functionId: "process-order" }),
    ["o-5", "o-4", "o-2", "o-1"]
  ],
  ["the name of an event", () => ({ eventName: "order.changed" }), ["no-3", "o-3"]],
  [
    "the name of an event and a function",
    () => ({ eventName: "order.placed", functionId: "notes" }),
    ["no-5", "no-4", "no-2", "no-1"]
  ],
  [
    "the name of an event and a status",
    () => ({ eventName: "order.placed", status: "failed" }),
    ["o-5", "o-2"]
  ],
  ["an entity", () => ({ entityId: "order-5", functionId: "process-order" }), ["o-5"]],
  ["an unknown entity", () => ({ entityId: "order-6" }), []],
  ["an idempotency key", () => ({ idempotencyKey: "key-2" }), ["no-2", "o-2"]],
  ["an error, in upper or lower case", () => ({ error: "card of ADA was" }), ["o-2"]],
  ["an error with signs in it", () => ({ error: '100% "no' }), ["o-5", "o-2"]],
  ["the code of an error's cause", () => ({ error: "declined", createdFrom: at["o-3"]! }), ["o-5"]],
  ["an attribute", () => ({ attributes: { "event.data.orderId": "o-3" } }), ["o-3"]],
  [
    "an attribute of several functions, one of them invoked",
    () => ({ attributes: { "event.data.orderId": "o-4" } }),
    ["ship", "o-4"]
  ],
  ["a boolean", () => ({ attributes: { "event.data.express": false } }), ["o-4"]],
  [
    "several attributes",
    () => ({ attributes: { "event.data.orderId": "o-1", "event.data.express": true } }),
    ["o-1"]
  ],
  [
    "attributes that no run has together",
    () => ({ attributes: { "event.data.orderId": "o-2", "event.data.express": true } }),
    []
  ],
  [
    "an attribute and a status",
    () => ({ attributes: { "event.data.orderId": "o-2" }, status: "completed" }),
    []
  ],
  [
    "an expression on the event",
    () => ({ where: "event.data.amount >= 8 && event.name == 'order.placed'", functionId: "process-order" }),
    ["o-5", "o-4", "o-2"]
  ],
  ["an expression on the output", () => ({ where: "output.charged == 8" }), ["o-4"]],
  [
    "an expression on the error",
    () => ({ where: "error.code == 'STEP_FAILED' && event.data.customer == 'Bob'" }),
    ["o-5"]
  ],
  ["an expression on an invoked run", () => ({ where: "event.name == 'ironflow.invoke'" }), ["ship"]]
]

describe.each([
  ["embedded", () => engine.client],
  ["over HTTP", () => remote]
])("listRuns, %s, finds runs by", (_, client) => {
  it.each(kinds)("%s", async (_, filters, expected) => {
    assert.deepStrictEqual(await foundBy(client(), filters()), expected)
  })

  it("each kind of filter, page after page, however small the pages are", async () => {
    for (const [what, filters, expected] of kinds) {
      const ids: Array<string> = []
      let cursor: string | undefined
      do {
        const page: Awaited<ReturnType<IronflowClient["listRuns"]>> = await client().listRuns({
          ...filters(),
          limit: 1,
          ...(cursor === undefined ? {} : { cursor })
        })
        assert.isAtMost(page.runs.length, 1)
        ids.push(...page.runs.map(({ id }) => named(id)))
        cursor = page.nextCursor
      } while (cursor !== undefined)
      assert.deepStrictEqual(ids, expected, what)
    }
  })

  it.each([
    [{ functionId: [] }, /`functionId` is an empty list/],
    [{ status: ["failed", "lost"] }, /"lost" is not a run status/],
    [{ createdFrom: "yesterday" }, /`createdFrom` must be a Date/],
    [{ endedTo: "2026-01-01T12:00:00" }, /`endedTo` must be a Date/],
    [{ eventName: " " }, /listRuns: the filter `eventName` is blank/],
    [{ error: "x".repeat(257) }, /`error`.*257/],
    [{ attributes: {} }, /`attributes` must be an object of 1 to 10/],
    [
      { attributes: { "event.data.total": 1 } },
      /no function has this path in `searchBy`: use event\.data\.orderId, event\.data\.express/
    ],
    [
      { attributes: { "event.data.express": true }, functionId: "ship" },
      /no function of `functionId` has this path in `searchBy`/
    ],
    [{ attributes: { "event.data.orderId": "x".repeat(257) } }, /257/],
    ...(["functionId", "status", "createdFrom", "createdTo", "endedFrom", "endedTo"] as const).flatMap(
      (name): ReadonlyArray<[object, RegExp]> => [
        [{ [name]: null }, new RegExp(`the filter .${name}. is null`)],
        [{ [name]: "" }, new RegExp(`the filter .${name}. is empty`)]
      ]
    ),
    ...(["eventName", "entityId", "idempotencyKey", "error", "where"] as const).map(
      (name): [object, RegExp] => [{ [name]: "" }, new RegExp(`the filter .${name}. is empty`)]
    ),
    [{ functionId: [""] }, /the filter `functionId` is empty/],
    [{ endedTo: "2026-02-30T12:00:00Z" }, /`endedTo` must be .* with a valid date/],
    [{ where: "event.data.amount >" }, /Invalid CEL expression/],
    [{ where: "run.id == 'x'" }, /Invalid CEL expression.*`event`, `output` or `error`/],
    [{ where: "true", limit: 0 }, /limit/],
    [{ where: "true", limit: 1001 }, /from 1 to 1000/],
    [{ where: "true", cursor: "r12" }, /is not one that listRuns returned/],
    [{ cursor: "r12" }, /is not one that listRuns returned/],
    [
      { cursor: "" },
      /The cursor of listRuns must be `nextCursor` of the previous page, got "": leave it out/
    ],
    [{ cursor: null }, /The cursor of listRuns must be `nextCursor` of the previous page, got null/],
    [
      { eventname: "order.placed" },
      /^ValidationError: listRuns\(\) has no option `eventname`: did you mean `eventName`\?$/
    ],
    [
      { topicPattern: "order.*" },
      /^ValidationError: listRuns has no filter "topicPattern": use functionId, .* attributes and where$/
    ],
    [{ status: "failed", since: "2026-01-01" }, /^ValidationError: listRuns has no filter "since": use /],
    [{ eventName: "order\0placed" }, /`eventName` has a NUL character/],
    [{ attributes: { "event.data.orderId": "\0" } }, /has a NUL character/]
  ])("known filters only, and refuses %j", async (options, message) => {
    const error: unknown = await client()
      .listRuns(options as ListRunsOptions)
      .then(
        () => assert.fail("expected a rejection"),
        (error: unknown) => error
      )
    assert.match(String(error), message)
    assert.match((error as Error).name, /^(?:ValidationError|LimitExceededError)$/)
  })

  it("the filters that a cursor belongs to, and refuses a cursor of another query", async () => {
    const { nextCursor: of = "" } = await client().listRuns({ status: ["failed", "waiting"], limit: 1 })
    const { nextCursor: plain = "" } = await client().listRuns({ status: "failed", limit: 1 })
    for (const wrong of [
      { status: ["failed"] as const, cursor: of },
      { status: "failed" as const, error: "x", cursor: plain },
      { status: "waiting" as const, cursor: plain },
      { cursor: plain }
    ]) {
      const error: unknown = await client()
        .listRuns(wrong)
        .catch((error: unknown) => error)
      assert.match(String(error), /belongs to a list with other filters/)
    }
    assert.strictEqual(
      (await client().listRuns({ status: ["waiting", "failed"], limit: 5, cursor: of })).runs.length,
      2
    )
  })
})

describe("an unknown filter", () => {
  it.each([
    { eventname: "order.changed" },
    { status: "failed", since: "2026-01-01" },
    { where: "true", topicPattern: "order.*" }
  ])("is refused in a body: %j", async (request) => {
    const { body, status } = await rpc(url, "ListRuns", request)
    assert.strictEqual(status, 400)
    assert.match(body.message, /^listRuns has no filter "(?:eventname|since|topicPattern)": use functionId, /)
  })

  it("is refused with a typed error of Effect, in this process and over HTTP", async () => {
    const here = Engine.layerClient.pipe(
      Layer.provide(Engine.layer),
      Layer.provide(Store.layerSqlite({ filename: ":memory:" }))
    )
    const http = Client.layerHttp({ serverUrl: url }).pipe(Layer.provide(FetchHttpClient.layer))
    for (const layer of [here, http]) {
      const refused = Client.Client.use((client) =>
        client.listRuns({ status: "failed", since: "2026-01-01" } as ListRunsOptions)
      )
      const error = await Effect.runPromise(Effect.provide(Effect.flip(refused), layer))
      assert.strictEqual(error._tag, "ValidationError")
      assert.match(error.message, /^listRuns has no filter "since": use functionId, .* attributes and where$/)
    }
  })
})

describe("the filters over REST", () => {
  const ids = async (query: string): Promise<ReadonlyArray<string>> => {
    const { body, status, text } = await send(url, "GET", `/api/v1/runs?${query}`)
    assert.strictEqual(status, 200, text)
    return body.runs.map(({ id }: { id: string }) => named(id))
  }

  it("are named in the query, repeated for several values", async () => {
    assert.deepStrictEqual(
      await ids("statuses=failed&statuses=RUN_STATUS_WAITING&function_ids=process-order"),
      ["o-5", "o-3", "o-2"]
    )
    assert.deepStrictEqual(
      await ids("attributes=event.data.orderId%3Do-1&attributes=event.data.express%3Dtrue"),
      ["o-1"]
    )
    assert.deepStrictEqual(await ids(`created_to=${at["o-2"]}`), ["no-1", "o-1"])
    assert.deepStrictEqual(await ids("where=output.charged%20%3D%3D%201"), ["o-1"])
  })

  it("are refused when they are invalid", async () => {
    for (const [query, message] of [
      ["attributes=nothing", /`attributes` must be a path and its value/],
      ["created_from=x", /`createdFrom` must be/],
      ["statuses=lost", /is not a run status/],
      ["eventname=order.changed", /listRuns has no filter \\"eventname\\": use functionId, /],
      ["event=order.changed&error=x", /listRuns has no filter \\"event\\": use functionId, /]
    ] as const) {
      const { status, text } = await send(url, "GET", `/api/v1/runs?${query}`)
      assert.strictEqual(status, 400)
      assert.match(text, message)
    }
  })
})
