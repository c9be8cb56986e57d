/**
 * The engine: the event log, runs and their dispatch, timers and waits, over a {@link Store}.
 *
 * It serves clients ({@link layerClient}) and workers ({@link layerWorkerTransport}) in its own process. `Server/Server.ts` serves
 * clients and workers in other processes.
 */
import type { Config, ConfigError } from "effect/Config"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import type { Raw } from "../Client/NarrowErrors.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions } from "../Client/Streams.ts"
import { withLogLevel } from "../EffectLogger.ts"
import { resolveEnvironment } from "../EnvironmentVariables.ts"
import { type EngineError, StoreError, type ValidationError } from "../Errors.ts"
import type { DoctorCheck } from "../Protocol/Server.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import { currentVariables, providedOr } from "../ConfigProviderVariables.ts"
import * as Access from "./Access/Access.ts"
import { BootstrapKey } from "./Access/BootstrapKey.ts"
import * as Operations from "./Access/LoggedOperations.ts"
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
import { makeSettings, PushSettings } from "./Push/PushSettings.ts"
import * as Runs from "./Runs/Runs.ts"
import * as Timers from "./Schedules/Timers.ts"
import * as Secrets from "./Secrets/Secrets.ts"
import type { BackupInfo } from "./Store/Backup.ts"
import type { Counts } from "./Store/Changes.ts"
import * as GuaranteeCheck from "./Guarantees/GuaranteeCheck.ts"
import * as Doctor from "./Doctor/Doctor.ts"
import * as Counters from "./Store/Counters.ts"
import { failWhenLost } from "./Store/FailWhenLost.ts"
import { Store, type StoreHealth, timeOf } from "./Store/Store.ts"
import * as Streams from "./Streams/Streams.ts"
import * as SystemEvents from "./SystemEvents/SystemEvents.ts"
import * as Turns from "./Turns/Turns.ts"
import * as Dispatch from "./Workers/Dispatch.ts"
import * as Workers from "./Workers/Workers.ts"

/** The parts of the engine: a service for each area, and what concerns the engine as a whole. */
export interface EngineService {
  /** Registered functions. */
  readonly functions: Functions.FunctionsService
  /** Connected workers, including those of this process. */
  readonly workers: Workers.WorkersService
  /** Reports from workers about the turns that they run, and renewals of the leases of these turns, by job id. */
  readonly turns: Turns.TurnsService
  /** Push endpoints: remote handlers that are called for the turns of their functions. */
  readonly push: Push.PushService
  /** Reading and controlling runs. */
  readonly runs: Runs.RunsService
  /** Bulk operations on many runs. */
  readonly bulk: Bulk.BulkService
  /** Events and messages, in the order in which they were stored. */
  readonly log: Log.LogService
  /** Entity streams. */
  readonly streams: Streams.StreamsService
  /** Buckets and their keys. */
  readonly kv: Kv.KvService
  /** Configurations. */
  readonly config: EngineConfig.Config["Service"]
  /** States and positions of projections. */
  readonly projections: Projections.ProjectionsService
  /** Topics and their messages. */
  readonly topics: Topics.TopicsService
  /** Consumer groups, and their dead letters. */
  readonly consumerGroups: ConsumerGroups.ConsumerGroups["Service"]
  /** Subscriptions to events and messages. */
  readonly subscriptions: Subscriptions.SubscriptionsService
  /** System events: what happens in the engine, at the time when it happens. */
  readonly systemEvents: SystemEvents.SystemEventsService
  /** Secrets, sealed under the master key. */
  readonly secrets: Secrets.SecretsService
  /** Permissions. A server checks them before it answers. */
  readonly access: Access.AccessService
  /** Management of keys, organizations, roles and policies. */
  readonly management: Management.ManagementService
  /** The operations on functions and runs that the access log records. */
  readonly operations: Operations.LoggedOperationsService
  /**
   * The current time, in epoch milliseconds, by the clock that all engines on the database share, or else by the clock of this
   * machine.
   */
  readonly time: Effect.Effect<number>
  /** The client's methods for one environment. */
  readonly client: (environment: string) => Raw<ClientApi<EffectKind>, EngineError>
  /** Counts since the engine started, and current numbers. */
  readonly metrics: () => EngineMetrics
  /** The metrics for monitoring. They include the numbers of {@link metrics}. */
  readonly measured: Metrics.MetricsService
  /** The state of the database, as far as the engine has noticed it. */
  readonly health: () => StoreHealth
  /**
   * Never succeeds. Fails when the store has stopped for good: another engine has taken the database over, the tables have become
   * too new for this engine, or the disk has refused a sync.
   */
  readonly lost: Effect.Effect<never, StoreError>
  /** Checks without writing whether another engine has taken the database over. If so, {@link lost} fails. */
  readonly checkOwner: Effect.Effect<void>
  /**
   * Writes a backup of the current database to a new file, while the engine goes on. Fails with `ValidationError` when the file
   * exists already. Fails with `StoreError` when the database is not a file, or when the new file cannot be written; a partial new
   * file is removed.
   */
  readonly backup: (filename: string) => Effect.Effect<BackupInfo, StoreError | ValidationError>
  /** Checks the engine, its database and its runs, in every environment, and says what to do about problems. */
  readonly doctor: Effect.Effect<ReadonlyArray<DoctorCheck>, StoreError>
  /** The state of the database, like {@link health}. If the last write failed, tries to write first. */
  readonly checkHealth: Effect.Effect<StoreHealth>
  /** The file of the database. Absent when the database is not a file. */
  readonly filename?: string
}

/** Counts of one engine since its start, and current numbers, over all environments. */
export interface EngineMetrics extends Readonly<Counts> {
  /** Transactions that changed something. */
  readonly commits: number
  /** Workers connected now. */
  readonly workers: number
  /** Turns that the connected workers hold now. */
  readonly activeJobs: number
  /** How many more turns the connected workers have room for. */
  readonly credit: number
  /** Calls that were refused because the condition of a policy failed. */
  readonly policyConditionFailures: number
  /** How many violations of guarantees were found in the database. */
  readonly invariantViolations: number
}

/** The engine with all its parts. Programs use the services of a client instead, which `layerClient` makes from it. */
export class Engine extends Context.Service<Engine, EngineService>()("@ironflow/node/Engine") {}

/**
 * The parts of the engine. The parts on a line need the parts on the lines below. Each part listens to the commits that concern it.
 */
const parts = Layer.mergeAll(Push.layer, Metrics.layer, EngineLog.layer).pipe(
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
  Layer.provideMerge(Layer.mergeAll(GuaranteeCheck.layer, Counters.layer, Access.layer, SystemEvents.layer))
)

const make: Effect.Effect<EngineService, ValidationError | StoreError, Store | Scope.Scope> = Effect.gen(
  function* () {
    const { clock } = yield* Store
    // a memo map of its own, because an engine shares its parts with no other engine
    const build = Layer.buildWithMemoMap(parts, Layer.makeMemoMapUnsafe(), yield* Scope.Scope)
    const built = Effect.flatMap(build, (context) => Effect.provide(compose, context))
    return yield* clock === undefined ? built : Effect.provideService(built, Clock.Clock, clock)
  }
)

const compose = Effect.gen(function* () {
  const store = yield* Store
  const access = yield* Access.Access
  const counters = yield* Counters.Counters
  const guarantees = yield* GuaranteeCheck.GuaranteeCheck
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
    operations: yield* Operations.LoggedOperations,
    client: yield* EngineClient.make,
    measured: yield* Metrics.Metrics,
    metrics: () => ({
      policyConditionFailures: access.conditionFailures,
      invariantViolations: guarantees.violations(),
      ...counters.read(),
      ...workers.load()
    }),
    health: store.health,
    checkHealth: Effect.map(store.tryAgain ?? Effect.void, () => store.health()),
    time: timeOf(store),
    lost: failWhenLost(store),
    // errors are ignored, because `lost` reports a takeover, and callers check again when the database could not be read
    checkOwner: Effect.ignore(store.checkOwner ?? Effect.void),
    ...(store.filename === undefined ? {} : { filename: store.filename }),
    doctor: yield* Doctor.make,
    backup: store.backup ?? (() => Effect.fail(noBackup()))
  })
})

const noBackup = (): StoreError =>
  new StoreError(
    "The database of this engine is not a file: back it up with its own tools (for Postgres, `pg_dump`)"
  )

/**
 * The engine over the store in context. It logs to Effect's loggers. The lowest level that it logs is `References.MinimumLogLevel`
 * if that is provided, and otherwise `IRONFLOW_LOG_LEVEL`. `IRONFLOW_MASTER_KEY`, `IRONFLOW_BOOTSTRAP_KEY` and
 * `IRONFLOW_SIGNING_KEY` are read from the `ConfigProvider` in context. Fails with `ValidationError` when the master key is invalid,
 * and with `StoreError` when the store cannot be read.
 */
export const layer: Layer.Layer<Engine, ValidationError | StoreError, Store> = Layer.effect(
  Engine,
  withLogLevel(make)
)

/** The keys of an engine as `Config`s. A key that is not given is read from the variable that {@link layer} names for it. */
export interface EngineConfigOptions {
  /** The key that seals secrets: 32 bytes in base64 or hex. */
  readonly masterKey?: Config<Redacted.Redacted<string>>
  /** An API key of your choice that exists from the start of the engine. */
  readonly bootstrapKey?: Config<Redacted.Redacted<string>>
  /** The key that signs requests to push endpoints. */
  readonly signingKey?: Config<Redacted.Redacted<string>>
}

/**
 * {@link layer} with keys from variables of other names, given as `Config`s:
 * `Engine.layerConfig({ masterKey: Config.Redacted("SHOP_KEY") })`.
 */
export const layerConfig = (
  options: EngineConfigOptions = {}
): Layer.Layer<Engine, ValidationError | StoreError | ConfigError, Store> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const { bootstrapKey, masterKey, signingKey } = options
      const push = yield* providedOr(PushSettings, (variables) => makeSettings({}, variables))
      const givenKeys = Layer.mergeAll(
        masterKey === undefined ? Layer.empty : Layer.succeed(Secrets.MasterKey, yield* masterKey),
        bootstrapKey === undefined ? Layer.empty : Layer.succeed(BootstrapKey, yield* bootstrapKey),
        signingKey === undefined
          ? Layer.empty
          : Layer.succeed(PushSettings, { ...push, signingKey: yield* signingKey })
      )
      return Layer.provide(layer, givenKeys)
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
      // dies, because a program that reads no settings itself should not have to handle a failing `ConfigProvider`
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
