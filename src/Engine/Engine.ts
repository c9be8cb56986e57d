/**
 * The engine: the event log, runs and their dispatch, timers and waits, over a {@link Store}.
 *
 * It serves clients ({@link layerClient}) and workers ({@link layerWorkerTransport}) of its own process; `Http/Server`
 * serves others.
 */
import * as Clock from "effect/Clock"
import type { Config, ConfigError } from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { AuditEvent, ClientApi, EffectKind, Run, RunStep, TopicInfo } from "../Client/Client.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions, ReadStreamOptions, UntypedStreams } from "../Client/Streams.ts"
import { withLogLevel } from "../EffectLogger.ts"
import { resolveEnvironment } from "../Environment.ts"
import {
  ConnectionError,
  type EngineError,
  LimitExceededError,
  type StoreError,
  ValidationError
} from "../Errors.ts"
import type { Raw } from "../Client/Named.ts"
import * as Limits from "../Limits.ts"
import type { TurnUpdate } from "../Protocol/Push.ts"
import {
  type FunctionRegistration,
  type Notice,
  type TurnAck,
  type TurnReport,
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession,
  WorkerTransport
} from "../Protocol/Worker.ts"
import * as Alarm from "../Execution/Alarm.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import { checkTrigger } from "../Trigger.ts"
import { currentVariables, providedOr } from "../Variables.ts"
import {
  type Access,
  BootstrapKey,
  bootstrapKeyIn,
  type Caller,
  make as makeAccess,
  putBootstrapKey
} from "./Access/Access.ts"
import * as Management from "./Access/Management.ts"
import { servicesIn } from "./ClientServices.ts"
import type { KVBucketInfo, UntypedKv } from "../Client/Kv.ts"
import { Dispatch, type RemoteSession, type RemoteWorkerOptions, registrationLength } from "./Dispatch.ts"
import { checkRegistration as checkedRegistration } from "./Http/FunctionConfigs.ts"
import { type EndpointInfo, PushEndpoints } from "./Push/Endpoints.ts"
import { makeSettings, PushSettings } from "./Push/Settings.ts"
import * as ConsumerGroups from "./ConsumerGroups.ts"
import * as EngineClient from "./EngineClient.ts"
import * as EngineConfig from "./EngineConfig.ts"
import * as EngineKv from "./EngineKv.ts"
import { KvFeed } from "./KvFeed.ts"
import { RunEndings } from "./RunEndings.ts"
import type { Page, PageQuery } from "./Pages.ts"
import * as Projections from "./Projections.ts"
import * as Retention from "./Retention.ts"
import { MasterKey, masterKeyIn, Secrets, type SecretsService } from "./Secrets/Secrets.ts"
import type { Seen } from "./Store/Activity.ts"
import {
  addCounts,
  type Counts,
  type LogBackQuery,
  type LogPage,
  noCounts,
  Store,
  type StoreHealth,
  type StoreService
} from "./Store/Store.ts"
import * as EngineStreams from "./Streams.ts"
import { connect, type ConnectionOptions } from "./Subscriptions/Connection.ts"
import { announceConfig, announceStates } from "./Subscriptions/StateEvents.ts"
import { Subscriptions } from "./Subscriptions/Subscriptions.ts"
import { SystemEvents } from "./Subscriptions/SystemEvents.ts"
import * as Timers from "./Timers.ts"

export interface EngineService {
  /** The client's methods for one environment. */
  readonly client: (environment: string) => Raw<ClientApi<EffectKind>, EngineError>
  /** A part of the steps of a run. */
  readonly stepsPage: (
    environment: string,
    runId: string,
    page: PageQuery
  ) => Effect.Effect<Page<RunStep>, EngineError>
  /** A part of the record of a run. */
  readonly auditPage: (
    environment: string,
    runId: string,
    page: PageQuery
  ) => Effect.Effect<Page<AuditEvent>, EngineError>
  /** A part of the topics of one environment. */
  readonly topicsPage: (environment: string, page: PageQuery) => Effect.Effect<Page<TopicInfo>, StoreError>
  /** A part of the buckets of one environment. */
  readonly bucketsPage: (
    environment: string,
    page: PageQuery
  ) => Effect.Effect<Page<KVBucketInfo>, StoreError>
  /** A run once it has ended; `undefined` when it had not when `giveUp` called its listener. */
  readonly awaitEnd: (
    environment: string,
    runId: string,
    giveUp: EngineClient.GiveUp
  ) => Effect.Effect<Run | undefined, EngineError>
  /** Entity streams of one environment. */
  readonly streams: (
    environment: string,
    options?: EngineStreams.EngineReadingOptions
  ) => Raw<UntypedStreams, EngineError>
  /** Events of an entity with the runs that they started. Fails with `StreamNotFoundError`. */
  readonly entityHistory: (
    environment: string,
    entityId: string,
    options: ReadStreamOptions
  ) => Effect.Effect<EngineStreams.EntityHistory, EngineError>
  /**
   * Registers a worker of this process and its functions; the worker gets runs until the scope ends. Fails with
   * `ValidationError` when a worker with this id is connected already or a trigger is not acceptable.
   */
  readonly connectWorker: (
    registration: WorkerRegistration,
    handlers: WorkerHandlers
  ) => Effect.Effect<WorkerSession, ConnectionError | ValidationError, Scope.Scope>
  /**
   * Registers a worker outside this process and its functions. The caller ends the session. Fails with
   * `ValidationError` when a worker with this id is connected already or a trigger is not acceptable.
   */
  readonly connectRemoteWorker: (
    registration: WorkerRegistration,
    handlers: WorkerHandlers,
    options: RemoteWorkerOptions
  ) => Effect.Effect<RemoteSession, ValidationError | StoreError>
  /** The key-value store of one environment. */
  readonly kv: (environment: string) => Raw<UntypedKv, EngineError>
  /** The keys of a bucket with their values as they are stored. */
  readonly storedKeys: (environment: string, bucket: string) => EngineKv.StoredKeys
  /** The configurations of one environment. */
  readonly config: (environment: string) => EngineConfig.EngineConfigService
  /** The name of the event that has started a run; `undefined` for one that was invoked. */
  readonly eventName: (environment: string, runId: string) => Effect.Effect<string | undefined, StoreError>
  /** The environment of a run, whichever it is; `undefined` when there is no such run. */
  readonly environmentOfRun: (runId: string) => Effect.Effect<string | undefined, StoreError>
  /** A page of the log of events and messages, newest first. */
  readonly readLogBack: (query: LogBackQuery) => Effect.Effect<LogPage, StoreError>
  /** What workers and clients ask about projections. */
  readonly projections: Projections.ProjectionsService
  /** Looking after the consumer groups of one environment. */
  readonly consumerGroups: (environment: string) => ConsumerGroups.EngineConsumerGroups
  /** Managing the secrets of one environment. */
  readonly secrets: (environment: string) => SecretsService
  /** Who may do what: what a server asks before it answers. */
  readonly access: Access
  /** Managing keys, organizations, roles and policies, as a caller from outside or as the process of the engine. */
  readonly manageAccess: (environment: string, caller?: Caller) => Management.Management
  /** Makes sure that the key in `IRONFLOW_BOOTSTRAP_KEY` is there. */
  readonly putBootstrapKey: Effect.Effect<void, ValidationError | StoreError>
  /** Adds functions or replaces their configuration. `ValidationError` when a trigger is not acceptable. */
  readonly registerFunctions: (
    environment: string,
    functions: ReadonlyArray<FunctionRegistration>
  ) => Effect.Effect<void, ValidationError | StoreError>
  /** A function as lists show it. */
  readonly getFunction: StoreService["getFunction"]
  readonly countFunctions: StoreService["countFunctions"]
  /** Throws `LimitExceededError` when there is no such environment, and no room for another. */
  readonly checkEnvironment: (environment: string) => void
  /** A function as it was last registered. */
  readonly findFunction: (environment: string, functionId: string) => FunctionRegistration | undefined
  /** Handlers elsewhere that are called for the turns of their functions. */
  readonly push: PushService
  /**
   * Applies reports of turns whoever sends them: the job id is the right to do so, in the environment if one is given.
   */
  readonly applyReports: (
    reports: ReadonlyArray<TurnReport>,
    environment?: string
  ) => Effect.Effect<ReadonlyArray<TurnAck>, StoreError>
  /** Extends leases, in the environment if one is given; returns the job ids whose lease is gone. */
  readonly extendLeases: (
    jobIds: ReadonlyArray<string>,
    leaseMs: number,
    environment?: string
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Counts what was refused before it came to the store. */
  readonly countStale: (what: "staleReports" | "staleRenewals") => void
  /** Calls `listener` with what happens to runs, as it is committed; returns the way to stop that. */
  readonly observe: (listener: (activity: ReadonlyArray<Seen>) => void) => () => void
  /**
   * Serves a subscription client at the other end of the wire. What is returned asks the guard again about every subscription,
   * and throws what it throws.
   */
  readonly subscribe: (environment: string, wire: Wire, options?: ConnectionOptions) => () => void
  /** The one place where an area says that something has happened: see `Subscriptions/SystemEvents.ts`. */
  readonly announce: SystemEvents["announce"]
  /** What has happened since the engine was started, and what is there now. */
  readonly metrics: () => EngineMetrics
  /** Unfinished runs that nothing will ever move: always 0 (guarantee G2), see `Store/Stuck.ts`. Reads every unfinished run. */
  readonly countStuckRuns: Effect.Effect<number, StoreError>
  /** How the database is. */
  readonly health: () => StoreHealth
  /** Fails when another engine is found to have taken the database over. */
  readonly lost: Effect.Effect<never, StoreError>
  /** Looks whether that has happened, without writing. */
  readonly checkOwner: Effect.Effect<void>
}

/** Push endpoints: registered by their URL, they are called until they are removed. */
export interface PushService {
  /**
   * Asks the handler at the URL for its functions and registers them. Fails with `ValidationError` when the URL or a
   * function is not acceptable, with code `ENDPOINT_UNAVAILABLE` when the handler does not answer.
   */
  readonly register: (
    environment: string,
    url: string,
    /** Throws an `IronflowError` for functions that are not to be registered. */
    check?: (functions: ReadonlyArray<FunctionRegistration>) => void
  ) => Effect.Effect<ReadonlyArray<FunctionRegistration>, EngineError>
  readonly list: (environment: string) => ReadonlyArray<EndpointInfo>
  /** Calls the endpoint no more; says whether it was there. */
  readonly remove: (environment: string, url: string) => Effect.Effect<boolean, ValidationError | StoreError>
  /** What the handler of a live turn reports and asks. The job id is the right to do so, in the environment if one is given. */
  readonly update: (
    jobId: string,
    update: TurnUpdate,
    environment?: string
  ) => Effect.Effect<{ readonly ack: TurnAck; readonly notices: ReadonlyArray<Notice> }, StoreError>
}

/** Numbers of one engine since its start, over all environments. */
export interface EngineMetrics extends Readonly<Counts> {
  /** Transactions that changed something. */
  readonly commits: number
  /** Workers connected now. */
  readonly workers: number
  /** Turns that they hold now. */
  readonly activeJobs: number
  /** Calls that were refused because the condition of a policy failed. */
  readonly policyConditionFailures: number
}

export class Engine extends Context.Service<Engine, EngineService>()("@ironflow/node/Engine") {}

const make: Effect.Effect<EngineService, ValidationError | StoreError, Store | Scope.Scope> = Effect.gen(
  function* () {
    const store = yield* Store
    const clock = yield* Clock.Clock
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const secrets = yield* makeSecrets(store)
    const access = yield* makeAccess(store)
    const system = new SystemEvents(() => clock.currentTimeMillisUnsafe())
    const alarm = yield* Alarm.make
    const after = yield* Alarm.makeAfter
    const counts = noCounts()
    const subscriptions = new Subscriptions({
      store,
      system,
      clock,
      alarm,
      run: runFork,
      head: yield* store.endOfLog(),
      countStaleAck: () => void counts.staleAcks++
    })
    const dispatch = new Dispatch(store, secrets, runFork)
    const endings = new RunEndings()
    const projections = Projections.make(store)

    const kv = { store, feed: new KvFeed() }
    const detach = kv.feed.attach(store)
    yield* Effect.addFinalizer(() => Effect.sync(detach))

    let last: { readonly environment: string; readonly client: EngineClient.EngineClient } | undefined
    const clientOf = (environment: string): EngineClient.EngineClient => {
      // most calls are for the same one
      if (last?.environment !== environment) {
        const client = EngineClient.make({ after, store, dispatch, endings, subscriptions }, environment)
        last = { environment, client }
      }
      return last.client
    }
    const timers = yield* Timers.make(store)
    let commits = 0
    const stop = store.onCommit((changes) => {
      commits++
      addCounts(counts, changes.counts)
      for (const { workerId, notice } of changes.notices) dispatch.notify(workerId, notice)
      for (const runId of changes.ended) endings.announce(runId)
      for (const warning of changes.warnings) runFork(Effect.logWarning(warning))
      projections.committed(changes)
      subscriptions.groupsChanged(changes.groups)
      for (const change of changes.states) announceStates(system, change)
      for (const change of changes.configs) announceConfig(system, change)
      if (changes.dueAt < Number.POSITIVE_INFINITY) timers.arm(changes.dueAt)
      // who may have a run may be somebody else now
      if (changes.ready || changes.access.length > 0) dispatch.poke()
      if (changes.logEnd > 0) subscriptions.advance(changes.logEnd)
    })
    const stopWatching = store.observe((activity) => system.announceRuns(activity), { runsOnly: true })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        stopWatching()
        subscriptions.closeAll()
      })
    )
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    const announceWorker = (
      { environment, workerId }: WorkerRegistration,
      what: "connected" | "disconnected"
    ): Effect.Effect<void> =>
      Effect.sync(() =>
        system.announce(
          environment,
          `system.worker.${workerId}.${what}`,
          () => ({ id: workerId, status: what }),
          undefined,
          { action: "worker:read", resource: `worker:${workerId}` }
        )
      )
    const announceFunctions = (
      environment: string,
      functions: ReadonlyArray<FunctionRegistration>
    ): Effect.Effect<void> =>
      Effect.sync(() => {
        for (const { id, name } of functions) {
          system.announce(environment, `system.function.${id}.registered`, () => ({ id, name }), undefined, {
            action: "function:read",
            resource: `function:${id}`
          })
        }
      })

    const registerFunctionsOf = ({ environment, functions, startedAt, workerId }: WorkerRegistration) =>
      Effect.flatMap(store.registerFunctions(environment, functions, startedAt), (standing) =>
        standing.length === 0
          ? Effect.void
          : Effect.logInfo(
              `Worker ${workerId} has another version of ${standing.map((id) => `"${id}"`).join(", ")} than a worker that was started later; the later one stands`
            )
      )
    const scope = yield* Scope.Scope
    const connectRemote = (
      registration: WorkerRegistration,
      handlers: WorkerHandlers,
      options: RemoteWorkerOptions
    ) =>
      Effect.gen(function* () {
        yield* checkRegistration(registration, dispatch, store)
        yield* registerFunctionsOf(registration)
        yield* announceFunctions(registration.environment, registration.functions)
        // another one may have come while the functions were stored
        yield* checkId(registration.workerId, dispatch)
        const session = dispatch.connectRemote(registration, handlers, {
          ...options,
          connectedAt: clock.currentTimeMillisUnsafe()
        })
        yield* announceWorker(registration, "connected")
        return {
          ...session,
          close: (lost: boolean) =>
            Effect.andThen(session.close(lost), announceWorker(registration, "disconnected"))
        }
      })
    const registerFunctions = (environment: string, functions: ReadonlyArray<FunctionRegistration>) =>
      Effect.gen(function* () {
        yield* checkFunctions(environment, functions, store)
        yield* store.registerFunctions(environment, functions)
        yield* announceFunctions(environment, functions)
        yield* push.sync
      })
    const push = new PushEndpoints({
      store,
      settings: yield* providedOr(PushSettings, (variables) => makeSettings({}, variables)),
      clock,
      after,
      fork: (effect) => Fiber.runIn(runFork(effect), scope),
      connect: connectRemote,
      registerFunctions,
      applyReports: (reports, environment, options) => dispatch.applyReports(reports, environment, options),
      checkRegistration: checkedRegistration
    })
    yield* Effect.addFinalizer(() => push.close)
    // what fires at start finds the listener in place
    timers.start()
    yield* Retention.make(store, () => subscriptions.activeGroups)
    yield* Effect.catch(push.sync, (error) =>
      Effect.logError("The push endpoints could not be opened: their runs wait", error)
    )

    return Engine.of({
      access,
      manageAccess: (environment, caller) => Management.make({ store, access }, environment, caller),
      putBootstrapKey: putBootstrapKey(store, yield* providedOr(BootstrapKey, bootstrapKeyIn)),
      client: (environment) => clientOf(environment).api,
      stepsPage: (environment, runId, page) => clientOf(environment).stepsPage(runId, page),
      auditPage: (environment, runId, page) => clientOf(environment).auditPage(runId, page),
      topicsPage: (environment, page) => clientOf(environment).topicsPage(page),
      bucketsPage: (environment, page) => EngineKv.listBuckets(kv, environment, page),
      awaitEnd: (environment, runId, giveUp) => clientOf(environment).awaitEnd(runId, giveUp),
      entityHistory: (environment, entityId, options) =>
        EngineStreams.readHistory(store, environment, entityId, options),
      streams: (environment, options) => EngineStreams.make({ store, dispatch }, environment, options),
      connectWorker: (registration, handlers) =>
        Effect.gen(function* () {
          yield* checkRegistration(registration, dispatch, store)
          yield* Effect.mapError(
            registerFunctionsOf(registration),
            (error) =>
              new ConnectionError(`The engine could not store the functions: ${error.message}`, {
                cause: error
              })
          )
          yield* announceFunctions(registration.environment, registration.functions)
          yield* Effect.mapError(push.sync, (error) => new ConnectionError(error.message, { cause: error }))
          const session = yield* Effect.acquireRelease(
            // another one may have come while the functions were stored
            Effect.andThen(
              checkId(registration.workerId, dispatch),
              Effect.sync(() =>
                dispatch.connect(registration, handlers, {
                  transport: "memory",
                  connectedAt: clock.currentTimeMillisUnsafe()
                })
              ).pipe(Effect.tap(() => announceWorker(registration, "connected")))
            ),
            () =>
              Effect.andThen(
                Effect.catch(dispatch.disconnect(registration.workerId, false), (error) =>
                  // nothing is lost: the leases are taken back when the database is opened again
                  Effect.logWarning(
                    `The runs of worker ${registration.workerId} could not be given back`,
                    error
                  )
                ),
                announceWorker(registration, "disconnected")
              )
          )
          return {
            credit: (n) => session.credit(n),
            report: (reports) => session.report(reports),
            late: (late) => session.late(late),
            projections: projections.feed(registration.environment, registration.workerId)
          }
        }),
      connectRemoteWorker: (registration, handlers, options) =>
        // what it has registered may have been an endpoint's before
        Effect.tap(connectRemote(registration, handlers, options), () => push.sync),
      registerFunctions,
      push: {
        register: (environment, url, check) => push.register(environment, url, check),
        list: (environment) => push.list(environment),
        remove: (environment, url) => push.remove(environment, url),
        update: (jobId, update, environment) => push.update(jobId, update, environment)
      },
      kv: (environment) => EngineKv.make(kv, environment),
      storedKeys: (environment, bucket) => EngineKv.storedKeys(kv, environment, bucket),
      config: (environment) => EngineConfig.make(kv, environment),
      eventName: store.getEventName,
      environmentOfRun: store.environmentOfRun,
      readLogBack: store.readLogBack,
      projections,
      consumerGroups: (environment) => ConsumerGroups.make({ store, subscriptions }, environment),
      secrets: (environment) =>
        secrets.in(environment, (name, action) =>
          system.announce(
            environment,
            `system.secret.${name}.${action}`,
            () => ({ name, action }),
            undefined,
            {
              action: "secret:read",
              resource: `secret:${name}`
            }
          )
        ),
      subscribe: (environment, wire, options) => connect(subscriptions, environment, wire, options),
      announce: (environment, topic, data, length) => system.announce(environment, topic, data, length),
      findFunction: store.findFunction,
      getFunction: store.getFunction,
      countFunctions: store.countFunctions,
      checkEnvironment: store.checkEnvironment,
      applyReports: (reports, environment) => dispatch.applyReports(reports, environment),
      extendLeases: (jobIds, leaseMs, environment) =>
        store.extendLeases(jobIds, leaseMs, undefined, environment),
      countStale: (what) => void counts[what]++,
      observe: (listener) => store.observe(listener),
      metrics: () => ({
        policyConditionFailures: access.conditionFailures,
        ...counts,
        commits,
        ...dispatch.load
      }),
      countStuckRuns: Effect.suspend(() => store.countStuckRuns((workerId) => dispatch.holder(workerId))),
      health: store.health,
      lost: Effect.callback((resume) => store.onLost((error) => resume(Effect.fail(error)))),
      // `lost` says it; one that cannot be read now is looked at again
      checkOwner: Effect.ignore(store.checkOwner ?? Effect.void)
    })
  }
)

const checkRegistration = (
  registration: WorkerRegistration,
  dispatch: Dispatch,
  store: StoreService
): Effect.Effect<void, ValidationError> =>
  Effect.andThen(
    checkId(registration.workerId, dispatch),
    Effect.andThen(
      checkFunctions(registration.environment, registration.functions, store),
      checkRoom(registration, dispatch)
    )
  )

/** Everything that a worker says about itself is kept as long as it is there. */
const checkRoom = (
  registration: WorkerRegistration,
  dispatch: Dispatch
): Effect.Effect<void, ValidationError> =>
  accepting(() => {
    const { hostname, labels, version, workerId } = registration
    const whose = `of worker "${workerId}"`
    Limits.checkLength(`The hostname ${whose}`, hostname, Limits.nameLength)
    Limits.checkLength(`The version ${whose}`, `${version.sdk} ${version.runtime}`, Limits.expressionLength)
    Limits.checkEntries(`The list of labels ${whose}`, labels)
    Limits.checkSize(`The labels ${whose}`, JSON.stringify(labels), Limits.metadataBytes)
    const all = dispatch.registeredLength + registrationLength(registration)
    if (all > Limits.connectedBytes) {
      throw new LimitExceededError(
        "What all connected workers have registered together (stop some of them, or give each fewer functions)",
        all,
        Limits.connectedBytes,
        "characters"
      )
    }
  })

/** Bad input throws `ValidationError`, which becomes the failure; anything else is a bug. */
const accepting = (check: () => void): Effect.Effect<void, ValidationError> =>
  Effect.suspend(() => {
    try {
      check()
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
    return Effect.void
  })

const checkId = (workerId: string, dispatch: Dispatch): Effect.Effect<void, ValidationError> =>
  Effect.suspend(() =>
    dispatch.has(workerId)
      ? Effect.fail(
          new ValidationError(`A worker with id "${workerId}" is connected already: ids are one worker's own`)
        )
      : Effect.void
  )

const checkFunctions = (
  environment: string,
  functions: ReadonlyArray<FunctionRegistration>,
  store: StoreService
): Effect.Effect<void, ValidationError> =>
  accepting(() => {
    Limits.checkFunctionCount(functions)
    let all = 0
    for (const fn of functions) {
      const what = `Function "${fn.id}" as it is registered`
      all += Limits.checkSize(what, JSON.stringify(fn), Limits.functionBytes).length
      for (const [i, trigger] of fn.triggers.entries())
        checkTrigger(trigger, `Trigger ${i} of function "${fn.id}"`)
    }
    if (all > Limits.registrationBytes) {
      throw new LimitExceededError(
        "The registration of all functions of one worker",
        all,
        Limits.registrationBytes,
        "characters"
      )
    }
    store.checkRoom(environment, functions)
  })

const makeSecrets = (store: StoreService): Effect.Effect<Secrets, ValidationError> =>
  Effect.flatMap(providedOr(MasterKey, masterKeyIn), (masterKey) => {
    try {
      return Effect.succeed(new Secrets(store, masterKey))
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
  })

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
        masterKey === undefined ? Layer.empty : Layer.succeed(MasterKey, yield* masterKey),
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
  Effect.map(Engine, (engine) => WorkerTransport.of({ open: engine.connectWorker }))
)
