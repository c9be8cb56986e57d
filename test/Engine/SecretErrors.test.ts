/** The values of a run's secrets are not stored with its errors, whatever code throws them. */
import { createFunction, NonRetryableError } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it } from "vitest"

const KEY = 'sk_live_"4242"\n4242'

const failsWith = (id: string, fail: (key: string) => never) =>
  createFunction(
    { id, triggers: [{ event: `${id}.wanted` }], secrets: ["STRIPE_KEY"], retry: { maxAttempts: 1 } },
    async ({ secrets, step }) => {
      await step.run("charge", async () => fail(secrets.get("STRIPE_KEY")))
    }
  )

const functions = [
  failsWith("message", (key) => {
    throw new NonRetryableError(`401 for ${key}`)
  }),
  failsWith("cause", (key) => {
    throw Object.assign(new NonRetryableError("refused", { cause: new Error(`Bearer ${key}`) }), {
      request: { headers: { authorization: key }, tries: 3 }
    })
  }),
  createFunction(
    {
      id: "handler",
      triggers: [{ event: "handler.wanted" }],
      secrets: ["STRIPE_KEY"],
      retry: { maxAttempts: 1 }
    },
    async ({ secrets }) => {
      throw new NonRetryableError(`no step: ${secrets.get("STRIPE_KEY")}`)
    }
  ),
  createFunction(
    {
      id: "branches",
      triggers: [{ event: "branches.wanted" }],
      secrets: ["STRIPE_KEY"],
      retry: { maxAttempts: 1 }
    },
    async ({ secrets, step }) => {
      await step.parallel("all", [
        async () => {
          throw new NonRetryableError(`branch: ${secrets.get("STRIPE_KEY")}`)
        }
      ])
    }
  )
]

let engine: IronflowEngine
beforeAll(async () => {
  engine = await startEngine({ filename: ":memory:", masterKey: "ab".repeat(32), logger: false })
  await engine.secrets.set("STRIPE_KEY", KEY)
  const worker = engine.createWorker({ functions, logger: false })
  worker.start().catch(() => undefined)
  await worker.ready()
})
afterAll(() => engine.close())

describe("an error that contains the value of a secret", () => {
  it.each(["message", "cause", "handler", "branches"])("is stored without the value: %s", async (id) => {
    const [runId = ""] = (await engine.client.emit(`${id}.wanted`, {})).runIds
    const run = await engine.client.waitForRun(runId)
    const steps = await engine.client.getRunSteps(runId)
    const explanation = await engine.client.explain(runId)
    const stored = JSON.stringify({
      run,
      steps,
      explanation,
      errors: [run.error, ...steps.map(({ error }) => error)]
    })

    assert.strictEqual(run.status, "failed")
    assert.include(stored, "[secret STRIPE_KEY]")
    assert.notInclude(stored, "4242")
  })

  it("keeps everything else", async () => {
    const [runId = ""] = (await engine.client.emit("cause.wanted", {})).runIds
    await engine.client.waitForRun(runId)
    const [step] = await engine.client.getRunSteps(runId)
    assert.include(JSON.stringify(step), '"tries":3')
    assert.include(JSON.stringify(step), "refused")
  })
})
