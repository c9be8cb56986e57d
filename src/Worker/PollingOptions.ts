/** The options of a worker's connection to a server. */
import { resolveServer, type ResolvedServer } from "../Client/HttpOptions.ts"
import { DEFAULT_WORKER } from "../Constants.ts"
import type { Variables } from "../EnvironmentVariables.ts"
import { ValidationError } from "../Errors.ts"
import { type Logger, resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"

/**
 * Options of the connection to a server, by polling or over a stream. The environment comes from the options of the
 * worker.
 */
export interface PollingOptions {
  /** The URL of the server. By default the value of `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. */
  readonly serverUrl?: string | undefined
  /** The API key, sent as a bearer token. By default the value of `IRONFLOW_API_KEY`, or else none. */
  readonly apiKey?: string | undefined
  /** The longest time between two requests to the server, in milliseconds; 30000 by default. */
  readonly heartbeatInterval?: number | undefined
  /** The longest delay between attempts to reach the server, in milliseconds; 5000 by default. */
  readonly reconnectDelay?: number | undefined
  /**
   * The logger; `false` logs nothing. By default Effect's loggers, and in the Promise API the logger of the
   * worker.
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

/** Checks the options and fills in defaults. Throws a `ValidationError`, whose message begins with `caller`. */
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

const milliseconds = (value: unknown, what: string): number => {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value
  throw new ValidationError(`${what} must be a positive number of milliseconds, got ${show(value)}`)
}
