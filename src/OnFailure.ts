/**
 * `onFailure`: a handler that runs after a run of a function has failed for good.
 *
 * The handler becomes a function of its own, with its own steps, retries and runs: the `onFailure` function. It is
 * registered together with the function that has it. {@link failureTrigger} makes its trigger.
 */
import type { RetryConfig } from "./Backoff.ts"
import type { Duration } from "./Duration.ts"
import { ValidationError } from "./Errors.ts"
import type { EventEntity } from "./Event.ts"
import type { AnyFunction, EffectFunctionContext, FunctionConfig, FunctionContext } from "./Function.ts"
import { isObject } from "./Json.ts"
import { nameLength } from "./Limits.ts"
import type { Keys } from "./OptionKeys.ts"
import type { RunError } from "./RunError.ts"
import { show } from "./Show.ts"
import type { StepKind } from "./StepKind.ts"
import type { Trigger } from "./Trigger.ts"
import type * as Effect from "effect/Effect"

/** The data of the event that an `onFailure` handler receives: the failed run. Times are ISO strings. */
// oxlint-disable-next-line typescript/no-explicit-any -- the data of an event is what its sender made it
export interface FailedRun<T = any> {
  /** Id of the failed run. */
  readonly runId: string
  /** Id of the function of the failed run. */
  readonly functionId: string
  /** 1, and one more for each time that the run was tried again after a failure outside of steps. */
  readonly attempts: number
  /** The error that the run failed with. */
  readonly error: RunError
  /** The event that started the run. */
  readonly event: FailedRunEvent<T>
  /** The last 200 steps that had ended, in the order of the journal. */
  readonly steps: ReadonlyArray<FailedRunStep>
  /** How many earlier steps were left out. */
  readonly stepsOmitted?: number
  /** When the run was created. */
  readonly createdAt: string
  /** When the run failed. */
  readonly failedAt: string
}

/** The event that started the failed run. For a run that was invoked, it holds the input. */
// oxlint-disable-next-line typescript/no-explicit-any -- as above
export interface FailedRunEvent<T = any> {
  /** Id of the event. */
  readonly id: string
  /** Name of the event. */
  readonly name: string
  /** Schema version with which the event was emitted. */
  readonly version: number
  /** The data in its stored form. */
  readonly data: T
  /** Set when the data is left out, since it had more than 256 Ki characters or could not be read. */
  readonly dataOmitted?: true
  /** When the event was stored. */
  readonly timestamp: string
  /** The source of an event that was not emitted by a client: `cron`, `invoke`, or `system` for a system event. */
  readonly source?: string
  /** The metadata of the event. */
  readonly metadata?: unknown
  /** For an event that was appended to an entity stream: the entity, and the position of the event in the stream. */
  readonly entity?: EventEntity
}

/** A step of the failed run. */
export interface FailedRunStep {
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: StepKind
  /** How the step ended. */
  readonly status: "completed" | "failed"
  /** Number of attempts, the last one included. */
  readonly attempt: number
  /** The step's result. */
  readonly output?: unknown
  /**
   * Set when the output is left out, since it had more than 16 Ki characters, or the outputs and errors of all steps
   * together had more than 256 Ki.
   */
  readonly outputOmitted?: true
  /** The error that the step failed with. */
  readonly error?: RunError
}

/** Options of an `onFailure` function. */
export interface OnFailureOptions {
  /** Retries of failed steps of the handler, and of its failures outside steps. */
  readonly retry?: RetryConfig
  /** Maximum duration of one turn in milliseconds; 600000 (10 minutes) by default. */
  readonly timeout?: number
  /** Timeout of one attempt of a step; none by default. */
  readonly stepTimeout?: Duration
  /** Names of the secrets that the handler reads; by default those of the function that has this `onFailure`. */
  readonly secrets?: ReadonlyArray<string>
}

/** An async handler that runs after a run has failed for good. The data of its event describes that run. */
export type FailureHandler = (context: FunctionContext<FailedRun>) => unknown

/** An Effect handler that runs after a run has failed for good. The data of its event describes that run. */
export type EffectFailureHandler<R> = (
  context: EffectFunctionContext<FailedRun>
) => Effect.Effect<unknown, unknown, R>

/** An `onFailure` handler with options. */
export interface OnFailure<Handler = FailureHandler> extends OnFailureOptions {
  /** The code. */
  readonly handler: Handler
}

export const onFailureKeys = {
  handler: true,
  retry: { maxAttempts: true, initialDelayMs: true, backoffFactor: true, maxDelayMs: true, jitter: true },
  timeout: true,
  stepTimeout: true,
  secrets: true
} satisfies Keys<OnFailure>

const SUFFIX = "/on-failure"

/** The id of the `onFailure` function of a function: `charge/on-failure`. */
export const failureHandlerId = (functionId: string): string => functionId + SUFFIX

/** Whether the id has the form of the id of an `onFailure` function. */
export const isFailureHandlerId = (functionId: string): boolean => functionId.endsWith(SUFFIX)

/** The trigger of an `onFailure` function. */
const failureTrigger = (functionId: string): Trigger => ({
  event: "system.run.*.failed",
  expression: `event.data.functionId == ${JSON.stringify(functionId)}`
})

/**
 * The id of the function whose failures this registered function handles; `undefined` when it handles none.
 */
export const failingFunctionId = ({
  id,
  triggers
}: {
  readonly id: string
  readonly triggers: ReadonlyArray<Trigger>
}): string | undefined => {
  const [trigger] = triggers
  if (!isFailureHandlerId(id) || trigger === undefined || triggers.length > 1) return undefined
  const functionId = id.slice(0, -SUFFIX.length)
  const { event, expression } = failureTrigger(functionId)
  return trigger.event === event && trigger.expression === expression ? functionId : undefined
}

/** Makes the configuration and handler of an `onFailure` function. Throws `ValidationError`. */
export const failureHandlerOf = <Handler>(
  config: FunctionConfig,
  given: unknown
): { readonly config: FunctionConfig; readonly handler: Handler } | undefined => {
  if (given === undefined) return undefined
  const label = `Function "${config.id}"`
  const { handler, ...options }: Partial<OnFailure<unknown>> = isObject(given) ? given : { handler: given }
  if (typeof handler !== "function") {
    throw new ValidationError(
      `${label}: \`onFailure\` must be a function, or an object such as { handler, retry }, got ${show(isObject(given) ? handler : given)}`
    )
  }
  const id = failureHandlerId(config.id)
  if (id.length > nameLength) {
    throw new ValidationError(
      `${label}: with \`onFailure\` the id must have at most ${nameLength - SUFFIX.length} characters, since "${SUFFIX}" is added for its handler`
    )
  }
  const secrets = options.secrets ?? config.secrets
  return {
    config: {
      ...options,
      id,
      name: `${config.name ?? config.id} (on failure)`.slice(-nameLength),
      triggers: [failureTrigger(config.id)],
      ...(secrets === undefined ? {} : { secrets }),
      ...(config.mode === undefined ? {} : { mode: config.mode }),
      // with `requires` in the metadata, it runs on the same workers as its function
      ...(config.metadata === undefined ? {} : { metadata: config.metadata })
    },
    // `handler` was checked above to be a function
    handler: handler as Handler
  }
}

/** The functions of the list, each followed by its `onFailure` function if it has one. */
export const withFailureHandlers = (functions: ReadonlyArray<AnyFunction>): ReadonlyArray<AnyFunction> =>
  functions.flatMap((fn) => (fn.failureHandler === undefined ? [fn] : [fn, fn.failureHandler]))
