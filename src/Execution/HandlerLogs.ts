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
  ...(data === undefined ? {} : { data: keptData(withoutSecrets(job, dataText(data))) }),
  ...(step === undefined ? {} : { step }),
  attempt,
  ...(host.workerId === undefined ? {} : { worker: host.workerId })
})

/**
 * The JSON text if it is within the limits for length and depth. Otherwise a JSON string of it, cut if
 * necessary.
 */
const keptData = (json: string): string =>
  json === NO_TEXT || json.length > Limits.lineDataLength || !isFlatEnough(json)
    ? JSON.stringify(cut(json, Limits.lineDataLength / 2))
    : json

/**
 * Whether the data is within the limit for depth. Brackets inside of strings count too, so
 * that data which is flat enough may be taken for too deep.
 */
const isFlatEnough = (json: string): boolean => {
  let depth = 0
  for (const bracket of json.match(/[[\]{}]/g) ?? []) {
    depth += bracket === "[" || bracket === "{" ? 1 : -1
    if (depth >= Limits.jsonDepth) return false
  }
  return true
}

const cut = (text: string, most: number): string => (text.length > most ? `${text.slice(0, most)}…` : text)
