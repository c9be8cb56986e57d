/** The data that every kind of connection to a server needs. */
import type * as Clock from "effect/Clock"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { resolveServer, type ResolvedServer } from "../Client/HttpConfig.ts"
import type { Connection } from "../Client/HttpConnection.ts"
import type { Answer } from "../Client/HttpExchange.ts"
import { DEFAULT_WORKER } from "../Constants.ts"
import type { Variables } from "../Environment.ts"
import {
  type AccessError,
  ConnectionError,
  type IronflowError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError
} from "../Errors.ts"
import { type Logger, resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import type { WorkerHandlers, WorkerRegistration } from "../Protocol/Worker.ts"
import { show } from "../Show.ts"
import type { Outage } from "./Outage.ts"

/** How to reach the server. The environment is that of the worker. */
export interface PollingOptions {
  /** `IRONFLOW_SERVER_URL` by default, or else `http://localhost:9123`. */
  readonly serverUrl?: string | undefined
  /** Sent as a bearer token; `IRONFLOW_API_KEY` by default, or else none. */
  readonly apiKey?: string | undefined
  /** The longest time between two requests to the server, in milliseconds; 30000 by default. */
  readonly heartbeatInterval?: number | undefined
  /** The longest delay between attempts to reach the server, in milliseconds; 5000 by default. */
  readonly reconnectDelay?: number | undefined
  /**
   * The logger; `false` logs nothing. Effect's loggers by default; for workers of the Promise API the worker's
   * logger.
   */
  readonly logger?: Logger | false | undefined
}

const pollingKeys = {
  serverUrl: true,
  apiKey: true,
  heartbeatInterval: true,
  reconnectDelay: true,
  logger: true
} satisfies Keys<PollingOptions>

export interface ResolvedPollingOptions {
  readonly server: ResolvedServer
  readonly heartbeatMs: number
  readonly reconnectMs: number
  readonly logger: Logger
}

/** Checks the options and fills in defaults. `caller` is named in errors. Throws `ValidationError`. */
export const resolvePollingOptions = (
  options: PollingOptions,
  environment: string | undefined,
  caller: string,
  variables?: Variables
): ResolvedPollingOptions => {
  checkKeys(options, pollingKeys, caller, options.logger)
  return {
    server: resolveServer(
      { serverUrl: options.serverUrl, apiKey: options.apiKey, environment },
      caller,
      variables
    ),
    heartbeatMs: milliseconds(
      options.heartbeatInterval ?? DEFAULT_WORKER.HEARTBEAT_INTERVAL_MS,
      `${caller}: \`heartbeatInterval\``
    ),
    reconnectMs: milliseconds(
      options.reconnectDelay ?? DEFAULT_WORKER.RECONNECT_DELAY_MS,
      `${caller}: \`reconnectDelay\``
    ),
    logger: resolveLogger(options.logger, "[ironflow-worker]")
  }
}

/** The environment that the worker was given; `undefined` leaves the choice to an API key that is bound to one. */
export const named = ({ environment, namesEnvironment }: WorkerRegistration): string | undefined =>
  namesEnvironment === true ? environment : undefined

const milliseconds = (value: unknown, what: string): number => {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value
  throw new ValidationError(`${what} must be a positive number of milliseconds, got ${show(value)}`)
}

/** The data that all parts of a worker's connection to one server share. */
export interface ServerLink {
  readonly connection: Connection
  readonly options: ResolvedPollingOptions
  readonly registration: WorkerRegistration
  readonly handlers: WorkerHandlers
  readonly outage: Outage
  /** Returns the number of the next registration of this worker. */
  readonly nextRegistration: () => number
  readonly clock: Clock.Clock
  /** Runs an effect in the background until the session ends. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

export const isSuccess = ({ status }: Answer): boolean => status >= 200 && status < 300

export const isAccessError = (error: unknown): error is AccessError =>
  error instanceof UnauthenticatedError || error instanceof UnauthorizedError

/** The time of a monotonic clock, in milliseconds. */
export const monotonicMs = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** For callers that retry after any `ConnectionError`. */
export const asConnectionError = (error: IronflowError): ConnectionError =>
  error instanceof ConnectionError ? error : new ConnectionError(error.message, { cause: error })
