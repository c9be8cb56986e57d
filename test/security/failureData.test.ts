/**
 * A run that handles a failure receives data of the failed run. A key that is denied the failed run or its event does not see
 * that data.
 */
import { createFunction, NonRetryableError } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { Keys, type PolicyOf } from "./Keys.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-failure-data-"))
const filename = path.join(folder, "wages.db")
let keys: Keys
/** The failed runs, and the runs that handle their failures. */
let owedRun = ""
let lentRun = ""
let owedHandler = ""
let lentHandler = ""
let listener = ""

beforeAll(async () => {
  const settle = createFunction(
    {
      id: "settle",
      triggers: [{ event: "salary.owed" }, { event: "wage.lent" }],
      onFailure: () => "told"
    },
    async ({ step }) => {
      await step.run("look", () => "seen of it")
      throw new NonRetryableError("no money")
    }
  )
  const watch = createFunction(
    {
      id: "watch",
      triggers: [{ event: "system.run.*.failed" }],
      searchBy: ["event.data.runId"]
    },
    () => "watched"
  )
  {
    await using engine = await startEngine({ filename, functions: [settle, watch], logger: false })
    const { client } = engine
    const handlerOf = async (id: string, functionId: string): Promise<string> => {
      await client.waitForRun(id).catch(() => undefined)
      // the handler's run started when this run ended
      const { runs } = await client.listRuns({ functionId, where: `event.data.runId == "${id}"` })
      await client.waitForRun(runs[0]!.id)
      return runs[0]!.id
    }
    owedRun = (await client.emit("salary.owed", { person: "Ada" })).runIds[0]!
    owedHandler = await handlerOf(owedRun, "settle/on-failure")
    listener = await handlerOf(owedRun, "watch")
    await client.streams.append("person-1", {
      entityType: "person",
      name: "wage.lent",
      data: { person: "Bob" }
    })
    lentRun = (await client.listRuns({ entityId: "person-1", functionId: "settle" })).runs[0]!.id
    lentHandler = await handlerOf(lentRun, "settle/on-failure")
  }
  keys = await Keys.start({ filename })
})
afterAll(async () => {
  await keys[Symbol.asyncDispose]()
  fs.rmSync(folder, { recursive: true, force: true })
})

const allowed = { actions: "*" }

const find = async (filters: object, key?: string) => {
  const answer = keys.rpc("IronflowService/ListRuns", filters, key === undefined ? {} : { key })
  const { runs, totalCount = 0 } = await keys.ok(answer)
  return { ids: (runs ?? []).map(({ id }: { id: string }) => id), totalCount }
}

const deny = (actions: string, resources: string): PolicyOf => ({ effect: "deny", actions, resources })

const denials: ReadonlyArray<
  readonly [what: string, denied: () => PolicyOf, id: () => string, filters: () => ReadonlyArray<object>]
> = [
  [
    "the event of the failed run",
    () => deny("subscription:read", "subscription:events:salary.*"),
    () => owedHandler,
    () => [
      { functionId: "settle/on-failure", where: "event.data.event.data.person.startsWith('Ad')" },
      { functionId: "settle/on-failure", where: "event.data.event.name == 'salary.owed'" }
    ]
  ],
  [
    "the stream of the event's entity",
    () => deny("stream:read", "stream:person-1"),
    () => lentHandler,
    () => [{ functionId: "settle/on-failure", where: "event.data.event.data.person == 'Bob'" }]
  ],
  [
    "the failed run",
    () => deny("run:read", `run:${owedRun}`),
    () => owedHandler,
    () => [{ functionId: "settle/on-failure", where: "event.data.event.data.person == 'Ada'" }]
  ],
  [
    "the run that a system event is about",
    () => deny("run:read", `run:${owedRun}`),
    () => listener,
    () => [
      { functionId: "watch", where: `event.data.runId == '${owedRun}'` },
      { functionId: "watch", attributes: { "event.data.runId": owedRun } }
    ]
  ]
]

describe.each(denials)("for a key that is denied %s", (_, denied, id, filters) => {
  it("a run that received data of it is not found or counted by that data, and is shown without it", async () => {
    const key = await keys.keyThat(allowed, denied())
    for (const filter of filters()) {
      assert.deepInclude(await find(filter), { ids: [id()], totalCount: 1 }, JSON.stringify(filter))
      assert.deepInclude(await find(filter, key), { ids: [], totalCount: 0 }, JSON.stringify(filter))
      const begun = keys.send(
        "POST",
        "/api/v1/bulk",
        { action: "rerun", filters: filter, dryRun: true },
        { key }
      )
      let operation = await keys.ok(begun)
      // each check is a request, so this is no busy loop
      while (operation.status === "running")
        operation = await keys.ok(keys.send("GET", `/api/v1/bulk/${operation.id}`, undefined, { key }))
      assert.deepInclude(operation, { status: "completed", matched: 0 })
    }
    const shown = async (runId: string) => keys.ok(keys.rpc("IronflowService/GetRun", { id: runId }, { key }))
    assert.notProperty(await shown(id()), "input")
  })
})

it("a denied run is not forked, and its steps are not revealed", async () => {
  const key = await keys.keyThat(allowed, deny("run:read", `run:${owedRun}`))
  const fork = (body: object, by?: string) =>
    keys.send("POST", `/api/v1/runs/${owedRun}/fork`, body, by === undefined ? {} : { key: by })
  const before = (await find({ functionId: "settle" })).ids
  const answers = []
  for (const body of [{}, { from: "look" }, { from: "none" }, { steps: { look: 1 } }, { steps: { none: 1 } }])
    answers.push(await fork(body, key))
  assert.deepStrictEqual(
    answers.map(({ status }) => status),
    [403, 403, 403, 403, 403]
  )
  assert.strictEqual(new Set(answers.map(({ text }) => text)).size, 1)
  assert.deepStrictEqual((await find({ functionId: "settle" })).ids, before)
  // a key that may only fork would otherwise read the run through its fork
  assert.strictEqual((await fork({}, await keys.keyThat({ actions: "run:fork" }))).status, 403)
  assert.strictEqual((await fork({}, await keys.keyThat({ actions: "run:fork, run:read" }))).status, 200)
})

it.each(denials)(
  "for a key that is denied %s, a fork of a run that received its data does not show that data",
  async (_, denied, id) => {
    const key = await keys.keyThat(allowed, denied())
    const fork = await keys.ok(keys.send("POST", `/api/v1/runs/${id()}/fork`, {}, { key }))
    assert.notProperty(fork, "input")
    const shown = (options: object) => keys.ok(keys.rpc("IronflowService/GetRun", { id: fork.id }, options))
    assert.notProperty(await shown({ key }), "input")
    assert.property(await shown({}), "input")
  }
)
