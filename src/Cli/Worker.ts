/** `ironflow worker`: runs the functions of a file for a server. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { DEFAULT_WORKER } from "../Constants.ts"
import { getServerUrl } from "../Environment.ts"
import type { IronflowError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"
import { ironflow, serverOptions } from "./Ironflow.ts"
import { logChoice, logFlags } from "./LogOutput.ts"
import type { WorkerInfo } from "./WorkerProcess.ts"
import { textFlag } from "./TextFlag.ts"

export const file = Argument.String("file").pipe(
  Argument.withDescription("The file that exports your functions, TypeScript or JavaScript")
)

export const worker = Command.make(
  "worker",
  {
    file,
    concurrency: Flag.Int("concurrency").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription(
        `Turns that may be in flight at once; ${DEFAULT_WORKER.MAX_CONCURRENT_JOBS} by default`
      ),
      Flag.withDefault(DEFAULT_WORKER.MAX_CONCURRENT_JOBS)
    ),
    label: textFlag("label").pipe(
      Flag.withMetavar("NAME=VALUE"),
      Flag.withDescription("A label of the worker; may be given several times"),
      Flag.atLeast(0)
    ),
    workerId: textFlag("worker-id").pipe(
      Flag.withMetavar("ID"),
      Flag.withDescription("How the worker is known; made up when left out"),
      Flag.optional
    ),
    ...logFlags,
    // used by `ironflow dev`, which controls its worker over a channel and takes it along when it dies
    supervised: Flag.Boolean("supervised").pipe(
      Flag.withHidden,
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* (input) {
    const { json } = yield* ironflow
    const server = yield* serverOptions
    const labels = yield* readLabels(input.label)
    const announce = (info: WorkerInfo) => {
      if (input.supervised) return void process.send?.(info)
      const ids = info.functions.map(({ id }) => id)
      process.stdout.write(
        json
          ? `${JSON.stringify({ workerId: info.workerId, functions: ids, ...(info.projections.length === 0 ? {} : { projections: info.projections }) })}\n`
          : `Worker ${info.workerId} runs ${[...ids, ...info.projections].join(", ")} for ${server.serverUrl ?? getServerUrl()}. Ctrl-C drains it.\n`
      )
    }
    yield* untilSignalled(input.supervised, (signals) =>
      import("./WorkerProcess.ts").then(({ runWorker }) =>
        runWorker({
          ...server,
          ...signals,
          file: input.file,
          maxConcurrentJobs: input.concurrency,
          labels,
          logs: logChoice(input),
          workerId: Option.getOrUndefined(input.workerId),
          onReady: announce
        })
      )
    )
  })
).pipe(
  Command.withDescription(
    "Run the functions that a file exports. The first Ctrl-C or SIGTERM lets running turns end, the second gives them back at once."
  ),
  Command.withShortDescription("Run functions for a server"),
  Command.withExamples([{ command: "ironflow worker ./functions.ts --server-url http://localhost:9123" }])
)

/**
 * Runs `work`, which drains when the effect is interrupted (at the first signal) and stops at the second signal. A
 * supervised process ends when its supervisor is gone.
 */
const untilSignalled = (
  supervised: boolean,
  work: (signals: { readonly drain: AbortSignal; readonly stop: AbortSignal }) => Promise<void>
): Effect.Effect<void, unknown> =>
  Effect.suspend(() => {
    const drain = new AbortController()
    const stop = new AbortController()
    let signals = 0
    const onSignal = () => {
      if (++signals > 1) stop.abort()
    }
    // the engine ran in the supervisor and is gone: runs cannot be released
    const onOrphaned = () => process.exit(1)
    process.on("SIGINT", onSignal).on("SIGTERM", onSignal)
    if (supervised) process.once("disconnect", onOrphaned)
    const done = work({ drain: drain.signal, stop: stop.signal })
    const ended = Effect.tryPromise({ try: () => done, catch: (error) => error })
    return ended.pipe(
      Effect.onInterrupt(() =>
        Effect.andThen(
          Effect.sync(() => drain.abort()),
          Effect.ignore(ended)
        )
      ),
      Effect.ensuring(
        Effect.sync(() => {
          process.off("SIGINT", onSignal).off("SIGTERM", onSignal).off("disconnect", onOrphaned)
        })
      )
    )
  })

const readLabels = (
  texts: ReadonlyArray<string>
): Effect.Effect<{ readonly [name: string]: string }, IronflowError> =>
  Effect.suspend(() => {
    const labels: Record<string, string> = {}
    for (const text of texts) {
      const equals = text.indexOf("=")
      if (equals < 1) {
        return Effect.fail(
          new CommandError(`"${text}" is not a label: write it as NAME=VALUE, like --label pool=reports`, {
            code: "USAGE"
          })
        )
      }
      labels[text.slice(0, equals)] = text.slice(equals + 1)
    }
    return Effect.succeed(labels)
  })
