/**
 * `ironflow runs cancel`, `pause`, `resume`, `retry`, `rerun`, `fork`, `move` and `delete`. They act on one run,
 * given its id, or on many runs, given ids or filters.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { BulkAction, BulkOptions, ClientApi, EffectKind, Run, RunStep } from "../Client/Client.ts"
import { bulkIds } from "../Limits.ts"
import type { TextOption } from "../Protocol/Bulk.ts"
import { bulkFlags, changeManyRuns, idsOf } from "./Bulk.ts"
import { givenFlags } from "./OneCallCommands.ts"
import { CommandError } from "./CommandError.ts"
import { readData } from "./Emit.ts"
import { methodsToCommands } from "./MethodsToCommands.ts"
import { ironflow } from "./Ironflow.ts"
import { show } from "../Show.ts"
import { oneLine, print } from "./Output.ts"
import { filterFlags, filtersOf } from "./RunList.ts"
import { callServer } from "./ServerCalls.ts"
import { readStdin } from "./Stdin.ts"
import { textFlag } from "./TextFlag.ts"

const runIds = Argument.String("run-id").pipe(
  Argument.withDescription(
    "Ids of runs, as `runs list` shows them, or - to read them from standard input, one per line"
  ),
  Argument.variadic()
)

export const reason = textFlag("reason").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("The reason; it is kept with the run"),
  Flag.optional
)

const fromStep = textFlag("from-step").pipe(
  Flag.withMetavar("STEP"),
  Flag.withDescription("Run this step (a name or a step id) and all later steps again"),
  Flag.optional
)

/** How a command acts on a single run that is named by its id. */
interface SingleRunCall<E> {
  readonly call: (client: ClientApi<EffectKind>, runId: string, options: BulkOptions) => Effect.Effect<Run, E>
  readonly text: (run: Run, options: BulkOptions) => string
  /** What else a user should know. This text follows `text`. `steps` are the steps of the named run after the call. */
  readonly hint?: (steps: ReadonlyArray<RunStep>, run: Run, options: BulkOptions) => string
  /** Whether the run needs a worker afterwards. */
  readonly needsWorker?: true
}

/** Codes of `runs why` for runs that wait until somebody does something. */
const stuckCodes: ReadonlySet<string> = new Set([
  "NO_WORKER_OF_VERSION",
  "NO_WORKER",
  "FUNCTION_PAUSED",
  "ENDPOINT_UNAVAILABLE"
])

/**
 * Why the run waits, on a line of its own, in the words of `runs why`. Empty when the run continues by
 * itself.
 */
const stuckReasonLine = (runId: string) =>
  callServer((client) => client.explain(runId)).pipe(
    Effect.map(({ code, message }) =>
      stuckCodes.has(code) ? `\nIt still waits. ${oneLine(methodsToCommands(message, runId), 2000)}` : ""
    ),
    // The action has already succeeded, so after an error this line is left out. The API key may be allowed to control
    // runs, but not to read them.
    Effect.orElseSucceed(() => "")
  )

/** The steps of a run, for a hint. None if they cannot be read: the action has already succeeded. */
const stepsOf = (runId: string) =>
  callServer((client) => client.getRunSteps(runId)).pipe(
    Effect.orElseSucceed((): ReadonlyArray<RunStep> => [])
  )

/** Kinds of steps whose failure a retry keeps. */
const keptFailures: ReadonlySet<string> = new Set(["waitForEvent", "invoke"])

interface ActionInput {
  readonly runIds: ReadonlyArray<string>
  readonly dryRun: boolean
  readonly yes: boolean
  readonly reason?: Option.Option<string>
  readonly fromStep?: Option.Option<string>
  /** The flag `--from` of `fork`, which becomes the option `fromStep`. */
  readonly from?: Option.Option<string>
  readonly version?: Option.Option<string>
}

const optionsOf = (input: ActionInput): Pick<BulkOptions, TextOption> =>
  givenFlags({
    reason: input.reason ?? Option.none(),
    fromStep: input.fromStep ?? input.from ?? Option.none(),
    version: input.version ?? Option.none()
  })

/**
 * Acts on the runs of the input. `single` acts on one run that is named by its id, without confirmation; without
 * `single`, one run is handled like several runs. `singleFlags` are the given flags that only apply to one run: with
 * several runs, or with `--dry-run`, these flags are refused.
 */
const actOnRuns = <E>(
  action: BulkAction,
  input: ActionInput & Parameters<typeof filtersOf>[0],
  single?: SingleRunCall<E>,
  singleFlags: ReadonlyArray<string> = []
) =>
  Effect.gen(function* () {
    const filters = yield* filtersOf(input)
    const hasFilters = Object.keys(filters).length > 0
    const options = optionsOf(input)
    const { dryRun, yes } = input
    const [firstId] = input.runIds
    if (input.runIds.length === 0 && !hasFilters) {
      return yield* new CommandError(
        `Select the runs to ${action}: by their ids, by "-" with ids on standard input, or by filters such as --status failed`,
        { code: "USAGE" }
      )
    }
    if (input.runIds.length > 0 && hasFilters) {
      return yield* new CommandError("Give either ids of runs or filters, not both", {
        code: "USAGE"
      })
    }
    if (
      single !== undefined &&
      input.runIds.length === 1 &&
      firstId !== undefined &&
      firstId !== "-" &&
      !dryRun
    ) {
      const run = yield* callServer((client) => single.call(client, firstId, options))
      const { json } = yield* ironflow
      const whyLine = single.needsWorker === true && !json ? yield* stuckReasonLine(run.id) : ""
      const { hint } = single
      const hintText = hint === undefined || json ? "" : hint(yield* stepsOf(firstId), run, options)
      return yield* print(run, () => single.text(run, options) + hintText + whyLine)
    }
    if (singleFlags.length > 0) {
      return yield* new CommandError(
        dryRun && input.runIds.length === 1 && firstId !== "-"
          ? `--dry-run only counts runs, and ignores ${singleFlags.join(" and ")}: leave out either --dry-run, or ${singleFlags.join(" and ")}`
          : `${singleFlags.join(" and ")} ${singleFlags.length === 1 ? "works" : "work"} on exactly one run: give one run id, or leave ${singleFlags.join(" and ")} out`,
        { code: "USAGE" }
      )
    }
    const isStdinRead = input.runIds.includes("-")
    const stdinIds = isStdinRead ? idsOf(yield* readStdin) : []
    const ids = [...input.runIds.filter((id) => id !== "-"), ...stdinIds]
    if (!hasFilters && ids.length === 0) {
      return yield* new CommandError("Standard input has no ids of runs", { code: "USAGE" })
    }
    if (ids.length > bulkIds) {
      return yield* new CommandError(
        `${ids.length} ids are too many for one operation, which takes ${bulkIds}: find the runs by filters, or split the ids, as \`split -l ${bulkIds}\` does`,
        { code: "USAGE" }
      )
    }
    return yield* changeManyRuns({
      action,
      runs: hasFilters ? filters : { ids },
      options,
      dryRun,
      yes,
      isStdinRead
    })
  })

const manyRunsText =
  "Takes ids, or the filters of `runs list`. Several runs are counted first, and the command asks before it changes them unless --yes is given."
const examples = (verb: string, filter: string) => [
  { command: `ironflow runs ${verb} ${filter} --dry-run` },
  { command: `ironflow runs ${verb} ${filter} --yes` },
  { command: `ironflow runs ${verb} - --yes < ids.txt` }
]

export const cancel = Command.make("cancel", { runIds, reason, ...filterFlags, ...bulkFlags }, (input) =>
  actOnRuns("cancel", input, {
    call: (client, runId, { reason }) => client.cancelRun(runId, reason),
    text: (run) =>
      run.status === "cancelled"
        ? `Run ${run.id} is cancelled.`
        : `Run ${run.id} had already ended (${run.status}).`,
    hint: (steps, run) =>
      run.status === "cancelled" && steps.some(({ status }) => status === "completed")
        ? " What its finished steps have done stays done: a cancelled run is not compensated."
        : ""
  })
).pipe(
  Command.withDescription(`Cancel a run, and the runs that it waits for. ${manyRunsText}`),
  Command.withShortDescription("Cancel a run, or many"),
  Command.withExamples(examples("cancel", "--function process-order --created-to 7d"))
)

export const pause = Command.make("pause", { runIds, reason, ...filterFlags, ...bulkFlags }, (input) =>
  actOnRuns("pause", input, {
    call: (client, runId, { reason }) => client.pauseRun(runId, reason),
    text: (run, { reason = "" }) =>
      reason !== "" && run.pauseReason !== undefined && run.pauseReason !== reason
        ? `Run ${run.id} was already paused, and keeps its earlier reason: ${oneLine(methodsToCommands(run.pauseReason, run.id), 400)}`
        : run.status === "paused"
          ? `Run ${run.id} is paused; \`ironflow runs resume ${run.id}\` continues it.`
          : `Run ${run.id} pauses when its running steps have ended.`
  })
).pipe(
  Command.withDescription(`Pause a run: it does not continue until it is resumed. ${manyRunsText}`),
  Command.withShortDescription("Pause a run, or many"),
  Command.withExamples(examples("pause", "--function process-order --status waiting"))
)

export const resume = Command.make("resume", { runIds, fromStep, ...filterFlags, ...bulkFlags }, (input) =>
  actOnRuns("resume", input, {
    call: (client, runId, { fromStep }) => client.resumeRun(runId, fromStep),
    text: (run) => `Run ${run.id} continues.`,
    needsWorker: true
  })
).pipe(
  Command.withDescription(`Resume a paused run. ${manyRunsText}`),
  Command.withShortDescription("Resume a paused run, or many"),
  Command.withExamples(examples("resume", "--status paused"))
)

export const retry = Command.make("retry", { runIds, fromStep, ...filterFlags, ...bulkFlags }, (input) =>
  actOnRuns("retry", input, {
    call: (client, runId, { fromStep }) => client.retryRun(runId, fromStep),
    text: (run, { fromStep }) =>
      fromStep === undefined
        ? `Run ${run.id} runs again; its finished steps keep their results.`
        : `Run ${run.id} runs again from step ${fromStep}; earlier steps keep their results.`,
    hint: (steps, run, { fromStep }) => {
      const failed =
        fromStep === undefined
          ? steps.find(({ kind, status }) => status === "failed" && keptFailures.has(kind))
          : undefined
      return failed === undefined
        ? ""
        : `\nStep ${failed.name} (${failed.kind}) has failed and keeps its failure. If the run fails because of that again, \`ironflow runs retry ${run.id} --from-step ${failed.name}\` lets the step ${failed.kind === "invoke" ? "invoke" : "wait"} again.`
    },
    needsWorker: true
  })
).pipe(
  Command.withDescription(`Run a failed or cancelled run again from where it stopped. ${manyRunsText}`),
  Command.withShortDescription("Run a failed run again, or many"),
  Command.withExamples(examples("retry", '--status failed --error "card declined"'))
)

export const rerun = Command.make("rerun", { runIds, ...filterFlags, ...bulkFlags }, (input) =>
  actOnRuns("rerun", input)
).pipe(
  Command.withDescription(
    "Start a new run with the same function and input for each of the given runs. A given run must have ended, and no other run may have invoked it. " +
      "Takes ids, or the filters of `runs list`. The runs are counted first, and the command asks before it starts new ones unless --yes is given."
  ),
  Command.withShortDescription("Start new runs with the same input"),
  Command.withExamples(examples("rerun", "--status completed --created-from 1h"))
)

export const fork = Command.make(
  "fork",
  {
    runIds,
    from: textFlag("from").pipe(
      Flag.withMetavar("STEP"),
      Flag.withDescription(
        "The first step that runs again (a name or a step id); earlier steps keep their results. Without this option all steps run again"
      ),
      Flag.optional
    ),
    patch: textFlag("patch").pipe(
      Flag.withMetavar("STEP=JSON"),
      Flag.withDescription(
        "A step, and the result that replaces the recorded result of that step; may be repeated. For one run only"
      ),
      Flag.atLeast(0)
    ),
    data: textFlag("data").pipe(
      Flag.withMetavar("JSON"),
      Flag.withDescription(
        "The data that the new run gets instead of the data of the event, or - to read it from standard input. For one run only"
      ),
      Flag.optional
    ),
    ...filterFlags,
    ...bulkFlags
  },
  Effect.fnUntraced(function* (input) {
    const { data, from, patch } = input
    const steps: Record<string, unknown> = {}
    for (const text of patch) {
      const at = text.indexOf("=")
      if (at <= 0) {
        return yield* new CommandError(
          `--patch takes a step and its result, as in --patch 'charge={"ok":true}', got ${show(text)}`,
          { code: "USAGE" }
        )
      }
      const step = text.slice(0, at)
      steps[step] = yield* readData(
        text.slice(at + 1),
        `The result in --patch ${step}`,
        `Write it in single quotes, and a text also in double quotes, like --patch '${step}={"ok":true}' or --patch '${step}="done"'`
      )
    }
    const isSingleRun = input.runIds.length === 1 && input.runIds[0] !== "-"
    const value = isSingleRun && Option.isSome(data) ? yield* readData(data.value) : undefined
    return yield* actOnRuns(
      "fork",
      input,
      {
        call: (client, runId) =>
          client.forkRun(runId, {
            ...givenFlags({ from }),
            ...(patch.length === 0 ? {} : { steps }),
            ...(value === undefined ? {} : { data: value })
          }),
        text: ({ forkedFrom, id }) =>
          `Run ${id} is a fork of run ${forkedFrom}${Option.isNone(from) ? "" : `, with the results of that run's steps before ${from.value}`}. Run ${forkedFrom} stays as it is.`,
        // `steps` are those of the original run, not of the fork
        hint: (steps) =>
          Option.isSome(from) && steps.some(({ name }) => name.startsWith("compensate:"))
            ? " Steps that it has compensated run again."
            : ""
      },
      [...(patch.length === 0 ? [] : ["--patch"]), ...(Option.isNone(data) ? [] : ["--data"])]
    )
  })
).pipe(
  Command.withDescription(
    "Start a new run from the recorded steps of another run, which may have any status: with the current code, other results or other data. " +
      manyRunsText
  ),
  Command.withShortDescription("Start a new run from the recorded steps of another, or many"),
  Command.withExamples([
    { command: "ironflow runs fork run_1 --from charge" },
    { command: `ironflow runs fork run_1 --from ship --patch 'charge={"receipt":"r-1"}'` },
    {
      command:
        "ironflow runs fork --from ship --function process-order --status completed --created-from 1d --dry-run"
    }
  ])
)

export const move = Command.make(
  "move",
  {
    runIds,
    version: textFlag("version").pipe(
      Flag.withMetavar("VERSION"),
      Flag.withDescription(
        "The version to move to, as `functions history` shows it under CODE; the latest version by default"
      ),
      Flag.optional
    ),
    ...filterFlags,
    ...bulkFlags
  },
  (input) =>
    actOnRuns("move", input, {
      call: (client, runId) => client.moveRun(runId, givenFlags({ version: input.version })),
      text: (run) => `Run ${run.id} continues with version "${run.codeVersion ?? ""}" of ${run.functionId}.`
    })
).pipe(
  Command.withDescription(
    "Move an unfinished run to another version of its function than the pinned one, for example when no worker has the pinned version any more. " +
      `The code of the other version must be able to continue from the recorded steps of the run. ${manyRunsText}`
  ),
  Command.withShortDescription("Move a run to another version, or many"),
  Command.withExamples(examples("move", "--function process-order --status waiting"))
)

export const remove = Command.make("delete", { runIds, ...filterFlags, ...bulkFlags }, (input) =>
  actOnRuns("delete", input)
).pipe(
  Command.withDescription(
    "Delete runs that have ended, with their steps and logs; their events stay. The newest run of all is never deleted. " +
      "Takes ids, or the filters of `runs list`. The runs are counted first, and the command asks before it changes them unless --yes is given."
  ),
  Command.withShortDescription("Delete runs that have ended"),
  Command.withExamples(examples("delete", "--function ping --ended-to 1d"))
)
