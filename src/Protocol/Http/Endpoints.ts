/**
 * Every call of the HTTP protocol: method, path and dialect. Plain data, so that a client that only needs the paths
 * loads nothing else; the schemas are in `Schemas.ts`, and `Api.ts` makes an `HttpApi` of both.
 *
 * The calls of workers about turns are in `Turns.ts`.
 */

/**
 * How a call spells its errors. `connect`: `{code, message}` with the codes of ConnectRPC; zero values are left out of
 * answers. `rest`: `{error, message, code}` with our codes.
 */
export type Dialect = "connect" | "rest"

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE"

export interface Endpoint {
  readonly method: Method
  /** With `:name` for what varies, `:name*` at the end for all that is left, slashes included. */
  readonly path: string
  readonly dialect: Dialect
  /** Answered with the envelopes of ConnectRPC, one for each message; so are errors, with status 200. */
  readonly streams?: true
}

const connect = <const Path extends string>(path: Path) =>
  ({ method: "POST", path: `/ironflow.v1.${path}`, dialect: "connect" }) as const
const stream = <const Path extends string>(path: Path) => ({ ...connect(path), streams: true }) as const
const rest = <const M extends Method, const Path extends string>(method: M, path: Path) =>
  ({ method, path, dialect: "rest" }) as const

export const endpoints = {
  trigger: connect("IronflowService/Trigger"),
  emit: connect("IronflowService/Emit"),
  triggerSync: connect("IronflowService/TriggerSync"),
  triggerBatch: connect("IronflowService/TriggerBatch"),
  registerFunction: connect("IronflowService/RegisterFunction"),
  getFunction: connect("IronflowService/GetFunction"),
  listFunctions: connect("IronflowService/ListFunctions"),
  getRun: connect("IronflowService/GetRun"),
  listRuns: connect("IronflowService/ListRuns"),
  cancelRun: connect("IronflowService/CancelRun"),
  retryRun: connect("IronflowService/RetryRun"),
  resumeRun: connect("IronflowService/ResumeRun"),
  pauseRun: connect("IronflowService/PauseRun"),
  getRunSteps: connect("IronflowService/GetRunSteps"),
  patchStep: connect("IronflowService/PatchStep"),
  info: connect("IronflowService/Info"),
  getCapabilities: connect("IronflowService/GetCapabilities"),
  health: connect("IronflowService/Health"),
  publish: connect("PubSubService/Publish"),
  listTopics: connect("PubSubService/ListTopics"),
  getTopicStats: connect("PubSubService/GetTopicStats"),
  publishEmit: connect("PubSubService/Emit"),
  createConsumerGroup: connect("PubSubService/CreateConsumerGroup"),
  getConsumerGroup: connect("PubSubService/GetConsumerGroup"),
  listConsumerGroups: connect("PubSubService/ListConsumerGroups"),
  updateConsumerGroup: connect("PubSubService/UpdateConsumerGroup"),
  deleteConsumerGroup: connect("PubSubService/DeleteConsumerGroup"),
  /** Answered with a stream of events, as `/ws` brings them. */
  subscribe: stream("PubSubService/Subscribe"),
  /** The same for a member of a group that is there. */
  joinConsumerGroup: stream("PubSubService/JoinConsumerGroup"),

  appendEvent: connect("EntityStreamService/AppendEvent"),
  /** Several events of one entity at once. */
  appendEvents: connect("EntityStreamService/AppendEvents"),
  readStream: connect("EntityStreamService/ReadStream"),
  getStreamInfo: connect("EntityStreamService/GetStreamInfo"),
  getEntityHistory: connect("EntityStreamService/GetEntityHistory"),
  listStreams: connect("EntityStreamService/ListStreams"),
  createSnapshot: connect("EntityStreamService/CreateSnapshot"),
  getSnapshot: connect("EntityStreamService/GetSnapshot"),
  restStreams: rest("GET", "/api/v1/streams"),
  restStreamHistory: rest("GET", "/api/v1/streams/:id/history"),

  restHealth: rest("GET", "/health"),
  restCapabilities: rest("GET", "/api/v1/capabilities"),
  restEmit: rest("POST", "/api/v1/events"),
  /** The events of an environment, newest first: `name` in the query is a name or a pattern, `limit` and `cursor` page. */
  restEvents: rest("GET", "/api/v1/events"),
  /** As `ListRuns`: `function_id`, `status`, `limit` and `cursor` in the query. */
  restRuns: rest("GET", "/api/v1/runs"),
  restFunctions: rest("GET", "/api/v1/functions"),
  /** Nothing starts the function any more, until a worker registers it. */
  deleteFunction: rest("DELETE", "/api/v1/functions/:id"),
  restWorkers: rest("GET", "/api/v1/workers"),
  restPatchStep: rest("POST", "/api/v1/steps/patch"),
  restResumeRun: rest("POST", "/api/v1/runs/resume"),
  /** Why a run is where it is. */
  explainRun: rest("GET", "/api/v1/runs/:id/explain"),
  /** Answers when the run has ended: 200 with the run, or 204 after `timeout` milliseconds (30 s at most). */
  waitForRun: rest("GET", "/api/v1/runs/:id/wait"),
  restRunSteps: rest("GET", "/api/v1/runs/:id/steps"),
  /** What happened to a run of a function that records it. */
  runAudit: rest("GET", "/api/v1/runs/:id/audit"),

  /** `namespace` and `pattern` in the query say which group a name is for. */
  restListConsumerGroups: rest("GET", "/api/v1/consumer-groups"),
  restCreateConsumerGroup: rest("POST", "/api/v1/consumer-groups"),
  restGetConsumerGroup: rest("GET", "/api/v1/consumer-groups/:name"),
  restUpdateConsumerGroup: rest("PATCH", "/api/v1/consumer-groups/:name"),
  restDeleteConsumerGroup: rest("DELETE", "/api/v1/consumer-groups/:name"),
  restPauseConsumerGroup: rest("POST", "/api/v1/consumer-groups/:name/pause"),
  groupDeadLetters: rest("GET", "/api/v1/consumer-groups/:name/dead-letters"),
  /** `position` in the body says which one; else all of them. */
  retryGroupDeadLetters: rest("POST", "/api/v1/consumer-groups/:name/dead-letters/retry"),
  restResumeConsumerGroup: rest("POST", "/api/v1/consumer-groups/:name/resume"),

  listSecrets: rest("GET", "/api/v1/secrets"),
  /** Stores a secret or replaces its value. */
  setSecret: rest("POST", "/api/v1/secrets"),
  getSecret: rest("GET", "/api/v1/secrets/:name"),
  updateSecret: rest("PUT", "/api/v1/secrets/:name"),
  deleteSecret: rest("DELETE", "/api/v1/secrets/:name"),

  createBucket: rest("POST", "/api/v1/kv/buckets"),
  listBuckets: rest("GET", "/api/v1/kv/buckets"),
  getBucket: rest("GET", "/api/v1/kv/buckets/:bucket"),
  deleteBucket: rest("DELETE", "/api/v1/kv/buckets/:bucket"),
  listKeys: rest("GET", "/api/v1/kv/buckets/:bucket/keys"),
  getKey: rest("GET", "/api/v1/kv/buckets/:bucket/keys/:key*"),
  /** The body is the value. `If-None-Match: *` creates, `If-Match: <revision>` updates. */
  putKey: rest("PUT", "/api/v1/kv/buckets/:bucket/keys/:key*"),
  /** With `?purge=true` the history goes too. */
  deleteKey: rest("DELETE", "/api/v1/kv/buckets/:bucket/keys/:key*"),
  keyHistory: rest("GET", "/api/v1/kv/buckets/:bucket/history/:key*"),
  /** Several changes, all or none. */
  writeKeys: rest("POST", "/api/v1/kv/buckets/:bucket/write"),

  listConfigs: rest("GET", "/api/v1/config"),
  getConfig: rest("GET", "/api/v1/config/:name"),
  setConfig: rest("POST", "/api/v1/config/:name"),
  patchConfig: rest("PATCH", "/api/v1/config/:name"),
  deleteConfig: rest("DELETE", "/api/v1/config/:name"),

  registerProjection: connect("ProjectionService/RegisterProjection"),
  getProjection: connect("ProjectionService/GetProjection"),
  pollProjectionEvents: connect("ProjectionService/PollProjectionEvents"),
  saveProjectionState: connect("ProjectionService/SaveProjectionState"),
  ackProjectionEvents: connect("ProjectionService/AckProjectionEvents"),
  connectListProjections: connect("ProjectionService/ListProjections"),
  getProjectionStatus: connect("ProjectionService/GetProjectionStatus"),
  connectRebuildProjection: connect("ProjectionService/RebuildProjection"),
  connectPauseProjection: connect("ProjectionService/PauseProjection"),
  connectResumeProjection: connect("ProjectionService/ResumeProjection"),
  waitProjectionCatchup: connect("ProjectionService/WaitProjectionCatchup"),
  waitForEvent: connect("ProjectionService/WaitForEvent"),

  listProjections: rest("GET", "/api/v1/projections"),
  restGetProjection: rest("GET", "/api/v1/projections/:name"),
  deleteProjection: rest("DELETE", "/api/v1/projections/:name"),
  projectionStatus: rest("GET", "/api/v1/projections/:name/status"),
  rebuildProjection: rest("POST", "/api/v1/projections/:name/rebuild"),
  projectionRebuild: rest("GET", "/api/v1/projections/:name/rebuild"),
  cancelRebuild: rest("POST", "/api/v1/projections/:name/cancel"),
  pauseProjection: rest("POST", "/api/v1/projections/:name/pause"),
  resumeProjection: rest("POST", "/api/v1/projections/:name/resume"),
  /** Answers when the projection is as far as `minSeq`, or after `timeout` milliseconds (30 s at most). */
  projectionCatchup: rest("GET", "/api/v1/projections/:name/catchup"),
  projectionCatchupBatch: rest("POST", "/api/v1/projections/catchup/batch"),
  projectionWaitForEvent: rest("POST", "/api/v1/projections/wait-for-event"),
  /** States that have changed since a cursor, as they are now. */
  projectionChanges: rest("GET", "/api/v1/projections/:name/changes"),
  deadLetters: rest("GET", "/api/v1/projections/:name/dead-letters"),
  /** One of them, or all without a position. */
  retryDeadLetters: rest("POST", "/api/v1/projections/:name/dead-letters/retry"),

  /** What a worker of this package asks as the owner of a projection; see `Protocol/Projections.ts`. */
  claimProjection: rest("POST", "/api/v1/projections/:name/owner/claim"),
  readProjection: rest("POST", "/api/v1/projections/:name/owner/read"),
  projectionStates: rest("POST", "/api/v1/projections/:name/owner/states"),
  saveProjection: rest("POST", "/api/v1/projections/:name/owner/save"),
  renewProjection: rest("POST", "/api/v1/projections/:name/owner/renew"),
  releaseProjection: rest("POST", "/api/v1/projections/:name/owner/release"),

  listApiKeys: rest("GET", "/api/v1/apikeys"),
  /** The answer is the only one that ever holds the key itself. */
  createApiKey: rest("POST", "/api/v1/apikeys"),
  getApiKey: rest("GET", "/api/v1/apikeys/:id"),
  deleteApiKey: rest("DELETE", "/api/v1/apikeys/:id"),
  rotateApiKey: rest("POST", "/api/v1/apikeys/:id/rotate"),
  /** Who changed keys, organizations, roles and policies; newest first. */
  accessLog: rest("GET", "/api/v1/access-log"),

  listOrgs: rest("GET", "/api/v1/orgs"),
  createOrg: rest("POST", "/api/v1/orgs"),
  getOrg: rest("GET", "/api/v1/orgs/:id"),
  updateOrg: rest("PATCH", "/api/v1/orgs/:id"),
  deleteOrg: rest("DELETE", "/api/v1/orgs/:id"),

  listRoles: rest("GET", "/api/v1/roles"),
  createRole: rest("POST", "/api/v1/roles"),
  getRole: rest("GET", "/api/v1/roles/:id"),
  updateRole: rest("PATCH", "/api/v1/roles/:id"),
  deleteRole: rest("DELETE", "/api/v1/roles/:id"),
  listRolePolicies: rest("GET", "/api/v1/roles/:id/policies"),
  assignPolicy: rest("POST", "/api/v1/roles/:id/policies"),
  removePolicy: rest("DELETE", "/api/v1/roles/:id/policies/:policyId"),

  listPolicies: rest("GET", "/api/v1/policies"),
  createPolicy: rest("POST", "/api/v1/policies"),
  getPolicy: rest("GET", "/api/v1/policies/:id"),
  updatePolicy: rest("PATCH", "/api/v1/policies/:id"),
  deletePolicy: rest("DELETE", "/api/v1/policies/:id"),

  registerWorker: rest("POST", "/api/v1/workers/:id/register"),
  heartbeat: rest("POST", "/api/v1/workers/:id/heartbeat"),
  takeJobs: rest("GET", "/api/v1/workers/:id/jobs"),
  updateJob: rest("PUT", "/api/v1/workers/:id/jobs/:jobId"),
  ackJob: rest("PUT", "/api/v1/workers/:id/jobs/:jobId/ack"),
  pollTurns: rest("POST", "/api/v1/workers/:id/turns/poll"),
  reportTurns: rest("POST", "/api/v1/workers/:id/turns/reports"),
  lateTurn: rest("POST", "/api/v1/workers/:id/turns/late"),
  deregisterWorker: rest("DELETE", "/api/v1/workers/:id"),

  /** What a push handler reports while its turn lives. */
  pushTurn: rest("POST", "/api/v1/push/turns/:jobId"),
  listPushEndpoints: rest("GET", "/api/v1/push/endpoints"),
  /** Asks the handler at a URL for its functions and registers them. */
  registerPushEndpoint: rest("POST", "/api/v1/push/endpoints"),
  /** Forgets the endpoint at `url` in the query. */
  removePushEndpoint: rest("DELETE", "/api/v1/push/endpoints")
} as const satisfies { readonly [name: string]: Endpoint }

export type EndpointName = keyof typeof endpoints

/** The header that names the environment of a call; `default` without it. */
export const ENVIRONMENT_HEADER = "x-ironflow-environment"

/** What describes the server itself. */
export const descriptions = {
  metrics: rest("GET", "/metrics"),
  openApi: rest("GET", "/openapi.json")
} as const satisfies { readonly [name: string]: Endpoint }

/** All that is answered. */
export type AnyEndpoint = (typeof endpoints)[EndpointName] | (typeof descriptions)[keyof typeof descriptions]

/** Requests that become WebSockets. */
export const sockets = {
  subscriptions: "/ws",
  channel: "/api/v1/channel",
  workers: "/rpc/worker",
  watchKeys: "/api/v1/kv/buckets/:bucket/watch",
  watchConfig: "/api/v1/config/:name/watch"
} as const

export type SocketName = keyof typeof sockets

/** The path with its variables filled in. */
export const pathOf = (
  endpoint: Pick<Endpoint, "path">,
  variables: { readonly [name: string]: string } = {}
): string =>
  endpoint.path.replace(/:(\w+)(\*?)/g, (_, name: string, rest: string) =>
    rest === "" ? encodeURIComponent(variables[name] ?? "") : encodeRest(variables[name] ?? "")
  )

/**
 * What a path may hold stays as it is, which every server understands, but for segments that would be lost on the way:
 * empty ones and those of dots.
 */
const encodeRest = (text: string): string =>
  encodeURIComponent(text)
    .replace(/%(?:3A|40|24|26|2B|2C|3B|3D)/g, decodeURIComponent)
    .replaceAll(
      "%2F",
      text.split("/").some((segment) => segment === "" || segment === "." || segment === "..") ? "%2F" : "/"
    )
