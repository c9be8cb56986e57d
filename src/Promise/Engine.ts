/** The engine of the Promise face: started inside the process, closed with it. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { Client } from "../Client/Client.ts"
import { Engine, layer } from "../Engine/Engine.ts"
import * as Sqlite from "../Engine/Store/Sqlite.ts"
import { resolveEnvironment } from "../Environment.ts"
import { checkName } from "../Limits.ts"
import { resolveLogger } from "../Logger.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import type { WorkerOptions } from "../Worker/Options.ts"
import { createClient, type IronflowClient } from "./Client.ts"
import type { EngineConnection, EngineHandle } from "./Connection.ts"
import { layerLogger } from "./EngineLogs.ts"
import { errorOf } from "./Promisify.ts"
import { createWorker, type RunnableFunction, type Worker, type WorkerConfig } from "./Worker.ts"

/** What `startEngine` takes: where the data is, and what the worker that comes with the engine does. */
export interface StartEngineOptions extends Partial<WorkerOptions<ReadonlyArray<RunnableFunction>>> {
  /**
   * The database file, created when it does not exist; `"ironflow.db"` by default. `":memory:"` for data that is gone
   * with the process.
   */
  readonly filename?: string
  /** Functions to run in this process. Without any, the engine starts no worker of its own. */
  readonly functions?: ReadonlyArray<RunnableFunction>
}

/** An engine that is running. It keeps the process alive until it is closed. */
export interface IronflowEngine extends EngineHandle, AsyncDisposable {
  readonly client: IronflowClient
  /** A worker for this engine; in the engine's environment unless it names another. */
  createWorker(config: Omit<WorkerConfig, "engine">): Worker
  /**
   * Workers take no more jobs, turns in flight are waited for (30 seconds, or the worker's `drainTimeout`) and then
   * given back, clients close, the database closes. Closing again waits for the same.
   */
  close(): Promise<void>
}

/**
 * Starts an engine on a SQLite file, and a worker for `functions`; resolves when these are registered.
 *
 * Rejects with `ValidationError` when the options are not acceptable, and with `StoreError` when the database cannot be
 * used: `STORE_LOCKED` when another engine has it open, `STORE_CORRUPT`, `STORE_UNAVAILABLE`.
 */
export const startEngine = async (options: StartEngineOptions = {}): Promise<IronflowEngine> => {
  const environment = checkName("environment", resolveEnvironment(options.environment))
  const filename = checkName("filename of the database", options.filename ?? "ironflow.db")
  const logs = layerLogger(resolveLogger(options.logger, "[ironflow]"))
  const runtime = ManagedRuntime.make(
    layer.pipe(Layer.provide(Sqlite.layer({ filename })), Layer.provideMerge(logs))
  )
  const exit = await runtime.runPromiseExit(Engine)
  if (Exit.isFailure(exit)) {
    await runtime.dispose()
    throw errorOf(exit.cause)
  }

  const service = exit.value
  const letGo = keepAlive()
  const workers = new Set<() => Promise<void>>()
  const clients = new Set<() => Promise<void>>()
  const connection: EngineConnection = {
    environment,
    client: (environment) => Layer.merge(Layer.succeed(Client, service.client(environment)), logs),
    transport: Layer.succeed(WorkerTransport, {
      // only what the engine says goes to its logger: what Effect handlers log is theirs
      open: (registration, handlers) => Effect.provide(service.connectWorker(registration, handlers), logs)
    }),
    onClose: (who, close) => {
      const closers = who === "worker" ? workers : clients
      closers.add(close)
      return () => void closers.delete(close)
    }
  }
  const closeAll = async (): Promise<void> => {
    await Promise.all(Array.from(workers, (close) => close()))
    await Promise.all(Array.from(clients, (close) => close()))
    await runtime.dispose()
    letGo()
  }
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => (closing ??= closeAll())

  const engine: IronflowEngine = {
    connection,
    client: createClient({ engine: { connection } }),
    createWorker: (config) => createWorker({ ...config, engine: { connection } }),
    close,
    [Symbol.asyncDispose]: close
  }
  const { filename: _, functions, ...workerOptions } = options
  if (functions === undefined) return engine
  try {
    const worker = engine.createWorker({ ...workerOptions, environment, functions })
    // What start() rejects with before the worker is ready, ready() rejects with too; afterwards it does not reject.
    worker.start().catch(() => undefined)
    await worker.ready()
  } catch (error) {
    await close()
    throw error
  }
  return engine
}

/** Like an open port would: an engine that only waits for events has nothing else that keeps the process from ending. */
const keepAlive = (): (() => void) => {
  const timer = setInterval(() => undefined, 2 ** 30)
  return () => clearInterval(timer)
}
