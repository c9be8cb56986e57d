/**
 * All errors of the SDK and the engine, and how errors are serialized.
 *
 * The classes can be thrown, rejected with, yielded in `Effect.gen`, and matched with `catchTag`. `retryable` says whether a
 * retry may help; `code` identifies the error across processes. A class that extends {@link IronflowError} or
 * {@link NotFoundError} directly has its own tag. A class that extends another class shares the tag of that class: a
 * {@link WaitTimeoutError} is a {@link TimeoutError}, and `catchTag("TimeoutError")` and `instanceof TimeoutError` agree.
 * `name` and `code` tell the two apart.
 */
export {
  IronflowError,
  type IronflowErrorOptions,
  isIronflowError,
  NotFoundError,
  withoutStack
} from "./Errors/Base.ts"
export {
  ClosedError,
  ConnectionError,
  InvalidResponseError,
  NotConfiguredError,
  ServerError,
  SubscriptionError,
  TimeoutError,
  type UnavailableCode,
  type UnsupportedCode,
  UnavailableError,
  UnsupportedError
} from "./Errors/Connection.ts"
export {
  InvalidStateError,
  LimitExceededError,
  SchemaValidationError,
  ValidationError,
  type ValidationErrorOptions
} from "./Errors/Validation.ts"
export {
  BulkNotFoundError,
  FunctionNotFoundError,
  FunctionTimeoutError,
  NoResultsError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  StepNotFoundError
} from "./Errors/Runs.ts"
export {
  CompensationLostError,
  InterruptedError,
  InvokeError,
  type InvokeErrorOptions,
  InvokeTimeoutError,
  NestedStepError,
  NondeterminismError,
  NonRetryableError,
  RetryAfterError,
  StepAbortedError,
  StepError,
  type StepErrorOptions,
  StepTimeoutError,
  WaitTimeoutError,
  withFailure
} from "./Errors/Steps.ts"
export {
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
} from "./Errors/Data.ts"
export {
  type AccessError,
  ApiKeyNotFoundError,
  EnterpriseRequiredError,
  MasterKeyError,
  type MasterKeyErrorCode,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  SecretNotFoundError,
  SignatureError,
  type SignatureErrorCode,
  UnauthenticatedError,
  UnauthorizedError
} from "./Errors/Access.ts"
export {
  type BodyCode,
  BodyError,
  EndpointNotFoundError,
  EndpointUnavailableError,
  type ListenCode,
  ListenError,
  MessageDamagedError,
  type NodeVersionCode,
  NodeVersionError,
  type StaleRequestCode,
  StaleRequestError,
  StoreError,
  type StoreErrorCode
} from "./Errors/Engine.ts"
export {
  LeaseLostError,
  type RegistrationCode,
  RegistrationError,
  type ReportCode,
  ReportError,
  type TurnAbortedCode,
  TurnAbortedError,
  TurnBrokenError,
  TurnEndedError,
  type WebhookCode,
  WebhookError,
  WebhookNotFoundError,
  WorkerAlreadyRunningError,
  WorkerStoppedError,
  WorkerUnknownError
} from "./Errors/Worker.ts"
export { ServiceMissingError, TapeError, TestSuspendedError, TimersFakedError } from "./Errors/Testing.ts"
export type { ConflictError, EngineError, MissingError, OutcomeError } from "./Errors/Unions.ts"
export { withStatus } from "./Errors/Classes.ts"
export {
  deserializeError,
  encodedFailureKey as encodedFailure,
  errorOfCode,
  invokeFailure,
  isRetryable,
  messageOf,
  retryAfterOf,
  type SerializedError,
  serializeError,
  toError,
  withoutEncodedFailure as withoutEncoding
} from "./Errors/Serialization.ts"

/**
 * The error codes that older clients and servers have, each under its own name. Programs that were written for those clients and
 * servers use these codes.
 */
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

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[keyof typeof ERROR_CODES]
