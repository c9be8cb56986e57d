/** Sends the log lines of the engine's Effects to a plain `Logger`. */
import * as Layer from "effect/Layer"
import * as EffectLogger from "effect/Logger"
import * as References from "effect/References"
import { lineOf } from "../EffectLogger.ts"
import type { Logger } from "../Logger.ts"

/**
 * Sends the log lines of Effects to a `Logger`, which applies its own level. The first part of a line is its
 * message; errors in it become data, and annotations become fields.
 */
export const layerLogger = (target: Logger): Layer.Layer<never> =>
  Layer.merge(Layer.succeed(References.MinimumLogLevel, "All"), layerLines(target))

const layerLines = (target: Logger): Layer.Layer<never> =>
  EffectLogger.layer([
    EffectLogger.make<unknown, void>((options) => {
      const { data, level, message } = lineOf(options)
      target[level](message, data, options.fiber.getRef(References.CurrentLogAnnotations))
    })
  ])
