/** Loggers for workers and handlers. They write one line for each message, by default to the console. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import { ValidationError } from "./Errors.ts"
import { ENV_VARS } from "./Constants.ts"
import { readEnvironmentVariable, type Variables } from "./EnvironmentVariables.ts"
import { type LineLevel, lineLevels, type LogFields } from "./LogFields.ts"
import { dataText, formatRecord, type LogFormat, logFormats } from "./LogFormat.ts"
import { show } from "./Show.ts"

/**
 * Receives log lines. `data` is shown as JSON. `fields` say what a line is about; this package and the
 * loggers of handlers set them. A logger may ignore the fields, since messages are complete without them.
 */
export interface Logger {
  /**
   * Logs a detail for debugging.
   *
   * ```ts
   * logger.debug("asking the bank", { orderId: "o-1" })
   * ```
   */
  debug(message: string, data?: unknown, fields?: LogFields): void
  /**
   * Logs normal operation that is worth a line.
   *
   * ```ts
   * logger.info("charged", { amount: 5 })
   * ```
   */
  info(message: string, data?: unknown, fields?: LogFields): void
  /**
   * Logs a problem that needs attention, but from which the program recovers.
   *
   * ```ts
   * logger.warn("the bank is slow", { orderId: "o-1", seconds: 12 })
   * ```
   */
  warn(message: string, data?: unknown, fields?: LogFields): void
  /**
   * Logs a failure.
   *
   * ```ts
   * logger.error("the bank has refused", { orderId: "o-1", code: 402 })
   * ```
   */
  error(message: string, data?: unknown, fields?: LogFields): void
}

const LOG_FORMAT = "IRONFLOW_LOG_FORMAT"

/** From the most verbose to silent. */
const levels = [...lineLevels, "silent"] as const
/** Minimum level of the lines to show, from the least important to the most; `silent` shows none. */
export type LogLevel = (typeof levels)[number]

/** Options of `createLogger`. */
export interface LoggerConfig {
  /** Lowest level of the lines that are shown. By default that of `IRONFLOW_LOG_LEVEL`, or else `info`. */
  readonly level?: LogLevel
  /** Prefix of each line; `[ironflow]` by default. */
  readonly prefix?: string
  /**
   * Format of the lines. By default that of `IRONFLOW_LOG_FORMAT`, or else `pretty`: prefix, message and
   * data. Lines in `json` and `logfmt` have no prefix, but the time, the level and the fields.
   */
  readonly format?: LogFormat
}

/**
 * Creates a logger that writes each line to the console method of its level. In the format `pretty`, a line is
 * `<prefix> <message> <data as JSON>`. Throws `ValidationError` for an unknown `level` or `format`.
 */
export const createLogger = (config: LoggerConfig = {}): Logger => {
  const lowest = levels.indexOf(config.level ?? levelFromEnvironment())
  if (lowest === -1) throw new ValidationError(`createLogger: ${levelProblem("`level`", config.level)}`)
  const format = config.format ?? formatFromEnvironment()
  if (!logFormats.includes(format)) {
    throw new ValidationError(`createLogger: ${formatProblem("`format`", config.format)}`)
  }
  const prefix = config.prefix ?? "[ironflow]"
  return toLogger((level) => {
    const isShown = levels.indexOf(level) >= lowest
    return (message, data, fields) => {
      if (isShown) writeLine(level, lineOf(format, prefix, level, message, data, fields))
    }
  })
}

/** A logger with one method for each level, made by `line`. */
const toLogger = (line: (level: LineLevel) => Logger[LineLevel]): Logger => ({
  debug: line("debug"),
  info: line("info"),
  warn: line("warn"),
  error: line("error")
})

/** Creates a logger that writes nothing. */
export const createNoopLogger = (): Logger => {
  const silence = () => undefined
  return { debug: silence, info: silence, warn: silence, error: silence }
}

/**
 * The logger for a `logger` option: the given one, none for `false`, or else the console with this prefix.
 */
export const resolveLogger = (logger: Logger | false | undefined, prefix: string): Logger =>
  logger === false ? createNoopLogger() : (logger ?? createLogger({ prefix }))

/** The fields of a run's log lines, and the function that stores the lines. */
export interface RunLines {
  /** The current fields. */
  readonly fields: () => LogFields
  /**
   * Stores a line. Called for lines from `info` up, and for `debug` lines if `IRONFLOW_LOG_LEVEL` is `debug`
   * or `IRONFLOW_DEBUG` is set.
   */
  readonly keep?: ((level: LineLevel, message: string, data: unknown) => void) | undefined
}

/**
 * The logger of the handler of one run. It writes nothing while `isReplaying()`, since an earlier turn has
 * written those lines. With a `target`, it writes lines of every level to that logger. Without one, it writes to the
 * console: lines from the level in `IRONFLOW_LOG_LEVEL` up, or all lines if `IRONFLOW_DEBUG` is set. A message
 * begins with the last 8 characters of the run id, except on the console in `json` and `logfmt`, where the run
 * id is a field.
 *
 * ```ts
 * const handlerLogger = IronflowLogger.runLogger("run_1", () => false, IronflowLogger.createNoopLogger())
 * ```
 */
export const runLogger = (
  runId: string,
  isReplaying: () => boolean,
  target?: Logger,
  { fields, keep }: RunLines = { fields: () => ({ run: runId }) }
): Logger => {
  const prefix = `[ironflow:${runId.slice(-8)}]`
  const lowest = lowestShownLevel()
  const format = formatFromEnvironment()
  return toLogger((level) => {
    const isShown = target !== undefined || levels.indexOf(level) >= lowest
    const isKept = keep !== undefined && (level !== "debug" || lowest === 0)
    return (message, data) => {
      if ((!isShown && !isKept) || isReplaying()) return
      if (isShown) {
        if (target !== undefined) target[level](`${prefix} ${message}`, data, fields())
        else
          writeLine(
            level,
            lineOf(format, prefix, level, message, data, format === "pretty" ? undefined : fields())
          )
      }
      if (isKept) keep(level, message, data)
    }
  })
}

/** Index in {@link levels} of the minimum level of handler lines on the console. */
const lowestShownLevel = (): number =>
  readEnvironmentVariable("IRONFLOW_DEBUG") === undefined ? levels.indexOf(levelFromEnvironment()) : 0

/** The level in `IRONFLOW_LOG_LEVEL`, in capitals or not; `info` by default. Warns once about an unknown level. */
export const levelFromEnvironment = (variables: Variables = readEnvironmentVariable): LogLevel => {
  const word = variables(ENV_VARS.LOG_LEVEL)
  if (word === undefined) return "info"
  const level = levels.find((known) => known === word.toLowerCase())
  if (level !== undefined) return level
  if (word !== warnedLevel) {
    warnedLevel = word
    writeLine("warn", `[ironflow] ${levelProblem(ENV_VARS.LOG_LEVEL, word)}. "info" is used instead`)
  }
  return "info"
}

/** The unknown level that the last warning was about. */
let warnedLevel: string | undefined

const levelProblem = (what: string, word: unknown): string =>
  `${what} must be ${lineLevels.map((level) => `"${level}"`).join(", ")} or "silent", got ${show(word)}`

/** The format in `IRONFLOW_LOG_FORMAT`, in capitals or not; `pretty` by default. Warns once about an unknown format. */
export const formatFromEnvironment = (variables: Variables = readEnvironmentVariable): LogFormat => {
  const word = variables(LOG_FORMAT)
  if (word === undefined) return "pretty"
  const format = logFormats.find((known) => known === word.toLowerCase())
  if (format !== undefined) return format
  if (word !== warnedFormat) {
    warnedFormat = word
    writeLine("warn", `[ironflow] ${formatProblem(LOG_FORMAT, word)}. "pretty" is used instead`)
  }
  return "pretty"
}

/** The unknown format that the last warning was about. */
let warnedFormat: string | undefined

const formatProblem = (what: string, word: unknown): string =>
  `${what} must be "pretty", "json" or "logfmt", got ${show(word)}`

/** The machine's clock, since a logger is called outside of Effects. */
const clock = Context.get(Context.empty(), Clock.Clock)

const lineOf = (
  format: LogFormat,
  prefix: string,
  level: LineLevel,
  message: string,
  data: unknown,
  fields: LogFields | undefined
): string => {
  if (format !== "pretty")
    return formatRecord(format, { at: clock.currentTimeMillisUnsafe(), level, message, fields, data })
  return data === undefined ? `${prefix} ${message}` : `${prefix} ${message} ${dataText(data)}`
}

/** How many characters may wait for a reader of the console. Lines beyond that are dropped. */
const MAX_BUFFERED_CHARS = 1024 * 1024

const dropped = { warn: 0, info: 0 }

/**
 * Writes a line to the console. If the reader of the console has stopped reading, lines are dropped, and one
 * message says that they are missing. So a slow reader takes a limited amount of memory, and blocks nothing.
 */
const writeLine = (level: LineLevel, line: string): void => {
  const kind = level === "warn" || level === "error" ? "warn" : "info"
  if (typeof process !== "undefined") {
    const stream = kind === "warn" ? process.stderr : process.stdout
    if ((stream?.writableLength ?? 0) > MAX_BUFFERED_CHARS) {
      dropped[kind]++
      return
    }
  }
  if (dropped[kind] > 0) {
    const droppedCount = dropped[kind]
    dropped[kind] = 0
    // oxlint-disable-next-line eslint/no-console -- as below
    console[kind](
      droppedCount === 1
        ? "[ironflow] 1 log line is missing here: it could not be written"
        : `[ironflow] ${droppedCount} log lines are missing here: they could not be written`
    )
  }
  // oxlint-disable-next-line eslint/no-console -- the one place where log lines leave the program
  console[level](line)
}
