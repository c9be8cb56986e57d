/**
 * An engine, its database and its workers on virtual time, for scenarios.
 *
 * Everything goes through the public API. A crash has the effect of a kill: the database is closed under the engine, and
 * further messages of workers are lost.
 */
import { QUIET_TURNS } from "../../src/Engine/EventLoop.ts"
import { isSyncing } from "../../src/Engine/Store/WalSync.ts"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { Client, Engine, type IronflowFunction, Store, Worker, WorkerTransport } from "../../src/effect.ts"

/** A function that needs no services but steps. */
export type SelfContained =
  IronflowFunction.IronflowFunction | IronflowFunction.EffectFunction<any, any, never>

export interface WorldOptions {
  readonly functions: ReadonlyArray<SelfContained>
  /** On a file, so that the engine can be closed and started again. */
  readonly onDisk?: boolean
  readonly worker?: Omit<Worker.WorkerOptions, "functions">
}

/** An open engine, and how to close it. */
interface OpenEngine {
  readonly engine: Engine.EngineService
  readonly client: Context.Service.Shape<typeof Client.Client>
  readonly scope: Scope.Closeable
  /** The scope of the database alone. */
  readonly databaseScope: Scope.Closeable
  /** The connection of the workers. It is cut when their process has died: nothing passes in either direction. */
  readonly connection: { cut: boolean }
  readonly workers: Set<RunningWorker>
}

/** A running worker. */
export interface RunningWorker extends Worker.WorkerService {
  /** Aborts its turns, gives its runs back and closes. */
  readonly shutDown: Effect.Effect<void>
}

/** Rounds after which a condition that does not hold never will. */
const patience = 4000

/** One round of the event loop, with promise continuations; more of them while the disk is busy. */
const round: Effect.Effect<void> = Effect.callback((resume) => {
  const turn = (): void => (isSyncing() ? void (immediate = setImmediate(turn)) : resume(Effect.void))
  let immediate = setImmediate(turn)
  return Effect.sync(() => clearImmediate(immediate))
})

export class World {
  readonly #filename: string
  readonly #options: WorldOptions
  #open: OpenEngine
  #functions: ReadonlyArray<SelfContained>

  private constructor(open: OpenEngine, filename: string, options: WorldOptions) {
    this.#open = open
    this.#filename = filename
    this.#options = options
    this.#functions = options.functions
  }

  /** An engine with one worker for the functions; closed with the scope. */
  static readonly make = (options: WorldOptions): Effect.Effect<World, unknown, Scope.Scope> =>
    Effect.gen(function* () {
      const filename = options.onDisk === true ? yield* temporaryFile : ":memory:"
      const world = new World(yield* openEngine(filename), filename, options)
      yield* Effect.addFinalizer(() => world.close)
      if (options.functions.length > 0) yield* world.startWorker()
      return world
    })

  get client() {
    return this.#open.client
  }

  /** Starts a worker, by default for all functions. */
  startWorker(
    options: Partial<Worker.WorkerOptions<ReadonlyArray<SelfContained>>> = {}
  ): Effect.Effect<RunningWorker, unknown> {
    const open = this.#open
    const functions = this.#functions
    const worker = this.#options.worker
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      const made = yield* Worker.make({ logger: false, functions, ...worker, ...options }).pipe(
        Effect.provideService(WorkerTransport.WorkerTransport, transportOf(open)),
        Scope.provide(scope)
      )
      const running: RunningWorker = {
        ...made,
        shutDown: Effect.andThen(made.stop, Scope.close(scope, Exit.void)).pipe(
          Effect.andThen(Effect.sync(() => open.workers.delete(running)))
        )
      }
      open.workers.add(running)
      return running
    })
  }

  /** Shuts every worker down. */
  readonly shutDownWorkers: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach([...this.#open.workers], (worker) => worker.shutDown, { discard: true })
  )

  /** Shuts the workers down and closes the engine, as its `close()` does. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => closeEngine(this.#open))

  /** Ends turns, workers and engine at once, as the death of the process does. Only the file is left. */
  readonly crash: Effect.Effect<void> = Effect.suspend(() => {
    const open = this.#open
    open.connection.cut = true
    open.workers.clear()
    return Effect.andThen(Scope.close(open.databaseScope, Exit.void), Scope.close(open.scope, Exit.void))
  })

  /** Opens the file again without a worker. */
  readonly startAlone: Effect.Effect<void, unknown> = Effect.suspend(() =>
    Effect.map(openEngine(this.#filename), (open) => void (this.#open = open))
  )

  /** Opens the file again, with a worker for these functions; by default for those from before. */
  start(functions: ReadonlyArray<SelfContained> = this.#functions): Effect.Effect<void, unknown> {
    return Effect.gen({ self: this }, function* () {
      this.#functions = functions
      yield* this.startAlone
      yield* this.startWorker()
    })
  }

  /** {@link crash}, then {@link start}. */
  restart(functions?: ReadonlyArray<SelfContained>): Effect.Effect<void, unknown> {
    return Effect.andThen(this.crash, this.start(functions))
  }

  /** {@link close}, then {@link start}: a deployment. */
  deploy(functions?: ReadonlyArray<SelfContained>): Effect.Effect<void, unknown> {
    return Effect.andThen(this.close, this.start(functions))
  }

  /** Places an order and returns its run; the functions of scenarios start with `order.placed`. */
  place(data: unknown = { orderId: "o-1" }): Effect.Effect<string, unknown> {
    return Effect.map(this.client.emit("order.placed", data), ({ runIds }) => {
      const [runId] = runIds
      if (runId === undefined || runIds.length > 1) throw new Error(`One run expected, got ${runIds.length}`)
      return runId
    })
  }

  /** Waits until nothing more happens without the clock. */
  readonly settle: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const { engine } = this.#open
    for (let quiet = 0, commits = engine.metrics().commits; quiet < QUIET_TURNS; quiet++) {
      yield* round
      const now = engine.metrics().commits
      if (now === commits) continue
      quiet = 0
      commits = now
    }
  })

  /**
   * Settles, lets the time pass, and settles again. Advance from one due time to the next: a turn that begins in between gets
   * none of the remaining time.
   */
  advance(duration: Duration.Input): Effect.Effect<void> {
    return this.settle.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(this.settle))
  }

  /** Waits until the condition holds. */
  until(what: string, condition: () => boolean): Effect.Effect<void, Error> {
    return Effect.gen(function* () {
      for (let i = 0; !condition(); i++) {
        if (i >= patience) return yield* Effect.fail(new Error(`Timed out waiting until ${what}`))
        yield* round
      }
    })
  }

  /** Waits until `explain` answers with this code. */
  reaches(runId: string, code: string) {
    return Effect.gen({ self: this }, function* () {
      for (let i = 0; ; i++) {
        const explanation = yield* this.client.explain(runId)
        if (explanation.code === code) return explanation
        if (i >= patience) return yield* Effect.fail(new Error(`${code} never came: ${explanation.message}`))
        yield* round
      }
    })
  }

  /** Waits until the run has ended, without letting time pass. */
  ends(runId: string) {
    const { client } = this
    const stuck = Effect.gen(function* () {
      for (let i = 0; i < patience; i++) yield* round
      const { code, message } = yield* client.explain(runId)
      return yield* Effect.fail(new Error(`The run does not end: ${code}. ${message}`))
    })
    return Effect.raceFirst(client.waitForRun(runId), stuck)
  }

  /** Waits until the run has completed, and returns its output. */
  completes(runId: string) {
    return Effect.flatMap(this.ends(runId), ({ error, output, status }) =>
      status === "completed"
        ? Effect.succeed<unknown>(output)
        : Effect.fail(new Error(`The run has ${status}: ${error?.message}`))
    )
  }

  /** Name and status of the run's steps, in order: `charge completed`. */
  steps(runId: string) {
    return Effect.map(this.client.getRunSteps(runId), (steps) =>
      steps.map(({ name, status }) => `${name} ${status}`)
    )
  }

  /** The number of runs that nothing will ever wake: it must be 0. */
  get stuckRuns() {
    return this.#open.engine.runs.countStuck
  }
}

const temporaryFile: Effect.Effect<string, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ironflow-scenario-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => join(folder, "orders.db")
)

const openEngine = (filename: string): Effect.Effect<OpenEngine, unknown> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const databaseScope = yield* Scope.make()
    const store = yield* Layer.buildWithMemoMap(
      Store.layerSqlite({ filename }),
      Layer.makeMemoMapUnsafe(),
      databaseScope
    )
    const context = yield* Layer.buildWithMemoMap(
      Engine.layerClient.pipe(Layer.provideMerge(Engine.layer), Layer.provide(Layer.succeedContext(store))),
      Layer.makeMemoMapUnsafe(),
      scope
    )
    return {
      engine: Context.get(context, Engine.Engine),
      client: Context.get(context, Client.Client),
      scope,
      databaseScope,
      connection: { cut: false },
      workers: new Set<RunningWorker>()
    }
  })

/** Closing needs no virtual time: what does not close by itself would wait for ever, and cannot be interrupted. */
const closeEngine = (open: OpenEngine): Effect.Effect<void> =>
  Effect.gen(function* () {
    const closing = yield* Effect.forkDetach(closeAll(open))
    for (let i = 0; closing.pollUnsafe() === undefined; i++) {
      if (i >= patience) {
        const left = yield* Effect.forEach([...open.workers], (worker) => worker.activeJobs)
        return yield* Effect.die(
          new Error(`It does not close; turns in flight by worker: ${left.join(", ")}`)
        )
      }
      yield* round
    }
    yield* Fiber.join(closing)
  })

const closeAll = (open: OpenEngine): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const worker of open.workers) yield* worker.shutDown
    yield* Scope.close(open.scope, Exit.void)
    yield* Scope.close(open.databaseScope, Exit.void)
  })

/** The transport of workers in the engine's process, over a connection that can be cut. */
const transportOf = ({ connection, engine }: OpenEngine) =>
  WorkerTransport.WorkerTransport.of({
    open: (registration, handlers) =>
      Effect.map(
        engine.workers.connect(registration, {
          onJob: (job) => {
            if (!connection.cut) handlers.onJob(job)
          },
          onNotice: (notice) => {
            if (!connection.cut) handlers.onNotice(notice)
          }
        }),
        (session): WorkerTransport.WorkerSession => ({
          makeRoom: (n) => {
            if (!connection.cut) session.makeRoom(n)
          },
          report: (reports) => (connection.cut ? Effect.never : session.report(reports)),
          late: (call) => (connection.cut ? Effect.never : session.late(call))
        })
      )
  })
