/** Emitting and appending by definition, over what knows events by their names: data is encoded before anything is sent. */
import * as Effect from "effect/Effect"
import { jsonCarrier, standardCodec } from "../DataCodec.ts"
import type { AppendAllInput, GivenAppendAllInput } from "../EntityStream.ts"
import { LimitExceededError, ValidationError } from "../Errors.ts"
import { type EventDefinition, isEventDefinition } from "../Event.ts"
import {
  type CodecOf,
  encodeEvent,
  fromValidation,
  type GivenEvent,
  isDefined,
  type Named
} from "../EventEncoding.ts"
import { isObject } from "../Json.ts"
import { writesAtOnce } from "../Limits.ts"
import { show } from "../Show.ts"
import { canEncode, type StandardSchemaV1 } from "../StandardSchema.ts"
import type { EffectKind, EmitApi, EmitManyEvent, EmitOptions, EmitResult } from "./Client.ts"
import type { Raw } from "./Named.ts"
import type { NamedAppends, StreamsService } from "./Streams.ts"

/** An event of `emitMany` by its name, with its data as it is stored. */
export interface NamedEmit extends EmitOptions {
  readonly name: string
  readonly data: unknown
}

/** Emitting by name, with data as it is stored: what a server is asked. */
interface NamedEmits<E> {
  emit(name: string, data: unknown, options?: EmitOptions): Effect.Effect<EmitResult, E>
  emitMany(events: ReadonlyArray<NamedEmit>): Effect.Effect<Array<EmitResult>, E>
}

/** The codec of the schema. Effect's parser is loaded with the first Effect schema: programs without one do without it. */
const codecOfEvent = ({ schema }: EventDefinition): CodecOf | Promise<CodecOf> =>
  schema !== undefined && canEncode(schema)
    ? import("../EffectSchema.ts").then(({ jsonCodec }) => jsonCodec)
    : // the schema that it is given is the one that was just looked at
      (standard) => standardCodec(standard as StandardSchemaV1, jsonCarrier)

/** The event by its name, with its data encoded; as it is when it was given by its name. */
const named = <Given extends GivenEvent>(given: Given): Effect.Effect<Named<Given>, ValidationError> =>
  // what has no name either is refused with all other names that are none
  isDefined(given)
    ? fromValidation(() => {
        const codecOf = codecOfEvent(given.event)
        return codecOf instanceof Promise
          ? codecOf.then((loaded) => encodeEvent(given, loaded))
          : encodeEvent(given, codecOf)
      })
    : Effect.succeed(given as Given & Named<Given>)

/** What emits by name or definition. */
export const emitsOf = <E>({
  emit,
  emitMany
}: NamedEmits<E>): Raw<Omit<EmitApi<EffectKind>, "emitSync">, E | ValidationError> => {
  const emitGiven = (event: string | EventDefinition, data: unknown, options: EmitOptions = {}) =>
    isEventDefinition(event)
      ? Effect.flatMap(named({ event, data, version: options.version }), ({ data, name, version }) =>
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
              // which definition goes with which data is between the event and its data
              Effect.forEach(events as ReadonlyArray<EmitManyEvent>, ({ event, ...rest }) =>
                named<NamedEmit & GivenEvent>(givenBy(event, rest))
              ),
              emitMany
            )
          : Effect.fail(problem)
      })
  }
}

/** What appends by name or definition. */
export const appendsOf = <E>({
  append,
  appendAll
}: NamedAppends<E>): Raw<Pick<StreamsService, "append" | "appendAll">, E | ValidationError> => ({
  append: (entityId, input, options = {}) =>
    isDefined(input)
      ? Effect.flatMap(named({ ...input, version: options.version }), ({ version, ...event }) =>
          append(entityId, event, { ...options, ...(version === undefined ? {} : { version }) })
        )
      : append(entityId, input, options),
  appendAll: (entityId, input: GivenAppendAllInput, options) =>
    Array.isArray(input?.events) && input.events.some(isDefined)
      ? Effect.flatMap(Effect.forEach(input.events, named), (events) =>
          // each of them by its name now
          appendAll(entityId, { ...input, events } as AppendAllInput, options)
        )
      : appendAll(entityId, input as AppendAllInput, options)
})

const givenBy = (event: string | EventDefinition, rest: Omit<NamedEmit, "name">): NamedEmit & GivenEvent =>
  isEventDefinition(event) ? { ...rest, event, name: event.name } : { ...rest, name: event }

const problemOf = (events: unknown): ValidationError | undefined => {
  if (!Array.isArray(events) || events.length === 0) {
    return new ValidationError("emitMany() needs an array of at least one event, such as [{ event, data }]")
  }
  if (events.length > writesAtOnce) {
    return new LimitExceededError("A batch of events", events.length, writesAtOnce, "events")
  }
  const at = events.findIndex((event) => !isObject(event) || event.event === undefined)
  return at < 0
    ? undefined
    : new ValidationError(
        `emitMany(): events[${at}] must be an object such as { event: "order.placed", data }, got ${show(events[at])}`
      )
}
