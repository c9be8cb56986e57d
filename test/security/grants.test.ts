/** A key can only make keys, roles and policies with at most its own rights, environment and lifetime. */
import { createClient, UnauthenticatedError } from "@ironflow/node"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { givingProblem } from "../../src/Engine/Access/PrivilegeEscalation.ts"
import { policiesOfRole } from "../../src/Limits.ts"
import type { PolicyRule } from "../../src/Policy.ts"
import { BOOTSTRAP, Keys, type PolicyOf } from "./Keys.ts"

let keys: Keys
beforeEach(async () => {
  keys = await Keys.start()
})
afterEach(() => keys[Symbol.asyncDispose]())

const managing = "apikey:*, role:*, policy:*"

/** A key for all environments that may manage keys, roles and policies, and also has these policies. Returns its role too. */
const manager = async (...policies: ReadonlyArray<PolicyOf>) => {
  const roleId = await keys.makeRole({ name: "manages", actions: managing }, ...policies)
  const { key } = await keys.makeKey({ env_id: "*", role_ids: [roleId] })
  return { key, roleId }
}

const statusOf = async (key: string, method: string, path: string, body?: object): Promise<number> =>
  (await keys.send(method, `/api/v1/${path}`, body, { key })).status

describe("a key makes keys", () => {
  const make = (key: string, roleIds: ReadonlyArray<string>, name = "made") =>
    statusOf(key, "POST", "apikeys", { name, role_ids: roleIds })

  it("with at most its own rights, whatever the roles are called", async () => {
    const { key, roleId } = await manager({ actions: "emit:*, run:read", resources: "event:order.*, run:*" })
    const less = await keys.makeRole({ actions: "emit:event", resources: "event:order.paid" })
    const more = await keys.makeRole({ actions: "emit:event", resources: "event:*" })
    const other = await keys.makeRole({ actions: "secret:read" })

    assert.deepStrictEqual(
      [
        await make(key, [roleId]),
        await make(key, [less]),
        await make(key, []),
        await make(key, [more]),
        await make(key, [other]),
        await make(key, [less, other]),
        await make(key, ["role_admin"])
      ],
      [201, 201, 201, 403, 403, 403, 403]
    )
  })

  it("with its own denials", async () => {
    const denies = {
      name: "no salaries",
      effect: "deny",
      actions: "emit:*",
      resources: "event:salary.*"
    } as const
    const { key, roleId } = await manager({ actions: "emit:*" }, denies)
    const free = await keys.makeRole({ actions: "emit:*" })
    const elsewhere = await keys.makeRole({ actions: "emit:*", resources: "event:order.*" })
    const bound = await keys.makeRole({ actions: "emit:*" }, { ...denies, resources: "event:s*" })

    assert.deepStrictEqual(
      [
        await make(key, [roleId]),
        await make(key, [free]),
        await make(key, [elsewhere]),
        await make(key, [bound])
      ],
      [201, 403, 201, 201]
    )
  })

  it("but no key whose name decides a condition in its favour", async () => {
    const condition = 'request.key.name == "ops"'
    const { key, roleId } = await manager({ actions: "secret:read", condition })
    const inTime = await keys.makeRole({ actions: "run:read", condition: 'request.environment == "default"' })
    const same = await manager({ actions: "run:read", condition: 'request.environment == "default"' })

    assert.strictEqual(await make(key, [roleId], "ops"), 403)
    assert.strictEqual(await make(same.key, [inTime]), 201)
    const freed = await manager({ actions: "*" }, { effect: "deny", actions: "secret:*", condition })
    assert.strictEqual(await make(freed.key, [freed.roleId], "other"), 403)
  })

  it("that expire no later than it does", async () => {
    const { id: ending, key } = await keys.makeKey({
      env_id: "*",
      role_ids: ["role_admin"],
      expires_in: "1h"
    })
    const create = (input: object) =>
      keys.send("POST", "/api/v1/apikeys", { name: "made", ...input }, { key })
    const ownExpiry = (await keys.ok(keys.send("GET", `/api/v1/apikeys/${ending}`))).expires_at

    assert.strictEqual((await keys.ok(create({}))).expires_at, ownExpiry)
    assert.isBelow(
      Date.parse((await keys.ok(create({ expires_in: "1m" }))).expires_at),
      Date.parse(ownExpiry)
    )
    const refused = await create({ expires_in: "2h" })
    assert.deepStrictEqual([refused.status, refused.body.code], [403, "UNAUTHORIZED"])
    assert.include(refused.body.message, ownExpiry)
  })

  it("and cannot rotate a key with more rights or a later expiry", async () => {
    const { key } = await manager()
    const admin = await keys.makeKey({ role_ids: ["role_admin"] })
    const weak = await keys.makeKey({ role_ids: [] })
    const short = await keys.makeKey({ env_id: "*", role_ids: ["role_admin"], expires_in: "1h" })
    const rotate = (id: string, by: string) => statusOf(by, "POST", `apikeys/${id}/rotate`)

    assert.deepStrictEqual(
      [
        await rotate(admin.id, key),
        await rotate(weak.id, key),
        await rotate(weak.id, short.key),
        await rotate(short.id, short.key)
      ],
      [403, 200, 403, 200]
    )
  })
})

describe("the last key, whose deletion opens the server", () => {
  /** Makes a key, and deletes first all other keys and then the key itself with it. */
  const deletesAll = async (input: object): Promise<number> => {
    const { id, key } = await keys.makeKey({ env_id: "*", ...input })
    for (const other of await keys.ok(keys.send("GET", "/api/v1/apikeys", undefined, { key }))) {
      if (other.id !== id)
        await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${other.id}`, undefined, { key }))
    }
    return statusOf(key, "DELETE", `apikeys/${id}`)
  }
  const statusWithoutKey = () => statusOf("", "GET", "secrets")

  it("is not deleted by a key that lacks a right which all callers would then have", async () => {
    const janitor = await keys.makeRole({ actions: "apikey:read, apikey:delete" })
    assert.strictEqual(await deletesAll({ role_ids: [janitor] }), 403)
    assert.strictEqual(await statusWithoutKey(), 401)
  })

  it("is not deleted by a key that expires", async () => {
    assert.strictEqual(await deletesAll({ role_ids: ["role_admin"], expires_in: "1h" }), 403)
    assert.strictEqual(await statusWithoutKey(), 401)
  })

  it("is not deleted by a key of a single environment", async () => {
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    await keys.ok(keys.send("DELETE", "/api/v1/apikeys/key_bootstrap"))
    assert.strictEqual(await statusOf(key, "DELETE", `apikeys/${id}`), 403)
    assert.strictEqual(await statusWithoutKey(), 401)
  })

  it("is deleted by a key that may do everything", async () => {
    assert.strictEqual(await deletesAll({ role_ids: ["role_admin"] }), 204)
    assert.strictEqual(await statusWithoutKey(), 200)
  })
})

describe("a key changes roles and policies", () => {
  it("but cannot grant rights that it does not have", async () => {
    const { key, roleId } = await manager({ actions: "emit:*", resources: "event:order.*" })
    const policy = async (policy: PolicyOf): Promise<string> =>
      (
        await keys.ok(
          keys.send(
            "POST",
            "/api/v1/policies",
            { name: "mine", effect: "allow", resources: "*", ...policy },
            { key }
          )
        )
      ).id
    const assign = (policy_id: string) => statusOf(key, "POST", `roles/${roleId}/policies`, { policy_id })

    assert.strictEqual(await assign(await policy({ actions: "*" })), 403)
    assert.strictEqual(await assign("policy_admin"), 403)
    const narrow = await policy({ actions: "emit:event", resources: "event:order.paid" })
    assert.strictEqual(await assign(narrow), 204)
    assert.strictEqual(await statusOf(key, "PATCH", `policies/${narrow}`, { resources: "*" }), 403)
    assert.strictEqual(await statusOf(key, "PATCH", `policies/${narrow}`, { name: "narrower" }), 200)
    assert.strictEqual(await assign(await policy({ effect: "deny", actions: "run:*" })), 204)
  })

  it("but cannot remove its own denials", async () => {
    const roleId = await keys.makeRole({ actions: "*" })
    const deny = await keys.makePolicy({ effect: "deny", actions: "secret:*", resources: "secret:prod-*" })
    await keys.assign(roleId, deny)
    const { key } = await keys.makeKey({ env_id: "*", role_ids: [roleId] })

    assert.deepStrictEqual(
      [
        await statusOf(key, "DELETE", `roles/${roleId}/policies/${deny}`),
        await statusOf(key, "PATCH", `policies/${deny}`, { resources: "secret:none" }),
        await statusOf(key, "PATCH", `policies/${deny}`, { effect: "allow" }),
        await statusOf(key, "PATCH", `policies/${deny}`, { resources: "secret:*" })
      ],
      [403, 403, 403, 200]
    )
    assert.strictEqual(await statusOf(BOOTSTRAP, "DELETE", `roles/${roleId}/policies/${deny}`), 204)
  })
})

describe("policies with too many rules to compare", () => {
  it("are not granted", () => {
    const patterns = (letter: string) =>
      Array.from({ length: 200 }, (_, i) => `event:${`*${letter}`.repeat(100)}${i}`).join()
    const rules = (letter: string): ReadonlyArray<PolicyRule> =>
      [1, 2, 3].map((i) => ({ name: `p${i}`, effect: "allow", actions: "*", resources: patterns(letter) }))

    assert.match(
      givingProblem(rules("a"), rules("b")) ?? "",
      /^that would give rights that this key does not have itself: policy "p1" allows/
    )
    assert.match(givingProblem(rules("a"), rules("a").toReversed()) ?? "", /too many rules to compare/)
  })
})

describe("the check for rights that a key lacks, for", () => {
  const rule = (actions: string, resources = "*", more: Partial<PolicyRule> = {}): PolicyRule => ({
    name: "p",
    effect: "allow",
    actions,
    resources,
    ...more
  })
  const deny = { effect: "deny" } as const
  it.each<[string, ReadonlyArray<PolicyRule>, ReadonlyArray<PolicyRule>, boolean]>([
    ["nothing", [], [], false],
    ["everything of everything", [rule("*")], [rule("*"), rule("emit:*", "event:a")], false],
    ["everything, written differently", [rule("*:*", "**")], [rule("*")], false],
    [
      "rights of several policies",
      [rule("run:*"), rule("emit:*", "event:*")],
      [rule("emit:event, run:read", "event:a")],
      false
    ],
    ["a wider pattern", [rule("emit:*", "event:a.*")], [rule("emit:*", "event:a*")], true],
    ["a star in place of a letter", [rule("emit:*", "event:a.b")], [rule("emit:*", "event:a.*")], true],
    ["an action that a star adds", [rule("emit:event")], [rule("emit:*")], true],
    [
      "rights without the own condition",
      [rule("run:*", "*", { condition: "request.name == 'a'" })],
      [rule("run:*")],
      true
    ],
    [
      "rights with the same condition",
      [rule("run:*", "*", { condition: "request.name == 'a'" })],
      [rule("run:read", "*", { condition: "request.name == 'a'" })],
      false
    ],
    [
      "rights with a condition about the key",
      [rule("run:*", "*", { condition: "request['key'].id == 'a'" })],
      [rule("run:*", "*", { condition: "request['key'].id == 'a'" })],
      true
    ],
    ["rights that are denied", [rule("*"), rule("run:*", "*", deny)], [rule("*")], true],
    ["rights beside the denied ones", [rule("*"), rule("run:*", "*", deny)], [rule("emit:*")], false],
    [
      "rights with a narrower denial",
      [rule("*"), rule("run:*", "run:a*", deny)],
      [rule("*"), rule("run:*", "run:ab*", deny)],
      true
    ]
  ])("%s", (_name, own, given, more) => {
    assert.strictEqual(givingProblem(own, given) !== undefined, more)
  })
})

describe("the size of a role", () => {
  const limitOf = async (method: string, path: string, body: object): Promise<unknown> => {
    const answer = await keys.send(method, `/api/v1/${path}`, body)
    return answer.status < 300 ? answer.status : answer.body
  }
  const patterns = (many: number, length: number): string =>
    Array.from({ length: many }, (_, i) => `bucket:${String(i).padStart(length - 7, "x")}`).join(",")
  const long = { actions: "kv:read", resources: patterns(10, 400) }

  it("has a limit, for assigned and for changed policies", async () => {
    const role = await keys.makeRole()
    for (let i = 0; i < 16; i++) await keys.assign(role, await keys.makePolicy(long))
    const small = await keys.makePolicy({ actions: "kv:read", resources: "bucket:a" })
    await keys.assign(role, small)
    const tooMuch = /total size of the policies of role .*limit is 65536 characters/

    const one = await keys.makePolicy(long)
    assert.match(JSON.stringify(await limitOf("POST", `roles/${role}/policies`, { policy_id: one })), tooMuch)
    for (const change of [
      { resources: patterns(10, 400) },
      { condition: `request.name != "${"n".repeat(4000)}"` }
    ]) {
      assert.match(JSON.stringify(await limitOf("PATCH", `policies/${small}`, change)), tooMuch)
    }
    const role_ = await keys.ok(keys.send("GET", `/api/v1/roles/${role}`))
    assert.notInclude(JSON.stringify(role_), one)
    assert.strictEqual(await limitOf("PATCH", `policies/${small}`, { resources: "bucket:b" }), 200)
  })

  it("has a limit of 256 policies, and a key has a limit of 16 roles", async () => {
    const role = await keys.makeRole()
    for (let i = 0; i < policiesOfRole; i++) {
      await keys.assign(role, await keys.makePolicy({ actions: "kv:read", resources: `bucket:${i}` }))
    }
    const one = await keys.makePolicy({ actions: "kv:read" })
    assert.match(
      JSON.stringify(await limitOf("POST", `roles/${role}/policies`, { policy_id: one })),
      /257 policies, and the limit is 256 policies/
    )
    assert.match(
      JSON.stringify(await limitOf("POST", "apikeys", { name: "k", role_ids: Array(17).fill(role) })),
      /17 roles, and the limit is 16 roles/
    )
  })

  it("decides whether its rights are compared, which has to be fast, or refused", () => {
    const actions = "emit:*, run:*, kv:*, config:*, stream:*, policy:*, role:*, apikey:*"
    const many = (text: string, name: string) => ({
      name,
      effect: "allow" as const,
      actions,
      resources: text
    })
    // no pattern is long: what takes time is to check so many rules for each of so many patterns and actions
    const ownRules = [
      ...Array.from({ length: 255 }, (_, i) => many("event:a", `own-${i}`)).map((rule) => ({
        ...rule,
        actions: "worker:*, secret:*, org:*, function:*"
      })),
      many("*", "all")
    ]
    const givenRules = Array.from({ length: 100 }, (_, i) => many(patterns(40, 9), `given-${i}`))

    assert.match(givingProblem(ownRules, givenRules) ?? "", /policies have too many rules to compare/)
    assert.isUndefined(givingProblem(ownRules, givenRules.slice(0, 1)))
  })
})

describe("the old secret of a rotated key", () => {
  it("works beside the new one for the requested time and no longer, and so do its sockets", async () => {
    await keys[Symbol.asyncDispose]()
    keys = await Keys.start({ virtualTime: true })
    const { id, key } = await keys.makeKey({ role_ids: ["role_admin"] })
    const channel = await keys.socket("/api/v1/channel", key)
    const works = async (key: string) => (await statusOf(key, "GET", "functions")) === 200

    const rotated = await keys.ok(keys.send("POST", `/api/v1/apikeys/${id}/rotate`, { overlap: "24h" }))

    assert.strictEqual(
      rotated.previous_expires_at,
      (await keys.ok(keys.send("GET", `/api/v1/apikeys/${id}`))).previous_expires_at
    )
    await keys.server.pass(24 * 3_600_000 - 1)
    assert.deepStrictEqual([await works(key), await works(rotated.key)], [true, true])
    assert.strictEqual(channel.socket.readyState, channel.socket.OPEN)
    // the old secret cannot get a new one that lives longer
    assert.strictEqual(await statusOf(key, "POST", `apikeys/${id}/rotate`), 403)
    await keys.server.pass(1)
    assert.strictEqual(await channel.closed, 1008)
    assert.deepStrictEqual([await works(key), await works(rotated.key)], [false, true])
    assert.isUndefined((await keys.ok(keys.send("GET", `/api/v1/apikeys/${id}`))).previous_expires_at)
  })

  it("ends with the next rotation, and with its key", async () => {
    const { id, key } = await keys.makeKey()
    const rotate = (body?: object) => keys.ok(keys.send("POST", `/api/v1/apikeys/${id}/rotate`, body))
    const second = (await rotate({ overlap: "1h" })).key
    const third = (await rotate({ overlap: 3_600_000 })).key
    const works = (keys_: ReadonlyArray<string>) =>
      Promise.all(keys_.map(async (key) => (await statusOf(key, "GET", "functions")) === 200))

    assert.deepStrictEqual(await works([key, second, third]), [false, true, true])
    const fourth = (await rotate()).key
    assert.deepStrictEqual(await works([second, third, fourth]), [false, false, true])
    const fifth = (await rotate({ overlap: "1h" })).key
    await keys.ok(keys.send("DELETE", `/api/v1/apikeys/${id}`))
    assert.deepStrictEqual(await works([fourth, fifth]), [false, false])
  })

  it.each([{ overlap: "soon" }, { overlap: -1 }, { overlap: "31d" }, { overlap: true }, []])(
    "is not replaced by a rotation with the invalid body %j",
    async (body) => {
      const { id, key } = await keys.makeKey()
      assert.strictEqual((await keys.send("POST", `/api/v1/apikeys/${id}/rotate`, body)).status, 400)
      assert.strictEqual(await statusOf(key, "GET", "functions"), 200)
    }
  )

  it("is kept by the client's rotate", async () => {
    await using client = createClient({ serverUrl: keys.server.url, apiKey: BOOTSTRAP })
    const { id, secret } = await client.apiKeys.create({ name: "ci" })
    await using before = createClient({ serverUrl: keys.server.url, apiKey: secret })

    const rotated = await client.apiKeys.rotate(id, { overlap: "24h" })

    const inMs = Date.parse(rotated.previous_expires_at ?? "") - Date.now()
    assert.isTrue(inMs > 23 * 3_600_000 && inMs <= 24 * 3_600_000)
    assert.deepStrictEqual((await before.listRuns()).runs, [])
    await client.apiKeys.rotate(id)
    assert.instanceOf(await before.listRuns().catch((error: unknown) => error), UnauthenticatedError)
  })
})
