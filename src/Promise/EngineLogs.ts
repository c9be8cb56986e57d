/** What the engine logs as Effects, for people who know only our `Logger`. */
import * as Layer from "effect/Layer"
import * as EffectLogger from "effect/Logger"
import * as References from "effect/References"
import { lineOf } from "../EffectLogger.ts"
import type { Logger } from "../Logger.ts"

/**
 * Sends the log lines of Effects to a logger of ours, which knows itself from which level on it shows them. The first part is
 * the message; errors become data, and annotations the fields.
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
