/**
 * One reader for all subscribers of an environment: it follows the log, or the system events, and hands every item to the
 * channels that it fits. A channel is what subscribers of one shape share: pattern, filter and form of the frame, which is
 * encoded once for all of them.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"
import { type JsonText, isObject } from "../../Json.ts"
import { eventView } from "../Functions/Registry.ts"
import { TRACEPARENT } from "../../Trace.ts"
import type { LogEntry } from "../Log/LogRecords.ts"
import type { Filter } from "./Filter.ts"
import type { EventAccess } from "../SystemEvents/SystemEvents.ts"
import type { Target } from "./Target.ts"

/** Something that subscribers get: an event, a message or a system event. */
export interface Item extends Omit<LogEntry, "kind"> {
  readonly kind: LogEntry["kind"] | "system"
  /** What somebody must be allowed to do who gets it, besides subscribing. */
  readonly access?: EventAccess | undefined
}

export interface ItemPage {
  readonly items: ReadonlyArray<Item>
  readonly position: number
  readonly atEnd: boolean
  /** Items before this one are gone and were not read. */
  readonly gap?: boolean
  /** The same, of states of projections. */
  readonly stateGap?: boolean
}

/** The form in which a subscriber gets items. */
export interface Shape {
  readonly subscriptionId: string
  readonly target: Target
  readonly filter?: Filter
  readonly includeMetadata: boolean
  /** How to write positions, for clients that resume. */
  readonly writePosition?: (position: number) => string
  /** For connections that speak another language than that of `/ws`. */
  readonly form?: Form
}

/** How a delivery is told. */
export interface Told {
  /** 2 and more for a redelivery. */
  readonly attempt?: number
  /** Stands in for the id of the item. */
  readonly eventId?: string
}

/** The language of a connection, which tells the same as the frames of `/ws` in another way. */
export interface Form {
  /** No other form has it; what is encoded in one is shared by all connections that speak it. */
  readonly name: string
  readonly encode: (shape: Shape, item: Item, told: Required<Told>) => string
}

export interface Listener {
  /** Gets an item that fits; `frame` is encoded when it is first asked for, and the same for all of a channel. */
  readonly offer: (item: Item, frame: () => Buffer) => void
  /** Items were lost before the reader could read them. */
  readonly onGap: () => void
}

interface Channel {
  readonly shape: Shape
  readonly listeners: Set<Listener>
}

export class Feed {
  /** Everything up to here was handed out. */
  position: number
  readonly #read: (after: number) => Effect.Effect<ItemPage, StoreError>
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #onIdle: () => void
  readonly #channels = new Map<string, Channel>()
  /** The channels that a name fits, for names that have come. */
  readonly #byName = new Map<string, ReadonlyArray<Channel>>()
  #reading = false
  #again = false
  /** The steps that expressions had taken when others went on last. */
  #turn = 0

  constructor(
    position: number,
    read: (after: number) => Effect.Effect<ItemPage, StoreError>,
    run: (effect: Effect.Effect<void>) => void,
    onIdle: () => void
  ) {
    this.position = position
    this.#read = read
    this.#run = run
    this.#onIdle = onIdle
  }

  get isIdle(): boolean {
    return this.#channels.size === 0
  }

  /** Hands out from now on what fits; returns the way to stop that. */
  join(shape: Shape, listener: Listener): () => void {
    const { filter, form, includeMetadata, subscriptionId, target, writePosition } = shape
    const key = JSON.stringify([
      subscriptionId,
      target.kind,
      target.names,
      filter?.text,
      includeMetadata,
      writePosition !== undefined,
      form?.name
    ])
    let channel = this.#channels.get(key)
    if (channel === undefined) {
      this.#channels.set(key, (channel = { shape, listeners: new Set() }))
      this.#byName.clear()
    }
    const { listeners } = channel
    listeners.add(listener)
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return
      this.#channels.delete(key)
      this.#byName.clear()
      if (this.#channels.size === 0) this.#onIdle()
    }
  }

  /** There may be something to read. */
  wake(): void {
    if (this.#channels.size === 0) return
    if (this.#reading) {
      this.#again = true
      return
    }
    this.#reading = true
    this.#run(this.#pump)
  }

  /** In the same turn in which there was nothing more to read, so that no wake is lost between the two. */
  #rest(): void {
    this.#reading = false
  }

  readonly #pump: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    while (true) {
      this.#again = false
      const page = yield* this.#read(this.position)
      this.#turn = stepsTaken()
      if (page.gap === true || page.stateGap === true) {
        for (const { listeners, shape } of this.#channels.values()) {
          if (hasGap(page, shape)) for (const listener of listeners) listener.onGap()
        }
      }
      for (const item of page.items) {
        // before it is handed out: whoever joins while filters are evaluated has to have read the item by itself
        this.position = item.position
        let handed = this.#hand(item)
        while (handed !== undefined) {
          yield* Effect.yieldNow
          this.#turn = stepsTaken()
          handed = this.#hand(item, handed)
        }
      }
      this.position = Math.max(this.position, page.position)
      if (page.atEnd && !this.#again) return this.#rest()
    }
  }).pipe(
    Effect.onError(() => Effect.sync(() => this.#rest())),
    Effect.catch((error) =>
      // another engine has the database, and its subscribers
      error.code === "STORE_LOCKED"
        ? Effect.void
        : // it reads on where it was; the next commit may wake it before
          Effect.andThen(
            Effect.logWarning("Subscribers could not be told what is new; trying again in a second", error),
            Effect.delay(
              Effect.sync(() => this.wake()),
              RETRY_MS
            )
          )
    )
  )

  /** When filters have taken so long that others must go on first, says which channels have had their turn. */
  #hand(item: Item, handed?: ReadonlySet<Channel>): ReadonlySet<Channel> | undefined {
    const channels = this.#channelsOf(item)
    for (const [i, channel] of channels.entries()) {
      if (handed?.has(channel) === true) continue
      const { shape, listeners } = channel
      if (shape.filter !== undefined && stepsTaken() - this.#turn > MAX_STEPS) {
        return new Set([...(handed ?? []), ...channels.slice(0, i)])
      }
      if (!passes(shape, item)) continue
      let encoded: Buffer | undefined
      const frame = () => (encoded ??= Buffer.from(encodeItem(shape, item)))
      for (const listener of listeners) listener.offer(item, frame)
    }
    return undefined
  }

  #channelsOf({ kind, name }: Item): ReadonlyArray<Channel> {
    const key = `${kind} ${name}`
    let channels = this.#byName.get(key)
    if (channels === undefined) {
      channels = [...this.#channels.values()].filter(({ shape: { target } }) => fits(target, kind, name))
      if (this.#byName.size >= NAMES) this.#byName.clear()
      this.#byName.set(key, channels)
    }
    return channels
  }
}

/** After the store could not be asked, milliseconds. */
export const RETRY_MS = 1000

/** Names whose channels are remembered: those of system events are new with every run. */
const NAMES = 1000

const fits = (target: Target, kind: Item["kind"], name: string): boolean =>
  (target.kind === undefined || target.kind === kind) && target.fits(name)

/** Whether an item of the right kind and name is of the right entity, if one is asked for, and passes the filter. */
const passes = ({ filter, target: { fitsEntity } }: Pick<Shape, "filter" | "target">, item: Item): boolean =>
  (fitsEntity === undefined ||
    (item.entity !== undefined && fitsEntity(`${item.entity.type}.${item.entity.id}.${item.name}`))) &&
  (filter === undefined || filter.accepts(eventView(item)))

/** Whether something is missing from the page that is for the subscribers of a shape. */
export const hasGap = ({ gap, stateGap }: ItemPage, { target }: Shape): boolean =>
  gap === true || (stateGap === true && target.aboutStates === true)

/** Whether an item is for the subscribers of a shape. */
export const accepts = (shape: Shape, item: Item): boolean =>
  fits(shape.target, item.kind, item.name) && passes(shape, item)

/** The frame of an item. */
export const encodeItem = (
  shape: Shape,
  item: Item,
  { attempt = 1, eventId = item.id }: Told = {}
): string => {
  const { form, includeMetadata, subscriptionId, target, writePosition } = shape
  if (form !== undefined) return form.encode(shape, item, { attempt, eventId })
  const isWhole = target.fitsEntity !== undefined
  // a legacy client looks into `data` only
  const data = isWhole && writePosition === undefined ? wholeEvent(item) : item.data
  return (
    `{"type":"event","subscriptionId":${JSON.stringify(subscriptionId)},"topic":${JSON.stringify(item.name)},"data":${data}` +
    (includeMetadata
      ? `,"meta":{"timestamp":"${new Date(item.timestamp).toISOString()}","sequence":${item.position}}`
      : "") +
    `,"eventId":${JSON.stringify(eventId)}` +
    (writePosition === undefined
      ? ""
      : `,"position":${JSON.stringify(writePosition(item.position))}` +
        (item.kind === "event" ? `,"version":${item.version}` : "") +
        (attempt === 1 ? "" : `,"attempt":${attempt}`) +
        (item.trace === undefined ? "" : `,"${TRACEPARENT}":${JSON.stringify(item.trace)}`) +
        (isWhole ? `,"entity":${JSON.stringify(item.entity)}` : "") +
        (isWhole && item.metadata !== undefined ? `,"metadata":${item.metadata}` : "")) +
    "}"
  )
}

/**
 * An event of an entity as legacy clients get it as `data`: the whole event, with the fields of its own data beside it as far
 * as they are called something else.
 */
export const wholeEvent = (item: Item): JsonText => {
  const event = eventView(item)
  const { data } = event
  const own = isObject(data) ? Object.entries(data).filter(([name]) => !eventFields.has(name)) : []
  return `{${own.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)},`).join("")}${event.toText().slice(1)}`
}

const eventFields: ReadonlySet<string> = new Set([
  "id",
  "name",
  "version",
  "data",
  "metadata",
  "source",
  "entity",
  "timestamp"
])
