/** What the operations of the engine inside the process may fail with. Those of the client's services name fewer each. */
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

/** What was asked for is not there. */
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

/** What is there does not allow it: it is in another state, at another version or revision, or there already. */
export type ConflictError =
  | BucketExistsError
  | ConsumerGroupExistsError
  | InvalidStateError
  | RevisionConflictError
  | RevisionGoneError
  | VersionConflictError

/** A run that was waited for came to another end, or to none in time. */
export type OutcomeError = RunCancelledError | RunFailedError | TimeoutError

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
