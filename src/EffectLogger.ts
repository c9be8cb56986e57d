/**
 * The loggers of Effect as a logger of ours: for what logs from outside of Effects, and for handlers. A user's `Logger` layer gets each
 * line, with the annotations and spans around the layer that logs.
 */
import * as Effect from "effect/Effect"
import type { LogLevel as EffectLevel, Severity } from "effect/LogLevel"
import * as References from "effect/References"
import type { Variables } from "./Environment.ts"
import type { ValidationError } from "./Errors.ts"
import { levelFromEnvironment, type Logger, type LogLevel } from "./Logger.ts"
import { currentVariables } from "./Variables.ts"

const levels: { readonly [Level in LogLevel]: EffectLevel } = {
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  silent: "None"
}

/** `IRONFLOW_LOG_LEVEL` as the lowest level, unless somebody has set one, which counts more, or nobody says anything. */
export const withLogLevel = <A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E | ValidationError, R> =>
  Effect.flatMap(Effect.context<never>(), (context) =>
    context.mapUnsafe.has(References.MinimumLogLevel.key)
      ? self
      : Effect.flatMap(currentVariables, (variables) => {
          const level = saidLevel(variables)
          return level === undefined
            ? self
            : Effect.provideService(self, References.MinimumLogLevel, levels[level])
        })
  )

const saidLevel = (variables: Variables): LogLevel | undefined =>
  variables("IRONFLOW_LOG_LEVEL") === undefined ? undefined : levelFromEnvironment(variables)

/** A logger that writes to the loggers in context. */
export const currentLogger: Effect.Effect<Logger, ValidationError> = withLogLevel(
  Effect.map(Effect.context<never>(), (context) => {
    const run = Effect.runForkWith(context)
    const line =
      (level: Severity) =>
      (message: string, data?: unknown): void => {
        run(Effect.logWithLevel(level)(message, ...(data === undefined ? [] : [data])))
      }
    return { debug: line("Debug"), info: line("Info"), warn: line("Warn"), error: line("Error") }
  })
)

/** What a `logger` option means where there are Effects: the loggers in context unless one is given. */
export const loggerOr = (
  given: Logger | false | undefined
): Effect.Effect<Logger | false, ValidationError> =>
  given === undefined ? currentLogger : Effect.succeed(given)
