/** Reads the log of events and messages. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreError } from "../../Errors.ts"
import { Store } from "../Store/Store.ts"
import * as EventSearch from "./EventSearch.ts"
import * as IdempotencySweep from "./IdempotencySweep.ts"
import type { EventQuery, FoundEvent, FoundEvents } from "./LogRecords.ts"

export interface LogService {
  /** A page of events, without those that the caller may not see (`maySee`). */
  readonly list: (
    query: EventQuery,
    maySee?: (event: FoundEvent) => boolean
  ) => Effect.Effect<FoundEvents, StoreError>
  /** The event with this id; `undefined` when there is none. */
  readonly get: (environment: string, eventId: string) => Effect.Effect<FoundEvent | undefined, StoreError>
  /** The position in the log of the event with this id; `undefined` when there is none. */
  readonly positionOf: (environment: string, eventId: string) => Effect.Effect<number | undefined, StoreError>
}

export class Log extends Context.Service<Log, LogService>()("@ironflow/node/Engine/Log") {}

export const layer: Layer.Layer<Log, never, Store> = Layer.effect(
  Log,
  Effect.gen(function* () {
    const store = yield* Store
    yield* IdempotencySweep.make(store)
    return {
      list: (query, maySee) => EventSearch.listEvents(store, query, maySee),
      get: (environment, eventId) => store.read(EventSearch.getEvent(environment, eventId)),
      positionOf: (environment, eventId) => store.read(EventSearch.findEvent(environment, eventId))
    }
  })
)
