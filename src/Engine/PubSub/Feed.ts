/**
 * Reads the log, or the system events, once for all subscribers of an environment, and passes each item to the channels that
 * match it. Subscribers with the same pattern, filter and frame format share a channel, so each frame is encoded once.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import { type JsonText, isObject } from "../../Json.ts"
import { eventView } from "../Functions/Registry.ts"
import { TRACEPARENT } from "../../Trace.ts"
import type { LogEntry } from "../Log/LogRecords.ts"
import type { Filter } from "./Filter.ts"
import type { EventAccess } from "../SystemEvents/SystemEvents.ts"
import type { Target } from "./Target.ts"

/** What subscribers get: an event, a message or a system event. */
export interface Item extends Omit<LogEntry, "kind"> {
  readonly kind: LogEntry["kind"] | "system"
  /** What a subscriber must be allowed to do, besides subscribing, to get the item. */
  readonly access?: EventAccess | undefined
}

export interface ItemPage {
  readonly items: ReadonlyArray<Item>
  /** The position up to which this page was read. */
  readonly position: number
  readonly atEnd: boolean
  /** Whether items that belong before this page were deleted or dropped, so that the reader has missed them. */
  readonly gap?: boolean
  /** Whether states of projections that belong before this page were dropped, so that the reader has missed them. */
  readonly stateGap?: boolean
}

/** The format in which a subscriber gets items. */
export interface ItemFormat {
  readonly subscriptionId: string
  readonly target: Target
  readonly filter?: Filter
  readonly includeMetadata: boolean
  /** Formats positions for the client; absent for a client that cannot resume. */
  readonly writePosition?: (position: number) => string
  /** The wire format of the connection; absent for the JSON frames of `/ws`. */
  readonly encoding?: ItemEncoding
}

/** What a frame says about a delivery. */
export interface DeliveryInfo {
  /** The number of the attempt; 2 or more for a redelivery. */
  readonly attempt?: number
  /** The event id in the frame, if it is not the id of the item. */
  readonly eventId?: string
}

/** A wire format with the same content as the frames of `/ws`. */
export interface ItemEncoding {
  /** The unique name of the format. All connections with the same format share their encoded frames. */
  readonly name: string
  readonly encode: (format: ItemFormat, item: Item, delivery: Required<DeliveryInfo>) => string
}

export interface Listener {
  /** Called with each matching item. `frame` returns the encoded item; its first call encodes the item, for the whole channel. */
  readonly offerItem: (item: Item, frame: () => Buffer) => void
  /** Called when items were lost before the reader could read them. */
  readonly onGap: () => void
}

interface Channel {
  readonly format: ItemFormat
  readonly listeners: Set<Listener>
}

export class Feed {
  /** The position up to which everything was passed on. */
  position: number
  readonly #read: (after: number) => Effect.Effect<ItemPage, StoreError>
  readonly #run: (effect: Effect.Effect<void>) => void
  readonly #onIdle: () => void
  readonly #channels = new Map<string, Channel>()
  /** The channels that match items of a kind and name, for the kinds and names that have occurred so far. */
  readonly #channelsByName = new Map<string, ReadonlyArray<Channel>>()
  #isReading = false
  #wasWokenMeanwhile = false
  /** How many evaluation steps the filters had taken when the feed last let other work run. */
  #stepsAtYield = 0

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

  /** Adds a listener, which gets matching items from now on. Returns a function that removes it. */
  join(format: ItemFormat, listener: Listener): () => void {
    const { filter, encoding, includeMetadata, subscriptionId, target, writePosition } = format
    const key = JSON.stringify([
      subscriptionId,
      target.kind,
      target.names,
      filter?.text,
      includeMetadata,
      writePosition !== undefined,
      encoding?.name
    ])
    let channel = this.#channels.get(key)
    if (channel === undefined) {
      this.#channels.set(key, (channel = { format, listeners: new Set() }))
      this.#channelsByName.clear()
    }
    const { listeners } = channel
    listeners.add(listener)
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return
      this.#channels.delete(key)
      this.#channelsByName.clear()
      if (this.#channels.size === 0) this.#onIdle()
    }
  }

  /** Wakes the reader, because there may be something to read. */
  wake(): void {
    if (this.#channels.size === 0) return
    if (this.#isReading) {
      this.#wasWokenMeanwhile = true
      return
    }
    this.#isReading = true
    this.#run(this.#pump)
  }

  /**
   * Notes that the reader has stopped. It is called in the same turn of the event loop in which the reader found nothing more to
   * read, so that no `wake` in between is lost.
   */
  #stopReading(): void {
    this.#isReading = false
  }

  readonly #pump: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    while (true) {
      this.#wasWokenMeanwhile = false
      const page = yield* this.#read(this.position)
      this.#stepsAtYield = expressionSteps()
      if (page.gap === true || page.stateGap === true) {
        for (const { listeners, format } of this.#channels.values()) {
          if (hasGap(page, format)) for (const listener of listeners) listener.onGap()
        }
      }
      for (const item of page.items) {
        // set before the item is passed on: a subscriber that joins while filters are evaluated must read the item by itself
        this.position = item.position
        let doneChannels = this.#passOn(item)
        while (doneChannels !== undefined) {
          yield* Effect.yieldNow
          this.#stepsAtYield = expressionSteps()
          doneChannels = this.#passOn(item, doneChannels)
        }
      }
      this.position = Math.max(this.position, page.position)
      if (page.atEnd && !this.#wasWokenMeanwhile) return this.#stopReading()
    }
  }).pipe(
    Effect.onError(() => Effect.sync(() => this.#stopReading())),
    Effect.catch((error) =>
      // another engine has taken over the database, and serves the subscribers
      error.code === "STORE_LOCKED"
        ? Effect.void
        : // the reader goes on from the same position; the next commit may wake it earlier
          Effect.andThen(
            Effect.logWarning(
              "New events could not be read for subscribers; trying again in a second",
              error
            ),
            Effect.delay(
              Effect.sync(() => this.wake()),
              RETRY_MS
            )
          )
    )
  )

  /**
   * Passes an item to its channels. If the filters have taken so long that other work must run first, returns the channels that
   * are done.
   */
  #passOn(item: Item, doneChannels?: ReadonlySet<Channel>): ReadonlySet<Channel> | undefined {
    const channels = this.#channelsOf(item)
    for (const [i, channel] of channels.entries()) {
      if (doneChannels?.has(channel) === true) continue
      const { format, listeners } = channel
      if (format.filter !== undefined && expressionSteps() - this.#stepsAtYield > MAX_EXPRESSION_STEPS) {
        return new Set([...(doneChannels ?? []), ...channels.slice(0, i)])
      }
      if (!passesFilter(format, item)) continue
      let encodedFrame: Buffer | undefined
      const frame = () => (encodedFrame ??= Buffer.from(encodeItem(format, item)))
      for (const listener of listeners) listener.offerItem(item, frame)
    }
    return undefined
  }

  #channelsOf({ kind, name }: Item): ReadonlyArray<Channel> {
    const key = `${kind} ${name}`
    let channels = this.#channelsByName.get(key)
    if (channels === undefined) {
      channels = [...this.#channels.values()].filter(({ format: { target } }) =>
        matchesName(target, kind, name)
      )
      if (this.#channelsByName.size >= MAX_CACHED_NAMES) this.#channelsByName.clear()
      this.#channelsByName.set(key, channels)
    }
    return channels
  }
}

/** How long to wait after the store could not be read, before another try, in milliseconds. */
export const RETRY_MS = 1000

/** For how many names the channels are cached. It must be limited, since each run brings new names of system events. */
const MAX_CACHED_NAMES = 1000

const matchesName = (target: Target, kind: Item["kind"], name: string): boolean =>
  (target.kind === undefined || target.kind === kind) && target.matchesName(name)

/** Whether an item whose kind and name match also belongs to the requested entity, if one is requested, and passes the filter. */
const passesFilter = (
  { filter, target: { matchesEntity } }: Pick<ItemFormat, "filter" | "target">,
  item: Item
): boolean =>
  (matchesEntity === undefined ||
    (item.entity !== undefined && matchesEntity(`${item.entity.type}.${item.entity.id}.${item.name}`))) &&
  (filter === undefined || filter.accepts(eventView(item)))

/** Whether a page lacks items that subscribers with this format should have got. */
export const hasGap = ({ gap, stateGap }: ItemPage, { target }: ItemFormat): boolean =>
  gap === true || (stateGap === true && target.isForStates === true)

/** Whether an item is for subscribers with this format. */
export const accepts = (format: ItemFormat, item: Item): boolean =>
  matchesName(format.target, item.kind, item.name) && passesFilter(format, item)

/** The frame of an item. */
export const encodeItem = (
  format: ItemFormat,
  item: Item,
  { attempt = 1, eventId = item.id }: DeliveryInfo = {}
): string => {
  const { encoding, includeMetadata, subscriptionId, target, writePosition } = format
  if (encoding !== undefined) return encoding.encode(format, item, { attempt, eventId })
  const isOfEntity = target.matchesEntity !== undefined
  // a legacy client reads only `data`, so it gets the whole event there
  const data = isOfEntity && writePosition === undefined ? wholeEvent(item) : item.data
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
        (isOfEntity ? `,"entity":${JSON.stringify(item.entity)}` : "") +
        (isOfEntity && item.metadata !== undefined ? `,"metadata":${item.metadata}` : "")) +
    "}"
  )
}

/**
 * An entity's event in the form that legacy clients get as `data`: the whole event, with the fields of its data beside its own
 * fields. Fields of the data that have the name of an event's field are left out.
 */
export const wholeEvent = (item: Item): JsonText => {
  const event = eventView(item)
  const { data } = event
  const dataFields = isObject(data) ? Object.entries(data).filter(([name]) => !eventFields.has(name)) : []
  return `{${dataFields.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)},`).join("")}${event.toText().slice(1)}`
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
