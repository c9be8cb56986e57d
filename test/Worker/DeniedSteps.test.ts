/** Steps beside an operation that a policy denies: the run is paused, and no code that has ended runs again. */
import { assert, describe, it, vi } from "vitest"
import { startEngine } from "../../src/engine.ts"
import { createFunction } from "../../src/Function.ts"
import { createClient } from "../../src/Promise/Client.ts"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"
import type { ServerWorkerConfig } from "../../src/Promise/Worker.ts"

describe.each([
  ["polling", (config: ServerWorkerConfig) => createWorker(config)],
  ["effect/rpc", (config: ServerWorkerConfig) => createWorker({ ...config, transport: "streaming" })],
  ["ConnectRPC", createStreamingWorker]
] as const)("over %s", (_, create) => {
  it("the results of steps that ended beside a denied publish are kept", async () => {
    await using engine = await startEngine({ filename: ":memory:", listen: { port: 0 }, logger: false })
    const serverUrl = engine.url!
    const admin = createClient({ serverUrl })
    await admin.apiKeys.create({ name: "admin" })
    const role = await admin.roles.create({ name: "worker" })
    const allow = await admin.policies.create({
      name: "work",
      effect: "allow",
      actions: "worker:run,function:register,engine:read",
      resources: "*"
    })
    const deny = await admin.policies.create({
      name: "no news",
      effect: "deny",
      actions: "publish:message",
      resources: "topic:news"
    })
    await admin.roles.assignPolicy(role.id, allow.id)
    await admin.roles.assignPolicy(role.id, deny.id)
    const { secret } = await admin.apiKeys.create({ name: "worker", role_ids: [role.id] })
    const ran: Array<string> = []
    const inRow = createFunction({ id: "row", triggers: [{ event: "row" }] }, async ({ step }) => {
      await step.run("charge", () => void ran.push("charge"))
      await step.publish("news", {})
    })
    const together = createFunction(
      { id: "together", triggers: [{ event: "together" }] },
      async ({ step }) => {
        await Promise.all([
          step.run("a", () => void ran.push("a")),
          step.publish("news", {}),
          step.run("b", () => void ran.push("b"))
        ])
      }
    )
    const worker = create({ serverUrl, apiKey: secret!, functions: [inRow, together], logger: false })
    const stopped = worker.start()
    await worker.ready()
    const runIds = [...(await admin.emit("row", {})).runIds, ...(await admin.emit("together", {})).runIds]
    for (const id of runIds)
      await vi.waitFor(
        async () => assert.strictEqual((await admin.explain(id)).details.code, "UNAUTHORIZED"),
        20_000
      )

    await admin.roles.removePolicy(role.id, deny.id)
    for (const id of runIds) await admin.resumeRun(id)

    for (const id of runIds) assert.strictEqual((await admin.waitForRun(id)).status, "completed")
    assert.deepStrictEqual(ran.toSorted(), ["a", "b", "charge"])
    await worker.stop()
    await stopped
  })
})
