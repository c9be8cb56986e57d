/**
 * The step calls of both faces, checked: what is wrong with the arguments throws `ValidationError` before the call has
 * got a key, so that nothing is recorded.
 */
import { resolveRetry, type RetryConfig } from "../Backoff.ts"
import { withCallSite } from "../CallSite.ts"
import {
  deserializeError,
  messageOf,
  type SerializedError,
  StepError,
  ValidationError,
  withoutEncoding
} from "../Errors.ts"
import type { IronflowEvent } from "../Event.ts"
import { compileExpression } from "../Expression.ts"
import { encodeJson, isObject } from "../Json.ts"
import { checkName, checkSize, messageBytes, stepResultBytes } from "../Limits.ts"
import { checkKeys } from "../OptionKeys.ts"
import { isPath } from "../Path.ts"
import { checkPattern } from "../Pattern.ts"
import type { Outcome, StepKind, TxOutcome } from "../Protocol/Worker.ts"
import { decodeResult } from "../Result.ts"
import { show } from "../Show.ts"
import { type Invokable, type mapKeys, parallelKeys, type ParallelOptions } from "../Step.ts"
import type { Attempt } from "./Attempt.ts"
import { callSiteOf, type StepTimeout } from "./FunctionPlan.ts"
import type { Scope } from "./Scope.ts"
import { StepCall, type StepCode, type StepOp } from "./StepCall.ts"
import { escapeName, publishName, stepId } from "./StepId.ts"
import type { TurnMachine } from "./TurnMachine.ts"

export type Receive = (outcome: Outcome) => void

export const defaultWaitMs = 7 * 86_400_000
export const defaultInvokeMs = 30_000

/** The code of a step with its policy. */
export const stepCode = (
  turn: TurnMachine,
  name: string,
  begin: (attempt: Attempt) => void,
  timeout: StepTimeout | undefined,
  retry: RetryConfig | undefined
): StepCode => ({
  begin,
  timeout: timeout ?? turn.plan.stepTimeout,
  retry:
    retry === undefined ? turn.plan.retry : resolveRetry(retry, `retry of step "${name}"`, turn.plan.retry)
})

/** The code of a compensation: never without a timeout, since nothing else bounds it. */
export const compensationCode = (turn: TurnMachine, begin: (attempt: Attempt) => void): StepCode => {
  const { retry, stepTimeout, timeoutMs } = turn.plan
  return { begin, timeout: stepTimeout ?? { ms: timeoutMs, text: `${timeoutMs}ms` }, retry }
}

export const runCall = (scope: Scope, name: string, code: StepCode, receive: Receive): StepCall =>
  new StepCall(scope.keys.next(escapeName(name)), name, "run", scope, code, receive)

/** A step whose code collects writes that are stored with it. */
export const txCall = (scope: Scope, name: string, code: StepCode, receive: Receive): StepCall =>
  new StepCall(scope.keys.next(escapeName(name)), name, "tx", scope, code, receive)

export const sleepCall = (scope: Scope, name: string, ms: number, receive: Receive): StepCall => {
  const stepKey = scope.keys.next(escapeName(name))
  return engineCall(scope, "sleep", { _tag: "Sleep", stepKey, name, due: { afterMs: ms } }, receive)
}

/** `undefined` when the time has passed and no turn has slept for it. */
export const sleepUntilCall = (
  turn: TurnMachine,
  scope: Scope,
  name: string,
  until: unknown,
  receive: Receive
): StepCall | undefined => {
  const at = parseTime(name, until)
  const stepKey = scope.keys.next(escapeName(name))
  if (at <= turn.host.clock.currentTimeMillisUnsafe() && !turn.knows(stepKey)) return undefined
  return engineCall(scope, "sleep", { _tag: "Sleep", stepKey, name, due: { at } }, receive)
}

const parseTime = (name: string, until: unknown): number => {
  const at =
    until instanceof Date
      ? until.getTime()
      : typeof until === "string" && /^[+-]?\d{4,6}-\d\d/.test(until)
        ? Date.parse(until)
        : Number.NaN
  if (Number.isNaN(at)) {
    throw new ValidationError(
      `Step "${name}" cannot sleep until ${show(until)}: give a ` +
        'valid Date or ISO 8601 text such as "2030-12-31T00:00:00Z"'
    )
  }
  return at
}

export interface WaitArguments {
  readonly event: unknown
  readonly match: unknown
  readonly timeoutMs: number
}

export const waitCall = (scope: Scope, name: string, wait: WaitArguments, receive: Receive): StepCall => {
  const event = checkPattern(
    typeof wait.event === "string" ? wait.event.trim() : wait.event,
    `event that step "${name}" waits for`
  )
  const match = checkMatch(name, wait.match)
  const { timeoutMs } = wait
  const stepKey = scope.keys.next(escapeName(name))
  return engineCall(
    scope,
    "waitForEvent",
    {
      _tag: "WaitForEvent",
      stepKey,
      name,
      scope: scope.keys.scope.slice(0, -1),
      event,
      ...(match === undefined ? {} : { match }),
      timeout: { afterMs: timeoutMs },
      timeoutMs
    },
    receive
  )
}

const checkMatch = (name: string, match: unknown): string | undefined => {
  if (match === undefined) return undefined
  if (typeof match !== "string" || match.trim() === "") {
    throw new ValidationError(
      `\`match\` of step "${name}" must be a dotted path such as "data.requestId" or a CEL expression, got ` +
        show(match)
    )
  }
  const text = match.trim()
  if (!isPath(text)) compileExpression(text, ["event", "trigger"])
  return text
}

export const invokeCall = (
  scope: Scope,
  functionId: string,
  input: unknown,
  timeoutMs: number,
  receive: Receive
): StepCall => {
  const text = inputText(functionId, input)
  const stepKey = scope.keys.next(escapeName(functionId))
  return engineCall(
    scope,
    "invoke",
    { _tag: "Invoke", stepKey, name: functionId, functionId, input: text, timeoutMs },
    receive
  )
}

export const invokeAsyncCall = (
  scope: Scope,
  functionId: string,
  input: unknown,
  receive: Receive
): StepCall => {
  const text = inputText(functionId, input)
  const stepKey = scope.keys.next(escapeName(functionId))
  return engineCall(
    scope,
    "invokeAsync",
    { _tag: "InvokeAsync", stepKey, name: functionId, functionId, input: text },
    receive
  )
}

const inputText = (functionId: string, input: unknown): string | undefined => {
  const what = `Input of invoked function "${functionId}"`
  return checkSize(what, encodeJson(input, what), stepResultBytes)
}

/** The id of what `invoke` was given. */
export const invokedId = (target: string | Invokable): string =>
  checkName(
    "id of the invoked function",
    isObject(target) && isObject(target.config) ? target.config.id : target
  )

export const publishCall = (scope: Scope, topic: string, data: unknown, receive: Receive): StepCall => {
  const what = `Message for topic "${topic}"`
  // a signal without content is an empty object
  const text = checkSize(what, encodeJson(data, what) ?? "{}", messageBytes)
  const stepKey = scope.keys.next(publishName(topic))
  return engineCall(
    scope,
    "publish",
    { _tag: "Publish", stepKey, name: `publish:${topic}`, topic, data: text },
    receive
  )
}

const engineCall = (scope: Scope, kind: StepKind, op: StepOp, receive: Receive): StepCall =>
  new StepCall(op.stepKey, op.name, kind, scope, op, receive)

/** Options of `parallel` and `map`, with the defaults. */
export const checkParallel = (
  name: string,
  branches: unknown,
  options: ParallelOptions | undefined,
  keys: typeof mapKeys | typeof parallelKeys = parallelKeys
): { readonly concurrency: number; readonly failFast: boolean } => {
  if (!Array.isArray(branches)) {
    throw new ValidationError(`"${name}" needs an array, one element a branch, got ${typeof branches}`)
  }
  checkKeys(options, keys, `Step "${name}"`)
  const { concurrency, onError } = options ?? {}
  if (concurrency !== undefined && (!Number.isSafeInteger(concurrency) || concurrency < 1)) {
    throw new ValidationError(
      `\`concurrency\` of "${name}" must be an integer of at least 1, got ${show(concurrency)}`
    )
  }
  if (onError !== undefined && onError !== "failFast" && onError !== "allSettled") {
    throw new ValidationError(
      `\`onError\` of "${name}" must be "failFast" or "allSettled", got ${show(onError)}`
    )
  }
  return { concurrency: concurrency ?? Number.POSITIVE_INFINITY, failFast: onError !== "allSettled" }
}

// -----------------------------------------------------------------------------
// Reading outcomes
// -----------------------------------------------------------------------------

/** The error of a step as it was stored. Where it knows no place in the user's code, that of the step's call is the nearest. */
export const storedError = (turn: TurnMachine, call: StepCall, stored: SerializedError): Error => {
  const error = deserializeError(stored)
  error.stack = withCallSite(error.stack ?? "", callSiteOf(turn.plan, call.kind, call.name))
  return error
}

/** The error that a failed step rejects with. */
export const stepError = (turn: TurnMachine, call: StepCall, error: SerializedError): StepError => {
  const thrown = withoutEncoding(error)
  const cause = storedError(turn, call, thrown)
  return new StepError(messageOf(thrown), {
    stepId: stepId(turn.job.runId, call.key),
    stepName: call.name,
    retryable: false,
    cause
  })
}

/** The result of a `step.tx` as handlers see it. A patched one is its value alone, unless it looks like the real thing. */
export const readTx = (stored: unknown): TxOutcome =>
  isObject(stored) && Array.isArray(stored.writes)
    ? // what the engine wrote
      { value: stored.value, writes: stored.writes as TxOutcome["writes"] }
    : { value: stored, writes: [] }

/** The awaited event as handlers see it. */
export const readEvent = (turn: TurnMachine, value: unknown): IronflowEvent => {
  const { data, name, timestamp, version, ...rest } = value as StoredEvent
  const { upcast } = turn.host
  return {
    ...rest,
    name,
    version,
    data: upcast === undefined ? data : upcast(name, data, version),
    timestamp: new Date(timestamp)
  }
}

/** An event in the outcome of a wait, which the engine wrote. */
interface StoredEvent extends Omit<IronflowEvent, "timestamp"> {
  readonly timestamp: string | number
}

/** The value of a successful outcome; a failed one throws what `toError` makes of it. */
export const readOutcome = (outcome: Outcome, toError: (error: SerializedError) => Error): unknown => {
  if (outcome._tag === "Failure") throw toError(outcome.error)
  return decodeResult(outcome.value)
}
