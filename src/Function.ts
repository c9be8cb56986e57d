/**
 * Functions: a configuration and a handler that the engine runs durably.
 *
 * {@link createFunction} takes an async handler that uses `step`; {@link make} takes an Effect handler that uses the
 * `Step` module, whose failures and requirements stay in its type. Both check the configuration at once.
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { type RetryConfig, retryKeys } from "./Backoff.ts"
import { DEFAULT_TIMEOUTS } from "./Constants.ts"
import type { Duration } from "./Duration.ts"
import { ValidationError } from "./Errors.ts"
import { type EventDefinition, type IronflowEvent, isEventDefinition } from "./Event.ts"
import { checkConfig, type recordingRetentions } from "./FunctionChecks.ts"
import { isObject } from "./Json.ts"
import type { KeepRuns } from "./KeepRuns.ts"
import type { Logger } from "./Logger.ts"
import {
  type EffectFailureHandler,
  type FailureHandler,
  failureHandlerOf,
  type OnFailure,
  onFailureKeys
} from "./OnFailure.ts"
import { checkKeys, type Keys, type Known } from "./OptionKeys.ts"
import type { SecretsClient } from "./Secrets.ts"
import { show } from "./Show.ts"
import { type AnySchema, isEffectSchema, type StandardSchemaV1 } from "./StandardSchema.ts"
import type { Declared, Step, StepClient, StorableEffect } from "./Step.ts"
import type { StorableResult } from "./Stored.ts"
import {
  definedTriggerKeys,
  definitionOf,
  type InvokedWith,
  type KnownTriggers,
  toTrigger,
  type Trigger,
  type TriggerEvents,
  triggerKeys,
  type TriggerSource
} from "./Trigger.ts"
import type { Versioning } from "./Versioning.ts"

export type {
  DefinedTrigger,
  InvokedWith,
  KnownTriggers,
  NoSuchTriggerOption,
  TriggeredBy,
  TriggerEvents,
  TriggerSource
} from "./Trigger.ts"

export type {
  EffectFailureHandler,
  FailedRun,
  FailedRunEvent,
  FailedRunStep,
  OnFailure,
  OnFailureOptions
} from "./OnFailure.ts"

/** How a function prefers to be run: by a worker that pulls, or by a request to its `serve()` handler. */
export type ExecutionMode = "push" | "pull"

/** How many runs of a function are in a turn at once. Suspended runs hold no place. */
export interface ConcurrencyConfig {
  /** Runs that may be in a turn at once, at least 1. Suspended runs do not count. */
  readonly limit: number
  /** Dotted path (`event.data.customerId`); each value of it has the limit for itself. */
  readonly key?: string
}

/** How long the record of a run is kept after its end. */
export type RecordingRetention = (typeof recordingRetentions)[number]

/** What `S` stands for when there is no schema: nothing is known about the data. */
// oxlint-disable-next-line typescript/no-explicit-any -- README examples read `event.data.x` without a schema
export type NoSchema = StandardSchemaV1<any, any>

/** What a function is, and how it runs. */
export interface FunctionConfig<
  S extends AnySchema = AnySchema,
  Sources extends ReadonlyArray<TriggerSource> = ReadonlyArray<Trigger>
> {
  /** Unique within an environment. No white space, no `*` or `>`. */
  readonly id: string
  /** For people; the id by default. */
  readonly name?: string
  /** What it does, for people; none by default. */
  readonly description?: string
  /**
   * What starts runs: events by name or pattern, definitions of events, which check and type the data, and schedules. An empty list is
   * for functions that are only invoked.
   */
  readonly triggers: Sources
  /** For failed steps, and for what fails outside of steps. */
  readonly retry?: RetryConfig
  /** Milliseconds that one turn of the handler may take, suspensions not counted; 600000 (10 minutes) by default. */
  readonly timeout?: number
  /** How many of its runs are in a turn at once; no limit by default. */
  readonly concurrency?: ConcurrencyConfig
  /** How it prefers to be run, for people and legacy servers: this engine runs it wherever it is. No preference by default. */
  readonly mode?: ExecutionMode
  /** Dotted path; runs with the same value go to the same worker while that one lives. */
  readonly actorKey?: string
  /**
   * Dotted paths, ten at most, each from `event`: `listRuns({ attributes: { "event.data.orderId": "o-17" } })` finds the runs with that
   * value, however many there are. Texts up to 256 characters, numbers and booleans can be found; runs from before are filled in.
   */
  readonly searchBy?: ReadonlyArray<string>
  /** Validates the event's data before the handler runs, and types it; data of events that triggers define is theirs to check. */
  readonly schema?: S
  /** Names of the secrets that the handler reads. */
  readonly secrets?: ReadonlyArray<string>
  /** Time for one attempt of a step; none by default. */
  readonly stepTimeout?: Duration
  /** Keeps an audit record of every run; `false` by default. */
  readonly recording?: boolean
  /** How long the record is kept: `7d`, `30d` (default), `90d` or `forever`. */
  readonly recordingRetention?: RecordingRetention | (string & {})
  /**
   * What this version of the code is called, such as `"2"`; the hash of the handler's source text by default. Give it one where
   * `versioning` is `"pin"`, and another one whenever the steps change.
   */
  readonly version?: string
  /**
   * With which code a run goes on while there are workers of several versions: `"latest"`, the default, with any; `"pin"` with that which
   * it began with. Then workers of the old version have to stay until its runs have ended.
   */
  readonly versioning?: Versioning
  /**
   * How long runs are kept after their end, such as `"7d"`, or `{ completed: "7d", failed: "forever" }`; as long as the engine keeps
   * runs by default.
   */
  readonly keepRuns?: KeepRuns
  /** Anything JSON can carry. `requires` restricts the workers that may run the function to those with equal labels. */
  readonly metadata?: Record<string, unknown>
  /**
   * Runs after a run of the function has failed for good, with that run's event, error and steps: a durable run of a function of its own,
   * `<id>/on-failure`. Not after one that was cancelled.
   */
  readonly onFailure?: FailureHandler | OnFailure
}

const functionKeys = {
  id: true,
  name: true,
  description: true,
  triggers: [triggerKeys],
  retry: retryKeys,
  timeout: true,
  concurrency: { limit: true, key: true } satisfies Keys<ConcurrencyConfig>,
  mode: true,
  actorKey: true,
  searchBy: true,
  schema: true,
  secrets: true,
  stepTimeout: true,
  recording: true,
  recordingRetention: true,
  version: true,
  versioning: true,
  keepRuns: true,
  metadata: true,
  // a handler by itself has no keys
  onFailure: onFailureKeys
} satisfies Keys<FunctionConfig>

const effectFunctionKeys = { ...functionKeys, success: true, error: true } satisfies Keys<
  FunctionConfig & EffectFunctionDeclarations<never, never>
>

/** The run that a handler is in. */
export interface RunInfo {
  /** Id of the run. */
  readonly id: string
  /** Id of its function. */
  readonly functionId: string
  /** Turns started because something outside steps failed, the first included. */
  readonly attempt: number
  /** When its first turn began. */
  readonly startedAt: Date
}

/** What an async handler is given. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface FunctionContext<T = any, E = IronflowEvent<T>> {
  /** The event that started the run. */
  readonly event: E
  /** The steps. */
  readonly step: StepClient
  /** The run itself. */
  readonly run: RunInfo
  /** Silent while recorded steps are replayed, so that each line appears once. */
  readonly logger: Logger
  /** The secrets that the function names. */
  readonly secrets: SecretsClient
  /** Aborts when the turn ends: the run was suspended, cancelled or lost. */
  readonly signal: AbortSignal
  /** Registers what has to be done when the turn ends, in place of a `finally` that a suspension never reaches. */
  readonly onTurnEnd: (callback: () => void | Promise<void>) => void
}

/** The code of a function. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export type FunctionHandler<T = any, R = unknown> = (context: FunctionContext<T>) => R | Promise<R>

/**
 * A function with an async handler. `T` is the data of its events as the handler gets it, `R` what it returns, `I` the data as
 * its schema takes it, which is what invoking it takes.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- lists of functions hold functions of every type
export interface IronflowFunction<T = any, R = any, I = any> {
  /** What `createFunction` was given. */
  readonly config: DefinedConfig<AnySchema<T, I>>
  /** The code. */
  readonly handler: FunctionHandler<T, R>
  /** What `onFailure` is: a function that is registered with this one. */
  readonly failureHandler?: Omit<IronflowFunction, "failureHandler">
}

/** The first parameter of `createFunction`. */
export type CreateFunctionConfig<S extends AnySchema = AnySchema> = FunctionConfig<S>

/** A configuration that was checked: its triggers by name, and the definitions that were among them. */
export interface DefinedConfig<S extends AnySchema = AnySchema> extends FunctionConfig<S> {
  /** The definitions among its triggers. */
  readonly definitions?: ReadonlyArray<EventDefinition>
}

/**
 * Defines a function with an async handler. Throws `ValidationError` naming the function and the field when the
 * configuration is not acceptable.
 */
export const createFunction = <
  S extends AnySchema = NoSchema,
  R = unknown,
  const Sources extends ReadonlyArray<TriggerSource> = ReadonlyArray<Trigger>
>(
  config: FunctionConfig<S, Sources> & { readonly triggers: KnownTriggers<Sources> },
  handler: ((
    context: FunctionContext<TriggerEvents<Sources, S>["data"], TriggerEvents<Sources, S>>
  ) => R | Promise<R>) &
    StorableResult<R>
): IronflowFunction<TriggerEvents<Sources, S>["data"], R, InvokedWith<Sources, S>> => {
  const resolved = resolveTriggers(config, functionKeys)
  if (typeof handler !== "function") {
    throw new ValidationError(
      `Function "${resolved.id}": the handler must be a function, got ${typeof handler}`
    )
  }
  const failureHandler = failureHandlerOf<FailureHandler>(resolved, resolved.onFailure)
  if (failureHandler !== undefined) checkConfig(failureHandler.config)
  // what the events are, and not only their data, is between the triggers and the handler; what a schema takes and returns is what
  // makes it one
  return {
    config: resolved,
    handler,
    ...(failureHandler === undefined ? {} : { failureHandler })
  } as IronflowFunction<TriggerEvents<Sources, S>["data"], R, InvokedWith<Sources, S>>
}

/** The singleton of the documentation. */
export const ironflow = { createFunction } as const

// ---------------------------------------------------------------------------------------------------------------------
// The Effect face
// ---------------------------------------------------------------------------------------------------------------------

/** Data of the events that the sources let through; unknown in advance (`any`) where one of them is no definition. */
export type TriggerData<Sources extends ReadonlyArray<TriggerSource>> = TriggerEvents<
  Sources,
  NoSchema
>["data"]

/** What a function says of its result and its failures, by which whoever invokes it gets them typed. */
export interface EffectFunctionDeclarations<S, F> {
  /** How the result is stored: encoded for storage, decoded for who invokes the function. Without it the result must be JSON. */
  readonly success?: Schema.Codec<S, unknown>
  /** Failures that match are stored encoded, and stand decoded in `failure` of the `InvokeError` of who invokes the function. */
  readonly error?: Schema.Codec<F, unknown>
}

/** What a function is, and how it runs, for `IronflowFunction.make`. */
export interface EffectFunctionConfig<
  Sources extends ReadonlyArray<TriggerSource> = ReadonlyArray<TriggerSource>,
  // oxlint-disable-next-line typescript/no-explicit-any -- a schema of anything
  S = any,
  // oxlint-disable-next-line typescript/no-explicit-any -- a schema of anything
  F = any,
  // oxlint-disable-next-line typescript/no-explicit-any -- a handler that needs anything
  RF = any
>
  extends Omit<FunctionConfig, "triggers" | "schema" | "onFailure">, EffectFunctionDeclarations<S, F> {
  /** What starts runs. Definitions with a schema validate the data and type it. */
  readonly triggers: Sources
  /**
   * Runs after a run of the function has failed for good, with that run's event, error and steps: a durable run of a function of its own,
   * `<id>/on-failure`. Not after one that was cancelled. What it needs is needed by the function.
   */
  readonly onFailure?: EffectFailureHandler<RF> | OnFailure<EffectFailureHandler<RF>>
}

/** What an Effect handler is given; steps are in the `Step` module. */
export interface EffectFunctionContext<T, E = IronflowEvent<T>> {
  /** The event that started the run. */
  readonly event: E
  /** The run itself. */
  readonly run: RunInfo
  /** Logs with the run's fields; silent while finished steps are being replayed. */
  readonly logger: Logger
  /** The secrets that the function names. */
  readonly secrets: SecretsClient
}

/**
 * A function with an Effect handler: `A` is what it returns, `E` what it fails with, `R` what it needs besides steps,
 * `T` the data of its events, `S` its result as its `success` schema has it, `F` the failures of its `error` schema; the last
 * two are `never` where there is no such schema.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- lists of functions hold functions of every type
export interface EffectFunction<A = any, E = any, R = any, T = any, S = any, F = any> {
  /** What `make` was given. */
  readonly config: Omit<FunctionConfig, "onFailure"> &
    EffectFunctionDeclarations<S, F> & {
      /** The definitions among the triggers. */
      readonly definitions: ReadonlyArray<EventDefinition>
    }
  /** The code. */
  readonly program: (context: EffectFunctionContext<T>) => Effect.Effect<A, E, R | GivenToHandlers>
  /** What `onFailure` is: a function that is registered with this one. */
  readonly failureHandler?: Omit<EffectFunction, "failureHandler">
}

/** What every handler is given: the steps, and a scope that ends with its turn. */
export type GivenToHandlers = Step | Scope.Scope

/** A function of either face. */
export type AnyFunction = IronflowFunction | EffectFunction

/** What the Effect handlers among the functions need. */
export type FunctionRequirements<F> = F extends {
  // oxlint-disable-next-line typescript/no-explicit-any -- a context of any data
  readonly program: (context: any) => Effect.Effect<unknown, unknown, infer R>
}
  ? Exclude<R, GivenToHandlers>
  : never

/**
 * Defines a function with an Effect handler.
 *
 * ```ts
 * const processOrder = IronflowFunction.make(
 *   { id: "process-order", triggers: [OrderPlaced] },
 *   Effect.fnUntraced(function* ({ event }) {
 *     return yield* Step.run("charge", charge(event.data))
 *   })
 * )
 * ```
 *
 * Throws `ValidationError` naming the function and the field when the configuration is not acceptable.
 */
export const make = <
  const Sources extends ReadonlyArray<TriggerSource>,
  A extends Declared<S>,
  E,
  R,
  S = never,
  F = never,
  RF = never
>(
  config: EffectFunctionConfig<Sources, S, F, RF> & { readonly triggers: KnownTriggers<Sources> },
  program: (
    context: EffectFunctionContext<TriggerData<Sources>, TriggerEvents<Sources, NoSchema>>
  ) => Effect.Effect<A, E, R> & StorableEffect<A, S>
): EffectFunction<A, E, Exclude<R | NoInfer<RF>, GivenToHandlers>, TriggerData<Sources>, S, F> => {
  const resolved = {
    definitions: [],
    ...resolveTriggers(config, effectFunctionKeys)
  } as EffectFunction["config"]
  for (const field of ["success", "error"] as const) {
    if (resolved[field] !== undefined && !isEffectSchema(resolved[field])) {
      throw new ValidationError(
        `Function "${resolved.id}": \`${field}\` must be an Effect schema, got ${show(resolved[field])}`
      )
    }
  }
  if (typeof program !== "function") {
    throw new ValidationError(
      `Function "${resolved.id}": the handler must be a function that returns an Effect, got ${typeof program}`
    )
  }
  const onFailure = failureHandlerOf<EffectFunction["program"]>(resolved, config.onFailure)
  if (onFailure !== undefined) checkConfig(onFailure.config)
  // Without what every handler is given, the requirements are those of the caller.
  return {
    config: resolved,
    program: program as EffectFunction<A, E, Exclude<R | RF, GivenToHandlers>>["program"],
    ...(onFailure === undefined
      ? {}
      : {
          failureHandler: {
            config: { ...onFailure.config, definitions: [] },
            program: onFailure.handler
          }
        })
  }
}

/** Whether the function has an Effect handler. */
export const isEffectFunction = (fn: AnyFunction): fn is EffectFunction => "program" in fn

/** The configuration, checked, with the names of the definitions among its triggers. */
const resolveTriggers = (config: unknown, keys: Known): DefinedConfig => {
  if (!isObject(config))
    throw new ValidationError("A function needs a configuration such as { id, triggers }")
  // what is no list goes on to the check, which says what is wrong with it
  const sources: ReadonlyArray<unknown> = Array.isArray(config.triggers) ? config.triggers : []
  const definitions = sources.flatMap((source) => definitionOf(source) ?? [])
  const resolved: unknown =
    definitions.length === 0 ? config : { ...config, triggers: sources.map(toTrigger), definitions }
  checkConfig(resolved)
  const label = `Function "${resolved.id}"`
  const isPlain = (source: unknown) => definitionOf(source) === undefined
  checkKeys({ ...config, triggers: sources.filter(isPlain) }, keys, label)
  for (const source of sources) {
    if (!isPlain(source) && !isEventDefinition(source))
      checkKeys(source, definedTriggerKeys, `${label}: triggers`)
  }
  const twice = definitions.find(({ name }, i) =>
    definitions.slice(0, i).some((other) => other.name === name)
  )
  if (twice !== undefined && new Set(definitions.filter(({ name }) => name === twice.name)).size > 1) {
    throw new ValidationError(
      `${label}: \`triggers\` has two definitions of event "${twice.name}": give the latest version, and the others as ` +
        "`eventDefinitions` to the worker, which brings events to the latest"
    )
  }
  return resolved
}

// ---------------------------------------------------------------------------------------------------------------------
// What workers and engines ask of a function
// ---------------------------------------------------------------------------------------------------------------------

/** Milliseconds that one turn of the function may take. */
export const functionTimeout = (fn: AnyFunction): number => fn.config.timeout ?? DEFAULT_TIMEOUTS.FUNCTION
