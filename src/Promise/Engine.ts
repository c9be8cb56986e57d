/** The engine of the Promise face: started inside the process, closed with it. */
import * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { servicesIn, wireTo } from "../Engine/ClientServices.ts"
import { Engine, layer } from "../Engine/Engine.ts"
import * as Sqlite from "../Engine/Store/Sqlite.ts"
import { MessageRetention, RunRetention } from "../Engine/Retention.ts"
import { makeSettings, PushSettings } from "../Engine/Push/Settings.ts"
import { MasterKey, type SecretsService } from "../Engine/Secrets/Secrets.ts"
import type { HttpServerOptions } from "../Engine/Http/Server.ts"
import type { SecretInfo } from "../Client/Secrets.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { ValidationError } from "../Errors.ts"
import { resolveEnvironment } from "../Environment.ts"
import { checkName } from "../Limits.ts"
import { resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys, knownOf } from "../OptionKeys.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import { show } from "../Show.ts"
import { resolveWorkerOptions, workerKeys, type WorkerOptions } from "../Worker/Options.ts"
import { createClient, type IronflowClient } from "./Client.ts"
import type { EngineConnection, EngineHandle } from "./Connection.ts"
import { layerLogger } from "./EngineLogs.ts"
import { errorOf } from "./Promisify.ts"
import {
  createWorker,
  type RunnableFunction,
  type RunnableProjection,
  type Worker,
  type WorkerConfig
} from "./Worker.ts"

/** What `startEngine` takes: where the data is, and what the worker that comes with the engine does. */
export interface StartEngineOptions extends Partial<
  WorkerOptions<ReadonlyArray<RunnableFunction>, ReadonlyArray<RunnableProjection>>
> {
  /**
   * The database file, created when it does not exist; `"ironflow.db"` by default. `":memory:"` for data that is gone
   * with the process.
   */
  readonly filename?: string
  /** 32 bytes in base64 or hex that secrets are sealed with; `IRONFLOW_MASTER_KEY` by default. */
  readonly masterKey?: string
  /** How long a run is kept after it has ended; `"30d"` by default, `"forever"` keeps all. */
  readonly keepRuns?: Duration | "forever"
  /** How long a message of a topic is kept; `"30d"` by default, `"forever"` keeps all that fits. */
  readonly keepMessages?: Duration | "forever"
  /** Bytes of data that a topic keeps, its newest messages; 256 MiB by default. */
  readonly maxTopicBytes?: number
  /** Serves clients and workers of other processes over HTTP, at `engine.url`; nobody by default. */
  readonly listen?: HttpServerOptions
  /** How endpoints in push mode are called. */
  readonly push?: PushConfig
  /** Functions to run in this process. Without any, and without projections, the engine starts no worker of its own. */
  readonly functions?: ReadonlyArray<RunnableFunction>
  /** Projections to run in this process. */
  readonly projections?: ReadonlyArray<RunnableProjection>
}

/** How an engine calls the endpoints of functions in push mode. */
export interface PushConfig {
  /** What requests are signed with; `IRONFLOW_SIGNING_KEY` by default, else they are not signed. */
  readonly signingKey?: string
  /** Calls endpoints on loopback and in private networks too; `false` by default. */
  readonly allowPrivateNetworks?: boolean
  /** How long one turn may take to answer; `"60s"` by default. */
  readonly timeout?: Duration
  /** Turns in flight at one endpoint; 50 by default. */
  readonly maxConcurrent?: number
  /** The largest answer of an endpoint; 16 MiB by default. */
  readonly maxResponseBytes?: number
}

const engineKeys = {
  ...workerKeys,
  filename: true,
  masterKey: true,
  keepRuns: true,
  keepMessages: true,
  maxTopicBytes: true,
  listen: true,
  push: {
    signingKey: true,
    allowPrivateNetworks: true,
    timeout: true,
    maxConcurrent: true,
    maxResponseBytes: true
  } satisfies Keys<PushConfig>
} satisfies Keys<StartEngineOptions>

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
 * Starts an engine on a SQLite file, and a worker for `functions` and `projections`; resolves when these are registered.
 *
 * Rejects with `ValidationError` when the options are not acceptable, and with `StoreError` when the database cannot be
 * used: `STORE_LOCKED` when another engine has it open, `STORE_CORRUPT`, `STORE_UNAVAILABLE`.
 */
export const startEngine = async (options: StartEngineOptions = {}): Promise<IronflowEngine> => {
  checkKeys(options, engineKeys, "startEngine()", options.logger)
  const environment = checkName("environment", resolveEnvironment(options.environment))
  const filename = checkName("filename of the database", options.filename ?? "ironflow.db")
  const workerConfig = {
    ...knownOf(options, workerKeys),
    environment,
    functions: options.functions ?? []
  }
  // before anything is opened, and also when there is nothing for a worker to do
  resolveWorkerOptions(workerConfig)
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
    client: (environment, reading) =>
      Layer.merge(Layer.succeedContext(servicesIn(service, environment, reading)), logs),
    wire: (environment) => wireTo(service, environment),
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
    client: createClient({ engine: { connection }, eventDefinitions: options.eventDefinitions }),
    ...(url === undefined ? {} : { url }),
    secrets: secretsOf(service.secrets(environment), run),
    createWorker: (config) => createWorker({ ...config, engine: { connection } }),
    close,
    [Symbol.asyncDispose]: close
  }
  if (options.functions === undefined && options.projections === undefined) return engine
  try {
    const worker = engine.createWorker(workerConfig)
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

const pushSettings = ({ signingKey, timeout, ...push }: PushConfig): PushSettings =>
  makeSettings({
    ...push,
    ...(signingKey === undefined ? {} : { signingKey: Redacted.make(signingKey) }),
    ...(timeout === undefined ? {} : { timeoutMs: positiveDuration(timeout, "`push.timeout`") })
  })

const settings = ({
  keepMessages,
  keepRuns,
  masterKey,
  maxTopicBytes,
  push
}: StartEngineOptions): Layer.Layer<never> =>
  Layer.mergeAll(
    push === undefined ? Layer.empty : Layer.succeed(PushSettings, pushSettings(push)),
    masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, Redacted.make(masterKey)),
    keepMessages === undefined && maxTopicBytes === undefined
      ? Layer.empty
      : Layer.succeed(MessageRetention, {
          age: keptFor("keepMessages", keepMessages ?? "30d"),
          topicBytes: positiveBytes("maxTopicBytes", maxTopicBytes ?? 256 * 1024 * 1024)
        }),
    keepRuns === undefined ? Layer.empty : Layer.succeed(RunRetention, keptFor("keepRuns", keepRuns))
  )

const keptFor = (name: string, duration: Duration | "forever"): EffectDuration.Duration =>
  duration === "forever" ? EffectDuration.infinity : EffectDuration.millis(positiveDuration(duration, name))

const positiveBytes = (name: string, bytes: number): number => {
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes
  throw new ValidationError(`\`${name}\` must be a positive number of bytes, got ${show(bytes)}`)
}

/** Like an open port would: an engine that only waits for events has nothing else that keeps the process from ending. */
const keepAlive = (): (() => void) => {
  const timer = setInterval(() => undefined, 2 ** 30)
  return () => clearInterval(timer)
}
