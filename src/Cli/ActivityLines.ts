/** Formats the activity of runs, for people or as JSON. */
import type { ObservedActivity } from "../Engine/Store/RunActivity.ts"
import type { Outcome, SerializedError } from "../Protocol/Worker.ts"
import { plainResult } from "../ResultEncoding.ts"
import { errorLine, placeLines, thrownLine } from "./ErrorText.ts"
import { methodsToCommands } from "./MethodsToCommands.ts"
import { durationText, oneLine, jsonLine } from "./Output.ts"

/**
 * One line about the activity, for people. If the activity has an error, more lines show the places in the user's code
 * from which the error comes. `now` is in epoch milliseconds.
 */
export const activityLine = (activity: ObservedActivity, now: number): string => {
  const { functionId, runId } = activity
  const line = `${new Date(now).toTimeString().slice(0, 8)}  ${runId}  ${functionId}  ${textOf(activity, now)}`
  return [line.trimEnd(), ...placesOf(activity).map((place) => `            ${place}`)].join("\n")
}

/** The activity as JSON for programs; values and errors are parsed. */
export const activityJson = (activity: ObservedActivity): string =>
  JSON.stringify(
    "outcome" in activity ? { ...activity, outcome: undefined, ...resultOf(activity.outcome) } : activity
  )

const textOf = (activity: ObservedActivity, now: number): string => {
  switch (activity._tag) {
    case "RunStarted":
      return "created"
    case "RunTaken":
      return "started"
    case "StepEnded": {
      const step = activity.kind === "run" ? activity.name : `${activity.name} (${activity.kind})`
      const time = durationText(activity.endedAt - activity.startedAt)
      return activity.outcome._tag === "Success"
        ? `  ✓ ${step}  ${time}  ${jsonLine(valueOf(activity.outcome))}`
        : `  ✗ ${step}  ${time}  ${thrownLine(activity.outcome.error, 400)}`
    }
    case "StepFailed":
      return `  ↻ ${activity.name}  attempt ${activity.failures} failed: ${thrownLine(activity.error, 400)}; again in ${durationText(activity.dueAt - now)}`
    case "RunFailed":
      return `↻ failed outside of steps: ${errorLine(activity.error, 400)}; again in ${durationText(activity.dueAt - now)}`
    case "RunPaused":
      return `paused: ${oneLine(methodsToCommands(activity.message, activity.runId), 400)}`
    case "RunResumed":
      return "resumed"
    case "RunRetried":
      return "retried"
    case "StepPatched":
      return `  ✎ ${activity.name}  patched  ${oneLine(activity.reason, 400)}`
    case "RunEnded": {
      const endText = `${activity.status} in ${durationText(activity.endedAt - activity.createdAt)}`
      return activity.outcome._tag === "Success"
        ? `${endText}  ${jsonLine(valueOf(activity.outcome))}`
        : `${endText}  ${errorLine(activity.outcome.error, 400)}`
    }
  }
}

/**
 * The places in the user's code from which the error of the activity comes. Empty for a run that a failed step has
 * ended: the places were shown when the step failed.
 */
const placesOf = (activity: ObservedActivity): Array<string> => {
  if ("error" in activity) return placeLines(activity.error)
  if (!("outcome" in activity) || activity.outcome._tag === "Success") return []
  const { error } = activity.outcome
  return activity._tag === "RunEnded" && error.name === "StepError" ? [] : placeLines(error)
}

const valueOf = (outcome: Extract<Outcome, { readonly _tag: "Success" }>): unknown =>
  plainResult(outcome.value)

const resultOf = (outcome: Outcome): { readonly value?: unknown; readonly error?: SerializedError } =>
  outcome._tag === "Success" ? { value: valueOf(outcome) } : { error: outcome.error }
