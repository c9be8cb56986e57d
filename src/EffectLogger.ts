/**
 * Connects Effect's loggers with our `Logger`, for code outside of Effects and for handlers. The Effect loggers that
 * the user provides receive each log line, with the annotations and spans of the code that logs it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as EffectLogger from "effect/Logger"
import type { LogLevel as EffectLevel, Severity } from "effect/LogLevel"
import * as References from "effect/References"
import type { Variables } from "./EnvironmentVariables.ts"
import { serializeError, type ValidationError } from "./Errors.ts"
import type { LineLevel, LogFields } from "./LogFields.ts"
import { isOutage } from "./LogFormat.ts"
import { levelFromEnvironment, type Logger, type LogLevel } from "./Logger.ts"
import { currentVariables } from "./ConfigProviderVariables.ts"

const levels: { readonly [Level in LogLevel]: EffectLevel } = {
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  silent: "None"
}

/** Makes `IRONFLOW_LOG_LEVEL` the minimum log level of an Effect, unless the context sets a minimum log level. */
export const withLogLevel = <A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E | ValidationError, R> =>
  Effect.flatMap(Effect.context<never>(), (context) =>
    context.mapUnsafe.has(References.MinimumLogLevel.key)
      ? self
      : Effect.flatMap(currentVariables, (variables) => {
          const level = levelOfVariable(variables)
          return level === undefined
            ? self
            : Effect.provideService(self, References.MinimumLogLevel, levels[level])
        })
  )

const levelOfVariable = (variables: Variables): LogLevel | undefined =>
  variables("IRONFLOW_LOG_LEVEL") === undefined ? undefined : levelFromEnvironment(variables)

/** Makes a `Logger` that writes to the loggers in context. */
export const currentLogger: Effect.Effect<Logger, ValidationError> = withLogLevel(
  Effect.map(Effect.context<never>(), (context) => {
    const run = Effect.runForkWith(context)
    const line =
      (level: Severity) =>
      (message: string, data?: unknown, fields?: LogFields): void => {
        const logged = Effect.logWithLevel(level)(message, ...(data === undefined ? [] : [data]))
        run(fields === undefined ? logged : annotate(logged, fields))
      }
    return { debug: line("Debug"), info: line("Info"), warn: line("Warn"), error: line("Error") }
  })
)

/** Adds fields to a line as annotations. */
export const annotate = (line: Effect.Effect<void>, fields: LogFields): Effect.Effect<void> =>
  Effect.annotateLogs(
    line,
    Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
  )

/**
 * A line of Effect's loggers in our form. The first part of what was logged is the message; the other parts and the
 * cause are the data, with errors in the form in which they are stored. A first part that is no string is in the data
 * too.
 */
export interface EffectLine {
  readonly level: LineLevel
  readonly message: string
  readonly data: unknown
}

export const lineOf = ({
  cause,
  logLevel,
  message
}: Pick<EffectLogger.Options<unknown>, "cause" | "logLevel" | "message">): EffectLine => {
  const [text, ...rest] = Array.isArray(message) ? message : [message]
  const causes = cause.reasons.length === 0 ? [] : [Cause.squash(cause)]
  const isText = typeof text === "string"
  const data = [...(isText ? [] : [text]), ...rest, ...causes].map((part: unknown) =>
    part instanceof Error ? serializeError(part, { stack: !isOutage(part) }) : part
  )
  return {
    level: levelOf(logLevel),
    message: isText ? text : text instanceof Error ? text.message : String(text),
    data: data.length > 1 ? data : data[0]
  }
}

const levelOf = (level: string): LineLevel => {
  switch (level) {
    case "Fatal":
    case "Error":
      return "error"
    case "Warn":
      return "warn"
    case "Info":
      return "info"
    default:
      return "debug"
  }
}

/**
 * The `Logger` for a `logger` option in Effect code: the given one, or else one that writes to the loggers in
 * context.
 */
export const resolveEffectLogger = (
  given: Logger | false | undefined
): Effect.Effect<Logger | false, ValidationError> =>
  given === undefined ? currentLogger : Effect.succeed(given)
