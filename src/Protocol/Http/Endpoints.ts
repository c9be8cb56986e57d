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
  /** With `:name` for what varies. */
  readonly path: string
  readonly dialect: Dialect
}

const connect = <const Path extends string>(path: Path) =>
  ({ method: "POST", path: `/ironflow.v1.${path}`, dialect: "connect" }) as const
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
  publishEmit: connect("PubSubService/Emit"),

  restHealth: rest("GET", "/health"),
  restCapabilities: rest("GET", "/api/v1/capabilities"),
  restEmit: rest("POST", "/api/v1/events"),
  restFunctions: rest("GET", "/api/v1/functions"),
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

  listSecrets: rest("GET", "/api/v1/secrets"),
  /** Stores a secret or replaces its value. */
  setSecret: rest("POST", "/api/v1/secrets"),
  getSecret: rest("GET", "/api/v1/secrets/:name"),
  updateSecret: rest("PUT", "/api/v1/secrets/:name"),
  deleteSecret: rest("DELETE", "/api/v1/secrets/:name"),

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
  deregisterWorker: rest("DELETE", "/api/v1/workers/:id")
} as const satisfies { readonly [name: string]: Endpoint }

export type EndpointName = keyof typeof endpoints

/** The header that names the environment of a call; `default` without it. */
export const ENVIRONMENT_HEADER = "x-ironflow-environment"

/** The path with its variables filled in. */
export const pathOf = (endpoint: Endpoint, variables: { readonly [name: string]: string } = {}): string =>
  endpoint.path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(variables[name] ?? ""))
