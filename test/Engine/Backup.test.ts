/** Backups by an engine, with both APIs and over HTTP. */
import { existsSync, statSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { createFunction, ValidationError } from "../../src/index.ts"
import { Engine, Store } from "../../src/effect.ts"
import { restoreBackup, startEngine } from "../../src/engine.ts"
import { start, temporaryDatabase } from "../wire/Ironflow.ts"

let database: ReturnType<typeof temporaryDatabase>
const at = (name: string): string => join(dirname(database.filename), name)
beforeEach(() => void (database = temporaryDatabase()))
afterEach(() => database[Symbol.dispose]())

const failureOf = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    () => assert.fail("expected a rejection"),
    (error) => error
  )

describe("an engine in the process", () => {
  it("is backed up and restored with the Promise API", async () => {
    let charged = 0
    const pay = createFunction({ id: "pay", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.run("charge", () => void charged++)
      await step.waitForEvent("shipped", { event: "order.shipped", timeout: "1h" })
      return "paid"
    })
    const options = { functions: [pay], logger: false } as const
    let runId = ""
    {
      await using engine = await startEngine({ ...options, filename: database.filename })
      ;({
        runIds: [runId = ""]
      } = await engine.client.emit("order.placed", {}))
      while ((await engine.client.explain(runId)).code !== "WAITING_FOR_EVENT");

      const info = await engine.backup(at("backup.db"))

      assert.strictEqual(info.bytes, statSync(at("backup.db")).size)
      assert.instanceOf(await failureOf(engine.backup(at("backup.db"))), ValidationError)
      assert.instanceOf(await failureOf(engine.backup("")), ValidationError)
      const refusal = await failureOf(
        restoreBackup({ backup: at("backup.db"), filename: database.filename, replace: true })
      )
      assert.strictEqual(refusal.code, "STORE_LOCKED")
    }

    await restoreBackup({ backup: at("backup.db"), filename: at("elsewhere.db") })
    await using engine = await startEngine({ ...options, filename: at("elsewhere.db") })
    await engine.client.emit("order.shipped", {})

    assert.strictEqual((await engine.client.waitForRun(runId)).output, "paid")
    assert.strictEqual(charged, 1)
    // oxlint-disable-next-line typescript/no-explicit-any -- a caller in JavaScript may write this
    const misspelt = await failureOf(
      restoreBackup({ backup: at("b"), filename: at("f"), replaces: true } as any)
    )
    assert.include(misspelt.message, "`replaces`")
  })

  it("is backed up and restored with the Effect API", () =>
    Effect.gen(function* () {
      const engine = yield* Engine.Engine
      yield* engine.backup(at("backup.db"))
      const error = yield* Effect.flip(engine.backup(at("backup.db")))
      const restored = yield* Store.restore({ backup: at("backup.db"), filename: at("elsewhere.db") })

      assert.strictEqual(error._tag, "ValidationError")
      assert.strictEqual(restored.filename, at("elsewhere.db"))
    }).pipe(
      Effect.provide(Layer.provide(Engine.layer, Store.layerSqlite({ filename: database.filename }))),
      Effect.runPromise
    ))
})

describe("over HTTP", () => {
  const ask = (url: string) =>
    fetch(`${url}/api/v1/backup`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}"
    })

  it("a backup is sent as the bytes of its file, and leaves no file on the server", async () => {
    await using ironflow = await start({ filename: database.filename })

    const answer = await ask(ironflow.url)
    const bytes = Buffer.from(await answer.arrayBuffer())

    assert.strictEqual(answer.status, 200)
    assert.strictEqual(answer.headers.get("content-type"), "application/octet-stream")
    assert.strictEqual(bytes.subarray(0, 15).toString(), "SQLite format 3")
    assert.strictEqual(Number(answer.headers.get("content-length")), bytes.length)
    while (existsSync(`${database.filename}.download`)) await new Promise((resolve) => setImmediate(resolve))
    assert.strictEqual((await ask(ironflow.url)).status, 200)
  })

  it("only one backup runs at a time, and a backup that is not downloaded is given up", async () => {
    {
      await using engine = await startEngine({ filename: database.filename, logger: false })
      // more than the buffers of the two sockets hold
      for (let i = 0; i < 40; i++) await engine.client.emit("order.placed", { note: "x".repeat(1_000_000) })
    }
    await using ironflow = await start({ filename: database.filename })
    const slow = await ask(ironflow.url)

    const second = await ask(ironflow.url)
    await slow.body?.cancel()
    let third = await ask(ironflow.url)
    while (third.status === 503) third = await ask(ironflow.url)

    assert.deepStrictEqual([slow.status, second.status, third.status], [200, 503, 200])
    assert.strictEqual(((await second.json()) as { code: string }).code, "SERVER_BUSY")
    assert.isAbove((await third.arrayBuffer()).byteLength, 40_000_000)
  }, 60_000)
})
