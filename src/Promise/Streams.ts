/**
 * Entity streams in the Promise API. Methods return promises, and the events of a stream are an async
 * iterable.
 */
import * as Effect from "effect/Effect"
import type { EffectKind, PromiseKind } from "../Client/Client.ts"
import { firstPage, pageAfter } from "../Client/StreamReading.ts"
import {
  type AsyncIterableKind,
  type EntitySnapshotsApi,
  type EntityStatesApi,
  type EntityStreams,
  type EntityStreamsApi,
  type ReadStreamOptions,
  type StreamEvent,
  type StreamEventsOptions,
  streamMethods,
  Streams,
  type StreamsApi,
  type UntypedStreamsApi
} from "../Client/Streams.ts"
import type { AnyEntity } from "../Entity.ts"
import type { TypedEvent } from "../Event.ts"
import { namesOf } from "../Client/Methods.ts"
import { promisify, type RuntimeHandle } from "./Promisify.ts"

type Method = keyof typeof streamMethods
type Methods<F extends PromiseKind | EffectKind> = Pick<UntypedStreamsApi<F, AsyncIterableKind>, Method>

export const promiseStreams = <R, ER>(
  handle: RuntimeHandle<R | Streams, ER>
): StreamsApi<PromiseKind, AsyncIterableKind> => {
  const methods = promisify<Methods<PromiseKind>, Methods<EffectKind>, R | Streams, ER>(
    handle,
    Streams,
    namesOf(streamMethods)
  )
  return { ...methods, events: makeEvents(methods.read), of: (entity) => entityStreams(handle, entity) }
}

const entityMethods = ["append", "appendAll", "read", "state", "createSnapshot", "getSnapshot"] as const

type EntityMethods<F extends PromiseKind | EffectKind> = Pick<
  EntityStreamsApi<F, AsyncIterableKind, TypedEvent> &
    EntityStatesApi<F, unknown> &
    EntitySnapshotsApi<F, unknown>,
  (typeof entityMethods)[number]
>

const entityStreams = <R, ER, N extends AnyEntity>(
  handle: RuntimeHandle<R | Streams, ER>,
  entity: N
): EntityStreams<PromiseKind, AsyncIterableKind, N> => {
  let cached: EntityMethods<EffectKind> | undefined
  // at run time all methods exist, also the methods that the type for this definition leaves out
  const service = Effect.map(
    Streams,
    (streams) => (cached ??= streams.of(entity) as unknown as EntityMethods<EffectKind>)
  )
  const methods = promisify<EntityMethods<PromiseKind>, EntityMethods<EffectKind>, R | Streams, ER>(
    handle,
    service,
    entityMethods
  )
  // the codecs of the definition take and return the types that the definition declares
  return { ...methods, events: makeEvents(methods.read) } as unknown as EntityStreams<
    PromiseKind,
    AsyncIterableKind,
    N
  >
}

/** Makes the method that reads the events of a stream in pages. */
const makeEvents = <Event extends StreamEvent>(
  read: (
    entityId: string,
    options: ReadStreamOptions
  ) => Promise<{ readonly events: Array<Event>; readonly totalCount: number }>
) =>
  async function* (entityId: string, options?: StreamEventsOptions): AsyncGenerator<Event, void> {
    let page: ReadStreamOptions | undefined = firstPage(options)
    while (page !== undefined) {
      const result = await read(entityId, page)
      yield* result.events
      page = pageAfter(page, result)
    }
  }
