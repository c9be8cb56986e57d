/**
 * The Effect API: a namespace for each part of the package, with typed errors and with layers. Where Effect has a
 * namespace of the same name (`Config`, `Function`, `Logger`), ours begins with `Ironflow`, so that a program can
 * import both.
 *
 * ```ts
 * const Main = Worker.layer({ functions: [processOrder] }).pipe(
 *   Layer.provide(WorkerTransport.layerMemory),
 *   Layer.provide(Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: "orders.db" }))))
 * )
 * ```
 */
export * as ApiKeys from "./Client/ApiKeys.ts"
export * as Client from "./Client/ClientNamespace.ts"
export * as ConsumerGroups from "./Client/ConsumerGroups.ts"
export * as Engine from "./Engine/Engine.ts"
export * as Hooks from "./Engine/Hooks/HookSettings.ts"
export * as Kv from "./Client/Kv.ts"
export * as Store from "./Engine/StoreNamespace.ts"
export * as WorkerTransport from "./Engine/WorkerTransportNamespace.ts"
export * as Entity from "./Entity.ts"
export * as Errors from "./Errors.ts"
export * as Event from "./Event.ts"
export * as IronflowConfig from "./Client/Config.ts"
export * as IronflowFunction from "./Function.ts"
export * as IronflowLogger from "./Logger.ts"
export * as Projection from "./Projection/Projection.ts"
export * as Projections from "./Client/Projections.ts"
export * as Serve from "./Serve/Serve.ts"
export * as Push from "./Engine/Push/PushSettings.ts"
export * as Orgs from "./Client/Orgs.ts"
export * as Policies from "./Client/Policies.ts"
export * as Roles from "./Client/Roles.ts"
export * as Secrets from "./Client/Secrets.ts"
export * as Server from "./Server/Server.ts"
export * as Step from "./Step.ts"
export * as Streams from "./Client/Streams.ts"
export * as Subscriptions from "./Client/Subscriptions.ts"
export * as Testing from "./Testing/Testing.ts"
export * as Upcaster from "./Upcaster.ts"
export * as Webhook from "./Webhook.ts"
export * as Worker from "./Worker/Worker.ts"

// The compiler writes the type of an exported effect or layer into the `.d.ts` of a library. There it can
// only name direct exports of a module in `exports`, and not members of the namespaces above. So errors and
// services are also exported here, as types only. The names of services end in `Key`, since the namespaces
// have their names.
export type {
  AccessError,
  ApiKeyNotFoundError,
  BodyError,
  BucketExistsError,
  BucketNotFoundError,
  BulkNotFoundError,
  ClosedError,
  CompensationLostError,
  ConfigNotFoundError,
  ConflictError,
  ConnectionError,
  ConsumerGroupExistsError,
  ConsumerGroupNotFoundError,
  EndpointNotFoundError,
  EndpointUnavailableError,
  EngineError,
  EnterpriseRequiredError,
  ErrorCode,
  EventNotFoundError,
  FunctionNotFoundError,
  FunctionTimeoutError,
  InterruptedError,
  InvalidResponseError,
  InvalidStateError,
  InvokeError,
  InvokeTimeoutError,
  IronflowError,
  KeyNotFoundError,
  KeySchemaError,
  LeaseLostError,
  LimitExceededError,
  ListenError,
  MasterKeyError,
  MessageDamagedError,
  MissingError,
  NestedStepError,
  NoResultsError,
  NodeVersionError,
  NonRetryableError,
  NondeterminismError,
  NotConfiguredError,
  NotFoundError,
  OrgNotFoundError,
  OutcomeError,
  PolicyNotFoundError,
  ProjectionBehindError,
  ProjectionNotFoundError,
  ProjectionSaveRefusedError,
  RegistrationError,
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
  ServerError,
  ServiceMissingError,
  SignatureError,
  SnapshotNotFoundError,
  StaleRequestError,
  StepAbortedError,
  StepError,
  StepNotFoundError,
  StepTimeoutError,
  StoreError,
  StreamNotFoundError,
  StreamSchemaError,
  SubscriptionError,
  TapeError,
  TestSuspendedError,
  TimeoutError,
  TimersFakedError,
  TurnAbortedError,
  TurnBrokenError,
  TurnEndedError,
  UnauthenticatedError,
  UnauthorizedError,
  UnavailableError,
  UnsupportedError,
  ValidationError,
  VersionConflictError,
  WaitTimeoutError,
  WebhookError,
  WebhookNotFoundError,
  WorkerAlreadyRunningError,
  WorkerStoppedError,
  WorkerUnknownError
} from "./Errors.ts"
export { type Erased, isErased } from "./Erased.ts"
export type { ClientServices } from "./Client/Services.ts"
export type { TestError } from "./Testing/TestError.ts"
export type { ApiKeys as ApiKeysKey } from "./Client/ApiKeys.ts"
export type { Client as ClientKey } from "./Client/Client.ts"
export type { Config as ConfigKey } from "./Client/Config.ts"
export type { ConsumerGroups as ConsumerGroupsKey } from "./Client/ConsumerGroups.ts"
export type { Kv as KvKey } from "./Client/Kv.ts"
export type { Orgs as OrgsKey } from "./Client/Orgs.ts"
export type { Policies as PoliciesKey } from "./Client/Policies.ts"
export type { Projections as ProjectionsKey } from "./Client/Projections.ts"
export type { PushEndpoints as PushEndpointsKey } from "./Client/PushEndpoints.ts"
export type { Roles as RolesKey } from "./Client/Roles.ts"
export type { Secrets as SecretsKey } from "./Client/Secrets.ts"
export type { Streams as StreamsKey } from "./Client/Streams.ts"
export type { Subscriptions as SubscriptionsKey } from "./Client/Subscriptions.ts"
export type { Engine as EngineKey } from "./Engine/Engine.ts"
export type { HttpServerEngine as HttpServerEngineKey } from "./Server/Server.ts"
export type { Store as StoreKey } from "./Engine/Store/Store.ts"
export type { WorkerTransport as WorkerTransportKey } from "./Protocol/Worker.ts"
export type { Step as StepKey, StepAttempt as StepAttemptKey } from "./Step.ts"
export type { TestEngine as TestEngineKey } from "./Testing/VirtualEngine.ts"
export type { Worker as WorkerKey } from "./Worker/Worker.ts"
