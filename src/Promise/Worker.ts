/** The worker of the Promise API. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import { createDeferred, type Deferred } from "../Deferred.ts"
import {
  IronflowError,
  RegistrationError,
  ValidationError,
  WorkerAlreadyRunningError,
  WorkerStoppedError
} from "../Errors.ts"
import type { EffectFunction, IronflowFunction } from "../Function.ts"
import { type Logger, resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys, withoutUnknownKeys } from "../OptionKeys.ts"
import type { EffectProjection, IronflowProjection } from "../Projection/Projection.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import { show } from "../Show.ts"
import { resolveWorkerOptions, workerKeys, type WorkerOptions } from "../Worker/Options.ts"
import { type PollingOptions, resolvePollingOptions } from "../Worker/PollingOptions.ts"
import type { WorkerService } from "../Worker/Worker.ts"
import { connectionOf, type EngineHandle } from "./EngineConnection.ts"
import { errorOf } from "./Promisify.ts"

/** A function that a worker of the Promise API accepts: a function of either API that requires no services. */
export type RunnableFunction = IronflowFunction | EffectFunction<unknown, unknown, never>

/** A projection that a worker of the Promise API accepts: a projection of either API that requires no services. */
export type RunnableProjection = IronflowProjection | EffectProjection<unknown, unknown, never>

/** The options of every worker. */
type RunnableOptions = WorkerOptions<ReadonlyArray<RunnableFunction>, ReadonlyArray<RunnableProjection>>

/** Options of a worker for a remote server. */
export interface ServerWorkerConfig extends RunnableOptions, ConnectionConfig {
  /** Not allowed here: a worker has either a server or an engine of this process. */
  readonly engine?: undefined
}

/** How a worker reaches its server. */
interface ConnectionConfig {
  /** The URL of the server. By default that of `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. */
  readonly serverUrl?: string | undefined
  /** The API key, sent as a bearer token. By default that of `IRONFLOW_API_KEY`, or else none. */
  readonly apiKey?: string | undefined
  /** The longest time between two requests to the server, in milliseconds; 30000 by default. */
  readonly heartbeatInterval?: number | undefined
  /** The longest delay between attempts to reach the server, in milliseconds; 5000 by default. */
  readonly reconnectDelay?: number | undefined
  /**
   * `"polling"` by default: plain HTTP requests. `"streaming"` keeps one stream open. The stream is over a
   * WebSocket if the server offers that. If not, it is over ConnectRPC if the server offers that and its
   * packages are installed. If neither is possible, the worker polls, and logs one line about it.
   */
  readonly transport?: "polling" | "streaming" | undefined
}

export const serverWorkerKeys = {
  ...workerKeys,
  engine: true,
  serverUrl: true,
  apiKey: true,
  heartbeatInterval: true,
  reconnectDelay: true,
  transport: true
} satisfies Keys<ServerWorkerConfig>

/** Options of a worker for an engine in this process. */
interface EngineWorkerConfig extends RunnableOptions {
  /** The engine, as `startEngine()` resolves to it. */
  readonly engine: EngineHandle
}

const engineWorkerKeys = { ...workerKeys, engine: true } satisfies Keys<EngineWorkerConfig>

/** Options of `createWorker`: the address of a server, or an engine of this process. */
export type WorkerConfig = ServerWorkerConfig | EngineWorkerConfig

/**
 * The connection of a worker to its server. `idle` before `start()`; `connecting` until the worker is
 * registered; `connected`; `disconnected` while the server does not answer (meanwhile turns continue, and reports
 * wait); `stopped`.
 */
export type WorkerConnection = "idle" | "connecting" | "connected" | "disconnected" | "stopped"

/** A worker: it claims runs of its functions and executes their turns. */
export interface Worker {
  /**
   * The state of the connection, for health checks: a healthy worker is `"connected"`. The worker notices within one
   * heartbeat interval that the server is lost.
   */
  readonly connection: WorkerConnection
  /**
   * Registers the functions, and works until the worker is stopped or drained. Then it resolves. While the server
   * cannot be reached, the worker keeps trying. Rejects with code `FUNCTION_REGISTRATION_FAILED` when the engine
   * refuses the functions, `REGISTRATION_FAILED` when an engine in this process cannot store the functions,
   * `UNAUTHENTICATED` or `UNAUTHORIZED` when the server requires another API key, and `WORKER_ALREADY_RUNNING` when the
   * worker was started before: a stopped worker cannot start again.
   */
  start(): Promise<void>
  /**
   * Resolves when the worker takes jobs, and the engine has registered or refused each of the worker's functions and
   * projections; refusals are logged. Rejects when `start()` fails or the worker is stopped before that.
   */
  ready(): Promise<void>
  /**
   * Takes no more jobs, waits at most `drainTimeout` (30 seconds by default) for the jobs in flight, and then
   * stops as {@link stop} does. Does nothing when the worker is not running.
   */
  drain(): Promise<void>
  /** Aborts the jobs in flight, and releases their runs to the engine. Resolves when that is done. */
  stop(): Promise<void>
}

/**
 * Creates a worker for the server at `serverUrl`, or for an `engine` of this process. The default server is
 * that of `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. Throws `ValidationError` when the
 * configuration is invalid.
 */
export const createWorker = (config: WorkerConfig): Worker => {
  const isRemote = config?.engine === undefined
  checkKeys(config, isRemote ? serverWorkerKeys : engineWorkerKeys, "Worker", config?.logger)
  const setup = isRemote ? serverSetup(config ?? {}) : engineSetup(config)
  resolveWorkerOptions(setup.options)
  return new PromiseWorker(setup)
}

/** A layer that makes the transport to a server. It needs an HTTP client. */
export type WorkerTransportLayer = Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient>

/** The options of a worker, and how it reaches its server or engine. */
export interface WorkerSetup {
  readonly options: RunnableOptions
  readonly transport: Layer.Layer<WorkerTransport, ValidationError>
  readonly onClose: (close: () => Promise<void>) => () => void
}

const engineSetup = (config: EngineWorkerConfig): WorkerSetup => {
  const connection = connectionOf("createWorker()", config.engine)
  return {
    options: {
      ...withoutUnknownKeys<RunnableOptions>(config, workerKeys),
      environment: config.environment ?? connection.environment,
      logger: workerLogger(config.logger)
    },
    transport: connection.transport,
    onClose: (close) => connection.onClose("worker", close)
  }
}

const serverSetup = (config: ServerWorkerConfig): WorkerSetup => {
  // a caller in JavaScript may pass any value
  const transport: unknown = config.transport ?? "polling"
  if (transport !== "polling" && transport !== "streaming") {
    throw new ValidationError(
      `createWorker(): \`transport\` must be "polling" or "streaming", got ${show(transport)}`
    )
  }
  // Loaded when a worker starts, since programs that only use a client do not need it.
  const load = transport === "polling" ? loadPolling : loadStreaming
  return makeServerSetup(config, "createWorker()", (options) => Effect.map(load, (layer) => layer(options)))
}

/** The logger of the options, or else the console. Effect's loggers are for the Effect API. */
const workerLogger = (logger: Logger | false | undefined): Logger =>
  resolveLogger(logger, "[ironflow-worker]")

/**
 * Checks the options of a worker for a server, and makes its transport: `load` makes it from the options of the
 * connection.
 */
export const makeServerSetup = (
  config: ServerWorkerConfig,
  caller: string,
  load: (options: PollingOptions) => Effect.Effect<WorkerTransportLayer, ValidationError>
): WorkerSetup => {
  const { apiKey, heartbeatInterval, reconnectDelay, serverUrl } = config
  const logger = workerLogger(config.logger)
  const options = { serverUrl, apiKey, heartbeatInterval, reconnectDelay, logger }
  const { server } = resolvePollingOptions(options, config.environment, caller)
  const connections = Effect.promise(() =>
    Promise.all([import("../Client/Channel.ts"), import("effect/http/FetchHttpClient")])
  )
  const transport = Layer.unwrap(load({ ...options, serverUrl: server.url, apiKey: server.apiKey }))
  return {
    options: {
      ...withoutUnknownKeys<RunnableOptions>(config, workerKeys),
      ...(server.namesEnvironment ? { environment: server.environment } : {}),
      logger
    },
    transport: Layer.unwrap(
      Effect.map(connections, ([channel, fetch]) => Layer.provide(transport, [fetch.layer, channel.layer]))
    ),
    onClose: () => () => undefined
  }
}

const loadPolling = Effect.map(
  Effect.promise(() => import("../Worker/PollingTransport.ts")),
  ({ layer }) => layer
)

const loadStreaming = Effect.map(
  Effect.promise(() => import("../Worker/FastestTransport.ts")),
  ({ layer }) => layer
)

export class PromiseWorker implements Worker {
  readonly #setup: WorkerSetup
  readonly #ready: Deferred<void> = createDeferred()
  readonly #finished: Deferred<void> = createDeferred()
  #state: "fresh" | "running" | "stopped" = "fresh"
  #fiber: Fiber.Fiber<void, unknown> | undefined
  #service: WorkerService | undefined
  #isEnding = false

  constructor(setup: WorkerSetup) {
    this.#setup = setup
    // Callers of ready() and start() still get a rejection. These lines only keep a rejection from counting as
    // unhandled when nobody waits for it.
    this.#ready.promise.catch(() => undefined)
    this.#finished.promise.catch(() => undefined)
  }

  get connection(): WorkerConnection {
    if (this.#state !== "running") return this.#state === "fresh" ? "idle" : "stopped"
    if (this.#service === undefined) return "connecting"
    return Effect.runSync(this.#service.isConnected) ? "connected" : "disconnected"
  }

  async start(): Promise<void> {
    if (this.#state !== "fresh") throw cannotStartError(this.#state)
    this.#state = "running"
    const removeFromEngine = this.#setup.onClose(() => this.#close())
    this.#fiber = Effect.runFork(this.#program())
    this.#fiber.addObserver((exit) => {
      removeFromEngine()
      this.#state = "stopped"
      const error =
        Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)
          ? undefined
          : toStartError(errorOf(exit.cause))
      this.#ready.reject(error ?? stoppedBeforeReadyError())
      if (error === undefined) this.#finished.resolve()
      else this.#finished.reject(error)
    })
    return this.#finished.promise
  }

  ready(): Promise<void> {
    return this.#ready.promise
  }

  async drain(): Promise<void> {
    if (this.#state !== "running") return
    await this.#end((service) => service.drain)
  }

  async stop(): Promise<void> {
    if (this.#state === "fresh") {
      this.#state = "stopped"
      this.#ready.reject(stoppedBeforeReadyError())
      return
    }
    if (this.#state === "running") await this.#end((service) => service.stop)
  }

  #program(): Effect.Effect<void, unknown> {
    // Loaded when a worker starts: programs that only use a client do not load the code that runs functions.
    const load = Effect.promise(() => import("../Worker/Worker.ts"))
    const work = Effect.flatMap(load, ({ make }) =>
      Effect.flatMap(make(this.#setup.options), (service) => {
        this.#service = service
        return Effect.andThen(
          Effect.tap(service.ready, () => Effect.sync(() => this.#onReady())),
          service.awaitStopped
        )
      })
    )
    return Effect.provide(Effect.scoped(work), this.#setup.transport)
  }

  #onReady(): void {
    if (!this.#isEnding) this.#ready.resolve()
  }

  async #end(endService: (service: WorkerService) => Effect.Effect<void>): Promise<void> {
    this.#isEnding = true
    if (this.#service !== undefined) await Effect.runPromise(endService(this.#service))
    else this.#fiber?.interruptUnsafe()
    // start() reports a failure. A caller that stops the worker only waits until the worker has ended.
    await this.#finished.promise.catch(() => undefined)
  }

  /** Called when the engine closes. A worker that is interrupted drains, as with {@link drain}. */
  async #close(): Promise<void> {
    this.#fiber?.interruptUnsafe()
    await this.#finished.promise.catch(() => undefined)
  }
}

const cannotStartError = (state: "running" | "stopped"): IronflowError =>
  new WorkerAlreadyRunningError(
    state === "running"
      ? "The worker has been started already: call start() only once"
      : "The worker has been stopped and cannot be started again: create a new worker"
  )

const stoppedBeforeReadyError = (): IronflowError =>
  new WorkerStoppedError("The worker was stopped before it had been registered")

const toStartError = (error: Error): Error => {
  if (error instanceof ValidationError && error.code !== "PACKAGES_MISSING") {
    return new RegistrationError(
      `The engine does not accept the functions of this worker: ${error.message}`,
      {
        code: "FUNCTION_REGISTRATION_FAILED",
        cause: error
      }
    )
  }
  if (error instanceof IronflowError && error.code === "CONNECTION_LOST") {
    return new RegistrationError(`The worker could not be registered with the engine: ${error.message}`, {
      code: "REGISTRATION_FAILED",
      cause: error
    })
  }
  return error
}
