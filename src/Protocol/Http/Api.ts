/**
 * The HTTP protocol as an `HttpApi`: what `/openapi.json` is made of, and what a client can be derived from.
 *
 * The server does not run on it: a call through `HttpApi` costs more than twice what it costs through the table of
 * endpoints, and its modules alone take longer to load than a client may. Both read the same table and schemas.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { endpoints } from "./Endpoints.ts"
import * as Schemas from "./Schemas.ts"

const connectFailure = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  details: Schema.optionalKey(Schema.Array(Schema.Unknown))
})

const restFailure = Schema.Struct({
  error: Schema.String,
  message: Schema.String,
  code: Schema.String,
  details: Schema.optionalKey(Schema.Unknown)
})

const connectErrors = [
  connectFailure.pipe(HttpApiSchema.status(400)),
  connectFailure.pipe(HttpApiSchema.status(401)),
  connectFailure.pipe(HttpApiSchema.status(403)),
  connectFailure.pipe(HttpApiSchema.status(404)),
  connectFailure.pipe(HttpApiSchema.status(409)),
  connectFailure.pipe(HttpApiSchema.status(503))
] as const

const restErrors = [
  restFailure.pipe(HttpApiSchema.status(400)),
  restFailure.pipe(HttpApiSchema.status(401)),
  restFailure.pipe(HttpApiSchema.status(403)),
  restFailure.pipe(HttpApiSchema.status(404)),
  restFailure.pipe(HttpApiSchema.status(409)),
  restFailure.pipe(HttpApiSchema.status(503))
] as const

type Connect = {
  [Name in keyof typeof endpoints]: (typeof endpoints)[Name] extends { readonly dialect: "connect" }
    ? Name
    : never
}[keyof typeof endpoints]

const connect = <const Name extends Connect, Request extends Schema.Top, Response extends Schema.Top>(
  name: Name,
  payload: Request,
  success: Response
) => HttpApiEndpoint.post(name, endpoints[name].path, { payload, success, error: connectErrors })

const inEnvelope = HttpApiSchema.asJson({ contentType: "application/connect+json" })

/** A call that is answered with a stream: what is described of each body is the JSON in its envelopes. */
const stream = <const Name extends Connect, Request extends Schema.Top, Response extends Schema.Top>(
  name: Name,
  payload: Request,
  success: Response
) =>
  HttpApiEndpoint.post(name, endpoints[name].path, {
    payload: payload.pipe(inEnvelope),
    success: success.pipe(inEnvelope),
    error: connectErrors
  }).annotate(
    OpenApi.Description,
    "One envelope of ConnectRPC asks, and the answer is a stream of them: flags in one byte, the length in four, and the JSON. The last one has flag 2, and `{}` or `{ error: { code, message } }`"
  )

const page = { limit: Schema.optionalKey(Schema.String), cursor: Schema.optionalKey(Schema.String) }
const id = { id: Schema.String }
const name = { name: Schema.String }
const error = restErrors

/** `IronflowService` of ConnectRPC, as JSON. */
class IronflowService extends HttpApiGroup.make("IronflowService").add(
  connect("trigger", Schemas.TriggerRequest, Schemas.TriggerResponse),
  connect("emit", Schemas.TriggerRequest, Schemas.TriggerResponse),
  connect("triggerSync", Schemas.TriggerSyncRequest, Schemas.TriggerSyncResponse),
  connect("triggerBatch", Schemas.TriggerBatchRequest, Schemas.TriggerBatchResponse),
  connect("registerFunction", Schemas.RegisterFunctionRequest, Schemas.RegisterFunctionResponse),
  connect("getFunction", Schemas.GetFunctionRequest, Schemas.FunctionInfo),
  connect("listFunctions", Schemas.Empty, Schemas.ListFunctionsResponse),
  connect("getRun", Schemas.RunIdRequest, Schemas.Run),
  connect("listRuns", Schemas.ListRunsRequest, Schemas.ListRunsResponse),
  connect("cancelRun", Schemas.CancelRunRequest, Schemas.Run),
  connect("retryRun", Schemas.FromStepRequest, Schemas.Run),
  connect("resumeRun", Schemas.FromStepRequest, Schemas.Run),
  connect("pauseRun", Schemas.PauseRunRequest, Schemas.PauseRunResponse),
  connect("getRunSteps", Schemas.RunIdRequest, Schemas.RunStepsResponse),
  connect("patchStep", Schemas.PatchStepRequest, Schemas.RunStep),
  connect("info", Schemas.Empty, Schemas.InfoResponse),
  connect("getCapabilities", Schemas.Empty, Schemas.CapabilitiesResponse),
  connect("health", Schemas.Empty, Schemas.HealthResponse)
) {}

/** `PubSubService` of ConnectRPC, as JSON. */
class PubSubService extends HttpApiGroup.make("PubSubService").add(
  connect("publish", Schemas.PublishRequest, Schemas.PublishResponse),
  connect("listTopics", Schemas.Empty, Schemas.ListTopicsResponse),
  connect("getTopicStats", Schemas.TopicStatsRequest, Schemas.TopicStatsResponse),
  connect("publishEmit", Schemas.TriggerRequest, Schemas.TriggerResponse),
  connect("createConsumerGroup", Schemas.ConnectConsumerGroupConfig, Schemas.ConnectConsumerGroup),
  connect("getConsumerGroup", Schemas.ConsumerGroupRequest, Schemas.ConnectConsumerGroup),
  connect("listConsumerGroups", Schemas.ListConsumerGroupsRequest, Schemas.ConnectConsumerGroupsResponse),
  connect("updateConsumerGroup", Schemas.ConnectUpdateConsumerGroupRequest, Schemas.ConnectConsumerGroup),
  connect("deleteConsumerGroup", Schemas.ConsumerGroupRequest, Schemas.Empty),
  stream("subscribe", Schemas.SubscribeRequest, Schemas.SubscribedEvent),
  stream("joinConsumerGroup", Schemas.JoinConsumerGroupRequest, Schemas.SubscribedEvent)
) {}

const optionalText = Schema.optionalKey(Schema.String)
/** What says which group a name is for. */
const groupQuery = { namespace: optionalText, pattern: optionalText }

/** Consumer groups, for those who look after them. */
class ConsumerGroups extends HttpApiGroup.make("ConsumerGroups").add(
  HttpApiEndpoint.get("restListConsumerGroups", endpoints.restListConsumerGroups.path, {
    query: {
      namespace: optionalText,
      name: optionalText,
      status: optionalText,
      limit: optionalText,
      cursor: optionalText
    },
    success: Schemas.ConsumerGroupsResponse,
    error
  }),
  HttpApiEndpoint.post("restCreateConsumerGroup", endpoints.restCreateConsumerGroup.path, {
    payload: Schemas.CreateConsumerGroupRequest,
    success: Schemas.ConsumerGroup,
    error
  }),
  HttpApiEndpoint.get("restGetConsumerGroup", endpoints.restGetConsumerGroup.path, {
    params: name,
    query: groupQuery,
    success: Schemas.ConsumerGroup,
    error
  }),
  HttpApiEndpoint.patch("restUpdateConsumerGroup", endpoints.restUpdateConsumerGroup.path, {
    params: name,
    query: groupQuery,
    payload: Schemas.UpdateConsumerGroupRequest,
    success: Schemas.ConsumerGroup,
    error
  }),
  HttpApiEndpoint.delete("restDeleteConsumerGroup", endpoints.restDeleteConsumerGroup.path, {
    params: name,
    query: groupQuery,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.post("restPauseConsumerGroup", endpoints.restPauseConsumerGroup.path, {
    params: name,
    query: groupQuery,
    payload: Schemas.PauseConsumerGroupRequest,
    success: Schemas.ConsumerGroup,
    error
  }),
  HttpApiEndpoint.get("groupDeadLetters", endpoints.groupDeadLetters.path, {
    params: name,
    query: { ...groupQuery, after: optionalText, limit: optionalText },
    success: Schemas.DeadLettersResponse,
    error
  }),
  HttpApiEndpoint.post("retryGroupDeadLetters", endpoints.retryGroupDeadLetters.path, {
    params: name,
    query: groupQuery,
    payload: Schemas.RetryDeadLettersRequest,
    success: Schemas.RetryDeadLettersResponse,
    error
  }),
  HttpApiEndpoint.post("restResumeConsumerGroup", endpoints.restResumeConsumerGroup.path, {
    params: name,
    query: groupQuery,
    success: Schemas.ConsumerGroup,
    error
  })
) {}

/** `EntityStreamService` of ConnectRPC, as JSON. */
class EntityStreamService extends HttpApiGroup.make("EntityStreamService").add(
  connect("appendEvent", Schemas.AppendEventRequest, Schemas.AppendEventResponse),
  connect("appendEvents", Schemas.AppendEventsRequest, Schemas.AppendEventsResponse),
  connect("readStream", Schemas.ReadStreamRequest, Schemas.ReadStreamResponse),
  connect("getStreamInfo", Schemas.StreamRequest, Schemas.StreamInfo),
  connect("getEntityHistory", Schemas.ReadStreamRequest, Schemas.EntityHistoryResponse),
  connect("listStreams", Schemas.ListStreamsRequest, Schemas.ListStreamsResponse),
  connect("createSnapshot", Schemas.CreateSnapshotRequest, Schemas.CreateSnapshotResponse),
  connect("getSnapshot", Schemas.GetSnapshotRequest, Schemas.Snapshot),
  HttpApiEndpoint.get("restStreams", endpoints.restStreams.path, {
    query: {
      entity_type: Schema.optionalKey(Schema.String),
      limit: Schema.optionalKey(Schema.String),
      offset: Schema.optionalKey(Schema.String)
    },
    success: Schemas.RestStreamsResponse,
    error
  }),
  HttpApiEndpoint.get("restStreamHistory", endpoints.restStreamHistory.path, {
    params: id,
    success: Schemas.StreamHistoryResponse,
    error
  })
) {}

/** `ProjectionService` of ConnectRPC, as JSON: what existing runners of projections call, and who looks after them. */
class ProjectionService extends HttpApiGroup.make("ProjectionService").add(
  connect("registerProjection", Schemas.RegisterProjectionRequest, Schemas.RegisterProjectionResponse),
  connect("getProjection", Schemas.GetProjectionRequest, Schemas.GetProjectionResponse),
  connect("pollProjectionEvents", Schemas.PollProjectionEventsRequest, Schemas.PollProjectionEventsResponse),
  connect("saveProjectionState", Schemas.SaveProjectionStateRequest, Schemas.ProjectionSavedResponse),
  connect("ackProjectionEvents", Schemas.AckProjectionEventsRequest, Schemas.ProjectionSavedResponse),
  connect("connectListProjections", Schemas.Empty, Schemas.ConnectProjectionsResponse),
  connect("getProjectionStatus", Schemas.ProjectionNameRequest, Schemas.ConnectProjectionStatus),
  connect("connectRebuildProjection", Schemas.ConnectRebuildRequest, Schemas.ConnectRebuildResponse),
  connect("connectPauseProjection", Schemas.ConnectPauseRequest, Schemas.ConnectProjectionStatus),
  connect("connectResumeProjection", Schemas.ProjectionNameRequest, Schemas.ConnectProjectionStatus),
  connect("waitProjectionCatchup", Schemas.WaitCatchupRequest, Schemas.ConnectCatchupResponse),
  connect("waitForEvent", Schemas.WaitForEventRequest, Schemas.ConnectCatchupResponse)
) {}

const timeoutQuery = { timeout: Schema.optionalKey(Schema.String) }

/** Projections, for their users and operators and for the workers that own them. */
class Projections extends HttpApiGroup.make("Projections").add(
  HttpApiEndpoint.get("listProjections", endpoints.listProjections.path, {
    success: Schema.Array(Schemas.ProjectionStatusResponse),
    error
  }),
  HttpApiEndpoint.get("restGetProjection", endpoints.restGetProjection.path, {
    params: name,
    query: { partition: Schema.optionalKey(Schema.String) },
    success: Schemas.ProjectionEnvelope,
    error
  }),
  HttpApiEndpoint.get("projectionChanges", endpoints.projectionChanges.path, {
    params: name,
    query: {
      since: Schema.optionalKey(Schema.String),
      partition: Schema.optionalKey(Schema.String),
      after: Schema.optionalKey(Schema.String),
      limit: Schema.optionalKey(Schema.String)
    },
    success: Schemas.ProjectionChangesResponse,
    error
  }),
  HttpApiEndpoint.delete("deleteProjection", endpoints.deleteProjection.path, {
    params: name,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.get("projectionStatus", endpoints.projectionStatus.path, {
    params: name,
    success: Schemas.ProjectionStatusResponse,
    error
  }),
  HttpApiEndpoint.post("rebuildProjection", endpoints.rebuildProjection.path, {
    params: name,
    payload: Schemas.RebuildProjectionRequest,
    success: Schemas.ProjectionRebuildResponse,
    error
  }),
  HttpApiEndpoint.get("projectionRebuild", endpoints.projectionRebuild.path, {
    params: name,
    success: Schemas.ProjectionRebuildResponse,
    error
  }),
  HttpApiEndpoint.post("cancelRebuild", endpoints.cancelRebuild.path, {
    params: name,
    success: Schemas.ProjectionRebuildResponse,
    error
  }),
  HttpApiEndpoint.post("pauseProjection", endpoints.pauseProjection.path, {
    params: name,
    payload: Schemas.PauseProjectionRequest,
    success: Schemas.ProjectionStatusResponse,
    error
  }),
  HttpApiEndpoint.post("resumeProjection", endpoints.resumeProjection.path, {
    params: name,
    success: Schemas.ProjectionStatusResponse,
    error
  }),
  HttpApiEndpoint.get("projectionCatchup", endpoints.projectionCatchup.path, {
    params: name,
    query: { ...timeoutQuery, minSeq: Schema.optionalKey(Schema.String) },
    success: Schemas.CatchupResponse,
    error
  }),
  HttpApiEndpoint.post("projectionCatchupBatch", endpoints.projectionCatchupBatch.path, {
    payload: Schemas.CatchupBatchRequest,
    success: Schemas.CatchupBatchResponse,
    error
  }),
  HttpApiEndpoint.post("projectionWaitForEvent", endpoints.projectionWaitForEvent.path, {
    payload: Schemas.WaitForEventRequest,
    success: Schemas.CatchupResponse,
    error
  }),
  HttpApiEndpoint.get("deadLetters", endpoints.deadLetters.path, {
    params: name,
    query: { after: Schema.optionalKey(Schema.String), limit: Schema.optionalKey(Schema.String) },
    success: Schemas.DeadLettersResponse,
    error
  }),
  HttpApiEndpoint.post("retryDeadLetters", endpoints.retryDeadLetters.path, {
    params: name,
    payload: Schemas.RetryDeadLettersRequest,
    success: Schemas.RetryDeadLettersResponse,
    error
  }),
  HttpApiEndpoint.post("claimProjection", endpoints.claimProjection.path, {
    params: name,
    payload: Schemas.ClaimProjectionRequest,
    success: Schemas.ProjectionOwnerResponse,
    error
  }),
  HttpApiEndpoint.post("readProjection", endpoints.readProjection.path, {
    params: name,
    payload: Schemas.ReadProjectionRequest,
    success: Schemas.ProjectionOwnerResponse,
    error
  }),
  HttpApiEndpoint.post("projectionStates", endpoints.projectionStates.path, {
    params: name,
    payload: Schemas.ProjectionStatesRequest,
    success: Schemas.ProjectionOwnerResponse,
    error
  }),
  HttpApiEndpoint.post("saveProjection", endpoints.saveProjection.path, {
    params: name,
    payload: Schemas.SaveProjectionRequest,
    success: Schemas.ProjectionOwnerResponse,
    error
  }),
  HttpApiEndpoint.post("renewProjection", endpoints.renewProjection.path, {
    params: name,
    payload: Schemas.ProjectionOwnerRequest,
    success: Schemas.ProjectionOwnerResponse,
    error
  }),
  HttpApiEndpoint.post("releaseProjection", endpoints.releaseProjection.path, {
    params: name,
    payload: Schemas.ProjectionOwnerRequest,
    success: HttpApiSchema.NoContent,
    error
  })
) {}

/** REST calls of clients. */
class Rest extends HttpApiGroup.make("Rest").add(
  HttpApiEndpoint.get("restHealth", endpoints.restHealth.path, { success: Schemas.RestHealthResponse }),
  HttpApiEndpoint.get("restCapabilities", endpoints.restCapabilities.path, {
    success: Schemas.CapabilitiesResponse
  }),
  HttpApiEndpoint.post("restEmit", endpoints.restEmit.path, {
    payload: Schemas.RestEmitRequest,
    success: Schemas.RestEmitResponse,
    error
  }),
  HttpApiEndpoint.get("restEvents", endpoints.restEvents.path, {
    query: { name: optionalText, limit: optionalText, cursor: optionalText },
    success: Schemas.EventsResponse,
    error
  }),
  HttpApiEndpoint.get("restRuns", endpoints.restRuns.path, {
    query: { function_id: optionalText, status: optionalText, limit: optionalText, cursor: optionalText },
    success: Schemas.ListRunsResponse,
    error
  }),
  HttpApiEndpoint.get("restFunctions", endpoints.restFunctions.path, {
    success: Schemas.RestFunctionsResponse,
    error
  }),
  HttpApiEndpoint.delete("deleteFunction", endpoints.deleteFunction.path, {
    params: { id: Schema.String },
    success: Schemas.Empty,
    error
  }),
  HttpApiEndpoint.get("restWorkers", endpoints.restWorkers.path, {
    success: Schemas.RestWorkersResponse,
    error
  }),
  HttpApiEndpoint.post("restPatchStep", endpoints.restPatchStep.path, {
    payload: Schemas.PatchStepRequest,
    success: Schemas.RunStep,
    error
  }),
  HttpApiEndpoint.post("restResumeRun", endpoints.restResumeRun.path, {
    payload: Schemas.FromStepRequest,
    success: Schemas.Run,
    error
  }),
  HttpApiEndpoint.get("explainRun", endpoints.explainRun.path, {
    params: id,
    success: Schemas.Explanation,
    error
  }),
  HttpApiEndpoint.get("waitForRun", endpoints.waitForRun.path, {
    params: id,
    query: { timeout: Schema.optionalKey(Schema.String) },
    success: [Schemas.Run, HttpApiSchema.NoContent],
    error
  }),
  HttpApiEndpoint.get("runAudit", endpoints.runAudit.path, {
    params: id,
    query: page,
    success: Schemas.RunAuditResponse,
    error
  }),
  HttpApiEndpoint.get("restRunSteps", endpoints.restRunSteps.path, {
    params: id,
    success: Schemas.RestRunStepsResponse,
    error
  }),
  HttpApiEndpoint.get("listPushEndpoints", endpoints.listPushEndpoints.path, {
    success: Schemas.PushEndpointsResponse,
    error
  }),
  HttpApiEndpoint.post("registerPushEndpoint", endpoints.registerPushEndpoint.path, {
    payload: Schemas.RegisterPushEndpointRequest,
    success: Schemas.RegisterPushEndpointResponse,
    error
  }),
  HttpApiEndpoint.delete("removePushEndpoint", endpoints.removePushEndpoint.path, {
    query: { url: Schema.String },
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.get("listSecrets", endpoints.listSecrets.path, { success: Schemas.SecretInfos, error }),
  HttpApiEndpoint.post("setSecret", endpoints.setSecret.path, {
    payload: Schemas.SetSecretRequest,
    success: Schemas.SecretInfo,
    error
  }),
  HttpApiEndpoint.get("getSecret", endpoints.getSecret.path, {
    params: name,
    success: Schemas.SecretInfo,
    error
  }),
  HttpApiEndpoint.put("updateSecret", endpoints.updateSecret.path, {
    params: name,
    payload: Schemas.UpdateSecretRequest,
    success: Schemas.SecretInfo,
    error
  }),
  HttpApiEndpoint.delete("deleteSecret", endpoints.deleteSecret.path, {
    params: name,
    success: HttpApiSchema.NoContent,
    error
  })
) {}

const bucket = { bucket: Schema.String }
/** The key is all that follows, slashes included. */
const key = { ...bucket, key: Schema.String }
const keyPath = "/api/v1/kv/buckets/:bucket/keys/:key"
const keyErrors = [...error, restFailure.pipe(HttpApiSchema.status(412))] as const

/** Buckets, keys and configurations. Bodies that are values are not described: they may be anything. */
class State extends HttpApiGroup.make("State").add(
  HttpApiEndpoint.post("createBucket", endpoints.createBucket.path, {
    payload: Schemas.CreateBucketRequest,
    success: Schemas.Bucket.pipe(HttpApiSchema.status(201)),
    error
  }),
  HttpApiEndpoint.get("listBuckets", endpoints.listBuckets.path, {
    success: Schemas.ListBucketsResponse,
    error
  }),
  HttpApiEndpoint.get("getBucket", endpoints.getBucket.path, {
    params: bucket,
    success: Schemas.Bucket,
    error
  }),
  HttpApiEndpoint.delete("deleteBucket", endpoints.deleteBucket.path, {
    params: bucket,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.get("listKeys", endpoints.listKeys.path, {
    params: bucket,
    query: { filter: Schema.optionalKey(Schema.String), ...page },
    success: Schemas.ListKeysResponse,
    error
  }),
  HttpApiEndpoint.get("getKey", keyPath, { params: key, success: Schemas.KeyEntry, error }),
  HttpApiEndpoint.put("putKey", keyPath, {
    params: key,
    headers: {
      "if-match": Schema.optionalKey(Schema.String),
      "if-none-match": Schema.optionalKey(Schema.String)
    },
    payload: Schema.Unknown,
    success: Schemas.RevisionResponse,
    error: keyErrors
  }),
  HttpApiEndpoint.delete("deleteKey", keyPath, {
    params: key,
    query: { purge: Schema.optionalKey(Schema.String) },
    success: HttpApiSchema.NoContent,
    error: keyErrors
  }),
  HttpApiEndpoint.get("keyHistory", "/api/v1/kv/buckets/:bucket/history/:key", {
    params: key,
    query: page,
    success: Schemas.KeyHistoryResponse,
    error
  }),
  HttpApiEndpoint.post("writeKeys", endpoints.writeKeys.path, {
    params: bucket,
    payload: Schemas.WriteKeysRequest,
    success: Schemas.WriteKeysResponse,
    error: keyErrors
  }),
  HttpApiEndpoint.get("listConfigs", endpoints.listConfigs.path, {
    query: page,
    success: Schemas.ListConfigsResponse,
    error
  }),
  HttpApiEndpoint.get("getConfig", endpoints.getConfig.path, {
    params: name,
    success: Schemas.ConfigResponse,
    error
  }),
  HttpApiEndpoint.post("setConfig", endpoints.setConfig.path, {
    params: name,
    payload: Schema.Record(Schema.String, Schema.Unknown),
    success: Schemas.ConfigSetResponse,
    error
  }),
  HttpApiEndpoint.patch("patchConfig", endpoints.patchConfig.path, {
    params: name,
    payload: Schema.Record(Schema.String, Schema.Unknown),
    success: Schemas.ConfigSetResponse,
    error
  }),
  HttpApiEndpoint.delete("deleteConfig", endpoints.deleteConfig.path, {
    params: name,
    success: HttpApiSchema.NoContent,
    error
  })
) {}

/** Who may do what. */
class Access extends HttpApiGroup.make("Access").add(
  HttpApiEndpoint.get("listApiKeys", endpoints.listApiKeys.path, {
    success: Schema.Array(Schemas.ApiKey),
    error
  }),
  HttpApiEndpoint.post("createApiKey", endpoints.createApiKey.path, {
    payload: Schemas.CreateApiKeyRequest,
    success: Schemas.ApiKeyWithSecret.pipe(HttpApiSchema.status(201)),
    error
  }),
  HttpApiEndpoint.get("getApiKey", endpoints.getApiKey.path, { params: id, success: Schemas.ApiKey, error }),
  HttpApiEndpoint.delete("deleteApiKey", endpoints.deleteApiKey.path, {
    params: id,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.post("rotateApiKey", endpoints.rotateApiKey.path, {
    params: id,
    payload: Schemas.RotateApiKeyRequest,
    success: Schemas.ApiKeyWithSecret,
    error
  }),
  HttpApiEndpoint.get("accessLog", endpoints.accessLog.path, { success: Schemas.AccessLog, error }),
  HttpApiEndpoint.get("listOrgs", endpoints.listOrgs.path, {
    success: Schema.Array(Schemas.Organization),
    error
  }),
  HttpApiEndpoint.post("createOrg", endpoints.createOrg.path, {
    payload: Schemas.CreateOrgRequest,
    success: Schemas.Organization.pipe(HttpApiSchema.status(201)),
    error
  }),
  HttpApiEndpoint.get("getOrg", endpoints.getOrg.path, { params: id, success: Schemas.Organization, error }),
  HttpApiEndpoint.patch("updateOrg", endpoints.updateOrg.path, {
    params: id,
    payload: Schemas.UpdateOrgRequest,
    success: Schemas.Organization,
    error
  }),
  HttpApiEndpoint.delete("deleteOrg", endpoints.deleteOrg.path, {
    params: id,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.get("listRoles", endpoints.listRoles.path, {
    query: { org_id: Schema.optionalKey(Schema.String) },
    success: Schema.Array(Schemas.Role),
    error
  }),
  HttpApiEndpoint.post("createRole", endpoints.createRole.path, {
    payload: Schemas.CreateRoleRequest,
    success: Schemas.Role.pipe(HttpApiSchema.status(201)),
    error
  }),
  HttpApiEndpoint.get("getRole", endpoints.getRole.path, { params: id, success: Schemas.Role, error }),
  HttpApiEndpoint.patch("updateRole", endpoints.updateRole.path, {
    params: id,
    payload: Schemas.UpdateRoleRequest,
    success: Schemas.Role,
    error
  }),
  HttpApiEndpoint.delete("deleteRole", endpoints.deleteRole.path, {
    params: id,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.get("listPolicies", endpoints.listPolicies.path, {
    query: { org_id: Schema.optionalKey(Schema.String) },
    success: Schema.Array(Schemas.Policy),
    error
  }),
  HttpApiEndpoint.post("createPolicy", endpoints.createPolicy.path, {
    payload: Schemas.CreatePolicyRequest,
    success: Schemas.Policy.pipe(HttpApiSchema.status(201)),
    error
  }),
  HttpApiEndpoint.get("getPolicy", endpoints.getPolicy.path, { params: id, success: Schemas.Policy, error }),
  HttpApiEndpoint.patch("updatePolicy", endpoints.updatePolicy.path, {
    params: id,
    payload: Schemas.UpdatePolicyRequest,
    success: Schemas.Policy,
    error
  }),
  HttpApiEndpoint.delete("deletePolicy", endpoints.deletePolicy.path, {
    params: id,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.get("listRolePolicies", endpoints.listRolePolicies.path, {
    params: id,
    success: Schema.Array(Schemas.Policy),
    error
  }),
  HttpApiEndpoint.post("assignPolicy", endpoints.assignPolicy.path, {
    params: id,
    payload: Schemas.AssignPolicyRequest,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.delete("removePolicy", endpoints.removePolicy.path, {
    params: { ...id, policyId: Schema.String },
    success: HttpApiSchema.NoContent,
    error
  })
) {}

/** Calls of workers. */
class Workers extends HttpApiGroup.make("Workers").add(
  HttpApiEndpoint.post("registerWorker", endpoints.registerWorker.path, {
    params: id,
    payload: Schemas.RegisterWorkerRequest,
    success: Schemas.RegisterWorkerResponse,
    error
  }),
  HttpApiEndpoint.post("heartbeat", endpoints.heartbeat.path, {
    params: id,
    payload: Schemas.HeartbeatRequest,
    success: Schemas.Empty,
    error
  }),
  HttpApiEndpoint.get("takeJobs", endpoints.takeJobs.path, {
    params: id,
    query: { available: Schema.optionalKey(Schema.String) },
    success: [Schema.Unknown, HttpApiSchema.NoContent],
    error
  }),
  HttpApiEndpoint.put("updateJob", endpoints.updateJob.path, {
    params: { ...id, jobId: Schema.String },
    payload: Schemas.JobUpdate,
    success: Schemas.Empty,
    error
  }),
  HttpApiEndpoint.put("ackJob", endpoints.ackJob.path, {
    params: { ...id, jobId: Schema.String },
    payload: Schema.Unknown,
    success: Schemas.Empty,
    error
  }),
  HttpApiEndpoint.post("pollTurns", endpoints.pollTurns.path, {
    params: id,
    payload: Schemas.PollRequest,
    success: Schemas.PollResponse,
    error
  }),
  HttpApiEndpoint.post("reportTurns", endpoints.reportTurns.path, {
    params: id,
    payload: Schemas.ReportsRequest,
    success: Schemas.ReportsResponse,
    error
  }),
  HttpApiEndpoint.post("lateTurn", endpoints.lateTurn.path, {
    params: id,
    payload: Schemas.LateRequest,
    success: HttpApiSchema.NoContent,
    error
  }),
  HttpApiEndpoint.delete("deregisterWorker", endpoints.deregisterWorker.path, {
    params: id,
    query: { session: Schema.optionalKey(Schema.String) },
    success: HttpApiSchema.NoContent
  })
) {}

class Api extends HttpApi.make("ironflow")
  .add(IronflowService)
  .add(PubSubService)
  .add(ConsumerGroups)
  .add(EntityStreamService)
  .add(ProjectionService)
  .add(Projections)
  .add(Rest)
  .add(State)
  .add(Access)
  .add(Workers)
  .annotateMerge(
    OpenApi.annotations({
      title: "Ironflow",
      description: "Durable workflows. Requests may spell their fields in lower camel case or in snake case."
    })
  ) {}

/**
 * The OpenAPI document. To make it takes a second in which nothing else happens, so it is made when this file changes:
 * `npm run openapi` writes `openapi.json`, which servers send.
 */
export const openApiDocument = (): OpenApi.OpenAPISpec => OpenApi.fromApi(Api)
