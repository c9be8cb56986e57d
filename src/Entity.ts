/**
 * Entities: the events of one kind of thing, such as an order or an account, and the state that they make.
 *
 * `client.streams.of(Order)` appends and reads the events of orders, and folds them into the state of an order. The
 * definition gives the types of the events, and encodes and decodes their data.
 */
import { ValidationError } from "./Errors.ts"
import type { EntityEvent } from "./EntityStream.ts"
import { isEventDefinition, type TypedEvent } from "./Event.ts"
import { isObject } from "./Json.ts"
import { checkName } from "./Limits.ts"
import { checkKeys, type Keys } from "./OptionKeys.ts"
import { show } from "./Show.ts"
import { type AnySchema, checkSchema } from "./StandardSchema.ts"

/** An entity with its events. */
export interface EntityDefinition<D extends TypedEvent = TypedEvent> {
  /** Type of the entity, such as `order`. The first event of a stream decides the type of the stream. */
  readonly type: string
  /** For each event, the definition of its latest version. This definition must have a schema. */
  readonly events: ReadonlyArray<D>
}

/** An entity whose events are folded into a state. */
export interface EvolvingEntity<D extends TypedEvent, State> extends EntityDefinition<D> {
  /** The state before the first event. */
  readonly initialState: () => State
  /** Returns the state after an event. It must be synchronous and free of side effects. */
  readonly evolve: (state: State, event: EntityEvent<D>) => State
}

/** An entity with snapshots of its state. */
export interface SnapshotEntity<D extends TypedEvent, State> extends EvolvingEntity<D, State> {
  /** The schema of stored states. */
  readonly snapshot: AnySchema<State>
}

/** Any entity definition. */
export interface AnyEntity extends EntityDefinition {
  /** Returns the state before the first event. */
  readonly initialState?: () => unknown
  /** Returns the state after an event, without side effects. */
  readonly evolve?: (state: never, event: never) => unknown
  /** Checks and encodes states that are stored as snapshots. */
  readonly snapshot?: AnySchema
}

/** The events of an entity, as `evolve` and `read` see them: a union discriminated by `name`. */
export type EventsOf<N extends AnyEntity> = EntityEvent<N["events"][number]>

/** The state type of an entity. */
export type StateOf<N extends AnyEntity> = N extends {
  readonly evolve: (state: never, event: never) => infer State
}
  ? State
  : never

interface EventsOptions<Events extends ReadonlyArray<TypedEvent>> {
  /** Type of the entity, such as `order`. */
  readonly type: string
  /** For each event, the definition of its latest version. This definition must have a schema. */
  readonly events: Events
}

interface EvolvingOptions<Events extends ReadonlyArray<TypedEvent>, State> extends EventsOptions<Events> {
  /** The state before the first event. */
  readonly initialState: () => State
  /** Returns the state after an event. It must be synchronous and free of side effects. */
  readonly evolve: (state: State, event: EntityEvent<Events[number]>) => NoInfer<State>
}

interface SnapshotOptions<Events extends ReadonlyArray<TypedEvent>, State> extends EvolvingOptions<
  Events,
  State
> {
  /** The schema of states stored in snapshots. */
  readonly snapshot: AnySchema<NoInfer<State>>
}

const entityKeys = {
  type: true,
  events: true,
  initialState: true,
  evolve: true,
  snapshot: true
} satisfies Keys<AnyEntity>

/**
 * Defines an entity by its events. `initialState` and `evolve` add its state. `snapshot` adds the schema with which
 * states are stored, as snapshots.
 *
 * ```ts
 * const Order = defineEntity({
 *   type: "order",
 *   events: [ItemAdded, ItemRemoved],
 *   initialState: () => ({ items: 0 }),
 *   evolve: (order, event) => ({ items: order.items + (event.name === "item.added" ? event.data.qty : -1) })
 * })
 * ```
 *
 * Throws `ValidationError`, which names the entity and the field, when the definition is invalid.
 */
export function define<const Events extends ReadonlyArray<TypedEvent>, State>(
  options: SnapshotOptions<Events, State>
): SnapshotEntity<Events[number], State>
export function define<const Events extends ReadonlyArray<TypedEvent>, State>(
  options: EvolvingOptions<Events, State>
): EvolvingEntity<Events[number], State>
export function define<const Events extends ReadonlyArray<TypedEvent>>(
  options: EventsOptions<Events>
): EntityDefinition<Events[number]>
export function define(options: AnyEntity): AnyEntity {
  if (!isObject(options)) {
    throw new ValidationError(`An entity needs a definition such as { type, events }, got ${show(options)}`)
  }
  const type = checkName("entity type", options.type)
  const label = `Entity "${type}"`
  checkKeys(options, entityKeys, label)
  const { events, evolve, initialState, snapshot } = options
  checkEvents(label, events)
  for (const [field, value] of Object.entries({ initialState, evolve })) {
    if (value !== undefined && typeof value !== "function") {
      throw new ValidationError(`${label}: \`${field}\` must be a function, got ${show(value)}`)
    }
  }
  if ((initialState === undefined) !== (evolve === undefined)) {
    throw new ValidationError(
      `${label}: \`initialState\` and \`evolve\` make the state together: give both or neither`
    )
  }
  if (snapshot !== undefined && evolve === undefined) {
    throw new ValidationError(
      `${label}: \`snapshot\` stores the state, which needs \`initialState\` and \`evolve\``
    )
  }
  return {
    type,
    events: [...events],
    ...(initialState === undefined ? {} : { initialState }),
    ...(evolve === undefined ? {} : { evolve }),
    ...(snapshot === undefined ? {} : { snapshot: checkSchema(snapshot, `${label}: \`snapshot\``) })
  }
}

const checkEvents = (label: string, events: unknown): void => {
  if (!Array.isArray(events) || events.length === 0) {
    throw new ValidationError(
      `${label}: \`events\` must be an array of at least one event definition, got ${show(events)}`
    )
  }
  const names = new Set<string>()
  for (const [i, event] of events.entries()) {
    if (!isEventDefinition(event) || event.schema === undefined) {
      throw new ValidationError(
        `${label}: \`events[${i}]\` must be the definition of an event with a schema, got ${show(event)}`
      )
    }
    if (names.has(event.name)) {
      throw new ValidationError(
        `${label}: event "${event.name}" is there twice. Give only the definition of its latest version; ` +
          "`eventDefinitions` of the client convert older events to it"
      )
    }
    names.add(event.name)
  }
}
