/** What the process's environment variables say. An empty variable counts as not set. */
import { DEFAULT_ENVIRONMENT, DEFAULT_SERVER_URL, ENV_VARS } from "./Constants.ts"

/** The environment variable, `undefined` when it is not set or empty. */
export const readEnvironmentVariable = (name: string): string | undefined => {
  // Some edge runtimes have no `process`.
  const value = typeof process === "undefined" ? undefined : process.env[name]
  return value === "" ? undefined : value
}

/** What a variable says: `undefined` when it is not set or empty. */
export type Variables = (name: string) => string | undefined

/** `IRONFLOW_SERVER_URL`, else `http://localhost:9123`. */
export const getServerUrl = (): string => serverUrlIn(readEnvironmentVariable)

export const serverUrlIn = (variables: Variables): string =>
  variables(ENV_VARS.SERVER_URL) ?? DEFAULT_SERVER_URL

/** The given environment name, else `IRONFLOW_ENV`, else `default`. */
export const resolveEnvironment = (name?: string, variables: Variables = readEnvironmentVariable): string =>
  name || variables("IRONFLOW_ENV") || DEFAULT_ENVIRONMENT

/** Whether the given name or `IRONFLOW_ENV` says which environment, rather than nobody. */
export const isEnvironmentNamed = (name?: string, variables: Variables = readEnvironmentVariable): boolean =>
  Boolean(name || variables("IRONFLOW_ENV"))

/** The given API key, else `IRONFLOW_API_KEY`, else none. */
export const resolveApiKey = (
  apiKey?: string,
  variables: Variables = readEnvironmentVariable
): string | undefined => apiKey || variables(ENV_VARS.API_KEY)
