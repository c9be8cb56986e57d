/**
 * Where something comes from, as the W3C trace context says it: the text of a `traceparent` goes with requests and is stored with
 * events and runs, and between programs of this process it is the span that Effect knows as `ParentSpan`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"

/** The header, and the field beside a call that has no headers. */
export const TRACEPARENT = "traceparent"

/** Later versions may have more behind the flags. */
const format = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

/** The span that a `traceparent` names; `undefined` for anything else, which is no reason to refuse what comes with it. */
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

/** The span that the effect with this context is part of, if it is part of one. */
export const spanIn = (context: Context.Context<never>): Tracer.AnySpan | undefined =>
  Context.getOrUndefined(context, Tracer.ParentSpan)

/** Calls `f` with the `traceparent` of the span that the caller is in, as a field that is absent where there is none. */
export const withTrace = <A, E, R>(
  f: (trace: { readonly trace?: string }) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const span = spanIn(fiber.context)
    return f(span === undefined ? {} : { trace: traceOf(span) })
  })

/** A `traceparent` as it is stored: what is none is left out. */
export const soundTrace = (trace: string | undefined): { readonly trace?: string } =>
  trace === undefined || parseTrace(trace) === undefined ? {} : { trace }
