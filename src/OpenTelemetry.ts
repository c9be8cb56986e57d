/**
 * Traces with the OpenTelemetry SDK of a program, if it has one. The package `@opentelemetry/api` is not loaded here:
 * a registered SDK is found through the global that all copies of the API share. Without a registered SDK, reading
 * that global is the only cost.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { spanIn, traceOf } from "./Trace.ts"

// The part of version 1 of the API that is used here.

interface OtelContext {
  readonly getValue: (key: symbol) => unknown
  readonly setValue: (key: symbol, value: unknown) => OtelContext
  readonly deleteValue: (key: symbol) => OtelContext
}
interface OtelSpan {
  readonly spanContext: () => { traceId: string; spanId: string; readonly traceFlags: number }
  readonly setAttribute: (key: string, value: unknown) => unknown
  readonly addEvent: (name: string, attributes: unknown, time: readonly [number, number]) => unknown
  readonly addLinks?: (links: ReadonlyArray<unknown>) => unknown
  readonly setStatus: (status: { readonly code: number; readonly message?: string }) => unknown
  readonly recordException: (error: unknown, time: readonly [number, number]) => void
  readonly end: (time: readonly [number, number]) => void
}
interface OtelTracer {
  readonly startSpan: (name: string, options: unknown, context: OtelContext) => OtelSpan
}
interface OtelApi {
  readonly trace?: { readonly getTracer: (name: string) => OtelTracer }
  readonly context?: {
    readonly active: () => OtelContext
    readonly with: <A>(context: OtelContext, f: () => A) => A
  }
}

const API = Symbol.for("opentelemetry.js.api.1")
const SPAN = Symbol.for("OpenTelemetry Context Key SPAN")

const registeredApi = (): OtelApi | undefined => (globalThis as { readonly [API]?: OtelApi })[API]

/** The span that is active in the calling code; `undefined` without one. */
export const activeSpan = (): Tracer.ExternalSpan | undefined => {
  const active = registeredApi()?.context?.active().getValue(SPAN) as OtelSpan | undefined
  if (active === undefined) return undefined
  const { spanId, traceFlags, traceId } = active.spanContext()
  return Tracer.externalSpan({ spanId, traceId, sampled: (traceFlags & 1) === 1 })
}

/** A context of the API, for programs whose SDK has no context manager. */
class PlainContext implements OtelContext {
  readonly #values: ReadonlyMap<symbol, unknown>

  constructor(values: ReadonlyMap<symbol, unknown>) {
    this.#values = values
  }

  getValue(key: symbol): unknown {
    return this.#values.get(key)
  }

  setValue(key: symbol, value: unknown): OtelContext {
    return new PlainContext(new Map([...this.#values, [key, value]]))
  }

  deleteValue(key: symbol): OtelContext {
    return new PlainContext(new Map([...this.#values].filter(([other]) => other !== key)))
  }
}

const activeContext = (): OtelContext => registeredApi()?.context?.active() ?? new PlainContext(new Map())

const contextOf = (span: Tracer.AnySpan): OtelContext =>
  activeContext().setValue(
    SPAN,
    span instanceof BridgedSpan
      ? span.span
      : {
          spanContext: () => ({
            traceId: span.traceId,
            spanId: span.spanId,
            traceFlags: span.sampled ? 1 : 0,
            isRemote: true
          })
        }
  )

const timeOf = (nanos: bigint): readonly [number, number] => [
  Number(nanos / 1_000_000_000n),
  Number(nanos % 1_000_000_000n)
]

/** The numbers of Effect's span kinds in the API. */
const kindNumbers: { readonly [K in Tracer.SpanKind]: number } = {
  internal: 0,
  server: 1,
  client: 2,
  producer: 3,
  consumer: 4
}

const linkOf = ({ attributes, span: { sampled, spanId, traceId } }: Tracer.SpanLink) => ({
  context: { traceId, spanId, traceFlags: sampled ? 1 : 0 },
  attributes
})

/** Converts a value to an attribute: a string, a number, a boolean or a list of strings. */
const attributeOf = (value: unknown): unknown =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? value
    : Array.isArray(value) && value.every((item) => typeof item === "string")
      ? value
      : String(value)

type SpanOptions = Parameters<Tracer.Tracer["span"]>[0]

/** A span of Effect that writes to a span of the API. */
class BridgedSpan implements Tracer.Span {
  readonly _tag = "Span"
  readonly span: OtelSpan
  readonly name: string
  readonly parent: Option.Option<Tracer.AnySpan>
  readonly annotations: Context.Context<never>
  readonly links: Array<Tracer.SpanLink>
  readonly kind: Tracer.SpanKind
  readonly attributes = new Map<string, unknown>()
  status: Tracer.SpanStatus

  constructor(span: OtelSpan, { annotations, kind, links, name, parent, startTime }: SpanOptions) {
    this.span = span
    this.name = name
    this.parent = parent
    this.annotations = annotations
    this.links = [...links]
    this.kind = kind
    this.status = { _tag: "Started", startTime }
  }

  get spanId(): string {
    return this.span.spanContext().spanId
  }

  get traceId(): string {
    return this.span.spanContext().traceId
  }

  get sampled(): boolean {
    return (this.span.spanContext().traceFlags & 1) === 1
  }

  end(endTime: bigint, exit: Exit.Exit<unknown, unknown>): void {
    if (this.status._tag === "Ended") return
    this.status = { _tag: "Ended", startTime: this.status.startTime, endTime, exit }
    const time = timeOf(endTime)
    if (exit._tag === "Failure" && !Cause.hasInterruptsOnly(exit.cause)) {
      const error = Cause.squash(exit.cause)
      const message = error instanceof Error ? error.message : String(error)
      this.span.recordException(error instanceof Error ? error : { name: "Error", message }, time)
      this.span.setStatus({ code: 2, message })
    }
    this.span.end(time)
  }

  attribute(key: string, value: unknown): void {
    this.attributes.set(key, value)
    this.span.setAttribute(key, attributeOf(value))
  }

  event(name: string, startTime: bigint, attributes: Record<string, unknown> = {}): void {
    const converted = Object.fromEntries(
      Object.entries(attributes).map(([key, value]) => [key, attributeOf(value)])
    )
    this.span.addEvent(name, converted, timeOf(startTime))
  }

  addLinks(links: ReadonlyArray<Tracer.SpanLink>): void {
    this.links.push(...links)
    this.span.addLinks?.(links.map(linkOf))
  }
}

/** Calls `f`. During the call the span is the active span of the API, unless it is a span of another tracer. */
export const withActiveSpan = <A>(span: Tracer.AnySpan | undefined, f: () => A): A => {
  const context = span instanceof BridgedSpan ? registeredApi()?.context : undefined
  return context === undefined ? f() : context.with(contextOf(span!), f)
}

/** The tracer that was made for the SDK registered last. */
let lastTracer: { readonly provider: OtelApi["trace"]; readonly tracer: Tracer.Tracer } | undefined

const openTelemetryTracer = (): Tracer.Tracer | undefined => {
  const provider = registeredApi()?.trace
  if (provider === undefined) return undefined
  if (lastTracer?.provider === provider) return lastTracer.tracer
  const tracer = provider.getTracer("@ironflow/node")
  lastTracer = {
    provider,
    tracer: Tracer.make({
      span: (options) => {
        const { kind, links, name, parent, root, startTime } = options
        return new BridgedSpan(
          tracer.startSpan(
            name,
            {
              kind: kindNumbers[kind],
              startTime: timeOf(startTime),
              links: links.map(linkOf),
              root: root || Option.isNone(parent)
            },
            Option.isSome(parent) ? contextOf(parent.value) : activeContext()
          ),
          options
        )
      },
      context: (primitive, fiber) =>
        withActiveSpan(spanIn(fiber.context), () => primitive["~effect/Effect/evaluate"](fiber))
    })
  }
  return lastTracer.tracer
}

/**
 * The tracer in use: the user's Effect tracer in this context, or else one that traces with the registered
 * OpenTelemetry SDK; `undefined` without either.
 */
export const tracerIn = (context: Context.Context<never>): Tracer.Tracer | undefined => {
  const tracer = context.mapUnsafe.get(Tracer.TracerKey) as Tracer.Tracer | undefined
  return tracer !== undefined && tracer !== Tracer.nativeTracer ? tracer : openTelemetryTracer()
}

/**
 * Replaces the ids of a span by ids that are known in advance, so that another process can compute the same ids.
 * Tracers choose ids at random, and offer no way to set them. With Effect's tracers and OpenTelemetry's SDKs, the ids
 * are replaced here before they are read. With any other tracer the span keeps its own ids, and is still in the trace.
 */
export const setIds = (
  span: Tracer.Span,
  ids: { readonly spanId: string; readonly traceId: string }
): void => {
  if (span instanceof BridgedSpan) Object.assign(span.span.spanContext(), ids)
  else if ("_spanId" in span && "_traceId" in span) {
    Object.assign(span, { _spanId: ids.spanId, _traceId: ids.traceId })
  }
}

/**
 * Calls `f` within a new span if there is a tracer, with the `traceparent` of that span. Without a tracer `f`
 * gets the `traceparent` of the caller's span, if the caller has a span.
 */
export const inSpan = <A, E, R>(
  name: string,
  f: (trace: { readonly trace?: string }) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    const tracer = tracerIn(fiber.context)
    if (tracer === undefined) {
      const span = spanIn(fiber.context)
      return f(span === undefined ? {} : { trace: traceOf(span) })
    }
    return Effect.useSpan(name, { kind: "producer" }, (span) => f({ trace: traceOf(span) })).pipe(
      Effect.provideService(Tracer.Tracer, tracer)
    )
  })
