/**
 * A subscription without a group. While its connection keeps up, the subscription is live: it gets new items from the feed that
 * all subscribers share. When the connection falls behind, the subscription drops items (with backpressure `drop`), or reads the
 * log by itself. Items that wait are then in the log and not in memory.
 */
import * as settlement from "effect/Effect"
import type { StoreError } from "../../Errors.ts"
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"
import {
  MAX_IN_FLIGHT,
  MAX_REDELIVERIES,
  REDELIVER_MS,
  type AckMode,
  type AckType,
  type BackpressureMode,
  type BufferConfig
} from "../../Protocol/Subscriptions.ts"
import {
  accepts,
  encodeItem,
  hasGap,
  type Feed,
  type Item,
  type ItemPage,
  type Listener,
  type ItemFormat
} from "./Feed.ts"
import type { EventAccess } from "../SystemEvents/SystemEvents.ts"

/** What a subscription needs of its connection. */
export interface ConnectionSink {
  /** Bytes that were sent and have not left yet. */
  readonly backlog: number
  readonly isClosed: boolean
  readonly mayReceive: (access: EventAccess) => boolean
  /** Whether the client may have events of an entity's stream. */
  readonly mayRead: (entityId: string) => boolean
  readonly send: (frame: string | Uint8Array) => void
  /** Sends an error of a subscription. `retrying` tells the client that the subscription continues. */
  readonly sendError: (subscriptionId: string, code: string, message: string, retrying: boolean) => void
  /** Ends a subscription with a reason. */
  readonly end: (subscriptionId: string, code: string, message: string) => void
  /** Makes the handle by which the client names a delivery of the item in its acks. It is unique in the connection. */
  readonly handleFor: (item: Item, subscriptionId: string) => string
  /** Calls `f` after the delay. Returns a function that cancels the call. */
  readonly schedule: (delayMs: number, f: () => void) => () => void
  readonly run: (effect: settlement.Effect<void>) => void
}

/** How the client has settled a delivery. */
export interface Settlement {
  readonly how: AckType
  /** The delay before the redelivery, in milliseconds; only with `nak`. */
  readonly redeliverMs?: number
  /** The reason; only with `nak` and `term`. */
  readonly reason?: string
}

/** Which deliveries are in progress, by their handles: only one, or all except some. */
export type InProgressSelection = { readonly only: string } | { readonly except: ReadonlyArray<string> }

/** A subscription of a connection. */
export interface OpenSubscription {
  readonly id: string
  readonly pattern: string
  /** Whether the delivery is in flight: held by the client or, without a group, waiting to be sent again. */
  readonly isInFlight: (handle: string) => boolean
  /** Settles a delivery. Returns whether it was in flight. */
  readonly settle: (handle: string, as: Settlement) => settlement.Effect<boolean, StoreError>
  /** Extends deliveries that are in progress: one of them, or all but some. Returns how many were extended. */
  readonly extend: (which: InProgressSelection) => settlement.Effect<number, StoreError>
  /** Called at a sign that the client is alive, such as an ack of an event that is not in flight. Only groups need this. */
  readonly noteSignOfLife: () => void
  readonly onDrain: () => void
  readonly close: () => void
  /**
   * The position of the subscription while it reads the log by itself; `undefined` while it is live. Groups keep positions of
   * their own.
   */
  readonly behindPosition?: number | undefined
}

/** How many bytes may wait in a connection before a subscription with this backpressure mode sends no more items. */
export const backlogLimit = (mode: BackpressureMode, { maxBytes }: BufferConfig = {}): number =>
  maxBytes ?? (mode === "block" ? 64 * 1024 : 1024 * 1024)

interface Delivery {
  readonly item: Item
  readonly attempt: number
  /** Whether the client has the delivery. If not, the delivery waits to be sent again. */
  readonly isHeld: boolean
  readonly cancel: () => void
}

export class Subscriber implements OpenSubscription, Listener {
  readonly id: string
  readonly pattern: string
  readonly #format: ItemFormat
  readonly #options: {
    readonly ackMode: AckMode
    readonly ackWaitMs: number
    readonly backpressure: BackpressureMode
  }
  readonly #sink: ConnectionSink
  readonly #feed: () => Feed
  readonly #read: (after: number) => settlement.Effect<ItemPage, StoreError>
  readonly #inFlight = new Map<string, Delivery>()
  readonly #limit: number
  /** The position up to which everything was sent or skipped. */
  #cursor: number
  #leaveFeed: (() => void) | undefined
  #waitsForRoom = false
  #droppedCount = 0
  #isClosed = false

  constructor(
    pattern: string,
    format: ItemFormat,
    after: number,
    options: {
      readonly ackMode: AckMode
      readonly ackWaitMs: number
      readonly backpressure: BackpressureMode
      readonly buffer?: BufferConfig
    },
    sink: ConnectionSink,
    feed: () => Feed,
    read: (after: number) => settlement.Effect<ItemPage, StoreError>
  ) {
    this.id = format.subscriptionId
    this.pattern = pattern
    this.#format = format
    this.#cursor = after
    this.#options = options
    this.#sink = sink
    this.#feed = feed
    this.#read = read
    this.#limit = backlogLimit(options.backpressure, options.buffer)
  }

  start(): void {
    this.#sink.run(this.#readLog)
  }

  get behindPosition(): number | undefined {
    return this.#leaveFeed === undefined ? this.#cursor : undefined
  }

  offerItem(item: Item, frame: () => Buffer): void {
    if (item.position <= this.#cursor) return
    if (!this.#isAllowed(item)) {
      this.#cursor = item.position
      return
    }
    if (!this.#hasRoom) {
      if (this.#options.backpressure === "drop") {
        this.#cursor = item.position
        this.#droppedCount++
        return
      }
      if (this.#options.backpressure === "buffer" && this.#sink.backlog >= this.#limit) {
        this.#sink.sendError(this.id, "SLOW_CONSUMER", slowConsumerMessage(this.pattern), true)
      }
      this.#leaveFeed?.()
      this.#leaveFeed = undefined
      this.#waitsForRoom = true
      return
    }
    this.#cursor = item.position
    this.#sendDropped()
    this.#deliver(item, 1, frame)
  }

  onGap(): void {
    this.#sink.sendError(
      this.id,
      "EVENTS_DROPPED",
      `Events of "${this.pattern}" were lost before they were delivered: the engine remembers system events only for a while`,
      true
    )
  }

  // nothing to do: only a member of a group can count as silent
  noteSignOfLife(): void {}

  onDrain(): void {
    this.#continueSending()
  }

  isInFlight(handle: string): boolean {
    return this.#inFlight.has(handle)
  }

  settle(handle: string, { how, redeliverMs = REDELIVER_MS }: Settlement): settlement.Effect<boolean> {
    return settlement.sync(() => {
      const delivery = this.#inFlight.get(handle)
      if (delivery === undefined) return false
      delivery.cancel()
      if (how === "nak") this.#schedule(handle, { ...delivery, isHeld: false }, redeliverMs)
      else this.#inFlight.delete(handle)
      this.#continueSending()
      return true
    })
  }

  extend(which: InProgressSelection): settlement.Effect<number> {
    return settlement.sync(() => {
      const handles =
        "only" in which
          ? [which.only]
          : [...this.#inFlight.keys()].filter((handle) => !which.except.includes(handle))
      const extended = handles.filter((handle) => {
        const delivery = this.#inFlight.get(handle)
        if (delivery?.isHeld !== true) return false
        delivery.cancel()
        this.#schedule(handle, delivery, this.#options.ackWaitMs)
        return true
      })
      return extended.length
    })
  }

  close(): void {
    this.#isClosed = true
    this.#leaveFeed?.()
    for (const { cancel } of this.#inFlight.values()) cancel()
    this.#inFlight.clear()
  }

  get #hasRoom(): boolean {
    return (
      this.#sink.backlog < this.#limit &&
      (this.#options.ackMode === "auto" || this.#inFlight.size < MAX_IN_FLIGHT)
    )
  }

  #isAllowed({ access, entity }: Item): boolean {
    return (
      (access === undefined || this.#sink.mayReceive(access)) &&
      (entity === undefined || this.#sink.mayRead(entity.id))
    )
  }

  /** Sends further items, because the connection may have room again. */
  #continueSending(): void {
    if (this.#isClosed || !this.#hasRoom) return
    this.#sendDropped()
    if (!this.#waitsForRoom) return
    this.#waitsForRoom = false
    this.#sink.run(this.#readLog)
  }

  #sendDropped(): void {
    if (this.#droppedCount === 0) return
    const dropped = this.#droppedCount
    this.#droppedCount = 0
    this.#sink.sendError(
      this.id,
      "EVENTS_DROPPED",
      `${dropped === 1 ? "1 event" : `${dropped} events`} of "${this.pattern}" ${dropped === 1 ? "was" : "were"} dropped, because the client did not keep up`,
      true
    )
  }

  #deliver(item: Item, attempt: number, frame?: () => Buffer): void {
    if (this.#options.ackMode === "auto") {
      return this.#sink.send(frame?.() ?? encodeItem(this.#format, item))
    }
    const handle = this.#sink.handleFor(item, this.id)
    this.#schedule(handle, { item, attempt, isHeld: true }, this.#options.ackWaitMs)
    this.#sink.send(encodeItem(this.#format, item, { attempt, eventId: handle }))
  }

  /**
   * Delivers the item again after `delayMs`, unless the delivery is settled or extended before that. After the last attempt, gives
   * the item up.
   */
  #schedule(handle: string, delivery: Omit<Delivery, "cancel">, delayMs: number): void {
    const { attempt, item } = delivery
    const cancel = this.#sink.schedule(delayMs, () => {
      this.#inFlight.delete(handle)
      if (attempt <= MAX_REDELIVERIES) return this.#deliver(item, attempt + 1)
      this.#sink.sendError(this.id, "REDELIVERIES_EXHAUSTED", givenUpMessage(item.id, attempt), true)
      this.#continueSending()
    })
    this.#inFlight.set(handle, { ...delivery, cancel })
  }

  readonly #readLog: settlement.Effect<void> = settlement
    .gen({ self: this }, function* () {
      while (!this.#isClosed) {
        if (!this.#hasRoom) {
          this.#waitsForRoom = true
          return
        }
        const page = yield* this.#read(this.#cursor)
        if (this.#isClosed) return
        if (hasGap(page, this.#format)) this.onGap()
        const stepsBefore = expressionSteps()
        const stoppedEarly = page.items.some((item) => {
          if (!this.#hasRoom) return true
          // filters may take long: the rest of the page is read again when other work has had its turn
          if (expressionSteps() - stepsBefore > MAX_EXPRESSION_STEPS) return true
          this.#cursor = item.position
          if (accepts(this.#format, item) && this.#isAllowed(item)) this.#deliver(item, 1)
          return false
        })
        if (stoppedEarly) yield* settlement.yieldNow
        if (!stoppedEarly) this.#cursor = Math.max(this.#cursor, page.position)
        if (!stoppedEarly && page.atEnd && this.#join()) return
      }
    })
    .pipe(
      settlement.catch((error) =>
        settlement.sync(() => {
          this.#sink.sendError(this.id, "INTERNAL_ERROR", `The log cannot be read: ${error.message}`, true)
          this.#waitsForRoom = true
          this.#sink.schedule(1000, () => this.#continueSending())
        })
      )
    )

  /** Joins the feed if this subscription has seen everything that the feed has passed on. Returns whether it has joined. */
  #join(): boolean {
    const feed = this.#feed()
    if (feed.isIdle) feed.position = this.#cursor
    if (this.#cursor < feed.position) return false
    this.#leaveFeed = feed.join(this.#format, this)
    feed.wake()
    return true
  }
}

export const slowConsumerMessage = (pattern: string): string =>
  `The client reads "${pattern}" too slowly: the events that follow wait in the engine, and are sent as fast as the client reads them`

export const givenUpMessage = (id: string, attempts: number): string =>
  `Event ${id} will not be delivered again: it was delivered ${attempts === 1 ? "once" : `${attempts} times`} and never acked`
