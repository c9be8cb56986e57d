/**
 * The services of a client, which refuse options that are misspelled, and fail with nothing but what their methods name: one
 * place for both faces, wherever the calls go.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type IronflowError, ValidationError } from "../Errors.ts"
import { checkKeys, type Keys, type Known } from "../OptionKeys.ts"
import { checkAppendAllKeys, checkAppendKeys } from "../Protocol/AppendKeys.ts"
import type { BufferConfig } from "../Protocol/Subscriptions.ts"
import { ApiKeys, type ApiKeysApi } from "./ApiKeys.ts"
import { type CallOptions, Client, type ClientApi, type EffectKind, type PromiseKind } from "./Client.ts"
import { typedKv } from "./TypedBucket.ts"
import { typedStreams } from "./EntityStreams.ts"
import { Config, type ConfigApi, type ConfigService } from "./Config.ts"
import { ConsumerGroups, type ConsumerGroupsApi } from "./ConsumerGroups.ts"
import { Kv, type KvApi, type KvBucket, type KvBucketApi, type UntypedKv } from "./Kv.ts"
import { naming, ofClient, type Raw } from "./Named.ts"
import { Orgs, type OrgsApi } from "./Orgs.ts"
import { Policies, type PoliciesApi } from "./Policies.ts"
import { Projections, type ProjectionsApi, type ProjectionsService } from "./Projections.ts"
import { PushEndpoints, type PushEndpointsApi } from "./PushEndpoints.ts"
import { Roles, type RolesApi } from "./Roles.ts"
import { Secrets, type SecretsApi } from "./Secrets.ts"
import * as Failures from "./ServiceFailures.ts"
import type { ClientServices } from "./Services.ts"
import { type AsyncIterableKind, Streams, type UntypedStreams, type UntypedStreamsApi } from "./Streams.ts"
import { Subscriptions } from "./Subscriptions.ts"

/** The members of an argument that are objects of options: data may have any keys. */
type OptionsIn<P> = 0 extends 1 & P
  ? never
  : P extends ReadonlyArray<unknown> | ((...args: never) => unknown)
    ? never
    : P extends object
      ? string extends keyof P
        ? never
        : [keyof P] extends [never]
          ? never
          : P
      : never

/** The keys of an argument, or of the items of a list; `null` for one that is no options. */
type ArgumentKeysOf<P> =
  P extends ReadonlyArray<infer Item>
    ? [OptionsIn<Item>] extends [never]
      ? null
      : readonly [Keys<OptionsIn<Item>>]
    : [OptionsIn<P>] extends [never]
      ? null
      : Keys<OptionsIn<P>>

type MethodKeys<Api> = {
  readonly [M in keyof Api]: Api[M] extends (...args: infer P) => unknown
    ? { readonly [I in keyof P]-?: ArgumentKeysOf<P[I]> | Check }
    : never
}

/** Looks at an argument whose keys depend on what is in it. */
type Check = (argument: unknown, what: string) => void

// as the Promise face has them, whose signals come along
const call = { signal: true } satisfies Keys<CallOptions>
const byId = [null, call] as const

const emit = { ...call, version: true, idempotencyKey: true, metadata: true } as const

const clientKeys: MethodKeys<ClientApi<PromiseKind>> = {
  emit: [null, null, emit],
  trigger: [null, null, emit],
  emitSync: [null, null, { ...emit, timeout: true }],
  emitMany: [[{ event: true, data: true, version: true, idempotencyKey: true, metadata: true }], call],
  publish: [null, null, { ...call, idempotencyKey: true }],
  listTopics: [call],
  getTopicStats: byId,
  getRun: byId,
  listRuns: [{ ...call, functionId: true, status: true, limit: true, cursor: true }],
  getRunSteps: byId,
  getRunAudit: byId,
  explain: byId,
  waitForRun: [null, { ...call, timeout: true }],
  cancelRun: [null, null, call],
  retryRun: [null, null, call],
  resumeRun: [null, null, call],
  pauseRun: [null, null, call],
  patchStep: [null, null, null, call],
  listFunctions: [call],
  deleteFunction: byId,
  listWorkers: [call],
  getCapabilities: [call],
  health: [call]
}

const append = { ...call, expectedVersion: true, idempotencyKey: true } as const
const read = { ...call, fromVersion: true, direction: true } as const

const streamsKeys: MethodKeys<Omit<UntypedStreamsApi<PromiseKind, AsyncIterableKind>, "events">> = {
  append: [null, checkAppendKeys, { ...append, version: true, metadata: true }],
  appendAll: [null, checkAppendAllKeys, append],
  read: [null, { ...read, limit: true }],
  getInfo: byId,
  findInfo: byId,
  listStreams: [{ ...call, entityType: true, limit: true, offset: true }],
  createSnapshot: [null, { entityType: true, entityVersion: true, state: true }, call],
  getSnapshot: [null, { ...call, beforeVersion: true }]
}
const eventsKeys: MethodKeys<Pick<UntypedStreamsApi<PromiseKind, AsyncIterableKind>, "events">> = {
  events: [null, { ...read, pageSize: true }]
}

const kvKeys: MethodKeys<KvApi<PromiseKind>> = {
  createBucket: [
    {
      name: true,
      description: true,
      ttlSeconds: true,
      maxValueSize: true,
      maxBytes: true,
      history: true
    },
    call
  ],
  listBuckets: [call],
  getBucketInfo: byId,
  deleteBucket: byId
}
const bucketKeys: MethodKeys<KvBucketApi<PromiseKind>> = {
  get: byId,
  put: [null, null, call],
  create: [null, null, call],
  update: [null, null, null, call],
  delete: [null, { ...call, revision: true }],
  purge: byId,
  listKeys: byId,
  history: byId,
  write: [[{ op: true, key: true, value: true, revision: true }], call]
}
const bucketWatchKeys: MethodKeys<Pick<KvBucket, "watch">> = {
  watch: [{ key: true, fromRevision: true, onOpen: true }]
}

const configKeys: MethodKeys<ConfigApi<PromiseKind>> = {
  set: [null, null, call],
  get: byId,
  patch: [null, null, call],
  list: [call],
  delete: byId
}
const configWatchKeys: MethodKeys<Pick<ConfigService, "watch">> = {
  watch: [null, { fromRevision: true, onOpen: true }]
}

const catchup = { ...call, after: true, timeout: true } as const

const projectionsKeys: MethodKeys<ProjectionsApi<PromiseKind>> = {
  get: [null, { ...catchup, partition: true }],
  list: [call],
  status: byId,
  waitForCatchup: [null, catchup],
  rebuild: byId,
  pause: [null, { ...call, by: true, reason: true }],
  resume: byId,
  delete: byId,
  deadLetters: [null, { ...call, limit: true, after: true }],
  retryDeadLetter: [null, null, call],
  retryDeadLetters: byId
}
const projectionUpdatesKeys: MethodKeys<Pick<ProjectionsService, "subscribe">> = {
  subscribe: [null, { partition: true, includeCurrent: true, onOpen: true }]
}

const buffer = { maxBytes: true } satisfies Keys<BufferConfig>
const settings = {
  ackMode: true,
  backpressure: true,
  buffer,
  maxInflight: true,
  maxRedeliveries: true,
  redeliverDelayMs: true,
  filter: true,
  metadata: true
} as const
const group = { ...call, namespace: true, pattern: true } as const

const consumerGroupsKeys: MethodKeys<ConsumerGroupsApi<PromiseKind>> = {
  create: [{ ...settings, name: true, pattern: true, namespace: true }, call],
  get: [null, group],
  list: [{ ...call, namespace: true, name: true, status: true }],
  update: [null, settings, group],
  pause: [null, { ...group, by: true, reason: true }],
  resume: [null, group],
  deadLetters: [null, { ...group, limit: true, after: true }],
  retryDeadLetter: [null, null, group],
  retryDeadLetters: [null, group],
  delete: [null, group]
}

const pushEndpointsKeys: MethodKeys<PushEndpointsApi<PromiseKind>> = {
  register: byId,
  list: [call],
  remove: byId
}

const apiKeysKeys: MethodKeys<ApiKeysApi<PromiseKind>> = {
  create: [
    {
      name: true,
      envId: true,
      env_id: true,
      role_ids: true,
      roleIds: true,
      expires_in: true,
      expiresIn: true
    },
    call
  ],
  list: [call],
  get: byId,
  rotate: [null, { ...call, overlap: true }],
  delete: byId
}
const orgsKeys: MethodKeys<OrgsApi<PromiseKind>> = {
  create: [{ name: true }, call],
  list: [call],
  get: byId,
  update: [null, { name: true }, call],
  delete: byId
}
const rolesKeys: MethodKeys<RolesApi<PromiseKind>> = {
  create: [{ name: true, org_id: true }, call],
  list: byId,
  get: byId,
  update: [null, { name: true }, call],
  delete: byId,
  assignPolicy: [null, null, call],
  removePolicy: [null, null, call]
}
const policy = { name: true, effect: true, actions: true, resources: true, condition: true } as const
const policiesKeys: MethodKeys<PoliciesApi<PromiseKind>> = {
  create: [{ ...policy, org_id: true }, call],
  list: byId,
  get: byId,
  update: [null, policy, call],
  delete: byId
}
const secretsKeys: MethodKeys<SecretsApi<PromiseKind>> = {
  set: [null, null, call],
  get: byId,
  list: [call],
  delete: byId
}
const subscriptionsKeys: MethodKeys<Subscriptions["Service"]> = {
  // not `subscribeKeys`: bundles of a client would get all that is beside it
  stream: [
    null,
    {
      replay: true,
      includeMetadata: true,
      filter: true,
      consumerGroup: true,
      ackMode: true,
      ackWait: true,
      backpressure: true,
      buffer,
      namespace: true,
      eventDefinitions: true
    }
  ]
}

/** The services as those make them who answer their calls. */
export interface RawServices {
  readonly client: Raw<ClientApi<EffectKind>>
  readonly streams: Raw<UntypedStreams>
  readonly kv: Raw<UntypedKv>
  readonly config: Raw<ConfigService>
  readonly projections: Raw<ProjectionsService>
  readonly pushEndpoints: Raw<PushEndpointsApi<EffectKind>>
  readonly subscriptions: Raw<Subscriptions["Service"]>
  readonly consumerGroups: Raw<ConsumerGroupsApi<EffectKind>>
  readonly apiKeys: Raw<ApiKeysApi<EffectKind>>
  readonly orgs: Raw<OrgsApi<EffectKind>>
  readonly policies: Raw<PoliciesApi<EffectKind>>
  readonly roles: Raw<RolesApi<EffectKind>>
  readonly secrets: Raw<SecretsApi<EffectKind>>
}

/** The same services, whose methods look at the keys of their options first and fail with what they name. */
export const checkedServices = (raw: RawServices): Context.Context<ClientServices> =>
  Context.make(
    Client,
    checking<ClientApi<EffectKind>>("", raw.client, clientKeys, Failures.clientFailures)
  ).pipe(
    Context.add(
      Streams,
      typedStreams(
        checking<UntypedStreams>(
          "streams.",
          raw.streams,
          { ...streamsKeys, ...eventsKeys },
          Failures.streamsFailures
        )
      )
    ),
    Context.add(
      Kv,
      typedKv({
        ...checking<KvApi<EffectKind>>("kv.", raw.kv, kvKeys, Failures.kvFailures),
        bucket: (name) =>
          checking<KvBucket>(
            "kv.bucket.",
            raw.kv.bucket(name),
            { ...bucketKeys, ...bucketWatchKeys },
            Failures.bucketFailures
          )
      })
    ),
    Context.add(
      Config,
      checking<ConfigService>(
        "config.",
        raw.config,
        { ...configKeys, ...configWatchKeys },
        Failures.configFailures
      )
    ),
    Context.add(
      Projections,
      checking<ProjectionsService>(
        "projections.",
        raw.projections,
        { ...projectionsKeys, ...projectionUpdatesKeys },
        Failures.projectionsFailures
      )
    ),
    Context.add(
      PushEndpoints,
      checking<PushEndpointsApi<EffectKind>>(
        "pushEndpoints.",
        raw.pushEndpoints,
        pushEndpointsKeys,
        Failures.pushEndpointsFailures
      )
    ),
    Context.add(
      Subscriptions,
      checking<Subscriptions["Service"]>(
        "subscriptions.",
        raw.subscriptions,
        subscriptionsKeys,
        Failures.subscriptionsFailures
      )
    ),
    Context.add(
      ConsumerGroups,
      checking<ConsumerGroupsApi<EffectKind>>(
        "consumerGroups.",
        raw.consumerGroups,
        consumerGroupsKeys,
        Failures.consumerGroupsFailures
      )
    ),
    Context.add(
      ApiKeys,
      checking<ApiKeysApi<EffectKind>>("apiKeys.", raw.apiKeys, apiKeysKeys, Failures.apiKeysFailures)
    ),
    Context.add(Orgs, checking<OrgsApi<EffectKind>>("orgs.", raw.orgs, orgsKeys, Failures.orgsFailures)),
    Context.add(
      Policies,
      checking<PoliciesApi<EffectKind>>("policies.", raw.policies, policiesKeys, Failures.policiesFailures)
    ),
    Context.add(
      Roles,
      checking<RolesApi<EffectKind>>("roles.", raw.roles, rolesKeys, Failures.rolesFailures)
    ),
    Context.add(
      Secrets,
      checking<SecretsApi<EffectKind>>("secrets.", raw.secrets, secretsKeys, Failures.secretsFailures)
    )
  )

interface ArgumentKeys {
  readonly [method: string]: ReadonlyArray<Known | readonly [Known] | Check | null>
}

const notOptions = (method: string, known: Known | readonly [Known] | Check): ValidationError =>
  new ValidationError(
    typeof known === "function"
      ? `${method} got null for an object that says what to append`
      : Array.isArray(known)
        ? `${method} needs a list, got null`
        : `${method} got null for an object that may have ${Object.keys(known)
            .map((key) => `\`${key}\``)
            .join(", ")}: leave it out, or give it as an object`
  )

/** Methods that return a `Stream`; the others return an `Effect`. */
const streams: ReadonlySet<string> = new Set(["events", "watch", "subscribe", "stream"])

type Method = (...args: Array<unknown>) => unknown

const checking = <S extends object>(
  what: string,
  service: object,
  methods: ArgumentKeys,
  failures: { readonly [method: string]: { readonly [tag: string]: true } }
): S => {
  const checked: Record<string, Method> = {}
  for (const [name, keys] of Object.entries(methods)) {
    const method = (service as Record<string, Method>)[name]!
    const named = naming({ ...ofClient, ...failures[name] })
    const isStream = streams.has(name)
    checked[name] = (...args) => {
      try {
        for (const [i, known] of keys.entries()) {
          if (known === null) continue
          if (args[i] === null) throw notOptions(`${what}${name}()`, known)
          if (typeof known === "function") known(args[i], `${what}${name}()`)
          else checkKeys(args[i], known, `${what}${name}()`)
        }
      } catch (error) {
        if (error instanceof ValidationError) return isStream ? Stream.fail(error) : Effect.fail(error)
        throw error
      }
      const result = method.apply(service, args)
      // every method of a `Raw` service returns one of the two
      return isStream
        ? Stream.mapError(result as Stream.Stream<unknown, IronflowError>, named)
        : Effect.mapError(result as Effect.Effect<unknown, IronflowError>, named)
    }
  }
  // each member that `methods` names takes and returns what it did, and fails with what `failures` says of it
  return { ...service, ...checked } as S
}
