/** Checks the options of a connection to a server (address, API key, environment), and fills in defaults. */
import { DEFAULT_TIMEOUTS } from "../Constants.ts"
import {
  isEnvironmentNamed,
  readEnvironmentVariable,
  resolveApiKey,
  resolveEnvironment,
  serverUrlIn,
  type Variables
} from "../EnvironmentVariables.ts"
import { ValidationError } from "../Errors.ts"
import { checkName } from "../Limits.ts"
import type { Keys } from "../OptionKeys.ts"
import { ENVIRONMENT_HEADER } from "../Protocol/Http/CallAddress.ts"
import { show } from "../Show.ts"
import { type ClientRetryConfig, clientRetryKeys, resolveClientRetry, type ResolvedRetry } from "./Retry.ts"

/** Options of the connection to a server. */
export interface ServerOptions {
  /** URL of the server. By default the value of `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. */
  readonly serverUrl?: string | undefined
  /** API key, sent as a bearer token. By default the value of `IRONFLOW_API_KEY`, or else none. */
  readonly apiKey?: string | undefined
  /**
   * Environment to work in. By default the value of `IRONFLOW_ENV`, or else the environment of the API key, or
   * else `default`.
   */
  readonly environment?: string | undefined
  /** Timeout of a request, in milliseconds; 30000 by default. */
  readonly timeout?: number | undefined
  /**
   * How failed calls are tried again: those that are safe to repeat, and those that the server certainly did not
   * receive. By default there are three attempts.
   */
  readonly retry?: ClientRetryConfig | undefined
}

export const serverKeys = {
  serverUrl: true,
  apiKey: true,
  environment: true,
  timeout: true,
  retry: clientRetryKeys
} satisfies Keys<ServerOptions>

export interface ResolvedServer {
  /** URL of the server, without a trailing slash. */
  readonly url: string
  /**
   * The API key. It changes when a client without a key creates the first key of the server, and when that
   * client rotates or deletes that key.
   */
  apiKey: string | undefined
  readonly environment: string
  /**
   * Whether requests name the environment. If no environment was configured, they do not, and the server uses
   * the environment of the API key, or `default` without a key.
   */
  readonly namesEnvironment: boolean
  readonly timeoutMs: number
  readonly retry: ResolvedRetry
}

/**
 * Checks the options, and fills in defaults from the environment variables. Throws a `ValidationError`, whose
 * message begins with `caller`.
 */
export const resolveServer = (
  options: ServerOptions,
  caller: string,
  variables: Variables = readEnvironmentVariable
): ResolvedServer => {
  const { timeout = DEFAULT_TIMEOUTS.CLIENT } = options
  if (typeof timeout !== "number" || !Number.isFinite(timeout) || timeout <= 0) {
    throw new ValidationError(
      `${caller}: \`timeout\` must be a positive number of milliseconds, got ${show(timeout)}`
    )
  }
  const apiKey = checkApiKey(resolveApiKey(options.apiKey, variables), caller)
  return {
    url: checkUrl(options.serverUrl || serverUrlIn(variables), caller),
    apiKey,
    environment: checkEnvironment(resolveEnvironment(options.environment, variables), caller),
    namesEnvironment: isEnvironmentNamed(options.environment, variables),
    timeoutMs: timeout,
    retry: resolveClientRetry(options.retry, caller)
  }
}

/** The header that names the environment; no header if none was configured. */
export const environmentHeader = ({
  environment,
  namesEnvironment
}: ResolvedServer): Readonly<Record<string, string>> =>
  namesEnvironment ? { [ENVIRONMENT_HEADER]: environment } : {}

const checkUrl = (text: unknown, caller: string): string => {
  const url = typeof text === "string" ? URL.parse(text) : null
  const problem =
    url === null
      ? "it is not a URL"
      : url.protocol !== "http:" && url.protocol !== "https:"
        ? 'it does not begin with "http://" or "https://"'
        : url.username !== "" || url.password !== ""
          ? "it contains credentials; give the key as `apiKey`"
          : url.search !== "" || url.hash !== ""
            ? "it has a query or a fragment"
            : undefined
  if (url !== null && problem === undefined) return url.href.replace(/\/+$/, "")
  // the URL is not shown in full if it contains a password
  const shownUrl = url !== null && url.password !== "" ? `${url.protocol}//...@${url.host}` : String(text)
  throw new ValidationError(
    `${caller}: \`serverUrl\` "${shownUrl}" is not valid: ${problem}. ` +
      'Write it like "http://localhost:9123" or "https://ironflow.example.com"'
  )
}

const checkApiKey = (apiKey: unknown, caller: string): string | undefined => {
  if (apiKey === undefined || (typeof apiKey === "string" && /^[\x21-\x7e]+$/.test(apiKey))) return apiKey
  throw new ValidationError(
    `${caller}: \`apiKey\` must be a string of printable ASCII characters without spaces, since it travels in a header`
  )
}

const checkEnvironment = (environment: string, caller: string): string => {
  checkName("environment", environment)
  if (/^[\x20-\x7e]+$/.test(environment)) return environment
  throw new ValidationError(
    `${caller}: the environment "${environment}" must consist of printable ASCII characters, since it travels in a header`
  )
}
