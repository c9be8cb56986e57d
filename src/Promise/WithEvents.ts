/** Functions and projections that are typed by a map of events, for names written as strings. */
import type { IronflowEvent } from "../Event.ts"
import {
  createFunction,
  type FunctionConfig,
  type FunctionContext,
  type IronflowFunction
} from "../Function.ts"
import {
  createProjection,
  type ExternalProjectionConfig,
  type IronflowProjection,
  type ManagedProjectionConfig,
  type ProjectionContext,
  type ProjectionEvent
} from "../Projection/Projection.ts"
import type { EventFilter, StepClient } from "../Step.ts"
import type { Trigger } from "../Trigger.ts"

/** The names in the map. */
type EventName<Events extends object> = keyof Events & string

/** The events with these names of the map: a union, discriminated by `name`. */
export type NamedEvents<Events extends object, N extends EventName<Events>> = {
  readonly [K in N]: IronflowEvent<Events[K], K>
}[N]

/** The steps of a handler. The events that `waitForEvent` returns are typed by the map. */
export type EventStepClient<Events extends object> = {
  /** Does what `step.waitForEvent` does. The data of the event has the type that the map gives it. */
  waitForEvent<const N extends EventName<Events>>(
    name: string,
    filter: EventFilter<N>
  ): Promise<IronflowEvent<Events[N], N>>
} & StepClient

/** The context of a handler whose triggers have the names `N`. */
export interface EventContext<Events extends object, N extends EventName<Events>> extends Omit<
  FunctionContext,
  "event" | "step"
> {
  /** The event that started the run. Its data has the type that the map gives it. */
  readonly event: NamedEvents<Events, N>
  /** The steps, typed by the map. */
  readonly step: EventStepClient<Events>
}

/** A trigger by an event of the map. */
interface NamedTrigger<N extends string> {
  readonly event: N
  /** A CEL expression over `event`; the event starts a run only when the expression is true. */
  readonly expression?: Trigger["expression"] & string
}

/** The events with these names of the map, as projections receive them. */
type ProjectedEvents<Events extends object, N extends EventName<Events>> = {
  readonly [K in N]: ProjectionEvent<Events[K], K>
}[N]

/** `createFunction` and `createProjection`, typed by the map `Events`. */
export interface WithEvents<Events extends object> {
  /**
   * Does what `createFunction` of the package does. The triggers are events of the map, which gives `event`
   * its type.
   */
  createFunction<const N extends EventName<Events>, R>(
    config: Omit<FunctionConfig, "triggers" | "schema"> & {
      readonly triggers: ReadonlyArray<NamedTrigger<N>>
    },
    handler: (context: EventContext<Events, N>) => R | Promise<R>
  ): IronflowFunction<Events[N], R>
  /** Does what `createProjection` of the package does. The events are those of the map. */
  createProjection<const N extends EventName<Events>>(
    config: Omit<ExternalProjectionConfig, "events" | "handler"> & {
      readonly events: ReadonlyArray<N>
      readonly handler: (event: ProjectedEvents<Events, N>, ctx: ProjectionContext) => unknown
    }
  ): IronflowProjection<undefined, Events[N]>
  createProjection<S, const N extends EventName<Events>>(
    config: Omit<ManagedProjectionConfig<S>, "events" | "handler" | "partitionKey"> & {
      readonly events: ReadonlyArray<N>
      readonly handler: (state: S, event: ProjectedEvents<Events, N>, ctx: ProjectionContext) => NoInfer<S>
      readonly partitionKey?: string | ((event: ProjectedEvents<Events, N>) => string)
    }
  ): IronflowProjection<S, Events[N]>
}

/**
 * Returns `createFunction` and `createProjection`, typed by a map from event names to data. The map exists only in
 * types, so nothing is checked at run time. To have events checked, define them with `defineEvent`.
 *
 * ```ts
 * const { createFunction } = withEvents<{ "order.placed": { orderId: string } }>()
 *
 * createFunction({ id: "ship-order", triggers: [{ event: "order.placed" }] }, async ({ event }) => event.data.orderId)
 * ```
 */
export const withEvents = <Events extends object>(): WithEvents<Events> =>
  // these are the functions of the package, with narrower types
  ({ createFunction, createProjection }) as WithEvents<Events>
