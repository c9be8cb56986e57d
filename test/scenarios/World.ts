/**
 * An engine, its database and its workers on virtual time: what a scenario plays in.
 *
 * Everything goes through the public API. A crash is what a kill leaves behind: the database is closed under the engine,
 * and whatever the worker still has to say reaches nobody.
 */
import { QUIET_TURNS } from "../../src/Engine/LoopTurn.ts"
import { isSyncing } from "../../src/Engine/Store/LogSync.ts"
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

/** A function that needs nothing but steps. */
export type SelfContained =
  IronflowFunction.IronflowFunction | IronflowFunction.EffectFunction<any, any, never>

export interface WorldOptions {
  readonly functions: ReadonlyArray<SelfContained>
  /** On a file, so that the engine can be closed and started again. */
  readonly onDisk?: boolean
  readonly worker?: Omit<Worker.WorkerOptions, "functions">
}

/** An engine that is open, and how to close it. */
interface House {
  readonly engine: Engine.EngineService
  readonly client: Context.Service.Shape<typeof Client.Client>
  readonly scope: Scope.Closeable
  /** Closing it closes the database alone. */
  readonly cellar: Scope.Closeable
  /** Cut when the process of the workers has died: no traffic in either direction. */
  readonly cable: { cut: boolean }
  readonly workers: Set<Employed>
}

/** A worker at work. */
export interface Employed extends Worker.WorkerService {
  /** Aborts its turns, gives its runs back and goes. */
  readonly dismiss: Effect.Effect<void>
}

/** Rounds after which something that has not happened will not. */
const patience = 4000

/** One round of the event loop, promise continuations included; as many as it takes while the disk works. */
const round: Effect.Effect<void> = Effect.callback((resume) => {
  const turn = (): void => (isSyncing() ? void (immediate = setImmediate(turn)) : resume(Effect.void))
  let immediate = setImmediate(turn)
  return Effect.sync(() => clearImmediate(immediate))
})

export class World {
  readonly #filename: string
  readonly #options: WorldOptions
  #house: House
  #functions: ReadonlyArray<SelfContained>

  private constructor(house: House, filename: string, options: WorldOptions) {
    this.#house = house
    this.#filename = filename
    this.#options = options
    this.#functions = options.functions
  }

  /** An engine with one worker for the functions; closed with the scope. */
  static readonly make = (options: WorldOptions): Effect.Effect<World, unknown, Scope.Scope> =>
    Effect.gen(function* () {
      const filename = options.onDisk === true ? yield* temporaryFile : ":memory:"
      const world = new World(yield* openHouse(filename), filename, options)
      yield* Effect.addFinalizer(() => world.close)
      if (options.functions.length > 0) yield* world.hire()
      return world
    })

  get client() {
    return this.#house.client
  }

  /** Starts a worker, for all functions unless told otherwise. */
  hire(
    options: Partial<Worker.WorkerOptions<ReadonlyArray<SelfContained>>> = {}
  ): Effect.Effect<Employed, unknown> {
    const house = this.#house
    const functions = this.#functions
    const worker = this.#options.worker
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      const made = yield* Worker.make({ logger: false, functions, ...worker, ...options }).pipe(
        Effect.provideService(WorkerTransport.WorkerTransport, transportOf(house)),
        Scope.provide(scope)
      )
      const employed: Employed = {
        ...made,
        dismiss: Effect.andThen(made.stop, Scope.close(scope, Exit.void)).pipe(
          Effect.andThen(Effect.sync(() => house.workers.delete(employed)))
        )
      }
      house.workers.add(employed)
      return employed
    })
  }

  /** Dismisses every worker. */
  readonly dismissAll: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach([...this.#house.workers], (worker) => worker.dismiss, { discard: true })
  )

  /** Sends the workers home and closes the engine, as `close()` of it does. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => closeHouse(this.#house))

  /** The process dies: turns, workers and engine are gone at once. Only the file is left. */
  readonly crash: Effect.Effect<void> = Effect.suspend(() => {
    const house = this.#house
    house.cable.cut = true
    house.workers.clear()
    return Effect.andThen(Scope.close(house.cellar, Exit.void), Scope.close(house.scope, Exit.void))
  })

  /** Opens the file again without a worker. */
  readonly startAlone: Effect.Effect<void, unknown> = Effect.suspend(() =>
    Effect.map(openHouse(this.#filename), (house) => void (this.#house = house))
  )

  /** Opens the file again, with a worker for the functions: these, or the ones that were there before. */
  start(functions: ReadonlyArray<SelfContained> = this.#functions): Effect.Effect<void, unknown> {
    return Effect.gen({ self: this }, function* () {
      this.#functions = functions
      yield* this.startAlone
      yield* this.hire()
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

  /** Waits until nothing moves by itself any more. */
  readonly settle: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const { engine } = this.#house
    for (let quiet = 0, commits = engine.metrics().commits; quiet < QUIET_TURNS; quiet++) {
      yield* round
      const now = engine.metrics().commits
      if (now === commits) continue
      quiet = 0
      commits = now
    }
  })

  /**
   * Settles, lets the time pass, and settles again. Go from one due time to the next: a turn that begins on the way
   * gets none of the time that is left to do its work in.
   */
  advance(duration: Duration.Input): Effect.Effect<void> {
    return this.settle.pipe(Effect.andThen(TestClock.adjust(duration)), Effect.andThen(this.settle))
  }

  /** Waits until the condition holds. */
  until(what: string, condition: () => boolean): Effect.Effect<void, Error> {
    return Effect.gen(function* () {
      for (let i = 0; !condition(); i++) {
        if (i >= patience) return yield* Effect.fail(new Error(`It never came to this: ${what}`))
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

  /** Runs that nothing will ever move: there must be none. */
  get stuckRuns() {
    return this.#house.engine.runs.countStuck
  }
}

const temporaryFile: Effect.Effect<string, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ironflow-scenario-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => join(folder, "orders.db")
)

const openHouse = (filename: string): Effect.Effect<House, unknown> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const cellar = yield* Scope.make()
    const store = yield* Layer.buildWithMemoMap(
      Store.layerSqlite({ filename }),
      Layer.makeMemoMapUnsafe(),
      cellar
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
      cellar,
      cable: { cut: false },
      workers: new Set<Employed>()
    }
  })

/** Nothing here needs virtual time: what does not close by itself would wait for ever, and cannot be interrupted. */
const closeHouse = (house: House): Effect.Effect<void> =>
  Effect.gen(function* () {
    const closing = yield* Effect.forkDetach(emptyHouse(house))
    for (let i = 0; closing.pollUnsafe() === undefined; i++) {
      if (i >= patience) {
        const left = yield* Effect.forEach([...house.workers], (worker) => worker.activeJobs)
        return yield* Effect.die(
          new Error(`It does not close; turns in flight by worker: ${left.join(", ")}`)
        )
      }
      yield* round
    }
    yield* Fiber.join(closing)
  })

const emptyHouse = (house: House): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const worker of house.workers) yield* worker.dismiss
    yield* Scope.close(house.scope, Exit.void)
    yield* Scope.close(house.cellar, Exit.void)
  })

/** The transport of workers in the engine's process, over a cable that can be cut. */
const transportOf = ({ cable, engine }: House) =>
  WorkerTransport.WorkerTransport.of({
    open: (registration, handlers) =>
      Effect.map(
        engine.workers.connect(registration, {
          onJob: (job) => {
            if (!cable.cut) handlers.onJob(job)
          },
          onNotice: (notice) => {
            if (!cable.cut) handlers.onNotice(notice)
          }
        }),
        (session): WorkerTransport.WorkerSession => ({
          credit: (n) => {
            if (!cable.cut) session.credit(n)
          },
          report: (reports) => (cable.cut ? Effect.never : session.report(reports)),
          late: (late) => (cable.cut ? Effect.never : session.late(late))
        })
      )
  })
