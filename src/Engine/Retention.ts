/** How long the engine keeps what has ended, as its users say it. */
import * as EffectDuration from "effect/Duration"
import * as Layer from "effect/Layer"
import { type Duration, positiveDuration } from "../Duration.ts"
import { positiveBytes, type Size } from "../Size.ts"
import { MessageRetention } from "./PubSub/MessageSweep.ts"
import { RunRetention } from "./Runs/RunSweep.ts"

export interface RetentionOptions {
  /** How long a run is kept after it has ended, with its steps; `"30d"` by default, `"forever"` keeps all. */
  readonly keepRuns?: Duration | "forever"
  /** How long a message of a topic is kept; `"30d"` by default, `"forever"` keeps all that fits. */
  readonly keepMessages?: Duration | "forever"
  /** Data that a topic keeps, its newest messages: bytes, or text such as `"1GiB"`; 256 MiB by default. */
  readonly maxTopicBytes?: Size
}

/** Throws `ValidationError`; `names` are what the options are called where they were written. */
export const retention = (
  { keepMessages, keepRuns, maxTopicBytes }: RetentionOptions,
  names: { readonly [option in keyof Required<RetentionOptions>]: string } = {
    keepRuns: "keepRuns",
    keepMessages: "keepMessages",
    maxTopicBytes: "`maxTopicBytes`"
  }
): Layer.Layer<never> =>
  Layer.mergeAll(
    keepMessages === undefined && maxTopicBytes === undefined
      ? Layer.empty
      : Layer.succeed(MessageRetention, {
          age: keptFor(names.keepMessages, keepMessages ?? "30d"),
          topicBytes: positiveBytes(maxTopicBytes ?? "256MiB", names.maxTopicBytes)
        }),
    keepRuns === undefined ? Layer.empty : Layer.succeed(RunRetention, keptFor(names.keepRuns, keepRuns))
  )

const keptFor = (name: string, duration: Duration | "forever"): EffectDuration.Duration =>
  duration === "forever" ? EffectDuration.infinity : EffectDuration.millis(positiveDuration(duration, name))
