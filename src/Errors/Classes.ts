/** All error classes by name, code and status: used to restore errors that were stored or sent. */
import { IronflowError, NotFoundError } from "./Base.ts"
import {
  ClosedError,
  ConnectionError,
  InvalidResponseError,
  NotConfiguredError,
  ServerError,
  SubscriptionError,
  TimeoutError,
  UnavailableError,
  UnsupportedError
} from "./Connection.ts"
import {
  InvalidStateError,
  LimitExceededError,
  SchemaValidationError,
  ValidationError
} from "./Validation.ts"
import {
  BulkNotFoundError,
  FunctionNotFoundError,
  FunctionTimeoutError,
  NoResultsError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  StepNotFoundError
} from "./Runs.ts"
import {
  CompensationLostError,
  InterruptedError,
  InvokeError,
  InvokeTimeoutError,
  NestedStepError,
  NonRetryableError,
  NondeterminismError,
  RetryAfterError,
  StepAbortedError,
  StepError,
  StepTimeoutError,
  WaitTimeoutError
} from "./Steps.ts"
import {
  BucketExistsError,
  BucketNotFoundError,
  ConfigNotFoundError,
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  EventNotFoundError,
  KeyNotFoundError,
  KeySchemaError,
  ProjectionBehindError,
  ProjectionNotFoundError,
  ProjectionSaveRefusedError,
  RevisionConflictError,
  RevisionGoneError,
  SnapshotNotFoundError,
  StreamNotFoundError,
  StreamSchemaError,
  VersionConflictError
} from "./Data.ts"
import {
  ApiKeyNotFoundError,
  EnterpriseRequiredError,
  MasterKeyError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  SecretNotFoundError,
  SignatureError,
  UnauthenticatedError,
  UnauthorizedError
} from "./Access.ts"
import {
  BodyError,
  EndpointNotFoundError,
  EndpointUnavailableError,
  ListenError,
  MessageDamagedError,
  NodeVersionError,
  StaleRequestError,
  StoreError
} from "./Engine.ts"
import {
  LeaseLostError,
  RegistrationError,
  ReportError,
  TurnAbortedError,
  TurnBrokenError,
  TurnEndedError,
  WebhookError,
  WebhookNotFoundError,
  WorkerAlreadyRunningError,
  WorkerStoppedError,
  WorkerUnknownError
} from "./Worker.ts"
import { ServiceMissingError, TapeError, TestSuspendedError, TimersFakedError } from "./Testing.ts"
import { define } from "./SafeRead.ts"

export type IronflowErrorClass = abstract new (...args: never) => IronflowError

/**
 * The classes by name. The names are literals, since minifiers rename classes and stored errors are restored
 * by name.
 */
export const classes: ReadonlyMap<string, IronflowErrorClass> = new Map<string, IronflowErrorClass>(
  Object.entries({
    IronflowError,
    NotFoundError,
    ConnectionError,
    TimeoutError,
    SubscriptionError,
    NotConfiguredError,
    ServerError,
    UnavailableError,
    UnsupportedError,
    InvalidResponseError,
    ClosedError,
    ValidationError,
    SchemaValidationError,
    LimitExceededError,
    InvalidStateError,
    FunctionNotFoundError,
    RunNotFoundError,
    BulkNotFoundError,
    StepNotFoundError,
    FunctionTimeoutError,
    RunFailedError,
    RunCancelledError,
    NoResultsError,
    StepError,
    NonRetryableError,
    RetryAfterError,
    WaitTimeoutError,
    InvokeError,
    InvokeTimeoutError,
    StepTimeoutError,
    StepAbortedError,
    NestedStepError,
    NondeterminismError,
    CompensationLostError,
    InterruptedError,
    VersionConflictError,
    StreamNotFoundError,
    SnapshotNotFoundError,
    EventNotFoundError,
    RevisionConflictError,
    KeyNotFoundError,
    KeySchemaError,
    StreamSchemaError,
    BucketNotFoundError,
    BucketExistsError,
    RevisionGoneError,
    ConfigNotFoundError,
    ProjectionNotFoundError,
    ProjectionBehindError,
    ProjectionSaveRefusedError,
    ConsumerGroupNotFoundError,
    ConsumerGroupExistsError,
    UnauthenticatedError,
    EnterpriseRequiredError,
    UnauthorizedError,
    SignatureError,
    ApiKeyNotFoundError,
    OrgNotFoundError,
    RoleNotFoundError,
    PolicyNotFoundError,
    SecretNotFoundError,
    MasterKeyError,
    StoreError,
    ListenError,
    NodeVersionError,
    BodyError,
    MessageDamagedError,
    StaleRequestError,
    EndpointNotFoundError,
    EndpointUnavailableError,
    RegistrationError,
    WorkerAlreadyRunningError,
    WorkerStoppedError,
    LeaseLostError,
    WorkerUnknownError,
    ReportError,
    TurnBrokenError,
    TurnEndedError,
    TurnAbortedError,
    WebhookNotFoundError,
    WebhookError,
    TimersFakedError,
    TapeError,
    ServiceMissingError,
    TestSuspendedError
  })
)

/** Families of errors. A class that extends a family directly has its own tag. */
const families: ReadonlySet<unknown> = new Set([IronflowError, NotFoundError])

for (const [name, Class] of classes) {
  define(Class.prototype, "name", name, false)
  // A class that extends another Ironflow class inherits the tag of that class, unless that class is a family.
  if (families.has(Class) || families.has(Object.getPrototypeOf(Class))) {
    define(Class.prototype, "_tag", name, false)
  }
}

/**
 * The class of each code that is sent over a network without the name of a class, and the members of `details` that
 * the class requires.
 */
export const codes: ReadonlyMap<
  string,
  readonly [Class: IronflowErrorClass, ...requiredDetails: ReadonlyArray<string>]
> = new Map(
  Object.entries({
    CONNECTION_LOST: [ConnectionError],
    NOT_CONFIGURED: [NotConfiguredError],
    SERVER_ERROR: [ServerError],
    INTERNAL_ERROR: [ServerError],
    RATE_LIMITED: [UnavailableError],
    TOO_MANY_CALLS: [UnavailableError],
    CLOSING: [UnavailableError],
    SERVER_BUSY: [UnavailableError],
    UNIMPLEMENTED: [UnsupportedError],
    INVALID_RESPONSE: [InvalidResponseError],
    VALIDATION_ERROR: [ValidationError],
    LIMIT_EXCEEDED: [ValidationError],
    CONSUMER_GROUP_AMBIGUOUS: [ValidationError],
    PACKAGES_MISSING: [ValidationError],
    INVALID_STATE: [InvalidStateError],
    FUNCTION_NOT_FOUND: [FunctionNotFoundError, "functionId"],
    RUN_NOT_FOUND: [RunNotFoundError, "runId"],
    BULK_NOT_FOUND: [BulkNotFoundError, "bulkId"],
    STEP_NOT_FOUND: [StepNotFoundError, "runId", "stepId"],
    VERSION_CONFLICT: [VersionConflictError, "entityId", "expectedVersion"],
    STREAM_NOT_FOUND: [StreamNotFoundError, "entityId"],
    SNAPSHOT_NOT_FOUND: [SnapshotNotFoundError, "entityId"],
    EVENT_NOT_FOUND: [EventNotFoundError, "eventId"],
    REVISION_CONFLICT: [RevisionConflictError, "bucket", "key", "expected"],
    REVISION_GONE: [RevisionGoneError, "bucket", "revision"],
    KEY_NOT_FOUND: [KeyNotFoundError, "bucket", "key"],
    BUCKET_NOT_FOUND: [BucketNotFoundError, "bucket"],
    BUCKET_EXISTS: [BucketExistsError, "bucket"],
    CONFIG_NOT_FOUND: [ConfigNotFoundError, "configName"],
    PROJECTION_NOT_FOUND: [ProjectionNotFoundError, "projection"],
    PROJECTION_SAVE_REFUSED: [ProjectionSaveRefusedError],
    CONSUMER_GROUP_NOT_FOUND: [ConsumerGroupNotFoundError, "group"],
    CONSUMER_GROUP_EXISTS: [ConsumerGroupExistsError, "group"],
    CONSUMER_GROUP_CONFLICT: [SubscriptionError],
    CONSUMER_GROUP_DELETED: [SubscriptionError],
    SUBSCRIPTION_ERROR: [SubscriptionError],
    ALREADY_SUBSCRIBED: [SubscriptionError],
    UNAUTHENTICATED: [UnauthenticatedError],
    UNAUTHORIZED: [UnauthorizedError],
    ENTERPRISE_REQUIRED: [EnterpriseRequiredError],
    SIGNATURE_INVALID: [SignatureError],
    SIGNATURE_MISSING: [SignatureError],
    SIGNATURE_EXPIRED: [SignatureError],
    SIGNATURE_REPLAYED: [SignatureError],
    API_KEY_NOT_FOUND: [ApiKeyNotFoundError, "id"],
    ORG_NOT_FOUND: [OrgNotFoundError, "id"],
    ROLE_NOT_FOUND: [RoleNotFoundError, "id"],
    POLICY_NOT_FOUND: [PolicyNotFoundError, "id"],
    SECRET_NOT_FOUND: [SecretNotFoundError, "secretName"],
    MASTER_KEY_MISSING: [MasterKeyError],
    MASTER_KEY_WRONG: [MasterKeyError],
    STORE_ERROR: [StoreError],
    STORE_LOCKED: [StoreError],
    STORE_CORRUPT: [StoreError],
    STORE_UNAVAILABLE: [StoreError],
    ROUTE_NOT_FOUND: [UnsupportedError],
    BODY_TOO_LARGE: [BodyError],
    BODY_TIMEOUT: [BodyError],
    BODY_UNSUPPORTED: [BodyError],
    BODY_CONSUMED: [BodyError],
    BODY_TRUNCATED: [BodyError],
    INVALID_JSON: [BodyError],
    MESSAGE_DAMAGED: [MessageDamagedError],
    STALE_BATCH: [StaleRequestError],
    STALE_REGISTRATION: [StaleRequestError],
    STALE_EXECUTION: [StaleRequestError],
    RUN_NOT_RUNNING: [StaleRequestError],
    ENDPOINT_NOT_FOUND: [EndpointNotFoundError, "url"],
    ENDPOINT_UNAVAILABLE: [EndpointUnavailableError],
    LEASE_LOST: [LeaseLostError],
    WORKER_UNKNOWN: [WorkerUnknownError],
    TURN_ABORTED: [TurnAbortedError],
    REQUEST_ABORTED: [TurnAbortedError],
    WEBHOOK_NOT_FOUND: [WebhookNotFoundError, "webhookId"],
    METHOD_NOT_ALLOWED: [WebhookError],
    VERIFY_FAILED: [WebhookError],
    TRANSFORM_FAILED: [WebhookError],
    EMIT_FAILED: [WebhookError],
    WEBHOOK_TIMEOUT: [WebhookError]
  })
)

/**
 * The classes that always mean the same HTTP status. Every {@link NotFoundError} but {@link NoResultsError}
 * means 404.
 */
const statuses: ReadonlyArray<readonly [status: number, ReadonlyArray<IronflowErrorClass>]> = [
  [401, [UnauthenticatedError, SignatureError]],
  [402, [EnterpriseRequiredError]],
  [403, [UnauthorizedError]],
  [404, [NotFoundError, WorkerUnknownError]],
  [
    409,
    [
      VersionConflictError,
      BucketExistsError,
      ConsumerGroupExistsError,
      ProjectionSaveRefusedError,
      StaleRequestError
    ]
  ],
  [410, [RevisionGoneError]],
  [412, [RevisionConflictError]],
  [503, [MessageDamagedError]]
]

for (const [status, classesOfStatus] of statuses) {
  for (const Class of classesOfStatus) define(Class.prototype, "status", status, false)
}

// the status 404 does not fit, although the class is a `NotFoundError`: everything that the request named exists
define(NoResultsError.prototype, "status", undefined, false)

/**
 * Sets the status of the response that carried the error. The status belongs to this response, and is not stored
 * with the error.
 */
export const withStatus = <E extends IronflowError>(error: E, status: number): E => {
  if (error.status !== status) define(error, "status", status, false)
  return error
}

/** The name of the nearest Ironflow class that the error is an instance of. */
export const classNameOf = (error: IronflowError): string => {
  let prototype: object | null = Object.getPrototypeOf(error)
  while (prototype !== null) {
    for (const [name, Class] of classes) if (Class.prototype === prototype) return name
    prototype = Object.getPrototypeOf(prototype)
  }
  return "IronflowError"
}
