/** The engine of a test in the Promise API. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import {
  Client,
  type ClientApi,
  clientMethods,
  type EffectKind,
  type PromiseKind,
  type Run
} from "../Client/Client.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { Duration } from "../Duration.ts"
import { type IronflowError, toError } from "../Errors.ts"
import type { EngineSecrets } from "../Promise/Engine.ts"
import type { RunHistory } from "../Protocol/History.ts"
import { promisify, type Rim, run } from "../Promise/Promisify.ts"
import type { RunnableFunction } from "../Promise/Worker.ts"
import type { WorkerOptions } from "../Worker/Options.ts"
import { layer, type RunToEndOptions, TestEngine, type TestEngineOptions } from "./Testing.ts"

export interface TestEngineConfig extends TestEngineOptions<ReadonlyArray<RunnableFunction>> {}

/** A worker that a test has started beside the first one. */
export interface TestWorker {
  /** Aborts its turns, gives its runs back and goes. */
  stop(): Promise<void>
}

/** The real engine in memory, on virtual time. */
export interface IronflowTestEngine extends AsyncDisposable {
  readonly client: ClientApi<PromiseKind>
  readonly secrets: EngineSecrets
  /** The time that the engine and its functions see. */
  now(): Promise<Date>
  /** Lets virtual time pass, from one due time to the next. */
  advance(duration: Duration): Promise<void>
  /** Waits until nothing moves by itself any more, without letting time pass. */
  settle(): Promise<void>
  /** Lets as much time pass as the run needs to end, and resolves to it; `TimeoutError` says what it waits for. */
  runToEnd(runId: string, options?: RunToEndOptions): Promise<Run>
  /** Lets as much time pass as it takes until every run has ended or is paused. */
  runUntilIdle(options?: RunToEndOptions): Promise<void>
  /** What is recorded of a run: keep it as JSON, and give it to `verify` with changed functions. */
  history(runId: string): Promise<RunHistory>
  /** Unfinished runs that nothing will ever move: always 0. */
  countStuckRuns(): Promise<number>
  /** Starts one more worker. */
  startWorker(options: WorkerOptions<ReadonlyArray<RunnableFunction>>): Promise<TestWorker>
  close(): Promise<void>
}

/** Starts an engine in memory and a worker for `functions`. Rejects with `ValidationError` for bad options. */
export const createTestEngine = async (config: TestEngineConfig = {}): Promise<IronflowTestEngine> => {
  const runtime = ManagedRuntime.make(layer(config))
  const exit = await runtime.runPromiseExit(TestEngine)
  if (Exit.isFailure(exit)) {
    await runtime.dispose()
    throw toError(Cause.squash(exit.cause))
  }
  const engine = exit.value
  const rim: Rim<TestEngine | ClientServices, IronflowError> = {
    runtime,
    what: "test engine",
    isClosed: false
  }
  const scopes = new Set<Scope.Closeable>()
  const close = async (): Promise<void> => {
    rim.isClosed = true
    for (const scope of scopes) await Effect.runPromise(Scope.close(scope, Exit.void))
    scopes.clear()
    await runtime.dispose()
  }
  return {
    client: promisify<
      ClientApi<PromiseKind>,
      ClientApi<EffectKind>,
      TestEngine | ClientServices,
      IronflowError
    >(rim, Client, clientMethods),
    secrets: {
      set: (name, value) => run(rim, engine.secrets.set(name, value)),
      list: () => run(rim, engine.secrets.list),
      delete: (name) => run(rim, engine.secrets.delete(name))
    },
    now: () => run(rim, engine.now),
    advance: (duration) => run(rim, engine.advance(duration)),
    settle: () => run(rim, engine.settle),
    runToEnd: (runId, options) => run(rim, engine.runToEnd(runId, options)),
    runUntilIdle: (options) => run(rim, engine.runUntilIdle(options)),
    history: (runId) => run(rim, engine.history(runId)),
    countStuckRuns: () => run(rim, engine.countStuckRuns),
    startWorker: async (options) => {
      const scope = Scope.makeUnsafe()
      scopes.add(scope)
      const worker = await run(rim, Scope.provide(engine.startWorker(options), scope))
      return {
        stop: async () => {
          scopes.delete(scope)
          await Effect.runPromise(Effect.andThen(worker.stop, Scope.close(scope, Exit.void)))
        }
      }
    },
    close,
    [Symbol.asyncDispose]: close
  }
}
