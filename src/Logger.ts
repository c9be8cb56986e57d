/** Logging for people who run workers and handlers: one line a message, to the console unless they bring a logger. */
import { serializeError, ValidationError } from "./Errors.ts"
import { ENV_VARS } from "./Constants.ts"
import { readEnvironmentVariable, type Variables } from "./Environment.ts"
import { show } from "./Show.ts"

/** Where log lines go. `data` is shown as JSON. */
export interface Logger {
  debug(message: string, data?: unknown): void
  info(message: string, data?: unknown): void
  warn(message: string, data?: unknown): void
  error(message: string, data?: unknown): void
}

/** From talkative to silent. */
const levels = ["debug", "info", "warn", "error", "silent"] as const
export type LogLevel = (typeof levels)[number]

export interface LoggerConfig {
  /** The lowest level that is shown; `IRONFLOW_LOG_LEVEL` by default, else `info`. */
  readonly level?: LogLevel
  /** In front of each line; `[ironflow]` by default. */
  readonly prefix?: string
}

type LineLevel = Exclude<LogLevel, "silent">

/**
 * A logger that writes `<prefix> <message> <data as JSON>` to the console method of the level. Throws `ValidationError` for a
 * level that there is not.
 */
export const createLogger = (config: LoggerConfig = {}): Logger => {
  const lowest = levels.indexOf(config.level ?? levelFromEnvironment())
  if (lowest === -1) throw new ValidationError(`createLogger: ${noLevel("`level`", config.level)}`)
  const prefix = config.prefix ?? "[ironflow]"
  const line = (level: LineLevel) => {
    const shown = levels.indexOf(level) >= lowest
    return (message: string, data?: unknown) => {
      if (shown) writeLine(level, formatLine(prefix, message, data))
    }
  }
  return { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") }
}

/** A logger that says nothing. */
export const createNoopLogger = (): Logger => {
  const silence = () => undefined
  return { debug: silence, info: silence, warn: silence, error: silence }
}

/** What a `logger` option means: the given logger, silence for `false`, else the console with this prefix. */
export const resolveLogger = (logger: Logger | false | undefined, prefix: string): Logger =>
  logger === false ? createNoopLogger() : (logger ?? createLogger({ prefix }))

/**
 * The logger of one run's handler. Silent while `isReplaying()`: those lines were written in an earlier turn. Lines go to
 * `target` when there is one (it gets every level), else to the console, from the level of `IRONFLOW_LOG_LEVEL` on, and with
 * debug lines when `IRONFLOW_DEBUG` is set. Each line begins with the end of the run id.
 */
export const runLogger = (runId: string, isReplaying: () => boolean, target?: Logger): Logger => {
  const prefix = `[ironflow:${runId.slice(-8)}]`
  const isDebugged = readEnvironmentVariable("IRONFLOW_DEBUG") !== undefined
  const lowest = target !== undefined || isDebugged ? 0 : levels.indexOf(levelFromEnvironment())
  const line = (level: LineLevel) => {
    const isShown = levels.indexOf(level) >= lowest
    return (message: string, data?: unknown): void => {
      if (!isShown || isReplaying()) return
      if (target !== undefined) target[level](`${prefix} ${message}`, data)
      else writeLine(level, formatLine(prefix, message, data))
    }
  }
  return { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") }
}

/** What `IRONFLOW_LOG_LEVEL` says, in any case; else `info`. A word that is no level is said once. */
export const levelFromEnvironment = (variables: Variables = readEnvironmentVariable): LogLevel => {
  const word = variables(ENV_VARS.LOG_LEVEL)
  if (word === undefined) return "info"
  const level = levels.find((known) => known === word.toLowerCase())
  if (level !== undefined) return level
  if (word !== toldOf) {
    toldOf = word
    writeLine("warn", `[ironflow] ${noLevel(ENV_VARS.LOG_LEVEL, word)}. It counts as "info"`)
  }
  return "info"
}

/** The last word that was said to be no level. */
let toldOf: string | undefined

const noLevel = (what: string, word: unknown): string =>
  `${what} must be "debug", "info", "warn", "error" or "silent", got ${show(word)}`

const formatLine = (prefix: string, message: string, data: unknown): string =>
  data === undefined ? `${prefix} ${message}` : `${prefix} ${message} ${dataText(data)}`

/** A line must come out whatever is logged, so data that JSON cannot carry is shown as text. */
const dataText = (data: unknown): string => {
  try {
    const json = JSON.stringify(data, (_key, value: unknown) =>
      value instanceof Error ? serializeError(value) : typeof value === "bigint" ? `${value}n` : value
    ) as string | undefined
    return json ?? String(data)
  } catch {
    // A cycle, or a getter that throws: the message was said, the data has no text.
    return "[data that cannot be shown as JSON]"
  }
}

const writeLine = (level: LineLevel, line: string): void => {
  // oxlint-disable-next-line eslint/no-console -- the one place where log lines leave the program
  console[level](line)
}
