/**
 * The log lines of handlers, from the logger that handlers are given and from Effect's. They name the run and
 * the step, are left out while finished steps are replayed, and are stored with the run.
 */
import * as Context from "effect/Context"
import * as Fiber from "effect/Fiber"
import * as EffectLogger from "effect/Logger"
import * as References from "effect/References"
import { lineOf } from "../EffectLogger.ts"
import * as Limits from "../Limits.ts"
import type { LineLevel, LogFields } from "../LogFields.ts"
import { safeJsonParse } from "../Json.ts"
import { dataText, NO_TEXT } from "../LogFormat.ts"
import { type Logger, runLogger } from "../Logger.ts"
import type { Job, LogLine } from "../Protocol/Worker.ts"
import { withoutSecrets } from "./SecretsInText.ts"
import { bodyOf, type TurnToken } from "./Nesting.ts"
import type { TurnHost } from "./TurnHost.ts"

/** The part of the turn that its log lines need. */
export interface LoggingTurn {
  readonly job: Job
  readonly host: TurnHost
  readonly token: TurnToken
  readonly steps: { readonly isReplaying: boolean }
}

/** The step whose code writes a log line. */
interface InStep {
  readonly step?: string
  readonly attempt?: number
}

/** The `logger` of the handler. */
export const handlerLogger = (turn: LoggingTurn): Logger => {
  const { host, job } = turn
  const { keepLine } = host
  const where = (): InStep => bodyOf(turn.token) ?? inFiber(Fiber.getCurrent()?.context)
  return runLogger(job.runId, () => turn.steps.isReplaying, host.handlerLogger, {
    fields: () => ({ ...fieldsOf(turn), ...where() }),
    ...(keepLine === undefined
      ? {}
      : { keep: (level, message, data) => keepLine(madeLine(turn, where(), { level, message, data })) })
  })
}

/** The services of an Effect handler. Its loggers are those of `context`, with the annotations of the run. */
export const withHandlerLogs = (
  turn: LoggingTurn,
  context: Context.Context<never>
): Context.Context<never> => {
  const loggers = Context.get(context, EffectLogger.CurrentLoggers)
  const annotations = Context.get(context, References.CurrentLogAnnotations)
  return Context.add(
    Context.add(context, References.CurrentLogAnnotations, { ...annotations, ...fieldsOf(turn) }),
    EffectLogger.CurrentLoggers,
    new Set([silentWhileReplaying(turn, loggers)])
  )
}

const silentWhileReplaying = (
  turn: LoggingTurn,
  loggers: ReadonlySet<EffectLogger.Logger<unknown, unknown>>
): EffectLogger.Logger<unknown, void> =>
  EffectLogger.make((options) => {
    if (turn.steps.isReplaying) return
    for (const logger of loggers) logger.log(options)
    turn.host.keepLine?.(madeLine(turn, inFiber(options.fiber.context), lineOf(options)))
  })

/** The annotations for log lines from the code of a step. */
export const stepAnnotations = (
  context: Context.Context<never>,
  step: string,
  attempt: number
): { readonly [name: string]: unknown } => ({
  ...Context.get(context, References.CurrentLogAnnotations),
  step,
  attempt
})

const fieldsOf = ({ host, job }: LoggingTurn): LogFields => ({
  run: job.runId,
  function: job.functionId,
  attempt: job.attempt,
  ...(host.workerId === undefined ? {} : { worker: host.workerId }),
  environment: job.environment
})

/** Reads the annotations that {@link stepAnnotations} sets. */
const inFiber = (context: Context.Context<never> | undefined): InStep => {
  if (context === undefined) return {}
  const { attempt, step } = Context.get(context, References.CurrentLogAnnotations)
  return typeof step === "string" && typeof attempt === "number" ? { step, attempt } : {}
}

/** Makes the line that is stored: bounded, and without the values of the run's secrets. */
const madeLine = (
  { host, job }: LoggingTurn,
  { attempt = job.attempt, step }: InStep,
  { data, level, message }: { readonly level: LineLevel; readonly message: string; readonly data: unknown }
): LogLine => ({
  at: host.clock.currentTimeMillisUnsafe(),
  level,
  message: cut(withoutSecrets(job, String(message)), Limits.lineMessageLength),
  ...(data === undefined ? {} : { data: keptData(job, dataText(data)) }),
  ...(step === undefined ? {} : { step }),
  attempt,
  ...(host.workerId === undefined ? {} : { worker: host.workerId })
})

/**
 * The data as JSON text without the values of secrets, if that is valid JSON within the limits for length and
 * depth. Otherwise a JSON string with that text, cut if necessary. An engine would refuse the whole report of
 * the turn if the data were neither.
 */
const keptData = (job: Job, json: string): string => {
  const shown = withoutSecrets(job, json)
  const isKept =
    json !== NO_TEXT &&
    shown.length <= Limits.lineDataLength &&
    isFlatEnough(shown) &&
    // a secret that was a number, or stood beside one, leaves text that is no JSON
    (shown === json || safeJsonParse(shown) !== undefined)
  return isKept ? shown : JSON.stringify(cut(shown, Limits.lineDataLength / 2))
}

/** Whether JSON text is within the limit for depth. */
const isFlatEnough = (json: string): boolean => {
  let depth = 0
  // the brackets, and whole strings, so that the brackets in them are passed over
  for (const [found] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (found === "[" || found === "{") depth++
    else if (found === "]" || found === "}") depth--
    if (depth > Limits.jsonDepth) return false
  }
  return true
}

const cut = (text: string, limit: number): string => (text.length > limit ? `${text.slice(0, limit)}…` : text)
