/** One connection of a subscription client: its messages, its subscriptions, and the items that it gets. */
import * as Effect from "effect/Effect"
import { type IronflowError, isIronflowError, LimitExceededError, SubscriptionError } from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonLimits.ts"
import {
  type AckMode,
  MAX_FILTERS,
  MAX_FRAME,
  MAX_SUBSCRIPTIONS,
  type Wire,
  type WSServerMessage
} from "../../Protocol/Subscriptions.ts"
import { show } from "../../Show.ts"
import type { EventAccess } from "../SystemEvents/SystemEvents.ts"
import { Acks } from "./Acks.ts"
import type { ItemEncoding, Item } from "./Feed.ts"
import { type Group, Member } from "./Group.ts"
import { findStartPosition } from "./StartPosition.ts"
import { readRequest, type SubscribeRequest } from "./SubscribeRequest.ts"
import { type ConnectionSink, type OpenSubscription, Subscriber } from "./Subscriber.ts"
import type { SubscriptionHub } from "./SubscriptionHub.ts"
import type { Target } from "./Target.ts"

/** Maximum number of bytes that a client may leave unread. A client with more is disconnected at the next answer to it. */
export const MAX_BACKLOG = 16 * 1024 * 1024
const POLICY_VIOLATION = 1008
const GOING_AWAY = 1001
const INTERNAL_ERROR = 1011

/** The permissions of the client. */
export interface Guard {
  /** Throws an `IronflowError` for a pattern to which the client may not subscribe. */
  readonly check: (pattern: string) => void
  /** Whether the client may have an event that requires another permission besides the one to subscribe. */
  readonly mayReceive: (access: EventAccess) => boolean
  /** Whether the client may have events of an entity's stream. */
  readonly mayRead: (entityId: string) => boolean
  /**
   * Throws an `IronflowError` when the client may not be a member of a group with this pattern. A group gives each event of its
   * pattern to any of its members, so a member must be allowed to have all of them.
   */
  readonly checkGroup: (pattern: string) => void
}

export interface ConnectionOptions {
  /** The permissions of the client. Without it, the client may do everything. */
  readonly guard?: Guard
  readonly wireFormat?: WireFormat
}

/** A wire format other than the JSON frames of `/ws`. Messages that the format cannot express are not sent. */
export interface WireFormat extends ItemEncoding {
  /** Sends a message. `error` is the cause of the message, if it has one. */
  readonly say: (message: WSServerMessage, error?: IronflowError) => void
}

/**
 * Serves a client until either end closes the wire. Returns a function that checks again whether the client may have its
 * subscriptions. If the client may not have one of them, the function throws the guard's error.
 */
export const connect = (
  hub: SubscriptionHub,
  environment: string,
  wire: Wire,
  options: ConnectionOptions = {}
): (() => void) => {
  const connection = new Connection(hub, environment, wire, options, hub.nextConnectionId(), () =>
    hub.removeConnection(connection)
  )
  hub.addConnection(connection)
  return connection.checkAgain
}

class Connection implements ConnectionSink {
  readonly environment: string
  readonly #hub: SubscriptionHub
  readonly #wire: Wire
  readonly #guard: Guard | undefined
  readonly #wireFormat: WireFormat | undefined
  readonly #id: string
  readonly #onEnd: () => void
  readonly #byPattern = new Map<string, OpenSubscription | "pending">()
  /** How many characters the filter of each subscription has, by the pattern of the subscription. */
  readonly #filterLengths = new Map<string, number>()
  readonly #byId = new Map<string, { readonly subscription: OpenSubscription; readonly target: Target }>()
  readonly #acks = new Acks(this.#byId, {
    sendMessage: (message) => this.#sendMessage(message),
    run: (effect) => this.run(effect),
    countStaleAck: () => this.#hub.countStaleAck()
  })
  isClosed = false

  constructor(
    hub: SubscriptionHub,
    environment: string,
    wire: Wire,
    { guard, wireFormat }: ConnectionOptions,
    id: string,
    onEnd: () => void
  ) {
    this.#hub = hub
    this.environment = environment
    this.#wire = wire
    this.#guard = guard
    this.#wireFormat = wireFormat
    this.#id = id
    this.#onEnd = onEnd
    wire.onText = (text) => {
      try {
        this.#onFrame(text)
      } catch (error) {
        this.#fail(error)
      }
    }
    wire.onClose = () => this.#endConnection()
    wire.onDrain = () => {
      for (const { subscription } of this.#byId.values()) subscription.onDrain()
    }
  }

  get backlog(): number {
    return this.#wire.backlog
  }

  readonly send = (frame: string | Uint8Array): void => {
    if (!this.isClosed) this.#wire.send(frame)
  }

  sendError(subscriptionId: string, code: string, message: string, retrying: boolean): void {
    this.#sendMessage({ type: "subscription_error", subscriptionId, code, message, retrying })
  }

  end(subscriptionId: string, code: string, message: string): void {
    this.sendError(subscriptionId, code, message, false)
    this.#removeSubscription(subscriptionId)
  }

  handleFor(item: Item, subscriptionId: string): string {
    for (const [id, { subscription }] of this.#byId) {
      if (id !== subscriptionId && subscription.isInFlight(item.id)) return `${item.id}@${subscriptionId}`
    }
    return item.id
  }

  mayReceive(access: EventAccess): boolean {
    return this.#guard?.mayReceive(access) ?? true
  }

  mayRead(entityId: string): boolean {
    return this.#guard?.mayRead(entityId) ?? true
  }

  schedule(delayMs: number, f: () => void): () => void {
    return this.#hub.alarm.at(this.#hub.clock.currentTimeMillisUnsafe() + delayMs, f)
  }

  run(effect: Effect.Effect<void>): void {
    this.#hub.run(effect)
  }

  subscriptionCount(): number {
    return this.#byId.size
  }

  /** The position of the client's slowest subscription to the log; `MAX_SAFE_INTEGER` when none is behind. */
  slowestPosition(): number {
    let position = Number.MAX_SAFE_INTEGER
    for (const { subscription, target } of this.#byId.values()) {
      const { behindPosition } = subscription
      if (target.source === "log" && behindPosition !== undefined)
        position = Math.min(position, behindPosition)
    }
    return position
  }

  consumersOf(topic: string): number {
    let count = 0
    for (const { target } of this.#byId.values()) {
      if (target.source === "log" && target.kind !== "event" && target.matchesName(topic)) count++
    }
    return count
  }

  /** Throws an `IronflowError` when the client may no longer have one of its subscriptions. */
  readonly checkAgain = (): void => {
    for (const pattern of this.#byPattern.keys()) this.#guard?.check(pattern)
  }

  goAway(): void {
    this.#wire.close(GOING_AWAY, "the engine stops")
    this.#endConnection()
  }

  #endConnection(): void {
    if (this.isClosed) return
    this.isClosed = true
    for (const entry of this.#byId.values()) this.#close(entry)
    this.#byId.clear()
    this.#byPattern.clear()
    this.#filterLengths.clear()
    this.#onEnd()
  }

  /** Handles any error in a client's message: tells the client, and ends its connection. */
  #fail(error: unknown): void {
    if (isIronflowError(error)) this.#sendConnectionError(error.code, error.message)
    else {
      this.#sendConnectionError(
        "INTERNAL_ERROR",
        "The engine failed because of a bug; its log has the details"
      )
      this.run(
        Effect.logError("A frame of a subscription client failed because of a bug: please report this", error)
      )
    }
    if (isIronflowError(error)) this.#wire.close(POLICY_VIOLATION, "a frame was refused")
    else this.#wire.close(INTERNAL_ERROR, "a frame could not be handled because of a bug")
    this.#endConnection()
  }

  #sendMessage(message: WSServerMessage, error?: IronflowError): void {
    if (this.isClosed) return
    if (this.#wireFormat !== undefined) return this.#wireFormat.say(message, error)
    if (this.#wire.backlog > MAX_BACKLOG) {
      this.#wire.close(POLICY_VIOLATION, "answers are not read")
      return this.#endConnection()
    }
    this.#wire.send(JSON.stringify(message))
  }

  /** Sends an error that is not about a subscription. */
  #sendConnectionError(code: string, message: string): void {
    this.#sendMessage({ type: "error", code, message })
  }

  #onFrame(text: string): void {
    if (this.isClosed) return
    if (text.length > MAX_FRAME) {
      return this.#sendConnectionError(
        "LIMIT_EXCEEDED",
        `A frame of ${text.length} characters is too large: ${MAX_FRAME} are allowed`
      )
    }
    const message = safeJsonParse(checkShape("a frame", text))
    if (!isObject(message))
      return this.#sendConnectionError("INVALID_MESSAGE", "A frame must be a JSON object")
    switch (message.type) {
      case "subscribe":
        return this.#subscribe(message.subscription)
      case "unsubscribe":
        return this.#unsubscribe(message.subscriptionId)
      case "ack":
        return this.#acks.ack(message)
      case "in_progress":
        return this.#acks.inProgress(message)
      default:
        return this.#sendConnectionError(
          "INVALID_MESSAGE",
          `A frame must have the type subscribe, unsubscribe, ack or in_progress, got ${show(message.type)}`
        )
    }
  }

  #subscribe(input: unknown): void {
    const requestedPattern = isObject(input) && typeof input.pattern === "string" ? input.pattern : ""
    const refuse = (error: IronflowError): void =>
      this.#sendMessage(
        {
          type: "subscription_result",
          results: [{ pattern: requestedPattern, status: "error", code: error.code, message: error.message }]
        },
        error
      )
    let request: SubscribeRequest
    try {
      request = this.#readRequest(input)
      this.#checkRequest(request)
    } catch (error) {
      if (isIronflowError(error)) return refuse(error)
      throw error
    }
    const { pattern } = request
    const { filter, target } = request.format
    this.#byPattern.set(pattern, "pending")
    if (filter !== undefined) this.#filterLengths.set(pattern, filter.text.length)
    // the subscription is counted before it is open, so that the system events from now on are kept for it
    this.#hub.countSystemSubscription(1, target)
    this.run(
      Effect.matchEffect(this.#open(request), {
        onSuccess: () => Effect.void,
        onFailure: (error) =>
          Effect.sync(() => {
            this.#hub.countSystemSubscription(-1, target)
            this.#byPattern.delete(pattern)
            this.#filterLengths.delete(pattern)
            refuse(error)
          })
      })
    )
  }

  #readRequest(input: unknown): SubscribeRequest {
    return readRequest(input, {
      environment: this.environment,
      epoch: this.#hub.system.epoch,
      isShared: this.#hub.system.isShared,
      encoding: this.#wireFormat,
      run: this.#hub.run
    })
  }

  /** Throws an `IronflowError` for a subscription that is denied, exists already, or exceeds a limit of the connection. */
  #checkRequest({ group, pattern, format }: SubscribeRequest): void {
    this.#guard?.check(pattern)
    if (group !== undefined) this.#guard?.checkGroup(pattern)
    if (this.#byPattern.has(pattern)) {
      throw new SubscriptionError(
        `This connection has subscribed to "${pattern}" already: unsubscribe first, or use another connection`,
        { code: "ALREADY_SUBSCRIBED", retryable: false }
      )
    }
    const count = this.#byPattern.size + 1
    if (count > MAX_SUBSCRIPTIONS) {
      throw new LimitExceededError(
        "The list of subscriptions of one connection",
        count,
        MAX_SUBSCRIPTIONS,
        "subscriptions",
        { advice: "Use another connection" }
      )
    }
    if (format.filter === undefined) return
    const length = [...this.#filterLengths.values()].reduce(
      (sum, filterLength) => sum + filterLength,
      format.filter.text.length
    )
    if (length > MAX_FILTERS) {
      throw new LimitExceededError(
        "The total length of the filters of one connection",
        length,
        MAX_FILTERS,
        "characters",
        { advice: "Shorten the filters, or use another connection" }
      )
    }
  }

  #open(request: SubscribeRequest): Effect.Effect<void, IronflowError> {
    const hub = this.#hub
    const { environment } = this
    const { group, pattern, format } = request
    return Effect.gen({ self: this }, function* () {
      const requestedAfter = yield* findStartPosition(hub, environment, request)
      const after = requestedAfter ?? hub.endOf(format.target)
      const openedGroup =
        group === undefined
          ? undefined
          : yield* hub.openGroup(environment, group, format, requestedAfter, request.after !== undefined)
      if (this.isClosed || this.#byPattern.get(pattern) !== "pending") {
        hub.countSystemSubscription(-1, format.target)
        return openedGroup?.retireIfEmpty()
      }
      const ackMode = request.ackMode ?? openedGroup?.settings.ackMode ?? "auto"
      this.#confirm(request, after, ackMode, openedGroup !== undefined)
      if (openedGroup === undefined) this.#openSubscriber(request, after, ackMode)
      else this.#openMember(request, ackMode, openedGroup)
    })
  }

  /**
   * Tells the client that a subscription begins. Only a client that can resume is also told the position and the ack settings,
   * which legacy clients do not know.
   */
  #confirm(
    { ackWaitMs, pattern, resumes, format }: SubscribeRequest,
    after: number,
    ackMode: AckMode,
    isOfGroup: boolean
  ): void {
    this.#sendMessage({
      type: "subscription_result",
      results: [
        {
          pattern,
          status: "ok",
          subscriptionId: format.subscriptionId,
          ...(resumes ? { position: format.writePosition?.(after) ?? "" } : {}),
          ...(resumes && isOfGroup ? { ackMode } : {}),
          ...(resumes && (isOfGroup || ackMode === "manual") ? { ackWait: ackWaitMs } : {})
        }
      ]
    })
  }

  #openSubscriber(request: SubscribeRequest, after: number, ackMode: AckMode): void {
    const hub = this.#hub
    const { pattern, format } = request
    const subscriber = new Subscriber(
      pattern,
      format,
      after,
      { ...request, ackMode, backpressure: request.backpressure ?? "buffer" },
      this,
      () => hub.feedFor(this.environment, format.target),
      hub.reader(this.environment, format.target.source)
    )
    this.#addSubscription(subscriber, format.target)
    subscriber.start()
  }

  #openMember(request: SubscribeRequest, ackMode: AckMode, group: Group): void {
    const hub = this.#hub
    const { ackWaitMs, backpressure, buffer, capacity, pattern, resumes, format } = request
    // the holder's name begins with the id of this engine, so that other engines can release the holder's deliveries when this
    // engine is gone
    const node = hub.store.node === undefined ? "" : `${hub.store.node}:`
    const member = new Member(
      pattern,
      format,
      `${node}${this.#id}/${format.subscriptionId}`,
      {
        ackMode,
        settlesItself: resumes,
        ackWaitMs,
        ...(capacity === undefined ? {} : { capacity }),
        joinedAt: hub.clock.currentTimeMillisUnsafe(),
        // events of a group are never dropped, so `drop` becomes `block`
        ...(backpressure === undefined
          ? {}
          : { backpressure: backpressure === "drop" ? "block" : backpressure }),
        ...(buffer === undefined ? {} : { buffer })
      },
      this,
      group,
      hub.store
    )
    this.#addSubscription(member, format.target)
    group.add(member)
  }

  #close({
    subscription,
    target
  }: {
    readonly subscription: OpenSubscription
    readonly target: Target
  }): void {
    subscription.close()
    this.#hub.countSystemSubscription(-1, target)
  }

  #addSubscription(subscription: OpenSubscription, target: Target): void {
    this.#byPattern.set(subscription.pattern, subscription)
    this.#byId.set(subscription.id, { subscription, target })
  }

  #unsubscribe(id: unknown): void {
    if (typeof id !== "string" || !this.#removeSubscription(id)) {
      this.#sendConnectionError("UNKNOWN_SUBSCRIPTION", `This connection has no subscription ${show(id)}`)
    }
  }

  /** Removes a subscription. Returns whether it existed. */
  #removeSubscription(id: string): boolean {
    const entry = this.#byId.get(id)
    if (entry === undefined) return false
    this.#byId.delete(id)
    this.#byPattern.delete(entry.subscription.pattern)
    this.#filterLengths.delete(entry.subscription.pattern)
    this.#close(entry)
    return true
  }
}
