/** Traces the handling of an event as a span, if the event has a trace and the worker has a tracer. */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { tracerIn, within } from "../OpenTelemetry.ts"
import type { ProjectionLogEvent } from "../Protocol/ProjectionOwners.ts"
import { parseTrace } from "../Trace.ts"
import type { Failed } from "./ProjectionHandler.ts"

/** The outcome of handling an event, or an Effect of it: the failure, or `undefined` when the handler succeeded. */
type Handled = Effect.Effect<Failed | undefined> | Failed | undefined

/** Calls `handle` within a span of the event's trace, and records the outcome in the span. */
export type Traced = (event: ProjectionLogEvent, attempt: number, handle: () => Handled) => Handled

const untraced: Traced = (_event, _attempt, handle) => handle()

/**
 * Makes {@link Traced} for the events of a projection. Without a tracer in this context, it only calls
 * `handle`.
 */
export const eventTracing = (
  context: Context.Context<never>,
  clock: Clock.Clock,
  projection: string
): Traced => {
  const tracer = tracerIn(context)
  if (tracer === undefined) return untraced
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
    const end = (failed: Failed | undefined): Failed | undefined => {
      span.end(clock.currentTimeNanosUnsafe(), failed === undefined ? Exit.void : Exit.fail(failed.error))
      return failed
    }
    const handled = within(span, handle)
    return Effect.isEffect(handled)
      ? Effect.map(Effect.provideService(handled, Tracer.ParentSpan, span), end)
      : end(handled)
  }
}
