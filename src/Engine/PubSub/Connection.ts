/** One connection of a subscription client: its messages, its subscriptions, and what it gets. */
import * as Effect from "effect/Effect"
import { type IronflowError, isIronflowError, LimitExceededError, SubscriptionError } from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonShape.ts"
import {
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
import { Member } from "./Group.ts"
import { beginsAfter } from "./Resume.ts"
import { codeOf, readRequest, type SubscribeRequest } from "./SubscribeRequest.ts"
import { type Outlet, type Subscribed, Subscriber } from "./Subscriber.ts"
import type { SubscriptionHub } from "./SubscriptionHub.ts"
import type { Target } from "./Target.ts"

/** Most bytes of answers that a client may leave unread before it is disconnected. */
export const MAX_BACKLOG = 16 * 1024 * 1024
const POLICY_VIOLATION = 1008
const GOING_AWAY = 1001
const INTERNAL_ERROR = 1011

/** The permissions of the client. */
export interface Guard {
  /** Throws an `IronflowError` for a pattern that it may not subscribe to. */
  readonly check: (pattern: string) => void
  /** Whether it may have an event that requires more than the subscription. */
  readonly may: (access: EventAccess) => boolean
  /** Whether it may have events of an entity's stream. */
  readonly mayRead: (entityId: string) => boolean
  /** Throws an `IronflowError` when it may not be a member of a group: a group gives its members all events. */
  readonly checkGroup: (pattern: string) => void
}

export interface ConnectionOptions {
  /** The permissions of the client; without it everything is allowed. */
  readonly guard?: Guard
  readonly wireFormat?: WireFormat
}

/** Another wire format than that of `/ws`. Messages that it cannot express are left out. */
export interface WireFormat extends ItemEncoding {
  /** `error` is the cause of the message, if it has one. */
  readonly say: (message: WSServerMessage, error?: IronflowError) => void
}

/**
 * Serves a client until either end closes the wire. Returns a function that checks the guard again for every subscription, and
 * throws its errors.
 */
export const connect = (
  hub: SubscriptionHub,
  environment: string,
  wire: Wire,
  options: ConnectionOptions = {}
): (() => void) => {
  const connection = new Connection(hub, environment, wire, options, hub.nextConnectionId(), () =>
    hub.left(connection)
  )
  hub.joined(connection)
  return connection.checkAgain
}

class Connection implements Outlet {
  readonly environment: string
  readonly #hub: SubscriptionHub
  readonly #wire: Wire
  readonly #guard: Guard | undefined
  readonly #wireFormat: WireFormat | undefined
  readonly #id: string
  readonly #onEnd: () => void
  readonly #byPattern = new Map<string, Subscribed | "pending">()
  /** Characters of the filters, by pattern. */
  readonly #filters = new Map<string, number>()
  readonly #byId = new Map<string, { readonly subscribed: Subscribed; readonly target: Target }>()
  readonly #acks = new Acks(this.#byId, {
    say: (message) => this.#say(message),
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
        this.#hear(text)
      } catch (error) {
        this.#giveUp(error)
      }
    }
    wire.onClose = () => this.#end()
    wire.onDrain = () => {
      for (const { subscribed } of this.#byId.values()) subscribed.onDrain()
    }
  }

  get backlog(): number {
    return this.#wire.backlog
  }

  readonly send = (frame: string | Uint8Array): void => {
    if (!this.isClosed) this.#wire.send(frame)
  }

  tell(subscriptionId: string, code: string, message: string, retrying: boolean): void {
    this.#say({ type: "subscription_error", subscriptionId, code, message, retrying })
  }

  end(subscriptionId: string, code: string, message: string): void {
    this.tell(subscriptionId, code, message, false)
    this.#drop(subscriptionId)
  }

  handleFor(item: Item, subscriptionId: string): string {
    for (const [id, { subscribed }] of this.#byId) {
      if (id !== subscriptionId && subscribed.holds(item.id)) return `${item.id}@${subscriptionId}`
    }
    return item.id
  }

  may(access: EventAccess): boolean {
    return this.#guard?.may(access) ?? true
  }

  mayRead(entityId: string): boolean {
    return this.#guard?.mayRead(entityId) ?? true
  }

  at(delayMs: number, f: () => void): () => void {
    return this.#hub.alarm.at(this.#hub.clock.currentTimeMillisUnsafe() + delayMs, f)
  }

  run(effect: Effect.Effect<void>): void {
    this.#hub.run(effect)
  }

  subscriptions(): number {
    return this.#byId.size
  }

  /** The position up to which the slowest of its subscriptions have come. */
  given(): number {
    let position = Number.MAX_SAFE_INTEGER
    for (const { subscribed, target } of this.#byId.values()) {
      const { behindAt } = subscribed
      if (target.source === "log" && behindAt !== undefined) position = Math.min(position, behindAt)
    }
    return position
  }

  consumersOf(topic: string): number {
    let count = 0
    for (const { target } of this.#byId.values()) {
      if (target.source === "log" && target.kind !== "event" && target.fits(topic)) count++
    }
    return count
  }

  /** Throws an `IronflowError` when the client may no longer have one of its subscriptions. */
  readonly checkAgain = (): void => {
    for (const pattern of this.#byPattern.keys()) this.#guard?.check(pattern)
  }

  goAway(): void {
    this.#wire.close(GOING_AWAY, "the engine stops")
    this.#end()
  }

  #end(): void {
    if (this.isClosed) return
    this.isClosed = true
    for (const one of this.#byId.values()) this.#release(one)
    this.#byId.clear()
    this.#byPattern.clear()
    this.#filters.clear()
    this.#onEnd()
  }

  /** Handles every error in a client's message: at worst its connection ends. */
  #giveUp(error: unknown): void {
    if (isIronflowError(error)) this.#complain(error.code, error.message)
    else {
      this.#complain("INTERNAL_ERROR", "The engine failed because of a bug; its log has the details")
      this.run(Effect.logError("A frame of a subscription client failed because of a bug", error))
    }
    this.#wire.close(isIronflowError(error) ? POLICY_VIOLATION : INTERNAL_ERROR, "a frame could not be read")
    this.#end()
  }

  #say(message: WSServerMessage, error?: IronflowError): void {
    if (this.isClosed) return
    if (this.#wireFormat !== undefined) return this.#wireFormat.say(message, error)
    if (this.#wire.backlog > MAX_BACKLOG) {
      this.#wire.close(POLICY_VIOLATION, "answers are not read")
      return this.#end()
    }
    this.#wire.send(JSON.stringify(message))
  }

  #complain(code: string, message: string): void {
    this.#say({ type: "error", code, message })
  }

  #hear(text: string): void {
    if (this.isClosed) return
    if (text.length > MAX_FRAME) {
      return this.#complain(
        "LIMIT_EXCEEDED",
        `A frame of ${text.length} characters is too large: ${MAX_FRAME} are allowed`
      )
    }
    const message = safeJsonParse(checkShape("a frame", text))
    if (!isObject(message)) return this.#complain("INVALID_MESSAGE", "A frame must be a JSON object")
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
        return this.#complain(
          "INVALID_MESSAGE",
          `A frame must have the type subscribe, unsubscribe, ack or in_progress, not ${show(message.type)}`
        )
    }
  }

  #subscribe(input: unknown): void {
    const given = isObject(input) && typeof input.pattern === "string" ? input.pattern : ""
    const refuse = (error: IronflowError): void =>
      this.#say(
        {
          type: "subscription_result",
          results: [{ pattern: given, status: "error", code: codeOf(error), message: error.message }]
        },
        error
      )
    let request: SubscribeRequest
    try {
      request = readRequest(input, {
        environment: this.environment,
        epoch: this.#hub.system.epoch,
        isShared: this.#hub.system.isShared,
        encoding: this.#wireFormat,
        run: this.#hub.run
      })
      this.#guard?.check(request.pattern)
      if (request.group !== undefined) this.#guard?.checkGroup(request.pattern)
      if (this.#byPattern.has(request.pattern)) {
        throw new SubscriptionError(
          `This connection has subscribed to "${request.pattern}" already: unsubscribe first, or use another connection`,
          { code: "ALREADY_SUBSCRIBED", retryable: false }
        )
      }
      if (this.#byPattern.size >= MAX_SUBSCRIPTIONS) {
        throw new LimitExceededError(
          "A connection",
          this.#byPattern.size + 1,
          MAX_SUBSCRIPTIONS,
          "subscriptions"
        )
      }
      const { filter } = request.shape
      if (filter !== undefined) {
        const length = [...this.#filters.values()].reduce((sum, one) => sum + one, filter.text.length)
        if (length > MAX_FILTERS) {
          throw new LimitExceededError(
            "The filters of one connection together",
            length,
            MAX_FILTERS,
            "characters"
          )
        }
        this.#filters.set(request.pattern, filter.text.length)
      }
    } catch (error) {
      if (isIronflowError(error)) return refuse(error)
      throw error
    }
    const { pattern } = request
    const { target } = request.shape
    this.#byPattern.set(pattern, "pending")
    // before looking up where the subscription begins
    this.#hub.countSystem(1, target)
    this.run(
      Effect.matchEffect(this.#open(request), {
        onSuccess: () => Effect.void,
        onFailure: (error) =>
          Effect.sync(() => {
            this.#hub.countSystem(-1, target)
            this.#byPattern.delete(pattern)
            this.#filters.delete(pattern)
            refuse(error)
          })
      })
    )
  }

  #open(request: SubscribeRequest): Effect.Effect<void, IronflowError> {
    const hub = this.#hub
    const { environment } = this
    const { group, pattern, resumes, shape } = request
    return Effect.gen({ self: this }, function* () {
      const from = yield* beginsAfter(hub, environment, request)
      const after = from ?? hub.endOf(shape.target)
      const opened =
        group === undefined
          ? undefined
          : yield* hub.openGroup(environment, group, shape, from, request.after !== undefined)
      if (this.isClosed || this.#byPattern.get(pattern) !== "pending") {
        hub.countSystem(-1, shape.target)
        return opened?.retireIfEmpty()
      }
      const ackMode = request.ackMode ?? opened?.settings.ackMode ?? "auto"
      this.#say({
        type: "subscription_result",
        results: [
          {
            pattern,
            status: "ok",
            subscriptionId: shape.subscriptionId,
            ...(resumes ? { position: shape.writePosition?.(after) ?? "" } : {}),
            ...(resumes && opened !== undefined ? { ackMode } : {}),
            ...(resumes && (opened !== undefined || ackMode === "manual")
              ? { ackWait: request.ackWaitMs }
              : {})
          }
        ]
      })
      if (opened === undefined) {
        const subscriber = new Subscriber(
          pattern,
          shape,
          after,
          { ...request, ackMode, backpressure: request.backpressure ?? "buffer" },
          this,
          () => hub.feedFor(environment, shape.target),
          hub.reader(environment, shape.target.source)
        )
        this.#remember(subscriber, shape.target)
        return subscriber.start()
      }
      const member = new Member(
        pattern,
        shape,
        // the node is part of the name, so that its deliveries can be released when the engine is gone
        `${hub.store.node === undefined ? "" : `${hub.store.node}:`}${this.#id}/${shape.subscriptionId}`,
        {
          ackMode,
          settlesItself: resumes,
          ackWaitMs: request.ackWaitMs,
          ...(request.capacity === undefined ? {} : { capacity: request.capacity }),
          joinedAt: hub.clock.currentTimeMillisUnsafe(),
          // events of a group are never dropped
          ...(request.backpressure === undefined
            ? {}
            : { backpressure: request.backpressure === "drop" ? "block" : request.backpressure }),
          ...(request.buffer === undefined ? {} : { buffer: request.buffer })
        },
        this,
        opened,
        hub.store
      )
      this.#remember(member, shape.target)
      opened.add(member)
    })
  }

  #release({ subscribed, target }: { readonly subscribed: Subscribed; readonly target: Target }): void {
    subscribed.close()
    this.#hub.countSystem(-1, target)
  }

  #remember(subscribed: Subscribed, target: Target): void {
    this.#byPattern.set(subscribed.pattern, subscribed)
    this.#byId.set(subscribed.id, { subscribed, target })
  }

  #unsubscribe(id: unknown): void {
    if (typeof id !== "string" || !this.#drop(id)) {
      this.#complain("UNKNOWN_SUBSCRIPTION", `This connection has no subscription ${show(id)}`)
    }
  }

  /** Removes a subscription. Returns whether it existed. */
  #drop(id: string): boolean {
    const known = this.#byId.get(id)
    if (known === undefined) return false
    this.#byId.delete(id)
    this.#byPattern.delete(known.subscribed.pattern)
    this.#filters.delete(known.subscribed.pattern)
    this.#release(known)
    return true
  }
}
