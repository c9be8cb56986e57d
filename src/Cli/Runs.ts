/** `ironflow runs`: look at runs and steer them. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { ListRunsOptions, Run, RunStep } from "../Client/Client.ts"
import { isObject } from "../Json.ts"
import { readData } from "./Emit.ts"
import type { ToldError } from "../ToldError.ts"
import { runStatuses } from "../RunStatus.ts"
import { errorLine, placeLines, thrownLine } from "./ErrorText.ts"
import { inCommands } from "./InCommands.ts"
import { between, fields, oneLine, print, shown, table } from "./Output.ts"
import { ask } from "./Server.ts"
import { exportRun } from "./Verify.ts"

const runId = Argument.String("run-id").pipe(
  Argument.withDescription("The id of the run, as `runs list` shows it")
)

const reason = Flag.String("reason").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("Why; it is kept with the run"),
  Flag.optional
)

const fromStep = Flag.String("from-step").pipe(
  Flag.withMetavar("STEP"),
  Flag.withDescription("Run this step (a name or a step id) and those after it again"),
  Flag.optional
)

const list = Command.make(
  "list",
  {
    function: Flag.String("function").pipe(
      Flag.withMetavar("ID"),
      Flag.withDescription("Only runs of this function"),
      Flag.optional
    ),
    status: Flag.Literals("status", runStatuses).pipe(
      Flag.withMetavar("STATUS"),
      Flag.withDescription("Only runs in this status"),
      Flag.optional
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many at most, up to 1000; 20 by default"),
      Flag.withDefault(20)
    ),
    cursor: Flag.String("cursor").pipe(
      Flag.withMetavar("CURSOR"),
      Flag.withDescription("Where the page before ended"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* (input) {
    const filter: ListRunsOptions = {
      limit: input.limit,
      ...Option.match(input.function, { onNone: () => ({}), onSome: (functionId) => ({ functionId }) }),
      ...Option.match(input.status, { onNone: () => ({}), onSome: (status) => ({ status }) }),
      ...Option.match(input.cursor, { onNone: () => ({}), onSome: (cursor) => ({ cursor }) })
    }
    const page = yield* ask((client) => client.listRuns(filter))
    const now = yield* Clock.currentTimeMillis
    yield* print(page, () => {
      const damaged = (page.damaged ?? []).map(({ id, message }) => `${id} is damaged. ${message}`).join("\n")
      if (page.runs.length === 0) return damaged === "" ? "There are no such runs." : damaged
      const rows = page.runs.map((run) => [
        run.id,
        run.functionId,
        run.status,
        run.createdAt,
        between(run.createdAt, run.endedAt, now)
      ])
      const shown = table(["RUN", "FUNCTION", "STATUS", "CREATED", "TOOK"], rows)
      const runs = damaged === "" ? shown : `${shown}\n${damaged}`
      return page.nextCursor === undefined
        ? runs
        : `${runs}\n${page.totalCount} in all; the next page: --cursor ${page.nextCursor}`
    })
  })
).pipe(Command.withDescription("List runs, the newest first."))

const get = Command.make(
  "get",
  { runId },
  Effect.fnUntraced(function* ({ runId }) {
    const run = yield* ask((client) => client.getRun(runId))
    yield* printRun(run)
  })
).pipe(Command.withDescription("Show a run: its status, input, output or error."))

const why = Command.make(
  "why",
  { runId },
  Effect.fnUntraced(function* ({ runId }) {
    const explanation = yield* ask((client) => client.explain(runId))
    yield* print(explanation, () => {
      // the error is said below, as `runs get` says it
      const { error, ...details } = explanation.details
      const facts = Object.entries(details)
      const failure = isObject(error) ? (error as unknown as ToldError) : undefined
      const message = [
        oneLine(inCommands(explanation.message, runId), 2000),
        ...(failure === undefined ? [] : placeLines(failure).map((place) => `    ${place}`))
      ].join("\n")
      return facts.length === 0
        ? message
        : `${message}\n\n${fields(Object.fromEntries(facts.map(([name, fact]) => [name, shown(fact, 1000)])))}`
    })
  })
).pipe(Command.withDescription("Say why a run is where it is, and the facts behind that."))

const steps = Command.make(
  "steps",
  { runId },
  Effect.fnUntraced(function* ({ runId }) {
    const steps = yield* ask((client) => client.getRunSteps(runId))
    yield* print({ steps }, () =>
      steps.length === 0
        ? "The run has no steps yet."
        : table(
            ["STEP", "KIND", "STATUS", "ATTEMPT", "TOOK", "RESULT"],
            steps.map((step) => [
              step.name,
              step.kind,
              step.status,
              String(step.attempt),
              between(step.startedAt, step.endedAt),
              resultOf(step)
            ])
          )
    )
  })
).pipe(Command.withDescription("List the steps of a run in the order in which it saw their results."))

const audit = Command.make(
  "audit",
  { runId },
  Effect.fnUntraced(function* ({ runId }) {
    const events = yield* ask((client) => client.getRunAudit(runId))
    yield* print({ events }, () =>
      events.length === 0
        ? "Nothing was recorded: the function of the run does not have `recording: true`."
        : table(
            ["AT", "WHAT", "STEP", "DETAILS"],
            events.map(({ at, details, stepName, type }) => [at, type, stepName ?? "", shown(details, 120)])
          )
    )
  })
).pipe(Command.withDescription("List what happened to a run, if its function records that."))

const resultOf = (step: RunStep): string => {
  if (step.error !== undefined) return thrownLine(step.error, 80)
  if (step.status === "waiting") return step.dueAt === undefined ? "" : `until ${step.dueAt}`
  return shown(step.output)
}

const cancel = Command.make(
  "cancel",
  { runId, reason },
  Effect.fnUntraced(function* ({ runId, reason }) {
    const run = yield* ask((client) => client.cancelRun(runId, Option.getOrUndefined(reason)))
    yield* print(run, () =>
      run.status === "cancelled" ? `Run ${run.id} is cancelled.` : `Run ${run.id} had ${run.status} already.`
    )
  })
).pipe(Command.withDescription("Cancel a run, and the runs that it waits for."))

const pause = Command.make(
  "pause",
  { runId, reason },
  Effect.fnUntraced(function* ({ runId, reason }) {
    const run = yield* ask((client) => client.pauseRun(runId, Option.getOrUndefined(reason)))
    yield* print(run, () =>
      run.status === "paused"
        ? `Run ${run.id} is paused; \`ironflow runs resume ${run.id}\` lets it go on.`
        : `Run ${run.id} pauses when the step that it is in has ended.`
    )
  })
).pipe(Command.withDescription("Pause a run: it goes no further until it is resumed."))

const patch = Command.make(
  "patch",
  {
    stepId: Argument.String("step-id").pipe(
      Argument.withDescription("The id of the step, as `runs steps --json` shows it: <run id>:<name>:<n>")
    ),
    output: Argument.String("output").pipe(
      Argument.withDescription("Its output from now on as JSON, or - to read it from standard input")
    ),
    reason
  },
  Effect.fnUntraced(function* ({ stepId, output, reason }) {
    const value = yield* readData(output)
    yield* ask((client) => client.patchStep(stepId, value, Option.getOrUndefined(reason)))
    yield* print(
      { stepId, output: value },
      () => `Step ${stepId} has this output from now on: ${shown(value)}`
    )
  })
).pipe(
  Command.withDescription(
    "Replace the output of a step that has finished, or finish one that has not. A run that is paused is still to be resumed."
  )
)

const resume = Command.make(
  "resume",
  { runId, fromStep },
  Effect.fnUntraced(function* ({ runId, fromStep }) {
    const run = yield* ask((client) => client.resumeRun(runId, Option.getOrUndefined(fromStep)))
    yield* print(run, () => `Run ${run.id} goes on.`)
  })
).pipe(Command.withDescription("Let a paused run go on."))

const retry = Command.make(
  "retry",
  { runId, fromStep },
  Effect.fnUntraced(function* ({ runId, fromStep }) {
    const run = yield* ask((client) => client.retryRun(runId, Option.getOrUndefined(fromStep)))
    yield* print(run, () =>
      Option.match(fromStep, {
        onNone: () => `Run ${run.id} runs again; its finished steps keep their results.`,
        onSome: (step) => `Run ${run.id} runs again from step ${step}; those before it keep their results.`
      })
    )
  })
).pipe(Command.withDescription("Run a failed or cancelled run again from where it failed."))

const printRun = (run: Run) =>
  print(run, () =>
    fields({
      run: run.id,
      function: run.functionId,
      status: run.status,
      // steps are tried again by themselves: this is about the function, and of interest once it began anew
      attempt: run.attempt > 1 ? `${run.attempt} of ${run.maxAttempts}` : undefined,
      event: run.eventId,
      parent: run.parentRunId,
      worker: run.workerId,
      created: run.createdAt,
      ended: run.endedAt,
      took: between(run.createdAt, run.endedAt) || undefined,
      paused: run.pauseReason === undefined ? undefined : oneLine(inCommands(run.pauseReason, run.id)),
      input: run.input === undefined ? undefined : shown(run.input, 2000),
      output: run.output === undefined ? undefined : shown(run.output, 2000),
      error:
        run.error === undefined ? undefined : [errorLine(run.error), ...placeLines(run.error)].join("\n"),
      code: run.error?.code
    })
  )

export const runs = Command.make("runs").pipe(
  Command.withAlias("run"),
  Command.withDescription("Look at runs and steer them."),
  Command.withShortDescription("Look at runs and steer them"),
  Command.withSubcommands([list, get, why, steps, audit, exportRun, cancel, pause, patch, resume, retry])
)
