/**
 * What a key must be allowed to do for each call. An endpoint without a line here does not compile: whoever adds a call
 * decides who may make it.
 */
import type { Action, ResourceKind } from "../../Policy.ts"
import type { EndpointName } from "./Endpoints.ts"

/** Which resource a call is about. */
export type Subject =
  /** Everything of the kind: `run:*`. */
  | { readonly from: "all"; readonly kind: ResourceKind }
  /** A list of them: it leaves out those that may not be seen. */
  | { readonly from: "each"; readonly kind: ResourceKind }
  /** Named by a variable of the path. */
  | { readonly from: "path"; readonly kind: ResourceKind; readonly variable: string }
  /**
   * Named by a member of the body in any of these spellings; `each` names the list whose items have it, `in` the member that
   * has it.
   */
  | {
      readonly from: "body"
      readonly kind: ResourceKind
      readonly members: ReadonlyArray<string>
      readonly each?: string
      readonly in?: string
    }

export type Access =
  /** Anybody may ask, key or not. */
  | "public"
  | {
      readonly action: Action
      readonly subject: Subject
      /** The answer may take its time: it ends with the key. */
      readonly waits?: true
    }

type Rule = Exclude<Access, "public">

const all = (action: Action, kind: ResourceKind): Rule => ({ action, subject: { from: "all", kind } })
const each = (action: Action, kind: ResourceKind): Rule => ({ action, subject: { from: "each", kind } })
const inPath = (action: Action, kind: ResourceKind, variable: string): Rule => ({
  action,
  subject: { from: "path", kind, variable }
})
const inBody = (action: Action, kind: ResourceKind, ...members: ReadonlyArray<string>): Rule => ({
  action,
  subject: { from: "body", kind, members }
})

const runInBody = (action: Action) => inBody(action, "run", "id", "runId", "run_id")
const runInPath = (action: Action) => inPath(action, "run", "id")
const workerInPath = inPath("worker:run", "worker", "id")
const streamInBody = (action: Action) => inBody(action, "stream", "entityId", "entity_id")
const projectionInBody = (action: Action) => inBody(action, "projection", "name")
const projectionInPath = (action: Action) => inPath(action, "projection", "name")
const groupInBody = (action: Action) => inBody(action, "group", "name")
const groupInPath = (action: Action) => inPath(action, "group", "name")
const bucketInPath = (action: Action) => inPath(action, "bucket", "bucket")
const configInPath = (action: Action) => inPath(action, "config", "name")
const waiting = (rule: Rule): Access => ({ ...rule, waits: true })

export const access: { readonly [Name in EndpointName]: Access } = {
  trigger: inBody("emit:event", "event", "event"),
  emit: inBody("emit:event", "event", "event"),
  publishEmit: inBody("emit:event", "event", "event"),
  restEmit: inBody("emit:event", "event", "name"),
  triggerBatch: {
    action: "emit:event",
    subject: { from: "body", kind: "event", members: ["event"], each: "events" }
  },
  triggerSync: {
    action: "emit:sync",
    subject: { from: "body", kind: "event", members: ["event"] },
    waits: true
  },
  publish: inBody("publish:message", "topic", "topic"),

  listTopics: each("topic:read", "topic"),
  getTopicStats: inBody("topic:read", "topic", "topic"),

  createConsumerGroup: groupInBody("subscription:manage"),
  getConsumerGroup: groupInBody("subscription:read"),
  listConsumerGroups: each("subscription:read", "group"),
  updateConsumerGroup: {
    action: "subscription:manage",
    subject: { from: "body", kind: "group", members: ["name"], in: "group" }
  },
  deleteConsumerGroup: groupInBody("subscription:manage"),
  // what the pattern reaches is asked besides, as on `/ws`
  subscribe: inBody("subscription:read", "subscription", "pattern"),
  joinConsumerGroup: inBody("subscription:read", "group", "groupName", "group_name"),
  restListConsumerGroups: each("subscription:read", "group"),
  restCreateConsumerGroup: groupInBody("subscription:manage"),
  restGetConsumerGroup: groupInPath("subscription:read"),
  restUpdateConsumerGroup: groupInPath("subscription:manage"),
  restDeleteConsumerGroup: groupInPath("subscription:manage"),
  restPauseConsumerGroup: groupInPath("subscription:manage"),
  groupDeadLetters: groupInPath("subscription:read"),
  retryGroupDeadLetters: groupInPath("subscription:manage"),
  restResumeConsumerGroup: groupInPath("subscription:manage"),

  appendEvent: streamInBody("stream:append"),
  appendEvents: streamInBody("stream:append"),
  readStream: streamInBody("stream:read"),
  getStreamInfo: streamInBody("stream:read"),
  listStreams: each("stream:read", "stream"),
  restStreams: each("stream:read", "stream"),
  restStreamHistory: inPath("stream:read", "stream", "id"),
  getEntityHistory: streamInBody("stream:read"),
  createSnapshot: streamInBody("stream:append"),
  getSnapshot: streamInBody("stream:read"),

  createBucket: inBody("kv:write", "bucket", "name"),
  listBuckets: each("kv:read", "bucket"),
  getBucket: bucketInPath("kv:read"),
  deleteBucket: bucketInPath("kv:delete"),
  listKeys: bucketInPath("kv:read"),
  getKey: bucketInPath("kv:read"),
  putKey: bucketInPath("kv:write"),
  deleteKey: bucketInPath("kv:delete"),
  keyHistory: bucketInPath("kv:read"),
  writeKeys: bucketInPath("kv:write"),

  listConfigs: each("config:read", "config"),
  getConfig: configInPath("config:read"),
  setConfig: configInPath("config:write"),
  patchConfig: configInPath("config:write"),
  deleteConfig: configInPath("config:delete"),

  registerProjection: projectionInBody("projection:run"),
  getProjection: projectionInBody("projection:read"),
  pollProjectionEvents: projectionInBody("projection:run"),
  saveProjectionState: projectionInBody("projection:run"),
  ackProjectionEvents: projectionInBody("projection:run"),
  claimProjection: waiting(projectionInPath("projection:run")),
  readProjection: waiting(projectionInPath("projection:run")),
  projectionStates: projectionInPath("projection:run"),
  saveProjection: projectionInPath("projection:run"),
  renewProjection: projectionInPath("projection:run"),
  releaseProjection: projectionInPath("projection:run"),
  listProjections: each("projection:read", "projection"),
  restGetProjection: projectionInPath("projection:read"),
  projectionStatus: projectionInPath("projection:read"),
  projectionRebuild: projectionInPath("projection:read"),
  projectionCatchup: waiting(projectionInPath("projection:read")),
  projectionCatchupBatch: {
    action: "projection:read",
    subject: { from: "body", kind: "projection", members: ["name"], each: "items" },
    waits: true
  },
  projectionWaitForEvent: waiting(inBody("projection:read", "projection", "projection")),
  projectionChanges: projectionInPath("projection:read"),
  deadLetters: projectionInPath("projection:read"),
  retryDeadLetters: projectionInPath("projection:manage"),
  deleteProjection: projectionInPath("projection:manage"),
  rebuildProjection: projectionInPath("projection:manage"),
  cancelRebuild: projectionInPath("projection:manage"),
  pauseProjection: projectionInPath("projection:manage"),
  resumeProjection: projectionInPath("projection:manage"),
  connectListProjections: each("projection:read", "projection"),
  getProjectionStatus: projectionInBody("projection:read"),
  connectRebuildProjection: projectionInBody("projection:manage"),
  connectPauseProjection: projectionInBody("projection:manage"),
  connectResumeProjection: projectionInBody("projection:manage"),
  waitProjectionCatchup: waiting(projectionInBody("projection:read")),
  waitForEvent: waiting(inBody("projection:read", "projection", "projection")),

  registerPushEndpoint: waiting(all("function:register", "function")),
  listPushEndpoints: each("function:read", "function"),
  removePushEndpoint: all("function:register", "function"),
  pushTurn: waiting(all("worker:run", "worker")),

  registerFunction: inBody("function:register", "function", "id"),
  getFunction: inBody("function:read", "function", "id"),
  listFunctions: each("function:read", "function"),
  restEvents: each("subscription:read", "subscription"),
  restRuns: each("run:read", "run"),
  restFunctions: each("function:read", "function"),
  deleteFunction: inPath("function:delete", "function", "id"),

  getRun: runInBody("run:read"),
  listRuns: each("run:read", "run"),
  getRunSteps: runInBody("run:read"),
  restRunSteps: runInPath("run:read"),
  runAudit: runInPath("run:read"),
  explainRun: runInPath("run:read"),
  waitForRun: { action: "run:read", subject: { from: "path", kind: "run", variable: "id" }, waits: true },
  cancelRun: runInBody("run:cancel"),
  retryRun: runInBody("run:retry"),
  resumeRun: runInBody("run:resume"),
  restResumeRun: runInBody("run:resume"),
  pauseRun: runInBody("run:pause"),
  // a step id begins with the id of its run: `run:run_1*` covers both
  patchStep: inBody("run:patch", "run", "stepId", "step_id"),
  restPatchStep: inBody("run:patch", "run", "stepId", "step_id"),

  info: all("engine:read", "engine"),
  getCapabilities: all("engine:read", "engine"),
  restCapabilities: all("engine:read", "engine"),
  health: "public",
  restHealth: "public",

  listSecrets: each("secret:read", "secret"),
  setSecret: inBody("secret:write", "secret", "name"),
  getSecret: inPath("secret:read", "secret", "name"),
  updateSecret: inPath("secret:write", "secret", "name"),
  deleteSecret: inPath("secret:delete", "secret", "name"),

  restWorkers: each("worker:read", "worker"),
  registerWorker: workerInPath,
  heartbeat: workerInPath,
  takeJobs: workerInPath,
  updateJob: workerInPath,
  ackJob: workerInPath,
  pollTurns: { action: "worker:run", subject: { from: "path", kind: "worker", variable: "id" }, waits: true },
  reportTurns: workerInPath,
  lateTurn: workerInPath,
  deregisterWorker: workerInPath,

  listApiKeys: each("apikey:read", "apikey"),
  createApiKey: all("apikey:create", "apikey"),
  getApiKey: inPath("apikey:read", "apikey", "id"),
  deleteApiKey: inPath("apikey:delete", "apikey", "id"),
  rotateApiKey: inPath("apikey:rotate", "apikey", "id"),
  accessLog: all("audit:read", "engine"),

  listOrgs: each("org:read", "org"),
  createOrg: all("org:create", "org"),
  getOrg: inPath("org:read", "org", "id"),
  updateOrg: inPath("org:update", "org", "id"),
  deleteOrg: inPath("org:delete", "org", "id"),

  listRoles: each("role:read", "role"),
  createRole: all("role:create", "role"),
  getRole: inPath("role:read", "role", "id"),
  updateRole: inPath("role:update", "role", "id"),
  deleteRole: inPath("role:delete", "role", "id"),
  listRolePolicies: inPath("role:read", "role", "id"),
  assignPolicy: inPath("role:assign", "role", "id"),
  removePolicy: inPath("role:assign", "role", "id"),

  listPolicies: each("policy:read", "policy"),
  createPolicy: all("policy:create", "policy"),
  getPolicy: inPath("policy:read", "policy", "id"),
  updatePolicy: inPath("policy:update", "policy", "id"),
  deletePolicy: inPath("policy:delete", "policy", "id")
}

/** What describes the server itself is for those who may read the engine. */
export const readEngine: Access = all("engine:read", "engine")
