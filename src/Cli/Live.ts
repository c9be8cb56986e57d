/** What happens to runs, as lines that are printed while it happens. */
import { deserializeError } from "../Errors.ts"
import type { RunActivity } from "../Engine/Store/Activity.ts"
import type { Outcome, SerializedError } from "../Protocol/Worker.ts"
import { plainResult } from "../Result.ts"
import { elapsed, oneLine, shown } from "./Output.ts"

/** A line for people. `now` is epoch milliseconds. */
export const lineOf = (activity: RunActivity, now: number): string => {
  const { functionId, runId } = activity
  return `${new Date(now).toTimeString().slice(0, 8)}  ${runId}  ${functionId}  ${happened(activity, now)}`.trimEnd()
}

/** The same for programs, with the value or the error in place of its JSON text. */
export const jsonOf = (activity: RunActivity): string =>
  JSON.stringify(
    "outcome" in activity ? { ...activity, outcome: undefined, ...resultOf(activity.outcome) } : activity
  )

const happened = (activity: RunActivity, now: number): string => {
  switch (activity._tag) {
    case "RunStarted":
      return "started"
    case "StepEnded": {
      const step = activity.kind === "run" ? activity.name : `${activity.name} (${activity.kind})`
      const time = elapsed(activity.endedAt - activity.startedAt)
      return activity.outcome._tag === "Success"
        ? `  ✓ ${step}  ${time}  ${shown(valueOf(activity.outcome))}`
        : `  ✗ ${step}  ${time}  ${messageOf(activity.outcome.error)}`
    }
    case "StepFailed":
      return `  ↻ ${activity.name}  attempt ${activity.failures} failed: ${messageOf(activity.error)}; again in ${elapsed(activity.dueAt - now)}`
    case "RunFailed":
      return `↻ failed outside of steps: ${messageOf(activity.error)}; again in ${elapsed(activity.dueAt - now)}`
    case "RunPaused":
      return `paused: ${oneLine(activity.message, 400)}`
    case "RunResumed":
      return "resumed"
    case "RunRetried":
      return "retried"
    case "StepPatched":
      return `  ✎ ${activity.name}  patched  ${oneLine(activity.reason, 400)}`
    case "RunEnded": {
      const ended = `${activity.status} in ${elapsed(activity.endedAt - activity.createdAt)}`
      return activity.outcome._tag === "Success"
        ? `${ended}  ${shown(valueOf(activity.outcome))}`
        : `${ended}  ${messageOf(activity.outcome.error)}`
    }
  }
}

const valueOf = (outcome: Extract<Outcome, { readonly _tag: "Success" }>): unknown =>
  plainResult(outcome.value)

const resultOf = (outcome: Outcome): { readonly value?: unknown; readonly error?: SerializedError } =>
  outcome._tag === "Success" ? { value: valueOf(outcome) } : { error: outcome.error }

const messageOf = (error: SerializedError): string => {
  const { message, name } = deserializeError(error)
  return oneLine(name === "Error" ? message : `${name}: ${message}`, 400)
}
