/** The documented examples of Auth Management, unchanged, over HTTP with a key. */
import { createClient, type Policy, type Role, type APIKeyWithSecret, type APIKey } from "@ironflow/node"
import { beforeEach, describe, expect, test, vi } from "vitest"
import { useDocumented } from "./Documented.ts"

describe("auth management", () => {
  const documented = useDocumented()
  const { cleanups, given, load } = documented

  beforeEach(async () => {
    const { secret } = await documented.client.apiKeys.create({ name: "operator" })
    vi.stubEnv("IRONFLOW_API_KEY", secret)
    const client = createClient({ serverUrl: documented.server.url })
    cleanups.push(() => client.close())
    const org = await client.orgs.create({ name: "Acme" })
    const policy = await client.policies.create({
      name: "allow-run",
      effect: "allow",
      actions: "run:*",
      resources: "*",
      org_id: org.id
    })
    given({ createClient, client, orgId: org.id, policyId: policy.id })
  })

  test("API keys", async () => {
    const { newKey, keys, rotated } = await load<{
      newKey: APIKeyWithSecret
      keys: Array<APIKey>
      rotated: APIKeyWithSecret
    }>("auth-management.01", ["newKey", "keys", "rotated"])

    expect(vi.mocked(console.log).mock.calls).toEqual([[newKey.secret], [rotated.secret]])
    expect(newKey).toMatchObject({ name: "ci-key", env_id: "env_default", role_ids: ["role_developer"] })
    expect(keys.map(({ name }) => name)).toEqual(["ci-key", "operator"])
    const client = createClient({ serverUrl: documented.server.url })
    cleanups.push(() => client.close())
    expect((await client.apiKeys.list()).map(({ name }) => name)).toEqual(["operator"])
    for (const { secret } of [newKey, rotated]) {
      const late = createClient({ serverUrl: documented.server.url, apiKey: secret })
      cleanups.push(() => late.close())
      await expect(late.listRuns()).rejects.toMatchObject({ code: "UNAUTHENTICATED" })
    }
  })

  test("organizations", async () => {
    const { org, orgs } = await load<{ org: { id: string; name: string }; orgs: Array<{ id: string }> }>(
      "auth-management.02",
      ["org", "orgs"]
    )
    expect(org.name).toBe("Acme Corp")
    expect(orgs.map(({ id }) => id)).toContain(org.id)
  })

  test("roles", async () => {
    const { role, roles, fetched } = await load<{ role: Role; roles: Array<Role>; fetched: Role }>(
      "auth-management.03",
      ["role", "roles", "fetched"]
    )
    expect(roles).toEqual([role])
    expect(fetched).toEqual(role)
  })

  test("policies", async () => {
    const { policy, policies } = await load<{ policy: Policy; policies: Array<Policy> }>(
      "auth-management.04",
      ["policy", "policies"]
    )
    expect(policy).toMatchObject({ effect: "allow", actions: "emit:*", resources: "*" })
    expect(policies).toHaveLength(2)
  })
})
