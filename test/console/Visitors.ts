/** What the tests of pages have in common: an engine at work, somebody with a key of their own, and a text that means no good. */
import { createClient, type CreateAPIKeyInput, createWorker, type WorkerConfig } from "@ironflow/node"
import type { useConsole } from "./Browser.ts"

type Kit = ReturnType<typeof useConsole>

/** A key that may do everything. */
export const OPERATOR = `ifkey_${"a".repeat(64)}`

/** An engine whose calls need a key, with a page at which somebody has signed in with one that has these roles. */
export const visitor = async (
  kit: Kit,
  roles: NonNullable<CreateAPIKeyInput["role_ids"]>,
  environment = "default"
) => {
  const server = await kit.serve({ bootstrapKey: OPERATOR })
  const client = createClient({ serverUrl: server.url, apiKey: OPERATOR })
  const { secret } = await client.apiKeys.create({ name: "visitor", envId: environment, role_ids: roles })
  const look = await kit.look(server.url)
  await look.open("runs")
  await look.enter("API key", secret)
  await look.sees("Sign out")
  return { client, look, url: server.url, [Symbol.asyncDispose]: () => client.close() }
}

/** What is stored by people and programs that mean no good: shown, it must stay a text. */
export const script = `<img src=x onerror="alert('o')">`

/** An engine with a worker that has these functions, and a client. */
export const staffed = async (kit: Kit, functions: WorkerConfig["functions"]) => {
  const server = await kit.serve()
  const client = createClient({ serverUrl: server.url })
  const worker = createWorker({ serverUrl: server.url, functions, logger: false, labels: { zone: "a" } })
  const stopped = worker.start()
  await worker.ready()
  return {
    url: server.url,
    client,
    [Symbol.asyncDispose]: async () => {
      await worker.stop()
      await stopped
      await client.close()
    }
  }
}
