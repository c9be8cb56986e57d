/**
 * The commands `apikeys`, `roles`, `policies` and `orgs`, with a server that is a process of its own. The first key is made
 * before there is a server.
 */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const terminal = new Terminal()
let serverUrl: string
let admin: string

const as = (key: string | undefined) => {
  const env = { IRONFLOW_SERVER_URL: serverUrl, ...(key === undefined ? {} : { IRONFLOW_API_KEY: key }) }
  return {
    run: (...args: ReadonlyArray<string>) => runHere(args, { env }),
    json: (...args: ReadonlyArray<string>) => jsonHere(args, { env })
  }
}

beforeAll(async () => {
  const first = await terminal.json(["apikeys", "create", "admin", "--data", "keys.db"])
  assert.deepInclude(first, { name: "admin", env_id: "*", role_ids: ["role_admin"] })
  admin = first.key
  const port = await freePort()
  serverUrl = `http://127.0.0.1:${port}`
  const server = terminal.start(["serve", "--port", String(port), "--data", "keys.db"])
  await server.until("Every call needs an API key")
}, 60_000)
afterAll(() => terminal[Symbol.asyncDispose]())

describe.concurrent("the commands for access", () => {
  it("are refused without a key", async () => {
    const refused = await as(undefined).run("runs", "list")
    assert.strictEqual(refused.code, 1)
    assert.include(refused.stderr, "This engine requires an API key")
  }, 60_000)

  it("change policies and roles, which apply to a key at once", async () => {
    const { json, run } = as(admin)
    const role = await json("roles", "create", "deployer")
    const rule = ["--actions", "emit:*", "--resources", "event:order.*"]
    const policy = await json("policies", "create", "orders", ...rule)
    assert.strictEqual((await run("roles", "assign", role.id, policy.id)).code, 0)
    const { id, key } = await json("apikeys", "create", "ci", "--role", role.id)
    const ci = as(key)

    assert.isString((await ci.json("emit", "order.placed", "{}")).eventId)
    const refused = await ci.run("emit", "payment.made", "{}")
    assert.strictEqual(refused.code, 1)
    assert.include(refused.stderr, "may not emit:event on event:payment.made")

    await run("policies", "update", policy.id, "--resources", "event:payment.*")
    assert.isString((await ci.json("emit", "payment.made", "{}")).eventId)
    assert.strictEqual((await ci.run("emit", "order.placed", "{}")).code, 1)

    const inUse = await run("policies", "delete", policy.id)
    assert.strictEqual(inUse.code, 1)
    await run("roles", "unassign", role.id, policy.id)
    assert.strictEqual((await ci.run("emit", "payment.made", "{}")).code, 1)
    // the older name of the command
    assert.strictEqual((await run("roles", "remove", role.id, policy.id)).code, 0)
    assert.strictEqual((await run("policies", "delete", policy.id)).code, 0)
    assert.notInclude((await run("policies", "list")).stdout, policy.id)

    assert.strictEqual((await run("apikeys", "delete", id)).code, 0)
    assert.strictEqual((await run("roles", "delete", role.id)).code, 0)
  }, 120_000)

  it("rotate and delete keys, and never list their values", async () => {
    const { json, run } = as(admin)
    const { id, key } = await json("apikeys", "create", "short", "--expires-in", "90d")
    assert.strictEqual((await as(key).run("runs", "list")).code, 0)
    const rotated = await json("apikeys", "rotate", id)
    assert.strictEqual((await as(key).run("runs", "list")).code, 1)
    assert.strictEqual((await as(rotated.key).run("runs", "list")).code, 0)
    const list = (await run("apikeys", "list", "--json")).stdout + (await run("apikeys", "list")).stdout
    assert.include(list, "short")
    for (const secret of [admin, key, rotated.key]) assert.notInclude(list, secret)
    assert.strictEqual((await run("apikeys", "delete", rotated.id)).code, 0)
    const gone = await as(rotated.key).run("runs", "list")
    assert.strictEqual(gone.code, 1)
    assert.include(gone.stderr, "The API key is not valid")
  }, 120_000)

  it("create, rename and delete organizations", async () => {
    const { json, run } = as(admin)
    const org = await json("orgs", "create", "Acme Corp")
    await run("orgs", "rename", org.id, "Acme Inc")
    assert.include((await run("orgs", "list")).stdout, "Acme Inc")
    const role = await json("roles", "create", "clerk", "--org", org.id)
    assert.strictEqual((await run("orgs", "delete", org.id)).code, 1)
    assert.strictEqual((await run("roles", "delete", role.id)).code, 0)
    assert.strictEqual((await run("orgs", "delete", org.id)).code, 0)
    const missing = await run("orgs", "delete", org.id)
    assert.strictEqual(missing.code, 1)
    assert.include(missing.stderr, org.id)
  }, 120_000)
})

it(
  "creating the first key warns that callers without a key are shut out, and creating later keys does not",
  { timeout: 60_000 },
  async () => {
    const create = (name: string) => terminal.run(["apikeys", "create", name, "--data", "first.db"])
    const first = await create("admin")
    const second = await create("dev")
    assert.match(
      first.stdout,
      /It is the first key: .*\nWorkers that run without a key stop now\. .*--role role_worker/
    )
    assert.notInclude(second.stdout, "Workers")
  }
)
