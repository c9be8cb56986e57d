/**
 * A worker: takes runs of its functions from an engine and executes their turns. A turn executes the code of a run up
 * to its next wait or its end.
 *
 * {@link layer} runs a worker for the lifetime of a scope. The `WorkerTransport` layer connects the worker to the
 * engine. The requirements of the handlers are in the type of the layer, and are provided once for all handlers. When
 * the scope closes, the worker takes no more jobs, waits for the turns in flight, and releases the runs whose turns do
 * not end in time.
 *
 * ```ts
 * const Main = Worker.layer({ functions: [processOrder] }).pipe(
 *   Layer.provide(Payments.layer),
 *   Layer.provide(WorkerTransport.layerMemory)
 * )
 * ```
 */
import { hostname } from "node:os"
import * as Clock from "effect/Clock"
import type { ConfigError } from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { readConfigs, type ConfigOptions } from "../LayerConfig.ts"
import { formatDuration } from "../Duration.ts"
import { currentLogger } from "../EffectLogger.ts"
import type { Variables } from "../EnvironmentVariables.ts"
import { type AccessError, type ConnectionError, ValidationError } from "../Errors.ts"
import * as Alarm from "../Execution/Alarm.ts"
import { CurrentTurnProbe } from "../Execution/TurnProbe.ts"
import type { AnyFunction, FunctionRequirements } from "../Function.ts"
import type { AnyProjection, ProjectionRequirements } from "../Projection/Projection.ts"
import { makeRunner } from "../Projection/Runner.ts"
import type { ProjectionFeed } from "../Protocol/ProjectionOwners.ts"
import { toRegistrations } from "../Protocol/Registration.ts"
import { type WorkerRegistration, WorkerTransport } from "../Protocol/Worker.ts"
import { currentVariables } from "../ConfigProviderVariables.ts"
import { type ResolvedWorkerOptions, resolveWorkerOptions, type WorkerOptions } from "./Options.ts"
import { StepPace } from "./StepPace.ts"
import { Reporter, resendDelays } from "./Reporter.ts"
import { monotonicMs } from "./ServerLink.ts"
import { HeldTurns } from "./HeldTurns.ts"
import { SDK_VERSION } from "../SdkVersion.ts"

export type { WorkerOptions } from "./Options.ts"

/** A running worker. */
export interface WorkerService {
  /** The id of the worker. */
  readonly workerId: string
  /**
   * Waits until the engine has registered or refused every projection, or the worker has stopped. Refusals are
   * logged.
   */
  readonly ready: Effect.Effect<void, AccessError>
  /** The number of turns in flight. */
  readonly activeJobs: Effect.Effect<number>
  /** Whether the engine answers now. While it does not answer, turns continue and their reports wait. */
  readonly isConnected: Effect.Effect<boolean>
  /**
   * Takes no more jobs, waits for the turns in flight for at most `drainTimeout`, and then stops as
   * {@link stop} does.
   */
  readonly drain: Effect.Effect<void>
  /** Aborts the turns in flight, releases their runs to the engine, and stops. */
  readonly stop: Effect.Effect<void>
  /** Waits until the worker has stopped. Fails when it has stopped because the engine refuses its API key. */
  readonly awaitStopped: Effect.Effect<void, AccessError>
}

/** A worker that has registered its functions and takes jobs. */
export class Worker extends Context.Service<Worker, WorkerService>()("@ironflow/node/Worker") {}

/** How long a stopping worker tries to deliver its reports, in milliseconds. */
const FLUSH_TIMEOUT_MS = 5000

/**
 * Runs a worker for the lifetime of the scope, registered with the engine.
 *
 * The worker and the `logger` of its handlers log to Effect's loggers, at least at the level of
 * `IRONFLOW_LOG_LEVEL` unless `References.MinimumLogLevel` is provided. A given `logger` is for the worker alone:
 * the `logger` of handlers then writes to the console, at least at the level of `IRONFLOW_LOG_LEVEL`. Missing
 * options are read from the environment variables through the `ConfigProvider` in context.
 *
 * Fails with `ValidationError` for invalid options or functions that the engine refuses, and with
 * `UnauthenticatedError` or `UnauthorizedError` when the engine requires another API key. Closing the scope
 * drains the worker for at most `drainTimeout`, and then stops it.
 */
export const make = <
  const Functions extends ReadonlyArray<AnyFunction>,
  const Projections extends ReadonlyArray<AnyProjection> = readonly []
>(
  options: WorkerOptions<Functions, Projections>
): Effect.Effect<
  WorkerService,
  ConnectionError | ValidationError | AccessError,
  | WorkerTransport
  | FunctionRequirements<Functions[number]>
  | ProjectionRequirements<Projections[number]>
  | Scope.Scope
> =>
  Effect.gen(function* () {
    // a given logger is only for the worker itself; the handlers then write to the console, with the id of
    // their run
    const handlerLogger = options?.logger === undefined ? yield* currentLogger : undefined
    const config = yield* resolve(
      handlerLogger === undefined ? options : { ...options, logger: handlerLogger },
      yield* currentVariables
    )
    const workerId = config.workerId ?? (yield* makeWorkerId)
    const transport = yield* WorkerTransport
    const clock = yield* Clock.Clock
    const probe = yield* CurrentTurnProbe
    const context = yield* Effect.context<
      FunctionRequirements<Functions[number]> | ProjectionRequirements<Projections[number]>
    >()
    const fork = Effect.runForkWith(context)

    let refusal: AccessError | undefined
    // `true` at first, since a transport to an engine in this process reports only the end of the connection
    let isConnected = true
    const connection = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const alarm = yield* Scope.provide(Alarm.make, connection)
    const session = yield* transport
      .open(registrationOf(config, workerId, clock.currentTimeMillisUnsafe()), {
        // `turns` is set below, before these functions are called: nothing is delivered before the worker asks for jobs
        onJob: (job, isPaused) => turns.start(job, isPaused),
        onNotice: (notice) => turns.onNotice(notice),
        onRefused: (error) => {
          refusal = error
          fork(stop)
        },
        onConnected: (connected) => {
          isConnected = connected
        },
        holds: (jobId) => turns.has(jobId),
        running: (atLeastMs) => turns.runningTurns(atLeastMs)
      })
      .pipe(Scope.provide(connection))
    const reporter = new Reporter({ send: session.report, fork, logger: config.logger })
    const { eventDefinitions } = config
    const turns = new HeldTurns({
      functions: config.functions,
      reporter,
      host: {
        clock,
        alarm,
        context,
        logger: config.logger,
        workerId,
        ...(handlerLogger === undefined ? {} : { handlerLogger }),
        ...(probe === undefined ? {} : { probe }),
        ...(session.checkLeases === undefined ? {} : { mayBegin: session.checkLeases }),
        ...(session.leaseFreshness === undefined
          ? {}
          : { pace: new StepPace(() => monotonicMs(clock), session.leaseFreshness).begin }),
        ...(eventDefinitions === undefined ? {} : { eventDefinitions })
      },
      onLateStep: (runId, stepName, lingerMs) => {
        const reported = Effect.retry(session.late({ runId, stepName, lingerMs }), resendDelays)
        Fiber.runIn(fork(reported), connection)
      },
      makeRoom: session.makeRoom
    })

    const projections = yield* startProjections(config, session.projections, fork, connection)
    const stopped = yield* Deferred.make<void, AccessError>()
    // runs once: later callers wait until it has ended
    const disconnect = yield* Effect.gen(function* () {
      // the engine would not answer the reports of a refused worker
      if (refusal === undefined) {
        yield* Effect.timeoutOption(Effect.interruptible(reporter.awaitIdle), FLUSH_TIMEOUT_MS)
      }
      reporter.stop()
      isConnected = false
      yield* Scope.close(connection, Exit.void)
      yield* refusal === undefined ? Deferred.succeed(stopped, undefined) : Deferred.fail(stopped, refusal)
    }).pipe(Effect.uninterruptible, Effect.cached)

    const stop = Effect.suspend(() => {
      turns.refuseNewJobs()
      turns.abortAll(workerId)
      return Effect.andThen(projections.stop, disconnect)
    })
    const drain = Effect.suspend(() => {
      turns.refuseNewJobs()
      const drained = Effect.all([turns.awaitEmpty, projections.drain], { concurrency: 2 })
      return Effect.timeoutOption(Effect.interruptible(drained), config.drainTimeoutMs)
    }).pipe(
      Effect.tap((drained) =>
        Effect.sync(() => {
          if (Option.isSome(drained)) return
          config.logger.warn(
            `Worker ${workerId} has drained for ${formatDuration(config.drainTimeoutMs)} and stops: ` +
              (turns.size === 1
                ? "1 turn has not ended and is given back"
                : `${turns.size} turns have not ended and are given back`)
          )
        })
      ),
      Effect.andThen(stop)
    )

    yield* Effect.addFinalizer(() => drain)
    turns.requestJobs(config.maxConcurrentJobs)

    return Worker.of({
      workerId,
      ready: Effect.raceFirst(projections.registered, Deferred.await(stopped)),
      activeJobs: Effect.sync(() => turns.size),
      isConnected: Effect.sync(() => isConnected),
      drain,
      stop,
      awaitStopped: Deferred.await(stopped)
    })
  })

/** A layer with the worker that {@link make} makes, once it is ready. The worker runs as long as the layer lives. */
export const layer = <
  const Functions extends ReadonlyArray<AnyFunction>,
  const Projections extends ReadonlyArray<AnyProjection> = readonly []
>(
  options: WorkerOptions<Functions, Projections>
): Layer.Layer<
  Worker,
  ConnectionError | ValidationError | AccessError,
  WorkerTransport | FunctionRequirements<Functions[number]> | ProjectionRequirements<Projections[number]>
> =>
  Layer.effect(
    Worker,
    Effect.tap(make(options), ({ ready }) => ready)
  )

const configNames = ["maxConcurrentJobs", "environment", "workerId", "drainTimeout"] as const

/**
 * {@link WorkerOptions}, of which `maxConcurrentJobs`, `environment`, `workerId` and `drainTimeout` may be `Config`s.
 */
export type WorkerConfigOptions<
  Functions extends ReadonlyArray<AnyFunction>,
  Projections extends ReadonlyArray<AnyProjection>
> = ConfigOptions<WorkerOptions<Functions, Projections>, (typeof configNames)[number]>

/**
 * Makes a {@link layer} from `Config`s, for settings that differ between deployments:
 *
 * ```ts
 * Worker.layerConfig({
 *   functions: [processOrder],
 *   maxConcurrentJobs: Config.Int("SHOP_JOBS").pipe(Config.withDefault(10))
 * })
 * ```
 */
export const layerConfig = <
  const Functions extends ReadonlyArray<AnyFunction>,
  const Projections extends ReadonlyArray<AnyProjection> = readonly []
>(
  options: WorkerConfigOptions<Functions, Projections>
): Layer.Layer<
  Worker,
  ConnectionError | ValidationError | AccessError | ConfigError,
  WorkerTransport | FunctionRequirements<Functions[number]> | ProjectionRequirements<Projections[number]>
> =>
  Layer.unwrap(
    Effect.map(
      readConfigs<WorkerOptions<Functions, Projections>, (typeof configNames)[number]>(options, configNames),
      (configured) => layer(configured)
    )
  )

/** Runs a worker until it is stopped or drained. Interrupting the effect drains the worker. */
export const run = <
  const Functions extends ReadonlyArray<AnyFunction>,
  const Projections extends ReadonlyArray<AnyProjection> = readonly []
>(
  options: WorkerOptions<Functions, Projections>
): Effect.Effect<
  void,
  ConnectionError | ValidationError | AccessError,
  WorkerTransport | FunctionRequirements<Functions[number]> | ProjectionRequirements<Projections[number]>
> => Effect.scoped(Effect.flatMap(make(options), (worker) => worker.awaitStopped))

/** Runs the projections of the worker, each in a fiber of its own. */
const startProjections = (
  { eventDefinitions, logger, projections }: ResolvedWorkerOptions,
  feed: ProjectionFeed | undefined,
  fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
  scope: Scope.Scope
): Effect.Effect<{
  readonly registered: Effect.Effect<void>
  readonly drain: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
}> =>
  Effect.gen(function* () {
    if (projections.length > 0 && feed === undefined) {
      logger.warn(
        "The projections of this worker do not run, because its transport does not support projections"
      )
    }
    const runners = yield* Effect.forEach(feed === undefined ? [] : projections, (projection) =>
      makeRunner({ projection, feed: feed!, eventDefinitions, logger })
    )
    const fibers = runners.map(({ run }) => Fiber.runIn(fork(run), scope))
    return {
      registered: Effect.forEach(runners, ({ registered }) => registered, { discard: true }),
      // each projection finishes its current batch first
      drain: Effect.andThen(
        Effect.forEach(runners, ({ stop }) => stop, { discard: true }),
        Effect.asVoid(Fiber.awaitAll(fibers))
      ),
      stop: Effect.asVoid(Fiber.interruptAll(fibers))
    }
  })

const resolve = (
  options: WorkerOptions<ReadonlyArray<AnyFunction>, ReadonlyArray<AnyProjection>>,
  variables: Variables
): Effect.Effect<ResolvedWorkerOptions, ValidationError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(resolveWorkerOptions(options, variables))
    } catch (error) {
      if (error instanceof ValidationError) return Effect.fail(error)
      throw error
    }
  })

const makeWorkerId: Effect.Effect<string> = Effect.gen(function* () {
  const now = yield* Clock.currentTimeMillis
  const randomNumber = yield* Random.nextIntBetween(0, 36 ** 6)
  return `worker-${now.toString(36)}-${randomNumber.toString(36)}`
})

const registrationOf = (
  config: ResolvedWorkerOptions,
  workerId: string,
  startedAt: number
): WorkerRegistration => ({
  workerId,
  environment: config.environment,
  namesEnvironment: config.namesEnvironment,
  hostname: hostname(),
  functions: toRegistrations(config.functions.values()),
  maxConcurrentJobs: config.maxConcurrentJobs,
  labels: config.labels,
  version: { sdk: SDK_VERSION, runtime: `node ${process.version}` },
  startedAt,
  pauses: true
})
