/** Guarantee G16: nothing that the engine or the client writes has keys or secrets in it, right or wrong ones. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import { createClient, type Logger } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { assert, it } from "vitest"
import WebSocket from "ws"

it("keys and secrets appear in no log, error, metric, answer or file", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ironflow-secrecy-"))
  const texts: Array<string> = []
  const record = (...words: ReadonlyArray<unknown>): void => void texts.push(inspect(words, { depth: 20 }))
  const logger: Logger = { debug: record, info: record, warn: record, error: record }
  const engine = await startEngine({
    filename: join(folder, "engine.db"),
    masterKey: "cd".repeat(32),
    logger,
    listen: { port: 0 }
  })
  const url = engine.url ?? ""
  const hidden = ["wrong-key-0123456789abcdef", "sk_live_secret_value", "cd".repeat(32)]
  const clients = []
  try {
    const admin = await engine.client.apiKeys.create({ name: "admin" })
    const viewer = await engine.client.apiKeys.create({ name: "viewer", role_ids: ["role_viewer"] })
    const rotated = await engine.client.apiKeys.rotate(viewer.id)
    hidden.push(admin.secret, viewer.secret, rotated.secret)
    const recordOutcome = async (call: Promise<unknown>): Promise<void> => {
      await call.then(record, (error: unknown) => record(error, String(error), JSON.stringify(error)))
    }
    for (const apiKey of hidden) {
      const client = createClient({ serverUrl: url, apiKey })
      clients.push(client)
      await recordOutcome(client.secrets.set("STRIPE_KEY", "sk_live_secret_value"))
      await recordOutcome(client.secrets.get("STRIPE_KEY"))
      await recordOutcome(client.apiKeys.list())
      await recordOutcome(client.apiKeys.get(admin.id))
      await recordOutcome(client.roles.create({ name: "x" }))
      await recordOutcome(client.getRun("run_none"))
      await recordOutcome(client.emit("order.placed", {}))
      const get = async (path: string): Promise<string> =>
        (await fetch(url + path, { headers: { authorization: `Bearer ${apiKey}` } })).text()
      for (const path of [
        "/metrics",
        "/openapi.json",
        "/api/v1/access-log",
        "/health",
        `/none?token=${apiKey}`
      ]) {
        record(await get(path))
      }
      await new Promise<void>((resolve) => {
        const socket = new WebSocket(`${url.replace("http", "ws")}/none?token=${apiKey}`)
        socket.once("error", (error) => {
          record(error.message)
          resolve()
        })
      })
    }
    await recordOutcome(createClient({ serverUrl: "http://127.0.0.1:1", apiKey: admin.secret }).health())
  } finally {
    await Promise.all(clients.map((client) => client.close()))
    await engine.close()
  }
  const files = readdirSync(folder).map((file) => readFileSync(join(folder, file)).toString("latin1"))
  rmSync(folder, { recursive: true, force: true })

  assert.isAbove(texts.length, 50)
  assert.isNotEmpty(files)
  for (const text of [...texts, ...files]) {
    for (const word of hidden) assert.isFalse(text.includes(word), `${word} is in ${text.slice(0, 500)}`)
  }
})
