/** The services of a client, which refuse options that are misspelled: one place for both faces, wherever the calls go. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { ValidationError } from "../Errors.ts"
import { bucketOptionKeys } from "../KvValue.ts"
import { checkKeys, type Keys, type Known } from "../OptionKeys.ts"
import { checkAppendAllKeys, checkAppendKeys } from "../Protocol/AppendKeys.ts"
import type { BufferConfig } from "../Protocol/Subscriptions.ts"
import { ApiKeys, type ApiKeysApi } from "./ApiKeys.ts"
import { type CallOptions, Client, type ClientApi, type EffectKind } from "./Client.ts"
import { typedStreams } from "./EntityStreams.ts"
import { Config, type ConfigApi, type ConfigService } from "./Config.ts"
import { ConsumerGroups, type ConsumerGroupsApi } from "./ConsumerGroups.ts"
import { Kv, type KvApi, type KvBucket, type KvBucketApi, type KvService } from "./Kv.ts"
import { Orgs, type OrgsApi } from "./Orgs.ts"
import { Policies, type PoliciesApi } from "./Policies.ts"
import { Projections, type ProjectionsApi, type ProjectionsService } from "./Projections.ts"
import { PushEndpoints, type PushEndpointsApi } from "./PushEndpoints.ts"
import { Roles, type RolesApi } from "./Roles.ts"
import { Secrets, type SecretsApi } from "./Secrets.ts"
import type { ClientServices } from "./Services.ts"
import { type EffectStreamKind, Streams, type UntypedStreamsApi } from "./Streams.ts"
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

const call = { signal: true } satisfies Keys<CallOptions>
const byId = [null, call] as const

const emit = { ...call, version: true, idempotencyKey: true, metadata: true } as const

const clientKeys: MethodKeys<ClientApi<EffectKind>> = {
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

const streamsKeys: MethodKeys<Omit<UntypedStreamsApi<EffectKind, EffectStreamKind>, "events">> = {
  append: [null, checkAppendKeys, { ...append, version: true, metadata: true }],
  appendAll: [null, checkAppendAllKeys, append],
  read: [null, { ...read, limit: true }],
  getInfo: byId,
  findInfo: byId,
  listStreams: [{ ...call, entityType: true, limit: true, offset: true }],
  createSnapshot: [null, { entityType: true, entityVersion: true, state: true }, call],
  getSnapshot: [null, { ...call, beforeVersion: true }]
}
const eventsKeys: MethodKeys<Pick<UntypedStreamsApi<EffectKind, EffectStreamKind>, "events">> = {
  events: [null, { ...read, pageSize: true }]
}

const kvKeys: MethodKeys<KvApi<EffectKind>> = {
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
const bucketKeys: MethodKeys<KvBucketApi<EffectKind>> = {
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

const configKeys: MethodKeys<ConfigApi<EffectKind>> = {
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

const projectionsKeys: MethodKeys<ProjectionsApi<EffectKind>> = {
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

const consumerGroupsKeys: MethodKeys<ConsumerGroupsApi<EffectKind>> = {
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

const pushEndpointsKeys: MethodKeys<PushEndpointsApi<EffectKind>> = {
  register: byId,
  list: [call],
  remove: byId
}

const apiKeysKeys: MethodKeys<ApiKeysApi<EffectKind>> = {
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
const orgsKeys: MethodKeys<OrgsApi<EffectKind>> = {
  create: [{ name: true }, call],
  list: [call],
  get: byId,
  update: [null, { name: true }, call],
  delete: byId
}
const rolesKeys: MethodKeys<RolesApi<EffectKind>> = {
  create: [{ name: true, org_id: true }, call],
  list: byId,
  get: byId,
  update: [null, { name: true }, call],
  delete: byId,
  assignPolicy: [null, null, call],
  removePolicy: [null, null, call]
}
const policy = { name: true, effect: true, actions: true, resources: true, condition: true } as const
const policiesKeys: MethodKeys<PoliciesApi<EffectKind>> = {
  create: [{ ...policy, org_id: true }, call],
  list: byId,
  get: byId,
  update: [null, policy, call],
  delete: byId
}
const secretsKeys: MethodKeys<SecretsApi<EffectKind>> = {
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

/** The same services, whose methods look at the keys of their options first. */
export const checkedServices = (
  services: Context.Context<ClientServices>
): Context.Context<ClientServices> => {
  const effects = <S extends object>(what: string, service: S, keys: ArgumentKeys): S =>
    checking(what, service, keys, Effect.fail)
  const streams = <S extends object>(what: string, service: S, keys: ArgumentKeys): S =>
    checking(what, service, keys, Stream.fail)
  const of = <I extends ClientServices, S>(key: Context.Key<I, S>): S => Context.get(services, key)

  const kv = effects("kv.", of(Kv), kvKeys)
  const bucket: KvService["bucket"] = (name, options) => {
    checkKeys(options, bucketOptionKeys, "kv.bucket()")
    const typed = of(Kv).bucket(name, options)
    return streams("kv.bucket.", effects("kv.bucket.", typed, bucketKeys), bucketWatchKeys)
  }
  return Context.make(Client, effects("", of(Client), clientKeys)).pipe(
    Context.add(
      Streams,
      typedStreams(streams("streams.", effects("streams.", of(Streams), streamsKeys), eventsKeys))
    ),
    Context.add(Kv, { ...kv, bucket }),
    Context.add(Config, streams("config.", effects("config.", of(Config), configKeys), configWatchKeys)),
    Context.add(
      Projections,
      streams(
        "projections.",
        effects("projections.", of(Projections), projectionsKeys),
        projectionUpdatesKeys
      )
    ),
    Context.add(PushEndpoints, effects("pushEndpoints.", of(PushEndpoints), pushEndpointsKeys)),
    Context.add(Subscriptions, streams("subscriptions.", of(Subscriptions), subscriptionsKeys)),
    Context.add(ConsumerGroups, effects("consumerGroups.", of(ConsumerGroups), consumerGroupsKeys)),
    Context.add(ApiKeys, effects("apiKeys.", of(ApiKeys), apiKeysKeys)),
    Context.add(Orgs, effects("orgs.", of(Orgs), orgsKeys)),
    Context.add(Policies, effects("policies.", of(Policies), policiesKeys)),
    Context.add(Roles, effects("roles.", of(Roles), rolesKeys)),
    Context.add(Secrets, effects("secrets.", of(Secrets), secretsKeys))
  )
}

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

type Method = (...args: Array<unknown>) => unknown

const checking = <S extends object>(
  what: string,
  service: S,
  methods: ArgumentKeys,
  fail: (error: ValidationError) => unknown
): S => {
  const checked: Record<string, Method> = {}
  for (const [name, keys] of Object.entries(methods)) {
    const method = (service as unknown as Record<string, Method>)[name]!
    checked[name] = (...args) => {
      try {
        for (const [i, known] of keys.entries()) {
          if (known === null) continue
          if (args[i] === null) throw notOptions(`${what}${name}()`, known)
          if (typeof known === "function") known(args[i], `${what}${name}()`)
          else checkKeys(args[i], known, `${what}${name}()`)
        }
      } catch (error) {
        if (error instanceof ValidationError) return fail(error)
        throw error
      }
      return method.apply(service, args)
    }
  }
  // each member that `methods` names takes and returns what it did
  return { ...service, ...checked } as S
}
