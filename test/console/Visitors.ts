/** What the tests of pages share: an engine with a worker, a signed-in user, and a malicious text. */
import { createClient, type CreateAPIKeyInput, createWorker, type WorkerConfig } from "@ironflow/node"
import type { useConsole } from "./Browser.ts"

type Kit = ReturnType<typeof useConsole>

/** A key that may do everything. */
export const OPERATOR = `ifkey_${"a".repeat(64)}`

/** An engine that requires keys, and a page on which a user with these roles has signed in. */
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

/** Malicious data, as a user or a program may store it. A page must show it as text. */
export const script = `<img src=x onerror="alert('o')">`

/** An engine with a worker for these functions, and a client. */
export const engineWithWorker = async (kit: Kit, functions: WorkerConfig["functions"]) => {
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
