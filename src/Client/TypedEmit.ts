/** Emits and appends by definition: encodes the data, and then emits or appends by name. */
import * as Effect from "effect/Effect"
import { jsonFormat, standardCodec } from "../DataCodec.ts"
import type { AppendAllInput, GivenAppendAllInput } from "../EntityStream.ts"
import { LimitExceededError, ValidationError } from "../Errors.ts"
import { type EventDefinition, isEventDefinition } from "../Event.ts"
import {
  type CodecOf,
  encodeEvent,
  validationEffect,
  type GivenEvent,
  isByDefinition,
  type EventByName
} from "../EventEncoding.ts"
import { isObject } from "../Json.ts"
import { writesAtOnce } from "../Limits.ts"
import { show } from "../Show.ts"
import { canEncode, type StandardSchemaV1 } from "../StandardSchema.ts"
import type { EffectKind, EmitApi, EmitManyEvent, EmitOptions, EmitResult } from "./Client.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { NamedAppends, StreamsService } from "./Streams.ts"

/** An event of `emitMany` by name, with encoded data. */
export interface NamedEmit extends EmitOptions {
  readonly name: string
  readonly data: unknown
}

/** Methods that emit by name, with encoded data, as servers accept it. */
interface NamedEmits<E> {
  emit(name: string, data: unknown, options?: EmitOptions): Effect.Effect<EmitResult, E>
  emitMany(events: ReadonlyArray<NamedEmit>): Effect.Effect<Array<EmitResult>, E>
}

/** The codec of an event's schema. Effect's parser is only loaded when the schema is one of Effect. */
const codecOfEvent = ({ schema }: EventDefinition): CodecOf | Promise<CodecOf> =>
  schema !== undefined && canEncode(schema)
    ? import("../EffectSchema.ts").then(({ jsonCodec }) => jsonCodec)
    : // the caller passes the schema of the event; since this schema does not encode, it is a standard schema
      (standard) => standardCodec(standard as StandardSchemaV1, jsonFormat)

/** The event with its name and encoded data. An event that was given by name is returned unchanged. */
const encodeGiven = <Given extends GivenEvent>(
  given: Given
): Effect.Effect<EventByName<Given>, ValidationError> =>
  // an event with neither definition nor name is returned unchanged too: the check of names refuses it
  isByDefinition(given)
    ? validationEffect(() => {
        const codecOf = codecOfEvent(given.event)
        return codecOf instanceof Promise
          ? codecOf.then((loadedCodecOf) => encodeEvent(given, loadedCodecOf))
          : encodeEvent(given, codecOf)
      })
    : Effect.succeed(given as Given & EventByName<Given>)

/** Makes the methods that emit by name or by definition. */
export const makeEmitMethods = <E>({
  emit,
  emitMany
}: NamedEmits<E>): Raw<Omit<EmitApi<EffectKind>, "emitSync">, E | ValidationError> => {
  const emitGiven = (event: string | EventDefinition, data: unknown, options: EmitOptions = {}) =>
    isEventDefinition(event)
      ? Effect.flatMap(encodeGiven({ event, data, version: options.version }), ({ data, name, version }) =>
          emit(name, data, { ...options, ...(version === undefined ? {} : { version }) })
        )
      : emit(event, data, options)
  return {
    emit: emitGiven,
    trigger: emitGiven,
    emitMany: (events) =>
      Effect.suspend(() => {
        const problem = problemOf(events)
        return problem === undefined
          ? Effect.flatMap(
              // the type of the list does not relate data to definitions
              Effect.forEach(events as ReadonlyArray<EmitManyEvent>, ({ event, ...rest }) =>
                encodeGiven<NamedEmit & GivenEvent>(toGivenEvent(event, rest))
              ),
              emitMany
            )
          : Effect.fail(problem)
      })
  }
}

/** Makes the methods that append by name or by definition. */
export const makeAppendMethods = <E>({
  append,
  appendAll
}: NamedAppends<E>): Raw<Pick<StreamsService, "append" | "appendAll">, E | ValidationError> => ({
  append: (entityId, input, options = {}) =>
    isByDefinition(input)
      ? Effect.flatMap(encodeGiven({ ...input, version: options.version }), ({ version, ...event }) =>
          append(entityId, event, { ...options, ...(version === undefined ? {} : { version }) })
        )
      : append(entityId, input, options),
  appendAll: (entityId, input: GivenAppendAllInput, options) =>
    Array.isArray(input?.events) && input.events.some(isByDefinition)
      ? Effect.flatMap(Effect.forEach(input.events, encodeGiven), (events) =>
          // all events have names now
          appendAll(entityId, { ...input, events } as AppendAllInput, options)
        )
      : appendAll(entityId, input as AppendAllInput, options)
})

const toGivenEvent = (
  event: string | EventDefinition,
  rest: Omit<NamedEmit, "name">
): NamedEmit & GivenEvent =>
  isEventDefinition(event) ? { ...rest, event, name: event.name } : { ...rest, name: event }

const problemOf = (events: unknown): ValidationError | undefined => {
  if (!Array.isArray(events) || events.length === 0) {
    return new ValidationError(
      `emitMany() needs an array of at least one event, such as [{ event, data }], got ${show(events)}`
    )
  }
  if (events.length > writesAtOnce) {
    return new LimitExceededError("A batch of events", events.length, writesAtOnce, "events")
  }
  const index = events.findIndex((event) => !isObject(event) || event.event === undefined)
  return index < 0
    ? undefined
    : new ValidationError(
        `emitMany(): events[${index}] must be an object such as { event: "order.placed", data }, got ${show(events[index])}`
      )
}
