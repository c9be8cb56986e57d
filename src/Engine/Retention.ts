/** Retention options: how long the engine keeps runs, events and messages. */
import * as EffectDuration from "effect/Duration"
import * as Layer from "effect/Layer"
import { type Duration, positiveDuration } from "../Duration.ts"
import { positiveBytes, type Size } from "../Size.ts"
import { EventRetention } from "./Events/EventSweep.ts"
import { MessageRetention } from "./PubSub/MessageSweep.ts"
import { RunRetention } from "./Runs/RunSweep.ts"

/** How long the engine keeps what is no longer needed. */
export interface RetentionOptions {
  /** How long a run and its steps are kept after the run ends; `"30d"` by default. `"forever"` keeps all runs. */
  readonly keepRuns?: Duration | "forever"
  /**
   * How long an event outside of entity streams is kept; `"forever"` by default. As long as a kept run, a projection, a consumer
   * group or a subscription still needs an event, this event and all later events are kept.
   */
  readonly keepEvents?: Duration | "forever"
  /**
   * Maximum size of the data of all events outside of entity streams together: bytes, or a string such as `"10GiB"`. The newest
   * events stay. No limit by default.
   */
  readonly maxEventBytes?: Size
  /** How long a message of a topic is kept; `"30d"` by default. `"forever"` keeps all messages within `maxTopicBytes`. */
  readonly keepMessages?: Duration | "forever"
  /**
   * Maximum size of the data that a topic keeps: bytes, or a string such as `"1GiB"`. The newest messages stay. 256 MiB by
   * default.
   */
  readonly maxTopicBytes?: Size
}

/**
 * Checks the options. Throws `ValidationError` for an invalid option. `names` are the names of the options in the message of that
 * error.
 */
export const retention = (
  { keepEvents, keepMessages, keepRuns, maxEventBytes, maxTopicBytes }: RetentionOptions,
  names: { readonly [option in keyof Required<RetentionOptions>]: string } = {
    keepRuns: "`keepRuns`",
    keepEvents: "`keepEvents`",
    maxEventBytes: "`maxEventBytes`",
    keepMessages: "`keepMessages`",
    maxTopicBytes: "`maxTopicBytes`"
  }
): Layer.Layer<never> =>
  Layer.mergeAll(
    keepEvents === undefined && maxEventBytes === undefined
      ? Layer.empty
      : Layer.succeed(EventRetention, {
          age: toDuration(names.keepEvents, keepEvents ?? "forever"),
          bytes:
            maxEventBytes === undefined
              ? Number.POSITIVE_INFINITY
              : positiveBytes(maxEventBytes, names.maxEventBytes)
        }),
    keepMessages === undefined && maxTopicBytes === undefined
      ? Layer.empty
      : Layer.succeed(MessageRetention, {
          age: toDuration(names.keepMessages, keepMessages ?? "30d"),
          topicBytes: positiveBytes(maxTopicBytes ?? "256MiB", names.maxTopicBytes)
        }),
    keepRuns === undefined ? Layer.empty : Layer.succeed(RunRetention, toDuration(names.keepRuns, keepRuns))
  )

const toDuration = (name: string, duration: Duration | "forever"): EffectDuration.Duration =>
  duration === "forever" ? EffectDuration.infinity : EffectDuration.millis(positiveDuration(duration, name))
