/** Logging for people who run workers and handlers: one line a message, to the console unless they bring a logger. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import { ValidationError } from "./Errors.ts"
import { ENV_VARS } from "./Constants.ts"
import { readEnvironmentVariable, type Variables } from "./Environment.ts"
import { type LineLevel, lineLevels, type LogFields } from "./LogFields.ts"
import { dataText, formatRecord, type LogFormat, logFormats } from "./LogFormat.ts"
import { show } from "./Show.ts"

/**
 * Where log lines go. `data` is shown as JSON. `fields` say what a line is about, where the package says something or a handler
 * does: a logger may leave them aside, since its messages can be read without them.
 */
export interface Logger {
  /**
   * What only whoever looks for a fault wants to read.
   *
   * ```ts
   * logger.debug("asking the bank", { orderId: "o-1" })
   * ```
   */
  debug(message: string, data?: unknown, fields?: LogFields): void
  /**
   * What goes as it should, and is worth a line.
   *
   * ```ts
   * logger.info("charged", { amount: 5 })
   * ```
   */
  info(message: string, data?: unknown, fields?: LogFields): void
  /**
   * What somebody should look at, and goes on by itself.
   *
   * ```ts
   * logger.warn("the bank is slow", { orderId: "o-1", seconds: 12 })
   * ```
   */
  warn(message: string, data?: unknown, fields?: LogFields): void
  /**
   * What has failed.
   *
   * ```ts
   * logger.error("the bank has refused", { orderId: "o-1", code: 402 })
   * ```
   */
  error(message: string, data?: unknown, fields?: LogFields): void
}

const LOG_FORMAT = "IRONFLOW_LOG_FORMAT"

/** From talkative to silent. */
const levels = [...lineLevels, "silent"] as const
/** From the least important to the most; `silent` is above them all. */
export type LogLevel = (typeof levels)[number]

/** Options of `createLogger`. */
export interface LoggerConfig {
  /** The lowest level that is shown; `IRONFLOW_LOG_LEVEL` by default, else `info`. */
  readonly level?: LogLevel
  /** In front of each line; `[ironflow]` by default. */
  readonly prefix?: string
  /**
   * `IRONFLOW_LOG_FORMAT` by default, else `pretty`: the prefix, the message and the data. `json` and `logfmt` have no prefix, and have the
   * time, the level and the fields of a line.
   */
  readonly format?: LogFormat
}

/**
 * A logger that writes `<prefix> <message> <data as JSON>` to the console method of the level. Throws `ValidationError` for a
 * level or a format that there is not.
 */
export const createLogger = (config: LoggerConfig = {}): Logger => {
  const lowest = levels.indexOf(config.level ?? levelFromEnvironment())
  if (lowest === -1) throw new ValidationError(`createLogger: ${noLevel("`level`", config.level)}`)
  const format = config.format ?? formatFromEnvironment()
  if (!logFormats.includes(format)) {
    throw new ValidationError(`createLogger: ${noFormat("`format`", config.format)}`)
  }
  const prefix = config.prefix ?? "[ironflow]"
  return toLogger((level) => {
    const shown = levels.indexOf(level) >= lowest
    return (message, data, fields) => {
      if (shown) writeLine(level, lineOf(format, prefix, level, message, data, fields))
    }
  })
}

/** The logger whose methods `line` makes, level by level. */
const toLogger = (line: (level: LineLevel) => Logger[LineLevel]): Logger => ({
  debug: line("debug"),
  info: line("info"),
  warn: line("warn"),
  error: line("error")
})

/** A logger that says nothing. */
export const createNoopLogger = (): Logger => {
  const silence = () => undefined
  return { debug: silence, info: silence, warn: silence, error: silence }
}

/** What a `logger` option means: the given logger, silence for `false`, else the console with this prefix. */
export const resolveLogger = (logger: Logger | false | undefined, prefix: string): Logger =>
  logger === false ? createNoopLogger() : (logger ?? createLogger({ prefix }))

/** What the logger of a run adds to its lines, and who keeps them. */
export interface RunLines {
  /** What the line is about that is logged now. */
  readonly fields: () => LogFields
  /** Is given each line from `info` on, and those of `debug` where they are shown. */
  readonly keep?: ((level: LineLevel, message: string, data: unknown) => void) | undefined
}

/**
 * The logger of one run's handler. Silent while `isReplaying()`: those lines were written in an earlier turn. Lines go to
 * `target` when there is one (it gets every level), else to the console, from the level of `IRONFLOW_LOG_LEVEL` on, and with
 * debug lines when `IRONFLOW_DEBUG` is set. Each line begins with the end of the run id.
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
  const lowest = lowestShown()
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

/** The place among {@link levels} of the lowest level that the logger of a handler shows on the console. */
const lowestShown = (): number =>
  readEnvironmentVariable("IRONFLOW_DEBUG") === undefined ? levels.indexOf(levelFromEnvironment()) : 0

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
  `${what} must be ${lineLevels.map((level) => `"${level}"`).join(", ")} or "silent", got ${show(word)}`

/** What `IRONFLOW_LOG_FORMAT` says, in any case; else `pretty`. A word that is no format is said once. */
export const formatFromEnvironment = (variables: Variables = readEnvironmentVariable): LogFormat => {
  const word = variables(LOG_FORMAT)
  if (word === undefined) return "pretty"
  const format = logFormats.find((known) => known === word.toLowerCase())
  if (format !== undefined) return format
  if (word !== toldOfFormat) {
    toldOfFormat = word
    writeLine("warn", `[ironflow] ${noFormat(LOG_FORMAT, word)}. It counts as "pretty"`)
  }
  return "pretty"
}

/** The last word that was said to be no format. */
let toldOfFormat: string | undefined

const noFormat = (what: string, word: unknown): string =>
  `${what} must be "pretty", "json" or "logfmt", got ${show(word)}`

/** A logger that is no part of an Effect has the time of the machine. */
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

/** Characters that may wait for somebody to read them; what is logged beyond that is left out. */
const WAITING = 1024 * 1024

const leftOut = { warn: 0, info: 0 }

/** A reader that has stopped reading costs no more memory than this, and holds nobody up: that lines are missing is said once. */
const writeLine = (level: LineLevel, line: string): void => {
  const kind = level === "warn" || level === "error" ? "warn" : "info"
  if (typeof process !== "undefined") {
    const stream = kind === "warn" ? process.stderr : process.stdout
    if ((stream?.writableLength ?? 0) > WAITING) {
      leftOut[kind]++
      return
    }
  }
  if (leftOut[kind] > 0) {
    const missing = leftOut[kind]
    leftOut[kind] = 0
    // oxlint-disable-next-line eslint/no-console -- as below
    console[kind](`[ironflow] ${missing} log lines are missing here: nobody read what was there`)
  }
  // oxlint-disable-next-line eslint/no-console -- the one place where log lines leave the program
  console[level](line)
}
