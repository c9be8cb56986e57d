/** Steps and turns of Effect handlers: effects over the turn's calls. A suspended step's fiber does not resume. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { positiveDuration } from "../Duration.ts"
import { asStandard, decodeFromJson, encodeToJson } from "../EffectSchema.ts"
import {
  encodedFailure,
  InvalidStateError,
  InvokeError,
  IronflowError,
  NestedStepError,
  SchemaValidationError,
  type SerializedError,
  ValidationError,
  type WaitTimeoutError,
  withFailure
} from "../Errors.ts"
import { encodeInput } from "../EventData.ts"
import { type EventDefinition, eventNameOf, type IronflowEvent, isEventDefinition } from "../Event.ts"
import type { EffectFunction, EffectFunctionDeclarations, RunInfo } from "../Function.ts"
import { checkName } from "../Limits.ts"
import { checkKeys } from "../OptionKeys.ts"
import type { Outcome } from "../Protocol/Worker.ts"
import { decodeResult } from "../Result.ts"
import { createSecretsClient } from "../Secrets.ts"
import { fromValidation } from "../EventEncoding.ts"
import { validateData } from "../StandardSchema.ts"
import {
  effectInvokeKeys,
  effectRunKeys,
  waitKeys,
  type AnyBranch,
  type EffectEventFilter,
  type EffectInvokeOptions,
  type EffectRunOptions,
  type EffectTx,
  type Invokable,
  type ParallelOptions,
  Step,
  StepAttempt,
  type StepCallError,
  type StepDuration,
  type StepService
} from "../Step.ts"
import type { Attempt, AttemptExit } from "./Attempt.ts"
import { type BranchExit, runBranches } from "./Branches.ts"
import { handlerClock } from "./HandlerClock.ts"
import type { Scope } from "./Scope.ts"
import type { StepCall } from "./StepCall.ts"
import {
  checkParallel,
  compensationCode,
  defaultInvokeMs,
  defaultWaitMs,
  invokeAsyncCall,
  invokeCall,
  invokedId,
  publishCall,
  readEvent,
  readTx,
  runCall,
  sleepCall,
  sleepUntilCall,
  stepCode,
  stepError,
  storedError,
  txCall,
  waitCall
} from "./StepCalls.ts"
import { rememberCallSite } from "./FunctionPlan.ts"
import { type CalledFrom, calledFrom } from "../CallSite.ts"
import type { TurnMachine } from "./TurnMachine.ts"
import { checkTransactions, TxCollector } from "./Tx.ts"

/** Runs the handler's program, tells the turn how it ended, and returns how to interrupt it. */
export const startEffectHandler = (
  fn: EffectFunction,
  turn: TurnMachine,
  event: IronflowEvent,
  run: RunInfo
): (() => void) => {
  const context = {
    event,
    run,
    get logger() {
      return turn.logger
    },
    get secrets() {
      return createSecretsClient(turn.job.secrets)
    }
  }
  const clock = handlerClock(Context.get(turn.host.context, Clock.Clock), (change) =>
    turn.sleepsOutsideOfSteps(change)
  )
  const services = Context.add(turn.host.context, Clock.Clock, clock)
  const fiber = Effect.runForkWith(withSteps(services, effectSteps(turn, turn.root)))(
    // what the handler acquires belongs to this turn, and not to the worker
    Effect.scoped(
      Effect.suspend(() => encoded(`function "${turn.plan.functionId}"`, fn.program(context), fn.config))
    )
  )
  fiber.addObserver((exit) => {
    // The end of a turn interrupts its handler.
    if (turn.isOver) return
    if (Exit.isSuccess(exit)) {
      turn.succeeded(exit.value)
      return
    }
    const error = thrownBy(exit.cause, `The handler of function "${turn.plan.functionId}"`)
    if (TypedFailure.is(error)) turn.failed(error.error, error.encoded)
    else turn.failed(error)
  })
  return () => fiber.interruptUnsafe()
}

/**
 * A program's requirements are in the types up to the worker's layer; at run time they are in the context that the
 * worker captured, so nothing is missing.
 */
const withSteps = (context: Context.Context<never>, steps: StepService): Context.Context<unknown> =>
  Context.add(context, Step, steps) as Context.Context<unknown>

const thrownBy = (cause: Cause.Cause<unknown>, what: string): unknown => {
  if (Cause.hasInterruptsOnly(cause)) {
    return new IronflowError(`${what} was interrupted from within`, { code: "INTERRUPTED", retryable: true })
  }
  const error = Cause.squash(cause)
  addFrames(error, cause)
  return error
}

/** Effects have named places of their own (`Effect.fn`, `Effect.withSpan`), which the stack of the error knows nothing of. */
const addFrames = (error: unknown, cause: Cause.Cause<unknown>): void => {
  try {
    if (!(error instanceof Error)) return
    const stack = typeof error.stack === "string" ? error.stack : `${error.name}: ${error.message}`
    const frames = Cause.prettyErrors(cause)
      .slice(0, 1)
      .flatMap((pretty) => pretty.stack?.split("\n") ?? [])
      .filter((line) => /^\s+at /.test(line) && !stack.includes(line))
    // a frozen error keeps the stack that it has
    if (frames.length > 0) Reflect.set(error, "stack", [stack, ...frames].join("\n"))
  } catch {
    // and so does one that throws when it is looked at
  }
}

/** A failure that fits the step's `error` schema, as that stores it. */
class TypedFailure {
  readonly error: unknown
  readonly #encoded: unknown

  constructor(error: unknown, encoded: unknown) {
    this.error = error
    this.#encoded = encoded
  }

  get encoded(): unknown {
    return this.#encoded
  }

  /** Unlike `instanceof`, this runs no code of the value. */
  static is(value: unknown): value is TypedFailure {
    return typeof value === "object" && value !== null && #encoded in value
  }
}

const encode = (schema: Schema.Codec<unknown, unknown>, value: unknown, what: string) =>
  Effect.mapError(
    encodeToJson(schema, value),
    (error) =>
      new SchemaValidationError(`${what} does not fit its schema: ${error.message}`, { cause: error })
  )

const decode = <A>(schema: Schema.Codec<A, unknown>, value: unknown, what: string) =>
  Effect.mapError(
    decodeFromJson(schema, value),
    (error) =>
      new SchemaValidationError(`${what} does not fit its schema: ${error.message}`, { cause: error })
  )

/** The event with its data as the definition's schema decodes it. */
const decodeEvent = (
  definition: EventDefinition | undefined,
  event: IronflowEvent
): Effect.Effect<IronflowEvent, ValidationError> => {
  if (definition?.schema === undefined) return Effect.succeed(event)
  const standard = asStandard(definition.schema)
  return Effect.map(
    fromValidation(() => validateData(standard, event.data, `Data of event "${event.name}"`)),
    (data) => ({ ...event, data })
  )
}

/** The effect with its result, and those of its failures that fit, as the schemas store them. `of` is whose they are. */
const encoded = <A, E, R, S, F>(
  of: string,
  effect: Effect.Effect<A, E, R>,
  { error, success }: Pick<EffectRunOptions<S, F>, "success" | "error">
): Effect.Effect<unknown, unknown, R> => {
  let program: Effect.Effect<unknown, unknown, R> = effect
  if (error !== undefined) {
    const fits = Schema.is(error)
    program = Effect.catch(program, (failure) =>
      fits(failure)
        ? Effect.flatMap(encode(error, failure, `Failure of ${of}`), (stored) =>
            Effect.fail(new TypedFailure(failure, stored))
          )
        : Effect.fail(failure)
    )
  }
  return success === undefined
    ? program
    : Effect.flatMap(program, (value) => encode(success, value, `Result of ${of}`))
}

/** How an effect runs as the code of a step: in its caller's context, but without steps. */
class EffectCode {
  readonly #name: string
  readonly #context: Context.Context<unknown>
  readonly #program: (attempt: Attempt) => Effect.Effect<unknown, unknown, unknown>
  fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined

  constructor(
    name: string,
    callersContext: Context.Context<never>,
    program: (attempt: Attempt) => Effect.Effect<unknown, unknown, unknown>
  ) {
    this.#name = name
    this.#context = withSteps(callersContext, new NestedSteps(name))
    this.#program = program
  }

  readonly begin = (attempt: Attempt): void => {
    const fiber = Effect.runForkWith(Context.add(this.#context, StepAttempt, attempt.context))(
      Effect.suspend(() => this.#program(attempt))
    )
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) {
      attempt.end(this.#exit(attempt, exit))
      return
    }
    this.fiber = fiber
    attempt.interrupt = () => fiber.interruptUnsafe()
    fiber.addObserver((later) => attempt.end(this.#exit(attempt, later)))
    if (attempt.abortReason !== undefined) fiber.interruptUnsafe()
  }

  #exit(attempt: Attempt, exit: Exit.Exit<unknown, unknown>): AttemptExit {
    if (Exit.isSuccess(exit)) return { _tag: "Success", value: exit.value }
    if (attempt.abortReason !== undefined && Cause.hasInterruptsOnly(exit.cause)) {
      return { _tag: "Failure", error: attempt.abortReason }
    }
    const error = thrownBy(exit.cause, `The effect of step "${this.#name}"`)
    return TypedFailure.is(error)
      ? { _tag: "Failure", error: error.error, encoded: error.encoded }
      : { _tag: "Failure", error }
  }
}

/** Milliseconds of a duration in our grammar or in Effect's. */
const durationMs = (duration: StepDuration, what: string): number => {
  if (typeof duration === "number" || (typeof duration === "string" && !duration.includes(" "))) {
    return positiveDuration(duration, what)
  }
  const parsed = EffectDuration.fromInput(duration as EffectDuration.Input)
  // What is neither, our own check names with both the value and the grammar.
  return positiveDuration(
    Option.isNone(parsed) ? String(duration) : EffectDuration.toMillis(parsed.value),
    what
  )
}

/** Arguments that are not acceptable are failures; anything else that is thrown here is a bug. */
const refused = (error: unknown): Effect.Effect<never, StepCallError> =>
  error instanceof ValidationError || error instanceof NestedStepError
    ? Effect.fail(error)
    : Effect.die(error)

/** A handler's own service may have found its way into the body of a step, where it is as useless as the body's. */
const refuseNested = (callersContext: Context.Context<never>, name: unknown): void => {
  const steps = Option.getOrUndefined(Context.getOption(callersContext, Step))
  if (steps instanceof NestedSteps) throw steps.refusal(String(name))
}

/** The steps of a handler, or of a branch, of a turn. */
export const effectSteps = (turn: TurnMachine, scope: Scope): StepService => {
  /** `makeCall` returns nothing when there is nothing to wait for. */
  const ask = <A, E>(
    kind: string,
    name: unknown,
    makeCall: (
      name: string,
      receive: (outcome: Outcome) => void,
      callersContext: Context.Context<never>
    ) => { readonly call: StepCall; readonly code?: EffectCode } | undefined,
    read: (value: unknown, call: StepCall) => Effect.Effect<A, ValidationError>,
    readFailure: (error: SerializedError, call: StepCall) => Effect.Effect<never, E | ValidationError>
  ): Effect.Effect<A, E | StepCallError> =>
    Effect.withFiber((fiber) =>
      turn.isOver
        ? Effect.never
        : Effect.callback<A, E | StepCallError>((resume) => {
            try {
              refuseNested(fiber.context, name)
              const made = makeCall(
                checkName(kind, name),
                (outcome) => {
                  if (made === undefined) return
                  if (outcome._tag === "Failure") {
                    resume(readFailure(outcome.error, made.call))
                    return
                  }
                  let value: unknown
                  try {
                    value = decodeResult(outcome.value)
                  } catch (error) {
                    turn.pauseForDamage(made.call, error)
                    return
                  }
                  // An upcaster that throws is the handler's defect, not the turn's.
                  resume(Effect.suspend(() => read(value, made.call)))
                },
                fiber.context
              )
              if (made === undefined) {
                resume(Effect.void as Effect.Effect<A>)
                return
              }
              turn.ask(made.call, ask)
              return Effect.suspend(() => {
                turn.withdraw(made.call)
                const running = made.code?.fiber
                return running === undefined ? Effect.void : Effect.asVoid(Fiber.await(running))
              })
            } catch (error) {
              resume(refused(error))
              return
            }
          })
    )

  /** A step in messages. */
  const stepOf = (name: string): string => `step "${name}" of function "${turn.plan.functionId}"`

  const stored = <E extends Error>(error: SerializedError, call: StepCall): Effect.Effect<never, E> =>
    // The engine stores the error of its kind of step, which comes back as its class.
    Effect.fail(storedError(turn, call, error) as E)

  const failedStep = (error: SerializedError, call: StepCall) => Effect.fail(stepError(turn, call, error))

  /** A failure that was stored by the step's schema comes back as it was. */
  const typedFailure =
    <F>(name: string, schema: Schema.Codec<F, unknown> | undefined) =>
    (error: SerializedError, call: StepCall): Effect.Effect<never, unknown> =>
      schema === undefined || error.data === undefined || !(encodedFailure in error.data)
        ? failedStep(error, call)
        : Effect.flatMap(
            decode(schema, error.data[encodedFailure], `Failure of ${stepOf(name)}`),
            (failure) => {
              turn.stepFailedWith(failure)
              return Effect.fail(failure)
            }
          )

  /** The error of an invocation, with what the function failed with if that fits. */
  const failedInvocation = (
    error: SerializedError,
    call: StepCall,
    schema: Schema.Codec<unknown, unknown> | undefined
  ): Effect.Effect<never, unknown> => {
    const told = storedError(turn, call, error)
    if (schema === undefined || !(told instanceof InvokeError)) return Effect.fail(told)
    const fail = (failure: unknown) => Effect.fail(withFailure(told, failure))
    if (error.data !== undefined && encodedFailure in error.data) {
      const what = `Failure of function "${call.name}", which function "${turn.plan.functionId}" has invoked,`
      return Effect.flatMap(decode(schema, error.data[encodedFailure], what), fail)
    }
    // The function has another schema or none, or a stand-in failed in its place: the fields of its error may fit.
    const fields = error.cause?.data
    if (fields === undefined) return Effect.fail(told)
    return Effect.matchEffect(decodeFromJson(schema, fields), {
      onSuccess: fail,
      onFailure: () => Effect.fail(told)
    })
  }

  const asIs = <A>(value: unknown): Effect.Effect<A> => Effect.succeed(value as A)

  const branches = (
    name: string,
    items: unknown,
    branch: (index: number) => AnyBranch,
    options: ParallelOptions | undefined
  ): Effect.Effect<Array<unknown>, unknown> =>
    Effect.withFiber((fiber) =>
      turn.isOver
        ? Effect.never
        : Effect.callback<Array<unknown>, unknown>((resume) => {
            const running = new Set<Fiber.Fiber<unknown, unknown>>()
            const stopRunning = (): Effect.Effect<void> => {
              const fibers = [...running]
              for (const branchFiber of fibers) branchFiber.interruptUnsafe()
              return fibers.some((branchFiber) => branchFiber.pollUnsafe() === undefined)
                ? Effect.asVoid(Fiber.awaitAll(fibers))
                : Effect.void
            }
            const begin = (index: number, branchScope: Scope, end: (exit: BranchExit) => void): void => {
              const branchFiber = Effect.runForkWith(
                withSteps(fiber.context, effectSteps(turn, branchScope))
              )(Effect.suspend(() => branch(index)))
              running.add(branchFiber)
              branchFiber.addObserver((exit) => {
                running.delete(branchFiber)
                end(branchExit(exit, name))
              })
            }
            try {
              refuseNested(fiber.context, name)
              const checked = checkName("name of the parallel call", name)
              const { concurrency, failFast } = checkParallel(checked, items, options)
              const cancel = runBranches(
                turn,
                scope,
                {
                  name: checked,
                  count: (items as ReadonlyArray<unknown>).length,
                  concurrency,
                  failFast,
                  begin,
                  succeed: (exits) => resume(results(exits)),
                  fail: (failure) => resume(Effect.andThen(stopRunning(), failureOf(failure)))
                },
                branches
              )
              return Effect.suspend(() => {
                cancel()
                return stopRunning()
              })
            } catch (error) {
              resume(refused(error))
              return
            }
          })
    )

  // The interface gives every call the types of its arguments; what is below is the same for all of them.
  const service: { readonly [K in keyof StepService]: unknown } & CalledFrom = {
    [calledFrom]: (kind, name, entry) => rememberCallSite(turn.plan, kind, name, entry),
    run: <A, E, R, F>(name: string, effect: Effect.Effect<A, E, R>, options: EffectRunOptions<A, F> = {}) => {
      const { error: errorSchema, success } = options
      return ask(
        "step name",
        name,
        (checked, receive, callersContext) => {
          if (!Effect.isEffect(effect)) throw new ValidationError(`Step "${checked}" needs an effect to run`)
          checkKeys(options, effectRunKeys, `Step "${checked}"`)
          const timeout =
            options.timeout === undefined
              ? undefined
              : stepTimeout(options.timeout, `timeout of step "${checked}"`)
          const program = encoded(stepOf(checked), effect, options)
          const code = new EffectCode(checked, callersContext, () => program)
          return {
            call: runCall(
              scope,
              checked,
              stepCode(turn, checked, code.begin, timeout, options.retry),
              receive
            ),
            code
          }
        },
        (value) =>
          success === undefined ? asIs(value) : decode(success, value, `Result of ${stepOf(name)}`),
        typedFailure(name, errorSchema)
      )
    },

    tx: <A, E, R, F>(
      name: string,
      body: (tx: EffectTx) => Effect.Effect<A, E, R>,
      options: EffectRunOptions<A, F> = {}
    ) => {
      const { error: errorSchema, success } = options
      return ask(
        "step name",
        name,
        (checked, receive, callersContext) => {
          if (typeof body !== "function") {
            throw new ValidationError(`Step "${checked}" needs a function from its transaction to an effect`)
          }
          checkTransactions(turn, checked)
          checkKeys(options, effectRunKeys, `Step "${checked}"`)
          const timeout =
            options.timeout === undefined
              ? undefined
              : stepTimeout(options.timeout, `timeout of step "${checked}"`)
          const code = new EffectCode(checked, callersContext, (attempt) => {
            const collector = (attempt.tx = new TxCollector(checked))
            return encoded(stepOf(checked), body(effectTx(collector)), options)
          })
          return {
            call: txCall(
              scope,
              checked,
              stepCode(turn, checked, code.begin, timeout, options.retry),
              receive
            ),
            code
          }
        },
        (stored) => {
          const { value, writes } = readTx(stored)
          return Effect.map(
            success === undefined
              ? asIs<unknown>(value)
              : decode(success, value, `Result of ${stepOf(name)}`),
            (decoded) => ({ value: decoded, writes })
          )
        },
        typedFailure(name, errorSchema)
      )
    },

    sleep: (name: string, duration: StepDuration) =>
      ask(
        "step name",
        name,
        (checked, receive) => {
          const ms = durationMs(duration, `duration of step "${checked}"`)
          return { call: sleepCall(scope, checked, ms, receive) }
        },
        () => Effect.void,
        stored
      ),

    sleepUntil: (name: string, until: Date | string) =>
      ask(
        "step name",
        name,
        (checked, receive) => {
          const call = sleepUntilCall(turn, scope, checked, until, receive)
          return call === undefined ? undefined : { call }
        },
        () => Effect.void,
        stored
      ),

    waitForEvent: (name: string, filter: EffectEventFilter<string | EventDefinition>) => {
      const definition = isEventDefinition(filter?.event) ? filter.event : undefined
      return ask(
        "step name",
        name,
        (checked, receive) => {
          checkKeys(filter, waitKeys, `Step "${checked}"`)
          const call = waitCall(
            scope,
            checked,
            {
              event: filter === undefined ? undefined : eventNameOf(filter.event),
              match: filter?.match,
              timeoutMs:
                filter?.timeout === undefined
                  ? defaultWaitMs
                  : durationMs(filter.timeout, `timeout of step "${checked}"`)
            },
            receive
          )
          return { call }
        },
        (value): Effect.Effect<IronflowEvent, ValidationError> =>
          decodeEvent(definition, readEvent(turn, value)),
        stored<WaitTimeoutError>
      )
    },

    invoke: (
      target: string | Invokable,
      input?: unknown,
      options: EffectInvokeOptions<unknown, unknown> = {}
    ) => {
      const declared = declarationsOf(target)
      const { error: errorSchema = declared.error, success = declared.success } = options
      return ask(
        "id of the invoked function",
        idOf(target),
        (functionId, receive) => {
          checkKeys(options, effectInvokeKeys, `Step "${functionId}"`)
          const timeoutMs =
            options.timeout === undefined
              ? defaultInvokeMs
              : durationMs(options.timeout, `timeout of invoked function "${functionId}"`)
          return { call: invokeCall(scope, functionId, encodeInput(target, input), timeoutMs, receive) }
        },
        (value, { name }) =>
          success === undefined
            ? asIs<unknown>(value)
            : decode(
                success,
                value,
                `Result of function "${name}", which function "${turn.plan.functionId}" has invoked,`
              ),
        (error, call) => failedInvocation(error, call, errorSchema)
      )
    },

    invokeAsync: (target: string | Invokable, input?: unknown) =>
      ask(
        "id of the invoked function",
        idOf(target),
        (functionId, receive) => ({
          call: invokeAsyncCall(scope, functionId, encodeInput(target, input), receive)
        }),
        asIs,
        stored<InvokeError>
      ),

    parallel: (name: string, effects: ReadonlyArray<AnyBranch>, options?: ParallelOptions) =>
      branches(name, effects, (index) => effects[index] ?? Effect.void, options),

    map: <T>(
      name: string,
      items: ReadonlyArray<T>,
      fn: (item: T, index: number) => AnyBranch,
      options?: ParallelOptions
    ) => branches(name, items, (index) => fn(items[index] as T, index), options),

    compensate: <A, E, R>(stepName: string, effect: Effect.Effect<A, E, R>) =>
      Effect.withFiber((fiber) => {
        try {
          refuseNested(fiber.context, stepName)
          const name = checkName("name of the compensated step", stepName)
          if (!Effect.isEffect(effect)) {
            throw new ValidationError(`The compensation of step "${name}" must be an effect`)
          }
          // What undoing returns is of no interest, and need not be something that JSON can carry.
          const program = Effect.asVoid(effect)
          const code = new EffectCode(`compensate:${name}`, fiber.context, () => program)
          turn.compensate(name, compensationCode(turn, code.begin))
          return Effect.void
        } catch (error) {
          return refused(error)
        }
      }),

    publish: (topic: string, data: unknown) =>
      ask(
        "topic",
        topic,
        (checked, receive) => ({ call: publishCall(scope, checked, data, receive) }),
        asIs,
        failedStep
      )
  }
  return service as StepService
}

const stepTimeout = (duration: StepDuration, what: string) => {
  const ms = durationMs(duration, what)
  return { ms, text: typeof duration === "string" ? duration : `${ms}ms` }
}

const idOf = (target: string | Invokable): unknown =>
  typeof target === "string" ? target : invokedId(target)

/** What an invoked function says of its result and its failures. */
const declarationsOf = (target: string | Invokable): EffectFunctionDeclarations<unknown, unknown> =>
  typeof target === "object" && target !== null && "program" in target
    ? // a function with a program is what `IronflowFunction.make` returned, which has checked them
      (target.config as EffectFunctionDeclarations<unknown, unknown>)
    : {}

const branchExit = (exit: Exit.Exit<unknown, unknown>, name: string): BranchExit =>
  Exit.isSuccess(exit)
    ? { _tag: "Success", value: exit.value }
    : { _tag: "Failure", error: thrownBy(exit.cause, `A branch of "${name}"`), cause: exit.cause }

const failureOf = ({
  cause,
  error
}: {
  readonly error: unknown
  readonly cause?: unknown
}): Effect.Effect<never, unknown> => (Cause.isCause(cause) ? Effect.failCause(cause) : Effect.fail(error))

/** Values and typed failures in their places; a defect is nobody's result. */
const results = (exits: ReadonlyArray<BranchExit>): Effect.Effect<Array<unknown>, unknown> => {
  const values: Array<unknown> = []
  for (const exit of exits) {
    if (exit._tag === "Success") values.push(exit.value)
    else if (Cause.isCause(exit.cause) && !Cause.hasFails(exit.cause)) return failureOf(exit)
    else values.push(exit.error)
  }
  return Effect.succeed(values)
}

/** Collecting in the reading of Effect: what is not acceptable is a failure. */
const effectTx = (collector: TxCollector): EffectTx => {
  const collect = (add: () => void): Effect.Effect<void, ValidationError | InvalidStateError> =>
    Effect.suspend(() => {
      try {
        add()
        return Effect.void
      } catch (error) {
        return error instanceof ValidationError || error instanceof InvalidStateError
          ? Effect.fail(error)
          : Effect.die(error)
      }
    })
  return {
    streams: {
      append: (...args) => collect(() => collector.streams.append(...args)),
      appendAll: (...args) => collect(() => collector.streams.appendAll(...args)),
      of: (entity) => {
        const streams = collector.streams.of(entity)
        return {
          append: (...args) => collect(() => streams.append(...args)),
          appendAll: (...args) => collect(() => streams.appendAll(...args))
        }
      }
    },
    emit: (...args) => collect(() => collector.emit(...args)),
    kv: (bucket, options) => {
      // a schema that is none is refused where a key is written
      const keys = () => collector.kv(bucket, options)
      return {
        put: (...args) => collect(() => keys().put(...args)),
        create: (...args) => collect(() => keys().create(...args)),
        update: (...args) => collect(() => keys().update(...args)),
        delete: (...args) => collect(() => keys().delete(...args))
      }
    }
  }
}

/** What steps are inside the code of a step: an error that says so. */
class NestedSteps implements StepService {
  readonly #outer: string

  constructor(outer: string) {
    this.#outer = outer
  }

  #nested(target: string | Invokable): Effect.Effect<never, NestedStepError> {
    return Effect.fail(this.refusal(typeof target === "string" ? target : target.config.id))
  }

  refusal(name: string): NestedStepError {
    return new NestedStepError(name, this.#outer)
  }

  run(name: string) {
    return this.#nested(name)
  }
  tx(name: string) {
    return this.#nested(name)
  }
  sleep(name: string) {
    return this.#nested(name)
  }
  sleepUntil(name: string) {
    return this.#nested(name)
  }
  waitForEvent(name: string) {
    return this.#nested(name)
  }
  invoke(target: string | Invokable) {
    return this.#nested(target)
  }
  invokeAsync(target: string | Invokable) {
    return this.#nested(target)
  }
  parallel(name: string) {
    return this.#nested(name)
  }
  map(name: string) {
    return this.#nested(name)
  }
  compensate(name: string) {
    return this.#nested(name)
  }
  publish(topic: string) {
    return this.#nested(topic)
  }
}
