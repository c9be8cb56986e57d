/**
 * `onFailure`: what runs after a run of a function has failed for good.
 *
 * It is a function of its own, with steps, retries and runs like any other; what starts it is the trigger that
 * {@link failureTrigger} makes. It is registered wherever its function is.
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

/** What a handler of `onFailure` is told of the run that has failed: the data of its event. Times are ISO strings. */
// oxlint-disable-next-line typescript/no-explicit-any -- the data of an event is what its sender made it
export interface FailedRun<T = any> {
  /** Id of the run that has failed. */
  readonly runId: string
  /** Id of its function. */
  readonly functionId: string
  /** Turns that began because something outside steps had failed, the first included. */
  readonly attempts: number
  /** What it failed with. */
  readonly error: RunError
  /** The event that had started it. */
  readonly event: FailedRunEvent<T>
  /** Those that had ended, in the order in which the handler saw them; the last 200 of them. */
  readonly steps: ReadonlyArray<FailedRunStep>
  /** How many steps before these were left out. */
  readonly stepsOmitted?: number
  /** When it was created. */
  readonly createdAt: string
  /** When it failed. */
  readonly failedAt: string
}

/** The event that the failed run was started by; of one that was invoked its input. */
// oxlint-disable-next-line typescript/no-explicit-any -- as above
export interface FailedRunEvent<T = any> {
  /** Id of the event. */
  readonly id: string
  /** Name of the event. */
  readonly name: string
  /** The version that it was emitted with. */
  readonly version: number
  /** As it is stored. */
  readonly data: T
  /** The data had more than 256 Ki characters, and is left out. */
  readonly dataOmitted?: true
  /** When it was stored. */
  readonly timestamp: string
  /** Where it came from when nobody emitted it: `cron` or `invoke`. */
  readonly source?: string
  /** The metadata that it was emitted with. */
  readonly metadata?: unknown
  /** Present on an event that was appended to an entity stream. */
  readonly entity?: EventEntity
}

/** A step of a run that has failed. */
export interface FailedRunStep {
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: StepKind
  /** How it ended. */
  readonly status: "completed" | "failed"
  /** Executions, the last one included. */
  readonly attempt: number
  /** What it returned. */
  readonly output?: unknown
  /** The output had more than 16 Ki characters, or all of them together more than 256 Ki, and is left out. */
  readonly outputOmitted?: true
  /** What it failed with. */
  readonly error?: RunError
}

/** What the function of `onFailure` may be told to do otherwise than by default. */
export interface OnFailureOptions {
  /** For its own failed steps, and for what fails outside of them. */
  readonly retry?: RetryConfig
  /** Milliseconds that one turn of it may take; 600000 (10 minutes) by default. */
  readonly timeout?: number
  /** Time for one attempt of a step of it; none by default. */
  readonly stepTimeout?: Duration
  /** Names of the secrets that it reads; those of the function by default. */
  readonly secrets?: ReadonlyArray<string>
}

/** Runs after a run has failed for good, with what is known of that run as the data of its event. */
export type FailureHandler = (context: FunctionContext<FailedRun>) => unknown

/** The same in Effect. */
export type EffectFailureHandler<R> = (
  context: EffectFunctionContext<FailedRun>
) => Effect.Effect<unknown, unknown, R>

/** A handler with options. */
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

/** The id of the function that runs after runs of a function have failed: `charge/on-failure`. */
export const failureHandlerId = (functionId: string): string => functionId + SUFFIX

/** Whether a function may be one of those, by its id. */
export const isFailureHandlerId = (functionId: string): boolean => functionId.endsWith(SUFFIX)

/** What starts it. */
const failureTrigger = (functionId: string): Trigger => ({
  event: "system.run.*.failed",
  expression: `event.data.functionId == ${JSON.stringify(functionId)}`
})

/** The id of the function whose failed runs a registered function handles; `undefined` for one that handles none. */
export const handlesFailuresOf = ({
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

/** The configuration of the function that `onFailure` is. Throws `ValidationError`. */
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
      // it goes where its function goes
      ...(config.metadata === undefined ? {} : { metadata: config.metadata })
    },
    // it was just looked at
    handler: handler as Handler
  }
}

/** The functions, each with what handles its failures after it. */
export const withFailureHandlers = (functions: ReadonlyArray<AnyFunction>): ReadonlyArray<AnyFunction> =>
  functions.flatMap((fn) => (fn.failureHandler === undefined ? [fn] : [fn, fn.failureHandler]))
