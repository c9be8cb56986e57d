/**
 * Steps and turns of async handlers: each step is a promise for the outcome of a step call. The promise of a step that
 * is still suspended at the end of the turn never settles.
 */
import { AsyncResource } from "node:async_hooks"
import { sharedGetters } from "../SharedGetters.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { serializeError, toError, ValidationError } from "../Errors.ts"
import type { IronflowEvent } from "../Event.ts"
import { isEventTooNew } from "../EventVersions.ts"
import type { FunctionContext, IronflowFunction, RunInfo } from "../Function.ts"
import { checkName } from "../Limits.ts"
import { decodeResult } from "../ResultEncoding.ts"
import { createSecretsClient } from "../Secrets.ts"
import { show } from "../Show.ts"
import { validate } from "../StandardSchema.ts"
import {
  type EventFilter,
  type Invokable,
  invokeKeys,
  type InvokeOptions,
  mapKeys,
  parallelKeys,
  type ParallelOptions,
  runKeys,
  type StepClient,
  type StepRunContext,
  type StepRunOptions,
  type Tx,
  type WithSchema
} from "../Step.ts"
import { type BranchExit, checkParallel, runBranches } from "./Branches.ts"
import { compensationCode } from "./Compensation.ts"
import { resolveStepTimeout } from "./FunctionPlan.ts"
import { nestedStepError } from "./Nesting.ts"
import {
  decodeWith,
  type Decoder,
  decoderOf,
  discardResult,
  callUserCode,
  txArguments,
  contextArgument,
  promiseCode
} from "./PromiseCode.ts"
import type { StepScope } from "./StepScope.ts"
import type { StepCall } from "./StepCall.ts"
import { decodeAwaited, stepError } from "./OutcomeDecoding.ts"
import { callPromise } from "./CallPromise.ts"
import {
  declarationsOf,
  definitionOf,
  failureOf,
  rowlessCalls,
  invokedId,
  type Place,
  type StepApi,
  type StepRow,
  stepRows
} from "./StepTable.ts"
import type { TurnMachine } from "./TurnMachine.ts"

/**
 * The async context outside of all handlers and step bodies. A turn runs in this context, and not in that of the code
 * that happened to start the turn.
 */
const outerContext = new AsyncResource("ironflow.turn")

/** The members of the handler's argument that are made on first use, since few handlers use them. */
const withParts = sharedGetters<TurnMachine, Pick<FunctionContext, "logger" | "secrets" | "signal">>({
  logger: (turn) => turn.logger,
  secrets: (turn) => createSecretsClient(turn.job.secrets),
  signal: (turn) => turn.signal
})

/** Calls the handler, and tells the turn how the handler ended. */
export const startPromiseHandler = (
  fn: IronflowFunction,
  turn: TurnMachine,
  event: IronflowEvent,
  run: RunInfo
): void => {
  const context = withParts(
    {
      event,
      run,
      step: promiseSteps(turn, turn.steps.root),
      onTurnEnd: (callback: () => void | Promise<void>) => turn.onTurnEnd(callback)
    },
    turn
  )
  const { tracing } = turn.host
  outerContext.runInAsyncScope(() =>
    callUserCode(
      tracing === undefined ? () => fn.handler(context) : () => tracing.within(() => fn.handler(context)),
      (value) => turn.handlerSucceeded(value),
      (error) => turn.handlerFailed(error)
    )
  )
}

const api: StepApi = {
  durationMs: (duration, what) => positiveDuration(duration as Duration, what),
  timeout: (timeout, what) => resolveStepTimeout(timeout as Duration, what),
  runKeys,
  invokeKeys
}

/** Checks the name of a step, and returns it. Throws `NestedStepError` inside the code of a step. */
const checkCall = (turn: TurnMachine, naming: string, name: unknown): string => {
  const checkedName = checkName(naming, name)
  const nested = nestedStepError(turn.token, checkedName)
  if (nested !== undefined) throw nested
  return checkedName
}

interface StepCallParts<Given, Result> {
  /** Makes the arguments for the row of `StepTable.ts` from the arguments of the call. */
  readonly makeArguments: (name: string) => Given
  /** Converts the result of the row to the result for the handler. Absent when both results are the same. */
  readonly convertResult?: (result: Result) => unknown
  /** Called when the promise of the call is awaited. */
  readonly onAwait?: (call: StepCall) => void
}

/**
 * Makes the call that a row of `StepTable.ts` describes. `entry` is the function that the user's code called.
 */
const callStep = <Given, Result, T>(
  place: Place,
  entry: Function,
  row: StepRow<Given, Result>,
  name: unknown,
  { convertResult, makeArguments, onAwait }: StepCallParts<Given, Result>
): Promise<T> => {
  const { turn } = place
  let call: StepCall | undefined
  return callPromise<T>(
    (succeed, fail) => {
      const checkedName = checkCall(turn, row.naming, name)
      const stepCall = row.call(place, checkedName, makeArguments(checkedName), (outcome) => {
        if (stepCall === undefined) return
        if (outcome._tag === "Failure") {
          fail(failureOf(row, turn, stepCall, outcome.error))
          return
        }
        let value: unknown
        try {
          value = decodeResult(outcome.value)
        } catch (error) {
          turn.pauseForDamage(stepCall, error)
          return
        }
        try {
          const result = row.read(turn, value)
          // The type of each call's result is in the interface of the steps.
          succeed((convertResult === undefined ? result : convertResult(result)) as T)
        } catch (error) {
          if (isEventTooNew(error)) return turn.pauseForNewEvent(error, stepCall)
          fail(row.wrapsFailures ? stepError(turn, stepCall, serializeError(error)) : toError(error))
        }
      })
      call = stepCall
      // No call was made, since no step is needed: `sleepUntil`, which has no result, was given a time that has passed.
      if (stepCall === undefined) succeed(undefined as T)
      else turn.steps.addCall(stepCall, entry)
    },
    onAwait === undefined ? undefined : () => call !== undefined && onAwait(call)
  )
}

type Branch = (step: StepClient) => unknown

/** Runs the branches of a call, each with steps of its own. */
const callBranches = (
  place: Place,
  entry: Function,
  name: string,
  branches: ReadonlyArray<Branch>,
  options: (ParallelOptions & Partial<WithSchema<unknown>>) | undefined,
  keys: typeof mapKeys | typeof parallelKeys
): Promise<Array<unknown>> =>
  callPromise((succeed, fail) => {
    const { scope, turn } = place
    const checkedName = checkCall(turn, rowlessCalls.parallel.naming, name)
    const { concurrency, failFast } = checkParallel(checkedName, branches, options, keys)
    const decoders = branches.map((_, index) =>
      decoderOf(options, `Result ${index} of "${checkedName}" of function "${turn.plan.functionId}"`)
    )
    const invalidIndex = branches.findIndex((branch) => typeof branch !== "function")
    if (invalidIndex >= 0) {
      throw new ValidationError(
        `Branch ${invalidIndex} of "${checkedName}" must be a function that takes a step client, such as (step) => step.run(...), ` +
          `got ${show(branches[invalidIndex])}`
      )
    }
    const begin = (index: number, branchScope: StepScope, end: (exit: BranchExit) => void): void =>
      callUserCode(
        () => branches[index]?.(promiseSteps(turn, branchScope)),
        (value) => end(branchExit(value, decoders[index])),
        (error) => end({ _tag: "Failure", error })
      )
    const call = {
      name: checkedName,
      count: branches.length,
      concurrency,
      failFast,
      begin,
      succeed: (exits: ReadonlyArray<BranchExit>) => succeed(exits.map(valueOrError)),
      fail: ({ error }: { readonly error: unknown }) => fail(error as Error)
    }
    runBranches(turn, scope, call, entry)
  })

const branchExit = (value: unknown, decoder: Decoder | undefined): BranchExit => {
  try {
    return { _tag: "Success", value: decodeWith(decoder, value) }
  } catch (error) {
    return { _tag: "Failure", error }
  }
}

const valueOrError = (exit: BranchExit): unknown =>
  exit._tag === "Success" ? exit.value : toError(exit.error)

/**
 * The steps of a turn, for its handler or for a branch. Each call is a named function, so that the line of the user's
 * code that calls it can be found in the stack. The types of arguments and results are in the interface.
 */
export const promiseSteps = (turn: TurnMachine, scope: StepScope): StepClient => {
  const place: Place = { api, turn, scope }
  const { functionId } = turn.plan
  const resultOf = (name: string): string => `Result of step "${name}" of function "${functionId}"`

  return {
    run: function run(
      name: string,
      fn: (context: StepRunContext) => unknown,
      options?: StepRunOptions & Partial<WithSchema<unknown>>
    ) {
      let decoder: Decoder | undefined
      return callStep(place, run, stepRows.run, name, {
        makeArguments: (checkedName) => {
          decoder = decoderOf(options, resultOf(checkedName))
          return { begin: promiseCode(turn, checkedName, fn, contextArgument, decoder), options }
        },
        convertResult: (value) => decodeWith(decoder, value)
      })
    } as StepClient["run"],

    tx: function tx(
      name: string,
      fn: (tx: Tx, context: StepRunContext) => unknown,
      options?: StepRunOptions & Partial<WithSchema<unknown>>
    ) {
      let decoder: Decoder | undefined
      return callStep(place, tx, stepRows.tx, name, {
        makeArguments: (checkedName) => {
          decoder = decoderOf(options, resultOf(checkedName))
          return { begin: promiseCode(turn, checkedName, fn, txArguments(checkedName), decoder), options }
        },
        convertResult: ({ value, writes }) => ({ value: decodeWith(decoder, value), writes })
      })
    } as StepClient["tx"],

    sleep: function sleep(name, duration) {
      return callStep(place, sleep, stepRows.sleep, name, { makeArguments: () => duration })
    },

    sleepUntil: function sleepUntil(name, until) {
      return callStep(place, sleepUntil, stepRows.sleepUntil, name, { makeArguments: () => until })
    },

    waitForEvent: function waitForEvent(
      name: string,
      filter: Omit<EventFilter, "event"> & { readonly event: unknown }
    ) {
      const definition = definitionOf(filter?.event)
      return callStep(place, waitForEvent, stepRows.waitForEvent, name, {
        makeArguments: () => filter,
        ...(definition === undefined
          ? {}
          : {
              convertResult: (event: IronflowEvent) => ({
                ...event,
                data: decodeAwaited(turn, definition, event, validate)
              })
            }),
        onAwait: (call) => call.scope.eventWaits?.see(call)
      })
    } as StepClient["waitForEvent"],

    invoke: function invoke(
      target: string | Invokable,
      input?: unknown,
      options?: InvokeOptions & Partial<WithSchema<unknown>>
    ) {
      let decoder: Decoder | undefined
      return callStep(place, invoke, stepRows.invoke, invokedId(target), {
        makeArguments: (id) => {
          decoder = decoderOf(
            { schema: options?.schema ?? declarationsOf(target).success },
            `Result of function "${id}", which function "${functionId}" has invoked,`
          )
          return { target, input, options }
        },
        convertResult: (value) => decodeWith(decoder, value)
      })
    } as StepClient["invoke"],

    invokeAsync: function invokeAsync(target: string | Invokable, input?: unknown) {
      return callStep(place, invokeAsync, stepRows.invokeAsync, invokedId(target), {
        makeArguments: () => ({ target, input })
      })
    } as StepClient["invokeAsync"],

    parallel: function parallel(name: string, branches: unknown, options?: ParallelOptions) {
      return callBranches(place, parallel, name, branches as ReadonlyArray<Branch>, options, parallelKeys)
    } as StepClient["parallel"],

    map: function map<T>(
      name: string,
      items: ReadonlyArray<T>,
      fn: (item: T, step: StepClient, index: number) => Promise<unknown>,
      options?: ParallelOptions & Partial<WithSchema<unknown>>
    ) {
      // `callBranches` refuses a value that is no list, and an `fn` that is no function
      const branches = Array.isArray(items)
        ? items.map((item: T, index) =>
            typeof fn === "function" ? (step: StepClient) => fn(item, step, index) : fn
          )
        : items
      return callBranches(place, map, name, branches as ReadonlyArray<Branch>, options, mapKeys)
    } as StepClient["map"],

    compensate: (stepName, fn) => {
      const name = checkCall(turn, rowlessCalls.compensate.naming, stepName)
      if (typeof fn !== "function") {
        throw new ValidationError(`The compensation of step "${name}" must be a function, got ${show(fn)}`)
      }
      const begin = promiseCode(turn, `compensate:${name}`, discardResult(fn), contextArgument)
      turn.compensate(name, compensationCode(turn.plan, begin))
    },

    publish: function publish(topic, data) {
      return callStep(place, publish, stepRows.publish, topic, { makeArguments: () => data })
    }
  }
}
