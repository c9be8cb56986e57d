/** The worker of `ironflow dev`: a child process that is restarted when the code changes or when it dies. */
import { type ChildProcess, spawn } from "node:child_process"
import * as Console from "effect/Console"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { calculateBackoff } from "../Backoff.ts"
import { isObject } from "../Json.ts"
import { durationText } from "./Output.ts"
import { type LogChoice, environmentFor } from "./LogOutput.ts"
import type { WorkerProcessInfo } from "./WorkerProcess.ts"

export interface DevWorkerOptions {
  /** The file that exports the functions and projections. */
  readonly file: string
  readonly serverUrl: string
  readonly environment: string | undefined
  readonly concurrency: number
  /** How the worker and its handlers log. */
  readonly logs: LogChoice
  /** The paths of changed files. */
  readonly changes: Queue.Dequeue<string>
  readonly onReady: (worker: WorkerProcessInfo) => Effect.Effect<void>
}

/**
 * An editor may write a file in several steps, or several files at once. All changes within this time after the first
 * change count as one change.
 */
const SETTLE_MS = 100

/** How long a stopping worker may take after each signal before it gets the next signal. */
const PATIENCE_MS = 400

/** How long the file may take to load before {@link loadingText} is printed. */
const LOADING_MS = 5000

const loadingText = (file: string): string =>
  `${file} is still being loaded: no worker is ready yet. Does it have a top-level \`await\` that never ends?`

/** How a worker process ended. */
interface ProcessEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Keeps a worker running. When this effect is interrupted, the worker is stopped. */
export const keepWorker = (options: DevWorkerOptions): Effect.Effect<never> =>
  Effect.gen(function* () {
    let crashes = 0
    while (true) {
      let isReady = false
      const endOrChange = yield* Effect.scoped(
        Effect.gen(function* () {
          const ended = yield* startProcess(options, (worker) => {
            isReady = true
            return options.onReady(worker)
          })
          yield* Effect.forkScoped(
            Effect.delay(
              Effect.suspend(() => (isReady ? Effect.void : Console.error(loadingText(options.file)))),
              LOADING_MS
            )
          )
          return yield* Effect.raceFirst(ended, nextChange(options))
        })
      )
      if (typeof endOrChange === "string") {
        crashes = 0
        yield* Console.error(`${endOrChange} has changed: the worker starts again.`)
        continue
      }
      // exit code 2 means that the code cannot be used as it is, so the worker starts again only after a change
      if (endOrChange.code === 2) {
        yield* Console.error(
          "No worker is running: repair the file and save it, and a worker starts. Runs wait until then."
        )
        const file = yield* nextChange(options)
        yield* Console.error(`${file} has changed: the worker starts again.`)
        continue
      }
      crashes = isReady ? 1 : crashes + 1
      const delayMs = calculateBackoff(crashes, 1000, 30_000)
      yield* Console.error(
        `The worker has ended (${endOrChange.signal ?? `exit code ${endOrChange.code}`}): it starts again in ${durationText(delayMs)}, or when a file changes.`
      )
      yield* Effect.raceFirst(Effect.sleep(delayMs), nextChange(options))
    }
  })

/** Waits for a changed file, and ignores the changes that follow within {@link SETTLE_MS}. */
const nextChange = ({ changes }: DevWorkerOptions): Effect.Effect<string> =>
  Effect.gen(function* () {
    const file = yield* Queue.take(changes)
    yield* Effect.sleep(SETTLE_MS)
    yield* Queue.clear(changes)
    return file
  })

/**
 * Starts a worker process, and stops it when the scope closes. Returns an effect that waits for the end of the process.
 */
const startProcess = (
  { file, serverUrl, environment, concurrency, logs }: DevWorkerOptions,
  onReady: (worker: WorkerProcessInfo) => Effect.Effect<void>
): Effect.Effect<Effect.Effect<ProcessEnd>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const runEffect = Effect.runForkWith(yield* Effect.context<never>())
    const ended = Deferred.makeUnsafe<ProcessEnd>()
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(
          process.execPath,
          [
            ...process.execArgv,
            process.argv[1] ?? "",
            "worker",
            "--supervised",
            // All worker processes have the same worker id, so that a new process takes over the runs of a killed
            // process at once.
            "--worker-id=dev",
            `--server-url=${serverUrl}`,
            `--concurrency=${concurrency}`,
            ...(environment === undefined ? [] : [`--environment=${environment}`]),
            "--",
            file
          ],
          {
            stdio: ["ignore", "inherit", "inherit", "ipc"],
            env: { ...process.env, ...environmentFor(logs) }
          }
        )
        child.on("message", (message) => {
          if (isWorkerInfo(message)) runEffect(onReady(message))
        })
        child.once("error", (error) => {
          runEffect(Console.error(`The worker cannot be started: ${error.message}`))
          runEffect(Deferred.succeed(ended, { code: 1, signal: null }))
        })
        child.once("exit", (code, signal) => runEffect(Deferred.succeed(ended, { code, signal })))
        return child
      }),
      (child) => stopProcess(child, Deferred.await(ended))
    )
    return Deferred.await(ended)
  })

/**
 * Stops the worker. After the first signal, the worker finishes what it is executing. After the second signal, it gives
 * its runs back to the engine. The third signal kills the process.
 */
const stopProcess = (child: ChildProcess, ended: Effect.Effect<ProcessEnd>): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const signal of ["SIGTERM", "SIGTERM", "SIGKILL"] as const) {
      child.kill(signal)
      const outcome = yield* Effect.timeoutOption(ended, PATIENCE_MS)
      if (outcome._tag === "Some") return
    }
    yield* ended
  })

const isWorkerInfo = (message: unknown): message is WorkerProcessInfo =>
  isObject(message) && typeof message.workerId === "string" && Array.isArray(message.functions)
