/** Environment variables of the process. An empty variable counts as unset. */
import { DEFAULT_ENVIRONMENT, DEFAULT_SERVER_URL, ENV_VARS } from "./Constants.ts"

/** The value of an environment variable; `undefined` when it is unset or empty. */
export const readEnvironmentVariable = (name: string): string | undefined => {
  // some edge runtimes have no `process`
  const value = typeof process === "undefined" ? undefined : process.env[name]
  return value === "" ? undefined : value
}

/** Reads an environment variable. Returns `undefined` when it is unset or empty. */
export type Variables = (name: string) => string | undefined

/** The URL in `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. */
export const getServerUrl = (): string => serverUrlIn(readEnvironmentVariable)

export const serverUrlIn = (variables: Variables): string =>
  variables(ENV_VARS.SERVER_URL) ?? DEFAULT_SERVER_URL

/** The given environment, or else that of `IRONFLOW_ENV`, or else `default`. */
export const resolveEnvironment = (name?: string, variables: Variables = readEnvironmentVariable): string =>
  name || variables("IRONFLOW_ENV") || DEFAULT_ENVIRONMENT

/** Whether the argument or `IRONFLOW_ENV` names an environment. */
export const isEnvironmentNamed = (name?: string, variables: Variables = readEnvironmentVariable): boolean =>
  Boolean(name || variables("IRONFLOW_ENV"))

/** The given API key, or else that of `IRONFLOW_API_KEY`, or else none. */
export const resolveApiKey = (
  apiKey?: string,
  variables: Variables = readEnvironmentVariable
): string | undefined => apiKey || variables(ENV_VARS.API_KEY)
