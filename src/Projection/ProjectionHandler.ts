/**
 * Passes one event through the handler of a projection: decodes, upcasts and validates the event, and calls
 * the handler. The failures of Effects become values; the functions that return no Effect throw.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { asStandard } from "../EffectSchema.ts"
import { ValidationError } from "../Errors.ts"
import type { EventDefinition } from "../Event.ts"
import { decodeForReader } from "../EventVersions.ts"
import { decodeJson } from "../Json.ts"
import type { Logger } from "../Logger.ts"
import {
  PARTITION_FUNCTION,
  type ProjectionLogEvent,
  type ProjectionRegistration
} from "../Protocol/ProjectionOwners.ts"
import { validate } from "../StandardSchema.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { GLOBAL_PARTITION, partitionAt, partitionOf } from "./Partition.ts"
import {
  type AnyProjection,
  isEffectProjection,
  type ProjectionContext,
  type ProjectionEvent
} from "./Projection.ts"

/** Holds the error with which the handling of an event threw, rejected or failed. */
export class EventFailure {
  readonly error: unknown
  constructor(error: unknown) {
    this.error = error
  }
}

/** The version of every projection in the context of its handler: projections have no versions of their own. */
const VERSION = 1

export interface ProjectionHandlerOptions {
  readonly projection: AnyProjection
  readonly eventDefinitions: EventDefinitionRegistry | undefined
  readonly logger: Logger
}

export interface ProjectionHandler {
  readonly registration: ProjectionRegistration
  /** Makes the state before the first event. Throws what `initialState` throws. */
  readonly initialState: () => unknown
  /**
   * Decodes the event for the handler; each call makes a new event. Throws what an upcaster or a schema
   * throws.
   */
  readonly decode: (event: ProjectionLogEvent) => ProjectionEvent
  /**
   * The partition of an event. Throws what the user's `partitionKey` function throws, and `ValidationError` for an
   * invalid partition.
   */
  readonly partition: (event: ProjectionEvent) => string
  /**
   * Returns the next state. When the handler returns an Effect, returns an Effect of the next state or of the failure.
   * Throws what the handler throws.
   */
  readonly reduce: (
    state: unknown,
    event: ProjectionEvent,
    context: CallContext
  ) => unknown | Effect.Effect<unknown | EventFailure>
  /** Calls the handler of an external projection, and waits for its end. Succeeds with the failure, if there is one. */
  readonly call: (
    event: ProjectionLogEvent,
    context: Omit<CallContext, "partition">
  ) => Effect.Effect<EventFailure | undefined>
}

export interface CallContext {
  readonly attempt: number
  readonly partition: string
  readonly signal: AbortSignal
}

export const makeProjectionHandler = ({
  eventDefinitions,
  logger,
  projection
}: ProjectionHandlerOptions): ProjectionHandler => {
  const { config } = projection
  const { name, partitionKey } = config
  const handler = isEffectProjection(projection) ? projection.program : projection.config.handler
  const { definitions = [] } = config
  const readers = new Map(definitions.map((definition) => [definition.name, definition]))

  const iso = makeIso()
  // all events share this object
  const projectionInfo = Object.freeze({ name, version: VERSION })

  const decodeWith = (
    reader: EventDefinition,
    { name, version }: ProjectionLogEvent,
    upcastData: unknown
  ): unknown =>
    decodeForReader({ name, version, data: upcastData }, reader, eventDefinitions, (data) =>
      reader.schema === undefined
        ? data
        : validate(asStandard(reader.schema), data, `Data of event "${name}"`)
    )

  const decode = (event: ProjectionLogEvent): ProjectionEvent => {
    let data = decodeJson(event.data)
    if (eventDefinitions !== undefined) data = eventDefinitions.upcastEvent(event.name, data, event.version)
    const reader = readers.get(event.name)
    if (reader !== undefined) data = decodeWith(reader, event, data)
    const decoded: Writable<ProjectionEvent> = {
      id: event.id,
      name: event.name,
      data,
      seq: event.position,
      version: event.version,
      timestamp: iso(event.timestamp)
    }
    if (event.source !== undefined) decoded.source = event.source
    // metadata is always an object: the engine accepts nothing else
    if (event.metadata !== undefined) decoded.metadata = decodeJson(event.metadata) as Record<string, unknown>
    if (event.entity !== undefined) decoded.entity = { ...event.entity }
    return decoded
  }

  const contextOf = (
    event: ProjectionEvent,
    { attempt, partition, signal }: CallContext
  ): ProjectionContext => {
    const eventInfo: Writable<ProjectionContext["event"]> = {
      id: event.id,
      name: event.name,
      seq: event.seq,
      timestamp: new Date(event.timestamp)
    }
    if (event.metadata !== undefined) eventInfo.metadata = event.metadata
    return { event: eventInfo, projection: projectionInfo, partition, attempt, logger, signal }
  }

  return {
    registration: {
      name,
      events: config.events,
      mode: config.mode,
      ...(partitionKey === undefined
        ? {}
        : { partitionKey: typeof partitionKey === "string" ? partitionKey : PARTITION_FUNCTION })
    },
    initialState: () => config.initialState?.() ?? {},
    decode,
    partition: (event) => {
      if (partitionKey === undefined) return GLOBAL_PARTITION
      return typeof partitionKey === "string"
        ? partitionAt(event, partitionKey)
        : partitionOf(partitionKey(event))
    },
    reduce: (state, event, context) => {
      const next: unknown = handler(state, event, contextOf(event, context))
      if (next instanceof Promise) {
        // the promise is ignored, so its rejection must not count as unhandled
        next.catch(() => undefined)
        throw new ValidationError(
          `Projection "${name}": the handler of a managed projection must return the next state, and it returned a promise. ` +
            "Write it without async"
        )
      }
      return Effect.isEffect(next) ? failuresToValues(next) : next
    },
    call: (event, context) =>
      Effect.suspend(() => {
        try {
          const decoded = decode(event)
          const called: unknown = handler(
            decoded,
            contextOf(decoded, { ...context, partition: GLOBAL_PARTITION })
          )
          if (Effect.isEffect(called)) return toEventFailure(failuresToValues(called))
          return called instanceof Promise
            ? toEventFailure(
                failuresToValues(Effect.tryPromise({ try: () => called, catch: (error) => error }))
              )
            : Effect.succeed(undefined)
        } catch (error) {
          return Effect.succeed(new EventFailure(error))
        }
      })
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/**
 * Makes a function that formats times as ISO strings. It remembers the part up to the second, which
 * consecutive events mostly share.
 */
const makeIso = (): ((time: number) => string) => {
  let second = Number.NaN
  let upToSecond = ""
  return (time) => {
    const current = Math.floor(time / 1000)
    if (current !== second) {
      upToSecond = new Date(current * 1000).toISOString().slice(0, -4)
      second = current
    }
    return `${upToSecond}${String(time - current * 1000).padStart(3, "0")}Z`
  }
}

/**
 * Turns the failures and defects of a handler's Effect into values. An interruption is passed on. The services that
 * the Effect needs come from the worker's context.
 */
const failuresToValues = (
  effect: Effect.Effect<unknown, unknown, unknown>
): Effect.Effect<unknown | EventFailure> =>
  Effect.flatMap(
    Effect.exit(effect as Effect.Effect<unknown, unknown>),
    (exit): Effect.Effect<unknown | EventFailure> =>
      Exit.isSuccess(exit)
        ? Effect.succeed(exit.value)
        : Cause.hasInterruptsOnly(exit.cause)
          ? Effect.interrupt
          : Effect.succeed(new EventFailure(Cause.squash(exit.cause)))
  )

const toEventFailure = (
  self: Effect.Effect<unknown | EventFailure>
): Effect.Effect<EventFailure | undefined> =>
  Effect.map(self, (result) => (result instanceof EventFailure ? result : undefined))
