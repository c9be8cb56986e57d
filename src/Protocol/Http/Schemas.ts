/**
 * Requests and responses of the HTTP protocol, as schemas. Requests list fields in lower camel case; a server reads them
 * in snake case too (`Lenient.ts`), and ignores what it does not know.
 */
import * as Schema from "effect/Schema"
import { overlaps } from "../../Overlap.ts"
import { stepStatuses } from "../../StepStatus.ts"

const optional = Schema.optionalKey
const text = Schema.String
const json = Schema.Unknown
const jsonObject = Schema.Record(text, Schema.Unknown)

// ---------------------------------------------------------------------------------------------------------------------
// Events
// ---------------------------------------------------------------------------------------------------------------------

export const TriggerRequest = Schema.Struct({
  event: text,
  data: optional(json),
  version: optional(Schema.Int),
  idempotencyKey: optional(text),
  metadata: optional(jsonObject)
})

/** `runIds` is absent when the event started no run; `position` is that of the event in the log, a 64-bit integer. */
export const TriggerResponse = Schema.Struct({
  eventId: text,
  runIds: optional(Schema.Array(text)),
  position: optional(text)
})

/** Set when the output has errors in it: the members `ironflow:error`, each with name, message, code, cause and stack. */
const outputHasErrors = optional(Schema.Literal(true))

export const TriggerSyncRequest = Schema.Struct({
  ...TriggerRequest.fields,
  timeoutMs: optional(Schema.Int)
})

export const TriggerSyncResponse = Schema.Struct({
  eventId: text,
  results: optional(
    Schema.Array(
      Schema.Struct({
        runId: text,
        functionId: text,
        status: text,
        output: optional(json),
        outputHasErrors,
        error: optional(json),
        durationMs: optional(Schema.Int)
      })
    )
  )
})

export const TriggerBatchRequest = Schema.Struct({ events: optional(Schema.Array(TriggerRequest)) })
export const TriggerBatchResponse = Schema.Struct({ results: optional(Schema.Array(TriggerResponse)) })

export const RestEmitRequest = Schema.Struct({
  name: text,
  data: optional(json),
  version: optional(Schema.Int),
  idempotencyKey: optional(text),
  /** The id of the webhook that the event came by. */
  webhook: optional(text),
  metadata: optional(jsonObject)
})

/** Both spellings of the event's id are in use. */
export const RestEmitResponse = Schema.Struct({ event_id: text, id: text, run_ids: Schema.Array(text) })

export const PublishRequest = Schema.Struct({
  topic: text,
  data: optional(json),
  idempotencyKey: optional(text)
})

/** `sequence` is a 64-bit integer: digits in a string. */
export const PublishResponse = Schema.Struct({ eventId: text, sequence: text })

/** Counts and sequences are 64-bit integers: digits in a string. */
export const ListTopicsResponse = Schema.Struct({
  topics: optional(
    Schema.Array(
      Schema.Struct({
        name: text,
        messageCount: text,
        consumerCount: Schema.Int,
        firstMessageAt: optional(text),
        lastMessageAt: optional(text)
      })
    )
  )
})
export const TopicStatsRequest = Schema.Struct({ topic: text })
export const TopicStatsResponse = Schema.Struct({
  name: text,
  messageCount: text,
  consumerCount: Schema.Int,
  lag: text,
  firstSeq: text,
  lastSeq: text
})

// ---------------------------------------------------------------------------------------------------------------------
// Consumer groups
// ---------------------------------------------------------------------------------------------------------------------

const groupSettings = {
  ackMode: optional(text),
  backpressure: optional(text),
  buffer: optional(Schema.Struct({ maxBytes: optional(Schema.Int) })),
  maxInflight: optional(Schema.Int),
  maxRedeliveries: optional(Schema.Int),
  redeliverDelayMs: optional(Schema.Int),
  metadata: optional(jsonObject)
}

export const CreateConsumerGroupRequest = Schema.Struct({
  name: text,
  pattern: text,
  namespace: optional(text),
  filter: optional(text),
  ...groupSettings
})
/** `null` takes a setting away. */
export const UpdateConsumerGroupRequest = Schema.Struct({ filter: optional(text), ...groupSettings })
export const PauseConsumerGroupRequest = Schema.Struct({ by: optional(text), reason: optional(text) })
/** `ackMode` and `backpressure` in any spelling of an enum. */
export const SubscribeRequest = Schema.Struct({
  pattern: text,
  options: optional(
    Schema.Struct({
      replay: optional(Schema.Int),
      includeMetadata: optional(Schema.Boolean),
      filter: optional(text),
      namespace: optional(text),
      consumerGroup: optional(text),
      ackMode: optional(json),
      backpressure: optional(json)
    })
  )
})
export const JoinConsumerGroupRequest = Schema.Struct({
  groupName: text,
  namespace: optional(text),
  consumerId: optional(text),
  clientId: optional(text)
})
/** `sequence` is a 64-bit integer: digits in a string. */
export const SubscribedEvent = Schema.Struct({
  subscriptionId: text,
  eventId: text,
  topic: text,
  data: jsonObject,
  metadata: optional(
    Schema.Struct({
      timestamp: text,
      source: optional(text),
      namespace: text,
      custom: optional(jsonObject)
    })
  ),
  sequence: text,
  deliveryAttempt: Schema.Int
})
export const ConsumerGroupRequest = Schema.Struct({
  name: text,
  namespace: optional(text),
  pattern: optional(text)
})
/** The status is a name or a number. */
export const ListConsumerGroupsRequest = Schema.Struct({
  namespace: optional(text),
  name: optional(text),
  status: optional(json),
  limit: optional(Schema.Int),
  cursor: optional(text)
})

const groupCounts = {
  inFlight: Schema.Int,
  retrying: Schema.Int,
  givenUp: Schema.Int,
  deadLetters: Schema.Int,
  memberCount: Schema.Int
}
const groupFacts = {
  id: text,
  namespace: text,
  name: text,
  pattern: text,
  message: text,
  nextRetryAt: optional(text),
  metadata: optional(jsonObject),
  pausedBy: optional(text),
  pausedAt: optional(text),
  pauseReason: optional(text),
  createdAt: text,
  updatedAt: text,
  usedAt: text,
  expiresAt: optional(text)
}
const groupMembers = Schema.Array(
  Schema.Struct({ id: text, ackMode: text, inFlight: Schema.Int, isSlow: Schema.Boolean, joinedAt: text })
)

export const ConsumerGroup = Schema.Struct({
  ...groupFacts,
  ...groupCounts,
  filter: optional(text),
  status: Schema.Literals(["active", "paused"]),
  position: Schema.Int,
  lag: Schema.Int,
  members: groupMembers,
  ackMode: text,
  backpressure: text,
  buffer: Schema.Struct({ maxBytes: optional(Schema.Int) }),
  maxInflight: Schema.Int,
  maxRedeliveries: Schema.Int,
  redeliverDelayMs: Schema.Int
})
export const ConsumerGroupsResponse = Schema.Struct({
  groups: Schema.Array(ConsumerGroup),
  nextCursor: optional(text),
  totalCount: Schema.Int
})

/** Enums of `PubSubService` are names or numbers, and zero says nothing. */
const connectSettings = {
  ...groupSettings,
  filterExpr: optional(text),
  ackMode: optional(json),
  backpressure: optional(json)
}
export const ConnectConsumerGroupConfig = Schema.Struct({
  name: text,
  pattern: text,
  namespace: optional(text),
  ...connectSettings
})
/** `by` and `reason` are for a status that becomes paused. */
export const ConnectUpdateConsumerGroupRequest = Schema.Struct({
  group: Schema.Struct({ ...ConsumerGroupRequest.fields, ...connectSettings, status: optional(json) }),
  updateMask: optional(json),
  by: optional(text),
  reason: optional(text)
})
/** Positions and counts of events are 64-bit integers: digits in a string. */
export const ConnectConsumerGroup = Schema.Struct({
  ...groupFacts,
  ...connectSettings,
  ackMode: text,
  backpressure: text,
  status: text,
  position: text,
  lag: text,
  inFlight: optional(Schema.Int),
  retrying: optional(Schema.Int),
  givenUp: optional(Schema.Int),
  deadLetters: optional(Schema.Int),
  memberCount: optional(Schema.Int),
  members: optional(groupMembers)
})
export const ConnectConsumerGroupsResponse = Schema.Struct({
  groups: optional(Schema.Array(ConnectConsumerGroup)),
  nextCursor: optional(text),
  totalCount: optional(Schema.Int)
})

// ---------------------------------------------------------------------------------------------------------------------
// Entity streams: 64-bit integers are digits in a string
// ---------------------------------------------------------------------------------------------------------------------

/** An absent `expectedVersion` is 0: there must be no stream. -1 expects nothing. */
export const AppendEventRequest = Schema.Struct({
  entityId: text,
  entityType: text,
  eventName: text,
  data: optional(json),
  expectedVersion: optional(Schema.Int),
  idempotencyKey: optional(text),
  version: optional(Schema.Int),
  metadata: optional(jsonObject)
})
/** `sequence` is the position in the log. */
export const AppendEventResponse = Schema.Struct({ entityVersion: text, eventId: text, sequence: text })

export const AppendEventsRequest = Schema.Struct({
  entityId: text,
  entityType: text,
  events: Schema.Array(
    Schema.Struct({
      eventName: text,
      data: optional(json),
      version: optional(Schema.Int),
      metadata: optional(jsonObject)
    })
  ),
  expectedVersion: optional(Schema.Int),
  idempotencyKey: optional(text)
})
export const AppendEventsResponse = Schema.Struct({
  entityVersion: text,
  sequence: text,
  events: Schema.Array(AppendEventResponse)
})

/** `direction` is `forward` or `backward`. */
export const ReadStreamRequest = Schema.Struct({
  entityId: text,
  fromVersion: optional(Schema.Int),
  limit: optional(Schema.Int),
  direction: optional(text)
})
const StreamEvent = Schema.Struct({
  id: text,
  name: text,
  data: optional(json),
  entityVersion: text,
  version: Schema.Int,
  timestamp: text,
  source: optional(text),
  metadata: optional(jsonObject)
})
export const ReadStreamResponse = Schema.Struct({
  events: optional(Schema.Array(StreamEvent)),
  totalCount: optional(Schema.Int)
})

export const StreamRequest = Schema.Struct({ entityId: text })
export const StreamInfo = Schema.Struct({
  entityId: text,
  entityType: text,
  version: text,
  eventCount: text,
  createdAt: text,
  updatedAt: text
})

/** `nextCursor` is the `fromVersion` of the next page. */
export const EntityHistoryResponse = Schema.Struct({
  entries: optional(
    Schema.Array(
      Schema.Struct({
        event: StreamEvent,
        runs: optional(
          Schema.Array(
            Schema.Struct({
              id: text,
              functionId: text,
              status: text,
              state: text,
              attempt: Schema.Int,
              createdAt: text,
              startedAt: optional(text),
              endedAt: optional(text),
              steps: optional(
                Schema.Array(
                  Schema.Struct({
                    id: text,
                    name: text,
                    kind: text,
                    status: Schema.Literals(stepStatuses),
                    attempt: Schema.Int,
                    startedAt: text,
                    endedAt: optional(text)
                  })
                )
              )
            })
          )
        )
      })
    )
  ),
  nextCursor: optional(text),
  totalEvents: Schema.Int,
  info: StreamInfo
})

export const ListStreamsRequest = Schema.Struct({
  entityType: optional(text),
  limit: optional(Schema.Int),
  offset: optional(Schema.Int)
})
const StreamSummary = Schema.Struct({
  entityId: text,
  entityType: text,
  version: text,
  eventCount: text,
  lastEventAt: text
})
export const ListStreamsResponse = Schema.Struct({
  streams: optional(Schema.Array(StreamSummary)),
  totalCount: optional(Schema.Int)
})
export const RestStreamsResponse = Schema.Struct({
  streams: Schema.Array(
    Schema.Struct({ ...StreamSummary.fields, version: Schema.Int, eventCount: Schema.Int })
  ),
  totalCount: Schema.Int
})
export const StreamHistoryResponse = Schema.Struct({
  events: Schema.Array(Schema.Struct({ eventName: text, data: json, version: Schema.Int, timestamp: text }))
})

export const CreateSnapshotRequest = Schema.Struct({
  entityId: text,
  entityType: text,
  entityVersion: optional(Schema.Int),
  state: optional(json)
})
export const CreateSnapshotResponse = Schema.Struct({ snapshotId: text })
/** `beforeVersion` 0 asks for the newest. */
export const GetSnapshotRequest = Schema.Struct({ entityId: text, beforeVersion: optional(Schema.Int) })
export const Snapshot = Schema.Struct({
  snapshotId: text,
  entityId: text,
  entityType: text,
  entityVersion: text,
  state: json,
  createdAt: text
})

// ---------------------------------------------------------------------------------------------------------------------
// Runs
// ---------------------------------------------------------------------------------------------------------------------

const RunError = Schema.Struct({
  message: text,
  code: text,
  name: optional(text),
  stack: optional(text),
  retryable: optional(Schema.Boolean),
  details: optional(json)
})

export const Run = Schema.Struct({
  id: text,
  functionId: text,
  eventId: text,
  status: text,
  state: text,
  executionMode: text,
  attempt: Schema.Int,
  maxAttempts: Schema.Int,
  createdAt: text,
  updatedAt: text,
  startedAt: optional(text),
  endedAt: optional(text),
  input: optional(json),
  output: optional(json),
  outputHasErrors,
  error: optional(RunError),
  workerId: optional(text),
  actorId: optional(text),
  parentRunId: optional(text),
  pauseReason: optional(text)
})

export const RunStep = Schema.Struct({
  id: text,
  name: text,
  kind: text,
  status: Schema.Literals(stepStatuses),
  attempt: Schema.Int,
  output: optional(json),
  outputHasErrors,
  error: optional(RunError),
  startedAt: optional(text),
  endedAt: optional(text),
  dueAt: optional(text)
})

/** The run's id is `id`; some methods of other revisions call it `runId`. */
export const RunIdRequest = Schema.Struct({ id: optional(text), runId: optional(text) })
export const CancelRunRequest = Schema.Struct({ ...RunIdRequest.fields, reason: optional(text) })
export const FromStepRequest = Schema.Struct({ ...RunIdRequest.fields, fromStep: optional(text) })
export const PauseRunRequest = CancelRunRequest
export const PauseRunResponse = Schema.Struct({
  status: Schema.Literals(["pause_requested", "paused"]),
  run: Run
})

/** `status` in any spelling of it. */
export const ListRunsRequest = Schema.Struct({
  functionId: optional(text),
  status: optional(text),
  limit: optional(Schema.Int),
  cursor: optional(text)
})

export const ListRunsResponse = Schema.Struct({
  runs: optional(Schema.Array(Run)),
  damaged: optional(Schema.Array(Schema.Struct({ id: text, message: text }))),
  nextCursor: optional(text),
  totalCount: optional(Schema.Int)
})

const LoggedEvent = Schema.Struct({
  id: text,
  name: text,
  version: Schema.Int,
  data: json,
  timestamp: text,
  sequence: text,
  source: optional(text),
  metadata: optional(jsonObject),
  entity: optional(Schema.Struct({ id: text, type: text, version: Schema.Int }))
})
export const EventsResponse = Schema.Struct({
  events: Schema.Array(LoggedEvent),
  nextCursor: optional(text)
})

export const RunStepsResponse = Schema.Struct({ steps: optional(Schema.Array(RunStep)) })
export const RestRunStepsResponse = Schema.Struct({ steps: Schema.Array(RunStep) })

/** An absent `output` is null. */
export const PatchStepRequest = Schema.Struct({
  stepId: text,
  output: optional(json),
  reason: optional(text)
})

export const RunAuditResponse = Schema.Struct({
  events: Schema.Array(
    Schema.Struct({ at: text, type: text, stepName: optional(text), details: jsonObject })
  ),
  nextCursor: optional(text)
})

export const Explanation = Schema.Struct({
  runId: text,
  status: text,
  code: text,
  message: text,
  details: jsonObject
})

// ---------------------------------------------------------------------------------------------------------------------
// Functions, workers, the engine
// ---------------------------------------------------------------------------------------------------------------------

const Trigger = Schema.Struct({
  event: optional(text),
  expression: optional(text),
  cron: optional(text),
  timezone: optional(text),
  overlap: optional(Schema.Literals(overlaps))
})

const Retry = Schema.Struct({
  maxAttempts: optional(Schema.Int),
  initialDelayMs: optional(Schema.Number),
  backoffFactor: optional(Schema.Number),
  maxDelayMs: optional(Schema.Number),
  jitter: optional(Schema.Number)
})

const Concurrency = Schema.Struct({ limit: Schema.Int, key: optional(text) })

export const RegisterFunctionRequest = Schema.Struct({
  id: text,
  name: optional(text),
  triggers: optional(Schema.Array(Trigger)),
  retry: optional(Retry),
  timeoutMs: optional(Schema.Int),
  concurrency: optional(Concurrency),
  preferredMode: optional(text),
  endpointUrl: optional(text),
  actorKey: optional(text),
  secrets: optional(Schema.Array(text)),
  recording: optional(Schema.Boolean),
  recordingRetention: optional(text),
  metadata: optional(jsonObject)
})

export const FunctionInfo = Schema.Struct({
  id: text,
  name: text,
  triggers: Schema.Array(Trigger),
  version: Schema.Int,
  codeHash: text,
  createdAt: text,
  updatedAt: text
})

/** `created` is absent when the function was there. */
export const RegisterFunctionResponse = Schema.Struct({
  function: FunctionInfo,
  created: optional(Schema.Boolean)
})
export const GetFunctionRequest = Schema.Struct({ id: text })
export const ListFunctionsResponse = Schema.Struct({
  functions: optional(Schema.Array(FunctionInfo)),
  totalCount: optional(Schema.Int)
})
export const RestFunctionsResponse = Schema.Struct({ functions: Schema.Array(FunctionInfo) })

const WorkerInfo = Schema.Struct({
  id: text,
  hostname: text,
  function_ids: Schema.Array(text),
  max_concurrent: Schema.Int,
  labels: Schema.Record(text, text),
  active_jobs: Schema.Int,
  registered_at: text,
  transport: text
})
export const RestWorkersResponse = Schema.Struct({ workers: Schema.Array(WorkerInfo) })

export const SetSecretRequest = Schema.Struct({ name: text, value: text })
export const UpdateSecretRequest = Schema.Struct({ value: text })
/** Values go in and never come out. */
export const SecretInfo = Schema.Struct({ name: text, created_at: text, updated_at: text })
export const SecretInfos = Schema.Array(SecretInfo)

export const RegisterPushEndpointRequest = Schema.Struct({ url: text })
export const RegisterPushEndpointResponse = Schema.Struct({
  url: text,
  functions: Schema.Array(Schema.Struct({ id: text, name: text, triggers: Schema.Array(Trigger) }))
})
export const PushEndpointsResponse = Schema.Struct({
  endpoints: Schema.Array(
    Schema.Struct({
      url: text,
      functionIds: Schema.Array(text),
      available: Schema.Boolean,
      problem: optional(text)
    })
  )
})

export const ApiKey = Schema.Struct({
  id: text,
  name: text,
  key_prefix: text,
  env_id: text,
  role_ids: Schema.Array(text),
  created_at: text,
  expires_at: optional(text),
  last_used_at: optional(text),
  previous_expires_at: optional(text)
})
/** The only answers that hold the key itself. */
export const ApiKeyWithSecret = Schema.Struct({ ...ApiKey.fields, secret: text, key: text })
/** `envId`, `roleIds` and `expiresIn` will do as well. */
export const CreateApiKeyRequest = Schema.Struct({
  name: text,
  env_id: optional(text),
  role_ids: optional(Schema.Array(text)),
  expires_in: optional(Schema.Union([text, Schema.Number]))
})
/** Without it the old secret ends at once. */
export const RotateApiKeyRequest = Schema.Struct({
  overlap: optional(Schema.Union([text, Schema.Number]))
})
export const AccessLog = Schema.Array(
  Schema.Struct({ at: text, by: text, action: text, subject: text, details: jsonObject })
)
const named = { name: text }
const maybeNamed = { name: optional(text) }
export const CreateOrgRequest = Schema.Struct(named)
export const UpdateOrgRequest = Schema.Struct(maybeNamed)
export const Organization = Schema.Struct({ id: text, ...named, created_at: text, updated_at: text })
export const CreateRoleRequest = Schema.Struct({ ...named, org_id: optional(text) })
export const UpdateRoleRequest = Schema.Struct(maybeNamed)
export const AssignPolicyRequest = Schema.Struct({ policy_id: text })
export const Role = Schema.Struct({
  id: text,
  org_id: text,
  ...named,
  is_default: Schema.Boolean,
  policy_ids: Schema.Array(text),
  created_at: text
})
const policyRule = {
  ...named,
  effect: Schema.Literals(["allow", "deny"]),
  actions: text,
  resources: text,
  condition: optional(text)
}
export const CreatePolicyRequest = Schema.Struct({ ...policyRule, org_id: optional(text) })
export const UpdatePolicyRequest = Schema.Struct({
  ...maybeNamed,
  effect: optional(policyRule.effect),
  actions: optional(text),
  resources: optional(text),
  condition: optional(text)
})
export const Policy = Schema.Struct({
  id: text,
  org_id: text,
  ...policyRule,
  created_at: text,
  updated_at: text
})

const components = optional(Schema.Record(Schema.String, Schema.Struct({ status: text, message: text })))
export const HealthResponse = Schema.Struct({ status: text, timestamp: text, components })
export const RestHealthResponse = Schema.Struct({ status: text, timestamp: text, version: text, components })
export const InfoResponse = Schema.Struct({
  version: text,
  startedAt: text,
  functionCount: optional(Schema.Int),
  activeRuns: optional(Schema.Int),
  connectedWorkers: optional(Schema.Int)
})
export const CapabilitiesResponse = Schema.Struct({
  transports: Schema.Array(text),
  features: Schema.Array(text),
  version: text
})

export const Empty = Schema.Struct({})

// ---------------------------------------------------------------------------------------------------------------------
// Workers
// ---------------------------------------------------------------------------------------------------------------------

const FunctionRegistration = Schema.Struct({
  id: text,
  name: text,
  triggers: Schema.Array(Trigger),
  retry: Schema.Struct({
    maxAttempts: Schema.Int,
    initialDelayMs: Schema.Number,
    backoffFactor: Schema.Number,
    maxDelayMs: Schema.Number,
    jitter: optional(Schema.Number)
  }),
  timeoutMs: Schema.Number,
  concurrency: optional(Concurrency),
  mode: Schema.Literals(["push", "pull"]),
  actorKey: optional(text),
  secrets: Schema.Array(text),
  recording: optional(Schema.Boolean),
  recordingRetention: optional(text),
  metadata: optional(jsonObject),
  codeHash: text
})

const WorkerRegistration = Schema.Struct({
  workerId: text,
  environment: text,
  hostname: text,
  functions: Schema.Array(FunctionRegistration),
  maxConcurrentJobs: Schema.Int,
  labels: Schema.Record(text, text),
  version: Schema.Struct({ sdk: text, runtime: text }),
  startedAt: optional(Schema.Int),
  pauses: optional(Schema.Boolean)
})

/** `capabilities`, `registration`, `instance`, `jobs`, `number` and `since` come from workers that speak turns (`Turns.ts`). */
export const RegisterWorkerRequest = Schema.Struct({
  workerId: optional(text),
  hostname: optional(text),
  functionIds: optional(Schema.Array(text)),
  maxConcurrentJobs: optional(Schema.Int),
  labels: optional(Schema.Record(text, text)),
  version: optional(json),
  capabilities: optional(
    Schema.Struct({
      turns: optional(Schema.Int),
      renewals: optional(Schema.Boolean),
      seals: optional(Schema.Boolean)
    })
  ),
  registration: optional(WorkerRegistration),
  process: optional(Schema.Struct({ host: text, pid: Schema.Int, startedAt: text })),
  instance: optional(text),
  jobs: optional(Schema.Array(text)),
  number: optional(Schema.Int),
  since: optional(text)
})

export const HeartbeatRequest = Schema.Struct({
  workerId: optional(text),
  activeJobs: optional(Schema.Int),
  jobs: optional(Schema.Array(Schema.Struct({ jobId: text, startedAt: optional(text) })))
})

const WireError = Schema.Struct({
  message: optional(text),
  code: optional(text),
  retryable: optional(Schema.Boolean),
  stack: optional(text)
})

/** What an existing worker reports of a step. */
export const StepResult = Schema.Struct({
  id: text,
  name: optional(text),
  type: optional(text),
  status: text,
  startedAt: optional(text),
  endedAt: optional(text),
  output: optional(json),
  error: optional(WireError)
})

/** What an existing worker waits for. */
export const Yield = Schema.Struct({
  type: text,
  stepId: text,
  until: optional(text),
  eventFilter: optional(
    Schema.Struct({
      event: text,
      match: optional(text),
      timeout: optional(Schema.Union([text, Schema.Number]))
    })
  ),
  functionId: optional(text),
  input: optional(json),
  invokeTimeoutMs: optional(Schema.Number)
})

export const JobUpdate = Schema.Struct({
  status: text,
  output: optional(json),
  error: optional(WireError),
  steps: optional(Schema.Array(StepResult)),
  yield: optional(Yield)
})

export const LateRequest = Schema.Struct({
  session: text,
  runId: text,
  stepName: text,
  lingerMs: Schema.Number
})

export const PollRequest = Schema.Struct({
  session: text,
  asked: optional(Schema.Int),
  withdrawn: optional(Schema.Int),
  seen: Schema.Int,
  waitMs: Schema.Number,
  holding: optional(Schema.Array(text))
})

/** What a worker calls over a stream (`TurnStream.ts`). */
export const RoomRequest = Schema.Struct({
  session: text,
  asked: optional(Schema.Int),
  withdrawn: optional(Schema.Int),
  seen: optional(Schema.Int),
  holding: optional(Schema.Array(text))
})

export const LeaveRequest = Schema.Struct({ session: text })

/** Ops and deliveries are described in `Protocol/Worker.ts`; the server reads them by a table of its own. */
export const ReportsRequest = Schema.Struct({
  session: text,
  batch: Schema.Int,
  asked: optional(Schema.Int),
  withdrawn: optional(Schema.Int),
  reports: Schema.Array(Schema.Struct({ jobId: text, runId: text, ops: Schema.Array(jsonObject) }))
})
export const ReportsResponse = Schema.Struct({ acks: Schema.Array(jsonObject) })
export const PollResponse = Schema.Struct({
  deliveries: Schema.Array(jsonObject),
  closing: optional(Schema.Boolean)
})

/** To a worker that speaks turns everything from `capabilities` on; to others `worker_id` and `status`. */
export const RegisterWorkerResponse = Schema.Struct({
  worker_id: optional(text),
  status: optional(text),
  capabilities: optional(Schema.Struct({ turns: Schema.Int, renewals: optional(Schema.Boolean) })),
  session: optional(text),
  leaseMs: optional(Schema.Int),
  presenceMs: optional(Schema.Int),
  waitMs: optional(Schema.Int),
  maxBodyBytes: optional(Schema.Int),
  lost: optional(Schema.Array(text))
})

// ---------------------------------------------------------------------------------------------------------------------
// Keys and configurations
// ---------------------------------------------------------------------------------------------------------------------

export const CreateBucketRequest = Schema.Struct({
  name: text,
  description: optional(text),
  ttlSeconds: optional(Schema.Number),
  maxValueSize: optional(Schema.Number),
  maxBytes: optional(Schema.Number),
  history: optional(Schema.Number)
})

export const Bucket = Schema.Struct({
  name: text,
  description: optional(text),
  ttl_seconds: optional(Schema.Number),
  max_value_size: optional(Schema.Int),
  max_bytes: optional(Schema.Int),
  values: Schema.Int,
  bytes: Schema.Int,
  history: Schema.Int,
  revision: Schema.Int,
  created_at: text
})
export const ListBucketsResponse = Schema.Struct({ buckets: Schema.Array(Bucket), count: Schema.Int })
/** With a `limit`, a page; else all. */
export const ListKeysResponse = Schema.Struct({
  keys: Schema.Array(text),
  count: Schema.Int,
  nextCursor: optional(text)
})

/** `value` is base64, and `content_type` what was said of it when it was put. */
export const KeyEntry = Schema.Struct({
  key: text,
  value: text,
  content_type: text,
  revision: Schema.Int,
  created_at: text,
  operation: Schema.Literals(["put", "delete"]),
  expires_at: optional(text)
})
export const KeyHistoryResponse = Schema.Struct({
  entries: Schema.Array(KeyEntry),
  nextCursor: optional(text)
})
export const RevisionResponse = Schema.Struct({ revision: Schema.Int })

/** `value` is base64. */
export const WriteKeysRequest = Schema.Struct({
  writes: Schema.Array(
    Schema.Struct({
      op: Schema.Literals(["put", "create", "update", "delete"]),
      key: text,
      value: optional(text),
      contentType: optional(text),
      revision: optional(Schema.Int)
    })
  )
})
export const WriteKeysResponse = Schema.Struct({ revisions: Schema.Array(Schema.Int) })

export const ConfigSetResponse = Schema.Struct({ name: text, revision: Schema.Int })
export const ConfigResponse = Schema.Struct({
  name: text,
  data: jsonObject,
  revision: Schema.Int,
  updatedAt: text
})
export const ListConfigsResponse = Schema.Struct({
  configs: Schema.Array(ConfigResponse),
  nextCursor: optional(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Projections
// ---------------------------------------------------------------------------------------------------------------------

/** `partitionKey` is empty when there is none. */
export const RegisterProjectionRequest = Schema.Struct({
  name: text,
  events: Schema.Array(text),
  mode: optional(text),
  version: optional(Schema.Int),
  partitionKey: optional(text)
})
export const RegisterProjectionResponse = Schema.Struct({ status: text, lastEventSeq: optional(text) })

export const GetProjectionRequest = Schema.Struct({ name: text, partition: optional(text) })
export const GetProjectionResponse = Schema.Struct({
  name: text,
  partition: text,
  state: optional(json),
  lastEventId: optional(text),
  lastEventTime: optional(text),
  version: optional(text),
  mode: text
})

export const PollProjectionEventsRequest = Schema.Struct({
  name: text,
  batchSize: optional(Schema.Int),
  partition: optional(text)
})
export const PollProjectionEventsResponse = Schema.Struct({
  events: optional(
    Schema.Array(
      Schema.Struct({
        id: text,
        name: text,
        data: json,
        seq: Schema.Int,
        timestamp: text,
        source: optional(text),
        metadata: optional(json),
        entity: optional(Schema.Struct({ id: text, type: text, version: Schema.Int })),
        kind: text
      })
    )
  ),
  currentState: optional(json),
  lastEventSeq: optional(text)
})

/** The position of the last event in the state says which partition it is. */
export const SaveProjectionStateRequest = Schema.Struct({
  name: text,
  partitionKey: optional(text),
  state: optional(json),
  lastEventId: optional(text),
  lastEventSeq: Schema.Int,
  lastEventTime: optional(text)
})
export const AckProjectionEventsRequest = Schema.Struct({
  name: text,
  lastEventId: optional(text),
  lastEventSeq: Schema.Int
})
export const ProjectionSavedResponse = Schema.Struct({ ok: Schema.Boolean })

export const ProjectionStatusResponse = Schema.Struct({
  name: text,
  status: text,
  mode: text,
  message: text,
  last_event_seq: Schema.Int,
  lag: Schema.Int,
  generation: Schema.Int,
  owner: optional(text),
  error_message: optional(text),
  dead_letters: Schema.Int,
  refused_saves: Schema.Int,
  created_at: text,
  updated_at: text
})

/** `state` is the row of the partition; absent when nothing was saved for it. */
export const ProjectionEnvelope = Schema.Struct({
  name: text,
  version: Schema.Int,
  mode: text,
  status: text,
  last_event_seq: Schema.Int,
  updated_at: text,
  error_message: optional(text),
  state: optional(
    Schema.Struct({
      projection_name: text,
      environment_id: text,
      partition_key: text,
      state: json,
      last_event_id: text,
      last_event_seq: Schema.Int,
      last_event_time: text,
      version: Schema.Int,
      updated_at: text
    })
  )
})

export const ProjectionChangesResponse = Schema.Struct({
  mode: text,
  status: text,
  error_message: optional(text),
  cursor: text,
  next: optional(text),
  states: Schema.Array(
    Schema.Struct({
      partition_key: text,
      state: json,
      last_event_id: text,
      last_event_seq: Schema.Int,
      last_event_time: text,
      version: Schema.Int,
      revision: Schema.Int,
      updated_at: text
    })
  )
})

/** `partition` and `fromEventId` are what other servers know; this one rebuilds a projection as a whole. */
export const RebuildProjectionRequest = Schema.Struct({
  partition: optional(text),
  fromEventId: optional(text),
  dryRun: optional(Schema.Boolean)
})
export const ProjectionRebuildResponse = Schema.Struct({
  projection_name: text,
  status: text,
  last_event_seq: Schema.Int,
  target_seq: optional(Schema.Int),
  remaining_events: Schema.Int
})

export const PauseProjectionRequest = Schema.Struct({ by: optional(text), reason: optional(text) })

export const CatchupResponse = Schema.Struct({
  caughtUp: Schema.Boolean,
  timedOut: Schema.Boolean,
  currentSeq: Schema.Int,
  targetSeq: Schema.Int,
  behindByEvents: Schema.Int,
  rebuilding: optional(Schema.Boolean),
  mode: optional(text),
  message: optional(text)
})
/** What ConnectRPC says of them: the REST answers in camel case, with 64-bit integers as text. */
export const ProjectionNameRequest = Schema.Struct({ name: text })
export const ConnectProjectionStatus = Schema.Struct({
  name: text,
  status: text,
  mode: text,
  message: text,
  lastEventSeq: text,
  lag: text,
  generation: text,
  owner: optional(text),
  errorMessage: optional(text),
  deadLetters: text,
  refusedSaves: text,
  createdAt: text,
  updatedAt: text
})
export const ConnectProjectionsResponse = Schema.Struct({
  projections: Schema.Array(ConnectProjectionStatus)
})
export const ConnectRebuildRequest = Schema.Struct({ name: text, ...RebuildProjectionRequest.fields })
export const ConnectRebuildResponse = Schema.Struct({
  projectionName: text,
  status: text,
  lastEventSeq: text,
  targetSeq: optional(text),
  remainingEvents: text
})
export const ConnectPauseRequest = Schema.Struct({ name: text, ...PauseProjectionRequest.fields })
export const WaitCatchupRequest = Schema.Struct({
  name: text,
  minSeq: Schema.Int,
  timeoutMs: optional(Schema.Int),
  partition: optional(text)
})
export const ConnectCatchupResponse = Schema.Struct({
  caughtUp: Schema.Boolean,
  timedOut: Schema.Boolean,
  currentSeq: text,
  targetSeq: text,
  behindByEvents: text,
  rebuilding: optional(Schema.Boolean),
  mode: optional(text),
  message: optional(text)
})

export const CatchupBatchRequest = Schema.Struct({
  items: Schema.Array(Schema.Struct({ name: text, minSeq: Schema.Int, partition: optional(text) })),
  timeoutMs: optional(Schema.Int)
})
export const CatchupBatchResponse = Schema.Struct({ results: Schema.Array(json) })
export const WaitForEventRequest = Schema.Struct({
  eventId: text,
  projection: text,
  timeoutMs: optional(Schema.Int),
  partition: optional(text)
})

export const DeadLettersResponse = Schema.Struct({ dead_letters: Schema.Array(json) })
export const RetryDeadLettersRequest = Schema.Struct({ position: optional(Schema.Int) })
export const RetryDeadLettersResponse = Schema.Struct({ retrying: Schema.Int })

const ProjectionRegistration = Schema.Struct({
  name: text,
  events: Schema.Array(text),
  mode: Schema.Literals(["managed", "external"]),
  partitionKey: optional(text)
})
const ownerFields = { token: text, generation: Schema.Int }

export const ClaimProjectionRequest = Schema.Struct({
  workerId: text,
  registration: ProjectionRegistration,
  waitMs: optional(Schema.Int)
})
export const ReadProjectionRequest = Schema.Struct({ ...ownerFields, limit: Schema.Int })
export const ProjectionStatesRequest = Schema.Struct({ ...ownerFields, partitions: Schema.Array(text) })
export const ProjectionOwnerRequest = Schema.Struct(ownerFields)
export const SaveProjectionRequest = Schema.Struct({
  ...ownerFields,
  save: Schema.Struct({
    number: optional(Schema.Int),
    from: Schema.Int,
    to: Schema.Int,
    states: Schema.Array(
      Schema.Struct({
        partition: text,
        state: text,
        position: Schema.Int,
        eventId: text,
        eventTime: Schema.Number
      })
    ),
    deadLetters: Schema.Array(Schema.Struct({ position: Schema.Int, error: json, attempts: Schema.Int })),
    resolved: Schema.Array(Schema.Int),
    failing: optional(Schema.Struct({ position: Schema.Int, failures: Schema.Int, error: json }))
  })
})
/** Answers of these are those of `Protocol/Projections.ts`. */
export const ProjectionOwnerResponse = Schema.Unknown
