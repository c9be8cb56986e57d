/**
 * The log lines that handlers write, with the logger that they are given or with Effect's loggers. The lines name the
 * run and the step, and are stored with the run. While finished steps are replayed, no lines are written.
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
import { enclosingStep, type TurnToken } from "./Nesting.ts"
import type { TurnHost } from "./TurnHost.ts"

/** The part of the turn that the log lines of its handler need. */
export interface LoggingTurn {
  readonly job: Job
  readonly host: TurnHost
  readonly token: TurnToken
  readonly steps: { readonly isReplaying: boolean }
}

/** The step whose code writes a log line; without members when the line is written outside of steps. */
interface CallingStep {
  readonly step?: string
  readonly attempt?: number
}

/** The `logger` of the handler. */
export const handlerLogger = (turn: LoggingTurn): Logger => {
  const { host, job } = turn
  const { keepLine } = host
  const callingStep = (): CallingStep => enclosingStep(turn.token) ?? stepIn(Fiber.getCurrent()?.context)
  return runLogger(job.runId, () => turn.steps.isReplaying, host.handlerLogger, {
    fields: () => ({ ...fieldsOf(turn), ...callingStep() }),
    ...(keepLine === undefined
      ? {}
      : {
          keep: (level, message, data) => keepLine(lineToStore(turn, callingStep(), { level, message, data }))
        })
  })
}

/**
 * The context with loggers for an Effect handler: the loggers of `context`, which are silent during a replay, and the
 * store of the run's log lines. All lines have annotations with the fields of the run.
 */
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
    turn.host.keepLine?.(lineToStore(turn, stepIn(options.fiber.context), lineOf(options)))
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
const stepIn = (context: Context.Context<never> | undefined): CallingStep => {
  if (context === undefined) return {}
  const { attempt, step } = Context.get(context, References.CurrentLogAnnotations)
  return typeof step === "string" && typeof attempt === "number" ? { step, attempt } : {}
}

/** Makes the line that is stored: cut to the limits, and without the values of the run's secrets. */
const lineToStore = (
  { host, job }: LoggingTurn,
  { attempt = job.attempt, step }: CallingStep,
  { data, level, message }: { readonly level: LineLevel; readonly message: string; readonly data: unknown }
): LogLine => ({
  at: host.clock.currentTimeMillisUnsafe(),
  level,
  message: cut(withoutSecrets(job, String(message)), Limits.lineMessageLength),
  ...(data === undefined ? {} : { data: dataToStore(job, dataText(data)) }),
  ...(step === undefined ? {} : { step }),
  attempt,
  ...(host.workerId === undefined ? {} : { worker: host.workerId })
})

/**
 * The data as JSON text without the values of secrets. Text that is not valid JSON within the limits for length and
 * depth becomes a JSON string, and is cut if necessary. An engine would refuse a whole report of the turn because of
 * such text.
 */
const dataToStore = (job: Job, json: string): string => {
  const text = withoutSecrets(job, json)
  const isStorable =
    json !== NO_TEXT &&
    text.length <= Limits.lineDataLength &&
    isFlatEnough(text) &&
    // a secret outside of a string, such as a number, leaves a text that is no JSON
    (text === json || safeJsonParse(text) !== undefined)
  return isStorable ? text : JSON.stringify(cut(text, Limits.lineDataLength / 2))
}

/** Whether JSON text is within the limit for depth. */
const isFlatEnough = (json: string): boolean => {
  let depth = 0
  // matches brackets and whole strings: the brackets inside strings are not counted
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === "[" || token === "{") depth++
    else if (token === "]" || token === "}") depth--
    if (depth > Limits.jsonDepth) return false
  }
  return true
}

const cut = (text: string, limit: number): string => (text.length > limit ? `${text.slice(0, limit)}…` : text)
