/** Runs async functions: as the code of a step, a handler or a branch. */
import { AsyncResource } from "node:async_hooks"
import { asStandard } from "../EffectSchema.ts"
import { withActiveSpan } from "../OpenTelemetry.ts"
import { ValidationError } from "../Errors.ts"
import { decodeResult, encodeResult } from "../ResultEncoding.ts"
import { show } from "../Show.ts"
import { isSchema, validate } from "../StandardSchema.ts"
import type { StepRunContext, Tx } from "../Step.ts"
import type { Attempt } from "./Attempt.ts"
import { runInsideStep } from "./Nesting.ts"
import type { TurnMachine } from "./TurnMachine.ts"
import { TxCollector } from "./Tx.ts"

/** Calls user code that may return a value or a promise, throw or reject. */
export const callUserCode = (
  code: () => unknown,
  succeed: (value: unknown) => void,
  fail: (error: unknown) => void
): void => {
  let result: unknown
  try {
    result = code()
    // reading `then` may run code of the value, and that code may throw
    if (isThenable(result)) {
      Promise.resolve(result).then(succeed, fail)
      return
    }
  } catch (error) {
    fail(error)
    return
  }
  succeed(result)
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"

/**
 * Makes the code of a step from `fn`. Throws `ValidationError` when `fn` is not a function. With a `decoder`,
 * an attempt fails if the decoder refuses its result.
 */
export const promiseCode = <Arguments extends ReadonlyArray<unknown>>(
  turn: TurnMachine,
  name: string,
  fn: (...args: Arguments) => unknown,
  argumentsFor: (attempt: Attempt) => Arguments,
  decoder?: Decoder
): ((attempt: Attempt) => void) => {
  if (typeof fn !== "function") {
    throw new ValidationError(
      (fn as unknown) instanceof Promise
        ? `Step "${name}" got a promise: pass the function that makes it, \`() => ...\``
        : `Step "${name}" needs a function to run, got ${show(fn)}`
    )
  }
  // The code may begin later than the call. It still runs in the async context (of a logger or tracer) of the
  // call.
  const context = new AsyncResource("ironflow.step")
  return (attempt) =>
    context.runInAsyncScope(() =>
      runInsideStep(turn.token, name, attempt.number, () =>
        callUserCode(
          attempt.span === undefined
            ? () => fn(...argumentsFor(attempt))
            : () => withActiveSpan(attempt.span, () => fn(...argumentsFor(attempt))),
          (value) => {
            try {
              decoder?.check(value)
            } catch (error) {
              attempt.fail(error)
              return
            }
            attempt.succeed(value)
          },
          (error) => attempt.fail(error)
        )
      )
    )
}

/** The arguments of the body of a `step.run`, or of a compensation. */
export const contextArgument = (attempt: Attempt): [StepRunContext] => [attempt.context]

/** The arguments of the body of a `step.tx`. Each attempt collects its own writes. */
export const txArguments =
  (name: string) =>
  (attempt: Attempt): [Tx, StepRunContext] => [(attempt.tx = new TxCollector(name)), attempt.context]

/** Ignores the result of a compensation, which therefore need not be JSON. */
export const discardResult =
  (fn: (context: StepRunContext) => unknown) =>
  async (context: StepRunContext): Promise<void> => {
    await fn(context)
  }

/** Decodes stored results with the `schema` of a call. */
export interface Decoder {
  readonly decode: (stored: unknown) => unknown
  /**
   * Throws when the schema refuses the result in its stored form. Called before the result is stored: a result that
   * could not be decoded later fails the step.
   */
  readonly check: (result: unknown) => void
}

/**
 * Makes a decoder from the schema; `undefined` when there is none. Throws `ValidationError` when the value is
 * not a schema. `what` starts the message about a result that the schema refuses.
 */
export const decoderOf = (
  options: { readonly schema?: unknown } | undefined,
  what: string
): Decoder | undefined => {
  const schema = options?.schema
  if (schema === undefined) return undefined
  if (!isSchema(schema)) {
    throw new ValidationError(
      `${what}: \`schema\` must be a Standard Schema (Zod, Valibot, ArkType) or an Effect schema, got ${show(schema)}`
    )
  }
  const decode = (stored: unknown): unknown => validate(asStandard(schema), stored, what)
  return { decode, check: (result) => void decode(decodeResult(encodeResult(result, what))) }
}

/** The value, decoded when there is a decoder. */
export const decodeWith = (decoder: Decoder | undefined, value: unknown): unknown =>
  decoder === undefined ? value : decoder.decode(value)
