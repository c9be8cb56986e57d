/**
 * The client's side of `/ws`: subscriptions that outlast the loss of a connection (`Reconnecting.ts`), each
 * with its position (`SubscriptionState.ts`). The subscriptions of both APIs use this session.
 */
import { ConnectionError, SchemaValidationError, SubscriptionError, toError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import type { Alarm } from "../Execution/Alarm.ts"
import { isObject, numberOf, safeJsonParse, textOf } from "../Json.ts"
import {
  type AckType,
  type EventMetadata,
  STREAM_CAPACITY,
  type SubscribeOptions,
  type WSClientMessage
} from "../Protocol/Subscriptions.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { EventDelivery, unackedBody, loseDeliveries } from "./EventDelivery.ts"
import { type SubscriptionTracing, tracedDelivery } from "./DeliveryTracing.ts"
import { HeldEvents } from "./HeldEvents.ts"
import { closedError, type Connect, Reconnecting, type ReconnectOptions } from "./Reconnecting.ts"
import { type PendingRequest, SubscriptionState } from "./SubscriptionState.ts"
import type {
  ConnectionState,
  SessionCallbacks,
  SubscriptionErrorInfo,
  SubscriptionEvent
} from "./SubscriptionCallbacks.ts"

/** How many events may wait for a subscriber before reading from the connection pauses. */
const MAX_WAITING_EVENTS = 1000

export interface SessionOptions extends ReconnectOptions {
  /** Upcasts the data of user events to the latest version. */
  readonly eventDefinitions?: EventDefinitionRegistry
}

export class SubscriptionSession {
  readonly #connection: Reconnecting
  readonly #heldEvents: HeldEvents
  readonly #now: () => number
  readonly #eventDefinitions: EventDefinitionRegistry | undefined
  readonly #onClose: () => void
  readonly #tracing: SubscriptionTracing
  readonly #subscriptions = new Map<string, SubscriptionState>()
  readonly #subscriptionsById = new Map<string, SubscriptionState>()
  readonly #pendingAcks = new Map<number, PendingRequest>()
  readonly #stateListeners = new Set<(state: ConnectionState) => void>()
  readonly #errorListeners = new Set<(error: SubscriptionErrorInfo) => void>()
  #lastRequestId = 0

  constructor(
    dial: Connect,
    alarm: Alarm,
    now: () => number,
    options: SessionOptions,
    tracing: SubscriptionTracing,
    onClose: () => void = () => undefined
  ) {
    this.#tracing = tracing
    this.#onClose = onClose
    this.#now = now
    this.#eventDefinitions = options.eventDefinitions
    this.#connection = new Reconnecting(dial, alarm, now, options, {
      onOpen: () => {
        for (const subscription of this.#subscriptions.values()) this.#requestSubscription(subscription)
      },
      onLost: (error) => this.#onConnectionLost(error),
      onFrame: (text) => this.#onFrame(text),
      onUnreadable: ({ message }) => this.#report({ code: "INVALID_MESSAGE", message, retrying: true }),
      onState: (state) => this.#tellState(state)
    })
    this.#heldEvents = new HeldEvents({
      alarm,
      now,
      isPaused: () => this.#connection.isPaused,
      ask: (message, done) => this.#ask(message, done),
      settle: (subscription, eventId, ackType, more) => this.#settle(subscription, eventId, ackType, more),
      report: (info, subscription) => this.#report(info, subscription)
    })
  }

  get state(): ConnectionState {
    return this.#connection.state
  }

  connect(): Promise<void> {
    return this.#connection.connect()
  }

  onState(listener: (state: ConnectionState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => void this.#stateListeners.delete(listener)
  }

  onError(listener: (error: SubscriptionErrorInfo) => void): () => void {
    this.#errorListeners.add(listener)
    return () => void this.#errorListeners.delete(listener)
  }

  subscribe(
    pattern: string,
    options: SubscribeOptions,
    callbacks: SessionCallbacks
  ): Promise<SubscriptionState> {
    if (this.#connection.isClosed) return Promise.reject(closedError())
    if (!this.#connection.isOpen) {
      return Promise.reject(
        new SubscriptionError(
          `Cannot subscribe to "${pattern}" without a connection: await connect() first`,
          {
            code: "NOT_CONNECTED"
          }
        )
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
      const subscription: SubscriptionState = new SubscriptionState(pattern, options, callbacks, {
        onAnswered: () => resolve(subscription),
        onFailed: reject
      })
      this.#subscriptions.set(pattern, subscription)
      this.#requestSubscription(subscription)
    })
  }

  unsubscribe(subscription: SubscriptionState): void {
    if (!subscription.isActive) return
    this.#forget(subscription)
    if (this.#connection.isOpen && subscription.id !== "") {
      this.#send({ type: "unsubscribe", subscriptionId: subscription.id })
    }
  }

  /**
   * Settles an event. Resolves when the server has stored the ack, or when the ack is sent if the server does not
   * confirm acks.
   */
  settle(
    subscription: SubscriptionState,
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

  /** Restarts the `ackWait` of an event. */
  inProgress(subscription: SubscriptionState, eventId: string): Promise<void> {
    if (!this.#connection.isOpen || !subscription.isActive) return Promise.reject(notConnectedError(eventId))
    if (subscription.ackWaitMs === undefined) {
      return Promise.reject(
        new SubscriptionError(
          `Event ${eventId} cannot be marked as in progress: the subscription to "${subscription.pattern}" needs no acks, or the server does not support this`,
          { code: "UNIMPLEMENTED", retryable: false }
        )
      )
    }
    const delivery = subscription.deliveries.get(eventId)
    // the body has ended, so this report is the last one unless the receiver makes another
    if (delivery?.phase === "handled") delivery.phase = "unattended"
    return this.#ask(
      (requestId) => ({ type: "in_progress", subscriptionId: subscription.id, eventId, requestId }),
      () => {
        if (delivery !== undefined) delivery.unattendedSince = this.#now()
      }
    )
  }

  #settle(
    subscription: SubscriptionState,
    eventId: string,
    ackType: AckType,
    more: { readonly redeliverDelay?: number; readonly reason?: string } = {}
  ): Promise<void> {
    if (!this.#connection.isOpen || !subscription.isActive) {
      return Promise.reject(notConnectedError(eventId))
    }
    const message = { type: "ack", eventId, ackType, ...more } as const
    if (!subscription.hasPositions) {
      this.#send(message)
      return Promise.resolve()
    }
    return this.#ask(
      (requestId) => ({ ...message, subscriptionId: subscription.id, requestId }),
      () => {
        if (ackType !== "nak") subscription.settleSeenEvent(eventId)
      }
    )
  }

  /** Sends a request. When the server has answered, calls `onAnswered` and then resolves. */
  #ask(message: (requestId: number) => WSClientMessage, onAnswered: () => void): Promise<void> {
    const requestId = ++this.#lastRequestId
    return new Promise<void>((resolve, reject) => {
      this.#pendingAcks.set(requestId, {
        onAnswered: () => {
          onAnswered()
          resolve()
        },
        onFailed: reject
      })
      this.#send(message(requestId))
    })
  }

  /** Pauses reading from the connection, while a consumer has too many events. */
  pause(): void {
    this.#connection.pause()
    // events in transit count as held too, so the server must be told that they are in progress
    for (const subscription of this.#subscriptions.values()) this.#heldEvents.startExtending(subscription)
  }

  resume(): void {
    this.#connection.resume()
  }

  close(): void {
    if (this.#connection.isClosed) return
    this.#connection.close(() => {
      for (const subscription of this.#subscriptions.values()) {
        subscription.pending?.onFailed(closedError())
        this.#forget(subscription)
      }
    })
    this.#onClose()
  }

  // -------------------------------------------------------------------------------------------------------------------

  /** Handles the loss of the connection. */
  #onConnectionLost(error: Error): void {
    for (const ack of this.#pendingAcks.values()) ack.onFailed(error)
    this.#pendingAcks.clear()
    for (const subscription of this.#subscriptions.values()) {
      this.#heldEvents.stopExtending(subscription)
      loseDeliveries(subscription.deliveries)
      const { pending } = subscription
      if (pending === undefined) continue
      this.#forget(subscription)
      pending.onFailed(error)
    }
  }

  #tellState(state: ConnectionState): void {
    for (const listener of this.#stateListeners) this.#guard(() => listener(state))
    for (const { callbacks } of this.#subscriptions.values()) {
      this.#guard(() => callbacks.onStateChange?.(state))
    }
  }

  #requestSubscription(subscription: SubscriptionState): void {
    const { callbacks, options, pattern, position } = subscription
    const isResumed = position !== undefined
    const { replay, ...otherOptions } = options
    const sentOptions = isResumed || replay === undefined ? otherOptions : { ...otherOptions, replay }
    this.#send({
      type: "subscribe",
      subscription: {
        pattern,
        ...(Object.keys(sentOptions).length === 0 ? {} : { options: sentOptions }),
        resume: isResumed ? { after: position } : {},
        ...(callbacks.onBody === undefined || options.consumerGroup === undefined
          ? {}
          : { capacity: STREAM_CAPACITY })
      }
    })
  }

  #send(message: WSClientMessage): void {
    this.#connection.send(JSON.stringify(message))
  }

  #forget(subscription: SubscriptionState): void {
    subscription.isActive = false
    subscription.pending = undefined
    this.#heldEvents.stopExtending(subscription)
    this.#subscriptions.delete(subscription.pattern)
    if (this.#subscriptionsById.get(subscription.id) === subscription)
      this.#subscriptionsById.delete(subscription.id)
  }

  #onFrame(text: string): void {
    const message = safeJsonParse(text)
    if (!isObject(message)) return
    switch (message.type) {
      case "event":
        return this.#onEvent(message)
      case "subscription_result":
        for (const result of Array.isArray(message.results) ? message.results : []) {
          if (isObject(result)) this.#onSubscriptionResult(result)
        }
        return
      case "ack_result": {
        const ack = this.#pendingAcks.get(numberOf(message.requestId))
        this.#pendingAcks.delete(numberOf(message.requestId))
        if (message.status === "ok") return ack?.onAnswered()
        return ack?.onFailed(
          new SubscriptionError(textOf(message.message), { code: textOf(message.code), retryable: false })
        )
      }
      case "subscription_error": {
        const info = errorInfo(message)
        const subscription = this.#subscriptionsById.get(textOf(message.subscriptionId))
        // the subscription has ended: it must not be restored on the next connection
        if (info.retrying === false && subscription !== undefined) this.#forget(subscription)
        this.#report(info, subscription)
        return
      }
      case "error":
        return this.#report(errorInfo(message))
    }
  }

  #onSubscriptionResult(result: { readonly [name: string]: unknown }): void {
    const subscription = this.#subscriptions.get(textOf(result.pattern))
    if (subscription === undefined) return
    const { pending } = subscription
    if (result.status !== "ok" || typeof result.subscriptionId !== "string") {
      const code = typeof result.code === "string" ? result.code : "SUBSCRIPTION_ERROR"
      const message =
        typeof result.message === "string"
          ? result.message
          : `The subscription to "${subscription.pattern}" was refused (${code})`
      this.#forget(subscription)
      if (pending !== undefined)
        return pending.onFailed(new SubscriptionError(message, { code, retryable: false }))
      return this.#report({ code, message, subscriptionId: subscription.id, retrying: false }, subscription)
    }
    if (this.#subscriptionsById.get(subscription.id) === subscription)
      this.#subscriptionsById.delete(subscription.id)
    subscription.id = result.subscriptionId

    subscription.hasPositions = typeof result.position === "string"
    if (typeof result.position === "string") subscription.position ??= result.position
    subscription.ackWaitMs = typeof result.ackWait === "number" ? result.ackWait : undefined
    if (result.ackMode === "auto" || result.ackMode === "manual") subscription.ackMode = result.ackMode
    this.#subscriptionsById.set(subscription.id, subscription)
    if (pending === undefined) return this.#guard(() => subscription.onConfirmed())
    subscription.pending = undefined
    pending.onAnswered()
    // in a later turn of the event loop: the caller of `subscribe` continues in a microtask, and must do so before
    // the first event
    setImmediate(() => {
      const deliveries = subscription.postponedDeliveries ?? []
      subscription.postponedDeliveries = undefined
      for (const deliver of deliveries) deliver()
      if (deliveries.length > MAX_WAITING_EVENTS) this.resume()
    })
  }

  #onEvent(message: { readonly [name: string]: unknown }): void {
    const subscription = this.#subscriptionsById.get(textOf(message.subscriptionId))
    if (subscription === undefined || !("data" in message)) return
    const { eventId, position } = message
    if (typeof position === "string" && subscription.options.consumerGroup === undefined) {
      if (!subscription.remembersSeenEvents) subscription.position = position
      else if (typeof eventId === "string") {
        const seenEvent = subscription.seenEvents.find((seen) => seen.position === position)
        if (seenEvent?.settled === true) {
          // The event was acked, but the connection was lost before the server received the ack. If this ack is
          // lost too, the server delivers the event again.
          this.#settle(subscription, eventId, "ack").catch(() => undefined)
          return
        }
        if (seenEvent === undefined) subscription.seenEvents.push({ eventId, position, settled: false })
      }
    }
    let delivery: EventDelivery | undefined
    if (subscription.mustSettle && typeof eventId === "string") {
      const earlierDelivery = subscription.deliveries.get(eventId)
      if (earlierDelivery !== undefined) {
        // The server delivers the event again. If the body of the earlier delivery still runs without having settled
        // the event, or if its ack is on its way, the earlier delivery holds the event once more, and the event is not
        // handled twice. Otherwise a new delivery replaces the earlier one.
        earlierDelivery.isLost =
          earlierDelivery.phase !== "acking" &&
          (earlierDelivery.phase !== "running" || earlierDelivery.isSettled)
        if (earlierDelivery.phase === "acking") return this.#heldEvents.ack(subscription, earlierDelivery)
        if (!earlierDelivery.isLost) return
      }
      delivery = new EventDelivery(eventId, this.#now())
      subscription.deliveries.set(eventId, delivery)
      this.#heldEvents.startExtending(subscription)
    }
    const deliver = () => this.#deliver(subscription, message, delivery)
    if (subscription.postponedDeliveries === undefined) return deliver()
    subscription.postponedDeliveries.push(deliver)
    if (subscription.postponedDeliveries.length > MAX_WAITING_EVENTS) this.pause()
  }

  #deliver(
    subscription: SubscriptionState,
    message: { readonly [name: string]: unknown },
    delivery: EventDelivery | undefined
  ): void {
    if (!subscription.isActive || delivery?.isLost === true) return
    const { data, entity, eventId, meta, metadata, topic, version } = message
    const { callbacks } = subscription
    const untracedBody =
      delivery === undefined ? unackedBody : this.#heldEvents.bodyOf(subscription, delivery)
    const body = tracedDelivery(subscription, message, untracedBody, this.#tracing)
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
      body.onFailed(error)
    }
    try {
      const upcastData =
        typeof version === "number" && this.#eventDefinitions !== undefined
          ? this.#eventDefinitions.upcastEvent(textOf(topic), data, version)
          : data
      const event: SubscriptionEvent = {
        topic: textOf(topic),
        data:
          callbacks.decode === undefined
            ? upcastData
            : callbacks.decode(
                upcastData,
                typeof version === "number" ? version : undefined,
                this.#eventDefinitions
              ),
        // the engine sends metadata of this type
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
      const handle = () => callbacks.onEvent?.(event)
      const result = body.span === undefined ? handle() : body.span.within(handle)
      if (isThenable(result)) return void Promise.resolve(result).then(body.onDone, onError)
    } catch (error) {
      return onError(error)
    }
    body.onDone()
  }

  #report(info: SubscriptionErrorInfo, subscription?: SubscriptionState): void {
    for (const listener of this.#errorListeners) this.#guard(() => listener(info))
    this.#guard(() => subscription?.callbacks.onError?.(info))
  }

  /**
   * Calls a listener. If it throws, the error becomes an uncaught exception, and the other listeners are
   * still called.
   */
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

const notConnectedError = (eventId: string): ConnectionError =>
  new ConnectionError(
    `Event ${eventId} cannot be settled or marked as in progress: its subscription has ended, or the connection is lost. The server delivers the event again, to the consumer group or to the reconnected subscription`
  )

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  isObject(value) && typeof value.then === "function"

const errorInfo = (message: { readonly [name: string]: unknown }): SubscriptionErrorInfo => ({
  code: textOf(message.code),
  message: textOf(message.message),
  ...(typeof message.subscriptionId === "string" ? { subscriptionId: message.subscriptionId } : {}),
  ...(typeof message.retrying === "boolean" ? { retrying: message.retrying } : {})
})
