/**
 * The reasons for which a turn pauses its run: a user must look at the run. A paused run has not failed, and nothing is
 * compensated.
 */
import { callSite } from "../CallSite.ts"
import { toError } from "../Errors.ts"
import { EVENT_TOO_NEW } from "../EventVersions.ts"
import type { Job } from "../Protocol/Worker.ts"
import type { StepKind } from "../StepKind.ts"
import { callSiteOf, type FunctionPlan } from "./FunctionPlan.ts"
import type { StepCall } from "./StepCall.ts"

export type PauseCode = "NONDETERMINISM" | "STORE_CORRUPT" | typeof EVENT_TOO_NEW

export interface TurnPause {
  readonly code: PauseCode
  readonly message: string
  readonly details?: object
}

/**
 * The pause for a step that was recorded with another kind. `entry` is the function that the user's code called: it
 * marks the place of the call in the stack.
 */
export const nondeterminismPause = (
  plan: FunctionPlan,
  runId: string,
  call: StepCall,
  recordedKind: StepKind,
  entry: Function
): TurnPause => {
  const site = callSite(entry)
  const recordedSite = callSiteOf(plan, recordedKind, call.name)
  const inParentheses = (place: string) => (place === "" ? "" : ` (${place})`)
  return {
    code: "NONDETERMINISM",
    message:
      `Function "${plan.functionId}", run ${runId}: step "${call.name}" (${call.key}) was recorded as ` +
      `"${recordedKind}"${inParentheses(recordedSite)} and is now called as "${call.kind}"${inParentheses(site)}. The handler must call the same ` +
      "steps in every turn. Roll the code back and resume the run, give the changed step a new name and patch or fork " +
      "the run, or keep what depends on time, chance or the outside world inside steps",
    details: {
      stepKey: call.key,
      stepName: call.name,
      recordedKind: recordedKind,
      calledKind: call.kind,
      ...(recordedSite === "" ? {} : { recordedSite }),
      ...(site === "" ? {} : { callSite: site })
    }
  }
}

/**
 * The pause for a step whose record cannot be read. If the run failed instead, a damaged disk would lead to the
 * compensation of work that was completed.
 */
export const damagedStepPause = (
  plan: FunctionPlan,
  job: Job,
  call: StepCall,
  error: unknown
): TurnPause => ({
  ...damagePause(
    plan,
    job,
    `the recorded value of step "${call.name}" (${call.key})`,
    error,
    "Restore the database from a backup, or patch the step, and resume the run"
  ),
  details: { stepKey: call.key, stepName: call.name }
})

/** The pause for a run whose triggering event cannot be read. */
export const damagedEventPause = (plan: FunctionPlan, job: Job, error: unknown): TurnPause =>
  damagePause(
    plan,
    job,
    `the stored event "${job.event.name}" (${job.event.id})`,
    error,
    "Restore the database from a backup, and resume the run"
  )

/**
 * The pause for a run with an event that is newer than the code: the event that started the run, or the one that a wait
 * has received. The event is valid. If the run failed instead, its steps would be compensated only because an old
 * worker still runs.
 */
export const newEventPause = (
  { functionId }: FunctionPlan,
  { runId }: Job,
  error: Error,
  call?: StepCall
): TurnPause => ({
  code: EVENT_TOO_NEW,
  message:
    `Function "${functionId}", run ${runId}${call === undefined ? "" : `, step "${call.name}" (${call.key})`}: ${error.message}. ` +
    `Resume the run when such code runs${call === undefined ? "" : ", or patch the step with data that this code can read"}`,
  ...(call === undefined ? {} : { details: { stepKey: call.key, stepName: call.name } })
})

const damagePause = (
  { functionId }: FunctionPlan,
  { runId }: Job,
  what: string,
  error: unknown,
  remedy: string
): TurnPause => ({
  code: "STORE_CORRUPT",
  message:
    `Function "${functionId}", run ${runId}: ${what} is damaged ` +
    `in the database: ${toError(error).message}. ${remedy}`
})
