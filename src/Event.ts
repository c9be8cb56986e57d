/**
 * Events: named, versioned, immutable facts.
 *
 * An event can be emitted without a definition. A definition with a schema can be given in place of the event's name,
 * and then types and checks the data: in emits, triggers, waits, appends, projections and subscriptions.
 * {@link defineEvent} takes a schema of any library, and {@link define} an Effect schema. A definition
 * without a schema only declares a version of the event, for upcasting.
 */
import type * as Schema from "effect/Schema"
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"
import { isPattern } from "./Pattern.ts"
import { show } from "./Show.ts"
import {
  type AnySchema,
  checkSchema,
  type JsonForm,
  type SchemaInput,
  type SchemaJson,
  type SchemaOutput
} from "./StandardSchema.ts"

/** The entity that an event was appended to, and the event's version in its stream. */
export interface EventEntity {
  /** Id of the entity. */
  readonly id: string
  /** Its type, such as `order`. */
  readonly type: string
  /** Version of the event: its position in the stream, from 1. */
  readonly version: number
}

/** An event as handlers receive it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface IronflowEvent<T = any, Name extends string = string> {
  /** Id of the event, `evt_...`. */
  readonly id: string
  /** Name of the event, such as `order.placed`. */
  readonly name: Name
  /** Schema version with which the event was emitted, even if `data` was upcast since. */
  readonly version: number
  /** Its data, checked and decoded if there is a schema. */
  readonly data: T
  /** When it was stored. */
  readonly timestamp: Date
  /** The idempotency key of the emit. */
  readonly idempotencyKey?: string
  /**
   * The source of an event that was not emitted by a client: `cron`, `invoke`, or `system` for a system event.
   * Legacy servers use other words.
   */
  readonly source?: string
  /** The metadata of the event. */
  readonly metadata?: Record<string, unknown>
  /** For an event that was appended to an entity stream: the entity, and the position of the event in the stream. */
  readonly entity?: EventEntity
}

/** Upcasts data of an event from one version to the next. */
export type UpcasterFn = (data: unknown) => unknown

/** One version of an event. `T` is the type of its data in handlers. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface EventDefinition<T = any, Name extends string = string> {
  /** Name of the event. */
  readonly name: Name
  /** Schema version of its data, from 1. */
  readonly version: number
  /** Upcasts data of the previous version to this one. */
  readonly upcast?: UpcasterFn
  /** Checks the data. */
  readonly schema?: AnySchema<T>
}

/** An event definition whose data has the schema `S`. */
export interface TypedEvent<Name extends string = string, S extends AnySchema = AnySchema> {
  /** Name of the event. */
  readonly name: Name
  /** Schema version of its data, from 1. */
  readonly version: number
  /** Upcasts data of the previous version to this one. */
  readonly upcast?: UpcasterFn
  /** Checks the data. */
  readonly schema: S
}

/** Options of a definition without a schema. */
export interface EventDefinitionOptions<Name extends string = string> {
  /** Name of the event. */
  readonly name: Name
  /** Schema version of the data: an integer, at least 1. */
  readonly version: number
  /** Upcasts data of the previous version to this one. */
  readonly upcast?: UpcasterFn
}

/** Options of a definition with a schema. */
export interface TypedEventOptions<Name extends string = string, S extends AnySchema = AnySchema> {
  /** Name of the event. */
  readonly name: Name
  /** A Standard Schema (Zod, Valibot, ArkType) or an Effect schema. */
  readonly schema: S
  /** Schema version of the data: an integer, at least 1; 1 by default. */
  readonly version?: number
  /** Upcasts data of the previous version to this one. */
  readonly upcast?: UpcasterFn
}

const optionKeys = { name: true, version: true, upcast: true, schema: true } satisfies Keys<
  TypedEventOptions & EventDefinitionOptions
>

/**
 * Defines an event. With a `schema`, its data is typed and checked wherever the definition is given in place
 * of the name:
 *
 * ```ts
 * const OrderPlaced = defineEvent({
 *   name: "order.placed",
 *   schema: z.object({ orderId: z.string(), amount: z.number() })
 * })
 *
 * createFunction({ id: "ship-order", triggers: [OrderPlaced] }, async ({ event }) => event.data.orderId)
 * await client.emit(OrderPlaced, { orderId: "o-1", amount: 5 })
 * ```
 *
 * Emits take the input type of the schema, and handlers receive its output type. With an Effect schema both
 * are the decoded type; the data is encoded to be stored. Without a `schema` the definition only declares one version
 * of the event, for upcasting. Throws `ValidationError` for an invalid name, version, schema or `upcast`.
 */
export function defineEvent<const Name extends string, S extends AnySchema>(
  options: TypedEventOptions<Name, S>
): TypedEvent<Name, S>
export function defineEvent<const Name extends string>(
  options: EventDefinitionOptions<Name>
): // oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
EventDefinition<any, Name>
export function defineEvent(options: EventDefinitionOptions | TypedEventOptions): EventDefinition {
  const given: unknown = options
  if (!isObject(given)) {
    throw new ValidationError(
      `The definition of an event must be an object such as { name, schema }, got ${show(given)}`
    )
  }
  const { name, upcast } = options
  const schema = "schema" in options ? options.schema : undefined
  const version = options.version ?? (schema === undefined ? undefined : 1)
  checkDefinition(name, version, upcast)
  checkKeys(options, optionKeys, `Event "${name}"`)
  if (schema !== undefined) checkSchema(schema, `Event "${name}": \`schema\``)
  return {
    name,
    version,
    ...(schema === undefined ? {} : { schema }),
    ...(upcast === undefined ? {} : { upcast })
  }
}

/** Options of {@link define}. */
export interface DefineOptions<S extends AnySchema> {
  /** The schema of the data. */
  readonly data: S
  /** Schema version of the data; 1 by default. */
  readonly version?: number
  /** Upcasts data of the previous version to this one. */
  readonly upcast?: UpcasterFn
}

/**
 * Defines an event whose data has an Effect schema. Emits take the decoded data, and handlers receive it; the stored
 * data is encoded. Throws `ValidationError` for an invalid name, version, schema or `upcast`.
 *
 * ```ts
 * const OrderPlaced = Event.define("order.placed", {
 *   data: Schema.Struct({ orderId: Schema.String, placedAt: Schema.DateFromString })
 * })
 *
 * const client = yield* Client.Client
 * yield* client.emit(OrderPlaced, { orderId: "o-1", placedAt: new Date() })
 * ```
 */
export const define = <const Name extends string, S extends Schema.Codec<unknown, unknown>>(
  name: Name,
  options: DefineOptions<S>
): TypedEvent<Name, S> => {
  const { data: schema, version = 1, upcast } = options
  checkDefinition(name, version, upcast)
  checkKeys(
    options,
    { data: true, version: true, upcast: true } satisfies Keys<DefineOptions<S>>,
    `Event "${name}"`
  )
  checkSchema(schema, `Event "${name}": \`data\``)
  return { name, version, schema, ...(upcast === undefined ? {} : { upcast }) }
}

/** Whether the value is an event definition. */
export const isEventDefinition = (value: unknown): value is EventDefinition =>
  isObject(value) && typeof value.name === "string" && typeof value.version === "number"

/** The name of an event that is given by name or by definition. */
export const eventNameOf = (event: string | EventDefinition): string =>
  isEventDefinition(event) ? event.name : event

/** The subscription pattern that selects a defined event; a given pattern is returned as it is. */
export const subscribedPattern = (pattern: string | EventDefinition): string =>
  isEventDefinition(pattern) ? `events:${pattern.name}` : pattern

/** Data of a defined event in handlers: the output type of its schema. */
export type EventData<D> = D extends { readonly schema: infer S extends AnySchema }
  ? SchemaOutput<S>
  : D extends EventDefinition<infer T>
    ? T
    : never

/** Data of a defined event in emits: the input type of its schema. */
export type EventInput<D> = D extends { readonly schema: infer S extends AnySchema }
  ? SchemaInput<S>
  : D extends EventDefinition<infer T>
    ? T
    : never

/** Data of a defined event in storage: the input type of a Standard Schema, the encoded type of an Effect schema. */
export type EventJson<D> = D extends { readonly schema: infer S extends AnySchema }
  ? SchemaJson<S>
  : EventInput<D>

/** A defined event as handlers receive it; for several definitions a union discriminated by `name`. */
export type EventOf<D> = D extends { readonly name: infer Name extends string }
  ? IronflowEvent<EventData<D>, Name>
  : never

/**
 * A map from names of events to the types of their data, made of definitions. It types code that gives events by name:
 * `createClient<EventMap<typeof OrderPlaced | typeof OrderShipped>>()`.
 *
 * A name has no schema, so nothing is encoded or decoded. The data is in its stored form, with dates as
 * strings.
 */
export type EventMap<D extends EventDefinition> = {
  readonly [E in D as E["name"]]: E extends { readonly schema: { readonly ast: unknown } }
    ? JsonForm<EventJson<E>>
    : EventJson<E>
}

/** The data of events by name, when no events are declared: any name may have any data. */
export interface AnyEvents {
  readonly [name: string]: unknown
}

/** An event of the map, by name or by definition. */
export type EventRef<Events extends object = AnyEvents> = (keyof Events & string) | EventDefinition

/** The data of the event `E`: from the map for a name, from the schema for a definition. */
export type DataFor<E, Events extends object = AnyEvents> = [E] extends [never]
  ? unknown
  : E extends string
    ? E extends keyof Events
      ? Events[E]
      : unknown
    : EventInput<E>

function checkDefinition(
  name: string,
  version: number | undefined,
  upcast: UpcasterFn | undefined
): asserts version is number {
  checkEventName(name)
  if (version === undefined || !Number.isSafeInteger(version) || version < 1) {
    throw new ValidationError(
      `Event "${name}": \`version\` must be an integer, at least 1, got ${show(version)}`
    )
  }
  if (upcast !== undefined && typeof upcast !== "function") {
    throw new ValidationError(
      `Event "${name}" version ${version}: \`upcast\` must be a function, got ${show(upcast)}`
    )
  }
}

/** Returns the version if it is valid: an integer, at least 1. Throws `ValidationError`. */
export const checkEventVersion = (name: string, version: unknown): number => {
  if (typeof version === "number" && Number.isSafeInteger(version) && version >= 1) return version
  throw new ValidationError(
    `The version of event "${name}" must be an integer, at least 1, got ${show(version)}`
  )
}

/**
 * Returns the name if it is valid: not blank, not too long, and without wildcards and white space. Throws
 * `ValidationError` or `LimitExceededError`.
 */
export const checkEventName = (name: unknown): string => {
  const checked = checkName("event name", name)
  if (/\s/.test(checked))
    throw new ValidationError(`The event name "${checked}" must not contain white space`)
  if (isPattern(checked)) {
    throw new ValidationError(
      `The event name "${checked}" must not contain the wildcards * and >: a name is not a pattern`
    )
  }
  return checked
}
