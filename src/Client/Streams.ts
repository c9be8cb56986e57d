/**
 * Entity streams: append the events of an entity, and read them back. With optimistic concurrency, only one
 * of two writers that have seen the same version can append.
 *
 * An appended event is also an event of the common log, like an emitted one: the transaction that stores it starts
 * functions and ends waits.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import type { AnyEntity } from "../Entity.ts"
import type {
  AppendAllInput,
  AppendConditions,
  AppendEventInput,
  DefinedAppendAllInput,
  DefinedAppendInput,
  EntityEvent,
  NewEntityEvent,
  StreamEvent
} from "../EntityStream.ts"
import type {
  InvalidStateError,
  StreamNotFoundError,
  StreamSchemaError,
  VersionConflictError
} from "../Errors.ts"
import type { EventDefinition, TypedEvent } from "../Event.ts"
import type {
  AppendAllResult,
  AppendResult,
  CreateSnapshotResult,
  ListStreamsResult,
  ReadStreamResult,
  StreamInfo,
  StreamSnapshot
} from "../Protocol/Streams.ts"
import type { AnySchema } from "../StandardSchema.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { checkAppendAllKeys, checkAppendKeys } from "../Protocol/AppendOptionKeys.ts"
import { idArguments, callKeys, type Methods, type StreamMethods } from "./Methods.ts"

export type {
  AppendAllInput,
  AppendEventInput,
  DefinedAppendAllInput,
  DefinedAppendInput,
  DefinedStreamEvent,
  EntityEvent,
  NewEntityEvent,
  StreamEvent,
  StreamEventInput
} from "../EntityStream.ts"
export type {
  AppendAllResult,
  AppendResult,
  CreateSnapshotResult,
  ListStreamsResult,
  ReadStreamResult,
  StreamInfo,
  StreamSnapshot,
  StreamSummary
} from "../Protocol/Streams.ts"
export type { ExpectedVersion } from "../ExpectedVersion.ts"

/** The Effect kind of a sequence: a `Stream`. */
export interface EffectStreamKind extends HKT.TypeLambda {
  /** A `Stream` of `Target` that may fail with `Out1`. */
  readonly type: Stream.Stream<this["Target"], this["Out1"]>
}

/** The Promise kind of a sequence: an `AsyncIterable`, for `for await`. */
export interface AsyncIterableKind extends HKT.TypeLambda {
  /** An `AsyncIterable` of `Target`. */
  readonly type: AsyncIterable<this["Target"]>
}

/** Options of `append`. */
export interface AppendOptions extends AppendConditions {
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** A JSON object that is stored with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** Options of `appendAll`. */
export interface AppendAllOptions extends AppendConditions {}

/** Options of `read`. */
export interface ReadStreamOptions {
  /**
   * The first version to read, inclusive. Without it, or with 0, reading starts at the first event, or at the last
   * event when reading backward.
   */
  readonly fromVersion?: number
  /** Maximum number of events to read; all by default, or with 0. */
  readonly limit?: number
  /** `"forward"` by default: the oldest first. */
  readonly direction?: "forward" | "backward"
}

/** Options of `events`. */
export interface StreamEventsOptions {
  /**
   * The first version to read, inclusive. Without it, reading starts at the first event, or at the last event when
   * reading backward.
   */
  readonly fromVersion?: number
  /** `"forward"` by default: the oldest first. */
  readonly direction?: "forward" | "backward"
  /** Events per page, 1 to 1000; 100 by default. */
  readonly pageSize?: number
}

/** Options of `listStreams`. */
export interface ListStreamsOptions {
  /** Streams of this type only; of all types by default. */
  readonly entityType?: string
  /** Streams per page; 50 by default, 1000 at most. */
  readonly limit?: number
  /** Number of streams to skip; 0 by default. */
  readonly offset?: number
}

/** A snapshot to store for a stream. */
export interface CreateSnapshotInput {
  /** The type of the entity; it must be that of the stream. */
  readonly entityType: string
  /** The version of the last event in the state. */
  readonly entityVersion: number
  /** Any JSON value, up to 4 MiB. */
  readonly state: unknown
}

/** Options of `getSnapshot`. */
export interface GetSnapshotOptions {
  /** Returns the newest snapshot below this version. By default, or with 0, returns the newest of all. */
  readonly beforeVersion?: number
}

/** Data of an unknown type. In the Promise API it is documented to be `any`. */
// oxlint-disable-next-line typescript/no-explicit-any -- documented for the Promise API
type UnknownData<F extends HKT.TypeLambda> = F extends PromiseKind ? any : unknown

/** Errors of an append. */
export type AppendError = VersionConflictError | InvalidStateError | ClientError

/** The methods of `client.streams` for untyped events. `F` is the API kind, and `S` the kind of sequences. */
export interface UntypedStreamsApi<F extends HKT.TypeLambda, S extends HKT.TypeLambda> {
  /**
   * Appends an event to the stream of an entity. The event is durable when the call returns. Fails with
   * `VersionConflictError` when the stream is not at `expectedVersion`, and with `InvalidStateError` when the
   * entity has another type. With a definition (`event` in place of `name`), the data is typed, checked and
   * encoded.
   *
   * ```ts
   * await client.streams.append(
   *   "order-1",
   *   { name: "item.added", data: { sku: "ABC" }, entityType: "order" },
   *   { expectedVersion: 3 }
   * )
   * ```
   */
  append<D extends EventDefinition = never>(
    entityId: string,
    input: AppendEventInput | DefinedAppendInput<D>,
    options?: Options<F, AppendOptions>
  ): Kind<F, AppendResult, AppendError>
  /**
   * Appends several events to the stream of an entity in one transaction, with consecutive versions.
   *
   * ```ts
   * await client.streams.appendAll(
   *   "order-1",
   *   { entityType: "order", events: [{ name: "item.added", data: { sku: "ABC" } }, { name: "order.closed", data: {} }] },
   *   { expectedVersion: 3 }
   * )
   * ```
   */
  appendAll<const L extends ReadonlyArray<unknown> = ReadonlyArray<unknown>>(
    entityId: string,
    input: DefinedAppendAllInput<L>,
    options?: Options<F, AppendAllOptions>
  ): Kind<F, AppendAllResult, AppendError>
  /** Reads events of a stream. A stream that does not exist has no events. */
  read(
    entityId: string,
    options?: Options<F, ReadStreamOptions>
  ): Kind<F, ReadStreamResult<UnknownData<F>>, ClientError>
  /** Reads all events of a stream, one by one. Requests them in pages. */
  events(
    entityId: string,
    options?: Options<F, StreamEventsOptions>
  ): Kind<S, StreamEvent<UnknownData<F>>, ClientError>
  /**
   * Returns the size and type of a stream. Fails with `StreamNotFoundError` when the stream has no events.
   */
  getInfo(entityId: string, ...options: CallArgs<F>): Kind<F, StreamInfo, StreamNotFoundError | ClientError>
  /** Does what `getInfo` does, but returns `null` when the stream has no events. */
  findInfo(entityId: string, ...options: CallArgs<F>): Kind<F, StreamInfo | null, ClientError>
  /** Lists the streams of the environment, sorted by entity id, a page at a time. */
  listStreams(options?: Options<F, ListStreamsOptions>): Kind<F, ListStreamsResult, ClientError>
  /**
   * Stores a snapshot: the state of an entity at a version, so that the state need not be computed from the
   * first event on. The snapshot replaces an earlier one of the same version.
   */
  createSnapshot(
    entityId: string,
    input: CreateSnapshotInput,
    ...options: CallArgs<F>
  ): Kind<F, CreateSnapshotResult, StreamNotFoundError | InvalidStateError | ClientError>
  /** Returns the newest snapshot of an entity, or `undefined` when there is none. */
  getSnapshot(
    entityId: string,
    options?: Options<F, GetSnapshotOptions>
  ): Kind<F, StreamSnapshot | undefined, ClientError>
}

/** The methods of `client.streams`. `F` is the API kind, and `S` the kind of sequences. */
export interface StreamsApi<F extends HKT.TypeLambda, S extends HKT.TypeLambda> extends UntypedStreamsApi<
  F,
  S
> {
  /**
   * Returns the typed streams of an entity that `defineEntity` describes. The events are typed, encoded and
   * decoded by the event definitions of the entity. Calls fail with `StreamSchemaError` when an event does not match.
   */
  of<N extends AnyEntity>(entity: N): EntityStreams<F, S, N>
}

/** The result of `read` of a defined entity. */
export interface ReadEntityResult<D extends TypedEvent> {
  /** The events in the requested order, typed by their definitions. */
  readonly events: Array<EntityEvent<D>>
  /** The number of events in the stream, read or not; 0 when the stream does not exist. */
  readonly totalCount: number
}

type ReadError = StreamSchemaError | ClientError

/** The typed streams of the entities of one definition. */
export interface EntityStreamsApi<F extends HKT.TypeLambda, S extends HKT.TypeLambda, D extends TypedEvent> {
  /**
   * Appends an event; see {@link StreamsApi}`.append`. The type of the entity and the version of the event
   * come from the definitions.
   */
  append(
    entityId: string,
    event: NewEntityEvent<D>,
    options?: Options<F, AppendAllOptions>
  ): Kind<F, AppendResult, StreamSchemaError | AppendError>
  /**
   * Appends several events in one transaction, with consecutive versions.
   *
   * ```ts
   * await orders.appendAll("order-1", [{ name: "item.added", data: { qty: 2 } }], { expectedVersion: 0 })
   * ```
   */
  appendAll(
    entityId: string,
    events: ReadonlyArray<NewEntityEvent<D>>,
    options?: Options<F, AppendAllOptions>
  ): Kind<F, AppendAllResult, StreamSchemaError | AppendError>
  /** Reads events of a stream. Erased events are left out. A stream that does not exist has no events. */
  read(entityId: string, options?: Options<F, ReadStreamOptions>): Kind<F, ReadEntityResult<D>, ReadError>
  /** Reads all events of a stream, one by one. Requests them in pages. Erased events are left out. */
  events(entityId: string, options?: Options<F, StreamEventsOptions>): Kind<S, EntityEvent<D>, ReadError>
}

/** The state of an entity at a version. */
export interface EntityState<State> {
  /** The state after the last event that was read. */
  readonly state: State
  /**
   * Version of the newest event in the state, to pass as `expectedVersion` of an append; 0 when the stream
   * does not exist.
   */
  readonly entityVersion: number
}

/** Options of `state`. */
export interface EntityStateOptions {
  /** Whether to start from the newest snapshot, if the definition has a `snapshot`; `true` by default. */
  readonly fromSnapshot?: boolean
}

/** The methods that exist when the definition has `evolve`. */
export interface EntityStatesApi<F extends HKT.TypeLambda, State> {
  /**
   * Returns the state of an entity: its events are folded by `evolve`, from the newest snapshot on if there
   * is one, unless `fromSnapshot` is `false`. Erased events are left out.
   */
  state(entityId: string, options?: Options<F, EntityStateOptions>): Kind<F, EntityState<State>, ReadError>
}

/** The methods that exist when the definition has `snapshot`. */
export interface EntitySnapshotsApi<F extends HKT.TypeLambda, State> {
  /**
   * Stores a snapshot, so that `state` need not begin with the first event. The snapshot replaces an earlier one of
   * the same version.
   */
  createSnapshot(
    entityId: string,
    snapshot: EntityState<State>,
    ...options: CallArgs<F>
  ): Kind<F, CreateSnapshotResult, StreamSchemaError | StreamNotFoundError | InvalidStateError | ClientError>
  /** Returns the newest snapshot of an entity, or `undefined` when there is none. */
  getSnapshot(
    entityId: string,
    options?: Options<F, GetSnapshotOptions>
  ): Kind<F, StreamSnapshot<State> | undefined, ReadError>
}

/** What `streams.of(entity)` returns. */
export type EntityStreams<
  F extends HKT.TypeLambda,
  S extends HKT.TypeLambda,
  N extends AnyEntity
> = EntityStreamsApi<F, S, N["events"][number]> &
  (N extends { readonly evolve: (state: never, event: never) => infer State }
    ? EntityStatesApi<F, State> &
        (N extends { readonly snapshot: AnySchema } ? EntitySnapshotsApi<F, State> : unknown)
    : unknown)

const appendKeys = { ...callKeys, expectedVersion: true, idempotencyKey: true } as const
const readKeys = { ...callKeys, fromVersion: true, direction: true } as const
const appendErrors = { VersionConflictError: true, InvalidStateError: true } as const

const appendCheck = Object.assign(checkAppendKeys.bind(undefined), {
  example: "{ name, data, entityType }"
})
const appendAllCheck = Object.assign(checkAppendAllKeys.bind(undefined), {
  example: "{ entityType, events: [{ name, data }] }"
})

/** Names, options and errors of the methods that return an `Effect`. */
export const streamMethods: Methods<
  Omit<UntypedStreamsApi<PromiseKind, AsyncIterableKind>, "events">,
  UntypedStreams
> = {
  append: [[null, appendCheck, { ...appendKeys, version: true, metadata: true }], appendErrors],
  appendAll: [[null, appendAllCheck, appendKeys], appendErrors],
  read: [[null, { ...readKeys, limit: true }]],
  getInfo: [idArguments, { StreamNotFoundError: true }],
  findInfo: [idArguments],
  listStreams: [[{ ...callKeys, entityType: true, limit: true, offset: true }]],
  createSnapshot: [
    [null, { entityType: true, entityVersion: true, state: true }, callKeys],
    { StreamNotFoundError: true, InvalidStateError: true }
  ],
  getSnapshot: [[null, { ...callKeys, beforeVersion: true }]]
}
/** Name, options and errors of `events`. */
export const streamEvents: StreamMethods<Pick<UntypedStreams, "events">> = {
  events: [[null, { ...readKeys, pageSize: true }]]
}

/** Entity streams, as Effects. */
export type StreamsService = StreamsApi<EffectKind, EffectStreamKind>
/** Entity streams without definitions, as Effects. */
export type UntypedStreams = UntypedStreamsApi<EffectKind, EffectStreamKind>

/** Appends events by their names, with encoded data, as servers accept them. */
export interface NamedAppends<E> {
  /**
   * Appends one event by name.
   *
   * ```ts
   * streams.append("order-1", { name: "item.added", data: { qty: 2 }, entityType: "order" }, { expectedVersion: 0 })
   * ```
   */
  append(entityId: string, input: AppendEventInput, options?: AppendOptions): Effect.Effect<AppendResult, E>
  /**
   * Appends several events by name, in one transaction.
   *
   * ```ts
   * streams.appendAll("order-1", { entityType: "order", events: [{ name: "order.closed", data: {} }] }, { expectedVersion: 1 })
   * ```
   */
  appendAll(
    entityId: string,
    input: AppendAllInput,
    options?: AppendAllOptions
  ): Effect.Effect<AppendAllResult, E>
}

/** Entity streams as an Effect service. */
export class Streams extends Context.Service<Streams, StreamsService>()("@ironflow/node/Streams") {}

/** The option of everything that reads events. */
export interface ReadingOptions {
  /** Upcasts the data of events to the latest version when they are read. */
  readonly eventDefinitions?: EventDefinitionRegistry | undefined
}
