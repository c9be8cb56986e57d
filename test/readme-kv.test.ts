/** The documented examples of the key-value store and of configurations do what the text around them promises. */
import { type ConfigEntry, createClient, KVClient, RevisionConflictError } from "@ironflow/node"
import { describe, expect, test, vi } from "vitest"
import { useDocumented } from "./Documented.ts"

describe("the documented examples do what they promise", () => {
  const documented = useDocumented()

  const kvClient = async () => {
    documented.given({ createClient })
    const { kv } = await documented.load<{ kv: KVClient }>("kv-store.01", ["kv"])
    expect(kv).toBeInstanceOf(KVClient)
    documented.given({ kv })
    return kv
  }

  test("buckets are created, listed, described and deleted", async () => {
    const kv = await kvClient()

    const { buckets, info } = await documented.load("kv-store.02", ["buckets", "info"])

    expect(buckets).toEqual([info])
    expect(info).toMatchObject({ name: "sessions", ttl_seconds: 3600, values: 0, history: 1 })
    expect(await kv.listBuckets()).toEqual([])
  })

  test("keys are put, read, created, updated, deleted, purged and listed", async () => {
    const kv = await kvClient()
    await kv.createBucket({ name: "sessions" })

    const { allKeys, entry, keys, revision } = await documented.load<{
      allKeys: Array<string>
      entry: { value: unknown; revision: number }
      keys: Array<string>
      revision: number
    }>("kv-store.03", ["revision", "entry", "keys", "allKeys"])

    expect(entry).toMatchObject({ value: { token: "abc", role: "admin" }, revision })
    expect(vi.mocked(console.log).mock.calls).toEqual([[entry.value], [revision]])
    expect(keys).toEqual(["user-456"])
    expect(allKeys).toEqual(keys)
    await expect(kv.bucket("sessions").create("user-456", 1)).rejects.toBeInstanceOf(RevisionConflictError)
  })

  test("configurations are set, read, patched, listed and deleted", async () => {
    documented.given({ createClient })

    const { all, settings } = await documented.load<{
      all: Array<ConfigEntry>
      settings: { data: unknown }
    }>("config-management.01", ["settings", "all"])

    expect(settings.data).toEqual({ theme: "dark", locale: "en", maxRetries: 3 })
    expect(all.map(({ data, name }) => [name, data])).toEqual([
      ["app-settings", { theme: "dark", locale: "fr", maxRetries: 3 }]
    ])
    expect(vi.mocked(console.log).mock.calls.at(-1)).toEqual(["app-settings", all[0]?.data])
    expect(await documented.client.config().list()).toEqual([])
  })
})
