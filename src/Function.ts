/**
 * Functions: a configuration and a handler that the engine runs durably.
 *
 * {@link createFunction} takes an async handler, which uses `step`. {@link make} takes an Effect handler,
 * which uses the `Step` module; the type of the function keeps the handler's errors and requirements. Both check the
 * configuration at once.
 *
 * A run is executed in turns. A turn calls the handler from the top, and ends when the run is suspended or ends.
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
import { checkKeys, type Keys, type KnownKeys } from "./OptionKeys.ts"
import type { SecretsClient } from "./Secrets.ts"
import { show } from "./Show.ts"
import { type AnySchema, isEffectSchema, type StandardSchemaV1 } from "./StandardSchema.ts"
import type { Declared, Step, StepClient, StorableEffect } from "./Step.ts"
import type { StorableResult } from "./StoredType.ts"
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

/**
 * How a function is preferably run: with `pull` by a worker, and with `push` by requests to the `serve()` handler of the
 * function.
 */
export type ExecutionMode = "push" | "pull"

/** Limits how many runs of a function execute at the same time. Suspended runs do not count. */
export interface ConcurrencyConfig {
  /** Maximum number of runs that execute at the same time, an integer, at least 1. */
  readonly limit: number
  /**
   * A dotted path, such as `event.data.customerId`. The limit then applies to each value at the path
   * separately.
   */
  readonly key?: string
}

/** How long each entry of the audit record of a run is kept. */
export type RecordingRetention = (typeof recordingRetentions)[number]

/** Stands for the type of the schema where a function has none: nothing is known about the data. */
// oxlint-disable-next-line typescript/no-explicit-any -- README examples read `event.data.x` without a schema
export type NoSchema = StandardSchemaV1<any, any>

/** Configuration of a function. */
export interface FunctionConfig<
  S extends AnySchema = AnySchema,
  Sources extends ReadonlyArray<TriggerSource> = ReadonlyArray<Trigger>
> {
  /** Unique id in the environment, without white space, `*` or `>`. */
  readonly id: string
  /** Display name; the id by default. */
  readonly name?: string
  /** Description for people; none by default. */
  readonly description?: string
  /**
   * What starts runs: events by name or pattern; event definitions, which also check and type the data; and schedules.
   * The list is empty for a function that is only invoked.
   */
  readonly triggers: Sources
  /** Retries of failed steps, and of failures outside steps. */
  readonly retry?: RetryConfig
  /**
   * Maximum duration of one turn, in milliseconds; 600000 (10 minutes) by default. The time in which the run is
   * suspended does not count.
   */
  readonly timeout?: number
  /** Limits how many runs of the function execute at the same time; no limit by default. */
  readonly concurrency?: ConcurrencyConfig
  /**
   * How the function is preferably run: for display, and for legacy servers. This engine runs a function
   * wherever it is available. None by default.
   */
  readonly mode?: ExecutionMode
  /**
   * A dotted path. Runs with the same value at the path go to the same worker, as long as that worker is alive. A run
   * that is pinned to a version of the code goes to another worker when that worker does not have that version.
   */
  readonly actorKey?: string
  /**
   * At most ten dotted paths into `event`, for searches. `listRuns({ attributes: { "event.data.orderId":
   * "o-17" } })` finds the runs with that value, however many runs there are. Strings of at most 256
   * characters, numbers and booleans can be searched for. Runs that exist already are indexed in the
   * background.
   */
  readonly searchBy?: ReadonlyArray<string>
  /**
   * Validates and types the data of the event before the handler runs. An event whose definition is among the
   * triggers uses the schema of that definition instead.
   */
  readonly schema?: S
  /** Names of the secrets that the handler reads. */
  readonly secrets?: ReadonlyArray<string>
  /** Timeout of one attempt of a step; none by default. */
  readonly stepTimeout?: Duration
  /** Keeps an audit record of every run; `false` by default. */
  readonly recording?: boolean
  /** How long each entry of the audit record is kept: `7d`, `30d` (default), `90d` or `forever`. */
  readonly recordingRetention?: RecordingRetention | (string & {})
  /**
   * Version of the code, such as `"2"`. By default it is the hash of the handler's source. With `versioning:
   * "pin"`, set it, and change it whenever the steps change.
   */
  readonly version?: string
  /**
   * Which version of the code continues a run while workers of several versions are connected. `"latest"` (default)
   * allows any version, and `"pin"` allows only the version that the run began with. With `"pin"`, workers of an old
   * version must stay until the runs of that version have ended.
   */
  readonly versioning?: Versioning
  /**
   * How long runs are kept after their end: `"7d"`, or `{ completed: "7d", failed: "forever" }`, for example.
   * By default the engine's setting applies.
   */
  readonly keepRuns?: KeepRuns
  /** Any JSON object. Its member `requires`, an object of labels, restricts the function to workers with such labels. */
  readonly metadata?: Record<string, unknown>
  /**
   * Handles runs of the function that have failed for good. It receives the event, the error and the steps of the
   * failed run. It runs durably, as a function of its own, `<id>/on-failure`. It does not run after a cancellation.
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
  // `onFailure` may also be a plain handler, which has no keys to check
  onFailure: onFailureKeys
} satisfies Keys<FunctionConfig>

const effectFunctionKeys = { ...functionKeys, success: true, error: true } satisfies Keys<
  FunctionConfig & EffectFunctionDeclarations<never, never>
>

/** The run of a handler. */
export interface RunInfo {
  /** Id of the run. */
  readonly id: string
  /** Id of its function. */
  readonly functionId: string
  /** 1 at first. It grows by one each time that the run is tried again after a failure outside of steps. */
  readonly attempt: number
  /** When the run was created; with a legacy server, when this turn began. */
  readonly startedAt: Date
}

/** The argument of an async handler. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export interface FunctionContext<T = any, E = IronflowEvent<T>> {
  /** The event that started the run. */
  readonly event: E
  /** The steps. */
  readonly step: StepClient
  /** The run itself. */
  readonly run: RunInfo
  /** Logger of the run. It writes nothing while steps are replayed, so that each line appears once. */
  readonly logger: Logger
  /** The secrets that the function names. */
  readonly secrets: SecretsClient
  /**
   * Aborts when the turn ends: the run was suspended, has completed or failed, was paused or cancelled, or its lease
   * was lost. `signal.reason` is an error that says why.
   */
  readonly signal: AbortSignal
  /**
   * Registers what to clean up at the end of the turn. A `finally` block does not run when the run is
   * suspended.
   */
  readonly onTurnEnd: (callback: () => void | Promise<void>) => void
}

/** The code of a function. */
// oxlint-disable-next-line typescript/no-explicit-any -- without a schema nothing is known about the data
export type FunctionHandler<T = any, R = unknown> = (context: FunctionContext<T>) => R | Promise<R>

/**
 * A function with an async handler. `T` is the type of its events' data in the handler, `R` the type of its result,
 * and `I` the type of the data that `invoke` takes: the input type of its schema.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- lists of functions hold functions of every type
export interface IronflowFunction<T = any, R = any, I = any> {
  /** The configuration given to `createFunction`, with the triggers by name. */
  readonly config: DefinedConfig<AnySchema<T, I>>
  /** The code. */
  readonly handler: FunctionHandler<T, R>
  /** The function that was made of `onFailure`. It is registered together with this one. */
  readonly failureHandler?: Omit<IronflowFunction, "failureHandler">
}

/** The first parameter of `createFunction`. */
export type CreateFunctionConfig<S extends AnySchema = AnySchema> = FunctionConfig<S>

/**
 * A configuration that was checked. Its triggers name their events; the definitions among the triggers are listed
 * beside them.
 */
export interface DefinedConfig<S extends AnySchema = AnySchema> extends FunctionConfig<S> {
  /** The event definitions among its triggers. */
  readonly definitions?: ReadonlyArray<EventDefinition>
}

/**
 * Defines a function with an async handler. Throws `ValidationError`, which names the function and the field,
 * when the configuration is invalid.
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
      `Function "${resolved.id}": the handler must be a function, got ${show(handler)}`
    )
  }
  const failureHandler = failureHandlerOf<FailureHandler>(resolved, resolved.onFailure)
  if (failureHandler !== undefined) checkConfig(failureHandler.config)
  // the type parameters of the result follow from those of `config` and `handler`
  return {
    config: resolved,
    handler,
    ...(failureHandler === undefined ? {} : { failureHandler })
  } as IronflowFunction<TriggerEvents<Sources, S>["data"], R, InvokedWith<Sources, S>>
}

/** `createFunction` as a member, for the notation `ironflow.createFunction(...)`. */
export const ironflow = { createFunction } as const

// ---------------------------------------------------------------------------------------------------------------------
// The Effect API
// ---------------------------------------------------------------------------------------------------------------------

/** Data type of the events that the sources match; `any` if one of the sources is not a definition. */
export type TriggerData<Sources extends ReadonlyArray<TriggerSource>> = TriggerEvents<
  Sources,
  NoSchema
>["data"]

/** Schemas of a function's result and errors, which type its invocations. */
export interface EffectFunctionDeclarations<S, F> {
  /**
   * Schema of the result. The result is encoded to be stored, and decoded for the caller of `invoke`. Without it the
   * result must be JSON.
   */
  readonly success?: Schema.Codec<S, unknown>
  /**
   * Schema of errors. An error of the handler that matches is stored encoded. The caller of `invoke` receives it
   * decoded, as `failure` of the `InvokeError`.
   */
  readonly error?: Schema.Codec<F, unknown>
}

/** Configuration of a function for `IronflowFunction.make`. */
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
  /** What starts runs. Definitions with a schema validate and type the data. */
  readonly triggers: Sources
  /**
   * Handles runs of the function that have failed for good. It receives the event, the error and the steps of the
   * failed run. It runs durably, as a function of its own, `<id>/on-failure`. It does not run after a cancellation.
   * What it requires becomes a requirement of the function.
   */
  readonly onFailure?: EffectFailureHandler<RF> | OnFailure<EffectFailureHandler<RF>>
}

/** The argument of an Effect handler. Steps are in the `Step` module. */
export interface EffectFunctionContext<T, E = IronflowEvent<T>> {
  /** The event that started the run. */
  readonly event: E
  /** The run itself. */
  readonly run: RunInfo
  /** Logger with the fields of the run. It writes nothing while steps are replayed. */
  readonly logger: Logger
  /** The secrets that the function names. */
  readonly secrets: SecretsClient
}

/**
 * A function with an Effect handler. `A` is its result, `E` its error, and `R` what it requires besides steps. `T` is
 * the data of its events. `S` is the result according to the `success` schema, and `F` the errors according to the
 * `error` schema; each is `never` without its schema.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- lists of functions hold functions of every type
export interface EffectFunction<A = any, E = any, R = any, T = any, S = any, F = any> {
  /** The configuration given to `make`, with the triggers by name. */
  readonly config: Omit<FunctionConfig, "onFailure"> &
    EffectFunctionDeclarations<S, F> & {
      /** The definitions among the triggers. */
      readonly definitions: ReadonlyArray<EventDefinition>
    }
  /** The code. */
  readonly program: (context: EffectFunctionContext<T>) => Effect.Effect<A, E, R | GivenToHandlers>
  /** The function that was made of `onFailure`. It is registered together with this one. */
  readonly failureHandler?: Omit<EffectFunction, "failureHandler">
}

/** What every Effect handler is given: the steps, and a scope that closes when the turn ends. */
export type GivenToHandlers = Step | Scope.Scope

/** A function of either API. */
export type AnyFunction = IronflowFunction | EffectFunction

/** What the Effect handlers among the functions require. */
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
 * Throws `ValidationError`, which names the function and the field, when the configuration is invalid.
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
      `Function "${resolved.id}": the handler must be a function that returns an Effect, got ${show(program)}`
    )
  }
  const onFailure = failureHandlerOf<EffectFunction["program"]>(resolved, config.onFailure)
  if (onFailure !== undefined) checkConfig(onFailure.config)
  // the handler's requirements are those of the function and `GivenToHandlers`, which every turn provides
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

/**
 * Replaces the event definitions among the triggers of the configuration by their names, and checks the
 * configuration.
 */
const resolveTriggers = (config: unknown, keys: KnownKeys): DefinedConfig => {
  if (!isObject(config))
    throw new ValidationError(
      `The configuration of a function must be an object such as { id, triggers }, got ${show(config)}`
    )
  // `checkConfig` refuses `triggers` that are no array
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
  // the same definition may stand in several triggers, for example with different expressions
  const duplicate = definitions.find((definition, i) =>
    definitions.slice(0, i).some((other) => other.name === definition.name && other !== definition)
  )
  if (duplicate !== undefined) {
    throw new ValidationError(
      `${label}: \`triggers\` has two definitions of event "${duplicate.name}": give the latest version here, and the others as ` +
        "`eventDefinitions` to the worker, which converts older events to the latest version"
    )
  }
  return resolved
}

// ---------------------------------------------------------------------------------------------------------------------
// For workers and engines
// ---------------------------------------------------------------------------------------------------------------------

/** Maximum duration of one turn of the function, in milliseconds. */
export const functionTimeout = (fn: AnyFunction): number => fn.config.timeout ?? DEFAULT_TIMEOUTS.FUNCTION
