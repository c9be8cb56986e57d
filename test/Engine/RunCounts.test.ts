/** Counting runs by groups: embedded and over HTTP, from indexes and from the data of runs, and what is refused. */
import {
  createClient,
  createFunction,
  type CountRunsOptions,
  type IronflowClient,
  type RunGroup
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { afterAll, assert, beforeAll, describe, expect, it, vi } from "vitest"
import { errorGroup } from "../../src/Engine/Runs/RunGroups.ts"

const charge = createFunction(
  {
    id: "charge",
    triggers: [{ event: "order.placed" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.customerId"]
  },
  ({ event }) => {
    if (event.data.fails === true) throw new Error(`card of ${event.data.customerId} is declined`)
    return "charged"
  }
)
/** This function has no `searchBy`. */
const post = createFunction(
  { id: "post", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 2, initialDelayMs: 1 } },
  ({ event, run }) => {
    if (event.data.again === true && run.attempt === 1) throw new Error("the van is full")
    return "posted"
  }
)
const child = createFunction({ id: "child", triggers: [] }, () => "grown")
const parent = createFunction({ id: "parent", triggers: [{ event: "family.wanted" }] }, ({ step }) =>
  step.invoke("child", { customerId: "c-1" })
)

let engine: IronflowEngine
let remote: IronflowClient
beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [charge, post, child, parent]
  })
  remote = createClient({ serverUrl: engine.url ?? "" })
  const orders = [
    { customerId: "c-1", fails: true },
    { customerId: "c-1", fails: true },
    { customerId: "c-2", fails: true, again: true },
    { customerId: "c-2" },
    { customerId: "c-2" },
    {}
  ]
  const ids: Array<string> = []
  for (const data of orders) ids.push(...(await engine.client.emit("order.placed", data)).runIds)
  ids.push(...(await engine.client.emit("family.wanted", {})).runIds)
  for (const id of ids) await engine.client.waitForRun(id)
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

const pairsOf = (groups: ReadonlyArray<RunGroup>) => groups.map(({ count, value }) => [value, count])

const kinds: ReadonlyArray<
  readonly [string, CountRunsOptions, ReadonlyArray<readonly [string | undefined, number]>]
> = [
  [
    "status",
    { by: "status" },
    [
      ["completed", 11],
      ["failed", 3]
    ]
  ],
  [
    "function",
    { by: "function" },
    [
      ["charge", 6],
      ["post", 6],
      ["child", 1],
      ["parent", 1]
    ]
  ],
  [
    "event",
    { by: "event" },
    [
      ["order.placed", 12],
      [undefined, 1],
      ["family.wanted", 1]
    ]
  ],
  ["error, of failed runs", { by: "error" }, [["card of … is declined", 3]]],
  [
    "error, of completed runs too",
    { by: "error", status: ["failed", "completed"], functionId: "charge" },
    [
      [undefined, 3],
      ["card of … is declined", 3]
    ]
  ],
  ["version", { by: "version" }, [[undefined, 14]]],
  [
    "an attribute",
    { by: "event.data.customerId", functionId: "charge" },
    [
      ["c-2", 3],
      ["c-1", 2],
      [undefined, 1]
    ]
  ],
  [
    "an attribute of failed runs",
    { by: "event.data.customerId", functionId: "charge", status: "failed" },
    [
      ["c-1", 2],
      ["c-2", 1]
    ]
  ],
  [
    "an attribute by which the function cannot be searched",
    { by: "event.data.customerId", functionId: "post" },
    [
      ["c-2", 3],
      ["c-1", 2],
      [undefined, 1]
    ]
  ],
  [
    "an attribute by which some of the functions can be searched, like a filter",
    { by: "event.data.customerId", functionId: ["charge", "post", "child"] },
    [
      [undefined, 8],
      ["c-2", 3],
      ["c-1", 2]
    ]
  ],
  [
    "function, with an expression",
    { by: "function", where: "event.data.customerId == 'c-1'" },
    [
      ["charge", 2],
      ["post", 2],
      ["child", 1]
    ]
  ],
  [
    "status, with an attribute",
    { by: "status", attributes: { "event.data.customerId": "c-2" } },
    [
      ["completed", 2],
      ["failed", 1]
    ]
  ],
  [
    "function, with the name of an event",
    { by: "function", eventName: "order.placed" },
    [
      ["charge", 6],
      ["post", 6]
    ]
  ],
  [
    "attribute, with an error",
    { by: "event.data.customerId", functionId: "charge", error: "DECLINED" },
    [
      ["c-1", 2],
      ["c-2", 1]
    ]
  ],
  ["none", { by: "function", createdTo: "2020-01-01" }, []]
]

describe.each([
  ["embedded", () => engine.client],
  ["over HTTP", () => remote]
] as const)("%s", (_, client) => {
  it.each(kinds)("counts by %s", async (_, options, groups) => {
    const counts = await client().countRuns({ ...options, timeLimit: 10_000 })
    assert.deepStrictEqual<unknown>(pairsOf(counts.groups), groups)
    assert.isTrue(counts.isExact)
    assert.strictEqual(counts.groupCount, groups.length)
    assert.strictEqual(
      counts.count,
      groups.reduce((sum, [, count]) => sum + count, 0)
    )
    assert.notProperty(counts, "lookedBackTo")
  })

  it("returns the statuses of each group, and how many runs needed more than one attempt", async () => {
    const { groups, retried, statuses } = await client().countRuns({ by: "function" })
    expect(groups.slice(0, 2)).toMatchObject([
      { value: "charge", statuses: { completed: 3, failed: 3 }, retried: 0 },
      { value: "post", statuses: { completed: 6 }, retried: 1 }
    ])
    assert.deepStrictEqual([statuses, retried], [{ completed: 11, failed: 3 }, 1])
  })

  it("counts by times, oldest first, and measures how long runs took", async () => {
    const counts = await client().countRuns({ by: "day", functionId: "post", durations: true })
    const [first] = counts.groups
    assert.match(first?.value ?? "", /^\d{4}-\d\d-\d\dT00:00:00\.000Z$/)
    assert.strictEqual(counts.durations?.count, 6)
    assert.isAtMost(counts.durations?.p50 ?? Infinity, counts.durations?.p95 ?? -1)
    assert.isAtMost(counts.durations?.p95 ?? Infinity, counts.durations?.max ?? -1)
    // the same counts, made by reading each run
    const fromRuns = await client().countRuns({
      by: "day",
      functionId: "post",
      durations: true,
      where: "true"
    })
    assert.deepStrictEqual(fromRuns, counts)
  })

  it("lists as many groups as requested, and says how many exist", async () => {
    const { count, groupCount, groups } = await client().countRuns({ by: "function", limit: 1 })
    assert.deepStrictEqual([groups.length, groupCount, count], [1, 4, 14])
  })

  it.each([
    [{ by: "colour" }, "`by` must be status, function, error"],
    [{ by: "event.data." }, "`by` must be status"],
    [{}, "`by` must be status"],
    [{ by: "day", limit: 0 }, "The limit of countRuns must be an integer from 1 to 1000"],
    [{ by: "day", timeLimit: 10_001 }, "`timeLimit` must be an integer from 1 to 10000, in milliseconds"],
    [{ by: "day", durations: "yes" }, "`durations` must be true or false"],
    [{ by: "day", error: "" }, "the filter `error` is empty"],
    [{ by: "day", cursor: "x" }, "cursor"],
    [{ by: "day", status: "lost" }, "is not a run status"],
    [{ by: "day", status: [] }, "countRuns: `status` is an empty list"],
    [
      { by: "day", attributes: { "event.data.colour": "red" } },
      'countRuns: runs cannot be found by "event.data.colour"'
    ],
    [
      { by: "day", attributes: { "event.data.colour": "red" }, where: "true" },
      'countRuns: runs cannot be found by "event.data.colour"'
    ]
  ])("refuses %j", async (options, words) => {
    await expect(client().countRuns(options as CountRunsOptions)).rejects.toThrow(words)
  })
})

it("a count says how far it has looked when its time is up", async () => {
  const filename = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-counts-")), "runs.db")
  {
    await using made = await startEngine({ filename, logger: false, functions: [parent, child] })
    const { runIds } = await made.client.emit("family.wanted", {})
    for (const id of runIds) await made.client.waitForRun(id)
  }
  // copies of the run of the child, for more than one slice
  const db = new DatabaseSync(filename)
  db.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
    INSERT INTO runs (id, environment, function, status, event, created_at, updated_at)
      SELECT 'run_' || i, environment, function, 5, event, created_at + i, updated_at FROM n, (SELECT * FROM runs WHERE input IS NULL)`)
  db.close()
  await using engine = await startEngine({ filename, logger: false, listen: { port: 0 } })
  await using remote = createClient({ serverUrl: engine.url ?? "" })
  const all = await remote.countRuns({ by: "function", timeLimit: 10_000 })
  assert.deepStrictEqual([all.count, all.isExact], [5002, true])
  // each reading of this clock is a second after the last
  const clock = vi.spyOn(Date, "now")
  const now = Date.now()
  let looks = 0
  clock.mockImplementation(() => now + 1000 * looks++)
  const incomplete = await engine.client.countRuns({ by: "function" }).finally(() => clock.mockRestore())
  assert.deepStrictEqual([incomplete.count, incomplete.isExact], [1000, false])
  const newer = await engine.client.countRuns({ by: "function", createdFrom: incomplete.lookedBackTo! })
  assert.strictEqual(newer.count, 1000)
})

it.each([
  ["card 17 was declined by bank 3", "card … was declined by bank …"],
  ["Order o-1f2e is gone: run_01ABC", "Order … is gone: …"],
  ["GET /items answered 503 in 12ms", "GET /items answered 503 in …"],
  ["404 for order 4045", "404 for order …"],
  ["two\n lines", "two lines"],
  ["", undefined]
])("errors like %j form one group: %j", (message, group) => {
  assert.strictEqual(errorGroup(message), group)
})
