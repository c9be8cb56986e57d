/** One connection of a subscription client: what it says, what it has subscribed to, and what it is told. */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import {
  type IronflowError,
  isIronflowError,
  LimitExceededError,
  SubscriptionError,
  ValidationError
} from "../../Errors.ts"
import { isObject, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonShape.ts"
import * as Limits from "../../Limits.ts"
import {
  ACK_WAIT_MS,
  type AckMode,
  ackModes,
  type BackpressureMode,
  backpressureModes,
  type BufferConfig,
  MAX_FAILURE,
  MAX_FILTERS,
  MAX_FRAME,
  MAX_REDELIVER_MS,
  MAX_REPLAY,
  MAX_SUBSCRIPTIONS,
  type Wire,
  type WSServerMessage
} from "../../Protocol/Subscriptions.ts"
import { show } from "../../Show.ts"
import { accepts, type Form, type Item, type Shape } from "./Feed.ts"
import { makeFilter } from "./Filter.ts"
import { Member } from "./Group.ts"
import { oneOf, readAckWait, readBuffer, readCapacity } from "./Settings.ts"
import { type Outlet, type Subscribed, Subscriber } from "./Subscriber.ts"
import type { Subscriptions } from "./Subscriptions.ts"
import type { EventAccess } from "./SystemEvents.ts"
import { checkGroupTarget, readTarget, type Target } from "./Target.ts"

/** Bytes of answers that a client may leave unread before it is disconnected. */
export const MAX_BACKLOG = 16 * 1024 * 1024
const POLICY_VIOLATION = 1008
const GOING_AWAY = 1001
const INTERNAL_ERROR = 1011

interface Request {
  readonly pattern: string
  readonly shape: Shape
  readonly ackMode?: AckMode
  readonly backpressure?: BackpressureMode
  readonly buffer?: BufferConfig
  readonly ackWaitMs: number
  readonly capacity?: number
  readonly replay: number
  readonly group?: { readonly namespace: string; readonly name: string; readonly pattern: string }
  readonly after?: number
  readonly resumes: boolean
}

/** What the other end of a connection may do. */
export interface Guard {
  /** Throws an `IronflowError` for a pattern that it may not subscribe to. */
  readonly check: (pattern: string) => void
  /** Whether it may have what asks for more than that. */
  readonly may: (access: EventAccess) => boolean
  /** Whether it may have events of the stream of an entity. */
  readonly mayRead: (entityId: string) => boolean
  /** Throws an `IronflowError` when it may not be a member of a group, which leaves nothing out. */
  readonly checkGroup: (pattern: string) => void
}

export interface ConnectionOptions {
  /** Says what the other end may do; everything without it. */
  readonly guard?: Guard
  readonly tongue?: Tongue
}

/** Another language than that of `/ws`. What cannot be said in it is left out. */
export interface Tongue extends Form {
  /** `error` is what the message is about, if it is about one. */
  readonly say: (message: WSServerMessage, error?: IronflowError) => void
}

/**
 * Serves the other end of the wire until one of them closes it. What is returned asks the guard again about every subscription,
 * and throws what it throws.
 */
export const connect = (
  hub: Subscriptions,
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
  readonly #hub: Subscriptions
  readonly #wire: Wire
  readonly #guard: Guard | undefined
  readonly #tongue: Tongue | undefined
  readonly #id: string
  readonly #onEnd: () => void
  readonly #byPattern = new Map<string, Subscribed | "pending">()
  /** Characters of the filters, by pattern. */
  readonly #filters = new Map<string, number>()
  readonly #byId = new Map<string, { readonly subscribed: Subscribed; readonly target: Target }>()
  isClosed = false

  constructor(
    hub: Subscriptions,
    environment: string,
    wire: Wire,
    { guard, tongue }: ConnectionOptions,
    id: string,
    onEnd: () => void
  ) {
    this.#hub = hub
    this.environment = environment
    this.#wire = wire
    this.#guard = guard
    this.#tongue = tongue
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

  consumersOf(topic: string): number {
    let count = 0
    for (const { target } of this.#byId.values()) {
      if (target.source === "log" && target.kind !== "event" && target.fits(topic)) count++
    }
    return count
  }

  /** Throws an `IronflowError` when the other end may not have one of its subscriptions any more. */
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

  /** Nothing that a client says gets further than this: at worst its connection ends. */
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
    if (this.#tongue !== undefined) return this.#tongue.say(message, error)
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
        return this.#ack(message)
      case "in_progress":
        return this.#inProgress(message)
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
    let request: Request
    try {
      request = this.#readRequest(input)
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
            "All filters of a connection together",
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
    // before it is looked where the events are that it begins after
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

  #open(request: Request): Effect.Effect<void, IronflowError> {
    const hub = this.#hub
    const { environment } = this
    const { group, pattern, replay, resumes, shape } = request
    return Effect.gen({ self: this }, function* () {
      const from =
        request.after ??
        (replay === 0
          ? undefined
          : yield* hub.replayFrom(environment, shape, replay, (item) => accepts(shape, item)))
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
        `${this.#id}/${shape.subscriptionId}`,
        {
          ackMode,
          settlesItself: resumes,
          ackWaitMs: request.ackWaitMs,
          ...(request.capacity === undefined ? {} : { capacity: request.capacity }),
          joinedAt: hub.clock.currentTimeMillisUnsafe(),
          // nothing of a group is dropped
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

  /** Says whether there was such a subscription. */
  #drop(id: string): boolean {
    const known = this.#byId.get(id)
    if (known === undefined) return false
    this.#byId.delete(id)
    this.#byPattern.delete(known.subscribed.pattern)
    this.#filters.delete(known.subscribed.pattern)
    this.#release(known)
    return true
  }

  #ack(message: { readonly [name: string]: unknown }): void {
    const { ackType, eventId, reason, redeliverDelay, requestId, subscriptionId } = message
    const answer = this.#answering(requestId)
    if (typeof eventId !== "string" || (ackType !== "ack" && ackType !== "nak" && ackType !== "term")) {
      return answer({
        code: "INVALID_MESSAGE",
        message: "An ack needs an eventId, and an ackType of ack, nak or term"
      })
    }
    if (
      redeliverDelay !== undefined &&
      !(typeof redeliverDelay === "number" && redeliverDelay >= 0 && redeliverDelay <= MAX_REDELIVER_MS)
    ) {
      return answer({
        code: "INVALID_MESSAGE",
        message: `redeliverDelay must be a number of milliseconds from 0 to ${MAX_REDELIVER_MS}`
      })
    }
    const meant = [...this.#byId.values()].filter(
      ({ subscribed }) => subscriptionId === undefined || subscribed.id === subscriptionId
    )
    const holder = meant.find(({ subscribed }) => subscribed.holds(eventId))?.subscribed
    const notHeld = notHeldHere(eventId)
    if (holder === undefined) {
      for (const { subscribed } of meant) subscribed.heard()
      this.#hub.countStaleAck()
      return answer(notHeld)
    }
    this.run(
      Effect.match(
        holder.settle(eventId, {
          how: ackType,
          ...(redeliverDelay === undefined ? {} : { redeliverMs: redeliverDelay }),
          ...(typeof reason === "string" ? { reason: reason.slice(0, MAX_FAILURE) } : {})
        }),
        {
          onSuccess: (settled) => answer(settled ? undefined : notHeld),
          onFailure: (error) => answer({ code: error.code, message: error.message })
        }
      )
    )
  }

  #inProgress(message: { readonly [name: string]: unknown }): void {
    const { eventId, except = [], requestId, subscriptionId } = message
    const answer = this.#answering(requestId)
    if (
      typeof subscriptionId !== "string" ||
      (eventId !== undefined && typeof eventId !== "string") ||
      !isTexts(except)
    ) {
      return answer({
        code: "INVALID_MESSAGE",
        message: "What is in progress needs a subscriptionId, and an eventId or a list `except` of such"
      })
    }
    const subscribed = this.#byId.get(subscriptionId)?.subscribed
    const notHeld = eventId === undefined ? undefined : notHeldHere(eventId)
    // it has ended while this was on its way, and what it held is with others
    if (subscribed === undefined) return answer(notHeld)
    this.run(
      Effect.match(subscribed.extend(eventId === undefined ? { except } : { only: eventId }), {
        onSuccess: (count) => answer(count > 0 ? undefined : notHeld),
        onFailure: (error) => answer({ code: error.code, message: error.message })
      })
    )
  }

  /** Says what became of a request, or only that something is wrong with one that wants no answer. */
  #answering(requestId: unknown) {
    return (problem?: { readonly code: string; readonly message: string }): void => {
      if (typeof requestId === "number") {
        this.#say({
          type: "ack_result",
          requestId,
          ...(problem === undefined ? { status: "ok" } : { status: "error", ...problem })
        })
      } else if (problem !== undefined) this.#complain(problem.code, problem.message)
    }
  }

  #readRequest(input: unknown): Request {
    if (!isObject(input)) throw new ValidationError("A subscribe message needs a `subscription`")
    const { capacity, options: given = {}, pattern, resume } = input
    const target = readTarget(pattern)
    const options = isObject(given) ? given : {}
    const { ackMode, ackWait, backpressure, buffer } = options
    const replay = options.replay ?? 0
    if (typeof replay !== "number" || !Number.isInteger(replay) || replay < 0) {
      throw new ValidationError(`\`replay\` must be a number of events from 0 up, not ${show(replay)}`)
    }
    const { consumerGroup, filter, namespace = "default" } = options
    if (consumerGroup !== undefined) checkGroupTarget(target)
    // it has been read as a target
    const text = String(pattern)
    const resumes = isObject(resume)
    const { epoch } = this.#hub.system
    const system = target.source === "system"
    const shape: Shape = {
      target,
      subscriptionId: idOf(this.environment, text),
      includeMetadata: options.includeMetadata === true,
      ...(filter === undefined
        ? {}
        : { filter: makeFilter(filter as string, `subscription to "${text}"`, this.#hub.run) }),
      ...(resumes
        ? { writePosition: (position: number) => (system ? `${epoch}.${position}` : String(position)) }
        : {}),
      ...(this.#tongue === undefined ? {} : { form: this.#tongue })
    }
    const after = resumes ? this.#readPosition(resume.after, system) : undefined
    return {
      pattern: text,
      shape,
      resumes,
      replay: Math.min(replay, MAX_REPLAY),
      ackWaitMs: ackWait == null ? ACK_WAIT_MS : readAckWait(ackWait),
      ...(capacity == null ? {} : { capacity: readCapacity(capacity) }),
      ...(ackMode == null ? {} : { ackMode: oneOf("ackMode", ackModes, ackMode) }),
      ...(backpressure == null
        ? {}
        : { backpressure: oneOf("backpressure", backpressureModes, backpressure) }),
      ...(buffer == null ? {} : { buffer: readBuffer(buffer) }),
      ...(consumerGroup === undefined
        ? {}
        : {
            group: {
              namespace: Limits.checkName("namespace", namespace),
              name: Limits.checkName("consumer group", consumerGroup),
              pattern: text
            }
          }),
      ...(after === undefined ? {} : { after })
    }
  }

  #readPosition(text: unknown, system: boolean): number | undefined {
    if (typeof text !== "string" || text === "") return undefined
    const [first = "", second] = text.split(".")
    const position = Number(system ? second : first)
    if (!Number.isSafeInteger(position) || position < 0) {
      throw new ValidationError(
        `The position ${show(text)} to resume after is not one that this engine has given`
      )
    }
    // what happened before this engine was started is not remembered: all that it knows is new
    return system && first !== this.#hub.system.epoch ? 0 : position
  }
}

const isTexts = (value: unknown): value is ReadonlyArray<string> =>
  Array.isArray(value) && value.every((one) => typeof one === "string")

const notHeldHere = (eventId: string) => ({
  code: "NOT_HELD",
  message: `This connection does not hold event ${show(eventId)}: its time was up, it was settled before, or it was never delivered here`
})

/** The same for every connection, so that clients that keep the id over a reconnect go on with it. */
const idOf = (environment: string, pattern: string): string =>
  `sub_${createHash("sha256")
    .update(JSON.stringify([environment, pattern]))
    .digest("hex")
    .slice(0, 24)}`

const codeOf = (error: IronflowError): string =>
  error.code === "VALIDATION_ERROR" && /pattern/.test(error.message) ? "INVALID_PATTERN" : error.code
