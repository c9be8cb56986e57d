/**
 * Entity streams: append the events of an entity, read them back, and let of two writers that saw the same version only one
 * win.
 *
 * An appended event is an event of the one log: it starts functions and satisfies waits in the transaction that stores it.
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
import { checkAppendAllKeys, checkAppendKeys } from "../Protocol/AppendKeys.ts"
import { byId, call, type Methods, type StreamMethods } from "./Methods.ts"

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

/** The Effect reading of many results: a `Stream`. */
export interface EffectStreamKind extends HKT.TypeLambda {
  /** The reading of a call that gives many of `Target` and fails with `Out1`. */
  readonly type: Stream.Stream<this["Target"], this["Out1"]>
}

/** The Promise reading of many results: for `for await`. */
export interface AsyncIterableKind extends HKT.TypeLambda {
  /** The reading of a call that gives many of `Target`. */
  readonly type: AsyncIterable<this["Target"]>
}

/** Options of `append`. */
export interface AppendOptions extends AppendConditions {
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** An object of JSON that is kept with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** Options of `appendAll`. */
export interface AppendAllOptions extends AppendConditions {}

/** Options of `read`. */
export interface ReadStreamOptions {
  /** From this version on, itself included. Without it, or with 0: from the first event, or backwards from the last. */
  readonly fromVersion?: number
  /** At most so many events; all by default, or with 0. */
  readonly limit?: number
  /** `"forward"` by default: the oldest first. */
  readonly direction?: "forward" | "backward"
}

/** Options of `events`. */
export interface StreamEventsOptions {
  /** From this version on, itself included; from the first event, or backwards from the last, by default. */
  readonly fromVersion?: number
  /** `"forward"` by default: the oldest first. */
  readonly direction?: "forward" | "backward"
  /** Events that are read at once, 1 to 1000; 100 by default. */
  readonly pageSize?: number
}

/** Options of `listStreams`. */
export interface ListStreamsOptions {
  /** Streams of this type only; of all types by default. */
  readonly entityType?: string
  /** 50 by default, 1000 at most. */
  readonly limit?: number
  /** How many to leave out at the beginning; 0 by default. */
  readonly offset?: number
}

/** A state to be kept beside a stream. */
export interface CreateSnapshotInput {
  /** The type of the entity, which has to be that of its stream. */
  readonly entityType: string
  /** The version of the last event that is in the state. */
  readonly entityVersion: number
  /** Anything that JSON can carry, up to 4 MiB. */
  readonly state: unknown
}

/** Options of `getSnapshot`. */
export interface GetSnapshotOptions {
  /** The newest snapshot below this version; the newest of all by default, or with 0. */
  readonly beforeVersion?: number
}

/** Data of which nothing is known: `any` on the Promise face, as documented. */
// oxlint-disable-next-line typescript/no-explicit-any -- the Promise face is documented so
type UnknownData<F extends HKT.TypeLambda> = F extends PromiseKind ? any : unknown

/** What may go wrong in an append. */
export type AppendError = VersionConflictError | InvalidStateError | ClientError

/**
 * The methods of `client.streams` for events of which nothing is known, in the reading `F`, and for many results in the
 * reading `S`.
 */
export interface UntypedStreamsApi<F extends HKT.TypeLambda, S extends HKT.TypeLambda> {
  /**
   * Appends an event to the stream of an entity; durable when it returns. `VersionConflictError` when the stream is not at
   * `expectedVersion`, `InvalidStateError` when the entity is of another type. A definition (`event` in place of `name`) types the
   * data, and its schema checks and encodes it.
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
   * Appends several events to the stream of an entity at once: all or none, one version after the other.
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
  /** Reads events of a stream. A stream that does not exist has none. */
  read(
    entityId: string,
    options?: Options<F, ReadStreamOptions>
  ): Kind<F, ReadStreamResult<UnknownData<F>>, ClientError>
  /** The events of a stream one after the other, however many: they are read in pages. */
  events(
    entityId: string,
    options?: Options<F, StreamEventsOptions>
  ): Kind<S, StreamEvent<UnknownData<F>>, ClientError>
  /** `StreamNotFoundError` when nothing was ever appended to the stream. */
  getInfo(entityId: string, ...options: CallArgs<F>): Kind<F, StreamInfo, StreamNotFoundError | ClientError>
  /** As `getInfo`, but `null` when nothing was ever appended to the stream. */
  findInfo(entityId: string, ...options: CallArgs<F>): Kind<F, StreamInfo | null, ClientError>
  /** The streams of the environment, by entity id, a page at a time. */
  listStreams(options?: Options<F, ListStreamsOptions>): Kind<F, ListStreamsResult, ClientError>
  /**
   * Keeps the state of an entity at a version, so that it need not be computed from the first event again. Another one for
   * the same version replaces it.
   */
  createSnapshot(
    entityId: string,
    input: CreateSnapshotInput,
    ...options: CallArgs<F>
  ): Kind<F, CreateSnapshotResult, StreamNotFoundError | InvalidStateError | ClientError>
  /** The newest snapshot of an entity, or `undefined` when there is none. */
  getSnapshot(
    entityId: string,
    options?: Options<F, GetSnapshotOptions>
  ): Kind<F, StreamSnapshot | undefined, ClientError>
}

/** The methods of `client.streams`, in the readings `F` and `S`. */
export interface StreamsApi<F extends HKT.TypeLambda, S extends HKT.TypeLambda> extends UntypedStreamsApi<
  F,
  S
> {
  /**
   * The streams of the entities that `defineEntity` describes: events are typed, encoded and decoded by their definitions, and
   * fail with `StreamSchemaError` when they do not fit.
   */
  of<N extends AnyEntity>(entity: N): EntityStreams<F, S, N>
}

/** What `read` of a defined entity gives. */
export interface ReadEntityResult<D extends TypedEvent> {
  /** The events, in the order that was asked for, with data of their definitions. */
  readonly events: Array<EntityEvent<D>>
  /** Events in the stream, read or not; 0 when there is no such stream. */
  readonly totalCount: number
}

type ReadError = StreamSchemaError | ClientError

/** The streams of the entities of one definition. */
export interface EntityStreamsApi<F extends HKT.TypeLambda, S extends HKT.TypeLambda, D extends TypedEvent> {
  /** Appends an event; see {@link StreamsApi}`.append`. Entity type and version are those of the definitions. */
  append(
    entityId: string,
    event: NewEntityEvent<D>,
    options?: Options<F, AppendAllOptions>
  ): Kind<F, AppendResult, StreamSchemaError | AppendError>
  /**
   * Appends several events at once: all or none, one version after the other.
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
  /** Reads events of a stream, without those that were erased. A stream that does not exist has none. */
  read(entityId: string, options?: Options<F, ReadStreamOptions>): Kind<F, ReadEntityResult<D>, ReadError>
  /** The events of a stream one after the other, however many: they are read in pages. */
  events(entityId: string, options?: Options<F, StreamEventsOptions>): Kind<S, EntityEvent<D>, ReadError>
}

/** What an entity is after the event of a version. */
export interface EntityState<State> {
  /** The state after the last event that was read. */
  readonly state: State
  /** Of the newest event in the state, for the `expectedVersion` of an append; 0 when there is no stream yet. */
  readonly entityVersion: number
}

/** Options of `state`. */
export interface EntityStateOptions {
  /** Whether to begin with the newest snapshot, where the definition has a `snapshot`; `true` by default. */
  readonly fromSnapshot?: boolean
}

/** What is there besides when the definition has an `evolve`. */
export interface EntityStatesApi<F extends HKT.TypeLambda, State> {
  /** The state of an entity: its events folded by `evolve`, from the newest snapshot on if there are some. */
  state(entityId: string, options?: Options<F, EntityStateOptions>): Kind<F, EntityState<State>, ReadError>
}

/** What is there besides when the definition has a `snapshot`. */
export interface EntitySnapshotsApi<F extends HKT.TypeLambda, State> {
  /** Keeps a state, so that `state` need not begin with the first event. Another one for the same version replaces it. */
  createSnapshot(
    entityId: string,
    snapshot: EntityState<State>,
    ...options: CallArgs<F>
  ): Kind<F, CreateSnapshotResult, StreamSchemaError | StreamNotFoundError | InvalidStateError | ClientError>
  /** The newest snapshot of an entity, or `undefined` when there is none. */
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

const append = { ...call, expectedVersion: true, idempotencyKey: true } as const
const read = { ...call, fromVersion: true, direction: true } as const
const appended = { VersionConflictError: true, InvalidStateError: true } as const

/** Those with one result. */
export const streamMethods: Methods<
  Omit<UntypedStreamsApi<PromiseKind, AsyncIterableKind>, "events">,
  UntypedStreams
> = {
  append: [[null, checkAppendKeys, { ...append, version: true, metadata: true }], appended],
  appendAll: [[null, checkAppendAllKeys, append], appended],
  read: [[null, { ...read, limit: true }]],
  getInfo: [byId, { StreamNotFoundError: true }],
  findInfo: [byId],
  listStreams: [[{ ...call, entityType: true, limit: true, offset: true }]],
  createSnapshot: [
    [null, { entityType: true, entityVersion: true, state: true }, call],
    { StreamNotFoundError: true, InvalidStateError: true }
  ],
  getSnapshot: [[null, { ...call, beforeVersion: true }]]
}
/** How events are read one by one. */
export const streamEvents: StreamMethods<Pick<UntypedStreams, "events">> = {
  events: [[null, { ...read, pageSize: true }]]
}

/** Entity streams, as Effects. */
export type StreamsService = StreamsApi<EffectKind, EffectStreamKind>
/** Entity streams without definitions, as Effects. */
export type UntypedStreams = UntypedStreamsApi<EffectKind, EffectStreamKind>

/** Appends of events by their names, with data as it is stored: what a server is asked. */
export interface NamedAppends<E> {
  /**
   * Appends one event, by its name.
   *
   * ```ts
   * streams.append("order-1", { name: "item.added", data: { qty: 2 }, entityType: "order" }, { expectedVersion: 0 })
   * ```
   */
  append(entityId: string, input: AppendEventInput, options?: AppendOptions): Effect.Effect<AppendResult, E>
  /**
   * Appends several events in one transaction, by their names.
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

/** What a client can be told about the events that it reads. */
export interface ReadingOptions {
  /** Brings the data of events that are read to their latest version. */
  readonly eventDefinitions?: EventDefinitionRegistry | undefined
}
