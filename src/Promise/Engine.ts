/** The engine of the Promise face: started inside the process, closed with it. */
import * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { servicesIn } from "../Engine/ClientServices.ts"
import { Engine, layer } from "../Engine/Engine.ts"
import * as Sqlite from "../Engine/Store/Sqlite.ts"
import { RunRetention } from "../Engine/Retention.ts"
import { MasterKey, type SecretsService } from "../Engine/Secrets.ts"
import type { HttpServerOptions } from "../Engine/Http/Server.ts"
import type { SecretInfo } from "../Client/Secrets.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
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
  /** 32 bytes in base64 or hex that secrets are sealed with; `IRONFLOW_MASTER_KEY` by default. */
  readonly masterKey?: string
  /** How long a run is kept after it has ended; `"30d"` by default, `"forever"` keeps all. */
  readonly keepRuns?: Duration | "forever"
  /** Serves clients and workers of other processes over HTTP, at `engine.url`; nobody by default. */
  readonly listen?: HttpServerOptions
  /** Functions to run in this process. Without any, the engine starts no worker of its own. */
  readonly functions?: ReadonlyArray<RunnableFunction>
}

/** Secrets go in, and come out in handlers only. */
export interface EngineSecrets {
  /** Stores a secret or replaces its value. Rejects with code `MASTER_KEY_MISSING` when the engine has no master key. */
  set(name: string, value: string): Promise<void>
  /** Names and times, without values. */
  list(): Promise<Array<SecretInfo>>
  /** Resolves to whether there was one. */
  delete(name: string): Promise<boolean>
}

/** An engine that is running. It keeps the process alive until it is closed. */
export interface IronflowEngine extends EngineHandle, AsyncDisposable {
  readonly client: IronflowClient
  /** Where the engine listens, if it does: `http://127.0.0.1:9123`. */
  readonly url?: string
  /** The secrets of the engine's environment; functions get those that their `secrets` name. */
  readonly secrets: EngineSecrets
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
  const embedded = layer.pipe(
    Layer.provide(Sqlite.layer({ filename })),
    Layer.provide(settings(options)),
    Layer.provideMerge(logs)
  )
  // an engine that does not listen need not load what does
  const server = options.listen === undefined ? undefined : await import("../Engine/Http/Server.ts")
  const runtime = ManagedRuntime.make(
    server === undefined ? embedded : server.layer(options.listen).pipe(Layer.provideMerge(embedded))
  )
  const exit = await runtime.runPromiseExit(
    Effect.map(
      Effect.all([
        Engine,
        server === undefined ? Effect.succeedNone : Effect.serviceOption(server.HttpServerEngine)
      ]),
      ([service, listening]) => ({
        service,
        url: Option.getOrUndefined(Option.map(listening, ({ url }) => url))
      })
    )
  )
  if (Exit.isFailure(exit)) {
    await runtime.dispose()
    throw errorOf(exit.cause)
  }

  const { service, url } = exit.value
  const run = async <A, E>(effect: Effect.Effect<A, E>): Promise<A> => {
    const exit = await runtime.runPromiseExit(effect)
    if (Exit.isSuccess(exit)) return exit.value
    throw errorOf(exit.cause)
  }
  const letGo = keepAlive()
  const workers = new Set<() => Promise<void>>()
  const clients = new Set<() => Promise<void>>()
  const connection: EngineConnection = {
    environment,
    client: (environment) => Layer.merge(Layer.succeedContext(servicesIn(service, environment)), logs),
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
    ...(url === undefined ? {} : { url }),
    secrets: secretsOf(service.secrets(environment), run),
    createWorker: (config) => createWorker({ ...config, engine: { connection } }),
    close,
    [Symbol.asyncDispose]: close
  }
  const { filename: _, masterKey: __, keepRuns: ___, listen: ____, functions, ...workerOptions } = options
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

const secretsOf = (
  secrets: SecretsService,
  run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
): EngineSecrets => ({
  set: (name, value) => run(secrets.set(name, value)),
  list: () => run(secrets.list),
  delete: (name) => run(secrets.delete(name))
})

const settings = ({ keepRuns, masterKey }: StartEngineOptions): Layer.Layer<never> =>
  Layer.mergeAll(
    masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, Redacted.make(masterKey)),
    keepRuns === undefined
      ? Layer.empty
      : Layer.succeed(
          RunRetention,
          keepRuns === "forever"
            ? EffectDuration.infinity
            : EffectDuration.millis(positiveDuration(keepRuns, "keepRuns"))
        )
  )

/** Like an open port would: an engine that only waits for events has nothing else that keeps the process from ending. */
const keepAlive = (): (() => void) => {
  const timer = setInterval(() => undefined, 2 ** 30)
  return () => clearInterval(timer)
}
