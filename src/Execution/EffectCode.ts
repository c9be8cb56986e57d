/** Runs effects as the code of steps, and encodes and decodes their outcomes with schemas. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import * as Schema from "effect/Schema"
import { decodeFromJson, encodeToJson } from "../EffectSchema.ts"
import { InterruptedError, SchemaValidationError } from "../Errors.ts"
import { type EffectRunOptions, Step, StepAttempt, type StepService } from "../Step.ts"
import type { Attempt, AttemptExit } from "./Attempt.ts"
import { stepAnnotations } from "./HandlerLogs.ts"
import { nestedSteps } from "./NestedSteps.ts"

/**
 * Adds the steps to the context of an Effect handler. In types, the requirements of a program are tracked up to the
 * worker's layer. At run time, the services come from the context that the worker captured.
 */
export const withSteps = (context: Context.Context<never>, steps: StepService): Context.Context<unknown> =>
  Context.add(context, Step, steps) as Context.Context<unknown>

/** The error with which a promise of the failed effect would reject. `what` names the effect in messages. */
export const rejectionOf = (cause: Cause.Cause<unknown>, what: string): unknown => {
  if (Cause.hasInterruptsOnly(cause)) {
    return new InterruptedError(what)
  }
  const error = Cause.squash(cause)
  addFrames(error, cause)
  return error
}

/** Adds the frames of `Effect.fn` and `Effect.withSpan`, which only the cause has, to the stack of the error. */
const addFrames = (error: unknown, cause: Cause.Cause<unknown>): void => {
  try {
    if (!(error instanceof Error)) return
    const stack = typeof error.stack === "string" ? error.stack : `${error.name}: ${error.message}`
    const frames = Cause.prettyErrors(cause)
      .slice(0, 1)
      .flatMap((pretty) => pretty.stack?.split("\n") ?? [])
      .filter((line) => /^\s+at /.test(line) && !stack.includes(line))
    // the stack of a frozen error cannot be set: it stays as it is
    if (frames.length > 0) Reflect.set(error, "stack", [stack, ...frames].join("\n"))
  } catch {
    // an error that throws when it is inspected keeps its stack too
  }
}

/** A failure that fits the `error` schema of the step or function, together with its encoded form. */
export class TypedFailure {
  readonly error: unknown
  readonly #encoded: unknown

  constructor(error: unknown, encoded: unknown) {
    this.error = error
    this.#encoded = encoded
  }

  get encoded(): unknown {
    return this.#encoded
  }

  /** Whether the value is a typed failure. Unlike `instanceof`, this runs no code of the value. */
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

/** Decodes the value with the schema; `what` starts the error message. */
export const decode = <A>(schema: Schema.Codec<A, unknown>, value: unknown, what: string) =>
  Effect.mapError(
    decodeFromJson(schema, value),
    (error) =>
      new SchemaValidationError(`${what} does not fit its schema: ${error.message}`, { cause: error })
  )

/** Decodes as {@link decode} does. Without a schema it returns the value itself. */
export const decodeIfTyped = (
  schema: Schema.Codec<unknown, unknown> | undefined,
  value: unknown,
  what: string
): Effect.Effect<unknown, SchemaValidationError> =>
  schema === undefined ? Effect.succeed(value) : decode(schema, value, what)

/**
 * The effect, with its result encoded by the `success` schema. A failure that fits the `error` schema becomes a
 * {@link TypedFailure}. In messages, `owner` names the step or function to which the effect belongs.
 */
export const withEncodedExit = <A, E, R, S, F>(
  owner: string,
  effect: Effect.Effect<A, E, R>,
  { error, success }: Pick<EffectRunOptions<S, F>, "success" | "error">
): Effect.Effect<unknown, unknown, R> => {
  let program: Effect.Effect<unknown, unknown, R> = effect
  if (error !== undefined) {
    const isTypedFailure = Schema.is(error)
    program = Effect.catch(program, (failure) =>
      isTypedFailure(failure)
        ? Effect.flatMap(encode(error, failure, `Failure of ${owner}`), (stored) =>
            Effect.fail(new TypedFailure(failure, stored))
          )
        : Effect.fail(failure)
    )
  }
  return success === undefined
    ? program
    : Effect.flatMap(program, (value) => encode(success, value, `Result of ${owner}`))
}

/** Receives the fiber of a step's code once the code runs. */
export interface CodeFiber {
  current: Fiber.Fiber<unknown, unknown> | undefined
}

/**
 * Makes the code of a step from an effect. The effect runs in the context of the step's caller, but the effect cannot
 * call steps: such calls fail. `fiber` receives the fiber of each attempt that does not end at once.
 */
export const effectCode = (
  name: string,
  callersContext: Context.Context<never>,
  program: (attempt: Attempt) => Effect.Effect<unknown, unknown, unknown>,
  fiber?: CodeFiber
): ((attempt: Attempt) => void) => {
  const context = withSteps(callersContext, nestedSteps(name))
  return (attempt) => {
    const attemptContext = Context.add(
      Context.add(context, StepAttempt, attempt.context),
      References.CurrentLogAnnotations,
      stepAnnotations(callersContext, name, attempt.number)
    )
    const attemptFiber = Effect.runForkWith(
      attempt.span === undefined
        ? attemptContext
        : Context.add(attemptContext, Tracer.ParentSpan, attempt.span)
    )(Effect.suspend(() => program(attempt)))
    const exit = attemptFiber.pollUnsafe()
    if (exit !== undefined) {
      attempt.end(attemptExit(name, attempt, exit))
      return
    }
    if (fiber !== undefined) fiber.current = attemptFiber
    attempt.interrupt = () => attemptFiber.interruptUnsafe()
    attemptFiber.addObserver((laterExit) => attempt.end(attemptExit(name, attempt, laterExit)))
    if (attempt.abortReason !== undefined) attemptFiber.interruptUnsafe()
  }
}

const attemptExit = (name: string, attempt: Attempt, exit: Exit.Exit<unknown, unknown>): AttemptExit => {
  if (Exit.isSuccess(exit)) return { _tag: "Success", value: exit.value }
  if (attempt.abortReason !== undefined && Cause.hasInterruptsOnly(exit.cause)) {
    return { _tag: "Failure", error: attempt.abortReason }
  }
  const error = rejectionOf(exit.cause, `The effect of step "${name}"`)
  return TypedFailure.is(error)
    ? { _tag: "Failure", error: error.error, encoded: error.encoded }
    : { _tag: "Failure", error }
}
