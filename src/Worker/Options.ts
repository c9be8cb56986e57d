/** Checks the options of a worker, and fills in defaults. */
import { type Duration, positiveDuration } from "../Duration.ts"
import {
  isEnvironmentNamed,
  readEnvironmentVariable,
  resolveEnvironment,
  type Variables
} from "../EnvironmentVariables.ts"
import { ValidationError } from "../Errors.ts"
import { hidesCode } from "../HandlerSource.ts"
import type { AnyFunction } from "../Function.ts"
import { checkMaxConcurrentJobs, checkName } from "../Limits.ts"
import { type Logger, resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { show } from "../Show.ts"
import type { AnyProjection, IronflowProjection } from "../Projection/Projection.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"

/** The options of every worker, whatever its transport. */
export interface WorkerOptions<
  Functions extends ReadonlyArray<AnyFunction> = ReadonlyArray<AnyFunction>,
  Projections extends ReadonlyArray<AnyProjection> = ReadonlyArray<IronflowProjection>
> {
  /** The functions whose runs this worker takes, in either style. The ids of the functions must differ. */
  readonly functions: Functions
  /**
   * The projections that this worker may run, in either style. While another worker owns a projection, this worker does
   * not run it. The names of the projections must differ.
   */
  readonly projections?: Projections
  /** Maximum number of turns in flight at once; 10 by default. Suspended runs do not count. */
  readonly maxConcurrentJobs?: number
  /** Labels of the worker; a function's `metadata.requires` restricts it to workers with these labels. */
  readonly labels?: { readonly [key: string]: string }
  /**
   * The environment to work for. By default the value of `IRONFLOW_ENV`, or else the environment of the API key, or
   * else `default`.
   */
  readonly environment?: string
  /** Upgrades event data to the latest version before a handler receives it. */
  readonly eventDefinitions?: EventDefinitionRegistry
  /**
   * The logger of the worker; `false` logs nothing. By default `createWorker` logs to the console with the prefix
   * `[ironflow-worker]`, and `Worker.layer` to Effect's loggers.
   */
  readonly logger?: Logger | false
  /** The id of this worker; random by default. */
  readonly workerId?: string
  /** How long draining waits for turns in flight before it releases their runs; 30 seconds by default. */
  readonly drainTimeout?: Duration
}

export const workerKeys = {
  functions: true,
  projections: true,
  maxConcurrentJobs: true,
  labels: true,
  environment: true,
  eventDefinitions: true,
  logger: true,
  workerId: true,
  drainTimeout: true
} satisfies Keys<WorkerOptions>

export interface ResolvedWorkerOptions {
  readonly functions: ReadonlyMap<string, AnyFunction>
  readonly projections: ReadonlyArray<AnyProjection>
  readonly maxConcurrentJobs: number
  readonly labels: { readonly [key: string]: string }
  readonly environment: string
  readonly namesEnvironment: boolean
  readonly eventDefinitions: EventDefinitionRegistry | undefined
  readonly logger: Logger
  readonly workerId: string | undefined
  readonly drainTimeoutMs: number
}

/** Checks the options and fills in defaults from the environment variables. Throws `ValidationError`. */
export const resolveWorkerOptions = (
  options: WorkerOptions<ReadonlyArray<AnyFunction>, ReadonlyArray<AnyProjection>>,
  variables: Variables = readEnvironmentVariable
): ResolvedWorkerOptions => {
  checkKeys(options, workerKeys, "Worker", options.logger)
  const { maxConcurrentJobs = 10 } = options
  checkMaxConcurrentJobs(maxConcurrentJobs)
  if (options.workerId !== undefined) checkName("worker id", options.workerId)
  return {
    functions: functionsById(options.functions, "Worker"),
    projections: checkProjections(options.projections ?? []),
    maxConcurrentJobs,
    labels: checkLabels(options.labels ?? {}),
    environment: checkName("environment", resolveEnvironment(options.environment, variables)),
    namesEnvironment: isEnvironmentNamed(options.environment, variables),
    eventDefinitions: options.eventDefinitions,
    logger: resolveLogger(options.logger, "[ironflow-worker]"),
    workerId: options.workerId,
    drainTimeoutMs: positiveDuration(options.drainTimeout ?? "30s", "`drainTimeout` of the worker")
  }
}

/**
 * Makes a map from ids to functions, including their `onFailure` handlers. Throws a `ValidationError`, whose message
 * begins with `caller`, when a value is no function definition or two functions have the same id.
 */
export const functionsById = (
  functions: ReadonlyArray<AnyFunction>,
  caller: string
): ReadonlyMap<string, AnyFunction> => {
  if (!Array.isArray(functions)) {
    throw new ValidationError(
      `${caller}: \`functions\` must be an array of what createFunction() returned, got ${show(functions)}`
    )
  }
  const byId = new Map<string, AnyFunction>()
  for (const [index, fn] of functions.entries()) {
    const id: unknown = fn?.config?.id
    if (typeof id !== "string") {
      throw new ValidationError(
        `${caller}: \`functions[${index}]\` is not a function definition, but ${show(fn)}: pass what createFunction() returned`
      )
    }
    if (byId.has(id)) {
      throw new ValidationError(
        `${caller}: two functions have the id "${id}"; give each function an id of its own`
      )
    }
    if (fn.config.versioning === "pin" && fn.config.version === undefined && hidesCode(fn)) {
      throw new ValidationError(
        `${caller}: function "${id}" pins its runs to the version of its code, and has no \`version\`. The text of its handler cannot ` +
          "stand for one: Effect.fn, Effect.fnUntraced and bind() return functions that all have the same text. Give the function a " +
          "`version`, and change it with the code"
      )
    }
    byId.set(id, fn)
  }
  for (const { failureHandler } of functions) {
    if (failureHandler === undefined) continue
    const { id } = failureHandler.config
    if (byId.has(id)) {
      throw new ValidationError(
        `${caller}: a function has the id "${id}", which the \`onFailure\` handler of a function has too; give the function another id`
      )
    }
    byId.set(id, failureHandler)
  }
  return byId
}

const checkProjections = (projections: ReadonlyArray<AnyProjection>): ReadonlyArray<AnyProjection> => {
  if (!Array.isArray(projections)) {
    throw new ValidationError(
      `Worker: \`projections\` must be an array of what createProjection() returned, got ${show(projections)}`
    )
  }
  const names = new Set<string>()
  for (const [index, projection] of projections.entries()) {
    const name: unknown = projection?.config?.name
    if (typeof name !== "string") {
      throw new ValidationError(
        `Worker: \`projections[${index}]\` is not a projection, but ${show(projection)}: pass what createProjection() returned`
      )
    }
    if (names.has(name)) {
      throw new ValidationError(
        `Worker: two projections have the name "${name}"; give each projection of a worker a name of its own`
      )
    }
    names.add(name)
  }
  return projections
}

const checkLabels = (labels: { readonly [key: string]: string }): { readonly [key: string]: string } => {
  for (const [name, value] of Object.entries(labels)) {
    checkName("label name", name)
    if (typeof value !== "string") {
      throw new ValidationError(`Worker: label "${name}" must be a string, got ${show(value)}`)
    }
  }
  return { ...labels }
}
