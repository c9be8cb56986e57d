/** The events of an entity stream as an Effect `Stream` over its pages. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { checked } from "./HttpCalls.ts"
import { firstPage, pageAfter } from "./StreamReading.ts"
import type { ReadStreamOptions, StreamsService } from "./Streams.ts"

export const eventsOver =
  (read: StreamsService["read"]): StreamsService["events"] =>
  (entityId, options) =>
    Stream.unwrap(
      Effect.map(
        checked(() => firstPage(options)),
        (first) =>
          Stream.paginate(first, (page: ReadStreamOptions) =>
            Effect.map(read(entityId, page), (result) => [
              result.events,
              Option.fromUndefinedOr(pageAfter(page, result))
            ])
          )
      )
    )
