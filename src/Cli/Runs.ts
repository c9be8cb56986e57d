/** `ironflow runs`: shows and controls runs. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Client, type Run, type RunStep } from "../Client/Client.ts"
import { pageOfReason } from "../Protocol/ExplainReasons.ts"
import { isObject } from "../Json.ts"
import { readData } from "./Emit.ts"
import type { ReportedError } from "../DescribeError.ts"
import { errorLine, placeLines, thrownLine } from "./ErrorText.ts"
import { methodsToCommands } from "./MethodsToCommands.ts"
import { lineLevels } from "../LogFields.ts"
import { formatRecord } from "../LogFormat.ts"
import { logChoice, logFlags } from "./LogOutput.ts"
import { durationBetween, fields, oneLine, print, jsonLine, table } from "./Output.ts"
import { callServer } from "./ServerCalls.ts"
import { count } from "./RunCount.ts"
import { list } from "./RunList.ts"
import { cancel, fork, move, pause, reason, remove, rerun, resume, retry } from "./RunActions.ts"
import { exportRun } from "./Verify.ts"
import { commandsOf } from "./OneCallCommands.ts"

const clientCommand = commandsOf(Client)

const runId = Argument.String("run-id").pipe(
  Argument.withDescription("The id of the run, as `runs list` shows it")
)

const get = Command.make(
  "get",
  { runId },
  Effect.fnUntraced(function* ({ runId }) {
    const run = yield* callServer((client) => client.getRun(runId))
    yield* printRun(run)
  })
).pipe(Command.withDescription("Show a run: its status, input, output or error."))

const why = clientCommand("why", {
  description: "Explain why a run is in its current state, with the facts behind it.",
  parameters: { runId },
  call: (client, { runId }) => client.explain(runId),
  text: (explanation, { runId }) => {
    // the error is printed below, as in `runs get`
    const { error, ...details } = explanation.details
    const facts = Object.entries(details)
    const failure = isObject(error) ? (error as unknown as ReportedError) : undefined
    const message = [
      oneLine(methodsToCommands(explanation.message, runId), 2000),
      ...(failure === undefined ? [] : placeLines(failure).map((place) => `    ${place}`))
    ].join("\n")
    const page = pageOfReason(explanation.code)
    return [
      message,
      ...(facts.length === 0
        ? []
        : ["", fields(Object.fromEntries(facts.map(([name, fact]) => [name, jsonLine(fact, 1000)])))]),
      ...(page === undefined
        ? []
        : ["", `${explanation.code}: see ${page} of @ironflow/node for what to do.`])
    ].join("\n")
  }
})

const steps = Command.make(
  "steps",
  { runId },
  Effect.fnUntraced(function* ({ runId }) {
    const steps = yield* callServer((client) => client.getRunSteps(runId))
    const now = yield* Clock.currentTimeMillis
    yield* print({ steps }, () =>
      steps.length === 0
        ? "The run has no steps yet."
        : table(
            ["STEP", "KIND", "STATUS", "ATTEMPT", "TOOK", "WAITED", "RESULT"],
            steps.map((step) => [
              step.name,
              step.kind,
              step.status,
              String(step.attempt),
              ...(executedCode(step) ? [durationOf(step, now), ""] : ["", durationOf(step, now)]),
              resultOf(step)
            ])
          )
    )
  })
).pipe(
  Command.withDescription(
    "List the steps of a run: the finished steps in the order in which the run saw their results, then the waiting steps, then the running ones. TOOK is how long the code of a step ran. WAITED is how long a sleep, a wait, an invocation or a step before its next attempt has waited. Both count up to now for unfinished steps."
  )
)

/** How long the step took, or how long ago an unfinished step started. */
const durationOf = ({ endedAt, startedAt }: RunStep, now: number): string =>
  durationBetween(startedAt, endedAt, now)

/** Whether the duration of the step is a time in which code ran, and not a time in which the step waited. */
const executedCode = ({ kind, status }: RunStep): boolean =>
  status !== "waiting" && (kind === "run" || kind === "tx" || kind === "compensate")

const audit = clientCommand("audit", {
  description: "List the recorded history of a run, if its function has `recording: true`.",
  parameters: { runId },
  call: (client, { runId }) => client.getRunAudit(runId),
  json: (events) => ({ events }),
  text: (events) =>
    events.length === 0
      ? "Nothing is recorded: the function of the run does not have `recording: true`, or the record has expired."
      : table(
          ["AT", "WHAT", "STEP", "DETAILS"],
          events.map(({ at, details, stepName, type }) => [at, type, stepName ?? "", jsonLine(details, 120)])
        )
})

const logs = Command.make(
  "logs",
  {
    runId,
    logFormat: logFlags.logFormat,
    level: Flag.Literals("level", lineLevels).pipe(
      Flag.withMetavar("LEVEL"),
      Flag.withDescription("Only lines of this level and above; all by default"),
      Flag.withDefault("debug" as const)
    )
  },
  Effect.fnUntraced(function* ({ runId, level, logFormat }) {
    const all = yield* callServer((client) => client.getRunLogs(runId))
    const lines = all.filter((line) => lineLevels.indexOf(line.level) >= lineLevels.indexOf(level))
    const { format } = logChoice({ logFormat, logLevel: Option.none() })
    yield* print({ lines }, () => {
      const missingCount = (all[0]?.number ?? 1) - 1
      return [
        ...(missingCount === 0
          ? []
          : [`${missingCount} earlier ${missingCount === 1 ? "line is" : "lines are"} not kept any more.`]),
        ...(lines.length === 0
          ? [all.length === 0 ? "The run has logged nothing." : "There are no such lines."]
          : []),
        ...lines.map(({ at, data, level, message, number: _, ...fields }) =>
          formatRecord(format, {
            at: Date.parse(at),
            level,
            message,
            data,
            fields: { run: runId, ...fields }
          })
        )
      ].join("\n")
    })
  })
).pipe(Command.withDescription("Print what the code of a run has logged, oldest first."))

const resultOf = (step: RunStep): string => {
  if (step.error !== undefined) return thrownLine(step.error, 80)
  if (step.status === "running") return progressLine(step)
  if (step.status === "waiting") return step.dueAt === undefined ? "" : `until ${step.dueAt}`
  return jsonLine(step.output)
}

/** The reported progress of the step, and the worker that runs it. */
const progressLine = ({ progress: { fraction, text } = {}, workerId }: RunStep): string =>
  [
    ...(fraction === undefined ? [] : [`${Math.floor(fraction * 100)} %`]),
    ...(text === undefined ? [] : [oneLine(text, 80)]),
    ...(workerId === undefined ? [] : [`on ${workerId}`])
  ].join(", ")

const patch = Command.make(
  "patch",
  {
    stepId: Argument.String("step-id").pipe(
      Argument.withDescription("The id of the step, as `runs steps --json` shows it: <run id>:<name>:<n>")
    ),
    output: Argument.String("output").pipe(
      Argument.withDescription("The new output of the step as JSON, or - to read it from standard input")
    ),
    reason
  },
  Effect.fnUntraced(function* ({ stepId, output, reason }) {
    const value = yield* readData(output)
    yield* callServer((client) => client.patchStep(stepId, value, Option.getOrUndefined(reason)))
    yield* print({ stepId, output: value }, () => `Step ${stepId} now has this output: ${jsonLine(value)}`)
  })
).pipe(
  Command.withDescription(
    "Replace the output of a step that has finished, or finish an unfinished step with this output. A paused run stays paused."
  )
)

const printRun = (run: Run) =>
  print(run, () =>
    fields({
      run: run.id,
      function: run.functionId,
      status: run.status,
      // shown if the function as a whole was tried more than once; `runs steps` shows the attempts of steps
      attempt: run.attempt > 1 ? `${run.attempt} of ${run.maxAttempts}` : undefined,
      event: run.eventId,
      parent: run.parentRunId,
      "invoked by": run.invokedBy,
      "forked from": run.forkedFrom,
      version: run.codeVersion,
      worker: run.workerId,
      created: run.createdAt,
      ended: run.endedAt,
      "ended after": durationBetween(run.createdAt, run.endedAt) || undefined,
      erased: run.erasedAt,
      paused: run.pauseReason === undefined ? undefined : oneLine(methodsToCommands(run.pauseReason, run.id)),
      input: run.input === undefined ? undefined : jsonLine(run.input, 2000),
      output: run.output === undefined ? undefined : jsonLine(run.output, 2000),
      error:
        run.error === undefined ? undefined : [errorLine(run.error), ...placeLines(run.error)].join("\n"),
      code: run.error?.code
    })
  )

export const runs = Command.make("runs").pipe(
  Command.withAlias("run"),
  Command.withDescription("Show runs, and cancel, pause, resume, retry, rerun, fork, move or delete them."),
  Command.withShortDescription("Show and control runs"),
  Command.withSubcommands([
    list,
    count,
    get,
    why,
    steps,
    logs,
    audit,
    exportRun,
    cancel,
    pause,
    patch,
    resume,
    retry,
    fork,
    move,
    rerun,
    remove
  ])
)
