/**
 * `ironflow dev`: an engine, a worker that restarts when the code changes, and the activity of runs, in one terminal.
 */
import { randomBytes } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import path from "node:path"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { DEFAULT_PORT, DEFAULT_WORKER } from "../Constants.ts"
import type { ObservedActivity } from "../Engine/Store/RunActivity.ts"
import { readEnvironmentVariable, resolveEnvironment } from "../EnvironmentVariables.ts"
import { refuseNonFile } from "../Engine/Store/Files.ts"
import { IronflowError, StoreError } from "../Errors.ts"
import { SDK_VERSION } from "../SdkVersion.ts"
import { makeDeleteGoneFunctions, type GoneFunctions } from "./DeleteGoneFunctions.ts"
import { keepWorker } from "./DevWorker.ts"
import { ironflow, serverOptions } from "./Ironflow.ts"
import { activityJson, activityLine } from "./ActivityLines.ts"
import { logChoice, logFlags } from "./LogOutput.ts"
import { consoleFlags, consoleOf, port, consoleAddress } from "./Serve.ts"
import { checkFile } from "./UserFile.ts"
import { watchCode } from "./CodeWatch.ts"
import { file } from "./Worker.ts"
import type { WorkerProcessInfo } from "./WorkerProcess.ts"
import { textFlag } from "./TextFlag.ts"

/** The folder for the data of `dev`. Git ignores it, since it also holds the master key. */
const FOLDER = ".ironflow"

export const dev = Command.make(
  "dev",
  {
    file,
    port,
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription(`The database file, created when it does not exist; ${FOLDER}/dev.db by default`),
      Flag.withDefault(`${FOLDER}/dev.db`)
    ),
    concurrency: Flag.Int("concurrency").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription(
        `How many runs the worker executes at the same time, besides runs that wait; ${DEFAULT_WORKER.MAX_CONCURRENT_JOBS} by default`
      ),
      Flag.withDefault(DEFAULT_WORKER.MAX_CONCURRENT_JOBS)
    ),
    ...consoleFlags,
    ...logFlags
  },
  Effect.fnUntraced(function* (input) {
    const { json } = yield* ironflow
    const { environment } = yield* serverOptions
    if (readEnvironmentVariable("IRONFLOW_DATABASE_URL") !== undefined) {
      yield* Console.error(
        `\`ironflow dev\` has its data in ${input.data} and does not use IRONFLOW_DATABASE_URL. \`ironflow serve\` does.`
      )
    }
    const masterKey = yield* prepareFiles(input)
    const { withLocalEngine } = yield* Effect.promise(() => import("./LocalEngine.ts"))
    const options = {
      port: input.port,
      host: "127.0.0.1",
      data: input.data,
      masterKey,
      // a push endpoint of an app under development is on this machine
      allowPrivateEndpoints: true,
      console: consoleOf(input),
      // `warn` by default, since `printActivity` prints what happens to runs
      logs: logChoice(input, "warn"),
      showsRuns: Option.isNone(input.logLevel)
    }
    yield* withLocalEngine(options, (local) =>
      Effect.gen(function* () {
        const { server, engine } = local
        yield* Console.log(
          json
            ? JSON.stringify({
                url: server.url,
                ...(server.consoleUrl === undefined ? {} : { console: server.consoleUrl }),
                data: input.data,
                pid: process.pid
              })
            : `Ironflow ${SDK_VERSION} at ${server.url}, data in ${input.data}. Ctrl-C stops it.` +
                (server.consoleUrl === undefined ? "" : `\nIts console: ${consoleAddress(server.consoleUrl)}`)
        )
        yield* printActivity(engine.runs.observe, json)
        const changes = yield* watchChanges(path.dirname(path.resolve(input.file)))
        const deleteGoneFunctions = makeDeleteGoneFunctions(engine.client(resolveEnvironment(environment)))
        let hasPrintedHint = false
        return yield* keepWorker({
          file: input.file,
          serverUrl: server.url,
          environment,
          concurrency: input.concurrency,
          logs: logChoice(input),
          changes,
          onReady: Effect.fnUntraced(function* (worker) {
            const functions = worker.functions.map(({ id }) => id)
            const goneFunctions = yield* Effect.catch(deleteGoneFunctions(functions), (error) =>
              Effect.as(
                Console.error(
                  `The functions that are no longer in the code could not be deleted: ${error.message}`
                ),
                nothingGone
              )
            )
            const hint = hasPrintedHint || json ? "" : emitHint(worker, input.port, server.url)
            hasPrintedHint = true
            yield* Console.log(
              json
                ? JSON.stringify({ _tag: "WorkerReady", functions, ...goneFunctions })
                : `${runningText(worker)}. They restart when the code changes.${goneText(goneFunctions)}${hint}`
            )
          })
        })
      })
    )
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Run an engine and the functions of a file, start them again when the code changes, and print what happens to runs."
  ),
  Command.withShortDescription("Develop: engine and functions in one terminal"),
  Command.withExamples([{ command: "ironflow dev ./functions.ts" }])
)

/** Checks the file, creates the folder of the database, and reads or creates the master key beside it. */
const prepareFiles = (input: {
  readonly file: string
  readonly data: string
}): Effect.Effect<string, IronflowError> =>
  Effect.try({
    try: () => {
      checkFile(input.file)
      refuseNonFile(input.data)
      const folder = path.dirname(path.resolve(input.data))
      if (!existsSync(folder)) mkdirSync(folder, { recursive: true })
      if (path.basename(folder) === FOLDER && !existsSync(path.join(folder, ".gitignore"))) {
        writeFileSync(path.join(folder, ".gitignore"), "*\n")
      }
      return readEnvironmentVariable("IRONFLOW_MASTER_KEY") ?? readMasterKey(input.data)
    },
    catch: (cause) =>
      cause instanceof IronflowError
        ? cause
        : new StoreError(
            `The files of \`ironflow dev\` beside ${input.data} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}. ` +
              "Choose another place with --data",
            { code: "STORE_UNAVAILABLE", cause }
          )
  })

const readMasterKey = (data: string): string => {
  const file = `${data}.key`
  if (existsSync(file)) return readFileSync(file, "utf8").trim()
  const key = randomBytes(32).toString("base64")
  writeFileSync(file, `${key}\n`, { mode: 0o600, flag: "wx" })
  return key
}

/** Prints the activity of runs until the scope closes. */
const printActivity = (
  observe: (listener: (activity: ReadonlyArray<ObservedActivity>) => void) => () => void,
  json: boolean
) =>
  Effect.gen(function* () {
    const activities = yield* Queue.unbounded<ObservedActivity>()
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        observe((activity) => {
          for (const one of activity) Queue.offerUnsafe(activities, one)
        })
      ),
      (stop) => Effect.sync(stop)
    )
    const printBatch = Effect.gen(function* () {
      const batch = yield* Queue.takeAll(activities)
      const now = yield* Clock.currentTimeMillis
      yield* Console.log(batch.map((one) => (json ? activityJson(one) : activityLine(one, now))).join("\n"))
    })
    yield* Effect.forkScoped(Effect.forever(printBatch))
  })

const watchChanges = (folder: string) =>
  Effect.gen(function* () {
    const changes = yield* Queue.sliding<string>(1)
    yield* Effect.acquireRelease(
      Effect.sync(() => watchCode(folder, (file) => void Queue.offerUnsafe(changes, file))),
      (stop) => Effect.sync(stop)
    )
    return changes
  })

/** Lists the functions and projections that the worker runs. */
const runningText = ({ functions, projections }: WorkerProcessInfo): string =>
  [
    ...(functions.length === 0 ? [] : [`Functions: ${functions.map(({ id }) => id).join(", ")}`]),
    ...(projections.length === 0 ? [] : [`Projections: ${projections.join(", ")}`])
  ].join(". ")

const nothingGone: GoneFunctions = { deleted: [], orphaned: [] }

/** Lists the functions that were deleted, and the functions that no worker has. */
const goneText = ({ deleted, orphaned }: GoneFunctions): string =>
  (deleted.length === 0
    ? ""
    : `\nDeleted, since they are no longer in the code: ${deleted.join(", ")}. Nothing starts them any more.`) +
  (orphaned.length === 0
    ? ""
    : `\nNo worker has these functions, so their runs wait: ${orphaned.join(", ")}. ` +
      "To delete a function whose code is gone: ironflow functions delete ID")

/** Shows how to start a run with an event. Empty when no function has an event without wildcards. */
const emitHint = ({ functions }: WorkerProcessInfo, port: number, url: string): string => {
  const event = functions.flatMap(({ events }) => events).find((name) => !/[*>]/.test(name))
  if (event === undefined) return ""
  const server = port === DEFAULT_PORT ? "" : ` --server-url ${url}`
  return `\nEmit an event from another terminal:\n  npx ironflow emit ${event} '{}' --wait${server}`
}
