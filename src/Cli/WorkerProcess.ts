/**
 * The implementation of `ironflow worker`. It is loaded as a separate module, so that the user's code and the worker
 * share one copy of this package and of Effect, even when the command itself was bundled.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import type { ServerOptions } from "../Client/HttpOptions.ts"
import type { AnyFunction } from "../Function.ts"
import { withFailureHandlers } from "../OnFailure.ts"
import * as PollingTransport from "../Worker/PollingTransport.ts"
import * as Worker from "../Worker/Worker.ts"
import type { AnyProjection } from "../Projection/Projection.ts"
import { layerStderr, type LogChoice } from "./LogOutput.ts"
import { layerTraces } from "./Tracing.ts"
import { loadDefinitions } from "./UserModule.ts"

export interface WorkerProcessOptions extends Omit<ServerOptions, "timeout"> {
  /** The file that exports the functions. */
  readonly file: string
  readonly maxConcurrentJobs: number
  readonly labels: { readonly [name: string]: string }
  readonly workerId?: string | undefined
  /** How the worker and its handlers log. */
  readonly logs: LogChoice
  /** Called when the functions are registered and the worker takes runs. */
  readonly onReady: (worker: WorkerProcessInfo) => void
  /**
   * When this signal aborts, the worker drains: it takes no more runs, finishes what it is executing (at most 30
   * seconds), and ends.
   */
  readonly drain: AbortSignal
  /** When this signal aborts, the worker stops: it aborts what it is executing, and gives its runs back. */
  readonly stop: AbortSignal
}

export interface WorkerProcessInfo {
  readonly workerId: string
  readonly functions: ReadonlyArray<{
    readonly id: string
    /** Names of the events that start the function. */
    readonly events: ReadonlyArray<string>
  }>
  /** Names of the projections. */
  readonly projections: ReadonlyArray<string>
}

/** Runs the worker. Resolves when it has ended on request. Rejects when it cannot start or the engine refuses it. */
export const runWorker = async (options: WorkerProcessOptions): Promise<void> => {
  const { eventDefinitions, functions, projections } = await loadDefinitions(options.file)
  const { environment, workerId } = options
  const work = Effect.gen(function* () {
    const worker = yield* Worker.make({
      // the command gives Effect handlers only their steps: the file itself must provide all other services that they
      // need
      functions: functions as ReadonlyArray<AnyFunction & { readonly program?: never }>,
      projections: projections as ReadonlyArray<AnyProjection & { readonly program?: never }>,
      maxConcurrentJobs: options.maxConcurrentJobs,
      labels: options.labels,
      ...(eventDefinitions === undefined ? {} : { eventDefinitions }),
      ...(environment === undefined ? {} : { environment }),
      ...(workerId === undefined ? {} : { workerId })
    })
    whenAborted(options.stop, () => Effect.runFork(worker.stop))
    yield* worker.ready
    if (!options.stop.aborted) {
      options.onReady({
        workerId: worker.workerId,
        functions: withFailureHandlers(functions).map(describeFunction),
        projections: projections.map(({ config }) => config.name)
      })
    }
    yield* worker.awaitStopped
  })
  const transport = PollingTransport.layer({ serverUrl: options.serverUrl, apiKey: options.apiKey })
  const fiber = Effect.runFork(
    Effect.scoped(work).pipe(
      Effect.provide(Layer.merge(transport.pipe(Layer.provide(FetchHttpClient.layer)), layerTraces)),
      Effect.provide(layerStderr(options.logs))
    )
  )
  whenAborted(options.drain, () => fiber.interruptUnsafe())
  const exit = await Effect.runPromise(Fiber.await(fiber))
  if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) throw Cause.squash(exit.cause)
}

const whenAborted = (signal: AbortSignal, act: () => void): void => {
  if (signal.aborted) act()
  else signal.addEventListener("abort", act, { once: true })
}

const describeFunction = ({ config }: AnyFunction): WorkerProcessInfo["functions"][number] => ({
  id: config.id,
  events: config.triggers.flatMap(({ event }) => (event === undefined ? [] : [event]))
})
