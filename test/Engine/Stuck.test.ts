/** Runs that nothing will ever continue are reported once: to hooks, and to functions whose trigger is a system event. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, it } from "@effect/vitest"
import { createFunction, type HookCall, verifyHook } from "@ironflow/node"
import { Engine, Hooks, Push, Store } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterAll, vi } from "vitest"
import { StuckEvery } from "../../src/Engine/Hooks/Hooks.ts"
import { listen } from "../Serve/Hosts.ts"

const folder = mkdtempSync(path.join(tmpdir(), "stuck-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const secret = "secret-of-the-hooks-of-the-tests"

/** Makes a database in which a run waits for something that is gone. No engine leaves such a database. */
const makeStuckRun = async (): Promise<{ readonly filename: string; readonly runId: string }> => {
  const filename = path.join(folder, "orders.db")
  const ship = createFunction({ id: "ship", triggers: [{ event: "order.paid" }] }, async ({ step }) => {
    await step.sleep("long", "100d")
  })
  const alarm = createFunction({ id: "alarm", triggers: [{ event: "system.run.*.stuck" }] }, () => undefined)
  const engine = await startEngine({ filename, functions: [ship, alarm], logger: false })
  const { runIds } = await engine.client.emit("order.paid", {})
  const [runId = ""] = runIds
  await vi.waitFor(async () => assert.strictEqual((await engine.client.getRun(runId)).status, "waiting"))
  await engine.close()
  const db = new DatabaseSync(filename)
  db.exec("DELETE FROM waits")
  db.close()
  return { filename, runId }
}

it.live("a stuck run is reported once", () =>
  Effect.gen(function* () {
    const { filename, runId } = yield* Effect.promise(makeStuckRun)
    const calls: Array<HookCall> = []
    const receiver = yield* Effect.promise(() =>
      listen(async (request, response) => {
        const chunks: Array<Buffer> = []
        for await (const chunk of request) chunks.push(chunk as Buffer)
        calls.push(verifyHook({ headers: request.headers, body: Buffer.concat(chunks) }, secret))
        response.writeHead(204).end()
      })
    )
    const engine = Engine.layer.pipe(
      Layer.provide(Store.layerSqlite({ filename })),
      Layer.provide(Layer.succeed(Hooks.EngineHooks, [{ url: receiver.url, secret, on: ["run.stuck"] }])),
      Layer.provide(Layer.succeed(Push.PushSettings, Push.makeSettings({ allowPrivateNetworks: true }))),
      Layer.provide(Layer.succeed(StuckEvery, 20))
    )
    yield* Effect.gen(function* () {
      const { client } = yield* Engine.Engine
      yield* Effect.promise(() => vi.waitFor(() => assert.lengthOf(calls, 1), { timeout: 20_000 }))
      const { runs } = yield* client("default").listRuns({ functionId: "alarm" })
      assert.deepStrictEqual(
        runs.map(({ input }) => (input as { readonly runId: string }).runId),
        [runId]
      )
    }).pipe(Effect.provide(engine))
    assert.lengthOf(calls, 1)
    assert.deepInclude(calls[0], { type: "run.stuck", data: { functionId: "ship", runId } })
    yield* Effect.promise(() => receiver.close())
  })
)
