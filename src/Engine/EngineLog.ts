/**
 * The log lines of the engine: for each failed attempt of a step or a run, for each run that failed, was paused or was cancelled,
 * for each lost lease, for new, changed and deleted functions, and for each entry of the access log. When one commit has very many
 * of these lines, the engine logs the first of them, and how many lines it has left out. `Workers/AnnounceWorkers.ts` logs
 * connections of workers. Lines have the run, the function, the step, the attempt, the worker and the environment as annotations.
 * They never have inputs or outputs of functions.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Severity } from "effect/LogLevel"
import * as Layer from "effect/Layer"
import { annotate } from "../EffectLogger.ts"
import { messageOf, type SerializedError } from "../Errors.ts"
import type { LogFields } from "../LogFields.ts"
import { accessLog as accessLogCall } from "../Protocol/Access.ts"
import type { RunFailureEvent } from "./Store/RunActivity.ts"
import type { AccessNote, FunctionChange } from "./Store/Changes.ts"
import { Store } from "./Store/Store.ts"

/**
 * Maximum number of lines about runs, and of lines about the access log, for one commit. Further lines are only counted, so that
 * the engine still has time to work when a thousand runs fail together. The line about functions names at most this many functions.
 */
const MAX_LINES = 200

interface Line {
  readonly level: Severity
  readonly message: string
  readonly fields: LogFields
}

/**
 * Whether the lines of this module are logged; `true` by default. It is turned off where another display shows what happens.
 */
export const EngineLines = Context.Reference<boolean>("@ironflow/node/EngineLines", {
  defaultValue: () => true
})

export const layer: Layer.Layer<never, never, Store> = Layer.effectDiscard(
  Effect.gen(function* () {
    if (!(yield* EngineLines)) return
    const store = yield* Store
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const stop = store.onCommit(({ accessLog, functions, runFailures }) => {
      if (runFailures.length === 0 && functions.length === 0 && accessLog.length === 0) return
      const lines = [
        ...runFailures.slice(0, MAX_LINES).map(runLine),
        ...leftOutLine(runFailures.length, "about runs", "too many at once"),
        ...functionLines(functions),
        ...accessLog.slice(0, MAX_LINES).map(accessLine),
        ...leftOutLine(accessLog.length, "of the access log", `GET ${accessLogCall.path} shows them`)
      ]
      run(
        Effect.forEach(
          lines,
          ({ fields, level, message }) => annotate(Effect.logWithLevel(level)(message), fields),
          { discard: true }
        )
      )
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
  })
)

/** The line that counts the lines beyond {@link MAX_LINES}, if there are any. */
const leftOutLine = (count: number, which: string, note: string): ReadonlyArray<Line> => {
  const leftOutCount = count - MAX_LINES
  if (leftOutCount <= 0) return []
  const lines = leftOutCount === 1 ? "line" : "lines"
  return [{ level: "Warn", message: `Left out ${leftOutCount} more ${lines} ${which}: ${note}`, fields: {} }]
}

const runLine = (trouble: RunFailureEvent): Line => {
  const { environment, functionId, runId, worker } = trouble
  const fields = {
    run: runId,
    function: functionId,
    ...(worker === undefined ? {} : { worker }),
    environment
  }
  const what = `Run ${runId} of function "${functionId}"`
  switch (trouble._tag) {
    case "AttemptFailed": {
      const { attempt, dueAt, error, step } = trouble
      return {
        level: dueAt === undefined ? "Error" : "Warn",
        message:
          `${what}: attempt ${attempt} of step "${step}" failed` +
          (dueAt === undefined
            ? ", and the step is not tried again"
            : `, and the next attempt is due at ${moment(dueAt)}`) +
          `: ${nameAndMessage(error)}`,
        fields: { ...fields, step, attempt, ...codeOf(error) }
      }
    }
    case "TurnFailed":
      return {
        level: "Warn",
        message: `${what} failed outside of its steps, and is tried again at ${moment(trouble.dueAt)}: ${nameAndMessage(trouble.error)}`,
        fields: { ...fields, ...codeOf(trouble.error) }
      }
    case "LeaseLost":
      return {
        level: "Warn",
        message: `${what} lost its lease (${trouble.why}): a worker gets the run again, unless it is paused`,
        fields: { ...fields, losses: trouble.losses }
      }
    case "RunPaused":
      return {
        level: "Warn",
        message: `${what} is paused: ${oneLine(trouble.message)}`,
        fields: { ...fields, code: trouble.code }
      }
    case "RunFailed":
      return {
        level: "Error",
        message: `${what} has failed: ${nameAndMessage(trouble.error)}`,
        fields: { ...fields, ...codeOf(trouble.error) }
      }
    case "RunCancelled":
      return {
        level: "Info",
        message: `${what} was cancelled: ${oneLine(trouble.error.message)}`,
        fields
      }
  }
}

/** One line for each environment, about its new, changed and deleted functions. */
const functionLines = (functions: ReadonlyArray<FunctionChange>): ReadonlyArray<Line> => {
  const byEnvironment = new Map<string, Array<{ readonly id: string; readonly what: string }>>()
  for (const { changed, deleted, environment, registration } of functions) {
    const change = deleted === true ? "deleted" : changed
    if (change === undefined) continue
    const described = byEnvironment.get(environment) ?? []
    byEnvironment.set(environment, described)
    described.push({ id: registration.id, what: change })
  }
  return Array.from(byEnvironment, ([environment, described]) => ({
    level: "Info",
    message: `Functions in environment ${environment}: ${described
      .slice(0, MAX_LINES)
      .map(({ id, what }) => `${id} (${what})`)
      .join(", ")}${described.length > MAX_LINES ? ` and ${described.length - MAX_LINES} more` : ""}`,
    fields: { environment, ...(described.length === 1 ? { function: described[0]!.id } : {}) }
  }))
}

const accessLine = ({ action, by, name, subject }: AccessNote): Line => ({
  level: "Info",
  message: `${action} ${subject}${name === undefined ? "" : ` ("${oneLine(name)}")`}, by ${by}`,
  fields: { action, subject, by }
})

const moment = (at: number): string => new Date(at).toISOString()

const codeOf = ({ code }: SerializedError): { readonly code?: string } => (code === undefined ? {} : { code })

/**
 * Name and message of an error. Its data and stack are stored with the run, and not logged. Only an error without a message, as many
 * typed errors are, is shown by its data.
 */
const nameAndMessage = ({ data = {}, message, name }: SerializedError): string =>
  oneLine(message === "" ? messageOf({ data, message, name }) : `${name}: ${message}`)

const MESSAGE_LENGTH = 1000

const oneLine = (text: string): string =>
  (text.length > MESSAGE_LENGTH ? `${text.slice(0, MESSAGE_LENGTH)}…` : text).replace(/\s+/g, " ")
