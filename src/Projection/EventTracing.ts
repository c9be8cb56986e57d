/** Traces the handling of an event as a span, if the event has a trace and the worker has a tracer. */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { tracerIn, withActiveSpan } from "../OpenTelemetry.ts"
import type { ProjectionLogEvent } from "../Protocol/ProjectionOwners.ts"
import { parseTrace } from "../Trace.ts"
import type { EventFailure } from "./ProjectionHandler.ts"

/** The outcome of handling an event, or an Effect of it: the failure, or `undefined` when the handler succeeded. */
type HandlingOutcome = Effect.Effect<EventFailure | undefined> | EventFailure | undefined

/** Calls `handle` within a span of the event's trace, and records the outcome in the span. */
export type TraceHandling = (
  event: ProjectionLogEvent,
  attempt: number,
  handle: () => HandlingOutcome
) => HandlingOutcome

const withoutTrace: TraceHandling = (_event, _attempt, handle) => handle()

/**
 * Makes the {@link TraceHandling} of a projection. If `context` has no tracer, it only calls `handle`.
 */
export const eventTracing = (
  context: Context.Context<never>,
  clock: Clock.Clock,
  projection: string
): TraceHandling => {
  const tracer = tracerIn(context)
  if (tracer === undefined) return withoutTrace
  return (event, attempt, handle) => {
    const parent = parseTrace(event.trace)
    if (parent === undefined) return handle()
    const span = tracer.span({
      name: `project ${projection}`,
      parent: Option.some(parent),
      annotations: Context.empty(),
      links: [],
      startTime: clock.currentTimeNanosUnsafe(),
      kind: "consumer",
      root: false,
      sampled: parent.sampled
    })
    span.attribute("ironflow.projection", projection)
    span.attribute("ironflow.event.id", event.id)
    span.attribute("ironflow.event.name", event.name)
    span.attribute("ironflow.projection.attempt", attempt)
    const end = (failure: EventFailure | undefined): EventFailure | undefined => {
      span.end(clock.currentTimeNanosUnsafe(), failure === undefined ? Exit.void : Exit.fail(failure.error))
      return failure
    }
    const handled = withActiveSpan(span, handle)
    return Effect.isEffect(handled)
      ? Effect.map(Effect.provideService(handled, Tracer.ParentSpan, span), end)
      : end(handled)
  }
}
