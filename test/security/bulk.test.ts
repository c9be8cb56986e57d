/**
 * A bulk operation counts and changes only what its key could read and change by single calls, with the rights of that moment.
 */
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { BOOTSTRAP, Keys, type PolicyOf } from "./Keys.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-bulk-keys-"))
const filename = path.join(folder, "wages.db")
let keys: Keys
let salary = ""
let wage = ""
let guest = ""

beforeAll(async () => {
  const pay = createFunction(
    {
      id: "pay",
      triggers: [{ event: "salary.paid" }, { event: "wage.paid" }, { event: "guest.came" }],
      searchBy: ["event.data.person"]
    },
    async ({ step }) => {
      await step.waitForEvent("settled", { event: "settled", timeout: "1d" })
    }
  )
  {
    await using engine = await startEngine({ filename, functions: [pay], logger: false })
    const { client } = engine
    salary = (await client.emit("salary.paid", { person: "Ada" })).runIds[0]!
    await client.streams.append("person-1", {
      entityType: "person",
      name: "wage.paid",
      data: { person: "Bob" }
    })
    guest = (await client.emit("guest.came", { person: "Eve" })).runIds[0]!
    wage = (await client.listRuns({ entityId: "person-1" })).runs[0]!.id
  }
  keys = await Keys.start({ filename })
})
afterAll(async () => {
  await keys[Symbol.asyncDispose]()
  fs.rmSync(folder, { recursive: true, force: true })
})

const allowed = { actions: "*" }

const begin = async (body: object, key: string) => keys.send("POST", "/api/v1/bulk", body, { key })
const endOf = async (id: string, key: string) => {
  for (;;) {
    const operation = await keys.ok(keys.send("GET", `/api/v1/bulk/${id}`, undefined, { key }))
    // each check is a request, so this is no busy loop
    if (operation.status !== "running") return operation
  }
}
const count = async (body: object, key: string) => {
  const { id } = await keys.ok(begin({ ...body, dryRun: true }, key))
  return endOf(id, key)
}

describe("a key", () => {
  const denials: ReadonlyArray<readonly [string, () => ReadonlyArray<PolicyOf>, object, number]> = [
    ["that is denied nothing", () => [allowed], { action: "cancel", filters: { functionId: "pay" } }, 3],
    [
      "that is denied the action on a run",
      () => [allowed, { effect: "deny", actions: "run:cancel", resources: `run:${salary}` }],
      { action: "cancel", filters: { functionId: "pay" } },
      2
    ],
    [
      "that may not read a run",
      () => [allowed, { effect: "deny", actions: "run:read", resources: `run:${salary}` }],
      { action: "cancel", filters: { functionId: "pay" } },
      2
    ],
    [
      "that is denied the events of a name",
      () => [
        allowed,
        { effect: "deny", actions: "subscription:read", resources: "subscription:events:salary.*" }
      ],
      { action: "pause", filters: { where: "event.data.person == 'Ada'" } },
      0
    ],
    [
      "that is denied the stream of an entity",
      () => [allowed, { effect: "deny", actions: "stream:read", resources: "stream:person-1" }],
      { action: "pause", filters: { attributes: { "event.data.person": "Bob" } } },
      0
    ]
  ]
  for (const [what, policies, body, matched] of denials) {
    it(`${what} counts ${matched} runs`, async () => {
      const key = await keys.keyThat(...policies())
      const operation = await count(body, key)
      assert.deepInclude(operation, { matched, done: matched, skipped: {} })
      assert.notProperty(operation, "examples")
    })
  }

  it("that may change no run, or read none, is refused", async () => {
    for (const lacks of ["run:cancel", "run:read"]) {
      const key = await keys.keyThat(allowed, { effect: "deny", actions: lacks, resources: "run:*" })
      assert.strictEqual((await begin({ action: "cancel", ids: [salary] }, key)).status, 403, lacks)
    }
  })

  it("that may pause a function but not read it gets none of its configuration in the answer", async () => {
    const key = await keys.keyThat({ actions: "function:pause, function:resume" })
    const [known] = (await keys.ok(keys.rpc("IronflowService/ListFunctions", {}))).functions
    assert.isNotEmpty(known.triggers)
    for (const verb of ["pause", "resume"]) {
      const answer = await keys.ok(keys.send("POST", `/api/v1/functions/${known.id}/${verb}`, {}, { key }))
      assert.strictEqual(answer.id, known.id)
      assert.deepStrictEqual(answer.triggers, [])
      assert.notProperty(answer, "searchBy")
    }
  })

  it("that may control a run but not read it gets none of its data in the answer", async () => {
    const key = await keys.keyThat({ actions: "run:pause, run:resume, run:cancel, run:retry" })
    const answers = []
    for (const method of ["PauseRun", "ResumeRun", "CancelRun", "RetryRun"]) {
      answers.push(await keys.ok(keys.rpc(`IronflowService/${method}`, { id: salary }, { key })))
    }

    assert.include(JSON.stringify(answers), salary)
    assert.notInclude(JSON.stringify(answers), "Ada")
    assert.include(JSON.stringify(await keys.ok(keys.rpc("IronflowService/GetRun", { id: salary }))), "Ada")
  })

  it("that may cancel no run erases no unfinished run", async () => {
    const key = await keys.keyThat(allowed, { effect: "deny", actions: "run:cancel", resources: "run:*" })
    const erase = (more: object) =>
      keys.send("POST", "/api/v1/erase", { runIds: [guest], dryRun: true, ...more }, { key })
    const refused = await erase({ cancel: true })
    assert.strictEqual(refused.status, 403)
    assert.include(JSON.stringify(refused.body), "limits run:cancel of this API key")
    assert.strictEqual((await erase({})).status, 200)
  })

  it("may not erase a run by its id, nor count that, when it may not read everything that belongs to the run", async () => {
    const limits: ReadonlyArray<readonly [string, ReadonlyArray<PolicyOf>]> = [
      [
        "subscription:read",
        [allowed, { effect: "deny", actions: "subscription:read", resources: "subscription:events:guest.*" }]
      ],
      ["stream:read", [allowed, { effect: "deny", actions: "stream:read", resources: "stream:person-1" }]],
      ["function:read", [allowed, { effect: "deny", actions: "function:read", resources: "function:other" }]],
      ["run:read", [{ actions: "data:erase" }, { actions: "run:*", resources: `run:${guest}` }]],
      ["run:delete", [allowed, { effect: "deny", actions: "run:delete", resources: `run:${wage}` }]]
    ]
    for (const [action, policies] of limits) {
      const key = await keys.keyThat(...policies)
      for (const dryRun of [true, false]) {
        const answer = await keys.send("POST", "/api/v1/erase", { runIds: [guest], dryRun }, { key })
        assert.strictEqual(answer.status, 403, action)
        assert.include(JSON.stringify(answer.body), action)
      }
    }
    assert.notProperty(await keys.ok(keys.rpc("IronflowService/GetRun", { id: guest })), "erasedAt")
  })

  it("gets the same answer to a dry run as to the real operation, whatever it is denied", async () => {
    const different: Array<string> = []
    const denials = [
      "emit:*",
      "publish:*",
      "run:delete",
      "run:patch",
      "run:cancel",
      "run:retry",
      "run:fork",
      "run:read"
    ]
    for (const denied of [
      ...denials,
      "function:*",
      "stream:*",
      "subscription:*",
      "kv:*",
      "config:*",
      "data:*"
    ]) {
      const key = await keys.keyThat(allowed, { effect: "deny", actions: denied, resources: "*" })
      for (const [path, body] of [
        ["/api/v1/erase", { runIds: ["run_none"] }],
        ["/api/v1/erase", { streams: ["nobody"], cancel: true }],
        ["/api/v1/erase", { events: { name: "nobody.came" } }],
        ["/api/v1/erase", { configs: ["none"] }],
        ...(["retry", "rerun", "fork", "delete"] as const).map(
          (action) => ["/api/v1/bulk", { action, ids: ["run_none"] }] as const
        )
      ] as const) {
        const answers = []
        for (const dryRun of [true, false]) {
          const { body: answer, status } = await keys.send("POST", path, { ...body, dryRun }, { key })
          answers.push(JSON.stringify([status, status === 200 ? undefined : answer]))
          if (status === 200) await endOf(answer.id, BOOTSTRAP)
        }
        if (answers[0] !== answers[1])
          different.push(`${denied} ${path} ${JSON.stringify(body)}: ${answers.join(" ")}`)
      }
    }
    assert.deepStrictEqual(different, [])
  })

  it("skips runs that it may not change when they are named by id", async () => {
    const key = await keys.keyThat(allowed, {
      effect: "deny",
      actions: "run:cancel",
      resources: `run:${wage}`
    })
    const { id } = await keys.ok(begin({ action: "cancel", ids: [wage, guest] }, key))
    const operation = await endOf(id, key)
    assert.deepInclude(operation, { done: 1, matched: 2, skipped: { "not allowed": 1 } })
    const { status } = await keys.ok(keys.rpc("IronflowService/GetRun", { id: wage }))
    assert.notStrictEqual(status, "RUN_STATUS_CANCELLED")
  })

  it("gets the same answer for a run that it may not read as for an unknown one", async () => {
    const hidden: PolicyOf = { effect: "deny", actions: "run:read", resources: `run:${wage}` }
    const denials: ReadonlyArray<ReadonlyArray<PolicyOf>> = [
      [hidden],
      [hidden, { effect: "deny", actions: "run:cancel", resources: `run:${wage}` }]
    ]
    for (const denied of denials) {
      const key = await keys.keyThat({ actions: "run:*, function:*" }, ...denied)
      for (const action of ["cancel", "retry", "resume", "pause", "rerun", "delete"]) {
        for (const dryRun of [true, false]) {
          const { id } = await keys.ok(begin({ action, ids: [wage, "run_none"], dryRun }, key))
          const operation = await endOf(id, key)
          assert.deepInclude(operation, { done: 0, skipped: { "not found": 2 } }, action)
          assert.deepStrictEqual(operation.examples, [
            { runId: wage, why: "not found" },
            { runId: "run_none", why: "not found" }
          ])
        }
      }
    }
    const { status } = await keys.ok(keys.rpc("IronflowService/GetRun", { id: wage }))
    assert.strictEqual(status, "RUN_STATUS_WAITING")
  })

  it("that may resume but not retry skips failed and cancelled runs", async () => {
    const key = await keys.keyThat(allowed, { effect: "deny", actions: "run:retry", resources: "run:*" })
    assert.deepInclude(await count({ action: "resume", ids: [guest] }, key), {
      done: 0,
      skipped: { "not allowed": 1 }
    })
    assert.deepInclude(await count({ action: "resume", filters: { status: "cancelled" } }, key), {
      matched: 0
    })
  })

  it("sees operations of others only when it may read all runs", async () => {
    const owner = await keys.keyThat(allowed)
    const { id } = await keys.ok(begin({ action: "cancel", ids: [salary], dryRun: true }, owner))
    const other = await keys.keyThat(allowed, {
      effect: "deny",
      actions: "run:read",
      resources: `run:${salary}`
    })
    assert.strictEqual((await keys.send("GET", `/api/v1/bulk/${id}`, undefined, { key: other })).status, 404)
    assert.strictEqual((await keys.send("POST", `/api/v1/bulk/${id}/cancel`, {}, { key: other })).status, 404)
    const { operations = [] } = await keys.ok(keys.send("GET", "/api/v1/bulk", undefined, { key: other }))
    assert.notInclude(JSON.stringify(operations), id)
    const reader = await keys.keyThat({ actions: "run:read" })
    assert.strictEqual((await keys.send("GET", `/api/v1/bulk/${id}`, undefined, { key: reader })).status, 200)
  })

  it("ends its operations when it is deleted, and they give the reason", async () => {
    const role = await keys.makeRole()
    const policy = await keys.makePolicy(allowed)
    await keys.ok(keys.send("POST", `/api/v1/roles/${role}/policies`, { policy_id: policy }))
    const { id: keyId, key } = await keys.makeKey({ name: "leaves", role_ids: [role] })
    const ids = [...Array.from({ length: 9999 }, (_, n) => `run_${n}`), wage]
    const { id } = await keys.ok(begin({ action: "cancel", ids }, key))
    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${keyId}`))
    for (;;) {
      const operation = await keys.ok(keys.send("GET", `/api/v1/bulk/${id}`))
      // each check is a request, so this is no busy loop
      if (operation.status === "running") continue
      assert.deepInclude(operation, { status: "stopped", by: keyId, done: 0 })
      assert.match(operation.error, /no longer exists/)
      break
    }
    const { status } = await keys.ok(keys.rpc("IronflowService/GetRun", { id: wage }))
    assert.notStrictEqual(status, "RUN_STATUS_CANCELLED")
  })
})
