/**
 * The documented surface of 0.8.0, name by name: what is exported, and what never will be.
 *
 * The test fails when a name is missing, and when a name in `never` is exported.
 */
import fs from "node:fs"
import path from "node:path"
import { afterAll, expect, test } from "vitest"
import { makeExamples } from "./Examples.ts"

const words = (text: string): Array<string> => text.trim().split(/\s+/)

/** Zod is not a dependency: schemas of any library work, and the schemas of messages are not exported. */
const never = words(`
  RunStatusSchema CompletedStepSchema ResumeContextSchema PushRequestEventSchema PushRequestSchema
  TriggerResponseSchema TriggerSyncResultItemSchema TriggerSyncResponseSchema RunResponseSchema
  ListRunsResponseSchema RegisterFunctionResponseSchema HealthResponseSchema ErrorResponseSchema
  EmptyResponseSchema AckModeSchema BackpressureModeSchema ConsumerGroupStatusSchema
  ConsumerGroupResponseSchema ListConsumerGroupsResponseSchema JobCompletedStepSchema JobEventSchema
  JobContextSchema JobAssignmentSchema EventMetadataSchema WSSubscriptionResultItemSchema
  WSSubscriptionResultSchema WSEventMessageSchema WSSubscriptionErrorSchema WSErrorSchema
  WSServerMessageSchema
`)

const neverExported = new Map(never.map((name) => [name, "never: a zod schema"] as const))

const values: Record<string, Array<string>> = {
  "@ironflow/node": words(`
    default
    ironflow createFunction serve createHandler createWorker createProjection createWebhook
    createSecretsClient createClient IronflowClient createSubscriptionClient SubscriptionClient
    KVClient KVBucketHandle ConfigClient patterns createRunId createFunctionId createStepId
    createEventId createJobId createWorkerId createSubscriptionId IronflowError StepError
    TimeoutError ValidationError SchemaValidationError SignatureError FunctionNotFoundError
    RunNotFoundError NonRetryableError UnauthenticatedError EnterpriseRequiredError
    UnauthorizedError isRetryable isIronflowError parseDuration calculateBackoff sleep generateId
    createLogger createNoopLogger DEFAULT_PORT DEFAULT_HOST DEFAULT_SERVER_URL DEFAULT_TIMEOUTS
    DEFAULT_RETRY DEFAULT_WORKER ENV_VARS getServerUrl PushRequestSchema RunStatusSchema
    parseAndValidate validate
  `),
  "@ironflow/core": words(`
    IronflowError ConnectionError SubscriptionError TimeoutError ValidationError
    SchemaValidationError SignatureError FunctionNotFoundError RunNotFoundError StepError
    NonRetryableError NotConfiguredError InvokeError InvokeTimeoutError StepTimeoutError
    RunFailedError RunCancelledError UnauthenticatedError EnterpriseRequiredError UnauthorizedError
    isRetryable isIronflowError toError ERROR_CODES DEFAULT_PORT DEFAULT_HOST DEFAULT_SERVER_URL
    DEFAULT_WS_URL DEFAULT_ENVIRONMENT DEFAULT_TIMEOUTS DEFAULT_RETRY DEFAULT_CLIENT_RETRY
    DEFAULT_WORKER DEFAULT_RECONNECT TIMING ENV_VARS HEADERS HTTP_HEADERS JSON_HEADERS STEP_TYPES
    STEP_STATUS RUN_STATUS WS_MESSAGE_TYPES ACK_TYPES API_ENDPOINTS EventSource getWebSocketUrl
    getServerUrl createUpcasterRegistry defineEvent createEventDefinitionRegistry patterns
    createRunId createFunctionId createStepId createEventId createJobId createWorkerId
    createSubscriptionId createLogger createNoopLogger parseDuration calculateBackoff sleep
    createDeferred generateId safeJsonParse isObject deepMerge parseAndValidate validate
    RunStatusSchema CompletedStepSchema ResumeContextSchema PushRequestEventSchema PushRequestSchema
    TriggerResponseSchema TriggerSyncResultItemSchema TriggerSyncResponseSchema RunResponseSchema
    ListRunsResponseSchema RegisterFunctionResponseSchema HealthResponseSchema ErrorResponseSchema
    EmptyResponseSchema AckModeSchema BackpressureModeSchema ConsumerGroupStatusSchema
    ConsumerGroupResponseSchema ListConsumerGroupsResponseSchema JobCompletedStepSchema
    JobEventSchema JobContextSchema JobAssignmentSchema EventMetadataSchema
    WSSubscriptionResultItemSchema WSSubscriptionResultSchema WSEventMessageSchema
    WSSubscriptionErrorSchema WSErrorSchema WSServerMessageSchema
  `),
  "@ironflow/node/worker": ["default", "createWorker"],
  "@ironflow/node/serve": ["default", "serve", "createHandler"],
  "@ironflow/node/test": ["createTestClient"],
  "@ironflow/node/worker-streaming": ["default", "createStreamingWorker"]
}

const nodeTypes = words(`
  IronflowClientConfig ServeConfig WorkerConfig Worker SubscriptionClientConfig KVClientConfig
  ConfigClientConfig HandlerOptions HandlerContext CreateFunctionConfig FunctionConfig
  FunctionContext FunctionHandler IronflowFunction Trigger RetryConfig ConcurrencyConfig
  ExecutionMode SecretsClient Logger LogLevel LoggerConfig StepClient Duration ParallelOptions
  EventFilter IronflowEvent EmitOptions EmitResult InvokeResult TriggerResult TriggerSyncOptions
  TriggerSyncResult Run RunInfo RunStatus ListRunsOptions ListRunsResult Branded RunId FunctionId
  StepId EventId JobId WorkerId SubscriptionId AppendEventInput AppendOptions AppendResult
  ReadStreamOptions StreamEvent StreamInfo PushRequest PushResponse CompletedStep ResumeContext
  StepResult YieldInfo SleepYield WaitEventYield KVBucketConfig KVBucketInfo KVEntry KVPutResult
  KVListKeysResult KVListBucketsResult KVWatchEvent KVWatchCallbacks KVWatchOptions KVWatcher
  ConfigResponse ConfigEntry ConfigSetResult SubscribeOptions SubscriptionEvent
  SubscriptionErrorInfo Subscription AckableSubscription ConnectionState WebhookConfig
  WebhookRequest WebhookEvent IronflowWebhook ProjectionMode ProjectionStatus ProjectionContext
  ManagedProjectionHandler ExternalProjectionHandler ProjectionConfig IronflowProjection
  ProjectionStatusInfo ProjectionStateResult GetProjectionOptions RebuildProjectionOptions
  ProjectionSubscriptionCallbacks APIKey APIKeyWithSecret CreateAPIKeyInput Organization
  CreateOrgInput UpdateOrgInput Role CreateRoleInput UpdateRoleInput Policy CreatePolicyInput
  UpdatePolicyInput
`)
/** Types for the configuration of features that only `@ironflow/node` has. */
const nodeOnly = words(
  "IronflowClientConfig ServeConfig WorkerConfig Worker SubscriptionClientConfig KVClientConfig ConfigClientConfig"
)

const types: Record<string, Array<string>> = {
  "@ironflow/node": nodeTypes,
  "@ironflow/core": [
    ...nodeTypes.filter((name) => !nodeOnly.includes(name)),
    ...words(`
      EventMetadata SubscriptionCallbacks AckHandle AckMode AckType BackpressureMode BufferConfig
      ConsumerGroup ConsumerGroupConfig ConsumerGroupStatus PublishOptions PublishResult TopicInfo
      TopicStats ServerCapabilities StepRunOptions EventSourceType WSSubscribeRequest
      WSUnsubscribeRequest WSAckRequest WSSubscriptionResult WSEventMessage WSSubscriptionError
      WSError WSServerMessage WSClientMessage RetryEvent RetryInfo ClientRetryConfig UpcasterFn
      EventDefinition EventDefinitionOptions EventDefinitionRegistry Deferred
    `)
  ],
  "@ironflow/node/test": words("TestClientConfig TestClient TestRun TestStep"),
  "@ironflow/core/protocol": words("InvokeFunctionYield InvokeFunctionAsyncYield")
}

/** Names with the reason why they are missing. */
const reasons = (names: ReadonlyArray<string>): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, neverExported.get(name) ?? "missing"]))

const manifest: { readonly exports: Record<string, unknown> } = JSON.parse(
  fs.readFileSync(path.join(import.meta.dirname, "../package.json"), "utf8")
)
const isEntry = (entry: string): boolean => entry.replace("@ironflow/node", ".") in manifest.exports

test("the documented entry points exist", () => {
  const entries = Object.keys(values).filter((entry) => entry.startsWith("@ironflow/node/"))

  expect(entries.filter((entry) => !isEntry(entry))).toEqual([])
  expect(isEntry("@ironflow/node/core/protocol")).toBe(true)
})

test.for(Object.entries(values))(
  "%s has its documented values, except those that will never exist",
  async ([entry, names]) => {
    const exported: object = await import(/* @vite-ignore */ entry)

    expect(reasons(names.filter((name) => !(name in exported)))).toEqual(
      reasons(names.filter((name) => neverExported.has(name)))
    )
  }
)

test("the default export of @ironflow/node is { ironflow }", async () => {
  const node = await import("@ironflow/node")

  expect(node.default).toEqual({ ironflow: { createFunction: node.createFunction } })
})

test("a client has the documented members", async () => {
  const { createClient } = await import("@ironflow/node")
  const members = words(`
    emit trigger getRun listRuns cancelRun retryRun resumeRun patchStep listFunctions listWorkers health publish
    streams kv config
    listTopics getTopicStats apiKeys orgs roles policies
  `)
  await using client = createClient()

  expect(members.filter((name) => !(name in client))).toEqual([])
})

/** One import in each line, so that the compiler reports each name separately. */
const importTypes = ([entry, names]: [string, Array<string>]): string =>
  names.map((name) => `import type { ${name} } from "${entry}"`).join("\n")

const signatures = fs.readFileSync(path.join(import.meta.dirname, "surface", "signatures.ts.txt"), "utf8")
const files = Object.entries(types).map(([entry, names], i) => ({ entry, names, file: `types-${i}.ts` }))
const examples = makeExamples({
  "signatures.ts": signatures,
  ...Object.fromEntries(files.map(({ entry, file, names }) => [file, importTypes([entry, names])]))
})
afterAll(() => examples[Symbol.dispose]())

test("types and signatures are as documented, except those that will never exist", async () => {
  const complaints = (await examples.typeCheck()).split("\n").filter((line) => line !== "")
  const of = (file: string): Array<string> => complaints.filter((line) => line.startsWith(`${file}(`))
  const isMissing = (name: string, line: string): boolean =>
    line.includes(` no exported member '${name}'`) || line.includes(` no exported member named '${name}'`)
  const missing = files.map(({ entry, file, names }) => {
    const reported = of(file)
    const isEntryMissing = reported.some((line) => line.includes(`Cannot find module '${entry}'`))
    return {
      entry,
      names: isEntryMissing ? names : names.filter((name) => reported.some((line) => isMissing(name, line)))
    }
  })

  expect(of("signatures.ts")).toEqual([])
  expect(missing.map(({ entry, names }) => ({ entry, names: reasons(names) }))).toEqual(
    files.map(({ entry, names }) => ({
      entry,
      names: reasons(names.filter((name) => neverExported.has(name)))
    }))
  )
  expect(
    complaints.filter((line) => !/ no exported member |Cannot find module '@ironflow\//.test(line))
  ).toEqual([])
}, 120_000)
