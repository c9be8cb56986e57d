/**
 * Projections: they turn events, in the order of the log, into a state or into side effects.
 *
 * A managed projection folds events into a state that the engine keeps; an external one is called for each event.
 * {@link createProjection} takes a plain or async function as handler. {@link make} takes an Effect, whose failures
 * and requirements are in the type. A worker runs projections: see its option `projections`.
 */
import type * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import {
  type EventData,
  type EventDefinition,
  type EventEntity,
  eventNameOf,
  isEventDefinition
} from "../Event.ts"
import { isObject } from "../Json.ts"
import { checkName, declaredListLength } from "../Limits.ts"
import type { Logger } from "../Logger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { isDataPath } from "../DataPath.ts"
import { checkPattern } from "../Pattern.ts"
import type { ProjectionMode } from "../Protocol/Projections.ts"
import { inSentence, show } from "../Show.ts"

export type { ProjectionMode } from "../Protocol/Projections.ts"

/** An event as a projection's handler receives it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface ProjectionEvent<T = any, Name extends string = string> {
  /** Id of the event. */
  readonly id: string
  /** Name of the event. */
  readonly name: Name
  /** Its data, upcast to the latest version if the worker has `eventDefinitions`. */
  readonly data: T
  /** Position in the log. */
  readonly seq: number
  /** Schema version with which it was emitted, even if `data` was upcast since. */
  readonly version: number
  /** When it was stored, as an ISO string. */
  readonly timestamp: string
  /** The source of an event that was not emitted by a client: `cron`. Absent for others. */
  readonly source?: string
  /** The metadata that it was emitted with. */
  readonly metadata?: Record<string, unknown>
  /** The entity and its version, for an event that was appended to an entity stream. */
  readonly entity?: EventEntity
}

/** What a handler is given besides the event. */
export interface ProjectionContext {
  /** The event without its data. */
  readonly event: {
    readonly id: string
    readonly name: string
    readonly seq: number
    readonly timestamp: Date
    readonly metadata?: Record<string, unknown>
  }
  /** The projection whose handler is called. */
  readonly projection: { readonly name: string; readonly version: number }
  /** The partition that the event belongs to. */
  readonly partition: string
  /** The number of this attempt at the event, from 1. */
  readonly attempt: number
  /** The logger of the worker. */
  readonly logger: Logger
  /** Aborts when the worker stops, or loses the projection to another worker. */
  readonly signal: AbortSignal
}

/** Returns the next state. The handler must be synchronous and without side effects: it may run again for the same event. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export type ManagedProjectionHandler<S, E = any> = (
  state: S,
  event: ProjectionEvent<E>,
  ctx: ProjectionContext
) => S

/** Handles an event. It is called for every event of the projection, at least once, in order. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export type ExternalProjectionHandler<E = any> = (
  event: ProjectionEvent<E>,
  ctx: ProjectionContext
) => unknown

/** The name or pattern of events, or a definition, which checks and types their data. */
export type EventSource = string | EventDefinition

/** The event of a source. If the source is a name or a pattern, the data of the event is `E`. */
export type SourceEvent<Source, E> = Source extends EventDefinition
  ? ProjectionEvent<EventData<Source>, Source["name"]>
  : ProjectionEvent<E, Source extends `${string}${"*" | ">"}${string}` ? string : Source & string>

/** The event that a handler receives. Several sources make a union, discriminated by `name`. */
export type SourceEvents<Sources extends ReadonlyArray<EventSource>, E = any> = SourceEvent<
  Sources[number],
  E
>

/** The configuration that every projection has. */
interface CommonConfig<Sources extends ReadonlyArray<EventSource> = ReadonlyArray<string>> {
  /** Name of the projection, unique within an environment. It contains no white space, `*` or `>`. */
  readonly name: string
  /** Names, patterns (`order.*`) or definitions of the events to project. */
  readonly events: Sources
  /** Maximum number of retries of an event before it becomes a dead letter; 3 by default. */
  readonly maxRetries?: number
  /**
   * Maximum number of events in one batch, from 1 to 1000; 100 by default. A managed projection that is far behind
   * handles several batches at once.
   */
  readonly batchSize?: number
}

/** A projection that folds events into a state. */
export interface ManagedProjectionConfig<
  S,
  // oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
  E = any,
  Sources extends ReadonlyArray<EventSource> = ReadonlyArray<string>
> extends CommonConfig<Sources> {
  /** May be left out: `initialState` implies `managed`. */
  readonly mode?: "managed"
  /** Makes the state before the first event. */
  readonly initialState: () => S
  /**
   * Returns the state after an event. The handler must be pure, since it may run again for the same event. Each state
   * that the handler receives has passed through JSON.
   *
   * ```ts
   * createProjection({
   *   name: "order-totals",
   *   events: ["order.placed"],
   *   initialState: () => ({ total: 0 }),
   *   handler: (state, event, ctx) => {
   *     ctx.logger.debug("adding", { amount: event.data.amount })
   *     return { total: state.total + event.data.amount }
   *   }
   * })
   * ```
   */
  readonly handler: (state: S, event: SourceEvents<Sources, E>, ctx: ProjectionContext) => NoInfer<S>
  /**
   * Gives each partition its own state: a dotted path into the event (`$.data.customerId`), or a function of the
   * event. Without it there is one state. Events without a value at the path belong to the partition `__global__`.
   */
  readonly partitionKey?: string | ((event: SourceEvents<Sources, E>) => string)
}

/** A projection that has side effects, and no state. */
export interface ExternalProjectionConfig<
  // oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
  E = any,
  Sources extends ReadonlyArray<EventSource> = ReadonlyArray<string>
> extends CommonConfig<Sources> {
  /** May be left out: without `initialState` the mode is `external`. */
  readonly mode?: "external"
  /** Not allowed: an external projection has no state. */
  readonly initialState?: undefined
  /**
   * Handles an event. It may be called more than once for the same event. When it throws or rejects, the event is
   * retried, unless the error is not retryable.
   */
  readonly handler: (event: SourceEvents<Sources, E>, ctx: ProjectionContext) => unknown
  /** Not allowed: an external projection has no partitions. */
  readonly partitionKey?: undefined
}

/** What `createProjection` takes. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export type ProjectionConfig<S = any, E = any> = ManagedProjectionConfig<S, E> | ExternalProjectionConfig<E>

const projectionKeys = {
  name: true,
  events: true,
  maxRetries: true,
  batchSize: true,
  mode: true,
  initialState: true,
  handler: true,
  partitionKey: true
} satisfies Keys<ProjectionConfig>

/** A checked configuration with its defaults. */
export interface ResolvedProjectionConfig {
  /** Name of the projection. */
  readonly name: string
  /** Names and patterns of the events that it follows. */
  readonly events: ReadonlyArray<string>
  /** Whether the projection has a state (`managed`) or side effects (`external`). */
  readonly mode: ProjectionMode
  /** Makes the state before the first event. */
  readonly initialState?: () => unknown
  /** Maximum number of retries of an event. */
  readonly maxRetries: number
  /** Maximum number of events in one batch, unless the projection is far behind. */
  readonly batchSize: number
  /** Maps an event to its partition: a path or a function. */
  // oxlint-disable-next-line typescript/no-explicit-any -- lists of projections hold those of every event type
  readonly partitionKey?: string | ((event: ProjectionEvent<any>) => string)
}

/** A projection with a plain or async handler. `S` is the state, `E` the data of its events. */
// oxlint-disable-next-line typescript/no-explicit-any -- lists of projections hold those of every type
export interface IronflowProjection<S = any, E = any> {
  /** The configuration given to `createProjection`, with its defaults. */
  readonly config: ResolvedProjectionConfig & {
    /** The definitions among the events. */
    readonly definitions?: ReadonlyArray<EventDefinition>
    // oxlint-disable-next-line typescript/no-explicit-any -- the handler of a managed or an external projection, as `mode` says
    readonly handler: (...args: Array<any>) => any
  }
  /** Only a type, never set: the types of state and events. */
  readonly "~types"?: { readonly state: S; readonly event: E }
}

/**
 * Defines a projection. Without `mode`, a configuration with `initialState` makes a managed projection, and any other
 * makes an external projection. Throws `ValidationError`, which names the projection and the field, when the
 * configuration is invalid.
 */
export function createProjection<
  // oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
  E = any,
  const Sources extends ReadonlyArray<EventSource> = ReadonlyArray<string>
>(
  config: ExternalProjectionConfig<E, Sources>
): IronflowProjection<undefined, SourceEvents<Sources, E>["data"]>
export function createProjection<
  S,
  // oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
  E = any,
  const Sources extends ReadonlyArray<EventSource> = ReadonlyArray<string>
>(config: ManagedProjectionConfig<S, E, Sources>): IronflowProjection<S, SourceEvents<Sources, E>["data"]>
export function createProjection(config: GivenConfig): IronflowProjection {
  const { definitions, resolved } = resolveSources(config)
  return {
    config: {
      ...resolved,
      handler: config.handler,
      ...(definitions.length === 0 ? {} : { definitions })
    }
  }
}

/** The configuration of a managed or external projection, in either API, before it is checked. */
interface GivenConfig extends Omit<CommonConfig, "events"> {
  readonly events: ReadonlyArray<EventSource>
  // oxlint-disable-next-line typescript/no-explicit-any -- the handler of a managed or an external projection
  readonly handler: (...args: Array<any>) => any
}

// ---------------------------------------------------------------------------------------------------------------------
// The Effect API
// ---------------------------------------------------------------------------------------------------------------------

/** Data of the events of the sources; `any` when a source is not a definition. */
export type SourceData<Sources extends ReadonlyArray<EventSource>> = SourceEvents<Sources>["data"]

/** The configuration of a managed projection whose handler may be an Effect. */
export interface ManagedEffectConfig<
  Sources extends ReadonlyArray<EventSource>,
  S,
  E,
  R
> extends CommonConfig<Sources> {
  /** Makes the state before the first event. */
  readonly initialState: () => S
  /**
   * Returns the next state, or an Effect of it. The Effect may only read, since it may run again for the same
   * event.
   *
   * ```ts
   * Projection.make({
   *   name: "order-totals",
   *   events: ["order.placed"],
   *   initialState: () => ({ total: 0 }),
   *   handler: (state, event, ctx) => {
   *     ctx.logger.debug("adding", { amount: event.data.amount })
   *     return { total: state.total + event.data.amount }
   *   }
   * })
   * ```
   */
  readonly handler: (
    state: S,
    event: SourceEvents<Sources>,
    ctx: ProjectionContext
  ) => NoInfer<S> | Effect.Effect<NoInfer<S>, E, R>
  /**
   * Gives each partition its own state: a path such as `$.entity.id`, or a function of the event. By default
   * there is one state.
   */
  readonly partitionKey?: string | ((event: SourceEvents<Sources>) => string)
}

/** The configuration of an external projection whose handler is an Effect. */
export interface ExternalEffectConfig<
  Sources extends ReadonlyArray<EventSource>,
  E,
  R
> extends CommonConfig<Sources> {
  /** Not allowed: an external projection has no state. */
  readonly initialState?: undefined
  /** Runs for every event, at least once, in order. */
  readonly handler: (event: SourceEvents<Sources>, ctx: ProjectionContext) => Effect.Effect<unknown, E, R>
}

/** A projection that {@link make} defined. `S` is its state, `E` the failures and `R` the requirements of its handler. */
// oxlint-disable-next-line typescript/no-explicit-any -- lists of projections hold those of every type
export interface EffectProjection<S = any, E = any, R = any> {
  /** The configuration given to `make`, with its defaults. */
  readonly config: ResolvedProjectionConfig & {
    /** The definitions among the events. */
    readonly definitions: ReadonlyArray<EventDefinition>
  }
  /** The handler. */
  // oxlint-disable-next-line typescript/no-explicit-any -- the handler of a managed or an external projection, as `mode` says
  readonly program: (...args: Array<any>) => S | Effect.Effect<unknown, E, R>
  /** Only a type, never set: the failures and requirements of the handler. */
  readonly "~effect"?: { readonly error: E; readonly requirements: R }
}

/** A projection of either API. */
export type AnyProjection = IronflowProjection | EffectProjection

/** The requirements of the Effect handlers among the projections. */
export type ProjectionRequirements<P> = P extends {
  readonly program: unknown
  readonly "~effect"?: { readonly requirements: infer R }
}
  ? R
  : never

/**
 * Defines a projection whose handler is an Effect.
 *
 * ```ts
 * const orderTotals = Projection.make({
 *   name: "order-totals",
 *   events: [OrderPlaced],
 *   initialState: () => ({ total: 0 }),
 *   handler: (state, event) => ({ total: state.total + event.data.amount })
 * })
 * ```
 *
 * Throws `ValidationError`, which names the projection and the field, when the configuration is invalid.
 */
export function make<const Sources extends ReadonlyArray<EventSource>, E = never, R = never>(
  config: ExternalEffectConfig<Sources, E, R>
): EffectProjection<undefined, E, R>
export function make<const Sources extends ReadonlyArray<EventSource>, S, E = never, R = never>(
  config: ManagedEffectConfig<Sources, S, E, R>
): EffectProjection<S, E, R>
export function make(
  config:
    | ManagedEffectConfig<ReadonlyArray<EventSource>, unknown, unknown, unknown>
    | ExternalEffectConfig<ReadonlyArray<EventSource>, unknown, unknown>
): EffectProjection {
  const { definitions, resolved } = resolveSources(config)
  return { config: { ...resolved, definitions }, program: config.handler }
}

/** Whether the projection was defined by {@link make}. */
export const isEffectProjection = (projection: AnyProjection): projection is EffectProjection =>
  "program" in projection

// ---------------------------------------------------------------------------------------------------------------------
// Checks
// ---------------------------------------------------------------------------------------------------------------------

/** The highest `batchSize` that a projection may have. */
export const maxBatchSize = 1000

/** Maximum number of events that the owner of a projection reads at once when the projection is far behind. */
export const maxReadEvents = 5000

/** Returns the name when it is valid, and throws `ValidationError` otherwise. */
export const checkProjectionName = (name: unknown): string => {
  const checked = checkName("projection name", name)
  if (/[\s*>]/.test(checked)) {
    throw new ValidationError(
      `The projection name "${checked}" must not contain white space, * or >; write it like "order-totals"`
    )
  }
  return checked
}

/**
 * Returns the names and patterns when they are valid, and throws `ValidationError` otherwise. `label` names the
 * projection in the message.
 */
export const checkProjectionEvents = (events: unknown, label: string): ReadonlyArray<string> => {
  if (!Array.isArray(events) || events.length === 0 || events.length > declaredListLength) {
    throw new ValidationError(
      `${label}: \`events\` must be an array of 1 to ${declaredListLength} event names or patterns such as "order.*", got ${Array.isArray(events) ? `an array of ${events.length}` : show(events)}`
    )
  }
  return events.map((event: unknown, i) => {
    if (typeof event !== "string") {
      throw new ValidationError(
        `${label}: \`events[${i}]\` must be the name or pattern of events, or an event definition, got ${show(event)}`
      )
    }
    return checkPattern(event, `event of ${inSentence(label)}`)
  })
}

/**
 * Replaces the definitions among the events of the configuration by their names, and checks the
 * configuration.
 */
const resolveSources = (
  config: unknown
): { readonly definitions: ReadonlyArray<EventDefinition>; readonly resolved: ResolvedProjectionConfig } => {
  // `resolve` says what is wrong with a value that has no list of events
  if (!isObject(config) || !Array.isArray(config.events))
    return { definitions: [], resolved: resolve(config) }
  const definitions = config.events.filter(isEventDefinition)
  const resolved = resolve({ ...config, events: config.events.map(eventNameOf) })
  const redefined = definitions.find(({ name }, i) =>
    definitions.slice(0, i).some((other) => other.name === name && other !== definitions[i])
  )
  if (redefined !== undefined) {
    throw new ValidationError(
      `Projection "${resolved.name}": \`events\` has two definitions of event "${redefined.name}": give the latest version here, and the ` +
        "others as `eventDefinitions` to the worker, which converts older events to the latest version"
    )
  }
  return { definitions, resolved }
}

const resolve = (config: unknown): ResolvedProjectionConfig => {
  if (!isObject(config)) {
    throw new ValidationError(
      `The configuration of a projection must be an object such as { name, events, handler }, got ${show(config)}`
    )
  }
  const name = checkProjectionName(config.name)
  const label = `Projection "${name}"`
  checkKeys(config, projectionKeys, label)
  const events = checkProjectionEvents(config.events, label)
  const { handler, initialState, mode: given, maxRetries = 3, batchSize = 100, partitionKey } = config
  if (given !== undefined && given !== "managed" && given !== "external") {
    throw new ValidationError(`${label}: \`mode\` must be "managed" or "external", got ${show(given)}`)
  }
  if (initialState !== undefined && typeof initialState !== "function") {
    throw new ValidationError(
      `${label}: \`initialState\` must be a function that returns the first state, got ${show(initialState)}`
    )
  }
  if (typeof handler !== "function") {
    throw new ValidationError(`${label}: \`handler\` must be a function, got ${show(handler)}`)
  }
  const mode = given ?? (initialState === undefined ? "external" : "managed")
  checkCount(label, "maxRetries", maxRetries, 0, 1000)
  checkCount(label, "batchSize", batchSize, 1, maxBatchSize)
  if (partitionKey !== undefined) {
    if (mode === "external") {
      throw new ValidationError(
        `${label}: \`partitionKey\` is for managed projections, whose state it divides; an external projection has no state, so leave \`partitionKey\` out`
      )
    }
    if (
      typeof partitionKey !== "function" &&
      !(typeof partitionKey === "string" && isDataPath(partitionKey))
    ) {
      throw new ValidationError(
        `${label}: \`partitionKey\` must be a dotted path such as "$.data.customerId" or a function of the event, got ${show(partitionKey)}`
      )
    }
  }
  return {
    name,
    events,
    mode,
    // `initialState` was checked above to be a function
    ...(initialState === undefined ? {} : { initialState: initialState as () => unknown }),
    maxRetries: Number(maxRetries),
    batchSize: Number(batchSize),
    ...(partitionKey === undefined
      ? {}
      : { partitionKey: partitionKey as string | ((event: ProjectionEvent) => string) })
  }
}

const checkCount = (label: string, field: string, value: unknown, min: number, max: number): void => {
  if (Number.isInteger(value) && Number(value) >= min && Number(value) <= max) return
  throw new ValidationError(
    `${label}: \`${field}\` must be an integer from ${min} to ${max}, got ${show(value)}`
  )
}
