/** Errors of entity streams, events, KV keys and buckets, configurations, projections and consumer groups. */
import type { ExpectedVersion } from "../ExpectedVersion.ts"
import { type CauseOption, IronflowError, type IronflowErrorOptions, NotFoundError } from "./Base.ts"
import { TimeoutError } from "./Connection.ts"
import { SchemaValidationError } from "./Validation.ts"
import { showMs } from "../Show.ts"

/**
 * A stream is not at the version that an append expected, in most cases because another append came first.
 * Nothing was stored. Read the stream again, and decide again. A step that both reads and appends in its body can simply be retried.
 */
export class VersionConflictError extends IronflowError {
  declare readonly _tag: "VersionConflictError"
  /** Id of the entity. */
  readonly entityId: string
  /** The version that the append expected. */
  readonly expectedVersion: ExpectedVersion
  /** The version of the stream: 0 when there is no stream, `undefined` when the server does not say. */
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
        "Read the stream again, and decide again",
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

/** The entity has no stream in the environment: nothing was ever appended to it. */
export class StreamNotFoundError extends NotFoundError {
  declare readonly _tag: "StreamNotFoundError"
  /** Id of the entity. */
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

/** The stream has no snapshot, or none below the requested version. */
export class SnapshotNotFoundError extends NotFoundError {
  declare readonly _tag: "SnapshotNotFoundError"
  /** Id of the entity. */
  readonly entityId: string
  constructor(entityId: string) {
    super(`Stream "${entityId}" has no snapshot, or none below the requested version`, {
      code: "SNAPSHOT_NOT_FOUND",
      details: { entityId }
    })
    this.entityId = entityId
  }
}

/** The environment has no event of this id. */
export class EventNotFoundError extends NotFoundError {
  declare readonly _tag: "EventNotFoundError"
  /** The unknown id. */
  readonly eventId: string
  constructor(eventId: string) {
    super(`There is no event ${eventId.slice(0, 64)} in this environment`, {
      code: "EVENT_NOT_FOUND",
      details: { eventId: eventId.slice(0, 64) }
    })
    this.eventId = eventId.slice(0, 64)
  }
}

/** A key is not at the revision that a write expected. Nothing was written. Read the key again, and decide again. */
export class RevisionConflictError extends IronflowError {
  declare readonly _tag: "RevisionConflictError"
  /** Name of the bucket. */
  readonly bucket: string
  /** The key. */
  readonly key: string
  /** The revision that the write expected; 0 for a key without a value. */
  readonly expected: number
  /** The revision of the key; 0 when the key has no value, `undefined` when the server does not say. */
  readonly actual: number | undefined
  constructor(bucket: string, key: string, expected: number, actual?: number, options: CauseOption = {}) {
    super(
      `Key "${key}" in bucket "${bucket}" ${
        expected === 0
          ? `exists already${actual === undefined ? "" : `, at revision ${actual}`}`
          : `is not at revision ${expected}${
              actual === undefined ? "" : actual === 0 ? ": it does not exist" : ` but at ${actual}`
            }`
      }. Nothing was written: read the key again, and decide again`,
      { ...options, code: "REVISION_CONFLICT", retryable: true, details: { bucket, key, expected, actual } }
    )
    this.bucket = bucket
    this.key = key
    this.expected = expected
    this.actual = actual
  }
}

/** The key has no value: it was never put, was deleted, or has expired. */
export class KeyNotFoundError extends NotFoundError {
  declare readonly _tag: "KeyNotFoundError"
  /** Name of the bucket. */
  readonly bucket: string
  /** The key. */
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
 * A value does not fit the schema of the key's bucket. It is either the stored value that was read, or a value to be
 * written, which then was not written. `validationErrors` lists the paths.
 */
export class KeySchemaError extends SchemaValidationError {
  /** Name of the bucket. */
  readonly bucket: string
  /** The key. */
  readonly key: string
  /** The revision of a stored value; `undefined` for a value to be written. */
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
 * An event or snapshot does not fit the definition of its entity. It was either read from the store, or was to be
 * written, and then was not written. `validationErrors` lists the paths.
 */
export class StreamSchemaError extends SchemaValidationError {
  /** Id of the entity. */
  readonly entityId: string
  /** Name of the event; `undefined` for a snapshot. */
  readonly event: string | undefined
  /** The version of a stored event or snapshot; `undefined` for one to be written. */
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
  problems.length === 0
    ? `the schema threw "${cause instanceof Error ? cause.message : String(cause)}"`
    : problems.join("; ")

/** The environment has no bucket of this name. */
export class BucketNotFoundError extends NotFoundError {
  declare readonly _tag: "BucketNotFoundError"
  /** Name of the bucket. */
  readonly bucket: string
  constructor(bucket: string) {
    super(`Bucket not found: ${bucket}. Create it first`, { code: "BUCKET_NOT_FOUND", details: { bucket } })
    this.bucket = bucket
  }
}

/** A bucket of this name exists already. It was not changed. */
export class BucketExistsError extends IronflowError {
  declare readonly _tag: "BucketExistsError"
  /** Name of the bucket. */
  readonly bucket: string
  constructor(bucket: string) {
    super(`Bucket "${bucket}" exists already`, { code: "BUCKET_EXISTS", details: { bucket } })
    this.bucket = bucket
  }
}

/**
 * A watch cannot start after this revision: deletions since then are no longer recorded. Start the watch
 * again from revision 0.
 */
export class RevisionGoneError extends IronflowError {
  declare readonly _tag: "RevisionGoneError"
  /** Name of the bucket. */
  readonly bucket: string
  /** The revision after which the watch was to start. */
  readonly revision: number
  constructor(bucket: string, revision: number) {
    super(
      `Bucket "${bucket}" no longer keeps all changes after revision ${revision}: ` +
        "watch from revision 0, which begins with the present values",
      { code: "REVISION_GONE", details: { bucket, revision } }
    )
    this.bucket = bucket
    this.revision = revision
  }
}

/** The environment has no configuration of this name. */
export class ConfigNotFoundError extends NotFoundError {
  declare readonly _tag: "ConfigNotFoundError"
  /** Name of the configuration. */
  readonly configName: string
  constructor(configName: string) {
    super(`Configuration not found: ${configName}`, { code: "CONFIG_NOT_FOUND", details: { configName } })
    this.configName = configName
  }
}

/** The environment has no projection of this name: no worker has registered it. */
export class ProjectionNotFoundError extends NotFoundError {
  declare readonly _tag: "ProjectionNotFoundError"
  /** Name of the projection. */
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

/**
 * A projection did not reach a position in time. Only the wait has ended: the projection goes on, unless it is
 * paused. `position` is how far the projection had come.
 */
export class ProjectionBehindError extends TimeoutError {
  /** Name of the projection. */
  readonly projection: string
  /** The position in the log that the projection had reached. */
  readonly position: number
  /** The position in the log that was awaited. */
  readonly target: number
  constructor(projection: string, position: number, target: number, timeoutMs: number, why: string) {
    super(
      `Projection "${projection}" did not reach position ${target} of the log within ${showMs(timeoutMs)}: the projection is at position ${position}. ${why}`,
      timeoutMs,
      { code: "PROJECTION_BEHIND", details: { projection, position, target } }
    )
    this.projection = projection
    this.position = position
    this.target = target
  }
}

/**
 * The engine refused to save a projection for a legacy runner: the projection was reset, is already past the
 * position of the save, or belongs to another worker. The runner polls again and continues.
 */
export class ProjectionSaveRefusedError extends IronflowError {
  declare readonly _tag: "ProjectionSaveRefusedError"
  constructor(projection: string, reason: string) {
    super(`The save of projection "${projection}" is refused: ${reason}`, {
      code: "PROJECTION_SAVE_REFUSED",
      details: { projection, reason }
    })
  }
}

/** The namespace has no consumer group of this name, or none for this pattern. */
export class ConsumerGroupNotFoundError extends NotFoundError {
  declare readonly _tag: "ConsumerGroupNotFoundError"
  /** Name of the group. */
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

/** A consumer group of this name exists already for the pattern: update it, or delete it first. */
export class ConsumerGroupExistsError extends IronflowError {
  declare readonly _tag: "ConsumerGroupExistsError"
  /** Name of the group. */
  readonly group: string
  constructor(group: string, namespace: string, pattern: string) {
    super(
      `Consumer group "${group}" exists already for the pattern "${pattern}" in namespace "${namespace}": update it instead`,
      { code: "CONSUMER_GROUP_EXISTS", details: { group, namespace, pattern } }
    )
    this.group = group
  }
}
