/** Workers and watches without an environment, with an API key that is bound to one: they use that of the key. */
import { createFunction, UnauthorizedError } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { createClient } from "../../src/Promise/Client.ts"
import { createWorker, type ServerWorkerConfig } from "../../src/Promise/Worker.ts"

let engine: IronflowEngine
let apiKey: string
beforeAll(async () => {
  engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  // as long as there is no key, every caller may do everything
  await engine.client.apiKeys.create({ name: "operator" })
  const key = await engine.client.apiKeys.create({ name: "staging", env_id: "env_staging" })
  apiKey = key.secret
})
afterAll(() => engine.close())

describe.each([
  ["polling", createWorker],
  ["rpc", (config: ServerWorkerConfig) => createWorker({ ...config, transport: "streaming" })],
  ["connect", createStreamingWorker]
] as const)("a worker over %s", (transport, create) => {
  const options = (id: string) => ({
    serverUrl: engine.url!,
    apiKey,
    functions: [createFunction({ id, triggers: [{ event: id }] }, async ({ event }) => event.data)],
    reconnectDelay: 50,
    logger: false as const
  })

  it("works for the environment of its key when it names none", async () => {
    const id = `bound.${transport}`
    const worker = create(options(id))
    const working = worker.start()
    await worker.ready()

    await using client = createClient({ serverUrl: engine.url!, apiKey })
    const { output } = await client.emitSync(id, { n: 1 })
    await worker.drain()
    await working

    expect(output).toEqual({ n: 1 })
  })

  it("is refused when it names another environment, even the default one", async () => {
    const worker = create({ ...options(`named.${transport}`), environment: "default" })

    const error = await worker.start().catch((error: unknown) => error)

    expect(error).toBeInstanceOf(UnauthorizedError)
    expect((error as Error).message).toMatch(/bound to environment "staging"/)
  })
})

it("a watch works in the environment of its key when it names none", async () => {
  await using client = createClient({ serverUrl: engine.url!, apiKey })
  await client.kv().createBucket({ name: "carts" })
  const bucket = client.kv().bucket("carts")
  await bucket.put("c-1", 1)

  let seen: string | undefined
  for await (const { key } of bucket.watch("*", { fromRevision: 0 })) {
    seen = key
    break
  }

  expect(seen).toBe("c-1")
})
