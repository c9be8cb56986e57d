/**
 * Subscriptions: streams that deliver events, messages and system events as soon as they happen. A stream also settles
 * its events.
 *
 * ```ts
 * const orders = Stream.unwrap(Effect.map(Subscriptions.Subscriptions, (it) => it.stream("events:order.*")))
 * ```
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type ClosedError, isIronflowError, SubscriptionError } from "../Errors.ts"
import { type EventDefinition, subscribedPattern } from "../Event.ts"
import * as Alarm from "../Execution/Alarm.ts"
import { tracerIn } from "../OpenTelemetry.ts"
import type { AckType, SubscribeOptions, Wire } from "../Protocol/Subscriptions.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import type { ClientError } from "./Client.ts"
import { clientErrorTags, narrowErrors } from "./NarrowErrors.ts"
import type { Body } from "./EventDelivery.ts"
import { decoderOf, type SubscribedData } from "./TypedSubscription.ts"
import type { Connect } from "./Reconnecting.ts"
import type { SubscriptionEvent } from "./SubscriptionCallbacks.ts"
import { type SessionOptions, SubscriptionSession } from "./SubscriptionSession.ts"

/** Errors of a subscription: it is refused or breaks, or the client was closed. */
export type SubscribeError = SubscriptionError | ClosedError | ClientError

/**
 * An event with the Effects that settle it: for `ackMode: "manual"`, or to settle an event before the stream does.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface Delivered<T = any> extends SubscriptionEvent<T> {
  /**
   * Acks the event. Succeeds when the ack is stored. Fails with code `NOT_HELD` when the event was delivered
   * again in the meantime.
   */
  readonly ack: Effect.Effect<void, SubscribeError>
  /**
   * Has the event delivered again after `delayMs` milliseconds, or without `delayMs` after the delay of the consumer
   * group (5 seconds at first).
   */
  readonly nak: (delayMs?: number) => Effect.Effect<void, SubscribeError>
  /** Gives up the event: it is not delivered again. In a consumer group, it becomes a dead letter. */
  readonly term: Effect.Effect<void, SubscribeError>
  /**
   * Restarts the `ackWait` of the event. Until the stream pulls the next event, the client does so automatically.
   */
  readonly inProgress: Effect.Effect<void, SubscribeError>
  /**
   * Runs an effect within the event's trace: spans of the effect are children of the delivery's span. If the event or
   * the subscriber is not traced, only runs the effect.
   */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Options of `stream`. */
export interface StreamOptions extends SubscribeOptions {
  /** Upcasts the data of events to the latest version; none by default. */
  readonly eventDefinitions?: EventDefinitionRegistry
}

/** Events, messages and system events as they occur. */
export class Subscriptions extends Context.Service<
  Subscriptions,
  {
    /**
     * Subscribes. Each stream has a connection of its own, which reconnects and continues where it was. In a
     * group with `auto`, an event is acked when the next one is pulled, or when the stream ends successfully;
     * if the stream fails, the event has failed. A stream that pulls several events at once, as with
     * `Stream.mapEffect` and `concurrency`, or `Stream.buffer`, needs `manual`. With a definition in place of
     * the pattern, the stream has the events of that definition, with their data decoded; an event that does
     * not match is logged, and has failed.
     */
    readonly stream: <const P extends string | EventDefinition>(
      pattern: P,
      options?: StreamOptions
    ) => Stream.Stream<Delivered<SubscribedData<P>>, SubscribeError>
  }
>()("@ironflow/node/Subscriptions") {}

/**
 * The codes of problems that a stream logs, since the stream continues without the event. In a stream, `HANDLER_ERROR`
 * is the error of an upcaster.
 */
const loggedCodes = new Set(["EVENTS_DROPPED", "HANDLER_ERROR", "NOT_HELD", "VALIDATION_ERROR"])

/** The connection of a session: to a server, or inside this process. */
export type Source =
  | { /** Opens a connection. */ readonly dial: Connect }
  | { /** Makes a connection inside this process. */ readonly wire: () => Wire }

const defaultOptions: SessionOptions = {
  autoReconnect: true,
  reconnectDelay: 1000,
  maxReconnectDelay: 30_000,
  reconnectBackoff: 1.5,
  connectionTimeout: 10_000
}

/** How many events wait for the stream when reading from the connection pauses. */
const PAUSE_AT_EVENTS = 1000
/** How many events still wait for the stream when reading resumes. */
const RESUME_AT_EVENTS = 500

const session = (
  source: Source,
  options: SessionOptions,
  onClose?: () => void
): Effect.Effect<SubscriptionSession, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const alarm = yield* Alarm.make
    const dial: Connect =
      "dial" in source
        ? source.dial
        : (onOpened) => {
            onOpened(source.wire())
            return () => undefined
          }
    return new SubscriptionSession(
      dial,
      alarm,
      () => clock.currentTimeMillisUnsafe(),
      options,
      { tracer: () => tracerIn(context), nowNanos: () => clock.currentTimeNanosUnsafe() },
      onClose
    )
  })

/** Makes a session that belongs to no scope: its owner closes it. */
export const makeSession = (source: Source, options: SessionOptions): SubscriptionSession => {
  const scope = Effect.runSync(Scope.make())
  // stops the timers, which would keep the process alive
  const onClose = () => void Effect.runFork(Scope.close(scope, Exit.void))
  return Effect.runSync(Effect.provideService(session(source, options, onClose), Scope.Scope, scope))
}

/** Makes a session with the default options where `options` has none. The session closes with the scope. */
export const openSession = (
  source: Source,
  options: Partial<SessionOptions> = {}
): Effect.Effect<SubscriptionSession, never, Scope.Scope> =>
  Effect.acquireRelease(session(source, { ...defaultOptions, ...options }), (it) =>
    Effect.sync(() => it.close())
  )

/** Makes the service, over a connection. */
export const make = (source: Source): Subscriptions["Service"] => ({
  stream: (pattern, { eventDefinitions, ...options } = {}) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const streamSession = yield* openSession(
          source,
          eventDefinitions === undefined ? {} : { eventDefinitions }
        )
        const queue = yield* Queue.unbounded<
          { readonly event: SubscriptionEvent; readonly body: Body },
          SubscriptionError
        >()
        let current: Body | undefined
        // Runs before the session closes, so that the last event is settled. If the stream was interrupted, the event
        // is not settled, and the server delivers it again.
        yield* Effect.addFinalizer((exit) =>
          Effect.sync(() => {
            if (Exit.isSuccess(exit)) current?.onDone()
            else if (Cause.hasInterruptsOnly(exit.cause)) current?.span?.endInterrupted()
            else current?.onFailed(Cause.squash(exit.cause))
          })
        )
        yield* attempt(() => streamSession.connect())
        const log = Effect.runForkWith(yield* Effect.context<never>())
        let waitingCount = 0
        const decode = yield* Effect.promise(() => decoderOf(pattern))
        const subscription = yield* attempt(() =>
          streamSession.subscribe(subscribedPattern(pattern), options, {
            decode,
            onBody: (event, body) => {
              Queue.offerUnsafe(queue, { event, body })
              if (++waitingCount >= PAUSE_AT_EVENTS) streamSession.pause()
            },
            onError: ({ code, message, retrying }) => {
              if (retrying !== false) {
                // other problems lose no event
                if (loggedCodes.has(code)) log(Effect.logWarning(message))
                return
              }
              Effect.runFork(Queue.fail(queue, new SubscriptionError(message, { code, retryable: false })))
            }
          })
        )
        const settle = (event: SubscriptionEvent, type: AckType, delayMs?: number) =>
          attempt(() => streamSession.settle(subscription, event.eventId ?? "", type, delayMs))
        const next: Effect.Effect<Delivered, SubscriptionError> = Effect.suspend(() => {
          current?.onDone()
          current = undefined
          return Effect.flatMap(Queue.take(queue), ({ body, event }) => {
            if (--waitingCount === RESUME_AT_EVENTS) streamSession.resume()
            if (!body.take()) return next
            current = body
            return Effect.succeed({
              ...event,
              ack: settle(event, "ack"),
              nak: (delayMs?: number) => settle(event, "nak", delayMs),
              term: settle(event, "term"),
              inProgress: attempt(() => streamSession.inProgress(subscription, event.eventId ?? "")),
              within: body.span?.provide ?? identity
            })
          })
        })
        return Stream.fromEffectRepeat(next)
      })
    )
})

/** Makes an Effect from a call of the session. Errors of this package become failures, and others defects. */
export const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, SubscribeError> =>
  Effect.catch(Effect.tryPromise({ try: run, catch: (error) => error }), (error) =>
    isIronflowError(error) ? Effect.fail(narrowError(error)) : Effect.die(error)
  )

const narrowError = narrowErrors<SubscribeError>({
  ...clientErrorTags,
  SubscriptionError: true,
  ClosedError: true
})
