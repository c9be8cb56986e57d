/** Keys, organizations, roles, policies and secrets through the client: in the process of the engine, and over HTTP. */
import { createClient, IronflowError, type IronflowClient } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, assert, beforeEach, describe, expect, it, vi } from "vitest"

const MASTER_KEY = "ab".repeat(32)

let engine: IronflowEngine
let clients: Array<IronflowClient>

beforeEach(async () => {
  engine = await startEngine({
    filename: ":memory:",
    masterKey: MASTER_KEY,
    logger: false,
    listen: { port: 0 }
  })
  clients = []
})
afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()))
  await engine.close()
})

const over = (apiKey: string): IronflowClient => {
  const client = createClient({ serverUrl: engine.url, apiKey })
  clients.push(client)
  return client
}

/** A client in the process, which needs no key, or a client over HTTP with the key of an admin. */
const connections: Record<string, () => Promise<IronflowClient>> = {
  "in process": async () => engine.client,
  "over HTTP": async () => over((await engine.client.apiKeys.create({ name: "admin" })).secret)
}

const codeOf = async (call: Promise<unknown>): Promise<string> => {
  const error = await call.then(
    () => undefined,
    (error: unknown) => error
  )
  assert.instanceOf(error, IronflowError)
  return error.code
}

describe.each(Object.entries(connections))("%s", (_name, open) => {
  it("keys are made, read, rotated and deleted", async () => {
    const { apiKeys } = await open()

    const made = await apiKeys.create({ name: "ci", envId: "env_default", role_ids: ["role_viewer"] })
    const { key, secret, ...shown } = made
    assert.strictEqual(key, secret)
    assert.deepStrictEqual(await apiKeys.get(made.id), shown)
    assert.deepStrictEqual((await apiKeys.list())[0], shown)
    const rotated = await apiKeys.rotate(made.id)
    assert.notStrictEqual(rotated.secret, secret)
    assert.strictEqual(await codeOf(over(secret).listRuns()), "UNAUTHENTICATED")
    assert.deepStrictEqual((await over(rotated.secret).listRuns()).runs, [])
    assert.isUndefined(await apiKeys.delete(made.id))
    assert.strictEqual(await codeOf(apiKeys.get(made.id)), "API_KEY_NOT_FOUND")
  })

  it("organizations, roles and policies work together", async () => {
    const { apiKeys, orgs, policies, roles } = await open()

    const org = await orgs.create({ name: "Acme" })
    const role = await roles.create({ name: "deployer", org_id: org.id })
    const policy = await policies.create({
      name: "allow-emit",
      effect: "allow",
      actions: "emit:*",
      resources: "event:order.*",
      org_id: org.id
    })
    await roles.assignPolicy(role.id, policy.id)
    assert.deepStrictEqual((await roles.get(role.id)).policy_ids, [policy.id])
    assert.deepStrictEqual(
      [(await roles.list(org.id)).length, (await policies.list(org.id)).length, (await roles.list()).length],
      [1, 1, 5]
    )
    const { secret } = await apiKeys.create({ name: "deploy", role_ids: [role.id] })
    const client = over(secret)
    assert.isString((await client.emit("order.placed", {})).eventId)
    assert.strictEqual(await codeOf(client.emit("payment.made", {})), "UNAUTHORIZED")

    assert.strictEqual(
      (await policies.update(policy.id, { resources: "event:payment.*" })).resources,
      "event:payment.*"
    )
    assert.isString((await client.emit("payment.made", {})).eventId)
    assert.strictEqual((await orgs.update(org.id, { name: "Acme Inc" })).name, "Acme Inc")
    assert.strictEqual(await codeOf(orgs.delete(org.id)), "INVALID_STATE")
    assert.strictEqual(await codeOf(roles.delete(role.id)), "INVALID_STATE")
    assert.strictEqual(await codeOf(policies.delete(policy.id)), "INVALID_STATE")
    await roles.removePolicy(role.id, policy.id)
    assert.strictEqual(await codeOf(client.emit("payment.made", {})), "UNAUTHORIZED")
    await policies.delete(policy.id)
    assert.strictEqual(await codeOf(policies.get(policy.id)), "POLICY_NOT_FOUND")
    assert.strictEqual(await codeOf(roles.get("role_none")), "ROLE_NOT_FOUND")
    assert.strictEqual(await codeOf(orgs.get("org_none")), "ORG_NOT_FOUND")
  })

  it("secrets are stored, and their values are never returned", async () => {
    const { secrets } = await open()

    const info = await secrets.set("STRIPE_KEY", "sk_live_1")
    assert.deepStrictEqual(await secrets.get("STRIPE_KEY"), info)
    assert.deepStrictEqual(await secrets.list(), [info])
    assert.notInclude(JSON.stringify(info), "sk_live_1")
    await secrets.delete("STRIPE_KEY")
    assert.strictEqual(await codeOf(secrets.delete("STRIPE_KEY")), "SECRET_NOT_FOUND")
    assert.strictEqual(await codeOf(secrets.get("STRIPE_KEY")), "SECRET_NOT_FOUND")
    assert.strictEqual(await codeOf(secrets.set("not a name", "x")), "VALIDATION_ERROR")
  })

  it("invalid input is refused", async () => {
    const { apiKeys, policies, roles } = await open()
    const wrong: unknown = undefined
    for (const refused of [
      () => apiKeys.create(wrong as { name: string }),
      () => apiKeys.create({ name: "" }),
      () => apiKeys.get(""),
      () => roles.create({ name: "x".repeat(300) }),
      () => policies.create({ name: "p", effect: "allow", actions: "fly:*", resources: "*" })
    ]) {
      await expect(refused()).rejects.toMatchObject({
        code: expect.stringMatching(/VALIDATION_ERROR|LIMIT_EXCEEDED/)
      })
    }
  })
})

it("a client uses IRONFLOW_API_KEY, and by default the environment of its key", async () => {
  const { secret } = await engine.client.apiKeys.create({ name: "staging", envId: "env_staging" })
  vi.stubEnv("IRONFLOW_API_KEY", secret)
  try {
    const client = createClient({ serverUrl: engine.url })
    clients.push(client)
    for (let i = 0; i < 10; i++) await client.emit("order.placed", {})
    const named = createClient({ serverUrl: engine.url, environment: "default" })
    clients.push(named)
    assert.strictEqual(await codeOf(named.listRuns()), "UNAUTHORIZED")
  } finally {
    vi.unstubAllEnvs()
  }
})
