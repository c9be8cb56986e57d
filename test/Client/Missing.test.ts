/** A missing id is refused by its name, without a lookup, in the process and over HTTP. */
import { createClient, createFunction, type IronflowClient } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const pay = createFunction({ id: "pay", triggers: [{ event: "wage.paid" }] }, async () => "paid")
let paid = 0
let engine: IronflowEngine
let clients: ReadonlyArray<readonly [string, IronflowClient]>
beforeAll(async () => {
  engine = await startEngine({ filename: ":memory:", functions: [pay], listen: { port: 0 }, logger: false })
  clients = [
    ["in process", engine.client],
    ["over HTTP", createClient({ serverUrl: engine.url! })]
  ]
})
afterAll(async () => {
  await Promise.all(clients.slice(1).map(([, client]) => client.close()))
  await engine.close()
})

const said = (call: Promise<unknown>): Promise<string> =>
  call.then(
    (value) => `it answered ${JSON.stringify(value)}`,
    (error: { readonly code: string; readonly message: string }) => `${error.code}: ${error.message}`
  )

const calls: { readonly [name: string]: (client: IronflowClient, id: never) => Promise<unknown> } = {
  getEvent: (client, id) => client.getEvent(id),
  getRun: (client, id) => client.getRun(id),
  getRunSteps: (client, id) => client.getRunSteps(id),
  getRunAudit: (client, id) => client.getRunAudit(id),
  getRunLogs: (client, id) => client.getRunLogs(id),
  explain: (client, id) => client.explain(id),
  waitForRun: (client, id) => client.waitForRun(id),
  cancelRun: (client, id) => client.cancelRun(id),
  pauseRun: (client, id) => client.pauseRun(id),
  resumeRun: (client, id) => client.resumeRun(id),
  retryRun: (client, id) => client.retryRun(id),
  patchStep: (client, id) => client.patchStep(id, 1),
  deleteFunction: (client, id) => client.deleteFunction(id),
  "secrets.get": (client, name) => client.secrets.get(name),
  "secrets.delete": (client, name) => client.secrets.delete(name),
  "streams.read": (client, id) => client.streams.read(id),
  "projections.get": (client, name) => client.projections.get(name),
  "consumerGroups.get": (client, name) => client.consumerGroups.get(name),
  "apiKeys.get": (client, id) => client.apiKeys.get(id),
  "kv.bucket": (client, name) => client.kv().bucket(name).get("key"),
  "config.get": (client, name) => client.config().get(name)
}

describe("a call without a required id", () => {
  it.each(Object.entries(calls))("is refused: %s", async (_, call) => {
    for (const [, client] of clients) {
      for (const id of [undefined, "", 5] as ReadonlyArray<unknown> as ReadonlyArray<never>) {
        assert.match(await said(Promise.resolve().then(() => call(client, id))), /^VALIDATION_ERROR: /)
      }
    }
  })
})

describe("a call whose first argument is missing", () => {
  const calls: ReadonlyArray<
    readonly [string, (client: IronflowClient, value: never) => Promise<unknown>, RegExp]
  > = [
    ["emit", (client, name) => client.emit(name, {}), /^VALIDATION_ERROR: The event name must be a string/],
    [
      "publish",
      (client, topic) => client.publish(topic, {}),
      /^VALIDATION_ERROR: The topic must be a string/
    ],
    ["erase", (client, target) => client.erase(target), /^VALIDATION_ERROR: erase: say what to erase/],
    [
      "consumerGroups.update",
      (client, settings) => client.consumerGroups.update("nobody", settings),
      /^CONSUMER_GROUP_NOT_FOUND: /
    ]
  ]
  it.each(calls)("is refused in the same way by both clients: %s", async (_, call, message) => {
    for (const [, client] of clients)
      assert.match(await said(Promise.resolve().then(() => call(client, undefined as never))), message)
  })
})

describe("a reason that is not a string", () => {
  it.each([null, 5])("is refused by both clients and changes nothing: %s", async (reason) => {
    await engine.client.pauseFunction("pay")
    const {
      runIds: [id = ""]
    } = await engine.client.emit("wage.paid", {})
    paid++
    for (const [, client] of clients) {
      assert.match(await said(client.cancelRun(id, reason as never)), /^VALIDATION_ERROR: /)
      assert.match(await said(client.pauseRun(id, reason as never)), /^VALIDATION_ERROR: /)
      assert.match(await said(client.patchStep(`${id}:charge:0`, 1, reason as never)), /^VALIDATION_ERROR: /)
    }
    assert.strictEqual((await engine.client.getRun(id)).status, "pending")
    await engine.client.resumeFunction("pay")
  })
})

describe("an empty step or version", () => {
  const refusals: ReadonlyArray<
    readonly [string, (client: IronflowClient, id: string) => Promise<unknown>, RegExp]
  > = [
    ["forkRun from an empty step", (client, id) => client.forkRun(id, { from: "" }), /^STEP_NOT_FOUND: /],
    ["forkRun from null", (client, id) => client.forkRun(id, { from: null as never }), /^VALIDATION_ERROR: /],
    [
      "moveRun to an empty version",
      (client, id) => client.moveRun(id, { version: "" }),
      /^VALIDATION_ERROR: /
    ],
    [
      "moveRun to null",
      (client, id) => client.moveRun(id, { version: null as never }),
      /^VALIDATION_ERROR: /
    ],
    ["retryRun from null", (client, id) => client.retryRun(id, null as never), /^VALIDATION_ERROR: /],
    ["resumeRun from null", (client, id) => client.resumeRun(id, null as never), /^VALIDATION_ERROR: /]
  ]
  it.each(refusals)("is refused in the same way by both clients: %s", async (_, call, message) => {
    const {
      runIds: [id = ""]
    } = await engine.client.emit("wage.paid", {})
    for (const [, client] of clients) assert.match(await said(call(client, id)), message)
    const { totalCount } = await engine.client.listRuns({ functionId: "pay" })
    assert.strictEqual(totalCount, ++paid)
  })

  it("is refused when another program sends it, too", async () => {
    const {
      runIds: [id = ""]
    } = await engine.client.emit("wage.paid", {})
    paid++
    for (const [call, body, status] of [
      ["fork", { from: "" }, 404],
      ["move", { version: "" }, 400]
    ] as const) {
      const answer = await fetch(`${engine.url}/api/v1/runs/${id}/${call}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body)
      })
      assert.strictEqual(answer.status, status, await answer.text())
    }
  })
})

describe("a time", () => {
  it.each([5, Number.NaN, true, {}, "soon"])("that is %o is refused by both clients", async (since) => {
    for (const [, client] of clients) {
      assert.match(await said(client.listEvents({ since: since as never })), /^VALIDATION_ERROR: .*`since`/)
    }
  })

  it("may be a date or a string", async () => {
    for (const [, client] of clients) {
      for (const since of [new Date(0), "2026-01-31T12:00:00Z"]) await client.listEvents({ since })
    }
  })
})
