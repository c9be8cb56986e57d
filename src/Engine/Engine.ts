/**
 * The engine: the event log, runs and their dispatch, timers and waits, over a {@link Store}.
 *
 * It serves clients ({@link layerClient}) and workers ({@link layerWorkerTransport}) of its own process; `Server/Server`
 * serves others.
 */
import type { Config, ConfigError } from "effect/Config"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import type { Raw } from "../Client/Named.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions } from "../Client/Streams.ts"
import { withLogLevel } from "../EffectLogger.ts"
import { resolveEnvironment } from "../Environment.ts"
import { type EngineError, StoreError, type ValidationError } from "../Errors.ts"
import type { DoctorCheck } from "../Protocol/Server.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import { currentVariables, providedOr } from "../Variables.ts"
import * as Access from "./Access/Access.ts"
import { BootstrapKey } from "./Access/BootstrapKey.ts"
import * as Operations from "./Access/Operations.ts"
import * as Management from "./Access/Management.ts"
import { servicesIn } from "./ClientServices.ts"
import * as Bulk from "./Bulk/Bulk.ts"
import * as EngineConfig from "./Config/Config.ts"
import * as EngineClient from "./EngineClient.ts"
import * as EngineLog from "./EngineLog.ts"
import * as Events from "./Events/Events.ts"
import * as Functions from "./Functions/Functions.ts"
import * as Hooks from "./Hooks/Hooks.ts"
import * as Kv from "./Kv/Kv.ts"
import * as Metrics from "./Metrics.ts"
import * as KvFeed from "./Kv/KvFeed.ts"
import * as Log from "./Log/Log.ts"
import * as Projections from "./Projections/Projections.ts"
import * as ConsumerGroups from "./PubSub/ConsumerGroups.ts"
import * as Subscriptions from "./PubSub/Subscriptions.ts"
import * as Topics from "./PubSub/Topics.ts"
import * as Push from "./Push/Push.ts"
import { makeSettings, PushSettings } from "./Push/Settings.ts"
import * as Runs from "./Runs/Runs.ts"
import * as Timers from "./Schedules/Timers.ts"
import * as Secrets from "./Secrets/Secrets.ts"
import type { BackupInfo } from "./Store/Backup.ts"
import type { Counts } from "./Store/Changes.ts"
import * as Auditor from "./Audit/Auditor.ts"
import * as Doctor from "./Doctor/Doctor.ts"
import * as Counters from "./Store/Counters.ts"
import { failWhenLost } from "./Store/Loss.ts"
import { Store, type StoreHealth } from "./Store/Store.ts"
import * as Streams from "./Streams/Streams.ts"
import * as SystemEvents from "./SystemEvents/SystemEvents.ts"
import * as Turns from "./Turns/Turns.ts"
import * as Dispatch from "./Workers/Dispatch.ts"
import * as Workers from "./Workers/Workers.ts"

/** What the engine has: a service for each of its nouns, and what is of the engine as a whole. */
export interface EngineService {
  /** What is registered. */
  readonly functions: Functions.FunctionsService
  /** Workers come and go, those of this process too. */
  readonly workers: Workers.WorkersService
  /** Reports of turns, and their leases, by the ids of jobs. */
  readonly turns: Turns.TurnsService
  /** Handlers elsewhere that are called for the turns of their functions. */
  readonly push: Push.PushService
  /** Runs: found, and told what to do. */
  readonly runs: Runs.RunsService
  /** One thing done to many runs. */
  readonly bulk: Bulk.BulkService
  /** Events and messages in the order in which they were stored. */
  readonly log: Log.LogService
  /** Entity streams. */
  readonly streams: Streams.StreamsService
  /** Buckets and their keys. */
  readonly kv: Kv.KvService
  /** Configurations. */
  readonly config: EngineConfig.Config["Service"]
  /** States and positions of projections. */
  readonly projections: Projections.ProjectionsService
  /** Messages of topics. */
  readonly topics: Topics.TopicsService
  /** Consumer groups, and what they have given up. */
  readonly consumerGroups: ConsumerGroups.ConsumerGroups["Service"]
  /** Whoever follows events and messages. */
  readonly subscriptions: Subscriptions.SubscriptionsService
  /** What happens to runs and steps, as it happens. */
  readonly systemEvents: SystemEvents.SystemEventsService
  /** Secrets, sealed under the master key. */
  readonly secrets: Secrets.SecretsService
  /** Who may do what: what a server asks before it answers. */
  readonly access: Access.AccessService
  /** Managing keys, organizations, roles and policies. */
  readonly management: Management.ManagementService
  /** What people do to functions and runs that is kept in the access log. */
  readonly operations: Operations.OperationsService
  /** The client's methods for one environment. */
  readonly client: (environment: string) => Raw<ClientApi<EffectKind>, EngineError>
  /** What has happened since the engine was started, and what is there now. */
  readonly metrics: () => EngineMetrics
  /** The same and more, as it is measured for those who watch engines. */
  readonly measured: Metrics.MetricsService
  /** How the database is. */
  readonly health: () => StoreHealth
  /** Fails when another engine is found to have taken the database over. */
  readonly lost: Effect.Effect<never, StoreError>
  /** Looks whether that has happened, without writing. */
  readonly checkOwner: Effect.Effect<void>
  /**
   * Writes all that the database has at this moment to a new file, while the engine goes on. Fails with `ValidationError` when there is
   * such a file, with `StoreError` when it cannot be written: then nothing is left of it.
   */
  readonly backup: (filename: string) => Effect.Effect<BackupInfo, StoreError | ValidationError>
  /** Whether anything is wrong with the engine, its database and its runs, of every environment, and what to do about it. */
  readonly doctor: Effect.Effect<ReadonlyArray<DoctorCheck>, StoreError>
  /** How the database is, after another try to write it if that has failed the last time. */
  readonly checkHealth: Effect.Effect<StoreHealth>
  /** The file of the database, where it is one. */
  readonly filename?: string
}

/** Numbers of one engine since its start, over all environments. */
export interface EngineMetrics extends Readonly<Counts> {
  /** Transactions that changed something. */
  readonly commits: number
  /** Workers connected now. */
  readonly workers: number
  /** Turns that they hold now. */
  readonly activeJobs: number
  /** Turns that they have room for besides. */
  readonly credit: number
  /** Calls that were refused because the condition of a policy failed. */
  readonly policyConditionFailures: number
  /** What the auditor has found in the database that a guarantee rules out. */
  readonly invariantViolations: number
}

/** The engine: all that it does, noun by noun. Programs use the services of a client instead, which `layerClient` makes of it. */
export class Engine extends Context.Service<Engine, EngineService>()("@ironflow/node/Engine") {}

/** The nouns, those below last; each hears itself of the commits that are about it. */
const nouns = Layer.mergeAll(Push.layer, Metrics.layer, EngineLog.layer).pipe(
  Layer.provideMerge(Layer.mergeAll(Timers.layer, Hooks.layer)),
  Layer.provideMerge(Workers.layer),
  Layer.provideMerge(
    Layer.mergeAll(
      Bulk.layer,
      Events.layer,
      Topics.layer,
      ConsumerGroups.layer,
      Kv.layer,
      EngineConfig.layer,
      Projections.layer,
      Streams.layer,
      Management.layer,
      Operations.layer
    )
  ),
  Layer.provideMerge(Layer.mergeAll(Runs.layer, Log.layer, Subscriptions.layer, KvFeed.layer)),
  Layer.provideMerge(Dispatch.layer),
  Layer.provideMerge(Layer.mergeAll(Secrets.layer, Functions.layer, Turns.layer)),
  Layer.provideMerge(Layer.mergeAll(Auditor.layer, Counters.layer, Access.layer, SystemEvents.layer))
)

const make: Effect.Effect<EngineService, ValidationError | StoreError, Store | Scope.Scope> = Effect.gen(
  function* () {
    const { clock } = yield* Store
    // an engine shares its nouns with no other
    const build = Layer.buildWithMemoMap(nouns, Layer.makeMemoMapUnsafe(), yield* Scope.Scope)
    const made = Effect.flatMap(build, (context) => Effect.provide(compose, context))
    return yield* clock === undefined ? made : Effect.provideService(made, Clock.Clock, clock)
  }
)

const compose = Effect.gen(function* () {
  const store = yield* Store
  const access = yield* Access.Access
  const counters = yield* Counters.Counters
  const auditor = yield* Auditor.Auditor
  const workers = yield* Workers.Workers
  return Engine.of({
    functions: yield* Functions.Functions,
    workers,
    turns: yield* Turns.Turns,
    push: yield* Push.Push,
    runs: yield* Runs.Runs,
    bulk: yield* Bulk.Bulk,
    log: yield* Log.Log,
    streams: yield* Streams.Streams,
    kv: yield* Kv.Kv,
    config: yield* EngineConfig.Config,
    projections: yield* Projections.Projections,
    topics: yield* Topics.Topics,
    consumerGroups: yield* ConsumerGroups.ConsumerGroups,
    subscriptions: yield* Subscriptions.Subscriptions,
    systemEvents: yield* SystemEvents.SystemEvents,
    secrets: yield* Secrets.Secrets,
    access,
    management: yield* Management.Management,
    operations: yield* Operations.Operations,
    client: yield* EngineClient.make,
    measured: yield* Metrics.Metrics,
    metrics: () => ({
      policyConditionFailures: access.conditionFailures,
      invariantViolations: auditor.violations(),
      ...counters.read(),
      ...workers.load()
    }),
    health: store.health,
    checkHealth: Effect.map(store.tryAgain ?? Effect.void, () => store.health()),
    lost: failWhenLost(store),
    // `lost` says it; one that cannot be read now is looked at again
    checkOwner: Effect.ignore(store.checkOwner ?? Effect.void),
    ...(store.filename === undefined ? {} : { filename: store.filename }),
    doctor: yield* Doctor.make,
    backup: store.backup ?? (() => Effect.fail(noBackup()))
  })
})

const noBackup = (): StoreError =>
  new StoreError(
    "This database is not in a file of its own: back it up with its own tools (of Postgres, `pg_dump`)"
  )

/**
 * The engine over the store in context. It logs to Effect's loggers, from `IRONFLOW_LOG_LEVEL` on unless `References.MinimumLogLevel` is
 * provided. `IRONFLOW_MASTER_KEY`, `IRONFLOW_BOOTSTRAP_KEY` and `IRONFLOW_SIGNING_KEY` come by way of the `ConfigProvider` in
 * context. Fails with `ValidationError` when the master key is not one, with `StoreError` when the
 * store cannot be read.
 */
export const layer: Layer.Layer<Engine, ValidationError | StoreError, Store> = Layer.effect(
  Engine,
  withLogLevel(make)
)

/** The keys of an engine as `Config`s; by default the variables that {@link layer} names. */
export interface EngineConfigOptions {
  /** 32 bytes in base64 or hex that secrets are sealed with. */
  readonly masterKey?: Config<Redacted.Redacted<string>>
  /** An API key of your choice that the engine has from the beginning. */
  readonly bootstrapKey?: Config<Redacted.Redacted<string>>
  /** What requests to push endpoints are signed with. */
  readonly signingKey?: Config<Redacted.Redacted<string>>
}

/** {@link layer} by `Config`s, for keys under names of your own: `Engine.layerConfig({ masterKey: Config.Redacted("SHOP_KEY") })`. */
export const layerConfig = (
  options: EngineConfigOptions = {}
): Layer.Layer<Engine, ValidationError | StoreError | ConfigError, Store> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { bootstrapKey, masterKey, signingKey } = options
      const push = yield* providedOr(PushSettings, (variables) => makeSettings({}, variables))
      const given = Layer.mergeAll(
        masterKey === undefined ? Layer.empty : Layer.succeed(Secrets.MasterKey, yield* masterKey),
        bootstrapKey === undefined ? Layer.empty : Layer.succeed(BootstrapKey, yield* bootstrapKey),
        signingKey === undefined
          ? Layer.empty
          : Layer.succeed(PushSettings, { ...push, signingKey: yield* signingKey })
      )
      return Layer.provide(layer, given)
    })
  )

/** The client for the engine in context; `environment` is `IRONFLOW_ENV` or `default` unless given. */
export const layerClientIn = (
  environment?: string,
  options?: ReadingOptions
): Layer.Layer<ClientServices, never, Engine> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const engine = yield* Engine
      // what a provider cannot say is not for each program to handle that asks for no setting
      const variables = yield* Effect.orDie(currentVariables)
      return servicesIn(engine, resolveEnvironment(environment, variables), options)
    })
  )

/** The client for the engine in context, in the environment `IRONFLOW_ENV` or `default`. */
export const layerClient: Layer.Layer<ClientServices, never, Engine> = Layer.unwrap(
  Effect.sync(() => layerClientIn())
)

/** Connects workers of this process to the engine in context, without sockets. */
export const layerWorkerTransport: Layer.Layer<WorkerTransport, never, Engine> = Layer.effect(
  WorkerTransport,
  Effect.map(Engine, (engine) => WorkerTransport.of({ open: engine.workers.connect }))
)
