/**
 * The real engine in memory, on virtual time: retries, waits, cron and concurrency as they are, in milliseconds.
 *
 * ```ts
 * const Test = Testing.layer({ functions: [processOrder] })
 *
 * const program = Effect.gen(function* () {
 *   const client = yield* Client.Client
 *   const engine = yield* Testing.TestEngine
 *   const { runIds } = yield* client.emit("order.placed", { orderId: "o-1" })
 *   yield* engine.advance("7d")
 * }).pipe(Effect.provide(Test))
 * ```
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { isTerminal, type Run } from "../Client/Client.ts"
import type { ClientServices } from "../Client/Services.ts"
import { type Duration, positiveDuration } from "../Duration.ts"
import { resolveEnvironment } from "../Environment.ts"
import * as Engine from "../Engine/Engine.ts"
import { servicesIn } from "../Engine/ClientServices.ts"
import { MasterKey, type SecretsService } from "../Engine/Secrets.ts"
import * as Sqlite from "../Engine/Store/Sqlite.ts"
import { Store } from "../Engine/Store/Store.ts"
import {
  type IronflowError,
  type NondeterminismError,
  type StoreError,
  TimeoutError,
  ValidationError
} from "../Errors.ts"
import { CurrentTurnProbe } from "../Execution/TurnProbe.ts"
import type { AnyFunction, FunctionRequirements } from "../Function.ts"
import { isObject } from "../Json.ts"
import type { RunHistory } from "../Protocol/History.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import * as Worker from "../Worker/Worker.ts"
import { replayingEveryStep } from "./EveryStep.ts"
import { type RepeatedSteps, repeating } from "./RepeatedSteps.ts"
import * as VirtualTime from "./VirtualTime.ts"

export type { RepeatedSteps } from "./RepeatedSteps.ts"
export type { RunHistory } from "../Protocol/History.ts"
export type { Divergence, StepName } from "./Replay.ts"
export { type FaultOptions, layerFaultyHttpClient, layerFaultyWorkerTransport } from "./Faults.ts"
export { verifyEffect as verify } from "./Verify.ts"

export interface TestEngineOptions<
  Functions extends ReadonlyArray<AnyFunction> = ReadonlyArray<AnyFunction>
> extends Partial<Worker.WorkerOptions<Functions>> {
  /** What the clock shows at first; 2030-01-01 by default. */
  readonly startAt?: Date | string
  /** 32 bytes in base64 or hex; a key of the test by default, so that secrets work. */
  readonly masterKey?: string
  /** Runs the handler again from the journal after every step; a difference fails what waits for the run. */
  readonly replayEveryStep?: boolean
  /** Runs the code of every step twice, and says which result counts. */
  readonly repeatSteps?: RepeatedSteps
}

export interface RunToEndOptions {
  /** How much virtual time may pass at most; 365 days by default. */
  readonly within?: Duration
}

export interface TestEngineService {
  /** The time that the engine and its functions see. */
  readonly now: Effect.Effect<Date>
  /** Lets virtual time pass, from one due time to the next. Waits until nothing moves by itself any more. */
  readonly advance: (duration: Duration) => Effect.Effect<void, IronflowError>
  /** Waits until nothing moves by itself any more, without letting time pass. */
  readonly settle: Effect.Effect<void, IronflowError>
  /**
   * Lets as much time pass as the run needs to end, and returns it. Fails with `TimeoutError` when nothing is due that
   * could move it, or not within the time allowed; the message says what it waits for.
   */
  readonly runToEnd: (runId: string, options?: RunToEndOptions) => Effect.Effect<Run, IronflowError>
  /** Lets as much time pass as it takes until every run has ended or is paused. */
  readonly runUntilIdle: (options?: RunToEndOptions) => Effect.Effect<void, IronflowError>
  /** What is recorded of a run: keep it as JSON, and give it to `verify` with changed functions. */
  readonly history: (runId: string) => Effect.Effect<RunHistory, IronflowError>
  /** Unfinished runs that nothing will ever move: there must be none. */
  readonly countStuckRuns: Effect.Effect<number, StoreError>
  readonly secrets: SecretsService
  /** One more worker, until the scope closes. */
  readonly startWorker: <const Functions extends ReadonlyArray<AnyFunction>>(
    options: Worker.WorkerOptions<Functions>
  ) => Effect.Effect<
    Worker.WorkerService,
    IronflowError,
    FunctionRequirements<Functions[number]> | Scope.Scope
  >
}

/** The engine of a test, and its time. */
export class TestEngine extends Context.Service<TestEngine, TestEngineService>()(
  "@ironflow/node/TestEngine"
) {}

const defaultStart = Date.UTC(2030, 0, 1)
const testKey = "00".repeat(32)

/** An engine in memory with a worker for the functions, and a client of it; all on virtual time. */
export const make = <const Functions extends ReadonlyArray<AnyFunction> = []>(
  options: TestEngineOptions<Functions>
): Effect.Effect<
  Context.Context<TestEngine | ClientServices>,
  IronflowError,
  FunctionRequirements<Functions[number]> | Scope.Scope
> =>
  Effect.gen(function* () {
    const { functions, masterKey, repeatSteps, replayEveryStep, startAt, ...workerOptions } = options
    const start = startAt === undefined ? defaultStart : new Date(startAt).getTime()
    if (Number.isNaN(start)) {
      return yield* Effect.fail(new ValidationError(`\`startAt\` must be a date, got ${String(startAt)}`))
    }
    const manual = yield* VirtualTime.makeClock(start)
    const onManualTime = Effect.provideService(Clock.Clock, manual.clock)
    const environment = resolveEnvironment(options.environment)
    const built = yield* Layer.build(
      Engine.layer.pipe(
        Layer.provideMerge(Sqlite.layer({ filename: ":memory:" })),
        Layer.provide(Layer.succeed(MasterKey, Redacted.make(masterKey ?? testKey)))
      )
    ).pipe(onManualTime)
    const engine = Context.get(built, Engine.Engine)
    const time = VirtualTime.make(manual, engine, Context.get(built, Store))

    const known = new Map<string, AnyFunction>()
    let divergence: NondeterminismError | undefined
    const direct = WorkerTransport.of({ open: engine.connectWorker })
    const transport =
      replayEveryStep === true
        ? replayingEveryStep(
            direct,
            (id) => known.get(id),
            (error) => (divergence ??= error)
          )
        : direct
    const startWorker: TestEngineService["startWorker"] = (given) =>
      Effect.suspend(() => {
        for (const fn of given.functions) known.set(fn.config.id, fn)
        return Worker.make({ environment, logger: false, ...given }).pipe(
          Effect.provideService(WorkerTransport, transport),
          Effect.provideService(
            CurrentTurnProbe,
            repeatSteps === undefined ? undefined : repeating(repeatSteps)
          ),
          onManualTime
        )
      })
    if (functions !== undefined) yield* startWorker({ ...workerOptions, functions })

    const services = onClock(servicesIn(engine, environment), manual.clock)
    const client = engine.client(environment)
    /** What a replay has found comes before everything else. */
    const checked = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E | NondeterminismError> =>
      Effect.flatMap(self, (value) =>
        divergence === undefined ? Effect.succeed(value) : Effect.fail(divergence)
      )
    const latest = ({ within = "365d" }: RunToEndOptions = {}) =>
      manual.clock.currentTimeMillisUnsafe() + positiveDuration(within, "`within`")

    const runToEnd: TestEngineService["runToEnd"] = (runId, options) =>
      Effect.gen(function* () {
        const limit = latest(options)
        while (true) {
          yield* checked(time.settle)
          const run = yield* client.getRun(runId)
          if (isTerminal(run.status)) return run
          if (run.status !== "paused" && (yield* time.advanceToNext(limit))) continue
          const { message } = yield* client.explain(runId)
          return yield* Effect.fail(
            new TimeoutError(
              `Run ${runId} does not end by itself within ${String(options?.within ?? "365d")} of virtual time. ${message}`,
              positiveDuration(options?.within ?? "365d", "`within`")
            )
          )
        }
      }).pipe(onManualTime)

    const runUntilIdle: TestEngineService["runUntilIdle"] = (options) =>
      Effect.gen(function* () {
        const limit = latest(options)
        do yield* checked(time.settle)
        while ((yield* unfinished) && (yield* time.advanceToNext(limit)))
        yield* checked(Effect.void)
      }).pipe(onManualTime)
    const unfinished = Effect.map(
      Effect.forEach(["pending", "running", "waiting", "compensating"] as const, (status) =>
        client.listRuns({ status, limit: 1 })
      ),
      (pages) => pages.some(({ totalCount }) => totalCount > 0)
    )

    return Context.add(
      services,
      TestEngine,
      TestEngine.of({
        now: Effect.map(time.now, (ms) => new Date(ms)),
        advance: (duration) =>
          Effect.suspend(() =>
            checked(time.advance(positiveDuration(duration, "duration of advance()")))
          ).pipe(onManualTime),
        settle: checked(time.settle),
        history: (runId) => Context.get(built, Store).getHistory(environment, runId),
        runToEnd,
        runUntilIdle,
        countStuckRuns: engine.countStuckRuns,
        secrets: engine.secrets(environment),
        startWorker
      })
    )
  })

/** The services, with every method on this clock whatever the clock of the caller. */
const onClock = <R>(services: Context.Context<R>, clock: Clock.Clock): Context.Context<R> =>
  Context.makeUnsafe(
    new Map(
      Array.from(services.mapUnsafe, ([key, service]) => [
        key,
        isObject(service)
          ? Object.fromEntries(Object.entries(service).map(([name, method]) => [name, onTime(method, clock)]))
          : service
      ])
    )
  )

const onTime = (method: unknown, clock: Clock.Clock): unknown =>
  typeof method !== "function"
    ? method
    : (...args: ReadonlyArray<unknown>): unknown => {
        const result: unknown = method(...args)
        // what a method of a client returns needs nothing and is given back as it is, but for its clock
        return Effect.isEffect(result) ? Effect.provideService(result, Clock.Clock, clock) : result
      }

/** {@link make} as a layer. */
export const layer = <const Functions extends ReadonlyArray<AnyFunction> = []>(
  options: TestEngineOptions<Functions> = {}
): Layer.Layer<TestEngine | ClientServices, IronflowError, FunctionRequirements<Functions[number]>> =>
  Layer.effectContext(make(options))
