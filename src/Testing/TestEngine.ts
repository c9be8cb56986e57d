/** The test engine of the Promise API: `createTestEngine`. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { Run } from "../Client/Client.ts"
import type { Duration } from "../Duration.ts"
import { type StoreError, type ValidationError, toError } from "../Errors.ts"
import type { TestError } from "./TestError.ts"
import { createClient, type IronflowClient } from "../Promise/Client.ts"
import type { EngineConnection, EngineHandle } from "../Promise/EngineConnection.ts"
import type { Store } from "../Engine/Store/Store.ts"
import type { EngineSecrets } from "../Promise/Engine.ts"
import { makeRuntimeHandle, run } from "../Promise/Promisify.ts"
import type { RunnableFunction, RunnableProjection } from "../Promise/Worker.ts"
import type { RunHistory } from "../Protocol/History.ts"
import { WorkerTransport } from "../Protocol/Worker.ts"
import type { WorkerOptions } from "../Worker/Options.ts"
import * as RealTime from "./RealTime.ts"
import {
  makeVirtual,
  type RunToEndOptions,
  TestConnection,
  TestEngine,
  type TestEngineOptions
} from "./VirtualEngine.ts"

/** Options of `createTestEngine`. */
export interface TestEngineConfig extends TestEngineOptions<
  ReadonlyArray<RunnableFunction>,
  ReadonlyArray<RunnableProjection>
> {}

/** An additional worker that a test has started. */
export interface TestWorker {
  /** Aborts its turns, releases its runs and stops. */
  stop(): Promise<void>
}

/**
 * The real engine in memory, on virtual time. It can be used like any engine: `createClient({ engine })`,
 * `createSubscriptionClient({ engine })`, `createWorker({ engine })`.
 */
export interface IronflowTestEngine extends EngineHandle, AsyncDisposable {
  /** A client of the engine. */
  readonly client: IronflowClient
  /** The secrets of the engine. */
  readonly secrets: EngineSecrets
  /** The current virtual time. */
  now(): Promise<Date>
  /** Advances virtual time, from one due time to the next. */
  advance(duration: Duration): Promise<void>
  /** Waits until everything has come to rest, without advancing time. */
  settle(): Promise<void>
  /**
   * Advances time until the run has ended, and resolves to the run. Rejects with a `TimeoutError` when the run is
   * paused, or has not ended when everything that is due within the limit has happened. The message says what the run
   * waits for.
   */
  runToEnd(runId: string, options?: RunToEndOptions): Promise<Run>
  /** Advances time until every run has ended or is paused, or nothing more is due within the limit. */
  runUntilIdle(options?: RunToEndOptions): Promise<void>
  /** The recorded history of a run: store it as JSON, and pass it to `verify` with changed functions. */
  history(runId: string): Promise<RunHistory>
  /** The number of unfinished runs that nothing will resume. If it is not 0, the engine has a bug. */
  countStuckRuns(): Promise<number>
  /** Starts another worker. */
  startWorker(
    options: WorkerOptions<ReadonlyArray<RunnableFunction>, ReadonlyArray<RunnableProjection>>
  ): Promise<TestWorker>
  /**
   * Closes the engine. Turns of the workers that the test engine started are aborted; workers of
   * `createWorker({ engine })` are drained. A second call waits until the engine is closed.
   */
  close(): Promise<void>
}

/** Starts an engine in memory and a worker for `functions`. Rejects with `ValidationError` when options are invalid. */
export const createTestEngine = (config: TestEngineConfig = {}): Promise<IronflowTestEngine> =>
  openTestEngine(config)

/** Does what {@link createTestEngine} does, with an existing store. */
export const openTestEngine = async (
  config: TestEngineConfig,
  store?: Layer.Layer<Store, StoreError | ValidationError>
): Promise<IronflowTestEngine> => {
  const runtime = ManagedRuntime.make(Layer.effectContext(makeVirtual(config, store)))
  const exit = await runtime.runPromiseExit(Effect.all([TestEngine, TestConnection]), {
    scheduler: RealTime.scheduler
  })
  if (Exit.isFailure(exit)) {
    await runInRealTime(runtime.disposeEffect)
    throw toError(Cause.squash(exit.cause))
  }
  const [engine, { clock, environment, passMinute, services, transport, wire, workerClock }] = exit.value
  const handle = makeRuntimeHandle<TestEngine, TestError>(runtime, "test engine")
  const scopes = new Set<Scope.Closeable>()
  const workers = new Set<() => Promise<void>>()
  const clients = new Set<() => Promise<void>>()
  const connection: EngineConnection = {
    environment,
    client: (environment, reading) =>
      Layer.succeedContext(
        withRealScheduler(Context.add(services(environment, reading), Clock.Clock, clock))
      ),
    wire,
    transport: Layer.succeedContext(
      withRealScheduler(Context.add(Context.make(WorkerTransport, transport), Clock.Clock, workerClock))
    ),
    onClose: (who, close) => {
      const closers = who === "worker" ? workers : clients
      closers.add(close)
      return () => void closers.delete(close)
    }
  }
  const closeAll = async (): Promise<void> => {
    handle.isClosed = true
    let isDrained = false
    const drained = Promise.all(Array.from(workers, (close) => close())).finally(() => (isDrained = true))
    // a worker waits for its turns until its `drainTimeout` is over: that is virtual time, so this loop lets it pass
    while (workers.size > 0 && !isDrained) await runtime.runPromise(passMinute)
    await drained
    for (const scope of scopes) await runInRealTime(Scope.close(scope, Exit.void))
    await Promise.all(Array.from(clients, (close) => close()))
    await runInRealTime(runtime.disposeEffect)
  }
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => (closing ??= closeAll())
  return {
    connection,
    client: createClient({ engine: { connection }, eventDefinitions: config.eventDefinitions }),
    secrets: {
      set: (name, value) => run(handle, engine.secrets.set(name, value)),
      list: () => run(handle, engine.secrets.list),
      delete: (name) => run(handle, engine.secrets.delete(name))
    },
    now: () => run(handle, engine.now),
    advance: (duration) => run(handle, engine.advance(duration)),
    settle: () => run(handle, engine.settle),
    runToEnd: (runId, options) => run(handle, engine.runToEnd(runId, options)),
    runUntilIdle: (options) => run(handle, engine.runUntilIdle(options)),
    history: (runId) => run(handle, engine.history(runId)),
    countStuckRuns: () => run(handle, engine.countStuckRuns),
    startWorker: async (options) => {
      const scope = Scope.makeUnsafe()
      scopes.add(scope)
      const worker = await run(handle, Scope.provide(engine.startWorker(options), scope))
      return {
        stop: async () => {
          scopes.delete(scope)
          await runInRealTime(Effect.andThen(worker.stop, Scope.close(scope, Exit.void)))
        }
      }
    },
    close,
    [Symbol.asyncDispose]: close
  }
}

const runInRealTime = <A, E>(effect: Effect.Effect<A, E>): Promise<A> =>
  Effect.runPromise(effect, { scheduler: RealTime.scheduler })

/** Adds the scheduler that runs fibers on the real event loop. */
const withRealScheduler = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.add(context, Scheduler.Scheduler, RealTime.scheduler)
