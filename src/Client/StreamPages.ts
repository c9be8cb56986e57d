/** What the clients of entity streams, over HTTP and in the process of an engine, have in common. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { StreamNotFoundError, type ValidationError } from "../Errors.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "./NarrowErrors.ts"
import { firstPage, pageAfter } from "./StreamReading.ts"
import type { ReadStreamOptions, StreamInfo, UntypedStreams } from "./Streams.ts"

/** Makes the method `events`, whose `Stream` reads the events of an entity page after page with `read`. */
export const makeEventsMethod =
  <E>(read: Raw<UntypedStreams, E>["read"]): Raw<UntypedStreams, E | ValidationError>["events"] =>
  (entityId, options) =>
    Stream.unwrap(
      Effect.map(
        validated(() => firstPage(options)),
        (first) =>
          Stream.paginate(first, (request: ReadStreamOptions) =>
            Effect.map(read(entityId, request), (result) => [
              result.events,
              Option.fromUndefinedOr(pageAfter(request, result))
            ])
          )
      )
    )

export const nullIfMissing = <E>(info: Effect.Effect<StreamInfo, E>): Effect.Effect<StreamInfo | null, E> =>
  Effect.catch(info, (error) =>
    error instanceof StreamNotFoundError ? Effect.succeed(null) : Effect.fail(error)
  )
