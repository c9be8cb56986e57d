/**
 * Wraps the services of a client, for both APIs and every transport. The wrapped methods refuse misspelled
 * options, and fail only with the errors that their types declare.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type IronflowError, ValidationError } from "../Errors.ts"
import { checkKeys, type KnownKeys } from "../OptionKeys.ts"
import { ApiKeys, type ApiKeysApi, apiKeysMethods } from "./ApiKeys.ts"
import { Client, type ClientApi, clientMethods, type EffectKind } from "./Client.ts"
import { Config, configMethods, type ConfigService, configWatch } from "./Config.ts"
import { ConsumerGroups, type ConsumerGroupsApi, consumerGroupsMethods } from "./ConsumerGroups.ts"
import { typedStreams } from "./EntityStreams.ts"
import {
  Kv,
  type KvApi,
  type KvBucket,
  kvBucketMethods,
  kvBucketWatch,
  kvMethods,
  type UntypedKv
} from "./Kv.ts"
import type { AnyMethods, Check, StreamMethods } from "./Methods.ts"
import { clientErrorTags, narrowErrors, type Raw } from "./NarrowErrors.ts"
import { Orgs, type OrgsApi, orgsMethods } from "./Orgs.ts"
import { Policies, type PoliciesApi, policiesMethods } from "./Policies.ts"
import {
  Projections,
  projectionsMethods,
  type ProjectionsService,
  projectionsUpdates
} from "./Projections.ts"
import { PushEndpoints, type PushEndpointsApi, pushEndpointsMethods } from "./PushEndpoints.ts"
import { Roles, type RolesApi, rolesMethods } from "./Roles.ts"
import { Secrets, type SecretsApi, secretsMethods } from "./Secrets.ts"
import type { ClientServices } from "./Services.ts"
import { streamEvents, streamMethods, Streams, type UntypedStreams } from "./Streams.ts"
import { Subscriptions } from "./Subscriptions.ts"
import { typedKv } from "./TypedBucket.ts"

/** The services before they are wrapped. */
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

const subscriptionStreams: StreamMethods<Subscriptions["Service"]> = {
  // a copy of `subscribeKeys`: importing the original would bring its whole module into the bundles of clients
  stream: [
    [
      null,
      {
        replay: true,
        includeMetadata: true,
        filter: true,
        consumerGroup: true,
        ackMode: true,
        ackWait: true,
        backpressure: true,
        buffer: { maxBytes: true },
        namespace: true,
        eventDefinitions: true
      }
    ],
    { SubscriptionError: true, ClosedError: true }
  ]
}

/** Wraps all services of a client. */
export const checkedServices = (raw: RawServices): Context.Context<ClientServices> =>
  Context.make(Client, wrap<ClientApi<EffectKind>>("", raw.client, clientMethods)).pipe(
    Context.add(
      Streams,
      typedStreams(wrap<UntypedStreams>("streams.", raw.streams, streamMethods, streamEvents))
    ),
    Context.add(
      Kv,
      typedKv({
        ...wrap<KvApi<EffectKind>>("kv.", raw.kv, kvMethods),
        bucket: (name) => wrap<KvBucket>("kv.bucket.", raw.kv.bucket(name), kvBucketMethods, kvBucketWatch)
      })
    ),
    Context.add(Config, wrap<ConfigService>("config.", raw.config, configMethods, configWatch)),
    Context.add(
      Projections,
      wrap<ProjectionsService>("projections.", raw.projections, projectionsMethods, projectionsUpdates)
    ),
    Context.add(
      PushEndpoints,
      wrap<PushEndpointsApi<EffectKind>>("pushEndpoints.", raw.pushEndpoints, pushEndpointsMethods)
    ),
    Context.add(
      Subscriptions,
      wrap<Subscriptions["Service"]>("subscriptions.", raw.subscriptions, {}, subscriptionStreams)
    ),
    Context.add(
      ConsumerGroups,
      wrap<ConsumerGroupsApi<EffectKind>>("consumerGroups.", raw.consumerGroups, consumerGroupsMethods)
    ),
    Context.add(ApiKeys, wrap<ApiKeysApi<EffectKind>>("apiKeys.", raw.apiKeys, apiKeysMethods)),
    Context.add(Orgs, wrap<OrgsApi<EffectKind>>("orgs.", raw.orgs, orgsMethods)),
    Context.add(Policies, wrap<PoliciesApi<EffectKind>>("policies.", raw.policies, policiesMethods)),
    Context.add(Roles, wrap<RolesApi<EffectKind>>("roles.", raw.roles, rolesMethods)),
    Context.add(Secrets, wrap<SecretsApi<EffectKind>>("secrets.", raw.secrets, secretsMethods))
  )

/** The error for an argument that is `null`. */
const nullArgument = (
  method: string,
  expected: KnownKeys | readonly [KnownKeys] | Check
): ValidationError => {
  if (Array.isArray(expected)) return new ValidationError(`${method} needs an array, got null`)
  if (typeof expected === "function" && "example" in expected) {
    return new ValidationError(`${method} needs an object such as ${expected.example}, got null`)
  }
  const keys = Object.keys(typeof expected === "function" ? expected.known : expected)
  return new ValidationError(
    `${method} needs an object that may have ${keys.map((key) => `\`${key}\``).join(", ")}, got null: ` +
      "leave this argument out, or give an object"
  )
}

type Method = (...args: Array<unknown>) => unknown

/**
 * Wraps a service. `methods` is the table of the methods that return an `Effect`, and `streams` the table of the
 * methods that return a `Stream`. `prefix` stands before the name of a method in messages.
 */
const wrap = <S extends object>(
  prefix: string,
  service: object,
  methods: AnyMethods,
  streams: AnyMethods = {}
): S => {
  const wrappedMethods: Record<string, Method> = {}
  for (const [name, [argumentKeys, errorTags]] of Object.entries({ ...methods, ...streams })) {
    const method = (service as Record<string, Method>)[name]!
    const narrowError = narrowErrors({ ...clientErrorTags, ...errorTags })
    const isStream = Object.hasOwn(streams, name)
    wrappedMethods[name] = (...args) => {
      try {
        for (let i = 0; i < argumentKeys.length; i++) {
          const keysOrCheck = argumentKeys[i]!
          if (keysOrCheck === null) continue
          if (args[i] === null) throw nullArgument(`${prefix}${name}()`, keysOrCheck)
          if (typeof keysOrCheck === "function") keysOrCheck(args[i], `${prefix}${name}()`)
          else checkKeys(args[i], keysOrCheck, `${prefix}${name}()`)
        }
      } catch (error) {
        if (error instanceof ValidationError) return isStream ? Stream.fail(error) : Effect.fail(error)
        throw error
      }
      const result = method.apply(service, args)
      // every method in `streams` returns a `Stream`, and every other one an `Effect`
      return isStream
        ? Stream.mapError(result as Stream.Stream<unknown, IronflowError>, narrowError)
        : Effect.mapError(result as Effect.Effect<unknown, IronflowError>, narrowError)
    }
  }
  // the wrapped methods have the arguments, results and errors of `S`: the tables list the errors that `S` declares
  return { ...service, ...wrappedMethods } as S
}
