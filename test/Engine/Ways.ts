/** Every transport between a function and an engine: those of `Hosts.ts`, and workers over streams. */
import { createWorker } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { hosts, type StartHost } from "../Serve/Hosts.ts"

const streamed =
  (create: typeof createWorker, transport?: "streaming"): StartHost =>
  async (functions) => {
    const engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    const worker = create({
      serverUrl: engine.url,
      functions,
      logger: false,
      ...(transport === undefined ? {} : { transport })
    })
    worker.start().catch(() => undefined)
    await worker.ready()
    return {
      engine,
      client: engine.client,
      [Symbol.asyncDispose]: async () => {
        await worker.stop()
        await engine.close()
      }
    }
  }

export const ways: { readonly [name: string]: StartHost } = {
  ...hosts,
  "effect/rpc": streamed(createWorker, "streaming"),
  ConnectRPC: streamed(createStreamingWorker as unknown as typeof createWorker)
}
