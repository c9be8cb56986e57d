/**
 * The warnings of a turn for the worker's log. A warning is `undefined` when there is nothing to warn of, or when it
 * was logged before.
 */
import { type FunctionPlan, rememberUncalled } from "./FunctionPlan.ts"
import { STOP_GRACE_MS } from "./RunningSteps.ts"

/** Names the run of a turn in messages. */
export interface RunLabel {
  readonly plan: FunctionPlan
  readonly runId: string
}

const runLabel = ({ plan, runId }: RunLabel): string => `Run ${runId} of function "${plan.functionId}"`

/** Maximum number of names that one message lists. */
const MAX_NAMES = 20

const listNames = (names: ReadonlyArray<string>): string =>
  names
    .slice(0, MAX_NAMES)
    .map((name) => `"${name}"`)
    .join(", ")

/**
 * Names the steps that earlier turns have recorded and this turn has not called. Logged once for each run in
 * this process.
 */
export const uncalledWarning = (
  subject: RunLabel,
  names: ReadonlyArray<string>,
  completed: boolean
): string | undefined => {
  const { plan, runId } = subject
  const steps = `${listNames(names)}${names.length > MAX_NAMES ? ", ..." : ""}`
  if (names.length === 0 || !rememberUncalled(plan, runId, steps, completed)) return undefined
  return (
    `${runLabel(subject)} ${completed ? "completed" : "waits"} without having called recorded steps: ` +
    `${steps}. Steps were renamed, removed or swapped since they were recorded` +
    `${completed ? "" : ", or the handler waits for something outside of steps"}; \`ironflow verify\` compares code and runs`
  )
}

/** Warns that the handler sleeps outside of steps while its turn ends. Logged once for each function. */
export const sleepsWarning = (subject: RunLabel, sleeps: number): string | undefined => {
  const { plan } = subject
  if (sleeps === 0 || plan.hasWarnedOfSleeps) return undefined
  plan.hasWarnedOfSleeps = true
  return (
    `${runLabel(subject)} waits for steps while its handler sleeps outside of steps ` +
    "(`Effect.sleep`, `Effect.timeout`, `Effect.delay` and their like). Such a sleep is not durable: it ends with the turn, and " +
    "starts again in the next one. Use the `timeout` of the wait, race it with `Step.sleep`, or put what takes time into a step"
  )
}

/** Warns that these steps were still running when the handler returned. */
export const runningWarning = (subject: RunLabel, running: ReadonlyArray<string>): string | undefined =>
  running.length === 0
    ? undefined
    : `${runLabel(subject)} returned while steps were running: ` +
      `${listNames(running)}. They are aborted and not recorded; await them`

/** Used in place of the name of a step when the handler did not call a step late, but ended late. */
export const END_OF_HANDLER = "the end of the handler"

/**
 * Warns that the handler continued after its turn was judged quiet. `what` is the name of the step that the handler
 * called, or {@link END_OF_HANDLER}.
 */
export const lateWarning = (subject: RunLabel, what: string): string =>
  `${runLabel(subject)}: ${what === END_OF_HANDLER ? "the handler ended" : `step "${what}" was called`} after the turn had been ` +
  "suspended, so this was ignored; the next turn of the run waits longer before it is suspended. Put what the handler " +
  "awaited into a step"

/** Warns that the code of a step did not stop after its signal was aborted. */
export const gaveUpWarning = (runId: string, stepName: string): string =>
  `Run ${runId}: step "${stepName}" was aborted and has not stopped within ${STOP_GRACE_MS / 1000} s. Its code may still ` +
  "be running, and its result is ignored. Make the code listen to its `signal`"
