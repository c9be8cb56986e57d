/**
 * The steps that a handler can use, one row each, for both APIs. A row checks the arguments, makes the call,
 * and reads its outcome. Each API adds how its handlers wait, write durations, run code and use schemas.
 */
import { resolveRetry, type RetryConfig } from "../Backoff.ts"
import { type SerializedError, ValidationError } from "../Errors.ts"
import type { EventDefinition, IronflowEvent } from "../Event.ts"
import { encodeInput } from "../EventData.ts"
import { compileExpression } from "../Expression.ts"
import type { EffectFunctionDeclarations } from "../Function.ts"
import { encodeJson, isObject } from "../Json.ts"
import { checkName, checkSize, messageBytes, stepResultBytes } from "../Limits.ts"
import { checkKeys, type KnownKeys } from "../OptionKeys.ts"
import { isDataPath } from "../DataPath.ts"
import { checkPattern } from "../Pattern.ts"
import type { Outcome, TxOutcome } from "../Protocol/Worker.ts"
import type { StepKind } from "../StepKind.ts"
import { show } from "../Show.ts"
import { type Invokable, type StepClient, type StepService, waitKeys } from "../Step.ts"
import type { Attempt } from "./Attempt.ts"
import type { StepTimeout } from "./FunctionPlan.ts"
import type { StepScope } from "./StepScope.ts"
import { StepCall, type StepOp } from "./StepCall.ts"
import { escapeName, publishName } from "../StepId.ts"
import { readEvent, readTx, stepError, storedError } from "./OutcomeDecoding.ts"
import type { TurnMachine } from "./TurnMachine.ts"
import { checkTransactions } from "./Tx.ts"

/** What differs between the two APIs in all steps. */
export interface StepApi {
  /**
   * The duration in milliseconds. Throws `ValidationError` with `what` as its subject when it is not a positive
   * duration.
   */
  readonly durationMs: (duration: unknown, what: string) => number
  /** The timeout of an attempt. Throws as {@link durationMs} does. */
  readonly timeout: (timeout: unknown, what: string) => StepTimeout
  /** The known options of the steps that run code. */
  readonly runKeys: KnownKeys
  readonly invokeKeys: KnownKeys
}

/** Where a call is made: the API, the turn, and the handler's root or a branch of it. */
export interface Place {
  readonly api: StepApi
  readonly turn: TurnMachine
  readonly scope: StepScope
}

type Receive = (outcome: Outcome) => void

export interface StepRow<Given, Result> {
  /** What messages call the name: `step name`, for example. */
  readonly naming: string
  /**
   * Makes the call; `undefined` when there is nothing to wait for. Throws `ValidationError` for invalid
   * arguments before the call has a key, so that nothing is recorded.
   */
  readonly call: (place: Place, name: string, args: Given, receive: Receive) => StepCall | undefined
  /** Reads the result for handlers. A schema may decode it afterwards. */
  readonly read: (turn: TurnMachine, value: unknown) => Result
  /**
   * Whether a failed call fails with a `StepError` whose cause is the stored error. If not, the call fails with the
   * stored error itself.
   */
  readonly wrapsFailures: boolean
}

/** Arguments of a step that runs code. */
export interface GivenCode {
  readonly begin: (attempt: Attempt) => void
  readonly options: { readonly timeout?: unknown; readonly retry?: RetryConfig } | undefined
}

/** Arguments of a step that runs another function. */
export interface GivenInput {
  readonly target: string | Invokable
  readonly input: unknown
  readonly options?: { readonly timeout?: unknown } | undefined
}

/** Arguments of a wait for an event. */
export interface GivenFilter {
  readonly event: unknown
  readonly match?: unknown
  readonly timeout?: unknown
}

const DEFAULT_WAIT_MS = 7 * 86_400_000
const DEFAULT_INVOKE_MS = 30_000

const row = <Given, Result>(definition: StepRow<Given, Result>): StepRow<Given, Result> => definition

const noResult = (): void => undefined
const returnValue = (_: TurnMachine, value: unknown): unknown => value

export const stepRows = {
  run: row({
    naming: "step name",
    call: (place, name, given: GivenCode, receive) => codeCall(place, "run", name, given, receive),
    read: returnValue,
    wrapsFailures: true
  }),

  tx: row({
    naming: "step name",
    call: (place, name, given: GivenCode, receive) => {
      checkTransactions(place.turn, name)
      return codeCall(place, "tx", name, given, receive)
    },
    read: (_, value): TxOutcome => readTx(value),
    wrapsFailures: true
  }),

  sleep: row({
    naming: "step name",
    call: ({ api, scope }, name, duration: unknown, receive) => {
      const afterMs = api.durationMs(duration, `duration of step "${name}"`)
      const stepKey = scope.keys.next(escapeName(name))
      return engineCall(scope, "sleep", { _tag: "Sleep", stepKey, name, due: { afterMs } }, receive)
    },
    read: noResult,
    wrapsFailures: false
  }),

  sleepUntil: row({
    naming: "step name",
    call: ({ scope, turn }, name, until: unknown, receive) => {
      const at = parseTime(name, until)
      const stepKey = scope.keys.next(escapeName(name))
      // no step is needed for a time that has passed, unless an earlier turn has already begun the step
      const { journal } = turn.steps
      if (at <= turn.host.clock.currentTimeMillisUnsafe() && !journal.knows(stepKey)) return undefined
      return engineCall(scope, "sleep", { _tag: "Sleep", stepKey, name, due: { at } }, receive)
    },
    read: noResult,
    wrapsFailures: false
  }),

  waitForEvent: row({
    naming: "step name",
    call: ({ api, scope }, name, filter: GivenFilter, receive) => {
      checkKeys(filter, waitKeys, `Step "${name}"`)
      const timeoutMs =
        filter?.timeout === undefined
          ? DEFAULT_WAIT_MS
          : api.durationMs(filter.timeout, `timeout of step "${name}"`)
      const nameOrPattern = definitionOf(filter?.event)?.name ?? filter?.event
      const event = checkPattern(
        typeof nameOrPattern === "string" ? nameOrPattern.trim() : nameOrPattern,
        `event that step "${name}" waits for`
      )
      const match = checkMatch(name, filter?.match)
      const stepKey = scope.keys.next(escapeName(name))
      const op: StepOp = {
        _tag: "WaitForEvent",
        stepKey,
        name,
        scope: scope.keys.scope.slice(0, -1),
        event,
        ...(match === undefined ? {} : { match }),
        timeout: { afterMs: timeoutMs },
        timeoutMs
      }
      return engineCall(scope, "waitForEvent", op, receive)
    },
    read: (turn, value): IronflowEvent => readEvent(turn, value),
    wrapsFailures: false
  }),

  invoke: row({
    naming: "id of the invoked function",
    call: ({ api, scope }, functionId, { input, options, target }: GivenInput, receive) => {
      checkKeys(options, api.invokeKeys, `Step "${functionId}"`)
      const timeoutMs =
        options?.timeout === undefined
          ? DEFAULT_INVOKE_MS
          : api.durationMs(options.timeout, `timeout of invoked function "${functionId}"`)
      const text = inputText(functionId, encodeInput(target, input))
      const stepKey = scope.keys.next(escapeName(functionId))
      const op: StepOp = { _tag: "Invoke", stepKey, name: functionId, functionId, input: text, timeoutMs }
      return engineCall(scope, "invoke", op, receive)
    },
    read: returnValue,
    wrapsFailures: false
  }),

  invokeAsync: row({
    naming: "id of the invoked function",
    call: ({ scope }, functionId, { input, target }: GivenInput, receive) => {
      const text = inputText(functionId, encodeInput(target, input))
      const stepKey = scope.keys.next(escapeName(functionId))
      const op: StepOp = { _tag: "InvokeAsync", stepKey, name: functionId, functionId, input: text }
      return engineCall(scope, "invokeAsync", op, receive)
    },
    read: returnValue,
    wrapsFailures: false
  }),

  publish: row({
    naming: "topic",
    call: ({ scope }, topic, data: unknown, receive) => {
      const what = `Message for topic "${topic}"`
      // a message without data is published as an empty object
      const text = checkSize(what, encodeJson(data, what) ?? "{}", messageBytes)
      const stepKey = scope.keys.next(publishName(topic))
      const op: StepOp = { _tag: "Publish", stepKey, name: `publish:${topic}`, topic, data: text }
      return engineCall(scope, "publish", op, receive)
    },
    read: returnValue,
    wrapsFailures: true
  })
}

/** The calls of a handler that have no row: two calls run branches, and one registers a compensation. */
export const rowlessCalls = {
  parallel: { naming: "name of the parallel call" },
  map: { naming: "name of the parallel call" },
  compensate: { naming: "name of the compensated step" }
}

/**
 * All calls of a handler. The type has the calls of both APIs, so this compiles only if no call is missing here.
 */
export const primitives: Record<keyof StepService & keyof StepClient, { readonly naming: string }> &
  Record<keyof StepService | keyof StepClient, unknown> = { ...stepRows, ...rowlessCalls }

/** The error that the handler receives from a failed call of this row. */
export const failureOf = (
  { wrapsFailures }: StepRow<never, unknown>,
  turn: TurnMachine,
  call: StepCall,
  error: SerializedError
): Error => (wrapsFailures ? stepError : storedError)(turn, call, error)

/** The event definition that a wait was given; `undefined` when it was given a name or pattern. */
export const definitionOf = <T = unknown>(event: unknown): EventDefinition<T> | undefined =>
  typeof event === "object" && event !== null && "name" in event ? (event as EventDefinition<T>) : undefined

/** The schemas that an invoked function declares for its result and its failures. */
export const declarationsOf = (target: string | Invokable): EffectFunctionDeclarations<unknown, unknown> =>
  typeof target === "object" && target !== null && "program" in target
    ? // a function with a program was made by `IronflowFunction.make`, which has checked these fields
      (target.config as EffectFunctionDeclarations<unknown, unknown>)
    : {}

/** The function id for the argument of `invoke`. */
export const invokedId = (target: string | Invokable): unknown =>
  typeof target === "string"
    ? target
    : checkName(
        stepRows.invoke.naming,
        isObject(target) && isObject(target.config) ? target.config.id : target
      )

const codeCall = (
  { api, scope, turn }: Place,
  kind: "run" | "tx",
  name: string,
  { begin, options }: GivenCode,
  receive: Receive
): StepCall => {
  checkKeys(options, api.runKeys, `Step "${name}"`)
  const { plan } = turn
  const timeout =
    options?.timeout === undefined
      ? plan.stepTimeout
      : api.timeout(options.timeout, `timeout of step "${name}"`)
  const retry =
    options?.retry === undefined
      ? plan.retry
      : resolveRetry(options.retry, `retry of step "${name}"`, plan.retry)
  const code = { begin, timeout, retry }
  return new StepCall(scope.keys.next(escapeName(name)), name, kind, scope, code, receive)
}

const engineCall = (scope: StepScope, kind: StepKind, op: StepOp, receive: Receive): StepCall =>
  new StepCall(op.stepKey, op.name, kind, scope, op, receive)

const parseTime = (name: string, until: unknown): number => {
  const epochMs =
    until instanceof Date
      ? until.getTime()
      : typeof until === "string" && /^[+-]?\d{4,6}-\d\d/.test(until)
        ? Date.parse(until)
        : Number.NaN
  if (Number.isNaN(epochMs)) {
    throw new ValidationError(
      `Step "${name}" cannot sleep until ${show(until)}: give a ` +
        'valid Date or ISO 8601 text such as "2030-12-31T00:00:00Z"'
    )
  }
  return epochMs
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
  // in other options a path begins with `event.`; in `match` it may, and means the same without this prefix
  if (isDataPath(text)) return text.replace(/^(?:\$\.)?event\.(?=.)/, "")
  compileExpression(text, ["event", "trigger"])
  return text
}

const inputText = (functionId: string, input: unknown): string | undefined => {
  const what = `Input of invoked function "${functionId}"`
  return checkSize(what, encodeJson(input, what), stepResultBytes)
}
