/** What the methods of entity streams have in common, in-process and over HTTP. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { StreamNotFoundError, type ValidationError } from "../Errors.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "./NarrowErrors.ts"
import { firstPage, pageAfter } from "./StreamReading.ts"
import type { ReadStreamOptions, StreamInfo, UntypedStreams } from "./Streams.ts"

/** The events of an entity stream as an Effect `Stream` over its pages. */
export const eventsOver =
  <E>(read: Raw<UntypedStreams, E>["read"]): Raw<UntypedStreams, E | ValidationError>["events"] =>
  (entityId, options) =>
    Stream.unwrap(
      Effect.map(
        validated(() => firstPage(options)),
        (first) =>
          Stream.paginate(first, (page: ReadStreamOptions) =>
            Effect.map(read(entityId, page), (result) => [
              result.events,
              Option.fromUndefinedOr(pageAfter(page, result))
            ])
          )
      )
    )

export const nullIfMissing = <E>(info: Effect.Effect<StreamInfo, E>): Effect.Effect<StreamInfo | null, E> =>
  Effect.catch(info, (error) =>
    error instanceof StreamNotFoundError ? Effect.succeed(null) : Effect.fail(error)
  )
