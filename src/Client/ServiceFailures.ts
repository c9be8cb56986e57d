/** What each method of a client's services fails with, besides what any call of a client may fail with: by tag, held against the types. */
import type { ApiKeysApi } from "./ApiKeys.ts"
import type { ClientApi, EffectKind } from "./Client.ts"
import type { ConfigService } from "./Config.ts"
import type { ConsumerGroupsApi } from "./ConsumerGroups.ts"
import type { KvApi, KvBucket } from "./Kv.ts"
import type { Failures } from "./Named.ts"
import type { OrgsApi } from "./Orgs.ts"
import type { PoliciesApi } from "./Policies.ts"
import type { ProjectionsService } from "./Projections.ts"
import type { PushEndpointsApi } from "./PushEndpoints.ts"
import type { RolesApi } from "./Roles.ts"
import type { SecretsApi } from "./Secrets.ts"
import type { UntypedStreams } from "./Streams.ts"
import type { Subscriptions } from "./Subscriptions.ts"

const run = { RunNotFoundError: true } as const
const steered = { ...run, InvalidStateError: true } as const

export const clientFailures: Failures<ClientApi<EffectKind>> = {
  emit: {},
  trigger: {},
  emitMany: {},
  emitSync: { NoResultsError: true, RunNotFoundError: true, RunFailedError: true, RunCancelledError: true },
  publish: {},
  listTopics: {},
  getTopicStats: {},
  getRun: run,
  listRuns: {},
  getRunSteps: run,
  getRunAudit: run,
  explain: run,
  waitForRun: run,
  cancelRun: steered,
  retryRun: { ...steered, StepNotFoundError: true },
  resumeRun: { ...steered, StepNotFoundError: true },
  pauseRun: steered,
  patchStep: { ...steered, StepNotFoundError: true },
  listFunctions: {},
  deleteFunction: { FunctionNotFoundError: true, InvalidStateError: true },
  listWorkers: {},
  getCapabilities: {},
  health: {}
}

const appended = { VersionConflictError: true, InvalidStateError: true } as const
export const streamsFailures: Failures<UntypedStreams> = {
  append: appended,
  appendAll: appended,
  read: {},
  events: {},
  getInfo: { StreamNotFoundError: true },
  findInfo: {},
  listStreams: {},
  createSnapshot: { StreamNotFoundError: true, InvalidStateError: true },
  getSnapshot: {}
}

const inBucket = { BucketNotFoundError: true } as const
const conditional = { ...inBucket, RevisionConflictError: true } as const
export const kvFailures: Failures<KvApi<EffectKind>> = {
  createBucket: { BucketExistsError: true },
  listBuckets: {},
  getBucketInfo: inBucket,
  deleteBucket: inBucket
}
export const bucketFailures: Failures<Omit<KvBucket, "name">> = {
  get: { ...inBucket, KeyNotFoundError: true },
  put: inBucket,
  create: conditional,
  update: conditional,
  delete: conditional,
  purge: inBucket,
  listKeys: inBucket,
  history: { ...inBucket, KeyNotFoundError: true },
  write: conditional,
  watch: { ...inBucket, RevisionGoneError: true }
}

export const configFailures: Failures<ConfigService> = {
  set: {},
  get: { ConfigNotFoundError: true },
  patch: { ConfigNotFoundError: true },
  list: {},
  delete: {},
  watch: { RevisionGoneError: true }
}

const projection = { ProjectionNotFoundError: true } as const
export const projectionsFailures: Failures<ProjectionsService> = {
  get: projection,
  list: {},
  status: projection,
  waitForCatchup: projection,
  rebuild: projection,
  pause: projection,
  resume: projection,
  delete: projection,
  deadLetters: projection,
  retryDeadLetter: { ...projection, InvalidStateError: true },
  retryDeadLetters: projection,
  subscribe: { ...projection, InvalidStateError: true, SubscriptionError: true, ClosedError: true }
}

const ofGroup = { ConsumerGroupNotFoundError: true } as const
export const consumerGroupsFailures: Failures<ConsumerGroupsApi<EffectKind>> = {
  create: { ConsumerGroupExistsError: true },
  get: ofGroup,
  list: {},
  update: ofGroup,
  pause: ofGroup,
  resume: ofGroup,
  deadLetters: ofGroup,
  retryDeadLetter: { ...ofGroup, InvalidStateError: true },
  retryDeadLetters: ofGroup,
  delete: ofGroup
}

export const pushEndpointsFailures: Failures<PushEndpointsApi<EffectKind>> = {
  register: { EndpointUnavailableError: true },
  list: {},
  remove: {}
}

const ofKey = { ApiKeyNotFoundError: true } as const
export const apiKeysFailures: Failures<ApiKeysApi<EffectKind>> = {
  create: { RoleNotFoundError: true },
  list: {},
  get: ofKey,
  rotate: ofKey,
  delete: ofKey
}
const ofOrg = { OrgNotFoundError: true } as const
export const orgsFailures: Failures<OrgsApi<EffectKind>> = {
  create: {},
  list: {},
  get: ofOrg,
  update: { ...ofOrg, InvalidStateError: true },
  delete: { ...ofOrg, InvalidStateError: true }
}
const ofRole = { RoleNotFoundError: true } as const
const changedRole = { ...ofRole, InvalidStateError: true } as const
export const rolesFailures: Failures<RolesApi<EffectKind>> = {
  create: ofOrg,
  list: {},
  get: ofRole,
  update: changedRole,
  delete: changedRole,
  assignPolicy: { ...changedRole, PolicyNotFoundError: true },
  removePolicy: changedRole
}
const ofPolicy = { PolicyNotFoundError: true } as const
export const policiesFailures: Failures<PoliciesApi<EffectKind>> = {
  create: ofOrg,
  list: {},
  get: ofPolicy,
  update: { ...ofPolicy, InvalidStateError: true },
  delete: { ...ofPolicy, InvalidStateError: true }
}
export const secretsFailures: Failures<SecretsApi<EffectKind>> = {
  set: { MasterKeyError: true },
  get: { SecretNotFoundError: true },
  list: {},
  delete: { SecretNotFoundError: true }
}
export const subscriptionsFailures: Failures<Subscriptions["Service"]> = {
  stream: { SubscriptionError: true, ClosedError: true }
}
