/** Engines, with workers that are connected to them over each transport. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type IronflowEngine, startEngine } from "../../src/engine.ts"
import { createClient } from "../../src/Promise/Client.ts"
import type { ServerWorkerConfig, Worker } from "../../src/Promise/Worker.ts"
import type { Place, RemotePlace } from "./TransportSuite.ts"

const masterKey = "ab".repeat(32)

/** An engine with workers in this process. */
export const openInProcess = async (): Promise<Place> => {
  const engine = await startEngine({ filename: ":memory:", masterKey, logger: false })
  return {
    client: engine.client,
    createWorker: (choices) => engine.createWorker({ ...choices, logger: false }),
    setSecret: (name, value) => engine.secrets.set(name, value),
    [Symbol.asyncDispose]: () => engine.close()
  }
}

/** An engine with workers that connect to its port. */
export const openRemote = async (
  create: (config: ServerWorkerConfig) => Worker,
  more: Partial<ServerWorkerConfig> = {},
  listen: { readonly leaseTerm?: number } = {}
): Promise<RemotePlace & { readonly url: string }> => {
  const folder = mkdtempSync(join(tmpdir(), "ironflow-"))
  let engine: IronflowEngine | undefined
  let port = 0
  const start = async () => {
    engine = await startEngine({
      filename: join(folder, "ironflow.db"),
      masterKey,
      logger: false,
      listen: { ...listen, port }
    })
    port = Number(new URL(engine.url!).port)
  }
  await start()
  const url = engine!.url!
  const client = createClient({ serverUrl: url })
  return {
    url,
    client,
    createWorker: (choices) =>
      create({ serverUrl: url, reconnectDelay: 50, ...more, ...choices, logger: false }),
    setSecret: (name, value) => engine!.secrets.set(name, value),
    start,
    stop: async () => engine!.close(),
    [Symbol.asyncDispose]: async () => {
      await client.close()
      await engine!.close()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
