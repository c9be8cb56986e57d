/**
 * `ironflow emit`: emits an event, and with `--wait` follows the runs that the event starts. Other commands use the
 * functions at the end of this file to read JSON data and `--timeout`.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { ClientApi, EffectKind, Run } from "../Client/Client.ts"
import { positiveDuration } from "../Duration.ts"
import { type IronflowError, isIronflowError } from "../Errors.ts"
import { CommandError } from "./CommandError.ts"
import { checkShape } from "../JsonLimits.ts"
import { ironflow } from "./Ironflow.ts"
import { show } from "../Show.ts"
import { methodsToCommands } from "./MethodsToCommands.ts"
import { errorLine, placeLines } from "./ErrorText.ts"
import { durationBetween, jsonLine, toJson } from "./Output.ts"
import { leaveUnfinished } from "./Process.ts"
import { callServer } from "./ServerCalls.ts"
import { readStdin } from "./Stdin.ts"
import { givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

export const emit = Command.make(
  "emit",
  {
    event: Argument.String("event").pipe(Argument.withDescription("The event's name, such as order.placed")),
    data: Argument.String("data").pipe(
      Argument.withDescription(
        "The event's data as JSON, or - to read it from standard input; {} when left out"
      ),
      Argument.optional
    ),
    dataFlag: textFlag("data").pipe(
      Flag.withMetavar("JSON"),
      Flag.withDescription("The data, instead of the argument"),
      Flag.optional
    ),
    idempotencyKey: textFlag("idempotency-key").pipe(
      Flag.withMetavar("KEY"),
      Flag.withDescription("Emitting again with the same key within 24 hours changes nothing"),
      Flag.optional
    ),
    eventVersion: Flag.Int("event-version").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("The schema version of the event; 1 by default"),
      Flag.optional
    ),
    wait: Flag.Boolean("wait").pipe(
      Flag.withDescription(
        "Wait for the runs and print them; exit code 0 only if there is at least one and all complete"
      ),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    timeout: textFlag("timeout").pipe(
      Flag.withMetavar("DURATION"),
      Flag.withDescription("With --wait: how long to wait at most, such as 30s; no limit by default"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* (input) {
    const { json } = yield* ironflow
    if (Option.isSome(input.timeout) && !input.wait) {
      return yield* new CommandError("--timeout needs --wait", { code: "USAGE" })
    }
    const timeout = yield* readTimeout(input.timeout)
    if (Option.isSome(input.data) && Option.isSome(input.dataFlag)) {
      return yield* new CommandError("The data is there twice, as an argument and as --data: give it once", {
        code: "USAGE"
      })
    }
    const data = yield* readData(
      Option.getOrElse(
        Option.orElse(input.data, () => input.dataFlag),
        () => "{}"
      )
    )
    yield* callServer((client) =>
      Effect.gen(function* () {
        const { eventId, position, runIds } = yield* client.emit(input.event, data, {
          ...givenFlags({ idempotencyKey: input.idempotencyKey, version: input.eventVersion })
        })
        if (json && !input.wait) return yield* Console.log(JSON.stringify({ eventId, position, runIds }))
        if (!json) yield* Console.log(emittedText(input.event, eventId, runIds))
        if (!input.wait) return
        if (runIds.length === 0) {
          if (json) yield* Console.log(JSON.stringify({ eventId, position, runIds, runs: [] }))
          return yield* Effect.fail(nothingStartedError(input.event))
        }
        const runs = yield* waitForAll(client, runIds, timeout, json).pipe(
          // prints the ids, so that the user can look at the runs later
          Effect.tapError(() =>
            json ? Console.log(JSON.stringify({ eventId, position, runIds })) : Effect.void
          ),
          Effect.onInterrupt(() => Effect.sync(leaveUnfinished))
        )
        if (json) yield* Console.log(toJson({ eventId, position, runIds, runs }))
        const incomplete = runs.filter((run) => run.status !== "completed")
        if (incomplete.length > 0) return yield* Effect.fail(incompleteError(incomplete, runs.length))
      })
    )
  })
).pipe(
  Command.withDescription("Emit an event: one run starts for every function whose trigger matches."),
  Command.withShortDescription("Emit an event"),
  Command.withExamples([
    { command: `ironflow emit order.placed '{"orderId":"o-1"}' --wait` },
    { command: "ironflow emit order.placed - < order.json", description: "Data from a file" }
  ])
)

const emittedText = (event: string, eventId: string, runIds: ReadonlyArray<string>): string => {
  if (runIds.length === 0) {
    return `Emitted ${event} as ${eventId}. It started no run: no function has a trigger that matches.`
  }
  return [`Emitted ${event} as ${eventId}. It started:`, ...runIds.map((id) => `  ${id}`)].join("\n")
}

const waitForAll = (
  client: ClientApi<EffectKind>,
  runIds: ReadonlyArray<string>,
  timeout: number | undefined,
  json: boolean
) =>
  Effect.forEach(
    runIds,
    (runId) => {
      const awaitedRun = client.waitForRun(runId, timeout === undefined ? {} : { timeout })
      if (json) return awaitedRun
      return Effect.scoped(
        Effect.andThen(
          Effect.forkScoped(printWhy(client, runId)),
          Effect.tap(awaitedRun, (run) => Console.log(endedLine(run)))
        )
      )
    },
    { concurrency: "unbounded" }
  )

/** How long `emit --wait` may print nothing. */
const SILENCE_MS = 5000

/** Prints after {@link SILENCE_MS} what the run waits for, since the user may have to act. */
const printWhy = (client: ClientApi<EffectKind>, runId: string) =>
  Effect.sleep(SILENCE_MS).pipe(
    Effect.andThen(client.explain(runId)),
    Effect.flatMap(({ message }) =>
      Console.error(`${runId} has not ended yet. ${methodsToCommands(message, runId)}`)
    ),
    // `waitForRun` asks the same server, and reports its errors
    Effect.ignore
  )

const endedLine = (run: Run): string => {
  const { error } = run
  const result = error === undefined ? jsonLine(run.output, 1000) : errorLine(error)
  const line = `${run.id}  ${run.functionId}  ${run.status} in ${durationBetween(run.createdAt, run.endedAt)}  ${result}`
  const places = error === undefined ? [] : placeLines(error)
  return [line.trimEnd(), ...places.map((place) => `    ${place}`)].join("\n")
}

const nothingStartedError = (event: string): IronflowError =>
  new CommandError(
    `There is no run to wait for: no function has a trigger that matches ${show(event)}. ` +
      "`ironflow functions list` shows which events start which functions",
    { code: "NO_RUN_STARTED" }
  )

const incompleteError = (incomplete: ReadonlyArray<Run>, all: number): IronflowError =>
  new CommandError(
    `${incomplete.length} of ${all} ${all === 1 ? "run" : "runs"} did not complete: ` +
      `${incomplete.map((run) => `${run.id} ${run.status}`).join(", ")}. \`ironflow runs get\` shows more`,
    { code: "RUN_NOT_COMPLETED" }
  )

export const readTimeout = (text: Option.Option<string>): Effect.Effect<number | undefined, IronflowError> =>
  Effect.try({
    try: () =>
      Option.getOrUndefined(
        Option.map(text, (value) =>
          positiveDuration(/^\d+$/.test(value) ? Number(value) : value, "value of --timeout")
        )
      ),
    catch: (error) => {
      if (isIronflowError(error)) return error
      throw error
    }
  })

/** Reads the data from the argument, or from standard input when the argument is `-`. */
export const readData = (
  argument: string,
  what = "The data",
  advice = `Write it in single quotes, like '{"orderId":"o-1"}'`
): Effect.Effect<unknown, IronflowError> =>
  Effect.flatMap(argument === "-" ? readStdin : Effect.succeed(argument), (text) =>
    Effect.try({
      try: (): unknown => JSON.parse(checkShape("the data", text)),
      catch: (error) =>
        isIronflowError(error)
          ? error
          : new CommandError(
              `${what} is not JSON (${error instanceof Error ? error.message : String(error)}): ` +
                `${text.trim() === "" ? "it is empty" : `it begins with ${jsonLine(text.slice(0, 40))}`}. ` +
                advice,
              { code: "USAGE" }
            )
    })
  )
