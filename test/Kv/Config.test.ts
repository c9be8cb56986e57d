/** Configurations as users see them: with the Promise API, in the process and over HTTP. */
import {
  ConfigClient,
  ConfigNotFoundError,
  type ConfigWatchEvent,
  createClient,
  type IronflowClient,
  ValidationError
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"

describe.each(["in process", "over HTTP"])("configurations %s", (where) => {
  let engine: IronflowEngine
  let client: IronflowClient
  beforeEach(async () => {
    engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    client = where === "in process" ? engine.client : createClient({ serverUrl: engine.url })
  })
  afterEach(async () => {
    await client.close()
    await engine.close()
  })

  it("are set, patched, listed with their data, and deleted", async () => {
    const config = client.config()

    const first = await config.set("app", { theme: "dark", nested: { a: 1 } })
    const second = await config.patch("app", JSON.parse('{"nested":{"b":2},"__proto__":{"polluted":true}}'))
    const { data, ...rest } = await config.get("app")

    expect([first, second]).toEqual([
      { name: "app", revision: 1 },
      { name: "app", revision: 2 }
    ])
    expect(rest).toEqual({ name: "app", revision: 2, updatedAt: expect.stringMatching(/^\d{4}-/) })
    expect(JSON.stringify(data)).toBe('{"theme":"dark","nested":{"b":2},"__proto__":{"polluted":true}}')
    expect(Object(data).polluted).toBeUndefined()
    expect((await config.list()).map(({ name, revision }) => [name, revision])).toEqual([["app", 2]])
    await config.delete("app")
    await config.delete("app")
    await expect(config.get("app")).rejects.toBeInstanceOf(ConfigNotFoundError)
    await expect(config.patch("app", {})).rejects.toBeInstanceOf(ConfigNotFoundError)
    expect(await client.kv().listBuckets()).toEqual([])
  })

  it("keep both of two concurrent patches", async () => {
    const config = client.config()
    await config.set("app", {})

    await Promise.all(Array.from({ length: 20 }, (_, i) => config.patch("app", { [`member${i}`]: i })))

    expect(Object.keys((await config.get("app")).data)).toHaveLength(20)
  })

  it.each([
    ["an array", () => client.config().set("app", [])],
    ["null", () => client.config().set("app", null as never)],
    ["a string", () => client.config().patch("app", "text" as never)],
    ["a Date", () => client.config().set("app", new Date())],
    ["data that JSON does not have", () => client.config().set("app", { big: 1n })],
    ["more than 1 MiB", () => client.config().set("app", { text: "x".repeat(2 ** 20) })],
    ["an empty name", () => client.config().set("", {})],
    ["a name that is too long", () => client.config().get("n".repeat(257))]
  ])("refuse %s with a ValidationError", async (_, call) => {
    await expect(call()).rejects.toBeInstanceOf(ValidationError)
    expect(await client.config().list()).toEqual([])
  })

  it("can be watched, even before they exist", async () => {
    await using watcher = client.config().watch("app")
    await watcher.ready

    await client.config().set("other", { a: 0 })
    await client.config().set("app", { a: 1 })
    await client.config().delete("app")

    const seen: Array<ConfigWatchEvent["data"]> = []
    for await (const { data } of watcher) if (seen.push(data) === 2) break
    expect(seen).toEqual([{ a: 1 }, undefined])
  })

  it("can be watched with a callback", async () => {
    const onUpdate = vi.fn()
    const watcher = client.config().watch("app", { onUpdate }, { fromRevision: 0 })
    await watcher.ready
    await client.config().set("app", { a: 1 })

    await vi.waitFor(() => expect(onUpdate).toHaveBeenCalledOnce())
    await watcher.stop()
  })

  it("can be used with a ConfigClient of its own", async () => {
    const onError = vi.fn()
    await using config = new ConfigClient({ serverUrl: engine.url, onError })

    await expect(config.get("a b")).rejects.toBeInstanceOf(ConfigNotFoundError)
    expect(onError.mock.calls[0]?.[1]).toEqual({
      method: "config.get",
      endpoint: "/api/v1/config/a%20b",
      statusCode: 404
    })
  })
})
