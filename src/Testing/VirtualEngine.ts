/** An engine in memory and its workers, on virtual time. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Run } from "../Client/Client.ts"
import { validated } from "../CheckAsEffect.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ReadingOptions } from "../Client/Streams.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { resolveEnvironment } from "../EnvironmentVariables.ts"
import * as Engine from "../Engine/Engine.ts"
import { clientIn, servicesIn, wireTo } from "../Engine/ClientServices.ts"
import { MasterKey, type SecretsOfEnvironment } from "../Engine/Secrets/Secrets.ts"
import { RunRetention } from "../Engine/Runs/RunSweep.ts"
import * as SqliteStore from "../Engine/SqliteStore.ts"
import { Store } from "../Engine/Store/Store.ts"
import { type NondeterminismError, type StoreError, TimeoutError, ValidationError } from "../Errors.ts"
import type { TestError } from "./TestError.ts"
import { CurrentTurnProbe } from "../Execution/TurnProbe.ts"
import type { AnyFunction, FunctionRequirements } from "../Function.ts"
import { isObject } from "../Json.ts"
import { withFailureHandlers } from "../OnFailure.ts"
import { type Logger, resolveLogger } from "../Logger.ts"
import { checkKeys, type Keys, withoutUnknownKeys } from "../OptionKeys.ts"
import type { AnyProjection, ProjectionRequirements } from "../Projection/Projection.ts"
import { layerLogger } from "../Promise/EngineLogs.ts"
import type { RunHistory } from "../Protocol/History.ts"
import type { Wire } from "../Protocol/Subscriptions.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import { isTerminal } from "../RunStatus.ts"
import { show, showMs } from "../Show.ts"
import { workerKeys } from "../Worker/Options.ts"
import * as Worker from "../Worker/Worker.ts"
import { withReplays } from "./ReplayEveryStep.ts"
import * as RealTime from "./RealTime.ts"
import { type RepeatedSteps, repeatingProbe } from "./RepeatedSteps.ts"
import { testClock } from "./TestClock.ts"
import * as VirtualTime from "./VirtualTime.ts"
import * as History from "../Engine/Runs/History.ts"

/** Options of a test engine. */
export interface TestEngineOptions<
  Functions extends ReadonlyArray<AnyFunction> = ReadonlyArray<AnyFunction>,
  Projections extends ReadonlyArray<AnyProjection> = ReadonlyArray<AnyProjection>
> extends Partial<Worker.WorkerOptions<Functions, Projections>> {
  /**
   * The logger of the engine and of the worker; `false` logs nothing. By default the engine logs to Effect's loggers, and
   * the worker logs nothing.
   */
  readonly logger?: Logger | false
  /** The initial time; 2030-01-01 by default. */
  readonly startAt?: Date | string
  /** The master key: 32 bytes in base64 or hex. By default a fixed key for tests. */
  readonly masterKey?: string
  /**
   * Replays the handler from the journal after every step. A divergence fails the first of these calls: `runToEnd` of
   * the run, `runToEnd` of a run that has invoked it, `advance`, `settle` or `runUntilIdle`.
   */
  readonly replayEveryStep?: boolean
  /** Runs the code of every step once more after it has succeeded. The value says which of the two results counts. */
  readonly repeatSteps?: RepeatedSteps
}

const testEngineKeys = {
  ...workerKeys,
  startAt: true,
  masterKey: true,
  replayEveryStep: true,
  repeatSteps: true
} satisfies Keys<TestEngineOptions>

/** Options of `runToEnd`. */
export interface RunToEndOptions {
  /** Maximum virtual time that may pass; 365 days by default. */
  readonly within?: Duration
}

/** A test engine on virtual time. */
export interface TestEngineService {
  /** The current virtual time. */
  readonly now: Effect.Effect<Date>
  /** Advances virtual time, from one due time to the next. Waits until everything has come to rest. */
  readonly advance: (duration: Duration) => Effect.Effect<void, TestError>
  /** Waits until everything has come to rest, without advancing time. */
  readonly settle: Effect.Effect<void, TestError>
  /**
   * Advances time until the run has ended, and returns the run. Fails with `TimeoutError` when the run is paused, or
   * has not ended when everything that is due within the limit has happened. The message says what the run waits for.
   */
  readonly runToEnd: (runId: string, options?: RunToEndOptions) => Effect.Effect<Run, TestError>
  /** Advances time until every run has ended or is paused, or nothing more is due within the limit. */
  readonly runUntilIdle: (options?: RunToEndOptions) => Effect.Effect<void, TestError>
  /** The recorded history of a run: store it as JSON, and pass it to `verify` with changed functions. */
  readonly history: (runId: string) => Effect.Effect<RunHistory, TestError>
  /** The number of unfinished runs that nothing will resume. If it is not 0, the engine has a bug. */
  readonly countStuckRuns: Effect.Effect<number, StoreError>
  /** The secrets of the engine. */
  readonly secrets: SecretsOfEnvironment
  /** Starts another worker. Closing the scope aborts the turns of the worker. */
  readonly startWorker: <
    const Functions extends ReadonlyArray<AnyFunction>,
    const Projections extends ReadonlyArray<AnyProjection> = readonly []
  >(
    options: Worker.WorkerOptions<Functions, Projections>
  ) => Effect.Effect<
    Worker.WorkerService,
    TestError,
    HandlerRequirements<Functions, Projections> | Scope.Scope
  >
}

/** The requirements of handlers, without the services that a test engine provides. */
export type HandlerRequirements<
  Functions extends ReadonlyArray<AnyFunction>,
  Projections extends ReadonlyArray<AnyProjection>
> = Exclude<
  FunctionRequirements<Functions[number]> | ProjectionRequirements<Projections[number]>,
  ClientServices
>

/** The engine of a test, with its virtual time. */
export class TestEngine extends Context.Service<TestEngine, TestEngineService>()(
  "@ironflow/node/TestEngine"
) {}

/** What the Promise API needs to use a test engine. */
export class TestConnection extends Context.Service<
  TestConnection,
  {
    readonly environment: string
    /** The services of a client, on the caller's clock. */
    readonly services: (environment: string, options?: ReadingOptions) => Context.Context<ClientServices>
    readonly wire: (environment: string) => Wire
    readonly transport: (typeof WorkerTransport)["Service"]
    /** The clock of the engine and its clients. */
    readonly clock: Clock.Clock
    readonly workerClock: Clock.Clock
    /**
     * Lets a minute of virtual time pass, and does not wait until everything has come to rest. For code that waits in a
     * loop until something has ended.
     */
    readonly passMinute: Effect.Effect<void>
  }
>()("@ironflow/node/TestConnection") {}

const defaultStart = Date.UTC(2030, 0, 1)
const testKey = "00".repeat(32)

/**
 * Makes an engine in memory, a worker for the functions and projections, and a client of the engine; all on
 * virtual time.
 */
export const makeVirtual = <
  const Functions extends ReadonlyArray<AnyFunction> = [],
  const Projections extends ReadonlyArray<AnyProjection> = []
>(
  options: TestEngineOptions<Functions, Projections>,
  store: Layer.Layer<Store, StoreError | ValidationError> = SqliteStore.layer({ filename: ":memory:" })
): Effect.Effect<
  Context.Context<TestEngine | TestConnection | ClientServices>,
  TestError,
  HandlerRequirements<Functions, Projections> | Scope.Scope
> =>
  Effect.gen(function* () {
    yield* RealTime.ensureReal("The engine of a test")
    yield* validated(() => checkKeys(options, testEngineKeys, "The test engine", options.logger))
    const { functions, masterKey, projections, repeatSteps, replayEveryStep, startAt, ...workerOptions } =
      withoutUnknownKeys(options, testEngineKeys)
    const start = startAt === undefined ? defaultStart : new Date(startAt).getTime()
    if (Number.isNaN(start)) {
      return yield* Effect.fail(
        new ValidationError(
          `\`startAt\` must be a \`Date\` or a text with a date, such as 2030-01-01, got ${show(startAt)}`
        )
      )
    }
    const clocks = VirtualTime.makeClocks(start)
    const onVirtualTime = Effect.provideService(Clock.Clock, clocks.clock)
    const environment = resolveEnvironment(options.environment)
    // without a `logger` the engine logs to Effect's loggers
    const logs =
      options.logger === undefined ? Layer.empty : layerLogger(resolveLogger(options.logger, "[ironflow]"))
    const builtServices = yield* Layer.build(
      Engine.layer.pipe(
        Layer.provideMerge(store),
        Layer.provide(Layer.succeed(MasterKey, Redacted.make(masterKey ?? testKey))),
        // no run is deleted: a test that advances a year may inspect runs that ended on the way
        Layer.provide(Layer.succeed(RunRetention, EffectDuration.infinity)),
        Layer.provide(logs)
      )
    ).pipe(onVirtualTime)
    const engine = Context.get(builtServices, Engine.Engine)
    /** Environments whose workers run projections. */
    const projectingEnvironments = new Set<string>()
    const isProjecting = Effect.suspend(() =>
      Effect.map(
        Effect.forEach(projectingEnvironments, (environment) =>
          engine.projections.client(environment).list()
        ),
        (lists) =>
          // a projection without an owner waits for a worker, and a projection that is going to retry an event sleeps:
          // neither is busy
          lists.flat().some(({ lag, owner, status }) => {
            const isWaiting =
              status === "paused" || (status === "error" && Number.isFinite(clocks.nextWorkerWake()))
            return owner !== undefined && lag > 0 && !isWaiting
          })
      )
    )
    let replays = 0
    const time = VirtualTime.make(
      clocks,
      engine,
      Context.get(builtServices, Store),
      isProjecting,
      () => replays > 0
    )

    const functionsById = new Map<string, AnyFunction>()
    /** The first divergence of each run. */
    const divergences = new Map<string, NondeterminismError>()
    /** Divergences that no call has reported yet. */
    const unreportedDivergences = new Set<NondeterminismError>()
    const directTransport = WorkerTransport.of({
      open: (registration, handlers) =>
        Effect.map(Effect.provide(engine.workers.connect(registration, handlers), logs), (session) => {
          const { projections: feed } = session
          if (feed === undefined) return session
          const claim: typeof feed.claim = (projection, waitMs) => {
            projectingEnvironments.add(registration.environment)
            return feed.claim(projection, waitMs)
          }
          return { ...session, projections: { ...feed, claim } }
        })
    })
    const transport =
      replayEveryStep === true
        ? withReplays(directTransport, {
            functionOf: (id) => functionsById.get(id),
            onBegin: () => void replays++,
            onEnd: () => void replays--,
            onDivergence: (runId, error) => {
              if (divergences.has(runId)) return
              divergences.set(runId, error)
              unreportedDivergences.add(error)
            }
          })
        : directTransport
    const services = withClock(
      servicesIn(engine, environment, { eventDefinitions: options.eventDefinitions }),
      clocks.clock
    )
    const startWorker: TestEngineService["startWorker"] = (given) =>
      Effect.suspend(() => {
        for (const fn of withFailureHandlers(given.functions)) functionsById.set(fn.config.id, fn)
        return Worker.make({ environment, logger: false, ...given }).pipe(
          // the worker stops at once: a step may still wait for time, which no longer passes
          Effect.tap((worker) =>
            Effect.andThen(
              Effect.addFinalizer(() => worker.stop),
              worker.ready
            )
          ),
          Effect.provideService(WorkerTransport, transport),
          Effect.provideContext(services),
          Effect.provideService(
            CurrentTurnProbe,
            repeatSteps === undefined ? undefined : repeatingProbe(repeatSteps)
          ),
          Effect.provideService(Clock.Clock, clocks.workerClock)
        )
      })
    if (functions !== undefined || projections !== undefined) {
      yield* startWorker({
        ...workerOptions,
        functions: functions ?? [],
        ...(projections === undefined ? {} : { projections })
      })
    }

    const client = clientIn(engine, environment)
    const failWithDivergence = (error: NondeterminismError): Effect.Effect<never, NondeterminismError> => {
      unreportedDivergences.delete(error)
      return Effect.fail(error)
    }
    /** Runs `self`, and then fails with a divergence that no call has reported yet, if there is one. */
    const thenReportDivergence = <A, E>(
      self: Effect.Effect<A, E>
    ): Effect.Effect<A, E | NondeterminismError> =>
      Effect.flatMap(self, (value) => {
        const [error] = unreportedDivergences
        return error === undefined ? Effect.succeed(value) : failWithDivergence(error)
      })
    /** Fails with the divergence of the run, or of a run that it has invoked. */
    const checkRun = (runId: string): Effect.Effect<void, TestError> =>
      Effect.forEach(
        divergences,
        Effect.fnUntraced(function* ([diverged, error]) {
          for (let ancestor: string | undefined = diverged; ancestor !== undefined;) {
            if (ancestor === runId) return yield* failWithDivergence(error)
            ancestor = (yield* client.getRun(ancestor)).parentRunId
          }
        }),
        { discard: true }
      )
    const advance = (ms: number) => onVirtualTime(thenReportDivergence(time.advance(ms)))
    const latestTime = (options: RunToEndOptions = {}) => {
      checkKeys(options, { within: true } satisfies Keys<RunToEndOptions>, "The test engine")
      return clocks.clock.currentTimeMillisUnsafe() + positiveDuration(options.within ?? "365d", "`within`")
    }

    const runToEnd: TestEngineService["runToEnd"] = (runId, options) =>
      Effect.gen(function* () {
        const limit = latestTime(options)
        while (true) {
          yield* time.settle
          yield* checkRun(runId)
          const run = yield* client.getRun(runId)
          if (isTerminal(run.status)) return run
          if (run.status !== "paused" && (yield* time.advanceToNext(limit))) continue
          const { message } = yield* client.explain(runId)
          return yield* Effect.fail(
            new TimeoutError(
              `Run ${runId} does not end by itself within ${typeof options?.within === "number" ? showMs(options.within) : (options?.within ?? "365d")} of virtual time. ${message}`,
              positiveDuration(options?.within ?? "365d", "`within`")
            )
          )
        }
      }).pipe(onVirtualTime)

    const runUntilIdle: TestEngineService["runUntilIdle"] = (options) =>
      Effect.gen(function* () {
        const limit = latestTime(options)
        do yield* thenReportDivergence(time.settle)
        while ((yield* hasUnfinishedRuns) && (yield* time.advanceToNext(limit)))
        yield* thenReportDivergence(Effect.void)
      }).pipe(onVirtualTime)
    const hasUnfinishedRuns = Effect.map(
      Effect.forEach(["pending", "running", "waiting", "compensating"] as const, (status) =>
        client.listRuns({ status, limit: 1 })
      ),
      (pages) => pages.some(({ totalCount }) => totalCount > 0)
    )

    const connection = TestConnection.of({
      environment,
      services: (environment, options) => servicesIn(engine, environment, options),
      wire: (environment) => wireTo(engine, environment),
      transport,
      clock: clocks.clock,
      workerClock: clocks.workerClock,
      passMinute: Effect.suspend(() => clocks.passTo(clocks.clock.currentTimeMillisUnsafe() + 60_000)).pipe(
        (pass) => Effect.ignore(Effect.andThen(time.settle, pass))
      )
    })
    return Context.merge(
      Context.add(services, TestConnection, connection),
      Context.make(
        TestEngine,
        TestEngine.of({
          now: Effect.map(time.now, (ms) => new Date(ms)),
          advance: (duration) =>
            Effect.suspend(() => advance(positiveDuration(duration, "duration of advance()"))),
          settle: thenReportDivergence(time.settle),
          history: (runId) => Context.get(builtServices, Store).read(History.readHistory(environment, runId)),
          runToEnd,
          runUntilIdle,
          countStuckRuns: engine.runs.countStuck,
          secrets: engine.secrets.in(environment),
          startWorker
        })
      ).pipe(
        // the test uses the engine's time from here on, whichever clock it used before
        Context.add(Clock.Clock, testClock(clocks.testsClock, yield* Clock.Clock, advance)),
        Context.add(Scheduler.Scheduler, RealTime.scheduler)
      )
    )
  }).pipe(Effect.provideService(Scheduler.Scheduler, RealTime.scheduler))

/** Returns the services with methods that use `clock`, and not the clock of the caller. */
const withClock = <R>(services: Context.Context<R>, clock: Clock.Clock): Context.Context<R> =>
  Context.makeUnsafe(
    new Map(Array.from(services.mapUnsafe, ([key, service]) => [key, bindToClock(service, clock)]))
  )

/**
 * Binds a part of a client, or the result of a call, to this clock. Values that use no clock are returned
 * unchanged.
 */
const bindToClock = (part: unknown, clock: Clock.Clock): unknown => {
  if (Effect.isEffect(part)) return Effect.provideService(part, Clock.Clock, clock)
  if (Stream.isStream(part)) return Stream.provideService(part, Clock.Clock, clock)
  if (typeof part === "function") {
    return (...args: ReadonlyArray<unknown>): unknown => bindToClock(part(...args), clock)
  }
  if (!isObject(part)) return part
  return Object.fromEntries(Object.entries(part).map(([name, member]) => [name, bindToClock(member, clock)]))
}
