/**
 * Unions of the errors with which the operations of an engine inside the process can fail. The client's services list
 * the possible errors of each operation more exactly.
 */
import type { ConnectionError, TimeoutError } from "./Connection.ts"
import type { InvalidStateError, ValidationError } from "./Validation.ts"
import type {
  BulkNotFoundError,
  FunctionNotFoundError,
  NoResultsError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  StepNotFoundError
} from "./Runs.ts"
import type {
  BucketExistsError,
  BucketNotFoundError,
  ConfigNotFoundError,
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  EventNotFoundError,
  KeyNotFoundError,
  ProjectionNotFoundError,
  RevisionConflictError,
  RevisionGoneError,
  StreamNotFoundError,
  VersionConflictError
} from "./Data.ts"
import type {
  ApiKeyNotFoundError,
  MasterKeyError,
  OrgNotFoundError,
  PolicyNotFoundError,
  RoleNotFoundError,
  SecretNotFoundError,
  UnauthenticatedError,
  UnauthorizedError
} from "./Access.ts"
import type { EndpointUnavailableError, StoreError } from "./Engine.ts"

/** Something does not exist. */
export type MissingError =
  | ApiKeyNotFoundError
  | BucketNotFoundError
  | BulkNotFoundError
  | ConfigNotFoundError
  | ConsumerGroupNotFoundError
  | EventNotFoundError
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

/**
 * The current state does not allow the operation: the state, version or revision is not the expected one, or the
 * thing exists already.
 */
export type ConflictError =
  | BucketExistsError
  | ConsumerGroupExistsError
  | InvalidStateError
  | RevisionConflictError
  | RevisionGoneError
  | VersionConflictError

/** An awaited run failed, was cancelled, or did not end in time. */
export type OutcomeError = RunCancelledError | RunFailedError | TimeoutError

/** The failures of any operation of the engine. */
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
