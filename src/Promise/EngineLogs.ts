/** What the engine logs as Effects, for people who know only our `Logger`. */
import * as Cause from "effect/Cause"
import * as Layer from "effect/Layer"
import * as EffectLogger from "effect/Logger"
import * as References from "effect/References"
import { serializeError } from "../Errors.ts"
import type { Logger } from "../Logger.ts"

/**
 * Sends the log lines of Effects to a logger of ours, which knows itself from which level on it shows them. The first part is
 * the message; errors become data.
 */
export const layerLogger = (target: Logger): Layer.Layer<never> =>
  Layer.merge(Layer.succeed(References.MinimumLogLevel, "All"), layerLines(target))

const layerLines = (target: Logger): Layer.Layer<never> =>
  EffectLogger.layer([
    EffectLogger.make<unknown, void>(({ cause, logLevel, message }) => {
      const [text, ...rest] = Array.isArray(message) ? message : [message]
      const causes = cause.reasons.length === 0 ? [] : [Cause.squash(cause)]
      const data = [...rest, ...causes].map((part: unknown) =>
        part instanceof Error ? serializeError(part) : part
      )
      target[levelOf(logLevel)](String(text), data.length > 1 ? data : data[0])
    })
  ])

const levelOf = (level: string): keyof Logger => {
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
