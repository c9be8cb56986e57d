/** Traces deliveries: the handling of a traced event becomes a span of the event's trace. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { numberOf, textOf } from "../Json.ts"
import { withActiveSpan } from "../OpenTelemetry.ts"
import { parseTrace, TRACEPARENT } from "../Trace.ts"
import type { Body } from "./EventDelivery.ts"
import type { SubscriptionState } from "./SubscriptionState.ts"

/** How a subscriber is traced. The functions are called only for events that are traced. */
export interface SubscriptionTracing {
  /** The tracer of the subscriber; `undefined` when the subscriber is not traced. */
  readonly tracer: () => Tracer.Tracer | undefined
  /** The current time, in nanoseconds since the epoch. */
  readonly nowNanos: () => bigint
}

/** What the attributes of a span say about the handled event. */
interface SpanAttributes {
  readonly name: string
  readonly pattern: string
  readonly group: string | undefined
  readonly eventId: string | undefined
  /** Delivery attempt; 2 or more for a redelivery. */
  readonly attempt: number
}

/** Makes a span around the body that handles an event, if both the event and the subscriber are traced. */
export const tracedDelivery = (
  { options, pattern }: SubscriptionState,
  message: { readonly [name: string]: unknown },
  body: Body,
  { nowNanos, tracer }: SubscriptionTracing
): Body => {
  const trace = message[TRACEPARENT]
  const parent = trace === undefined ? undefined : parseTrace(trace)
  const deliveryTracer = parent === undefined ? undefined : tracer()
  if (parent === undefined || deliveryTracer === undefined) return body
  return withSpan(body, deliveryTracer, parent, nowNanos, {
    name: textOf(message.topic),
    pattern,
    group: options.consumerGroup,
    // the part from `@` on does not belong to the id of the event: it names the subscription
    eventId: typeof message.eventId === "string" ? message.eventId.replace(/@.*$/, "") : undefined,
    attempt: numberOf(message.attempt) || 1
  })
}

/**
 * A body that runs in a span below `parent`. The span begins when the body takes the event, and ends with the
 * body.
 */
const withSpan = (
  body: Body,
  tracer: Tracer.Tracer,
  parent: Tracer.ExternalSpan,
  now: () => bigint,
  { attempt, eventId, group, name, pattern }: SpanAttributes
): Body => {
  let span: Tracer.Span | undefined
  const beginSpan = (): Tracer.Span => {
    const newSpan = tracer.span({
      name: `handle ${name}`,
      parent: Option.some(parent),
      annotations: Context.empty(),
      links: [],
      startTime: now(),
      kind: "consumer",
      root: false,
      sampled: parent.sampled
    })
    newSpan.attribute("ironflow.subscription", pattern)
    if (group !== undefined) newSpan.attribute("ironflow.group", group)
    if (eventId !== undefined) newSpan.attribute("ironflow.event.id", eventId)
    newSpan.attribute("ironflow.event.name", name)
    newSpan.attribute("ironflow.delivery.attempt", attempt)
    return newSpan
  }
  return {
    take: () => {
      const isTaken = body.take()
      if (isTaken) span = beginSpan()
      return isTaken
    },
    onDone: () => {
      span?.end(now(), Exit.void)
      body.onDone()
    },
    onFailed: (error) => {
      // there is no span yet if the data does not fit the subscriber's schema: the event then fails before
      // `take` is called
      const failed = span ?? beginSpan()
      failed.end(now(), Exit.fail(error))
      body.onFailed(error)
    },
    span: {
      within: (f) => withActiveSpan(span, f),
      provide: (effect) =>
        span === undefined
          ? effect
          : effect.pipe(
              Effect.provideService(Tracer.ParentSpan, span),
              Effect.provideService(Tracer.Tracer, tracer)
            ),
      endInterrupted: () => span?.end(now(), Exit.interrupt())
    }
  }
}
