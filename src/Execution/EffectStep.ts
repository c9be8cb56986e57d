/**
 * Steps and turns of Effect handlers: each step is an effect that makes a step call and waits for its outcome. The
 * fiber of a step that is still suspended at the end of the turn never resumes.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import { sharedGetters } from "../SharedGetters.ts"
import { type RecordsCalls, recordCall } from "../CallSite.ts"
import { positiveDuration } from "../Duration.ts"
import { decodeFromJson } from "../EffectSchema.ts"
import {
  encodedFailure,
  InvokeError,
  NestedStepError,
  type SerializedError,
  UnsupportedError,
  ValidationError,
  withFailure
} from "../Errors.ts"
import type { EventDefinition, IronflowEvent } from "../Event.ts"
import { validationEffect } from "../EventEncoding.ts"
import { isEventTooNew } from "../EventVersions.ts"
import type { EffectFunction, EffectFunctionContext, RunInfo } from "../Function.ts"
import { checkName } from "../Limits.ts"
import { decodeResult } from "../ResultEncoding.ts"
import { createSecretsClient } from "../Secrets.ts"
import { validateData } from "../StandardSchema.ts"
import {
  type AnyBranch,
  type EffectEventFilter,
  effectInvokeKeys,
  type EffectInvokeOptions,
  effectRunKeys,
  type EffectRunOptions,
  type EffectTx,
  type Invokable,
  type ParallelOptions,
  type StepCallError,
  type StepDuration,
  type StepService
} from "../Step.ts"
import { type BranchExit, checkParallel, runBranches } from "./Branches.ts"
import { compensationCode } from "./Compensation.ts"
import {
  type CodeFiber,
  decode,
  decodeIfTyped,
  effectCode,
  withEncodedExit,
  rejectionOf,
  TypedFailure,
  withSteps
} from "./EffectCode.ts"
import { effectTx } from "./EffectTx.ts"
import { rememberCallSite } from "./FunctionPlan.ts"
import { handlerClock } from "./HandlerClock.ts"
import { withHandlerLogs } from "./HandlerLogs.ts"
import { refuseNested } from "./NestedSteps.ts"
import type { StepScope } from "./StepScope.ts"
import type { StepCall } from "./StepCall.ts"
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
import { decodeAwaited, storedError } from "./OutcomeDecoding.ts"
import type { TurnMachine } from "./TurnMachine.ts"
import { TxCollector } from "./Tx.ts"
import { show, showMs } from "../Show.ts"

/** The members of the handler's argument that are made on first use, since few handlers use them. */
const withParts = sharedGetters<TurnMachine, Pick<EffectFunctionContext<unknown>, "logger" | "secrets">>({
  logger: (turn) => turn.logger,
  secrets: (turn) => createSecretsClient(turn.job.secrets)
})

/**
 * Runs the handler's program, and tells the turn how the program ended. Returns a function that interrupts
 * the program.
 */
export const startEffectHandler = (
  fn: EffectFunction,
  turn: TurnMachine,
  event: IronflowEvent,
  run: RunInfo
): (() => void) => {
  const context = withParts({ event, run }, turn)
  const clock = handlerClock(Context.get(turn.host.context, Clock.Clock), (change) => turn.countSleep(change))
  const services = withHandlerLogs(turn, Context.add(turn.host.context, Clock.Clock, clock))
  const fiber = Effect.runForkWith(withSteps(services, effectSteps(turn, turn.steps.root)))(
    // the resources of the handler belong to this turn, and not to the worker
    Effect.scoped(
      Effect.suspend(() =>
        withEncodedExit(`function "${turn.plan.functionId}"`, fn.program(context), fn.config)
      )
    )
  )
  fiber.addObserver((exit) => {
    // the end of the turn has interrupted the handler
    if (turn.isOver) return
    if (Exit.isSuccess(exit)) {
      turn.handlerSucceeded(exit.value)
      return
    }
    const error = rejectionOf(exit.cause, `The handler of function "${turn.plan.functionId}"`)
    if (TypedFailure.is(error)) turn.handlerFailed(error.error, error.encoded)
    else turn.handlerFailed(error)
  })
  return () => fiber.interruptUnsafe()
}

/** What messages about invalid durations add: the durations of Effect. */
const EFFECT_DURATIONS = ', or a duration of Effect, like "5 minutes" or Duration.minutes(5)'

/** A duration in milliseconds. It may be given in the syntax of this package or of Effect. */
const durationMs = (duration: StepDuration, what: string): number => {
  if (typeof duration === "number" || (typeof duration === "string" && !duration.includes(" "))) {
    return positiveDuration(duration, what, EFFECT_DURATIONS)
  }
  const parsed = EffectDuration.fromInput(duration as EffectDuration.Input)
  // `positiveDuration` reports a value that is in neither syntax
  return positiveDuration(
    Option.isNone(parsed) ? String(duration) : EffectDuration.toMillis(parsed.value),
    what,
    EFFECT_DURATIONS
  )
}

const api: StepApi = {
  durationMs: (duration, what) => durationMs(duration as StepDuration, what),
  timeout: (timeout, what) => {
    const ms = durationMs(timeout as StepDuration, what)
    return { ms, text: typeof timeout === "string" ? timeout : showMs(ms) }
  },
  runKeys: effectRunKeys,
  invokeKeys: effectInvokeKeys
}

/**
 * Fails with the error of a call that is refused: invalid arguments, a call inside of a step, or an engine
 * without `step.tx`. Any other error here is a bug, and becomes a defect.
 */
const refuse = (error: unknown): Effect.Effect<never, StepCallError | UnsupportedError> =>
  error instanceof ValidationError || error instanceof NestedStepError || error instanceof UnsupportedError
    ? Effect.fail(error)
    : Effect.die(error)

interface StepCallParts<Given, Result> {
  /**
   * Makes the arguments for the row of `StepTable.ts` from the arguments of the call. If the step has code, the code
   * will run in the caller's context, and `fiber` receives the fiber of the code.
   */
  readonly makeArguments: (name: string, callersContext: Context.Context<never>, fiber: CodeFiber) => Given
  /** Converts the result of the row to the result for the handler. Absent when both results are the same. */
  readonly convertResult?: (result: Result, call: StepCall) => Effect.Effect<unknown, unknown>
  /**
   * Fails with the error for the handler. When this is absent or returns `undefined`, the handler receives the failure
   * of the row.
   */
  readonly convertFailure?: (
    error: SerializedError,
    call: StepCall
  ) => Effect.Effect<never, unknown> | undefined
}

/**
 * Makes the call that a row of `StepTable.ts` describes. The type of the result is in the interface of the
 * service.
 */
const callStep = <Given, Result>(
  place: Place,
  row: StepRow<Given, Result>,
  name: unknown,
  { convertFailure, convertResult, makeArguments }: StepCallParts<Given, Result>
): Effect.Effect<unknown, unknown> => {
  const { turn } = place
  return Effect.withFiber((caller) =>
    turn.isOver
      ? Effect.never
      : Effect.callback<unknown, unknown>((resume) => {
          try {
            refuseNested(caller.context, name)
            const checkedName = checkName(row.naming, name)
            const fiber: CodeFiber = { current: undefined }
            const args = makeArguments(checkedName, caller.context, fiber)
            const call = row.call(place, checkedName, args, (outcome) => {
              if (call === undefined) return
              if (outcome._tag === "Failure") {
                const { error } = outcome
                resume(convertFailure?.(error, call) ?? Effect.fail(failureOf(row, turn, call, error)))
                return
              }
              let value: unknown
              try {
                value = decodeResult(outcome.value)
              } catch (error) {
                turn.pauseForDamage(call, error)
                return
              }
              // The outcome is read in an effect of the handler. So an upcaster that throws is a defect of the handler,
              // and not of the turn.
              resume(
                Effect.suspend(() => {
                  const result = row.read(turn, value)
                  return convertResult === undefined ? Effect.succeed(result) : convertResult(result, call)
                })
              )
            })
            if (call === undefined) {
              resume(Effect.void)
              return
            }
            turn.steps.addCall(call, callStep)
            return Effect.suspend(() => {
              turn.steps.withdraw(call)
              return fiber.current === undefined ? Effect.void : Effect.asVoid(Fiber.await(fiber.current))
            })
          } catch (error) {
            resume(refuse(error))
            return
          }
        })
  )
}

/** The fibers of the branches of one call. */
class BranchFibers {
  readonly #running = new Set<Fiber.Fiber<unknown, unknown>>()

  start(
    context: Context.Context<unknown>,
    branch: AnyBranch,
    onEnd: (exit: Exit.Exit<unknown, unknown>) => void
  ): void {
    const fiber = Effect.runForkWith(context)(branch)
    this.#running.add(fiber)
    fiber.addObserver((exit) => {
      this.#running.delete(fiber)
      onEnd(exit)
    })
  }

  /** Interrupts the fibers that still run, and awaits their ends. */
  stop(): Effect.Effect<void> {
    const fibers = [...this.#running]
    for (const fiber of fibers) fiber.interruptUnsafe()
    return fibers.some((fiber) => fiber.pollUnsafe() === undefined)
      ? Effect.asVoid(Fiber.awaitAll(fibers))
      : Effect.void
  }
}

/** Runs the branches of a call, each with steps of its own. */
const callBranches = (
  { scope, turn }: Place,
  name: string,
  items: unknown,
  branch: (index: number) => AnyBranch,
  options: ParallelOptions | undefined
): Effect.Effect<Array<unknown>, unknown> =>
  Effect.withFiber((caller) =>
    turn.isOver
      ? Effect.never
      : Effect.callback<Array<unknown>, unknown>((resume) => {
          const fibers = new BranchFibers()
          try {
            refuseNested(caller.context, name)
            const checkedName = checkName(rowlessCalls.parallel.naming, name)
            const { concurrency, failFast } = checkParallel(checkedName, items, options)
            const begin = (index: number, branchScope: StepScope, end: (exit: BranchExit) => void): void => {
              const context = withSteps(caller.context, effectSteps(turn, branchScope))
              const program = Effect.suspend(() => branch(index))
              fibers.start(context, program, (exit) => end(branchExit(exit, name)))
            }
            const call = {
              name: checkedName,
              count: (items as ReadonlyArray<unknown>).length,
              concurrency,
              failFast,
              begin,
              succeed: (exits: ReadonlyArray<BranchExit>) => resume(valuesOf(exits)),
              fail: (failure: FailedBranch) => resume(Effect.andThen(fibers.stop(), failureIn(failure)))
            }
            const cancel = runBranches(turn, scope, call, callBranches)
            return Effect.suspend(() => {
              cancel()
              return fibers.stop()
            })
          } catch (error) {
            resume(refuse(error))
            return
          }
        })
  )

const branchExit = (exit: Exit.Exit<unknown, unknown>, name: string): BranchExit =>
  Exit.isSuccess(exit)
    ? { _tag: "Success", value: exit.value }
    : { _tag: "Failure", error: rejectionOf(exit.cause, `A branch of "${name}"`), cause: exit.cause }

type FailedBranch = Extract<BranchExit, { readonly _tag: "Failure" }>

const failureIn = ({ cause, error }: FailedBranch): Effect.Effect<never, unknown> =>
  Cause.isCause(cause) ? Effect.failCause(cause) : Effect.fail(error)

/** The values and typed failures of the branches, in order. A defect or an interruption fails the call. */
const valuesOf = (exits: ReadonlyArray<BranchExit>): Effect.Effect<Array<unknown>, unknown> => {
  const values: Array<unknown> = []
  for (const exit of exits) {
    if (exit._tag === "Success") values.push(exit.value)
    else if (Cause.isCause(exit.cause) && !Cause.hasFails(exit.cause)) return failureIn(exit)
    else values.push(exit.error)
  }
  return Effect.succeed(values)
}

/** Names a step in messages. */
const stepLabel = (turn: TurnMachine, name: string): string =>
  `step "${name}" of function "${turn.plan.functionId}"`
/** Names an invoked function in messages. */
const invokedLabel = (turn: TurnMachine, id: string): string =>
  `function "${id}", which function "${turn.plan.functionId}" has invoked,`

/**
 * Fails with the step's failure, decoded by its `error` schema; `undefined` without such a schema, or when the stored
 * failure did not fit it.
 */
const typedFailure = (
  turn: TurnMachine,
  name: string,
  schema: Schema.Codec<unknown, unknown> | undefined,
  error: SerializedError
): Effect.Effect<never, unknown> | undefined =>
  schema === undefined || error.data === undefined || !(encodedFailure in error.data)
    ? undefined
    : Effect.flatMap(
        decode(schema, error.data[encodedFailure], `Failure of ${stepLabel(turn, name)}`),
        (failure) => {
          turn.stepFailedWith(failure)
          return Effect.fail(failure)
        }
      )

/**
 * Fails with the error of an invocation. The error has the failure of the function as `failure`, if that failure fits
 * the schema. Fails with `SchemaValidationError` instead for a failure that was encoded and does not fit.
 */
const failedInvocation = (
  turn: TurnMachine,
  call: StepCall,
  schema: Schema.Codec<unknown, unknown> | undefined,
  error: SerializedError
): Effect.Effect<never, unknown> => {
  const restoredError = storedError(turn, call, error)
  if (schema === undefined || !(restoredError instanceof InvokeError)) return Effect.fail(restoredError)
  const fail = (failure: unknown) => Effect.fail(withFailure(restoredError, failure))
  if (error.data !== undefined && encodedFailure in error.data) {
    const what = `Failure of ${invokedLabel(turn, call.name)}`
    return Effect.flatMap(decode(schema, error.data[encodedFailure], what), fail)
  }
  // There is no encoded failure when the function has no `error` schema, when the error did not fit that schema, or
  // when a test stub failed in place of the function. The fields of the error may fit the caller's schema all the same.
  const fields = error.cause?.data
  if (fields === undefined) return Effect.fail(restoredError)
  return Effect.matchEffect(decodeFromJson(schema, fields), {
    onSuccess: fail,
    onFailure: () => Effect.fail(restoredError)
  })
}

/** The steps of a turn, for its handler or for a branch. */
export const effectSteps = (turn: TurnMachine, scope: StepScope): StepService => {
  const place: Place = { api, turn, scope }

  // The type of the service checks the arguments of each call; here one implementation handles all of them.
  const service: { readonly [K in keyof StepService]: unknown } & RecordsCalls = {
    [recordCall]: (kind, name, entry) => rememberCallSite(turn.plan, kind, name, entry),

    run: <A, E, R, F>(name: string, effect: Effect.Effect<A, E, R>, options: EffectRunOptions<A, F> = {}) =>
      callStep(place, stepRows.run, name, {
        makeArguments: (checkedName, context, fiber) => {
          if (!Effect.isEffect(effect)) {
            throw new ValidationError(`Step "${checkedName}" needs an Effect to run, got ${show(effect)}`)
          }
          const program = withEncodedExit(stepLabel(turn, checkedName), effect, options)
          return { begin: effectCode(checkedName, context, () => program, fiber), options }
        },
        convertResult: (value) => decodeIfTyped(options.success, value, `Result of ${stepLabel(turn, name)}`),
        convertFailure: (error) => typedFailure(turn, name, options.error, error)
      }),

    tx: <A, E, R, F>(
      name: string,
      body: (tx: EffectTx) => Effect.Effect<A, E, R>,
      options: EffectRunOptions<A, F> = {}
    ) =>
      callStep(place, stepRows.tx, name, {
        makeArguments: (checkedName, context, fiber) => {
          if (typeof body !== "function") {
            throw new ValidationError(
              `Step "${checkedName}" needs a function that takes a transaction and returns an Effect, got ${show(body)}`
            )
          }
          const begin = effectCode(
            checkedName,
            context,
            (attempt) => {
              const collector = (attempt.tx = new TxCollector(checkedName))
              return withEncodedExit(stepLabel(turn, checkedName), body(effectTx(collector)), options)
            },
            fiber
          )
          return { begin, options }
        },
        convertResult: ({ value, writes }) =>
          Effect.map(
            decodeIfTyped(options.success, value, `Result of ${stepLabel(turn, name)}`),
            (result) => ({
              value: result,
              writes
            })
          ),
        convertFailure: (error) => typedFailure(turn, name, options.error, error)
      }),

    sleep: (name: string, duration: StepDuration) =>
      callStep(place, stepRows.sleep, name, { makeArguments: () => duration }),

    sleepUntil: (name: string, until: Date | string) =>
      callStep(place, stepRows.sleepUntil, name, { makeArguments: () => until }),

    waitForEvent: (name: string, filter: EffectEventFilter<string | EventDefinition>) => {
      const definition = definitionOf(filter?.event)
      return callStep(place, stepRows.waitForEvent, name, {
        makeArguments: () => filter,
        ...(definition === undefined
          ? {}
          : {
              convertResult: (event: IronflowEvent, call: StepCall) =>
                validationEffect(() => decodeAwaited(turn, definition, event, validateData)).pipe(
                  Effect.map((data): IronflowEvent => ({ ...event, data })),
                  Effect.catchIf(isEventTooNew, (error) => {
                    turn.pauseForNewEvent(error, call)
                    return Effect.never
                  })
                )
            })
      })
    },

    invoke: (
      target: string | Invokable,
      input?: unknown,
      options: EffectInvokeOptions<unknown, unknown> = {}
    ) => {
      const declarations = declarationsOf(target)
      const { error: errorSchema = declarations.error, success = declarations.success } = options
      return callStep(place, stepRows.invoke, invokedId(target), {
        makeArguments: () => ({ target, input, options }),
        convertResult: (value, { name }) =>
          decodeIfTyped(success, value, `Result of ${invokedLabel(turn, name)}`),
        convertFailure: (error, call) => failedInvocation(turn, call, errorSchema, error)
      })
    },

    invokeAsync: (target: string | Invokable, input?: unknown) =>
      callStep(place, stepRows.invokeAsync, invokedId(target), { makeArguments: () => ({ target, input }) }),

    parallel: (name: string, effects: ReadonlyArray<AnyBranch>, options?: ParallelOptions) =>
      callBranches(place, name, effects, (index) => effects[index] ?? Effect.void, options),

    map: <T>(
      name: string,
      items: ReadonlyArray<T>,
      fn: (item: T, index: number) => AnyBranch,
      options?: ParallelOptions
    ) => callBranches(place, name, items, (index) => fn(items[index] as T, index), options),

    compensate: <A, E, R>(stepName: string, effect: Effect.Effect<A, E, R>) =>
      Effect.withFiber((fiber) => {
        try {
          refuseNested(fiber.context, stepName)
          const name = checkName(rowlessCalls.compensate.naming, stepName)
          if (!Effect.isEffect(effect)) {
            throw new ValidationError(
              `The compensation of step "${name}" must be an Effect, got ${show(effect)}`
            )
          }
          // the result of a compensation is ignored, so it need not be JSON
          const program = Effect.asVoid(effect)
          const begin = effectCode(`compensate:${name}`, fiber.context, () => program)
          turn.compensate(name, compensationCode(turn.plan, begin))
          return Effect.void
        } catch (error) {
          return refuse(error)
        }
      }),

    publish: (topic: string, data: unknown) =>
      callStep(place, stepRows.publish, topic, { makeArguments: () => data })
  }
  return service as StepService
}
