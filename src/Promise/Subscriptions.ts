/** The subscription client of the Promise API. It delivers events as they happen, over one connection. */
import type { SubscriptionState } from "../Client/SubscriptionState.ts"
import type {
  ConnectionState,
  SubscriptionCallbacks,
  SubscriptionErrorInfo,
  SubscriptionEvent
} from "../Client/SubscriptionCallbacks.ts"
import type { SubscriptionSession } from "../Client/SubscriptionSession.ts"
import type { Body } from "../Client/EventDelivery.ts"
import type { SubscribedData, SubscribedDecoder } from "../Client/TypedSubscription.ts"
import { resolveServer } from "../Client/HttpOptions.ts"
import { ClosedError, SubscriptionError, ValidationError } from "../Errors.ts"
import { type EventDefinition, subscribedPattern } from "../Event.ts"
import { checkName } from "../Limits.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { subscribeKeys } from "../Protocol/SubscribeOptionKeys.ts"
import type { AckType, SubscribeOptions } from "../Protocol/Subscriptions.ts"
import { show } from "../Show.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { connectionOf, type EngineHandle } from "./EngineConnection.ts"

/** Options of `createSubscriptionClient`. */
export interface SubscriptionClientConfig {
  /** The URL of the server. By default that of `IRONFLOW_SERVER_URL`, or else `http://localhost:9123`. */
  readonly serverUrl?: string | undefined
  /** An engine of this process in place of a server: what `startEngine()` resolves to. */
  readonly engine?: EngineHandle | undefined
  /** The API key to connect with. By default that of `IRONFLOW_API_KEY`, or else none. */
  readonly apiKey?: string | undefined
  /**
   * The environment to work in. By default that of the `engine`. Without `engine`, by default that of `IRONFLOW_ENV`,
   * or else `default`.
   */
  readonly environment?: string | undefined
  /** Whether to reconnect when the connection is lost; `true` by default. */
  readonly autoReconnect?: boolean
  /** The delay before the first attempt to reconnect, in milliseconds; 1000 by default. */
  readonly reconnectDelay?: number
  /** The longest delay between attempts, in milliseconds; 30000 by default. */
  readonly maxReconnectDelay?: number
  /** The factor by which the delay grows with each attempt; 1.5 by default. */
  readonly reconnectBackoff?: number
  /** The timeout for opening a connection, in milliseconds; 10000 by default. */
  readonly connectionTimeout?: number
  /** Upcasts the data of emitted events to their latest version. */
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

/** An active subscription. */
export interface Subscription {
  /** Id of the subscription. */
  readonly id: string
  /** The pattern of the subscribed events, messages or runs. */
  readonly pattern: string
  /** The current state of the connection. */
  readonly connectionState: ConnectionState
  /** The last event; absent before the first one. */
  readonly lastEvent?: SubscriptionEvent
  /** Ends the subscription. A second call does nothing. */
  unsubscribe(): void
}

/** Settles events of a subscription with `ackMode: "manual"`. Each promise resolves when the engine has stored the change. */
export interface AckHandle {
  /**
   * Acknowledges the event: it is not delivered again. Rejects with code `NOT_HELD` when another consumer has the
   * event by now.
   */
  ack(eventId: string): Promise<void>
  /**
   * Asks for another delivery of the event, after `delay` milliseconds. The default delay is that of the group (5
   * seconds after the first failure), or 5 seconds without a group.
   */
  nak(eventId: string, delay?: number): Promise<void>
  /**
   * Gives up an event that cannot be handled. It is not delivered again, and in a group it becomes a dead
   * letter.
   */
  term(eventId: string): Promise<void>
  /**
   * Extends the time for handling the event: the event has another `ackWait` from now. While a handler runs, the client
   * does this by itself. Rejects with code `NOT_HELD` when another consumer has the event by now.
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
   * Acknowledges the event now. In a group with `ackMode: "auto"`, an event is otherwise acknowledged after the loop
   * body. A body that ends with `break` or `return` must call `ack()` first: otherwise the event counts as failed,
   * since a stream cannot tell such an end from a throw.
   */
  ack(): Promise<void>
  /**
   * Asks for another delivery of the event, after `delay` milliseconds. The default delay is that of the group, or 5
   * seconds without a group.
   */
  nak(delay?: number): Promise<void>
  /** Gives up the event. It is not delivered again, and in a group it becomes a dead letter. */
  term(): Promise<void>
  /**
   * Extends the time for handling the event: the event has another `ackWait` from now. Needed with `ackMode: "manual"`,
   * when the event is still being handled after the loop body has ended.
   */
  inProgress(): Promise<void>
  /**
   * Calls `f` within the event's trace: spans that `f` makes are children of this delivery's span. When the
   * event or the program is not traced, `within` only calls `f`.
   */
  within<A>(f: () => A): A
}

/** When this many events wait in a stream, the connection is paused. */
const PAUSE_AT_EVENTS = 1000
/** When no more than this many events still wait in the stream, the connection is resumed. */
const RESUME_AT_EVENTS = 500

/** Delivers events, messages and changes of runs as they happen. Created by `createSubscriptionClient`. */
export class SubscriptionClient implements Disposable {
  readonly #load: () => Promise<SubscriptionSession>
  readonly #stateListeners = new Set<(state: ConnectionState) => void>()
  readonly #errorListeners = new Set<(error: SubscriptionErrorInfo) => void>()
  readonly #removeFromEngine: () => void
  #session: Promise<SubscriptionSession> | undefined
  #loadedSession: SubscriptionSession | undefined
  #isClosed = false

  /** Creates the client. Throws `ValidationError` when the configuration is invalid. */
  constructor(config: SubscriptionClientConfig) {
    checkKeys(config, clientKeys, "createSubscriptionClient()")
    const options = {
      autoReconnect: config.autoReconnect ?? true,
      reconnectDelay: checkPositive("reconnectDelay", config.reconnectDelay ?? 1000),
      maxReconnectDelay: checkPositive("maxReconnectDelay", config.maxReconnectDelay ?? 30_000),
      reconnectBackoff: checkPositive("reconnectBackoff", config.reconnectBackoff ?? 1.5),
      connectionTimeout: checkPositive("connectionTimeout", config.connectionTimeout ?? 10_000),
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
    this.#removeFromEngine = engine?.onClose("client", async () => this.close()) ?? (() => undefined)
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

  /** The current state of the connection. */
  get connectionState(): ConnectionState {
    return this.#loadedSession?.state ?? (this.#session === undefined ? "disconnected" : "connecting")
  }

  /** Whether the client is connected. */
  get isConnected(): boolean {
    return this.connectionState === "connected"
  }

  /**
   * Connects, and resolves when the client is connected. Rejects with `ConnectionError` when the server cannot be
   * reached, and with `UnauthenticatedError` when it requires another API key. With `autoReconnect` the client keeps
   * trying in the background, even after this call has rejected.
   */
  async connect(): Promise<void> {
    if (this.#isClosed) throw closedError()
    this.#session ??= this.#load().then((session) => {
      session.onState((state) => this.#stateListeners.forEach((listener) => listener(state)))
      session.onError((error) => this.#errorListeners.forEach((listener) => listener(error)))
      if (this.#isClosed) session.close()
      return (this.#loadedSession = session)
    })
    await (await this.#session).connect()
  }

  /**
   * Subscribes to `events:`, `topic:` or `system.` patterns, or to the events of a definition, whose schema decodes the
   * data. An event that does not fit the schema goes to `onError`, and counts as failed. No event is delivered before
   * the code after `await subscribe(...)` runs. Rejects with `SubscriptionError` when the client is not connected, has
   * already subscribed to the pattern, or the server refuses the subscription.
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
    if (this.#isClosed) throw closedError()
    checkKeys(options, callbackKeys, "subscribe()")
    const session = this.#loadedSession
    if (session === undefined) {
      throw new SubscriptionError(
        `Cannot subscribe to "${subscribedPattern(pattern)}" without a connection: await connect() first`,
        { code: "NOT_CONNECTED" }
      )
    }
    const { onError, onEvent, onStateChange, ...rest } = options
    const decode = await loadDecoder(pattern)
    const subscription = await session.subscribe(subscribedPattern(pattern), rest, {
      decode,
      ...(onEvent === undefined ? {} : { onEvent }),
      ...(onError === undefined ? {} : { onError }),
      ...(onStateChange === undefined ? {} : { onStateChange })
    })
    return handleOf(session, subscription)
  }

  /**
   * Returns the events of a pattern as an async iterable. Leaving the loop ends the subscription. Connects first if
   * necessary. In a group with `ackMode: "auto"`, an event is acknowledged when the loop body is done. When the loop
   * ends, the events that it has not taken go back to the group at once. With a definition in place of the pattern,
   * the schema of the definition decodes the data: an event that does not fit goes to `onError` of the client, and
   * counts as failed.
   */
  async *stream<const P extends string | EventDefinition>(
    pattern: P,
    options: SubscribeOptions = {}
  ): AsyncGenerator<StreamedEvent<SubscribedData<P>>, void, undefined> {
    checkKeys(options, subscribeKeys, "stream()")
    await this.connect()
    const events: Array<{ readonly event: SubscriptionEvent; readonly body: Body }> = []
    let currentBody: Body | undefined
    let failure: SubscriptionErrorInfo | undefined
    let wake: () => void = () => undefined
    const session = await this.#session!
    const decode = await loadDecoder(pattern)
    const subscription = await session.subscribe(subscribedPattern(pattern), options, {
      decode,
      onBody: (event, body) => {
        events.push({ event, body })
        if (events.length >= PAUSE_AT_EVENTS) session.pause()
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
          if (events.length === RESUME_AT_EVENTS) session.resume()
          const { body, event } = next
          if (!body.take()) continue
          currentBody = body
          yield {
            ...event,
            ack: () => settle(event, "ack"),
            nak: (delay) => settle(event, "nak", delay),
            term: () => settle(event, "term"),
            inProgress: () => session.inProgress(subscription, event.eventId ?? ""),
            within: (f) => (body.span === undefined ? f() : body.span.within(f))
          }
          currentBody = undefined
          body.onDone()
          continue
        }
        if (failure !== undefined) {
          throw new SubscriptionError(failure.message, { code: failure.code, retryable: false })
        }
        if (!subscription.isActive) return
        await new Promise<void>((resolve) => (wake = resolve))
      }
    } finally {
      currentBody?.onFailed(loopLeftError())
      session.resume()
      session.unsubscribe(subscription)
    }
  }

  /**
   * Calls `listener` whenever the state of the connection changes. Returns a function that removes the
   * listener.
   */
  onConnectionChange(listener: (state: ConnectionState) => void): () => void {
    this.#stateListeners.add(listener)
    return () => void this.#stateListeners.delete(listener)
  }

  /**
   * Calls `listener` with every error of the connection and of its subscriptions. Returns a function that
   * removes the listener.
   */
  onError(listener: (error: SubscriptionErrorInfo) => void): () => void {
    this.#errorListeners.add(listener)
    return () => void this.#errorListeners.delete(listener)
  }

  /** Ends all subscriptions and the connection. A second call does nothing. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#removeFromEngine()
    this.#loadedSession?.close()
  }

  /** Closes the client, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }
}

/**
 * Creates a client for subscriptions to a server, or to an `engine` of this process. Throws `ValidationError` when
 * the configuration is invalid.
 */
export const createSubscriptionClient = (config: SubscriptionClientConfig): SubscriptionClient =>
  new SubscriptionClient(config)

/** Makes the decoder of the data. The code for it is loaded only when an event definition is subscribed to. */
const loadDecoder = async (pattern: string | EventDefinition): Promise<SubscribedDecoder | undefined> => {
  if (typeof pattern === "string") return undefined
  const { decoderOf } = await import("../Client/TypedSubscription.ts")
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

const checkPositive = (name: string, value: number): number => {
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value
  throw new ValidationError(
    `createSubscriptionClient(): \`${name}\` must be a positive number, got ${show(value)}`
  )
}

const closedError = (): ClosedError => new ClosedError("subscription client")

/**
 * The error with which an event fails when its loop body leaves the loop. A stream cannot tell a `break` from a throw.
 */
const loopLeftError = (): Error =>
  new Error(
    "The loop over the stream ended while it handled this event: it threw, or `break` came before `event.ack()`"
  )
