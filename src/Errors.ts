/**
 * Every error that the SDK and the engine raise, and how an error is stored and comes back.
 *
 * The classes are ordinary: throw them, reject with them, yield them in `Effect.gen`, match them with `catchTag`. Each
 * says by `retryable` whether trying again may help and by `code` what it is, in a word that is the same everywhere.
 * A class that extends another of ours ({@link WaitTimeoutError} is a {@link TimeoutError}) shares its tag, so that
 * `catchTag("TimeoutError")` and `instanceof TimeoutError` agree; `name` and `code` tell them apart.
 */
import * as Data from "effect/Data"
import type { Duration } from "./Duration.ts"
import { isEmptied, isError } from "./Emptied.ts"
import type { ExpectedVersion } from "./EntityStream.ts"

export interface IronflowErrorOptions {
  /** What it is, in upper snake case; `UNKNOWN_ERROR` by default. */
  readonly code?: string
  /** Whether trying again may help; `false` by default. */
  readonly retryable?: boolean
  readonly details?: unknown
  readonly cause?: unknown
  /** The HTTP status that came with it. */
  readonly status?: number
}

type CauseOption = Pick<IronflowErrorOptions, "cause">

/** The base of all errors of ours. */
export class IronflowError extends Data.Error<{ message: string; cause?: unknown }> {
  /**
   * The name of the class, always there. To the compiler it may be absent: `catchTag` would else take this class for every
   * other, and hold nothing of it to be left afterwards.
   */
  declare readonly _tag?: string
  readonly code: string
  readonly retryable: boolean
  readonly details: unknown
  /** The HTTP status of such an error, or the one that came with it over HTTP. */
  declare readonly status?: number

  constructor(message: string, options: IronflowErrorOptions = {}) {
    // The name has to be on the prototype before the stack is captured: the stack's first line shows it.
    nameClass(new.target)
    super(options.cause === undefined ? { message } : { message, cause: options.cause })
    this.code = options.code ?? "UNKNOWN_ERROR"
    this.retryable = options.retryable ?? false
    this.details = options.details
    if (options.status !== undefined) this.status = options.status
  }
}

/**
 * An error made without its stack, which takes longer than most operations: for an answer to expect, made where nobody who
 * could have caused it is on the stack.
 */
export const withoutStack = <E extends IronflowError>(make: () => E): E => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return make()
  } finally {
    Error.stackTraceLimit = limit
  }
}

/** The connection to the engine failed or was lost. */
export class ConnectionError extends IronflowError {
  declare readonly _tag: "ConnectionError"
  constructor(message: string, options: Omit<IronflowErrorOptions, "code" | "retryable"> = {}) {
    super(message, { ...options, code: "CONNECTION_LOST", retryable: true })
  }
}

/** A subscription was refused or broke. */
export class SubscriptionError extends IronflowError {
  declare readonly _tag: "SubscriptionError"
  readonly subscriptionId: string | undefined
  constructor(message: string, options: IronflowErrorOptions & { readonly subscriptionId?: string } = {}) {
    super(message, {
      ...options,
      code: options.code ?? "SUBSCRIPTION_ERROR",
      retryable: options.retryable ?? true
    })
    this.subscriptionId = options.subscriptionId
  }
}

/** A request or an operation took longer than it was given, `timeoutMs` milliseconds. */
export class TimeoutError extends IronflowError {
  declare readonly _tag: "TimeoutError"
  readonly timeoutMs: number
  constructor(message: string, timeoutMs: number, options: IronflowErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "TIMEOUT", retryable: options.retryable ?? true })
    this.timeoutMs = timeoutMs
  }
}

/** `step.waitForEvent` saw no matching event in time. The handler may catch it and go on. */
export class WaitTimeoutError extends TimeoutError {
  readonly stepName: string
  readonly event: string
  constructor(stepName: string, event: string, timeoutMs: number) {
    super(
      `Step "${stepName}" timed out after ${timeoutMs}ms: no event "${event}" that it accepts arrived`,
      timeoutMs,
      { code: "WAIT_TIMEOUT", retryable: false }
    )
    this.stepName = stepName
    this.event = event
  }
}

/** One turn of a function took longer than the function's `timeout`. */
export class FunctionTimeoutError extends TimeoutError {
  readonly functionId: string
  constructor(functionId: string, timeoutMs: number) {
    super(
      `Function "${functionId}" timed out: one turn of it ran longer than ${timeoutMs}ms. ` +
        "Move long work into steps, or raise the function's `timeout`",
      timeoutMs,
      { code: "FUNCTION_TIMEOUT" }
    )
    this.functionId = functionId
  }
}

export interface ValidationErrorOptions extends CauseOption {
  /** One `path: problem` for each thing that is wrong. */
  readonly validationErrors?: ReadonlyArray<string>
  readonly code?: string
  readonly details?: unknown
}

/** Something given is not acceptable: a configuration, an argument, a value. */
export class ValidationError extends IronflowError {
  declare readonly _tag: "ValidationError"
  readonly validationErrors: Array<string>
  constructor(message: string, options: ValidationErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? "VALIDATION_ERROR", retryable: false })
    this.validationErrors = [...(options.validationErrors ?? [])]
  }
}

/** Data does not fit the schema it was checked against. `validationErrors` lists the paths. */
export class SchemaValidationError extends ValidationError {}

/** Something is larger than the engine stores. Nothing was stored, and it is not retried. */
export class LimitExceededError extends ValidationError {
  readonly what: string
  readonly size: number
  readonly limit: number
  readonly unit: string
  constructor(what: string, size: number, limit: number, unit: string) {
    super(`${what} is too large: ${size} ${unit}, and the limit is ${limit} ${unit}`, {
      code: "LIMIT_EXCEEDED"
    })
    this.what = what
    this.size = size
    this.limit = limit
    this.unit = unit
  }
}

/** A signed request does not carry a valid signature. */
export class SignatureError extends IronflowError {
  declare readonly _tag: "SignatureError"
  constructor(message: string, options: CauseOption = {}) {
    super(message, { ...options, code: "SIGNATURE_INVALID", retryable: false })
  }
}

/** No function of this id is registered. */
export class FunctionNotFoundError extends IronflowError {
  declare readonly _tag: "FunctionNotFoundError"
  readonly functionId: string
  constructor(functionId: string, options: CauseOption = {}) {
    super(`Function not found: ${functionId}`, {
      ...options,
      code: "FUNCTION_NOT_FOUND",
      details: { functionId }
    })
    this.functionId = functionId
  }
}

/** There is no run of this id in the environment. */
export class RunNotFoundError extends IronflowError {
  declare readonly _tag: "RunNotFoundError"
  readonly runId: string
  constructor(runId: string, options: CauseOption = {}) {
    super(`Run not found: ${runId}`, { ...options, code: "RUN_NOT_FOUND", details: { runId } })
    this.runId = runId
  }
}

/** There is no projection of this name in the environment: no worker has registered it. */
export class ProjectionNotFoundError extends IronflowError {
  declare readonly _tag: "ProjectionNotFoundError"
  readonly projection: string
  constructor(projection: string, options: CauseOption = {}) {
    super(`Projection not found: no worker has registered "${projection}" in this environment`, {
      ...options,
      code: "PROJECTION_NOT_FOUND",
      details: { projection }
    })
    this.projection = projection
  }
}

/** A projection was not as far in the log as somebody waited for. It goes on; `position` is where it was. */
export class ProjectionBehindError extends TimeoutError {
  readonly projection: string
  readonly position: number
  readonly target: number
  constructor(projection: string, position: number, target: number, timeoutMs: number, why: string) {
    super(
      `Projection "${projection}" was at position ${position} of the log after ${timeoutMs}ms, and not at ${target}. ${why}`,
      timeoutMs,
      { code: "PROJECTION_BEHIND", details: { projection, position, target } }
    )
    this.projection = projection
    this.position = position
    this.target = target
  }
}

/** The run has no step of this id. */
export class StepNotFoundError extends IronflowError {
  declare readonly _tag: "StepNotFoundError"
  readonly runId: string
  readonly stepId: string
  constructor(runId: string, stepId: string, options: CauseOption = {}) {
    super(`Step not found: run ${runId} has no step "${stepId}"`, {
      ...options,
      code: "STEP_NOT_FOUND",
      details: { runId, stepId }
    })
    this.runId = runId
    this.stepId = stepId
  }
}

export interface StepErrorOptions extends CauseOption {
  readonly stepId: string
  readonly stepName: string
  /** `true` by default; `false` once the attempts of the step are used up. */
  readonly retryable?: boolean
}

/** A step failed. `cause` is what its callback threw. */
export class StepError extends IronflowError {
  declare readonly _tag: "StepError"
  readonly stepId: string
  readonly stepName: string
  constructor(message: string, options: StepErrorOptions) {
    super(message, {
      code: "STEP_FAILED",
      retryable: options.retryable ?? true,
      details: { stepId: options.stepId, stepName: options.stepName },
      cause: options.cause
    })
    this.stepId = options.stepId
    this.stepName = options.stepName
  }
}

/** Throw it to say that trying again cannot help: no retry, and compensations run. */
export class NonRetryableError extends IronflowError {
  declare readonly _tag: "NonRetryableError"
  constructor(message: string, options: Omit<IronflowErrorOptions, "retryable"> = {}) {
    super(message, { ...options, code: options.code ?? "NON_RETRYABLE", retryable: false })
  }
}

/**
 * Throw it to say when to try again: after a delay (milliseconds, or text such as `"30s"`), at a `Date`, or as the text of an HTTP
 * `Retry-After` header says. It counts as an attempt like any failure.
 */
export class RetryAfterError extends IronflowError {
  declare readonly _tag: "RetryAfterError"
  readonly retryAfter: Duration | Date
  constructor(
    message: string,
    retryAfter: Duration | Date,
    options: Omit<IronflowErrorOptions, "retryable"> = {}
  ) {
    super(message, { ...options, code: options.code ?? "RETRY_AFTER", retryable: true })
    this.retryAfter = retryAfter
  }
}

/** Something was used before it was configured. */
export class NotConfiguredError extends IronflowError {
  declare readonly _tag: "NotConfiguredError"
  constructor(message = "Ironflow is not configured: give a server URL, or set IRONFLOW_SERVER_URL") {
    super(message, { code: "NOT_CONFIGURED" })
  }
}

export interface InvokeErrorOptions<E> extends CauseOption {
  readonly failure?: E
}

/**
 * A function that a step invoked failed, or could not be invoked. `cause` is the error of the function's run, as far as the server
 * tells it; `E` is what the function declares to fail with.
 */
export class InvokeError<E = unknown> extends IronflowError {
  declare readonly _tag: "InvokeError"
  readonly functionId: string
  readonly childRunId: string | undefined
  readonly errorCause: string
  /** What the function failed with, when an Effect handler has invoked it and the failure fits the declared schema. */
  declare readonly failure?: E
  constructor(
    functionId: string,
    childRunId: string | undefined,
    errorCause: string,
    options: InvokeErrorOptions<E> = {}
  ) {
    super(
      `Invoked function '${functionId}'${childRunId ? ` (run ${childRunId})` : ""} failed: ${errorCause}`,
      {
        ...options,
        code: "INVOKE_FAILED",
        details: { functionId, childRunId }
      }
    )
    this.functionId = functionId
    this.childRunId = childRunId
    this.errorCause = errorCause
    if (options.failure !== undefined) withFailure(this, options.failure)
  }
}

/** Says what the function failed with, in the words of its schema. It is not stored with the error, which has it encoded. */
export const withFailure = <E>(error: InvokeError, failure: E): InvokeError<E> => {
  define(error, "failure", failure, false)
  return error as InvokeError<E>
}

/** A function that a step invoked did not end in time. The child run goes on. */
export class InvokeTimeoutError extends InvokeError<never> {
  readonly timeoutMs: number
  constructor(functionId: string, childRunId: string | undefined, timeoutMs: number) {
    super(functionId, childRunId, `timed out after ${timeoutMs}ms (the child run goes on)`)
    this.timeoutMs = timeoutMs
  }
}

/** The callback of a step took longer than its timeout, a duration as the user wrote it. */
export class StepTimeoutError extends IronflowError {
  declare readonly _tag: "StepTimeoutError"
  readonly stepName: string
  readonly timeout: string
  constructor(stepName: string, timeout: string) {
    super(`Step "${stepName}" timed out after ${timeout}`, { code: "STEP_TIMEOUT", retryable: true })
    this.stepName = stepName
    this.timeout = timeout
  }
}

/** A running step was told to stop: a sibling failed, the run was cancelled, the lease was lost. */
export class StepAbortedError extends IronflowError {
  declare readonly _tag: "StepAbortedError"
  readonly stepName: string
  readonly reason: string
  constructor(stepName: string, reason: string, options: CauseOption = {}) {
    super(`Step "${stepName}" was aborted: ${reason}`, { ...options, code: "STEP_ABORTED" })
    this.stepName = stepName
    this.reason = reason
  }
}

/** A step was called inside the callback of another step, where it could never be remembered. */
export class NestedStepError extends IronflowError {
  declare readonly _tag: "NestedStepError"
  readonly stepName: string
  readonly outerStepName: string
  constructor(stepName: string, outerStepName: string) {
    super(
      `Step "${stepName}" was called inside the callback of step "${outerStepName}". ` +
        `Move the call of "${stepName}" out of that callback, before or after the outer step`,
      { code: "NESTED_STEP" }
    )
    this.stepName = stepName
    this.outerStepName = outerStepName
  }
}

/** A replay asked for something else than what was recorded. The run is paused, not failed. */
export class NondeterminismError extends IronflowError {
  declare readonly _tag: "NondeterminismError"
  constructor(message: string, options: Pick<IronflowErrorOptions, "details" | "cause"> = {}) {
    super(message, { ...options, code: "NONDETERMINISM" })
  }
}

/**
 * A stream is not at the version that an append expected: somebody else has appended in between. Nothing was stored. Read
 * the stream again and decide anew; a step that does so in its body may simply be retried.
 */
export class VersionConflictError extends IronflowError {
  declare readonly _tag: "VersionConflictError"
  readonly entityId: string
  readonly expectedVersion: ExpectedVersion
  /** 0 when there is no stream; `undefined` when a server does not say. */
  readonly actualVersion: number | undefined
  constructor(
    entityId: string,
    expectedVersion: ExpectedVersion,
    actualVersion: number | undefined,
    options: Pick<IronflowErrorOptions, "cause"> = {}
  ) {
    super(
      `Version conflict on stream "${entityId}": expected ${describeVersion(expectedVersion)}, ` +
        `actual ${actualVersion === undefined ? "version unknown" : describeVersion(actualVersion)}. ` +
        "Read the stream again and decide anew",
      {
        ...options,
        code: "VERSION_CONFLICT",
        retryable: true,
        details: { entityId, expectedVersion, ...(actualVersion === undefined ? {} : { actualVersion }) }
      }
    )
    this.entityId = entityId
    this.expectedVersion = expectedVersion
    this.actualVersion = actualVersion
  }
}

const describeVersion = (version: ExpectedVersion): string => {
  switch (version) {
    case 0:
    case "NO_STREAM":
      return "no stream (version 0)"
    case "STREAM_EXISTS":
      return "a stream that exists"
    default:
      return `version ${version}`
  }
}

/** There is no stream of this entity in the environment: nothing was ever appended to it. */
export class StreamNotFoundError extends IronflowError {
  declare readonly _tag: "StreamNotFoundError"
  readonly entityId: string
  constructor(entityId: string, options: CauseOption = {}) {
    super(
      `Stream not found: nothing was ever appended to the stream of entity "${entityId}" in this environment`,
      {
        ...options,
        code: "STREAM_NOT_FOUND",
        details: { entityId }
      }
    )
    this.entityId = entityId
  }
}

/** The run or entity is in a state that does not allow the operation. */
export class InvalidStateError extends IronflowError {
  declare readonly _tag: "InvalidStateError"
  constructor(message: string, options: Pick<IronflowErrorOptions, "details" | "cause"> = {}) {
    super(message, { ...options, code: "INVALID_STATE" })
  }
}

export type StoreErrorCode = "STORE_ERROR" | "STORE_LOCKED" | "STORE_CORRUPT" | "STORE_UNAVAILABLE"

/** The database cannot be read or written, is held by another engine, or is damaged. */
export class StoreError extends IronflowError {
  declare readonly _tag: "StoreError"
  declare readonly code: StoreErrorCode
  constructor(
    message: string,
    options: Pick<IronflowErrorOptions, "retryable" | "details" | "cause"> & {
      /** `STORE_ERROR` by default. */
      readonly code?: StoreErrorCode
    } = {}
  ) {
    super(message, { ...options, code: options.code ?? "STORE_ERROR" })
  }
}

/** A run that somebody waited for has failed. */
export class RunFailedError extends IronflowError {
  declare readonly _tag: "RunFailedError"
  readonly runId: string
  readonly output: unknown
  constructor(runId: string, output: unknown, message = `Run failed: ${runId}`) {
    super(message, { code: "RUN_FAILED" })
    this.runId = runId
    this.output = output
  }
}

/** A run that somebody waited for was cancelled. */
export class RunCancelledError extends IronflowError {
  declare readonly _tag: "RunCancelledError"
  readonly runId: string
  constructor(runId: string) {
    super(`Run cancelled: ${runId}`, { code: "RUN_CANCELLED" })
    this.runId = runId
  }
}

/** The engine wants an API key and got none, or one that it does not know. */
export class UnauthenticatedError extends IronflowError {
  declare readonly _tag: "UnauthenticatedError"
  constructor(message = "Not authenticated: give a valid API key as `apiKey`, or set IRONFLOW_API_KEY") {
    super(message, { code: "UNAUTHENTICATED" })
  }
}

/** The server answered that this needs a licence. */
export class EnterpriseRequiredError extends IronflowError {
  declare readonly _tag: "EnterpriseRequiredError"
  constructor(message = "The server says that this feature needs an enterprise license") {
    super(message, { code: "ENTERPRISE_REQUIRED" })
  }
}

/** The API key is known and may not do this. */
export class UnauthorizedError extends IronflowError {
  declare readonly _tag: "UnauthorizedError"
  constructor(message = "Not permitted: the role of the API key does not allow this") {
    super(message, { code: "UNAUTHORIZED" })
  }
}

/** A key is not at the revision that a write expects. Read it again and decide anew. */
export class RevisionConflictError extends IronflowError {
  declare readonly _tag: "RevisionConflictError"
  readonly bucket: string
  readonly key: string
  /** The revision that the write expected; 0 for none. */
  readonly expected: number
  /** The revision that the key has; 0 when it does not exist, `undefined` when the server does not tell. */
  readonly actual: number | undefined
  constructor(bucket: string, key: string, expected: number, actual?: number, options: CauseOption = {}) {
    super(
      `Key "${key}" in bucket "${bucket}" ${
        expected === 0
          ? `exists already${actual === undefined ? "" : `, at revision ${actual}`}`
          : `is not at revision ${expected}${
              actual === undefined ? "" : actual === 0 ? ": it does not exist" : ` but at ${actual}`
            }`
      }. Nothing was written: read it again and decide anew`,
      { ...options, code: "REVISION_CONFLICT", retryable: true, details: { bucket, key, expected, actual } }
    )
    this.bucket = bucket
    this.key = key
    this.expected = expected
    this.actual = actual
  }
}

/** The key has no value: it was never put, was deleted, or has expired. */
export class KeyNotFoundError extends IronflowError {
  declare readonly _tag: "KeyNotFoundError"
  readonly bucket: string
  readonly key: string
  constructor(bucket: string, key: string) {
    super(`Key not found: bucket "${bucket}" has no value for "${key}"`, {
      code: "KEY_NOT_FOUND",
      details: { bucket, key }
    })
    this.bucket = bucket
    this.key = key
  }
}

/**
 * The value of a key does not fit the schema that its bucket was given: one that is stored, or one that was to be written,
 * and nothing was. `validationErrors` lists the paths.
 */
export class KeySchemaError extends SchemaValidationError {
  readonly bucket: string
  readonly key: string
  /** Of the value that is stored; `undefined` for one that was to be written. */
  readonly revision: number | undefined
  constructor(
    bucket: string,
    key: string,
    revision: number | undefined,
    validationErrors: ReadonlyArray<string>,
    options: CauseOption = {}
  ) {
    super(
      `The value ${revision === undefined ? "for" : `at revision ${revision} of`} key "${key}" in bucket "${bucket}" ` +
        `does not fit the schema of the bucket${revision === undefined ? ", and nothing was written" : ""}: ` +
        problemsOf(validationErrors, options.cause),
      {
        ...options,
        validationErrors,
        details: { bucket, key, ...(revision === undefined ? {} : { revision }) }
      }
    )
    this.bucket = bucket
    this.key = key
    this.revision = revision
  }
}

/**
 * An event of an entity does not fit the definition of the entity: one of its stream, or one that was to be appended, and
 * nothing was. The same for a snapshot of the entity's state. `validationErrors` lists the paths.
 */
export class StreamSchemaError extends SchemaValidationError {
  readonly entityId: string
  /** Name of the event; `undefined` for a snapshot. */
  readonly event: string | undefined
  /** Of what is stored; `undefined` for what was to be appended. */
  readonly entityVersion: number | undefined
  constructor(
    entityId: string,
    event: string | undefined,
    entityVersion: number | undefined,
    validationErrors: ReadonlyArray<string>,
    options: CauseOption = {}
  ) {
    const what = event === undefined ? "The snapshot" : `Event "${event}"`
    super(
      `${what} ${entityVersion === undefined ? "for" : `at version ${entityVersion} of`} entity "${entityId}" ` +
        `does not fit the definition of the entity${entityVersion === undefined ? ", and nothing was stored" : ""}: ` +
        problemsOf(validationErrors, options.cause),
      {
        ...options,
        validationErrors,
        details: {
          entityId,
          ...(event === undefined ? {} : { event }),
          ...(entityVersion === undefined ? {} : { entityVersion })
        }
      }
    )
    this.entityId = entityId
    this.event = event
    this.entityVersion = entityVersion
  }
}

const problemsOf = (problems: ReadonlyArray<string>, cause: unknown): string =>
  problems.length === 0 ? `the schema threw "${toError(cause).message}"` : problems.join("; ")

/** There is no bucket of this name in the environment. */
export class BucketNotFoundError extends IronflowError {
  declare readonly _tag: "BucketNotFoundError"
  readonly bucket: string
  constructor(bucket: string) {
    super(`Bucket not found: ${bucket}. Create it first`, { code: "BUCKET_NOT_FOUND", details: { bucket } })
    this.bucket = bucket
  }
}

/** There is a bucket of this name already. It stays as it is. */
export class BucketExistsError extends IronflowError {
  declare readonly _tag: "BucketExistsError"
  readonly bucket: string
  constructor(bucket: string) {
    super(`Bucket "${bucket}" exists already`, { code: "BUCKET_EXISTS", details: { bucket } })
    this.bucket = bucket
  }
}

/** A watch should begin after a revision so old that deletions since then are forgotten. Begin again from 0. */
export class RevisionGoneError extends IronflowError {
  declare readonly _tag: "RevisionGoneError"
  readonly bucket: string
  readonly revision: number
  constructor(bucket: string, revision: number) {
    super(
      `Not every change of bucket "${bucket}" after revision ${revision} is known any more: ` +
        "watch from revision 0, which begins with the values that there are",
      { code: "REVISION_GONE", details: { bucket, revision } }
    )
    this.bucket = bucket
    this.revision = revision
  }
}

/** There is no consumer group of this name in the namespace, or none of this name for the pattern. */
export class ConsumerGroupNotFoundError extends IronflowError {
  declare readonly _tag: "ConsumerGroupNotFoundError"
  readonly group: string
  constructor(group: string, namespace: string, pattern?: string) {
    super(
      `Consumer group not found: nobody has joined or created "${group}"${
        pattern === undefined ? "" : ` for the pattern "${pattern}"`
      } in namespace "${namespace}" of this environment`,
      {
        code: "CONSUMER_GROUP_NOT_FOUND",
        details: { group, namespace, ...(pattern === undefined ? {} : { pattern }) }
      }
    )
    this.group = group
  }
}

/** A consumer group of this name is there for the pattern: update it, or delete it first. */
export class ConsumerGroupExistsError extends IronflowError {
  declare readonly _tag: "ConsumerGroupExistsError"
  readonly group: string
  constructor(group: string, namespace: string, pattern: string) {
    super(
      `Consumer group "${group}" exists already for the pattern "${pattern}" in namespace "${namespace}": update it instead`,
      { code: "CONSUMER_GROUP_EXISTS", details: { group, namespace, pattern } }
    )
    this.group = group
  }
}

/** There is no configuration of this name in the environment. */
export class ConfigNotFoundError extends IronflowError {
  declare readonly _tag: "ConfigNotFoundError"
  readonly configName: string
  constructor(configName: string) {
    super(`Configuration not found: ${configName}`, { code: "CONFIG_NOT_FOUND", details: { configName } })
    this.configName = configName
  }
}

/** Error codes that servers and older clients use, by name. */
export const ERROR_CODES = {
  FUNCTION_NOT_FOUND: "FUNCTION_NOT_FOUND",
  VALIDATION_ERROR: "VALIDATION_ERROR",
  SIGNATURE_INVALID: "SIGNATURE_INVALID",
  NETWORK_ERROR: "NETWORK_ERROR",
  SERVER_ERROR: "SERVER_ERROR",
  TIMEOUT_ERROR: "TIMEOUT_ERROR",
  CONNECTION_LOST: "CONNECTION_LOST",
  CONNECTION_REFUSED: "CONNECTION_REFUSED",
  SUBSCRIPTION_ERROR: "SUBSCRIPTION_ERROR",
  NOT_CONFIGURED: "NOT_CONFIGURED"
} as const

export type ErrorCode = (typeof ERROR_CODES)[keyof typeof ERROR_CODES]

/** Whether `error` is one of ours. */
export const isIronflowError = (error: unknown): error is IronflowError => isInstance(error, IronflowError)

/**
 * Whether the engine tries again after this error.
 *
 * Errors of ours, and any other object with a boolean `retryable`, answer for themselves. Everything else that can be
 * thrown is retryable, a plain `Error` included: say `NonRetryableError` when trying again cannot help.
 */
export const isRetryable = (error: unknown): boolean => {
  const retryable = read(error, "retryable")
  return typeof retryable === "boolean" ? retryable : true
}

/** What the error says of when to try again, unread: a {@link RetryAfterError}, or any object with a `retryAfter`. */
export const retryAfterOf = (error: unknown): unknown => read(error, "retryAfter") ?? undefined

/**
 * The value as an `Error`: an `Error` as it is, a string as the message, an object by its `message`, anything else as
 * text. Never throws.
 */
export const toError = (value: unknown): Error => {
  if (isInstance(value, Error)) return value
  const message = read(value, "message")
  return new Error(typeof message === "string" ? message : describe(value))
}

// ---------------------------------------------------------------------------------------------------------------------
// Stored errors
// ---------------------------------------------------------------------------------------------------------------------

/** An error as it is stored and sent: enough to come back as the same class where the class is ours. */
export interface SerializedError {
  readonly name: string
  readonly message: string
  readonly code?: string
  /** Absent on errors that do not say; they are retryable. */
  readonly retryable?: boolean
  readonly stack?: string
  /** Own enumerable properties that JSON can carry, besides the fields above. */
  readonly data?: { readonly [key: string]: unknown }
  readonly cause?: SerializedError
  /** For a user's subclass of an error of ours: the name of our class. */
  readonly base?: string
}

const maxCauses = 8
const maxMessageLength = 16_384
const maxStackLength = 16_384
const maxDataLength = 65_536

/**
 * The error, or whatever was thrown, as plain data that JSON can carry. Never throws: what cannot be read or carried is
 * left out. A chain of causes is followed 8 deep; very long messages and stacks are cut, very large data is left out.
 */
export const serializeError = (error: unknown, options: { readonly stack?: boolean } = {}): SerializedError =>
  serialize(error, options.stack ?? true, 0)

const serialize = (thrown: unknown, withStack: boolean, depth: number): SerializedError => {
  const isError = isErrorLike(thrown)
  const error: unknown = isError ? thrown : toError(thrown)
  const ours = isIronflowError(error)
  const name = text(read(error, "name"), "Error")
  const code = read(error, "code")
  const retryable = read(error, "retryable")
  const stack = read(error, "stack")
  const cause = read(error, "cause")
  const data = ownData(error, ours, withStack, depth)
  const base = ours ? classNameOf(error) : undefined

  return {
    name,
    message: text(read(error, "message"), "").slice(0, maxMessageLength),
    ...(typeof code === "string" ? { code } : {}),
    ...(typeof retryable === "boolean" ? { retryable } : {}),
    // The stack of an error that only wraps a thrown value shows this file, which helps nobody.
    ...(withStack && isError && typeof stack === "string" ? { stack: stack.slice(0, maxStackLength) } : {}),
    ...(data === undefined ? {} : { data }),
    ...(cause === undefined || cause === null || depth >= maxCauses
      ? {}
      : { cause: serialize(cause, withStack, depth + 1) }),
    ...(base === undefined || base === name ? {} : { base })
  }
}

/** A typed failure stands in the data of the stored error under this name. Only its schema can read it. */
export const encodedFailure = "ironflow:failure"

/** The error without what only its step's schema can read. */
export const withoutEncoding = (error: SerializedError): SerializedError => {
  if (error.data === undefined || !(encodedFailure in error.data)) return error
  const { [encodedFailure]: _, ...data } = error.data
  return { ...error, data }
}

/** How the run of an invoked function has failed, as the error of the step that invoked it. */
export const invokeFailure = (
  functionId: string,
  childRunId: string,
  error: SerializedError
): SerializedError => {
  const told = serializeError(new InvokeError(functionId, childRunId, messageOf(error)))
  const failure = error.data?.[encodedFailure]
  return {
    ...told,
    cause: withoutEncoding(error),
    ...(failure === undefined ? {} : { data: { ...told.data, [encodedFailure]: failure } })
  }
}

const maxSummaryLength = 512

/** What an error says to people: its message or, since tagged errors often have none, its name and what it carries. */
export const messageOf = ({
  data,
  message,
  name
}: Pick<SerializedError, "message" | "name" | "data">): string => {
  if (message !== "") return message
  const { _tag, ...own } = data ?? {}
  const carried = Object.keys(own).length === 0 ? "" : ` ${describe(own)}`
  return `${name}${carried}`.slice(0, maxSummaryLength)
}

/** The error again: the same class where it is ours or built in, else an `Error` of that name. Never throws. */
export const deserializeError = (stored: SerializedError): Error => revive(stored, 0)

const revive = (damaged: SerializedError | null | undefined, depth: number): Error => {
  const stored: Partial<SerializedError> = damaged ?? {}
  const message = text(stored.message, "")
  const name = text(stored.name, "Error")
  const hasCause = stored.cause !== undefined && stored.cause !== null && depth < maxCauses
  const error = construct(
    stored,
    name,
    message,
    hasCause ? revive(stored.cause, depth + 1) : undefined,
    depth
  )

  if (error.name !== name) define(error, "name", name, false)
  const ours = isIronflowError(error)
  for (const [key, value] of Object.entries(stored.data ?? {})) {
    if ((key === "errors" && error instanceof AggregateError) || key === encodedFailure) continue
    if (!standardKeys.has(key) || (key === "code" && !ours)) define(error, key, value, true)
  }
  if (!ours) {
    if (stored.code !== undefined) define(error, "code", stored.code, true)
    if (stored.retryable !== undefined) define(error, "retryable", stored.retryable, true)
  }
  define(error, "stack", stored.stack ?? `${name}: ${message}`, false)
  return error
}

const construct = (
  stored: Partial<SerializedError>,
  name: string,
  message: string,
  cause: Error | undefined,
  depth: number
): Error => {
  const Class = classes.get(stored.base ?? name)
  // All errors of ours have both, and other people's errors may have our names (`DOMException` has a `TimeoutError`).
  if (Class !== undefined && typeof stored.code === "string" && typeof stored.retryable === "boolean") {
    return Reflect.construct(
      IronflowError,
      [message, { code: stored.code, retryable: stored.retryable, details: stored.data?.["details"], cause }],
      Class
    )
  }
  const options = cause === undefined ? undefined : { cause }
  if (name === "AggregateError") {
    const errors = stored.data?.["errors"]
    const revived =
      Array.isArray(errors) && depth < maxCauses ? errors.map((inner) => revive(inner, depth + 1)) : []
    return new AggregateError(revived, message, options)
  }
  return new (builtIns.get(name) ?? Error)(message, options)
}

const builtIns: ReadonlyMap<string, ErrorConstructor> = new Map([
  ["TypeError", TypeError],
  ["RangeError", RangeError],
  ["SyntaxError", SyntaxError],
  ["ReferenceError", ReferenceError],
  ["EvalError", EvalError],
  ["URIError", URIError]
])

/** What is carried by fields of its own. */
const standardKeys: ReadonlySet<string> = new Set(["name", "message", "code", "retryable", "stack", "cause"])

const ownData = (
  error: unknown,
  ours: boolean,
  withStack: boolean,
  depth: number
): { [key: string]: unknown } | undefined => {
  const data: { [key: string]: unknown } = {}
  let empty = true
  const put = (key: string, value: unknown) => {
    define(data, key, value, true)
    empty = false
  }
  for (const key of ownKeys(error)) {
    // A code that is not a string is data like any other.
    const carried = standardKeys.has(key) && !(key === "code" && typeof read(error, key) !== "string")
    if (carried || (ours && key === "_tag")) continue
    const copy = jsonCopy(read(error, key))
    if (copy !== undefined) put(key, copy)
  }
  if (isInstance(error, AggregateError) && depth < maxCauses) {
    const errors = read(error, "errors")
    if (Array.isArray(errors)) {
      put(
        "errors",
        errors.slice(0, maxCauses).map((inner) => serialize(inner, withStack, depth + 1))
      )
    }
  }
  return empty ? undefined : data
}

const ownKeys = (value: unknown): ReadonlyArray<string> => {
  if (typeof value !== "object" || value === null) return []
  try {
    return Object.keys(value)
  } catch {
    // A proxy that refuses to list its keys has no data that could be carried.
    return []
  }
}

const jsonCopy = (value: unknown): unknown => {
  const json = jsonText(value)
  return json === undefined || json.length > maxDataLength ? undefined : JSON.parse(json)
}

const jsonText = (value: unknown): string | undefined => {
  try {
    return JSON.stringify(value, withoutEmptied) as string | undefined
  } catch {
    // A cycle, a BigInt or a getter that throws: JSON cannot carry it.
    return undefined
  }
}

/** Leaves out what JSON would make `{}` of. Of errors inside it keeps what they say. */
function withoutEmptied(this: { readonly [key: string]: unknown }, key: string, value: unknown): unknown {
  const original = this[key]
  if (typeof original === "object" && original !== null && isError(original)) {
    const { code, message, name } = original as Error & { readonly code?: unknown }
    return { name, message, ...(typeof code === "string" ? { code } : {}) }
  }
  return typeof value === "object" && value !== null && !Array.isArray(value) && isEmptied(value)
    ? undefined
    : value
}

const read = (value: unknown, key: string): unknown => {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return undefined
  try {
    return (value as { readonly [key: string]: unknown })[key]
  } catch {
    // A getter or a proxy that throws says nothing.
    return undefined
  }
}

const define = (target: object, key: string, value: unknown, enumerable: boolean): void => {
  Object.defineProperty(target, key, { value, enumerable, writable: true, configurable: true })
}

const text = (value: unknown, orElse: string): string => (typeof value === "string" ? value : orElse)

const isInstance = <A>(value: unknown, Class: abstract new (...args: never) => A): value is A => {
  try {
    return value instanceof Class
  } catch {
    // A revoked proxy, or one whose prototype trap throws.
    return false
  }
}

/** Errors of another realm (a `vm` context, a test runner) are not instances of this realm's `Error`. */
const isErrorLike = (value: unknown): boolean =>
  isInstance(value, Error) ||
  (typeof read(value, "message") === "string" && typeof read(value, "stack") === "string")

const describe = (value: unknown): string => {
  try {
    const json = typeof value === "object" && value !== null ? jsonText(value) : undefined
    return (json ?? String(value)).slice(0, maxMessageLength)
  } catch {
    return `a value that cannot be shown as text (${typeof value})`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Names and tags
// ---------------------------------------------------------------------------------------------------------------------

type IronflowErrorClass = abstract new (...args: never) => IronflowError

/** Names are written out because a minifier renames classes, and stored errors are found again by name. */
const classes: ReadonlyMap<string, IronflowErrorClass> = new Map<string, IronflowErrorClass>(
  Object.entries({
    IronflowError,
    ConnectionError,
    SubscriptionError,
    TimeoutError,
    WaitTimeoutError,
    FunctionTimeoutError,
    ValidationError,
    SchemaValidationError,
    LimitExceededError,
    SignatureError,
    FunctionNotFoundError,
    RunNotFoundError,
    ProjectionNotFoundError,
    ProjectionBehindError,
    StepNotFoundError,
    StepError,
    NonRetryableError,
    RetryAfterError,
    NotConfiguredError,
    InvokeError,
    InvokeTimeoutError,
    StepTimeoutError,
    StepAbortedError,
    NestedStepError,
    NondeterminismError,
    InvalidStateError,
    VersionConflictError,
    StreamNotFoundError,
    StoreError,
    RunFailedError,
    RunCancelledError,
    UnauthenticatedError,
    EnterpriseRequiredError,
    UnauthorizedError,
    RevisionConflictError,
    KeyNotFoundError,
    KeySchemaError,
    StreamSchemaError,
    BucketNotFoundError,
    BucketExistsError,
    RevisionGoneError,
    ConsumerGroupNotFoundError,
    ConsumerGroupExistsError,
    ConfigNotFoundError
  })
)

for (const [name, Class] of classes) {
  define(Class.prototype, "name", name, false)
  // A class that extends another of ours finds its tag there.
  if (Class === IronflowError || Object.getPrototypeOf(Class) === IronflowError) {
    define(Class.prototype, "_tag", name, false)
  }
}

/** Classes that mean one HTTP status, wherever they were raised. */
const statuses: ReadonlyArray<readonly [status: number, ReadonlyArray<IronflowErrorClass>]> = [
  [401, [UnauthenticatedError, SignatureError]],
  [402, [EnterpriseRequiredError]],
  [403, [UnauthorizedError]],
  [
    404,
    [
      FunctionNotFoundError,
      RunNotFoundError,
      StepNotFoundError,
      StreamNotFoundError,
      ProjectionNotFoundError,
      KeyNotFoundError,
      BucketNotFoundError,
      ConfigNotFoundError,
      ConsumerGroupNotFoundError
    ]
  ],
  [409, [VersionConflictError, BucketExistsError, ConsumerGroupExistsError]],
  [410, [RevisionGoneError]],
  [412, [RevisionConflictError]]
]

for (const [status, ofStatus] of statuses) {
  for (const Class of ofStatus) define(Class.prototype, "status", status, false)
}

/** Says with which status the error came. That belongs to this answer, and is not stored with the error. */
export const withStatus = <E extends IronflowError>(error: E, status: number): E => {
  if (error.status !== status) define(error, "status", status, false)
  return error
}

/** A user's subclass is named after its class. */
const nameClass = (Class: Function): void => {
  const prototype = Class.prototype as object
  if (!Object.hasOwn(prototype, "name")) define(prototype, "name", Class.name, false)
}

/** The nearest class of ours that the error is an instance of. */
const classNameOf = (error: IronflowError): string => {
  let prototype: object | null = Object.getPrototypeOf(error)
  while (prototype !== null) {
    for (const [name, Class] of classes) if (Class.prototype === prototype) return name
    prototype = Object.getPrototypeOf(prototype)
  }
  return "IronflowError"
}
