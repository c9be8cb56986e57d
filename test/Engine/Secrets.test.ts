import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterEach, beforeEach, describe, expect, it } from "vitest"

const masterKey = randomBytes(32).toString("base64")

let folder: string
beforeEach(async () => (folder = await mkdtemp(join(tmpdir(), "ironflow-secrets-"))))
afterEach(() => rm(folder, { recursive: true, force: true }))

const charge = createFunction(
  { id: "charge", triggers: [{ event: "order.placed" }], secrets: ["STRIPE_KEY", "ABSENT"] },
  async ({ secrets }) => ({ key: secrets.get("STRIPE_KEY"), absent: secrets.has("ABSENT") })
)

const start = (key: string | undefined, file = "shop.db") =>
  startEngine({
    filename: join(folder, file),
    functions: [charge],
    logger: false,
    ...(key === undefined ? {} : { masterKey: key })
  })

describe("secrets", () => {
  it("a function gets the secrets that it names, and the file does not show them", async () => {
    await using engine = await start(masterKey)
    await engine.secrets.set("STRIPE_KEY", "sk_live_4711")
    await engine.secrets.set("OTHER", "not for charge")

    const { runIds } = await engine.client.emit("order.placed", {})
    const run = await engine.client.waitForRun(runIds[0]!)

    expect(run.output).toEqual({ key: "sk_live_4711", absent: false })
    expect((await engine.secrets.list()).map(({ name }) => name)).toEqual(["OTHER", "STRIPE_KEY"])
    const files = ["shop.db", "shop.db-wal"]
      .map((name) => readFileSync(join(folder, name), "latin1"))
      .join("")
    expect(files).not.toContain("not for charge")
  })

  it("a new value replaces the old one, and a deleted secret is gone", async () => {
    await using engine = await start(masterKey)
    await engine.secrets.set("STRIPE_KEY", "old")
    await engine.secrets.set("STRIPE_KEY", "new")

    const first = await engine.client.emit("order.placed", {})
    expect((await engine.client.waitForRun(first.runIds[0]!)).output).toHaveProperty("key", "new")

    expect(await engine.secrets.delete("STRIPE_KEY")).toBe(true)
    expect(await engine.secrets.delete("STRIPE_KEY")).toBe(false)
    expect(await engine.secrets.list()).toEqual([])
  })

  it("storing without a master key is refused and says how to make one", async () => {
    await using engine = await start(undefined)
    await expect(engine.secrets.set("STRIPE_KEY", "x")).rejects.toMatchObject({ code: "MASTER_KEY_MISSING" })
    expect(await engine.secrets.list()).toEqual([])
  })

  it("a run whose secrets cannot be opened without a master key asks for the old key, not for a new one", async () => {
    {
      await using engine = await start(masterKey)
      await engine.secrets.set("STRIPE_KEY", "sk")
    }
    await using engine = await start(undefined)
    const runId = (await engine.client.emit("order.placed", {})).runIds[0]!
    await expect.poll(async () => (await engine.client.getRun(runId)).status).toBe("paused")

    const { message } = await engine.client.explain(runId)
    expect(message).toContain("Set IRONFLOW_MASTER_KEY to the key under which the secret was stored")
    expect(message).not.toContain("randomBytes")
  })

  it("a run whose secrets were sealed with another key is paused, and continues with the right one", async () => {
    let runId: string
    {
      await using engine = await start(masterKey)
      await engine.secrets.set("STRIPE_KEY", "sk")
    }
    {
      await using engine = await start(randomBytes(32).toString("hex"))
      runId = (await engine.client.emit("order.placed", {})).runIds[0]!
      await expect.poll(async () => (await engine.client.getRun(runId)).status).toBe("paused")
      expect((await engine.client.explain(runId)).message).toContain("MASTER_KEY_WRONG")
    }
    await using engine = await start(masterKey)
    await engine.client.resumeRun(runId)
    expect((await engine.client.waitForRun(runId)).output).toHaveProperty("key", "sk")
  })

  it.each([
    ["a master key that is too short", { masterKey: "c2hvcnQ=" }],
    ["a retention that is not a duration", { keepRuns: "10x" }]
  ])("%s is refused at start", async (_, options) => {
    await expect(startEngine({ filename: ":memory:", ...options })).rejects.toMatchObject({
      code: "VALIDATION_ERROR"
    })
  })

  it.each([
    ["1ABC", "x"],
    ["with space", "x"],
    ["", "x"],
    ["EMPTY", ""],
    ["LARGE", "x".repeat(64 * 1024 + 1)]
  ])("secret %j with an invalid name or value is refused", async (name, value) => {
    await using engine = await start(masterKey)
    await expect(engine.secrets.set(name, value)).rejects.toMatchObject({ code: "VALIDATION_ERROR" })
    expect(await engine.secrets.list()).toEqual([])
  })
})
