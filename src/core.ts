/** The types, constants and helpers that programs of every kind use. `@ironflow/core` exports the same. */
export {
  calculateBackoff,
  resolveRetry,
  retryDelayMs,
  type RetryConfig,
  type RetryPolicy
} from "./Backoff.ts"
export type { APIKey, APIKeyWithSecret, CreateAPIKeyInput } from "./Protocol/Access.ts"
export type {
  AuditEvent,
  BulkAction,
  BulkExample,
  BulkOperation,
  BulkOptions,
  BulkRuns,
  BulkStatus,
  CallOptions,
  CountRunsBy,
  CountRunsOptions,
  DamagedRun,
  EmitManyEvent,
  EmitOptions,
  EmitResult,
  EraseEvents,
  EraseKeys,
  EraseOptions,
  EraseTarget,
  EventExplanation,
  EventVerdict,
  Explanation,
  FunctionInfo,
  InvokeResult,
  ListEventsOptions,
  ListEventsResult,
  ListRunsOptions,
  ListRunsResult,
  LoggedEvent,
  PublishOptions,
  PublishResult,
  Run,
  RunCount,
  RunCounts,
  RunDurations,
  RunGroup,
  RunLogLine,
  RunStep,
  ServerCapabilities,
  TriggerResult,
  TriggerSyncOptions,
  TriggerSyncResult,
  TopicInfo,
  TopicStats,
  WaitForBulkOptions,
  WorkerInfo
} from "./Client/Client.ts"
export type { RunError } from "./RunError.ts"
export type {
  ConsumerGroup,
  ConsumerGroupConfig,
  ConsumerGroupDeadLetter,
  ConsumerGroupMember,
  ConsumerGroupOptions,
  ConsumerGroupStatus,
  ConsumerGroupUpdate,
  ListConsumerGroupDeadLettersOptions,
  ListConsumerGroupsOptions,
  PauseConsumerGroupOptions
} from "./Client/ConsumerGroups.ts"
export type {
  AppendAllInput,
  AppendAllOptions,
  AppendAllResult,
  AppendEventInput,
  AppendOptions,
  AppendResult,
  CreateSnapshotInput,
  CreateSnapshotResult,
  DefinedAppendAllInput,
  DefinedAppendInput,
  DefinedStreamEvent,
  EntityEvent,
  EntitySnapshotsApi,
  EntityState,
  EntityStateOptions,
  EntityStatesApi,
  EntityStreams,
  EntityStreamsApi,
  ExpectedVersion,
  GetSnapshotOptions,
  ListStreamsOptions,
  ListStreamsResult,
  NewEntityEvent,
  ReadEntityResult,
  ReadStreamOptions,
  ReadStreamResult,
  StreamEvent,
  StreamEventInput,
  StreamEventsOptions,
  StreamInfo,
  StreamSnapshot,
  StreamSummary
} from "./Client/Streams.ts"
export type {
  Catchup,
  CatchupOptions,
  DeadLetter,
  GetProjectionOptions,
  ListDeadLettersOptions,
  PauseProjectionOptions,
  ProjectionStateResult,
  ProjectionStatusInfo,
  ProjectionSubscribeOptions,
  RebuildProjectionOptions
} from "./Client/Projections.ts"
export type {
  AckMode,
  AckType,
  BackpressureMode,
  BufferConfig,
  EventMetadata,
  SubscribeOptions,
  WSAckRequest,
  WSClientMessage,
  WSError,
  WSEventMessage,
  WSServerMessage,
  WSSubscribeRequest,
  WSSubscriptionError,
  WSSubscriptionResult,
  WSUnsubscribeRequest
} from "./Protocol/Subscriptions.ts"
export type {
  ConnectionState,
  SubscriptionCallbacks,
  SubscriptionErrorInfo,
  SubscriptionEvent
} from "./Client/SubscriptionCallbacks.ts"
export type { AckableSubscription, AckHandle, Subscription } from "./Promise/Subscriptions.ts"
export type { ClientRetryConfig, RetryEvent, RetryInfo } from "./Client/Retry.ts"
export type { ConfigWatchOptions } from "./Client/Config.ts"
export type { ConfigEntry, ConfigResponse, ConfigSetResult, ConfigWatchEvent } from "./Protocol/Config.ts"
export type {
  KVBucketConfig,
  KVBucketInfo,
  KVBucketOptions,
  KVEntry,
  KVHistoryEntry,
  KVListBucketsResult,
  KVListKeysResult,
  KVPut,
  KVPutResult,
  KVRemoval,
  KVWatchEvent,
  KVWatchOptions,
  KVWrite,
  KVWriteResult
} from "./Client/Kv.ts"
export type { KVWatchCallbacks, KVWatcher } from "./Promise/Watcher.ts"
export type { ProjectionSubscription, ProjectionSubscriptionCallbacks } from "./Promise/Projections.ts"
export type { CreateOrgInput, Organization, UpdateOrgInput } from "./Protocol/Access.ts"
export type { PolicyEffect } from "./Client/Policies.ts"
export type { CreatePolicyInput, Policy, UpdatePolicyInput } from "./Protocol/Access.ts"
export type { CreateRoleInput, Role, UpdateRoleInput } from "./Protocol/Access.ts"
export type { SecretInfo } from "./Protocol/Secrets.ts"
export {
  ACK_TYPES,
  DEFAULT_CLIENT_RETRY,
  DEFAULT_ENVIRONMENT,
  DEFAULT_HOST,
  DEFAULT_PORT,
  DEFAULT_RECONNECT,
  DEFAULT_RETRY,
  DEFAULT_SERVER_URL,
  DEFAULT_TIMEOUTS,
  DEFAULT_WORKER,
  ENV_VARS,
  EventSource,
  type EventSourceType,
  HEADERS,
  HTTP_HEADERS,
  JSON_HEADERS,
  RUN_STATUS,
  STEP_STATUS,
  STEP_TYPES,
  TIMING,
  WS_MESSAGE_TYPES
} from "./Constants.ts"
export { API_ENDPOINTS, DEFAULT_WS_URL, getWebSocketUrl } from "./Protocol/Paths.ts"
export { createDeferred, type Deferred, sleep } from "./Deferred.ts"
export { type Duration, formatDuration, parseDuration } from "./Duration.ts"
export {
  type AnyEntity,
  define as defineEntity,
  type EntityDefinition,
  type EventsOf,
  type EvolvingEntity,
  type SnapshotEntity,
  type StateOf
} from "./Entity.ts"
export { getServerUrl } from "./EnvironmentVariables.ts"
export { type Erased, isErased } from "./Erased.ts"
export {
  ApiKeyNotFoundError,
  type BodyCode,
  BodyError,
  BucketExistsError,
  BucketNotFoundError,
  BulkNotFoundError,
  ClosedError,
  CompensationLostError,
  ConfigNotFoundError,
  ConnectionError,
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  deserializeError,
  EndpointNotFoundError,
  EndpointUnavailableError,
  EnterpriseRequiredError,
  ERROR_CODES,
  type ErrorCode,
  EventNotFoundError,
  FunctionNotFoundError,
  FunctionTimeoutError,
  InterruptedError,
  InvalidResponseError,
  InvalidStateError,
  InvokeError,
  InvokeTimeoutError,
  IronflowError,
  type IronflowErrorOptions,
  isIronflowError,
  isRetryable,
  KeyNotFoundError,
  KeySchemaError,
  LeaseLostError,
  LimitExceededError,
  type ListenCode,
  ListenError,
  MasterKeyError,
  type MasterKeyErrorCode,
  MessageDamagedError,
  NestedStepError,
  type NodeVersionCode,
  NodeVersionError,
  NondeterminismError,
  NonRetryableError,
  NoResultsError,
  NotConfiguredError,
  NotFoundError,
  OrgNotFoundError,
  PolicyNotFoundError,
  ProjectionBehindError,
  ProjectionNotFoundError,
  ProjectionSaveRefusedError,
  type RegistrationCode,
  RegistrationError,
  type ReportCode,
  ReportError,
  RetryAfterError,
  RevisionConflictError,
  RevisionGoneError,
  RoleNotFoundError,
  RunCancelledError,
  RunFailedError,
  RunNotFoundError,
  SchemaValidationError,
  SecretNotFoundError,
  type SerializedError,
  serializeError,
  ServerError,
  ServiceMissingError,
  SignatureError,
  type SignatureErrorCode,
  SnapshotNotFoundError,
  type StaleRequestCode,
  StaleRequestError,
  StepAbortedError,
  StepError,
  type StepErrorOptions,
  StepNotFoundError,
  StepTimeoutError,
  StoreError,
  type StoreErrorCode,
  StreamNotFoundError,
  StreamSchemaError,
  SubscriptionError,
  TapeError,
  TestSuspendedError,
  TimeoutError,
  TimersFakedError,
  toError,
  type TurnAbortedCode,
  TurnAbortedError,
  TurnBrokenError,
  TurnEndedError,
  UnauthenticatedError,
  UnauthorizedError,
  type UnavailableCode,
  UnavailableError,
  type UnsupportedCode,
  UnsupportedError,
  ValidationError,
  type ValidationErrorOptions,
  VersionConflictError,
  WaitTimeoutError,
  type WebhookCode,
  WebhookError,
  WebhookNotFoundError,
  WorkerAlreadyRunningError,
  WorkerStoppedError,
  WorkerUnknownError
} from "./Errors.ts"
export {
  type AnyEvents,
  type DataFor,
  defineEvent,
  type EventData,
  type EventDefinition,
  type EventDefinitionOptions,
  type EventEntity,
  type EventInput,
  type EventMap,
  type EventOf,
  type EventRef,
  type IronflowEvent,
  type TypedEvent,
  type TypedEventOptions,
  type UpcasterFn
} from "./Event.ts"
export type {
  ConcurrencyConfig,
  CreateFunctionConfig,
  DefinedTrigger,
  ExecutionMode,
  FunctionConfig,
  FunctionContext,
  FunctionHandler,
  IronflowFunction,
  RecordingRetention,
  RunInfo,
  TriggerEvents,
  TriggerSource
} from "./Function.ts"
export {
  type Branded,
  createEventId,
  createFunctionId,
  createJobId,
  createRunId,
  createStepId,
  createSubscriptionId,
  createWorkerId,
  type EventId,
  type FunctionId,
  generateId,
  type JobId,
  type RunId,
  type StepId,
  type SubscriptionId,
  type WorkerId
} from "./Ids.ts"
export type { HookCall, HookEvent, HookOptions } from "./Hook.ts"
export { deepMerge, isObject, safeJsonParse } from "./Json.ts"
export type {
  FailedRun,
  FailedRunEvent,
  FailedRunStep,
  FailureHandler,
  OnFailure,
  OnFailureOptions
} from "./OnFailure.ts"
export type { LogFields } from "./LogFields.ts"
export type { LogFormat } from "./LogFormat.ts"
export { createLogger, createNoopLogger, type Logger, type LoggerConfig, type LogLevel } from "./Logger.ts"
export { matchesPattern, patterns } from "./Pattern.ts"
export type {
  ExternalProjectionConfig,
  ExternalProjectionHandler,
  IronflowProjection,
  ManagedProjectionConfig,
  ManagedProjectionHandler,
  ProjectionConfig,
  ProjectionContext,
  ProjectionEvent,
  ProjectionMode,
  SourceEvents
} from "./Projection/Projection.ts"
export { createSecretsClient, type SecretsClient } from "./Secrets.ts"
export {
  type AnySchema,
  parseAndValidate,
  type SchemaInput,
  type SchemaOutput,
  type StandardSchemaV1,
  validate
} from "./StandardSchema.ts"
export type {
  EventFilter,
  InvokeOptions,
  ParallelOptions,
  StepClient,
  StepRunContext,
  StepRunOptions,
  Tx,
  TxAppendAllOptions,
  TxAppendOptions,
  TxDeleteKeyOptions,
  TxEmitOptions,
  TxEntityStreams,
  TxKvBucket,
  TxResult,
  WithSchema
} from "./Step.ts"
export type { NotStorable, Stored } from "./StoredType.ts"
export type { TxWriteResult } from "./Protocol/Worker.ts"
export type { Overlap } from "./Overlap.ts"
export type { ProjectionStatus } from "./Protocol/Projections.ts"
export type { Trigger } from "./Trigger.ts"
export type { RunStatus } from "./RunStatus.ts"
export {
  createEventDefinitionRegistry,
  createUpcasterRegistry,
  type EventDefinitionRegistry,
  type UpcasterRegistry
} from "./Upcaster.ts"
export type {
  CompletedStep,
  InvokeFunctionAsyncYield,
  InvokeFunctionYield,
  PushRequest,
  PushResponse,
  ResumeContext,
  SleepYield,
  StepResult,
  WaitEventYield,
  YieldInfo
} from "./Protocol/Push.ts"
export type { HandlerContext, HandlerOptions } from "./Serve/Options.ts"
export type { StepStatus } from "./StepStatus.ts"
export type {
  DefinedWebhookEvent,
  IronflowWebhook,
  WebhookConfig,
  WebhookEvent,
  WebhookRequest,
  WebhookResult
} from "./Webhook.ts"
