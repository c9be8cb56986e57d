/** `ironflow verify`: says whether changed code can continue the runs of a database. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { resolveEnvironment } from "../EnvironmentVariables.ts"
import { FunctionNotFoundError, NondeterminismError, ServiceMissingError, toError } from "../Errors.ts"
import type { Divergence } from "../Testing/Replay.ts"
import { ironflow } from "./Ironflow.ts"
import { oneLine, print } from "./Output.ts"
import { textFlag } from "./TextFlag.ts"

const data = textFlag("data").pipe(
  Flag.withMetavar("FILE"),
  Flag.withDescription(
    "The database file, ironflow.db by default; it is only read, and an engine may have it open"
  ),
  Flag.withDefault("ironflow.db")
)

/** Reads the histories of runs from the file, in the environment that the flags name. */
const histories = (filename: string, runId: string | undefined) =>
  Effect.flatMap(ironflow, ({ environment }) =>
    Effect.tryPromise({
      try: async () => {
        // imported here, since other commands do not use SQLite
        const { readHistories } = await import("../Engine/Runs/History.ts")
        return readHistories({
          filename,
          environment: resolveEnvironment(Option.getOrUndefined(environment)),
          runId
        })
      },
      catch: toError
    })
  )

export const verify = Command.make(
  "verify",
  {
    file: Argument.String("file"),
    data,
    run: textFlag("run").pipe(
      Flag.withMetavar("ID"),
      Flag.withDescription("Only this run, which may have ended"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ data, file, run }) {
    const { eventDefinitions, functions } = yield* Effect.tryPromise({
      try: async () => {
        // imported here, since a Node that is too old cannot load this module: the command then reports that Node is
        // too old
        const { loadDefinitions } = await import("./UserModule.ts")
        return loadDefinitions(file)
      },
      catch: toError
    })
    const recordedHistories = yield* histories(data, Option.getOrUndefined(run))
    // imported here, since other commands run no handlers
    const { verifyUntyped } = yield* Effect.promise(() => import("../Testing/Verify.ts"))
    const divergences: Array<Divergence> = []
    const withoutFunction: Array<string> = []
    const needServices: Array<{ readonly runId: string; readonly message: string }> = []
    for (const history of recordedHistories) {
      const { runId } = history
      const divergence = yield* Effect.catch(
        verifyUntyped(history, functions, { eventDefinitions }),
        (error) => {
          if (error instanceof FunctionNotFoundError) withoutFunction.push(runId)
          else needServices.push({ runId, message: error.message })
          return Effect.succeed(undefined)
        }
      )
      if (divergence !== undefined) divergences.push(divergence)
    }
    const verified = recordedHistories.length - withoutFunction.length - needServices.length
    yield* print({ verified, divergences, withoutFunction, needServices }, () =>
      [
        ...[...divergences, ...needServices].map(({ message }) => oneLine(message)),
        `${runs(verified)} verified, of which ${divergences.length} diverged` +
          (needServices.length === 0 ? "" : `; ${needServices.length} not verified, see above`) +
          (withoutFunction.length === 0
            ? "."
            : `; ${withoutFunction.length} skipped, since ${file} does not export ${withoutFunction.length === 1 ? "its function" : "their functions"}.`)
      ].join("\n")
    )
    if (divergences.length > 0) {
      return yield* Effect.fail(
        new NondeterminismError(`${file} cannot continue ${divergences.length} of ${runs(verified)}`)
      )
    }
    if (needServices.length > 0) {
      return yield* Effect.fail(
        new ServiceMissingError(
          `${runs(needServices.length)} could not be verified: this command has no services for Effect handlers. ` +
            `Verify ${needServices.length === 1 ? "it" : "them"} in a test of your own: Testing.verify takes the services from your layers`
        )
      )
    }
  })
).pipe(
  Command.withDescription(
    "Replay the unfinished runs of a database against the functions of a file. Exits with 1 when a run diverges, or when an Effect handler needs services that only your own program has."
  ),
  Command.withShortDescription("Check changed code against recorded runs")
)

const runs = (count: number): string => `${count} ${count === 1 ? "run" : "runs"}`

/** `ironflow runs export`. */
export const exportRun = Command.make(
  "export",
  { runId: Argument.String("run-id"), data },
  Effect.fnUntraced(function* ({ data, runId }) {
    const [history] = yield* histories(data, runId)
    yield* Console.log(JSON.stringify(history, undefined, 2))
  })
).pipe(Command.withDescription("Write the history of a run as JSON, read from the database file."))
