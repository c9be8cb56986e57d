/**
 * Events: named, versioned, immutable facts.
 *
 * An event needs no definition to be emitted. A definition names its versions for upcasting ({@link defineEvent}), or
 * gives its data a schema, so that emitting, triggers and waits are typed by it ({@link define}).
 */
import type * as Schema from "effect/Schema"
import { ValidationError } from "./Errors.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"
import { isPattern } from "./Pattern.ts"
import { show } from "./Show.ts"

/** The entity to whose stream an event was appended, and its place there. */
export interface EventEntity {
  readonly id: string
  readonly type: string
  readonly version: number
}

/** An event as handlers see it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface IronflowEvent<T = any> {
  readonly id: string
  readonly name: string
  /** The version it was emitted with, also when `data` has been upcast to a later one. */
  readonly version: number
  readonly data: T
  readonly timestamp: Date
  readonly idempotencyKey?: string
  /** Where it came from when nobody emitted it: `cron` or `invoke`. Other Ironflow servers have words of their own. */
  readonly source?: string
  readonly metadata?: Record<string, unknown>
  /** Present on an event that was appended to an entity stream. */
  readonly entity?: EventEntity
}

/** Turns data of the previous version into data of this version. */
export type UpcasterFn = (data: unknown) => unknown

/** One version of an event. `T` is its data as handlers see it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface EventDefinition<T = any> {
  readonly name: string
  readonly version: number
  /** From the version before this one. */
  readonly upcast?: UpcasterFn
  readonly schema?: Schema.Codec<T, unknown>
}

export interface EventDefinitionOptions {
  readonly name: string
  /** An integer of at least 1. */
  readonly version: number
  readonly upcast?: UpcasterFn
}

/** Defines one version of an event. Throws `ValidationError` for a bad name or version. */
export const defineEvent = (options: EventDefinitionOptions): EventDefinition => {
  const { name, version, upcast } = options
  check(name, version, upcast)
  checkKeys(
    options,
    { name: true, version: true, upcast: true } satisfies Keys<EventDefinitionOptions>,
    `Event "${name}"`
  )
  return { name, version, ...(upcast === undefined ? {} : { upcast }) }
}

/** An event whose data has a schema. */
export interface TypedEvent<T> extends EventDefinition<T> {
  readonly schema: Schema.Codec<T, unknown>
}

export interface TypedEventOptions<T> {
  readonly data: Schema.Codec<T, unknown>
  /** 1 by default. */
  readonly version?: number
  readonly upcast?: UpcasterFn
}

/**
 * Defines an event whose data has a schema. Throws `ValidationError` for a bad name or version.
 *
 * ```ts
 * const OrderPlaced = Event.define("order.placed", {
 *   data: Schema.Struct({ orderId: Schema.String, amount: Schema.Number })
 * })
 * ```
 */
export const define = <T>(name: string, options: TypedEventOptions<T>): TypedEvent<T> => {
  const { data: schema, version = 1, upcast } = options
  check(name, version, upcast)
  checkKeys(
    options,
    { data: true, version: true, upcast: true } satisfies Keys<TypedEventOptions<T>>,
    `Event "${name}"`
  )
  if (typeof schema !== "function" && (typeof schema !== "object" || schema === null)) {
    throw new ValidationError(`Event "${name}": \`data\` must be a schema, got ${show(schema)}`)
  }
  return { name, version, schema, ...(upcast === undefined ? {} : { upcast }) }
}

/** Data of an event that a definition describes. */
export type EventData<D> = D extends EventDefinition<infer T> ? T : never

const check = (name: string, version: number, upcast: UpcasterFn | undefined): void => {
  checkEventName(name)
  if (!Number.isSafeInteger(version) || version < 1) {
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
