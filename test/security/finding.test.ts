/** A search finds no run by the data of an event that the caller may not read. */
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { Keys, type PolicyOf } from "./Keys.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-finding-"))
const filename = path.join(folder, "wages.db")
let keys: Keys
let salary = ""
let wage = ""

beforeAll(async () => {
  const pay = createFunction(
    {
      id: "pay",
      triggers: [{ event: "salary.paid" }, { event: "wage.paid" }, { event: "guest.came" }],
      searchBy: ["event.data.person"]
    },
    () => "paid"
  )
  {
    await using engine = await startEngine({ filename, functions: [pay], logger: false })
    const { client } = engine
    const { runIds } = await client.emit("salary.paid", { person: "Ada" }, { idempotencyKey: "salary-1" })
    salary = runIds[0]!
    await client.streams.append("person-1", {
      entityType: "person",
      name: "wage.paid",
      data: { person: "Bob" }
    })
    const guest = await client.emit("guest.came", { person: "Eve" })
    wage = (await client.listRuns({ entityId: "person-1" })).runs[0]!.id
    for (const id of [salary, wage, guest.runIds[0]!]) await client.waitForRun(id)
  }
  keys = await Keys.start({ filename })
})
afterAll(async () => {
  await keys[Symbol.asyncDispose]()
  fs.rmSync(folder, { recursive: true, force: true })
})

interface Found {
  readonly ids: ReadonlyArray<string>
  readonly totalCount: number
  readonly text: string
}

const find = async (filters: object, key?: string): Promise<Found> => {
  const answer = keys.rpc("IronflowService/ListRuns", filters, key === undefined ? {} : { key })
  const { runs, totalCount = 0 } = await keys.ok(answer)
  return { ids: (runs ?? []).map(({ id }: { id: string }) => id), totalCount, text: (await answer).text }
}

const allowed = { actions: "*" }

const ways: ReadonlyArray<readonly [string, ReadonlyArray<PolicyOf>, () => string, ReadonlyArray<object>]> = [
  [
    "the events of a name",
    [allowed, { effect: "deny", actions: "subscription:read", resources: "subscription:events:salary.*" }],
    () => salary,
    [
      { eventName: "salary.paid" },
      { idempotencyKey: "salary-1" },
      { attributes: { "event.data.person": "Ada" } },
      { where: "event.data.person == 'Ada'" },
      { where: "event.name == 'salary.paid'" },
      { where: "output == 'paid' && event.data.person == 'Ada'" },
      { eventName: "salary.paid", functionId: "pay", status: "completed" }
    ]
  ],
  [
    "the stream of an entity",
    [allowed, { effect: "deny", actions: "stream:read", resources: "stream:person-1" }],
    () => wage,
    [
      { entityId: "person-1" },
      { eventName: "wage.paid" },
      { attributes: { "event.data.person": "Bob" } },
      { where: "event.data.person == 'Bob'" }
    ]
  ],
  [
    "the events of an entity",
    [
      allowed,
      { effect: "deny", actions: "subscription:read", resources: "subscription:entity:person.person-1.*" }
    ],
    () => wage,
    [{ entityId: "person-1" }, { eventName: "wage.paid" }, { attributes: { "event.data.person": "Bob" } }]
  ]
]

describe.each(ways)("a key that is denied %s", (_, policies, id, filters) => {
  let key = ""
  beforeAll(async () => {
    key = await keys.keyThat(...policies)
  })

  it.each(filters.map((filter) => [filter] as const))("finds no run by %j", async (filter) => {
    // the run exists
    assert.deepInclude(await find(filter), { ids: [id()], totalCount: 1 })
    const { text, ...found } = await find(filter, key)
    assert.deepStrictEqual(found, { ids: [], totalCount: 0 })
    assert.notInclude(text, id())
  })

  it("finds other runs, and the denied one only by filters that reveal nothing of its event", async () => {
    assert.strictEqual((await find({ where: "event.data.person == 'Eve'" }, key)).totalCount, 1)
    assert.strictEqual((await find({ attributes: { "event.data.person": "Eve" } }, key)).totalCount, 1)
    const { ids, text } = await find({ createdFrom: "2020-01-01" }, key)
    assert.include(ids, id())
    assert.include(text, "Eve")
    if (id() === salary) assert.notInclude(text, "Ada")
  })
})

describe("counting", () => {
  const count = async (body: object, key?: string) => {
    const answer = keys.rpc(
      "IronflowService/CountRuns",
      { timeLimit: 10_000, ...body },
      key === undefined ? {} : { key }
    )
    return { ...(await keys.ok(answer)), text: (await answer).text }
  }

  describe.each(ways)("for a key that is denied %s", (_, policies, id, filters) => {
    let key = ""
    beforeAll(async () => {
      key = await keys.keyThat(...policies)
    })
    const person = () => (id() === salary ? "Ada" : "Bob")

    it.each(filters.map((filters) => [filters] as const))("no run is counted by %j", async (filters) => {
      assert.strictEqual((await count({ by: "status", filters })).count, 1)
      assert.strictEqual((await count({ by: "status", filters }, key)).count ?? 0, 0)
    })

    it.each(["event.data.person", "event.name", "event"])("no group by %s shows the run", async (by) => {
      const all = await count({ by })
      assert.strictEqual(all.count, 3)
      if (by === "event.data.person") assert.include(all.text, person())
      const { text, ...some } = await count({ by }, key)
      assert.strictEqual(some.count, 2)
      assert.notInclude(text, person())
      assert.notInclude(text, id() === salary ? "salary.paid" : "wage.paid")
    })

    it("the run is counted by filters that reveal nothing of its event", async () => {
      assert.strictEqual((await count({ by: "function" }, key)).count, 3)
    })
  })

  it("omits a denied run, whatever is counted", async () => {
    const key = await keys.keyThat(allowed, {
      effect: "deny",
      actions: "run:read",
      resources: `run:${salary}`
    })
    for (const by of ["status", "function", "event", "error", "version", "hour", "event.data.person"]) {
      const { count: many, text } = await count({ by, filters: { status: "completed" } }, key)
      assert.strictEqual(many, 2, by)
      assert.notInclude(text, "Ada")
    }
  })

  it("is refused when no run may be read", async () => {
    const key = await keys.keyThat({ actions: "kv:read" })
    const { status } = await keys.rpc("IronflowService/CountRuns", { by: "status" }, { key })
    assert.strictEqual(status, 403)
  })
})

it("a denied run is not found", async () => {
  const key = await keys.keyThat(allowed, {
    effect: "deny",
    actions: "run:read",
    resources: `run:${salary}`
  })
  for (const filter of [
    { eventName: "salary.paid" },
    { where: "output == 'paid'" },
    { statuses: ["completed"] }
  ]) {
    assert.notInclude((await find(filter, key)).ids, salary)
    assert.include((await find(filter)).ids, salary)
  }
})

it("the explanation of an event omits denied functions and runs, and is refused for a denied event", async () => {
  const { events } = await keys.ok(keys.rpc("IronflowService/ListEvents", { name: "guest.came" }))
  const path = `/api/v1/events/${events[0].id}/explain`
  const explain = async (...policies: ReadonlyArray<PolicyOf>) =>
    keys.send("GET", path, undefined, { key: await keys.keyThat(...policies) })
  const { functions } = await keys.ok(explain(allowed))
  assert.strictEqual(functions.length, 1)
  const [{ runs }] = functions
  const deny = (actions: string, resources: string): PolicyOf => ({ effect: "deny", actions, resources })
  for (const denied of [deny("function:read", "function:pay"), deny("run:read", `run:${runs[0].runId}`)]) {
    const { text } = await explain(allowed, denied)
    assert.notInclude(text, "pay")
    assert.notInclude(text, "run_")
  }
  const hidden = deny("subscription:read", "subscription:events:guest.*")
  assert.strictEqual((await explain(allowed, hidden)).status, 404)
})

it("a run is shown without the data of an event that only its entity denies, however it is found", async () => {
  const denials: ReadonlyArray<PolicyOf> = [
    { effect: "deny", actions: "stream:read", resources: "stream:person-1" },
    { effect: "deny", actions: "subscription:read", resources: "subscription:entity:person.person-1.*" }
  ]
  for (const denied of denials) {
    const key = await keys.keyThat(allowed, denied)
    for (const filters of [
      {},
      { functionId: "pay" },
      { createdFrom: "2020-01-01" },
      { error: "", status: "completed" }
    ]) {
      const { text, ids } = await find(filters, key)
      assert.include(ids, wage)
      assert.notInclude(text, "Bob", JSON.stringify(filters))
      assert.include(text, "Ada")
    }
    assert.notInclude((await keys.rpc("IronflowService/GetRun", { id: wage }, { key })).text, "Bob")
    const waited = await keys.send("GET", `/api/v1/runs/${wage}/wait`, undefined, { key })
    assert.notInclude(waited.text, "Bob")
  }
})
