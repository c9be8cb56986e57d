/**
 * Traces one turn: a span for the turn, spans for its steps with their attempts as events, and a span for the
 * run when it ends.
 *
 * A run outlives processes, so no process could end a span that began with the run. Therefore the span ids of the run
 * and of its waits, invocations and messages are computed from the run id and the step keys. Every process that works
 * on the run gets the same ids. The turn in which the run ends writes the span of the run, once. So a run that is
 * cancelled between its turns has no span. The ops of the run carry the ids to the engine, as `trace`.
 */
import { createHash } from "node:crypto"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { deserializeError, RunCancelledError } from "../Errors.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { setIds, tracerIn, withActiveSpan } from "../OpenTelemetry.ts"
import type { Job, JournalEntry, Outcome, TurnOp } from "../Protocol/Worker.ts"
import { stepId } from "../StepId.ts"
import type { StepKind } from "../StepKind.ts"
import { parseTrace, TRACEPARENT, traceOf } from "../Trace.ts"
import type { Attempt } from "./Attempt.ts"
import type { StepTracing } from "./StepTracing.ts"
import type { TurnEnd, TurnHost } from "./TurnHost.ts"

const hash = (text: string, length: number): string =>
  createHash("sha256").update(text).digest("hex").slice(0, length)

/**
 * A span gets no further links once it has this many. A wait may add two links at once, so a span has at most one link
 * more than this.
 */
const MAX_LINKS = 32

/** The first word of the name of a step's span. */
const firstWords: { readonly [K in StepKind]: string } = {
  run: "step",
  tx: "step",
  compensate: "compensate",
  sleep: "sleep",
  waitForEvent: "wait",
  invoke: "invoke",
  invokeAsync: "invoke",
  publish: "publish",
  parallel: "parallel"
}

const kindsWithCode: ReadonlySet<StepKind> = new Set(["run", "tx", "compensate"])
const kindsThatWait: ReadonlySet<StepKind> = new Set(["sleep", "waitForEvent", "invoke"])

export class TurnTrace implements StepTracing {
  readonly #tracer: Tracer.Tracer
  readonly #job: Job
  readonly #host: TurnHost
  /** The span that caused the run. */
  readonly #cause: Tracer.ExternalSpan | undefined
  readonly #run: Tracer.ExternalSpan
  readonly #turn: Tracer.Span
  readonly #steps = new Map<string, Tracer.Span>()

  constructor(tracer: Tracer.Tracer, job: Job, host: TurnHost) {
    this.#tracer = tracer
    this.#job = job
    this.#host = host
    this.#cause = parseTrace(job.event.trace)
    this.#run = Tracer.externalSpan({
      traceId: this.#cause?.traceId ?? hash(job.runId, 32),
      spanId: hash(job.runId, 16),
      sampled: this.#cause?.sampled ?? true
    })
    this.#turn = this.#span(`turn ${job.functionId}`, this.#run, { kind: "consumer", links: this.#links() })
    this.#turn.attribute("ironflow.run.attempt", job.attempt)
  }

  /** The host that the turn uses. This host traces what the turn reports. */
  get host(): TurnHost {
    const { context, report } = this.#host
    const contextWithSpan = Context.add(
      Context.add(context, Tracer.Tracer, this.#tracer),
      Tracer.ParentSpan,
      this.#turn
    )
    return {
      ...this.#host,
      // the context still has all services of the handler; only its type no longer names them
      context: contextWithSpan as Context.Context<never>,
      tracing: this,
      report: (op, onAck) => this.#report(report, op, onAck)
    }
  }

  readonly within = <A>(f: () => A): A => withActiveSpan(this.#turn, f)

  attemptBegan(attempt: Attempt): void {
    const { key, kind, name } = attempt.call
    const span = this.#steps.get(key) ?? this.#beginStep(key, kind, name)
    span.event("attempt", this.#now, { "ironflow.step.attempt": attempt.number })
    span.attribute("ironflow.step.attempts", attempt.number)
    attempt.span = span
  }

  /** Ends the span of the turn and of its open steps. Writes the span of the run if the run has ended. */
  turnEnded(end: TurnEnd): void {
    const now = this.#now
    for (const span of this.#steps.values()) {
      span.attribute("ironflow.step.open", true)
      span.end(now, Exit.void)
    }
    this.#steps.clear()
    this.#turn.attribute("ironflow.turn.end", end._tag.toLowerCase())
    const exit = exitOf(end)
    this.#turn.end(now, exit)
    const isOver =
      end._tag === "Completed" ||
      end._tag === "Failed" ||
      (end._tag === "Aborted" && end.reason instanceof RunCancelledError)
    if (!isOver) return
    const run = this.#span(`run ${this.#job.functionId}`, this.#cause, {
      kind: "consumer",
      startTime: BigInt(Math.round(this.#job.createdAt)) * 1_000_000n,
      ids: this.#run
    })
    run.end(now, exit)
  }

  #report(report: TurnHost["report"], op: TurnOp, onAck?: (outcome: Outcome | undefined) => void): void {
    switch (op._tag) {
      case "StepDone":
        this.#endStep(op.stepKey, op.outcome)
        return report(op, onAck)
      case "StepRetry":
        this.#steps.get(op.stepKey)?.event("attempt failed", this.#now, {
          "ironflow.step.attempt": op.failures,
          "exception.type": op.error.name,
          "exception.message": op.error.message
        })
        return report(op, onAck)
      case "Transact": {
        const span = this.#steps.get(op.stepKey)
        if (span === undefined) return report(op, onAck)
        return report({ ...op, trace: traceOf(span) }, (outcome) => {
          // refused writes do not end the step: it may be retried
          if (outcome?._tag === "Success") this.#endStep(op.stepKey, outcome)
          onAck?.(outcome)
        })
      }
      case "Sleep":
        this.#beginStep(op.stepKey, "sleep", op.name)
        return report(op, onAck)
      case "WaitForEvent":
        this.#beginStep(op.stepKey, "waitForEvent", op.name).attribute("ironflow.event", op.event)
        return report(op, onAck)
      case "Invoke":
        return report({ ...op, trace: traceOf(this.#beginStep(op.stepKey, "invoke", op.name)) }, onAck)
      case "InvokeAsync":
      case "Publish": {
        const isPublish = op._tag === "Publish"
        const span = this.#beginStep(
          op.stepKey,
          isPublish ? "publish" : "invokeAsync",
          isPublish ? op.topic : op.name
        )
        return report({ ...op, trace: traceOf(span) }, (outcome) => {
          this.#endStep(op.stepKey, outcome)
          onAck?.(outcome)
        })
      }
      case "Settle":
        this.#endStep(op.stepKey, undefined)
        return report(op, onAck)
      case "Withdraw": {
        const span = this.#steps.get(op.stepKey)
        span?.attribute("ironflow.step.withdrawn", true)
        this.#endStep(op.stepKey, undefined)
        return report(op, onAck)
      }
      default:
        return report(op, onAck)
    }
  }

  get #now(): bigint {
    return this.#host.clock.currentTimeNanosUnsafe()
  }

  #beginStep(key: string, kind: StepKind, name: string): Tracer.Span {
    // a step with code has no computed ids: its code may run in several turns, each time with a span of its own
    const ids = kindsWithCode.has(kind) ? undefined : this.#idsOf(key)
    const span = this.#span(`${firstWords[kind]} ${name.replace(/^compensate:/, "")}`, this.#turn, {
      kind: kind === "publish" || kind === "invoke" || kind === "invokeAsync" ? "producer" : "internal",
      ...(ids === undefined ? {} : { ids })
    })
    span.attribute("ironflow.step.id", stepId(this.#job.runId, key))
    span.attribute("ironflow.step.kind", kind)
    this.#steps.set(key, span)
    return span
  }

  #idsOf(key: string): Tracer.ExternalSpan {
    const { sampled, traceId } = this.#run
    return Tracer.externalSpan({ traceId, sampled, spanId: hash(stepId(this.#job.runId, key), 16) })
  }

  #endStep(key: string, outcome: Outcome | undefined): void {
    const span = this.#steps.get(key)
    if (span === undefined) return
    this.#steps.delete(key)
    span.end(
      this.#now,
      outcome?._tag === "Failure" ? Exit.failCause(Cause.fail(deserializeError(outcome.error))) : Exit.void
    )
  }

  #span(
    name: string,
    parent: Tracer.AnySpan | undefined,
    options: {
      readonly kind: Tracer.SpanKind
      readonly startTime?: bigint
      readonly links?: Array<Tracer.SpanLink>
      readonly ids?: Tracer.ExternalSpan
    }
  ): Tracer.Span {
    const span = this.#tracer.span({
      name,
      parent: Option.fromUndefinedOr(parent),
      annotations: Context.empty(),
      links: options.links ?? [],
      startTime: options.startTime ?? this.#now,
      kind: options.kind,
      root: parent === undefined,
      sampled: this.#run.sampled
    })
    if (options.ids !== undefined) setIds(span, options.ids)
    const { environment, functionId, runId } = this.#job
    span.attribute("ironflow.run.id", runId)
    span.attribute("ironflow.function.id", functionId)
    span.attribute("ironflow.environment", environment)
    return span
  }

  /**
   * The causes of this turn, as links: the waits whose outcomes stand at the end of the journal, and the events that
   * these waits have received.
   */
  #links(): Array<Tracer.SpanLink> {
    const links: Array<Tracer.SpanLink> = []
    const { journal } = this.#job
    for (let i = journal.length - 1; i >= 0 && links.length < MAX_LINKS; i--) {
      const entry = journal[i]!
      if (!kindsThatWait.has(entry.kind)) break
      const attributes = { "ironflow.step.id": stepId(this.#job.runId, entry.stepKey) }
      links.push({ span: this.#idsOf(entry.stepKey), attributes })
      const event = causeOf(entry)
      if (event !== undefined) links.push({ span: event, attributes })
    }
    return links
  }
}

/** The span of the event that a wait has received, if the event has a trace. */
const causeOf = ({ kind, outcome }: JournalEntry): Tracer.ExternalSpan | undefined => {
  if (kind !== "waitForEvent" || outcome._tag !== "Success") return undefined
  if (outcome.value?.includes(`"${TRACEPARENT}":`) !== true) return undefined
  const event = safeJsonParse(outcome.value)
  return isObject(event) ? parseTrace(event[TRACEPARENT]) : undefined
}

const exitOf = (end: TurnEnd): Exit.Exit<void, unknown> => {
  switch (end._tag) {
    case "Failed":
    case "Retrying":
      return Exit.fail(deserializeError(end.error))
    case "Aborted":
      return Exit.fail(end.reason)
    case "Paused":
      return Exit.fail(new Error(end.message))
    default:
      return Exit.void
  }
}

/** Traces the turn of a job, if the context of the host has a tracer. */
export const traceTurn = (job: Job, host: TurnHost): TurnTrace | undefined => {
  const tracer = tracerIn(host.context)
  return tracer === undefined ? undefined : new TurnTrace(tracer, job, host)
}

/**
 * Adds the trace of the event that started the run to an op. Used in a process that traces no turns: the runs and
 * messages that the op makes then still belong to the trace.
 */
export const passTraceOn = (job: Job, op: TurnOp): TurnOp =>
  job.event.trace !== undefined &&
  (op._tag === "Invoke" || op._tag === "InvokeAsync" || op._tag === "Publish" || op._tag === "Transact")
    ? { ...op, trace: job.event.trace }
    : op
