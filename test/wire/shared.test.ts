/** Answers that requests with `Cache-Control: max-age=1` share: which requests get an earlier answer, and which never do. */
import { afterEach, assert, describe, it } from "vitest"
import { isCacheable } from "../../src/Protocol/CallSpec.ts"
import type { CallSpec } from "../../src/Protocol/CallSpec.ts"
import * as bulk from "../../src/Protocol/Bulk.ts"
import * as config from "../../src/Protocol/Config.ts"
import * as functions from "../../src/Protocol/Functions.ts"
import * as groups from "../../src/Protocol/ConsumerGroups.ts"
import * as projections from "../../src/Protocol/Projections.ts"
import * as counts from "../../src/Protocol/RunCounts.ts"
import * as runs from "../../src/Protocol/Runs.ts"
import * as workers from "../../src/Protocol/Workers.ts"
import { BOOTSTRAP, Keys } from "../security/Keys.ts"
import { type Ironflow, start } from "./Ironflow.ts"

const BUCKETS = "/api/v1/kv/buckets"
const shared = { "cache-control": "max-age=1" }

const open: Array<AsyncDisposable> = []
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]()
})
const serve = async (): Promise<Ironflow> => {
  const server = await start({ virtualTime: true })
  open.push(server)
  return server
}

/** The names of the buckets, and whether the answer is an earlier one. */
const bucketsOf = async (
  { url }: Pick<Ironflow, "url">,
  headers: Record<string, string> = {}
): Promise<{ readonly names: ReadonlyArray<string>; readonly isShared: boolean }> => {
  const answer = await fetch(url + BUCKETS, { headers })
  assert.strictEqual(answer.status, 200)
  const { buckets = [] } = (await answer.json()) as { buckets?: ReadonlyArray<{ name: string }> }
  return { names: buckets.map(({ name }) => name), isShared: answer.headers.has("age") }
}

const create = async ({ url }: Pick<Ironflow, "url">, name: string, key?: string): Promise<void> => {
  const { status } = await fetch(url + BUCKETS, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` })
    },
    body: JSON.stringify({ name })
  })
  assert.strictEqual(status, 201)
}

describe("a request that accepts an earlier answer", () => {
  it("gets it for less than a second, and no other request does", async () => {
    const server = await serve()
    await create(server, "carts")

    assert.deepStrictEqual(await bucketsOf(server, shared), { names: ["carts"], isShared: false })
    await create(server, "orders")
    assert.deepStrictEqual(await bucketsOf(server, shared), { names: ["carts"], isShared: true })
    assert.deepStrictEqual(await bucketsOf(server), { names: ["carts", "orders"], isShared: false })
    for (const control of ["no-cache", "max-age=0", "no-cache, max-age=1"]) {
      const { names } = await bucketsOf(server, { "cache-control": control })
      assert.deepStrictEqual(names, ["carts", "orders"], control)
    }

    await server.pass(1000)
    assert.deepStrictEqual(await bucketsOf(server, shared), { names: ["carts", "orders"], isShared: false })
  })

  it("gets one for the same environment and the same body", async () => {
    const server = await serve()
    await create(server, "carts")
    await bucketsOf(server, shared)
    const staging = await bucketsOf(server, { ...shared, "x-ironflow-environment": "staging" })
    assert.deepStrictEqual(staging, { names: [], isShared: false })

    const list = async (limit: number): Promise<string | null> => {
      const answer = await fetch(`${server.url}/ironflow.v1.IronflowService/ListRuns`, {
        method: "POST",
        headers: { ...shared, "content-type": "application/json" },
        body: JSON.stringify({ limit })
      })
      assert.strictEqual(answer.status, 200)
      return answer.headers.get("age")
    }
    assert.deepStrictEqual([await list(1), await list(2), await list(1)], [null, null, "0"])
  })

  it("gets one for the same key, while the rights of the key are unchanged", async () => {
    const keys = await Keys.start({ virtualTime: true })
    open.push(keys)
    const { url } = keys.server
    await create(keys.server, "carts", BOOTSTRAP)
    const post = async (path: string, body: object) => (await keys.send("POST", path, body)).body
    const policy = await post("/api/v1/policies", {
      name: "carts",
      effect: "allow",
      actions: "kv:read",
      resources: "bucket:carts"
    })
    const role = await post("/api/v1/roles", { name: "reader" })
    await post(`/api/v1/roles/${role.id}/policies`, { policy_id: policy.id })
    const { key } = await post("/api/v1/apikeys", { name: "reader", roleIds: [role.id] })
    const asReader = { ...shared, authorization: `Bearer ${key}` }

    await create(keys.server, "orders", BOOTSTRAP)
    const all = await bucketsOf(keys.server, { ...shared, authorization: `Bearer ${BOOTSTRAP}` })
    assert.deepStrictEqual(all, { names: ["carts", "orders"], isShared: false })
    const some = { names: ["carts"], isShared: false }
    assert.deepStrictEqual(await bucketsOf(keys.server, asReader), some)
    assert.deepStrictEqual(await bucketsOf(keys.server, asReader), { ...some, isShared: true })

    await keys.send("PATCH", `/api/v1/policies/${policy.id}`, { effect: "deny" })
    assert.strictEqual((await fetch(url + BUCKETS, { headers: asReader })).status, 403)
  })

  it("does not get an earlier failure", async () => {
    const server = await serve()
    const getStatus = async (): Promise<number> =>
      (await fetch(`${server.url}${BUCKETS}/carts`, { headers: shared })).status

    assert.strictEqual(await getStatus(), 404)
    await create(server, "carts")
    assert.strictEqual(await getStatus(), 200)
  })

  it("is a call that changes nothing", () => {
    const specs: ReadonlyArray<readonly [string, CallSpec]> = [
      bulk.callSpecs,
      config.callSpecs,
      counts.callSpecs,
      functions.callSpecs,
      groups.callSpecs,
      projections.callSpecs,
      runs.callSpecs,
      workers.callSpecs
    ].flatMap((all) => Object.entries<CallSpec>(all as never))
    const posts = specs.filter(([, spec]) => spec.method !== "GET" && isCacheable(spec)).map(([name]) => name)

    // add a call here only if it changes nothing
    assert.deepStrictEqual(posts.sort(), [
      "countRuns",
      "getConsumerGroup",
      "getFunction",
      "getRun",
      "getRunSteps",
      "listConsumerGroups",
      "listFunctions",
      "listRuns"
    ])
    const gets = specs.filter(([, spec]) => spec.method === "GET" && !isCacheable(spec)).map(([name]) => name)
    assert.deepStrictEqual(gets.sort(), ["projectionCatchup", "takeJobs", "waitForRun"])
  })
})
