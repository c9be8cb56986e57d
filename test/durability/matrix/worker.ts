/**
 * A worker of a storm, or an app that the engine pushes to: `node --conditions=@ironflow/source worker.ts
 * '<WorkerOptions as JSON>'`. Prints `ready` when it takes runs. SIGTERM drains it.
 */
import http from "node:http"
import process from "node:process"
import { createWorker, serve } from "@ironflow/node"
import { Worker, WorkerTransport } from "@ironflow/node/effect"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { openSideLog } from "../SideLog.ts"
import type { Transport } from "./Cells.ts"
import { makeAllFunctions, SIGNING_KEY } from "./functions.ts"

export interface WorkerOptions {
  readonly by: string
  readonly life: number
  readonly sideLog: string
  readonly bells: ReadonlyArray<string>
  readonly transport: Exclude<Transport, "memory">
  readonly serverUrl: string
  /** The port of an app. */
  readonly port: number
  readonly leaseMs: number
  /** Which of the shop's functions it has; all by default. */
  readonly share?: "effect" | "promise"
}

const start = async (options: WorkerOptions): Promise<() => Promise<void>> => {
  const log = openSideLog(options.sideLog, () => undefined, options.by)
  log.append({ t: "life", life: options.life })
  const { serverUrl, transport } = options
  const functions = makeAllFunctions(log, options.bells, options.share)
  const config = {
    functions,
    maxConcurrentJobs: 32,
    // it would warn of every strike
    logger: false,
    serverUrl,
    reconnectDelay: 200,
    workerId: options.by,
    drainTimeout: "3s"
  } as const
  switch (transport) {
    case "http": {
      // plain requests only: no WebSocket is provided here
      const layer = Worker.layer(config).pipe(
        Layer.provide(WorkerTransport.layerPolling({ serverUrl, reconnectDelay: 200, logger: false })),
        Layer.provide(FetchHttpClient.layer)
      )
      let isReady: () => void
      const ready = new Promise<void>((resolve) => (isReady = resolve))
      const program = Effect.gen(function* () {
        const worker = yield* Worker.Worker
        yield* worker.ready
        isReady()
        return yield* Effect.never
      })
      const fiber = Effect.runFork(Effect.provide(program, layer))
      await ready
      return () => Effect.runPromise(Effect.asVoid(Fiber.interrupt(fiber)))
    }
    case "channel":
    case "rpc":
    case "connect": {
      const worker =
        transport === "connect"
          ? createStreamingWorker(config)
          : createWorker({ ...config, transport: transport === "rpc" ? "streaming" : "polling" })
      const stopped = worker.start()
      await worker.ready()
      return async () => {
        await worker.drain()
        await stopped
      }
    }
    case "push":
    case "push-alone": {
      const handler = serve({
        functions,
        signingKey: SIGNING_KEY,
        logger: false,
        // a turn ends before the engine gives it up
        turnBudget: options.leaseMs * 0.4,
        ...(transport === "push" ? { serverUrl } : {})
      })
      const server = http.createServer((request, response) => void handler(request, response))
      await new Promise<void>((resolve) => void server.listen(options.port, "127.0.0.1", resolve))
      return async () => {
        await new Promise((resolve) => {
          server.close(resolve)
          server.closeIdleConnections()
        })
      }
    }
  }
}

const close = await start(JSON.parse(process.argv[2] ?? "") as WorkerOptions)
process.once("SIGTERM", () => void close())
process.stdout.write("ready\n")
