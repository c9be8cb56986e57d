/** Entity streams that are typed by an entity definition, on top of the untyped streams. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { jsonFormat } from "../DataCodec.ts"
import type { AnyEntity } from "../Entity.ts"
import {
  definitionOf,
  definitionForAppend,
  type GivenEntityEvent,
  readMismatch,
  appendMismatch,
  toAppendInput
} from "../EntityDefinitions.ts"
import { isErased } from "../Erased.ts"
import { StreamSchemaError, ValidationError } from "../Errors.ts"
import type { TypedEvent } from "../Event.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { type ClientCodec, clientCodec } from "./ClientCodec.ts"
import type { EffectKind, Options, PromiseKind } from "./Client.ts"
import { validated } from "../CheckAsEffect.ts"
import type {
  AppendAllOptions,
  EffectStreamKind,
  EntitySnapshotsApi,
  EntityState,
  EntityStateOptions,
  EntityStatesApi,
  EntityStreamsApi,
  StreamEvent,
  StreamEventInput,
  StreamsService,
  UntypedStreams
} from "./Streams.ts"

/** Makes the service: the untyped streams, with `of` for typed ones. */
export const typedStreams = (streams: UntypedStreams): StreamsService => {
  const of = (entity: AnyEntity): AllMethods => {
    const { eventsWithErased, ...methods } = entityStreams(streams, entity)
    return { ...methods, ...entityStates(streams, eventsWithErased, entity) }
  }
  // at run time `of` makes all methods; its type has only those that the definition allows
  return { ...streams, of: of as unknown as StreamsService["of"] }
}

type EventMethods = EntityStreamsApi<EffectKind, EffectStreamKind, TypedEvent>
type StateMethods = EntityStatesApi<EffectKind, unknown> & EntitySnapshotsApi<EffectKind, unknown>
type AllMethods = EventMethods & StateMethods

const stateKeys = { signal: true, fromSnapshot: true } satisfies Keys<
  Options<PromiseKind, EntityStateOptions>
>

/** `eventsWithErased` reads like `events`, but includes erased events, whose data matches no definition. */
const entityStreams = (
  streams: UntypedStreams,
  entity: AnyEntity
): EventMethods & { readonly eventsWithErased: EventMethods["events"] } => {
  const codecs = new Map<string, ClientCodec>()
  const codecOf = ({ name, schema }: TypedEvent): ClientCodec => {
    let codec = codecs.get(name)
    if (codec === undefined) {
      codecs.set(name, (codec = clientCodec(schema, jsonFormat, `The schema of event "${name}"`)))
    }
    return codec
  }

  const encode = (entityId: string, event: GivenEntityEvent) =>
    Effect.flatMap(
      validated(() => definitionForAppend(entity, entityId, event)),
      (definition) =>
        Effect.map(
          codecOf(definition).encode(
            event.data,
            `Data of event "${definition.name}" for entity "${entityId}"`,
            appendMismatch(entityId, definition.name)
          ),
          (data) => toAppendInput(definition, event, data)
        )
    )
  const decode = (entityId: string, event: StreamEvent) =>
    isErased(event.data) ? Effect.succeed(event) : decodeData(entityId, event)
  const decodeData = (entityId: string, event: StreamEvent) =>
    Effect.flatMap(
      validated(() => definitionOf(entity, entityId, event.name, event.entityVersion)),
      (definition) =>
        Effect.map(
          codecOf(definition).decode(event.data, readMismatch(entityId, definition, event)),
          (data): StreamEvent => ({ ...event, data })
        )
    )

  const eventsWithErased: EventMethods["events"] = (entityId, options) =>
    Stream.mapEffect(streams.events(entityId, options), (event) => decode(entityId, event))

  return {
    eventsWithErased,
    append: (entityId, event, options?: AppendAllOptions) =>
      Effect.flatMap(encode(entityId, event), ({ data, name, ...more }) =>
        streams.append(entityId, { name, data, entityType: entity.type }, { ...options, ...more })
      ),
    appendAll: (entityId, events, options) =>
      Effect.flatMap(
        Array.isArray(events)
          ? Effect.forEach(
              events as ReadonlyArray<GivenEntityEvent>,
              (event): Effect.Effect<StreamEventInput, ValidationError> => encode(entityId, event)
            )
          : // the untyped streams refuse a value that is no array
            Effect.succeed<ReadonlyArray<StreamEventInput>>(events),
        (encoded) => streams.appendAll(entityId, { entityType: entity.type, events: encoded }, options)
      ),
    read: (entityId, options) =>
      Effect.flatMap(streams.read(entityId, options), ({ events, totalCount }) =>
        Effect.map(
          Effect.forEach(events, (event) => decode(entityId, event)),
          (decoded) => ({ events: decoded.filter(isNotErased), totalCount })
        )
      ),
    events: (entityId, options) => Stream.filter(eventsWithErased(entityId, options), isNotErased)
  }
}

const isNotErased = ({ data }: { readonly data: unknown }): boolean => !isErased(data)

const entityStates = (
  streams: UntypedStreams,
  eventsWithErased: EventMethods["events"],
  entity: AnyEntity
): StateMethods => {
  const codec =
    entity.snapshot === undefined
      ? undefined
      : clientCodec(entity.snapshot, jsonFormat, `\`snapshot\` of entity "${entity.type}"`)
  // `define` makes sure that an entity has both `initialState` and `evolve`, or neither
  const evolve = entity.evolve as ((state: unknown, event: StreamEvent) => unknown) | undefined
  const unavailable = (method: string, what: string) =>
    Effect.fail(
      new ValidationError(
        `streams.of(...).${method}() does not exist: the definition of entity "${entity.type}" has no ${what}`
      )
    )
  const misfit = (entityId: string, version?: number) => (problems: ReadonlyArray<string>, cause: unknown) =>
    new StreamSchemaError(entityId, undefined, version, problems, { cause })

  const getSnapshot: StateMethods["getSnapshot"] = (entityId, options) => {
    if (codec === undefined) return unavailable("getSnapshot", "`snapshot`")
    return Effect.flatMap(streams.getSnapshot(entityId, options), (snapshot) =>
      snapshot === undefined
        ? Effect.succeed(undefined)
        : Effect.map(codec.decode(snapshot.state, misfit(entityId, snapshot.entityVersion)), (state) => ({
            ...snapshot,
            state
          }))
    )
  }

  return {
    getSnapshot,
    createSnapshot: (entityId, { entityVersion, state }, ...options) =>
      codec === undefined
        ? unavailable("createSnapshot", "`snapshot`")
        : Effect.flatMap(
            codec.encode(state, `Snapshot of entity "${entityId}"`, misfit(entityId)),
            (encoded) =>
              streams.createSnapshot(
                entityId,
                { entityType: entity.type, entityVersion, state: encoded },
                ...options
              )
          ),
    state: (entityId, options = {}) =>
      Effect.gen(function* () {
        yield* validated(() => checkKeys(options, stateKeys, "streams.of(...).state()"))
        if (evolve === undefined) return yield* unavailable("state", "`evolve`")
        const snapshot =
          codec === undefined || options.fromSnapshot === false ? undefined : yield* getSnapshot(entityId)
        const start: EntityState<unknown> = snapshot ?? { state: entity.initialState?.(), entityVersion: 0 }
        return yield* Stream.runFold(
          eventsWithErased(entityId, { fromVersion: start.entityVersion + 1, pageSize: 1000 }),
          (): EntityState<unknown> => ({ state: start.state, entityVersion: start.entityVersion }),
          ({ state }, event) => ({
            state: isNotErased(event) ? evolve(state, event) : state,
            entityVersion: event.entityVersion
          })
        )
      })
  }
}
