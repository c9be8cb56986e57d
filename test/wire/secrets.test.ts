/** Transcripts of secrets: values can be set and never read. */
import { randomBytes } from "node:crypto"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import { send } from "./RawClient.ts"

const VALUE = "sk-live-very-secret"

let ironflow: Ironflow
beforeAll(async () => {
  vi.stubEnv("IRONFLOW_MASTER_KEY", randomBytes(32).toString("base64"))
  ironflow = await start()
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await ironflow.close()
})

describe("secrets", () => {
  it("are stored, listed without values, replaced and deleted", async () => {
    const stored = await send(ironflow.url, "POST", "/api/v1/secrets", { name: "STRIPE_KEY", value: VALUE })
    assert.strictEqual(stored.status, 200)
    assert.deepStrictEqual(Object.keys(stored.body), ["name", "created_at", "updated_at"])

    const listed = await send(ironflow.url, "GET", "/api/v1/secrets")
    assert.deepStrictEqual(listed.body, [stored.body])
    assert.notInclude(JSON.stringify([stored, listed]), VALUE)

    const one = await send(ironflow.url, "GET", "/api/v1/secrets/STRIPE_KEY")
    assert.deepStrictEqual(one.body, stored.body)

    const replaced = await send(ironflow.url, "PUT", "/api/v1/secrets/STRIPE_KEY", { value: "another" })
    assert.strictEqual(replaced.status, 200)
    assert.strictEqual(replaced.body.created_at, stored.body.created_at)

    const deleted = await send(ironflow.url, "DELETE", "/api/v1/secrets/STRIPE_KEY")
    assert.strictEqual(deleted.status, 204)
    assert.deepStrictEqual((await send(ironflow.url, "GET", "/api/v1/secrets")).body, [])
  })

  it("that do not exist are not found", async () => {
    for (const method of ["GET", "DELETE"] as const) {
      const { status, body } = await send(ironflow.url, method, "/api/v1/secrets/NOPE")

      assert.strictEqual(status, 404)
      assert.strictEqual(body.code, "SECRET_NOT_FOUND")
    }
  })

  it.for([
    [{ value: VALUE }, "name"],
    [{ name: "STRIPE_KEY" }, "value"],
    [{ name: "bad name", value: VALUE }, "cannot be the name of a secret"],
    [{ name: "STRIPE_KEY", value: "" }, "must be a string that is not empty"]
  ] as const)("are refused as %j", async ([body, reason]) => {
    const answer = await send(ironflow.url, "POST", "/api/v1/secrets", body)

    assert.strictEqual(answer.status, 400)
    assert.include(answer.body.message, reason)
    assert.notInclude(JSON.stringify(answer.body), VALUE)
  })
})
