/** Streams, keys, configurations, projections and consumer groups. */
import type { ExpectedVersion } from "../ExpectedVersion.ts"
import { type CauseOption, IronflowError, type IronflowErrorOptions, NotFoundError } from "./Base.ts"
import { TimeoutError } from "./Connection.ts"
import { SchemaValidationError } from "./Validation.ts"
import { showMs } from "../Show.ts"

/**
 * A stream is not at the version that an append expected: somebody else has appended in between. Nothing was stored. Read
 * the stream again and decide anew; a step that does so in its body may simply be retried.
 */
export class VersionConflictError extends IronflowError {
  declare readonly _tag: "VersionConflictError"
  /** Id of the entity. */
  readonly entityId: string
  /** The version that the stream should have had. */
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

/** There is no snapshot of the stream, or none at or before the version that was asked for. */
export class SnapshotNotFoundError extends NotFoundError {
  declare readonly _tag: "SnapshotNotFoundError"
  /** Id of the entity. */
  readonly entityId: string
  constructor(entityId: string) {
    super(`There is no such snapshot of stream "${entityId}"`, {
      code: "SNAPSHOT_NOT_FOUND",
      details: { entityId }
    })
    this.entityId = entityId
  }
}

/** There is no event of this id in the environment. */
export class EventNotFoundError extends NotFoundError {
  declare readonly _tag: "EventNotFoundError"
  /** The id that no event has. */
  readonly eventId: string
  constructor(eventId: string) {
    super(`There is no event ${eventId.slice(0, 64)} in this environment`, {
      code: "EVENT_NOT_FOUND",
      details: { eventId: eventId.slice(0, 64) }
    })
    this.eventId = eventId.slice(0, 64)
  }
}

/** A key is not at the revision that a write expects. Read it again and decide anew. */
export class RevisionConflictError extends IronflowError {
  declare readonly _tag: "RevisionConflictError"
  /** Name of the bucket. */
  readonly bucket: string
  /** The key. */
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
 * The value of a key does not fit the schema that its bucket was given: one that is stored, or one that was to be written,
 * and nothing was. `validationErrors` lists the paths.
 */
export class KeySchemaError extends SchemaValidationError {
  /** Name of the bucket. */
  readonly bucket: string
  /** The key. */
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
  /** Id of the entity. */
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
  problems.length === 0
    ? `the schema threw "${cause instanceof Error ? cause.message : String(cause)}"`
    : problems.join("; ")

/** There is no bucket of this name in the environment. */
export class BucketNotFoundError extends NotFoundError {
  declare readonly _tag: "BucketNotFoundError"
  /** Name of the bucket. */
  readonly bucket: string
  constructor(bucket: string) {
    super(`Bucket not found: ${bucket}. Create it first`, { code: "BUCKET_NOT_FOUND", details: { bucket } })
    this.bucket = bucket
  }
}

/** There is a bucket of this name already. It stays as it is. */
export class BucketExistsError extends IronflowError {
  declare readonly _tag: "BucketExistsError"
  /** Name of the bucket. */
  readonly bucket: string
  constructor(bucket: string) {
    super(`Bucket "${bucket}" exists already`, { code: "BUCKET_EXISTS", details: { bucket } })
    this.bucket = bucket
  }
}

/** A watch should begin after a revision so old that deletions since then are forgotten. Begin again from 0. */
export class RevisionGoneError extends IronflowError {
  declare readonly _tag: "RevisionGoneError"
  /** Name of the bucket. */
  readonly bucket: string
  /** The revision that is not kept any more. */
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

/** There is no configuration of this name in the environment. */
export class ConfigNotFoundError extends NotFoundError {
  declare readonly _tag: "ConfigNotFoundError"
  /** Name of the configuration. */
  readonly configName: string
  constructor(configName: string) {
    super(`Configuration not found: ${configName}`, { code: "CONFIG_NOT_FOUND", details: { configName } })
    this.configName = configName
  }
}

/** There is no projection of this name in the environment: no worker has registered it. */
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

/** A projection was not as far in the log as somebody waited for. It goes on; `position` is where it was. */
export class ProjectionBehindError extends TimeoutError {
  /** Name of the projection. */
  readonly projection: string
  /** How far it is, as a position in the log. */
  readonly position: number
  /** How far it should have been. */
  readonly target: number
  constructor(projection: string, position: number, target: number, timeoutMs: number, why: string) {
    super(
      `Projection "${projection}" was at position ${position} of the log after ${showMs(timeoutMs)}, and not at ${target}. ${why}`,
      timeoutMs,
      { code: "PROJECTION_BEHIND", details: { projection, position, target } }
    )
    this.projection = projection
    this.position = position
    this.target = target
  }
}

/** A legacy runner's save of a projection was refused: it was reset, is done, or is another worker's. It polls again and goes on. */
export class ProjectionSaveRefusedError extends IronflowError {
  declare readonly _tag: "ProjectionSaveRefusedError"
  constructor(projection: string, reason: string) {
    super(`The save of projection "${projection}" is refused: ${reason}`, {
      code: "PROJECTION_SAVE_REFUSED",
      details: { projection, reason }
    })
  }
}

/** There is no consumer group of this name in the namespace, or none of this name for the pattern. */
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

/** A consumer group of this name is there for the pattern: update it, or delete it first. */
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
