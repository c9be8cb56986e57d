/**
 * Events: named, versioned, immutable facts.
 *
 * An event needs no definition to be emitted. A definition with a schema types and checks its data everywhere: emitting,
 * triggers, waits, appends, projections and subscriptions take it in place of the name. {@link defineEvent} takes a schema of any
 * library, {@link define} an Effect schema. A definition without a schema names a version for upcasting.
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

/** The entity to whose stream an event was appended, and its place there. */
export interface EventEntity {
  /** Id of the entity. */
  readonly id: string
  /** Its type, such as `order`. */
  readonly type: string
  /** The place of the event in the stream, from 1 up. */
  readonly version: number
}

/** An event as handlers see it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface IronflowEvent<T = any, Name extends string = string> {
  /** Id of the event, `evt_...`. */
  readonly id: string
  /** Name of the event, such as `order.placed`. */
  readonly name: Name
  /** The version it was emitted with, also when `data` has been upcast to a later one. */
  readonly version: number
  /** Its data, checked and decoded where there is a schema. */
  readonly data: T
  /** When it was stored. */
  readonly timestamp: Date
  /** The key that it was emitted with. */
  readonly idempotencyKey?: string
  /** Where it came from when nobody emitted it: `cron` or `invoke`. Legacy servers have words of their own. */
  readonly source?: string
  /** The metadata that it was emitted with. */
  readonly metadata?: Record<string, unknown>
  /** Present on an event that was appended to an entity stream. */
  readonly entity?: EventEntity
}

/** Turns data of the previous version into data of this version. */
export type UpcasterFn = (data: unknown) => unknown

/** One version of an event. `T` is its data as handlers see it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface EventDefinition<T = any, Name extends string = string> {
  /** Name of the event. */
  readonly name: Name
  /** Version of its data, from 1 up. */
  readonly version: number
  /** From the version before this one. */
  readonly upcast?: UpcasterFn
  /** Checks the data. */
  readonly schema?: AnySchema<T>
}

/** A definition whose data has the schema `S`. */
export interface TypedEvent<Name extends string = string, S extends AnySchema = AnySchema> {
  /** Name of the event. */
  readonly name: Name
  /** Version of its data, from 1 up. */
  readonly version: number
  /** From the version before this one. */
  readonly upcast?: UpcasterFn
  /** Checks the data. */
  readonly schema: S
}

/** What defines a version of an event without a schema. */
export interface EventDefinitionOptions<Name extends string = string> {
  /** Name of the event. */
  readonly name: Name
  /** An integer of at least 1. */
  readonly version: number
  /** Makes data of this version from data of the version before it. */
  readonly upcast?: UpcasterFn
}

/** What defines an event whose data has a schema. */
export interface TypedEventOptions<Name extends string = string, S extends AnySchema = AnySchema> {
  /** Name of the event. */
  readonly name: Name
  /** A Standard Schema (Zod, Valibot, ArkType) or an Effect schema. */
  readonly schema: S
  /** An integer of at least 1; 1 by default. */
  readonly version?: number
  /** Makes data of this version from data of the version before it. */
  readonly upcast?: UpcasterFn
}

const optionKeys = { name: true, version: true, upcast: true, schema: true } satisfies Keys<
  TypedEventOptions & EventDefinitionOptions
>

/**
 * Defines an event. With a `schema` its data is typed and checked wherever the definition stands in place of the name:
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
 * What is emitted is what the schema takes in, and what handlers get is what it makes of that; with an Effect schema both are
 * the decoded data, which is encoded on its way. Without a `schema` this names one version of an event for upcasting.
 * Throws `ValidationError` for a bad name, version or schema.
 */
export function defineEvent<const Name extends string, S extends AnySchema>(
  options: TypedEventOptions<Name, S>
): TypedEvent<Name, S>
export function defineEvent<const Name extends string>(
  options: EventDefinitionOptions<Name>
): // oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
EventDefinition<any, Name>
export function defineEvent(options: EventDefinitionOptions | TypedEventOptions): EventDefinition {
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

/** What {@link define} is told besides the name. */
export interface DefineOptions<S extends AnySchema> {
  /** The schema of the data. */
  readonly data: S
  /** 1 by default. */
  readonly version?: number
  /** Makes data of this version from data of the version before it. */
  readonly upcast?: UpcasterFn
}

/**
 * Defines an event whose data has an Effect schema. The decoded data goes in where it is emitted, and comes out where it is
 * handled; in between it is encoded. Throws `ValidationError` for a bad name, version or schema.
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

/** Whether the value is a definition, and not a name or something with one. */
export const isEventDefinition = (value: unknown): value is EventDefinition =>
  isObject(value) && typeof value.name === "string" && typeof value.version === "number"

/** The name of an event that is given by its name, or by a definition. */
export const eventNameOf = (event: string | EventDefinition): string =>
  isEventDefinition(event) ? event.name : event

/** The pattern by which one subscribes to the events of a definition. */
export const subscribedPattern = (pattern: string | EventDefinition): string =>
  isEventDefinition(pattern) ? `events:${pattern.name}` : pattern

/** Data of an event that a definition describes, as handlers get it: what its schema makes of what is stored. */
export type EventData<D> = D extends { readonly schema: infer S extends AnySchema }
  ? SchemaOutput<S>
  : D extends EventDefinition<infer T>
    ? T
    : never

/** Data of an event that a definition describes, as it is emitted: what its schema takes in. */
export type EventInput<D> = D extends { readonly schema: infer S extends AnySchema }
  ? SchemaInput<S>
  : D extends EventDefinition<infer T>
    ? T
    : never

/** Data of an event that a definition describes, as it is stored: what a Standard Schema takes in, an Effect schema encodes to. */
export type EventJson<D> = D extends { readonly schema: infer S extends AnySchema }
  ? SchemaJson<S>
  : EventInput<D>

/** The event that a definition describes as handlers get it; of several definitions a union, which `name` tells apart. */
export type EventOf<D> = D extends { readonly name: infer Name extends string }
  ? IronflowEvent<EventData<D>, Name>
  : never

/**
 * The map of events that definitions describe, for those who want to write names as strings:
 * `createClient<EventMap<typeof OrderPlaced | typeof OrderShipped>>()`.
 *
 * A name alone brings no schema along, so that nothing encodes and decodes here: the data is what is stored, with dates as text.
 */
export type EventMap<D extends EventDefinition> = {
  readonly [E in D as E["name"]]: E extends { readonly schema: { readonly ast: unknown } }
    ? JsonForm<EventJson<E>>
    : EventJson<E>
}

/** Data of events by their names, where none are known: any name may have any data. */
export interface AnyEvents {
  readonly [name: string]: unknown
}

/** An event of the map, given by its name, or by a definition. */
export type EventRef<Events extends object = AnyEvents> = (keyof Events & string) | EventDefinition

/** The data that goes with the event `E`: by the map for a name, by its schema for a definition. */
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
      `Event "${name}": \`version\` must be an integer of at least 1, got ${show(version)}`
    )
  }
  if (upcast !== undefined && typeof upcast !== "function") {
    throw new ValidationError(`Event "${name}" version ${version}: \`upcast\` must be a function`)
  }
}

/** Returns the version if an event can be emitted with it: an integer from 1 up. Throws `ValidationError`. */
export const checkEventVersion = (name: string, version: unknown): number => {
  if (typeof version === "number" && Number.isSafeInteger(version) && version >= 1) return version
  throw new ValidationError(
    `The version of event "${name}" must be an integer from 1 up, got ${show(version)}`
  )
}

/** Returns the name if an event can have it: no wildcards, no white space. Throws `ValidationError`. */
export const checkEventName = (name: unknown): string => {
  const checked = checkName("event name", name)
  if (/\s/.test(checked))
    throw new ValidationError(`The event name "${checked}" must not contain white space`)
  if (isPattern(checked)) {
    throw new ValidationError(
      `The event name "${checked}" must not contain the wildcards * and >: it is no pattern`
    )
  }
  return checked
}
