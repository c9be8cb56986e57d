/** Keys, roles and policies on the wire: every call needs a key with the right to its action. */
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import WebSocket from "ws"
import { UnauthenticatedError } from "../../src/Errors.ts"
import { createSubscriptionClient } from "../../src/index.ts"
import { pathOf } from "../../src/Protocol/Http/CallAddress.ts"
import { accessTo } from "../../src/Protocol/CallSpec.ts"
import { type CallName, callSpecs } from "../../src/Protocol/AllCalls.ts"
import { actions } from "../../src/Policy.ts"
import { type Ironflow, start, type StartOptions, temporaryDatabase } from "./Ironflow.ts"
import { type Answer, send as sendRaw } from "./RawClient.ts"
import { registrationOf } from "./RawTurnWorker.ts"

const BOOTSTRAP = "bootstrap-key-of-the-operator-0123456789"

let server: Ironflow
const cleanups: Array<() => unknown> = []

const restart = async (options: StartOptions = {}): Promise<void> => {
  await server.close()
  server = await start({ bootstrapKey: BOOTSTRAP, ...options })
}

/** Restarts the server without keys. */
const restartOpen = async (): Promise<void> => {
  await server.close()
  server = await start()
}

beforeEach(async () => {
  vi.stubEnv("IRONFLOW_MASTER_KEY", "ab".repeat(32))
  server = await start({ bootstrapKey: BOOTSTRAP })
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
  await server.close()
  vi.unstubAllEnvs()
})

interface Options {
  readonly key?: string | undefined
  readonly environment?: string
  readonly headers?: Record<string, string>
}

const send = (
  method: string,
  path: string,
  body?: unknown,
  { key = BOOTSTRAP, environment, headers }: Options = {}
): Promise<Answer> =>
  sendRaw(server.url, method, path, body, {
    "content-type": "application/json",
    ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
    ...(environment === undefined ? {} : { "x-ironflow-environment": environment }),
    ...headers
  })

const ok = async (answer: Promise<Answer>): Promise<Answer["body"]> => {
  const { body, status, text } = await answer
  assert.isTrue(status >= 200 && status < 300, `${status} ${text}`)
  return body
}

const makeKey = async (input: object = {}): Promise<{ id: string; key: string }> =>
  ok(send("POST", "/api/v1/apikeys", { name: "test", ...input }))

/** A role with one policy. */
const makeRole = async (policy: object): Promise<{ roleId: string; policyId: string }> => {
  const role = await ok(send("POST", "/api/v1/roles", { name: "deployer" }))
  const { id } = await ok(
    send("POST", "/api/v1/policies", { name: "policy", effect: "allow", resources: "*", ...policy })
  )
  assert.strictEqual((await send("POST", `/api/v1/roles/${role.id}/policies`, { policy_id: id })).status, 204)
  return { roleId: role.id, policyId: id }
}

const emit = (key?: string, event = "order.placed") =>
  send("POST", "/ironflow.v1.IronflowService/Trigger", { event, data: {} }, { key })

describe("access", () => {
  const names = Object.keys(callSpecs) as Array<CallName>
  /** A request that reaches the handler. */
  const request = (name: CallName, options: Options) => {
    const { method } = callSpecs[name]
    const path = pathOf(callSpecs[name], { id: "none", name: "NONE", jobId: "none", policyId: "none" })
    const body = method === "GET" || method === "DELETE" ? undefined : {}
    return send(method, path, body, options)
  }

  it("is refused by every call but the health checks without a key, and with keys that are wrong, lack the action or have another environment", async () => {
    const nothing = await makeKey({ role_ids: [] })
    const elsewhere = await makeKey({ env_id: "env_staging", role_ids: ["role_admin"] })

    for (const name of names) {
      const rule = accessTo(callSpecs[name])
      const refused = async (options: Options): Promise<readonly [number, string]> => {
        const { body, status } = await request(name, options)
        return [status, body?.message ?? ""]
      }
      if (typeof rule === "string") {
        for (const key of ["", "wrong", nothing.key]) {
          assert.strictEqual((await request(name, { key })).status, 200, name)
        }
        continue
      }
      const [noKey] = await refused({ key: "" })
      const [wrongKey] = await refused({ key: "ifk_wrong" })
      const [withoutAction, why] = await refused({ key: nothing.key })
      const [otherEnvironment, which] = await refused({ key: elsewhere.key, environment: "default" })
      assert.deepStrictEqual(
        [name, noKey, wrongKey, withoutAction, otherEnvironment],
        [name, 401, 401, 403, 403]
      )
      assert.include(why, rule.action)
      assert.include(which, '"staging"')
    }
  })

  it("is given by each call to a key with just its action, and to no key with another action", async () => {
    const keys = new Map<string, string>()
    for (const action of actions) {
      const { roleId } = await makeRole({ actions: action })
      keys.set(action, (await makeKey({ env_id: "*", role_ids: [roleId] })).key)
    }
    const { roleId: forks } = await makeRole({ actions: "run:fork, run:read" })
    const forking = await makeKey({ env_id: "*", role_ids: [forks] })

    for (const name of names) {
      const rule = accessTo(callSpecs[name])
      if (typeof rule === "string" || name === "waitForRun" || name === "pollTurns") continue
      // a fork shows the recorded steps of its source, which need `run:read`
      const key = name === "forkRun" ? forking.key : keys.get(rule.action)
      const answer = await request(name, { key })
      assert.notInclude([401, 403], answer.status, `${name}: ${answer.text}`)
      const other = rule.action === "run:read" ? "run:cancel" : "run:read"
      const { status } = await request(name, { key: keys.get(other) })
      assert.strictEqual(status, 403, name)
    }
  })

  it("to a consumer group needs the right to groups of its name, and to its pattern", async () => {
    const { roleId } = await makeRole({
      actions: "subscription:manage",
      resources: "group:printers"
    })
    const { id } = await ok(
      send("POST", "/api/v1/policies", {
        name: "news",
        effect: "allow",
        actions: "subscription:read",
        resources: "subscription:topic:news"
      })
    )
    await ok(send("POST", `/api/v1/roles/${roleId}/policies`, { policy_id: id }))
    const { key } = await makeKey({ role_ids: [roleId] })
    const status = async (method: string, path: string, body?: object) =>
      (await send(method, path, body, { key })).status
    const create = (name: string, pattern: string) =>
      status("POST", "/api/v1/consumer-groups", { name, pattern })
    const update = (name: string) =>
      status("POST", "/ironflow.v1.PubSubService/UpdateConsumerGroup", {
        group: { name, maxInflight: 5 },
        name: "printers"
      })

    assert.strictEqual(await create("printers", "topic:>"), 403)
    assert.strictEqual(await create("packers", "topic:news"), 403)
    assert.strictEqual(await create("printers", "topic:news"), 200)
    await ok(send("POST", "/api/v1/consumer-groups", { name: "packers", pattern: "topic:news" }))
    assert.deepStrictEqual([await update("printers"), await update("packers")], [200, 403])
    const reader = await makeRole({ actions: "subscription:read", resources: "group:printers" })
    const { key: readerKey } = await makeKey({ role_ids: [reader.roleId] })
    const read = async (path: string, by: string) =>
      (await send("GET", `/api/v1/consumer-groups/printers${path}`, undefined, { key: by })).status
    // dead letters have the events of the pattern, which need a right of their own
    assert.deepStrictEqual([await read("", readerKey), await read("/dead-letters", readerKey)], [200, 403])
    assert.strictEqual(await status("DELETE", "/api/v1/consumer-groups/packers"), 403)
    assert.strictEqual(await status("GET", "/api/v1/consumer-groups/printers"), 403)
    assert.strictEqual(await status("DELETE", "/api/v1/consumer-groups/printers"), 204)
  })

  it("to metrics and the description needs a key that may read the engine", async () => {
    const worker = await makeKey({ role_ids: ["role_worker"] })
    const nothing = await makeKey({ role_ids: [] })
    for (const path of ["/metrics", "/openapi.json"]) {
      const statuses = []
      for (const key of ["", nothing.key, worker.key])
        statuses.push((await send("GET", path, undefined, { key })).status)
      assert.deepStrictEqual(statuses, [401, 403, 200])
    }
  })

  it("without a key does not reveal which paths exist", async () => {
    const answer = await send("GET", "/api/v1/nothing", undefined, { key: "" })
    assert.deepStrictEqual([answer.status, answer.body.code], [401, "UNAUTHENTICATED"])
    assert.strictEqual((await send("GET", "/api/v1/nothing")).status, 404)
  })
})

describe("keys", () => {
  it("are shown once, as `key` and as `secret`, and work", async () => {
    const made = await ok(
      send("POST", "/api/v1/apikeys", {
        name: "ci",
        envId: "env_default",
        roleIds: ["role_worker"],
        expires_in: "1h"
      })
    )
    assert.match(made.key, /^ifk_[A-Za-z0-9_-]{43}$/)
    assert.strictEqual(made.secret, made.key)
    assert.isTrue(made.key.startsWith(made.key_prefix))
    assert.strictEqual(Date.parse(made.expires_at) - Date.parse(made.created_at), 3_600_000)

    const { secret: _, key: __, ...shown } = made
    assert.deepStrictEqual(await ok(send("GET", `/api/v1/apikeys/${made.id}`)), shown)
    const list = await ok(send("GET", "/api/v1/apikeys"))
    assert.isArray(list)
    assert.notInclude(JSON.stringify(list), made.key)
    assert.strictEqual((await emit(made.key)).status, 200)
    assert.isString((await ok(send("GET", `/api/v1/apikeys/${made.id}`))).last_used_at)
  })

  it("created without roles are developer keys", async () => {
    const { id, key } = await makeKey()
    assert.deepStrictEqual((await ok(send("GET", `/api/v1/apikeys/${id}`))).role_ids, ["role_developer"])
    assert.strictEqual((await send("POST", "/api/v1/apikeys", { name: "x" }, { key })).status, 403)
  })

  it("end when they are deleted or rotated", async () => {
    const { id, key } = await makeKey()
    const rotated = await ok(send("POST", `/api/v1/apikeys/${id}/rotate`))
    assert.deepStrictEqual([(await emit(key)).status, (await emit(rotated.key)).status], [401, 200])
    assert.strictEqual((await send("DELETE", `/api/v1/apikeys/${id}`)).status, 204)
    assert.strictEqual((await emit(rotated.key)).status, 401)
    assert.strictEqual((await send("DELETE", `/api/v1/apikeys/${id}`)).body.code, "API_KEY_NOT_FOUND")
  })

  it("end at their time", async () => {
    await restart({ virtualTime: true })
    const { key } = await makeKey({ expires_in: "1m" })
    assert.strictEqual((await emit(key)).status, 200)
    await server.pass(60_000)
    assert.strictEqual((await emit(key)).status, 401)
  })

  it("determine the environment, unless they span all", async () => {
    const { key } = await makeKey({ env_id: "env_staging" })
    const emitted = await ok(emit(key))
    assert.isString(emitted.eventId)
    const secret = (options: Options) =>
      send("POST", "/api/v1/secrets", { name: "TOKEN", value: "x" }, options)
    await ok(secret({ key }))
    const names = async (environment: string) =>
      ok(send("GET", "/api/v1/secrets", undefined, { environment }))
    assert.lengthOf(await names("staging"), 1)
    assert.lengthOf(await names("default"), 0)
  })

  it("cannot give keys more rights than they have", async () => {
    const { roleId } = await makeRole({ actions: "apikey:*" })
    const { key } = await makeKey({ role_ids: [roleId] })
    const make = (input: object) => send("POST", "/api/v1/apikeys", { name: "more", ...input }, { key })

    assert.strictEqual((await make({ role_ids: ["role_admin"] })).status, 403)
    assert.strictEqual((await make({})).status, 403)
    assert.strictEqual((await make({ role_ids: [roleId], env_id: "*" })).status, 403)
    assert.strictEqual((await make({ role_ids: [roleId] })).status, 201)
    const admin = await makeKey({ role_ids: ["role_admin"] })
    assert.strictEqual(
      (await send("POST", `/api/v1/apikeys/${admin.id}/rotate`, undefined, { key })).status,
      403
    )
    // the operator's key spans all environments: a key of one environment cannot see it
    assert.strictEqual((await send("GET", "/api/v1/apikeys/key_bootstrap", undefined, { key })).status, 404)
  })

  it("bound to an environment cannot change shared settings", async () => {
    const { key } = await makeKey({ role_ids: ["role_admin"] })
    const { status, body } = await send("POST", "/api/v1/roles", { name: "mine" }, { key })
    assert.strictEqual(status, 403)
    assert.include(body.message, "all environments")
  })
})

describe("policies", () => {
  it("allow by patterns of actions and resources", async () => {
    const { roleId } = await makeRole({ actions: "emit:*", resources: "event:order.*" })
    const { key } = await makeKey({ role_ids: [roleId] })

    assert.strictEqual((await emit(key)).status, 200)
    const refused = await emit(key, "payment.made")
    assert.strictEqual(refused.status, 403)
    assert.include(refused.body.message, "may not emit:event on event:payment.made")
    const batch = (events: ReadonlyArray<object>) =>
      send("POST", "/ironflow.v1.IronflowService/TriggerBatch", { events }, { key })
    assert.strictEqual((await batch([{ event: "order.placed" }])).status, 200)
    assert.strictEqual((await batch([{ event: "order.placed" }, { event: "payment.made" }])).status, 403)
  })

  it("that deny override others, and take effect at once", async () => {
    const { roleId } = await makeRole({ actions: "emit:*" })
    const { key } = await makeKey({ role_ids: ["role_developer", roleId] })
    assert.strictEqual((await emit(key)).status, 200)

    const deny = await ok(
      send("POST", "/api/v1/policies", {
        name: "no orders",
        effect: "deny",
        actions: "*",
        resources: "event:order.*"
      })
    )
    await send("POST", `/api/v1/roles/${roleId}/policies`, { policy_id: deny.id })
    const refused = await emit(key)
    assert.deepStrictEqual([refused.status, (await emit(key, "payment.made")).status], [403, 200])
    assert.include(refused.body.message, 'policy "no orders" denies it')

    await ok(send("PATCH", `/api/v1/policies/${deny.id}`, { resources: "event:refund.*" }))
    assert.strictEqual((await emit(key)).status, 200)
  })

  it("apply where their condition is true; a condition that fails denies and is counted", async () => {
    const { roleId, policyId } = await makeRole({
      actions: "emit:*",
      condition:
        'request.name == "order.placed" && request.environment == "default" && request.key.name == "test"'
    })
    const { key } = await makeKey({ role_ids: [roleId] })
    assert.deepStrictEqual([(await emit(key)).status, (await emit(key, "order.paid")).status], [200, 403])

    await ok(send("PATCH", `/api/v1/policies/${policyId}`, { condition: "request.nothing.there == 1" }))
    assert.strictEqual((await emit(key)).status, 403)
    const metrics = await send("GET", "/metrics")
    assert.include(metrics.text, "ironflow_policy_condition_failures_total 1\n")
    await ok(send("PATCH", `/api/v1/policies/${policyId}`, { condition: "" }))
    assert.strictEqual((await emit(key)).status, 200)
  })
})

describe("bad input", () => {
  const cases: ReadonlyArray<readonly [string, string, unknown, number, string?]> = [
    ["POST", "/api/v1/apikeys", {}, 400],
    ["POST", "/api/v1/apikeys", [], 400],
    ["POST", "/api/v1/apikeys", { name: "x".repeat(300) }, 400],
    ["POST", "/api/v1/apikeys", { name: "x", role_ids: "role_admin" }, 400],
    ["POST", "/api/v1/apikeys", { name: "x", role_ids: [1] }, 400],
    [
      "POST",
      "/api/v1/apikeys",
      { name: "x", role_ids: Array.from({ length: 300 }, () => "role_admin") },
      400
    ],
    ["POST", "/api/v1/apikeys", { name: "x", role_ids: ["role_none"] }, 404, "ROLE_NOT_FOUND"],
    ["POST", "/api/v1/apikeys", { name: "x", expires_in: "soon" }, 400],
    ["POST", "/api/v1/apikeys", { name: "x", expires_in: -1 }, 400],
    ["POST", "/api/v1/apikeys", { name: "x", expires_in: "99999999d" }, 400],
    ["POST", "/api/v1/apikeys", { name: "x", envId: "a", env_id: "b" }, 400],
    ["POST", "/api/v1/orgs", { name: "" }, 400],
    ["PATCH", "/api/v1/orgs/org_default", { name: "x" }, 409, "INVALID_STATE"],
    ["POST", "/api/v1/roles", { name: "x", org_id: "org_none" }, 404, "ORG_NOT_FOUND"],
    ["DELETE", "/api/v1/roles/role_admin", undefined, 409, "INVALID_STATE"],
    ["POST", "/api/v1/roles/role_admin/policies", { policy_id: "policy_viewer" }, 409, "INVALID_STATE"],
    ["POST", "/api/v1/roles/role_none/policies", { policy_id: "policy_viewer" }, 404, "ROLE_NOT_FOUND"],
    ["POST", "/api/v1/roles/role_none/policies", {}, 400],
    ...[
      { effect: "maybe" },
      { actions: "fly:*" },
      { actions: "" },
      { actions: 7 },
      { actions: "emit:*,,run:*" },
      { actions: Array.from({ length: 300 }, () => "emit:*").join(",") },
      { resources: "order.*" },
      { resources: "planet:earth" },
      { resources: "*".repeat(5000) },
      { condition: "event.data > 1" },
      { condition: "request.name ==" },
      { condition: 5 }
    ].map(
      (fields) =>
        [
          "POST",
          "/api/v1/policies",
          { name: "p", effect: "allow", actions: "*", resources: "*", ...fields },
          400
        ] as const
    )
  ]

  const requests = cases.map(([method, path, body, status, code]) => ({ method, path, body, status, code }))

  it.each(requests)("$method $path with $body is refused and changes nothing", async (request) => {
    const { method, path, body, status, code } = request
    const all = async () => [
      await ok(send("GET", "/api/v1/orgs")),
      await ok(send("GET", "/api/v1/roles")),
      await ok(send("GET", "/api/v1/policies")),
      (await ok(send("GET", "/api/v1/apikeys"))).length
    ]
    const before = await all()

    const answer = await send(method, path, body)

    assert.strictEqual(answer.status, status, answer.text)
    if (code !== undefined) assert.strictEqual(answer.body.code, code)
    assert.deepStrictEqual(await all(), before)
  })

  it("things in use cannot be deleted", async () => {
    const org = await ok(send("POST", "/api/v1/orgs", { name: "Acme" }))
    const role = await ok(send("POST", "/api/v1/roles", { name: "r", org_id: org.id }))
    const policy = await ok(
      send("POST", "/api/v1/policies", {
        name: "p",
        effect: "allow",
        actions: "*",
        resources: "*",
        org_id: org.id
      })
    )
    await send("POST", `/api/v1/roles/${role.id}/policies`, { policy_id: policy.id })
    const key = await makeKey({ role_ids: [role.id] })
    const remove = async (path: string) => (await send("DELETE", `/api/v1/${path}`)).status

    assert.deepStrictEqual(
      [
        await remove(`orgs/${org.id}`),
        await remove(`roles/${role.id}`),
        await remove(`policies/${policy.id}`)
      ],
      [409, 409, 409]
    )
    assert.deepStrictEqual(
      [
        await remove(`apikeys/${key.id}`),
        await remove(`roles/${role.id}`),
        await remove(`policies/${policy.id}`),
        await remove(`orgs/${org.id}`)
      ],
      [204, 204, 204, 204]
    )
  })
})

describe("on open connections", () => {
  const open = (key: string): Promise<WebSocket> =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}/api/v1/channel?token=${key}`)
      cleanups.push(() => socket.terminate())
      socket.once("open", () => resolve(socket))
      socket.once("error", reject)
    })
  const closed = (socket: WebSocket): Promise<number> =>
    new Promise((resolve) => socket.once("close", (code) => resolve(code)))
  const ask = (socket: WebSocket, id: number, method: string, path: string, body = ""): Promise<number> => {
    const answer = new Promise<number>((resolve) => {
      const listen = (data: WebSocket.RawData): void => {
        const [line = ""] = String(data).split("\n")
        const [of, status] = line.split(" ")
        if (of !== String(id)) return
        socket.off("message", listen)
        resolve(Number(status))
      }
      socket.on("message", listen)
    })
    socket.send(`${id} ${method} ${path} ${body.length}\n${body}`)
    return answer
  }

  it("a subscription client without a valid key gets an error that says so", async () => {
    for (const [apiKey, message] of [
      [undefined, "This engine requires an API key"],
      ["ifk_wrong", "The API key is not valid"]
    ] as const) {
      using client = createSubscriptionClient({
        serverUrl: server.url,
        autoReconnect: false,
        ...(apiKey === undefined ? {} : { apiKey })
      })

      const failure: unknown = await client.connect().catch((error: unknown) => error)

      assert.instanceOf(failure, UnauthenticatedError)
      assert.include(failure.message, message)
    }
  })

  it("a channel needs a key, and each of its calls the right to it", async () => {
    const { roleId } = await makeRole({ actions: "run:read" })
    const { key } = await makeKey({ role_ids: [roleId] })
    for (const wrong of ["", "ifk_wrong"]) {
      const failure: unknown = await open(wrong).catch((error: unknown) => error)
      assert.match(String(failure), /401/)
    }
    const socket = await open(key)
    const list = "/ironflow.v1.IronflowService/ListRuns"
    assert.strictEqual(await ask(socket, 1, "POST", list, "{}"), 200)
    assert.strictEqual(await ask(socket, 2, "GET", "/api/v1/secrets"), 403)
    const policy = { name: "s", effect: "allow", actions: "secret:read", resources: "*" }
    const { id } = await ok(send("POST", "/api/v1/policies", policy))
    await send("POST", `/api/v1/roles/${roleId}/policies`, { policy_id: id })
    assert.strictEqual(await ask(socket, 3, "GET", "/api/v1/secrets"), 200)
  })

  it("a denied subscription is also denied by a wider pattern", async () => {
    const { roleId } = await makeRole({ actions: "subscription:read" })
    const denial = { actions: "subscription:read", resources: "subscription:events:salary.*" }
    const { id } = await ok(send("POST", "/api/v1/policies", { name: "pay", effect: "deny", ...denial }))
    await send("POST", `/api/v1/roles/${roleId}/policies`, { policy_id: id })
    const { key } = await makeKey({ role_ids: [roleId] })
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/ws?token=${key}`)
    cleanups.push(() => socket.terminate())
    await once(socket, "open")
    const subscribe = async (pattern: string): Promise<string> => {
      socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern } }))
      while (true) {
        const [data] = await once(socket, "message")
        const frame = JSON.parse(String(data))
        if (frame.type === "subscription_result") return frame.results[0].code ?? frame.results[0].status
      }
    }
    const seen: Array<string> = []
    for (const pattern of [
      "events:order.*",
      "topic:>",
      "events:salary.paid",
      "events:>",
      ">",
      "entity:person.p-1.>"
    ]) {
      seen.push(await subscribe(pattern))
    }
    assert.deepStrictEqual(seen, ["ok", "ok", ...Array.from({ length: 4 }, () => "UNAUTHORIZED")])
  })

  it("states of projections and configurations reach only keys that may read them", async () => {
    const { roleId } = await makeRole({ actions: "subscription:read" })
    const policies = [
      { effect: "allow", actions: "projection:read, config:read", resources: "*" },
      { effect: "deny", actions: "projection:read", resources: "projection:order.secret" },
      { effect: "deny", actions: "config:read", resources: "config:prices" }
    ]
    const bare = await makeKey({ role_ids: [roleId] })
    const reading = await ok(send("POST", "/api/v1/roles", { name: "reader" }))
    for (const policy of policies) {
      const { id } = await ok(send("POST", "/api/v1/policies", { name: "policy", ...policy }))
      await send("POST", `/api/v1/roles/${reading.id}/policies`, { policy_id: id })
    }
    const reader = await makeKey({ role_ids: [roleId, reading.id] })
    const listen = async (key: string, patterns: ReadonlyArray<string>) => {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}/ws?token=${key}`)
      cleanups.push(() => socket.terminate())
      const frames: Array<any> = []
      socket.on("message", (data) => frames.push(JSON.parse(String(data))))
      await once(socket, "open")
      for (const pattern of patterns)
        socket.send(JSON.stringify({ type: "subscribe", subscription: { pattern } }))
      const results = () =>
        frames.flatMap(({ results, type }) => (type === "subscription_result" ? results : []))
      await vi.waitFor(() => assert.lengthOf(results(), patterns.length))
      return {
        results: results().map(({ code, status }: any) => code ?? status),
        topics: () => frames.flatMap(({ topic, type }) => (type === "event" ? [topic] : []))
      }
    }
    const wide = ["system.>", "system.*.*.*.updated"]
    const narrow = ["system.projection.>", "system.projection.order.>", "system.config.>"]
    const refused = await listen(bare.key, [...wide, ...narrow])
    const allowed = await listen(reader.key, [...wide, ...narrow])
    const call = (method: string, body: object) =>
      send("POST", `/ironflow.v1.ProjectionService/${method}`, body)
    for (const name of ["order.open", "order.secret"]) {
      await ok(call("RegisterProjection", { name, events: ["order.*"], mode: "managed" }))
    }
    await ok(emit())
    for (const name of ["order.secret", "order.open"]) {
      const { events } = await ok(call("PollProjectionEvents", { name }))
      await ok(
        call("SaveProjectionState", {
          name,
          state: {},
          lastEventId: events[0].id,
          lastEventSeq: events[0].seq
        })
      )
    }
    for (const name of ["prices", "limits"]) await ok(send("POST", `/api/v1/config/${name}`, { a: 1 }))

    await vi.waitFor(() => assert.include(allowed.topics(), "system.config.limits.updated"))
    await vi.waitFor(() => assert.isAtLeast(allowed.topics().length, 5))
    assert.deepStrictEqual(refused.results, ["ok", "ok", "UNAUTHORIZED", "UNAUTHORIZED", "UNAUTHORIZED"])
    assert.deepStrictEqual(new Set(allowed.results), new Set(["ok"]))
    assert.deepStrictEqual(refused.topics(), [])
    assert.deepStrictEqual(
      new Set(allowed.topics()),
      new Set(["system.projection.order.open.__global__.updated", "system.config.limits.updated"])
    )
    const changes = (name: string) =>
      send("GET", `/api/v1/projections/${name}/changes`, undefined, { key: reader.key })
    assert.deepStrictEqual(
      [(await changes("order.open")).status, (await changes("order.secret")).status],
      [200, 403]
    )
  })

  it("a key that is deleted ends its channels and the calls that wait", async () => {
    const { id, key } = await makeKey()
    const { eventId } = await ok(emit(key))
    assert.isString(eventId)
    const register = { id: "process-order", triggers: [{ event: "order.placed" }] }
    await ok(send("POST", "/ironflow.v1.IronflowService/RegisterFunction", register))
    const { runIds } = await ok(emit(key))
    const socket = await open(key)
    const wait = send("GET", `/api/v1/runs/${runIds[0]}/wait?timeout=30000`, undefined, { key })
    const gone = closed(socket)
    // the wait is open once the server has its request: then the key has a time of last use
    await vi.waitFor(async () =>
      assert.isString((await ok(send("GET", `/api/v1/apikeys/${id}`))).last_used_at)
    )

    await send("DELETE", `/api/v1/apikeys/${id}`)

    assert.strictEqual(await gone, 1008)
    assert.strictEqual((await wait).status, 401)
  })

  it("a key that expires ends its channels", async () => {
    await restart({ virtualTime: true })
    const { key } = await makeKey({ expires_in: "1m" })
    const gone = closed(await open(key))
    await server.pass(60_000)
    assert.strictEqual(await gone, 1008)
  })

  it("channels without a key end with the first key", async () => {
    await restartOpen()
    const gone = closed(await open(""))
    const first = await ok(send("POST", "/api/v1/apikeys", { name: "first" }, { key: "" }))
    assert.deepStrictEqual([first.env_id, first.role_ids], ["*", ["role_admin"]])
    assert.strictEqual(await gone, 1008)
    assert.strictEqual((await emit("")).status, 401)
  })

  it("a key that is deleted while many calls run is refused once its deletion is answered", async () => {
    const { id, key } = await makeKey()
    let deleted = false
    const late: Array<number> = []
    const caller = async (): Promise<void> => {
      for (let i = 0; i < 40; i++) {
        const wasDeleted = deleted
        const { status } = await emit(key)
        if (wasDeleted) late.push(status)
      }
    }
    const callers = Promise.all([caller(), caller(), caller(), caller()])
    await send("DELETE", `/api/v1/apikeys/${id}`)
    deleted = true
    await callers
    assert.isNotEmpty(late)
    assert.deepStrictEqual(new Set(late), new Set([401]))
  })
})

describe("workers", () => {
  it("of one environment are unknown to keys of another", async () => {
    const staging = await makeKey({ env_id: "staging", role_ids: ["role_worker"] })
    const other = await makeKey({ env_id: "other", role_ids: ["role_worker"] })
    const register = (key: string) =>
      send("POST", "/api/v1/workers/w-1/register", { function_ids: [], hostname: "h" }, { key })
    await ok(register(staging.key))

    assert.strictEqual(
      (await send("GET", "/api/v1/workers/w-1/jobs", undefined, { key: other.key })).status,
      404
    )
    assert.strictEqual((await register(other.key)).status, 400)
    assert.strictEqual(
      (await send("DELETE", "/api/v1/workers/w-1", undefined, { key: other.key })).status,
      204
    )
    assert.strictEqual(
      (await send("GET", "/api/v1/workers/w-1/jobs", undefined, { key: staging.key })).status,
      204
    )
  })
})

describe("turns", () => {
  it("of one environment are unknown to keys of another, even with their ids", async () => {
    const staging = await makeKey({ env_id: "staging", role_ids: ["role_worker"] })
    const other = await makeKey({ env_id: "other", role_ids: ["role_worker"] })
    const registration = registrationOf("w-1", [{ id: "ship-order", event: "order.placed" }])
    const register = (workerId: string, key: string) =>
      ok(
        send(
          "POST",
          `/api/v1/workers/${workerId}/register`,
          {
            worker_id: workerId,
            function_ids: [],
            capabilities: { turns: 1 },
            registration: { ...registration, workerId },
            instance: workerId
          },
          { key }
        )
      )
    const { session } = await register("w-1", staging.key)
    await ok(
      send(
        "POST",
        "/ironflow.v1.IronflowService/Trigger",
        { event: "order.placed", data: {} },
        { environment: "staging" }
      )
    )
    const poll = (key: string) =>
      send("POST", "/api/v1/workers/w-1/turns/poll", { session, asked: 1, seen: 0, waitMs: 5000 }, { key })
    assert.strictEqual((await poll(other.key)).status, 404)
    const { deliveries } = await ok(poll(staging.key))
    const { jobId, runId } = deliveries[0].job
    const report = { jobId, runId, ops: [{ _tag: "Complete" }] }

    const stranger = await register("w-2", other.key)
    const reported = await ok(
      send(
        "POST",
        "/api/v1/workers/w-2/turns/reports",
        { session: stranger.session, batch: 1, reports: [report] },
        { key: other.key }
      )
    )
    assert.deepInclude(reported.acks[0], { _tag: "Refused", reason: "LEASE_LOST" })
    const pushed = await ok(
      send("POST", `/api/v1/push/turns/${jobId}`, { runId, ops: report.ops }, { key: other.key })
    )
    assert.deepInclude(pushed.ack, { _tag: "Refused", reason: "LEASE_LOST" })
    const updated = await send(
      "PUT",
      `/api/v1/workers/w-2/jobs/${jobId}~${runId}`,
      { status: "completed" },
      { key: other.key }
    )
    assert.strictEqual(updated.status, 409)

    const own = await ok(
      send(
        "POST",
        "/api/v1/workers/w-1/turns/reports",
        { session, batch: 1, reports: [report] },
        { key: staging.key }
      )
    )
    assert.deepInclude(own.acks[0], { _tag: "Accepted" })
  })
})

describe("pages of other origins", () => {
  const page = (origin: string, options: Options = {}) =>
    send("GET", "/api/v1/functions", undefined, { ...options, headers: { origin } })
  const preflight = (origin: string) =>
    send("OPTIONS", "/api/v1/functions", undefined, {
      key: "",
      headers: { origin, "access-control-request-method": "GET" }
    })
  const allowed = async (origin: string, method = "GET") => {
    const response = await fetch(`${server.url}/api/v1/functions`, {
      method,
      headers: { origin, authorization: `Bearer ${BOOTSTRAP}`, "access-control-request-method": "GET" }
    })
    return response.headers.get("access-control-allow-origin")
  }

  it("are answered with keys if they are in corsOrigins, also their preflight requests", async () => {
    await restart({ corsOrigins: ["https://app.example.com"] })
    assert.strictEqual((await preflight("https://app.example.com")).status, 204)
    assert.strictEqual(await allowed("https://app.example.com", "OPTIONS"), "https://app.example.com")
    assert.strictEqual((await page("https://app.example.com")).status, 200)
    assert.strictEqual(await allowed("https://app.example.com"), "https://app.example.com")
    for (const origin of ["https://evil.example.com", "http://localhost:3000", "null"]) {
      assert.deepStrictEqual([(await page(origin)).status, (await preflight(origin)).status], [403, 403])
      assert.isNull(await allowed(origin))
    }
  })

  it("are answered without keys if they are on loopback", async () => {
    await restartOpen()
    assert.strictEqual((await preflight("http://localhost:3000")).status, 204)
    assert.strictEqual(await allowed("http://localhost:3000"), "http://localhost:3000")
    assert.strictEqual((await page("https://app.example.com")).status, 403)
    assert.strictEqual((await preflight("https://app.example.com")).status, 403)
  })

  it("are refused as options if they are no origins", async () => {
    for (const origin of ["*", "app.example.com", "https://app.example.com/path"]) {
      const failure = await start({ corsOrigins: [origin] }).catch((error: unknown) => error)
      assert.match(String(failure), /is not an origin/)
    }
  })
})

describe("listening", () => {
  it("on any host needs a key, even after the last one was deleted", async () => {
    const failure = await start({ host: "0.0.0.0" }).catch((error: unknown) => error)
    assert.match(String(failure), /does not listen on "0.0.0.0" without API keys/)

    await restart({ host: "0.0.0.0" })
    const call = (key: string) =>
      sendRaw(
        `http://127.0.0.1:${server.port}`,
        "GET",
        "/api/v1/functions",
        undefined,
        key === "" ? {} : { authorization: `Bearer ${key}` }
      )
    assert.deepStrictEqual([(await call(BOOTSTRAP)).status, (await call("")).status], [200, 401])
    await sendRaw(`http://127.0.0.1:${server.port}`, "DELETE", "/api/v1/apikeys/key_bootstrap", undefined, {
      authorization: `Bearer ${BOOTSTRAP}`
    })
    assert.strictEqual((await call("")).status, 401)
  })

  it("a bootstrap key must be long enough", async () => {
    const failure = await start({ bootstrapKey: "short" }).catch((error: unknown) => error)
    assert.match(String(failure), /32 to 256/)
    assert.notInclude(String(failure), "short")
  })
})

it("keys, roles and policies survive a restart, and the access log says who changed them", async () => {
  using database = temporaryDatabase()
  await restart({ filename: database.filename })
  const { roleId } = await makeRole({ actions: "emit:*", resources: "event:order.*" })
  const { id, key } = await makeKey({ role_ids: [roleId] })
  await restart({ filename: database.filename })

  assert.deepStrictEqual([(await emit(key)).status, (await emit(key, "payment.made")).status], [200, 403])
  const log: Array<{ by: string; action: string; subject: string }> = await ok(
    send("GET", "/api/v1/access-log")
  )
  assert.deepStrictEqual(
    log.map(({ by, action }) => `${by} ${action}`),
    [
      "key_bootstrap apikey:create",
      "key_bootstrap role:assign",
      "key_bootstrap policy:create",
      "key_bootstrap role:create",
      "local apikey:create"
    ]
  )
  assert.strictEqual(log[0]?.subject, id)
  await server.close()
  const bytes = readFileSync(database.filename).toString("latin1")
  assert.notInclude(bytes, key)
  assert.notInclude(bytes, BOOTSTRAP)
})
