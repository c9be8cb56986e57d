/**
 * Implements `ironflow bulk`, and what `ironflow runs cancel` and similar commands do with many runs: they count the
 * runs, ask for confirmation, start a bulk operation, and follow the operation to its end.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import {
  type BulkAction,
  type BulkOperation,
  type BulkOptions,
  type BulkRuns,
  Client
} from "../Client/Client.ts"
import { TimeoutError } from "../Errors.ts"
import type { TextOption } from "../Protocol/Bulk.ts"
import { commandsOf } from "./OneCallCommands.ts"
import { CommandError } from "./CommandError.ts"
import { readTimeout } from "./Emit.ts"
import { ironflow } from "./Ironflow.ts"
import { keepTrying, isTemporary } from "./KeepTrying.ts"
import { durationBetween, fields, oneLine, print, jsonLine, table } from "./Output.ts"
import { leaveUnfinished } from "./Process.ts"
import { showProgress, withProgressLine } from "./ProgressLine.ts"
import { warnOfUnknownFunctions } from "./RunList.ts"
import { provideServer } from "./ServerCalls.ts"
import { showMs } from "../Show.ts"
import { textFlag } from "./TextFlag.ts"

const clientCommand = commandsOf(Client)

/** The flags of commands that start bulk operations, besides the filters. */
export const bulkFlags = {
  dryRun: Flag.Boolean("dry-run").pipe(
    Flag.withDescription("Only count what matches; nothing is changed"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  ),
  yes: Flag.Boolean("yes").pipe(
    Flag.withAlias("y"),
    Flag.withDescription("Do not ask before anything is changed"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  )
}

interface BulkCommand {
  readonly action: BulkAction
  readonly runs: BulkRuns
  readonly options: Pick<BulkOptions, TextOption>
  readonly dryRun: boolean
  readonly yes: boolean
  /** Whether the ids come from standard input. Then the user cannot enter a confirmation there. */
  readonly isStdinRead: boolean
}

/** How often the progress of an operation is asked for. */
const POLL_MS = 1000

/**
 * While the server is away, the state of the operation is asked for once a second, at most this many times. The
 * operation continues when the server is back.
 */
const MAX_TRIES = 60

const participles: { readonly [A in BulkOperation["action"]]: string } = {
  erase: "erased",
  cancel: "cancelled",
  retry: "retried",
  resume: "resumed",
  pause: "paused",
  rerun: "started again",
  fork: "forked",
  move: "moved",
  delete: "deleted"
}

/**
 * The number with its noun: `1 run`, `2 runs`. For an erasure the noun is `items`, since runs are only one kind of
 * erased data.
 */
const countText = (count: number, action: BulkOperation["action"]): string =>
  action === "erase" ? `${count} ${count === 1 ? "item" : "items"}` : runCountText(count)

const runCountText = (count: number): string => `${count} ${count === 1 ? "run" : "runs"}`

/**
 * Counts the runs, asks for confirmation unless `yes` is set, starts the operation, and waits for its end. Fails
 * with exit code 3 when some runs were skipped, and with 4 when no run was changed.
 */
export const changeManyRuns = ({ action, dryRun, isStdinRead, options, runs, yes }: BulkCommand) =>
  provideServer(
    Effect.gen(function* () {
      const client = yield* Client
      const { json } = yield* ironflow
      const canAsk = process.stdin.isTTY && !isStdinRead && !json
      if (!dryRun && !yes && !canAsk) {
        return yield* new CommandError(
          `This command cannot ask whether to ${action} the runs (there is no terminal, or --json or "-" was given): add --yes, or count them first with --dry-run`,
          { code: "USAGE" }
        )
      }
      const countOperation = yield* waitWithProgress(
        client,
        yield* client.bulk(action, runs, { ...options, dryRun: true }),
        "looked at"
      )
      if (countOperation.status !== "completed") return yield* stoppedError(countOperation)
      if (countOperation.matched === 0 && "functionId" in runs) yield* warnOfUnknownFunctions(runs)
      if (dryRun) return yield* print(countOperation, () => dryRunResultOf(countOperation))
      if (countOperation.done === 0) {
        yield* print(countOperation, () => dryRunResultOf(countOperation))
        return yield* noneDoneError(action, countOperation)
      }
      if (!yes) {
        yield* Console.error(dryRunResultOf(countOperation))
        const isConfirmed = yield* Prompt.run(
          Prompt.Confirm({
            message: `${capitalized(action)} ${countText(countOperation.done, action)}?`,
            initial: false
          })
        )
        if (!isConfirmed) {
          return yield* new CommandError("Nothing was changed", { code: "CANCELLED" })
        }
      }
      const startedOperation = yield* client.bulk(action, runs, options)
      if (!json) {
        yield* Console.error(
          `The operation ${startedOperation.id} continues even without this command; \`ironflow bulk cancel ${startedOperation.id}\` ends it.`
        )
      }
      const endedOperation = yield* waitWithProgress(client, startedOperation, participles[action])
      const versionLines =
        json || endedOperation.done === 0 || !actionsNeedingWorker.has(action)
          ? []
          : yield* linesOfMissingVersions(client)
      yield* print(endedOperation, () => [resultOf(endedOperation), ...versionLines].join("\n"))
      yield* failUnlessAllDone(endedOperation)
    })
  )

/** Actions after which the runs need a worker. */
const actionsNeedingWorker: ReadonlySet<BulkAction> = new Set(["retry", "resume", "rerun", "fork", "move"])

/**
 * One line for each code version to which unfinished runs are pinned and that no worker has. These runs wait until
 * somebody starts a worker with that version, or moves the runs to another version.
 */
const linesOfMissingVersions = (client: Client["Service"]) =>
  client.liveVersions().pipe(
    Effect.map((versions) =>
      versions
        .filter(({ liveRuns, workerIds }) => liveRuns > 0 && workerIds.length === 0)
        .map(
          ({ codeVersion, functionId, liveRuns }) =>
            `${runCountText(liveRuns)} of ${functionId} ${liveRuns === 1 ? "waits" : "wait"} for version ${oneLine(codeVersion)}, which no worker has: ` +
            `start a worker that has it, or run \`ironflow runs move --function ${functionId}\``
        )
    ),
    // The action has already succeeded, so after an error these lines are left out. The API key may be allowed to
    // control runs, but not to list functions.
    Effect.orElseSucceed((): ReadonlyArray<string> => [])
  )

/**
 * Fails unless the operation has changed all matching runs. For a dry run, which only counts, fails only when the
 * dry run has stopped before its end.
 */
export const failUnlessAllDone = (endedOperation: BulkOperation): Effect.Effect<void, CommandError> => {
  const { action, done: count, dryRun, matched, status } = endedOperation
  if (status !== "completed") return stoppedError(endedOperation)
  if (dryRun) return Effect.void
  if (count === 0) return noneDoneError(action, endedOperation)
  return count === matched
    ? Effect.void
    : Effect.fail(
        new CommandError(
          `${count} of ${countText(matched, action)} ${count === 1 ? "was" : "were"} ${participles[action]}. ` +
            `${matched - count === 1 ? "The other was not" : "The others were not"}: ${skippedText(endedOperation)}`,
          {
            code: "SOME_RUNS"
          }
        )
      )
}

export const noneDoneError = (action: BulkOperation["action"], { matched, skipped }: BulkOperation) =>
  new CommandError(
    matched === 0
      ? nothingFoundText(action)
      : `None of ${countText(matched, action)} can be ${participles[action]}: ${skippedText({ skipped })}`,
    { code: "NO_RUNS" }
  )

export const stoppedError = ({ action, done, dryRun, error, id, matched, status }: BulkOperation) => {
  const count = dryRun ? matched : done
  const progress = `${countText(count, action)} ${count === 1 ? "was" : "were"} ${dryRun ? "counted, and nothing was changed" : participles[action]}`
  return new CommandError(
    status === "cancelled"
      ? `Bulk operation ${id} was cancelled: by then ${progress}`
      : `Bulk operation ${id} has stopped: ${error ?? status}. By then ${progress}`,
    { code: "BULK_STOPPED" }
  )
}

/**
 * Waits until the operation has ended, and shows its progress: `12 runs cancelled` if `participle` is
 * "cancelled". Fails after `timeout` milliseconds, and ends the process with a failure after a signal. In both
 * cases the operation continues on the server.
 */
export const waitWithProgress = (
  client: Client["Service"],
  startedOperation: BulkOperation,
  participle: string,
  timeout?: number
) => {
  const wait: Effect.Effect<
    BulkOperation,
    Effect.Error<ReturnType<typeof client.waitForBulk>>
  > = Effect.catchIf(
    client.waitForBulk(startedOperation.id, { timeout: POLL_MS }),
    // the wait timed out, or the server restarts
    isTemporary,
    () =>
      Effect.flatMap(keepTrying(client.getBulk(startedOperation.id), { times: MAX_TRIES }), (operation) => {
        const { action, dryRun, lookedBackTo, matched } = operation
        const count = dryRun ? matched : operation.done
        showProgress(
          `${countText(count, action)} ${participle}${lookedBackTo === undefined ? "" : `, searched back to ${lookedBackTo}`}`
        )
        return Effect.suspend(() => wait)
      })
  )
  const boundedWait =
    timeout === undefined
      ? wait
      : Effect.timeoutOrElse(wait, {
          duration: timeout,
          orElse: () => Effect.fail(timeoutError(startedOperation.id, timeout))
        })
  return withProgressLine(boundedWait).pipe(Effect.onInterrupt(() => Effect.sync(leaveUnfinished)))
}

const timeoutError = (id: string, timeout: number): TimeoutError =>
  new TimeoutError(`Bulk operation ${id} did not end within ${showMs(timeout)}, and continues`, timeout)

const capitalized = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1)

const skippedText = ({ skipped }: Pick<BulkOperation, "skipped">): string =>
  Object.entries(skipped)
    .map(([why, count]) => `${count} ${why}`)
    .join(", ")

const nothingFoundText = (action: BulkOperation["action"]): string =>
  action === "erase" ? "Nothing was found" : "There are no such runs"

export const dryRunResultOf = ({ action, done: count, kinds, matched, skipped }: BulkOperation): string =>
  matched === 0
    ? `${nothingFoundText(action)}.`
    : `${countText(matched, action)} ${matched === 1 ? "matches" : "match"}, of which ${count} can be ${participles[action]}${kindsOf({ kinds })}.${
        Object.keys(skipped).length === 0 ? "" : ` The others: ${skippedText({ skipped })}.`
      }`

/** The counts by kind: `: 2 events, 3 runs`. */
const kindsOf = ({ kinds }: { readonly kinds: BulkOperation["kinds"] | undefined }): string =>
  kinds === undefined
    ? ""
    : `: ${Object.entries(kinds)
        .map(([kind, count]) => `${count} ${count === 1 ? kind.slice(0, -1) : kind}`)
        .join(", ")}`

export const resultOf = (operation: BulkOperation): string => {
  const { action, examples, matched } = operation
  const remaining = matched - operation.done
  return [
    `${countText(operation.done, action)} ${participles[action]}${kindsOf({ kinds: operation.kinds })}.`,
    ...(remaining === 0
      ? []
      : [
          `${countText(remaining, action)} ${remaining === 1 ? "stays as it was" : "stay as they were"}: ${skippedText(operation)}.`
        ]),
    ...examples.map(({ runId, why }) => `  ${runId}  ${why}`),
    ...(remaining > examples.length && examples.length > 0 ? ["  ..."] : []),
    ...(operation.rebuild === undefined
      ? []
      : [
          "Projections that have handled the erased events keep the states that they made from these events. Rebuild these projections, then overwrite the old states, which are still in the database file:",
          ...operation.rebuild.map((name) => `  ironflow projections rebuild ${name}`),
          "  ironflow erase --compact --yes"
        ]),
    ...(operation.note === undefined ? [] : [operation.note])
  ].join("\n")
}

const bulkId = Argument.String("id").pipe(
  Argument.withDescription("The id of the bulk operation, as `bulk list` shows it")
)

const targetTextOf = ({ action, filters, ids, target }: BulkOperation): string =>
  action === "erase"
    ? // the target may name the person, so the server returns only a hash of it
      `not shown; its hash begins with ${target?.slice(0, 15)}`
    : ids === undefined
      ? jsonLine(filters, 80)
      : `${runCountText(ids)} by id`

const list = clientCommand("list", {
  description:
    "List the newest bulk operations: those that your API key has started, or all if it may read all runs.",
  call: (client) => client.listBulk(),
  json: (operations) => ({ operations }),
  text: (operations) =>
    operations.length === 0
      ? "There are no bulk operations."
      : table(
          ["ID", "ACTION", "STATUS", "DONE", "OF", "BY", "BEGUN", "TOOK", "TARGET"],
          operations.map((operation) => [
            operation.id,
            operation.action + (operation.dryRun ? " (dry run)" : ""),
            operation.status,
            String(operation.done),
            String(operation.matched),
            operation.by,
            operation.createdAt,
            durationBetween(operation.createdAt, operation.endedAt),
            targetTextOf(operation)
          ])
        )
})

/** What the operation has done so far; for a dry run, what it would do. */
const resultText = (operation: BulkOperation): string =>
  operation.dryRun ? dryRunResultOf(operation) : resultOf(operation)

const detailsOf = (operation: BulkOperation): string => {
  const {
    action,
    by,
    createdAt,
    dryRun,
    endedAt,
    error,
    fromStep,
    id,
    lookedBackTo,
    reason,
    status,
    version
  } = operation
  return [
    fields({
      id,
      action: action + (dryRun ? " (dry run)" : ""),
      status,
      target: targetTextOf(operation),
      reason: reason === undefined ? undefined : oneLine(reason),
      "from step": fromStep,
      version,
      by,
      begun: createdAt,
      ended: endedAt,
      took: durationBetween(createdAt, endedAt) || undefined,
      "searched back to": status === "running" ? lookedBackTo : undefined,
      error
    }),
    "",
    resultText(operation)
  ].join("\n")
}

const get = Command.make(
  "get",
  {
    id: bulkId,
    wait: Flag.Boolean("wait").pipe(
      Flag.withDescription(
        "Wait until the operation ends; the exit code tells whether it succeeded. Ctrl-C ends only the waiting"
      ),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    timeout: textFlag("timeout").pipe(
      Flag.withMetavar("DURATION"),
      Flag.withDescription(
        "With --wait: how long to wait at most, such as 30s or 5m; the operation continues afterwards"
      ),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ id, timeout, wait }) {
    if (Option.isSome(timeout) && !wait) {
      return yield* new CommandError("--timeout needs --wait", { code: "USAGE" })
    }
    const timeoutMs = yield* readTimeout(timeout)
    const operation = yield* provideServer(
      Effect.flatMap(Client, (client) =>
        Effect.flatMap(client.getBulk(id), (operation) =>
          wait
            ? waitWithProgress(
                client,
                operation,
                operation.dryRun ? "looked at" : participles[operation.action],
                timeoutMs
              )
            : Effect.succeed(operation)
        )
      )
    )
    yield* print(operation, () => detailsOf(operation))
    if (wait) yield* failUnlessAllDone(operation)
  })
).pipe(Command.withDescription("Show a bulk operation and its progress."))

const cancel = clientCommand("cancel", {
  description: "Cancel a bulk operation: it changes no more runs. Changes made so far stay.",
  parameters: { id: bulkId },
  call: (client, { id }) => client.cancelBulk(id),
  text: (operation) =>
    operation.status === "cancelled"
      ? `${operation.id} changes no more runs. ${resultText(operation)}`
      : `${operation.id} had already ended (${operation.status}). ${resultText(operation)}`
})

export const bulk = Command.make("bulk").pipe(
  Command.withDescription(
    "Show and cancel bulk operations. `ironflow runs cancel`, `retry`, `resume`, `pause`, `rerun`, `fork`, `move` and `delete` start them."
  ),
  Command.withShortDescription("Show and cancel bulk operations"),
  Command.withSubcommands([list, get, cancel])
)

/** Splits the argument of a command, or the text of standard input, into ids. */
export const idsOf = (text: string): ReadonlyArray<string> => text.split(/[\s,]+/).filter((id) => id !== "")
