/** Entity streams in the Promise face: the methods as promises, and the events of a stream for `for await`. */
import type { EffectKind, PromiseKind } from "../Client/Client.ts"
import { firstPage, pageAfter } from "../Client/StreamReading.ts"
import {
  type AsyncIterableKind,
  type ReadStreamOptions,
  type StreamEvent,
  type StreamEventsOptions,
  streamMethods,
  Streams,
  type StreamsApi
} from "../Client/Streams.ts"
import { promisify, type Rim } from "./Promisify.ts"

type Method = (typeof streamMethods)[number]
type Methods<F extends PromiseKind | EffectKind> = Pick<StreamsApi<F, AsyncIterableKind>, Method>

export const promiseStreams = <R, ER>(
  rim: Rim<R | Streams, ER>
): StreamsApi<PromiseKind, AsyncIterableKind> => {
  const methods = promisify<Methods<PromiseKind>, Methods<EffectKind>, R | Streams, ER>(
    rim,
    Streams,
    streamMethods
  )
  return {
    ...methods,
    async *events(entityId: string, options?: StreamEventsOptions): AsyncGenerator<StreamEvent, void> {
      let page: ReadStreamOptions | undefined = firstPage(options)
      while (page !== undefined) {
        const result = await methods.read(entityId, page)
        yield* result.events
        page = pageAfter(page, result)
      }
    }
  }
}
