/**
 * A client's end of `/ws`: it keeps a connection, brings its subscriptions over to the next one, and knows how far each has
 * come. Both faces are made of it.
 */
import { askedDelayMs, calculateBackoff } from "../Backoff.ts"
import {
  ClosedError,
  ConnectionError,
  isRetryable,
  SchemaValidationError,
  SubscriptionError,
  toError
} from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import type { Alarm } from "../Execution/Alarm.ts"
import { isObject, numberOf, safeJsonParse, textOf } from "../Json.ts"
import {
  type AckMode,
  type AckType,
  type EventMetadata,
  MAX_FAILURE,
  MAX_REDELIVER_MS,
  STREAM_CAPACITY,
  type SubscribeOptions,
  type Wire,
  type WSClientMessage
} from "../Protocol/Subscriptions.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { type Body, Delivery, free, loseAll } from "./Delivery.ts"

export type ConnectionState = "connecting" | "connected" | "disconnected" | "reconnecting"

/** An event as a subscriber gets it. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionEvent<T = any> {
  /** Name of the event or topic; of a system event with `system.`. */
  readonly topic: string
  readonly data: T
  /** With `includeMetadata`. */
  readonly meta?: EventMetadata
  readonly eventId?: string
  /** With an `entity:` pattern: the stream and its version, and what else the event was appended with. */
  readonly entity?: EventEntity
  readonly version?: number
  readonly metadata?: Record<string, unknown>
}

export interface SubscriptionErrorInfo {
  readonly subscriptionId?: string
  readonly code: string
  readonly message: string
  /** Whether the subscription goes on. */
  readonly retrying?: boolean
}

// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface SubscriptionCallbacks<T = any> {
  /**
   * In the order of the events. What it throws or rejects with goes to `onError` and harms nobody else. In a group with `auto` the
   * event comes again then; without a group the next one comes.
   */
  readonly onEvent?: (event: SubscriptionEvent<T>) => unknown
  readonly onError?: (error: SubscriptionErrorInfo) => void
  readonly onStateChange?: (state: ConnectionState) => void
}

/** A stream takes events when it gets to them, and says when the body of its loop is done. */
export interface SessionCallbacks extends SubscriptionCallbacks {
  readonly onBody?: (event: SubscriptionEvent, body: Body) => void
  /** The data as the subscriber gets it. What it throws is reported, and the event has failed. */
  readonly decode?: ((data: unknown) => unknown) | undefined
}

export interface SessionOptions {
  readonly autoReconnect: boolean
  readonly reconnectDelay: number
  readonly maxReconnectDelay: number
  readonly reconnectBackoff: number
  readonly connectionTimeout: number
  /** Brings the data of user events to the latest version. */
  readonly eventDefinitions?: EventDefinitionRegistry
}

/** Opens a connection: calls `opened` with it, or `failed`. Returns the way to give up. */
export type Dial = (opened: (wire: Wire) => void, failed: (error: Error) => void) => () => void

const NORMAL = 1000
const PROTOCOL_ERROR = 1002
/** Events that wait for a subscriber before the connection is paused. */
const HELD = 1000

/** An event that has come, and how it is settled. */
interface Seen {
  readonly eventId: string
  readonly position: string
  settled: boolean
}

interface PendingAck {
  readonly done: () => void
  readonly failed: (error: Error) => void
}

export class SessionSubscription {
  readonly pattern: string
  readonly options: SubscribeOptions
  readonly callbacks: SessionCallbacks
  id = ""
  lastEvent: SubscriptionEvent | undefined
  isActive = true
  /** Whether the server tells positions and answers acks. */
  isOurs = false
  /** As asked for, or as the group says. */
  ackMode: AckMode
  /** Milliseconds in which the server wants to hear of what is held; absent when it does not listen. */
  ackWaitMs: number | undefined
  /** What is held of a group, or with acks, by event id. */
  readonly deliveries = new Map<string, Delivery>()
  cancelKeeping: (() => void) | undefined
  /** Called when the server has confirmed it on another connection. */
  onConfirmed: () => void = () => undefined
  /** What was confirmed on this connection. */
  confirmed = false
  /** Everything up to here has come, and needs no ack any more. */
  position: string | undefined
  /** With acks and without a group: what came after `position`. */
  seen: Array<Seen> = []
  /** Until the caller of `subscribe` has gone on. */
  held: Array<() => void> | undefined = []
  pending: PendingAck | undefined

  constructor(pattern: string, options: SubscribeOptions, callbacks: SessionCallbacks, pending: PendingAck) {
    this.pattern = pattern
    this.options = options
    this.callbacks = callbacks
    this.pending = pending
    this.ackMode = options.ackMode ?? "auto"
  }

  /** Whether the server has somebody settle each event. */
  get holds(): boolean {
    return this.isOurs && (this.options.consumerGroup !== undefined || this.ackMode === "manual")
  }

  /** Whether the client settles an event when its body is done. */
  get acksItself(): boolean {
    return this.isOurs && this.options.consumerGroup !== undefined && this.ackMode !== "manual"
  }

  get remembersSeen(): boolean {
    return this.options.ackMode === "manual" && this.options.consumerGroup === undefined
  }
}

export class SubscriptionSession {
  readonly #dial: Dial
  readonly #alarm: Alarm
  readonly #now: () => number
  readonly #options: SessionOptions
  readonly #onClose: () => void
  readonly #subscriptions = new Map<string, SessionSubscription>()
  readonly #byId = new Map<string, SessionSubscription>()
  readonly #acks = new Map<number, PendingAck>()
  readonly #stateListeners = new Set<(state: ConnectionState) => void>()
  readonly #errorListeners = new Set<(error: SubscriptionErrorInfo) => void>()
  #state: ConnectionState = "disconnected"
  #wire: Wire | undefined
  #attempt = 0
  #closed = false
  #abandon: (() => void) | undefined
  #cancelRetry: (() => void) | undefined
  #connecting: Promise<void> | undefined
  #requestId = 0
  #paused = false

  constructor(
    dial: Dial,
    alarm: Alarm,
    now: () => number,
    options: SessionOptions,
    onClose: () => void = () => undefined
  ) {
    this.#onClose = onClose
    this.#dial = dial
    this.#alarm = alarm
    this.#now = now
    this.#options = options
  }

  get state(): ConnectionState {
    return this.#state
  }

  onState(listener: (state: ConnectionState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => void this.#stateListeners.delete(listener)
  }

  onError(listener: (error: SubscriptionErrorInfo) => void): () => void {
    this.#errorListeners.add(listener)
    return () => void this.#errorListeners.delete(listener)
  }

  connect(): Promise<void> {
    if (this.#closed) return Promise.reject(closed())
    if (this.#state === "connected") return Promise.resolve()
    this.#cancelRetry?.()
    this.#cancelRetry = undefined
    return (this.#connecting ??= new Promise<void>((resolve, reject) => this.#open(resolve, reject)).finally(
      () => (this.#connecting = undefined)
    ))
  }

  subscribe(
    pattern: string,
    options: SubscribeOptions,
    callbacks: SessionCallbacks
  ): Promise<SessionSubscription> {
    if (this.#closed) return Promise.reject(closed())
    if (this.#wire === undefined) {
      return Promise.reject(
        new SubscriptionError(`"${pattern}" cannot be subscribed to: call connect() first, and wait for it`, {
          code: "NOT_CONNECTED"
        })
      )
    }
    if (this.#subscriptions.has(pattern)) {
      return Promise.reject(
        new SubscriptionError(
          `This client has subscribed to "${pattern}" already: unsubscribe first, or use another client`,
          { code: "ALREADY_SUBSCRIBED", retryable: false }
        )
      )
    }
    return new Promise((resolve, reject) => {
      const subscription: SessionSubscription = new SessionSubscription(pattern, options, callbacks, {
        done: () => resolve(subscription),
        failed: reject
      })
      this.#subscriptions.set(pattern, subscription)
      this.#request(subscription)
    })
  }

  unsubscribe(subscription: SessionSubscription): void {
    if (!subscription.isActive) return
    this.#forget(subscription)
    if (this.#wire !== undefined && subscription.id !== "") {
      this.#send({ type: "unsubscribe", subscriptionId: subscription.id })
    }
  }

  /** Resolves when the server has stored it, on servers that say so; else when it is sent. */
  settle(
    subscription: SessionSubscription,
    eventId: string,
    ackType: AckType,
    redeliverDelay?: number
  ): Promise<void> {
    const delivery = subscription.deliveries.get(eventId)
    if (delivery !== undefined) {
      delivery.isSettled = true
      if (delivery.phase !== "running") subscription.deliveries.delete(eventId)
    }
    return this.#settle(
      subscription,
      eventId,
      ackType,
      redeliverDelay === undefined ? {} : { redeliverDelay }
    )
  }

  /** Begins the time anew in which the event has to be settled. */
  inProgress(subscription: SessionSubscription, eventId: string): Promise<void> {
    if (this.#wire === undefined || !subscription.isActive) return Promise.reject(unconnected(eventId))
    if (subscription.ackWaitMs === undefined) {
      return Promise.reject(
        new SubscriptionError(
          `Event ${eventId} cannot be said to be in progress: the server of "${subscription.pattern}" does not know of that, or nobody has to settle its events`,
          { code: "UNIMPLEMENTED", retryable: false }
        )
      )
    }
    const delivery = subscription.deliveries.get(eventId)
    // its time begins with this, and not with the end of the body
    if (delivery?.phase === "done") delivery.phase = "left"
    return this.#ask(
      (requestId) => ({ type: "in_progress", subscriptionId: subscription.id, eventId, requestId }),
      () => {
        if (delivery !== undefined) delivery.leftAt = this.#now()
      }
    )
  }

  #settle(
    subscription: SessionSubscription,
    eventId: string,
    ackType: AckType,
    more: { readonly redeliverDelay?: number; readonly reason?: string } = {}
  ): Promise<void> {
    if (this.#wire === undefined || !subscription.isActive) {
      return Promise.reject(unconnected(eventId))
    }
    const message = { type: "ack", eventId, ackType, ...more } as const
    if (!subscription.isOurs) {
      this.#send(message)
      return Promise.resolve()
    }
    return this.#ask(
      (requestId) => ({ ...message, subscriptionId: subscription.id, requestId }),
      () => {
        if (ackType !== "nak") settleSeen(subscription, eventId)
      }
    )
  }

  /** Resolves when the server has answered, after `done`. */
  #ask(message: (requestId: number) => WSClientMessage, done: () => void): Promise<void> {
    const requestId = ++this.#requestId
    return new Promise<void>((resolve, reject) => {
      this.#acks.set(requestId, {
        done: () => {
          done()
          resolve()
        },
        failed: reject
      })
      this.#send(message(requestId))
    })
  }

  /** Takes no more from the connection while somebody has too much. */
  pause(): void {
    this.#paused = true
    this.#wire?.pause()
    // what is on its way is held as well
    for (const subscription of this.#subscriptions.values()) this.#keep(subscription)
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#wire?.resume()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#cancelRetry?.()
    this.#abandon?.()
    const wire = this.#wire
    this.#lose(closed())
    for (const subscription of this.#subscriptions.values()) {
      subscription.pending?.failed(closed())
      this.#forget(subscription)
    }
    wire?.close(NORMAL, "")
    this.#become("disconnected")
    this.#onClose()
  }

  // -------------------------------------------------------------------------------------------------------------------

  #open(opened: () => void, failed: (error: Error) => void): void {
    this.#become("connecting")
    let over = false
    const end = (): boolean => {
      if (over) return false
      over = true
      cancelTimeout()
      this.#abandon = undefined
      return true
    }
    const fail = (error: Error): void => {
      if (!end()) return
      this.#become("disconnected")
      failed(error)
      this.#retry()
    }
    const { connectionTimeout } = this.#options
    const cancelTimeout = this.#alarm.at(this.#now() + connectionTimeout, () => {
      giveUp()
      fail(new ConnectionError(`The server did not accept the connection within ${connectionTimeout}ms`))
    })
    const giveUp = this.#dial((wire) => {
      if (!end()) return wire.close(NORMAL, "")
      this.#attempt = 0
      this.#take(wire)
      opened()
    }, fail)
    this.#abandon = () => {
      if (!end()) return
      giveUp()
      failed(closed())
    }
  }

  #take(wire: Wire): void {
    this.#wire = wire
    if (this.#paused) wire.pause()
    wire.onText = (text) => {
      try {
        this.#hear(text)
      } catch (error) {
        // nothing that a server says gets further: a connection on which it makes no sense is of no use
        this.#report({ code: "INVALID_MESSAGE", message: toError(error).message, retrying: true })
        wire.onText = () => undefined
        wire.close(PROTOCOL_ERROR, "a frame could not be read")
        // the other side may take its time
        wire.onClose(PROTOCOL_ERROR, "")
      }
    }
    wire.onClose = (code) => {
      if (this.#wire !== wire) return
      this.#lose(
        new ConnectionError("The connection was lost: the server delivers again what was not settled")
      )
      this.#become("disconnected")
      if (code !== NORMAL) this.#retry()
    }
    this.#become("connected")
    for (const subscription of this.#subscriptions.values()) this.#request(subscription)
  }

  #lose(error: Error): void {
    this.#wire = undefined
    for (const ack of this.#acks.values()) ack.failed(error)
    this.#acks.clear()
    for (const subscription of this.#subscriptions.values()) {
      subscription.confirmed = false
      this.#stopKeeping(subscription)
      loseAll(subscription.deliveries)
      const { pending } = subscription
      if (pending === undefined) continue
      this.#forget(subscription)
      pending.failed(error)
    }
  }

  #retry(): void {
    if (this.#closed || !this.#options.autoReconnect || this.#cancelRetry !== undefined) return
    const { maxReconnectDelay, reconnectBackoff, reconnectDelay } = this.#options
    const delay = calculateBackoff(++this.#attempt, reconnectDelay, maxReconnectDelay, reconnectBackoff)
    this.#become("reconnecting")
    this.#cancelRetry = this.#alarm.at(this.#now() + delay, () => {
      this.#cancelRetry = undefined
      // what it fails with is followed by the next attempt
      this.connect().catch(() => undefined)
    })
  }

  #become(state: ConnectionState): void {
    if (this.#state === state) return
    this.#state = state
    for (const listener of this.#stateListeners) this.#guard(() => listener(state))
    for (const { callbacks } of this.#subscriptions.values()) {
      this.#guard(() => callbacks.onStateChange?.(state))
    }
  }

  #request(subscription: SessionSubscription): void {
    const { callbacks, options, pattern, position } = subscription
    const resumes = position !== undefined
    const { replay, ...rest } = options
    const sent = resumes || replay === undefined ? rest : { ...rest, replay }
    this.#send({
      type: "subscribe",
      subscription: {
        pattern,
        ...(Object.keys(sent).length === 0 ? {} : { options: sent }),
        resume: resumes ? { after: position } : {},
        ...(callbacks.onBody === undefined || options.consumerGroup === undefined
          ? {}
          : { capacity: STREAM_CAPACITY })
      }
    })
  }

  #send(message: WSClientMessage): void {
    this.#wire?.send(JSON.stringify(message))
  }

  #forget(subscription: SessionSubscription): void {
    subscription.isActive = false
    subscription.pending = undefined
    this.#stopKeeping(subscription)
    this.#subscriptions.delete(subscription.pattern)
    if (this.#byId.get(subscription.id) === subscription) this.#byId.delete(subscription.id)
  }

  #hear(text: string): void {
    const message = safeJsonParse(text)
    if (!isObject(message)) return
    switch (message.type) {
      case "event":
        return this.#onEvent(message)
      case "subscription_result":
        for (const result of Array.isArray(message.results) ? message.results : []) {
          if (isObject(result)) this.#onResult(result)
        }
        return
      case "ack_result": {
        const ack = this.#acks.get(numberOf(message.requestId))
        this.#acks.delete(numberOf(message.requestId))
        if (message.status === "ok") return ack?.done()
        return ack?.failed(
          new SubscriptionError(textOf(message.message), { code: textOf(message.code), retryable: false })
        )
      }
      case "subscription_error": {
        const info = errorInfo(message)
        const subscription = this.#byId.get(textOf(message.subscriptionId))
        // it is over, and must not come back with the next connection
        if (info.retrying === false && subscription !== undefined) this.#forget(subscription)
        this.#report(info, subscription)
        return
      }
      case "error":
        return this.#report(errorInfo(message))
    }
  }

  #onResult(result: { readonly [name: string]: unknown }): void {
    const subscription = this.#subscriptions.get(textOf(result.pattern))
    if (subscription === undefined) return
    const { pending } = subscription
    if (result.status !== "ok" || typeof result.subscriptionId !== "string") {
      const code = typeof result.code === "string" ? result.code : "SUBSCRIPTION_ERROR"
      const message =
        typeof result.message === "string"
          ? result.message
          : `"${subscription.pattern}" was refused (${code})`
      this.#forget(subscription)
      if (pending !== undefined)
        return pending.failed(new SubscriptionError(message, { code, retryable: false }))
      return this.#report({ code, message, subscriptionId: subscription.id, retrying: false }, subscription)
    }
    if (this.#byId.get(subscription.id) === subscription) this.#byId.delete(subscription.id)
    subscription.id = result.subscriptionId
    subscription.confirmed = true
    subscription.isOurs = typeof result.position === "string"
    if (typeof result.position === "string") subscription.position ??= result.position
    subscription.ackWaitMs = typeof result.ackWait === "number" ? result.ackWait : undefined
    if (result.ackMode === "auto" || result.ackMode === "manual") subscription.ackMode = result.ackMode
    this.#byId.set(subscription.id, subscription)
    if (pending === undefined) return this.#guard(() => subscription.onConfirmed())
    subscription.pending = undefined
    pending.done()
    // the caller goes on in a microtask, whatever lies between; events come in a later turn
    setImmediate(() => {
      const held = subscription.held ?? []
      subscription.held = undefined
      for (const deliver of held) deliver()
      if (held.length > HELD) this.resume()
    })
  }

  #onEvent(message: { readonly [name: string]: unknown }): void {
    const subscription = this.#byId.get(textOf(message.subscriptionId))
    if (subscription === undefined || !("data" in message)) return
    const { eventId, position } = message
    if (typeof position === "string" && subscription.options.consumerGroup === undefined) {
      if (!subscription.remembersSeen) subscription.position = position
      else if (typeof eventId === "string") {
        const before = subscription.seen.find((seen) => seen.position === position)
        if (before?.settled === true) {
          // it was settled before the connection was lost: the new one does not know; if this gets lost too, it comes again
          this.#settle(subscription, eventId, "ack").catch(() => undefined)
          return
        }
        if (before === undefined) subscription.seen.push({ eventId, position, settled: false })
      }
    }
    let delivery: Delivery | undefined
    if (subscription.holds && typeof eventId === "string") {
      const before = subscription.deliveries.get(eventId)
      if (before !== undefined) {
        // it has come back while its body runs, or before its ack was stored: it is held again, and not handled twice
        before.isLost = before.phase !== "acking" && (before.phase !== "running" || before.isSettled)
        if (before.phase === "acking") return this.#ackItself(subscription, before)
        if (!before.isLost) return
      }
      delivery = new Delivery(eventId, this.#now())
      subscription.deliveries.set(eventId, delivery)
      this.#keep(subscription)
    }
    const deliver = () => this.#deliver(subscription, message, delivery)
    if (subscription.held === undefined) return deliver()
    subscription.held.push(deliver)
    if (subscription.held.length > HELD) this.pause()
  }

  #deliver(
    subscription: SessionSubscription,
    message: { readonly [name: string]: unknown },
    delivery: Delivery | undefined
  ): void {
    if (!subscription.isActive || delivery?.isLost === true) return
    const { data, entity, eventId, meta, metadata, topic, version } = message
    const { callbacks } = subscription
    const body = delivery === undefined ? free : this.#bodyOf(subscription, delivery)
    const onError = (error: unknown): void => {
      this.#report(
        {
          code: error instanceof SchemaValidationError ? error.code : "HANDLER_ERROR",
          message: toError(error).message,
          subscriptionId: subscription.id,
          retrying: true
        },
        subscription
      )
      body.failed(error)
    }
    try {
      const newest =
        typeof version === "number" && this.#options.eventDefinitions !== undefined
          ? this.#options.eventDefinitions.upcastEvent(textOf(topic), data, version)
          : data
      const event: SubscriptionEvent = {
        topic: textOf(topic),
        data: callbacks.decode === undefined ? newest : callbacks.decode(newest),
        // the server's word for it
        ...(isObject(meta) ? { meta: meta as unknown as EventMetadata } : {}),
        ...(typeof eventId === "string" ? { eventId } : {}),
        ...(isObject(entity)
          ? { entity: entity as unknown as EventEntity, version: numberOf(version) || 1 }
          : {}),
        ...(isObject(metadata) ? { metadata } : {})
      }
      subscription.lastEvent = event
      if (callbacks.onBody !== undefined) return callbacks.onBody(event, body)
      if (!body.take()) return
      const result = callbacks.onEvent?.(event)
      if (isThenable(result)) return void Promise.resolve(result).then(body.done, onError)
    } catch (error) {
      return onError(error)
    }
    body.done()
  }

  #bodyOf(subscription: SessionSubscription, delivery: Delivery): Body {
    const end = (failure?: { readonly error: unknown }): void => {
      if (!subscription.acksItself || delivery.isSettled) {
        delivery.phase = "done"
        delivery.leftAt = this.#now()
        if (delivery.isSettled || delivery.isLost) release(subscription, delivery)
        return
      }
      if (failure === undefined) return this.#ackItself(subscription, delivery)
      release(subscription, delivery)
      if (delivery.isLost) return
      const { error } = failure
      // servers that do not listen have no place for what is given up
      const ackType = subscription.ackWaitMs !== undefined && !isRetryable(error) ? "term" : "nak"
      const reason = toError(error).message.slice(0, MAX_FAILURE)
      const asked = ackType === "nak" ? askedDelayMs(error, this.#now()) : undefined
      this.#settle(subscription, delivery.eventId, ackType, {
        reason,
        // what is no delay is none that was asked for
        ...(asked === undefined || Number.isNaN(asked)
          ? {}
          : { redeliverDelay: Math.min(asked, MAX_REDELIVER_MS) })
      }).catch((problem) => this.#tellUnsettled(subscription, problem))
    }
    return {
      take: () => {
        if (this.#isLate(subscription, delivery)) this.#dropLate(subscription)
        if (delivery.isLost) return false
        delivery.phase = "running"
        return true
      },
      done: () => end(),
      failed: (error) => end({ error })
    }
  }

  #ackItself(subscription: SessionSubscription, delivery: Delivery): void {
    delivery.phase = "acking"
    // it is acked when it comes back here
    if (delivery.isLost) return
    this.#settle(subscription, delivery.eventId, "ack").then(
      () => release(subscription, delivery),
      (problem) => this.#tellUnsettled(subscription, problem, delivery)
    )
  }

  /** What a server has refused; a lost connection is known, and has brought the event to somebody else, or back here. */
  #tellUnsettled(subscription: SessionSubscription, problem: unknown, delivery?: Delivery): void {
    if (!(problem instanceof SubscriptionError)) return
    if (delivery !== undefined) release(subscription, delivery)
    const { code, message } = problem
    this.#report({ code, message, subscriptionId: subscription.id, retrying: true }, subscription)
  }

  /** Says from time to time that somebody works on what is held, for as long as that is so. */
  #keep(subscription: SessionSubscription): void {
    const { ackWaitMs, deliveries } = subscription
    if (ackWaitMs === undefined || subscription.cancelKeeping !== undefined) return
    subscription.cancelKeeping = this.#alarm.at(this.#now() + Math.floor(ackWaitMs / 3), () => {
      subscription.cancelKeeping = undefined
      this.#dropLate(subscription)
      const left = [...deliveries.values()].filter(({ phase }) => phase === "left")
      if (left.length < deliveries.size || this.#paused) {
        this.#extend(
          subscription,
          left.map(({ eventId }) => eventId)
        )
        this.#keep(subscription)
      }
      // those are with somebody else by now
      const before = this.#now() - 2 * ackWaitMs
      for (const delivery of left) if (delivery.leftAt < before) release(subscription, delivery)
    })
  }

  /** Begins the `ackWait` anew of all that is held but `except`. */
  #extend(subscription: SessionSubscription, except: ReadonlyArray<string>): void {
    const now = this.#now()
    const extended = [...subscription.deliveries.values()].filter(({ phase }) => phase !== "left")
    const done = (): void => {
      for (const delivery of extended) delivery.heldSince = now
    }
    // a body that has ended since the last time leaves its event with a whole `ackWait`
    for (const delivery of extended) if (delivery.phase === "done") delivery.phase = "left"
    // nothing is heard meanwhile, not even the answer
    if (this.#paused) done()
    this.#ask(
      (requestId) => ({
        type: "in_progress",
        subscriptionId: subscription.id,
        ...(except.length === 0 ? {} : { except }),
        requestId
      }),
      done
    ).catch((problem) => this.#tellUnsettled(subscription, problem))
  }

  /** Whether it has waited so long, unheard by the server, that it is with somebody else for all that is known. */
  #isLate({ ackWaitMs }: SessionSubscription, { heldSince, phase }: Delivery): boolean {
    return phase === "waiting" && ackWaitMs !== undefined && this.#now() - heldSince >= ackWaitMs
  }

  #dropLate(subscription: SessionSubscription): void {
    const { ackWaitMs, deliveries, id, pattern } = subscription
    const late = [...deliveries.values()].filter((delivery) => this.#isLate(subscription, delivery))
    if (late.length === 0) return
    for (const delivery of late) {
      delivery.isLost = true
      // should it be held after all, its time runs out
      delivery.phase = "left"
      delivery.leftAt = this.#now()
    }
    this.#report(
      {
        code: "NOT_HELD",
        message:
          `Events of "${pattern}" that waited here were let go, and come again to somebody: ${late.length}. ` +
          `The server was not reached for the ${ackWaitMs} ms of their ackWait: ` +
          "this process was frozen or busy, or the connection stood still",
        subscriptionId: id,
        retrying: true
      },
      subscription
    )
  }

  #stopKeeping(subscription: SessionSubscription): void {
    subscription.cancelKeeping?.()
    subscription.cancelKeeping = undefined
  }

  #report(info: SubscriptionErrorInfo, subscription?: SessionSubscription): void {
    for (const listener of this.#errorListeners) this.#guard(() => listener(info))
    this.#guard(() => subscription?.callbacks.onError?.(info))
  }

  /** What a listener throws is its own: it surfaces as an uncaught exception, and the others are told all the same. */
  #guard(f: () => void): void {
    try {
      f()
    } catch (error) {
      queueMicrotask(() => {
        throw error
      })
    }
  }
}

const settleSeen = (subscription: SessionSubscription, eventId: string): void => {
  const seen = subscription.seen.find((one) => one.eventId === eventId)
  if (seen !== undefined) seen.settled = true
  while (subscription.seen[0]?.settled === true) {
    subscription.position = subscription.seen.shift()?.position
  }
}

const release = ({ deliveries }: SessionSubscription, delivery: Delivery): void => {
  if (deliveries.get(delivery.eventId) === delivery) deliveries.delete(delivery.eventId)
}

const unconnected = (eventId: string): ConnectionError =>
  new ConnectionError(`Event ${eventId} cannot be settled without a connection: the server delivers it again`)

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  isObject(value) && typeof value.then === "function"

const errorInfo = (message: { readonly [name: string]: unknown }): SubscriptionErrorInfo => ({
  code: textOf(message.code),
  message: textOf(message.message),
  ...(typeof message.subscriptionId === "string" ? { subscriptionId: message.subscriptionId } : {}),
  ...(typeof message.retrying === "boolean" ? { retrying: message.retrying } : {})
})

const closed = (): ClosedError => new ClosedError("subscription client")
