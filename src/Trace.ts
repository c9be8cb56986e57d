/**
 * W3C trace context: a `traceparent` is sent with requests, and stored with events and runs. Within this
 * process the trace context is the span that Effect calls `ParentSpan`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"

/** The name of the header, and of the field in calls without headers. */
export const TRACEPARENT = "traceparent"

/** A `traceparent`. Later versions of the format may have more data after the flags. */
const format = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

/** Parses a `traceparent`. `undefined` for an invalid one: the request that has it is answered all the same. */
export const parseTrace = (text: unknown): Tracer.ExternalSpan | undefined => {
  if (typeof text !== "string" || text.length > 256) return undefined
  const [, version, traceId, spanId, flags, more] = format.exec(text) ?? []
  if (traceId === undefined || spanId === undefined || (version === "00" && more !== undefined))
    return undefined
  return Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags!, 16) & 1) === 1 })
}

/** The `traceparent` of a span. */
export const traceOf = ({
  sampled,
  spanId,
  traceId
}: Pick<Tracer.AnySpan, "sampled" | "spanId" | "traceId">): string =>
  `00-${traceId.padStart(32, "0")}-${spanId}-${sampled ? "01" : "00"}`

/** The span in a context, if there is one. */
export const spanIn = (context: Context.Context<never>): Tracer.AnySpan | undefined =>
  Context.getOrUndefined(context, Tracer.ParentSpan)

/**
 * Calls `f` with the `traceparent` of the current span in a field. The field is absent when there is no span.
 */
export const withTrace = <A, E, R>(
  f: (trace: { readonly trace?: string }) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const span = spanIn(fiber.context)
    return f(span === undefined ? {} : { trace: traceOf(span) })
  })

/** A `traceparent` in a field, to be stored. The field is absent for an invalid one. */
export const validTrace = (trace: string | undefined): { readonly trace?: string } =>
  trace === undefined || parseTrace(trace) === undefined ? {} : { trace }
