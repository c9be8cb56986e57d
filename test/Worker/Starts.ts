/** How tests start a worker over each transport that uses sockets. */
import { createWorker, type RunnableFunction } from "@ironflow/node"
import { Worker as WorkerLayer, WorkerTransport } from "@ironflow/node/effect"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { createDeferred } from "../../src/Deferred.ts"
import type { ServerWorkerConfig, Worker } from "../../src/Promise/Worker.ts"

/** The transport between a worker and an engine in another process. */
export type Transport = "HTTP" | "its channel" | "rpc" | "ConnectRPC"

export interface Running {
  readonly stop: () => Promise<unknown>
}

/** Starts a worker, and waits until it is ready. */
export type Start = (
  serverUrl: string,
  workerId: string,
  functions: ReadonlyArray<RunnableFunction>
) => Promise<Running>

const settings = { logger: false, reconnectDelay: 50, maxConcurrentJobs: 4, drainTimeout: "1s" } as const

const promised =
  (create: (config: ServerWorkerConfig) => Worker): Start =>
  async (serverUrl, workerId, functions) => {
    const worker = create({ ...settings, serverUrl, workerId, functions })
    const working = worker.start()
    await worker.ready()
    return { stop: () => Promise.all([worker.stop(), working]) }
  }

/** With HTTP requests only. */
const overHttp: Start = async (serverUrl, workerId, functions) => {
  const layer = WorkerLayer.layer({ ...settings, workerId, functions }).pipe(
    Layer.provide(WorkerTransport.layerPolling({ serverUrl, reconnectDelay: 50, logger: false })),
    Layer.provide(FetchHttpClient.layer)
  )
  const ready = createDeferred<void>()
  const program = Effect.gen(function* () {
    const worker = yield* WorkerLayer.Worker
    yield* worker.ready
    ready.resolve()
    return yield* Effect.never
  })
  const fiber = Effect.runFork(Effect.provide(program, layer))
  await ready.promise
  return { stop: () => Effect.runPromise(Fiber.interrupt(fiber)) }
}

export const starts: Readonly<Record<Transport, Start>> = {
  HTTP: overHttp,
  "its channel": promised(createWorker),
  rpc: promised((config) => createWorker({ ...config, transport: "streaming" })),
  ConnectRPC: promised(createStreamingWorker)
}
