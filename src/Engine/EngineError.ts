/** What the operations of the engine inside the process may fail with. Those of the client's services name fewer each. */
import type {
  ApiKeyNotFoundError,
  BucketExistsError,
  BucketNotFoundError,
  ConfigNotFoundError,
  ConnectionError,
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  EndpointUnavailableError,
  FunctionNotFoundError,
  InvalidStateError,
  KeyNotFoundError,
  MasterKeyError,
  NoResultsError,
  OrgNotFoundError,
  PolicyNotFoundError,
  ProjectionNotFoundError,
  RevisionConflictError,
  RevisionGoneError,
  RoleNotFoundError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  SecretNotFoundError,
  StepNotFoundError,
  StoreError,
  StreamNotFoundError,
  TimeoutError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError,
  VersionConflictError
} from "../Errors.ts"

/** What was asked for is not there. */
type MissingError =
  | ApiKeyNotFoundError
  | BucketNotFoundError
  | ConfigNotFoundError
  | ConsumerGroupNotFoundError
  | FunctionNotFoundError
  | KeyNotFoundError
  | NoResultsError
  | OrgNotFoundError
  | PolicyNotFoundError
  | ProjectionNotFoundError
  | RoleNotFoundError
  | RunNotFoundError
  | SecretNotFoundError
  | StepNotFoundError
  | StreamNotFoundError

/** What is there does not allow it: it is in another state, at another version or revision, or there already. */
type ConflictError =
  | BucketExistsError
  | ConsumerGroupExistsError
  | InvalidStateError
  | RevisionConflictError
  | RevisionGoneError
  | VersionConflictError

/** A run that was waited for came to another end, or to none in time. */
type OutcomeError = RunCancelledError | RunFailedError | TimeoutError

/** What any operation of the engine may fail with. */
export type EngineError =
  | ConflictError
  | ConnectionError
  | EndpointUnavailableError
  | MasterKeyError
  | MissingError
  | OutcomeError
  | StoreError
  | UnauthenticatedError
  | UnauthorizedError
  | ValidationError
