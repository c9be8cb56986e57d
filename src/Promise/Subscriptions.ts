/** The subscription client of the Promise face: events as they happen, over one connection. */
import type { SubscriptionState } from "../Client/SubscriptionState.ts"
import type {
  ConnectionState,
  SubscriptionCallbacks,
  SubscriptionErrorInfo,
  SubscriptionEvent
} from "../Client/SubscriptionCallbacks.ts"
import type { SubscriptionSession } from "../Client/SubscriptionSession.ts"
import type { Body } from "../Client/Delivery.ts"
import type { SubscribedData } from "../Client/Subscribed.ts"
import { resolveServer } from "../Client/HttpConfig.ts"
import { ClosedError, SubscriptionError, ValidationError } from "../Errors.ts"
import { type EventDefinition, subscribedPattern } from "../Event.ts"
import { checkName } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { subscribeKeys } from "../Protocol/SubscribeKeys.ts"
import type { AckType, SubscribeOptions } from "../Protocol/Subscriptions.ts"
import { show } from "../Show.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { connectionOf, type EngineHandle } from "./Connection.ts"

/** Options of `createSubscriptionClient`. */
export interface SubscriptionClientConfig {
  /** `IRONFLOW_SERVER_URL` by default, else `http://localhost:9123`. */
  readonly serverUrl?: string | undefined
  /** An engine of this process instead of a server: what `startEngine()` resolves to. */
  readonly engine?: EngineHandle | undefined
  /** The key to connect with; `IRONFLOW_API_KEY` by default, else none. */
  readonly apiKey?: string | undefined
  /** The environment to work in; `IRONFLOW_ENV` by default, else `default`. */
  readonly environment?: string | undefined
  /** Connect again when the connection is lost; `true` by default. */
  readonly autoReconnect?: boolean
  /** Milliseconds before the first attempt to reconnect; 1000 by default. */
  readonly reconnectDelay?: number
  /** The longest delay in milliseconds; 30000 by default. */
  readonly maxReconnectDelay?: number
  /** What the delay is multiplied with after each attempt; 1.5 by default. */
  readonly reconnectBackoff?: number
  /** Milliseconds in which a connection has to open; 10000 by default. */
  readonly connectionTimeout?: number
  /** Brings the data of user events to the latest version. */
  readonly eventDefinitions?: EventDefinitionRegistry
}

const clientKeys = {
  serverUrl: true,
  engine: true,
  apiKey: true,
  environment: true,
  autoReconnect: true,
  reconnectDelay: true,
  maxReconnectDelay: true,
  reconnectBackoff: true,
  connectionTimeout: true,
  eventDefinitions: true
} satisfies Keys<SubscriptionClientConfig>

/** A subscription that is active. */
export interface Subscription {
  /** Id of the subscription. */
  readonly id: string
  /** What it brings: events, messages or runs that fit this pattern. */
  readonly pattern: string
  /** How the connection is now. */
  readonly connectionState: ConnectionState
  /** What came last; absent while nothing has. */
  readonly lastEvent?: SubscriptionEvent
  /** Ends it. Doing so again does nothing. */
  unsubscribe(): void
}

/** Settles events that came with `ackMode: "manual"`. Promises resolve when it is stored. */
export interface AckHandle {
  /** The event has been handled and does not come again. Rejects with code `NOT_HELD` when somebody else has it by now. */
  ack(eventId: string): Promise<void>
  /** The event comes again, after `delay` milliseconds, or when its group says (after 5 seconds at first). */
  nak(eventId: string, delay?: number): Promise<void>
  /** The event cannot be handled and does not come again; in a group it becomes a dead letter. */
  term(eventId: string): Promise<void>
  /**
   * The event takes longer: it is held for another `ackWait`. While a handler runs its client says so by itself. Rejects with
   * code `NOT_HELD` when somebody else has the event by now.
   */
  inProgress(eventId: string): Promise<void>
}

/** A subscription with `ackMode: "manual"`. */
export interface AckableSubscription extends Subscription, AckHandle {}

// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export type SubscribeCallbacksAndOptions<T = any> = SubscribeOptions & SubscriptionCallbacks<T>

const callbackKeys = {
  ...subscribeKeys,
  onEvent: true,
  onError: true,
  onStateChange: true
} satisfies Keys<SubscribeCallbacksAndOptions>

/** An event of {@link SubscriptionClient.stream}. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface StreamedEvent<T = any> extends SubscriptionEvent<T> {
  /**
   * Settles it before the body of the loop is done, which does so otherwise in a group with `auto`. A body that ends by `break`
   * or `return` has to call this first: it looks like one that throws.
   */
  ack(): Promise<void>
  /** It comes again, after `delay` milliseconds, or when its group says. */
  nak(delay?: number): Promise<void>
  /** It does not come again, and becomes a dead letter of its group. */
  term(): Promise<void>
  /** With `ackMode: "manual"`, after the body: the event is held for another `ackWait`. */
  inProgress(): Promise<void>
  /**
   * Calls `f` as part of the event's trace: spans that it makes are below the span of this delivery. Where the event or the program
   * is not traced, it calls `f` alone.
   */
  within<A>(f: () => A): A
}

/** Events that wait in a stream before the connection is paused, and after which it goes on. */
const FULL = 1000
const ROOM = 500

/** Brings events, messages and what happens to runs, as they happen. Made by `createSubscriptionClient`. */
export class SubscriptionClient implements Disposable {
  readonly #load: () => Promise<SubscriptionSession>
  readonly #stateListeners = new Set<(state: ConnectionState) => void>()
  readonly #errorListeners = new Set<(error: SubscriptionErrorInfo) => void>()
  readonly #forgetEngine: () => void
  #session: Promise<SubscriptionSession> | undefined
  #loaded: SubscriptionSession | undefined
  #closed = false

  /** Throws `ValidationError` when the configuration is not acceptable. */
  constructor(config: SubscriptionClientConfig) {
    checkKeys(config, clientKeys, "createSubscriptionClient()")
    const options = {
      autoReconnect: config.autoReconnect ?? true,
      reconnectDelay: positive("reconnectDelay", config.reconnectDelay ?? 1000),
      maxReconnectDelay: positive("maxReconnectDelay", config.maxReconnectDelay ?? 30_000),
      reconnectBackoff: positive("reconnectBackoff", config.reconnectBackoff ?? 1.5),
      connectionTimeout: positive("connectionTimeout", config.connectionTimeout ?? 10_000),
      ...(config.eventDefinitions === undefined ? {} : { eventDefinitions: config.eventDefinitions })
    }
    const engine =
      config.engine === undefined ? undefined : connectionOf("createSubscriptionClient()", config.engine)
    const environment =
      engine === undefined ? "" : checkName("environment", config.environment ?? engine.environment)
    const server =
      engine === undefined
        ? resolveServer(
            { serverUrl: config.serverUrl, apiKey: config.apiKey, environment: config.environment },
            "createSubscriptionClient()"
          )
        : undefined
    this.#forgetEngine = engine?.onClose("client", async () => this.close()) ?? (() => undefined)
    this.#load = async () => {
      const { makeSession } = await import("../Client/Subscriptions.ts")
      return makeSession(
        server === undefined
          ? { wire: () => engine!.wire(environment) }
          : { dial: (await import("../Client/SubscriptionSocket.ts")).dialSocket(server) },
        options
      )
    }
  }

  /** How the connection is now. */
  get connectionState(): ConnectionState {
    return this.#loaded?.state ?? (this.#session === undefined ? "disconnected" : "connecting")
  }

  /** Whether it is connected. */
  get isConnected(): boolean {
    return this.connectionState === "connected"
  }

  /**
   * Connects; at once when it is connected. Rejects with `ConnectionError`, or with `UnauthenticatedError` when the server
   * wants another API key, and goes on trying with `autoReconnect`.
   */
  async connect(): Promise<void> {
    if (this.#closed) throw closed()
    this.#session ??= this.#load().then((session) => {
      session.onState((state) => this.#stateListeners.forEach((listener) => listener(state)))
      session.onError((error) => this.#errorListeners.forEach((listener) => listener(error)))
      if (this.#closed) session.close()
      return (this.#loaded = session)
    })
    await (await this.#session).connect()
  }

  /**
   * Subscribes to `events:`, `topic:` or `system.` patterns, or to the events of a definition, whose data its schema decodes: what
   * does not fit goes to `onError` and has failed. No event comes before the caller has gone on. Rejects with `SubscriptionError` when
   * the client is not connected or the server refuses.
   */
  subscribe<const P extends string | EventDefinition>(
    pattern: P,
    options: SubscribeCallbacksAndOptions<SubscribedData<P>> & { readonly ackMode: "manual" }
  ): Promise<AckableSubscription>
  subscribe<const P extends string | EventDefinition>(
    pattern: P,
    options?: SubscribeCallbacksAndOptions<SubscribedData<P>>
  ): Promise<Subscription>
  async subscribe(
    pattern: string | EventDefinition,
    options: SubscribeCallbacksAndOptions = {}
  ): Promise<Subscription | AckableSubscription> {
    if (this.#closed) throw closed()
    checkKeys(options, callbackKeys, "subscribe()")
    const session = this.#loaded
    if (session === undefined) {
      throw new SubscriptionError(
        `"${subscribedPattern(pattern)}" cannot be subscribed to: call connect() first, and wait for it`,
        { code: "NOT_CONNECTED" }
      )
    }
    const { onError, onEvent, onStateChange, ...rest } = options
    const decode = await decoding(pattern)
    const subscription = await session.subscribe(subscribedPattern(pattern), rest, {
      decode,
      ...(onEvent === undefined ? {} : { onEvent }),
      ...(onError === undefined ? {} : { onError }),
      ...(onStateChange === undefined ? {} : { onStateChange })
    })
    return handleOf(session, subscription)
  }

  /**
   * The events of a pattern, for `for await`; leaving the loop ends the subscription. Connects if need be. In a group with `auto` an
   * event is acked when the body of the loop is done; what was not taken goes back at once. A definition in place of the pattern decodes
   * the data: an event that does not fit goes to `onError` of the client, and has failed.
   */
  async *stream<const P extends string | EventDefinition>(
    pattern: P,
    options: SubscribeOptions = {}
  ): AsyncGenerator<StreamedEvent<SubscribedData<P>>, void, undefined> {
    checkKeys(options, subscribeKeys, "stream()")
    await this.connect()
    const events: Array<{ readonly event: SubscriptionEvent; readonly body: Body }> = []
    let current: Body | undefined
    let failure: SubscriptionErrorInfo | undefined
    let wake: () => void = () => undefined
    const session = await this.#session!
    const decode = await decoding(pattern)
    const subscription = await session.subscribe(subscribedPattern(pattern), options, {
      decode,
      onBody: (event, body) => {
        events.push({ event, body })
        if (events.length >= FULL) session.pause()
        wake()
      },
      onError: (error) => {
        if (error.retrying === false) failure = error
        wake()
      },
      onStateChange: () => wake()
    })
    const settle = (event: SubscriptionEvent, type: AckType, delay?: number) =>
      session.settle(subscription, event.eventId ?? "", type, delay)
    try {
      while (true) {
        const next = events.shift()
        if (next !== undefined) {
          if (events.length === ROOM) session.resume()
          const { body, event } = next
          if (!body.take()) continue
          current = body
          yield {
            ...event,
            ack: () => settle(event, "ack"),
            nak: (delay) => settle(event, "nak", delay),
            term: () => settle(event, "term"),
            inProgress: () => session.inProgress(subscription, event.eventId ?? ""),
            within: (f) => (body.span === undefined ? f() : body.span.within(f))
          }
          current = undefined
          body.done()
          continue
        }
        if (failure !== undefined) {
          throw new SubscriptionError(failure.message, { code: failure.code, retryable: false })
        }
        if (!subscription.isActive) return
        await new Promise<void>((resolve) => (wake = resolve))
      }
    } finally {
      current?.failed(leftLoop())
      session.resume()
      session.unsubscribe(subscription)
    }
  }

  /** Calls `listener` with every change of the connection; returns the way to stop that. */
  onConnectionChange(listener: (state: ConnectionState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => void this.#stateListeners.delete(listener)
  }

  /** Calls `listener` with every error of the connection and of its subscriptions; returns the way to stop that. */
  onError(listener: (error: SubscriptionErrorInfo) => void): () => void {
    this.#errorListeners.add(listener)
    return () => void this.#errorListeners.delete(listener)
  }

  /** Ends all subscriptions. Closing again does nothing. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#forgetEngine()
    this.#loaded?.close()
  }

  /** Closes it, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * A client for subscriptions to a server, or to the `engine` of this process. Throws `ValidationError` when the configuration
 * is not acceptable.
 */
export const createSubscriptionClient = (config: SubscriptionClientConfig): SubscriptionClient =>
  new SubscriptionClient(config)

/** What decodes the data; loaded like the session, with the first connection. */
const decoding = async (
  pattern: string | EventDefinition
): Promise<((data: unknown) => unknown) | undefined> => {
  if (typeof pattern === "string") return undefined
  const { decoderOf } = await import("../Client/Subscribed.ts")
  return decoderOf(pattern)
}

const handleOf = (
  session: SubscriptionSession,
  subscription: SubscriptionState
): Subscription | AckableSubscription => {
  const handle = {
    get id() {
      return subscription.id
    },
    pattern: subscription.pattern,
    get connectionState() {
      return session.state
    },
    get lastEvent() {
      return subscription.lastEvent!
    },
    unsubscribe: () => session.unsubscribe(subscription)
  }
  if (subscription.ackMode !== "manual") return handle
  return Object.assign(handle, {
    ack: (eventId: string) => session.settle(subscription, eventId, "ack"),
    nak: (eventId: string, delay?: number) => session.settle(subscription, eventId, "nak", delay),
    term: (eventId: string) => session.settle(subscription, eventId, "term"),
    inProgress: (eventId: string) => session.inProgress(subscription, eventId)
  })
}

const positive = (name: string, value: number): number => {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value
  throw new ValidationError(
    `createSubscriptionClient(): \`${name}\` must be a positive number, got ${show(value)}`
  )
}

const closed = (): ClosedError => new ClosedError("subscription client")

/** Why an event has failed whose loop was left: leaving a loop by `break` and by throwing look the same to a stream. */
const leftLoop = (): Error =>
  new Error(
    "The loop over the stream was left in the round of this event: it was thrown, or `event.ack()` was not called before `break`"
  )
