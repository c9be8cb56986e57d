/**
 * One valid request for each call, and the right that a key needs for it. Written by hand from the documentation, not
 * derived from the tables of the engine. A call without an entry here is a compile error.
 */
import type { Action } from "../../src/Policy.ts"
import { pathOf } from "../../src/Protocol/Http/CallAddress.ts"
import { type CallName, callSpecs } from "../../src/Protocol/AllCalls.ts"
import { registrationOf } from "../wire/RawTurnWorker.ts"

/** The ids of existing data that the calls are about. Everything else has names that the calls choose. */
export interface Ids {
  readonly run: string
  readonly event: string
  readonly key: string
  readonly org: string
  readonly role: string
  readonly policy: string
}

export interface Call {
  readonly variables?: { readonly [name: string]: string }
  readonly query?: string
  readonly body?: unknown
  /** The action and its resource. The resource of a list stands for all items. */
  readonly may: "public" | readonly [action: Action, resource: string]
  /** The status for a key with the right, when the calls are made in this order. 200 by default. */
  readonly answers?: number
}

export const callNames = Object.keys(callSpecs) as ReadonlyArray<CallName>

/** Includes the query. */
export const pathFor = (name: CallName, { query, variables }: Call): string =>
  pathOf(callSpecs[name], variables) + (query === undefined ? "" : `?${query}`)

const order = { event: "order.placed", data: { id: "o-1", total: 12.5 } }
const appended = { eventName: "order.placed", data: { id: "o-1" } }
const entity = { entityId: "o-1", entityType: "order" }
const group = { name: "printers", pattern: "events:order.*" }
const worker = "worker-1"
const owner = { token: "token-1", generation: 1 }

export const callsFor = ({
  event,
  key,
  org,
  policy,
  role,
  run
}: Ids): { readonly [Name in CallName]: Call } => {
  const emits = ["emit:event", "event:order.placed"] as const
  const run_ = (action: Action) => [action, `run:${run}`] as const
  const group_ = (action: Action) => [action, "group:printers"] as const
  const stream = (action: Action) => [action, "stream:o-1"] as const
  const secret = (action: Action) => [action, "secret:STRIPE_KEY"] as const
  const bucket = (action: Action) => [action, "bucket:carts"] as const
  const config = (action: Action) => [action, "config:prices"] as const
  const projection = (action: Action) => [action, "projection:totals"] as const
  const works = ["worker:run", `worker:${worker}`] as const
  const byName = { variables: { name: "totals" } }
  const printers = { variables: { name: "printers" } }
  const inBucket = { variables: { bucket: "carts", key: "c-1" } }

  return {
    trigger: { body: order, may: emits },
    emit: { body: { ...order, idempotencyKey: "once" }, may: emits },
    triggerSync: {
      body: { ...order, timeoutMs: 50 },
      may: ["emit:sync", "event:order.placed"],
      answers: 504
    },
    triggerBatch: { body: { events: [order, { ...order, metadata: { by: "me" } }] }, may: emits },
    registerFunction: {
      body: {
        id: "pack-order",
        triggers: [{ event: "order.packed", expression: "event.data.total > 1" }],
        retry: { maxAttempts: 3, initialDelayMs: 1000, backoffFactor: 2, maxDelayMs: 60_000 },
        concurrency: { limit: 2, key: "event.data.id" },
        preferredMode: "EXECUTION_MODE_PULL"
      },
      may: ["function:register", "function:pack-order"]
    },
    getFunction: { body: { id: "ship-order" }, may: ["function:read", "function:ship-order"] },
    listFunctions: { body: {}, may: ["function:read", "function:*"] },
    pauseFunction: {
      variables: { id: "ship-order" },
      body: { reason: "the bank is down", by: "me" },
      may: ["function:pause", "function:ship-order"]
    },
    resumeFunction: { variables: { id: "ship-order" }, may: ["function:resume", "function:ship-order"] },
    runFunction: {
      variables: { id: "ship-order" },
      body: { data: { id: "o-1" }, idempotencyKey: "run once" },
      may: ["function:run", "function:ship-order"]
    },
    functionHistory: { variables: { id: "ship-order" }, may: ["function:read", "function:ship-order"] },
    liveVersions: { may: ["function:read", "function:*"] },
    getRun: { body: { id: run }, may: run_("run:read") },
    listRuns: { body: { functionId: "ship-order", limit: 10 }, may: ["run:read", "run:*"] },
    countRuns: {
      body: { by: "event.data.id", filters: { status: "completed" }, limit: 5 },
      may: ["run:read", "run:*"]
    },
    pauseRun: { body: { id: run, reason: "look" }, may: run_("run:pause") },
    resumeRun: { body: { id: run }, may: run_("run:resume") },
    cancelRun: { body: { id: run, reason: "over" }, may: run_("run:cancel") },
    retryRun: { body: { id: run }, may: run_("run:retry") },
    getRunSteps: { body: { id: run }, may: run_("run:read") },
    forkRun: {
      variables: { id: run },
      body: { from: "charge", steps: { charge: { paid: true } }, data: { id: "o-2" } },
      may: run_("run:fork"),
      answers: 404
    },
    moveRun: { variables: { id: run }, body: { version: "2" }, may: run_("run:move"), answers: 409 },
    patchStep: {
      body: { stepId: `${run}:charge:0`, output: { paid: true }, reason: "by hand" },
      may: ["run:patch", `run:${run}:charge:0`],
      answers: 404
    },
    startBulk: {
      body: { action: "cancel", filters: { functionId: "ship-order", status: "failed" }, dryRun: true },
      may: ["run:read", "run:*"]
    },
    startErase: {
      body: { events: { where: "event.data.id == 'o-1'" }, dryRun: true },
      may: ["data:erase", "engine:*"]
    },
    listBulk: { may: ["run:read", "run:*"] },
    getBulk: { variables: { id: "bulk_none" }, may: ["run:read", "run:*"], answers: 404 },
    cancelBulk: { variables: { id: "bulk_none" }, may: ["run:read", "run:*"], answers: 404 },
    info: { body: {}, may: ["engine:read", "engine:*"] },
    minutes: { may: ["engine:read", "engine:*"] },
    doctor: { may: ["engine:read", "engine:*"] },
    getCapabilities: { body: {}, may: ["engine:read", "engine:*"] },
    health: { body: {}, may: "public" },
    backup: { body: {}, may: ["engine:backup", "engine:*"] },
    publish: { body: { topic: "news", data: { a: 1 } }, may: ["publish:message", "topic:news"] },
    listTopics: { body: {}, may: ["topic:read", "topic:*"] },
    getTopicStats: { body: { topic: "news" }, may: ["topic:read", "topic:news"] },
    publishEmit: { body: order, may: emits },
    // these two are refused because they are plain requests, not streams; `matrix.test.ts` has requests that succeed
    subscribe: {
      body: { pattern: "events:order.*" },
      may: ["subscription:read", "subscription:events:order.*"],
      answers: 415
    },
    joinConsumerGroup: {
      body: { groupName: group.name },
      may: group_("subscription:read"),
      answers: 415
    },
    createConsumerGroup: {
      body: { ...group, maxInflight: 5, buffer: { maxBytes: 2048 } },
      may: group_("subscription:manage")
    },
    getConsumerGroup: { body: { name: group.name }, may: group_("subscription:read") },
    listConsumerGroups: { body: { limit: 5 }, may: ["subscription:read", "group:*"] },
    updateConsumerGroup: {
      body: { group: { name: group.name, maxInflight: 7 } },
      may: group_("subscription:manage")
    },
    deleteConsumerGroup: { body: { name: group.name }, may: group_("subscription:manage") },

    appendEvent: { body: { ...entity, ...appended, expectedVersion: "-1" }, may: stream("stream:append") },
    appendEvents: {
      body: { ...entity, events: [appended, appended], expectedVersion: "1" },
      may: stream("stream:append")
    },
    readStream: {
      body: { entityId: "o-1", fromVersion: "1", limit: 5, direction: "forward" },
      may: stream("stream:read")
    },
    getStreamInfo: { body: { entityId: "o-1" }, may: stream("stream:read") },
    getEntityHistory: { body: { entityId: "o-1", limit: 5 }, may: stream("stream:read") },
    listStreams: { body: { entityType: "order", limit: 5 }, may: ["stream:read", "stream:*"] },
    createSnapshot: {
      body: { ...entity, entityVersion: "1", state: { total: 1 } },
      may: stream("stream:append")
    },
    getSnapshot: { body: { entityId: "o-1" }, may: stream("stream:read") },
    restStreams: { may: ["stream:read", "stream:*"] },
    restStreamHistory: { variables: { id: "o-1" }, may: stream("stream:read") },

    restHealth: { may: "public" },
    ready: { may: "public" },
    restCapabilities: { may: ["engine:read", "engine:*"] },
    restEmit: { body: { name: "order.placed", data: { id: "o-2" } }, may: emits },
    listEvents: {
      body: { name: "order.*", entityType: "order", since: "2026-01-01T00:00:00Z", limit: 5 },
      may: ["subscription:read", "subscription:*"]
    },
    explainEvent: { variables: { id: event }, may: ["subscription:read", "subscription:*"] },
    getEvent: { body: { id: event }, may: ["subscription:read", "subscription:*"] },
    restEvents: { query: "name=order.*&limit=5", may: ["subscription:read", "subscription:*"] },
    restRuns: { query: "status=completed&limit=5", may: ["run:read", "run:*"] },
    restFunctions: { may: ["function:read", "function:*"] },
    deleteFunction: {
      variables: { id: "pack-order" },
      may: ["function:delete", "function:pack-order"]
    },
    restWorkers: { may: ["worker:read", "worker:*"] },
    restPatchStep: {
      body: { step_id: `${run}:charge:0`, output: null },
      may: ["run:patch", `run:${run}:charge:0`],
      answers: 404
    },
    restResumeRun: { body: { run_id: run }, may: run_("run:resume"), answers: 409 },
    explainRun: { variables: { id: run }, may: run_("run:read") },
    waitForRun: { variables: { id: run }, query: "timeout=50", may: run_("run:read"), answers: 204 },
    restRunSteps: { variables: { id: run }, may: run_("run:read") },
    runAudit: { variables: { id: run }, may: run_("run:read") },
    runLogs: { variables: { id: run }, may: run_("run:read") },

    restListConsumerGroups: { may: ["subscription:read", "group:*"] },
    restCreateConsumerGroup: {
      body: { ...group, filter: "event.data.total > 1" },
      may: group_("subscription:manage")
    },
    restGetConsumerGroup: { ...printers, may: group_("subscription:read") },
    restUpdateConsumerGroup: {
      ...printers,
      body: { maxInflight: 9, filter: null },
      may: group_("subscription:manage")
    },
    restPauseConsumerGroup: { ...printers, body: { reason: "paper" }, may: group_("subscription:manage") },
    restResumeConsumerGroup: { ...printers, body: {}, may: group_("subscription:manage") },
    groupDeadLetters: { ...printers, may: group_("subscription:read") },
    retryGroupDeadLetters: { ...printers, body: {}, may: group_("subscription:manage") },
    restDeleteConsumerGroup: { ...printers, may: group_("subscription:manage"), answers: 204 },

    listSecrets: { may: ["secret:read", "secret:*"] },
    setSecret: { body: { name: "STRIPE_KEY", value: "sk_1" }, may: secret("secret:write") },
    getSecret: { variables: { name: "STRIPE_KEY" }, may: secret("secret:read") },
    updateSecret: { variables: { name: "STRIPE_KEY" }, body: { value: "sk_2" }, may: secret("secret:write") },
    deleteSecret: { variables: { name: "STRIPE_KEY" }, may: secret("secret:delete"), answers: 204 },

    createBucket: {
      body: { name: "carts", history: 3, ttlSeconds: 60 },
      may: bucket("kv:write"),
      answers: 201
    },
    listBuckets: { may: ["kv:read", "bucket:*"] },
    getBucket: { variables: { bucket: "carts" }, may: bucket("kv:read") },
    putKey: { ...inBucket, body: { items: [1, 2] }, may: bucket("kv:write") },
    listKeys: { variables: { bucket: "carts" }, query: "filter=c-*&limit=5", may: bucket("kv:read") },
    getKey: { ...inBucket, may: bucket("kv:read") },
    keyHistory: { ...inBucket, may: bucket("kv:read") },
    writeKeys: {
      variables: { bucket: "carts" },
      body: { writes: [{ op: "put", key: "c-2", value: "eyJhIjoxfQ==", contentType: "application/json" }] },
      may: bucket("kv:write")
    },
    deleteKey: { ...inBucket, query: "purge=true", may: bucket("kv:delete"), answers: 204 },
    deleteBucket: { variables: { bucket: "carts" }, may: bucket("kv:delete"), answers: 204 },

    setConfig: { variables: { name: "prices" }, body: { vat: 0.2 }, may: config("config:write") },
    patchConfig: { variables: { name: "prices" }, body: { fee: 1 }, may: config("config:write") },
    listConfigs: { may: ["config:read", "config:*"] },
    getConfig: { variables: { name: "prices" }, may: config("config:read") },
    deleteConfig: { variables: { name: "prices" }, may: config("config:delete"), answers: 204 },

    registerProjection: {
      body: { name: "totals", events: ["order.*"], mode: "managed", partitionKey: "event.data.id" },
      may: projection("projection:run")
    },
    getProjection: { body: { name: "totals" }, may: projection("projection:read") },
    pollProjectionEvents: { body: { name: "totals", batchSize: 10 }, may: projection("projection:run") },
    saveProjectionState: {
      body: { name: "totals", partitionKey: "o-1", state: { n: 1 }, lastEventId: event, lastEventSeq: "1" },
      may: projection("projection:run")
    },
    ackProjectionEvents: {
      body: { name: "totals", lastEventId: event, lastEventSeq: "1" },
      may: projection("projection:run"),
      answers: 409
    },
    connectListProjections: { body: {}, may: ["projection:read", "projection:*"] },
    getProjectionStatus: { body: { name: "totals" }, may: projection("projection:read") },
    connectRebuildProjection: {
      body: { name: "totals", dryRun: true },
      may: projection("projection:manage")
    },
    connectPauseProjection: {
      body: { name: "totals", reason: "look" },
      may: projection("projection:manage")
    },
    connectResumeProjection: { body: { name: "totals" }, may: projection("projection:manage") },
    waitProjectionCatchup: {
      body: { name: "totals", minSeq: "1", timeoutMs: 50 },
      may: projection("projection:read")
    },
    waitForEvent: {
      body: { eventId: event, projection: "totals", timeoutMs: 50 },
      may: projection("projection:read")
    },

    claimProjection: {
      ...byName,
      body: {
        workerId: worker,
        registration: { name: "totals", events: ["order.*"], mode: "managed" },
        waitMs: 10
      },
      may: projection("projection:run")
    },
    readProjection: { ...byName, body: { ...owner, limit: 10 }, may: projection("projection:run") },
    projectionStates: {
      ...byName,
      body: { ...owner, partitions: ["o-1"] },
      may: projection("projection:run")
    },
    saveProjection: {
      ...byName,
      body: {
        ...owner,
        save: {
          number: 1,
          from: 0,
          to: 1,
          states: [{ partition: "o-1", state: "{}", position: 1, eventId: event, eventTime: 1 }],
          deadLetters: [{ position: 1, error: { name: "Error", message: "m" }, attempts: 3 }],
          resolved: [1]
        }
      },
      may: projection("projection:run")
    },
    renewProjection: { ...byName, body: owner, may: projection("projection:run") },
    releaseProjection: { ...byName, body: owner, may: projection("projection:run"), answers: 204 },

    listProjections: { may: ["projection:read", "projection:*"] },
    restGetProjection: { ...byName, may: projection("projection:read") },
    projectionStatus: { ...byName, may: projection("projection:read") },
    rebuildProjection: {
      ...byName,
      body: { partition: "o-1" },
      may: projection("projection:manage"),
      answers: 400
    },
    projectionRebuild: { ...byName, may: projection("projection:read") },
    cancelRebuild: { ...byName, body: {}, may: projection("projection:manage"), answers: 409 },
    pauseProjection: { ...byName, body: { reason: "look" }, may: projection("projection:manage") },
    resumeProjection: { ...byName, body: {}, may: projection("projection:manage") },
    projectionCatchup: { ...byName, query: "minSeq=1&timeout=50", may: projection("projection:read") },
    projectionCatchupBatch: {
      body: { items: [{ name: "totals", minSeq: "1" }], timeoutMs: 50 },
      may: projection("projection:read")
    },
    projectionWaitForEvent: {
      body: { eventId: event, projection: "totals", timeoutMs: 50 },
      may: projection("projection:read")
    },
    projectionChanges: { ...byName, may: projection("projection:read") },
    deadLetters: { ...byName, may: projection("projection:read") },
    retryDeadLetters: {
      ...byName,
      body: { position: "1" },
      may: projection("projection:manage"),
      answers: 409
    },
    deleteProjection: { ...byName, may: projection("projection:manage"), answers: 204 },

    registerWorker: {
      variables: { id: worker },
      body: {
        worker_id: worker,
        hostname: "host-1",
        function_ids: ["ship-order"],
        max_concurrent_jobs: 10,
        labels: { zone: "a" },
        capabilities: { turns: 1 },
        registration: registrationOf(worker, [{ id: "ship-order", event: "order.placed" }]),
        instance: "instance-1",
        jobs: []
      },
      may: works
    },
    heartbeat: {
      variables: { id: worker },
      body: { worker_id: worker, active_jobs: 1, jobs: [{ job_id: "job_1" }] },
      may: works,
      answers: 404
    },
    takeJobs: { variables: { id: worker }, query: "available=1", may: works, answers: 404 },
    updateJob: {
      variables: { id: worker, jobId: "job_1" },
      body: {
        status: "yielded",
        steps: [
          { id: `${run}:charge:0`, name: "charge", type: "invoke", status: "completed", output: { a: 1 } }
        ],
        yield: { type: "sleep", step_id: `${run}:nap:0`, until: "2026-01-02T03:04:05.000Z" }
      },
      may: works,
      answers: 409
    },
    ackJob: { variables: { id: worker, jobId: "job_1" }, body: {}, may: works, answers: 409 },
    pollTurns: {
      variables: { id: worker },
      body: { session: "s-1", asked: 1, seen: 0, waitMs: 50 },
      may: works,
      answers: 404
    },
    reportTurns: {
      variables: { id: worker },
      body: {
        session: "s-1",
        batch: 1,
        reports: [
          {
            jobId: "job_1",
            runId: run,
            ops: [
              {
                _tag: "StepDone",
                stepKey: "charge:0",
                name: "charge",
                kind: "run",
                outcome: { _tag: "Success", value: "1" },
                attempt: 1,
                startedAt: 1,
                endedAt: 2
              },
              { _tag: "Complete", output: "{}" }
            ]
          }
        ]
      },
      may: works,
      answers: 404
    },
    lateTurn: {
      variables: { id: worker },
      body: { session: "s-1", runId: run, stepName: "charge", lingerMs: 5 },
      may: works,
      answers: 404
    },
    deregisterWorker: { variables: { id: worker }, query: "session=s-1", may: works, answers: 204 },

    pushTurn: {
      variables: { jobId: "job_1" },
      body: { runId: run, ops: [], waitMs: 10 },
      may: ["worker:run", "worker:*"]
    },
    listPushEndpoints: { may: ["function:read", "function:*"] },
    registerPushEndpoint: {
      body: { url: "http://127.0.0.1:9/x" },
      may: ["function:register", "function:*"],
      answers: 400
    },
    removePushEndpoint: {
      query: "url=http://127.0.0.1:9/x",
      may: ["function:register", "function:*"],
      answers: 404
    },

    listApiKeys: { may: ["apikey:read", "apikey:*"] },
    createApiKey: {
      body: { name: "ci", env_id: "env_default", role_ids: ["role_viewer"], expires_in: "1h" },
      may: ["apikey:create", "apikey:*"],
      answers: 201
    },
    getApiKey: { variables: { id: key }, may: ["apikey:read", `apikey:${key}`] },
    rotateApiKey: {
      variables: { id: key },
      body: { overlap: "1h" },
      may: ["apikey:rotate", `apikey:${key}`]
    },
    deleteApiKey: { variables: { id: key }, may: ["apikey:delete", `apikey:${key}`], answers: 204 },
    accessLog: { may: ["audit:read", "engine:*"] },

    listOrgs: { may: ["org:read", "org:*"] },
    createOrg: { body: { name: "Acme" }, may: ["org:create", "org:*"], answers: 201 },
    getOrg: { variables: { id: org }, may: ["org:read", `org:${org}`] },
    updateOrg: { variables: { id: org }, body: { name: "Acme 2" }, may: ["org:update", `org:${org}`] },
    deleteOrg: { variables: { id: org }, may: ["org:delete", `org:${org}`], answers: 204 },

    listRoles: { may: ["role:read", "role:*"] },
    createRole: {
      body: { name: "deployer", org_id: "org_default" },
      may: ["role:create", "role:*"],
      answers: 201
    },
    getRole: { variables: { id: role }, may: ["role:read", `role:${role}`] },
    updateRole: { variables: { id: role }, body: { name: "packer" }, may: ["role:update", `role:${role}`] },
    listRolePolicies: { variables: { id: role }, may: ["role:read", `role:${role}`] },
    assignPolicy: {
      variables: { id: role },
      body: { policy_id: policy },
      may: ["role:assign", `role:${role}`],
      answers: 204
    },
    removePolicy: {
      variables: { id: role, policyId: policy },
      may: ["role:assign", `role:${role}`],
      answers: 204
    },
    deleteRole: { variables: { id: role }, may: ["role:delete", `role:${role}`], answers: 204 },

    listPolicies: { may: ["policy:read", "policy:*"] },
    createPolicy: {
      body: {
        name: "orders",
        effect: "allow",
        actions: "emit:*",
        resources: "event:order.*",
        condition: 'request.environment == "default"'
      },
      may: ["policy:create", "policy:*"],
      answers: 201
    },
    getPolicy: { variables: { id: policy }, may: ["policy:read", `policy:${policy}`] },
    updatePolicy: {
      variables: { id: policy },
      body: { name: "fewer orders" },
      may: ["policy:update", `policy:${policy}`]
    },
    deletePolicy: { variables: { id: policy }, may: ["policy:delete", `policy:${policy}`], answers: 204 }
  }
}
