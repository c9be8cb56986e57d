/**
 * Deletes messages that are too old. Also deletes the oldest messages of topics that are over their
 * size limit.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreService } from "../Store/Store.ts"
import { BATCH, everyHour, untilNoPlaceLeft } from "../Sweep.ts"
import { type SweepPosition, sweepMessages } from "./TopicRows.ts"

/** How much of each topic is kept; by default messages of 30 days, and 256 MiB of data. */
export const MessageRetention = Context.Reference<{
  readonly age: Duration.Duration
  readonly topicBytes: number
}>("@ironflow/node/MessageRetention", {
  defaultValue: () => ({ age: Duration.days(30), topicBytes: 256 * 1024 * 1024 })
})

/** Deletes messages periodically, until the scope ends. */
export const make = (store: StoreService): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(MessageRetention, ({ age, topicBytes }) =>
    everyHour(
      "Old messages",
      untilNoPlaceLeft((after: SweepPosition | undefined) =>
        sweepMessages(store, { keepMs: Duration.toMillis(age), topicBytes }, BATCH, after)
      )
    )
  )
