/**
 * Subscriptions as streams: events, messages and system events as they happen, each with its acks.
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
import { naming, ofClient } from "./Named.ts"
import type { Body } from "./Delivery.ts"
import { decoderOf, type SubscribedData } from "./Subscribed.ts"
import type { Dial } from "./Reconnecting.ts"
import type { SubscriptionEvent } from "./SubscriptionCallbacks.ts"
import { type SessionOptions, SubscriptionSession } from "./SubscriptionSession.ts"

/** What may go wrong with a subscription: it is refused or breaks, or the client has been closed. */
export type SubscribeError = SubscriptionError | ClosedError | ClientError

/** An event with its acks, for `ackMode: "manual"`, or to settle it before the stream does. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface Delivered<T = any> extends SubscriptionEvent<T> {
  /** Succeeds when it is stored. Fails with code `NOT_HELD` when somebody else has the event by now. */
  readonly ack: Effect.Effect<void, SubscribeError>
  /** The event comes again, after `delayMs` milliseconds, or when its group says (after 5 seconds at first). */
  readonly nak: (delayMs?: number) => Effect.Effect<void, SubscribeError>
  /** It is not handed out again, and becomes a dead letter of its group. */
  readonly term: Effect.Effect<void, SubscribeError>
  /** The event is held for another `ackWait`. While the stream has not asked for the next one, that is so by itself. */
  readonly inProgress: Effect.Effect<void, SubscribeError>
  /**
   * Runs an effect as part of the event's trace: its spans are below the span of this delivery. Where the event or the subscriber
   * is not traced, it is the effect alone.
   */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Options of `stream`. */
export interface StreamOptions extends SubscribeOptions {
  /** Brings the data of events to the latest version; none by default. */
  readonly eventDefinitions?: EventDefinitionRegistry
}

/** Events, messages and what happens to runs, as they happen. */
export class Subscriptions extends Context.Service<
  Subscriptions,
  {
    /**
     * A connection of its own for each stream; it reconnects and goes on where it was. In a group with `auto` an event is acked
     * when the next one is asked for, or the stream ends well; when it fails, the event has failed. Streams that take several at
     * once, such as by `Stream.mapEffect` with `concurrency` or `Stream.buffer`, need `manual`. A definition in place of the pattern
     * subscribes to its events and decodes their data; one that does not fit is logged, and has failed.
     */
    readonly stream: <const P extends string | EventDefinition>(
      pattern: P,
      options?: StreamOptions
    ) => Stream.Stream<Delivered<SubscribedData<P>>, SubscribeError>
  }
>()("@ironflow/node/Subscriptions") {}

/** Where a session finds its connection: it opens one, or is given an end of one in this process. */
export type Source =
  | { /** Opens a connection. */ readonly dial: Dial }
  | { /** Makes the calls that go beside the connection. */ readonly wire: () => Wire }

const defaults: SessionOptions = {
  autoReconnect: true,
  reconnectDelay: 1000,
  maxReconnectDelay: 30_000,
  reconnectBackoff: 1.5,
  connectionTimeout: 10_000
}

/** Events that wait in a stream before the connection is paused, and below which it goes on. */
const FULL = 1000
const ROOM = 500

const session = (
  source: Source,
  options: SessionOptions,
  onClose?: () => void
): Effect.Effect<SubscriptionSession, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const alarm = yield* Alarm.make
    const dial: Dial =
      "dial" in source
        ? source.dial
        : (opened) => {
            opened(source.wire())
            return () => undefined
          }
    return new SubscriptionSession(
      dial,
      alarm,
      () => clock.currentTimeMillisUnsafe(),
      options,
      { tracer: () => tracerIn(context), nanos: () => clock.currentTimeNanosUnsafe() },
      onClose
    )
  })

/** A session for as long as it is not closed, outside every scope: its owner closes it. */
export const makeSession = (source: Source, options: SessionOptions): SubscriptionSession => {
  const scope = Effect.runSync(Scope.make())
  // timers that nobody needs any more would keep the process
  const onClose = () => void Effect.runFork(Scope.close(scope, Exit.void))
  return Effect.runSync(Effect.provideService(session(source, options, onClose), Scope.Scope, scope))
}

/** A session with the usual options, until the scope closes. */
export const openSession = (
  source: Source,
  options: Partial<SessionOptions> = {}
): Effect.Effect<SubscriptionSession, never, Scope.Scope> =>
  Effect.acquireRelease(session(source, { ...defaults, ...options }), (it) => Effect.sync(() => it.close()))

/** The service over a connection. */
export const make = (source: Source): Subscriptions["Service"] => ({
  stream: (pattern, { eventDefinitions, ...options } = {}) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const it = yield* openSession(source, eventDefinitions === undefined ? {} : { eventDefinitions })
        const queue = yield* Queue.unbounded<
          { readonly event: SubscriptionEvent; readonly body: Body },
          SubscriptionError
        >()
        let current: Body | undefined
        // before the session closes; an interrupted one gives back what it has
        yield* Effect.addFinalizer((exit) =>
          Effect.sync(() => {
            if (Exit.isSuccess(exit)) current?.done()
            else if (Cause.hasInterruptsOnly(exit.cause)) current?.span?.interrupted()
            else current?.failed(Cause.squash(exit.cause))
          })
        )
        yield* attempt(() => it.connect())
        const log = Effect.runForkWith(yield* Effect.context<never>())
        let waiting = 0
        const decode = yield* Effect.promise(() => decoderOf(pattern))
        const subscription = yield* attempt(() =>
          it.subscribe(subscribedPattern(pattern), options, {
            decode,
            onBody: (event, body) => {
              Queue.offerUnsafe(queue, { event, body })
              if (++waiting >= FULL) it.pause()
            },
            onError: ({ code, message, retrying }) => {
              if (retrying !== false) {
                // the rest is about single events that fail, or nothing that is lost
                if (code === "NOT_HELD" || code === "VALIDATION_ERROR") log(Effect.logWarning(message))
                return
              }
              Effect.runFork(Queue.fail(queue, new SubscriptionError(message, { code, retryable: false })))
            }
          })
        )
        const settle = (event: SubscriptionEvent, type: AckType, delayMs?: number) =>
          attempt(() => it.settle(subscription, event.eventId ?? "", type, delayMs))
        const next: Effect.Effect<Delivered, SubscriptionError> = Effect.suspend(() => {
          current?.done()
          current = undefined
          return Effect.flatMap(Queue.take(queue), ({ body, event }) => {
            if (--waiting === ROOM) it.resume()
            if (!body.take()) return next
            current = body
            return Effect.succeed({
              ...event,
              ack: settle(event, "ack"),
              nak: (delayMs?: number) => settle(event, "nak", delayMs),
              term: settle(event, "term"),
              inProgress: attempt(() => it.inProgress(subscription, event.eventId ?? "")),
              within: body.span?.provide ?? identity
            })
          })
        })
        return Stream.fromEffectRepeat(next)
      })
    )
})

/** What the session answers, with errors of ours as failures. */
export const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, SubscribeError> =>
  Effect.catch(Effect.tryPromise({ try: run, catch: (error) => error }), (error) =>
    isIronflowError(error) ? Effect.fail(named(error)) : Effect.die(error)
  )

const named = naming<SubscribeError>({ ...ofClient, SubscriptionError: true, ClosedError: true })
