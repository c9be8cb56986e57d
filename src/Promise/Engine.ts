/** The engine of the Promise API, which runs inside the process. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { servicesIn, wireTo } from "../Engine/ClientServices.ts"
import { Engine, layer } from "../Engine/Engine.ts"
import type { BackupInfo } from "../Engine/Store/Backup.ts"
import { restore as restoreFile, type RestoreOptions } from "../Engine/Store/Restore.ts"
import * as SqliteStore from "../Engine/SqliteStore.ts"
import { ChecksGuarantees } from "../Engine/Guarantees/GuaranteeCheck.ts"
import { databaseUrlOf, layerPostgres } from "../Engine/DatabaseUrl.ts"
import type { Store } from "../Engine/Store/Store.ts"
import { type KeptLogs, RunLogRetention } from "../Engine/Runs/RunLogs.ts"
import { retention, type RetentionOptions } from "../Engine/Retention.ts"
import { EngineHooks, Failing, failingKeys, type FailingOptions } from "../Engine/Hooks/HookSettings.ts"
import { makeSettings, PushSettings } from "../Engine/Push/PushSettings.ts"
import { MasterKey, type SecretsOfEnvironment } from "../Engine/Secrets/Secrets.ts"
import type { HttpServerOptions } from "../Server/Server.ts"
import type { DoctorCheck } from "../Protocol/Server.ts"
import type { SecretInfo } from "../Protocol/Secrets.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { type StoreError, ValidationError } from "../Errors.ts"
import { resolveEnvironment } from "../EnvironmentVariables.ts"
import { hookKeys, type HookOptions } from "../Hook.ts"
import { checkName, logCharactersOfRun, logLinesOfRun } from "../Limits.ts"
import { resolveLogger } from "../Logger.ts"
import { show } from "../Show.ts"
import { checkKeys, type Keys, withoutUnknownKeys } from "../OptionKeys.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import { resolveWorkerOptions, workerKeys, type WorkerOptions } from "../Worker/Options.ts"
import { createClient, type IronflowClient } from "./Client.ts"
import type { EngineConnection, EngineHandle } from "./EngineConnection.ts"
import { layerLogger } from "./EngineLogs.ts"
import { errorOf } from "./Promisify.ts"
import {
  createWorker,
  type RunnableFunction,
  type RunnableProjection,
  type Worker,
  type WorkerConfig
} from "./Worker.ts"

/**
 * Options of `startEngine`: the options of the engine, and those of the worker that `startEngine` starts for
 * `functions` and `projections`.
 */
export interface StartEngineOptions
  extends
    Partial<WorkerOptions<ReadonlyArray<RunnableFunction>, ReadonlyArray<RunnableProjection>>>,
    RetentionOptions {
  /**
   * The database file, created when it does not exist; `"ironflow.db"` by default. `":memory:"` keeps the data only
   * as long as the process.
   */
  readonly filename?: string
  /**
   * A Postgres database in place of a file: `postgres://user:password@host:5432/database`. When neither
   * this option nor `filename` is given, `IRONFLOW_DATABASE_URL` applies. Requires the package `pg`. Any number of
   * engines may share a schema.
   */
  readonly databaseUrl?: string
  /** The schema of the tables on Postgres, created when it does not exist; `"ironflow"` by default. */
  readonly databaseSchema?: string
  /**
   * Maximum number of connections to Postgres for reads and writes; 10 by default, at least 2. The engine opens one
   * more connection for notifications between engines.
   */
  readonly databasePoolSize?: number
  /** The key that secrets are encrypted with: 32 bytes in base64 or hex; `IRONFLOW_MASTER_KEY` by default. */
  readonly masterKey?: string
  /**
   * How many log lines of each run are kept: by default the newest 1,000 lines, with at most 262,144 characters in
   * total. With `lines: 0` no log lines are kept.
   */
  readonly keepLogs?: { readonly lines?: number; readonly characters?: number }
  /**
   * Whether the engine checks in the background that the database agrees with the guarantees; `true` by
   * default.
   */
  readonly audit?: boolean
  /** Serves clients and workers of other processes over HTTP, at `engine.url`; off by default. */
  readonly listen?: HttpServerOptions
  /** How push endpoints are called. */
  readonly push?: PushConfig
  /** Hooks: URLs to which the engine sends signed requests about runs and functions in trouble. None by default. */
  readonly hooks?: ReadonlyArray<HookOptions>
  /**
   * When a function counts as failing: by default, at least 5 of its runs ended in the last 5 minutes and at least
   * half of those failed.
   */
  readonly failing?: FailingOptions
  /** The functions to run in this process. Without functions and projections, the engine starts no worker. */
  readonly functions?: ReadonlyArray<RunnableFunction>
  /** The projections to run in this process. */
  readonly projections?: ReadonlyArray<RunnableProjection>
}

/** How an engine calls push endpoints. */
export interface PushConfig {
  /**
   * The key that requests are signed with; `IRONFLOW_SIGNING_KEY` by default. Without a key, requests are not
   * signed.
   */
  readonly signingKey?: string
  /** Allows endpoints and hooks on loopback and in private networks; `false` by default. */
  readonly allowPrivateNetworks?: boolean
  /** The timeout of one turn; `"60s"` by default. */
  readonly timeout?: Duration
  /** Maximum number of turns in flight at one endpoint; 50 by default. */
  readonly maxConcurrent?: number
  /** Maximum size of a response of an endpoint, in bytes; 16 MiB by default. */
  readonly maxResponseBytes?: number
}

const engineKeys = {
  ...workerKeys,
  filename: true,
  databaseUrl: true,
  databaseSchema: true,
  databasePoolSize: true,
  masterKey: true,
  keepRuns: true,
  keepLogs: { lines: true, characters: true },
  keepEvents: true,
  maxEventBytes: true,
  keepMessages: true,
  maxTopicBytes: true,
  audit: true,
  listen: true,
  hooks: [hookKeys],
  failing: failingKeys,
  push: {
    signingKey: true,
    allowPrivateNetworks: true,
    timeout: true,
    maxConcurrent: true,
    maxResponseBytes: true
  } satisfies Keys<PushConfig>
} satisfies Keys<StartEngineOptions>

/** The secrets of an engine. Only handlers can read their values. */
export interface EngineSecrets {
  /** Stores a secret or replaces its value. Rejects with code `MASTER_KEY_MISSING` when the engine has no master key. */
  set(name: string, value: string): Promise<void>
  /** Lists the names and times of the secrets, without their values. */
  list(): Promise<Array<SecretInfo>>
  /** Deletes a secret. Resolves to whether there was one. */
  delete(name: string): Promise<boolean>
}

/** A running engine. It keeps the process alive until it is closed. */
export interface IronflowEngine extends EngineHandle, AsyncDisposable {
  /** A client of the engine, in its environment. It needs no API key. */
  readonly client: IronflowClient
  /** The URL that the engine listens at, such as `http://127.0.0.1:9123`. Absent when it does not listen. */
  readonly url?: string
  /** The secrets of the engine's environment. A function receives the secrets that its option `secrets` names. */
  readonly secrets: EngineSecrets
  /**
   * Writes a snapshot of the database, with all environments, to a new file that only the user of the process may read.
   * The engine goes on meanwhile. Rejects with `ValidationError` when the file exists, and with `StoreError` when the
   * file cannot be written or the database is on Postgres. When it rejects with `StoreError`, it leaves no file behind.
   */
  backup(filename: string): Promise<BackupInfo>
  /**
   * Checks the engine, its database and its runs in all environments, and says what to do about each problem.
   * `ironflow doctor` shows the same. Rejects with `StoreError` when the database cannot be read.
   */
  doctor(): Promise<ReadonlyArray<DoctorCheck>>
  /** Creates a worker for this engine. By default it works in the engine's environment. */
  createWorker(config: Omit<WorkerConfig, "engine">): Worker
  /**
   * Closes the engine. First, workers take no more jobs, and turns in flight have 30 seconds (or the worker's
   * `drainTimeout`) to end. Turns that have not ended by then are released. Then the clients close, and at last the
   * database. A second call waits until the engine is closed.
   */
  close(): Promise<void>
}

/**
 * Starts an engine on a SQLite file or on Postgres, and a worker for `functions` and `projections`. Resolves when the
 * functions and projections are registered.
 *
 * Rejects with `ValidationError` when the options are invalid, and with `StoreError` when the database cannot be
 * used: `STORE_LOCKED` when another engine uses the file, `STORE_CORRUPT`, `STORE_UNAVAILABLE`.
 */
export const startEngine = async (options: StartEngineOptions = {}): Promise<IronflowEngine> => {
  checkKeys(options, engineKeys, "startEngine()", options.logger)
  const environment = checkName("environment", resolveEnvironment(options.environment))
  const store = storeOf(options)
  const workerConfig = {
    ...withoutUnknownKeys(options, workerKeys),
    environment,
    functions: options.functions ?? []
  }
  // the options are checked before anything is opened, and also when no worker is started
  resolveWorkerOptions(workerConfig)
  const logs = layerLogger(resolveLogger(options.logger, "[ironflow]"))
  const engineLayer = layer.pipe(
    Layer.provide(store),
    Layer.provide(engineSettings(options)),
    Layer.provideMerge(logs)
  )
  // loaded only by an engine that listens
  const server = options.listen === undefined ? undefined : await import("../Server/Server.ts")
  const runtime = ManagedRuntime.make(
    server === undefined ? engineLayer : server.layer(options.listen).pipe(Layer.provideMerge(engineLayer))
  )
  const exit = await runtime.runPromiseExit(
    Effect.map(
      Effect.all([
        Engine,
        server === undefined ? Effect.succeedNone : Effect.serviceOption(server.HttpServerEngine)
      ]),
      ([service, httpServer]) => ({
        service,
        url: Option.getOrUndefined(Option.map(httpServer, ({ url }) => url))
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
  const stopKeepingAlive = keepAlive()
  const workers = new Set<() => Promise<void>>()
  const clients = new Set<() => Promise<void>>()
  const connection: EngineConnection = {
    environment,
    client: (environment, reading) =>
      Layer.merge(Layer.succeedContext(servicesIn(service, environment, reading)), logs),
    wire: (environment) => wireTo(service, environment),
    transport: Layer.succeed(WorkerTransport, {
      // only `connect` gets the loggers of the engine, and not the handlers: Effect handlers have loggers of their own
      open: (registration, handlers) => Effect.provide(service.workers.connect(registration, handlers), logs)
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
    stopKeepingAlive()
  }
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => (closing ??= closeAll())

  const engine: IronflowEngine = {
    connection,
    client: createClient({ engine: { connection }, eventDefinitions: options.eventDefinitions }),
    ...(url === undefined ? {} : { url }),
    secrets: secretsOf(service.secrets.in(environment), run),
    backup: (filename) => run(Effect.flatMap(checkFilename("the backup's file", filename), service.backup)),
    doctor: () => run(service.doctor),
    createWorker: (config) => createWorker({ ...config, engine: { connection } }),
    close,
    [Symbol.asyncDispose]: close
  }
  if (options.functions === undefined && options.projections === undefined) return engine
  try {
    const worker = engine.createWorker(workerConfig)
    // When start() rejects before the worker is ready, ready() rejects too, and the caller receives that error. Once
    // the worker is ready, start() does not reject.
    worker.start().catch(() => undefined)
    await worker.ready()
  } catch (error) {
    await close()
    throw error
  }
  return engine
}

/**
 * Reads a backup completely, and then makes it the database of an engine, atomically. No engine may have that
 * database open. An engine that starts on it continues the runs that were in flight when the backup was made.
 *
 * Rejects with `ValidationError` when the file is not a backup, or when the database exists and `replace` is not set.
 * Rejects with `StoreError`: `STORE_LOCKED` when an engine has the database open, `STORE_CORRUPT` when the backup is
 * damaged, `STORE_UNAVAILABLE` when the backup is of a newer version, or when a file cannot be read or written.
 */
export const restoreBackup = async (options: RestoreOptions): Promise<BackupInfo> => {
  const exit = await Effect.runPromiseExit(restoreFile(options))
  if (Exit.isSuccess(exit)) return exit.value
  throw errorOf(exit.cause)
}

const checkFilename = (what: string, filename: string): Effect.Effect<string, ValidationError> =>
  Effect.try({
    try: () => checkName(what, filename),
    // `checkName` throws only `ValidationError`
    catch: (error) => error as ValidationError
  })

const secretsOf = (
  secrets: SecretsOfEnvironment,
  run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
): EngineSecrets => ({
  set: (name, value) => run(secrets.set(name, value)),
  list: () => run(secrets.list),
  delete: (name) => run(secrets.delete(name))
})

const storeOf = ({
  databasePoolSize,
  databaseSchema,
  databaseUrl,
  filename
}: StartEngineOptions): Layer.Layer<Store, StoreError | ValidationError> => {
  const url = databaseUrlOf(databaseUrl, filename, { url: "`databaseUrl`", file: "`filename`" })
  if (url === undefined) {
    return SqliteStore.layer({ filename: checkName("filename of the database", filename ?? "ironflow.db") })
  }
  return layerPostgres({
    url,
    ...(databaseSchema === undefined ? {} : { schema: databaseSchema }),
    ...(databasePoolSize === undefined ? {} : { poolSize: databasePoolSize })
  })
}

const pushSettings = ({ signingKey, timeout, ...push }: PushConfig): PushSettings =>
  makeSettings({
    ...push,
    ...(signingKey === undefined ? {} : { signingKey: Redacted.make(signingKey) }),
    ...(timeout === undefined ? {} : { timeoutMs: positiveDuration(timeout, "`push.timeout`") })
  })

const engineSettings = ({
  audit,
  failing,
  hooks,
  keepLogs,
  masterKey,
  push,
  ...options
}: StartEngineOptions): Layer.Layer<never> =>
  Layer.mergeAll(
    audit === undefined ? Layer.empty : Layer.succeed(ChecksGuarantees, audit),
    push === undefined ? Layer.empty : Layer.succeed(PushSettings, pushSettings(push)),
    hooks === undefined ? Layer.empty : Layer.succeed(EngineHooks, hooks),
    failing === undefined ? Layer.empty : Layer.succeed(Failing, failing),
    masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, Redacted.make(masterKey)),
    retention(options),
    keepLogs === undefined ? Layer.empty : Layer.succeed(RunLogRetention, logRetention(keepLogs))
  )

const logRetention = ({
  characters = logCharactersOfRun,
  lines = logLinesOfRun
}: NonNullable<StartEngineOptions["keepLogs"]>): KeptLogs => {
  for (const [name, value] of Object.entries({ lines, characters })) {
    if (Number.isSafeInteger(value) && value >= 0) continue
    throw new ValidationError(`\`keepLogs.${name}\` must be an integer, at least 0, got ${show(value)}`)
  }
  return { lines: characters === 0 ? 0 : lines, length: characters }
}

/**
 * Keeps the process alive, as an open port would. When an engine only waits for events, nothing else keeps the process
 * alive. Returns a function that lets the process end.
 */
const keepAlive = (): (() => void) => {
  const timer = setInterval(() => undefined, 2 ** 30)
  return () => clearInterval(timer)
}
